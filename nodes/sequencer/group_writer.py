"""Group commit: everything that arrives while one transaction is on its way to the disk goes into the next.

Knows nothing of what it writes, only the order, who waits for it and who is told. A failed write ends the node: what
was not acknowledged is not kept, and nothing is acknowledged that was not written.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from nodes.model.errors import Unavailable
from nodes.sequencer.block_log import AppendBlock, BlockLog, Write
from nodes.telemetry.clock import thread_cpu_ns
from nodes.telemetry.crash import CrashPoint

Announce = Callable[[], None]


class _Batch:
    """Writes of one transaction, and those who wait for it."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.announcements: list[Announce] = []
        self.finished = asyncio.Event()
        self.is_durable = False


class GroupWriter:
    """The only writer of one log. Bounded by its callers: a full mempool, and the blocks allowed in flight."""

    def __init__(self, log: BlockLog, *, crash: CrashPoint) -> None:
        self._log = log
        self._crash = crash
        self._collecting = _Batch()
        self._committing: _Batch | None = None
        self._wake = asyncio.Event()
        self._is_stopping = False
        self.cpu_ns = 0
        """Thread CPU time of all commits."""

    def put(self, write: Write, *, announce: Announce | None = None) -> None:
        """Write after all that was put before. `announce` runs in the event loop once it is durable, in that order."""
        self._collecting.writes.append(write)
        if announce is not None:
            self._collecting.announcements.append(announce)
        self._wake.set()

    async def wait_durable(self) -> None:
        """Wait until everything put so far is durable. Raises Unavailable where the writer ended first."""
        batch = self._collecting if self._collecting.writes else self._committing
        if batch is not None:
            await batch.finished.wait()
            if not batch.is_durable:
                raise Unavailable("the sequencer ended before the submission was durable; send the same bytes again")

    def stop(self) -> None:
        """Write what was put, then let `run` return."""
        self._is_stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Commit batch after batch until stopped. Raises what the disk raises."""
        loop = asyncio.get_running_loop()
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sequencer-commit")
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                if self._collecting.writes:
                    batch, self._collecting = self._collecting, _Batch()
                    self._committing = batch
                    self.cpu_ns += await loop.run_in_executor(executor, self._commit, batch.writes)
                    for announce in batch.announcements:
                        announce()
                    batch.is_durable = True
                    batch.finished.set()
                    self._committing = None
                elif self._is_stopping:
                    return
                if self._is_stopping or self._collecting.writes:
                    self._wake.set()
        finally:
            for unfinished in (self._committing, self._collecting):
                if unfinished is not None:
                    unfinished.finished.set()
            # A commit that is still running ends before the log is closed.
            executor.shutdown(wait=True)

    def _commit(self, writes: list[Write]) -> int:
        began_ns = thread_cpu_ns()
        self._log.commit(writes)
        # Between the log and the announcement: the instant at which a kill would lose a block that nobody has seen.
        holds_block = any(isinstance(write, AppendBlock) for write in writes)
        self._crash("sequencer.after_commit" if holds_block else "sequencer.after_journal")
        return thread_cpu_ns() - began_ns
