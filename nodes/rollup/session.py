"""A session of a rollup node: its parts run side by side until one of them says what comes next.

Knows how parts end, and nothing of what they do.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

from nodes.model.errors import EngineFailure
from nodes.rollup.follower import Place

MAX_FRUITLESS_RECOVERIES = 5


class Over(Exception):
    """Ends a session; the node goes on from what it says."""


class Stopped(Over):
    """`stop` was called."""


class Halted(Over):
    """The node shall go no further: what it says was found. It serves what it has until it is stopped."""


class EngineLost(Over):
    """The engine ended or failed; its state is unknown."""


class Rewound(Over):
    """Go back to a place that was settled."""

    def __init__(self, place: Place, *, comes_again: bool, from_checkpoint: bool) -> None:
        """`comes_again`: the same heights will follow. `from_checkpoint`: neither engine nor derivation can go back."""
        super().__init__(place.ref.height)
        self.place = place
        self.comes_again = comes_again
        self.from_checkpoint = from_checkpoint


class RequestedRewind:
    """A rewind that somebody asked for and waits for. One at a time."""

    def __init__(self) -> None:
        self._asked: tuple[Rewound, asyncio.Future[None]] | None = None

    @property
    def is_waiting(self) -> bool:
        """It was asked for and is not done."""
        return self._asked is not None

    def ask(self, rewound: Rewound) -> asyncio.Future[None]:
        """Ask; done when the answer is."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked = (rewound, done)
        return done

    def raise_it(self) -> None:
        """End the session where one was asked for."""
        if self._asked is not None:
            raise self._asked[0]

    def done(self, over: Rewound) -> None:
        """The node went back for this reason; tell the caller if it was what it asked for."""
        if self._asked is not None and self._asked[0] is over:
            if not self._asked[1].done():  # its caller may have given up
                self._asked[1].set_result(None)
            self._asked = None

    def refuse(self, error: Exception) -> None:
        """There will be none."""
        if self._asked is not None and not self._asked[1].done():
            self._asked[1].set_exception(error)
        self._asked = None


class Losses:
    """Counts engines that were lost one after the other without one new height: then the fault is not bad luck."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._fruitless = 0
        self._best = -1

    def count(self, over: Over, height: int, *, was_killed: bool) -> None:
        """One more was lost at this height. Raises EngineFailure where that was one too many."""
        self._fruitless = 0 if height > self._best or was_killed else self._fruitless + 1
        self._best = height
        if self._fruitless >= MAX_FRUITLESS_RECOVERIES:
            raise EngineFailure(
                f"{self._name} lost {self._fruitless + 1} engines in a row at height {height}; the last: {over}"
            )


async def run_until_over(parts: Mapping[str, Coroutine[Any, Any, None]]) -> Over:
    """Run all parts, by task name, until one raises `Over`; end the others and say what it was.

    Raises what else a part raised, and CancelledError when cancelled.
    """
    overs: list[Over] = []
    ended = asyncio.Event()

    async def watched(part: Coroutine[Any, Any, None]) -> None:
        # Caught here: a group that fails in the step in which it is cancelled forgets the cancellation, and a node
        # that goes on from a lost engine would then never end.
        try:
            await part
        except Over as over:
            overs.append(over)
            ended.set()

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watched(part), name=name) for name, part in parts.items()]
            await ended.wait()
            for task in tasks:
                task.cancel()
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] if len(errors.exceptions) == 1 else errors from None
    return _weightiest(overs)


def _weightiest(overs: Sequence[Over]) -> Over:
    """Several may end a session in the same step: stopping comes first, then halting, going back, a lost engine."""
    order = (Stopped, Halted, Rewound, EngineLost)
    return min(overs, key=lambda over: order.index(type(over)))
