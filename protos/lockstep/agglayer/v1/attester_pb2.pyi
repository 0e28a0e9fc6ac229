from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttestItem(_message.Message):
    __slots__ = ("program_input", "settled_range", "range_signatures", "signed_verdict")
    PROGRAM_INPUT_FIELD_NUMBER: _ClassVar[int]
    SETTLED_RANGE_FIELD_NUMBER: _ClassVar[int]
    RANGE_SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    SIGNED_VERDICT_FIELD_NUMBER: _ClassVar[int]
    program_input: bytes
    settled_range: bytes
    range_signatures: _containers.RepeatedScalarFieldContainer[bytes]
    signed_verdict: bytes
    def __init__(self, program_input: _Optional[bytes] = ..., settled_range: _Optional[bytes] = ..., range_signatures: _Optional[_Iterable[bytes]] = ..., signed_verdict: _Optional[bytes] = ...) -> None: ...

class AttestRequest(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[AttestItem]
    def __init__(self, items: _Optional[_Iterable[_Union[AttestItem, _Mapping]]] = ...) -> None: ...

class AttestProgress(_message.Message):
    __slots__ = ("done", "total", "step")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    step: str
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., step: _Optional[str] = ...) -> None: ...

class Attestation(_message.Message):
    __slots__ = ("statements", "signature")
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    statements: _containers.RepeatedScalarFieldContainer[bytes]
    signature: bytes
    def __init__(self, statements: _Optional[_Iterable[bytes]] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AttestResponse(_message.Message):
    __slots__ = ("progress", "attestation")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    progress: AttestProgress
    attestation: Attestation
    def __init__(self, progress: _Optional[_Union[AttestProgress, _Mapping]] = ..., attestation: _Optional[_Union[Attestation, _Mapping]] = ...) -> None: ...
