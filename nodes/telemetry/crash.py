"""Named places at which a process can be made to die, so that tests reach the instants that matter.

A part calls `crash("part.place")` where a kill would hurt most; by default that does nothing. The process's host
builds the real one from a specification; no part reads the environment.
"""

import os
import signal
from collections.abc import Callable

from nodes.model.errors import InvalidInput

CRASH_VARIABLE = "LOCKSTEP_CRASH_AT"
"""Environment variable that the host reads, for example `sequencer.after_commit:37`."""

CrashPoint = Callable[[str], None]


def no_crash(place: str) -> None:
    """The default: the process lives on."""


def crash_at(specification: str) -> CrashPoint:
    """A crash point that ends the process by SIGKILL when it reaches a place for the n-th time ("place:n", n from 1).

    Empty = never. Raises InvalidInput where the specification is not of this form.
    """
    return CrashSwitch(specification) if specification else no_crash


class CrashSwitch:
    """A crash point that can be armed while the process runs."""

    def __init__(self, specification: str = "") -> None:
        """Armed from the start where `specification` is not empty. Raises InvalidInput."""
        self._visits_left: dict[str, int] = {}
        if specification:
            wanted, _, count = specification.rpartition(":")
            if not wanted or not count.isascii() or not count.isdigit() or int(count) < 1:
                raise InvalidInput(
                    f"{CRASH_VARIABLE} is {specification!r}; it must be a place and a count, as in place:37"
                )
            self.arm(wanted, int(count))

    def arm(self, place: str, count: int) -> None:
        """End the process by SIGKILL when it reaches `place` for the `count`-th time from now on (from 1)."""
        self._visits_left[place] = count

    def __call__(self, place: str) -> None:
        """The process is at `place`."""
        left = self._visits_left.get(place)
        if left is None:
            return
        self._visits_left[place] = left - 1
        if left == 1:
            os.kill(os.getpid(), signal.SIGKILL)
