"""One value, or several, for every message of AggLayer's own services and of ours beside them."""

from google.protobuf.message import Message

from nodes.model.agglayer import BridgeExit as Exit
from nodes.model.agglayer import (
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
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
    SettledRange,
    TokenInfo,
)
from nodes.model.certificates import EpochConfiguration, ProvingStatus
from nodes.model.ids import Address, Height
from nodes.ports import ClaimProofs, NetworkProgress
from nodes.wire import certificate_messages, certificate_states


def filled(byte: int, size: int = 32) -> bytes:
    """`size` equal bytes."""
    return bytes([byte]) * size


def merkle_proof(byte: int) -> MerkleProof:
    """A proof that proves nothing."""
    return MerkleProof(filled(byte), tuple(filled(byte ^ height) for height in range(32)))


TRANSFER = Exit(
    leaf_type=LeafType.TRANSFER,
    token=TokenInfo(NetworkId(0), Address(filled(0x11, 20))),
    dest_network=NetworkId(2),
    dest_address=Address(filled(0x22, 20)),
    amount=10**18,
    metadata_hash=None,
)
MESSAGE = Exit(
    leaf_type=LeafType.MESSAGE,
    token=TokenInfo(NetworkId(1), Address(filled(0x12, 20))),
    dest_network=NetworkId(0),
    dest_address=Address(filled(0x23, 20)),
    amount=2**256 - 1,
    metadata_hash=filled(0x33),
)
L1_LEAF = L1InfoLeaf(
    l1_info_tree_index=5,
    rollup_exit_root=filled(0x41),
    mainnet_exit_root=filled(0x42),
    global_exit_root=filled(0x43),
    block_hash=filled(0x44),
    timestamp_s=1_700_000_000,
)
MAINNET_CLAIM = MainnetClaim(leaf_to_mer=merkle_proof(0x51), ger_to_l1_root=merkle_proof(0x52), l1_leaf=L1_LEAF)
ROLLUP_CLAIM = RollupClaim(
    leaf_to_ler=merkle_proof(0x53),
    ler_to_rer=merkle_proof(0x54),
    ger_to_l1_root=merkle_proof(0x55),
    l1_leaf=L1_LEAF,
)
CERTIFICATE = Certificate(
    network_id=NetworkId(1),
    height=CertificateHeight(7),
    prev_local_exit_root=filled(0x61),
    new_local_exit_root=filled(0x62),
    bridge_exits=(TRANSFER, MESSAGE),
    imported_bridge_exits=(
        ImportedBridgeExit(bridge_exit=TRANSFER, claim=MAINNET_CLAIM, global_index=GlobalIndex(True, 0, 9)),
        ImportedBridgeExit(bridge_exit=MESSAGE, claim=ROLLUP_CLAIM, global_index=GlobalIndex(False, 1, 3)),
    ),
    aggchain_data=Multisig(signatures=(filled(0x71, 65), None, filled(0x72, 65))),
    custom_chain_data=b"chain data",
    l1_info_tree_leaf_count=6,
)
SINGLE = Certificate(
    network_id=NetworkId(2),
    height=CertificateHeight(0),
    prev_local_exit_root=filled(0x61),
    new_local_exit_root=filled(0x61),
    bridge_exits=(),
    imported_bridge_exits=(),
    metadata=filled(0x63),
    aggchain_data=EcdsaSignature(signature=filled(0x73, 65)),
)
SETTLED = CertificateHeader(
    network_id=NetworkId(1),
    height=CertificateHeight(6),
    certificate_id=CertificateId(filled(0x81)),
    prev_local_exit_root=filled(0x82),
    new_local_exit_root=filled(0x83),
    metadata=filled(0x84),
    status=CertificateStatus.SETTLED,
    epoch_number=12,
    certificate_index=1,
    settlement_tx_hash=filled(0x85),
)
FAILED = CertificateHeader(
    network_id=NetworkId(1),
    height=CertificateHeight(7),
    certificate_id=CertificateId(filled(0x86)),
    prev_local_exit_root=filled(0x83),
    new_local_exit_root=filled(0x87),
    metadata=bytes(32),
    status=CertificateStatus.IN_ERROR,
    error="BalanceUnderflow: too much",
)
RANGE = SettledRange(
    first_height=Height(10),
    last_height=Height(20),
    last_block_hash=filled(0x91),
    outcome_root=filled(0x92),
    verdict_root=filled(0x93),
)
PROGRESS = NetworkProgress(
    latest=FAILED,
    settled=SETTLED,
    settled_leaf_count=40,
    settled_range=RANGE,
    final_height=9,
    l1_info_tree_leaf_count=6,
)
NO_PROGRESS = NetworkProgress(
    latest=None, settled=None, settled_leaf_count=0, settled_range=None, final_height=0, l1_info_tree_leaf_count=0
)
PROOFS = ClaimProofs(
    l1_info_tree_leaf_count=6,
    claims={GlobalIndex(True, 0, 9): MAINNET_CLAIM, GlobalIndex(False, 1, 3): ROLLUP_CLAIM},
)
EPOCHS = EpochConfiguration(genesis_block=3, epoch_duration_blocks=6)
PROVING = ProvingStatus(
    prover="attested",
    description="attested: not a ZK proof",
    batch_id=4,
    certificates=3,
    done=2,
    total=5,
    step="program",
)


def messages() -> dict[str, Message]:
    """Golden messages by name."""
    return {
        "agglayer.node.types.v1.Certificate": certificate_messages.certificate_to_proto(CERTIFICATE),
        "agglayer.node.types.v1.Certificate-single": certificate_messages.certificate_to_proto(SINGLE),
        "agglayer.node.types.v1.CertificateHeader": certificate_states.header_to_proto(SETTLED),
        "agglayer.node.types.v1.CertificateHeader-error": certificate_states.header_to_proto(FAILED),
        "agglayer.node.types.v1.EpochConfiguration": certificate_states.epoch_configuration_to_proto(EPOCHS),
        "lockstep.agglayer.v1.GetClaimProofsResponse": certificate_states.claim_proofs_to_proto(PROOFS),
        "lockstep.agglayer.v1.NetworkProgress": certificate_states.progress_to_proto(PROGRESS),
        "lockstep.agglayer.v1.GetProvingStatusResponse": certificate_states.proving_status_to_proto(PROVING),
    }
