from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("name", "chain_id", "heads", "sequencer_height", "pending_transactions", "transactions", "rpc_url", "stalled")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCER_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PENDING_TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    RPC_URL_FIELD_NUMBER: _ClassVar[int]
    STALLED_FIELD_NUMBER: _ClassVar[int]
    name: str
    chain_id: int
    heads: Heads
    sequencer_height: int
    pending_transactions: int
    transactions: int
    rpc_url: str
    stalled: str
    def __init__(self, name: _Optional[str] = ..., chain_id: _Optional[int] = ..., heads: _Optional[_Union[Heads, _Mapping]] = ..., sequencer_height: _Optional[int] = ..., pending_transactions: _Optional[int] = ..., transactions: _Optional[int] = ..., rpc_url: _Optional[str] = ..., stalled: _Optional[str] = ...) -> None: ...

class FollowHeadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Heads(_message.Message):
    __slots__ = ("height", "latest", "safe", "finalized")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    SAFE_FIELD_NUMBER: _ClassVar[int]
    FINALIZED_FIELD_NUMBER: _ClassVar[int]
    height: int
    latest: BlockHead
    safe: BlockHead
    finalized: BlockHead
    def __init__(self, height: _Optional[int] = ..., latest: _Optional[_Union[BlockHead, _Mapping]] = ..., safe: _Optional[_Union[BlockHead, _Mapping]] = ..., finalized: _Optional[_Union[BlockHead, _Mapping]] = ...) -> None: ...

class BlockHead(_message.Message):
    __slots__ = ("number", "hash")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    number: int
    hash: bytes
    def __init__(self, number: _Optional[int] = ..., hash: _Optional[bytes] = ...) -> None: ...

class GetBlockHashesRequest(_message.Message):
    __slots__ = ("first_number", "count")
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first_number: int
    count: int
    def __init__(self, first_number: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class GetBlockHashesResponse(_message.Message):
    __slots__ = ("first_number", "hashes")
    FIRST_NUMBER_FIELD_NUMBER: _ClassVar[int]
    HASHES_FIELD_NUMBER: _ClassVar[int]
    first_number: int
    hashes: bytes
    def __init__(self, first_number: _Optional[int] = ..., hashes: _Optional[bytes] = ...) -> None: ...

class GetBundleRequest(_message.Message):
    __slots__ = ("bundle_hash",)
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    bundle_hash: bytes
    def __init__(self, bundle_hash: _Optional[bytes] = ...) -> None: ...

class GetBundleResponse(_message.Message):
    __slots__ = ("legs",)
    LEGS_FIELD_NUMBER: _ClassVar[int]
    legs: _containers.RepeatedCompositeFieldContainer[LegFate]
    def __init__(self, legs: _Optional[_Iterable[_Union[LegFate, _Mapping]]] = ...) -> None: ...

class LegFate(_message.Message):
    __slots__ = ("leg_index", "height", "tx_hash", "fate", "reason", "block_number")
    LEG_INDEX_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    TX_HASH_FIELD_NUMBER: _ClassVar[int]
    FATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BLOCK_NUMBER_FIELD_NUMBER: _ClassVar[int]
    leg_index: int
    height: int
    tx_hash: bytes
    fate: str
    reason: str
    block_number: int
    def __init__(self, leg_index: _Optional[int] = ..., height: _Optional[int] = ..., tx_hash: _Optional[bytes] = ..., fate: _Optional[str] = ..., reason: _Optional[str] = ..., block_number: _Optional[int] = ...) -> None: ...

class GetOutcomeProofRequest(_message.Message):
    __slots__ = ("bundle_hash", "leg_index")
    BUNDLE_HASH_FIELD_NUMBER: _ClassVar[int]
    LEG_INDEX_FIELD_NUMBER: _ClassVar[int]
    bundle_hash: bytes
    leg_index: int
    def __init__(self, bundle_hash: _Optional[bytes] = ..., leg_index: _Optional[int] = ...) -> None: ...

class GetOutcomeProofResponse(_message.Message):
    __slots__ = ("proofs",)
    PROOFS_FIELD_NUMBER: _ClassVar[int]
    proofs: _containers.RepeatedCompositeFieldContainer[OutcomeProof]
    def __init__(self, proofs: _Optional[_Iterable[_Union[OutcomeProof, _Mapping]]] = ...) -> None: ...

class OutcomeProof(_message.Message):
    __slots__ = ("height", "status", "position", "siblings", "first_height", "last_height")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    FIRST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LAST_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    height: int
    status: int
    position: int
    siblings: _containers.RepeatedScalarFieldContainer[bytes]
    first_height: int
    last_height: int
    def __init__(self, height: _Optional[int] = ..., status: _Optional[int] = ..., position: _Optional[int] = ..., siblings: _Optional[_Iterable[bytes]] = ..., first_height: _Optional[int] = ..., last_height: _Optional[int] = ...) -> None: ...
