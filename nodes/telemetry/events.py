"""The trace events that nodes record. Past-tense nouns; one record per block, in columns, never one per transaction.

Every event gets two timestamps and its node's name from the tracer. `nodes.wire.trace_records` has the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.model.execution import DroppedLeg, Outcome
from nodes.model.ids import SubmissionHash
from nodes.model.sequenced_block import Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """First event of every incarnation of a node."""

    node: str
    kind: str
    """sequencer or rollup."""
    pid: int
    host: str
    boot_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSequenced:
    """The sequencer cut a block; stamped at the cut (soft)."""

    height: int
    hash: bytes
    time_ns: int
    submission_hashes: tuple[SubmissionHash, ...]
    payload_bytes: int
    payloads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CommitmentRaised:
    """All heights up to this one reached a level."""

    height: int
    level: Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockExecuted:
    """One rollup node resolved one sequenced height; stamped when the result is announced."""

    height: int
    number: int
    """The rollup's head after this height; unchanged where nothing was admitted."""
    hash: bytes
    state_root: bytes
    timestamp_s: int
    gas_used: int
    outcomes: tuple[Outcome, ...]
    dropped: tuple[DroppedLeg, ...]
    received_ns: int
    derived_ns: int
    built_ns: int
    replayed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReorged:
    """A node gave up executed heights."""

    from_height: int
    to_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStalled:
    """A reader refused a block or was not given a proof, and asks another source."""

    height: int
    reason: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecovered:
    """A node restored a checkpoint and replayed up to where it had been."""

    checkpoint_height: int
    recovered_height: int
    duration_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWritten:
    """A node can restart from here."""

    height: int
    size_bytes: int
    duration_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourcesSampled:
    """Totals since start. Process figures are of the whole process that hosts the node."""

    process_cpu_s: float
    process_pss_bytes: int
    engine_cpu_s: float
    engine_pss_bytes: int
    wire_bytes_in: int
    wire_bytes_out: int
    stage_cpu_ns: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultInjected:
    """A fault of the scenario began."""

    fault: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultHealed:
    """A fault ended and the target works again."""

    fault: str
    target: str


Event = (
    NodeStarted
    | BlockSequenced
    | CommitmentRaised
    | BlockExecuted
    | BlockReorged
    | ReaderStalled
    | NodeRecovered
    | CheckpointWritten
    | ResourcesSampled
    | FaultInjected
    | FaultHealed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamped:
    """An event with its two timestamps."""

    monotonic_ns: int
    wall_ns: int
    event: Event
