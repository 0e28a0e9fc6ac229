"""Figures with lines: latency distributions, courses over time, the curve of a sweep."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator

from benchmarks.report.canvas import NOTHING, SHORTEST, THOUSANDS, Canvas, legend_above, time_axis
from benchmarks.report.load_phases import backlog_over_time
from benchmarks.report.run_data import SETTLEMENT_STAGES, Floats, RunData
from benchmarks.report.stats import MS_PER_S, Window, executed_mask, stage_latencies_ms
from benchmarks.report.style import STAGE_COLOURS, STAGE_DASHES, colour
from benchmarks.report.wording import stage_name

CURVE_POINTS = 200
TIME_BINS_MAX = 120
LOG_SPREAD = 12
"""Ratio of the p99.9 to the median from which a latency axis is logarithmic."""


# Latency


def draw_cdf(canvas: Canvas) -> None:
    """One distribution per stage over all bundles due, so that failures show."""
    axes = canvas.figure.add_subplot()
    load = canvas.results.load
    window = Window(from_ms=load["measured_from_s"] * MS_PER_S, to_ms=load["measured_to_s"] * MS_PER_S)
    due = int(window.holds(canvas.data.bundles.due_ms).sum())
    furthest, medians = 0.0, []
    for stage, row in canvas.results.latency_ms.items():
        values = np.sort(stage_latencies_ms(canvas.data.bundles, stage, window))
        if not len(values):
            continue
        x, y = _thinned(values, due)
        (line,) = axes.step(
            x,
            y,
            where="post",
            color=colour(STAGE_COLOURS[stage]),
            linestyle=STAGE_DASHES[stage],
            label=stage_name(stage, canvas.results),
        )
        canvas.tip(
            line,
            f"{stage_name(stage, canvas.results)}: p50 {row['p50']:.1f} ms, p99 {row['p99']:.1f} ms, "
            f"{row['count']:,} bundles",
        )
        furthest = max(furthest, float(np.percentile(values, 99.9)))
        medians.append(float(np.median(values)))
    settles = any(stage in canvas.results.latency_ms for stage in SETTLEMENT_STAGES)
    _latency_axis(axes, furthest, medians, wide=settles)
    for share in (50, 99):
        axes.axhline(share, color=colour("muted"), linewidth=0.8, linestyle=(0, (2, 2)))
        axes.text(
            1.0,
            share - 1.5,
            f"p{share}",
            color=colour("muted"),
            fontsize=8.5,
            ha="right",
            va="top",
            transform=axes.get_yaxis_transform(),
        )
    axes.set_ylim(0, 102)
    axes.set_ylabel("bundles due that got there (%)")
    legend_above(canvas, axes)


def _thinned(values: Floats, due: int) -> tuple[Floats, Floats]:
    """Some hundred points of a distribution over all bundles due, so that what never arrived keeps it below 100 %."""
    places = np.unique(np.linspace(0, len(values) - 1, CURVE_POINTS).astype(np.int64))
    share: Floats = (places + 1) / max(1, due) * 100
    return np.r_[values[0], values[places]], np.r_[0.0, share]


def _latency_axis(axes: Axes, furthest: float, medians: Sequence[float], *, wide: bool) -> None:
    """`wide`: the run has stages of milliseconds and of seconds."""
    if medians and (wide or furthest > LOG_SPREAD * max(medians)):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(SHORTEST)
        axes.xaxis.set_minor_formatter(NOTHING)
    else:
        axes.set_xlim(0, furthest * 1.08 or 1.0)
    axes.set_xlabel("ms after the bundle was due")


def draw_latency_time(canvas: Canvas) -> None:
    """Median and p99 of `executed` by due time."""
    axes = canvas.figure.add_subplot()
    bundles = canvas.data.bundles
    chosen = executed_mask(bundles)
    due_s = bundles.due_ms[chosen] / MS_PER_S
    latency = bundles.stage_ms["executed"][chosen] - bundles.due_ms[chosen]
    edges = _time_edges(canvas.data, float(due_s.max()))
    place = np.clip(np.digitize(due_s, edges) - 1, 0, len(edges) - 2)
    middle = (edges[:-1] + edges[1:]) / 2
    order = np.argsort(place, kind="stable")
    groups = np.split(latency[order], np.cumsum(np.bincount(place, minlength=len(middle)))[:-1])
    for name, share, style, width in (("p99", 99, (0, (4, 1.5)), 1.4), ("p50", 50, "solid", 1.8)):
        line_y = [np.percentile(group, share, method="inverted_cdf") if len(group) else np.nan for group in groups]
        (line,) = axes.plot(
            middle, line_y, color=colour("vermilion"), linestyle=style, linewidth=width, label=f"executed {name}"
        )
        canvas.tip(line, f"{name} of executed, by due time")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(SHORTEST)
    axes.set_ylabel("ms after the bundle was due")
    time_axis(canvas, axes)
    legend_above(canvas, axes)


# Throughput


def _time_edges(data: RunData, last_s: float) -> Floats:
    """Bins of one second; larger for long runs, smaller for very short ones."""
    end_s = max(last_s, (data.since_start_ms("load_end_ns") or 0.0) / MS_PER_S, 1.0)
    width = next(width for width in (0.5, 1, 2, 5, 10, 30, 60, 300, 3_600) if end_s / width <= TIME_BINS_MAX)
    width = max(width, 1) if end_s > 10 else width
    edges: Floats = np.arange(0.0, end_s + width, width)
    return edges


def draw_throughput(canvas: Canvas) -> None:
    """What became due and what was executed, per second."""
    axes = canvas.figure.add_subplot()
    bundles = canvas.data.bundles
    executed = bundles.stage_ms["executed"][executed_mask(bundles)] / MS_PER_S
    last_s = float(executed.max()) if len(executed) else 0.0
    edges = _time_edges(canvas.data, last_s)
    widths = np.diff(edges)
    for label, times, shade, style in (
        ("offered", bundles.due_ms / MS_PER_S, "muted", (0, (4, 1.5))),
        ("executed", executed, "vermilion", "solid"),
    ):
        counts, _ = np.histogram(times, bins=edges)
        steps = axes.stairs(counts / widths, edges, color=colour(shade), linestyle=style, label=label, linewidth=1.6)
        canvas.tip(steps, f"{label}: {len(times):,} bundles in all")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(THOUSANDS)
    axes.set_ylabel("bundles/s")
    time_axis(canvas, axes)
    legend_above(canvas, axes)


def draw_backlog(canvas: Canvas) -> None:
    """Bundles due and not resolved."""
    axes = canvas.figure.add_subplot()
    at_ms, backlog = backlog_over_time(canvas.data)
    places = np.unique(np.linspace(0, len(at_ms) - 1, 4 * CURVE_POINTS).astype(np.int64))
    (line,) = axes.step(at_ms[places] / MS_PER_S, backlog[places], where="post", color=colour("blue"), linewidth=1.3)
    canvas.tip(line, f"at most {int(backlog.max()):,} bundles")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("bundles due, not resolved")
    axes.yaxis.set_major_formatter(THOUSANDS)
    time_axis(canvas, axes)


def draw_sweep(canvas: Canvas) -> None:
    """Latency over completed throughput, a point per step."""
    axes = canvas.figure.add_subplot()
    rows = [row for row in canvas.results.phases if row["latency_ms"]["executed"]["count"]]
    # Steps that closed in on the limit came last; the curve is one of rates, not of time.
    rows.sort(key=lambda row: float(row["rate_per_s"]))
    x = [row["completed_per_s"] for row in rows]
    for name, style in (("p50", "solid"), ("p99", (0, (4, 1.5)))):
        y = [row["latency_ms"]["executed"][name] for row in rows]
        axes.plot(x, y, color=colour("vermilion"), linestyle=style, label=f"executed {name}", linewidth=1.5)
        for row, at_x, at_y in zip(rows, x, y):
            inside = colour("vermilion") if row["sustained"] else "none"
            (dot,) = axes.plot(
                at_x, at_y, "o", markersize=5, markeredgecolor=colour("vermilion"), markerfacecolor=inside
            )
            told = "sustained" if row["sustained"] else row["why_not"]
            canvas.tip(
                dot, f"{row['rate_per_s']:,.0f}/s offered: {at_x:,.0f}/s completed, {name} {at_y:.0f} ms, {told}"
            )
    bound_ms = canvas.results.load["p99_bound_ms"]
    axes.axhline(bound_ms, color=colour("muted"), linewidth=0.9, linestyle=(0, (2, 2)))
    axes.text(
        0.01,
        bound_ms,
        f"bound of p99: {bound_ms:g} ms",
        color=colour("muted"),
        fontsize=8.5,
        va="bottom",
        transform=axes.get_yaxis_transform(),
    )
    _mark_saturation(canvas, axes)
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(SHORTEST)
    axes.yaxis.set_minor_formatter(NOTHING)
    axes.xaxis.set_major_formatter(THOUSANDS)
    axes.xaxis.set_major_locator(MaxNLocator(5 if canvas.narrow else 8))
    axes.set_xlim(left=0)
    axes.set_xlabel("completed bundles/s (hollow: step not sustained)")
    axes.set_ylabel("ms after the bundle was due")
    legend_above(canvas, axes)


def _mark_saturation(canvas: Canvas, axes: Axes) -> None:
    found = canvas.results.saturation
    if not found or not found["found"]:
        return
    axes.axvline(found["completed_per_s"], color=colour("green"), linewidth=1)
    axes.annotate(
        f"saturation {found['completed_per_s']:,.0f}/s",
        (found["completed_per_s"], 0),
        ha="right",
        va="bottom",
        xycoords=("data", "axes fraction"),
        xytext=(-3, 4),
        textcoords="offset points",
        fontsize=8.5,
        color=colour("green"),
    )
