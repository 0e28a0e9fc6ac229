"""Work in a thread that is waited for in any case: a thread goes on where the task that wanted it is cancelled."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TypeVar

_Answer = TypeVar("_Answer")


async def to_end(work: Callable[[], _Answer]) -> _Answer:
    """What `work` returns, from a thread. A cancellation takes effect once it has ended; then its files can be closed.

    Raises what `work` raises.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()  # nobody is left to be told of it
        raise
