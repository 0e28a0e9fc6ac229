"""One node process: builds its nodes from their configs, serves them, and ends when one of them breaks.

The only place that knows every part of a node. It does not know which testnet it belongs to beyond its config, nor who
started it.
"""

import asyncio
import contextlib
import gc
import os
import sys
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from nodes.evm.anvil import find_anvil
from nodes.host.parts import HostParts
from nodes.host.ports import CONTROL, GRPC, PortBook
from nodes.model.config import HostConfig, HostReady
from nodes.model.errors import TestbedError, Unavailable, UnknownName
from nodes.model.faults import CrashAt, Fault
from nodes.telemetry.clock import Clock, SystemClock
from nodes.telemetry.crash import CRASH_VARIABLE, CrashSwitch
from nodes.telemetry.events import ResourcesSampled
from nodes.telemetry.resources import process_cpu_s, process_pss_bytes
from nodes.wire.channel import Servicer, join_address, server
from nodes.wire.control import ControlServicer
from nodes.wire.trace import TraceServicer

if TYPE_CHECKING:
    from nodes.divergence.client import DivergenceClient

SWITCH_INTERVAL_S = 0.0005
"""Python's default is 5 ms; reports and verdicts, which come many times a second, would each wait so long. Switching
more often costs nothing that can be measured."""
MAX_THREADS = 2
"""Of background work that the loop hands out: more of it at once would not end sooner, and would hold up the loop."""
_PSS_EVERY = 5
"""Memory is read at every fifth sample: it costs 1 ms per 100 MB and process, and a host may hold 32 engines."""


class Named(Protocol):
    """What all configs of nodes have."""

    @property
    def name(self) -> str:
        """The node's name."""
        ...


NodeConfig = TypeVar("NodeConfig", bound=Named)


def reserve_address(directory: Path, node: str, *, host: str, use: str = GRPC) -> str:
    """host:port on which a node of `directory` will listen, before any host runs; kept for ever after.

    Other nodes' configs name these addresses, so they must exist before the nodes do.
    """
    book = PortBook(directory / node, host=host)
    try:
        return join_address(host, book.reserve([use])[use])
    finally:
        book.close()


