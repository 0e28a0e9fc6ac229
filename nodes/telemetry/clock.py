"""Time as a value that is passed in: the system's clocks, and one for tests that moves when told.

This is the only module under `nodes` that reads a clock.
"""

import time
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """Two clocks in nanoseconds."""

    def monotonic_ns(self) -> int:
        """For durations; shared by all processes of one boot of one machine."""
        ...

    def wall_ns(self) -> int:
        """Since 1970; for people and for block times."""
        ...


class SystemClock:
    """The machine's clocks."""

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        """CLOCK_REALTIME."""
        return time.time_ns()


class ManualClock:
    """A clock that stands still until it is moved; both faces advance together."""

    def __init__(self, *, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._monotonic_ns = 0
        self._wall_ns = wall_ns

    def advance(self, *, ns: int) -> None:
        """Move both clocks forward."""
        assert ns >= 0
        self._monotonic_ns += ns
        self._wall_ns += ns

    def monotonic_ns(self) -> int:
        """Nanoseconds advanced since construction."""
        return self._monotonic_ns

    def wall_ns(self) -> int:
        """Start plus what was advanced."""
        return self._wall_ns


def boot_id() -> str:
    """Identity of this boot; equal in two processes that share one monotonic clock."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def thread_cpu_ns() -> int:
    """CPU time of the calling thread, for stage accounting."""
    return time.thread_time_ns()
