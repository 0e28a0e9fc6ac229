"""A comparison as files: comparison.json, comparison.txt, one self-contained HTML page, and its figures."""

from pathlib import Path

from markupsafe import Markup

from benchmarks.report.compare import Comparison, comparison_json
from benchmarks.report.compare_backends import rung_name
from benchmarks.report.compare_charts import ComparisonSheet, charts_of_comparison
from benchmarks.report.compare_text import comparison_text, spread_range
from benchmarks.report.figures import render
from benchmarks.report.page import environment
from benchmarks.report.repeats import CONFIDENCE, ENOUGH_PAIRS, RESAMPLES
from benchmarks.report.verdicts import figure, plain_name, ratio_text
from benchmarks.report.wording import theory_verdict

FORMATS = ("html", "svg", "png")


def write_comparison(comparison: Comparison, directory: Path) -> Path:
    """Write the files into a folder, figures into its `figures/`; the page's path."""
    # The figures of the comparison first: whatever happens to a drawing, they are on disk.
    (directory / "comparison.json").write_text(comparison_json(comparison), encoding="utf-8")
    (directory / "comparison.txt").write_text(comparison_text(comparison), encoding="utf-8")
    page = directory / "comparison.html"
    page.write_text(_page(comparison, directory / "figures"), encoding="utf-8")
    return page


def _page(comparison: Comparison, figures: Path) -> str:
    charts = charts_of_comparison(comparison)
    drawings = {}
    if charts:
        made = render(
            charts,
            lambda figure, narrow: ComparisonSheet(figure=figure, narrow=narrow, comparison=comparison),
            directory=figures,
            formats=FORMATS,
        )
        drawings = {
            drawing.name: {
                "title": drawing.title,
                "caption": drawing.caption,
                "wide": Markup(drawing.wide_svg),  # noqa: S704 - our own drawing, its texts escaped
                "narrow": Markup(drawing.narrow_svg),  # noqa: S704 - likewise
            }
            for drawing in made
        }
    return (
        environment()
        .get_template("comparison.html")
        .render(
            comparison=comparison,
            drawings=drawings,
            value=figure,
            spread_range=spread_range,
            ratio_text=ratio_text,
            rung_name=rung_name,
            plain_name=plain_name,
            theory_verdict=theory_verdict,
            tones={"worse": "bad", "better": "good", "slower": "bad", "faster": "warn", "agrees": "good"},
            confidence=f"{CONFIDENCE:.0%}",
            enough=ENOUGH_PAIRS,
            resamples=RESAMPLES,
        )
    )
