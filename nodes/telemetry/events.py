"""The trace events that nodes record. Past-tense nouns; one record per block, in columns, never one per transaction.

Every event gets two timestamps and its node's name from the tracer. `nodes.wire.trace_records` has the bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodes.model.agglayer import CertificateStatus
from nodes.model.execution import AbortReason, DroppedLeg, Outcome
from nodes.model.ids import BundleHash, SubmissionHash
from nodes.model.sequenced_block import Commitment


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStarted:
    """First event of every incarnation of a node."""

    node: str
    kind: str
    """sequencer, rollup, l1, attester, agglayer or builder."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightResolved:
    """A rollup node has the verdict of a height that touches it, and evaluated it: the height is atomic-safe there."""

    epoch: int
    height: int
    rounds: int
    block_hash: bytes
    """The rollup's head after the height, as it stands now."""
    aborted: tuple[tuple[BundleHash, AbortReason, bool], ...]
    """Bundles of this rollup that the verdict struck, why, and whether they were struck together with others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictIssued:
    """The resolver signed a verdict."""

    epoch: int
    height: int
    rounds: int
    aborted: int
    """Bundles struck by name; those of evicted rollups are not counted."""
    struck_together: int
    """Of these, struck in one round with a failing bundle of lower ordinal (possible collateral)."""
    networks: int
    """Whose reports were awaited."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeLogged:
    """A notice of the resolver is in the sequencer's log."""

    kind: str
    """evict, rejoin or void."""
    epoch: int
    height: int
    network_id: int
    voided: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFound:
    """Somebody signed what contradicts what they signed before, or what can be computed. For people: who, and what."""

    accused: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateBuilt:
    """A rollup node signed a certificate and will submit it."""

    network_id: int
    certificate_height: int
    certificate_id: bytes
    first_height: int
    last_height: int
    exits: int
    imports: int
    imported_bundles: tuple[BundleHash, ...]
    """Bundle of each import that settles a contingent mint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateMoved:
    """The aggregation layer gave a certificate another status."""

    network_id: int
    certificate_height: int
    certificate_id: bytes
    status: CertificateStatus
    error: str
    """Why it is in error; empty otherwise."""
    first_height: int
    last_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProofMade:
    """A batch of certificates was proved."""

    prover: str
    certificates: int
    exits: int
    imports: int
    duration_ns: int
    modelled_ns: int
    """Part of the duration that was waited, not worked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettlementMoved:
    """A settlement transaction of the aggregator moved on L1."""

    step: str
    """sent, included, reverted, reorged, final or replaced."""
    tx_hash: bytes
    l1_block: int
    """0 while it is in none."""
    gas_used: int
    certificate_ids: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleJudged:
    """The super builder simulated a batch."""

    ordered: int
    refused: int
    duration_ns: int
    bonded_wei: int
    """Bond that open promises of this builder bind, after the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSampled:
    """Totals of one direction of an emulated link since the process of its node began. The node is the client."""

    peer: str
    region: str
    """Of the node."""
    peer_region: str
    is_back: bool
    """From the peer to the node."""
    one_way_ns: int
    """As configured, without jitter."""
    connections: int
    """Opened over the link, in whichever direction."""
    chunks: int
    """What was read from a connection at once: one message or several."""
    bytes: int
    lost: int
    """Chunks of which a segment was lost."""
    delay_mean_ns: int
    """From when a chunk was sent until it was handed over; likewise the next."""
    delay_p50_ns: int
    delay_p99_ns: int
    delay_max_ns: int
    late_mean_ns: int
    """Part of the delay that is the emulation's own: later than its model says; likewise the next."""
    late_p99_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceFound:
    """The second EVM came to another result than the engine. Once per transaction that differs."""

    height: int
    number: int
    position: int
    """In the list that the engine was handed, skipped ones included."""
    tx_hash: bytes
    account: bytes
    """20 bytes; empty where the difference is in no account."""
    field: str
    """nonce, balance, code, `slot 0x...`, inclusion, status or read."""
    engine: str
    """What the engine has."""
    checker: str
    """What the second EVM has."""
    engine_footprint: bytes
    checker_footprint: bytes
    policy: str
    """What the node does about it: alarm, halt or exclude."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceChecked:
    """Totals of the divergence check of a node since the node was started. Counts are of transactions."""

    mode: str
    """all or sample."""
    total: int
    """Handed to the engine."""
    checked: int
    """Executed again and compared."""
    differing: int
    missed: int
    """Wanted, and not compared: the engine had forgotten them, or the check was gone."""
    replaced: int
    """Not compared: their block was replaced before its turn came."""
    waiting: int
    history: int
    """Executed again after a restart, with nothing to compare with."""
    busy_ns: int
    """CPU time of the second EVM."""
    samples_from: int
    """With `all`: from this height on only samples were checked; 0 = not so."""
    reason: str
    """Why."""


Event = (
    NodeStarted
    | DivergenceFound
    | DivergenceChecked
    | LinkSampled
    | HeightResolved
    | VerdictIssued
    | NoticeLogged
    | EvidenceFound
    | CertificateBuilt
    | CertificateMoved
    | ProofMade
    | SettlementMoved
    | BundleJudged
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
