from protos.agglayer.interop.types.v1 import interop_pb2 as _interop_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CertificateStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CERTIFICATE_STATUS_UNSPECIFIED: _ClassVar[CertificateStatus]
    CERTIFICATE_STATUS_PENDING: _ClassVar[CertificateStatus]
    CERTIFICATE_STATUS_PROVEN: _ClassVar[CertificateStatus]
    CERTIFICATE_STATUS_CANDIDATE: _ClassVar[CertificateStatus]
    CERTIFICATE_STATUS_IN_ERROR: _ClassVar[CertificateStatus]
    CERTIFICATE_STATUS_SETTLED: _ClassVar[CertificateStatus]

class NetworkStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_STATUS_UNSPECIFIED: _ClassVar[NetworkStatus]
    NETWORK_STATUS_ACTIVE: _ClassVar[NetworkStatus]
    NETWORK_STATUS_SYNCING: _ClassVar[NetworkStatus]
    NETWORK_STATUS_ERROR: _ClassVar[NetworkStatus]
    NETWORK_STATUS_DISABLED: _ClassVar[NetworkStatus]

class NetworkType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NETWORK_TYPE_UNSPECIFIED: _ClassVar[NetworkType]
    NETWORK_TYPE_ECDSA: _ClassVar[NetworkType]
    NETWORK_TYPE_GENERIC: _ClassVar[NetworkType]
    NETWORK_TYPE_MULTISIG_ONLY: _ClassVar[NetworkType]
    NETWORK_TYPE_MULTISIG_AND_AGGCHAIN_PROOF: _ClassVar[NetworkType]
CERTIFICATE_STATUS_UNSPECIFIED: CertificateStatus
CERTIFICATE_STATUS_PENDING: CertificateStatus
CERTIFICATE_STATUS_PROVEN: CertificateStatus
CERTIFICATE_STATUS_CANDIDATE: CertificateStatus
CERTIFICATE_STATUS_IN_ERROR: CertificateStatus
CERTIFICATE_STATUS_SETTLED: CertificateStatus
NETWORK_STATUS_UNSPECIFIED: NetworkStatus
NETWORK_STATUS_ACTIVE: NetworkStatus
NETWORK_STATUS_SYNCING: NetworkStatus
NETWORK_STATUS_ERROR: NetworkStatus
NETWORK_STATUS_DISABLED: NetworkStatus
NETWORK_TYPE_UNSPECIFIED: NetworkType
NETWORK_TYPE_ECDSA: NetworkType
NETWORK_TYPE_GENERIC: NetworkType
NETWORK_TYPE_MULTISIG_ONLY: NetworkType
NETWORK_TYPE_MULTISIG_AND_AGGCHAIN_PROOF: NetworkType

