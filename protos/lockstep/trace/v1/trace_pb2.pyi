from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CollectRequest(_message.Message):
    __slots__ = ("node", "offset", "follow")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    node: str
    offset: int
    follow: bool
    def __init__(self, node: _Optional[str] = ..., offset: _Optional[int] = ..., follow: _Optional[bool] = ...) -> None: ...

class CollectResponse(_message.Message):
    __slots__ = ("offset", "records")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    offset: int
    records: bytes
    def __init__(self, offset: _Optional[int] = ..., records: _Optional[bytes] = ...) -> None: ...

class TraceRecord(_message.Message):
    __slots__ = ("monotonic_ns", "wall_ns", "node_started", "block_sequenced", "commitment_raised", "block_executed", "block_reorged", "reader_stalled", "node_recovered", "checkpoint_written", "resources_sampled", "fault_injected", "fault_healed", "height_resolved", "verdict_issued", "notice_logged", "evidence_found", "certificate_built", "certificate_moved", "proof_made", "settlement_moved", "bundle_judged", "link_sampled", "divergence_found", "divergence_checked")
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    NODE_STARTED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SEQUENCED_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_RAISED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_EXECUTED_FIELD_NUMBER: _ClassVar[int]
    BLOCK_REORGED_FIELD_NUMBER: _ClassVar[int]
    READER_STALLED_FIELD_NUMBER: _ClassVar[int]
    NODE_RECOVERED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_WRITTEN_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_SAMPLED_FIELD_NUMBER: _ClassVar[int]
    FAULT_INJECTED_FIELD_NUMBER: _ClassVar[int]
    FAULT_HEALED_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_RESOLVED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_ISSUED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_LOGGED_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FOUND_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_BUILT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_MOVED_FIELD_NUMBER: _ClassVar[int]
    PROOF_MADE_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_MOVED_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_JUDGED_FIELD_NUMBER: _ClassVar[int]
    LINK_SAMPLED_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_FOUND_FIELD_NUMBER: _ClassVar[int]
    DIVERGENCE_CHECKED_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    wall_ns: int
    node_started: NodeStarted
    block_sequenced: BlockSequenced
    commitment_raised: CommitmentRaised
    block_executed: BlockExecuted
    block_reorged: BlockReorged
    reader_stalled: ReaderStalled
    node_recovered: NodeRecovered
    checkpoint_written: CheckpointWritten
    resources_sampled: ResourcesSampled
    fault_injected: FaultInjected
    fault_healed: FaultHealed
    height_resolved: HeightResolved
    verdict_issued: VerdictIssued
    notice_logged: NoticeLogged
    evidence_found: EvidenceFound
    certificate_built: CertificateBuilt
    certificate_moved: CertificateMoved
    proof_made: ProofMade
    settlement_moved: SettlementMoved
    bundle_judged: BundleJudged
    link_sampled: LinkSampled
    divergence_found: DivergenceFound
    divergence_checked: DivergenceChecked
    def __init__(self, monotonic_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ..., node_started: _Optional[_Union[NodeStarted, _Mapping]] = ..., block_sequenced: _Optional[_Union[BlockSequenced, _Mapping]] = ..., commitment_raised: _Optional[_Union[CommitmentRaised, _Mapping]] = ..., block_executed: _Optional[_Union[BlockExecuted, _Mapping]] = ..., block_reorged: _Optional[_Union[BlockReorged, _Mapping]] = ..., reader_stalled: _Optional[_Union[ReaderStalled, _Mapping]] = ..., node_recovered: _Optional[_Union[NodeRecovered, _Mapping]] = ..., checkpoint_written: _Optional[_Union[CheckpointWritten, _Mapping]] = ..., resources_sampled: _Optional[_Union[ResourcesSampled, _Mapping]] = ..., fault_injected: _Optional[_Union[FaultInjected, _Mapping]] = ..., fault_healed: _Optional[_Union[FaultHealed, _Mapping]] = ..., height_resolved: _Optional[_Union[HeightResolved, _Mapping]] = ..., verdict_issued: _Optional[_Union[VerdictIssued, _Mapping]] = ..., notice_logged: _Optional[_Union[NoticeLogged, _Mapping]] = ..., evidence_found: _Optional[_Union[EvidenceFound, _Mapping]] = ..., certificate_built: _Optional[_Union[CertificateBuilt, _Mapping]] = ..., certificate_moved: _Optional[_Union[CertificateMoved, _Mapping]] = ..., proof_made: _Optional[_Union[ProofMade, _Mapping]] = ..., settlement_moved: _Optional[_Union[SettlementMoved, _Mapping]] = ..., bundle_judged: _Optional[_Union[BundleJudged, _Mapping]] = ..., link_sampled: _Optional[_Union[LinkSampled, _Mapping]] = ..., divergence_found: _Optional[_Union[DivergenceFound, _Mapping]] = ..., divergence_checked: _Optional[_Union[DivergenceChecked, _Mapping]] = ...) -> None: ...

