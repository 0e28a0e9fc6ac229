"""Node processes as Ray actors: placed over the machines of a cluster, started all at once, restarted when they die.

Ray places and supervises; the nodes talk gRPC among themselves. The sequencer has a process of its own.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from coordinator.launch.client_links import client_links
from coordinator.launch.plan import HostPlan, Reservation, addresses_of, host_config, plan_hosts, reservations
from coordinator.launch.ray_actor import HostActor, Placed
from coordinator.launch.ray_bundle import runtime_environment, staged_bundle
from coordinator.launch.ray_session import existing_cluster, local_session
from coordinator.launch.running import (
    NODES_FOLDER,
    LaunchOptions,
    RunningTestnet,
    opened_directory,
    supervised,
)
from coordinator.spec import ResolvedTestnet
from nodes.evm.anvil import find_anvil
from nodes.model.config import HostReady
from nodes.model.errors import InvalidInput, TestbedError, Unavailable
from nodes.model.json_form import from_json
from nodes.rules.hashes import sha256
from nodes.telemetry.resources import usable_cores

LOOPBACK = "127.0.0.1"
MAX_RESTARTS = 100
"""Of one process; a host that breaks before it is usable is not restarted at all."""
CLUSTER_DIRECTORY = "~/.cache/lockstep/testnets"
"""Where the machines of an existing cluster keep their nodes, one folder per testnet."""
PLACEMENT_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 10.0
MACHINES_FILE = "machines.json"


@dataclass(frozen=True, slots=True)
class _Process:
    """An actor and what it is to run."""

    plan: HostPlan
    actor: Any


class RayLauncher:
    """Starts testnets on Ray: on a small cluster of this machine, or with `ray_address` on an existing one."""

    describe = "Ray actors on one machine or many; a node that dies is restarted"

    @asynccontextmanager
    async def start(
        self, testnet: ResolvedTestnet, directory: Path, options: LaunchOptions | None = None
    ) -> AsyncIterator[RunningTestnet]:
        """See `coordinator.launch.running.Launcher`. Enter it in the main thread."""
        options = options or LaunchOptions()
        began_s = time.monotonic()
        with (
            opened_directory(testnet, directory),
            client_links(testnet) as links,
            _placement(testnet, directory, options) as (processes, folder),
        ):
            placed = await _prepared(testnet, processes, folder, options)
            options.progress(f"starting {len(testnet.node_names)} nodes in {len(processes)} processes")
            broken: list[str] = []
            watches = [_watch(process, run, broken) for process, run in _begun(testnet, processes, placed, options)]
            async with supervised(*watches, stop=lambda: _stop(processes)):
                hosts = await _ready(processes, options)
                ready_s = time.monotonic() - began_s
                running = _RayTestnet(testnet, directory, hosts, launcher="ray", ready_s=ready_s, links=links)
                running.actors = {process.plan.name: process.actor for process in processes}
                running.is_local = not options.ray_address
                running.broken_part = lambda: next(iter(broken), "")
                running.save_endpoints()
                if options.ray_address:
                    _save_machines(directory, hosts)
                try:
                    yield running
                finally:
                    running.remove_endpoints()


class _RayTestnet(RunningTestnet):
    actors: Mapping[str, Any]
    is_local: bool

    async def _kill_process(self, host: HostReady) -> None:
        import ray

        actor = self.actors[host.name]
        pid = await actor.pid.remote()
        if self.is_local:
            # From outside, so that it can strike between any two instructions.
            process = psutil.Process(pid)
            process.kill()
            gone, _ = await asyncio.to_thread(psutil.wait_procs, [process], timeout=KILL_TIMEOUT_S)
            if not gone:
                raise Unavailable(f"process {pid} of {host.name} did not end within {KILL_TIMEOUT_S:g} s of SIGKILL")
            return
        try:
            await actor.die.options(max_task_retries=0).remote()
        except ray.exceptions.RayActorError:
            return  # what was asked for


@contextmanager
def _placement(
    testnet: ResolvedTestnet, directory: Path, options: LaunchOptions
) -> Iterator[tuple[list[_Process], str]]:
    """Actors that are being created, and the folder for their nodes."""
    if not options.ray_address:
        if (directory / MACHINES_FILE).exists():
            raise InvalidInput(f"the nodes of {directory} keep their data on a cluster's machines; give --ray-address")
        options.progress("starting Ray on this machine")
        plans = plan_hosts(testnet, cores=usable_cores())
        # As many workers are started ahead as Ray believes to have cores.
        with local_session(cores=len(plans)):
            actors = _create_actors(len(plans), num_cpus=0)
            yield _paired(plans, actors), str((directory / NODES_FOLDER).resolve())
        return
    identity = sha256(f"{os.uname().nodename}:{directory.resolve()}".encode()).hex()[:16]
    options.progress(f"connecting to Ray at {options.ray_address}")
    with staged_bundle(find_anvil(options.engine_path)) as bundle:
        with existing_cluster(options.ray_address, runtime_environment(bundle)):
            import ray

            machines = [node["Resources"].get("CPU", 0.0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            plans = plan_hosts(testnet, cores=max(1, int(sum(machines))))
            former = _former_machines(directory)
            wanted = [former.get(plan.name, "") for plan in plans]
            group = _placement_group(machines, wanted)
            try:
                actors = _create_actors(len(plans), num_cpus=_share(machines, len(plans)), group=group)
                yield _paired(plans, actors), f"{CLUSTER_DIRECTORY}/{identity}"
            finally:
                ray.util.remove_placement_group(group)


def _paired(plans: Sequence[HostPlan], actors: Sequence[Any]) -> list[_Process]:
    return [_Process(plan, actor) for plan, actor in zip(plans, actors, strict=True)]


def _create_actors(count: int, *, num_cpus: float, group: Any = None) -> list[Any]:
    """Ask for all of them at once; none is awaited."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    wrapped = ray.remote(HostActor)
    actors = []
    for index in range(count):
        strategy = (
            PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=index)
            if group
            else "DEFAULT"
        )
        actors.append(
            wrapped.options(
                num_cpus=num_cpus,
                max_restarts=MAX_RESTARTS,
                # `run` is repeated on the restarted process: this is what brings the nodes back.
                max_task_retries=-1,
                scheduling_strategy=strategy,
            ).remote(owns_process=True)
        )
    return actors


