"""Figures with bars: outcomes, the slowest bundles, resources by node, CPU by stage."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks.report import wording
from benchmarks.report.canvas import THOUSANDS, Canvas, legend_above
from benchmarks.report.resources import BESIDE, ENGINE_STAGE
from benchmarks.report.results import Results
from benchmarks.report.slowest import RESOLVE, SEGMENTS
from benchmarks.report.style import OUTCOME_COLOURS, SEGMENT_COLOURS, colour

NODES_SHOWN = 16


# Bars


def draw_outcomes(canvas: Canvas) -> None:
    """Where all bundles ended."""
    axes = canvas.figure.add_subplot()
    counts = canvas.results.bundles
    names = shown_outcomes(canvas.results)
    values = [counts[name] for name in names]
    shades = [colour(OUTCOME_COLOURS[name]) for name in names]
    labels = [f"{value:,}  ({value / max(1, counts['due']):.2%})" for value in values]
    _bars(canvas, axes, [name.replace("_", " ") for name in names], values, shades, labels)
    axes.set_xlabel("bundles due in the whole run")


def shown_outcomes(results: Results) -> list[str]:
    """What occurred, and the failures that a reader looks for even where there are none."""
    always = ("succeeded", "partly_succeeded", "reverted", "skipped", "dropped", "lost")
    return [name for name in OUTCOME_COLOURS if results.bundles[name] or name in always]


def _bars(
    canvas: Canvas,
    axes: Axes,
    names: Sequence[str],
    values: Sequence[float],
    shades: Sequence[str],
    labels: Sequence[str],
) -> None:
    """Horizontal bars from top to bottom, each with its value beside it."""
    places = np.arange(len(names))
    for bar, name, label in zip(axes.barh(places, values, color=shades, height=0.62), names, labels):
        canvas.tip(bar, f"{name}: {label}")
    for place, value, label in zip(places, values, labels):
        axes.annotate(label, (value, place), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(places, list(names))
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, (max(values, default=0) or 1) * (1.75 if canvas.narrow else 1.4))
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.xaxis.set_major_locator(MaxNLocator(3 if canvas.narrow else 5))
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0, labelcolor=colour("ink"))


def draw_slowest(canvas: Canvas) -> None:
    """The life of each of the slowest, cut into segments."""
    axes = canvas.figure.add_subplot()
    rows = canvas.results.slowest
    names = [f"#{row['bundle_id']}" for row in rows]
    left = np.zeros(len(rows))
    for segment in (*SEGMENTS, RESOLVE):
        widths = np.array([row["segments_ms"].get(segment, 0.0) for row in rows])
        if not widths.any():
            continue
        bars = axes.barh(
            np.arange(len(rows)), widths, left=left, height=0.66, color=colour(SEGMENT_COLOURS[segment]), label=segment
        )
        for bar, name, width in zip(bars, names, widths):
            canvas.tip(bar, f"{name} {segment}: {width:.1f} ms")
        left += widths
    axes.set_yticks(np.arange(len(rows)), names)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("ms after the bundle was due")
    legend_above(canvas, axes)


def draw_resources(canvas: Canvas) -> None:
    """CPU and memory of each node, engine and process apart."""
    grid = (2, 1) if canvas.narrow else (1, 2)
    cpu, memory = canvas.figure.subplots(*grid, sharey=True)
    names, rows = _shown_nodes(canvas.results.resources)
    for axes, what, unit in ((cpu, "cpu_s", "CPU seconds"), (memory, "pss_mb", "memory (PSS), MB")):
        engine = np.array([row[f"engine_{what}"] for row in rows])
        process = np.array([row[what] for row in rows]) - engine
        beside = [str(row.get("engine_is") or ENGINE_STAGE) for row in rows]
        for values, left, shade, label in (
            *(
                (
                    np.where([one == name for one in beside], engine, 0.0),
                    np.zeros(len(rows)),
                    "vermilion" if name == ENGINE_STAGE else "orange",
                    name,
                )
                for name in dict.fromkeys([ENGINE_STAGE, *beside])
                if name == ENGINE_STAGE or any(row["engine_cpu_s"] for row in rows if row.get("engine_is") == name)
            ),
            (process, engine, "blue", "node process, equal share"),
        ):
            bars = axes.barh(np.arange(len(rows)), values, left=left, height=0.66, color=colour(shade), label=label)
            for bar, name, value in zip(bars, names, values):
                canvas.tip(bar, f"{name}, {label}: {value:,.1f}")
        axes.set_yticks(np.arange(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
    handles, labels = cpu.get_legend_handles_labels()
    canvas.figure.legend(handles, labels, loc="outside upper left", ncols=2, fontsize=9, handlelength=1.2)


def _shown_nodes(resources: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[Mapping[str, Any]]]:
    """The nodes that used most CPU; the others as their mean."""
    ordered = sorted(resources.items(), key=lambda item: (-item[1]["cpu_s"], wording.natural(item[0])))
    if len(ordered) <= NODES_SHOWN + 1:
        ordered.sort(key=lambda item: wording.natural(item[0]))
        return [name for name, _ in ordered], [row for _, row in ordered]
    rest = [row for _, row in ordered[NODES_SHOWN:]]
    keys = ("cpu_s", "pss_mb", "engine_cpu_s", "engine_pss_mb")
    mean = {key: sum(row[key] for row in rest) / len(rest) for key in keys}
    shown = ordered[:NODES_SHOWN]
    return [*(name for name, _ in shown), f"mean of {len(rest)} others"], [*(row for _, row in shown), mean]


def draw_stage_cpu(canvas: Canvas) -> None:
    """CPU per bundle by stage."""
    axes = canvas.figure.add_subplot()
    stages = canvas.results.stage_cpu_us_per_bundle
    whole = sum(stages.values())
    shades = [colour(_stage_shade(name)) for name in stages]
    labels = [f"{value:,.0f} us ({value / whole:.0%})" for value in stages.values()]
    _bars(canvas, axes, list(stages), list(stages.values()), shades, labels)
    axes.set_xlabel("CPU us per executed bundle, all nodes")


def _stage_shade(name: str) -> str:
    kind, colon, _ = name.partition(": ")
    if colon:
        return {"sequencer": "orange", "rollup": "blue"}.get(kind, "violet")
    if name.endswith(BESIDE):
        return "orange"
    return {ENGINE_STAGE: "vermilion", "load generator": "grey"}.get(name, "muted")
