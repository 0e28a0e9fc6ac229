from protos.agglayer.node.types.v1 import node_types_pb2 as _node_types_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubmitCertificateErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUBMIT_CERTIFICATE_ERROR_KIND_UNSPECIFIED: _ClassVar[SubmitCertificateErrorKind]
    SUBMIT_CERTIFICATE_ERROR_KIND_MISSING_FIELD: _ClassVar[SubmitCertificateErrorKind]
    SUBMIT_CERTIFICATE_ERROR_KIND_INVALID_DATA: _ClassVar[SubmitCertificateErrorKind]
    SUBMIT_CERTIFICATE_ERROR_KIND_SIGNATURE_VERIFICATION: _ClassVar[SubmitCertificateErrorKind]
    SUBMIT_CERTIFICATE_ERROR_KIND_UNABLE_TO_REPLACE_PENDING_CERTIFICATE: _ClassVar[SubmitCertificateErrorKind]
    SUBMIT_CERTIFICATE_ERROR_KIND_UNSUPPORTED_PROOF_VERSION: _ClassVar[SubmitCertificateErrorKind]

class GetCertificateHeaderErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GET_CERTIFICATE_HEADER_ERROR_KIND_UNSPECIFIED: _ClassVar[GetCertificateHeaderErrorKind]
    GET_CERTIFICATE_HEADER_ERROR_KIND_MISSING_FIELD: _ClassVar[GetCertificateHeaderErrorKind]
    GET_CERTIFICATE_HEADER_ERROR_KIND_INVALID_DATA: _ClassVar[GetCertificateHeaderErrorKind]
    GET_CERTIFICATE_HEADER_ERROR_KIND_NOT_FOUND: _ClassVar[GetCertificateHeaderErrorKind]

class GetLatestCertificateHeaderErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_UNSPECIFIED: _ClassVar[GetLatestCertificateHeaderErrorKind]
    GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_MISSING_FIELD: _ClassVar[GetLatestCertificateHeaderErrorKind]
    GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_INVALID_DATA: _ClassVar[GetLatestCertificateHeaderErrorKind]
    GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_NOT_FOUND: _ClassVar[GetLatestCertificateHeaderErrorKind]

class GetNetworkInfoErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GET_NETWORK_INFO_ERROR_KIND_UNSPECIFIED: _ClassVar[GetNetworkInfoErrorKind]
    GET_NETWORK_INFO_ERROR_KIND_INVALID_NETWORK_ID: _ClassVar[GetNetworkInfoErrorKind]
    GET_NETWORK_INFO_ERROR_KIND_NETWORK_INFO_ERROR: _ClassVar[GetNetworkInfoErrorKind]
    GET_NETWORK_INFO_ERROR_KIND_UNKNOWN_NETWORK_TYPE: _ClassVar[GetNetworkInfoErrorKind]
    GET_NETWORK_INFO_ERROR_KIND_INTERNAL_ERROR: _ClassVar[GetNetworkInfoErrorKind]

class GetEpochConfigurationErrorKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GET_EPOCH_CONFIGURATION_ERROR_KIND_UNSPECIFIED: _ClassVar[GetEpochConfigurationErrorKind]
    GET_EPOCH_CONFIGURATION_ERROR_KIND_UNEXPECTED_CLOCK_CONFIGURATION: _ClassVar[GetEpochConfigurationErrorKind]

class LatestCertificateRequestType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LATEST_CERTIFICATE_REQUEST_TYPE_UNSPECIFIED: _ClassVar[LatestCertificateRequestType]
    LATEST_CERTIFICATE_REQUEST_TYPE_PENDING: _ClassVar[LatestCertificateRequestType]
    LATEST_CERTIFICATE_REQUEST_TYPE_SETTLED: _ClassVar[LatestCertificateRequestType]
