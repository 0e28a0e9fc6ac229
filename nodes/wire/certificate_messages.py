"""Certificates, claims and headers as AggLayer's messages, and the bytes of a stored certificate.

Shapes are checked here, with the rules of AggLayer's own conversion: lengths, presence, exactly 32 siblings, canonical
global indexes, metadata only beside a single signature. Whether a certificate is right is for `nodes.agglayer`.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from nodes.model.agglayer import (
    SIGNATURE_BYTES,
    AggchainData,
    BridgeExit,
    Certificate,
    CertificateHeight,
    Claim,
    EcdsaSignature,
    GlobalIndex,
    ImportedBridgeExit,
    L1InfoLeaf,
    LeafType,
    MainnetClaim,
    MerkleProof,
    Multisig,
    NetworkId,
    RollupClaim,
    TokenInfo,
)
from nodes.model.errors import CertificateRefused, RefusalKind
from nodes.model.ids import HASH_BYTES, ZERO_HASH, Address
from nodes.model.proof_errors import InvalidGlobalIndex
from nodes.rules.exit_tree import EXIT_TREE_DEPTH, global_index_from_int, global_index_to_int
from nodes.wire.shapes import parse
from protos.agglayer.interop.types.v1 import interop_pb2 as interop
from protos.agglayer.node.types.v1 import node_types_pb2 as node_types

MAX_SIGNER_INDEX = 1_023
_ADDRESS_BYTES = 20
_KEPT_PROOFS = 4_096
_LEAF_TYPES = {int(kind) + 1: kind for kind in LeafType}


def certificate_to_proto(certificate: Certificate) -> node_types.Certificate:
    """The message. Raises CertificateRefused for metadata beside a committee's signatures, which it cannot carry."""
    message = node_types.Certificate(
        network_id=certificate.network_id,
        height=certificate.height,
        prev_local_exit_root=_hash_message(certificate.prev_local_exit_root),
        new_local_exit_root=_hash_message(certificate.new_local_exit_root),
        bridge_exits=map(_exit_to_proto, certificate.bridge_exits),
        imported_bridge_exits=map(_import_to_proto, certificate.imported_bridge_exits),
        aggchain_data=_aggchain_to_proto(certificate.aggchain_data),
        custom_chain_data=certificate.custom_chain_data,
        l1_info_tree_leaf_count=certificate.l1_info_tree_leaf_count,
    )
    if isinstance(certificate.aggchain_data, EcdsaSignature):
        message.metadata.value = certificate.metadata
    elif certificate.metadata != ZERO_HASH:
        raise _refused("metadata", "is set beside a committee's signatures; only a single signature allows it")
    return message


def certificate_from_proto(message: node_types.Certificate) -> Certificate:
    """The certificate. Raises CertificateRefused naming the field that is missing or wrong."""
    aggchain_data = _aggchain_from_proto(_present(message, "aggchain_data", "certificate"))
    metadata = ZERO_HASH
    if message.HasField("metadata"):
        if isinstance(aggchain_data, Multisig):
            raise _refused("metadata", "is set beside a committee's signatures; leave it out")
        metadata = _bytes_of(message, "metadata", "certificate")
    return Certificate(
        network_id=NetworkId(message.network_id),
        height=CertificateHeight(message.height),
        prev_local_exit_root=_bytes_of(message, "prev_local_exit_root", "certificate"),
        new_local_exit_root=_bytes_of(message, "new_local_exit_root", "certificate"),
        bridge_exits=tuple(
            [_exit_from_proto(entry, f"bridge_exits[{at}]") for at, entry in enumerate(message.bridge_exits)]
        ),
        imported_bridge_exits=tuple(
            [
                _import_from_proto(entry, f"imported_bridge_exits[{at}]")
                for at, entry in enumerate(message.imported_bridge_exits)
            ]
        ),
        metadata=metadata,
        aggchain_data=aggchain_data,
        custom_chain_data=message.custom_chain_data,
        l1_info_tree_leaf_count=(
            message.l1_info_tree_leaf_count if message.HasField("l1_info_tree_leaf_count") else None
        ),
    )


