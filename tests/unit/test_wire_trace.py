"""Trace records and the trace file: nothing lost, nothing torn, readers told."""

import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.model.errors import InvalidInput, TestbedError
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.events import (
    BlockExecuted,
    BlockSequenced,
    CertificateMoved,
    CheckpointWritten,
    FaultHealed,
    HeightResolved,
    ReaderStalled,
)
from nodes.wire.file_tracer import FileTracer
from nodes.wire.trace_columns import CutColumns, ExecutedColumns, Occurrence, ResolvedColumns, read_columns
from nodes.wire.trace_records import (
    encode_length,
    read_records,
    record_span,
    stamped_to_bytes,
    trace_record_from_proto,
    trace_record_to_proto,
    whole_records,
)
from protos.lockstep.trace.v1 import trace_pb2 as pb
from tests.golden.samples import EVENTS, stamped

ALL = b"".join(stamped_to_bytes(stamped(event)) for event in EVENTS)
HEALED = FaultHealed(fault="pause", target="red-0")


def _ends() -> list[int]:
    ends = []
    offset = 0
    for event in EVENTS:
        offset += len(stamped_to_bytes(stamped(event)))
        ends.append(offset)
    return ends


def test_records_come_back_in_order() -> None:
    assert list(read_records(ALL)) == [stamped(event) for event in EVENTS]
    assert list(read_records(b"")) == []


@given(st.integers(0, len(ALL)))
def test_a_cut_anywhere_leaves_the_whole_records(cut: int) -> None:
    end = whole_records(ALL[:cut])
    assert end == max([0, *[boundary for boundary in _ends() if boundary <= cut]])
    assert len(list(read_records(ALL[:end]))) == sum(boundary <= cut for boundary in _ends())


def test_a_torn_tail_is_an_error_that_names_the_place() -> None:
    with pytest.raises(InvalidInput, match=f"byte {_ends()[-2]:,}"):
        list(read_records(ALL[:-1]))


@given(st.integers(0, 2**34))
def test_a_length_comes_back(length: int) -> None:
    encoded = encode_length(length)
    assert record_span(encoded, 0) == (len(encoded), len(encoded) + length)
    assert record_span(encoded[:-1], 0) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_an_invalid_input(data: bytes) -> None:
    with suppress(InvalidInput):
        list(read_records(data))


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("tx_hashes", b"short", "tx_hashes"),
        ("statuses", b"\x01", "differ in length"),
        ("statuses", b"\x01\x00\x09\x00", "statuses holds 9"),
        ("skip_reasons", b"\x00\x00\x63\x00", "skip_reasons holds 99"),
        ("drop_reasons", b"\x00\x01", "drop_reasons holds 0"),
        ("drop_reasons", b"\x01", "differ in length"),
        ("dropped_trailers", b"short", "dropped_trailers"),
    ],
)
def test_columns_that_do_not_fit_are_refused(field: str, value: bytes, named: str) -> None:
    record = trace_record_to_proto(stamped(EVENTS[3]))
    assert isinstance(EVENTS[3], BlockExecuted)
    setattr(record.block_executed, field, value)
    with pytest.raises(InvalidInput, match=named):
        trace_record_from_proto(record)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("aborted_hashes", bytes(32), "differ in length"),
        ("aborted_hashes", bytes(33), "aborted_hashes"),
        ("aborted_reasons", b"\x21\x01", "aborted_reasons holds 1"),
        ("aborted_together", b"\x00\x02", "aborted_together holds 2"),
    ],
)
def test_verdict_columns_that_do_not_fit_are_refused(field: str, value: bytes, named: str) -> None:
    (event,) = [event for event in EVENTS if isinstance(event, HeightResolved)]
    record = trace_record_to_proto(stamped(event))
    setattr(record.height_resolved, field, value)
    with pytest.raises(InvalidInput, match=named):
        trace_record_from_proto(record)


def test_a_certificate_of_an_unknown_status_is_refused() -> None:
    (event,) = [event for event in EVENTS if isinstance(event, CertificateMoved)]
    record = trace_record_to_proto(stamped(event))
    record.certificate_moved.status = 9
    with pytest.raises(InvalidInput, match="certificate status holds 9"):
        trace_record_from_proto(record)


