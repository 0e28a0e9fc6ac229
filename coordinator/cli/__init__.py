"""The `lockstep` command: words, options, and what the terminal shows. All work is done by the stages and the report.

Everything heavy is imported inside the commands, so that `lockstep --help` answers at once. Exit codes: 0 done,
1 the run is invalid, broke an invariant or could not be carried out, 2 a mistake in what was asked, 130 interrupted.
"""

from coordinator.cli.commands import main

__all__ = ["main"]