def certificate_to_bytes(certificate: Certificate) -> bytes:
    """What a store keeps."""
    return certificate_to_proto(certificate).SerializeToString()


def certificate_from_bytes(data: bytes) -> Certificate:
    """The inverse. Raises InvalidInput."""
    return certificate_from_proto(parse(node_types.Certificate, data))


def global_index_to_bytes(index: GlobalIndex) -> bytes:
    """32 bytes, big-endian."""
    return global_index_to_int(index).to_bytes(HASH_BYTES, "big")


def global_index_from_bytes(data: bytes, where: str = "global_index") -> GlobalIndex:
    """The inverse. Raises CertificateRefused unless it is canonical."""
    if len(data) != HASH_BYTES:
        raise _refused(where, f"has {len(data)} bytes; it must have {HASH_BYTES}")
    try:
        return global_index_from_int(int.from_bytes(data, "big"))
    except InvalidGlobalIndex as error:
        raise _refused(where, str(error)) from None


def mainnet_claim_to_proto(claim: MainnetClaim) -> interop.ClaimFromMainnet:
    """A claim by way of the L1 bridge's exit tree."""
    return interop.ClaimFromMainnet(
        proof_leaf_mer=_proof_to_proto(claim.leaf_to_mer),
        proof_ger_l1root=_proof_to_proto(claim.ger_to_l1_root),
        l1_leaf=_l1_leaf_to_proto(claim.l1_leaf),
    )


def rollup_claim_to_proto(claim: RollupClaim) -> interop.ClaimFromRollup:
    """A claim by way of a rollup's exit tree."""
    return interop.ClaimFromRollup(
        proof_leaf_ler=_proof_to_proto(claim.leaf_to_ler),
        proof_ler_rer=_proof_to_proto(claim.ler_to_rer),
        proof_ger_l1root=_proof_to_proto(claim.ger_to_l1_root),
        l1_leaf=_l1_leaf_to_proto(claim.l1_leaf),
    )


def claim_of_oneof(message: Any, where: str) -> Claim:
    """The claim in a message with the two fields `mainnet` and `rollup`. Raises CertificateRefused."""
    kind = message.WhichOneof("claim")
    if kind == "mainnet":
        mainnet: interop.ClaimFromMainnet = message.mainnet
        return MainnetClaim(
            leaf_to_mer=_proof_from_proto(mainnet, "proof_leaf_mer", where),
            ger_to_l1_root=_proof_from_proto(mainnet, "proof_ger_l1root", where),
            l1_leaf=_l1_leaf_from_proto(mainnet, where),
        )
    if kind == "rollup":
        rollup: interop.ClaimFromRollup = message.rollup
        return RollupClaim(
            leaf_to_ler=_proof_from_proto(rollup, "proof_leaf_ler", where),
            ler_to_rer=_proof_from_proto(rollup, "proof_ler_rer", where),
            ger_to_l1_root=_proof_from_proto(rollup, "proof_ger_l1root", where),
            l1_leaf=_l1_leaf_from_proto(rollup, where),
        )
    raise _missing(f"{where}.claim")


# Exits and imports


def _exit_to_proto(bridge_exit: BridgeExit) -> interop.BridgeExit:
    message = interop.BridgeExit(
        leaf_type=bridge_exit.leaf_type + 1,  # type: ignore[arg-type]  # the stubs ask for their own enum's type
        token_info=interop.TokenInfo(
            origin_network=bridge_exit.token.origin_network,
            origin_token_address=interop.FixedBytes20(value=bridge_exit.token.origin_token_address),
        ),
        dest_network=bridge_exit.dest_network,
        dest_address=interop.FixedBytes20(value=bridge_exit.dest_address),
        amount=_hash_message(bridge_exit.amount.to_bytes(HASH_BYTES, "big")),
    )
    if bridge_exit.metadata_hash is not None:
        message.metadata.value = bridge_exit.metadata_hash
    return message


