"""A figure while it is being drawn, and what all drawings share: the axis of time, the legend, number formats."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from benchmarks.report.results import Results
from benchmarks.report.run_data import RunData
from benchmarks.report.style import colour

THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
SHORTEST = FuncFormatter(lambda value, _: f"{value:,g}")
NOTHING = FuncFormatter(lambda *_: "")
MANY_NAMES = 7
"""More of them, which only settlement brings, are long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A figure being drawn, and what the pointer shall tell."""

    figure: Figure
    narrow: bool
    tips: list[str] = field(default_factory=list)

    def tip(self, artist: Any, text: str) -> None:
        """Give an artist a text that a page shows under the pointer."""
        artist.set_gid(f"tip-{len(self.tips)}")
        self.tips.append(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas(Sheet):
    """A figure of one run's report."""

    data: RunData
    results: Results


AnySheet = TypeVar("AnySheet", bound=Sheet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart(Generic[AnySheet]):
    """One figure, drawn on a sheet that holds what it needs."""

    name: str
    title: str
    caption: str
    draw: Callable[[AnySheet], None]
    height_inches: float = 3.3
    narrow_height_inches: float = 3.1


def legend_above(canvas: Sheet, axes: Axes) -> None:
    """One row above the axes, more on a narrow figure or with many names."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 4 if canvas.narrow else 7
    if len(labels) > columns and len(labels) > MANY_NAMES:
        columns = 3 if canvas.narrow else 4
    canvas.figure.legend(
        handles, labels, loc="outside upper left", ncols=min(columns, len(labels)), handlelength=1.6, columnspacing=1.1
    )


def time_axis(canvas: Canvas, axes: Axes) -> None:
    """Seconds, with what was not measured in grey and faults marked."""
    load = canvas.results.load
    end_s = axes.get_xlim()[1]
    axes.set_xlim(0, max(end_s, load["load_s"]))
    if load["kind"] != "sweep":
        for from_s, to_s in ((0.0, load["measured_from_s"]), (load["measured_to_s"], max(end_s, load["load_s"]))):
            if to_s > from_s:
                span = axes.axvspan(from_s, to_s, color=colour("shade"), zorder=0, linewidth=0)
                canvas.tip(span, "not measured: warm-up, cool-down or drain")
    for fault in canvas.results.faults:
        healed = fault["healed_s"] if fault["healed_s"] is not None else max(end_s, load["load_s"])
        for moment in {fault["injected_s"], healed}:
            axes.axvline(moment, color=colour("violet"), linewidth=1, linestyle=(0, (1, 1)))
        axes.annotate(
            f"{fault['kind']} {fault['target']}",
            (fault["injected_s"], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8.5,
            color=colour("violet"),
            va="bottom",
        )
    axes.set_xlabel("s after the start of the load")
