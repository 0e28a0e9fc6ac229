"""Group commit of the resolver: what arrives while one transaction is on its way to the disk goes into the next.

Knows nothing of what it writes, only the order and who is told. A failed write ends the node: nothing is announced that
was not written.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nodes.agglayer.resolver_store import ResolverStore, Write
from nodes.telemetry.clock import thread_cpu_ns
from nodes.telemetry.crash import CrashPoint

MAX_WAITING = 1_024
"""Writes above which the reader of the sequencer waits; reports cannot bring more verdicts than it has read heights."""


class ResolverWriter:
    """The only writer of one store."""

    def __init__(self, store: ResolverStore, *, crash: CrashPoint) -> None:
        self._store = store
        self._crash = crash
        self._writes: list[Write] = []
        self._announcements: list[Callable[[], None]] = []
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_stopping = False
        self.cpu_ns = 0
        """Thread CPU time of all commits."""

    def put(self, write: Write, *, announce: Callable[[], None] | None = None) -> None:
        """Write after all that was put before. `announce` runs in the event loop once it is durable, in that order."""
        self._writes.append(write)
        if announce is not None:
            self._announcements.append(announce)
        if len(self._writes) >= MAX_WAITING:
            self._has_room.clear()
        self._wake.set()

    async def wait_room(self) -> None:
        """Wait while too much waits for the disk."""
        await self._has_room.wait()

    def stop(self) -> None:
        """Write what was put, then let `run` return."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Commit batch after batch until stopped. Raises what the disk raises."""
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resolver-commit")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._writes:
                    writes, self._writes = self._writes, []
                    announcements, self._announcements = self._announcements, []
                    self._has_room.set()
                    self.cpu_ns += await loop.run_in_executor(executor, self._commit, writes)
                    for announce in announcements:
                        announce()
                    self._crash("resolver.after_announcement")
                elif self._is_stopping:
                    return
                if self._is_stopping or self._writes:
                    self._wake.set()
        finally:
            self._has_room.set()
            # A commit that is still running ends before the store is closed.
            executor.shutdown(wait=True)

    def _commit(self, writes: list[Write]) -> int:
        began_ns = thread_cpu_ns()
        self._store.commit(writes)
        self._crash("resolver.after_commit")
        return thread_cpu_ns() - began_ns
