"""One SQLite file of one node: opened by one process only, and known to be of this testnet.

What stands in the file is its owner's matter (`nodes.sequencer.block_log`, `nodes.agglayer.resolver_store`).
"""

import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO, Any

from nodes.model.errors import InvalidInput, Unavailable

_BUSY_TIMEOUT_S = 5.0


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
