"""`lockstep bench`: one scenario from launch to a self-sufficient run directory.

resolve, measure the engine bound, launch, fund, sign, load (with faults), drain, collect, copy the logs, check, write.
The run directory is written also when the load was interrupted, and then says so. Reports are made from it by others.
"""

import asyncio
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from coordinator.collect.clocks import ClockOffset, combine, estimate_offset
from coordinator.collect.collector import Collector, TraceSource
from coordinator.faults import Injector, PlannedFault, check_times, faults_of, forge
from coordinator.launch import LaunchOptions, RunningTestnet, launcher_named
from coordinator.record import RunDirectory
from coordinator.spec import ResolvedTestnet, Scenario, resolve
from coordinator.spec.testnet import AGGLAYER_NAME, SEQUENCER_NAME
from coordinator.stages.broken import keep_what_was_measured
from coordinator.stages.costs import read_status
from coordinator.stages.engine_bound import measure_engine_bound
from coordinator.stages.fund import fund
from coordinator.stages.inputs import write_inputs
from coordinator.stages.load import LoadDriver
from coordinator.stages.load_setup import LoadSetup, load_setup
from coordinator.stages.outside import check_outside
from coordinator.stages.progress import Interrupt, InterruptedEarly, Observer, SilentObserver
from coordinator.stages.run_state import BenchOptions, RunState, SentPhase
from coordinator.stages.schedule import Schedule, load_schedule
from coordinator.stages.sweep import run_sweep
from coordinator.stages.write_run import write_run
from coordinator.workload.base import Funding
from coordinator.workload.generator import NS_PER_MS, NS_PER_S
from coordinator.workload.presign import Presigner, presigner
from coordinator.workload.replay import Replayer
from nodes.model.errors import TestbedError
from nodes.sequencer.backends import BACKENDS
from nodes.telemetry.clock import SystemClock, boot_id
from nodes.telemetry.resources import usable_cores
from nodes.wire.control import ControlClient
from nodes.wire.file_tracer import FileTracer
from nodes.wire.sequencer import SequencerClient

LOAD_STREAM = 0
"""Which of the seed's streams of chance the load uses; calibration uses another."""
START_AHEAD_NS = 200_000_000
"""From the decision to start until the first bundle can be due: connections are opened meanwhile."""
PRESIGN_WORKERS = 2
COORDINATOR = "coordinator"
REPLAY_STREAM = 2
"""Which of the seed's streams of chance chooses what is replayed."""
CHECKER_READY_S = 90.0
"""For the second EVM to start, at most: what waits for it longer is checked late, and the report says so."""
REPLAY_AFTER_WINDOWS = 2
"""Replay windows after which an old bundle is handed in again: surely after its end."""


async def run_bench(
    scenario: Scenario, options: BenchOptions, *, observer: Observer | None = None, interrupt: Interrupt | None = None
) -> Path:
    """Run a scenario and return its run directory.

    Raises TestbedError where no load could be sent at all; RunBroke where the testnet broke for good during it: the run
    directory is written then.
    """
    clock = SystemClock()
    observer, interrupt = observer or SilentObserver(), interrupt or Interrupt()
    testnet = await asyncio.to_thread(resolve, scenario, engine_path=_engine_path(options))
    launcher_named(testnet.launcher, ray_address=options.ray_address)
    faults = faults_of(scenario, testnet)
    # Before anything is started, so that a mistake in the scenario costs no time.
    setup = load_setup(scenario, testnet, rollups=len(testnet.rollups), stream=LOAD_STREAM)
    schedule = None
    if scenario.load.kind != "sweep":
        schedule = load_schedule(scenario.load, scenario_folder=Path(scenario.source).parent, rng=setup.rng)
    check_times(faults, length_s=schedule.length_ns / NS_PER_S if schedule else None, source=scenario.source)
    await check_outside(testnet, ray_address=options.ray_address)
    state = RunState(
        scenario=scenario,
        testnet=testnet,
        options=options,
        directory=RunDirectory.create(options.out),
        clock=clock,
        observer=observer,
        interrupt=interrupt,
        started_wall_ns=clock.wall_ns(),
        rng=setup.rng,
    )
    write_inputs(state.directory, scenario, testnet)
    if options.calibrate:
        observer.stage("measuring what the bare engines can do")
        state.bound = await measure_engine_bound(
            scenario,
            testnet,
            workers=min(PRESIGN_WORKERS, usable_cores()),
            engine_path=options.engine_path,
        )
        _check_interrupt(interrupt)
    with presigner(setup.signers, workers=min(PRESIGN_WORKERS, usable_cores())) as signing:
        await _run(state, setup, signing, schedule, faults)
    return options.out


