"""A sequencer that answers as it is told, behind real gRPC on loopback."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc

from nodes.model.ids import RollupId, SubmissionHash
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    SequencerEvent,
)
from nodes.ports import Sequencer, SequencerStatus, Ticket
from nodes.wire.channel import server
from nodes.wire.sequencer import SequencerClient, SequencerServicer
from tests.golden.samples import SEQUENCER_STATUS, filtered_block

HOST = "127.0.0.1"
SERVICE = "lockstep.sequencer.v1.Sequencer"


class FakeSequencer:
    """Accepts everything once it is let; follows a list of events, then whatever `more` brings."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.answered = asyncio.Event()
        self.answered.set()
        self.error: Exception | None = None
        self.events: list[SequencerEvent] = []
        self.more: asyncio.Queue[SequencerEvent | None] = asyncio.Queue()
        self.served = 0
        self.readers = 0
        self.no_readers = asyncio.Event()
        self.asked: tuple[Sequence[BlockRef], RollupId] | None = None

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        if self.error is not None:
            raise self.error
        self.taken.extend(submissions)
        await self.answered.wait()
        return [
            Ticket(
                submission_hash=SubmissionHash(hashlib.sha256(data).digest()), accepted=True, duplicate=False, reason=""
            )
            for data in submissions
        ]

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncIterator[SequencerEvent]:
        self.asked = (locator, rollup_id)
        if self.error is not None:
            raise self.error
        self.readers += 1
        self.no_readers.clear()
        try:
            for event in self.events:
                self.served += 1
                yield event
            while (event := await self.more.get()) is not None:  # type: ignore[assignment]
                yield event
        finally:
            self.readers -= 1
            if self.readers == 0:
                self.no_readers.set()

    async def status(self) -> SequencerStatus:
        if self.error is not None:
            raise self.error
        return SEQUENCER_STATUS


@asynccontextmanager
async def serving(port: Sequencer) -> AsyncIterator[SequencerClient]:
    """A served sequencer and a client of it."""
    async with server([SequencerServicer(port)], name="seq-0", host=HOST, port=0) as bound:
        async with SequencerClient(bound.address) as client:
            yield client


@asynccontextmanager
async def answering(
    method: str, behaviour: Callable[..., Any], *, kind: str = "unary_unary"
) -> AsyncIterator[SequencerClient]:
    """A server that answers one method with raw bytes, as a broken or foreign one would."""
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(behaviour)
    raw = grpc.aio.server()
    raw.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {method: handler}),))
    port = raw.add_insecure_port(f"{HOST}:0")
    await raw.start()
    try:
        async with SequencerClient(f"{HOST}:{port}") as client:
            yield client
    finally:
        await raw.stop(None)


def block() -> BlockSequenced:
    return BlockSequenced(block=filtered_block())
