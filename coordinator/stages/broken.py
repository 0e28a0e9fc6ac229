"""A testnet that breaks for good in the middle of a load: what broke, when, what to do. What was measured is kept.

A process that dies and comes back is no matter for this module; only what its launcher gave up is.
"""

import traceback
from pathlib import Path

from coordinator.launch import RunningTestnet
from coordinator.launch.running import first_cause
from coordinator.stages.progress import InterruptedEarly, leaves_of
from coordinator.stages.run_state import Broken, RunState
from coordinator.stages.write_run import write_broken_run
from nodes.model.errors import TestbedError, Unavailable

FAILURE_FILE = "failure.txt"
"""In the run directory: the whole error with its tracebacks."""
_REMEDY = {
    "inprocess": "In one process nothing is started again: with --launcher ray a process that dies comes back",
    "ray": "Ray did not bring it back; host.log of its process, under testnet/nodes, says what it complained of",
}


class RunBroke(Unavailable):
    """The testnet broke for good during the load. The run directory is written and says so."""

    def __init__(self, broken: Broken, directory: Path) -> None:
        super().__init__(f"{broken.part} broke for good: {broken.reason}. {broken.remedy}.")
        self.directory = directory


async def keep_what_was_measured(state: RunState, running: RunningTestnet | None, error: Exception) -> RunBroke | None:
    """Write the run directory of a load that `error` ended; None where no load had begun, or it was told to end."""
    driver = state.driver
    if running is None or driver is None or not driver.finished or not state.phases:
        return None
    if any(isinstance(leaf, InterruptedEarly) for leaf in leaves_of(error)):
        return None
    broken = state.broken = _broken(state, running, error)
    (state.directory.path / FAILURE_FILE).write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    driver.give_up()
    state.observer.stage(f"{broken.part} broke for good: writing what was measured until then")
    await write_broken_run(state, driver, running)
    return RunBroke(broken, state.directory.path)


def _broken(state: RunState, running: RunningTestnet, error: Exception) -> Broken:
    cause = first_cause(error)
    text = " ".join(str(cause).split()).rstrip(" .;:")
    part = running.broken_part()
    remedy = _REMEDY[running.launcher] if part else "No node had ended"
    return Broken(
        part=part or "the run",
        reason=text if isinstance(cause, TestbedError) and text else f"{type(cause).__name__}: {text}",
        remedy=f"{remedy}; {FAILURE_FILE} in the run directory has the whole error",
        at_ns=state.ended_ns or state.clock.monotonic_ns(),
    )
