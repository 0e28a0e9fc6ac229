"""Several runs side by side: how their settings and their figures differ, and whether a run got worse.

A side is one run (a value of `--vary`, a baseline) or a backend's repeats. Reads results.json of each run and, for what
a backend promises, its run.json. Two single runs are no statistics: a difference counts only from ten percent on; with
five repeats ratios have intervals. What is not valid supports no verdict at all.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import wording
from benchmarks.report.compare_backends import BackendSections, backend_sections
from benchmarks.report.compare_facts import Facts, comparison_facts
from benchmarks.report.metrics import METRICS, Metric, proof_kind_of, read_results, settings_of
from benchmarks.report.repeats import Spread, judge, pairs_of, ratio_interval, ratio_of
from benchmarks.report.run_data import BrokenRunDirectory
from benchmarks.report.verdicts import Line, broken_rules, line_of, only_verdict, repeated_verdict, single_verdict
from coordinator.record import BACKENDS_KIND, ComparisonDirectory

FORMAT = 1
FINISHED = "finished"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run of a comparison, in the order in which they ran."""

    label: str
    repeat: int
    """From 1."""
    directory: str
    """Relative to the folder of the comparison, where it lies inside."""
    state: str
    """finished, interrupted, or failed."""
    valid: bool
    used: bool
    """Whether its figures are in the medians."""
    why_not: str
    """Why it is not used, or not valid."""
    completion_p50_ms: float | None
    """Median latency of the stage at which bundles are completed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Sides next to each other. The first is what the others are compared with."""

    format: int
    title: str
    labels: tuple[str, ...]
    repeats: int
    """Repeats in which every side has a run that is used."""
    valid: tuple[bool, ...]
    lines: tuple[Line, ...]
    differing_settings: Mapping[str, tuple[str, ...]]
    verdict: str
    regressed: bool
    """Whether a valid comparison of single runs shows a metric worse by the rule."""
    outcomes: tuple[Mapping[str, int], ...]
    """How the bundles of each side ended, over all its runs."""
    latency_ms: tuple[Mapping[str, Mapping[str, Any]], ...]
    """Percentiles by stage of each side; medians over its runs."""
    modes: tuple[str, ...]
    """Mode of atomicity of each side; empty for one without an aggregation layer."""
    proof_kinds: tuple[str, ...]
    """Every kind of proof that a run settled with: attested or modelled."""
    configuration: Mapping[str, str]
    """What all sides have in common."""
    runs: tuple[RunRow, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader must not miss: runs that were left out."""
    method: str = ""
    """How the runs were made."""
    facts: Facts = ()
    """What was run, on what, when; name and text."""
    backends: BackendSections | None = None
    """Ladder, costs, theory and trust; only of a comparison of backends."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    directory: Path
    results: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sides:
    """Per side its runs that are used; in `pairs` the same repeat stands at the same place of every side."""

    labels: tuple[str, ...]
    used: tuple[tuple[_Run, ...], ...]
    is_paired: bool
    """Every side has its run of every used repeat."""
    title: str
    rows: tuple[RunRow, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    """Keys of the scenario that a side did not get."""
    command: str = ""
    method: str = ""
    problems: tuple[str, ...] = ()
    single: bool = True
    """One run a side is what was asked for."""

    @property
    def results(self) -> tuple[tuple[Mapping[str, Any], ...], ...]:
        return tuple(tuple(run.results for run in side) for side in self.used)


def compare_runs(run_dirs: Sequence[Path], labels: Sequence[str] = ()) -> Comparison:
    """Compare the results.json of single runs with that of the first. Labels default to folder names.

    Raises BrokenRunDirectory where a run has no results.json.
    """
    assert len(run_dirs) >= 2, "a comparison needs two runs"
    names = tuple(labels) or tuple(path.name for path in run_dirs)
    used = tuple((_Run(directory=path, results=read_results(path)),) for path in run_dirs)
    return _compare(_Sides(labels=names, used=used, is_paired=True, title=f"Comparison of {len(names)} runs"))


def read_comparison(directory: Path) -> Comparison:
    """Compare the runs of a comparison's folder, from their directories alone.

    Raises BrokenRunDirectory where no run of it finished, or a finished one has no results.json.
    """
    record = ComparisonDirectory.open(directory).read()
    labels = tuple(str(label) for label in record["labels"])
    found: dict[tuple[str, int], _Run] = {}
    for entry in record["runs"]:
        if entry["state"] == FINISHED:
            path = directory / str(entry["directory"])
            found[str(entry["label"]), int(entry["repeat"])] = _Run(directory=path, results=read_results(path))
    if not found:
        raise BrokenRunDirectory(f"no run of {directory} finished; there is nothing to compare")
    if record["kind"] != BACKENDS_KIND:
        runs = [found[label, 1] for label in labels if (label, 1) in found]
        if len(runs) < 2:
            raise BrokenRunDirectory(f"only one run of {directory} finished; there is nothing to compare")
        return compare_runs([run.directory for run in runs], [label for label in labels if (label, 1) in found])
    return _compare(_sides(record, labels, found))


def _sides(record: Mapping[str, Any], labels: tuple[str, ...], found: Mapping[tuple[str, int], _Run]) -> _Sides:
    """Choose the runs that are used: those of every repeat in which each side has a valid one."""
    repeats = sorted({repeat for _, repeat in found})
    whole = [repeat for repeat in repeats if all((label, repeat) in found for label in labels)]
    sound = [repeat for repeat in whole if all(found[label, repeat].results["valid"] for label in labels)]
    chosen = sound or whole
    used = tuple(
        tuple(found[label, repeat] for repeat in (chosen or repeats) if (label, repeat) in found) for label in labels
    )
    problems = [
        f"{label} has {count:,} {name} bundles"
        for label in labels
        for name, count in broken_rules([run.results for (other, _), run in found.items() if other == label]).items()
    ]
    if not whole:
        problems.append("there is no repeat in which every side finished")
    elif not sound:
        problems.append("there is no repeat in which every run is valid")
    rows = tuple(_row(entry, labels, found, chosen or repeats) for entry in record["runs"])
    notes = []
    left_out = [row for row in rows if not row.used]
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(rows)} runs are not in the figures: "
            + "; ".join(f"{row.label}, repeat {row.repeat} ({row.why_not})" for row in left_out)
        )
    notes += [f"{row.label}, repeat {row.repeat} is {row.why_not}" for row in rows if row.used and not row.valid]
    missing = int(record["repeats"]) * len(labels) - len(rows)
    if missing:
        notes.append(f"{missing} of {int(record['repeats']) * len(labels)} runs were not started")
    return _Sides(
        labels=labels,
        used=used,
        is_paired=bool(chosen),
        title=f"{record['scenario']}: {' against '.join(labels)}",
        rows=rows,
        notes=tuple(notes),
        left_out=tuple(str(note) for note in record.get("notes", ())),
        command=str(record.get("command", "")),
        method=str(record.get("method", "")),
        problems=tuple(problems),
        single=False,
    )