class CertificateId(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: _interop_pb2.FixedBytes32
    def __init__(self, value: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("network_id", "height", "prev_local_exit_root", "new_local_exit_root", "bridge_exits", "imported_bridge_exits", "metadata", "aggchain_data", "custom_chain_data", "l1_info_tree_leaf_count")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PREV_LOCAL_EXIT_ROOT_FIELD_NUMBER: _ClassVar[int]
    NEW_LOCAL_EXIT_ROOT_FIELD_NUMBER: _ClassVar[int]
    BRIDGE_EXITS_FIELD_NUMBER: _ClassVar[int]
    IMPORTED_BRIDGE_EXITS_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    AGGCHAIN_DATA_FIELD_NUMBER: _ClassVar[int]
    CUSTOM_CHAIN_DATA_FIELD_NUMBER: _ClassVar[int]
    L1_INFO_TREE_LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    height: int
    prev_local_exit_root: _interop_pb2.FixedBytes32
    new_local_exit_root: _interop_pb2.FixedBytes32
    bridge_exits: _containers.RepeatedCompositeFieldContainer[_interop_pb2.BridgeExit]
    imported_bridge_exits: _containers.RepeatedCompositeFieldContainer[_interop_pb2.ImportedBridgeExit]
    metadata: _interop_pb2.FixedBytes32
    aggchain_data: _interop_pb2.AggchainData
    custom_chain_data: bytes
    l1_info_tree_leaf_count: int
    def __init__(self, network_id: _Optional[int] = ..., height: _Optional[int] = ..., prev_local_exit_root: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., new_local_exit_root: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., bridge_exits: _Optional[_Iterable[_Union[_interop_pb2.BridgeExit, _Mapping]]] = ..., imported_bridge_exits: _Optional[_Iterable[_Union[_interop_pb2.ImportedBridgeExit, _Mapping]]] = ..., metadata: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., aggchain_data: _Optional[_Union[_interop_pb2.AggchainData, _Mapping]] = ..., custom_chain_data: _Optional[bytes] = ..., l1_info_tree_leaf_count: _Optional[int] = ...) -> None: ...

class CertificateStatusError(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: bytes
    def __init__(self, message: _Optional[bytes] = ...) -> None: ...

class CertificateHeader(_message.Message):
    __slots__ = ("network_id", "height", "epoch_number", "certificate_index", "certificate_id", "prev_local_exit_root", "new_local_exit_root", "metadata", "status", "error", "settlement_tx_hash")
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    EPOCH_NUMBER_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_INDEX_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    PREV_LOCAL_EXIT_ROOT_FIELD_NUMBER: _ClassVar[int]
    NEW_LOCAL_EXIT_ROOT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    height: int
    epoch_number: int
    certificate_index: int
    certificate_id: CertificateId
    prev_local_exit_root: _interop_pb2.FixedBytes32
    new_local_exit_root: _interop_pb2.FixedBytes32
    metadata: _interop_pb2.FixedBytes32
    status: CertificateStatus
    error: CertificateStatusError
    settlement_tx_hash: _interop_pb2.FixedBytes32
    def __init__(self, network_id: _Optional[int] = ..., height: _Optional[int] = ..., epoch_number: _Optional[int] = ..., certificate_index: _Optional[int] = ..., certificate_id: _Optional[_Union[CertificateId, _Mapping]] = ..., prev_local_exit_root: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., new_local_exit_root: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., metadata: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., status: _Optional[_Union[CertificateStatus, str]] = ..., error: _Optional[_Union[CertificateStatusError, _Mapping]] = ..., settlement_tx_hash: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ...) -> None: ...

class SettledClaim(_message.Message):
    __slots__ = ("global_index", "bridge_exit_hash")
    GLOBAL_INDEX_FIELD_NUMBER: _ClassVar[int]
    BRIDGE_EXIT_HASH_FIELD_NUMBER: _ClassVar[int]
    global_index: _interop_pb2.FixedBytes32
    bridge_exit_hash: _interop_pb2.FixedBytes32
    def __init__(self, global_index: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., bridge_exit_hash: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ...) -> None: ...

class NetworkInfo(_message.Message):
    __slots__ = ("network_status", "network_type", "network_id", "settled_height", "settled_certificate_id", "settled_pp_root", "settled_ler", "settled_let_leaf_count", "settled_claim", "latest_pending_height", "latest_pending_status", "latest_pending_error", "latest_epoch_with_settlement", "latest_pending_certificate_id")
    NETWORK_STATUS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TYPE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLED_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    SETTLED_PP_ROOT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_LER_FIELD_NUMBER: _ClassVar[int]
    SETTLED_LET_LEAF_COUNT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_CLAIM_FIELD_NUMBER: _ClassVar[int]
    LATEST_PENDING_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LATEST_PENDING_STATUS_FIELD_NUMBER: _ClassVar[int]
    LATEST_PENDING_ERROR_FIELD_NUMBER: _ClassVar[int]
    LATEST_EPOCH_WITH_SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    LATEST_PENDING_CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    network_status: NetworkStatus
    network_type: NetworkType
    network_id: int
    settled_height: int
    settled_certificate_id: CertificateId
    settled_pp_root: _interop_pb2.FixedBytes32
    settled_ler: _interop_pb2.FixedBytes32
    settled_let_leaf_count: int
    settled_claim: SettledClaim
    latest_pending_height: int
    latest_pending_status: CertificateStatus
    latest_pending_error: CertificateStatusError
    latest_epoch_with_settlement: int
    latest_pending_certificate_id: CertificateId
    def __init__(self, network_status: _Optional[_Union[NetworkStatus, str]] = ..., network_type: _Optional[_Union[NetworkType, str]] = ..., network_id: _Optional[int] = ..., settled_height: _Optional[int] = ..., settled_certificate_id: _Optional[_Union[CertificateId, _Mapping]] = ..., settled_pp_root: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., settled_ler: _Optional[_Union[_interop_pb2.FixedBytes32, _Mapping]] = ..., settled_let_leaf_count: _Optional[int] = ..., settled_claim: _Optional[_Union[SettledClaim, _Mapping]] = ..., latest_pending_height: _Optional[int] = ..., latest_pending_status: _Optional[_Union[CertificateStatus, str]] = ..., latest_pending_error: _Optional[_Union[CertificateStatusError, _Mapping]] = ..., latest_epoch_with_settlement: _Optional[int] = ..., latest_pending_certificate_id: _Optional[_Union[CertificateId, _Mapping]] = ...) -> None: ...

class EpochConfiguration(_message.Message):
    __slots__ = ("genesis_block", "epoch_duration")
    GENESIS_BLOCK_FIELD_NUMBER: _ClassVar[int]
    EPOCH_DURATION_FIELD_NUMBER: _ClassVar[int]
    genesis_block: int
    epoch_duration: int
    def __init__(self, genesis_block: _Optional[int] = ..., epoch_duration: _Optional[int] = ...) -> None: ...
