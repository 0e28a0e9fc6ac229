"""A host's side of its divergence process: starts it, sends it blocks, hands on what it says.

The process may end: it is started again a few times, and every rollup then begins anew. Nodes never wait for it: what
they send goes into a bounded buffer, and what does not fit is not checked, which the report says.
"""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import nodes
from nodes.child_process import ChildProcess, start_tied
from nodes.divergence.forms import (
    MAX_LINE_BYTES,
    Opening,
    Report,
    Task,
    opening_line,
    report_of,
    task_line,
)

MAX_STARTS = 4
MAX_BUFFER_BYTES = 64 * 1024 * 1024
END_S = 2.0
"""After its line was closed. It ends at once, whatever waits."""
_LOG_FILE = "divergence.log"
_ROOT = Path(nodes.__file__).resolve().parents[1]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What one rollup wants of the process."""

    opening: Callable[[], Opening]
    began: Callable[[], Awaitable[None]]
    """The process has just started, or started again: it knows nothing of this rollup's past."""
    reported: Callable[[Report], None]
    lost: Callable[[str], None]
    """The process ended, for this reason."""
    given_up: Callable[[], None]
    """It is not started again."""


class DivergenceClient:
    """One process per host, for all rollups that are watched. `run` owns it."""

    def __init__(self, directory: Path) -> None:
        """`directory` gets what the process says on stderr."""
        self._directory = directory
        self._watches: dict[str, Watch] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._wanted = asyncio.Event()
        self._beginnings: asyncio.Queue[str] = asyncio.Queue()
        self._gave_up = False

    @property
    def pid(self) -> int:
        """Process id; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    def watch(self, rollup: str, watch: Watch) -> None:
        """Check this rollup from now on. The process is started with the first one."""
        self._watches[rollup] = watch
        self._wanted.set()
        if self._gave_up:
            watch.given_up()
        if self._process is not None:
            self._beginnings.put_nowait(rollup)

    def send(self, task: Task) -> bool:
        """Hand in a block; False where it cannot be taken."""
        process = self._process
        if process is None or process.stdin is None or process.returncode is not None:
            return False
        if process.stdin.transport.get_write_buffer_size() > MAX_BUFFER_BYTES:
            return False
        process.stdin.write(task_line(task))
        return True

    async def run(self) -> None:
        """Start the process when it is wanted, and again when it ends, until `stop`."""
        if not await self._until_wanted():
            return
        for _ in range(MAX_STARTS):
            reason = await self._run_once()
            if self._stopping.is_set():
                return
            _log.error("the divergence process ended: %s", reason)
            for watch in self._watches.values():
                watch.lost(reason)
        _log.error("the divergence process is not started again after %d times", MAX_STARTS)
        self._gave_up = True
        for watch in self._watches.values():
            watch.given_up()
        await self._stopping.wait()

    def stop(self) -> None:
        """End the process, whatever waits. Idempotent."""
        self._stopping.set()
        self._wanted.set()

    async def _until_wanted(self) -> bool:
        await self._wanted.wait()
        return not self._stopping.is_set()

    async def _run_once(self) -> str:
        self._directory.mkdir(parents=True, exist_ok=True)
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        with (self._directory / _LOG_FILE).open("ab") as log:
            process = await start_tied(
                sys.executable,
                ["-m", "nodes.divergence"],
                log,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=dict(os.environ) | {"PYTHONPATH": path},
                line_bytes_max=MAX_LINE_BYTES,
            )
        child = ChildProcess("the divergence process", process, self._directory / _LOG_FILE)
        self._process = process
        self._beginnings = asyncio.Queue()
        for rollup in self._watches:
            self._beginnings.put_nowait(rollup)
        try:
            async with asyncio.TaskGroup() as group:
                others = [group.create_task(self._begin()), group.create_task(self._hang_up(process))]
                await self._read(process)
                for task in others:
                    task.cancel()
        finally:
            self._process = None
            await child.end_within(END_S)
        return f"status {process.returncode}; see {self._directory / _LOG_FILE}"

    async def _begin(self) -> None:
        while True:
            rollup = await self._beginnings.get()
            process, watch = self._process, self._watches[rollup]
            if process is None or process.stdin is None:
                return
            process.stdin.write(opening_line(watch.opening()))
            await watch.began()

    async def drain(self) -> None:
        """Wait until the process has taken most of what was sent: for those who send much at once."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(ConnectionError):
                await self._process.stdin.drain()

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None, "it is a pipe"
        while line := await process.stdout.readline():
            report = report_of(line)
            watch = self._watches.get(report.rollup)
            if watch is not None:
                watch.reported(report)

    async def _hang_up(self, process: asyncio.subprocess.Process) -> None:
        await self._stopping.wait()
        assert process.stdin is not None, "it is a pipe"
        process.stdin.close()
