"""`lockstep sweep`: rates upward on one running testnet until it no longer keeps up, then closer to the limit.

A step is sustained when at least 99 % of what was due was executed by the bound after the step's end, and the p99 of
executed stays at or under the bound; with verdicts, of atomic-safe. The start of every step is not judged, because the
step before may have left a backlog. The report judges the steps again, from the run directory alone.
"""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from coordinator.collect.join import OUTCOMES, bundle_fates, leg_fates
from coordinator.collect.settling import bundle_stages
from coordinator.stages.load import FinishedPhase, LoadDriver, sent_bundles
from coordinator.stages.run_state import RunState, SentPhase
from coordinator.stages.schedule import steady_schedule

MAX_STEPS = 40
MAX_REFINEMENTS = 3
CLOSE_ENOUGH = 1.08
"""The search ends when the lowest failed rate is at most this times the highest sustained one."""
SUSTAINED_SHARE = 0.99
SETTLE_SHARE = 0.2
"""Start of each step that is not judged."""
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one step carried."""

    rate_per_s: float
    share: float
    """Executed in time, of what was due."""
    p99_ms: float
    """Of executed, from due."""
    sustained: bool


class Starter(Protocol):
    """Names the moment a phase begins."""

    def now(self) -> int:
        """Start of the next phase on the coordinator's clock."""
        ...


async def run_sweep(state: RunState, driver: LoadDriver, start: Starter) -> list[StepResult]:
    """Run steps until the limit is known closely enough, no lane is left, or the run is interrupted."""
    load = state.scenario.load
    results: list[StepResult] = []
    rate = load.sweep_start_per_s or load.rate_per_s
    while rate and len(results) < MAX_STEPS and not state.interrupt.is_set:
        if not driver.planner.lanes:
            state.problems.append(
                f"the sweep ended before {rate:,.0f}/s: a bundle of every lane was dropped or had a leg skipped"
            )
            break
        result = await _step(state, driver, start, rate)
        results.append(result)
        state.observer.stage(
            f"{rate:,.0f}/s: {result.share:.1%} in time, p99 {result.p99_ms:,.0f} ms: "
            + ("sustained" if result.sustained else "not sustained")
        )
        rate = next_rate(results, factor=load.sweep_factor)
    return results


def next_rate(results: list[StepResult], *, factor: float) -> float:
    """The rate of the next step: upward by the factor until one fails, then between the two. 0 = the limit is found."""
    failed = [result.rate_per_s for result in results if not result.sustained]
    sustained = [result.rate_per_s for result in results if result.sustained]
    if not failed:
        return float(round(results[-1].rate_per_s * factor))
    if not sustained or len(failed) > MAX_REFINEMENTS:
        return 0.0
    low, high = max(rate for rate in sustained if rate < min(failed) or rate == min(sustained)), min(failed)
    if high <= low * CLOSE_ENOUGH:
        return 0.0
    return float(round((low * high) ** 0.5))


async def _step(state: RunState, driver: LoadDriver, start: Starter, rate_per_s: float) -> StepResult:
    load = state.scenario.load
    schedule = steady_schedule(rate_per_s, load.sweep_step_s, load.arrivals, state.rng)
    prepared = await driver.prepare(schedule)
    start_ns = start.now()
    state.phases.append(SentPhase(rate_per_s=rate_per_s, start_ns=start_ns, end_ns=start_ns + schedule.length_ns))
    state.observer.stage(f"step: {rate_per_s:,.0f}/s for {load.sweep_step_s:g} s")
    finished = await driver.run(prepared, start_ns=start_ns, drain_s=load.drain_timeout_s)
    return await asyncio.to_thread(_judge, state, driver, finished)


def _judge(state: RunState, driver: LoadDriver, finished: FinishedPhase) -> StepResult:
    sent = sent_bundles([finished], legs=driver.legs)
    # Offsets between hosts are not known yet; a sweep's decision does not hang on a millisecond.
    legs = leg_fates(sent, [driver.collector.traces[node] for node in driver.primaries], {})
    executed_ns = legs.executed_ns.reshape(len(sent), driver.legs)
    resolved = (executed_ns >= 0).all(axis=1)
    last_ns = executed_ns.max(axis=1)
    if driver.has_verdicts:
        # Completed is atomic-safe here. A bundle that was struck is resolved too, at the time of its last execution.
        traces = [driver.collector.traces[node] for node in driver.primaries]
        fates = bundle_fates(sent, legs, driver.collector.traces[driver.sequencer_node], offset_ns=0)
        safe_ns = bundle_stages(
            sent, fates, traces, [], mints=(), has_verdicts=True, settles=False, offsets_ns={}
        ).atomic_safe
        assert safe_ns is not None
        aborted = fates.outcome == OUTCOMES.index("aborted")
        resolved &= aborted | (safe_ns >= 0)
        last_ns = np.where(aborted, last_ns, safe_ns)
    bound_ns = state.scenario.load.p99_bound_ms * _NS_PER_MS
    begin_ns = finished.start_ns + round(SETTLE_SHARE * finished.prepared.schedule.length_ns)
    judged = sent.due_ns >= begin_ns
    in_time = resolved & (last_ns <= finished.end_ns + bound_ns)
    due = int(judged.sum())
    share = float((in_time & judged).sum() / due) if due else 0.0
    latency_ns = (last_ns - sent.due_ns)[judged & resolved]
    p99_ms = float(np.percentile(latency_ns, 99) / _NS_PER_MS) if len(latency_ns) else float("inf")
    used = np.array([at != 0 for at in finished.dispatcher.accepted_ns], dtype=np.bool_) | resolved
    driver.hand_on(finished, used=used)
    sustained = share >= SUSTAINED_SHARE and p99_ms <= state.scenario.load.p99_bound_ms
    return StepResult(rate_per_s=finished.prepared.schedule.rate_at(0), share=share, p99_ms=p99_ms, sustained=sustained)
