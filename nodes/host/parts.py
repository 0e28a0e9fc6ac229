"""What a host gives to the nodes that it runs: folder, ports, trace, clock, a place to serve, and when to end.

Knows no kind of node; the `run_*` modules do, and each imports only what its own kind needs.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nodes.host.ports import GRPC, PortBook
from nodes.model.config import HostConfig, NodeEndpoint
from nodes.model.errors import Unavailable, UnknownName
from nodes.model.faults import Fault
from nodes.ports import Link, direct
from nodes.sequencer.backends import BACKENDS, Backend
from nodes.telemetry.clock import Clock, boot_id
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import NodeStarted
from nodes.telemetry.tracer import DiscardingTracer, Tracer
from nodes.wire.channel import Servicer, join_address, server
from nodes.wire.file_tracer import FileTracer
from nodes.wire.links import Links
from nodes.wire.meter import ByteMeter

TRACE_FILE = "trace.bin"
STOP_ORDER = ("builder", "rollup", "agglayer", "attester", "sequencer", "l1")
"""Readers end before what they read: they would complain of a source that went away."""


class ServiceNode(Protocol):
    """A node that a host runs and serves."""

    async def run(self) -> None:
        """Own the node's tasks until `stop`; raises what ended them otherwise. Called once."""
        ...

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        ...

    async def wait_ready(self) -> None:
        """Return when the node can be used. Raises Unavailable where it ended before."""
        ...

    async def inject(self, fault: Fault) -> None:
        """Take a fault. Raises InvalidInput for one that this node cannot have."""
        ...

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        ...


@dataclass(slots=True)
class Running:
    """What a host keeps of one of its nodes."""

    name: str
    kind: str
    directory: Path
    ports: PortBook
    tracer: Tracer
    meter: ByteMeter = field(default_factory=ByteMeter)
    endpoint: NodeEndpoint | None = None
    """Set once the node is usable."""
    inject: Callable[[Fault], Awaitable[None]] | None = None
    stage_cpu_ns: Callable[[], Mapping[str, int]] = dict
    engine_pid: Callable[[], int] = int
    rpc_url: Callable[[], str] = str
    engine_pss_bytes: int = 0


class HostParts:
    """The nodes of one process, and what they share."""

    def __init__(self, config: HostConfig, *, clock: Clock, crash: CrashPoint) -> None:
        self.config = config
        self.clock = clock
        self.crash = crash
        self.binary = Path()
        """The engine; set before any node that needs one is run."""
        self.stopping = asyncio.Event()
        self.nodes: dict[str, Running] = {}
        self.tracers: dict[str, FileTracer] = {}
        self.links = None if config.wide_area is None else Links(config.wide_area, clock=clock)
        """Emulated links of the nodes to peers in other regions."""
        self._directory = Path(config.directory)
        self._changed: Callable[[], None] = lambda: None
        self._left = dict.fromkeys(STOP_ORDER, 0)
        self._all_usable = {kind: asyncio.Event() for kind in STOP_ORDER}
        self._ended = {kind: asyncio.Event() for kind in STOP_ORDER}

    def on_usable(self, changed: Callable[[], None]) -> None:
        """Call `changed` each time a node has become usable."""
        self._changed = changed

    def link(self, node: str) -> Link:
        """By which a node of this process reaches others: every address that it is given goes through it."""
        return direct if self.links is None else self.links.of(node)

    def open(self, name: str, *, kind: str, ports: Mapping[str, int]) -> Running:
        """Folder, ports and trace of a node, which records that it has begun."""
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        book = PortBook(directory, host=self.config.bind_host)
        tracer: Tracer = DiscardingTracer()
        if self.config.trace:
            tracer = self.tracers[name] = FileTracer(directory / TRACE_FILE, self.clock)
        running = Running(name=name, kind=kind, directory=directory, ports=book, tracer=tracer)
        self.nodes[name] = running
        for use, wanted in ports.items():
            book.reserve([use], wanted=wanted)
        host = self.config.advertise_host
        tracer.record(NodeStarted(node=name, kind=kind, pid=os.getpid(), host=host, boot_id=boot_id()))
        return running

    async def serve(self, running: Running, node: ServiceNode, servicers: Iterable[Servicer]) -> None:
        """Run a node, and serve it on its port once it is usable, until the host stops."""
        running.inject, running.stage_cpu_ns = node.inject, lambda: node.stage_cpu_ns
        async with asyncio.TaskGroup() as group:
            await begun(node.wait_ready, group.create_task(node.run()))
            async with self.serving(running, servicers) as grpc_address:
                self.usable(running, grpc_address, rpc_url=running.rpc_url())
                await self.until_stop(running.kind)
            node.stop()

    @contextlib.asynccontextmanager
    async def serving(self, running: Running, servicers: Iterable[Servicer]) -> AsyncIterator[str]:
        """Listen on the node's port while the block lasts; yields host:port as others reach it."""
        port = running.ports.release(GRPC)
        host = self.config.bind_host
        async with server(servicers, name=running.name, host=host, port=port, meter=running.meter) as bound:
            yield join_address(self.config.advertise_host, bound.port)

    def usable(self, running: Running, grpc_address: str, *, rpc_url: str = "") -> None:
        """The node can be reached at these addresses."""
        running.endpoint = NodeEndpoint(
            name=running.name,
            kind=running.kind,
            grpc_address=grpc_address,
            rpc_url=rpc_url.replace(self.config.bind_host, self.config.advertise_host),
            engine_pid=running.engine_pid(),
        )
        usable = sum(node.kind == running.kind and node.endpoint is not None for node in self.nodes.values())
        if usable == self._left[running.kind]:
            self._all_usable[running.kind].set()
        self._changed()

    def count(self, kind: str) -> None:
        """A node of this kind will run; before any of them does."""
        self._left[kind] += 1

    def ended(self, kind: str) -> None:
        """A node of this kind has ended in order."""
        self._left[kind] -= 1
        if not self._left[kind]:
            self._ended[kind].set()

    async def until_usable(self, kind: str) -> None:
        """Return when every node of this kind in this process is usable; at once where it has none."""
        if self._left[kind]:
            await self._all_usable[kind].wait()

    async def until_stop(self, kind: str) -> None:
        """Return when a node of this kind shall end: the host stops, and the nodes that read it here have ended."""
        await self.stopping.wait()
        for before in STOP_ORDER[: STOP_ORDER.index(kind)]:
            if self._left[before]:
                await self._ended[before].wait()

    def close(self) -> None:
        """Let go of ports and traces."""
        if self.links is not None:
            self.links.close()
        for running in self.nodes.values():
            running.ports.close()
        for tracer in self.tracers.values():
            tracer.close()


async def begun(wait_ready: Callable[[], Awaitable[None]], run: asyncio.Task[None]) -> None:
    """Wait until a part is ready. Raises what ended it before.

    The caller's group would cancel `run` while it cleans up, and so lose what broke it: it is awaited first.
    """
    try:
        await wait_ready()
    except Unavailable:
        await run
        raise


def backend_named(name: str) -> Backend:
    """A line of the table of backends. Raises UnknownName."""
    if name not in BACKENDS:
        raise UnknownName(kind="backend", name=name, known=BACKENDS)
    return BACKENDS[name]
