"""Child processes that die with their parent, however that ends: start, end, and words for both. Not what they do.

The kernel does it (PR_SET_PDEATHSIG), asked by a launcher of a few lines that then becomes the child; a `preexec_fn`
would do the same without the 10 ms, but it forces a plain fork, and a fork beside running gRPC threads can hang. The
signal comes when the *thread* that spawned ends: spawn from a loop that lives as long as the process. (macOS has no
such signal; there a child outlives a node that is killed hard.)
"""

import asyncio
import contextlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_LOG_TAIL_BYTES = 2_000
"""Of a log, in an error message."""
_LINE_BYTES_MAX = 64 * 1024
"""Of a child's stdout, where that is read by lines and nothing else is said."""

_LAUNCHER = """
import os, sys
if sys.platform == "linux":
    import ctypes
    if ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0):
        sys.exit("prctl failed: " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before its child could be tied to it")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_command(program: str, arguments: Sequence[str]) -> list[str]:
    """The command that becomes `program` (an absolute path) with these arguments and ends with this process."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), program, *arguments]


async def start_tied(
    program: str,
    arguments: Sequence[str],
    log: IO[bytes],
    *,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    line_bytes_max: int = _LINE_BYTES_MAX,
) -> asyncio.subprocess.Process:
    """Start the command of `tied_command`. Raises OSError.

    `log` gets its stderr, and its stdout where `stdout` says nothing else. It is in its own session: Ctrl-C in a
    terminal reaches this process, which ends its children in order.
    """
    return await asyncio.create_subprocess_exec(
        *tied_command(program, arguments),
        stdin=stdin,
        stdout=log if stdout is None else stdout,
        stderr=log,
        cwd=cwd,
        env=env,
        limit=line_bytes_max,
        start_new_session=True,
    )


class ChildProcess:
    """A process that was started here, and how it ended."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
        """`name` is for error messages."""
        self._name = name
        self._process = process
        self.log_path = log_path
        """What the process printed, this run and earlier ones."""

    @property
    def pid(self) -> int:
        """Process id; the launcher's, which became the program's."""
        return self._process.pid

    def describe(self) -> str:
        """The process in words, and why it ended where it did; for error messages."""
        status = self._process.returncode
        name = f"{self._name} (process {self.pid}, log {self.log_path})"
        if status is None:
            return name
        end = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"{name} {end}; last output: {self._log_tail() or 'none'};"

    def kill(self) -> None:
        """End the process now; harmless when it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and the loop has not been told yet
                self._process.kill()

    async def wait_ended(self) -> str:
        """Wait until the process has ended; how it did, in words."""
        await self._process.wait()
        return self.describe()

    async def end_within(self, seconds: float) -> None:
        """Wait for the end of a process that was asked to end, and kill it where that takes longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.wait()
        self.kill()
        await self._process.wait()

    def _log_tail(self) -> str:
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError as error:
            return f"(log unreadable: {error})"
