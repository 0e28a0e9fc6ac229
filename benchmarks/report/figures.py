"""Renders charts: files of every figure, and drawings for the page. Equal input gives equal bytes."""

import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.report.canvas import AnySheet, Chart
from benchmarks.report.style import NARROW_INCHES, RC, WIDE_INCHES, with_css_variables

PNG_DPI = 160
# No time of making and no version in a file: a report made again is the same.
METADATA: dict[str, dict[str, str | None]] = {
    "svg": {"Date": None, "Creator": "Lockstep"},
    "pdf": {"CreationDate": None, "Creator": "Lockstep", "Producer": "Lockstep"},
    "png": {"Software": "Lockstep"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A figure as a page shows it."""

    name: str
    title: str
    caption: str
    wide_svg: str
    narrow_svg: str
    """For screens of a telephone; empty when the page does not need it."""


def render(
    charts: Sequence[Chart[AnySheet]],
    sheet: Callable[[Figure, bool], AnySheet],
    *,
    directory: Path,
    formats: Collection[str],
) -> list[Drawing]:
    """Write `directory/<name>.<format>` for the formats among png, svg, pdf; return drawings where `html` is asked.

    `sheet` makes what a chart is drawn on, from an empty figure and whether it is the narrow form.
    """
    directory.mkdir(exist_ok=True)
    drawings = []
    with mpl.rc_context(cast(Any, dict(RC))):
        for chart in charts:
            figure, tips = _draw(chart, sheet, narrow=False)
            files = [suffix for suffix in ("png", "svg", "pdf") if suffix in formats]
            # The white of paper: a file is looked at outside of any theme.
            for suffix in files:
                path = directory / f"{chart.name}.{suffix}"
                figure.savefig(path, format=suffix, dpi=PNG_DPI, metadata=METADATA[suffix], facecolor="white")
            if "html" in formats:
                wide = _for_page(_svg(figure), f"{chart.name}-w", tips, label=chart.title)
                narrow_figure, narrow_tips = _draw(chart, sheet, narrow=True)
                narrow = _for_page(_svg(narrow_figure), f"{chart.name}-n", narrow_tips, label=chart.title)
                drawings.append(
                    Drawing(name=chart.name, title=chart.title, caption=chart.caption, wide_svg=wide, narrow_svg=narrow)
                )
    return drawings


def _draw(
    chart: Chart[AnySheet], sheet: Callable[[Figure, bool], AnySheet], *, narrow: bool
) -> tuple[Figure, list[str]]:
    size = (NARROW_INCHES, chart.narrow_height_inches) if narrow else (WIDE_INCHES, chart.height_inches)
    figure = Figure(figsize=size)
    canvas = sheet(figure, narrow)
    chart.draw(canvas)
    # Laid out once: otherwise every format works out the same places again, which takes longer than writing it.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure, canvas.tips


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=METADATA["svg"], transparent=True)
    return buffer.getvalue()


def _for_page(svg: str, prefix: str, tips: list[str], *, label: str) -> str:
    """One drawing among many: names made unique, theme colours, the page's font, texts under the pointer."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    # Sizes come from the page; the viewBox keeps the proportions.
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', rf'<svg viewBox="\1" role="img" aria-label="{label}">', svg, count=1
    )
    for index, tip in enumerate(tips):
        svg = svg.replace(f'<g id="tip-{index}">', f"<g><title>{_escape(tip)}</title>", 1)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{prefix}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}-", svg)
    svg = re.sub(r'(?:xlink:)?href="#', f'href="#{prefix}-', svg)
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    return with_css_variables(svg)


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