def _share(machines: Sequence[float], count: int) -> float:
    """CPUs to ask for per process so that `count` fit: 1, or less where there are more processes than CPUs.

    A reservation only spreads processes; nothing limits what they use. Raises Unavailable for a cluster without CPUs.
    """
    if sum(machines) <= 0:
        raise Unavailable("the Ray cluster has no CPUs to offer; start its nodes with --num-cpus")
    share = 1.0
    while sum(int(cpus / share + 1e-9) for cpus in machines) < count:
        share /= 2
    return share


def _placement_group(machines: Sequence[float], wanted: Sequence[str]) -> Any:
    """A reservation that spreads over machines. A process that ran before goes back to its machine, to its data."""
    import ray

    share = _share(machines, len(wanted))
    bundles = [{"CPU": share} | ({f"node:{machine}": 0.001} if machine else {}) for machine in wanted]
    group = ray.util.placement_group(bundles, strategy="SPREAD")
    if not group.wait(PLACEMENT_TIMEOUT_S):
        ray.util.remove_placement_group(group)
        raise Unavailable(
            f"Ray did not place {len(bundles)} processes of {share:g} CPUs in {PLACEMENT_TIMEOUT_S:g} s; it has "
            + ", ".join(f"{cpus:g}" for cpus in machines)
            + " CPUs per machine, perhaps used by other jobs, or a machine that holds nodes of this testnet is gone"
        )
    return group


def _save_machines(directory: Path, hosts: Sequence[HostReady]) -> None:
    machines = {host.name: host.host for host in hosts}
    (directory / MACHINES_FILE).write_text(json.dumps(machines) + "\n", encoding="utf-8")


def _former_machines(directory: Path) -> dict[str, str]:
    """Host to machine, as the last run in this directory left it."""
    path = directory / MACHINES_FILE
    if not path.exists():
        return {}
    return from_json(dict[str, str], json.loads(path.read_text(encoding="utf-8")), where=str(path))


async def _prepared(
    testnet: ResolvedTestnet, processes: Sequence[_Process], folder: str, options: LaunchOptions
) -> dict[str, Placed]:
    host = "" if options.ray_address else LOOPBACK
    answers = [
        process.actor.prepare.remote(folder, reserve=[*map(tuple, reservations(testnet, process.plan))], host=host)
        for process in processes
    ]
    return dict(zip((process.plan.name for process in processes), await _answered(answers, options), strict=True))


def _begun(
    testnet: ResolvedTestnet, processes: Sequence[_Process], placed: Mapping[str, Placed], options: LaunchOptions
) -> list[tuple[_Process, Any]]:
    """Every process told what to run, and Ray's reference to its end."""
    reserved: dict[Reservation, str] = {}
    for process in processes:
        wanted = reservations(testnet, process.plan)
        reserved |= dict(zip(wanted, placed[process.plan.name].reserved, strict=True))
    addresses = addresses_of(testnet, reserved)
    begun = []
    for process in processes:
        here = placed[process.plan.name]
        config = host_config(
            testnet,
            process.plan,
            directory=here.directory,
            addresses=addresses,
            host=here.host,
            trace=options.trace,
            engine_path=here.engine_path or options.engine_path,
        )
        begun.append((process, process.actor.run.remote(config)))
    return begun


async def _ready(processes: Sequence[_Process], options: LaunchOptions) -> list[HostReady]:
    answers = await _answered([process.actor.wait_ready.remote() for process in processes], options)
    if None in answers:
        await asyncio.Event().wait()  # the watch of that process knows why, and is about to end this block
    return [answer for answer in answers if answer is not None]


async def _answered(answers: Sequence[Any], options: LaunchOptions) -> list[Any]:
    import ray

    try:
        async with asyncio.timeout(options.ready_timeout_s):
            return list(await asyncio.gather(*answers))
    except TimeoutError:
        raise Unavailable(f"the nodes were not usable within {options.ready_timeout_s:g} s") from None
    except ray.exceptions.RayError as error:
        raise Unavailable(f"Ray could not start a node process: {_short(error)}") from error


async def _watch(process: _Process, run: Any, broken: list[str]) -> None:
    """Raises what ended a process for good, and notes what broke in `broken`; returns at its orderly end."""
    import ray

    name = process.plan.name
    try:
        failure = await run
    except ray.exceptions.RayError as error:
        broken.append(name)
        raise Unavailable(f"{name} ended and was not restarted: {_short(error)}") from error
    if failure:
        try:
            broken.append(await process.actor.broken_node.remote() or name)
        except ray.exceptions.RayError:
            broken.append(name)  # it has ended since, and said before why
        raise TestbedError(failure)


def _stop(processes: Sequence[_Process]) -> None:
    for process in processes:
        process.actor.stop.remote()


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:500]
