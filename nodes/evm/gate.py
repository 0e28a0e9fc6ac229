"""Readers and one changer: reads run beside each other, never beside a change.

For an engine that answers a read of its head with a state that is still being built. Knows nothing of engines.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """Belongs to one event loop. A waiting change goes before reads that come later, so reads cannot starve it."""

    def __init__(self) -> None:
        self._change = asyncio.Lock()
        self._reads = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        """Hold off changes. Reads that should not delay a change for long must have a deadline."""
        while self._change.locked():
            async with self._change:
                pass
        self._reads += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._reads -= 1
            if not self._reads:
                self._idle.set()

    @asynccontextmanager
    async def changing(self) -> AsyncIterator[None]:
        """Alone: other changes wait their turn, reads under way are waited for."""
        async with self._change:
            await self._idle.wait()
            yield
