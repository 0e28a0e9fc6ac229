"""Percentiles, windows and rates: the pure arithmetic of a report.

Knows arrays and milliseconds, no files and no sections.

Percentiles are nearest-rank over all values: always a value that was observed, never an average of percentiles.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report.run_data import Bools, Bundles, Floats

PERCENTILE_METHOD = "nearest rank over all values (numpy method 'inverted_cdf')"
COMPLETED_METHOD = (
    "bundles due in the window that {completed}, per second of the window plus the growth of the median latency over "
    "the window, where that is a height or more; where that latency exceeds 10 heights and what is expected of it, no "
    "more than what {completed} in a stretch of the window's length, later by the expected latency: a backlog that is "
    "only worked off later does not count as throughput"
)
KEEPING_UP_HEIGHTS = 10
EDGE_SHARE = 0.25
"""Part of the window at either end whose median latencies are compared to see a backlog grow."""
EDGE_HEIGHTS = 5
"""At least so many heights make an edge; fewer would compare phases of one height."""
MS_PER_S = 1_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of due times, in ms after the start of the load; the end is not included."""

    from_ms: float
    to_ms: float

    @property
    def seconds(self) -> float:
        """Length, never negative."""
        return max(0.0, self.to_ms - self.from_ms) / MS_PER_S

    def holds(self, times_ms: Floats) -> Bools:
        """Which times lie inside."""
        return (times_ms >= self.from_ms) & (times_ms < self.to_ms)

    def end(self, length_ms: float) -> "Window":
        """Its last part."""
        return Window(from_ms=self.to_ms - length_ms, to_ms=self.to_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How a backend's heights come; what is slower than this is a backlog."""

    height_ms: float
    """Width of a height. Latencies step by it, so a growth below it is none."""
    usual_ms: float = 0.0
    """Expected p99 of the stage at which bundles are completed, without execution; 0 where nothing is expected."""


def percentiles(values: Floats) -> dict[str, float | int | None]:
    """p50, p90, p99, max and count; null instead of a number where there is no value."""
    count = len(values)
    if not count:
        return {"p50": None, "p90": None, "p99": None, "max": None, "count": 0}
    p50, p90, p99 = np.percentile(values, [50, 90, 99], method="inverted_cdf")
    return {"p50": rounded(p50), "p90": rounded(p90), "p99": rounded(p99), "max": rounded(values.max()), "count": count}


def rounded(value: float, digits: int = 3) -> float:
    """Microseconds are the last digit that means anything; also makes files comparable."""
    return round(float(value), digits)


def executed_mask(bundles: Bundles) -> Bools:
    """Bundles of which at least one leg ran. Dropped and wholly skipped ones are resolved, but nothing was executed."""
    executed = bundles.stage_ms.get("executed")
    if executed is None:
        return np.zeros(len(bundles), dtype=bool)
    ran: Bools = bundles.is_outcome("succeeded", "partly", "reverted") & ~np.isnan(executed)
    return ran


def reached(bundles: Bundles, stage: str) -> Bools:
    """Bundles that reached a stage."""
    if stage == "executed":
        return executed_mask(bundles)
    mask: Bools = ~np.isnan(bundles.stage_ms[stage])
    return mask


def completed_method(bundles: Bundles) -> str:
    """What completed per second means in this run."""
    return COMPLETED_METHOD.format(
        completed="became atomic-safe" if bundles.completion == "atomic_safe" else "executed"
    )


def completed_mask(bundles: Bundles) -> Bools:
    """Bundles that are completed: executed, or atomic-safe where verdicts decide."""
    return reached(bundles, bundles.completion) if bundles.completion in bundles.stage_ms else executed_mask(bundles)


def stage_latencies_ms(bundles: Bundles, stage: str, window: Window) -> Floats:
    """Stage time minus due time of the bundles due in the window that reached the stage."""
    chosen = window.holds(bundles.due_ms) & reached(bundles, stage)
    latencies: Floats = bundles.stage_ms[stage][chosen] - bundles.due_ms[chosen]
    return latencies


def latency_table(bundles: Bundles, window: Window) -> dict[str, dict[str, Any]]:
    """Percentiles per stage, with the number of bundles due in the window that never got there."""
    due = int(window.holds(bundles.due_ms).sum())
    table: dict[str, dict[str, Any]] = {}
    for stage in bundles.stage_ms:
        row: dict[str, Any] = percentiles(stage_latencies_ms(bundles, stage, window))
        row["failures"] = due - row["count"]
        table[stage] = row
    return table


def in_blocks(latency_ms: dict[str, dict[str, Any]], interval_ms: float) -> dict[str, dict[str, Any]]:
    """The same latencies in widths of a height."""
    if interval_ms <= 0:
        return {}
    return {
        stage: {
            name: rounded(row[name] / interval_ms) if row[name] is not None else None
            for name in ("p50", "p90", "p99", "max")
        }
        for stage, row in latency_ms.items()
    }


def offered_per_s(bundles: Bundles, window: Window) -> float:
    """Bundles due per second of the window."""
    return rounded(window.holds(bundles.due_ms).sum() / window.seconds) if window.seconds else 0.0


def completed_per_s(bundles: Bundles, window: Window, pace: Pace) -> float:
    """See COMPLETED_METHOD."""
    ran = completed_mask(bundles)
    count = int((window.holds(bundles.due_ms) & ran).sum())
    if not count or not window.seconds:
        return 0.0
    growth_s = max(0.0, latency_growth_ms(bundles, window, pace)) / MS_PER_S
    completed = count / (window.seconds + growth_s)
    last = stage_latencies_ms(bundles, bundles.completion, window.end(_edge_ms(window, pace)))
    took_ms = float(np.median(last)) if len(last) else 0.0
    if not len(last) or took_ms > max(KEEPING_UP_HEIGHTS * pace.height_ms, pace.usual_ms):
        # What is usual is no backlog: the same number of bundles, so much later.
        later_ms = min(pace.usual_ms, took_ms)
        stretch = Window(from_ms=window.from_ms + later_ms, to_ms=window.to_ms + later_ms)
        meanwhile = int((stretch.holds(bundles.stage_ms[bundles.completion]) & ran).sum())
        completed = min(completed, meanwhile / window.seconds)
    return rounded(completed)


def _edge_ms(window: Window, pace: Pace) -> float:
    length_ms = window.to_ms - window.from_ms
    return min(max(EDGE_SHARE * length_ms, EDGE_HEIGHTS * pace.height_ms), length_ms / 2)


def latency_growth_ms(bundles: Bundles, window: Window, pace: Pace) -> float:
    """How much longer completion takes at the end of the window than at its start, by medians of both edges.

    0 below one height: so much the place of the edges within a height makes by itself.
    """
    length_ms = window.to_ms - window.from_ms
    edge_ms = _edge_ms(window, pace)
    start = Window(from_ms=window.from_ms, to_ms=window.from_ms + edge_ms)
    first = stage_latencies_ms(bundles, bundles.completion, start)
    last = stage_latencies_ms(bundles, bundles.completion, window.end(edge_ms))
    if not len(first) or not len(last):
        return 0.0
    # The edges' middles are one edge less than the window apart.
    growth_ms = float(np.median(last) - np.median(first)) * length_ms / (length_ms - edge_ms)
    return growth_ms if abs(growth_ms) >= pace.height_ms else 0.0
