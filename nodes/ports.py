"""The Protocols by which the parts know each other. An in-process part and its gRPC client satisfy the same one.

Nothing here says how: no transport, no storage, no engine. Rollup nodes see sequencers and engines only through
these shapes, so that a new backend or engine touches no caller.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nodes.model.agglayer import (
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    Claim,
    GlobalIndex,
    NetworkId,
    SettledRange,
)
from nodes.model.execution import ExecutedBlock, Transaction
from nodes.model.ids import RollupId, SubmissionHash
from nodes.model.sequenced_block import BlockRef, SequencerEvent
from nodes.model.verdict import MailboxEvent, SignedReport, VerdictRef


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
    costs: Mapping[str, int] = field(default_factory=dict)
    """What the order has cost outside of Lockstep, by name (lamports, solana_transactions, posted_bytes, ...): totals
    since the node's directory was new, which restarts do not set back. Empty where a backend pays nobody.
    """


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
        """The whole state at the head, for a checkpoint. Raises AnswerTooLong (the engine works), EngineFailure."""
        ...

    async def head(self) -> tuple[int, bytes]:
        """Number and hash of the engine's head."""
        ...

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """One read-only JSON-RPC request. Raises RpcError with the engine's code and message, also AnswerTooLong."""
        ...


class Mailbox(Protocol):
    """Collects the reports of all rollups and hands out rounds, notices and verdicts."""

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        """Hand in reports; those of other rounds or heights wait or are ignored. Idempotent. Raises InvalidVerdict.

        Nothing is durable when it returns: whoever is connected anew (the stream of `follow` ended, or a call failed)
        hands in again what it reported of every height without a verdict. An evicted rollup goes on reporting each
        height with payloads of its own as it executes it, also one that has its verdict already: that brings it back.
        """
        ...

    def follow(self, after: VerdictRef) -> AsyncIterator[MailboxEvent]:
        """Every verdict after `after`, without gaps; then rounds, notices and verdicts as they come.

        The rounds of the height that is being resolved are sent again from its first. Where `after` is of an earlier
        epoch the first event is the NoticePosted that began the next one, and verdicts go on from its height.
        Raises InvalidVerdict where `after` was never signed, Unavailable when the source ends.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimProofs:
    """Claims against the newest settled roots."""

    l1_info_tree_leaf_count: int
    claims: Mapping[GlobalIndex, Claim]
    """Only those exits that are already under a root on L1; the others are not settled yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProgress:
    """How far one network has come; sent whenever something of it changes."""

    latest: CertificateHeader | None
    """The newest certificate, whatever its status."""
    settled: CertificateHeader | None
    """The newest settled one."""
    settled_leaf_count: int
    """Exits of the network under settled roots."""
    settled_range: SettledRange | None
    """Of the newest settled certificate."""
    final_height: int
    """Sequenced height up to which the settlement is final on L1; 0 = none."""
    l1_info_tree_leaf_count: int
    """Of the newest L1 info tree: when it rises, more imports may be provable."""


class CertificateService(Protocol):
    """The aggregation layer as a rollup sees it."""

    async def submit_certificate(self, certificate: Certificate) -> CertificateId:
        """Take a certificate; durable when it returns. Raises InvalidInput with the reason it is refused."""
        ...

    async def certificate_header(self, certificate_id: CertificateId) -> CertificateHeader | None:
        """What became of a certificate; None for an unknown one."""
        ...

    async def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        """A certificate that was accepted, whole; for a rollup that lost its own records."""
        ...

    async def claim_proofs(self, wanted: Sequence[GlobalIndex]) -> ClaimProofs:
        """Proofs for exits of any network against the newest L1 info root."""
        ...

    def follow_network(self, network_id: NetworkId) -> AsyncIterator[NetworkProgress]:
        """The progress at once, then at each change; a slow reader misses states in between, never the newest."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingItem:
    """One certificate to prove: the whole input of the program, and the range that is stated beside it."""

    program_input: bytes
    """`nodes.rules.program_encoding` has the encoding."""
    settled_range: SettledRange
    range_signatures: tuple[bytes | None, ...]
    """By place of the network's signer, over certificate id and range (`nodes.rules.certificate.range_digest`). Empty
    where the range states nothing."""
    signed_verdict: bytes
    """Signature 65 | verdict of the range's last height; empty where there are no verdicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofProgress:
    """How far a proof has come."""

    done: int
    total: int
    """Both in steps that the backend chooses."""
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What L1 checks."""

    statements: tuple[bytes, ...]
    """One per item, in order: public values (196 bytes) and range (112 bytes)."""
    proof: bytes
    """For the backend's own verifier contract."""
    kind: str
    """Name of the backend; shown wherever a proof is spoken of."""
    modelled_ns: int = 0
    """Part of the time it took that was waited to imitate another prover, not worked."""


class Prover(Protocol):
    """One way to prove the pessimistic program over a batch of certificates. Cancel by cancelling the task."""

    @property
    def name(self) -> str:
        """A key of the table of provers."""
        ...

    @property
    def tree_hashes(self) -> tuple[str, ...]:
        """Hashes beside Keccak over which the service must keep every network's state trees for this backend."""
        ...

    async def prove(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Proof:
        """Prove all items together. Raises ProofFailed naming the item that the program refuses; Unavailable."""
        ...


class Link(Protocol):
    """Leads from one node to its peers where regions are emulated."""

    def __call__(self, address: str, peer: str = "") -> str:
        """What to connect to in place of a peer's host:port or URL; the address itself where nothing is emulated.

        `peer` names who listens there, unless it is a node of the testnet. Raises InvalidInput for an address that
        cannot be relayed.
        """
        ...


def direct(address: str, peer: str = "") -> str:
    """The `Link` of a node without a region."""
    return address
