from protos.agglayer.interop.types.v1 import interop_pb2 as _interop_pb2
from protos.agglayer.node.types.v1 import node_types_pb2 as _node_types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetClaimProofsRequest(_message.Message):
    __slots__ = ("global_indexes",)
    GLOBAL_INDEXES_FIELD_NUMBER: _ClassVar[int]
    global_indexes: bytes
    def __init__(self, global_indexes: _Optional[bytes] = ...) -> None: ...

class ProvenClaim(_message.Message):
    __slots__ = ("global_index", "mainnet", "rollup")
    GLOBAL_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAINNET_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_FIELD_NUMBER: _ClassVar[int]
    global_index: bytes
    mainnet: _interop_pb2.ClaimFromMainnet
    rollup: _interop_pb2.ClaimFromRollup
    def __init__(self, global_index: _Optional[bytes] = ..., mainnet: _Optional[_Union[_interop_pb2.ClaimFromMainnet, _Mapping]] = ..., rollup: _Optional[_Union[_interop_pb2.ClaimFromRollup, _Mapping]] = ...) -> None: ...

class GetClaimProofsResponse(_message.Message):
    __slots__ = ("l1_info_tree_leaf_count", "claims")
    L1_INFO_TREE_LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_FIELD_NUMBER: _ClassVar[int]
    l1_info_tree_leaf_count: int
    claims: _containers.RepeatedCompositeFieldContainer[ProvenClaim]
    def __init__(self, l1_info_tree_leaf_count: _Optional[int] = ..., claims: _Optional[_Iterable[_Union[ProvenClaim, _Mapping]]] = ...) -> None: ...

class GetCertificateRequest(_message.Message):
    __slots__ = ("network_id", "height")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    height: int
    def __init__(self, network_id: _Optional[int] = ..., height: _Optional[int] = ...) -> None: ...

class GetCertificateResponse(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: _node_types_pb2.Certificate
    def __init__(self, certificate: _Optional[_Union[_node_types_pb2.Certificate, _Mapping]] = ...) -> None: ...

class FollowNetworkRequest(_message.Message):
    __slots__ = ("network_id",)
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    def __init__(self, network_id: _Optional[int] = ...) -> None: ...

class NetworkProgress(_message.Message):
    __slots__ = ("latest", "settled", "settled_leaf_count", "settled_range", "final_height", "l1_info_tree_leaf_count")
    LATEST_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    SETTLED_LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_RANGE_FIELD_NUMBER: _ClassVar[int]
    FINAL_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    L1_INFO_TREE_LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    latest: _node_types_pb2.CertificateHeader
    settled: _node_types_pb2.CertificateHeader
    settled_leaf_count: int
    settled_range: bytes
    final_height: int
    l1_info_tree_leaf_count: int
    def __init__(self, latest: _Optional[_Union[_node_types_pb2.CertificateHeader, _Mapping]] = ..., settled: _Optional[_Union[_node_types_pb2.CertificateHeader, _Mapping]] = ..., settled_leaf_count: _Optional[int] = ..., settled_range: _Optional[bytes] = ..., final_height: _Optional[int] = ..., l1_info_tree_leaf_count: _Optional[int] = ...) -> None: ...

class GetProvingStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetProvingStatusResponse(_message.Message):
    __slots__ = ("prover", "description", "batch_id", "certificates", "done", "total", "step")
    PROVER_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    BATCH_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    prover: str
    description: str
    batch_id: int
    certificates: int
    done: int
    total: int
    step: str
    def __init__(self, prover: _Optional[str] = ..., description: _Optional[str] = ..., batch_id: _Optional[int] = ..., certificates: _Optional[int] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., step: _Optional[str] = ...) -> None: ...
