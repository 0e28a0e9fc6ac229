"""The one-method port through which nodes report what happened, and the two that need no wire format."""

from typing import Protocol

from nodes.telemetry.clock import Clock
from nodes.telemetry.events import Event, Stamped


class Tracer(Protocol):
    """Takes measured events. Never blocks on the network."""

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        """Stamp and keep one event; `monotonic_ns` where the moment was noted earlier."""
        ...


class DiscardingTracer:
    """The default: measures nothing, costs nothing."""

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        """Forget the event."""


class MemoryTracer:
    """Keeps events in a list, for tests."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stamped: list[Stamped] = []

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        """Append the event."""
        now = self._clock.monotonic_ns() if monotonic_ns is None else monotonic_ns
        self.stamped.append(Stamped(monotonic_ns=now, wall_ns=self._clock.wall_ns(), event=event))
