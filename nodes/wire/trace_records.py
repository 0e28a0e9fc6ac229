"""Trace events as length-delimited records, the bytes of a trace file: a varint length, then a TraceRecord message.

One record per block with its columns concatenated, so that a block of hundreds of bundles costs a few joins.
"""

from collections.abc import Iterator
from dataclasses import asdict

from nodes.model.bundle import Trailer
from nodes.model.errors import InvalidInput
from nodes.model.execution import AbortReason, DroppedLeg, DropReason, Outcome, SkipReason, Status
from nodes.model.ids import HASH_BYTES, BundleHash, SubmissionHash, TxHash
from nodes.model.sequenced_block import Commitment
from nodes.telemetry import events
from nodes.telemetry.events import Event, Stamped
from nodes.wire.shapes import column, known, parse, same_length
from nodes.wire.trace_agglayer import agglayer_event_from_proto, put_agglayer_event
from protos.lockstep.trace.v1 import trace_pb2 as pb

MAX_LENGTH_BYTES = 5
"""Bytes of a length prefix; a record is far below 2**35 bytes."""

_STATUSES = {int(status): status for status in Status}
_REASONS: dict[int, SkipReason | AbortReason | None] = {
    0: None,
    **{int(reason): reason for reason in SkipReason},
    **{int(reason): reason for reason in AbortReason},
}
_DROPS = {int(reason): reason for reason in DropReason}
_LEVELS = {int(level): level for level in Commitment}
_FIELDS = {
    field.message_type.name: field.name
    for field in pb.TraceRecord.DESCRIPTOR.oneofs_by_name["event"].fields
    if field.message_type is not None
}
"""Of a record, by the name of its event."""
_TRAILER_BYTES = HASH_BYTES + 2
_NO_TRAILER = bytes(_TRAILER_BYTES)


def stamped_to_bytes(stamped: Stamped) -> bytes:
    """One record with its length in front."""
    data = trace_record_to_proto(stamped).SerializeToString(deterministic=True)
    return encode_length(len(data)) + data


def read_records(data: bytes) -> Iterator[Stamped]:
    """Every record of bytes that were cut at record boundaries. Raises InvalidInput naming the offset otherwise."""
    offset = 0
    while offset < len(data):
        start, end = record_span(data, offset) or (0, 0)
        if end == 0 or end > len(data):
            raise InvalidInput(f"the trace ends within the record at byte {offset:,}; cut it with whole_records()")
        try:
            yield trace_record_from_proto(parse(pb.TraceRecord, data[start:end]))
        except InvalidInput as error:
            raise InvalidInput(f"trace record at byte {offset:,}: {error}") from None
        offset = end


def whole_records(data: bytes | memoryview, *, offset: int = 0) -> int:
    """Where the last whole record ends, counted from the start of `data`; records start at `offset`."""
    while True:
        span = record_span(data, offset)
        if span is None or span[1] > len(data):
            return offset
        offset = span[1]


def record_span(data: bytes | memoryview, offset: int) -> tuple[int, int] | None:
    """Start and end of the message at `offset`; the end may lie past the data. None where its length is cut off.

    Raises InvalidInput where there is no length, which means that `offset` is no record boundary.
    """
    length = 0
    for count in range(MAX_LENGTH_BYTES):
        at = offset + count
        if at >= len(data):
            return None
        length |= (data[at] & 0x7F) << (7 * count)
        if data[at] < 0x80:
            return at + 1, at + 1 + length
    raise InvalidInput(f"no trace record starts at byte {offset:,}")


def encode_length(length: int) -> bytes:
    """The varint in front of a record."""
    encoded = bytearray()
    while length > 0x7F:
        encoded.append(length & 0x7F | 0x80)
        length >>= 7
    encoded.append(length)
    return bytes(encoded)


def trace_record_to_proto(stamped: Stamped) -> pb.TraceRecord:
    """The record of one event."""
    record = pb.TraceRecord(monotonic_ns=stamped.monotonic_ns, wall_ns=stamped.wall_ns)
    _put_event(record, stamped.event)
    return record


