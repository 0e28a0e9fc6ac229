"""A figure while it is being drawn, and what all drawings share: the axis of time, the legend, number formats."""

from collections.abc import Callable, Sequence
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
LABEL_POINTS = 8.5
ROW_POINTS = 11.0
LETTER_POINTS = 5.0
"""Width of a letter of a label, and a little room."""
POINTS_PER_INCH = 72
AXES_SHARE = 0.85
"""Of a figure's width, about."""


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
    _mark_faults(canvas, axes, end_s=axes.get_xlim()[1])
    axes.set_xlabel("s after the start of the load")


def _mark_faults(canvas: Canvas, axes: Axes, *, end_s: float) -> None:
    """A line where each fault came and where it was healed, and its name above, on as many rows as do not overlap."""
    faults = [fault for fault in canvas.results.faults if fault["carried_out"]]
    names = [f"{fault['kind']} {fault['target']}" for fault in faults]
    axes_points = POINTS_PER_INCH * AXES_SHARE * canvas.figure.get_figwidth()
    places = label_rows([fault["injected_s"] / end_s for fault in faults],
                        [len(name) * LETTER_POINTS / axes_points for name in names])  # fmt: skip
    for fault, name, (row, is_left) in zip(faults, names, places, strict=True):
        healed = fault["healed_s"] if fault["healed_s"] is not None else end_s
        for moment in {fault["injected_s"], healed}:
            axes.axvline(moment, color=colour("violet"), linewidth=1, linestyle=(0, (1, 1)))
        axes.annotate(
            name,
            (fault["injected_s"], 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + row * ROW_POINTS),
            textcoords="offset points",
            fontsize=LABEL_POINTS,
            color=colour("violet"),
            va="bottom",
            ha="right" if is_left else "left",
        )


def label_rows(at: Sequence[float], widths: Sequence[float]) -> list[tuple[int, bool]]:
    """For labels that begin at shares of an axis and are so wide: the row of each, the lowest that is free, and whether
    it stands left of its place because it would leave the axis on the right.
    """
    rows: list[list[tuple[float, float]]] = []
    found = []
    for place, width in zip(at, widths, strict=True):
        is_left = place + width > 1 and place > width
        begin, end = (place - width, place) if is_left else (place, place + width)
        row = next(
            (
                number
                for number, taken in enumerate(rows)
                if all(end <= left or right <= begin for left, right in taken)
            ),
            len(rows),
        )
        if row == len(rows):
            rows.append([])
        rows[row].append((begin, end))
        found.append((row, is_left))
    return found
