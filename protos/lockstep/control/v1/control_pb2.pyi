from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WaitReadyRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WaitReadyResponse(_message.Message):
    __slots__ = ("nodes", "host", "pid", "name", "control_address")
    NODES_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTROL_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeEndpoint]
    host: str
    pid: int
    name: str
    control_address: str
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeEndpoint, _Mapping]]] = ..., host: _Optional[str] = ..., pid: _Optional[int] = ..., name: _Optional[str] = ..., control_address: _Optional[str] = ...) -> None: ...

class NodeEndpoint(_message.Message):
    __slots__ = ("name", "kind", "grpc_address", "rpc_url", "engine_pid")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    GRPC_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RPC_URL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_PID_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    grpc_address: str
    rpc_url: str
    engine_pid: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., grpc_address: _Optional[str] = ..., rpc_url: _Optional[str] = ..., engine_pid: _Optional[int] = ...) -> None: ...

class ReadClockRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReadClockResponse(_message.Message):
    __slots__ = ("monotonic_ns", "wall_ns", "boot_id")
    MONOTONIC_NS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    monotonic_ns: int
    wall_ns: int
    boot_id: str
    def __init__(self, monotonic_ns: _Optional[int] = ..., wall_ns: _Optional[int] = ..., boot_id: _Optional[str] = ...) -> None: ...

class InjectFaultRequest(_message.Message):
    __slots__ = ("node", "kill_engine", "rewind", "withhold_evidence", "fork", "silence_reports", "attest_wrong", "delay_attestations", "reorg_l1", "pause_l1", "crash_at", "solana_trouble", "diverge")
    NODE_FIELD_NUMBER: _ClassVar[int]
    KILL_ENGINE_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    WITHHOLD_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    SILENCE_REPORTS_FIELD_NUMBER: _ClassVar[int]
    ATTEST_WRONG_FIELD_NUMBER: _ClassVar[int]
    DELAY_ATTESTATIONS_FIELD_NUMBER: _ClassVar[int]
    REORG_L1_FIELD_NUMBER: _ClassVar[int]
    PAUSE_L1_FIELD_NUMBER: _ClassVar[int]
    CRASH_AT_FIELD_NUMBER: _ClassVar[int]
    SOLANA_TROUBLE_FIELD_NUMBER: _ClassVar[int]
    DIVERGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    kill_engine: KillEngine
    rewind: Rewind
    withhold_evidence: WithholdEvidence
    fork: Fork
    silence_reports: SilenceReports
    attest_wrong: AttestWrong
    delay_attestations: DelayAttestations
    reorg_l1: ReorgL1
    pause_l1: PauseL1
    crash_at: CrashAt
    solana_trouble: SolanaTrouble
    diverge: Diverge
    def __init__(self, node: _Optional[str] = ..., kill_engine: _Optional[_Union[KillEngine, _Mapping]] = ..., rewind: _Optional[_Union[Rewind, _Mapping]] = ..., withhold_evidence: _Optional[_Union[WithholdEvidence, _Mapping]] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ..., silence_reports: _Optional[_Union[SilenceReports, _Mapping]] = ..., attest_wrong: _Optional[_Union[AttestWrong, _Mapping]] = ..., delay_attestations: _Optional[_Union[DelayAttestations, _Mapping]] = ..., reorg_l1: _Optional[_Union[ReorgL1, _Mapping]] = ..., pause_l1: _Optional[_Union[PauseL1, _Mapping]] = ..., crash_at: _Optional[_Union[CrashAt, _Mapping]] = ..., solana_trouble: _Optional[_Union[SolanaTrouble, _Mapping]] = ..., diverge: _Optional[_Union[Diverge, _Mapping]] = ...) -> None: ...

class KillEngine(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Rewind(_message.Message):
    __slots__ = ("height",)
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    height: int
    def __init__(self, height: _Optional[int] = ...) -> None: ...

class WithholdEvidence(_message.Message):
    __slots__ = ("kind", "blocks")
    KIND_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    kind: str
    blocks: int
    def __init__(self, kind: _Optional[str] = ..., blocks: _Optional[int] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("height",)
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    height: int
    def __init__(self, height: _Optional[int] = ...) -> None: ...

class SilenceReports(_message.Message):
    __slots__ = ("on",)
    ON_FIELD_NUMBER: _ClassVar[int]
    on: bool
    def __init__(self, on: _Optional[bool] = ...) -> None: ...

class AttestWrong(_message.Message):
    __slots__ = ("on",)
    ON_FIELD_NUMBER: _ClassVar[int]
    on: bool
    def __init__(self, on: _Optional[bool] = ...) -> None: ...

class DelayAttestations(_message.Message):
    __slots__ = ("delay_ms",)
    DELAY_MS_FIELD_NUMBER: _ClassVar[int]
    delay_ms: int
    def __init__(self, delay_ms: _Optional[int] = ...) -> None: ...

class ReorgL1(_message.Message):
    __slots__ = ("depth", "keep_transactions")
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    KEEP_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    depth: int
    keep_transactions: bool
    def __init__(self, depth: _Optional[int] = ..., keep_transactions: _Optional[bool] = ...) -> None: ...

class PauseL1(_message.Message):
    __slots__ = ("slots",)
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    slots: int
    def __init__(self, slots: _Optional[int] = ...) -> None: ...

class CrashAt(_message.Message):
    __slots__ = ("place", "count")
    PLACE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    place: str
    count: int
    def __init__(self, place: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class SolanaTrouble(_message.Message):
    __slots__ = ("trouble", "amount", "for_slots")
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    FOR_SLOTS_FIELD_NUMBER: _ClassVar[int]
    trouble: str
    amount: int
    for_slots: int
    def __init__(self, trouble: _Optional[str] = ..., amount: _Optional[int] = ..., for_slots: _Optional[int] = ...) -> None: ...

class Diverge(_message.Message):
    __slots__ = ("account", "slot", "add")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    ADD_FIELD_NUMBER: _ClassVar[int]
    account: bytes
    slot: bytes
    add: int
    def __init__(self, account: _Optional[bytes] = ..., slot: _Optional[bytes] = ..., add: _Optional[int] = ...) -> None: ...

class InjectFaultResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
