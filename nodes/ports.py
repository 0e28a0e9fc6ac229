"""The Protocols by which the parts know each other. An in-process part and its gRPC client satisfy the same one.

Nothing here says how: no transport, no storage, no engine. Rollup nodes see sequencers and engines only through
these shapes, so that a new backend or engine touches no caller.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from nodes.model.execution import ExecutedBlock, Transaction
from nodes.model.ids import RollupId, SubmissionHash
from nodes.model.sequenced_block import BlockRef, SequencerEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The sequencer's answer to one submission."""

    submission_hash: SubmissionHash
    accepted: bool
    """Durable at the sequencer: it will be sequenced."""
    duplicate: bool
    """These exact bytes were accepted before."""
    reason: str
    """Why it was refused; empty otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencerStatus:
    """A snapshot for dashboards; nothing is measured from it."""

    backend: str
    head: BlockRef
    firm_height: int
    pending_bundles: int
    pending_bytes: int
    rollup_ids: tuple[RollupId, ...]
    block_interval_ms: int
    block_bytes_max: int


class Sequencer(Protocol):
    """Orders opaque bundles and serves the order."""

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Take serialized bundles; durable when it returns.

        Raises Overloaded (nothing was taken) or LimitExceeded; an invalid bundle is refused in its own ticket.
        """
        ...

    def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncIterator[SequencerEvent]:
        """Every event after the newest entry of `locator` (newest first) that is on the chain, without gaps.

        Where that is not the first entry the first event is RolledBack. An empty locator starts at genesis.
        Raises UnknownName for a rollup that is not of this testnet, Unavailable when the source ends.
        """
        ...

    async def status(self) -> SequencerStatus:
        """Head, queue and limits."""
        ...


class ExecutionEngine(Protocol):
    """One EVM chain that executes exactly the lists it is given."""

    async def build_block(
        self, transactions: Sequence[tuple[bytes, Transaction]], *, timestamp_s: int
    ) -> ExecutedBlock:
        """Build the next block from (payload, decoded) pairs in this order; what state forbids is skipped.

        Never called with an empty list. Raises EngineFailure when the engine ended or refused, and then the block
        may or may not exist: the caller restores a known head.
        """
        ...

    async def rewind(self, number: int) -> None:
        """Make block `number` the head. Raises Pruned when it is out of the engine's window, EngineFailure."""
        ...

    async def dump(self) -> bytes:
        """The whole state at the head, for a checkpoint. Raises EngineFailure."""
        ...

    async def head(self) -> tuple[int, bytes]:
        """Number and hash of the engine's head."""
        ...

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """One read-only JSON-RPC request. Raises RpcError with the engine's code and message."""
        ...