def _exit_from_proto(message: interop.BridgeExit, where: str) -> BridgeExit:
    if message.leaf_type not in _LEAF_TYPES:
        raise _refused(f"{where}.leaf_type", f"is {message.leaf_type}; it must be 1 (transfer) or 2 (message)")
    token = _present(message, "token_info", where)
    return BridgeExit(
        leaf_type=_LEAF_TYPES[message.leaf_type],
        token=TokenInfo(
            NetworkId(token.origin_network),
            Address(_bytes_of(token, "origin_token_address", f"{where}.token_info", size=_ADDRESS_BYTES)),
        ),
        dest_network=NetworkId(message.dest_network),
        dest_address=Address(_bytes_of(message, "dest_address", where, size=_ADDRESS_BYTES)),
        amount=int.from_bytes(_bytes_of(message, "amount", where), "big"),
        metadata_hash=_bytes_of(message, "metadata", where) if message.HasField("metadata") else None,
    )


def _import_to_proto(imported: ImportedBridgeExit) -> interop.ImportedBridgeExit:
    message = interop.ImportedBridgeExit(
        bridge_exit=_exit_to_proto(imported.bridge_exit),
        global_index=_hash_message(global_index_to_bytes(imported.global_index)),
    )
    if isinstance(imported.claim, MainnetClaim):
        message.mainnet.CopyFrom(mainnet_claim_to_proto(imported.claim))
    else:
        message.rollup.CopyFrom(rollup_claim_to_proto(imported.claim))
    return message


def _import_from_proto(message: interop.ImportedBridgeExit, where: str) -> ImportedBridgeExit:
    return ImportedBridgeExit(
        bridge_exit=_exit_from_proto(_present(message, "bridge_exit", where), f"{where}.bridge_exit"),
        claim=claim_of_oneof(message, where),
        global_index=global_index_from_bytes(_bytes_of(message, "global_index", where), f"{where}.global_index"),
    )


_HASH_FIELD = bytes([0x0A, HASH_BYTES])
"""Key and length of `FixedBytes32.value`."""
_ROOT_FIELD = bytes([0x0A, HASH_BYTES + len(_HASH_FIELD)]) + _HASH_FIELD
_SIBLING_FIELD = bytes([0x12, HASH_BYTES + len(_HASH_FIELD)]) + _HASH_FIELD


def _proof_to_proto(proof: MerkleProof) -> interop.MerkleProof:
    return interop.MerkleProof.FromString(_proof_bytes(proof))


@lru_cache(maxsize=_KEPT_PROOFS)
def _proof_bytes(proof: MerkleProof) -> bytes:
    """The message's bytes, put together by hand: an object for each of 33 hashes takes ten times as long, and a
    certificate of 1,000 imports has 99,000 hashes. Most imports share two of their three proofs.
    """
    if len(proof.root) != HASH_BYTES or any(len(sibling) != HASH_BYTES for sibling in proof.siblings):
        raise _refused("proof", f"must be of hashes of {HASH_BYTES} bytes")
    return _ROOT_FIELD + proof.root + b"".join([_SIBLING_FIELD + sibling for sibling in proof.siblings])


def _proof_from_proto(holder: Any, field: str, where: str) -> MerkleProof:
    message: interop.MerkleProof = _present(holder, field, where)
    siblings = tuple([sibling.value for sibling in message.siblings])
    if len(siblings) != EXIT_TREE_DEPTH or any(len(sibling) != HASH_BYTES for sibling in siblings):
        raise _refused(f"{where}.{field}", f"must have {EXIT_TREE_DEPTH} siblings of {HASH_BYTES} bytes")
    return MerkleProof(_bytes_of(message, "root", f"{where}.{field}"), siblings)


def _l1_leaf_to_proto(leaf: L1InfoLeaf) -> interop.L1InfoTreeLeafWithContext:
    return interop.L1InfoTreeLeafWithContext(
        l1_info_tree_index=leaf.l1_info_tree_index,
        rer=_hash_message(leaf.rollup_exit_root),
        mer=_hash_message(leaf.mainnet_exit_root),
        inner=interop.L1InfoTreeLeaf(
            global_exit_root=_hash_message(leaf.global_exit_root),
            block_hash=_hash_message(leaf.block_hash),
            timestamp=leaf.timestamp_s,
        ),
    )


