"""Trace records of blocks as columns, for readers of whole runs: one value per block, no object per transaction.

`nodes.wire.trace_records` has the full events; 180,000 legs cost it seconds as objects and cost nothing here.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError

from nodes.model.errors import InvalidInput
from nodes.model.limits import MAX_MESSAGE_BYTES
from nodes.model.sequenced_block import Commitment
from nodes.telemetry.events import (
    BlockReorged,
    BundleJudged,
    CertificateBuilt,
    CertificateMoved,
    CheckpointWritten,
    CommitmentRaised,
    DivergenceChecked,
    DivergenceFound,
    EvidenceFound,
    FaultHealed,
    FaultInjected,
    HeightResolved,
    LinkSampled,
    NodeRecovered,
    NodeStarted,
    NoticeLogged,
    ProofMade,
    ReaderStalled,
    ResourcesSampled,
    SettlementMoved,
    VerdictIssued,
)
from nodes.wire.trace_agglayer import agglayer_event_from_proto
from protos.lockstep.trace.v1 import trace_pb2 as pb


class CutColumns(NamedTuple):
    """One block that the sequencer cut."""

    at_ns: int
    height: int
    hash: bytes
    submission_hashes: bytes
    """32 bytes per submission."""
    payload_bytes: int
    payloads: int


class ExecutedColumns(NamedTuple):
    """One sequenced height as one rollup node resolved it."""

    at_ns: int
    height: int
    number: int
    hash: bytes
    state_root: bytes
    gas_used: int
    tx_hashes: bytes
    """32 bytes per admitted leg."""
    statuses: bytes
    """`nodes.model.execution.Status`, one byte each."""
    skip_reasons: bytes
    """`SkipReason` of a skipped leg or `AbortReason` of an aborted one, one byte each; 0 for the others."""
    dropped_hashes: bytes
    drop_reasons: bytes
    """`DropReason`, one byte each."""
    received_ns: int
    derived_ns: int
    built_ns: int
    replayed: bool


class ResolvedColumns(NamedTuple):
    """The verdict of one height as one rollup node took it."""

    at_ns: int
    epoch: int
    height: int
    rounds: int
    block_hash: bytes
    """The rollup's head after the height."""
    aborted_hashes: bytes
    """32 bytes per struck bundle of this rollup."""
    aborted_reasons: bytes
    """`AbortReason`, one byte each."""
    aborted_together: bytes
    """1 where it was struck together with others, one byte each."""


OtherEvent = (
    NodeStarted
    | CommitmentRaised
    | BlockReorged
    | ReaderStalled
    | LinkSampled
    | DivergenceFound
    | DivergenceChecked
    | NodeRecovered
    | CheckpointWritten
    | ResourcesSampled
    | FaultInjected
    | FaultHealed
    | VerdictIssued
    | NoticeLogged
    | EvidenceFound
    | CertificateBuilt
    | CertificateMoved
    | ProofMade
    | SettlementMoved
    | BundleJudged
)


class Occurrence(NamedTuple):
    """Any other event."""

    at_ns: int
    event: OtherEvent


TraceItem = CutColumns | ExecutedColumns | ResolvedColumns | Occurrence


def read_columns(data: bytes, start: int = 0) -> Iterator[tuple[TraceItem, int]]:
    """Each whole record from `start` on with the offset behind it; a record that is cut short at the end is left out.

    Raises InvalidInput for bytes that are no trace.
    """
    at, end = start, len(data)
    while at < end:
        length, body = _length(data, at)
        if body < 0 or body + length > end:
            return
        record = pb.TraceRecord()
        try:
            record.ParseFromString(data[body : body + length])
        except DecodeError as error:
            raise InvalidInput(f"trace record at byte {at} cannot be read: {error}") from error
        at = body + length
        item = _item(record)
        if item is not None:
            yield item, at


