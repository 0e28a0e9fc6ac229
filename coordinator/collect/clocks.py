"""How far each host's monotonic clock is from the coordinator's. Processes of one boot share one clock: exactly 0.

Elsewhere the offset is the midpoint of a request, taken from the quickest of many. It is estimated before and after the
load; the mean is used, and the residual says how wrong it can be: half the round trip plus half of what it drifted.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from nodes.telemetry.clock import Clock

READINGS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """Add `offset_ns` to a time of that host to get the coordinator's."""

    offset_ns: int
    residual_ns: int


class Reading(Protocol):
    """A host's clocks at some moment between request and answer."""

    @property
    def monotonic_ns(self) -> int:
        """The host's monotonic clock."""
        ...

    @property
    def boot_id(self) -> str:
        """Equal in two processes = they share one monotonic clock."""
        ...


async def estimate_offset(read: Callable[[], Awaitable[Reading]], *, clock: Clock, own_boot_id: str) -> ClockOffset:
    """Ask one host. Raises what `read` raises."""
    best: ClockOffset | None = None
    for _ in range(READINGS):
        before_ns = clock.monotonic_ns()
        reading = await read()
        after_ns = clock.monotonic_ns()
        if reading.boot_id == own_boot_id:
            return ClockOffset(offset_ns=0, residual_ns=0)
        residual_ns = (after_ns - before_ns + 1) // 2
        if best is None or residual_ns < best.residual_ns:
            best = ClockOffset(offset_ns=(before_ns + after_ns) // 2 - reading.monotonic_ns, residual_ns=residual_ns)
    assert best is not None
    return best


def combine(before: ClockOffset, after: ClockOffset) -> ClockOffset:
    """The offset to use for everything between the two estimates."""
    drift_ns = abs(after.offset_ns - before.offset_ns)
    return ClockOffset(
        offset_ns=(before.offset_ns + after.offset_ns) // 2,
        residual_ns=max(before.residual_ns, after.residual_ns) + (drift_ns + 1) // 2,
    )
