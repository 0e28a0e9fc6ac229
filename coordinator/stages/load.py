"""Driving the load of a run: prepare a phase, send it, wait until it is resolved, hand nonces on to the next.

The schedule is fixed before a phase starts. Whether a bundle is resolved is read from the collector, never from the
sequencer's answers.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from coordinator.collect.collector import Collector
from coordinator.collect.join import NEVER, OUTCOMES, SentBundles, bundle_fates, leg_fates
from coordinator.collect.settling import bundle_stages, certificate_lives
from coordinator.stages.divergence_account import is_checked
from coordinator.stages.progress import Interrupt, Observer, Progress
from coordinator.stages.schedule import Schedule
from coordinator.workload.base import BundleShape
from coordinator.workload.dispatcher import Dispatcher, Standing
from coordinator.workload.generator import NS_PER_S, Generator, StreamOpener
from coordinator.workload.phase import Phase, Planner
from coordinator.workload.presign import Presigned, Presigner
from coordinator.workload.replay import Replayer
from nodes.model.execution import AbortReason, Status
from nodes.model.ids import HASH_BYTES
from nodes.model.sequenced_block import Commitment
from nodes.telemetry.clock import Clock
from nodes.wire.trace_columns import ExecutedColumns, TraceItem

_LEFT_OUT = frozenset({AbortReason.SKIPPED, AbortReason.EVICTED, AbortReason.VOIDED})
"""Reasons for which legs are left out instead of burnt: the lane's nonce stays where it was."""
_PROGRESS_EVERY_NS = NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedPhase:
    """Planned and signed, ready to start."""

    phase: Phase
    signed: Presigned
    schedule: Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPhase:
    """A phase that was sent."""

    prepared: PreparedPhase
    dispatcher: Dispatcher
    start_ns: int

    @property
    def end_ns(self) -> int:
        """End of its schedule."""
        return self.start_ns + self.prepared.schedule.length_ns


