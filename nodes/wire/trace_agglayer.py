"""Trace events of the aggregation layer as messages: verdicts, certificates, proofs, settlements.

Part of `nodes.wire.trace_records`, and like it columnar where a block or a certificate lists many things.
"""

from collections.abc import Callable, Mapping
from typing import Any

from nodes.model.agglayer import CertificateStatus
from nodes.model.execution import AbortReason
from nodes.model.ids import HASH_BYTES, BundleHash
from nodes.telemetry import events
from nodes.wire.shapes import column, known, same_length
from protos.lockstep.trace.v1 import trace_pb2 as pb

AgglayerEvent = (
    events.HeightResolved
    | events.VerdictIssued
    | events.NoticeLogged
    | events.EvidenceFound
    | events.CertificateBuilt
    | events.CertificateMoved
    | events.ProofMade
    | events.SettlementMoved
    | events.BundleJudged
)

_REASONS = {int(reason): reason for reason in AbortReason}
_STATUSES = {int(status): status for status in CertificateStatus}
_FLAGS = {0: False, 1: True}


def put_agglayer_event(record: pb.TraceRecord, event: AgglayerEvent) -> None:
    """Set the record's event."""
    match event:
        case events.HeightResolved():
            record.height_resolved.CopyFrom(_height_resolved(event))
        case events.VerdictIssued():
            record.verdict_issued.CopyFrom(
                pb.VerdictIssued(
                    epoch=event.epoch,
                    height=event.height,
                    rounds=event.rounds,
                    aborted=event.aborted,
                    struck_together=event.struck_together,
                    networks=event.networks,
                )
            )
        case events.NoticeLogged():
            record.notice_logged.CopyFrom(
                pb.NoticeLogged(
                    kind=event.kind,
                    epoch=event.epoch,
                    height=event.height,
                    network_id=event.network_id,
                    voided=event.voided,
                )
            )
        case events.EvidenceFound(accused=accused, detail=detail):
            record.evidence_found.CopyFrom(pb.EvidenceFound(accused=accused, detail=detail))
        case events.CertificateBuilt():
            record.certificate_built.CopyFrom(_certificate_built(event))
        case events.CertificateMoved():
            record.certificate_moved.CopyFrom(_certificate_moved(event))
        case events.ProofMade():
            record.proof_made.CopyFrom(_proof_made(event))
        case events.SettlementMoved():
            record.settlement_moved.CopyFrom(_settlement_moved(event))
        case events.BundleJudged():
            record.bundle_judged.CopyFrom(_bundle_judged(event))


def _height_resolved(event: events.HeightResolved) -> pb.HeightResolved:
    return pb.HeightResolved(
        epoch=event.epoch,
        height=event.height,
        rounds=event.rounds,
        block_hash=event.block_hash,
        aborted_hashes=b"".join([bundle for bundle, _, _ in event.aborted]),
        aborted_reasons=bytes([reason for _, reason, _ in event.aborted]),
        aborted_together=bytes([together for _, _, together in event.aborted]),
    )


def _certificate_built(event: events.CertificateBuilt) -> pb.CertificateBuilt:
    return pb.CertificateBuilt(
        network_id=event.network_id,
        certificate_height=event.certificate_height,
        certificate_id=event.certificate_id,
        first_height=event.first_height,
        last_height=event.last_height,
        exits=event.exits,
        imports=event.imports,
        imported_bundles=b"".join(event.imported_bundles),
    )


def _certificate_moved(event: events.CertificateMoved) -> pb.CertificateMoved:
    return pb.CertificateMoved(
        network_id=event.network_id,
        certificate_height=event.certificate_height,
        certificate_id=event.certificate_id,
        status=event.status,
        error=event.error,
        first_height=event.first_height,
        last_height=event.last_height,
    )


def _proof_made(event: events.ProofMade) -> pb.ProofMade:
    return pb.ProofMade(
        prover=event.prover,
        certificates=event.certificates,
        exits=event.exits,
        imports=event.imports,
        duration_ns=event.duration_ns,
        modelled_ns=event.modelled_ns,
    )


