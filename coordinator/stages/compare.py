"""`lockstep compare`: one scenario against each of several backends, again and again, each time a whole run.

Runs are interleaved and take turns at being first (A B, B A, ...): what the machine does meanwhile, warming up or
slowing down, then touches all sides alike, and the runs of one repeat can be compared in pairs. Knows how to make runs;
what they say is the report's matter.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from coordinator.faults import faults_of
from coordinator.launch import launcher_named
from coordinator.record import BACKENDS_KIND, ComparisonDirectory
from coordinator.spec import Scenario, resolve
from coordinator.stages.bench import run_bench
from coordinator.stages.broken import RunBroke
from coordinator.stages.outside import check_outside
from coordinator.stages.progress import Interrupt, InterruptedEarly, Observer, leaves_of
from coordinator.stages.run_state import BenchOptions
from nodes.model.errors import TestbedError

OVERHEAD_S = 15.0
"""Around the load of one run: launch, signing, drain, report. A first guess for the time left; then runs are timed."""
METHOD = (
    "Runs are interleaved and the sides take turns at being first (A B, B A, ...), so that a machine that warms up or "
    "slows down touches all of them alike."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is run again and again under one label."""

    label: str
    """Unique; also the name of its folder."""
    scenario: Scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What of a comparison is not part of its scenarios."""

    out: Path
    repeats: int
    command: str = ""
    calibrate: bool = True
    ray_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlace:
    """Which run of a comparison begins."""

    number: int
    """From 1."""
    of: int
    label: str
    repeat: int
    """From 1."""
    repeats: int
    left_s: float | None
    """Estimate until the last run is done; None where nothing tells."""


class CompareObserver(Observer, Protocol):
    """Watches a comparison, and each run of it."""

    def run(self, place: RunPlace) -> None:
        """A run begins."""
        ...


@dataclass(slots=True, kw_only=True)
class _Pace:
    """How long runs take, from those that are done."""

    sides: Sequence[Side]
    took_s: dict[str, list[float]] = field(default_factory=dict)

    def left_s(self, waiting: Sequence[Side]) -> float | None:
        guesses = [self._guess_s(side) for side in waiting]
        return None if any(guess is None for guess in guesses) else sum(guess or 0.0 for guess in guesses)

    def _guess_s(self, side: Side) -> float | None:
        own = self.took_s.get(side.label)
        if own:
            return sum(own) / len(own)
        load = side.scenario.load
        if load.kind == "sweep" or load.arrivals == "trace":
            return None
        return load.duration_s + OVERHEAD_S


def turns(sides: Sequence[Side], repeats: int) -> list[tuple[int, Side]]:
    """(repeat from 1, side) in the order of the runs: each repeat begins one side further than the one before."""
    count = len(sides)
    return [(repeat + 1, sides[(repeat + place) % count]) for repeat in range(repeats) for place in range(count)]


async def run_compare(
    sides: Sequence[Side],
    options: CompareOptions,
    *,
    observer: CompareObserver,
    interrupt: Interrupt,
    report: Callable[[Path], Awaitable[None]],
) -> Path:
    """Make all runs; the comparison's folder. `report` makes the report of a run whose directory is written.

    A run that cannot be carried out is recorded and the others go on, unless its side never worked; then the rest is
    not started. Raises TestbedError where no run finished.
    """
    await _check(sides, options)
    folder = ComparisonDirectory.create(options.out)
    order = turns(sides, options.repeats)
    pace = _Pace(sides=sides)
    entries: list[dict[str, Any]] = []
    failures: list[TestbedError] = []
    _write(folder, sides, options, entries)
    for at, (repeat, side) in enumerate(order):
        left_s = pace.left_s([later for _, later in order[at:]])
        observer.run(
            RunPlace(
                number=at + 1,
                of=len(order),
                label=side.label,
                repeat=repeat,
                repeats=options.repeats,
                left_s=left_s,
            )
        )
        began_s = time.monotonic()
        entry: dict[str, Any] = {"label": side.label, "repeat": repeat, "directory": f"{side.label}/repeat-{repeat}"}
        error = await _run_one(side, folder.path / entry["directory"], options, observer, interrupt, report)
        took_s = time.monotonic() - began_s
        entry |= {"state": _state(error, interrupt), "error": _said(error), "seconds": round(took_s, 1)}
        entries.append(entry)
        _write(folder, sides, options, entries)
        if interrupt.is_set:
            break
        if error is None:
            pace.took_s.setdefault(side.label, []).append(took_s)
            continue
        failures.append(error)
        observer.stage(f"failed: {_said(error)}")
        if side.label not in pace.took_s:
            break
    if not any(entry["state"] == "finished" for entry in entries):
        raise failures[-1] if failures else InterruptedEarly(f"interrupted before a run finished: {interrupt.reason}")
    return folder.path


async def _check(sides: Sequence[Side], options: CompareOptions) -> None:
    """Before anything runs, so that a mistake costs no time."""
    for side in sides:
        testnet = await asyncio.to_thread(resolve, side.scenario)
        launcher_named(testnet.launcher, ray_address=options.ray_address)
        faults_of(side.scenario, testnet)
        await check_outside(testnet, ray_address=options.ray_address)


async def _run_one(
    side: Side,
    out: Path,
    options: CompareOptions,
    observer: CompareObserver,
    interrupt: Interrupt,
    report: Callable[[Path], Awaitable[None]],
) -> TestbedError | None:
    """Run and report; what went wrong."""
    of_run = BenchOptions(
        out=out, command=options.command, calibrate=options.calibrate, ray_address=options.ray_address
    )
    try:
        await run_bench(side.scenario, of_run, observer=observer, interrupt=interrupt)
        await report(out)
    except RunBroke as broke:
        with contextlib.suppress(TestbedError):  # what broke early may have nothing to report
            await report(out)
        return broke
    except TestbedError as error:
        return error
    except BaseExceptionGroup as group:
        expected = _expected(group)
        if expected is None:
            raise
        return expected
    return None


def _said(error: TestbedError | None) -> str:
    """In a line: of an error that brings another process's traceback the part that ended, and its last exception."""
    text = str(error or "")
    if "Traceback (most recent call last)" not in text:
        return text
    lines = [line.strip(" |+-") for line in text.splitlines()]
    part = lines[0].partition(":")[0].strip()
    last = next((line for line in reversed(lines) if line), "")
    return f"{part}: {last} (host.log of its process, under testnet/nodes of the run, has the whole error)"


def _state(error: TestbedError | None, interrupt: Interrupt) -> str:
    if interrupt.is_set:
        return "interrupted"
    return "finished" if error is None else "failed"


def _expected(group: BaseExceptionGroup[BaseException]) -> TestbedError | None:
    """The expected error of a group that holds nothing else, leaving out what it cancelled; None for a bug."""
    leaves = leaves_of(group)
    found = [leaf for leaf in leaves if isinstance(leaf, TestbedError)]
    others = [leaf for leaf in leaves if not isinstance(leaf, (TestbedError, asyncio.CancelledError))]
    return found[0] if found and not others else None


def _write(
    folder: ComparisonDirectory, sides: Sequence[Side], options: CompareOptions, entries: list[dict[str, Any]]
) -> None:
    notes = [note for side in sides for note in side.scenario.notes]
    folder.write(
        {
            "kind": BACKENDS_KIND,
            "scenario": sides[0].scenario.name,
            "command": options.command,
            "labels": [side.label for side in sides],
            "repeats": options.repeats,
            "method": METHOD,
            "notes": list(dict.fromkeys(notes)),
            "runs": entries,
        }
    )