def _engine_path(options: BenchOptions) -> Callable[[], Path] | None:
    return (lambda: Path(options.engine_path)) if options.engine_path else None


def _check_interrupt(interrupt: Interrupt) -> None:
    if interrupt.is_set:
        raise InterruptedEarly(f"interrupted before any load was sent: {interrupt.reason}")


async def _run(
    state: RunState,
    setup: LoadSetup,
    signing: Presigner,
    schedule: Schedule | None,
    faults: tuple[PlannedFault, ...],
) -> None:
    options = LaunchOptions(
        ray_address=state.options.ray_address, progress=state.observer.stage, engine_path=state.options.engine_path
    )
    folder = state.directory.testnet
    folder.mkdir(exist_ok=True)
    launcher = launcher_named(state.testnet.launcher, ray_address=options.ray_address)
    started: RunningTestnet | None = None
    try:
        async with launcher.start(state.testnet, folder, options) as running:
            started = running
            await _measure(state, running, setup, signing, schedule, faults)
    except Exception as error:
        # Whatever ended the load: what it measured until then is hours of somebody's time.
        broke = await keep_what_was_measured(state, started, error)
        if broke is None:
            raise
        raise broke from error


async def _measure(
    state: RunState,
    running: RunningTestnet,
    setup: LoadSetup,
    signing: Presigner,
    schedule: Schedule | None,
    faults: tuple[PlannedFault, ...],
) -> None:
    """Fund, load and write, on a testnet that runs."""
    state.interrupt.rearm()
    _check_interrupt(state.interrupt)
    async with SequencerClient(running.submit_address) as sequencer:
        driver = state.driver = _driver(state, running, setup, signing, sequencer)
        before = state.offsets = await _clock_offsets(state, running)
        async with asyncio.TaskGroup() as group:
            collecting = group.create_task(driver.collector.run())
            try:
                if setup.funding is not None:
                    await _fund(state, running, setup.funding)
                if state.testnet.divergence is not None:
                    state.observer.stage("waiting until the second EVM is ready")
                    await driver.wait_checked(state.testnet.divergence_rollups, timeout_s=CHECKER_READY_S)
                state.costs_before = (await read_status(running.sequencer_address)).costs
                await _load(state, driver, schedule, faults, running)
                after = await _clock_offsets(state, running)
                state.offsets = {host: combine(first, after.get(host, first)) for host, first in before.items()}
                state.observer.stage("collecting, checking and writing")
                await write_run(state, driver, running)
            except BaseException:
                state.ended_ns = state.clock.monotonic_ns()
                raise
            collecting.cancel()


async def _fund(state: RunState, running: RunningTestnet, funding: Funding) -> None:
    """Bring the workload's money to the rollups, unless the run is told to end first."""

    async def end_early() -> None:
        await state.interrupt.wait()
        _check_interrupt(state.interrupt)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(end_early())
        await fund(running, funding, say=state.observer.stage)
        watching.cancel()


def _driver(
    state: RunState, running: RunningTestnet, setup: LoadSetup, signing: Presigner, sequencer: SequencerClient
) -> LoadDriver:
    sources = [
        TraceSource(node=node.name, address=host.control_address) for host in running.hosts for node in host.nodes
    ]
    collector = Collector(
        sources,
        state.directory.traces,
        on_item=lambda node, item: driver.on_item(node, item),  # noqa: PLW0108 - the driver is made next
    )
    driver = LoadDriver(
        planner=setup.planner,
        signing=signing,
        opener=sequencer,
        collector=collector,
        primaries=[rollup.name for rollup in state.testnet.rollups],
        shape=setup.shape,
        clock=state.clock,
        observer=state.observer,
        interrupt=state.interrupt,
        sequencer_node=SEQUENCER_NAME,
        agglayer_nodes=[AGGLAYER_NAME] if state.testnet.uses_agglayer else [],
        has_verdicts=state.testnet.has_verdicts,
        unsound=_unsound(state),
        shares_rollups=state.testnet.uses_agglayer,
        shared_process=any(host.pid == os.getpid() for host in running.hosts),
    )
    if setup.shape.replay_share:
        after_ns = replay_delay_ns(state.testnet)
        driver.make_replayer = lambda dispatcher, submissions, tell: Replayer(
            dispatcher=dispatcher,
            submissions=submissions,
            sequencer=sequencer,
            clock=state.clock,
            rng=np.random.default_rng([state.scenario.seed, REPLAY_STREAM]),
            share=setup.shape.replay_share,
            after_ns=after_ns,
            tell=tell,
        )
    return driver


