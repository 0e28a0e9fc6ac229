"""What a running stage tells whoever watches: lines for people, and one snapshot per second for people and scripts."""

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from nodes.model.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One moment of the load. Counts are since the start of the run."""

    elapsed_s: float
    """Since the first bundle was due."""
    remaining_s: float
    """Of the current phase."""
    rate_per_s: float
    """What the schedule asks for now."""
    due: int
    sent: int
    accepted: int
    refused: int
    resolved: int
    """Bundles whose legs are all executed or dropped, from counts of legs."""
    pending: int
    """Accepted and not resolved."""
    executed_per_s: float
    """Over the last second."""
    retired_lanes: int

    def to_json(self) -> dict[str, Any]:
        """One object of `--progress json`."""
        return {"event": "progress", **{name: _rounded(value) for name, value in asdict(self).items()}}


def _rounded(value: Any) -> Any:
    return round(value, 3) if isinstance(value, float) else value


class Observer(Protocol):
    """Watches a stage."""

    def stage(self, text: str) -> None:
        """A new part of the work began; one short line."""
        ...

    def progress(self, progress: Progress) -> None:
        """Called about once per second during the load."""
        ...


class SilentObserver:
    """Watches nothing."""

    def stage(self, text: str) -> None:
        """Forget it."""

    def progress(self, progress: Progress) -> None:
        """Forget it."""


class InterruptedEarly(Unavailable):
    """The run was told to end before any load was sent; there is nothing to report."""


def leaves_of(error: BaseException) -> list[BaseException]:
    """The errors of nested groups, without the groups; an error by itself is its own leaf."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaves_of(part)]


class Interrupt:
    """A request to end early and in order, set from a signal handler of the loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.reason = ""
        self.rearm: Callable[[], None] = lambda: None
        """Sets the signal handlers again. Ray replaces that of SIGTERM when it starts; called once the testnet runs."""

    def set(self, reason: str) -> None:
        """Ask to end; the first reason is kept."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the run should end."""
        return self._event.is_set()

    async def wait(self) -> None:
        """Return when it is set."""
        await self._event.wait()