def _l1_leaf_from_proto(holder: Any, where: str) -> L1InfoLeaf:
    message: interop.L1InfoTreeLeafWithContext = _present(holder, "l1_leaf", where)
    where = f"{where}.l1_leaf"
    inner = _present(message, "inner", where)
    return L1InfoLeaf(
        l1_info_tree_index=message.l1_info_tree_index,
        rollup_exit_root=_bytes_of(message, "rer", where),
        mainnet_exit_root=_bytes_of(message, "mer", where),
        global_exit_root=_bytes_of(inner, "global_exit_root", where),
        block_hash=_bytes_of(inner, "block_hash", where),
        timestamp_s=inner.timestamp,
    )


# Signatures


def _aggchain_to_proto(data: AggchainData) -> interop.AggchainData:
    if isinstance(data, EcdsaSignature):
        return interop.AggchainData(signature=interop.FixedBytes65(value=data.signature))
    entries = [
        interop.ECDSAMultisigEntry(index=index, signature=interop.FixedBytes65(value=signature))
        for index, signature in enumerate(data.signatures)
        if signature is not None
    ]
    return interop.AggchainData(multisig=interop.Multisig(ecdsa=interop.ECDSAMultisig(entries=entries)))


def _aggchain_from_proto(message: interop.AggchainData) -> AggchainData:
    kind = message.WhichOneof("data")
    if kind is None:
        raise _missing("aggchain_data.data")
    if kind == "signature":
        return EcdsaSignature(signature=_bytes_of(message, "signature", "aggchain_data", size=SIGNATURE_BYTES))
    if kind != "multisig":
        raise CertificateRefused(
            f"aggchain_data holds an aggchain proof ({kind}); networks here are authorized by signatures alone",
            kind=RefusalKind.UNSUPPORTED_PROOF_VERSION,
        )
    if message.multisig.WhichOneof("data") != "ecdsa":
        raise _missing("aggchain_data.multisig.ecdsa")
    return Multisig(signatures=_positional(message.multisig.ecdsa.entries))


def _positional(entries: Iterable[interop.ECDSAMultisigEntry]) -> tuple[bytes | None, ...]:
    signatures: dict[int, bytes] = {}
    for entry in entries:
        where = "aggchain_data.multisig.ecdsa"
        if entry.index > MAX_SIGNER_INDEX:
            raise _refused(where, f"has a signature of signer {entry.index}; {MAX_SIGNER_INDEX} is the highest")
        if entry.index in signatures:
            raise _refused(where, f"has two signatures of signer {entry.index}")
        signatures[entry.index] = _bytes_of(entry, "signature", where, size=SIGNATURE_BYTES)
    if not signatures:
        raise _refused("aggchain_data.multisig.ecdsa", "has no signature")
    return tuple([signatures.get(index) for index in range(max(signatures) + 1)])


# Parts


def _hash_message(value: bytes) -> interop.FixedBytes32:
    return interop.FixedBytes32(value=value)


def _present(message: Any, field: str, where: str) -> Any:
    if not message.HasField(field):
        raise _missing(f"{where}.{field}")
    return getattr(message, field)


def _bytes_of(message: Any, field: str, where: str, *, size: int = HASH_BYTES) -> bytes:
    if not message.HasField(field):
        raise _missing(f"{where}.{field}")
    value: bytes = getattr(message, field).value
    if len(value) != size:
        raise _refused(f"{where}.{field}", f"has {len(value)} bytes; it must have {size}")
    return value


def _missing(field: str) -> CertificateRefused:
    return CertificateRefused(f"{field} is missing", kind=RefusalKind.MISSING_FIELD)


def _refused(field: str, problem: str) -> CertificateRefused:
    return CertificateRefused(f"{field} {problem}", kind=RefusalKind.INVALID_DATA)