SUBMIT_CERTIFICATE_ERROR_KIND_UNSPECIFIED: SubmitCertificateErrorKind
SUBMIT_CERTIFICATE_ERROR_KIND_MISSING_FIELD: SubmitCertificateErrorKind
SUBMIT_CERTIFICATE_ERROR_KIND_INVALID_DATA: SubmitCertificateErrorKind
SUBMIT_CERTIFICATE_ERROR_KIND_SIGNATURE_VERIFICATION: SubmitCertificateErrorKind
SUBMIT_CERTIFICATE_ERROR_KIND_UNABLE_TO_REPLACE_PENDING_CERTIFICATE: SubmitCertificateErrorKind
SUBMIT_CERTIFICATE_ERROR_KIND_UNSUPPORTED_PROOF_VERSION: SubmitCertificateErrorKind
GET_CERTIFICATE_HEADER_ERROR_KIND_UNSPECIFIED: GetCertificateHeaderErrorKind
GET_CERTIFICATE_HEADER_ERROR_KIND_MISSING_FIELD: GetCertificateHeaderErrorKind
GET_CERTIFICATE_HEADER_ERROR_KIND_INVALID_DATA: GetCertificateHeaderErrorKind
GET_CERTIFICATE_HEADER_ERROR_KIND_NOT_FOUND: GetCertificateHeaderErrorKind
GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_UNSPECIFIED: GetLatestCertificateHeaderErrorKind
GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_MISSING_FIELD: GetLatestCertificateHeaderErrorKind
GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_INVALID_DATA: GetLatestCertificateHeaderErrorKind
GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_NOT_FOUND: GetLatestCertificateHeaderErrorKind
GET_NETWORK_INFO_ERROR_KIND_UNSPECIFIED: GetNetworkInfoErrorKind
GET_NETWORK_INFO_ERROR_KIND_INVALID_NETWORK_ID: GetNetworkInfoErrorKind
GET_NETWORK_INFO_ERROR_KIND_NETWORK_INFO_ERROR: GetNetworkInfoErrorKind
GET_NETWORK_INFO_ERROR_KIND_UNKNOWN_NETWORK_TYPE: GetNetworkInfoErrorKind
GET_NETWORK_INFO_ERROR_KIND_INTERNAL_ERROR: GetNetworkInfoErrorKind
GET_EPOCH_CONFIGURATION_ERROR_KIND_UNSPECIFIED: GetEpochConfigurationErrorKind
GET_EPOCH_CONFIGURATION_ERROR_KIND_UNEXPECTED_CLOCK_CONFIGURATION: GetEpochConfigurationErrorKind
LATEST_CERTIFICATE_REQUEST_TYPE_UNSPECIFIED: LatestCertificateRequestType
LATEST_CERTIFICATE_REQUEST_TYPE_PENDING: LatestCertificateRequestType
LATEST_CERTIFICATE_REQUEST_TYPE_SETTLED: LatestCertificateRequestType

class SubmitCertificateRequest(_message.Message):
    __slots__ = ("certificate",)
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    certificate: _node_types_pb2.Certificate
    def __init__(self, certificate: _Optional[_Union[_node_types_pb2.Certificate, _Mapping]] = ...) -> None: ...

class SubmitCertificateResponse(_message.Message):
    __slots__ = ("certificate_id",)
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    certificate_id: _node_types_pb2.CertificateId
    def __init__(self, certificate_id: _Optional[_Union[_node_types_pb2.CertificateId, _Mapping]] = ...) -> None: ...

class GetCertificateHeaderRequest(_message.Message):
    __slots__ = ("certificate_id",)
    CERTIFICATE_ID_FIELD_NUMBER: _ClassVar[int]
    certificate_id: _node_types_pb2.CertificateId
    def __init__(self, certificate_id: _Optional[_Union[_node_types_pb2.CertificateId, _Mapping]] = ...) -> None: ...

class GetCertificateHeaderResponse(_message.Message):
    __slots__ = ("certificate_header",)
    CERTIFICATE_HEADER_FIELD_NUMBER: _ClassVar[int]
    certificate_header: _node_types_pb2.CertificateHeader
    def __init__(self, certificate_header: _Optional[_Union[_node_types_pb2.CertificateHeader, _Mapping]] = ...) -> None: ...

class GetLatestCertificateHeaderRequest(_message.Message):
    __slots__ = ("type", "network_id")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    type: LatestCertificateRequestType
    network_id: int
    def __init__(self, type: _Optional[_Union[LatestCertificateRequestType, str]] = ..., network_id: _Optional[int] = ...) -> None: ...

class GetLatestCertificateHeaderResponse(_message.Message):
    __slots__ = ("certificate_header",)
    CERTIFICATE_HEADER_FIELD_NUMBER: _ClassVar[int]
    certificate_header: _node_types_pb2.CertificateHeader
    def __init__(self, certificate_header: _Optional[_Union[_node_types_pb2.CertificateHeader, _Mapping]] = ...) -> None: ...

class GetNetworkInfoRequest(_message.Message):
    __slots__ = ("network_id",)
    NETWORK_ID_FIELD_NUMBER: _ClassVar[int]
    network_id: int
    def __init__(self, network_id: _Optional[int] = ...) -> None: ...

class GetNetworkInfoResponse(_message.Message):
    __slots__ = ("network_info",)
    NETWORK_INFO_FIELD_NUMBER: _ClassVar[int]
    network_info: _node_types_pb2.NetworkInfo
    def __init__(self, network_info: _Optional[_Union[_node_types_pb2.NetworkInfo, _Mapping]] = ...) -> None: ...

class GetEpochConfigurationRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetEpochConfigurationResponse(_message.Message):
    __slots__ = ("epoch_configuration",)
    EPOCH_CONFIGURATION_FIELD_NUMBER: _ClassVar[int]
    epoch_configuration: _node_types_pb2.EpochConfiguration
    def __init__(self, epoch_configuration: _Optional[_Union[_node_types_pb2.EpochConfiguration, _Mapping]] = ...) -> None: ...
