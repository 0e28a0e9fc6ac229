"""From `[load]` to due times and the rates they were drawn with. Pure; chance comes in as a generator."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator.spec.scenario import LoadTable
from coordinator.workload.arrivals import NS_PER_S, Segment, Times, arrival_times, trace_times
from nodes.model.errors import InvalidScenario


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePhase:
    """A stretch of the schedule with one rate. Times in nanoseconds after the start of the schedule."""

    rate_per_s: float
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Due times of one uninterrupted load."""

    due_ns: Times
    length_ns: int
    phases: tuple[RatePhase, ...]

    def rate_at(self, time_ns: int) -> float:
        """Rate at a time after the start of the schedule; after its end the last one."""
        return next((phase.rate_per_s for phase in self.phases if time_ns < phase.end_ns), self.phases[-1].rate_per_s)


def steady_schedule(rate_per_s: float, duration_s: float, arrivals: str, rng: np.random.Generator) -> Schedule:
    """One rate; also one step of a sweep."""
    return _of_segments([Segment(rate_per_s=rate_per_s, duration_s=duration_s)], arrivals, rng)


def load_schedule(load: LoadTable, *, scenario_folder: Path, rng: np.random.Generator) -> Schedule:
    """The schedule of a steady or burst load, or of a file of times. Raises InvalidScenario, LimitExceeded."""
    if load.arrivals == "trace":
        due_ns = trace_times(scenario_folder / load.trace)
        # Up to the end of the last second that has a bundle in it.
        length_ns = (int(due_ns[-1]) // NS_PER_S + 1) * NS_PER_S
        cut_s = load.warmup_s + load.cooldown_s
        if length_ns <= cut_s * NS_PER_S:
            raise InvalidScenario(
                f"[load] warmup_s + cooldown_s = {cut_s:g} leave nothing of the {length_ns / NS_PER_S:g} s "
                f"of {load.trace} to measure; cut less"
            )
        rate = len(due_ns) * NS_PER_S / length_ns
        return Schedule(
            due_ns=due_ns,
            length_ns=length_ns,
            phases=(RatePhase(rate_per_s=rate, start_ns=0, end_ns=length_ns),),
        )
    if load.kind != "burst":
        return steady_schedule(load.rate_per_s, load.duration_s, load.arrivals, rng)
    after_s = load.duration_s - load.burst_from_s - load.burst_for_s
    segments = [
        Segment(rate_per_s=load.rate_per_s, duration_s=load.burst_from_s),
        Segment(rate_per_s=load.burst_rate_per_s, duration_s=load.burst_for_s),
        Segment(rate_per_s=load.rate_per_s, duration_s=after_s),
    ]
    return _of_segments([segment for segment in segments if segment.duration_s > 0], load.arrivals, rng)


def _of_segments(segments: list[Segment], arrivals: str, rng: np.random.Generator) -> Schedule:
    phases = []
    at_ns = 0
    for segment in segments:
        end_ns = at_ns + round(segment.duration_s * NS_PER_S)
        phases.append(RatePhase(rate_per_s=segment.rate_per_s, start_ns=at_ns, end_ns=end_ns))
        at_ns = end_ns
    return Schedule(due_ns=arrival_times(arrivals, segments, rng), length_ns=at_ns, phases=tuple(phases))
