"""`up` and `status`: from options to the stages that show a running testnet."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from coordinator.cli.running import EXIT_BROKEN, fail
from coordinator.launch import LaunchOptions
from coordinator.launch.running import ENDPOINTS_FILE
from coordinator.spec import load_scenario
from coordinator.spec.backend_table import refuse_keys_of_others
from coordinator.stages.up import RUNS, run_status, run_up
from coordinator.workload.table import option_types
from nodes.model.errors import InvalidInput, TestbedError

DEFAULT_SCENARIO = "quick"
DEFAULT_LAUNCHER = "inprocess"
"""For a testnet to play with, starting at once matters more than using every core."""


def up_command(options: Mapping[str, Any]) -> int:
    """Run a testnet until Ctrl-C; the exit code."""
    resume: Path | None = options["resume"]
    launch = LaunchOptions(ray_address=options["ray_address"])
    launcher = options["launcher"] or ("" if options["ray_address"] or options["scenario"] else DEFAULT_LAUNCHER)
    try:
        if resume is not None:
            _refuse_with_resume(options)
            run_up(resume=resume, launcher=options["launcher"] or "", options=launch, as_json=options["as_json"])
            return 0
        overrides = list(options["overrides"])
        if options["rollups"] is not None:
            overrides.append(f"testnet.rollups={options['rollups']}")
        if options["backend"] is not None:
            overrides.append(f"testnet.backend={options['backend']}")
        if options["solana"] is not None:
            overrides.append(f"backend.solana.solana={options['solana']}")
        scenario = load_scenario(options["scenario"] or DEFAULT_SCENARIO, overrides, workloads=option_types())
        refuse_keys_of_others(scenario.overrides, chosen=scenario.testnet.backend)
        for note in scenario.notes:
            click.echo(f"note: {note}", err=True)
        out: Path | None = options["out"]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        run_up(scenario, directory=out, launcher=launcher, options=launch, as_json=options["as_json"])
    except (TestbedError, BaseExceptionGroup, KeyboardInterrupt) as error:
        fail(error)
    return 0


def _refuse_with_resume(options: Mapping[str, Any]) -> None:
    """A stopped testnet has its rules already."""
    given = [name for name in ("rollups", "backend", "solana", "scenario", "out") if options[name] is not None]
    given += ["set"] if options["overrides"] else []
    if given:
        raise InvalidInput(
            f"--{given[0]} cannot be changed in a testnet that is resumed; leave it out, or start a new one"
        )


def status_command(directory: Path | None, *, as_json: bool) -> int:
    """Ask every node once; the exit code says whether all are well."""
    try:
        healthy = run_status(directory or newest_testnet(), as_json=as_json)
    except TestbedError as error:
        fail(error)
    return 0 if healthy else EXIT_BROKEN


def newest_testnet() -> Path:
    """The testnet under runs/ that was started last."""
    found = sorted(RUNS.glob(f"**/{ENDPOINTS_FILE}"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise InvalidInput(f"no testnet runs under {RUNS}/; start one with `lockstep up`, or name its directory")
    return found[-1].parent
