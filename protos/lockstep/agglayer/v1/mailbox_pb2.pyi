from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignedReport(_message.Message):
    __slots__ = ("report", "signature")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    report: bytes
    signature: bytes
    def __init__(self, report: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SubmitReportsRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[SignedReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[SignedReport, _Mapping]]] = ...) -> None: ...

class SubmitReportsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FollowVerdictsRequest(_message.Message):
    __slots__ = ("epoch", "height", "hash")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    height: int
    hash: bytes
    def __init__(self, epoch: _Optional[int] = ..., height: _Optional[int] = ..., hash: _Optional[bytes] = ...) -> None: ...

class MailboxEvent(_message.Message):
    __slots__ = ("round_closed", "verdict_signed", "notice_posted")
    ROUND_CLOSED_FIELD_NUMBER: _ClassVar[int]
    VERDICT_SIGNED_FIELD_NUMBER: _ClassVar[int]
    NOTICE_POSTED_FIELD_NUMBER: _ClassVar[int]
    round_closed: RoundClosed
    verdict_signed: VerdictSigned
    notice_posted: NoticePosted
    def __init__(self, round_closed: _Optional[_Union[RoundClosed, _Mapping]] = ..., verdict_signed: _Optional[_Union[VerdictSigned, _Mapping]] = ..., notice_posted: _Optional[_Union[NoticePosted, _Mapping]] = ...) -> None: ...

class Reports(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[SignedReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[SignedReport, _Mapping]]] = ...) -> None: ...

class RoundClosed(_message.Message):
    __slots__ = ("epoch", "height", "round", "reports")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    height: int
    round: int
    reports: Reports
    def __init__(self, epoch: _Optional[int] = ..., height: _Optional[int] = ..., round: _Optional[int] = ..., reports: _Optional[_Union[Reports, _Mapping]] = ...) -> None: ...

class VerdictSigned(_message.Message):
    __slots__ = ("verdict", "signature", "rounds")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    verdict: bytes
    signature: bytes
    rounds: _containers.RepeatedCompositeFieldContainer[Reports]
    def __init__(self, verdict: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., rounds: _Optional[_Iterable[_Union[Reports, _Mapping]]] = ...) -> None: ...

class NoticePosted(_message.Message):
    __slots__ = ("notice", "signature")
    NOTICE_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    notice: bytes
    signature: bytes
    def __init__(self, notice: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