class NodeStarted(_message.Message):
    __slots__ = ("node", "kind", "pid", "host", "boot_id")
    NODE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    node: str
    kind: str
    pid: int
    host: str
    boot_id: str
    def __init__(self, node: _Optional[str] = ..., kind: _Optional[str] = ..., pid: _Optional[int] = ..., host: _Optional[str] = ..., boot_id: _Optional[str] = ...) -> None: ...

class BlockSequenced(_message.Message):
    __slots__ = ("height", "hash", "time_ns", "submission_hashes", "payload_bytes", "payloads")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    TIME_NS_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_HASHES_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_BYTES_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    height: int
    hash: bytes
    time_ns: int
    submission_hashes: bytes
    payload_bytes: int
    payloads: int
    def __init__(self, height: _Optional[int] = ..., hash: _Optional[bytes] = ..., time_ns: _Optional[int] = ..., submission_hashes: _Optional[bytes] = ..., payload_bytes: _Optional[int] = ..., payloads: _Optional[int] = ...) -> None: ...

class CommitmentRaised(_message.Message):
    __slots__ = ("height", "level")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    height: int
    level: int
    def __init__(self, height: _Optional[int] = ..., level: _Optional[int] = ...) -> None: ...

class BlockExecuted(_message.Message):
    __slots__ = ("height", "number", "hash", "state_root", "gas_used", "tx_hashes", "statuses", "skip_reasons", "dropped_hashes", "drop_reasons", "received_ns", "derived_ns", "built_ns", "replayed", "timestamp_s", "dropped_positions", "dropped_trailers")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    STATE_ROOT_FIELD_NUMBER: _ClassVar[int]
    GAS_USED_FIELD_NUMBER: _ClassVar[int]
    TX_HASHES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    SKIP_REASONS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_HASHES_FIELD_NUMBER: _ClassVar[int]
    DROP_REASONS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_NS_FIELD_NUMBER: _ClassVar[int]
    DERIVED_NS_FIELD_NUMBER: _ClassVar[int]
    BUILT_NS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_S_FIELD_NUMBER: _ClassVar[int]
    DROPPED_POSITIONS_FIELD_NUMBER: _ClassVar[int]
    DROPPED_TRAILERS_FIELD_NUMBER: _ClassVar[int]
    height: int
    number: int
    hash: bytes
    state_root: bytes
    gas_used: int
    tx_hashes: bytes
    statuses: bytes
    skip_reasons: bytes
    dropped_hashes: bytes
    drop_reasons: bytes
    received_ns: int
    derived_ns: int
    built_ns: int
    replayed: bool
    timestamp_s: int
    dropped_positions: _containers.RepeatedScalarFieldContainer[int]
    dropped_trailers: bytes
    def __init__(self, height: _Optional[int] = ..., number: _Optional[int] = ..., hash: _Optional[bytes] = ..., state_root: _Optional[bytes] = ..., gas_used: _Optional[int] = ..., tx_hashes: _Optional[bytes] = ..., statuses: _Optional[bytes] = ..., skip_reasons: _Optional[bytes] = ..., dropped_hashes: _Optional[bytes] = ..., drop_reasons: _Optional[bytes] = ..., received_ns: _Optional[int] = ..., derived_ns: _Optional[int] = ..., built_ns: _Optional[int] = ..., replayed: _Optional[bool] = ..., timestamp_s: _Optional[int] = ..., dropped_positions: _Optional[_Iterable[int]] = ..., dropped_trailers: _Optional[bytes] = ...) -> None: ...

