"""Reports: from a run directory, and from nothing else, to results.json, a terminal text, a page, figures and tables.

It starts nothing and measures nothing; a report can be made again on another machine, and is then the same.
"""

import json
from collections.abc import Collection
from pathlib import Path

from benchmarks.report.compare import Comparison, compare_runs, read_comparison
from benchmarks.report.compare_text import print_comparison
from benchmarks.report.results import Results, compute_results
from benchmarks.report.run_data import BrokenRunDirectory, read_run
from benchmarks.report.terminal import print_report, report_text

__all__ = [
    "ALL_FORMATS",
    "BrokenRunDirectory",
    "Comparison",
    "Results",
    "compare_runs",
    "print_comparison",
    "print_report",
    "read_comparison",
    "write_comparison",
    "write_report",
]

ALL_FORMATS = ("html", "png", "svg", "pdf", "tables")


def write_report(run_dir: Path, *, formats: Collection[str] = ALL_FORMATS) -> Results:
    """Write results.json and report.txt, and what `formats` asks for, into the run directory.

    `formats`: html (report.html), png, svg, pdf (each figure in figures/), tables (CSV and LaTeX in tables/). Written
    also for a run that was interrupted or in which nothing completed, and then says so. Raises BrokenRunDirectory.
    """
    assert set(formats) <= set(ALL_FORMATS), f"formats are {', '.join(ALL_FORMATS)}"
    data = read_run(run_dir)
    results = compute_results(data)
    # The figures first: whatever happens to a drawing, they are on disk.
    _write(run_dir / "results.json", json.dumps(results.as_json(), indent=2, allow_nan=False) + "\n")
    _write(run_dir / "report.txt", report_text(results))
    if "tables" in formats:
        from benchmarks.report.tables import write_tables

        write_tables(results, run_dir / "tables")
    if {"html", "png", "svg", "pdf"} & set(formats):
        # Matplotlib takes half a second to import.
        from benchmarks.report.canvas import Canvas
        from benchmarks.report.charts import charts_of
        from benchmarks.report.figures import render
        from benchmarks.report.page import page

        drawings = render(
            charts_of(results),
            lambda figure, narrow: Canvas(figure=figure, narrow=narrow, data=data, results=results),
            directory=run_dir / "figures",
            formats=formats,
        )
        if "html" in formats:
            _write(run_dir / "report.html", page(data, results, drawings))
    return results


def write_comparison(comparison: Comparison, directory: Path) -> Path:
    """Write comparison.json, .txt and .html with its figures into a folder; the page's path."""
    # Matplotlib takes half a second to import.
    from benchmarks.report.compare_page import write_comparison as write

    return write(comparison, directory)


def _write(path: Path, text: str) -> None:
    """A reader never sees half a file."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