@dataclass(slots=True)
class LoadDriver:
    """Runs phases one after another on one running testnet."""

    planner: Planner
    signing: Presigner
    opener: StreamOpener
    collector: Collector
    primaries: Sequence[str]
    """The node of each rollup that decides fates."""
    shape: BundleShape
    clock: Clock
    observer: Observer
    interrupt: Interrupt
    sequencer_node: str = ""
    """Whose trace says what was cut."""
    agglayer_nodes: Sequence[str] = ()
    """Whose traces say what settled; empty where nothing does."""
    has_verdicts: bool = False
    """A height is done only when every rollup has taken its verdict."""
    unsound: Sequence[int] = ()
    """Indexes of rollups that execute unsoundly by the scenario."""
    shares_rollups: bool = False
    """Others send transactions too (an oracle, whoever deposits), so that legs of the load are counted by hash."""
    finished: list[FinishedPhase] = field(default_factory=list)
    presign_s: float = 0.0
    cpu_s: float = 0.0
    """CPU time of generator and collector while phases ran: of the whole process, or of their own code where it is
    shared with nodes."""
    shared_process: bool = False
    """Nodes run in this process too."""
    reconnects: int = 0
    last_break: str = ""
    """Why the submit stream broke last; empty where it never did."""
    retired: set[int] = field(default_factory=set)
    all_resolved: bool = True
    """Every phase was drained in time."""
    all_settled: bool = False
    """Everything that stood was settled when the run ended; nothing to say where nothing settles."""
    interrupted_ns: int | None = None
    """When the load was told to stop."""
    _dispatcher: Dispatcher | None = None
    _lane_by_tx: dict[bytes, int] = field(default_factory=dict)
    _own: set[bytes] = field(default_factory=set)
    """Hashes of the present phase's legs, where they are told from others."""
    _counted_at: dict[bytes, int] = field(default_factory=dict)
    """The height at which each of them counts as resolved."""
    make_replayer: Callable[[Dispatcher, Sequence[bytes], Callable[[int], None]], Replayer] | None = None
    """Somebody who hands bundles in again, where the workload wants one."""
    replays: int = 0
    """Bundles that were handed in again and taken."""
    _replayed: set[bytes] = field(default_factory=set)
    _signed: PreparedPhase | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        if self.shares_rollups:
            for node in self.primaries:
                self.collector.traces[node].counts = self._count

    @property
    def legs(self) -> int:
        """Legs of every bundle."""
        return len(self.shape.legs)

    def _count(self, item: ExecutedColumns) -> int:
        hashes, counted = item.tx_hashes + item.dropped_hashes, 0
        for at in range(0, len(hashes), HASH_BYTES):
            leg = hashes[at : at + HASH_BYTES]
            if leg not in self._own:
                continue
            if leg not in self._replayed:
                self._counted_at[leg] = item.height
            # What was handed in again stands twice and counts where it stood first, however often that is executed.
            counted += self._counted_at.setdefault(leg, item.height) == item.height
        return counted

    async def prepare(self, schedule: Schedule) -> PreparedPhase:
        """Plan and sign a phase. Raises Unavailable when no lane is left."""
        begin_s = time.perf_counter()
        phase = self.planner.plan(schedule.due_ns)
        self.observer.stage(f"signing {len(phase):,} bundles")
        signed = await asyncio.to_thread(self.signing.sign, phase.unsigned)
        self.presign_s += time.perf_counter() - begin_s
        return PreparedPhase(phase=phase, signed=signed, schedule=schedule)

    def on_item(self, node: str, item: TraceItem) -> None:
        """Hand this to the collector: it wakes whoever waits, and finds lanes that broke."""
        self._changed.set()
        if not isinstance(item, ExecutedColumns) or node not in self.primaries:
            return
        if item.dropped_hashes or any(item.skip_reasons):
            self._retire_lanes_of(item)

    async def run(self, prepared: PreparedPhase, *, start_ns: int, drain_s: float) -> FinishedPhase:
        """Send a phase from `start_ns` on; wait until what was taken is resolved, at most `drain_s` after its end."""
        due = (prepared.phase.due_ns + start_ns).tolist()
        dispatcher = Dispatcher(due_ns=due, lanes=prepared.phase.unsigned.lanes.tolist())
        finished = FinishedPhase(prepared=prepared, dispatcher=dispatcher, start_ns=start_ns)
        self._dispatcher, self._signed = dispatcher, prepared
        self._lane_by_tx.clear()
        if self.shares_rollups:
            hashes = prepared.signed.tx_hashes
            self._own = {hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)}
            self._counted_at.clear()
        before = self._legs_resolved()
        self.finished.append(finished)
        end_ns = finished.end_ns + round(drain_s * NS_PER_S)
        cpu_s, collector_ns = time.process_time(), self.collector.cpu_ns
        ticker = _Ticker(self, finished, before)
        generator = Generator(
            dispatcher=dispatcher,
            submissions=prepared.signed.submissions,
            opener=self.opener,
            clock=self.clock,
            end_ns=end_ns,
            on_tick=ticker.tick,
        )
        async with asyncio.TaskGroup() as group:
            beside = [group.create_task(self._stop_on_interrupt(generator))]
            replayer = None
            if self.make_replayer is not None:
                replayer = self.make_replayer(dispatcher, prepared.signed.submissions, self._forget)
                beside.append(group.create_task(replayer.run()))
            await generator.run()
            for task in beside:
                task.cancel()
            self.replays += replayer.accepted if replayer is not None else 0
        own_s = (generator.cpu_ns + self.collector.cpu_ns - collector_ns) / NS_PER_S
        self.cpu_s += own_s if self.shared_process else time.process_time() - cpu_s
        self.reconnects += generator.reconnects
        self.last_break = generator.last_break or self.last_break
        drain_until_ns = min(end_ns, self.clock.monotonic_ns() + round(drain_s * NS_PER_S))
        await self._drain(dispatcher, before, drain_until_ns, ticker)
        self.retired.update(dispatcher.retired_lanes if not self.interrupt.is_set else ())
        return finished

    def hand_on(self, finished: FinishedPhase, *, used: NDArray[np.bool_]) -> None:
        """Give the nonces of bundles that were not used back to the planner, before the next phase is prepared."""
        self.planner.settle(finished.prepared.phase, used=used, retired=sorted(self.retired))

    def give_up(self) -> None:
        """The testnet is gone: what was not sent never will be, and what was sent has the fate that is known."""
        if self.finished:
            self.finished[-1].dispatcher.stop()
        self.all_resolved = self.all_settled = False

    async def _stop_on_interrupt(self, generator: Generator) -> None:
        await self.interrupt.wait()
        self.interrupted_ns = self.clock.monotonic_ns()
        generator.stop()

    async def _drain(self, dispatcher: Dispatcher, before: int, end_ns: int, ticker: "_Ticker") -> None:
        while self.clock.monotonic_ns() < end_ns:
            if self._legs_resolved() - before >= dispatcher.accepted * self.legs and self._has_verdicts_of_all():
                return
            await self._next_change()
            ticker.tick()
        self.all_resolved = False

    async def _next_change(self) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(1.0):
                await self._changed.wait()
        except TimeoutError:
            pass

    def _forget(self, bundle: int) -> None:
        """A bundle is handed in again: what becomes of its legs from now on says nothing of it, nor of its lane."""
        assert self._signed is not None
        size = HASH_BYTES * self.legs
        hashes = self._signed.signed.tx_hashes[size * bundle : size * (bundle + 1)]
        self._replayed |= {hashes[at : at + HASH_BYTES] for at in range(0, size, HASH_BYTES)}

    def _has_verdicts_of_all(self) -> bool:
        return not self.has_verdicts or all(self.collector.traces[node].unresolved is None for node in self.primaries)

    async def wait_firm(self, *, timeout_s: float) -> None:
        """Wait until the newest height with a bundle in it is firm, at most so long. A backend may need seconds."""
        end_ns = self.clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while not self._is_firm() and self.clock.monotonic_ns() < end_ns and not self.interrupt.is_set:
            await self._next_change()

    def _is_firm(self) -> bool:
        sequencer = self.collector.traces[self.sequencer_node]
        newest = max((height for height, cut in sequencer.cuts.items() if cut.submission_hashes), default=0)
        firm = max((height for _, height, level in sequencer.commitments if level >= Commitment.FIRM), default=0)
        return firm >= newest

    async def wait_checked(self, nodes: Sequence[str], *, timeout_s: float) -> None:
        """Wait until the second EVM is there and nothing waits for it, at most so long."""
        end_ns = self.clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        traces = [self.collector.traces[node] for node in nodes]
        while not is_checked(traces) and self.clock.monotonic_ns() < end_ns and not self.interrupt.is_set:
            await self._next_change()

    async def wait_settled(self, *, timeout_s: float) -> None:
        """Wait until every bundle that stands is settled on L1; `all_settled` says whether that came in time.

        Bundles that touch an unsound rollup are not waited for.
        """
        end_ns = self.clock.monotonic_ns() + round(timeout_s * NS_PER_S)
        while self.clock.monotonic_ns() < end_ns and not self.interrupt.is_set:
            self.all_settled = self._has_verdicts_of_all() and await asyncio.to_thread(self._is_settled)
            if self.all_settled:
                return
            pause_ns = self.clock.monotonic_ns() + NS_PER_S
            while self.clock.monotonic_ns() < min(pause_ns, end_ns):
                await self._next_change()

    def _is_settled(self) -> bool:
        """Joins the whole run; at one look a second that is cheaper than to keep count."""
        traces = self.collector.traces
        primaries = [traces[node] for node in self.primaries]
        sent = sent_bundles(self.finished, legs=self.legs)
        fates = bundle_fates(sent, leg_fates(sent, primaries, {}), traces[self.sequencer_node], offset_ns=0)
        lives = certificate_lives(primaries, [traces[node] for node in self.agglayer_nodes], {})
        stages = bundle_stages(
            sent, fates, primaries, lives, mints=self.shape.mints, has_verdicts=self.has_verdicts, settles=True,
            offsets_ns={},
        )  # fmt: skip
        assert stages.settled is not None
        if self.all_resolved and (fates.outcome == OUTCOMES.index("lost")).any():
            # Each had its outcome once: a void took heights back, and nodes are still executing them again.
            return False
        # Of a bundle that succeeded in part, what was minted without a burn can never be imported.
        whole = fates.outcome == OUTCOMES.index("succeeded")
        # What touches a rollup that is unsound by the scenario can never settle whole; nobody waits for it.
        whole &= ~np.isin(sent.rollups, self.unsound).any(axis=1)
        return bool((stages.settled[whole] >= 0).all())

    def _legs_resolved(self) -> int:
        return sum(self.collector.traces[node].legs_resolved for node in self.primaries)

    def _retire_lanes_of(self, item: ExecutedColumns) -> None:
        dispatcher, prepared = self._dispatcher, self._signed
        if dispatcher is None or prepared is None:
            return
        if not self._lane_by_tx:
            # Built when first needed: in a healthy run no leg is dropped or skipped.
            hashes, lanes = prepared.signed.tx_hashes, prepared.phase.unsigned.lanes.tolist()
            self._lane_by_tx.update(
                (hashes[at : at + HASH_BYTES], lanes[at // (HASH_BYTES * self.legs)])
                for at in range(0, len(hashes), HASH_BYTES)
            )
        skipped = [
            at
            for at, (status, reason) in enumerate(zip(item.statuses, item.skip_reasons, strict=True))
            if status == Status.SKIPPED or reason in _LEFT_OUT
        ]
        hurt = [item.tx_hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES] for at in skipped]
        hurt += [item.dropped_hashes[at : at + HASH_BYTES] for at in range(0, len(item.dropped_hashes), HASH_BYTES)]
        for tx_hash in hurt:
            lane = self._lane_by_tx.get(tx_hash)
            if lane is not None and tx_hash not in self._replayed:
                dispatcher.retire(lane)
                self.retired.add(lane)


class _Ticker:
    """Turns counters into a snapshot about once per second."""

    def __init__(self, driver: LoadDriver, finished: FinishedPhase, resolved_before: int) -> None:
        self._driver = driver
        self._finished = finished
        self._before = resolved_before
        self._earlier = [phase.dispatcher for phase in driver.finished[:-1]]
        self._begin_ns = driver.finished[0].start_ns
        self._next_ns = finished.start_ns
        self._last = (finished.start_ns, resolved_before)

    def tick(self) -> None:
        """Report if a second has passed."""
        now_ns = self._driver.clock.monotonic_ns()
        if now_ns < self._next_ns:
            return
        self._next_ns += _PROGRESS_EVERY_NS * (1 + (now_ns - self._next_ns) // _PROGRESS_EVERY_NS)
        driver, dispatcher = self._driver, self._finished.dispatcher
        legs_resolved = driver._legs_resolved()
        last_ns, last = self._last
        self._last = (now_ns, legs_resolved)
        resolved = (legs_resolved - self._before) // driver.legs
        sent = dispatcher.accepted + dispatcher.in_flight + len(dispatcher.refusals)
        driver.observer.progress(
            Progress(
                elapsed_s=(now_ns - self._begin_ns) / NS_PER_S,
                remaining_s=max(0.0, (self._finished.end_ns - now_ns) / NS_PER_S),
                rate_per_s=self._finished.prepared.schedule.rate_at(now_ns - self._finished.start_ns),
                due=dispatcher.reached + sum(len(other.due_ns) for other in self._earlier),
                sent=sent + sum(other.accepted for other in self._earlier),
                accepted=dispatcher.accepted + sum(other.accepted for other in self._earlier),
                refused=len(dispatcher.refusals) + sum(len(other.refusals) for other in self._earlier),
                resolved=legs_resolved // driver.legs,
                pending=max(0, dispatcher.accepted - resolved),
                executed_per_s=(legs_resolved - last) / driver.legs / max(1e-9, (now_ns - last_ns) / NS_PER_S),
                retired_lanes=len(driver.retired | set(dispatcher.retired_lanes)),
            )
        )


def sent_bundles(finished: Sequence[FinishedPhase], *, legs: int) -> SentBundles:
    """All phases of a run as one table, in due order."""

    def times(name: str) -> NDArray[np.int64]:
        parts = [np.array(getattr(phase.dispatcher, name), dtype=np.int64) for phase in finished]
        joined = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
        return np.where(joined == 0, NEVER, joined)

    unsigned = [phase.prepared.phase.unsigned for phase in finished]
    signed = [phase.prepared.signed for phase in finished]
    standing = [value for phase in finished for value in phase.dispatcher.standing]
    attempts = [value for phase in finished for value in phase.dispatcher.attempts]
    return SentBundles(
        legs=legs,
        lanes=np.concatenate([part.lanes for part in unsigned]) if unsigned else np.empty(0, np.int32),
        rollups=np.concatenate([part.rollups for part in unsigned]) if unsigned else np.empty((0, legs), np.int16),
        submission_hashes=b"".join([part.submission_hashes for part in signed]),
        bundle_hashes=b"".join([part.bundle_hashes for part in signed]),
        tx_hashes=b"".join([part.tx_hashes for part in signed]),
        due_ns=times("due_ns"),
        sent_ns=times("sent_ns"),
        accepted_ns=times("accepted_ns"),
        refused=np.array([value is Standing.REFUSED for value in standing], dtype=np.bool_),
        attempts=np.minimum(np.array(attempts, dtype=np.int64), np.iinfo(np.int16).max).astype(np.int16),
    )


def generator_health(finished: Sequence[FinishedPhase]) -> dict[str, float | int]:
    """How well the generator kept its schedule: lateness of coming to each bundle, and the share it never came to."""
    late: list[int] = []
    missed = 0
    for phase in finished:
        dispatcher = phase.dispatcher
        for due_ns, reached_ns in zip(dispatcher.due_ns, dispatcher.reached_ns, strict=True):
            if reached_ns:
                late.append(reached_ns - due_ns)
            else:
                missed += 1
    count = len(late) + missed
    values = np.array(late, dtype=np.float64) / 1e6
    return {
        "late_p99_ms": float(np.percentile(values, 99)) if len(values) else 0.0,
        "late_share": float((values > _LATE_MS).sum() / max(1, count)),
        "missed": missed,
        "missed_share": missed / max(1, count),
    }


_LATE_MS = 50.0
"""A bundle that the generator came to later than this counts as late."""
