"""Several runs side by side: how their settings and their figures differ, and whether a run got worse.

Reads results.json of each run. Two runs are no statistics: a difference counts only from ten percent on, and a run that
is not valid supports no verdict at all.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.report import wording
from benchmarks.report.run_data import BrokenRunDirectory

RULE_SHARE = 0.10
"""Smaller differences between single runs are within what a machine shared with others does by itself."""
FLOOR_MS = 2.0
"""A latency that moved by less is the scheduler's, however large the share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One line of a comparison."""

    name: str
    unit: str
    value: Callable[[Mapping[str, Any]], float | None]
    more_is_better: bool
    floor: float = 0.0
    judged: bool = True
    """Whether it can make a regression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A metric over all runs; ratios are to the first run."""

    name: str
    unit: str
    values: tuple[float | None, ...]
    ratios: tuple[float | None, ...]
    verdicts: tuple[str, ...]
    """better, worse, no difference, not judged or not known, of each run after the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Runs side by side. The first is what the others are compared with."""

    labels: tuple[str, ...]
    valid: tuple[bool, ...]
    lines: tuple[Line, ...]
    differing_settings: Mapping[str, tuple[str, ...]]
    verdict: str
    regressed: bool
    """Whether a valid comparison shows a metric worse by the rule."""
    outcomes: tuple[Mapping[str, int], ...]
    """How the bundles of each run ended."""
    latency_ms: tuple[Mapping[str, Mapping[str, Any]], ...]
    """Percentiles by stage of each run."""
    modes: tuple[str, ...]
    """Mode of atomicity of each run; empty for one without an aggregation layer."""
    proof_kinds: tuple[str, ...]
    """Every kind of proof that a run settled with: attested or modelled."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _at(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    def find(results: Mapping[str, Any]) -> float | None:
        value: Any = results
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    return find


def _memory_per_node(results: Mapping[str, Any]) -> float | None:
    nodes = results.get("resources") or {}
    return float(results["totals"]["pss_mb"]) / len(nodes) if nodes else None


def _share(outcome: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Of the bundles that were executed, in percent; only of runs that say what they promise of legs that fail."""

    def find(results: Mapping[str, Any]) -> float | None:
        counts = results["bundles"]
        ran = counts["executed"] + counts["aborted"]
        return round(100 * counts[outcome] / ran, 4) if ran and results.get("atomicity") else None

    return find


def _created(results: Mapping[str, Any]) -> float | None:
    """Value that no escrow backs, over all tokens, in their smallest units."""
    money = (results.get("atomicity") or {}).get("conservation")
    return None if money is None else float(sum(token["difference"] for token in money["tokens"]))


def _of_layer(name: str, unit: str, *path: str, floor: float = 0.0, judged: bool = True) -> Metric:
    return Metric(name=name, unit=unit, value=_at("atomicity", *path), more_is_better=False, floor=floor, judged=judged)


METRICS: Sequence[Metric] = (
    Metric(name="offered", unit="bundles/s", value=_at("offered_per_s"), more_is_better=True, judged=False),
    Metric(name="completed", unit="bundles/s", value=_at("completed_per_s"), more_is_better=True),
    *(
        Metric(
            name=f"{stage} {name}",
            unit="ms",
            value=_at("latency_ms", stage, name),
            more_is_better=False,
            floor=FLOOR_MS,
        )
        for stage in ("accepted", "sequenced", "firm", "executed", "atomic_safe", "settled", "final")
        for name in ("p50", "p99")
    ),
    Metric(
        name="executed p50",
        unit="blocks",
        value=_at("latency_blocks", "executed", "p50"),
        more_is_better=False,
        judged=False,
    ),
    Metric(
        name="share of bare engines", unit="", value=_at("engine_bound", "share"), more_is_better=True, judged=False
    ),
    Metric(
        name="CPU per bundle", unit="us", value=_at("totals", "cpu_us_per_bundle"), more_is_better=False, floor=10.0
    ),
    Metric(name="memory per node", unit="MB", value=_memory_per_node, more_is_better=False, floor=5.0),
    Metric(name="partly succeeded", unit="%", value=_share("partly_succeeded"), more_is_better=False, judged=False),
    Metric(name="aborted", unit="%", value=_share("aborted"), more_is_better=False, judged=False),
    Metric(name="value out of nothing", unit="units", value=_created, more_is_better=False, judged=False),
    _of_layer("atomic-safe after executed p50", "ms", "atomic_safe", "after_executed_ms", "p50", floor=FLOOR_MS),
    _of_layer("bundles paid from the bond", "", "bond", "paid", judged=False),
    _of_layer("rounds per height", "", "rounds", "mean", judged=False),
    _of_layer("possible collateral", "bundles", "aborts", "struck_together", judged=False),
    _of_layer("reorg depth p99", "heights", "reorgs", "depth_heights", "p99", judged=False),
    _of_layer("L1 gas per bundle", "gas", "settlement", "gas", "per_bundle", floor=100.0),
)
SAME_EXPERIMENT = frozenset({"commit", "seed"})
"""Settings that may differ between a baseline and what is held against it; with any other the question is another."""
SAID_ALREADY = ("rate_per_s", "duration_s", "warmup_s", "cooldown_s", "kind", "legs", "sweep_start_per_s")
"""Last part of overrides that show in other settings."""
MUST_BE_ZERO = ("unbundled", "lost")


