"""The durable log of a sequencer: accepted submissions that are in no block yet, and every block, in one SQLite file.

Knows bytes and order only; what a block or a submission holds is its caller's. Calls block on the disk, so the
caller runs them in a thread: writes from one thread, reads from another (write-ahead logging lets them overlap).
Why SQLite: docs/adr/0002-durable-log.md.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from nodes.model.errors import Pruned
from nodes.model.ids import HASH_BYTES, HeaderHash, Height, SubmissionHash
from nodes.model.sequenced_block import BlockRef
from nodes.node_file import check_identity, connect, lock
from nodes.telemetry.crash import CrashPoint, no_crash

LOG_FILE = "sequencer.db"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS journal (sequence INTEGER PRIMARY KEY, hash BLOB NOT NULL, submission BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    height INTEGER PRIMARY KEY, hash BLOB NOT NULL, block BLOB NOT NULL, submission_hashes BLOB NOT NULL
);
"""


class JournalEntry(NamedTuple):
    """One accepted submission that is in no block yet."""

    sequence: int
    hash: SubmissionHash
    submission: bytes
    """The bytes as submitted."""


class LoggedBlock(NamedTuple):
    """One block as the log keeps it."""

    ref: BlockRef
    block: bytes
    """A stored block, serialized."""
    submission_hashes: tuple[SubmissionHash, ...]


class AppendBlock(NamedTuple):
    """Write a block and forget the submissions it holds."""

    block: LoggedBlock
    last_sequence: int
    """Journal entries up to this one are in the block or before it; 0 where it holds none."""


class KeepSubmissions(NamedTuple):
    """Write accepted submissions."""

    entries: Sequence[JournalEntry]


class TruncateBlocks(NamedTuple):
    """Forget the blocks above a height and keep their submissions again."""

    height: Height
    returned: Sequence[JournalEntry]


Write = AppendBlock | KeepSubmissions | TruncateBlocks


class BlockLog:
    """One node's log. Opened once per process; a second process is refused."""

    def __init__(self, directory: Path, *, chain_id: bytes, crash: CrashPoint = no_crash) -> None:
        """Open or create. Raises Unavailable where a process holds it already, InvalidInput for another chain's log."""
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / LOG_FILE
        self._crash = crash
        with ExitStack() as opened:
            opened.enter_context(lock(directory / f"{LOG_FILE}.lock"))
            # Autocommit: a transaction begins where `commit` says so.
            self._writer = opened.enter_context(closing(connect(str(self._path), isolation_level=None)))
            # FULL syncs the write-ahead log at each commit: what was acknowledged survives a loss of power as well.
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.executescript(_SCHEMA)
            check_identity(self._writer, self._path, file_format=_FORMAT, chain_id=chain_id)
            self._reader = opened.enter_context(closing(connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let go of the file. No other call may be running."""
        self._opened.close()

    def commit(self, writes: Sequence[Write]) -> None:
        """Apply all writes in order in one transaction; durable when it returns."""
        execute = self._writer.execute
        execute("BEGIN IMMEDIATE")
        for write in writes:
            match write:
                case KeepSubmissions(entries=entries):
                    self._keep(entries)
                case AppendBlock(block=block, last_sequence=last_sequence):
                    if last_sequence:
                        execute("DELETE FROM journal WHERE sequence <= ?", (last_sequence,))
                    hashes = b"".join(block.submission_hashes)
                    execute(
                        "INSERT INTO blocks VALUES (?, ?, ?, ?)",
                        (block.ref.height, block.ref.hash, block.block, hashes),
                    )
                case TruncateBlocks(height=height, returned=returned):
                    execute("DELETE FROM blocks WHERE height > ?", (height,))
                    self._keep(returned)
        self._crash("sequencer.in_commit")
        execute("COMMIT")

    def journal(self) -> Iterator[JournalEntry]:
        """Accepted submissions in no block, in their order."""
        for sequence, submission_hash, data in self._writer.execute("SELECT * FROM journal ORDER BY sequence"):
            yield JournalEntry(sequence, SubmissionHash(submission_hash), data)

    def submission_hashes(self, above: int) -> Iterator[tuple[Height, tuple[SubmissionHash, ...]]]:
        """The submissions of the blocks above a height, ascending."""
        rows = self._writer.execute(
            "SELECT height, submission_hashes FROM blocks WHERE height > ? ORDER BY height", (above,)
        )
        for height, hashes in rows:
            yield Height(height), _hashes_of(hashes)

    def last_blocks(self, count: int) -> list[LoggedBlock]:
        """Up to `count` blocks below and including the head, ascending; empty for a new chain."""
        rows = self._reader.execute("SELECT * FROM blocks ORDER BY height DESC LIMIT ?", (count,)).fetchall()
        return [_logged(row) for row in reversed(rows)]

    def block_bytes(self, height: int) -> bytes:
        """One stored block, serialized. Raises Pruned where the log does not hold it."""
        row = self._reader.execute("SELECT block FROM blocks WHERE height = ?", (height,)).fetchone()
        if row is None:
            raise Pruned(f"the log {self._path.name} holds no block of sequenced height {height}")
        return bytes(row[0])

    def hashes_of(self, heights: Sequence[int]) -> dict[int, HeaderHash]:
        """Hashes of the blocks that the log holds at these heights."""
        marks = ",".join("?" * len(heights))
        rows = self._reader.execute(f"SELECT height, hash FROM blocks WHERE height IN ({marks})", heights)  # noqa: S608
        return {height: HeaderHash(block_hash) for height, block_hash in rows}

    def _keep(self, entries: Sequence[JournalEntry]) -> None:
        self._writer.executemany("INSERT INTO journal VALUES (?, ?, ?)", entries)


def _logged(row: tuple[int, bytes, bytes, bytes]) -> LoggedBlock:
    height, block_hash, block, hashes = row
    return LoggedBlock(BlockRef(height=Height(height), hash=HeaderHash(block_hash)), block, _hashes_of(hashes))


def _hashes_of(data: bytes) -> tuple[SubmissionHash, ...]:
    return tuple([SubmissionHash(data[at : at + HASH_BYTES]) for at in range(0, len(data), HASH_BYTES)])