def _row(
    entry: Mapping[str, Any],
    labels: Sequence[str],
    found: Mapping[tuple[str, int], _Run],
    chosen: Sequence[int],
) -> RunRow:
    label, repeat = str(entry["label"]), int(entry["repeat"])
    run = found.get((label, repeat))
    results: Mapping[str, Any] = {} if run is None else run.results
    used = run is not None and repeat in chosen
    why = str(entry.get("error") or ("" if run is not None else entry["state"]))
    if results.get("invalid_reasons"):
        why = f"not valid: {'; '.join(results['invalid_reasons'])}"
    elif run is not None and not used:
        beside = [other for other in labels if (other, repeat) not in found]
        why = f"{', '.join(beside)} did not finish this repeat" if beside else "another run of its repeat is not valid"
    stage = str((results.get("atomicity") or {}).get("completed_at", "executed"))
    return RunRow(
        label=label,
        repeat=repeat,
        directory=str(entry["directory"]),
        state=str(entry["state"]),
        valid=bool(results.get("valid")),
        used=used,
        why_not=why,
        completion_p50_ms=results.get("latency_ms", {}).get(stage, {}).get("p50"),
    )


def _compare(sides: _Sides) -> Comparison:
    results = sides.results
    settings = [settings_of(side[0]) if side else {} for side in results]
    differing, common = _settings_apart(settings)
    lines = tuple(line for metric in METRICS if (line := _line(metric, sides)) is not None)
    verdict, regressed = _verdict(sides, lines, differing)
    return Comparison(
        format=FORMAT,
        title=sides.title,
        labels=sides.labels,
        repeats=len(results[0]) if sides.is_paired else 0,
        valid=tuple(bool(side) and all(bool(run["valid"]) for run in side) for side in results),
        lines=lines,
        differing_settings=differing,
        verdict=verdict,
        regressed=regressed,
        outcomes=tuple(_sum_of([run["bundles"] for run in side]) for side in results),
        latency_ms=tuple(_latency(side) for side in results),
        modes=tuple(str((side[0].get("atomicity") or {}).get("mode", "")) if side else "" for side in results),
        proof_kinds=tuple(sorted({kind for side in results for run in side if (kind := proof_kind_of(run))})),
        configuration=common,
        runs=sides.rows,
        notes=sides.notes,
        method=sides.method,
        facts=comparison_facts(sides.labels, results, command=sides.command, left_out=sides.left_out),
        backends=None
        if sides.single
        else backend_sections(sides.labels, [[(run.directory, run.results) for run in side] for side in sides.used]),
    )