def _length(data: bytes, at: int) -> tuple[int, int]:
    """The varint at `at` and where the record's body begins; (0, -1) where the varint is cut short."""
    value = shift = 0
    while at < len(data):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > MAX_MESSAGE_BYTES:
                raise InvalidInput(f"trace record of {value:,} bytes; the file is no trace")
            return value, at
        shift += 7
        if shift > 63:
            raise InvalidInput("trace record with an endless length; the file is no trace")
    return 0, -1


def _item(record: pb.TraceRecord) -> TraceItem | None:
    kind = record.WhichOneof("event")
    if kind == "block_executed":
        e = record.block_executed
        return ExecutedColumns(
            record.monotonic_ns, e.height, e.number, e.hash, e.state_root, e.gas_used, e.tx_hashes, e.statuses,
            e.skip_reasons, e.dropped_hashes, e.drop_reasons, e.received_ns, e.derived_ns, e.built_ns, e.replayed,
        )  # fmt: skip
    if kind == "block_sequenced":
        c = record.block_sequenced
        return CutColumns(record.monotonic_ns, c.height, c.hash, c.submission_hashes, c.payload_bytes, c.payloads)
    if kind == "height_resolved":
        r = record.height_resolved
        return ResolvedColumns(
            record.monotonic_ns, r.epoch, r.height, r.rounds, r.block_hash, r.aborted_hashes, r.aborted_reasons,
            r.aborted_together,
        )  # fmt: skip
    event = _other(record, kind)
    return None if event is None else Occurrence(record.monotonic_ns, event)


def _other(record: pb.TraceRecord, kind: str | None) -> OtherEvent | None:
    if kind == "commitment_raised":
        return CommitmentRaised(
            height=record.commitment_raised.height, level=Commitment(record.commitment_raised.level)
        )
    if kind == "resources_sampled":
        return _resources(record.resources_sampled)
    if kind == "node_started":
        m = record.node_started
        return NodeStarted(node=m.node, kind=m.kind, pid=m.pid, host=m.host, boot_id=m.boot_id)
    if kind == "block_reorged":
        return BlockReorged(from_height=record.block_reorged.from_height, to_height=record.block_reorged.to_height)
    if kind == "reader_stalled":
        s = record.reader_stalled
        return ReaderStalled(height=s.height, reason=s.reason, source=s.source)
    if kind == "node_recovered":
        r = record.node_recovered
        return NodeRecovered(
            checkpoint_height=r.checkpoint_height, recovered_height=r.recovered_height, duration_ns=r.duration_ns
        )
    if kind == "checkpoint_written":
        c = record.checkpoint_written
        return CheckpointWritten(height=c.height, size_bytes=c.bytes, duration_ns=c.duration_ns)
    if kind == "fault_injected":
        return FaultInjected(fault=record.fault_injected.fault, target=record.fault_injected.target)
    if kind == "fault_healed":
        return FaultHealed(fault=record.fault_healed.fault, target=record.fault_healed.target)
    if kind == "link_sampled":
        return LinkSampled(**_fields(record.link_sampled))
    if kind == "divergence_found":
        return DivergenceFound(**_fields(record.divergence_found))
    if kind == "divergence_checked":
        return DivergenceChecked(**_fields(record.divergence_checked))
    event = None if kind is None else agglayer_event_from_proto(record, kind)
    assert not isinstance(event, HeightResolved)  # has columns
    return event  # None: written by a newer version


def _fields(message: Any) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _resources(sample: pb.ResourcesSampled) -> ResourcesSampled:
    return ResourcesSampled(
        process_cpu_s=sample.process_cpu_s,
        process_pss_bytes=sample.process_pss_bytes,
        engine_cpu_s=sample.engine_cpu_s,
        engine_pss_bytes=sample.engine_pss_bytes,
        wire_bytes_in=sample.wire_bytes_in,
        wire_bytes_out=sample.wire_bytes_out,
        stage_cpu_ns=dict(sample.stage_cpu_ns),
    )
