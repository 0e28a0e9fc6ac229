"""Where a node's CPU goes: thread CPU time per stage, always on (a reading costs about half a microsecond)."""

from collections.abc import Awaitable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from nodes.telemetry.clock import thread_cpu_ns

T = TypeVar("T")


class StageCpu:
    """CPU nanoseconds by stage name. Not shared between threads."""

    def __init__(self, *stages: str) -> None:
        self.totals_ns: dict[str, int] = dict.fromkeys(stages, 0)

    def add(self, stage: str, since_ns: int) -> int:
        """Add what this thread used since a reading of `thread_cpu_ns`; returns the new reading."""
        now = thread_cpu_ns()
        self.add_ns(stage, now - since_ns)
        return now

    def add_ns(self, stage: str, used_ns: int) -> None:
        """Add what another thread used."""
        self.totals_ns[stage] = self.totals_ns.get(stage, 0) + used_ns

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Account a block of code that does not await."""
        started = thread_cpu_ns()
        try:
            yield
        finally:
            self.add(stage, started)

    def metered(self, stage: str, awaitable: Awaitable[T]) -> "Metered[T]":
        """The awaitable, with each of its steps accounted, and not what other tasks do while it waits."""
        return Metered(self, stage, awaitable)


class Metered(Awaitable[T]):
    """See `StageCpu.metered`."""

    __slots__ = ("_awaitable", "_cpu", "_stage")

    def __init__(self, cpu: StageCpu, stage: str, awaitable: Awaitable[T]) -> None:
        self._cpu = cpu
        self._stage = stage
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, T]:
        steps = self._awaitable.__await__()
        thrown: BaseException | None = None
        while True:
            started = thread_cpu_ns()
            try:
                # What a coroutine is resumed with is None in asyncio, or an exception such as a cancellation.
                waits_for = next(steps) if thrown is None else _throw(steps, thrown)
            except StopIteration as stop:
                result: T = stop.value
                return result
            finally:
                self._cpu.add(self._stage, started)
            thrown = None
            try:
                yield waits_for
            except BaseException as error:  # noqa: BLE001 - handed to the awaitable, as `yield from` does
                thrown = error


def _throw(steps: Any, error: BaseException) -> Any:
    throw = getattr(steps, "throw", None)
    if throw is None:
        raise error
    return throw(error)
