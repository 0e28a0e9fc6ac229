"""Faults that a running node can be told to have, as typed data.

Who has a fault and when is the coordinator's business. Killing a whole process is not here: a process does not kill
itself on request, its launcher does.
"""

from dataclasses import dataclass
from enum import StrEnum

from nodes.model.ids import Height


class EvidenceKind(StrEnum):
    """The elements of a filtered block that a lying server can leave out, one by one."""

    LEAF = "leaf"
    """The audit path of the reader's own leaf, and of every sibling's."""
    SIBLING = "sibling"
    """All evidence about siblings, their leaves included."""
    PAYLOAD = "payload"
    """Sibling payloads."""
    ROW = "row"
    """Sibling rows."""
    IDS = "ids"
    """The list of all rollup ids of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KillEngine:
    """A rollup node's engine process ends by SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewind:
    """A rollup node goes back to a sequenced height and follows again from there."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class WithholdEvidence:
    """A sequencer leaves one kind of evidence out of the next blocks that it serves, whoever reads them."""

    kind: EvidenceKind
    blocks: int
    """Blocks served without it, counted over all readers; u32, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fork:
    """A sequencer abandons all blocks above a height and continues on another branch. Refused below the firm height
    unless the backend says otherwise.
    """

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorgL1:
    """The L1 replaces its newest blocks by another, longer branch. Refused where a finalized block would go."""

    depth: int
    """Blocks that are replaced; at least 1."""
    keep_transactions: bool
    """Their transactions are in the new branch's first block; otherwise in none, and out of the pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseL1:
    """The L1 leaves its next slots empty of any block."""

    slots: int
    """At least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SilenceReports:
    """A rollup node executes and follows verdicts, but hands in no reports while this is on."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestWrong:
    """An attester signs something else than what it was asked to attest while this is on."""

    on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DelayAttestations:
    """An attester answers each request later than it could."""

    delay_ms: int
    """u32; 0 = at once again."""


class Trouble(StrEnum):
    """What can go wrong between a Solana chain and those who use it."""

    FORK = "fork"
    """The newest `amount` slots are abandoned; their transactions come again in another order."""
    FORK_AND_LOSE = "fork_and_lose"
    """The same, and their transactions are lost until they are sent again."""
    SKIP_SLOTS = "skip_slots"
    """The next `amount` slots have no block."""
    DROP_TRANSACTIONS = "drop_transactions"
    """Of the transactions sent during the next `for_slots` slots, `amount` per cent get lost."""
    LAG_RPC = "lag_rpc"
    """During the next `for_slots` slots the RPC answers as it stood `amount` slots earlier."""
    RPC_DOWN = "rpc_down"
    """For `amount` milliseconds the RPC answers nobody; the chain goes on."""
    EXPIRE_BLOCKHASHES = "expire_blockhashes"
    """Transactions that have not landed can no longer land."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaTrouble:
    """The Solana dev node behind a sequencer has one of the troubles. Refused where the chain is not a dev node's."""

    trouble: Trouble
    amount: int = 1
    """u32; unit by trouble."""
    for_slots: int = 0
    """u32; only where the trouble lasts for slots."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diverge:
    """A rollup node's engine gets another state than its transactions gave it, behind the node's back."""

    account: bytes
    """20 bytes; empty = the sender of the rollup's newest transaction."""
    slot: bytes
    """32 bytes: this slot of the account; empty = its balance."""
    add: int
    """Added to the value; u64, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CrashAt:
    """The process of a node ends by SIGKILL when it reaches a place for the n-th time from now on.

    Places are those of `nodes.telemetry.crash`, for example `settlement.after_journal`. A process that was started
    again no longer has this.
    """

    place: str
    count: int
    """From 1; u32."""


Fault = (
    KillEngine
    | Rewind
    | WithholdEvidence
    | Fork
    | SilenceReports
    | AttestWrong
    | DelayAttestations
    | ReorgL1
    | PauseL1
    | SolanaTrouble
    | CrashAt
    | Diverge
)