def _put_event(record: pb.TraceRecord, event: Event) -> None:
    match event:
        case events.BlockExecuted():
            _put_block_executed(record.block_executed, event)
        case events.BlockSequenced():
            record.block_sequenced.CopyFrom(_block_sequenced(event))
        case events.CommitmentRaised(height=height, level=level):
            record.commitment_raised.CopyFrom(pb.CommitmentRaised(height=height, level=level))
        case events.NodeStarted():
            record.node_started.CopyFrom(
                pb.NodeStarted(node=event.node, kind=event.kind, pid=event.pid, host=event.host, boot_id=event.boot_id)
            )
        case events.BlockReorged(from_height=old, to_height=new):
            record.block_reorged.CopyFrom(pb.BlockReorged(from_height=old, to_height=new))
        case events.ReaderStalled(height=height, reason=reason, source=source):
            record.reader_stalled.CopyFrom(pb.ReaderStalled(height=height, reason=reason, source=source))
        case events.NodeRecovered():
            record.node_recovered.CopyFrom(
                pb.NodeRecovered(
                    checkpoint_height=event.checkpoint_height,
                    recovered_height=event.recovered_height,
                    duration_ns=event.duration_ns,
                )
            )
        case events.CheckpointWritten(height=height, size_bytes=size, duration_ns=duration):
            record.checkpoint_written.CopyFrom(pb.CheckpointWritten(height=height, bytes=size, duration_ns=duration))
        case events.ResourcesSampled():
            record.resources_sampled.CopyFrom(_resources(event))
        case (
            events.FaultInjected()
            | events.FaultHealed()
            | events.LinkSampled()
            | events.DivergenceFound()
            | events.DivergenceChecked()
        ):
            name = type(event).__name__
            getattr(record, _FIELDS[name]).CopyFrom(getattr(pb, name)(**asdict(event)))
        case _:
            put_agglayer_event(record, event)


def trace_record_from_proto(record: pb.TraceRecord) -> Stamped:
    """The event with its timestamps. Raises InvalidInput for a kind or number that this build does not know."""
    return Stamped(monotonic_ns=record.monotonic_ns, wall_ns=record.wall_ns, event=_event(record))


def _event(record: pb.TraceRecord) -> Event:
    kind = record.WhichOneof("event")
    match kind:
        case "block_executed":
            return _block_executed_from_proto(record.block_executed)
        case "block_sequenced":
            return _block_sequenced_from_proto(record.block_sequenced)
        case "commitment_raised":
            (level,) = known([record.commitment_raised.level], _LEVELS, name="commitment level")
            return events.CommitmentRaised(height=record.commitment_raised.height, level=level)
        case "checkpoint_written":
            written = record.checkpoint_written
            return events.CheckpointWritten(
                height=written.height, size_bytes=written.bytes, duration_ns=written.duration_ns
            )
        case "resources_sampled":
            return _resources_from_proto(record.resources_sampled)
        case None:
            raise InvalidInput("an event of a kind that this build does not know; it was written by another version")
        case _:
            of_agglayer = agglayer_event_from_proto(record, kind)
            if of_agglayer is not None:
                return of_agglayer
            # The other kinds have the same fields, by name, as their values.
            message = getattr(record, kind)
            fields = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
            event: Event = getattr(events, message.DESCRIPTOR.name)(**fields)
            return event


def _block_sequenced(event: events.BlockSequenced) -> pb.BlockSequenced:
    return pb.BlockSequenced(
        height=event.height,
        hash=event.hash,
        time_ns=event.time_ns,
        submission_hashes=b"".join(event.submission_hashes),
        payload_bytes=event.payload_bytes,
        payloads=event.payloads,
    )


def _block_sequenced_from_proto(message: pb.BlockSequenced) -> events.BlockSequenced:
    hashes = column(message.submission_hashes, size=HASH_BYTES, name="submission_hashes")
    return events.BlockSequenced(
        height=message.height,
        hash=message.hash,
        time_ns=message.time_ns,
        submission_hashes=tuple(map(SubmissionHash, hashes)),
        payload_bytes=message.payload_bytes,
        payloads=message.payloads,
    )


