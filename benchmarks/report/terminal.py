"""The report in a terminal: what must not be missed first, one box of configuration, one of results.

80 columns suffice.
"""

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from benchmarks.report import layer_wording, wording
from benchmarks.report.costs import cost_sentence
from benchmarks.report.divergence import divergence_facts
from benchmarks.report.links import link_facts
from benchmarks.report.results import Results

TEXT_WIDTH = 100
MAX_WIDTH = 120


def print_report(results: Results, console: Console) -> None:
    """Print both boxes."""
    for part in render_report(results, width=min(console.width, MAX_WIDTH)):
        console.print(part)


def report_text(results: Results, width: int = TEXT_WIDTH) -> str:
    """The same without colours, for a file."""
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False)
    print_report(results, console)
    return file.getvalue()


def render_report(results: Results, *, width: int) -> list[RenderableType]:
    """The boxes."""
    title = f"{results.scenario} on {results.backend}"
    state = Text("VALID", style="bold green") if results.valid else Text("INVALID", style="bold white on red")
    return [
        Panel(
            _pairs(wording.configuration(results)),
            title=f"Lockstep: {title}",
            title_align="left",
            width=width,
            box=box.ROUNDED,
        ),
        Panel(
            Group(*_result_parts(results, width=width)),
            title=Text.assemble("Results: ", state),
            title_align="left",
            width=width,
            box=box.ROUNDED,
            border_style="green" if results.valid else "red",
        ),
    ]


def _result_parts(results: Results, *, width: int) -> list[RenderableType]:
    parts: list[RenderableType] = [
        *_listed("Not valid:", results.invalid_reasons, "bold red"),
        *_listed("Mind:", results.warnings, "yellow"),
        Text(wording.all_or_none(results), style=_style_of_promise(results)),
        Text(wording.headline(results), style="bold"),
        Text(wording.bounds(results)),
        Text(wording.bounded_by(results)),
        Text(),
        _latency_table(results, width=width),
        Text(),
        _pairs(_facts(results)),
    ]
    if results.load["kind"] == "sweep" and results.phases:
        parts += [Text(), _steps_table(results)]
    return [*parts, *_listed("Findings:", results.findings, "cyan")]


def _style_of_promise(results: Results) -> str:
    if wording.all_or_none(results).startswith("ALL LEGS OR NONE BROKE"):
        return "bold white on red"
    return "bold green" if results.bundles["sequenced"] else "bold yellow"


def _listed(title: str, lines: Sequence[str], style: str) -> list[RenderableType]:
    if not lines:
        return []
    grid = Table.grid(padding=(0, 1))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")  # hashes are longer than what is left of a line
    for index, line in enumerate(lines):
        grid.add_row(Text(title if index == 0 else "", style=style), Text(line, style=style))
    return [grid, Text()]


def _pairs(rows: list[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    for name, value in rows:
        grid.add_row(Text(name), Text(value))
    return grid


def _latency_table(results: Results, *, width: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title_justify="left")
    table.title = "Latency from the intended time, ms"
    table.title_style = "dim"
    # A figure is never cut; where it is narrow a stage's name takes two lines.
    table.add_column("stage", no_wrap=width >= 90)
    for name in ("p50", "p90", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    # Block intervals say nothing of settlement, and the names and figures of its stages need the room.
    roomy = width >= 90 and results.atomicity is None
    theory = ("p50", "p99") if width >= 90 or results.atomicity is None else ("p50",)
    for name in theory:
        table.add_column(f"{name}\nexp.", justify="right", style="dim", no_wrap=True)
    if roomy:
        table.add_column("p50\nblocks", justify="right", no_wrap=True)
        table.add_column("p99\nblocks", justify="right", no_wrap=True)
    table.add_column("count", justify="right", no_wrap=True)
    for stage, row in results.latency_ms.items():
        expected = results.expected_ms.get(stage, {})
        in_blocks = results.latency_blocks.get(stage, {})
        blocks = [wording.number(in_blocks.get(name), 2) for name in ("p50", "p99")] if roomy else []
        table.add_row(
            Text(wording.stage_name(stage, results), style="bold" if stage == wording.completed_at(results) else ""),
            *(wording.milliseconds(row[name]) for name in ("p50", "p90", "p99", "max")),
            *(wording.milliseconds(expected.get(name)) for name in theory),
            *blocks,
            f"{row['count']:,}" + (f" (-{row['failures']:,})" if row["failures"] else ""),
        )
    return table


def _facts(results: Results) -> list[tuple[str, str]]:
    ended = ", ".join(f"{count:,} {name}" for name, count in wording.outcomes(results))
    rows = [("Bundles", f"{results.bundles['due']:,} due: {ended}")]
    for name, by_reason in wording.reasons(results):
        rows.append((name.capitalize(), ", ".join(f"{count:,} {reason}" for reason, count in by_reason.items())))
    rows += layer_wording.facts(results)
    rows += divergence_facts(results.divergence)
    rows += link_facts(results.links)
    rows.append(("Invariants", wording.invariants(results)))
    rows.append(("Cost", wording.cost(results)))
    if results.costs is not None:
        rows.append(("Paid", cost_sentence(results.costs)))
    if results.stage_cpu_us_per_bundle:
        rows.append(("CPU, us", wording.biggest_stages(results)))
    rows += [("Recovery", line) for line in wording.recoveries(results)]
    late = results.generator.get("late_p99_ms")
    sent = wording.percent(results.generator["sent_share"], 2)
    rows.append(("Generator", f"sent {sent} of what was due, p99 {wording.milliseconds(late)} ms late"))
    return rows


def _steps_table(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    for name in ("offered/s", "completed/s", "p50 ms", "p99 ms"):
        table.add_column(name, justify="right")
    table.add_column("sustained")
    for row in sorted(results.phases, key=lambda row: float(row["rate_per_s"])):
        executed = row["latency_ms"]["executed"]
        table.add_row(
            wording.rate(row["offered_per_s"]),
            wording.rate(row["completed_per_s"]),
            wording.milliseconds(executed["p50"]),
            wording.milliseconds(executed["p99"]),
            Text("yes", style="green") if row["sustained"] else Text(f"no: {row['why_not']}", style="red"),
        )
    return table
