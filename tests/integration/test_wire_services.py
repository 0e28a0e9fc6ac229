"""The Rollup, Control and Trace services over a real connection."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from nodes.model.config import HostReady
from nodes.model.errors import EngineFailure, InvalidInput, LimitExceeded, Pruned, Unavailable, UnknownName
from nodes.model.faults import EvidenceKind, Fault, Fork, KillEngine, Rewind, WithholdEvidence
from nodes.model.ids import Height
from nodes.model.limits import MAX_BLOCK_HASHES
from nodes.model.promises import OutcomeEvidence
from nodes.model.status import Heads, LegFate, RollupStatus
from nodes.telemetry.clock import ManualClock, boot_id
from nodes.telemetry.events import FaultHealed, ReaderStalled
from nodes.wire import trace as trace_module
from nodes.wire.channel import server
from nodes.wire.control import ControlClient, ControlServicer
from nodes.wire.file_tracer import FileTracer
from nodes.wire.rollup import RollupClient, RollupServicer, RollupView
from nodes.wire.trace import TraceClient, TraceServicer
from nodes.wire.trace_records import read_records
from tests.golden.samples import FATES, HEADS, HOST_READY, OUTCOMES, ROLLUP_STATUS, filled
from tests.support.patience import PATIENCE_S

HOST = "127.0.0.1"
HEALED = FaultHealed(fault="pause", target="red-0")


class FakeRollup:
    """A chain of 15,000 blocks whose first 100 are pruned."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def status(self) -> RollupStatus:
        return ROLLUP_STATUS

    async def follow_heads(self) -> AsyncIterator[Heads]:
        try:
            yield HEADS
            yield HEADS
            await asyncio.Event().wait()
        finally:
            self.left.set()

    async def block_hashes(self, *, first_number: int, count: int) -> Sequence[bytes]:
        if first_number < 100:
            raise Pruned("blocks below 100 are gone; ask another replica")
        return [number.to_bytes(32, "big") for number in range(first_number, min(first_number + count, 15_000))]

    async def bundle_fates(self, bundle_hash: bytes) -> Sequence[LegFate]:
        return FATES if bundle_hash == filled(7) else []

    async def outcome_proofs(self, bundle_hash: bytes, leg_index: int) -> Sequence[OutcomeEvidence]:
        if leg_index != 1:
            raise Unavailable("red-0 builds no certificates; ask the first node of its rollup")
        return OUTCOMES if bundle_hash == filled(9) else []


async def test_a_rollup_shows_the_same_here_and_there() -> None:
    fake = FakeRollup()
    async with server([RollupServicer(fake)], name="red-0", host=HOST, port=0) as bound:
        async with RollupClient(bound.address) as client:
            view: RollupView = client
            assert await view.status() == ROLLUP_STATUS
            assert await view.bundle_fates(filled(7)) == FATES
            assert await view.bundle_fates(filled(8)) == []
            assert await view.outcome_proofs(filled(9), 1) == OUTCOMES
            assert await view.outcome_proofs(filled(8), 1) == []
            with pytest.raises(Unavailable, match="builds no certificates"):
                await view.outcome_proofs(filled(9), 0)
            with pytest.raises(LimitExceeded, match="MAX_LEGS_PER_BUNDLE"):
                await view.outcome_proofs(filled(9), 255)
            hashes = await view.block_hashes(first_number=14_000, count=MAX_BLOCK_HASHES)
            assert [int.from_bytes(value, "big") for value in hashes] == list(range(14_000, 15_000))
            async with aclosing(client.follow_heads()) as heads:
                assert [await anext(heads), await anext(heads)] == [HEADS, HEADS]
            async with asyncio.timeout(PATIENCE_S):
                await fake.left.wait()


async def test_a_rollups_errors_come_back() -> None:
    async with server([RollupServicer(FakeRollup())], name="red-0", host=HOST, port=0) as bound:
        async with RollupClient(bound.address) as client:
            with pytest.raises(Pruned, match="below 100"):
                await client.block_hashes(first_number=0, count=1)
            with pytest.raises(LimitExceeded, match="MAX_BLOCK_HASHES"):
                await client.block_hashes(first_number=100, count=MAX_BLOCK_HASHES + 1)
            with pytest.raises(InvalidInput, match="bundle_hash has 1 bytes"):
                await client.bundle_fates(b"x")


