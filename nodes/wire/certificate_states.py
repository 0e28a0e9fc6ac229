"""Headers, network info, progress and the prover's status as messages."""

from collections.abc import Sequence
from typing import Any

from nodes.model.agglayer import (
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    GlobalIndex,
    MainnetClaim,
    NetworkId,
)
from nodes.model.certificates import EpochConfiguration, NetworkInfo, ProvingStatus
from nodes.model.errors import CertificateRefused, InvalidInput, RefusalKind
from nodes.model.ids import HASH_BYTES, Height
from nodes.ports import ClaimProofs, NetworkProgress
from nodes.rules.certificate import decode_range, encode_range
from nodes.wire.certificate_messages import (
    claim_of_oneof,
    global_index_from_bytes,
    global_index_to_bytes,
    mainnet_claim_to_proto,
    rollup_claim_to_proto,
)
from nodes.wire.shapes import column, hash_of, known
from protos.agglayer.interop.types.v1 import interop_pb2 as interop
from protos.agglayer.node.types.v1 import node_types_pb2 as node_types
from protos.lockstep.agglayer.v1 import claims_pb2 as claims

_STATUSES = {int(status): status for status in CertificateStatus}


def certificate_id_to_proto(certificate_id: CertificateId) -> node_types.CertificateId:
    """An id."""
    return node_types.CertificateId(value=interop.FixedBytes32(value=certificate_id))


def certificate_id_from_proto(holder: Any, field: str = "certificate_id") -> CertificateId:
    """The id in a field of a message. Raises CertificateRefused where it is missing or no hash."""
    if not holder.HasField(field) or not getattr(holder, field).HasField("value"):
        raise CertificateRefused(f"{field} is missing", kind=RefusalKind.MISSING_FIELD)
    value: bytes = getattr(holder, field).value.value
    if len(value) != HASH_BYTES:
        raise CertificateRefused(f"{field} has {len(value)} bytes; it must have 32", kind=RefusalKind.INVALID_DATA)
    return CertificateId(value)


def header_to_proto(header: CertificateHeader) -> node_types.CertificateHeader:
    """A header."""
    message = node_types.CertificateHeader(
        network_id=header.network_id,
        height=header.height,
        epoch_number=header.epoch_number,
        certificate_index=header.certificate_index,
        certificate_id=certificate_id_to_proto(header.certificate_id),
        prev_local_exit_root=interop.FixedBytes32(value=header.prev_local_exit_root),
        new_local_exit_root=interop.FixedBytes32(value=header.new_local_exit_root),
        metadata=interop.FixedBytes32(value=header.metadata),
        status=int(header.status),  # type: ignore[arg-type]  # the stubs ask for their own enum's type
    )
    if header.error:
        message.error.message = header.error.encode()
    if header.settlement_tx_hash:
        message.settlement_tx_hash.value = header.settlement_tx_hash
    return message


def header_from_proto(message: node_types.CertificateHeader) -> CertificateHeader:
    """The header. Raises InvalidInput for what cannot be one."""
    (status,) = known((message.status,), _STATUSES, name="certificate status")
    return CertificateHeader(
        network_id=NetworkId(message.network_id),
        height=CertificateHeight(message.height),
        certificate_id=certificate_id_from_proto(message),
        prev_local_exit_root=hash_of(message.prev_local_exit_root.value, name="prev_local_exit_root"),
        new_local_exit_root=hash_of(message.new_local_exit_root.value, name="new_local_exit_root"),
        metadata=hash_of(message.metadata.value, name="metadata"),
        status=status,
        error=message.error.message.decode("utf-8", errors="replace"),
        epoch_number=message.epoch_number if message.HasField("epoch_number") else None,
        certificate_index=message.certificate_index if message.HasField("certificate_index") else None,
        settlement_tx_hash=(
            hash_of(message.settlement_tx_hash.value, name="settlement_tx_hash")
            if message.HasField("settlement_tx_hash")
            else b""
        ),
    )


