"""One anvil process: its command line, its life, and how it tells why it ended. Knows nothing of blocks.

The process dies with its parent, however that ends (`nodes.child_process`). On Linux it gets half of the machine's
memory at most: anvil keeps the input of every call of a transaction, and gas hardly bounds how much that is. So a
transaction that asks for more ends one engine, and not whatever the kernel would choose.
"""

import asyncio
import logging
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nodes.child_process import ChildProcess, start_tied
from nodes.evm.ipc import IpcConnection
from nodes.model.errors import EngineFailure

START_DEADLINE_S = 60.0
"""It takes 25 ms when the machine is idle; 64 at once on two busy cores take longer."""
_POLL_S = 0.002
_LOG_FILE = "anvil.log"
_SOCKET = "anvil.ipc"
_CACHE = "anvil-cache"
_LONGEST_SOCKET_PATH = 100
"""Unix socket paths end at 104 (macOS) or 108 bytes (Linux)."""
_MEMORY_SHARE = 0.5

_log = logging.getLogger(__name__)


class AnvilProcess(ChildProcess):
    """A running anvil. Get it from `spawn`."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path) -> None:
        super().__init__("anvil", process, directory / _LOG_FILE)
        self._directory = directory

    @classmethod
    async def spawn(cls, binary: Path, arguments: Sequence[str], directory: Path) -> "AnvilProcess":
        """Start `binary` with `directory` as its working directory and its place for socket and log.

        Raises EngineFailure where the binary cannot be started. Usable once `connect` returns.
        """
        directory = _prepared(directory)
        with (directory / _LOG_FILE).open("ab") as log:
            try:
                process = await start_tied(
                    str(binary),
                    # The socket is relative to its working directory, so never too long.
                    ["--ipc", _SOCKET, "--cache-path", _CACHE, *arguments],
                    log,
                    cwd=directory,
                    env={name: value for name, value in os.environ.items() if name not in _UNWANTED},
                )
            except OSError as error:
                raise EngineFailure(f"anvil ({binary}) cannot be started: {error}") from error
        _bound_memory(process.pid)
        return cls(process, directory)

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

    async def stop(self) -> None:
        """End the process and remove its socket and cache. Its state is in memory only, so nothing is saved."""
        self.kill()
        await self._process.wait()
        _clear(self._directory)


def _bound_memory(pid: int) -> None:
    if sys.platform != "linux":
        return
    limit = int(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") * _MEMORY_SHARE)
    try:
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))
    except ProcessLookupError:
        pass  # it ended; whoever connects is told
    except OSError as error:
        # Some sandboxes forbid it. The engine works as well without.
        _log.warning("the memory of anvil (process %d) is not bounded: %s", pid, error)


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
