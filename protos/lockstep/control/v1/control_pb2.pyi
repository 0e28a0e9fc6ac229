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
    __slots__ = ("node", "kill_engine", "rewind", "withhold_evidence", "fork")
    NODE_FIELD_NUMBER: _ClassVar[int]
    KILL_ENGINE_FIELD_NUMBER: _ClassVar[int]
    REWIND_FIELD_NUMBER: _ClassVar[int]
    WITHHOLD_EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    node: str
    kill_engine: KillEngine
    rewind: Rewind
    withhold_evidence: WithholdEvidence
    fork: Fork
    def __init__(self, node: _Optional[str] = ..., kill_engine: _Optional[_Union[KillEngine, _Mapping]] = ..., rewind: _Optional[_Union[Rewind, _Mapping]] = ..., withhold_evidence: _Optional[_Union[WithholdEvidence, _Mapping]] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ...) -> None: ...

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

class InjectFaultResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class StopResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
