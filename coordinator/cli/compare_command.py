"""`compare`: from options to the sides of a comparison, its runs, and what is shown of them."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from benchmarks.report import print_comparison, read_comparison, write_comparison, write_report
from coordinator.cli.bench_runs import RUNS, check_options_count, overrides_of
from coordinator.cli.running import EXIT_BROKEN, EXIT_INTERRUPTED, Signals, fail, run_until_done
from coordinator.cli.watch import JsonWatcher, LineWatcher, SilentWatcher
from coordinator.record import ComparisonDirectory
from coordinator.spec import load_scenario
from coordinator.stages.compare import CompareOptions, Side, run_compare
from coordinator.stages.progress import Interrupt
from coordinator.workload.table import option_types
from nodes.model.errors import InvalidInput, TestbedError, UnknownName
from nodes.sequencer.backends import BACKENDS

MAX_SIDES = 8
"""As many as a figure can tell apart."""
MAX_REPEATS = 1_000
TEXT_WIDTH = 100
"""Columns where the output is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareRequest:
    """What was asked on the command line."""

    scenario: str
    backends: tuple[str, ...]
    repeats: int
    overrides: tuple[str, ...]
    out: Path | None
    progress: str
    as_json: bool
    calibrate: bool
    ray_address: str

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "CompareRequest":
        """From click's options. Raises InvalidInput, or UnknownName for a backend that does not exist."""
        backends = tuple(name.strip() for name in options["backends"].split(",") if name.strip())
        for name in backends:
            if name not in BACKENDS:
                raise UnknownName(kind="backend", name=name, known=BACKENDS)
        if not 2 <= len(backends) <= MAX_SIDES:
            raise InvalidInput(
                f"--backends {options['backends']!r} names {len(backends)}; a comparison takes 2 to {MAX_SIDES}, for "
                "example lazy,solana, or lazy,lazy to see what the machine alone does"
            )
        if not 1 <= options["repeats"] <= MAX_REPEATS:
            raise InvalidInput(f"--repeats {options['repeats']} must be 1 to {MAX_REPEATS:,}")
        overrides = overrides_of(options)
        if options["solana"] and "solana" not in backends:
            raise InvalidInput("--solana is for the backend solana, which --backends does not name")
        return cls(
            scenario=options["scenario"],
            backends=backends,
            repeats=options["repeats"],
            overrides=tuple(overrides),
            out=options["out"],
            progress=options["progress"],
            as_json=options["as_json"],
            calibrate=not options["no_calibrate"],
            ray_address=options["ray_address"],
        )


def compare_command(options: Mapping[str, Any]) -> int:
    """Run and compare; the exit code."""
    try:
        request = CompareRequest.of(options)
        sides = _sides(request)
    except TestbedError as error:
        fail(error)
    for note in dict.fromkeys(note for side in sides for note in side.scenario.notes):
        click.echo(f"note: {note}", err=True)
    watchers: dict[str, Callable[[], JsonWatcher | LineWatcher | SilentWatcher]]
    watchers = {"json": JsonWatcher, "text": LineWatcher, "none": SilentWatcher}
    watcher = watchers[request.progress]()
    out = request.out or RUNS / f"compare-{sides[0].scenario.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    run_options = CompareOptions(
        out=out,
        repeats=request.repeats,
        command=" ".join(sys.argv),
        calibrate=request.calibrate,
        ray_address=request.ray_address,
    )
    interrupt = Interrupt()

    async def report(directory: Path) -> None:
        await asyncio.to_thread(write_report, directory)

    async def start(signals: Signals) -> Path:
        signals.on_first(interrupt.set)
        interrupt.rearm = signals.arm
        return await run_compare(sides, run_options, observer=watcher, interrupt=interrupt, report=report)

    try:
        run_until_done(start)
    finally:
        watcher.close()
    code = show_comparison(out, as_json=request.as_json, to_stderr=request.progress == "json")
    return EXIT_INTERRUPTED if interrupt.is_set else code


def labels_of(backends: Sequence[str]) -> list[str]:
    """The names; a backend that is named several times gets numbers: lazy-1, lazy-2."""
    counts, seen = Counter(backends), Counter[str]()
    labels = []
    for name in backends:
        seen[name] += 1
        labels.append(f"{name}-{seen[name]}" if counts[name] > 1 else name)
    return labels


def _sides(request: CompareRequest) -> list[Side]:
    sides = []
    for label, backend in zip(labels_of(request.backends), request.backends, strict=True):
        overrides = (*request.overrides, f"testnet.backend={backend}")
        scenario = load_scenario(request.scenario, overrides, workloads=option_types())
        check_options_count(scenario)
        sides.append(Side(label=label, scenario=scenario))
    return sides


def remake_comparison(directory: Path) -> None:
    """Make the results of every finished run again, from its raw events. Raises BrokenRunDirectory, InvalidInput."""
    record = ComparisonDirectory.open(directory).read()
    for entry in record["runs"]:
        if entry["state"] == "finished":
            write_report(directory / entry["directory"], formats=())


def show_comparison(directory: Path, *, as_json: bool, to_stderr: bool = False) -> int:
    """Compare what finished, write it, print it; the exit code."""
    try:
        comparison = read_comparison(directory)
    except TestbedError as error:
        fail(error)
    page = write_comparison(comparison, directory)
    sound = comparison.repeats > 0 and all(row.valid for row in comparison.runs)
    if comparison.backends is None:
        sound = not comparison.regressed and all(comparison.valid)
    if as_json:
        click.echo((directory / "comparison.json").read_text(encoding="utf-8"), nl=False)
    else:
        from rich.console import Console

        console = Console(stderr=to_stderr)
        if not console.is_terminal:
            console.width = TEXT_WIDTH
        print_comparison(comparison, console)
        console.print(f"runs:       {directory}\ncomparison: {page}", highlight=False, soft_wrap=True)
    return 0 if sound else EXIT_BROKEN
