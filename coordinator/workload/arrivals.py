"""When bundles are due: constant, Poisson, or read from a file. Pure; chance comes in as a generator.

Times are nanoseconds after the start of the load, ascending. They are fixed before the load starts and never depend
on how the system answers.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nodes.model.errors import InvalidScenario, LimitExceeded, UnknownName

NS_PER_S = 1_000_000_000
MAX_BUNDLES = 2_000_000
"""Bundles of one phase, all signed ahead and kept in memory (about 0.6 KB each)."""
ARRIVALS = ("poisson", "constant", "trace")

Times = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of time with one rate."""

    rate_per_s: float
    duration_s: float


def arrival_times(kind: str, segments: Sequence[Segment], rng: np.random.Generator) -> Times:
    """Due times of consecutive segments; for `trace` see `trace_times`. Raises UnknownName, LimitExceeded."""
    if kind not in ("poisson", "constant"):
        raise UnknownName(kind="arrivals", name=kind, known=ARRIVALS)
    expected = sum(segment.rate_per_s * segment.duration_s for segment in segments)
    _check_count(int(expected))
    begin_ns = 0
    parts: list[Times] = []
    for segment in segments:
        length_ns = round(segment.duration_s * NS_PER_S)
        times = _poisson(segment, length_ns, rng) if kind == "poisson" else _constant(segment, length_ns)
        parts.append(times + begin_ns)
        begin_ns += length_ns
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _constant(segment: Segment, length_ns: int) -> Times:
    count = round(segment.rate_per_s * segment.duration_s)
    # Half a gap before the first, so that two segments of one rate join without a jump.
    return ((np.arange(count) + 0.5) * (length_ns / max(1, count))).astype(np.int64)


def _poisson(segment: Segment, length_ns: int, rng: np.random.Generator) -> Times:
    # Given their number, the arrivals of a Poisson process are uniform; this needs no guess of how many gaps to draw.
    count = int(rng.poisson(segment.rate_per_s * segment.duration_s))
    return np.sort((rng.random(count) * length_ns).astype(np.int64))


def trace_times(path: Path) -> Times:
    """Due times from a CSV file: seconds in the first column, a header line is allowed. Shifted to start at 0.

    Raises InvalidScenario naming the file and the line, LimitExceeded.
    """
    seconds: list[float] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or not row[0].strip():
                    continue
                try:
                    seconds.append(float(row[0]))
                except ValueError as error:
                    if number == 1:
                        continue
                    raise InvalidScenario(f"{path} line {number}: {row[0]!r} is not a time in seconds") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidScenario(f"arrival times {path} cannot be read ({error}); check [load] trace") from error
    if not seconds:
        raise InvalidScenario(f"{path} holds no times; give one time in seconds per line")
    _check_count(len(seconds))
    times = np.sort(np.asarray(seconds, dtype=np.float64))
    if not np.isfinite(times).all():
        raise InvalidScenario(f"{path} holds a time that is not finite")
    due_ns: Times = ((times - times[0]) * NS_PER_S).astype(np.int64)
    return due_ns


def _check_count(count: int) -> None:
    if count > MAX_BUNDLES:
        raise LimitExceeded(limit="bundles of one load phase", value=count, maximum=MAX_BUNDLES)
