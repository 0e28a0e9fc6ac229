"""`bench` and `sweep`: from options to scenarios, runs, reports, comparisons and an exit code."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.report import Results, compare_runs, print_comparison, print_report, write_comparison, write_report
from coordinator.cli.running import EXIT_BROKEN, EXIT_INTERRUPTED, Signals, fail, run_until_done
from coordinator.cli.watch import JsonWatcher, LineWatcher
from coordinator.record import VARY_KIND, ComparisonDirectory, RunDirectory
from coordinator.spec import Scenario, load_scenario
from coordinator.spec.backend_table import refuse_keys_of_others
from coordinator.stages.bench import run_bench
from coordinator.stages.broken import RunBroke
from coordinator.stages.progress import Interrupt, SilentObserver
from coordinator.stages.run_state import BenchOptions
from coordinator.workload.table import option_types
from nodes.model.errors import InvalidInput, InvalidScenario, TestbedError

EXIT_OF_VALID = {True: 0, False: EXIT_BROKEN}
RUNS = Path("runs")


SHORTHANDS: Mapping[str, str] = {
    "rate": "load.rate_per_s",
    "duration": "load.duration_s",
    "start": "load.sweep_start_per_s",
    "step": "load.sweep_step_s",
    "bound": "load.p99_bound_ms",
    "backend": "testnet.backend",
    "solana": "backend.solana.solana",
    "rollups": "testnet.rollups",
    "launcher": "testnet.launcher",
    "workload": "workload.kind",
    "seed": "scenario.seed",
}
"""Options that stand for a key of the scenario."""


def overrides_of(options: Mapping[str, Any]) -> list[str]:
    """The overrides of click's options. Shorthands become overrides, so that the run directory records them."""
    overrides = [*options["overrides"]]
    if options.get("sweep"):
        # Each step cuts its own start, so the cuts of a steady load would only forbid short steps.
        overrides += ["load.kind=sweep", "load.warmup_s=0", "load.cooldown_s=0"]
    for name, key in SHORTHANDS.items():
        if options.get(name) is not None:
            overrides.append(f"{key}={options[name]}")
    return overrides


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchRequest:
    """What was asked on the command line."""

    scenario: str
    overrides: tuple[str, ...]
    vary: str
    out: Path | None
    progress: str
    as_json: bool
    baseline: Path | None
    calibrate: bool
    ray_address: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "BenchRequest":
        """From click's options."""
        return cls(
            scenario=options["scenario"],
            overrides=tuple(overrides_of(options)),
            vary=options.get("vary") or "",
            out=options["out"],
            progress=options["progress"],
            as_json=options["as_json"],
            baseline=options["baseline"],
            calibrate=not options["no_calibrate"],
            ray_address=options["ray_address"],
        )


def bench_command(request: BenchRequest) -> int:
    """Run and report; the exit code."""
    try:
        variants = _variants(request)
        runs: list[tuple[str, Path, Results]] = []
        interrupted = False
        for label, scenario, out in variants:
            for note in scenario.notes:
                click.echo(f"note: {note}", err=True)
            if label:
                click.echo(f"{request.vary.partition('=')[0]} = {label}", err=True)
            interrupted = _run_one(request, scenario, out)
            results = make_report(out)
            runs.append((label, out, results))
            if len(variants) == 1 or interrupted:
                # With --progress json standard output is for programs.
                show_results(out, results, as_json=request.as_json, to_stderr=request.progress == "json")
            if interrupted:
                break
        if len(runs) > 1:
            _print_variants(request, runs)
        worse = _compare_with_baseline(request, runs[-1][1])
    except TestbedError as error:
        fail(error)
    if interrupted:
        return EXIT_INTERRUPTED
    return EXIT_BROKEN if worse else EXIT_OF_VALID[all(results.valid for _, _, results in runs)]


def _variants(request: BenchRequest) -> list[tuple[str, Scenario, Path]]:
    """(label, scenario, run directory) of every run that was asked for; all are read before the first one starts."""
    values = [""]
    key = ""
    if request.vary:
        key, separator, listed = request.vary.partition("=")
        values = [value.strip() for value in listed.split(",") if value.strip()]
        if not separator or not key or not values:
            raise InvalidScenario(f"--vary {request.vary!r} is not KEY=A,B,C, for example testnet.rollups=2,4,8")
    _check_baseline(request)
    variants = []
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for value in values:
        overrides = (*request.overrides, *([f"{key}={value}"] if key else []))
        scenario = load_scenario(request.scenario, overrides, workloads=option_types())
        check_options_count(scenario)
        refuse_keys_of_others(scenario.overrides, chosen=scenario.testnet.backend)
        out = request.out or RUNS / f"{scenario.name}-{stamp}"
        variants.append((value, scenario, out / f"{key.rpartition('.')[2]}={value}" if key else out))
    return variants


