"""Follows the trace of every node of a running testnet, keeps the raw bytes, and knows at any moment what is resolved.

A node that dies is followed again from the byte where its trace was last read; its file survives it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from coordinator.collect.node_trace import NodeTrace
from nodes.model.errors import Unavailable
from nodes.telemetry.clock import thread_cpu_ns
from nodes.wire.trace import TraceClient
from nodes.wire.trace_columns import TraceItem

RECONNECT_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceSource:
    """Where one node's trace is served."""

    node: str
    address: str
    """gRPC address of its process; kept across restarts."""


class Collector:
    """Run it beside the load; read `traces` at any time, from the same loop."""

    def __init__(
        self,
        sources: Sequence[TraceSource],
        directory: Path,
        *,
        on_item: Callable[[str, TraceItem], None] = lambda node, item: None,
    ) -> None:
        self._sources = tuple(sources)
        self._directory = directory
        self.traces: Mapping[str, NodeTrace] = {
            source.node: NodeTrace(source.node, on_item=_bound(on_item, source.node)) for source in self._sources
        }
        self.cpu_ns = 0
        """Thread CPU time spent on reading records."""

    async def run(self) -> None:
        """Follow until cancelled."""
        clients = {source.address: TraceClient(source.address) for source in self._sources}
        try:
            async with asyncio.TaskGroup() as group:
                for source in self._sources:
                    group.create_task(self._follow(source, clients[source.address]))
        finally:
            for client in clients.values():
                await client.close()

    async def _follow(self, source: TraceSource, client: TraceClient) -> None:
        offset = 0
        with (self._directory / f"{source.node}.trace").open("wb") as file:
            while True:
                try:
                    async for chunk in client.collect(source.node, offset=offset, follow=True):
                        offset += len(chunk.records)
                        self._take(source.node, chunk.records, file)
                except Unavailable:
                    pass  # the process ended or restarts; its launcher's business
                await asyncio.sleep(RECONNECT_S)

    def _take(self, node: str, data: bytes, file: BinaryIO) -> None:
        cpu_ns = thread_cpu_ns()
        file.write(data)
        self.traces[node].feed(data)
        self.cpu_ns += thread_cpu_ns() - cpu_ns


def _bound(on_item: Callable[[str, TraceItem], None], node: str) -> Callable[[TraceItem], None]:
    return lambda item: on_item(node, item)
