"""The results as files for other tools: CSV for spreadsheets and a LaTeX table for a paper."""

import csv
from collections.abc import Iterable, Mapping, Sequence
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
    """Write results.tex and latency, outcomes, resources, phases, stage_cpu and invariants as CSV.

    With an aggregation layer also rounds, reorgs, conservation, settlement, bond, aborted and refused.
    """
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
    if results.atomicity is not None:
        _write_layer(results.atomicity, directory)


def _write_layer(layer: Mapping[str, Any], directory: Path) -> None:
    """What the mode lacks gets no file."""
    if "rounds" in layer:
        rows = ((row["rounds"], row["heights"]) for row in layer["rounds"]["histogram"])
        _write_csv(directory / "rounds.csv", ("rounds", "heights"), rows)
        depths = ((row["depth"], row["reorgs"]) for row in layer["reorgs"]["histogram"])
        _write_csv(directory / "reorgs.csv", ("depth_heights", "reorgs"), depths)
        _write_csv(directory / "aborted.csv", ("reason", "bundles"), layer["aborts"]["by_reason"].items())
    if "conservation" in layer:
        _write_csv(
            directory / "conservation.csv",
            ("token", "where", "amount"),
            (
                (token["token"], where, units)
                for token in layer["conservation"]["tokens"]
                for where, units in (
                    ("escrow", token["escrow"]),
                    *token["supply"].items(),
                    ("in_flight", token["in_flight"]),
                    ("difference", token["difference"]),
                )
            ),
        )
    if "settlement" in layer:
        settled = layer["settlement"]
        _write_csv(
            directory / "settlement.csv",
            ("what", "value"),
            [
                ("proof", settled["proof"]["label"]),
                *((f"certificates {name}", count) for name, count in settled["certificates"].items()),
                *((name, settled[name]) for name in ("exits", "imports")),
                *((f"bundles {name}", count) for name, count in settled["bundles"].items()),
                *((f"gas {name}", count) for name, count in settled["gas"].items()),
                *((f"proof {name} ms", settled["proof"]["duration_ms"][name]) for name in _PERCENTILES),
                *(
                    (f"certificate {step} {name} ms", row[name])
                    for step, row in settled["life_ms"].items()
                    for name in ("p50", "p99")
                ),
            ],
        )
    if "bond" in layer:
        bond = layer["bond"]
        said = [(name, value) for name, value in bond.items() if not isinstance(value, dict)]
        said += [(f"account {name}", value) for name, value in (bond.get("account") or {}).items()]
        _write_csv(directory / "bond.csv", ("what", "value"), said)
    entries = ((row["what"], row["who"], row["why"], row["count"]) for row in layer["refused"]["entries"])
    _write_csv(directory / "refused.csv", ("what", "who", "why", "count"), entries)


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
        f"{latex(wording.stage_name(stage, results))} & "
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
