"""A testnet that runs, as its users see it: addresses, faults by name, and how to know that a node is back.

The same for every launcher; what differs is how a process is killed. Also `endpoints.json`, by which `lockstep status`
and other programs find a running testnet.
"""

import asyncio
import fcntl
import json
import os
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from coordinator.launch.client_links import ClientLinks
from coordinator.launch.plan import attesters_are_separate
from coordinator.spec import ResolvedTestnet, save_testnet
from coordinator.spec.testnet import SEQUENCER_NAME
from nodes.model.agglayer import CertificateStatus
from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.errors import InvalidInput, TestbedError, Unavailable, UnknownName
from nodes.model.faults import Fault, KillEngine
from nodes.model.json_form import from_json, to_json
from nodes.telemetry.events import LinkSampled
from nodes.wire.certificates import CertificateClient
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient

ENDPOINTS_FILE = "endpoints.json"
NODES_FOLDER = "nodes"
LOCK_FILE = "lock"
RECOVERY_TIMEOUT_S = 120.0
_RETRY_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningRollup:
    """One rollup and where to reach it."""

    name: str
    rollup_id: bytes
    chain_id: int
    rpc_url: str
    """JSON-RPC of the first node, HTTP and WebSocket."""
    grpc_address: str
    replicas: tuple[NodeEndpoint, ...] = ()
    """Its other nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """What `endpoints.json` holds."""

    scenario: str
    launcher: str
    coordinator_pid: int
    sequencer_address: str
    rollups: tuple[RunningRollup, ...]
    hosts: tuple[HostReady, ...]
    atomicity: str = "inclusion"
    submit_address: str = ""
    """Where users submit: the builder's, or else the sequencer's."""
    agglayer_address: str = ""
    """gRPC of the aggregation layer; empty where there is none. Likewise the next."""
    l1_rpc_url: str = ""
    order_rpc_url: str = ""
    """JSON-RPC of the chain that orders, such as a Solana dev node."""


def _silent(message: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchOptions:
    """How to launch; nothing of it changes what the testnet computes."""

    ray_address: str = ""
    """An existing Ray cluster, host:port; empty = a cluster of its own on this machine."""
    progress: Callable[[str], None] = _silent
    """Told what is being done, for a terminal."""
    trace: bool = True
    engine_path: str = ""
    """The anvil binary; empty = found by each process."""
    ready_timeout_s: float = 120.0


class Launcher(Protocol):
    """One way to start a testnet."""

    @property
    def describe(self) -> str:
        """One line for people."""
        ...

    def start(
        self, testnet: ResolvedTestnet, directory: Path, options: LaunchOptions | None = None
    ) -> "AbstractAsyncContextManager[RunningTestnet]":
        """Start in `directory` (new, or of a stopped testnet, which then continues) and stop when the block is left.

        Yields once every node is usable. When a node breaks for good, the block is cancelled and what broke it is
        raised. Raises TestbedError where a node does not become usable.
        """
        ...


class RunningTestnet(ABC):
    """A testnet of which every node was usable.

    Where regions are emulated, what is for users (`submit_address`, `rollups`, `user_address`, `endpoints.json`) leads
    through the links of region `clients`; everything else is for the coordinator's measurements and leads to the nodes
    directly.
    """

    def __init__(
        self,
        testnet: ResolvedTestnet,
        directory: Path,
        hosts: list[HostReady],
        *,
        launcher: str,
        ready_s: float,
        links: ClientLinks | None = None,
    ) -> None:
        self.testnet = testnet
        self.directory = directory
        self.launcher = launcher
        self.hosts = hosts
        """One entry per process. Addresses are kept when a process is restarted; pids are those at the start."""
        self.ready_s = ready_s
        """From the call of `start` until every node was usable."""
        self.broken_part: Callable[[], str] = str
        """The node, or the process, that broke for good; empty while none has. Set by the launcher."""
        self._nodes = {node.name: (host, node) for host in hosts for node in host.nodes}
        self._links = links or ClientLinks(None)
        self._links.locate(node for host in hosts for node in host.nodes)
        self.sequencer_address = self._address("sequencer")
        self.agglayer_address = self._address("agglayer")
        """gRPC of the aggregation layer; empty where there is none. Likewise the next."""
        self.order_rpc_url = next((node.rpc_url for _, node in self._nodes.values() if node.kind == "sequencer"), "")
        self.l1_rpc_url = next((node.rpc_url for _, node in self._nodes.values() if node.kind == "l1"), "")
        self.submit_address = self.user_address(self._address("builder") or self.sequencer_address)
        """Where users submit: the builder's, or else the sequencer's."""
        pids = {name: host.pid for name, (host, _) in self._nodes.items()}
        self.attesters_separate = attesters_are_separate(testnet, pids)
        """Every attester has a process of its own; otherwise their threshold means nothing."""
        self.rollups = [
            self._running_rollup(testnet, index, {name: node for name, (_, node) in self._nodes.items()})
            for index in range(len(testnet.rollups))
        ]

    @property
    def node_names(self) -> tuple[str, ...]:
        """The sequencer first, then the rollup nodes."""
        return self.testnet.node_names

    def user_address(self, address: str) -> str:
        """What a user connects to in place of a node's host:port or URL."""
        return self._links.local(address)

    def link_samples(self) -> list[LinkSampled]:
        """Totals of the links of users."""
        return self._links.samples()

    def _address(self, kind: str) -> str:
        """gRPC address of the first node of a kind; empty where there is none."""
        return next((node.grpc_address for _, node in self._nodes.values() if node.kind == kind), "")

    def endpoint(self, node: str) -> NodeEndpoint:
        """Where a node is. Raises UnknownName."""
        return self._find(node)[1]

    def host_of(self, node: str) -> HostReady:
        """The process of a node, as it was at the start. Raises UnknownName."""
        return self._find(node)[0]

    def _find(self, node: str) -> tuple[HostReady, NodeEndpoint]:
        if node not in self._nodes:
            raise UnknownName(kind="node", name=node, known=self._nodes)
        return self._nodes[node]

    async def inject(self, node: str, fault: Fault) -> None:
        """Give a node a fault. Raises UnknownName, Unavailable, InvalidInput where it cannot have it."""
        async with ControlClient(self.host_of(node).control_address) as control:
            await control.inject(node, fault)

    async def kill(self, node: str, what: str = "process") -> None:
        """End a node's process, or only its engine, by SIGKILL. All nodes of a process die with it.

        Raises UnknownName; InvalidInput where the launcher has no process to kill, or the node no engine.
        """
        if what == "engine":
            await self.inject(node, KillEngine())
        elif what == "process":
            await self._kill_process(self.host_of(node))
        else:
            raise UnknownName(kind="thing to kill", name=what, known=("process", "engine"))

    @abstractmethod
    async def _kill_process(self, host: HostReady) -> None:
        """SIGKILL; returns when the process is gone."""

    async def wait_recovered(self, node: str, *, timeout_s: float = RECOVERY_TIMEOUT_S) -> float:
        """Wait until a node answers again and has caught up with where the sequencer is now; seconds it took.

        With verdicts, what it has executed must be safe as well. For a node of the aggregation layer that must hold of
        the first rollup, and the certificate that is underway now must have settled.

        Raises Unavailable when that takes longer than `timeout_s`.
        """
        began_s = time.monotonic()
        hosts = {host.name: host for host in (self.host_of(node), self.host_of(SEQUENCER_NAME))}
        try:
            async with asyncio.timeout(timeout_s):
                while not await self._has_caught_up(node, hosts.values(), timeout_s):  # noqa: ASYNC110 - a retry, no poll
                    await asyncio.sleep(_RETRY_S)  # the connection broke once more: the process died again
        except TimeoutError:
            raise Unavailable(f"{node} did not recover within {timeout_s:g} s; see {self.directory}") from None
        return time.monotonic() - began_s

    async def _has_caught_up(self, node: str, hosts: Iterable[HostReady], timeout_s: float) -> bool:
        """Wait for it; False where a connection broke meanwhile."""
        try:
            for host in hosts:
                async with ControlClient(host.control_address) as control:
                    await control.wait_ready(timeout_s=timeout_s)
            async with SequencerClient(self.sequencer_address) as sequencer:
                target = (await sequencer.status()).head.height
            endpoint = self.endpoint(node)
            if endpoint.kind == "sequencer":
                return True
            if endpoint.kind == "rollup":
                return await self._is_safe_up_to(endpoint, target)
            first = self.endpoint(self.rollups[0].name)
            return await self._is_safe_up_to(first, target) and await self._settles()
        except Unavailable:
            return False

    async def _is_safe_up_to(self, endpoint: NodeEndpoint, height: int) -> bool:
        """Wait until a rollup node has executed a sequenced height and, with verdicts, made it safe."""
        wanted: int | None = None
        async with RollupClient(endpoint.grpc_address) as rollup:
            async for heads in rollup.follow_heads():
                if heads.height < height:
                    continue
                if not self.testnet.has_verdicts:
                    return True
                wanted = heads.latest.number if wanted is None else wanted
                # A verdict that leaves a block empty makes the chain shorter.
                if heads.safe.number >= min(wanted, heads.latest.number):
                    return True
        return False

    async def _settles(self) -> bool:
        """Wait until the newest certificate that an honest rollup has handed in by now is settled, or refused."""
        layer = self.testnet.agglayer
        if layer is None or not layer.settle:
            return True
        network = next((network for network in layer.params.networks if network.name not in layer.liars), None)
        if network is None:
            return True
        wanted: int | None = None
        async with (
            CertificateClient(self.agglayer_address) as service,
            aclosing(service.follow_network(network.network_id)) as changes,
        ):
            async for progress in changes:
                latest, settled = progress.latest, progress.settled
                if latest is None or latest.status is CertificateStatus.IN_ERROR:
                    return True
                wanted = latest.height if wanted is None else wanted
                if settled is not None and settled.height >= wanted:
                    return True
        return False

    def _running_rollup(self, testnet: ResolvedTestnet, index: int, nodes: dict[str, NodeEndpoint]) -> RunningRollup:
        rollup = testnet.rollups[index]
        seen = [
            replace(
                nodes[name],
                rpc_url=self.user_address(nodes[name].rpc_url),
                grpc_address=self.user_address(nodes[name].grpc_address),
            )
            for name in testnet.replica_names(rollup)
        ]
        return RunningRollup(
            name=rollup.name,
            rollup_id=rollup.params.rollup_id,
            chain_id=rollup.chain_id,
            rpc_url=seen[0].rpc_url,
            grpc_address=seen[0].grpc_address,
            replicas=tuple(seen[1:]),
        )

    def endpoints(self) -> Endpoints:
        """For `endpoints.json`."""
        return Endpoints(
            scenario=self.testnet.scenario,
            launcher=self.launcher,
            coordinator_pid=os.getpid(),
            sequencer_address=self.user_address(self.sequencer_address),
            rollups=tuple(self.rollups),
            hosts=tuple(self.hosts),
            atomicity=self.testnet.atomicity,
            submit_address=self.submit_address,
            agglayer_address=self.user_address(self.agglayer_address),
            l1_rpc_url=self.user_address(self.l1_rpc_url),
            order_rpc_url=self.user_address(self.order_rpc_url),
        )

    def save_endpoints(self) -> None:
        """Write `endpoints.json` into the directory."""
        path = self.directory / ENDPOINTS_FILE
        path.write_text(json.dumps(to_json(self.endpoints()), indent=1) + "\n", encoding="utf-8")

    def remove_endpoints(self) -> None:
        """The testnet has stopped: nobody shall look for it."""
        (self.directory / ENDPOINTS_FILE).unlink(missing_ok=True)