class Host:
    """Runs the nodes of one config. Satisfies `nodes.wire.control.HostControl`."""

    def __init__(self, config: HostConfig, *, clock: Clock | None = None) -> None:
        # The children of a host become anvil at once; gRPC would print a warning at each fork beside its threads. Read
        # when gRPC is first used.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        self._config = config
        self._clock = clock or SystemClock()
        self._crash = CrashSwitch(os.environ.get(CRASH_VARIABLE, ""))
        self._parts = HostParts(config, clock=self._clock, crash=self._crash)
        self._parts.on_usable(self._check_ready)
        self._closing = contextlib.ExitStack()
        self._settled = asyncio.Event()  # ready, or ended
        self._ended: TestbedError | None = None
        self._control_address = ""
        self._process_pss_bytes = 0
        self.was_usable = False
        """Every node was usable at some time."""
        self.broken_node = ""
        """The node that broke first; empty while none has."""

    async def run(self) -> None:
        """Own every node until `stop`, or until one breaks: then raise what broke it. Called once."""
        problem: TestbedError | None = None
        _share_the_interpreter()
        try:
            if self._config.rollups or self._config.l1s:
                # Before anything listens: it runs a program, and a child holds its parent's sockets until it has
                # become that program, so a port that is let go of at that moment would stay taken.
                self._parts.binary = await asyncio.to_thread(find_anvil, self._config.engine_path)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._run_control(), name=CONTROL)
                group.create_task(self._sample_resources(), name="resources")
                self._run_nodes(group)
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
            self._closing.close()
            self._parts.close()

    async def wait_ready(self) -> HostReady:
        """Returns once every node is usable. Raises what ended the host before."""
        await self._settled.wait()
        if self._ended is not None:
            raise self._ended
        endpoints = [running.endpoint for running in self._parts.nodes.values()]
        return HostReady(
            name=self._config.name,
            host=self._config.advertise_host,
            pid=os.getpid(),
            control_address=self._control_address,
            nodes=tuple(endpoint for endpoint in endpoints if endpoint is not None),
        )

    async def inject(self, node: str, fault: Fault) -> None:
        """Give one node a fault. Raises UnknownName, Unavailable where it is not up, InvalidInput where it cannot."""
        running = self._parts.nodes.get(node)
        if running is None:
            raise UnknownName(kind=f"node of host {self._config.name}", name=node, known=self._parts.nodes)
        if isinstance(fault, CrashAt):
            self._crash.arm(fault.place, fault.count)  # places are the process's, whichever node reaches them
            return
        if running.inject is None:
            raise Unavailable(f"{node} is not usable yet; wait until its host is ready")
        await running.inject(fault)

    def stop(self) -> None:
        """Let `run` end in order. Returns at once; idempotent."""
        self._parts.stopping.set()

    # Nodes

    def _run_nodes(self, group: asyncio.TaskGroup) -> None:
        """Start every node. Modules are imported as kinds need them: an attester needs no EVM and no web server."""
        config = self._config
        if config.sequencers:
            from nodes.host.run_sequencer import run_sequencer

            self._start(group, "sequencer", config.sequencers, run_sequencer)
        if config.l1s:
            from nodes.host.run_l1 import run_l1

            self._start(group, "l1", config.l1s, run_l1)
        if config.attesters:
            from nodes.host.run_attester import run_attester

            self._start(group, "attester", config.attesters, run_attester)
        if config.agglayers:
            from nodes.host.run_agglayer import run_agglayer

            self._start(group, "agglayer", config.agglayers, run_agglayer)
        if config.rollups:
            from nodes.divergence.client import DivergenceClient
            from nodes.host.run_rollup import RollupRunner

            divergence = DivergenceClient(Path(config.directory))
            group.create_task(self._run_divergence(divergence), name="divergence")
            rollups = RollupRunner(divergence)
            self._closing.callback(rollups.close)
            self._start(group, "rollup", config.rollups, rollups.run)
        if config.builders:
            from nodes.host.run_builder import run_builder

            self._start(group, "builder", config.builders, run_builder)

    def _start(
        self,
        group: asyncio.TaskGroup,
        kind: str,
        configs: Sequence[NodeConfig],
        run: Callable[[HostParts, NodeConfig], Coroutine[Any, Any, None]],
    ) -> None:
        async def to_its_end(config: NodeConfig) -> None:
            try:
                await run(self._parts, config)
            except Exception:
                self.broken_node = self.broken_node or config.name
                raise
            self._parts.ended(kind)

        for config in configs:
            self._parts.count(kind)
            group.create_task(to_its_end(config), name=config.name)

    async def _run_divergence(self, client: "DivergenceClient") -> None:
        """Own the process of the second EVM, should a rollup want one."""
        async with asyncio.TaskGroup() as group:
            group.create_task(client.run())
            await self._parts.stopping.wait()
            client.stop()

    def _check_ready(self) -> None:
        usable = sum(running.endpoint is not None for running in self._parts.nodes.values())
        if self._control_address and usable == _node_count(self._config):
            self.was_usable = True
            self._settled.set()

    # The process's own services

    async def _run_control(self) -> None:
        ports = PortBook(Path(self._config.directory) / self._config.name, host=self._config.bind_host)
        ports.reserve([CONTROL])
        services: list[Servicer] = [ControlServicer(self, self._clock), TraceServicer(self._parts.tracers)]
        host, port = self._config.bind_host, ports.release(CONTROL)
        async with server(services, name=self._config.name, host=host, port=port) as bound:
            self._control_address = join_address(self._config.advertise_host, bound.port)
            self._check_ready()
            await self._parts.stopping.wait()

    async def _sample_resources(self) -> None:
        count = 0
        while not self._parts.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._parts.stopping.wait(), self._config.resource_interval_s)
            await asyncio.to_thread(self._record_sample, with_memory=count % _PSS_EVERY == 0)
            count += 1

    def _record_sample(self, *, with_memory: bool) -> None:
        """One sample of every node. The figures of the process are the same in all of them."""
        process_cpu = process_cpu_s(os.getpid())
        if with_memory:
            self._process_pss_bytes = process_pss_bytes(os.getpid())
        for running in list(self._parts.nodes.values()):
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
            if self._parts.links is not None:
                for sample in self._parts.links.samples(running.name):
                    running.tracer.record(sample)


def _node_count(config: HostConfig) -> int:
    kinds = (config.sequencers, config.rollups, config.l1s, config.attesters, config.agglayers, config.builders)
    return sum(len(nodes) for nodes in kinds)


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


def _share_the_interpreter() -> None:
    """See that threads of pure Python code (certificates, witnesses, decoding) do not keep the event loop waiting.

    The loop waits one switch interval for its turn, and behind every other thread that waits as well.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="background")
    asyncio.get_running_loop().set_default_executor(threads)
