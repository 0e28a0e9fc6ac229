"""One anvil process: its command line, its life, and how it tells why it ended. Knows nothing of blocks.

The process dies with its parent, however that ends (`nodes.child_process`).
"""

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nodes.child_process import tied_command
from nodes.evm.ipc import IpcConnection
from nodes.model.errors import EngineFailure

START_DEADLINE_S = 20.0
"""It takes 25 ms when the machine is idle; 64 at once on two busy cores take longer."""
_POLL_S = 0.002
_LOG_TAIL_BYTES = 2_000
_SOCKET = "anvil.ipc"
_CACHE = "anvil-cache"
_LONGEST_SOCKET_PATH = 100
"""Unix socket paths end at 104 (macOS) or 108 bytes (Linux)."""


class AnvilProcess:
    """A running anvil. Get it from `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.log_path = directory / "anvil.log"
        """Everything the process printed, this run and earlier ones."""

    @classmethod
    async def spawn(cls, binary: Path, arguments: Sequence[str], directory: Path) -> "AnvilProcess":
        """Start `binary` with `directory` as its working directory and its place for socket and log.

        Raises EngineFailure where the binary cannot be started. Usable once `connect` returns.
        """
        directory = _prepared(directory)
        # Its own session: Ctrl-C in a terminal reaches the node, which ends its engine in order.
        with (directory / "anvil.log").open("ab") as log:
            try:
                process = await asyncio.create_subprocess_exec(
                    # The socket is relative to its working directory, so never too long.
                    *tied_command(str(binary), ["--ipc", _SOCKET, "--cache-path", _CACHE, *arguments]),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    cwd=directory,
                    env={name: value for name, value in os.environ.items() if name not in _UNWANTED},
                    start_new_session=True,
                )
            except OSError as error:
                raise EngineFailure(f"anvil ({binary}) cannot be started: {error}") from error
        return cls(process, directory)

    @property
    def pid(self) -> int:
        """Process id; the launcher's, which became anvil's."""
        return self._process.pid

    async def connect(self, count: int) -> list[IpcConnection]:
        """`count` connections, as soon as the process listens. Raises EngineFailure when it ends or takes too long."""
        path = self._directory / _SOCKET
        connections: list[IpcConnection] = []
        try:
            async with asyncio.timeout(START_DEADLINE_S):
                if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
                    return await self._connect(path, connections, count)
                # A short link to the directory; it is not needed once the connections stand.
                with tempfile.TemporaryDirectory(prefix="lockstep-") as folder:
                    link = Path(folder) / "d"
                    link.symlink_to(self._directory)
                    return await self._connect(link / _SOCKET, connections, count)
        except BaseException as error:
            for connection in connections:
                connection.close()
            if isinstance(error, TimeoutError):
                raise EngineFailure(f"{self.describe()} did not open {path} within {START_DEADLINE_S:g} s") from None
            raise

    async def _connect(self, path: Path, connections: list[IpcConnection], count: int) -> list[IpcConnection]:
        while len(connections) < count:
            try:
                connections.append(await IpcConnection.connect(path, peer=self.describe))
            except OSError:
                # Waiting for the process to end is also the pause between two attempts.
                try:
                    async with asyncio.timeout(_POLL_S):
                        await self._process.wait()
                except TimeoutError:
                    continue
                raise EngineFailure(self.describe()) from None
        return connections

    def describe(self) -> str:
        """The process in words, and why it ended where it did; for error messages."""
        status = self._process.returncode
        if status is None:
            return f"anvil (process {self.pid}, log {self.log_path})"
        end = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return f"anvil (process {self.pid}, log {self.log_path}) {end}; last output: {self._log_tail() or 'none'};"

    def _log_tail(self) -> str:
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except OSError as error:
            return f"(log unreadable: {error})"

    def kill(self) -> None:
        """End the process now; harmless when it has ended."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it ended, and the loop has not been told yet
                self._process.kill()

    async def wait_ended(self) -> str:
        """Wait until the process has ended; how it did, in words."""
        await self._process.wait()
        return self.describe()

    async def stop(self) -> None:
        """End the process and remove its socket and cache. Its state is in memory only, so nothing is saved."""
        self.kill()
        await self._process.wait()
        _clear(self._directory)


def _prepared(directory: Path) -> Path:
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    _clear(directory)  # of a run that was killed
    return directory


def _clear(directory: Path) -> None:
    (directory / _SOCKET).unlink(missing_ok=True)
    shutil.rmtree(directory / _CACHE, ignore_errors=True)


_UNWANTED = frozenset({"RUST_LOG", "RUST_BACKTRACE", "ANVIL_IP_ADDR"})
"""A user's settings for another anvil or for Rust programs at large: they would flood the log or move the listener."""
