"""One figure over several runs: how their bundles ended, and how long each stage took.

Reads the results of the runs as `compare` holds them, no run directory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.report.canvas import NOTHING, SHORTEST
from benchmarks.report.compare import Comparison
from benchmarks.report.figures import METADATA, PNG_DPI
from benchmarks.report.style import OUTCOME_COLOURS, RC, STAGE_COLOURS, colour

MIN_LABELLED = 0.5
"""Percent of a bar from which on its size is written into it."""
WIDTH_INCHES = 9.0


def draw_comparison(comparison: Comparison, directory: Path) -> list[Path]:
    """Write comparison.svg and comparison.png into a folder; their paths."""
    with mpl.rc_context(cast(Any, dict(RC))):
        height = 1.6 + 0.55 * len(comparison.labels)
        figure = Figure(figsize=(WIDTH_INCHES, height))
        outcomes, ladder = figure.subplots(1, 2, sharey=True, width_ratios=(1, 1.4))
        _draw_outcomes(outcomes, comparison)
        _draw_ladders(ladder, comparison)
        outcomes.set_yticks(range(len(comparison.labels)), list(comparison.labels))
        outcomes.set_ylim(len(comparison.labels) - 0.5, -0.7)
        handles, names = outcomes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=3, fontsize=8.5, handlelength=1.0)
        handles, names = ladder.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=4, fontsize=8.5, handlelength=1.0)
        paths = [directory / f"comparison.{suffix}" for suffix in ("svg", "png")]
        for path in paths:
            suffix = path.suffix[1:]
            figure.savefig(path, format=suffix, dpi=PNG_DPI, metadata=METADATA[suffix], facecolor="white")
    return paths


def _draw_outcomes(axes: Axes, comparison: Comparison) -> None:
    """A bar per run, 100 % of what was due: a builder refuses what it sees failing."""
    places = np.arange(len(comparison.labels))
    left = np.zeros(len(places))
    due = np.array([max(1, counts["due"]) for counts in comparison.outcomes])
    for name, shade in OUTCOME_COLOURS.items():
        shares = 100 * np.array([counts.get(name, 0) for counts in comparison.outcomes]) / due
        if not shares.any():
            continue
        axes.barh(places, shares, left=left, height=0.55, color=colour(shade), label=name.replace("_", " "))
        left += shares
    _label_failures(axes, comparison, due)
    axes.set_xlim(0, 100)
    axes.xaxis.set_major_formatter(PercentFormatter())
    axes.set_xlabel("of the bundles due")
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)


def _label_failures(axes: Axes, comparison: Comparison, due: "np.ndarray[Any, np.dtype[np.int64]]") -> None:
    for place, (counts, whole) in enumerate(zip(comparison.outcomes, due, strict=True)):
        parts = [
            f"{100 * counts[name] / whole:.1f} % {name.replace('_', ' ')}"
            for name in ("partly_succeeded", "aborted", "reverted", "refused")
            if 100 * counts.get(name, 0) / whole >= MIN_LABELLED
        ]
        text = ", ".join(parts) or f"{100 * counts['succeeded'] / whole:.1f} % succeeded"
        axes.text(2, place, text, color="white", fontsize=8.5, va="center")


def _stage_name(stage: str, comparison: Comparison) -> str:
    plain = stage.replace("_", "-")
    return f"{plain} ({', '.join(comparison.proof_kinds)})" if stage == "proved" else plain


def _draw_ladders(axes: Axes, comparison: Comparison) -> None:
    """A dot per stage at its median, a tail to its p99."""
    stages: Sequence[str] = [stage for stage in STAGE_COLOURS if any(stage in run for run in comparison.latency_ms)]
    for stage in stages:
        shade, named = colour(STAGE_COLOURS[stage]), False
        for place, run in enumerate(comparison.latency_ms):
            row = run.get(stage)
            if row is None or row["p50"] is None:
                continue
            axes.plot([row["p50"], row["p99"]], [place, place], color=shade, linewidth=2, alpha=0.45)
            label = "" if named else _stage_name(stage, comparison)
            axes.plot([row["p50"]], [place], "o", color=shade, markersize=6, label=label)
            named = True
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(SHORTEST)
    axes.xaxis.set_minor_formatter(NOTHING)
    axes.set_xlabel("ms after the bundle was due: median, and line to the p99")
    axes.grid(visible=True, axis="x")
    axes.tick_params(axis="y", length=0)
