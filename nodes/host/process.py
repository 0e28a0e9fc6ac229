"""One node process: builds its nodes from their configs, serves them, and ends when one of them breaks.

The only place that knows every part of a node. It does not know which testnet it belongs to beyond its config, nor who
started it.
"""

import asyncio
import contextlib
import gc
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.host.ports import PortBook
from nodes.model.config import HostConfig, HostReady, NodeEndpoint, RollupNodeConfig, SequencerNodeConfig
from nodes.model.errors import InvalidInput, TestbedError, Unavailable, UnknownName
from nodes.model.execution import RollupParams
from nodes.model.faults import Fault
from nodes.rollup.decode_ahead import DecodeAhead
from nodes.rollup.decode_cache import SenderCache
from nodes.rollup.node import RollupNode
from nodes.rollup.rpc.server import RpcServer
from nodes.sequencer.backends import BACKENDS, Backend
from nodes.telemetry.clock import Clock, SystemClock, boot_id
from nodes.telemetry.crash import CRASH_VARIABLE, crash_at
from nodes.telemetry.events import NodeStarted, ResourcesSampled
from nodes.telemetry.resources import process_cpu_s, process_pss_bytes
from nodes.telemetry.tracer import DiscardingTracer, Tracer
from nodes.wire.channel import Servicer, join_address, server
from nodes.wire.control import ControlServicer
from nodes.wire.file_tracer import FileTracer
from nodes.wire.meter import ByteMeter
from nodes.wire.rollup import RollupServicer
from nodes.wire.sequencer import SequencerClient, SequencerServicer
from nodes.wire.trace import TraceServicer

CONTROL = "control"
GRPC = "grpc"
RPC = "rpc"
TRACE_FILE = "trace.bin"
_PSS_EVERY = 5
"""Memory is read at every fifth sample: it costs 1 ms per 100 MB and process, and a host may hold 32 engines."""


def reserve_address(directory: Path, node: str, *, host: str) -> str:
    """host:port on which a node of `directory` will listen, before any host runs; kept for ever after.

    Other nodes' configs name the sequencer's address, so it must exist before the sequencer does.
    """
    book = PortBook(directory / node, host=host)
    try:
        return join_address(host, book.reserve([GRPC])[GRPC])
    finally:
        book.close()


@dataclass(slots=True)
class _Running:
    """What the host keeps of one of its nodes."""

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
    engine_pss_bytes: int = 0


