"""The submit stream over real gRPC: order, bounds, senders that give up, servers that end."""

import asyncio
import hashlib

import pytest

from nodes.model.errors import (
    Overloaded,
    Unavailable,
)
from nodes.wire import submit_stream
from nodes.wire.channel import server
from nodes.wire.sequencer import STREAM_IN_FLIGHT, SequencerClient, SequencerServicer
from tests.support.wire_fakes import HOST, FakeSequencer, serving


async def test_a_stream_hands_on_before_earlier_requests_are_durable_and_answers_in_order() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, client.submit_stream() as stream, asyncio.TaskGroup() as group:
        sends = [group.create_task(stream.send([bytes([n]), bytes([n, n])])) for n in range(20)]
        while len(fake.taken) < 40:
            await asyncio.wait(sends, timeout=0.01)
        assert not any(send.done() for send in sends)
        fake.answered.set()
    assert fake.taken == [data for n in range(20) for data in (bytes([n]), bytes([n, n]))]
    for n, send in enumerate(sends):
        assert [ticket.submission_hash for ticket in send.result()] == [
            hashlib.sha256(data).digest() for data in (bytes([n]), bytes([n, n]))
        ]


async def test_a_stream_bounds_what_is_unanswered() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, client.submit_stream(in_flight=3) as stream, asyncio.TaskGroup() as group:
        sends = [group.create_task(stream.send([bytes([n])])) for n in range(10)]
        while len(fake.taken) < 3:
            await asyncio.wait(sends, timeout=0.01)
        await client.status()  # a round trip later, a fourth would have arrived
        assert len(fake.taken) == 3
        fake.answered.set()
    assert len(fake.taken) == 10


async def test_the_server_bounds_a_stream_that_does_not_bound_itself() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client:
        async with client.submit_stream(in_flight=10 * STREAM_IN_FLIGHT) as stream, asyncio.TaskGroup() as group:
            sends = [group.create_task(stream.send([bytes([n % 256])])) for n in range(4 * STREAM_IN_FLIGHT)]
            while len(fake.taken) < STREAM_IN_FLIGHT:
                await asyncio.wait(sends, timeout=0.01)
            await client.status()
            assert len(fake.taken) <= STREAM_IN_FLIGHT + 2
            fake.answered.set()
        assert len(fake.taken) == 4 * STREAM_IN_FLIGHT


async def test_a_full_mempool_does_not_end_a_stream() -> None:
    fake = FakeSequencer()
    async with serving(fake) as client, client.submit_stream() as stream:
        fake.error = Overloaded("full", retry_after_ms=0)
        with pytest.raises(Overloaded) as raised:
            await stream.send([b"a"])
        assert raised.value.retry_after_ms == 1
        fake.error = None
        assert len(await stream.send([b"a"])) == 1
    assert fake.taken == [b"a"]


async def test_a_sender_that_gives_up_shifts_nobody_elses_answer() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, client.submit_stream() as stream, asyncio.TaskGroup() as group:
        first = group.create_task(stream.send([b"first"]))
        second = group.create_task(stream.send([b"second", b"third"]))
        while len(fake.taken) < 3:
            await asyncio.wait([first, second], timeout=0.01)
        first.cancel()
        await asyncio.wait([first])
        fake.answered.set()
        assert len(await second) == 2
    assert first.cancelled()


async def test_a_server_that_ends_breaks_the_stream_for_every_sender() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with server([SequencerServicer(fake)], name="seq-0", host=HOST, port=0) as bound:
        client = SequencerClient(bound.address)
        stream_context = client.submit_stream()
        stream = await stream_context.__aenter__()
        sends = [asyncio.ensure_future(stream.send([bytes([n])])) for n in range(5)]
        while len(fake.taken) < 5:
            await asyncio.wait(sends, timeout=0.01)
    results = await asyncio.gather(*sends, return_exceptions=True)
    assert [type(result) for result in results] == [Unavailable] * 5
    with pytest.raises(Unavailable, match="stream broke"):
        await stream.send([b"later"])
    await stream_context.__aexit__(None, None, None)
    await client.close()


async def test_a_bug_in_the_sequencer_breaks_the_stream_with_an_expected_error() -> None:
    fake = FakeSequencer()
    fake.error = ZeroDivisionError("secret")
    async with serving(fake) as client, client.submit_stream() as stream:
        with pytest.raises(Unavailable, match="seq-0"):
            await stream.send([b"x"])


async def test_the_body_of_a_stream_raises_its_own_errors() -> None:
    async with serving(FakeSequencer()) as client:
        with pytest.raises(KeyError, match="mine"):
            async with client.submit_stream():
                raise KeyError("mine")


async def test_a_server_that_does_not_answer_is_unavailable_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_stream, "SUBMIT_DEADLINE_S", 0.05)
    monkeypatch.setattr("nodes.wire.sequencer.SUBMIT_DEADLINE_S", 0.05)
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, client.submit_stream() as stream:
        with pytest.raises(Unavailable, match="did not answer"):
            await stream.send([b"x"])
        with pytest.raises(Unavailable, match="in time"):
            await client.submit([b"x"])
