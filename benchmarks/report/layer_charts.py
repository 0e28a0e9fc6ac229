"""Figures of an aggregation layer: the ladder of stages, verdict rounds, reorg depths, how settlement follows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks.report import wording
from benchmarks.report.canvas import NOTHING, SHORTEST, THOUSANDS, Canvas, legend_above, time_axis
from benchmarks.report.stats import MS_PER_S
from benchmarks.report.style import STAGE_COLOURS, STAGE_DASHES, colour

BARS_SHOWN = 16
FIRST_TIME_MS = 0.1
"""Left end of a logarithmic axis at the earliest."""


def ladder_stages(latency_ms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Stages that anything reached."""
    return [stage for stage, row in latency_ms.items() if row["count"]]


def draw_ladder(canvas: Canvas) -> None:
    """A rung per stage from p50 to p99, on a logarithmic axis: milliseconds and settlement stand side by side."""
    axes = canvas.figure.add_subplot()
    latency, expected = canvas.results.latency_ms, canvas.results.expected_ms
    stages = ladder_stages(latency)
    for place, stage in enumerate(stages):
        row, shade = latency[stage], colour(STAGE_COLOURS[stage])
        p50, p99 = (max(FIRST_TIME_MS, row[name]) for name in ("p50", "p99"))
        (line,) = axes.plot([p50, p99], [place, place], color=shade, linewidth=4, solid_capstyle="round")
        axes.plot([p50], [place], "o", color=shade, markersize=7)
        canvas.tip(
            line,
            f"{wording.stage_name(stage, canvas.results)}: p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms, "
            f"{row['count']:,} bundles",
        )
        label = wording.milliseconds(row["p50"])
        axes.annotate(label, (p50, place), xytext=(0, 7), textcoords="offset points", ha="center", fontsize=8.5)
        if (theory := expected.get(stage)) is not None:
            axes.plot([theory["p50"]], [place], "|", color=colour("ink"), markersize=13, markeredgewidth=1.6)
    axes.plot([], [], "o-", color=colour("muted"), linewidth=4, label="p50 to p99")
    axes.plot([], [], "|", color=colour("ink"), markersize=10, linestyle="none", label="expected p50")
    axes.set_yticks(range(len(stages)), [wording.stage_name(stage, canvas.results) for stage in stages])
    axes.set_ylim(len(stages) - 0.5, -0.7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(SHORTEST)
    axes.xaxis.set_minor_formatter(NOTHING)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ms after the bundle was due")
    legend_above(canvas, axes)


def draw_rounds(canvas: Canvas) -> None:
    """How many heights took how many rounds."""
    rounds = (canvas.results.atomicity or {})["rounds"]
    _counts(canvas, rounds["histogram"], what="rounds", unit="heights", shade="pink")


def draw_reorgs(canvas: Canvas) -> None:
    """How many reorgs gave up how many heights."""
    reorgs = (canvas.results.atomicity or {})["reorgs"]
    _counts(canvas, reorgs["histogram"], what="depth", unit="reorgs", shade="violet")


def _counts(canvas: Canvas, rows: Sequence[Mapping[str, int]], *, what: str, unit: str, shade: str) -> None:
    """Upright bars; the tail as one."""
    axes = canvas.figure.add_subplot()
    shown, rest = rows[:BARS_SHOWN], rows[BARS_SHOWN:]
    names = [str(row[what]) for row in shown] + ([f"> {shown[-1][what]}"] if rest else [])
    values = [row[unit] for row in shown] + ([sum(row[unit] for row in rest)] if rest else [])
    whole = sum(values) or 1
    for bar, name, count in zip(axes.bar(names, values, color=colour(shade), width=0.62), names, values):
        canvas.tip(bar, f"{what} {name}: {count:,} {unit} ({count / whole:.2%})")
        place = (bar.get_x() + bar.get_width() / 2, count)
        axes.annotate(f"{count:,}", place, xytext=(0, 2), textcoords="offset points", ha="center", fontsize=8.5)
    axes.set_xlim(-0.8, max(3, len(names)) - 0.2)
    axes.set_ylim(0, max(values, default=0) * 1.15 or 1)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_xlabel({"rounds": "rounds until nothing failed", "depth": "heights given up at once"}[what])
    axes.set_ylabel(unit)


def draw_settling(canvas: Canvas) -> None:
    """Bundles that came to each late stage, over time: settlement goes in steps."""
    axes = canvas.figure.add_subplot()
    bundles = canvas.data.bundles
    first = bundles.completion
    stages = [stage for stage in (first, "proved", "settled", "final") if stage in bundles.stage_ms]
    for stage in stages:
        times = np.sort(bundles.stage_ms[stage][np.isfinite(bundles.stage_ms[stage])]) / MS_PER_S
        if not len(times):
            continue
        moments, last = np.unique(times, return_index=True)
        counts = np.r_[last[1:], len(times)]
        keep = np.unique(np.linspace(0, len(moments) - 1, 400).astype(np.int64))
        (line,) = axes.step(
            np.r_[0.0, moments[keep]],
            np.r_[0, counts[keep]],
            where="post",
            color=colour(STAGE_COLOURS[stage]),
            linestyle=STAGE_DASHES[stage],
            label=wording.stage_name(stage, canvas.results),
            linewidth=1.5,
        )
        canvas.tip(line, f"{wording.stage_name(stage, canvas.results)}: {len(times):,} bundles")
    _finish(canvas, axes)


def _finish(canvas: Canvas, axes: Axes) -> None:
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_ylabel("bundles that got there")
    time_axis(canvas, axes)
    legend_above(canvas, axes)