def compare_runs(run_dirs: Sequence[Path], labels: Sequence[str] = ()) -> Comparison:
    """Compare the results.json of runs with that of the first. Labels default to what differs, else to folder names.

    Raises BrokenRunDirectory where a run has no results.json.
    """
    assert len(run_dirs) >= 2, "a comparison needs two runs"
    runs = [_read(path) for path in run_dirs]
    settings = [_settings(run) for run in runs]
    differing = {
        key: tuple(one.get(key, wording.NOT_KNOWN) for one in settings)
        for key in sorted({key for one in settings for key in one})
        if len({one.get(key, wording.NOT_KNOWN) for one in settings}) > 1
    }
    lines = tuple(line for metric in METRICS if (line := _line(metric, runs)) is not None)
    verdict, regressed = _verdict(runs, lines, differing)
    return Comparison(
        labels=tuple(labels) or tuple(path.name for path in run_dirs),
        valid=tuple(bool(run["valid"]) for run in runs),
        lines=lines,
        differing_settings=differing,
        verdict=verdict,
        regressed=regressed,
        outcomes=tuple(dict(run["bundles"]) for run in runs),
        latency_ms=tuple(dict(run["latency_ms"]) for run in runs),
        modes=tuple(str((run.get("atomicity") or {}).get("mode", "")) for run in runs),
        proof_kinds=tuple(sorted({kind for run in runs if (kind := _proof_kind(run))})),
    )


def _proof_kind(run: Mapping[str, Any]) -> str:
    settlement = (run.get("atomicity") or {}).get("settlement") or {}
    return str(settlement.get("proof", {}).get("kind", ""))


def _read(run_dir: Path) -> Mapping[str, Any]:
    path = run_dir / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenRunDirectory(f"{path} cannot be read ({error}); `lockstep report {run_dir}` writes it") from error
    if not isinstance(results, dict) or "latency_ms" not in results:
        raise BrokenRunDirectory(f"{path} is not a result of Lockstep")
    return results


def _settings(run: Mapping[str, Any]) -> dict[str, str]:
    """What a reader must know to be the same, as texts."""
    conf = run["configuration"]
    keys = ("launcher", "rollups", "legs_per_bundle", "block_interval_ms", "seed", "workload", "popularity", "arrivals",
            "replicas", "verify_proofs", "commit")  # fmt: skip
    settings = {key: str(conf[key]) for key in keys if key in conf}
    settings["atomicity"] = str((run.get("atomicity") or {}).get("mode", "inclusion"))
    settings |= {"scenario": str(run["scenario"]), "backend": str(run["backend"]), "machine": _machine(run)}
    settings["load"] = str(run["load"]["kind"])
    if settings["load"] != "sweep":
        # A sweep chooses its steps by what it finds.
        settings["load_s"] = str(run["load"]["load_s"])
        settings["rates_per_s"] = ", ".join(f"{phase['rate_per_s']:g}" for phase in run["phases"])
    settings["commit"] = wording.short_commit(settings.get("commit", wording.NOT_KNOWN))
    for override in conf.get("overrides", []):
        key, _, value = str(override).partition("=")
        if key.rpartition(".")[2] not in (*settings, *SAID_ALREADY):
            settings[f"set {key}"] = value
    return settings


def _machine(run: Mapping[str, Any]) -> str:
    of = run["machine"]
    return f"{of.get('cores')} x {of.get('cpu')}"


def _line(metric: Metric, runs: Sequence[Mapping[str, Any]]) -> Line | None:
    values = tuple(metric.value(run) for run in runs)
    if all(value is None for value in values):
        return None
    first = values[0]
    return Line(
        name=metric.name,
        unit=metric.unit,
        values=values,
        ratios=tuple(round(value / first, 4) if value is not None and first else None for value in values),
        verdicts=tuple(_judge(metric, first, value) for value in values[1:]),
    )


def _judge(metric: Metric, first: float | None, value: float | None) -> str:
    if not metric.judged:
        return "not judged"
    if first is None or value is None:
        return "not known"
    difference = value - first
    if abs(difference) <= max(RULE_SHARE * abs(first), metric.floor):
        return "no difference"
    return "better" if (difference > 0) == metric.more_is_better else "worse"