class Host:
    """Runs the nodes of one config. Satisfies `nodes.wire.control.HostControl`."""

    def __init__(self, config: HostConfig, *, clock: Clock | None = None) -> None:
        # The children of a host become anvil at once; gRPC would print a warning at each fork beside its threads. Read
        # when gRPC is first used.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        self._config = config
        self._clock = clock or SystemClock()
        self._directory = Path(config.directory)
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()  # ready, or ended
        self._rollups_left = len(config.rollups)
        self._rollups_ended = asyncio.Event()
        self._ended: TestbedError | None = None
        self._control_address = ""
        self._tracers: dict[str, FileTracer] = {}
        self._running: dict[str, _Running] = {}
        self._crash = crash_at(os.environ.get(CRASH_VARIABLE, ""))
        # One per process: a bundle's legs are recovered once, however many of its rollups live here.
        self._decode = SenderCache()
        self._decode_ahead = DecodeAhead(self._decode)
        self._process_pss_bytes = 0
        self.was_usable = False
        """Every node was usable at some time."""

    async def run(self) -> None:
        """Own every node until `stop`, or until one breaks: then raise what broke it. Called once."""
        problem: TestbedError | None = None
        try:
            # Before anything listens: it runs a program, and a child holds its parent's sockets until it has become
            # that program, so a port that is let go of at that moment would stay taken.
            binary = await asyncio.to_thread(find_anvil, self._config.engine_path) if self._config.rollups else Path()
            async with asyncio.TaskGroup() as group:
                for sequencer in self._config.sequencers:
                    group.create_task(self._run_sequencer(sequencer), name=sequencer.name)
                group.create_task(self._run_control(), name=CONTROL)
                group.create_task(self._sample_resources(), name="resources")
                for rollup in self._config.rollups:
                    group.create_task(self._run_rollup(rollup, binary), name=rollup.name)
        except TestbedError as error:
            problem = error
            raise
        except BaseExceptionGroup as broken:
            cause = root_cause(broken)
            if not isinstance(cause, TestbedError):
                raise  # a bug: nothing about it is left out
            problem = cause
            raise cause from broken
        finally:
            self._ended = problem or Unavailable(f"host {self._config.name} has ended")
            self._settled.set()
            self._decode_ahead.close()
            for running in self._running.values():
                running.ports.close()
            for tracer in self._tracers.values():
                tracer.close()

    async def wait_ready(self) -> HostReady:
        """Returns once every node is usable. Raises what ended the host before."""
        await self._settled.wait()
        if self._ended is not None:
            raise self._ended
        endpoints = [running.endpoint for running in self._running.values()]
        return HostReady(
            name=self._config.name,
            host=self._config.advertise_host,
            pid=os.getpid(),
            control_address=self._control_address,
            nodes=tuple(endpoint for endpoint in endpoints if endpoint is not None),
        )

    async def inject(self, node: str, fault: Fault) -> None:
        """Give one node a fault. Raises UnknownName, Unavailable where it is not up, InvalidInput where it cannot."""
        running = self._running.get(node)
        if running is None:
            raise UnknownName(kind=f"node of host {self._config.name}", name=node, known=self._running)
        if running.inject is None:
            raise Unavailable(f"{node} is not usable yet; wait until its host is ready")
        await running.inject(fault)

    def stop(self) -> None:
        """Let `run` end in order. Returns at once; idempotent."""
        self._stopping.set()

    # Nodes

    async def _run_sequencer(self, config: SequencerNodeConfig) -> None:
        backend = _backend(config.backend)
        running = self._open(config.name, kind="sequencer", ports={GRPC: config.port})
        node = backend.build(
            backend.configure(config.options),
            testnet=self._config.testnet,
            directory=running.directory,
            clock=self._clock,
            tracer=running.tracer,
            crash=self._crash,
        )
        running.inject, running.stage_cpu_ns = node.inject, lambda: node.stage_cpu_ns
        async with asyncio.TaskGroup() as group:
            await _begun(node.wait_ready, group.create_task(node.run()))
            async with self._serving(running, SequencerServicer(node)) as grpc_address:
                self._usable(running, grpc_address)
                await self._stopping.wait()
                if self._rollups_left:
                    # Readers first: they would complain of a source that went away.
                    await self._rollups_ended.wait()
            node.stop()

    async def _run_rollup(self, config: RollupNodeConfig, binary: Path) -> None:
        params = self._config.testnet.rollup(config.rollup_id)
        if params is None:
            raise InvalidInput(f"{config.name}: rollup id {config.rollup_id.hex()} is not of this testnet")
        running = self._open(config.name, kind="rollup", ports={GRPC: config.port, RPC: config.rpc_port})
        sources = [(address, SequencerClient(address, meter=running.meter)) for address in config.sequencer_endpoints]
        async with contextlib.AsyncExitStack() as clients:
            for _, client in sources:
                await clients.enter_async_context(client)
            node = RollupNode(
                config,
                testnet=self._config.testnet,
                directory=running.directory,
                sources=sources,
                verify_finality=_backend(config.backend).verifier(config.finality_options),
                start_engine=self._engine_starter(config, params, binary, running.directory),
                decode=self._decode,
                decode_ahead=self._decode_ahead,
                clock=self._clock,
                tracer=running.tracer,
                crash=self._crash,
            )
            running.inject = node.inject
            running.stage_cpu_ns, running.engine_pid = lambda: node.stage_cpu_ns, lambda: node.engine_pid
            rpc = RpcServer(node, sources[0][1], self._config.bind_host, running.ports.reserve([RPC])[RPC])
            async with asyncio.TaskGroup() as group:
                await _begun(node.wait_ready, group.create_task(node.run()))
                running.ports.release(RPC)
                await _begun(rpc.wait_ready, group.create_task(rpc.run()))
                node.rpc_url = rpc.url
                async with self._serving(running, RollupServicer(node)) as grpc_address:
                    self._usable(running, grpc_address, rpc_url=rpc.url)
                    await self._stopping.wait()
                rpc.stop()
                node.stop()
        self._rollups_left -= 1
        if not self._rollups_left:
            self._rollups_ended.set()

    def _engine_starter(
        self, config: RollupNodeConfig, params: RollupParams, binary: Path, directory: Path
    ) -> Callable[[bytes | None], Awaitable[AnvilEngine]]:
        async def start(state: bytes | None) -> AnvilEngine:
            return await AnvilEngine.start(
                binary, config.genesis, params, directory / "engine", config.rewind_window, state
            )

        return start

    def _open(self, name: str, *, kind: str, ports: Mapping[str, int]) -> _Running:
        """Folder, ports and trace of a node, which records that it has begun."""
        directory = self._directory / name
        directory.mkdir(parents=True, exist_ok=True)
        book = PortBook(directory, host=self._config.bind_host)
        tracer: Tracer = DiscardingTracer()
        if self._config.trace:
            tracer = self._tracers[name] = FileTracer(directory / TRACE_FILE, self._clock)
        running = _Running(name=name, kind=kind, directory=directory, ports=book, tracer=tracer)
        self._running[name] = running
        for use, wanted in ports.items():
            book.reserve([use], wanted=wanted)
        host = self._config.advertise_host
        tracer.record(NodeStarted(node=name, kind=kind, pid=os.getpid(), host=host, boot_id=boot_id()))
        return running

    @contextlib.asynccontextmanager
    async def _serving(self, running: _Running, servicer: Servicer) -> AsyncIterator[str]:
        port = running.ports.release(GRPC)
        host = self._config.bind_host
        async with server([servicer], name=running.name, host=host, port=port, meter=running.meter) as bound:
            yield join_address(self._config.advertise_host, bound.port)

    def _usable(self, running: _Running, grpc_address: str, *, rpc_url: str = "") -> None:
        running.endpoint = NodeEndpoint(
            name=running.name,
            kind=running.kind,
            grpc_address=grpc_address,
            rpc_url=rpc_url.replace(self._config.bind_host, self._config.advertise_host),
            engine_pid=running.engine_pid(),
        )
        self._check_ready()

    def _check_ready(self) -> None:
        usable = sum(running.endpoint is not None for running in self._running.values())
        if self._control_address and usable == len(self._config.sequencers) + len(self._config.rollups):
            self.was_usable = True
            self._settled.set()

    # The process's own services

    async def _run_control(self) -> None:
        ports = PortBook(self._directory / self._config.name, host=self._config.bind_host)
        ports.reserve([CONTROL])
        services: list[Servicer] = [ControlServicer(self, self._clock), TraceServicer(self._tracers)]
        host, port = self._config.bind_host, ports.release(CONTROL)
        async with server(services, name=self._config.name, host=host, port=port) as bound:
            self._control_address = join_address(self._config.advertise_host, bound.port)
            self._check_ready()
            await self._stopping.wait()

    async def _sample_resources(self) -> None:
        count = 0
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._config.resource_interval_s)
            await asyncio.to_thread(self._record_sample, with_memory=count % _PSS_EVERY == 0)
            count += 1

    def _record_sample(self, *, with_memory: bool) -> None:
        """One sample of every node. The figures of the process are the same in all of them."""
        process_cpu = process_cpu_s(os.getpid())
        if with_memory:
            self._process_pss_bytes = process_pss_bytes(os.getpid())
        for running in list(self._running.values()):
            engine = running.engine_pid()
            if engine and (with_memory or not running.engine_pss_bytes):
                running.engine_pss_bytes = process_pss_bytes(engine)
            running.tracer.record(
                ResourcesSampled(
                    process_cpu_s=process_cpu,
                    process_pss_bytes=self._process_pss_bytes,
                    engine_cpu_s=process_cpu_s(engine) if engine else 0.0,
                    engine_pss_bytes=running.engine_pss_bytes,
                    wire_bytes_in=running.meter.received_bytes,
                    wire_bytes_out=running.meter.sent_bytes,
                    stage_cpu_ns=dict(running.stage_cpu_ns()),
                )
            )


