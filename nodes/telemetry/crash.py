"""Named places at which a process can be made to die, so that tests reach the instants that matter.

A part calls `crash("part.place")` where a kill would hurt most; by default that does nothing. The process's host
builds the real one from a specification; no part reads the environment.
"""

import os
import signal
from collections import Counter
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
    if not specification:
        return no_crash
    wanted, _, count = specification.rpartition(":")
    if not wanted or not count.isascii() or not count.isdigit() or int(count) < 1:
        raise InvalidInput(f"{CRASH_VARIABLE} is {specification!r}; it must be a place and a count, as in place:37")
    visits: Counter[str] = Counter()

    def crash(place: str) -> None:
        visits[place] += 1
        if place == wanted and visits[place] == int(count):
            os.kill(os.getpid(), signal.SIGKILL)

    return crash