def replay_delay_ns(testnet: ResolvedTestnet) -> int:
    """How long an old bundle waits before it is handed in again: so many heights that its window is surely over."""
    backend = BACKENDS[testnet.backend]
    height_ms = backend.height_interval_ms(backend.configure(testnet.backend_options))
    return REPLAY_AFTER_WINDOWS * testnet.params.replay_window * height_ms * NS_PER_MS


def _unsound(state: RunState) -> list[int]:
    """Indexes of rollups whose state transition is faulty by the scenario."""
    layer = state.testnet.agglayer
    liars = {} if layer is None else layer.liars
    return [at for at, rollup in enumerate(state.testnet.rollups) if liars.get(rollup.name) == "state"]


async def _load(
    state: RunState,
    driver: LoadDriver,
    schedule: Schedule | None,
    faults: tuple[PlannedFault, ...],
    running: RunningTestnet,
) -> None:
    """Send everything and wait until it is resolved."""
    load = state.scenario.load
    tracer = FileTracer(state.directory.traces / f"{COORDINATOR}.trace", state.clock)

    async def sequenced_height() -> int:
        async with SequencerClient(running.sequencer_address) as client:
            return int((await client.status()).head.height)

    injector = Injector(
        faults,
        running,
        sequenced_height=sequenced_height,
        clock=state.clock,
        tracer=tracer,
        forge=partial(forge, running),
    )
    try:
        async with asyncio.TaskGroup() as group:
            start = _Start(state, group, injector)
            if schedule is None:
                _check_interrupt(state.interrupt)
                await run_sweep(state, driver, start)
            else:
                prepared = await driver.prepare(schedule)
                _check_interrupt(state.interrupt)
                start_ns = start.now()
                state.phases = [
                    SentPhase(rate_per_s=p.rate_per_s, start_ns=start_ns + p.start_ns, end_ns=start_ns + p.end_ns)
                    for p in schedule.phases
                ]
                state.observer.stage(f"load: {load.kind}, {len(prepared.phase):,} bundles")
                await driver.run(prepared, start_ns=start_ns, drain_s=load.drain_timeout_s)
            if driver.all_resolved:
                state.drained_ns = state.clock.monotonic_ns()
                await driver.wait_firm(timeout_s=load.drain_timeout_s)
            if state.testnet.agglayer is not None and state.testnet.agglayer.settle:
                state.observer.stage("waiting until all is settled on L1")
                await driver.wait_settled(timeout_s=load.drain_timeout_s)
            if state.testnet.divergence is not None:
                state.observer.stage("waiting for the second EVM")
                finish_s = state.scenario.divergence.finish_s
                await driver.wait_checked(state.testnet.divergence_rollups, timeout_s=finish_s)
            if state.interrupt.is_set:
                start.cancel_faults()
    finally:
        tracer.close()
        state.faults = sorted(injector.records, key=lambda record: record.injected_ns)
    if state.interrupt.is_set:
        state.interrupted_ns = driver.interrupted_ns or state.clock.monotonic_ns()


class _Start:
    """The moment the load begins: known once, and from it the faults run."""

    def __init__(self, state: RunState, group: asyncio.TaskGroup, injector: Injector) -> None:
        self._state = state
        self._group = group
        self._injector = injector
        self._faults: asyncio.Task[None] | None = None

    def now(self) -> int:
        """Start the next phase; the first one starts the faults' clock too."""
        start_ns = self._state.clock.monotonic_ns() + START_AHEAD_NS
        if self._faults is None:
            self._faults = self._group.create_task(self._injector.run(start_ns=start_ns))
        return start_ns

    def cancel_faults(self) -> None:
        """The load ended early: faults that have not begun never will."""
        if self._faults is not None:
            self._faults.cancel()


async def _clock_offsets(state: RunState, running: RunningTestnet) -> dict[str, ClockOffset]:
    offsets = {}
    own = boot_id()
    for host in running.hosts:
        try:
            async with ControlClient(host.control_address) as control:
                offsets[host.name] = await estimate_offset(control.read_clock, clock=state.clock, own_boot_id=own)
        except TestbedError as error:
            state.problems.append(f"the clock of {host.name} could not be read: {error}")
    return offsets