async def _begun(wait_ready: Callable[[], Awaitable[None]], run: asyncio.Task[None]) -> None:
    """Wait until a part is ready. Raises what ended it before.

    The caller's group would cancel `run` while it cleans up, and so lose what broke it: it is awaited first.
    """
    try:
        await wait_ready()
    except Unavailable:
        await run
        raise


def _backend(name: str) -> Backend:
    if name not in BACKENDS:
        raise UnknownName(kind="backend", name=name, known=BACKENDS)
    return BACKENDS[name]


def root_cause(broken: BaseExceptionGroup[BaseException]) -> BaseException:
    """The leaf that explains the others: a bug before an expected error, and that before what merely lost its peer."""
    leaves: list[BaseException] = []
    groups: list[BaseException] = [broken]
    while groups:
        error = groups.pop(0)
        if isinstance(error, BaseExceptionGroup):
            groups.extend(error.exceptions)
        else:
            leaves.append(error)
    return min(leaves, key=lambda leaf: (isinstance(leaf, TestbedError), isinstance(leaf, Unavailable)))


def collect_garbage_rarely() -> None:
    """Let the cycle collector of a process of ours run seldom: it walks thousands of decoded legs and finds nothing.

    At 2,000 bundles/s it took a tenth of all CPU and doubled the p99. Reference counts free what the hot path makes.
    """
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop of a process of ours: uvloop, which saves 3 to 5 % of Python's CPU, where it exists."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
