"""Clock offsets between hosts, against hosts whose true offset is known."""

from dataclasses import dataclass

from coordinator.collect.clocks import ClockOffset, combine, estimate_offset
from nodes.telemetry.clock import ManualClock


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    monotonic_ns: int
    boot_id: str


class Host:
    """Answers after a way there and a way back that differ from request to request."""

    def __init__(self, clock: ManualClock, offset_ns: int, ways_ns: list[tuple[int, int]], boot_id: str) -> None:
        self._clock = clock
        self._offset_ns = offset_ns
        self._ways = iter(ways_ns * 100)
        self._boot_id = boot_id
        self.asked = 0

    async def read(self) -> Reading:
        self.asked += 1
        there, back = next(self._ways)
        self._clock.advance(ns=there)
        reading = Reading(monotonic_ns=self._clock.monotonic_ns() - self._offset_ns, boot_id=self._boot_id)
        self._clock.advance(ns=back)
        return reading


async def test_processes_of_one_boot_need_no_estimate() -> None:
    clock = ManualClock()
    host = Host(clock, 0, [(100, 100)], boot_id="same")
    assert await estimate_offset(host.read, clock=clock, own_boot_id="same") == ClockOffset(offset_ns=0, residual_ns=0)
    assert host.asked == 1


async def test_the_quickest_answer_decides_and_the_residual_bounds_the_error() -> None:
    clock = ManualClock()
    host = Host(clock, 5_000_000, [(900_000, 100_000), (40_000, 20_000), (500_000, 2_000_000)], boot_id="other")
    found = await estimate_offset(host.read, clock=clock, own_boot_id="mine")
    assert found.residual_ns == 30_000
    assert abs(found.offset_ns - 5_000_000) <= found.residual_ns


def test_drift_between_the_estimates_widens_the_residual() -> None:
    before, after = ClockOffset(offset_ns=100, residual_ns=10), ClockOffset(offset_ns=160, residual_ns=20)
    assert combine(before, after) == ClockOffset(offset_ns=130, residual_ns=50)
