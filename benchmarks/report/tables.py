"""The results as files for other tools: CSV for spreadsheets and a LaTeX table for a paper."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import wording
from benchmarks.report.results import Results

_LATEX_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
}
_PERCENTILES = ("p50", "p90", "p99", "max")
_NODE_COLUMNS = ("cpu_s", "pss_mb", "idle_pss_mb", "engine_cpu_s", "engine_pss_mb", "process", "nodes_in_process")


def write_tables(results: Results, directory: Path) -> None:
    """Write results.tex and latency, outcomes, resources, phases, stage_cpu and invariants as CSV."""
    directory.mkdir(exist_ok=True)
    _write_csv(directory / "latency.csv", *_latency_rows(results))
    _write_csv(directory / "outcomes.csv", ("what", "bundles"), results.bundles.items())
    nodes = ((node, *(row[key] for key in _NODE_COLUMNS)) for node, row in results.resources.items())
    _write_csv(directory / "resources.csv", ("node", *_NODE_COLUMNS), nodes)
    _write_csv(
        directory / "phases.csv",
        (
            "rate_per_s",
            "offered_per_s",
            "completed_per_s",
            "p50_executed_ms",
            "p99_executed_ms",
            "sustained",
            "why_not",
        ),
        (
            (
                row["rate_per_s"],
                row["offered_per_s"],
                row["completed_per_s"],
                row["latency_ms"].get("executed", {}).get("p50"),
                row["latency_ms"].get("executed", {}).get("p99"),
                row.get("sustained"),
                row.get("why_not"),
            )
            for row in results.phases
        ),
    )
    _write_csv(directory / "stage_cpu.csv", ("stage", "us_per_bundle"), results.stage_cpu_us_per_bundle.items())
    _write_csv(
        directory / "invariants.csv",
        ("invariant", "holds", "checked_by", "detail"),
        ((name, row["ok"], row["checked_by"], row["detail"]) for name, row in results.invariant_details.items()),
    )
    (directory / "results.tex").write_text(latex_table(results), encoding="utf-8")


def _latency_rows(results: Results) -> tuple[Sequence[str], list[Sequence[Any]]]:
    header = (
        "stage",
        *(f"{name}_ms" for name in _PERCENTILES),
        "count",
        "failures",
        *(f"{name}_blocks" for name in _PERCENTILES),
        "expected_p50_ms",
        "expected_p99_ms",
    )
    rows: list[Sequence[Any]] = []
    for stage, row in results.latency_ms.items():
        blocks, expected = results.latency_blocks.get(stage, {}), results.expected_ms.get(stage, {})
        rows.append(
            (
                stage,
                *(row[name] for name in _PERCENTILES),
                row["count"],
                row["failures"],
                *(blocks.get(name) for name in _PERCENTILES),
                *(expected.get(name) for name in ("p50", "p99")),
            )
        )
    return header, rows


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def latex_table(results: Results) -> str:
    """A table float for the booktabs package."""
    rows = [
        f"{latex(stage)} & "
        + " & ".join(wording.milliseconds(row[name]) for name in ("p50", "p90", "p99", "max"))
        + f" & {wording.number(results.latency_blocks.get(stage, {}).get('p50'), 2)}"
        + f" & {row['count']:,} \\\\"
        for stage, row in results.latency_ms.items()
    ]
    conf = results.configuration
    caption = (
        f"{results.scenario} on {results.backend}: {conf.get('rollups')} rollups, {conf.get('legs_per_bundle')} legs, "
        f"{conf.get('block_interval_ms')} ms blocks; {wording.rate(results.completed_per_s)} of "
        f"{wording.rate(results.offered_per_s)} bundles/s completed, {results.bundles['unbundled']} unbundled. "
        f"Latency in ms from the intended time; {wording.machine(results)}."
    )
    if not results.valid:
        caption = f"NOT VALID ({'; '.join(results.invalid_reasons)}). {caption}"
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            r"\begin{tabular}{lrrrrrr}",
            r"\toprule",
            r"Stage & p50 & p90 & p99 & max & p50 in blocks & bundles \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{latex(caption)}}}",
            r"\end{table}",
            "",
        ]
    )


def latex(text: str) -> str:
    """Escape what LaTeX would read as a command."""
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)
