"""One SQLite file of one node: opened by one process only, and known to be of this testnet.

What stands in the file is its owner's matter (`nodes.sequencer.block_log`, `nodes.agglayer.resolver_store`).
"""

import asyncio
import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from nodes.model.errors import InvalidInput, Unavailable

_BUSY_TIMEOUT_S = 5.0
_Answer = TypeVar("_Answer")


class _Closable(Protocol):
    def close(self) -> None: ...


_File = TypeVar("_File", bound=_Closable)


async def to_end(work: Callable[[], _Answer]) -> _Answer:
    """What `work` returns, from a thread. A cancellation takes effect once it has ended; then its files can be closed.

    A thread goes on where the task that wanted it is cancelled. Raises what `work` raises.
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


async def opened_in_thread(opening: Callable[[], _File], stack: AsyncExitStack) -> _File:
    """A file that takes time to open. `stack` closes it, also where a cancellation came while it was opened."""

    def kept() -> _File:
        file = opening()
        stack.callback(file.close)
        return file

    return await to_end(kept)


def connect(database: str, **options: Any) -> sqlite3.Connection:
    """A connection for whichever thread holds it at the time."""
    # No thread check: the two executors of one thread each that use the connections keep them apart.
    connection: sqlite3.Connection = sqlite3.connect(
        database, check_same_thread=False, timeout=_BUSY_TIMEOUT_S, **options
    )
    return connection


def lock(path: Path) -> IO[bytes]:
    """The open file that holds the lock. The kernel frees it when the process ends, however it ends.

    Raises Unavailable where another process holds it.
    """
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Unavailable(
            f"{path.parent} is in use by another process; end it, or give this node another directory"
        ) from None
    os.set_inheritable(file.fileno(), False)
    return file


def check_identity(writer: sqlite3.Connection, path: Path, *, file_format: int, chain_id: bytes) -> None:
    """Write format and chain into the table `meta` of a new file. Raises InvalidInput where it has others."""
    wanted = {"format": str(file_format).encode(), "chain_id": chain_id}
    writer.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", wanted.items())
    found = dict(writer.execute("SELECT key, value FROM meta"))
    for key, value in wanted.items():
        if found[key] != value:
            raise InvalidInput(
                f"{path} was written with {key} {found[key].hex()}, this node has {value.hex()}; "
                "give the node a directory of its own, or delete the old one"
            )