def _verdict(
    runs: Sequence[Mapping[str, Any]], lines: Sequence[Line], differing: Mapping[str, tuple[str, ...]]
) -> tuple[str, bool]:
    """In words, and whether something got worse. Rules broken count whatever the figures say."""
    broken = [
        f"run {index} has {run['bundles'][name]:,} {name} bundles"
        for index, run in enumerate(runs[1:], 2)
        for name in MUST_BE_ZERO
        if run["bundles"][name] > runs[0]["bundles"][name]
    ]
    if broken:
        return f"Regression: {'; '.join(broken)}.", True
    unusable = [str(index) for index, run in enumerate(runs, 1) if not run["valid"]]
    if unusable:
        return f"No verdict: run {', '.join(unusable)} of {len(runs)} is not valid.", False
    rule = f"{RULE_SHARE:.0%} rule, single runs"
    worse, better = (_changes(lines, wanted) for wanted in ("worse", "better"))
    # A stage that one mode of atomicity lacks is no gap in what is known.
    unknown = [] if "atomicity" in differing else [line.name for line in lines if "not known" in line.verdicts]
    suffix = f" Not known in both: {', '.join(unknown)}." if unknown else ""
    others = [key.replace("_", " ") for key in differing if key not in SAME_EXPERIMENT]
    if others:
        parts = [f"Worse than the first: {'; '.join(worse)}."] if worse else []
        parts += [f"Better: {'; '.join(better)}."] if better else []
        parts = parts or [f"No difference shown ({rule})."]
        return (
            f"No regression verdict, because the runs differ in {', '.join(others)}. {' '.join(parts)}{suffix}",
            False,
        )
    if worse:
        also = f" Better: {'; '.join(better)}." if better else ""
        return f"Regression ({rule}): {'; '.join(worse)}.{also}{suffix}", True
    if better:
        return f"Better, and nothing worse ({rule}): {'; '.join(better)}.{suffix}", False
    return f"No difference shown ({rule}).{suffix}", False


def _changes(lines: Sequence[Line], wanted: str) -> list[str]:
    found = []
    for line in lines:
        for index, verdict in enumerate(line.verdicts, 1):
            first, value = line.values[0], line.values[index]
            if verdict == wanted and first is not None and value is not None:
                change = f" ({(value - first) / first:+.0%})" if first else ""
                run = f" in run {index + 1}" if len(line.verdicts) > 1 else ""
                found.append(f"{line.name} {_value(first)} to {_value(value)} {line.unit}{change}{run}")
    return found


def _value(value: float | None) -> str:
    if value is None:
        return wording.NOT_KNOWN
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# Rendering


def print_comparison(comparison: Comparison, console: Console) -> None:
    """A table, the settings that differ, and the verdict."""
    console.print(comparison_table(comparison))
    for key, values in comparison.differing_settings.items():
        console.print(Text(f"differs: {key}: {' | '.join(values)}", style="yellow"))
    console.print(Text(comparison.verdict, style="bold red" if comparison.regressed else "bold"))


def comparison_table(comparison: Comparison) -> Table:
    """Values of each run; in brackets the ratio to the first."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for label, valid in zip(comparison.labels, comparison.valid, strict=True):
        table.add_column(label if valid else f"{label} (INVALID)", justify="right")
    for line in comparison.lines:
        cells = [_value(line.values[0])]
        for value, ratio, verdict in zip(line.values[1:], line.ratios[1:], line.verdicts, strict=True):
            text = _value(value) + (f" ({ratio:.2f}x)" if ratio is not None else "")
            cells.append(Text(text, style={"worse": "red", "better": "green"}.get(verdict, "")))  # type: ignore[arg-type]
        table.add_row(f"{line.name}, {line.unit}" if line.unit else line.name, *cells)
    return table


def write_comparison(comparison: Comparison, directory: Path) -> Path:
    """Write comparison.json and comparison.html into a folder; the page's path.

    Where a run has an aggregation layer also comparison.svg and comparison.png.
    """
    (directory / "comparison.json").write_text(json.dumps(comparison.as_json(), indent=2) + "\n", encoding="utf-8")
    if any(comparison.modes):
        # Matplotlib takes half a second to import.
        from benchmarks.report.compare_chart import draw_comparison

        draw_comparison(comparison, directory)
    page = directory / "comparison.html"
    page.write_text(comparison_page(comparison), encoding="utf-8")
    return page


def comparison_page(comparison: Comparison) -> str:
    """The comparison as one HTML file."""
    from benchmarks.report.page import environment

    return environment().get_template("comparison.html").render(comparison=comparison, value=_value)
