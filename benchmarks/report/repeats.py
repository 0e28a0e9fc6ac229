"""What repeated runs say of one figure: medians, spread, and ratios with bootstrap intervals. Pure arithmetic.

Runs are compared in pairs: the run of one side and the run of the other that stood beside it, so that what the machine
did meanwhile touches both. An interval is that of the ratio of medians, resampled by pair: with 5 to 20 pairs it holds
the true ratio in 92 to 98 of 100 cases also with heavy tails, where that of the mean ratio holds it in 82 to 90.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.report.metrics import Metric
from benchmarks.report.stats import rounded

ENOUGH_PAIRS = 5
"""From here on intervals; fewer pairs cannot carry one."""
CONFIDENCE = 0.95
RESAMPLES = 4_000
SEED = 20_261_120
"""The same runs give the same interval, wherever a report is made again."""
DIGITS = 4
RULE_SHARE = 0.10
"""Smaller differences between single runs are within what a machine shared with others does by itself."""
SMALL_SHARE = 0.02
"""Smaller differences of medians mean nothing to anybody, however sure they are."""

SAME, SAME_SINGLE = "no difference shown", "no difference"
BETTER, WORSE = "better", "worse"
OVERLAP, APART = "ranges overlap", "ranges apart"
NOT_JUDGED, NOT_KNOWN = "not judged", "not known"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One figure over the runs of one side."""

    median: float
    low: float
    high: float
    iqr: float
    """From the first to the third quartile."""
    count: int

    @classmethod
    def of(cls, values: Sequence[float | None]) -> "Spread | None":
        """Of the values that are known; None where none is."""
        known = [value for value in values if value is not None]
        if not known:
            return None
        first, median, third = np.percentile(known, [25, 50, 75])
        return cls(
            median=rounded(median, DIGITS),
            low=rounded(min(known), DIGITS),
            high=rounded(max(known), DIGITS),
            iqr=rounded(third - first, DIGITS),
            count=len(known),
        )


Pairs = Sequence[tuple[float, float]]
"""(first side, other side) of each repeat."""


def pairs_of(first: Sequence[float | None], other: Sequence[float | None]) -> Pairs:
    """The repeats in which both sides have a value."""
    return [(a, b) for a, b in zip(first, other, strict=True) if a is not None and b is not None]


def ratio_of(pairs: Pairs) -> float | None:
    """Median of the other side to that of the first; None without pairs, or where the first is 0."""
    if not pairs:
        return None
    first, other = (float(np.median(side)) for side in zip(*pairs, strict=True))
    return rounded(other / first, DIGITS) if first else None


def ratio_interval(pairs: Pairs) -> tuple[float, float] | None:
    """Percentile bootstrap interval of `ratio_of`; None with too few pairs, or where a resampled first side is 0."""
    if len(pairs) < ENOUGH_PAIRS:
        return None
    values = np.asarray(pairs, dtype=np.float64)
    chosen = np.random.default_rng(SEED).integers(0, len(values), size=(RESAMPLES, len(values)))
    first, other = (np.median(values[:, side][chosen], axis=1) for side in (0, 1))
    if not first.all():
        return None
    edge = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(other / first, [edge, 100 - edge])
    return rounded(low, DIGITS), rounded(high, DIGITS)


def judge(metric: Metric, pairs: Pairs) -> str:
    """What the pairs say of the other side: one of the words above."""
    if not metric.judged:
        return NOT_JUDGED
    if not pairs:
        return NOT_KNOWN
    first, other = (float(np.median(side)) for side in zip(*pairs, strict=True))
    difference = other - first
    changed = BETTER if (difference > 0) == metric.more_is_better else WORSE
    if len(pairs) == 1:
        return SAME_SINGLE if abs(difference) <= max(RULE_SHARE * abs(first), metric.floor) else changed
    is_small = abs(difference) <= max(SMALL_SHARE * abs(first), metric.floor)
    if len(pairs) < ENOUGH_PAIRS and not is_small:
        (low_a, high_a), (low_b, high_b) = ((min(side), max(side)) for side in zip(*pairs, strict=True))
        return OVERLAP if low_a <= high_b and low_b <= high_a else APART
    if is_small:
        return SAME
    interval = ratio_interval(pairs)
    if interval is None:
        # A first side that is 0 has no ratio; a difference beyond the floor that no pair contradicts is one.
        return changed if all((b - a > 0) == (difference > 0) for a, b in pairs) else SAME
    return SAME if interval[0] <= 1 <= interval[1] else changed