def _settings_apart(settings: Sequence[Mapping[str, str]]) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """Settings that differ, per side, and those in common. A side without a run has none."""
    known = [one for one in settings if one]
    keys = sorted({key for one in known for key in one})
    # Runs of before the line about the order said nothing of it; that is no difference.
    values = {key: [one.get(key, wording.NOT_KNOWN) for one in known if key in one or key != "order"] for key in keys}
    differing = {
        key: tuple(one.get(key, wording.NOT_KNOWN) for one in settings) for key in keys if len(set(values[key])) > 1
    }
    return differing, {key: values[key][0] for key in keys if key not in differing}


def _sum_of(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    return {name: sum(one.get(name, 0) for one in counts) for name in (counts[0] if counts else ())}


def _latency(side: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Medians of each percentile over the runs; counts are sums."""
    found: dict[str, dict[str, Any]] = {}
    for stage in side[0]["latency_ms"] if side else ():
        rows = [run["latency_ms"][stage] for run in side if stage in run["latency_ms"]]
        found[stage] = {name: sum(int(row[name]) for row in rows) for name in ("count", "failures")}
        for name in ("p50", "p90", "p99", "max"):
            spread = Spread.of([row[name] for row in rows])
            found[stage][name] = None if spread is None else spread.median
    return found


def _line(metric: Metric, sides: _Sides) -> Line | None:
    values = [[metric.value(run) for run in side] for side in sides.results]
    spreads = [Spread.of(side) for side in values]
    if all(spread is None for spread in spreads):
        return None
    pairs = [pairs_of(values[0], side) if sides.is_paired else [] for side in values]
    return line_of(
        metric,
        spreads,
        ratios=tuple(ratio_of(one) for one in pairs),
        intervals=(None, *(ratio_interval(one) for one in pairs[1:])),
        verdicts=tuple(
            only_verdict(label) if spreads[0] is None and spread is not None and metric.judged else judge(metric, one)
            for one, spread, label in zip(pairs[1:], spreads[1:], sides.labels[1:], strict=True)
        ),
    )


def _verdict(sides: _Sides, lines: Sequence[Line], differing: Mapping[str, Sequence[str]]) -> tuple[str, bool]:
    if sides.single:
        return single_verdict(sides.results, lines, differing)
    same_settings = not [key for key in differing if key != "commit"]
    pairs = len(sides.used[0])
    verdict = repeated_verdict(sides.labels, lines, pairs=pairs, same_settings=same_settings, problems=sides.problems)
    return verdict, False


def comparison_json(comparison: Comparison) -> str:
    """comparison.json."""
    return json.dumps(comparison.as_json(), indent=2, allow_nan=False) + "\n"
