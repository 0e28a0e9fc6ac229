"""The divergence process of a host: takes blocks, reads what the engines did, executes again, reports what differs.

One loop reads requests and engines, one thread executes; they share the interpreter, so reading goes on while a long
block is executed. Everything that waits is bounded: a rollup that falls too far behind in `all` is checked by samples
from there on, and says so. The process ends when its host closes the line.
"""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO

from nodes.divergence.engine_reader import EngineReader, Seen, Unseen
from nodes.divergence.forms import (
    ALL,
    MAX_LINE_BYTES,
    Counts,
    Opening,
    Report,
    Task,
    report_line,
    request_of,
)
from nodes.divergence.values import Found, Sample
from nodes.model.errors import EngineFailure, TestbedError
from nodes.telemetry.clock import thread_cpu_ns

MAX_WAITING = 40_000
"""Transactions of one rollup that wait for the second EVM: about 100 MB, and minutes of work."""
MAX_MORE = 64
MORE_TIMEOUT_S = 5.0
_REPORT_S = 0.5
Write = Callable[[bytes], None]


class Lane:
    """One rollup."""

    def __init__(self, opening: Opening, executor: ThreadPoolExecutor, write: Write) -> None:
        self._opening = opening
        self._executor = executor
        self._write = write
        self._reader = EngineReader(opening.engine_directory)
        self._asked: asyncio.Queue[Task] = asyncio.Queue()
        self._seen: asyncio.Queue[tuple[Task, Seen | Unseen]] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._checker: Any = None
        self._is_whole = opening.mode == ALL
        self._samples_from = 0
        self._reason = ""
        self._reported = Counts()
        self.counts = Counts()

    def take(self, task: Task) -> None:
        """The next block of this rollup."""
        if self._samples_from and not task.chosen:
            self.counts.missed += len(task.block.entries)  # on its way when the host was not told yet
            return
        self.counts.waiting += len(task.chosen or task.block.entries)
        if self._is_whole and not task.is_history and self.counts.waiting > MAX_WAITING:
            self._only_samples(
                task.block.height,
                f"it cannot keep up: {self.counts.waiting:,} transactions wait at height {task.block.height}",
            )
        self._asked.put_nowait(task)

    async def read(self) -> None:
        """Ask the engine about each block, while it still knows."""
        while True:
            task = await self._asked.get()
            seen = Unseen.MISSED if task.is_history else await self._reader.seen(task)
            self._seen.put_nowait((task, seen))

    async def check(self) -> None:
        """Execute each block again. The host is told when this begins: the libraries are there."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._executor, _nothing)
        self.report(even_if_known=True)
        while True:
            task, seen = await self._seen.get()
            counts, found, lost = await loop.run_in_executor(self._executor, self._work, task, seen)
            for name in ("checked", "history", "missed", "replaced", "busy_ns", "differing"):
                setattr(self.counts, name, getattr(self.counts, name) + getattr(counts, name))
            self.counts.waiting -= len(task.chosen or task.block.entries)
            if lost:
                self._only_samples(task.block.height, lost)
            if found:
                self.report(found)

    def report(self, found: tuple[Any, ...] = (), *, even_if_known: bool = False) -> None:
        """Tell the host, where something is new."""
        if not found and not even_if_known and self.counts == self._reported:
            return
        self._reported = replace(self.counts)
        self._write(
            report_line(
                Report(
                    rollup=self._opening.rollup,
                    counts=self._reported,
                    found=found,
                    samples_from=self._samples_from,
                    reason=self._reason,
                )
            )
        )

    def _only_samples(self, height: int, reason: str) -> None:
        if self._samples_from:
            return
        self._samples_from, self._reason = max(1, height), reason
        self.report(even_if_known=True)

    # In the thread.

    def _check_sample(self, task: Task, sample: Sample) -> Found | None:
        from nodes.divergence.world import UntouchedState

        for _ in range(MAX_MORE):
            try:
                found: Found | None = self._checker.check_sample(task.block, sample)
            except UntouchedState as error:
                more = self._reader.more(task, sample, error.address, error.slot)
                sample = asyncio.run_coroutine_threadsafe(more, self._loop).result(MORE_TIMEOUT_S)
            else:
                return found
        raise EngineFailure(f"a transaction of block {task.block.number} reads too much that the engine did not")

    def _work(self, task: Task, seen: Seen | Unseen) -> tuple[Counts, tuple[Any, ...], str]:
        from nodes.divergence.checker import Checker, LostTrack, genesis_state
        from nodes.divergence.world import UntouchedState, WholeState

        started_ns = thread_cpu_ns()
        opening = self._opening
        if self._checker is None:
            self._checker = Checker(
                chain_id=opening.chain_id,
                coinbase=opening.coinbase,
                gas_limit=opening.gas_limit,
                world=WholeState(genesis_state(opening.genesis)) if self._is_whole else None,
                genesis_hash=opening.genesis_hash,
            )
        counts, found, lost = Counts(), [], ""
        size = len(task.chosen or task.block.entries)
        if seen is Unseen.REPLACED:
            counts.replaced = size
        elif task.chosen:
            for sample in seen.samples if isinstance(seen, Seen) else ():
                try:
                    one = self._check_sample(task, sample)
                except (TestbedError, OSError, TimeoutError, UntouchedState):
                    continue  # the engine does not tell any more what it would need
                found += [] if one is None else [one]
                counts.checked += 1
            counts.missed = size - counts.checked
        elif not self._is_whole:
            counts.missed = size
        else:
            try:
                found = self._checker.check(task.block, seen.effects if isinstance(seen, Seen) else None)
            except LostTrack as error:
                self._is_whole = False
                lost, counts.missed = str(error), size
            else:
                name = "history" if task.is_history else "checked" if isinstance(seen, Seen) else "missed"
                setattr(counts, name, size)
        counts.differing = len(found)
        counts.busy_ns = thread_cpu_ns() - started_ns
        return counts, tuple(found), lost


class Service:
    """All rollups of one host."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="second-evm")
        self._lanes: dict[str, Lane] = {}

    async def run(self, requests: asyncio.StreamReader) -> None:
        """Until the host hangs up; then at once, whatever waits."""
        # EELS takes seconds to import; the engines are asked meanwhile.
        self._executor.submit(_warm_up)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._report())]
            while line := await requests.readline():
                match request_of(line):
                    case Opening() as opening:
                        lane = Lane(opening, self._executor, self._write)
                        self._lanes[opening.rollup] = lane
                        tasks += [group.create_task(lane.read()), group.create_task(lane.check())]
                    case Task() as task:
                        self._lanes[task.rollup].take(task)
            for one in tasks:
                one.cancel()

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_REPORT_S)
            for lane in self._lanes.values():
                lane.report()


def _nothing() -> None:
    """Done once all that the executor had to do before is done."""


def _warm_up() -> None:
    from nodes.divergence import speed

    speed.install()


async def serve(stdin: BinaryIO, stdout: BinaryIO) -> None:
    """Speak over two pipes (unbuffered) until the host has finished or hung up."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), stdin)

    def write(line: bytes) -> None:
        # Reports are short and few; a host that does not read them has ended.
        with contextlib.suppress(BrokenPipeError):
            rest = memoryview(line)
            while rest:
                rest = rest[stdout.write(rest) or 0 :]

    await Service(write).run(reader)
