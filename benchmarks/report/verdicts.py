"""What a comparison comes to, in words. Pure: from lines and results to sentences.

One run a side is judged by the ten percent rule, several by intervals; runs that are not valid support no verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report.compare_backends import rung_name
from benchmarks.report.metrics import Metric
from benchmarks.report.repeats import (
    APART,
    BETTER,
    CONFIDENCE,
    ENOUGH_PAIRS,
    RULE_SHARE,
    SAME,
    SAME_SINGLE,
    WORSE,
    Spread,
)
from benchmarks.report.run_data import STAGES
from benchmarks.report.wording import NOT_KNOWN

SAME_EXPERIMENT = frozenset({"commit", "seed"})
"""Settings that may differ between a baseline and what is held against it; with any other the question is another."""
COSTS = ("CPU per bundle", "memory per node", "L1 gas per bundle", "lamports per bundle")
ONLY = "only "
"""Verdict of a metric that the first side has nothing of, with the side's name."""
TWICE = 2.0
"""Smaller ratios are said in percent."""
MUST_BE_ZERO = ("unbundled", "lost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A metric over all sides; ratios are to the first side."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    """Medians, where a side has several runs."""
    spreads: tuple[Spread | None, ...]
    ratios: tuple[float | None, ...]
    intervals: tuple[tuple[float, float] | None, ...]
    """Of the ratio, where there are enough pairs."""
    verdicts: tuple[str, ...]
    """Of each side after the first; the words of `repeats`, or `only_verdict`."""
    headline: bool


Runs = Sequence[Sequence[Mapping[str, Any]]]
"""Per side its results."""


def line_of(metric: Metric, spreads: Sequence[Spread | None], **columns: Any) -> Line:
    """A line whose values are the medians."""
    return Line(
        name=metric.name,
        unit=metric.unit,
        values=tuple(None if spread is None else spread.median for spread in spreads),
        spreads=tuple(spreads),
        headline=metric.headline,
        **columns,
    )


def figure(value: float | None) -> str:
    """A value of any metric, three digits."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def broken_rules(runs: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bundles by the rule that was broken for them, over all these runs; they count whatever the figures say."""
    return {name: count for name in MUST_BE_ZERO if (count := sum(int(run["bundles"][name]) for run in runs))}


# Single runs


def single_verdict(runs: Runs, lines: Sequence[Line], differing: Mapping[str, Sequence[str]]) -> tuple[str, bool]:
    """In words, and whether something got worse."""
    of_first = broken_rules(runs[0])
    broken = [
        f"run {index} has {count:,} {name} bundles"
        for index, side in enumerate(runs[1:], 2)
        for name, count in broken_rules(side).items()
        if count > of_first.get(name, 0)
    ]
    if broken:
        return f"Regression: {'; '.join(broken)}.", True
    unusable = [str(index) for index, side in enumerate(runs, 1) if not all(run["valid"] for run in side)]
    if unusable:
        return f"No verdict: run {', '.join(unusable)} of {len(runs)} is not valid.", False
    rule = f"{RULE_SHARE:.0%} rule, single runs"
    worse, better = (_changes(lines, wanted) for wanted in (WORSE, BETTER))
    # A stage that one mode of atomicity lacks is no gap in what is known.
    unknown = [] if "atomicity" in differing else [line.name for line in lines if "not known" in line.verdicts]
    suffix = f" Not known in both: {', '.join(unknown)}." if unknown else ""
    others = [key.replace("_", " ") for key in differing if key not in SAME_EXPERIMENT]
    if others:
        parts = [f"Worse than the first: {'; '.join(worse)}."] if worse else []
        parts += [f"Better: {'; '.join(better)}."] if better else []
        parts = parts or [f"No difference shown ({rule})."]
        return (
            f"No regression verdict, because the runs differ in {', '.join(others)}. {' '.join(parts)}{suffix}",
            False,
        )
    if worse:
        also = f" Better: {'; '.join(better)}." if better else ""
        return f"Regression ({rule}): {'; '.join(worse)}.{also}{suffix}", True
    if better:
        return f"Better, and nothing worse ({rule}): {'; '.join(better)}.{suffix}", False
    return f"No difference shown ({rule}).{suffix}", False


def _changes(lines: Sequence[Line], wanted: str) -> list[str]:
    found = []
    for line in lines:
        for index, verdict in enumerate(line.verdicts, 1):
            first, value = line.values[0], line.values[index]
            if verdict == wanted and first is not None and value is not None:
                change = f" ({(value - first) / first:+.0%})" if first else ""
                run = f" in run {index + 1}" if len(line.verdicts) > 1 else ""
                found.append(f"{line.name} {figure(first)} to {figure(value)} {line.unit}{change}{run}")
    return found


# Several runs a side


def repeated_verdict(
    labels: Sequence[str], lines: Sequence[Line], *, pairs: int, same_settings: bool, problems: Sequence[str]
) -> str:
    """One sentence or two for each side after the first, about the headline metrics.

    `same_settings`: all sides ran the same; `problems` forbid a verdict and are said instead.
    """
    if problems:
        return f"No verdict: {'; '.join(problems)}."
    parts = []
    for index, label in enumerate(labels[1:]):
        if pairs == 1:
            parts.append(_of_single(label, labels[0], lines, index, same_settings=same_settings))
        elif pairs < ENOUGH_PAIRS:
            parts.append(_of_ranges(label, labels[0], lines, index, same_settings=same_settings))
        else:
            parts.append(_of_intervals(label, labels[0], lines, index, same_settings=same_settings))
    if pairs == 1:
        parts.append(f"One run each, {RULE_SHARE:.0%} rule; ratios with intervals need {ENOUGH_PAIRS} repeats.")
    elif pairs < ENOUGH_PAIRS:
        parts.append(f"Medians and ranges of {pairs} repeats; ratios with intervals need {ENOUGH_PAIRS}.")
    return " ".join(parts)


def _of_single(label: str, first: str, lines: Sequence[Line], index: int, *, same_settings: bool) -> str:
    if not any(line.verdicts[index] in (WORSE, BETTER) for line in lines):
        return f"No difference shown between {label} and {first}."
    if same_settings:
        changed = [_ratio(line, index + 1) for line in lines if line.verdicts[index] in (WORSE, BETTER)]
        return f"{label} and {first} are the same twice; still they differ in {', '.join(changed)}, by chance."
    return f"{label} against {first} {_headlines(lines, index)}."


def _of_ranges(label: str, first: str, lines: Sequence[Line], index: int, *, same_settings: bool) -> str:
    apart = [_ratio(line, index + 1) for line in lines if line.verdicts[index] == APART]
    if not apart:
        return f"No difference shown between {label} and {first}: their ranges overlap or nearly so."
    if same_settings:
        return f"{label} and {first} are the same twice; still their ranges lie apart in {', '.join(apart)}, by chance."
    return f"{label} against {first} {_headlines(lines, index)} (named where the ranges lie apart)."


def _of_intervals(label: str, first: str, lines: Sequence[Line], index: int, *, same_settings: bool) -> str:
    judged = [line for line in lines if line.verdicts[index] in (SAME, BETTER, WORSE)]
    changed = [line for line in judged if line.verdicts[index] != SAME]
    by_chance = f"{(1 - CONFIDENCE) * len(judged):.1g} of {len(judged)} stand apart by chance alone"
    if not changed:
        return (
            f"No difference shown between {label} and {first} in any of {len(judged)} metrics ({CONFIDENCE:.0%} "
            "intervals of the ratios)."
        )
    if same_settings:
        named = ", ".join(_ratio(line, index + 1) for line in changed)
        return (
            f"{label} and {first} are the same twice: no difference shown in {len(judged) - len(changed)} of "
            f"{len(judged)} metrics, apart in {named}; {by_chance}, so differences of this size show nothing here."
        )
    only = [line for line in lines if line.verdicts[index] == only_verdict(label)]
    return f"{label} against {first} {_headlines([*judged, *only], index)}."


def _headlines(lines: Sequence[Line], index: int) -> str:
    """What moved and how far: medians of latencies, throughput, costs; others only where none of these moved."""
    side = index + 1
    moved = [line for line in lines if line.verdicts[index] in (WORSE, BETTER, APART) and line.ratios[side]]
    named = [line for line in moved if line.headline or line.name in COSTS] or moved
    groups: dict[str, list[str]] = {}
    for line in sorted(named, key=lambda line: (line.unit != "ms", line.name in COSTS, _is_less(line, side))):
        groups.setdefault(_direction(line, side), []).append(_said(line, side))
    parts = [f"{what}: {', '.join(said)}" for what, said in groups.items()]
    for line in lines:
        if (value := line.values[side]) and line.verdicts[index].startswith(ONLY):
            parts.append(f"{line.verdicts[index]} pays {line.name}: {figure(value)}")
    same = [plain_name(line.name) for line in lines if line.headline and line.verdicts[index] in (SAME, SAME_SINGLE)]
    if same:
        parts.append(f"no difference shown in {', '.join(same)}")
    return "; ".join(parts)


def _is_less(line: Line, side: int) -> bool:
    return (line.ratios[side] or 0.0) < 1


def _direction(line: Line, side: int) -> str:
    """What a moved metric means for whoever uses the side."""
    less = _is_less(line, side)
    if line.unit == "ms":
        return "is faster" if less else "takes longer"
    if line.name in COSTS:
        return "costs less" if less else "costs more"
    return "has less" if less else "has more"


def _said(line: Line, side: int) -> str:
    """soft 17.5x, CPU per bundle +69 %; with the interval where there is one."""
    ratio, interval = line.ratios[side], line.intervals[side]
    assert ratio is not None
    name = plain_name(line.name)
    if ratio >= TWICE:
        return f"{name} {ratio_text(line, side)}"
    edges = f" [{', '.join(_percent(edge) for edge in interval)}]" if interval is not None else ""
    return f"{name} {_percent(ratio)} %{edges}"


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f}"


def only_verdict(label: str) -> str:
    """Of a metric that the first side has nothing of."""
    return f"{ONLY}{label}"


def _ratio(line: Line, side: int) -> str:
    return f"{plain_name(line.name)} {ratio_text(line, side)}"


def plain_name(name: str) -> str:
    """A metric of a stage by the name of its rung: sequenced (soft) p50."""
    stage, space, rest = name.partition(" ")
    return f"{rung_name(stage)}{space}{rest}" if stage in STAGES else name


def ratio_text(line: Line, side: int) -> str:
    """8.12x [7.90, 8.31]; a dash where there is none."""
    ratio, interval = line.ratios[side], line.intervals[side]
    if ratio is None:
        return NOT_KNOWN
    if interval is None:
        return times(ratio)
    low, high = (times(edge).removesuffix("x") for edge in interval)
    return f"{times(ratio)} [{low}, {high}]"


def times(ratio: float) -> str:
    """A ratio as it is read: 8.1x, 0.97x, 124x."""
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"
