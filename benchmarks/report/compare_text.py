"""A comparison in a terminal; 100 columns suffice for one of backends."""

import io

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from benchmarks.report import wording
from benchmarks.report.compare import Comparison
from benchmarks.report.compare_backends import BackendSections, rung_name
from benchmarks.report.repeats import CONFIDENCE, NOT_JUDGED, Spread
from benchmarks.report.theory import TOLERANCE_RULE
from benchmarks.report.verdicts import Line, figure, plain_name, ratio_text

TEXT_WIDTH = 100
STYLES = {"worse": "red", "better": "green", "ranges apart": "yellow", "slower": "red", "faster": "yellow"}


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Tables, the settings that differ, and the verdict."""
    for part in _parts(comparison):
        console.print(part, highlight=False)


def comparison_text(comparison: Comparison, width: int = TEXT_WIDTH) -> str:
    """The same without colours, for a file."""
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=width, color_system=None, legacy_windows=False))
    return file.getvalue()


def _parts(comparison: Comparison) -> list[RenderableType]:
    parts: list[RenderableType] = []
    facts = _facts_table(comparison)
    if comparison.backends is None:
        parts += [facts, _single_table(comparison)]
    else:
        parts += [Text(comparison.title, style="bold"), facts, _repeated_table(comparison)]
        parts += _backend_parts(comparison.backends, comparison)
    for key, values in comparison.differing_settings.items():
        if key == "order" and comparison.facts:
            continue  # stands above
        parts.append(Text(f"differs: {key}: {' | '.join(values)}", style="yellow"))
    parts += [Text(f"note: {note}", style="yellow") for note in comparison.notes]
    style = "bold red" if comparison.regressed or comparison.verdict.startswith("No verdict") else "bold"
    return [*parts, Text(comparison.verdict, style=style)]


def _facts_table(comparison: Comparison) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in comparison.facts:
        table.add_row(Text(name), Text(text))
    return table


def _single_table(comparison: Comparison) -> Table:
    """Values of each run; in brackets the ratio to the first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for label, valid in zip(comparison.labels, comparison.valid, strict=True):
        table.add_column(label if valid else f"{label} (INVALID)", justify="right")
    for line in comparison.lines:
        cells: list[str | Text] = [figure(line.values[0])]
        for value, ratio, verdict in zip(line.values[1:], line.ratios[1:], line.verdicts, strict=True):
            text = figure(value) + (f" ({ratio:.2f}x)" if ratio is not None else "")
            cells.append(Text(text, style=STYLES.get(verdict, "")))
        table.add_row(_name(line), *cells)
    return table


def _name(line: Line) -> str:
    return f"{line.name}, {line.unit}" if line.unit else line.name


def _repeated_table(comparison: Comparison) -> Table:
    """A row per metric and side, so that any number of sides fits. What nobody judges stands on the page."""
    has_intervals = any(interval is not None for line in comparison.lines for interval in line.intervals)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    ratio = f"ratio [{CONFIDENCE:.0%} interval]" if has_intervals else "ratio"
    table.add_column("metric")
    for heading in ("", "median", "range", ratio, "verdict"):
        table.add_column(heading, justify="left" if heading in ("", "verdict") else "right")
    for line in comparison.lines:
        if set(line.verdicts) == {NOT_JUDGED}:
            continue
        for side, label in enumerate(comparison.labels):
            verdict = line.verdicts[side - 1] if side else ""
            # The unit under the name: every side after the first leaves that cell free.
            name = (plain_name(line.name), f"  {line.unit}")[side] if side < 2 else ""
            table.add_row(
                Text(name, style="dim" if side else ""),
                label if comparison.valid[side] else f"{label} (INVALID)",
                figure(line.values[side]),
                spread_range(line.spreads[side]),
                "" if side == 0 else ratio_text(line, side),
                Text(verdict, style=STYLES.get(verdict, "dim")),
            )
    return table


def spread_range(spread: Spread | None) -> str:
    """From the lowest to the highest run; empty for a single one."""
    if spread is None or spread.count < 2:
        return ""
    return f"{figure(spread.low)}-{figure(spread.high)}"


def _backend_parts(sections: BackendSections, comparison: Comparison) -> list[RenderableType]:
    parts: list[RenderableType] = [_cost_table(sections, comparison)]
    if sections.absent:
        parts.append(Text(f"absent: {'; '.join(sections.absent)}", style="dim"))
    parts += [Text(line, style="dim") for line in sections.setup]
    if sections.theory:
        parts.append(_theory_table(sections))
    parts += [Text(f"finding: {line}", style="cyan") for line in sections.findings]
    parts += [_trust_table(sections)]
    return [Group(*parts)]


def _cost_table(sections: BackendSections, comparison: Comparison) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1))
    table.add_column("cost")
    for label in comparison.labels:
        table.add_column(label, justify="right", no_wrap=True)
    for line in sections.costs:
        cells = [f"{figure(spread.median)}" if spread is not None else "none" for spread in line.spreads]
        table.add_row(f"{line.name}{', ' + line.unit if line.unit else ''}", *cells)
    return table


def _theory_table(sections: BackendSections) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title="Expected and measured, ms")
    table.title_style, table.title_justify = "dim", "left"
    for heading in ("", "", "expected", "measured", "range", "tolerance", "verdict"):
        table.add_column(heading, justify="left" if heading in ("", "verdict") else "right")
    before = ""
    for row in sections.theory:
        said = wording.theory_verdict(
            row.verdict, by_construction=row.by_construction, difference_share=row.difference_share
        )
        table.add_row(
            row.label if row.label != before else "",
            f"{rung_name(row.stage)} {row.percentile}",
            wording.milliseconds(row.expected_ms),
            wording.milliseconds(row.measured_ms.median),
            spread_range(row.measured_ms),
            wording.milliseconds(row.tolerance_ms),
            Text(said, style=STYLES.get(row.verdict, "dim")),
        )
        before = row.label
    table.caption, table.caption_style, table.caption_justify = f"{TOLERANCE_RULE}.", "dim", "left"
    return table


def _trust_table(sections: BackendSections) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), title_justify="left", show_lines=False)
    table.title, table.title_style = "Whom users trust, and what fails with each part", "dim"
    for heading, ratio in (("backend", 2), ("part", 3), ("trusted for", 6), ("when it fails", 8)):
        table.add_column(heading, ratio=ratio)
    for about in sections.about:
        for index, row in enumerate(about.trust):
            last = index == len(about.trust) - 1
            name = about.backend if index == 0 else ""
            table.add_row(name, row["part"], row["trusted_for"], row["when_it_fails"], end_section=last)
    return table
