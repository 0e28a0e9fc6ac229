"""What the certificate service and L1 settlement tell each other: proved batches one way, facts and outcomes the other.

Values and Protocols only: no L1 client, no storage. `nodes.agglayer.orchestrator` proves and submits,
`nodes.agglayer.settlement` settles, `nodes.agglayer.l1_view` knows L1.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from nodes.model.agglayer import CertificateHeight, CertificateId, NetworkId, SettledRange
from nodes.rules.exit_tree import ExitTree


class L1Level(StrEnum):
    """The heads of L1, by how hard they are to revert."""

    LATEST = "latest"
    SAFE = "safe"
    FINALIZED = "finalized"


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementItem:
    """One certificate of a batch, as the settlement call needs it."""

    network_id: NetworkId
    certificate_height: CertificateHeight
    certificate_id: CertificateId
    l1_info_tree_leaf_count: int
    """Key of the L1 info root that the public values name."""
    new_local_exit_root: bytes
    """As certificates write it: the empty root of depth 32, never zero, for a network without exits."""
    new_pessimistic_root: bytes
    settled_range: SettledRange
    statement: bytes
    """Public values (196 bytes) and range (112 bytes): what the proof is about. It names the roots before and after."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Certificates that settle together, in one call, with one proof. At most one certificate per network."""

    batch_id: int
    """From 1, ascending, never used twice; durable at the service before the batch is submitted."""
    items: tuple[SettlementItem, ...]
    """Ascending by network: the order in which the proof binds the statements."""
    proof: bytes
    proof_kind: str
    """Name of the prover."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementIncluded:
    """The settlement is in an L1 block, successfully. Not yet final."""

    batch_id: int
    tx_hash: bytes
    l1_block: int
    gas_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementReverted:
    """The settlement is over for good: L1 refused it in a block that is final, or it was given up before it was signed.

    Nothing of the batch is settled and nothing of it will be.
    """

    batch_id: int
    tx_hash: bytes
    """Empty where it was refused before it was sent (a simulation, or another settlement took its place)."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementReorged:
    """The block that held the settlement is gone; it is on its way again."""

    batch_id: int
    tx_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementFinal:
    """The settlement's block is finalized on L1: the last event of a batch."""

    batch_id: int
    tx_hash: bytes
    l1_block: int
    gas_used: int


SettlementEvent = SettlementIncluded | SettlementReverted | SettlementReorged | SettlementFinal


class Settlement(Protocol):
    """Brings batches to L1, in the order of their submission."""

    async def submit(self, batch: Batch) -> None:
        """Take a batch; durable when it returns. Idempotent by batch id: where the batch is known already, its present
        state (included, reverted, final) is told again by `events`, so that a caller that restarted misses nothing.
        """
        ...

    def events(self) -> AsyncIterator[SettlementEvent]:
        """What becomes of batches that were submitted to this object, in order, without end. One reader."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledOnL1:
    """What L1 stores of one network, at the latest head."""

    local_exit_root: bytes
    """Zero for a network that never had an exit, as L1 keeps it."""
    pessimistic_root: bytes
    """Zero before the first settlement."""
    last_height: int
    """Last sequenced height of the settled ranges; 0 = none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Change:
    """A new latest head, after a reorg too."""

    block_number: int
    newest_leaf_count: int
    reorged_from: int | None = None
    """Lowest block number that was replaced; None where the chain only grew."""


class L1Facts(Protocol):
    """What the service reads from L1; every answer is for one latest head and returns at once."""

    def l1_info_root(self, leaf_count: int) -> bytes | None:
        """Root of the L1 info tree of that many leaves; None where L1 has not recorded it."""
        ...

    @property
    def newest_leaf_count(self) -> int:
        """Leaves of the newest recorded L1 info tree."""
        ...

    def block_number(self, level: L1Level = L1Level.LATEST) -> int:
        """Number of the head of a level."""
        ...

    def settled(self, network_id: NetworkId) -> SettledOnL1:
        """What is settled of a network. Raises UnknownName for one that L1 does not know."""
        ...

    def changes(self) -> AsyncIterator[L1Change]:
        """The present head at once, then each new one; a slow reader misses heads in between, never the newest."""
        ...


class SettledExits(Protocol):
    """Exit trees of the rollups, as far as they were certified."""

    def exit_tree(self, network_id: NetworkId) -> ExitTree | None:
        """All exits of a network's settled certificates; a root of fewer leaves is proved against too. None = none."""
        ...

    def leaf_count_of(self, network_id: NetworkId, local_exit_root: bytes) -> int | None:
        """How many leaves the tree had when it had this root, at the end of a certificate; None for an unknown root."""
        ...