def load_endpoints(directory: Path) -> Endpoints:
    """Read the `endpoints.json` of a testnet that runs. Raises InvalidInput where none does."""
    path = directory / ENDPOINTS_FILE
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InvalidInput(f"no testnet runs in {directory}: it has no {ENDPOINTS_FILE}; start one there") from error
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    return from_json(Endpoints, document, where=str(path))


@contextmanager
def opened_directory(testnet: ResolvedTestnet, directory: Path) -> Iterator[Path]:
    """The testnet's directory with `testnet.json` in it, for this coordinator alone; yields the folder of its nodes.

    Raises Unavailable where another coordinator runs a testnet there.
    """
    nodes = directory / NODES_FOLDER
    nodes.mkdir(parents=True, exist_ok=True)
    with (directory / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the kernel lets go of it however this process ends
        except BlockingIOError:
            raise Unavailable(
                f"a testnet runs in {directory} already; stop it first, or ask it: lockstep status {directory}"
            ) from None
        save_testnet(testnet, directory)
        yield nodes


@asynccontextmanager
async def supervised(*runs: Coroutine[Any, Any, None], stop: Callable[[], None]) -> AsyncIterator[None]:
    """Run coroutines beside the block. Leaving the block calls `stop` and waits for them; when one fails, the block is
    cancelled and the cause is raised.
    """
    of_block: Exception | None = None
    try:
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(run)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - the block's own error leaves as it came, not inside a group
                of_block = error
            finally:
                stop()
    except BaseExceptionGroup as broken:
        cause = first_cause(broken)
        if isinstance(cause, TestbedError):
            raise cause from broken
        raise
    if of_block is not None:
        raise of_block


def first_cause(error: BaseException) -> BaseException:
    """The error to show: out of nested groups the first expected one, or else the first of all."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    causes = [first_cause(inner) for inner in error.exceptions]
    return next((cause for cause in causes if isinstance(cause, TestbedError)), causes[0])