class BlockReorged(_message.Message):
    __slots__ = ("from_height", "to_height")
    FROM_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TO_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    from_height: int
    to_height: int
    def __init__(self, from_height: _Optional[int] = ..., to_height: _Optional[int] = ...) -> None: ...

class ReaderStalled(_message.Message):
    __slots__ = ("height", "reason", "source")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    height: int
    reason: str
    source: str
    def __init__(self, height: _Optional[int] = ..., reason: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class NodeRecovered(_message.Message):
    __slots__ = ("checkpoint_height", "recovered_height", "duration_ns")
    CHECKPOINT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    RECOVERED_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    checkpoint_height: int
    recovered_height: int
    duration_ns: int
    def __init__(self, checkpoint_height: _Optional[int] = ..., recovered_height: _Optional[int] = ..., duration_ns: _Optional[int] = ...) -> None: ...

class CheckpointWritten(_message.Message):
    __slots__ = ("height", "bytes", "duration_ns")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    height: int
    bytes: int
    duration_ns: int
    def __init__(self, height: _Optional[int] = ..., bytes: _Optional[int] = ..., duration_ns: _Optional[int] = ...) -> None: ...

class ResourcesSampled(_message.Message):
    __slots__ = ("process_cpu_s", "process_pss_bytes", "engine_cpu_s", "engine_pss_bytes", "wire_bytes_in", "wire_bytes_out", "stage_cpu_ns")
    class StageCpuNsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    PROCESS_CPU_S_FIELD_NUMBER: _ClassVar[int]
    PROCESS_PSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENGINE_CPU_S_FIELD_NUMBER: _ClassVar[int]
    ENGINE_PSS_BYTES_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_IN_FIELD_NUMBER: _ClassVar[int]
    WIRE_BYTES_OUT_FIELD_NUMBER: _ClassVar[int]
    STAGE_CPU_NS_FIELD_NUMBER: _ClassVar[int]
    process_cpu_s: float
    process_pss_bytes: int
    engine_cpu_s: float
    engine_pss_bytes: int
    wire_bytes_in: int
    wire_bytes_out: int
    stage_cpu_ns: _containers.ScalarMap[str, int]
    def __init__(self, process_cpu_s: _Optional[float] = ..., process_pss_bytes: _Optional[int] = ..., engine_cpu_s: _Optional[float] = ..., engine_pss_bytes: _Optional[int] = ..., wire_bytes_in: _Optional[int] = ..., wire_bytes_out: _Optional[int] = ..., stage_cpu_ns: _Optional[_Mapping[str, int]] = ...) -> None: ...

class FaultInjected(_message.Message):
    __slots__ = ("fault", "target")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    fault: str
    target: str
    def __init__(self, fault: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class FaultHealed(_message.Message):
    __slots__ = ("fault", "target")
    FAULT_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    fault: str
    target: str
    def __init__(self, fault: _Optional[str] = ..., target: _Optional[str] = ...) -> None: ...

class HeightResolved(_message.Message):
    __slots__ = ("epoch", "height", "rounds", "block_hash", "aborted_hashes", "aborted_reasons", "aborted_together")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    ABORTED_HASHES_FIELD_NUMBER: _ClassVar[int]
    ABORTED_REASONS_FIELD_NUMBER: _ClassVar[int]
    ABORTED_TOGETHER_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    height: int
    rounds: int
    block_hash: bytes
    aborted_hashes: bytes
    aborted_reasons: bytes
    aborted_together: bytes
    def __init__(self, epoch: _Optional[int] = ..., height: _Optional[int] = ..., rounds: _Optional[int] = ..., block_hash: _Optional[bytes] = ..., aborted_hashes: _Optional[bytes] = ..., aborted_reasons: _Optional[bytes] = ..., aborted_together: _Optional[bytes] = ...) -> None: ...

class VerdictIssued(_message.Message):
    __slots__ = ("epoch", "height", "rounds", "aborted", "struck_together", "networks")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    ABORTED_FIELD_NUMBER: _ClassVar[int]
    STRUCK_TOGETHER_FIELD_NUMBER: _ClassVar[int]
    NETWORKS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    height: int
    rounds: int
    aborted: int
    struck_together: int
    networks: int
    def __init__(self, epoch: _Optional[int] = ..., height: _Optional[int] = ..., rounds: _Optional[int] = ..., aborted: _Optional[int] = ..., struck_together: _Optional[int] = ..., networks: _Optional[int] = ...) -> None: ...

class NoticeLogged(_message.Message):
    __slots__ = ("kind", "epoch", "height", "network_id", "voided")
    KIND_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    VOIDED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    epoch: int
    height: int
    network_id: int
    voided: int
    def __init__(self, kind: _Optional[str] = ..., epoch: _Optional[int] = ..., height: _Optional[int] = ..., network_id: _Optional[int] = ..., voided: _Optional[int] = ...) -> None: ...

class EvidenceFound(_message.Message):
    __slots__ = ("accused", "detail")
    ACCUSED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    accused: str
    detail: str
    def __init__(self, accused: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class CertificateBuilt(_message.Message):
    __slots__ = ("network_id", "certificate_height", "certificate_id", "first_height", "last_height", "exits", "imports", "imported_bundles")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LAST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    EXITS_FIELD_NUMBER: _ClassVar[int]
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    certificate_height: int
    certificate_id: bytes
    first_height: int
    last_height: int
    exits: int
    imports: int
    imported_bundles: bytes
    def __init__(self, network_id: _Optional[int] = ..., certificate_height: _Optional[int] = ..., certificate_id: _Optional[bytes] = ..., first_height: _Optional[int] = ..., last_height: _Optional[int] = ..., exits: _Optional[int] = ..., imports: _Optional[int] = ..., imported_bundles: _Optional[bytes] = ...) -> None: ...

class CertificateMoved(_message.Message):
    __slots__ = ("network_id", "certificate_height", "certificate_id", "status", "error", "first_height", "last_height")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FIRST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LAST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    certificate_height: int
    certificate_id: bytes
    status: int
    error: str
    first_height: int
    last_height: int
    def __init__(self, network_id: _Optional[int] = ..., certificate_height: _Optional[int] = ..., certificate_id: _Optional[bytes] = ..., status: _Optional[int] = ..., error: _Optional[str] = ..., first_height: _Optional[int] = ..., last_height: _Optional[int] = ...) -> None: ...

class ProofMade(_message.Message):
    __slots__ = ("prover", "certificates", "exits", "imports", "duration_ns", "modelled_ns")
    PROVER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    EXITS_FIELD_NUMBER: _ClassVar[int]
    IMPORTS_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    MODELLED_NS_FIELD_NUMBER: _ClassVar[int]
    prover: str
    certificates: int
    exits: int
    imports: int
    duration_ns: int
    modelled_ns: int
    def __init__(self, prover: _Optional[str] = ..., certificates: _Optional[int] = ..., exits: _Optional[int] = ..., imports: _Optional[int] = ..., duration_ns: _Optional[int] = ..., modelled_ns: _Optional[int] = ...) -> None: ...

class SettlementMoved(_message.Message):
    __slots__ = ("step", "tx_hash", "l1_block", "gas_used", "certificate_ids")
    STEP_FIELD_NUMBER: _ClassVar[int]
    TX_HASH_FIELD_NUMBER: _ClassVar[int]
    L1_BLOCK_FIELD_NUMBER: _ClassVar[int]
    GAS_USED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_IDS_FIELD_NUMBER: _ClassVar[int]
    step: str
    tx_hash: bytes
    l1_block: int
    gas_used: int
    certificate_ids: bytes
    def __init__(self, step: _Optional[str] = ..., tx_hash: _Optional[bytes] = ..., l1_block: _Optional[int] = ..., gas_used: _Optional[int] = ..., certificate_ids: _Optional[bytes] = ...) -> None: ...

class BundleJudged(_message.Message):
    __slots__ = ("ordered", "refused", "duration_ns", "bonded_wei")
    ORDERED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    DURATION_NS_FIELD_NUMBER: _ClassVar[int]
    BONDED_WEI_FIELD_NUMBER: _ClassVar[int]
    ordered: int
    refused: int
    duration_ns: int
    bonded_wei: bytes
    def __init__(self, ordered: _Optional[int] = ..., refused: _Optional[int] = ..., duration_ns: _Optional[int] = ..., bonded_wei: _Optional[bytes] = ...) -> None: ...

class LinkSampled(_message.Message):
    __slots__ = ("peer", "region", "peer_region", "is_back", "one_way_ns", "connections", "chunks", "bytes", "lost", "delay_mean_ns", "delay_p50_ns", "delay_p99_ns", "delay_max_ns", "late_mean_ns", "late_p99_ns")
    PEER_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    PEER_REGION_FIELD_NUMBER: _ClassVar[int]
    IS_BACK_FIELD_NUMBER: _ClassVar[int]
    ONE_WAY_NS_FIELD_NUMBER: _ClassVar[int]
    CONNECTIONS_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    DELAY_MEAN_NS_FIELD_NUMBER: _ClassVar[int]
    DELAY_P50_NS_FIELD_NUMBER: _ClassVar[int]
    DELAY_P99_NS_FIELD_NUMBER: _ClassVar[int]
    DELAY_MAX_NS_FIELD_NUMBER: _ClassVar[int]
    LATE_MEAN_NS_FIELD_NUMBER: _ClassVar[int]
    LATE_P99_NS_FIELD_NUMBER: _ClassVar[int]
    peer: str
    region: str
    peer_region: str
    is_back: bool
    one_way_ns: int
    connections: int
    chunks: int
    bytes: int
    lost: int
    delay_mean_ns: int
    delay_p50_ns: int
    delay_p99_ns: int
    delay_max_ns: int
    late_mean_ns: int
    late_p99_ns: int
    def __init__(self, peer: _Optional[str] = ..., region: _Optional[str] = ..., peer_region: _Optional[str] = ..., is_back: _Optional[bool] = ..., one_way_ns: _Optional[int] = ..., connections: _Optional[int] = ..., chunks: _Optional[int] = ..., bytes: _Optional[int] = ..., lost: _Optional[int] = ..., delay_mean_ns: _Optional[int] = ..., delay_p50_ns: _Optional[int] = ..., delay_p99_ns: _Optional[int] = ..., delay_max_ns: _Optional[int] = ..., late_mean_ns: _Optional[int] = ..., late_p99_ns: _Optional[int] = ...) -> None: ...

class DivergenceFound(_message.Message):
    __slots__ = ("height", "number", "position", "tx_hash", "account", "field", "engine", "checker", "engine_footprint", "checker_footprint", "policy")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TX_HASH_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    CHECKER_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FOOTPRINT_FIELD_NUMBER: _ClassVar[int]
    CHECKER_FOOTPRINT_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    height: int
    number: int
    position: int
    tx_hash: bytes
    account: bytes
    field: str
    engine: str
    checker: str
    engine_footprint: bytes
    checker_footprint: bytes
    policy: str
    def __init__(self, height: _Optional[int] = ..., number: _Optional[int] = ..., position: _Optional[int] = ..., tx_hash: _Optional[bytes] = ..., account: _Optional[bytes] = ..., field: _Optional[str] = ..., engine: _Optional[str] = ..., checker: _Optional[str] = ..., engine_footprint: _Optional[bytes] = ..., checker_footprint: _Optional[bytes] = ..., policy: _Optional[str] = ...) -> None: ...

class DivergenceChecked(_message.Message):
    __slots__ = ("mode", "total", "checked", "differing", "missed", "replaced", "waiting", "history", "busy_ns", "samples_from", "reason")
    MODE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    DIFFERING_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    REPLACED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    BUSY_NS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FROM_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    mode: str
    total: int
    checked: int
    differing: int
    missed: int
    replaced: int
    waiting: int
    history: int
    busy_ns: int
    samples_from: int
    reason: str
    def __init__(self, mode: _Optional[str] = ..., total: _Optional[int] = ..., checked: _Optional[int] = ..., differing: _Optional[int] = ..., missed: _Optional[int] = ..., replaced: _Optional[int] = ..., waiting: _Optional[int] = ..., history: _Optional[int] = ..., busy_ns: _Optional[int] = ..., samples_from: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
