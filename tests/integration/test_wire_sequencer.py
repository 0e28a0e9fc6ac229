"""The Sequencer service over a real connection: submissions, streams, followers, and peers that misbehave."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import grpc
import pytest

from nodes.model import limits
from nodes.model.errors import (
    InvalidBlock,
    InvalidInput,
    LimitExceeded,
    Overloaded,
    TestbedError,
    Unavailable,
    UnknownName,
)
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    RolledBack,
)
from nodes.ports import Sequencer
from nodes.wire import submit_stream
from nodes.wire.blocks import filtered_block_to_proto
from nodes.wire.channel import server
from nodes.wire.meter import ByteMeter
from nodes.wire.sequencer import SequencerClient, SequencerServicer
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb
from tests.golden.samples import RED, REF, SEQUENCER_STATUS, filled, filtered_block
from tests.support.patience import PATIENCE_S
from tests.support.wire_fakes import HOST, SERVICE, FakeSequencer, answering, block, serving


async def test_submissions_arrive_as_the_exact_bytes() -> None:
    fake = FakeSequencer()
    submissions = [b"", b"one", b"\x00" * 1000]
    async with serving(fake) as client:
        tickets = await client.submit(submissions)
    assert fake.taken == submissions
    assert [ticket.submission_hash for ticket in tickets] == [hashlib.sha256(data).digest() for data in submissions]


async def test_the_client_satisfies_the_port() -> None:
    async with serving(FakeSequencer()) as client:
        port: Sequencer = client
        assert await port.status() == SEQUENCER_STATUS


async def test_a_full_mempool_is_overloaded_with_its_retry_time() -> None:
    fake = FakeSequencer()
    fake.error = Overloaded("the mempool is full", retry_after_ms=70)
    async with serving(fake) as client:
        with pytest.raises(Overloaded) as raised:
            await client.submit([b"x"])
    assert raised.value.retry_after_ms == 70


@pytest.mark.parametrize(
    "error",
    [LimitExceeded(limit="MAX_THINGS", value=2, maximum=1), UnknownName(kind="rollup", name="rde", known=["red"])],
)
async def test_the_servers_errors_come_back_as_raised(error: TestbedError) -> None:
    fake = FakeSequencer()
    fake.error = error
    async with serving(fake) as client:
        for call in (client.submit([b"x"]), client.status(), anext(client.follow([], RED))):
            with pytest.raises(type(error)) as raised:
                await call
            assert vars(raised.value) == vars(error)
            assert str(raised.value) == str(error)


async def test_a_bug_is_logged_here_and_says_nothing_there(caplog: pytest.LogCaptureFixture) -> None:
    fake = FakeSequencer()
    fake.error = ZeroDivisionError("secret detail")
    with caplog.at_level(logging.ERROR, logger="nodes.wire"):
        async with serving(fake) as client:
            with pytest.raises(Unavailable) as raised:
                await client.status()
            assert "seq-0" in str(raised.value)
            assert "INTERNAL" in str(raised.value)
            assert "secret" not in str(raised.value)
            # Other calls go on.
            fake.error = None
            assert await client.status() == SEQUENCER_STATUS
    assert "secret detail" in caplog.text


async def test_a_request_above_a_limit_is_refused_before_it_is_sent() -> None:
    fake = FakeSequencer()
    async with serving(fake) as client:
        with pytest.raises(LimitExceeded, match="MAX_SUBMISSIONS_PER_CALL"):
            await client.submit([b""] * (limits.MAX_SUBMISSIONS_PER_CALL + 1))
        with pytest.raises(LimitExceeded, match="MAX_MESSAGE_BYTES"):
            await client.submit([bytes(limits.MAX_MESSAGE_BYTES)])
        async with client.submit_stream() as stream:
            with pytest.raises(LimitExceeded, match="MAX_MESSAGE_BYTES"):
                await stream.send([bytes(limits.MAX_MESSAGE_BYTES)])
            assert len(await stream.send([b"x"])) == 1
    assert fake.taken == [b"x"]


async def test_a_request_that_grpc_itself_refuses_names_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit_stream, "MAX_MESSAGE_BYTES", 2 * limits.MAX_MESSAGE_BYTES)
    async with serving(FakeSequencer()) as client:
        with pytest.raises(LimitExceeded, match="MAX_MESSAGE_BYTES is 33,554,432, but 33,554,4") as raised:
            await client.submit([bytes(limits.MAX_MESSAGE_BYTES)])
        assert raised.value.maximum == limits.MAX_MESSAGE_BYTES
        assert raised.value.value > limits.MAX_MESSAGE_BYTES


async def test_an_answer_that_grpc_itself_refuses_names_the_limit() -> None:
    async def huge(_request: bytes, _context: Any) -> bytes:
        return bytes(limits.MAX_MESSAGE_BYTES + 1)

    async with answering("GetStatus", huge) as client:
        client_options_allow = limits.MAX_MESSAGE_BYTES
        with pytest.raises(LimitExceeded, match="MAX_MESSAGE_BYTES") as raised:
            await client.status()
        assert raised.value.maximum == client_options_allow


async def test_the_server_checks_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(FakeSequencer()) as client:
        with pytest.raises(LimitExceeded, match="MAX_LOCATOR_ENTRIES"):
            await anext(client.follow([REF] * (limits.MAX_LOCATOR_ENTRIES + 1), RED))
        with pytest.raises(InvalidInput, match="rollup_id has 3 bytes"):
            await anext(client.follow([], RollupId(b"red")))
        with pytest.raises(InvalidInput, match="block hash"):
            await anext(client.follow([BlockRef(height=Height(1), hash=b"x")], RED))  # type: ignore[arg-type]
        request = pb.SubmitRequest(bundles=[b""] * (limits.MAX_SUBMISSIONS_PER_CALL + 1))
        with pytest.raises(LimitExceeded, match="MAX_SUBMISSIONS_PER_CALL"):
            await client._call("Submit", request)


async def test_a_follower_gets_every_kind_of_event_and_then_the_end() -> None:
    fake = FakeSequencer()
    fake.events = [
        block(),
        CommitmentRaised(height=Height(1), level=Commitment.FIRM),
        RolledBack(to=REF),
    ]
    fake.more.put_nowait(None)
    async with serving(fake) as client:
        events = client.follow([REF], RED)
        received = [await anext(events) for _ in fake.events]
        with pytest.raises(Unavailable, match="ended the stream"):
            await anext(events)
    assert received == fake.events
    assert fake.asked == ([REF], RED)


async def test_a_follower_that_leaves_closes_the_sequencers_iterator() -> None:
    fake = FakeSequencer()
    fake.events = [block()]
    async with serving(fake) as client:
        async with aclosing(client.follow([], RED)) as events:
            await anext(events)
            assert fake.readers == 1
        async with asyncio.timeout(PATIENCE_S):
            await fake.no_readers.wait()


async def test_a_slow_follower_holds_the_sequencer_back() -> None:
    fake = FakeSequencer()
    big = replace(filtered_block(), finality_proof=bytes(100_000))
    fake.events = [BlockSequenced(block=big)] * 1_000
    async with serving(fake) as client, aclosing(client.follow([], RED)) as events:
        await anext(events)
        before = -1
        while fake.served != before:  # until the transport's buffers are full
            before = fake.served
            for _ in range(20):
                await client.status()
        assert fake.served < 500  # flow control lets some MiB pass
        for _ in range(999):
            await anext(events)
    assert fake.served == 1_000


async def test_a_server_that_dies_is_unavailable_to_its_follower() -> None:
    fake = FakeSequencer()
    fake.events = [block()]
    async with server([SequencerServicer(fake)], name="seq-0", host=HOST, port=0) as bound:
        client = SequencerClient(bound.address)
        events = client.follow([], RED)
        await anext(events)
    with pytest.raises(Unavailable):
        await anext(events)
    with pytest.raises(Unavailable, match="check that the node runs"):
        await client.status()
    await client.close()


async def test_closing_a_client_ends_its_calls_as_unavailable() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, asyncio.TaskGroup() as group:
        submitting = group.create_task(_outcome(client.submit([b"x"])))
        following = group.create_task(_outcome(anext(client.follow([], RED))))
        while not fake.taken or not fake.readers:
            await asyncio.wait([submitting, following], timeout=0.01)
        await client.close()
        assert isinstance(await submitting, Unavailable)
        assert isinstance(await following, Unavailable)
        with pytest.raises(Unavailable, match="closed"):
            await client.status()


async def _outcome(call: Any) -> object:
    try:
        return await call
    except TestbedError as error:
        return error


async def test_a_cancelled_caller_is_cancelled_and_not_unavailable() -> None:
    fake = FakeSequencer()
    fake.answered.clear()
    async with serving(fake) as client, asyncio.TaskGroup() as group:
        submitting = group.create_task(client.submit([b"x"]))
        while not fake.taken:
            await asyncio.wait([submitting], timeout=0.01)
        submitting.cancel()
        await asyncio.wait([submitting])
        assert submitting.cancelled()


async def test_answers_that_are_no_messages_are_refused_by_name() -> None:
    async def garbage(_request: bytes, _context: Any) -> bytes:
        return b"\xff\xff\xff"

    async with answering("GetStatus", garbage) as client:
        with pytest.raises(InvalidInput, match="3 bytes that are not the expected message"):
            await client.status()
    async with answering("Submit", garbage) as client:
        with pytest.raises(InvalidInput, match=HOST):
            await client.submit([b"x"])


async def test_a_misshapen_block_from_a_peer_is_an_invalid_block() -> None:
    message = filtered_block_to_proto(filtered_block())
    message.siblings[0].rows_root = filled(1, 31)

    async def misshapen(_request: bytes, _context: Any) -> AsyncIterator[bytes]:
        yield pb.FollowResponse(block=message).SerializeToString()

    async with answering("Follow", misshapen, kind="unary_stream") as client:
        with pytest.raises(InvalidBlock, match="rows_root"):
            await anext(client.follow([], RED))


async def test_a_peer_that_answers_unasked_breaks_the_stream() -> None:
    async def chatty(_requests: Any, _context: Any) -> AsyncIterator[bytes]:
        yield pb.SubmitResponse().SerializeToString()
        await asyncio.Event().wait()

    async with answering("SubmitStream", chatty, kind="stream_stream") as client:
        async with client.submit_stream() as stream:
            # Whether the answer finds this request or none, it is not this request's.
            with pytest.raises((Unavailable, InvalidInput)):
                await stream.send([b"x"])


async def test_a_service_that_is_not_there_says_so() -> None:
    async with server([], name="red-0", host=HOST, port=0) as bound, SequencerClient(bound.address) as client:
        with pytest.raises(Unavailable, match="another service or version"):
            await client.status()


async def test_a_request_that_is_no_message_is_refused() -> None:
    async with server([SequencerServicer(FakeSequencer())], name="seq-0", host=HOST, port=0) as bound:
        async with grpc.aio.insecure_channel(bound.address) as opened:
            raw: Any = opened
            for method in (raw.unary_unary(f"/{SERVICE}/Submit"), raw.unary_unary(f"/{SERVICE}/GetStatus")):
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await method(b"\xff\xff")
                assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            stream = raw.stream_stream(f"/{SERVICE}/SubmitStream")()
            await stream.write(b"\xff\xff")
            assert await stream.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_bytes_are_counted_at_both_ends() -> None:
    served, called = ByteMeter(), ByteMeter()
    async with server([SequencerServicer(FakeSequencer())], name="seq-0", host=HOST, port=0, meter=served) as bound:
        async with SequencerClient(bound.address, meter=called) as client:
            await client.submit([b"x" * 100])
    assert served.received_bytes == called.sent_bytes > 100
    assert served.sent_bytes == called.received_bytes > 32


async def test_a_port_in_use_names_the_address_and_the_remedy() -> None:
    async with server([], name="seq-0", host=HOST, port=0) as bound:
        with pytest.raises(Unavailable, match=f"seq-1 cannot listen on {bound.address}.*in use.*another port"):
            async with server([], name="seq-1", host=HOST, port=bound.port):
                pass


async def test_an_address_that_is_not_ours_cannot_be_bound() -> None:
    with pytest.raises(Unavailable, match=r"cannot listen on 192\.0\.2\.1"):
        async with server([], name="seq-0", host="192.0.2.1", port=0):
            pass


async def test_a_server_comes_back_on_its_port_and_clients_find_it() -> None:
    fake = FakeSequencer()
    async with server([SequencerServicer(fake)], name="seq-0", host=HOST, port=0) as bound:
        client = SequencerClient(bound.address)
        await client.status()
    for _ in range(3):
        async with server([SequencerServicer(fake)], name="seq-0", host=HOST, port=bound.port):
            await client._call("GetStatus", pb.GetStatusRequest(), wait_for_ready=True)
    await client.close()
