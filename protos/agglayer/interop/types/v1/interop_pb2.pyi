from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LeafType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEAF_TYPE_UNSPECIFIED: _ClassVar[LeafType]
    LEAF_TYPE_TRANSFER: _ClassVar[LeafType]
    LEAF_TYPE_MESSAGE: _ClassVar[LeafType]
LEAF_TYPE_UNSPECIFIED: LeafType
LEAF_TYPE_TRANSFER: LeafType
LEAF_TYPE_MESSAGE: LeafType

class FixedBytes20(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class FixedBytes32(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class FixedBytes65(_message.Message):
    __slots__ = ("value",)
    VALUE_FIELD_NUMBER: _ClassVar[int]
    value: bytes
    def __init__(self, value: _Optional[bytes] = ...) -> None: ...

class TokenInfo(_message.Message):
    __slots__ = ("origin_network", "origin_token_address")
    ORIGIN_NETWORK_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_TOKEN_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    origin_network: int
    origin_token_address: FixedBytes20
    def __init__(self, origin_network: _Optional[int] = ..., origin_token_address: _Optional[_Union[FixedBytes20, _Mapping]] = ...) -> None: ...

class BridgeExit(_message.Message):
    __slots__ = ("leaf_type", "token_info", "dest_network", "dest_address", "amount", "metadata")
    LEAF_TYPE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_INFO_FIELD_NUMBER: _ClassVar[int]
    DEST_NETWORK_FIELD_NUMBER: _ClassVar[int]
    DEST_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    leaf_type: LeafType
    token_info: TokenInfo
    dest_network: int
    dest_address: FixedBytes20
    amount: FixedBytes32
    metadata: FixedBytes32
    def __init__(self, leaf_type: _Optional[_Union[LeafType, str]] = ..., token_info: _Optional[_Union[TokenInfo, _Mapping]] = ..., dest_network: _Optional[int] = ..., dest_address: _Optional[_Union[FixedBytes20, _Mapping]] = ..., amount: _Optional[_Union[FixedBytes32, _Mapping]] = ..., metadata: _Optional[_Union[FixedBytes32, _Mapping]] = ...) -> None: ...

class MerkleProof(_message.Message):
    __slots__ = ("root", "siblings")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    SIBLINGS_FIELD_NUMBER: _ClassVar[int]
    root: FixedBytes32
    siblings: _containers.RepeatedCompositeFieldContainer[FixedBytes32]
    def __init__(self, root: _Optional[_Union[FixedBytes32, _Mapping]] = ..., siblings: _Optional[_Iterable[_Union[FixedBytes32, _Mapping]]] = ...) -> None: ...

class L1InfoTreeLeaf(_message.Message):
    __slots__ = ("global_exit_root", "block_hash", "timestamp")
    GLOBAL_EXIT_ROOT_FIELD_NUMBER: _ClassVar[int]
    BLOCK_HASH_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    global_exit_root: FixedBytes32
    block_hash: FixedBytes32
    timestamp: int
    def __init__(self, global_exit_root: _Optional[_Union[FixedBytes32, _Mapping]] = ..., block_hash: _Optional[_Union[FixedBytes32, _Mapping]] = ..., timestamp: _Optional[int] = ...) -> None: ...

class L1InfoTreeLeafWithContext(_message.Message):
    __slots__ = ("l1_info_tree_index", "rer", "mer", "inner")
    L1_INFO_TREE_INDEX_FIELD_NUMBER: _ClassVar[int]
    RER_FIELD_NUMBER: _ClassVar[int]
    MER_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    l1_info_tree_index: int
    rer: FixedBytes32
    mer: FixedBytes32
    inner: L1InfoTreeLeaf
    def __init__(self, l1_info_tree_index: _Optional[int] = ..., rer: _Optional[_Union[FixedBytes32, _Mapping]] = ..., mer: _Optional[_Union[FixedBytes32, _Mapping]] = ..., inner: _Optional[_Union[L1InfoTreeLeaf, _Mapping]] = ...) -> None: ...

class ClaimFromMainnet(_message.Message):
    __slots__ = ("proof_leaf_mer", "proof_ger_l1root", "l1_leaf")
    PROOF_LEAF_MER_FIELD_NUMBER: _ClassVar[int]
    PROOF_GER_L1ROOT_FIELD_NUMBER: _ClassVar[int]
    L1_LEAF_FIELD_NUMBER: _ClassVar[int]
    proof_leaf_mer: MerkleProof
    proof_ger_l1root: MerkleProof
    l1_leaf: L1InfoTreeLeafWithContext
    def __init__(self, proof_leaf_mer: _Optional[_Union[MerkleProof, _Mapping]] = ..., proof_ger_l1root: _Optional[_Union[MerkleProof, _Mapping]] = ..., l1_leaf: _Optional[_Union[L1InfoTreeLeafWithContext, _Mapping]] = ...) -> None: ...

class ClaimFromRollup(_message.Message):
    __slots__ = ("proof_leaf_ler", "proof_ler_rer", "proof_ger_l1root", "l1_leaf")
    PROOF_LEAF_LER_FIELD_NUMBER: _ClassVar[int]
    PROOF_LER_RER_FIELD_NUMBER: _ClassVar[int]
    PROOF_GER_L1ROOT_FIELD_NUMBER: _ClassVar[int]
    L1_LEAF_FIELD_NUMBER: _ClassVar[int]
    proof_leaf_ler: MerkleProof
    proof_ler_rer: MerkleProof
    proof_ger_l1root: MerkleProof
    l1_leaf: L1InfoTreeLeafWithContext
    def __init__(self, proof_leaf_ler: _Optional[_Union[MerkleProof, _Mapping]] = ..., proof_ler_rer: _Optional[_Union[MerkleProof, _Mapping]] = ..., proof_ger_l1root: _Optional[_Union[MerkleProof, _Mapping]] = ..., l1_leaf: _Optional[_Union[L1InfoTreeLeafWithContext, _Mapping]] = ...) -> None: ...

class ImportedBridgeExit(_message.Message):
    __slots__ = ("bridge_exit", "global_index", "mainnet", "rollup")
    BRIDGE_EXIT_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_INDEX_FIELD_NUMBER: _ClassVar[int]
    MAINNET_FIELD_NUMBER: _ClassVar[int]
    ROLLUP_FIELD_NUMBER: _ClassVar[int]
    bridge_exit: BridgeExit
    global_index: FixedBytes32
    mainnet: ClaimFromMainnet
    rollup: ClaimFromRollup
    def __init__(self, bridge_exit: _Optional[_Union[BridgeExit, _Mapping]] = ..., global_index: _Optional[_Union[FixedBytes32, _Mapping]] = ..., mainnet: _Optional[_Union[ClaimFromMainnet, _Mapping]] = ..., rollup: _Optional[_Union[ClaimFromRollup, _Mapping]] = ...) -> None: ...

class ECDSAMultisigEntry(_message.Message):
    __slots__ = ("index", "signature")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    index: int
    signature: FixedBytes65
    def __init__(self, index: _Optional[int] = ..., signature: _Optional[_Union[FixedBytes65, _Mapping]] = ...) -> None: ...

class ECDSAMultisig(_message.Message):
    __slots__ = ("entries",)
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[ECDSAMultisigEntry]
    def __init__(self, entries: _Optional[_Iterable[_Union[ECDSAMultisigEntry, _Mapping]]] = ...) -> None: ...

class Multisig(_message.Message):
    __slots__ = ("ecdsa",)
    ECDSA_FIELD_NUMBER: _ClassVar[int]
    ecdsa: ECDSAMultisig
    def __init__(self, ecdsa: _Optional[_Union[ECDSAMultisig, _Mapping]] = ...) -> None: ...

class SP1StarkProof(_message.Message):
    __slots__ = ("version", "proof", "vkey")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    VKEY_FIELD_NUMBER: _ClassVar[int]
    version: str
    proof: bytes
    vkey: bytes
    def __init__(self, version: _Optional[str] = ..., proof: _Optional[bytes] = ..., vkey: _Optional[bytes] = ...) -> None: ...

class AggchainProof(_message.Message):
    __slots__ = ("aggchain_params", "signature", "context", "sp1_stark")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: bytes
        def __init__(self, key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...
    AGGCHAIN_PARAMS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SP1_STARK_FIELD_NUMBER: _ClassVar[int]
    aggchain_params: FixedBytes32
    signature: FixedBytes65
    context: _containers.ScalarMap[str, bytes]
    sp1_stark: SP1StarkProof
    def __init__(self, aggchain_params: _Optional[_Union[FixedBytes32, _Mapping]] = ..., signature: _Optional[_Union[FixedBytes65, _Mapping]] = ..., context: _Optional[_Mapping[str, bytes]] = ..., sp1_stark: _Optional[_Union[SP1StarkProof, _Mapping]] = ...) -> None: ...

class AggchainProofWithMultisig(_message.Message):
    __slots__ = ("multisig", "aggchain_proof")
    MULTISIG_FIELD_NUMBER: _ClassVar[int]
    AGGCHAIN_PROOF_FIELD_NUMBER: _ClassVar[int]
    multisig: Multisig
    aggchain_proof: AggchainProof
    def __init__(self, multisig: _Optional[_Union[Multisig, _Mapping]] = ..., aggchain_proof: _Optional[_Union[AggchainProof, _Mapping]] = ...) -> None: ...

class AggchainData(_message.Message):
    __slots__ = ("signature", "generic", "multisig", "multisig_and_aggchain_proof")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    GENERIC_FIELD_NUMBER: _ClassVar[int]
    MULTISIG_FIELD_NUMBER: _ClassVar[int]
    MULTISIG_AND_AGGCHAIN_PROOF_FIELD_NUMBER: _ClassVar[int]
    signature: FixedBytes65
    generic: AggchainProof
    multisig: Multisig
    multisig_and_aggchain_proof: AggchainProofWithMultisig
    def __init__(self, signature: _Optional[_Union[FixedBytes65, _Mapping]] = ..., generic: _Optional[_Union[AggchainProof, _Mapping]] = ..., multisig: _Optional[_Union[Multisig, _Mapping]] = ..., multisig_and_aggchain_proof: _Optional[_Union[AggchainProofWithMultisig, _Mapping]] = ...) -> None: ...
