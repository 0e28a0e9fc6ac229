from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetPromiseRequest(_message.Message):
    __slots__ = ("bundle_hash",)
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    bundle_hash: bytes
    def __init__(self, bundle_hash: _Optional[bytes] = ...) -> None: ...

class GetPromiseResponse(_message.Message):
    __slots__ = ("promise", "state")
    PROMISE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    promise: Promise
    state: str
    def __init__(self, promise: _Optional[_Union[Promise, _Mapping]] = ..., state: _Optional[str] = ...) -> None: ...

class Promise(_message.Message):
    __slots__ = ("builder", "bundle_hash", "user", "amount_wei", "expiry_block", "placements", "signature")
    BUILDER_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_WEI_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_BLOCK_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    builder: bytes
    bundle_hash: bytes
    user: bytes
    amount_wei: bytes
    expiry_block: int
    placements: bytes
    signature: bytes
    def __init__(self, builder: _Optional[bytes] = ..., bundle_hash: _Optional[bytes] = ..., user: _Optional[bytes] = ..., amount_wei: _Optional[bytes] = ..., expiry_block: _Optional[int] = ..., placements: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class GetBondRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetBondResponse(_message.Message):
    __slots__ = ("builder", "bond_wei", "bound_wei", "promise_wei", "made", "open", "due", "kept", "paid", "expired", "lacked_bond", "not_whole", "kept_ns")
    BUILDER_FIELD_NUMBER: _ClassVar[int]
    BOND_WEI_FIELD_NUMBER: _ClassVar[int]
    BOUND_WEI_FIELD_NUMBER: _ClassVar[int]
    PROMISE_WEI_FIELD_NUMBER: _ClassVar[int]
    MADE_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    DUE_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    EXPIRED_FIELD_NUMBER: _ClassVar[int]
    LACKED_BOND_FIELD_NUMBER: _ClassVar[int]
    NOT_WHOLE_FIELD_NUMBER: _ClassVar[int]
    KEPT_NS_FIELD_NUMBER: _ClassVar[int]
    builder: bytes
    bond_wei: bytes
    bound_wei: bytes
    promise_wei: bytes
    made: int
    open: int
    due: int
    kept: int
    paid: int
    expired: int
    lacked_bond: int
    not_whole: int
    kept_ns: int
    def __init__(self, builder: _Optional[bytes] = ..., bond_wei: _Optional[bytes] = ..., bound_wei: _Optional[bytes] = ..., promise_wei: _Optional[bytes] = ..., made: _Optional[int] = ..., open: _Optional[int] = ..., due: _Optional[int] = ..., kept: _Optional[int] = ..., paid: _Optional[int] = ..., expired: _Optional[int] = ..., lacked_bond: _Optional[int] = ..., not_whole: _Optional[int] = ..., kept_ns: _Optional[int] = ...) -> None: ...
