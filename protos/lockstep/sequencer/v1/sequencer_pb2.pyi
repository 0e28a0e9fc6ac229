from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Commitment(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    COMMITMENT_UNSPECIFIED: _ClassVar[Commitment]
    COMMITMENT_SOFT: _ClassVar[Commitment]
    COMMITMENT_FIRM: _ClassVar[Commitment]
    COMMITMENT_FINAL: _ClassVar[Commitment]
COMMITMENT_UNSPECIFIED: Commitment
COMMITMENT_SOFT: Commitment
COMMITMENT_FIRM: Commitment
COMMITMENT_FINAL: Commitment

class Bundle(_message.Message):
    __slots__ = ("version", "expiry", "legs")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    version: int
    expiry: int
    legs: _containers.RepeatedCompositeFieldContainer[Leg]
    def __init__(self, version: _Optional[int] = ..., expiry: _Optional[int] = ..., legs: _Optional[_Iterable[_Union[Leg, _Mapping]]] = ...) -> None: ...

class Leg(_message.Message):
    __slots__ = ("rollup_id", "payload", "leg_hash")
    ROLLUP_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    LEG_HASH_FIELD_NUMBER: _ClassVar[int]
    rollup_id: bytes
    payload: bytes
    leg_hash: bytes
    def __init__(self, rollup_id: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., leg_hash: _Optional[bytes] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("bundles",)
    BUNDLES_FIELD_NUMBER: _ClassVar[int]
    bundles: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, bundles: _Optional[_Iterable[bytes]] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("tickets", "retry_after_ms")
    TICKETS_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_MS_FIELD_NUMBER: _ClassVar[int]
    tickets: _containers.RepeatedCompositeFieldContainer[Ticket]
    retry_after_ms: int
    def __init__(self, tickets: _Optional[_Iterable[_Union[Ticket, _Mapping]]] = ..., retry_after_ms: _Optional[int] = ...) -> None: ...

class Ticket(_message.Message):
    __slots__ = ("submission_hash", "outcome", "reason")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[Ticket.Outcome]
        OUTCOME_ACCEPTED: _ClassVar[Ticket.Outcome]
        OUTCOME_DUPLICATE: _ClassVar[Ticket.Outcome]
        OUTCOME_REFUSED: _ClassVar[Ticket.Outcome]
    OUTCOME_UNSPECIFIED: Ticket.Outcome
    OUTCOME_ACCEPTED: Ticket.Outcome
    OUTCOME_DUPLICATE: Ticket.Outcome
    OUTCOME_REFUSED: Ticket.Outcome
    SUBMISSION_HASH_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    submission_hash: bytes
    outcome: Ticket.Outcome
    reason: str
    def __init__(self, submission_hash: _Optional[bytes] = ..., outcome: _Optional[_Union[Ticket.Outcome, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class BlockRef(_message.Message):
    __slots__ = ("height", "hash")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    height: int
    hash: bytes
    def __init__(self, height: _Optional[int] = ..., hash: _Optional[bytes] = ...) -> None: ...

class FollowRequest(_message.Message):
    __slots__ = ("locator", "rollup_id")
    LOCATOR_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_ID_FIELD_NUMBER: _ClassVar[int]
    locator: _containers.RepeatedCompositeFieldContainer[BlockRef]
    rollup_id: bytes
    def __init__(self, locator: _Optional[_Iterable[_Union[BlockRef, _Mapping]]] = ..., rollup_id: _Optional[bytes] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("block", "commitment_raised", "rolled_back")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_RAISED_FIELD_NUMBER: _ClassVar[int]
    ROLLED_BACK_FIELD_NUMBER: _ClassVar[int]
    block: FilteredBlock
    commitment_raised: CommitmentRaised
    rolled_back: RolledBack
    def __init__(self, block: _Optional[_Union[FilteredBlock, _Mapping]] = ..., commitment_raised: _Optional[_Union[CommitmentRaised, _Mapping]] = ..., rolled_back: _Optional[_Union[RolledBack, _Mapping]] = ...) -> None: ...

class CommitmentRaised(_message.Message):
    __slots__ = ("height", "level")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    height: int
    level: Commitment
    def __init__(self, height: _Optional[int] = ..., level: _Optional[_Union[Commitment, str]] = ...) -> None: ...

class RolledBack(_message.Message):
    __slots__ = ("to",)
    TO_FIELD_NUMBER: _ClassVar[int]
    to: BlockRef
    def __init__(self, to: _Optional[_Union[BlockRef, _Mapping]] = ...) -> None: ...

class FilteredBlock(_message.Message):
    __slots__ = ("header", "rollup_id", "rollup_ids", "payloads", "rows", "leaf_path", "siblings", "finality_proof", "commitment")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_ID_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_IDS_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    LEAF_PATH_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    FINALITY_PROOF_FIELD_NUMBER: _ClassVar[int]
    COMMITMENT_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    rollup_id: bytes
    rollup_ids: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    leaf_path: bytes
    siblings: _containers.RepeatedCompositeFieldContainer[Sibling]
    finality_proof: bytes
    commitment: Commitment
    def __init__(self, header: _Optional[bytes] = ..., rollup_id: _Optional[bytes] = ..., rollup_ids: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ..., rows: _Optional[_Iterable[bytes]] = ..., leaf_path: _Optional[bytes] = ..., siblings: _Optional[_Iterable[_Union[Sibling, _Mapping]]] = ..., finality_proof: _Optional[bytes] = ..., commitment: _Optional[_Union[Commitment, str]] = ...) -> None: ...

class Sibling(_message.Message):
    __slots__ = ("rollup_id", "leaf_path", "payload_count", "payloads_root", "row_count", "rows_root", "payloads", "rows")
    ROLLUP_ID_FIELD_NUMBER: _ClassVar[int]
    LEAF_PATH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_COUNT_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_ROOT_FIELD_NUMBER: _ClassVar[int]
    ROW_COUNT_FIELD_NUMBER: _ClassVar[int]
    ROWS_ROOT_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rollup_id: bytes
    leaf_path: bytes
    payload_count: int
    payloads_root: bytes
    row_count: int
    rows_root: bytes
    payloads: ProvenItems
    rows: ProvenItems
    def __init__(self, rollup_id: _Optional[bytes] = ..., leaf_path: _Optional[bytes] = ..., payload_count: _Optional[int] = ..., payloads_root: _Optional[bytes] = ..., row_count: _Optional[int] = ..., rows_root: _Optional[bytes] = ..., payloads: _Optional[_Union[ProvenItems, _Mapping]] = ..., rows: _Optional[_Union[ProvenItems, _Mapping]] = ...) -> None: ...

class ProvenItems(_message.Message):
    __slots__ = ("positions", "values", "proof")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedScalarFieldContainer[int]
    values: _containers.RepeatedScalarFieldContainer[bytes]
    proof: bytes
    def __init__(self, positions: _Optional[_Iterable[int]] = ..., values: _Optional[_Iterable[bytes]] = ..., proof: _Optional[bytes] = ...) -> None: ...

class StoredBlock(_message.Message):
    __slots__ = ("header", "contents", "finality_proof")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    FINALITY_PROOF_FIELD_NUMBER: _ClassVar[int]
    header: bytes
    contents: _containers.RepeatedCompositeFieldContainer[StoredContent]
    finality_proof: bytes
    def __init__(self, header: _Optional[bytes] = ..., contents: _Optional[_Iterable[_Union[StoredContent, _Mapping]]] = ..., finality_proof: _Optional[bytes] = ...) -> None: ...

class StoredContent(_message.Message):
    __slots__ = ("rollup_id", "payloads", "rows")
    ROLLUP_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rollup_id: bytes
    payloads: _containers.RepeatedScalarFieldContainer[bytes]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, rollup_id: _Optional[bytes] = ..., payloads: _Optional[_Iterable[bytes]] = ..., rows: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("backend", "head", "firm_height", "pending_bundles", "pending_bytes", "rollup_ids", "block_interval_ms", "block_bytes_max", "costs")
    class CostsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    FIRM_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PENDING_BUNDLES_FIELD_NUMBER: _ClassVar[int]
    PENDING_BYTES_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_IDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_BYTES_MAX_FIELD_NUMBER: _ClassVar[int]
    COSTS_FIELD_NUMBER: _ClassVar[int]
    backend: str
    head: BlockRef
    firm_height: int
    pending_bundles: int
    pending_bytes: int
    rollup_ids: _containers.RepeatedScalarFieldContainer[bytes]
    block_interval_ms: int
    block_bytes_max: int
    costs: _containers.ScalarMap[str, int]
    def __init__(self, backend: _Optional[str] = ..., head: _Optional[_Union[BlockRef, _Mapping]] = ..., firm_height: _Optional[int] = ..., pending_bundles: _Optional[int] = ..., pending_bytes: _Optional[int] = ..., rollup_ids: _Optional[_Iterable[bytes]] = ..., block_interval_ms: _Optional[int] = ..., block_bytes_max: _Optional[int] = ..., costs: _Optional[_Mapping[str, int]] = ...) -> None: ...