def _check_baseline(request: BenchRequest) -> None:
    """Before anything runs, so that a mistake costs no time."""
    if request.baseline is None:
        return
    if request.vary:
        raise InvalidInput("--baseline compares one run: leave out --vary")
    if not (request.baseline / "results.json").is_file():
        raise InvalidInput(
            f"--baseline {request.baseline} has no results.json; name a run directory, or make its report first: "
            f"lockstep report {request.baseline}"
        )


def check_options_count(scenario: Scenario) -> None:
    """A rate or a length that the load does not follow would be believed to have been run."""
    given = {override.partition("=")[0].strip().rpartition(".")[2] for override in scenario.overrides}
    load = scenario.load
    ignored: set[str] = set()
    if load.kind == "sweep":
        ignored = {"duration_s"} | ({"rate_per_s"} if load.sweep_start_per_s else set())
        remedy = "a sweep has sweep_start_per_s and sweep_step_s; for one rate add --set load.kind=steady"
    elif load.arrivals == "trace":
        ignored = {"rate_per_s", "duration_s"}
        remedy = "the times of a trace are those of its file"
    if found := sorted(ignored & given):
        raise InvalidInput(f"{found[0]} does nothing in scenario {scenario.name}: {remedy}")


def _run_one(request: BenchRequest, scenario: Scenario, out: Path) -> bool:
    """Run; whether it was interrupted."""
    watchers: dict[str, Callable[[], JsonWatcher | LineWatcher]] = {"json": JsonWatcher, "text": LineWatcher}
    watcher = watchers[request.progress]() if request.progress in watchers else None
    options = BenchOptions(
        out=out, command=" ".join(sys.argv), calibrate=request.calibrate, ray_address=request.ray_address
    )
    interrupt = Interrupt()

    async def start(signals: Signals) -> Path:
        signals.on_first(interrupt.set)
        interrupt.rearm = signals.arm
        try:
            return await run_bench(scenario, options, observer=watcher or SilentObserver(), interrupt=interrupt)
        except RunBroke as broke:
            click.echo(f"error: {broke}", err=True)
            return broke.directory

    try:
        run_until_done(start)
    finally:
        if watcher is not None:
            watcher.close()
    return interrupt.is_set


def make_report(directory: Path) -> Results:
    """Write the report into a run directory. Raises BrokenRunDirectory, InvalidInput where it is no run."""
    RunDirectory.open(directory)
    return write_report(directory)


def show_results(directory: Path, results: Results, *, as_json: bool, to_stderr: bool = False) -> None:
    """Print results.json, or the two boxes and where to find the rest."""
    if as_json:
        click.echo((directory / "results.json").read_text(encoding="utf-8"), nl=False)
        return
    from rich.console import Console

    console = Console(stderr=to_stderr)
    print_report(results, console)
    page = directory / "report.html"
    console.print(
        f"run directory: {directory}" + (f"\nreport:        {page}" if page.exists() else ""), highlight=False
    )


def _compare_with_baseline(request: BenchRequest, directory: Path) -> bool:
    """Whether the run is worse than its baseline by more than the rule allows."""
    if request.baseline is None:
        return False
    from rich.console import Console

    comparison = compare_runs([request.baseline, directory], ["baseline", "this run"])
    print_comparison(comparison, Console(stderr=request.as_json or request.progress == "json"))
    return comparison.regressed


def _print_variants(request: BenchRequest, runs: list[tuple[str, Path, Results]]) -> None:
    ComparisonDirectory(path=runs[0][1].parent).write(
        {
            "kind": VARY_KIND,
            "scenario": runs[0][2].scenario,
            "command": " ".join(sys.argv),
            "labels": [label for label, _, _ in runs],
            "repeats": 1,
            "runs": [
                {"label": label, "repeat": 1, "directory": out.name, "state": "finished"} for label, out, _ in runs
            ],
        }
    )
    if request.as_json:
        documents = {label: json.loads((out / "results.json").read_text(encoding="utf-8")) for label, out, _ in runs}
        click.echo(json.dumps(documents, indent=2))
        return
    from rich.console import Console

    comparison = compare_runs([out for _, out, _ in runs], [label for label, _, _ in runs])
    to_stderr = request.progress == "json"
    print_comparison(comparison, Console(stderr=to_stderr))
    page = write_comparison(comparison, runs[0][1].parent)
    click.echo(f"run directories: {runs[0][1].parent}\ncomparison:      {page}", err=to_stderr)
