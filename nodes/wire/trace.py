"""The Trace service: every node's records from any offset of its file, as bytes; and its client.

Does not look into records: the bytes that a reader gets are the bytes of the file.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc

from nodes.model.errors import InvalidInput, UnknownName
from nodes.wire.client import Client
from nodes.wire.file_tracer import FileTracer
from nodes.wire.trace_records import MAX_LENGTH_BYTES, record_span, whole_records
from protos.lockstep.trace.v1 import trace_pb2 as pb
from protos.lockstep.trace.v1 import trace_pb2_grpc as pb_grpc

CHUNK_BYTES = 256 * 1024
"""What one message carries, unless a single record is larger."""


class TraceChunk(NamedTuple):
    """Whole records of one node's file."""

    offset: int
    """Of the first byte; the next chunk starts at `offset + len(records)`."""
    records: bytes
    """For `nodes.wire.trace_records.read_records`."""


class TraceServicer(pb_grpc.TraceServicer):
    """Serves the traces of the nodes of one process. `tracers` is looked up at every call and may change."""

    def __init__(self, tracers: Mapping[str, FileTracer]) -> None:
        self._tracers = tracers

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_TraceServicer_to_server(self, server)

    async def Collect(  # noqa: N802
        self, request: pb.CollectRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write chunks; with `follow`, until the tracer is closed. A slow reader slows only its own stream."""
        tracer = self._tracers.get(request.node)
        if tracer is None:
            raise UnknownName(kind="traced node", name=request.node, known=self._tracers)
        offset = request.offset
        if offset > tracer.size_bytes:
            raise InvalidInput(f"the trace of {request.node} has {tracer.size_bytes:,} bytes, not {offset:,}")
        loop = asyncio.get_running_loop()
        grown = asyncio.Event()
        unsubscribe = tracer.subscribe(lambda: loop.call_soon_threadsafe(grown.set))
        try:
            while True:
                grown.clear()
                while chunk := _next_chunk(tracer, offset):
                    await context.write(pb.CollectResponse(offset=offset, records=chunk))
                    offset += len(chunk)
                if not request.follow or tracer.closed:
                    return
                await grown.wait()
        finally:
            unsubscribe()


class TraceClient(Client):
    """Reads traces of the nodes of one process."""

    def _make_stub(self, metered: Any) -> pb_grpc.TraceStub:
        return pb_grpc.TraceStub(metered)

    async def collect(self, node: str, *, offset: int = 0, follow: bool = False) -> AsyncGenerator[TraceChunk, None]:
        """Chunks in order; with `follow`, until the node ends its trace.

        Raises UnknownName, InvalidInput for an offset past the end, Unavailable when the connection breaks: ask again
        from the end of the last chunk.
        """
        expected = offset
        request = pb.CollectRequest(node=node, offset=offset, follow=follow)
        async with aclosing(self._stream("Collect", request)) as messages:
            async for message in messages:
                if message.offset != expected:
                    raise InvalidInput(f"{self.address} sent trace bytes from {message.offset:,}, not {expected:,}")
                expected += len(message.records)
                yield TraceChunk(message.offset, message.records)


def _next_chunk(tracer: FileTracer, offset: int) -> bytes:
    """Whole records from `offset` on, about CHUNK_BYTES of them; empty at the end of the file."""
    data = tracer.read(offset, CHUNK_BYTES)
    if len(data) < CHUNK_BYTES:
        return data  # what a tracer gives out ends with a whole record
    end = whole_records(data)
    if end:
        return data[:end]
    span = record_span(data[:MAX_LENGTH_BYTES], 0)
    assert span is not None
    return tracer.read(offset, span[1])