def network_info_to_proto(info: NetworkInfo) -> node_types.NetworkInfo:
    """AggLayer's view of a network; all networks here are committees (of one)."""
    message = node_types.NetworkInfo(
        network_status=node_types.NETWORK_STATUS_ACTIVE,
        network_type=node_types.NETWORK_TYPE_MULTISIG_ONLY,
        network_id=info.network_id,
        settled_height=info.settled_height,
        settled_let_leaf_count=info.settled_leaf_count,
        latest_epoch_with_settlement=info.latest_epoch_with_settlement,
    )
    if info.settled_certificate_id is not None:
        message.settled_certificate_id.CopyFrom(certificate_id_to_proto(info.settled_certificate_id))
    if info.settled_pessimistic_root is not None:
        message.settled_pp_root.value = info.settled_pessimistic_root
    if info.settled_local_exit_root is not None:
        message.settled_ler.value = info.settled_local_exit_root
    if info.settled_import is not None:
        message.settled_claim.global_index.value = global_index_to_bytes(info.settled_import.global_index)
        message.settled_claim.bridge_exit_hash.value = info.settled_import.exit_hash
    pending = info.latest_pending
    if pending is not None:
        message.network_status = (
            node_types.NETWORK_STATUS_ERROR
            if pending.status is CertificateStatus.IN_ERROR
            else node_types.NETWORK_STATUS_ACTIVE
        )
        message.latest_pending_height = pending.height
        message.latest_pending_status = int(pending.status)  # type: ignore[assignment]  # as above
        message.latest_pending_certificate_id.CopyFrom(certificate_id_to_proto(pending.certificate_id))
        if pending.error:
            message.latest_pending_error.message = pending.error.encode()
    return message


def epoch_configuration_to_proto(value: EpochConfiguration) -> node_types.EpochConfiguration:
    """Epochs in L1 blocks."""
    return node_types.EpochConfiguration(genesis_block=value.genesis_block, epoch_duration=value.epoch_duration_blocks)


def epoch_configuration_from_proto(message: node_types.EpochConfiguration) -> EpochConfiguration:
    """Epochs in L1 blocks."""
    return EpochConfiguration(genesis_block=message.genesis_block, epoch_duration_blocks=message.epoch_duration)


def progress_to_proto(progress: NetworkProgress) -> claims.NetworkProgress:
    """How far a network has come."""
    message = claims.NetworkProgress(
        settled_leaf_count=progress.settled_leaf_count,
        settled_range=b"" if progress.settled_range is None else encode_range(progress.settled_range),
        final_height=progress.final_height,
        l1_info_tree_leaf_count=progress.l1_info_tree_leaf_count,
    )
    if progress.latest is not None:
        message.latest.CopyFrom(header_to_proto(progress.latest))
    if progress.settled is not None:
        message.settled.CopyFrom(header_to_proto(progress.settled))
    return message


def progress_from_proto(message: claims.NetworkProgress) -> NetworkProgress:
    """The inverse. Raises InvalidInput."""
    try:
        settled_range = decode_range(message.settled_range) if message.settled_range else None
    except ValueError as error:
        raise InvalidInput(f"settled_range: {error}") from None
    return NetworkProgress(
        latest=header_from_proto(message.latest) if message.HasField("latest") else None,
        settled=header_from_proto(message.settled) if message.HasField("settled") else None,
        settled_leaf_count=message.settled_leaf_count,
        settled_range=settled_range,
        final_height=Height(message.final_height),
        l1_info_tree_leaf_count=message.l1_info_tree_leaf_count,
    )


def claim_proofs_to_proto(proofs: ClaimProofs) -> claims.GetClaimProofsResponse:
    """Claims by global index."""
    message = claims.GetClaimProofsResponse(l1_info_tree_leaf_count=proofs.l1_info_tree_leaf_count)
    for index, claim in proofs.claims.items():
        entry = message.claims.add(global_index=global_index_to_bytes(index))
        if isinstance(claim, MainnetClaim):
            entry.mainnet.CopyFrom(mainnet_claim_to_proto(claim))
        else:
            entry.rollup.CopyFrom(rollup_claim_to_proto(claim))
    return message


def claim_proofs_from_proto(message: claims.GetClaimProofsResponse) -> ClaimProofs:
    """The inverse. Raises InvalidInput."""
    return ClaimProofs(
        l1_info_tree_leaf_count=message.l1_info_tree_leaf_count,
        claims={
            global_index_from_bytes(entry.global_index): claim_of_oneof(entry, "claims") for entry in message.claims
        },
    )


def global_indexes_to_column(wanted: Sequence[GlobalIndex]) -> bytes:
    """A column of indexes."""
    return b"".join(map(global_index_to_bytes, wanted))


def global_indexes_from_column(data: bytes) -> list[GlobalIndex]:
    """The inverse. Raises InvalidInput."""
    return [global_index_from_bytes(entry) for entry in column(data, size=HASH_BYTES, name="global_indexes")]


def proving_status_to_proto(status: ProvingStatus) -> claims.GetProvingStatusResponse:
    """What the prover does."""
    return claims.GetProvingStatusResponse(
        prover=status.prover,
        description=status.description,
        batch_id=status.batch_id,
        certificates=status.certificates,
        done=status.done,
        total=status.total,
        step=status.step,
    )


def proving_status_from_proto(message: claims.GetProvingStatusResponse) -> ProvingStatus:
    """The inverse."""
    return ProvingStatus(
        prover=message.prover,
        description=message.description,
        batch_id=message.batch_id,
        certificates=message.certificates,
        done=message.done,
        total=message.total,
        step=message.step,
    )
