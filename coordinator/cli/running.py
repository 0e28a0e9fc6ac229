"""Running a coroutine from the command line: one loop, signals that end it in order, errors as one clear message."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeVar

import click

from coordinator.stages.progress import InterruptedEarly, leaves_of
from nodes.model.errors import InvalidInput, MissingTool, TestbedError, UnknownName

EXIT_BROKEN = 1
EXIT_MISTAKE = 2
EXIT_INTERRUPTED = 130
Result = TypeVar("Result")


class Signals:
    """What Ctrl-C and SIGTERM do while a command runs: the first asks it to end in order, a second one cancels it."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task = task
        self._ask: Callable[[str], None] | None = None

    def on_first(self, ask: Callable[[str], None]) -> None:
        """Call `ask` with the signal's name at the first one; without this, the first cancels."""
        self._ask = ask

    def arm(self) -> None:
        """Set the handlers; again after a library has set its own."""
        loop = asyncio.get_running_loop()
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
            loop.remove_signal_handler(number)
            loop.add_signal_handler(number, self._interrupted, name)

    def _interrupted(self, name: str) -> None:
        ask, self._ask = self._ask, None
        if ask is None:
            self._task.cancel()
            return
        click.echo(f"\n{name}: ending in order; once more to end at once", err=True)
        ask(name)


def run_until_done(start: Callable[[Signals], Awaitable[Result]]) -> Result:
    """Run `start(signals)` to its end in a loop of its own.

    Ends the program with a message where an expected error is raised.
    """
    from nodes.host import collect_garbage_rarely, new_event_loop

    collect_garbage_rarely()

    async def body() -> Result:
        task = asyncio.current_task()
        assert task is not None
        signals = Signals(task)
        signals.arm()
        return await start(signals)

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(body())
    except (TestbedError, BaseExceptionGroup, asyncio.CancelledError, KeyboardInterrupt) as error:
        fail(error)


def fail(error: BaseException) -> NoReturn:
    """End the program with one message for an expected error; a bug is raised as it is."""
    cause = _cause(error)
    if isinstance(cause, (asyncio.CancelledError, KeyboardInterrupt)):
        click.echo("interrupted", err=True)
        sys.exit(EXIT_INTERRUPTED)
    if not isinstance(cause, TestbedError):
        raise error
    click.echo(f"error: {cause}", err=True)
    if isinstance(cause, InterruptedEarly):
        sys.exit(EXIT_INTERRUPTED)
    sys.exit(EXIT_MISTAKE if isinstance(cause, (InvalidInput, UnknownName, MissingTool)) else EXIT_BROKEN)


def _cause(error: BaseException) -> BaseException:
    """Out of nested groups a bug before an expected error, and that before a cancellation."""
    return min(
        leaves_of(error), key=lambda leaf: (isinstance(leaf, asyncio.CancelledError), isinstance(leaf, TestbedError))
    )
