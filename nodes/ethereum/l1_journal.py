"""The blocks of an L1 node on disk, as far as they are needed to build them again: transactions, time and base fee.

Knows no engine. Calls block on the disk for well under a millisecond; they are made from the node's loop.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from nodes.model.errors import InvalidInput, Unavailable

JOURNAL_FILE = "l1.db"
_FORMAT = 1
_LENGTH_BYTES = 4
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, hash BLOB NOT NULL, timestamp_s INTEGER NOT NULL, base_fee_wei INTEGER NOT NULL,
    transactions BLOB NOT NULL
);
"""


class JournalBlock(NamedTuple):
    """One block above genesis."""

    number: int
    hash: bytes
    timestamp_s: int
    base_fee_wei: int
    transactions: tuple[bytes, ...]
    """Signed bytes, in the order of the block."""


class L1Journal:
    """The journal of one L1. One process has it open."""

    def __init__(self, directory: Path, *, genesis_digest: bytes) -> None:
        """Open or create. Raises Unavailable where another process has it, InvalidInput for another genesis."""
        self._path = directory / JOURNAL_FILE
        self._connection = sqlite3.connect(self._path, timeout=0.5, isolation_level=None)
        try:
            self._connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._connection.execute("PRAGMA journal_mode=WAL")
            # NORMAL survives a kill of the process; a loss of power may take the last blocks, which is a reorg.
            self._connection.execute("PRAGMA synchronous=NORMAL")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (b"%d" % _FORMAT,))
            self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('genesis', ?)", (genesis_digest,))
            found = dict(self._connection.execute("SELECT key, value FROM meta"))
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise Unavailable(f"{self._path} cannot be opened ({error}); does another process run this L1?") from error
        if found != {"format": b"%d" % _FORMAT, "genesis": genesis_digest}:
            self._connection.close()
            raise InvalidInput(
                f"{self._path} is the journal of an L1 with another genesis or format; use another directory"
            )

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def head(self) -> int:
        """Number of the newest block; 0 = genesis alone."""
        row = self._connection.execute("SELECT COALESCE(MAX(number), 0) FROM blocks").fetchone()
        return int(row[0])

    def hash_of(self, number: int) -> bytes | None:
        """Hash of a block; None where it is not here."""
        row = self._connection.execute("SELECT hash FROM blocks WHERE number = ?", (number,)).fetchone()
        return bytes(row[0]) if row else None

    def blocks(self, first: int = 1) -> Iterator[JournalBlock]:
        """All blocks from `first`, ascending."""
        rows = self._connection.execute(
            "SELECT number, hash, timestamp_s, base_fee_wei, transactions FROM blocks WHERE number >= ? "
            "ORDER BY number",
            (first,),
        )
        for number, block_hash, timestamp_s, base_fee_wei, transactions in rows:
            yield JournalBlock(number, block_hash, timestamp_s, base_fee_wei, _split(transactions))

    def replace_above(self, number: int, blocks: Sequence[JournalBlock]) -> None:
        """Forget all blocks above `number`, then append these; in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute("DELETE FROM blocks WHERE number > ?", (number,))
            self._connection.executemany(
                "INSERT INTO blocks VALUES (?, ?, ?, ?, ?)",
                [(b.number, b.hash, b.timestamp_s, b.base_fee_wei, _joined(b.transactions)) for b in blocks],
            )
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


def _joined(transactions: Sequence[bytes]) -> bytes:
    return b"".join([len(raw).to_bytes(_LENGTH_BYTES, "big") + raw for raw in transactions])


def _split(data: bytes) -> tuple[bytes, ...]:
    transactions, at = [], 0
    while at < len(data):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(data[at:start], "big")
        transactions.append(data[start:at])
    return tuple(transactions)
