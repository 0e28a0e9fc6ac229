"""Figures over several runs: how their bundles ended, the ladder of stages side by side, and the runs in their order.

Reads a `Comparison`, no run directory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from benchmarks.report import wording
from benchmarks.report.canvas import NOTHING, SHORTEST, Chart, Sheet, legend_above
from benchmarks.report.compare import Comparison
from benchmarks.report.compare_backends import Rung, rung_name
from benchmarks.report.run_data import STAGES
from benchmarks.report.style import OUTCOME_COLOURS, colour

MIN_LABELLED = 0.5
"""Percent of a bar from which on its size is written into it."""
SIDE_COLOURS = ("blue", "vermilion", "green", "violet", "orange", "pink", "brown", "muted")
SIDES_IN_LADDER = len(SIDE_COLOURS)
"""More sides cannot be told apart by colour; a table shows them."""
RUNG_INCHES = 0.16
"""Of each side in each rung."""
NEAR = 3.0
"""A mark at less than this ratio before a dot would stand in the dot's label."""
FIRST_TIME_MS = 0.1
"""Left end of a logarithmic axis at the earliest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonSheet(Sheet):
    """A figure of a comparison."""

    comparison: Comparison


def charts_of_comparison(comparison: Comparison) -> list[Chart[ComparisonSheet]]:
    """The figures that these runs have something to show for."""
    chosen = []
    stages, sides = len(_stages(comparison)), len(comparison.labels)
    if stages and sides <= SIDES_IN_LADDER and (comparison.backends is not None or any(comparison.modes)):
        height = 1.1 + stages * (0.18 + RUNG_INCHES * sides)
        chosen.append(_chart("ladder", "Latency, stage by stage", _ladder_caption(comparison), _draw_ladder, height))
    if any(comparison.modes):
        height = 1.2 + 0.45 * sides
        chosen.append(_chart("outcomes", "How bundles ended", "Of all bundles due.", _draw_outcomes, height))
    if any(row.completion_p50_ms is not None for row in comparison.runs):
        caption = (
            "Median latency of completed bundles in each run, in the order in which the runs were made. A drift over "
            "the order is the machine's, not a backend's. Hollow: not in the figures."
        )
        chosen.append(_chart("order", "Run by run", caption, _draw_order, 2.8))
    return chosen


def _chart(name: str, title: str, caption: str, draw: Any, height: float) -> Chart[ComparisonSheet]:
    return Chart(
        name=name, title=title, caption=caption, draw=draw, height_inches=height, narrow_height_inches=height + 0.3
    )


def _ladder_caption(comparison: Comparison) -> str:
    spread = " The thin line is the range of the medians over the repeats." if comparison.repeats > 1 else ""
    absent = comparison.backends.absent if comparison.backends is not None else ()
    lacking = f" Not in this chart: {'; '.join(absent)}." if absent else ""
    proofs = f" Proofs are {' or '.join(comparison.proof_kinds)}, not ZK proofs." if comparison.proof_kinds else ""
    return f"From the due time of a bundle: dot at the p50, bar to the p99, medians over runs.{spread}{lacking}{proofs}"


def _stages(comparison: Comparison) -> list[str]:
    return [
        stage for stage in STAGES if any((run.get(stage) or {}).get("p50") is not None for run in comparison.latency_ms)
    ]


def _stage_name(stage: str, comparison: Comparison) -> str:
    plain = rung_name(stage) if comparison.backends is not None else stage.replace("_", "-")
    return f"{plain} ({', '.join(comparison.proof_kinds)})" if stage == "proved" else plain


def _draw_ladder(sheet: ComparisonSheet) -> None:
    """A rung per stage, in it a bar per side: the same stage of different backends stands together."""
    comparison = sheet.comparison
    axes = sheet.figure.add_subplot()
    stages, labels = _stages(comparison), comparison.labels
    step = 0.72 / len(labels)
    for place, stage in enumerate(stages):
        for side, label in enumerate(labels):
            row = comparison.latency_ms[side].get(stage)
            if row is None or row["p50"] is None:
                continue
            at = place + (side - (len(labels) - 1) / 2) * step
            rung = _rung(comparison, label, stage)
            _draw_bar(sheet, axes, row, rung, at=at, side=side, name=f"{label}, {_stage_name(stage, comparison)}")
            if rung is not None:
                _draw_extras(axes, rung, at=at, half=0.42 * step)
    for side, label in enumerate(labels):
        axes.plot([], [], "o-", color=colour(SIDE_COLOURS[side]), linewidth=4, label=label)
    if comparison.backends is not None and any(rung.expected_p50_ms is not None for rung in comparison.backends.ladder):
        axes.plot([], [], "|", color=colour("ink"), markersize=10, linestyle="none", label="expected p50")
    for place in range(1, len(stages)):
        axes.axhline(place - 0.5, color=colour("grid"), linewidth=0.8)
    axes.set_yticks(range(len(stages)), [_stage_name(stage, comparison) for stage in stages])
    axes.set_ylim(len(stages) - 0.45, -0.55)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(SHORTEST)
    axes.xaxis.set_minor_formatter(NOTHING)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ms after the bundle was due")
    axes.margins(x=0.1)
    legend_above(sheet, axes)


def _rung(comparison: Comparison, label: str, stage: str) -> Rung | None:
    rungs = comparison.backends.ladder if comparison.backends is not None else ()
    return next((rung for rung in rungs if (rung.label, rung.stage) == (label, stage)), None)


def _draw_bar(
    sheet: Sheet, axes: Axes, row: Mapping[str, Any], rung: Rung | None, *, at: float, side: int, name: str
) -> None:
    shade = colour(SIDE_COLOURS[side])
    p50, p99 = (max(FIRST_TIME_MS, float(row[key])) for key in ("p50", "p99"))
    (line,) = axes.plot([p50, p99], [at, at], color=shade, linewidth=4, alpha=0.45, solid_capstyle="round")
    (dot,) = axes.plot([p50], [at], "o", color=shade, markersize=6)
    for artist in (line, dot):
        sheet.tip(artist, f"{name}: p50 {row['p50']:,.1f} ms, p99 {row['p99']:,.1f} ms")
    expected = rung.expected_p50_ms if rung is not None else None
    # Left of the mark of theory where that stands right before the dot.
    begin = min(p50, expected) if expected is not None and p50 / NEAR < expected else p50
    axes.annotate(
        wording.milliseconds(float(row["p50"])),
        (begin, at),
        xytext=(-6, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=7.5,
        color=colour("ink"),
    )


def _draw_extras(axes: Axes, rung: Rung, *, at: float, half: float) -> None:
    """The range of the medians over repeats, and what theory says."""
    if rung.p50_ms.count > 1:
        reach = [max(FIRST_TIME_MS, rung.p50_ms.low), max(FIRST_TIME_MS, rung.p50_ms.high)]
        axes.plot(reach, [at, at], color=colour("ink"), linewidth=1)
    if rung.expected_p50_ms is not None:
        axes.plot([rung.expected_p50_ms] * 2, [at - half, at + half], color=colour("ink"), linewidth=1.6)


def _draw_outcomes(sheet: ComparisonSheet) -> None:
    """A bar per side, 100 % of what was due: a builder refuses what it sees failing."""
    comparison = sheet.comparison
    axes = sheet.figure.add_subplot()
    places = np.arange(len(comparison.labels))
    left = np.zeros(len(places))
    due = np.array([max(1, counts.get("due", 0)) for counts in comparison.outcomes])
    for name, shade in OUTCOME_COLOURS.items():
        shares = 100 * np.array([counts.get(name, 0) for counts in comparison.outcomes]) / due
        if not shares.any():
            continue
        axes.barh(places, shares, left=left, height=0.55, color=colour(shade), label=name.replace("_", " "))
        left += shares
    _label_failures(axes, comparison, due)
    axes.set_yticks(places, list(comparison.labels))
    axes.set_ylim(len(places) - 0.5, -0.7)
    axes.set_xlim(0, 100)
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel("of the bundles due")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    legend_above(sheet, axes)


def _label_failures(axes: Axes, comparison: Comparison, due: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
    for place, (counts, whole) in enumerate(zip(comparison.outcomes, due, strict=True)):
        parts = [
            f"{100 * counts[name] / whole:.1f} % {name.replace('_', ' ')}"
            for name in ("partly_succeeded", "aborted", "reverted", "refused")
            if 100 * counts.get(name, 0) / whole >= MIN_LABELLED
        ]
        text = ", ".join(parts) or f"{100 * counts.get('succeeded', 0) / whole:.1f} % succeeded"
        axes.text(2, place, text, color="white", fontsize=8.5, va="center")


def _draw_order(sheet: ComparisonSheet) -> None:
    """A dot per run."""
    comparison = sheet.comparison
    axes = sheet.figure.add_subplot()
    values: list[float] = []
    for side, label in enumerate(comparison.labels):
        shade = colour(SIDE_COLOURS[side % len(SIDE_COLOURS)])
        rows = [(number, row) for number, row in enumerate(comparison.runs, 1) if row.label == label]
        rows = [(number, row) for number, row in rows if row.completion_p50_ms is not None]
        heights: Sequence[float] = [float(row.completion_p50_ms or 0) for _, row in rows]
        values += heights
        axes.plot([number for number, _ in rows], heights, color=shade, linewidth=1, alpha=0.5)
        for (number, row), height in zip(rows, heights, strict=True):
            inside = shade if row.used else "none"
            (dot,) = axes.plot(number, height, "o", markersize=6, markeredgecolor=shade, markerfacecolor=inside)
            sheet.tip(dot, f"run {number}: {label}, repeat {row.repeat}: {height:,.1f} ms")
        axes.plot([], [], "o-", color=shade, label=label)
    if values and max(values) > 12 * max(FIRST_TIME_MS, min(values)):
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NOTHING)
    else:
        axes.set_ylim(0, max(values, default=1.0) * 1.15 or 1.0)
    axes.yaxis.set_major_formatter(SHORTEST)
    axes.set_xlim(0.5, len(comparison.runs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(min(12, len(comparison.runs) + 1), integer=True))
    axes.set_xlabel("run")
    axes.set_ylabel("p50, ms")
    legend_above(sheet, axes)