class FakeHost:
    """Becomes ready when told; remembers faults."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.failure: Exception | None = None
        self.faults: list[tuple[str, Fault]] = []
        self.stopped = False

    async def wait_ready(self) -> HostReady:
        await self.ready.wait()
        if self.failure is not None:
            raise self.failure
        return HOST_READY

    async def inject(self, node: str, fault: Fault) -> None:
        if node != "red-0":
            raise UnknownName(kind="node", name=node, known=["red-0"])
        self.faults.append((node, fault))

    def stop(self) -> None:
        self.stopped = True


FAULTS: list[Fault] = [
    KillEngine(),
    Rewind(height=Height(0)),
    Fork(height=Height(7)),
    *[WithholdEvidence(kind=kind, blocks=2) for kind in EvidenceKind],
]


async def test_the_coordinators_hand_on_a_host() -> None:
    host, clock = FakeHost(), ManualClock(wall_ns=1_000)
    clock.advance(ns=5)
    async with server([ControlServicer(host, clock)], name="host-0", host=HOST, port=0) as bound:
        async with ControlClient(bound.address) as client:
            waiting = asyncio.ensure_future(client.wait_ready(timeout_s=PATIENCE_S))
            assert await client.read_clock() == (5, 1_005, boot_id())
            assert not waiting.done()
            host.ready.set()
            assert await waiting == HOST_READY
            for fault in FAULTS:
                await client.inject("red-0", fault)
            assert host.faults == [("red-0", fault) for fault in FAULTS]
            with pytest.raises(UnknownName, match="red-0"):
                await client.inject("rde-0", KillEngine())
            await client.stop()
            assert host.stopped


async def test_a_node_that_failed_to_start_is_heard_of() -> None:
    host = FakeHost()
    host.failure = EngineFailure("anvil ended with status 1 while it started red-0")
    host.ready.set()
    async with server([ControlServicer(host, ManualClock())], name="host-0", host=HOST, port=0) as bound:
        async with ControlClient(bound.address) as client:
            with pytest.raises(EngineFailure, match="anvil ended"):
                await client.wait_ready(timeout_s=PATIENCE_S)


async def test_a_host_that_is_not_ready_in_time_is_unavailable() -> None:
    async with server([ControlServicer(FakeHost(), ManualClock())], name="host-0", host=HOST, port=0) as bound:
        async with ControlClient(bound.address) as client:
            with pytest.raises(Unavailable, match="in time"):
                await client.wait_ready(timeout_s=0.05)


async def test_a_host_that_does_not_listen_yet_is_waited_for() -> None:
    host = FakeHost()
    host.ready.set()
    async with server([], name="host-0", host=HOST, port=0) as first:
        port = first.port
    async with ControlClient(f"{HOST}:{port}") as client:
        waiting = asyncio.ensure_future(client.wait_ready(timeout_s=PATIENCE_S))
        with pytest.raises(Unavailable):
            await client.read_clock()
        async with server([ControlServicer(host, ManualClock())], name="host-0", host=HOST, port=port):
            assert await waiting == HOST_READY


async def _events(client: TraceClient, *, offset: int = 0) -> tuple[list[object], int]:
    events: list[object] = []
    async for chunk in client.collect("red-0", offset=offset):
        events.extend(record.event for record in read_records(chunk.records))
        offset = chunk.offset + len(chunk.records)
    return events, offset


async def test_a_trace_is_read_from_any_record_on(tmp_path: Path) -> None:
    tracer = FileTracer(tmp_path / "red-0.trace", ManualClock())
    async with server([TraceServicer({"red-0": tracer})], name="host-0", host=HOST, port=0) as bound:
        async with TraceClient(bound.address) as client:
            assert await _events(client) == ([], 0)
            tracer.record(HEALED)
            _, first_end = await _events(client)
            stalled = ReaderStalled(height=1, reason="no leaf proof", source="s")
            tracer.record(stalled)
            assert await _events(client) == ([HEALED, stalled], tracer.size_bytes)
            assert await _events(client, offset=first_end) == ([stalled], tracer.size_bytes)
            assert await _events(client, offset=tracer.size_bytes) == ([], tracer.size_bytes)
            with pytest.raises(InvalidInput, match="bytes, not"):
                await _events(client, offset=tracer.size_bytes + 1)
            with pytest.raises(UnknownName, match="red-0"):
                await anext(client.collect("rde-0"))
    tracer.close()


async def test_large_traces_and_large_records_come_in_whole_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_module, "CHUNK_BYTES", 300)
    tracer = FileTracer(tmp_path / "red-0.trace", ManualClock())
    sizes = [10, 900, 20, 280, 290, 300, 310, 5, 2_000, 1] * 5
    wanted = [ReaderStalled(height=size, reason="x" * size, source="s") for size in sizes]
    for event in wanted:
        tracer.record(event)
    async with server([TraceServicer({"red-0": tracer})], name="host-0", host=HOST, port=0) as bound:
        async with TraceClient(bound.address) as client:
            assert await _events(client) == (wanted, tracer.size_bytes)
    tracer.close()
    assert tracer.path.stat().st_size == tracer.size_bytes


async def test_a_follower_hears_records_as_they_happen_until_the_close(tmp_path: Path) -> None:
    tracer = FileTracer(tmp_path / "red-0.trace", ManualClock())
    tracer.record(HEALED)
    async with server([TraceServicer({"red-0": tracer})], name="host-0", host=HOST, port=0) as bound:
        async with TraceClient(bound.address) as client, asyncio.timeout(PATIENCE_S):
            chunks = client.collect("red-0", follow=True)
            first = await anext(chunks)
            for number in range(20):
                event = ReaderStalled(height=number, reason="r", source="s")
                # Nodes record in the loop, engines' readers in threads.
                await asyncio.to_thread(tracer.record, event) if number % 2 else tracer.record(event)
                chunk = await anext(chunks)
                assert [record.event for record in read_records(chunk.records)] == [event]
            tracer.record(HEALED)
            tracer.close()
            rest = [chunk async for chunk in chunks]
            assert first.offset == 0
            assert [record.event for chunk in rest for record in read_records(chunk.records)] == [HEALED]


async def test_a_follower_that_leaves_is_forgotten(tmp_path: Path) -> None:
    tracer = FileTracer(tmp_path / "red-0.trace", ManualClock())
    tracer.record(HEALED)
    async with server([TraceServicer({"red-0": tracer})], name="host-0", host=HOST, port=0) as bound:
        async with TraceClient(bound.address) as client:
            async with aclosing(client.collect("red-0", follow=True)) as chunks:
                await anext(chunks)
                assert len(tracer._listeners) == 1
            async with asyncio.timeout(PATIENCE_S):
                while tracer._listeners:
                    await _events(client)
    tracer.close()