def _settlement_moved(event: events.SettlementMoved) -> pb.SettlementMoved:
    return pb.SettlementMoved(
        step=event.step,
        tx_hash=event.tx_hash,
        l1_block=event.l1_block,
        gas_used=event.gas_used,
        certificate_ids=b"".join(event.certificate_ids),
    )


def _bundle_judged(event: events.BundleJudged) -> pb.BundleJudged:
    return pb.BundleJudged(
        ordered=event.ordered,
        refused=event.refused,
        duration_ns=event.duration_ns,
        bonded_wei=event.bonded_wei.to_bytes((event.bonded_wei.bit_length() + 7) // 8, "big"),
    )


def _same_fields(message: Any) -> AgglayerEvent:
    """Events whose fields are those of the message, by name."""
    fields = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    event: AgglayerEvent = getattr(events, message.DESCRIPTOR.name)(**fields)
    return event


def _height_resolved_from_proto(message: pb.HeightResolved) -> events.HeightResolved:
    hashes = column(message.aborted_hashes, size=HASH_BYTES, name="aborted_hashes")
    same_length(
        "aborted",
        aborted_hashes=len(hashes),
        aborted_reasons=len(message.aborted_reasons),
        aborted_together=len(message.aborted_together),
    )
    reasons = known(message.aborted_reasons, _REASONS, name="aborted_reasons")
    together = known(message.aborted_together, _FLAGS, name="aborted_together")
    return events.HeightResolved(
        epoch=message.epoch,
        height=message.height,
        rounds=message.rounds,
        block_hash=message.block_hash,
        aborted=tuple(zip(map(BundleHash, hashes), reasons, together, strict=True)),
    )


def _certificate_built_from_proto(message: pb.CertificateBuilt) -> events.CertificateBuilt:
    bundles = column(message.imported_bundles, size=HASH_BYTES, name="imported_bundles")
    return events.CertificateBuilt(
        network_id=message.network_id,
        certificate_height=message.certificate_height,
        certificate_id=message.certificate_id,
        first_height=message.first_height,
        last_height=message.last_height,
        exits=message.exits,
        imports=message.imports,
        imported_bundles=tuple(map(BundleHash, bundles)),
    )


def _certificate_moved_from_proto(message: pb.CertificateMoved) -> events.CertificateMoved:
    (status,) = known([message.status], _STATUSES, name="certificate status")
    return events.CertificateMoved(
        network_id=message.network_id,
        certificate_height=message.certificate_height,
        certificate_id=message.certificate_id,
        status=status,
        error=message.error,
        first_height=message.first_height,
        last_height=message.last_height,
    )


def _settlement_moved_from_proto(message: pb.SettlementMoved) -> events.SettlementMoved:
    return events.SettlementMoved(
        step=message.step,
        tx_hash=message.tx_hash,
        l1_block=message.l1_block,
        gas_used=message.gas_used,
        certificate_ids=tuple(column(message.certificate_ids, size=HASH_BYTES, name="certificate_ids")),
    )


def _bundle_judged_from_proto(message: pb.BundleJudged) -> events.BundleJudged:
    return events.BundleJudged(
        ordered=message.ordered,
        refused=message.refused,
        duration_ns=message.duration_ns,
        bonded_wei=int.from_bytes(message.bonded_wei, "big"),
    )


_FROM_PROTO: Mapping[str, Callable[[Any], AgglayerEvent]] = {
    "height_resolved": _height_resolved_from_proto,
    "verdict_issued": _same_fields,
    "notice_logged": _same_fields,
    "evidence_found": _same_fields,
    "certificate_built": _certificate_built_from_proto,
    "certificate_moved": _certificate_moved_from_proto,
    "proof_made": _same_fields,
    "settlement_moved": _settlement_moved_from_proto,
    "bundle_judged": _bundle_judged_from_proto,
}


def agglayer_event_from_proto(record: pb.TraceRecord, kind: str) -> AgglayerEvent | None:
    """The event of this kind; None for a kind that is not of the aggregation layer. Raises InvalidInput."""
    restore = _FROM_PROTO.get(kind)
    return None if restore is None else restore(getattr(record, kind))