def _put_block_executed(message: pb.BlockExecuted, event: events.BlockExecuted) -> None:
    # Assigning to a field of the record itself saves a copy of the columns.
    message.height = event.height
    message.number = event.number
    message.hash = event.hash
    message.state_root = event.state_root
    message.timestamp_s = event.timestamp_s
    message.gas_used = event.gas_used
    message.received_ns = event.received_ns
    message.derived_ns = event.derived_ns
    message.built_ns = event.built_ns
    message.replayed = event.replayed
    message.SetInParent()
    if event.outcomes:
        hashes, statuses, outcome_reasons = zip(*event.outcomes, strict=True)
        message.tx_hashes = b"".join(hashes)
        message.statuses = bytes(statuses)
        message.skip_reasons = bytes([reason or 0 for reason in outcome_reasons])
    if event.dropped:
        positions, reasons, dropped_hashes, trailers = zip(*event.dropped, strict=True)
        message.dropped_positions.extend(positions)
        message.drop_reasons = bytes(reasons)
        message.dropped_hashes = b"".join(dropped_hashes)
        message.dropped_trailers = b"".join(
            [_NO_TRAILER if t is None else t.bundle_hash + bytes((t.leg_index, t.leg_count)) for t in trailers]
        )


def _block_executed_from_proto(message: pb.BlockExecuted) -> events.BlockExecuted:
    hashes = column(message.tx_hashes, size=HASH_BYTES, name="tx_hashes")
    same_length(
        "outcomes", tx_hashes=len(hashes), statuses=len(message.statuses), skip_reasons=len(message.skip_reasons)
    )
    statuses = known(message.statuses, _STATUSES, name="statuses")
    reasons = known(message.skip_reasons, _REASONS, name="skip_reasons")
    return events.BlockExecuted(
        height=message.height,
        number=message.number,
        hash=message.hash,
        state_root=message.state_root,
        timestamp_s=message.timestamp_s,
        gas_used=message.gas_used,
        outcomes=tuple(map(Outcome, map(TxHash, hashes), statuses, reasons)),
        dropped=_dropped_from_proto(message),
        received_ns=message.received_ns,
        derived_ns=message.derived_ns,
        built_ns=message.built_ns,
        replayed=message.replayed,
    )


def _dropped_from_proto(message: pb.BlockExecuted) -> tuple[DroppedLeg, ...]:
    hashes = column(message.dropped_hashes, size=HASH_BYTES, name="dropped_hashes")
    trailers = column(message.dropped_trailers, size=_TRAILER_BYTES, name="dropped_trailers")
    same_length(
        "dropped",
        dropped_hashes=len(hashes),
        drop_reasons=len(message.drop_reasons),
        dropped_positions=len(message.dropped_positions),
        dropped_trailers=len(trailers),
    )
    reasons = known(message.drop_reasons, _DROPS, name="drop_reasons")
    return tuple(
        [
            DroppedLeg(position, reason, TxHash(tx_hash), _trailer(trailer))
            for position, reason, tx_hash, trailer in zip(
                message.dropped_positions, reasons, hashes, trailers, strict=True
            )
        ]
    )


def _trailer(data: bytes) -> Trailer | None:
    if data == _NO_TRAILER:
        return None
    return Trailer(BundleHash(data[:HASH_BYTES]), data[HASH_BYTES], data[HASH_BYTES + 1])


def _resources(event: events.ResourcesSampled) -> pb.ResourcesSampled:
    return pb.ResourcesSampled(
        process_cpu_s=event.process_cpu_s,
        process_pss_bytes=event.process_pss_bytes,
        engine_cpu_s=event.engine_cpu_s,
        engine_pss_bytes=event.engine_pss_bytes,
        wire_bytes_in=event.wire_bytes_in,
        wire_bytes_out=event.wire_bytes_out,
        stage_cpu_ns=event.stage_cpu_ns,
    )


def _resources_from_proto(message: pb.ResourcesSampled) -> events.ResourcesSampled:
    return events.ResourcesSampled(
        process_cpu_s=message.process_cpu_s,
        process_pss_bytes=message.process_pss_bytes,
        engine_cpu_s=message.engine_cpu_s,
        engine_pss_bytes=message.engine_pss_bytes,
        wire_bytes_in=message.wire_bytes_in,
        wire_bytes_out=message.wire_bytes_out,
        stage_cpu_ns=dict(message.stage_cpu_ns),
    )
