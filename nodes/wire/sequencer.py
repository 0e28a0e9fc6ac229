"""The Sequencer service over anything that satisfies `ports.Sequencer`, and the client that satisfies it too.

Submissions pass through as bytes: neither side of the wire decodes a bundle.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import grpc

from nodes.model.errors import LimitExceeded, Overloaded, Unavailable
from nodes.model.ids import RollupId
from nodes.model.limits import MAX_LOCATOR_ENTRIES, SUBMIT_DEADLINE_S
from nodes.model.sequenced_block import BlockRef, SequencerEvent
from nodes.ports import Sequencer, SequencerStatus, Ticket
from nodes.wire.blocks import block_ref_from_proto, block_ref_to_proto, event_from_proto, event_to_proto
from nodes.wire.client import Client
from nodes.wire.meter import well_formed
from nodes.wire.shapes import hash_of
from nodes.wire.streams import closing
from nodes.wire.submit_stream import SubmitStream, check_request, running
from nodes.wire.tickets import (
    sequencer_status_from_proto,
    sequencer_status_to_proto,
    tickets_from_proto,
    tickets_to_proto,
)
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb
from protos.lockstep.sequencer.v1 import sequencer_pb2_grpc as pb_grpc

STREAM_IN_FLIGHT = 64
"""Requests of one submit stream that may be unanswered; a group commit answers several at once."""


class SequencerServicer(pb_grpc.SequencerServicer):
    """Serves one sequencer."""

    def __init__(self, port: Sequencer) -> None:
        self._port = port

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_SequencerServicer_to_server(self, server)

    async def Submit(  # noqa: N802
        self, request: pb.SubmitRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.SubmitResponse:
        """Answer one call's tickets."""
        return await self._submit(request)

    async def SubmitStream(  # noqa: N802
        self, requests: AsyncIterator[pb.SubmitRequest], context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Answer each request in order. Later ones are handed on while earlier ones wait to be durable."""
        answers: asyncio.Queue[asyncio.Task[pb.SubmitResponse | Exception] | None] = asyncio.Queue(STREAM_IN_FLIGHT)
        async with asyncio.TaskGroup() as group:
            group.create_task(_write_in_order(answers, context))
            async for request in requests:
                # Tasks start in the order of their making, and so hand on in it.
                await answers.put(group.create_task(self._answer(request, context.peer())))
            await answers.put(None)

    async def _submit(self, request: pb.SubmitRequest) -> pb.SubmitResponse:
        submissions = list(request.bundles)
        check_request(submissions)
        return tickets_to_proto(await self._port.submit(submissions))

    async def _answer(self, request: pb.SubmitRequest, peer: str) -> pb.SubmitResponse | Exception:
        try:
            return await self._submit(well_formed(request, source=peer))
        except Overloaded as full:
            return pb.SubmitResponse(retry_after_ms=max(1, full.retry_after_ms))
        except Exception as error:  # noqa: BLE001 - the writer raises it in its turn; raised here it would cut a write short
            return error

    async def Follow(  # noqa: N802
        self, request: pb.FollowRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write events for one reader; gRPC's flow control holds the sequencer's iterator back where it is slow."""
        if len(request.locator) > MAX_LOCATOR_ENTRIES:
            raise LimitExceeded(limit="MAX_LOCATOR_ENTRIES", value=len(request.locator), maximum=MAX_LOCATOR_ENTRIES)
        locator = [block_ref_from_proto(ref) for ref in request.locator]
        rollup_id = RollupId(hash_of(request.rollup_id, name="rollup_id"))
        async with closing(self._port.follow(locator, rollup_id)) as events:
            async for event in events:
                await context.write(event_to_proto(event))

    async def GetStatus(  # noqa: N802
        self, _request: pb.GetStatusRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetStatusResponse:
        """Answer a snapshot."""
        return sequencer_status_to_proto(await self._port.status())


async def _write_in_order(
    answers: "asyncio.Queue[asyncio.Task[pb.SubmitResponse | Exception] | None]",
    context: "grpc.aio.ServicerContext[Any, Any]",
) -> None:
    while (task := await answers.get()) is not None:
        answer = await task
        if isinstance(answer, Exception):
            raise answer
        await context.write(answer)


class SequencerClient(Client):
    """A sequencer somewhere else; satisfies `ports.Sequencer`."""

    def _make_stub(self, metered: Any) -> pb_grpc.SequencerStub:
        return pb_grpc.SequencerStub(metered)

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Tickets in order. Raises Overloaded, LimitExceeded, and Unavailable: then sending the same bytes is safe."""
        check_request(submissions)
        request = pb.SubmitRequest(bundles=submissions)
        response = await self._call("Submit", request, timeout_s=SUBMIT_DEADLINE_S)
        return tickets_from_proto(response, count=len(submissions))

    def submit_stream(self, *, in_flight: int = STREAM_IN_FLIGHT) -> AbstractAsyncContextManager[SubmitStream]:
        """A stream for many submit requests: `async with client.submit_stream() as stream: await stream.send(...)`.

        At most `in_flight` requests are unanswered. Once broken it stays broken: leave the block and open another.
        """
        return running(SubmitStream(address=self.address, in_flight=in_flight), lambda: self._stub().SubmitStream())

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """As `ports.Sequencer.follow`; also raises InvalidBlock and InvalidInput where the source sent nonsense."""
        request = pb.FollowRequest(locator=[block_ref_to_proto(ref) for ref in locator], rollup_id=rollup_id)
        async with aclosing(self._stream("Follow", request)) as messages:
            async for message in messages:
                yield event_from_proto(message)
        raise Unavailable(f"{self.address} ended the stream of blocks; it is stopping")

    async def status(self) -> SequencerStatus:
        """As `ports.Sequencer.status`. Raises Unavailable."""
        return sequencer_status_from_proto(await self._call("GetStatus", pb.GetStatusRequest()))