def test_columns_tell_of_every_event() -> None:
    """What has no columns of its own is the event itself."""
    items = [item for item, _ in read_columns(ALL)]
    assert [end for _, end in read_columns(ALL)] == _ends()
    for event, item in zip(EVENTS, items, strict=True):
        match event:
            case HeightResolved():
                assert isinstance(item, ResolvedColumns)
                assert (item.epoch, item.height, item.rounds) == (event.epoch, event.height, event.rounds)
                assert item.aborted_hashes == b"".join(bundle for bundle, _, _ in event.aborted)
                assert item.aborted_reasons == bytes(reason for _, reason, _ in event.aborted)
                assert item.aborted_together == bytes([0, 1])
            case BlockExecuted():
                assert isinstance(item, ExecutedColumns)
                assert item.skip_reasons == bytes(outcome.reason or 0 for outcome in event.outcomes)
            case BlockSequenced():
                assert isinstance(item, CutColumns)
            case _:
                assert isinstance(item, Occurrence)
                assert item.event == event


def test_an_unknown_kind_of_event_is_refused() -> None:
    with pytest.raises(InvalidInput, match="another version"):
        trace_record_from_proto(pb.TraceRecord(monotonic_ns=1))


def test_the_file_holds_what_was_recorded_with_both_times(tmp_path: Path) -> None:
    clock = ManualClock(wall_ns=1_000_000)
    tracer = FileTracer(tmp_path / "sub" / "node.trace", clock)
    clock.advance(ns=500)
    tracer.record(HEALED)
    tracer.record(HEALED, monotonic_ns=200)
    records = list(read_records(tracer.path.read_bytes()))
    assert [(record.monotonic_ns, record.wall_ns) for record in records] == [(500, 1_000_500), (200, 1_000_200)]
    assert tracer.size_bytes == tracer.path.stat().st_size
    tracer.close()


@pytest.mark.parametrize("torn", [1, 5, 20])
def test_opening_cuts_a_torn_record_and_goes_on(tmp_path: Path, torn: int) -> None:
    path = tmp_path / "node.trace"
    path.write_bytes(ALL[:-torn])
    tracer = FileTracer(path, ManualClock())
    assert tracer.size_bytes == _ends()[-2]
    tracer.record(HEALED)
    tracer.close()
    assert [record.event for record in read_records(path.read_bytes())] == [*EVENTS[:-1], HEALED]


def test_a_file_that_is_no_trace_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.trace"
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(InvalidInput, match="not a trace file"):
        FileTracer(path, ManualClock())
    assert path.read_bytes() == b"\xff" * 100


def test_records_survive_the_death_of_the_process(tmp_path: Path) -> None:
    path = tmp_path / "node.trace"
    script = (
        "import os, pathlib, sys\n"
        "from nodes.telemetry.clock import SystemClock\n"
        "from nodes.telemetry.events import FaultHealed\n"
        "from nodes.wire.file_tracer import FileTracer\n"
        "tracer = FileTracer(pathlib.Path(sys.argv[1]), SystemClock())\n"
        "for _ in range(50): tracer.record(FaultHealed(fault='pause', target='red-0'))\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(path)], check=False, cwd=Path(__file__).parents[2])
    assert ended.returncode == -9
    assert [record.event for record in read_records(path.read_bytes())] == [HEALED] * 50


def test_threads_do_not_mix_their_records(tmp_path: Path) -> None:
    tracer = FileTracer(tmp_path / "node.trace", ManualClock())
    event = ReaderStalled(height=1, reason="x" * 5000, source="s")

    def record_many() -> None:
        for _ in range(50):
            tracer.record(event)

    threads = [threading.Thread(target=record_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracer.close()
    assert [record.event for record in read_records(tracer.path.read_bytes())] == [event] * 200


def test_a_write_that_fails_leaves_whole_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = FileTracer(tmp_path / "node.trace", ManualClock())
    tracer.record(HEALED)
    write = os.write

    def half_then_full(file: int, data: bytes) -> int:
        if len(data) < 10:
            raise OSError(28, "No space left on device")
        return write(file, data[:-5])

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(OSError, match="No space"):
        tracer.record(HEALED)
    monkeypatch.undo()
    tracer.record(HEALED)
    tracer.close()
    assert len(list(read_records(tracer.path.read_bytes()))) == 2


def test_listeners_hear_records_and_the_close(tmp_path: Path) -> None:
    tracer = FileTracer(tmp_path / "node.trace", ManualClock())
    heard: list[int] = []
    unsubscribe = tracer.subscribe(lambda: heard.append(tracer.size_bytes))
    tracer.record(CheckpointWritten(height=1, size_bytes=2, duration_ns=3))
    assert heard == [tracer.size_bytes]
    tracer.close()
    tracer.close()
    assert len(heard) == 2
    unsubscribe()
    with pytest.raises(TestbedError, match="closed"):
        tracer.record(HEALED)
