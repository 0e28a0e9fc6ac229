"""A rollup node's durable record of what it executed: one row per sequenced height, one per rollup block.

SQLite in WAL mode with synchronous=OFF: a killed process loses nothing, since what it wrote is in the system's page
cache. A crash of the whole machine may lose the file, and then the node rebuilds it from the sequencer, which is
durable; an fsync per block would buy nothing and cost a millisecond.

All calls are short and run on the event loop's thread. Hashes of pruned blocks stay, so that what was known once is
told from what never was.
"""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nodes.model.errors import InvalidInput
from nodes.model.ids import HeaderHash, Height
from nodes.model.sequenced_block import BlockRef, Commitment
from nodes.rollup.key_table import entry_count, heights_in_segment
from nodes.rollup.records import HeightRecord, IndexedBlock

_FORMAT = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS heights (
    height INTEGER PRIMARY KEY, header_hash BLOB NOT NULL, time_ns INTEGER NOT NULL,
    number INTEGER NOT NULL, hash BLOB NOT NULL, left_out BLOB NOT NULL, level INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS blocks (
    number INTEGER PRIMARY KEY, height INTEGER NOT NULL, hash BLOB NOT NULL, parent_hash BLOB NOT NULL,
    state_root BLOB NOT NULL, timestamp_s INTEGER NOT NULL, gas_used INTEGER NOT NULL,
    receipts_root BLOB NOT NULL, logs_bloom BLOB NOT NULL,
    transactions INTEGER NOT NULL, tx_hashes BLOB, statuses BLOB, payloads BLOB, payload_ends BLOB,
    logs BLOB, receipts BLOB);
CREATE INDEX IF NOT EXISTS blocks_by_hash ON blocks (hash);
CREATE INDEX IF NOT EXISTS blocks_by_height ON blocks (height);
CREATE TABLE IF NOT EXISTS segments (
    id INTEGER PRIMARY KEY, lowest INTEGER NOT NULL, highest INTEGER NOT NULL, keys BLOB NOT NULL);
"""
_BLOCK_COLUMNS = (
    "number, height, hash, parent_hash, state_root, timestamp_s, gas_used, receipts_root, logs_bloom, "
    "tx_hashes, statuses, payloads, payload_ends"
)


class HeightRow(NamedTuple):
    """One executed height as the journal keeps it for good."""

    height: Height
    header_hash: HeaderHash
    time_ns: int
    number: int
    hash: bytes

    @property
    def ref(self) -> BlockRef:
        """The place on the sequencer's chain."""
        return BlockRef(height=self.height, hash=self.header_hash)


class BlockSummary(NamedTuple):
    """What is kept of a block for good."""

    number: int
    hash: bytes
    state_root: bytes
    timestamp_s: int


class BlockHeader(NamedTuple):
    """What a search over many blocks reads of each."""

    number: int
    hash: bytes
    logs_bloom: bytes


class Journal:
    """The database of one node. Not for use from several threads."""

    def __init__(self, path: Path, *, identity: bytes) -> None:
        """Open or create. `identity` names the chain; raises InvalidInput where the file belongs to another one."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-1024;")
        self._db.executescript(_SCHEMA)
        kept = self._db.execute("SELECT value FROM identity").fetchone()
        if kept is None:
            self._db.execute("INSERT INTO identity VALUES (?)", (identity,))
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        elif kept[0] != identity:
            self._db.close()
            raise InvalidInput(f"{path} is of another rollup, testnet or genesis; give the node a directory of its own")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if found != _FORMAT:
            self._db.close()
            raise InvalidInput(
                f"{path} has format {found}; this build reads {_FORMAT}: delete the node's directory, it is made again"
            )

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._db.close()

    def append(self, record: HeightRecord, segment: tuple[int, int, bytes] | None) -> None:
        """One height, its block where it has one, and a segment of keys where one became full: all or nothing."""
        self._db.execute("BEGIN")
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO heights VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    record.height,
                    record.header_hash,
                    record.time_ns,
                    record.number,
                    record.hash,
                    record.left_out,
                    record.level,
                ),
            )
            if record.block is not None:
                self._insert_block(record.block)
            if segment is not None:
                self.put_segment(segment)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def _insert_block(self, block: IndexedBlock) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (block.number, block.height, block.hash, block.parent_hash, block.state_root, block.timestamp_s,
             block.gas_used, block.receipts_root, block.logs_bloom, len(block), block.tx_hashes, block.statuses,
             block.payloads, block.payload_ends),
        )  # fmt: skip

    def insert_genesis(self, block: IndexedBlock) -> None:
        """Block 0, which no height made."""
        self._insert_block(block)

    def truncate(self, height: int) -> None:
        """Forget everything above a height."""
        self._db.execute("BEGIN")
        self._db.execute("DELETE FROM heights WHERE height > ?", (height,))
        self._db.execute("DELETE FROM blocks WHERE height > ?", (height,))
        # What stands in a segment above this height is stale; its heights are read again at the next start.
        self._db.execute("DELETE FROM segments WHERE lowest > ?", (height,))
        self._db.execute("UPDATE segments SET highest = ? WHERE highest > ?", (height, height))
        self._db.execute("COMMIT")

    def prune_blocks(self, *, below_number: int) -> None:
        """Drop the contents of blocks below a number; their hashes stay."""
        self._db.execute(
            "UPDATE blocks SET tx_hashes = NULL, statuses = NULL, payloads = NULL, payload_ends = NULL, logs = NULL, "
            "receipts = NULL, logs_bloom = x'' WHERE number > 0 AND number < ? AND payloads IS NOT NULL",
            (below_number,),
        )

    def prune_heights(self, *, below: int, below_where_empty: int) -> None:
        """Drop heights below one, and below another those that left nothing out."""
        self._db.execute(
            "DELETE FROM heights WHERE height < ? OR (height < ? AND left_out = x'')", (below, below_where_empty)
        )

    # Heights.

    def last(self) -> HeightRow | None:
        """The newest height."""
        return self._height_row("ORDER BY height DESC LIMIT 1", ())

    def last_at_level(self, level: Commitment) -> HeightRow | None:
        """The newest height that was promised at least so firmly when it was executed."""
        return self._height_row("WHERE level >= ? ORDER BY height DESC LIMIT 1", (level,))

    def at(self, height: int) -> HeightRow | None:
        """One height."""
        return self._height_row("WHERE height = ?", (height,))

    def _height_row(self, where: str, values: tuple[int, ...]) -> HeightRow | None:
        query = f"SELECT height, header_hash, time_ns, number, hash FROM heights {where}"  # noqa: S608 - ours
        row = self._db.execute(query, values).fetchone()
        return None if row is None else HeightRow(*row)

    def rows_above(self, height: int) -> Iterator[HeightRow]:
        """Every height above one, ascending."""
        query = "SELECT height, header_hash, time_ns, number, hash FROM heights WHERE height > ? ORDER BY height"
        for row in self._db.execute(query, (height,)):
            yield HeightRow(*row)

    def left_out(self, height: int) -> bytes:
        """The skipped and dropped payloads of a height, packed; empty where it had none."""
        row = self._db.execute("SELECT left_out FROM heights WHERE height = ?", (height,)).fetchone()
        return b"" if row is None else bytes(row[0])

    # Blocks.

    def block(self, number: int) -> IndexedBlock | None:
        """A block by number; None above the head and for one that was pruned."""
        return self._block("number = ?", number)

    def block_at_height(self, height: int) -> IndexedBlock | None:
        """The block that a height made; None where it made none, or one that was pruned."""
        return self._block("height = ?", height)

    def _block(self, where: str, value: int) -> IndexedBlock | None:
        query = f"SELECT {_BLOCK_COLUMNS} FROM blocks WHERE {where} AND payloads IS NOT NULL"  # noqa: S608 - ours
        row = self._db.execute(query, (value,)).fetchone()
        if row is None:
            return None
        names = ("number", "height", "hash", "parent_hash", "state_root", "timestamp_s", "gas_used",
                 "receipts_root", "logs_bloom", "tx_hashes", "statuses", "payloads", "payload_ends")  # fmt: skip
        return IndexedBlock(**dict(zip(names, row, strict=True)))

    def summary(self, number: int) -> BlockSummary | None:
        """What is kept of every block, pruned ones included."""
        query = "SELECT number, hash, state_root, timestamp_s FROM blocks WHERE number = ?"
        row = self._db.execute(query, (number,)).fetchone()
        return None if row is None else BlockSummary(*row)

    def number_of_hash(self, block_hash: bytes) -> int | None:
        """The number of a block by hash, also of a pruned one."""
        row = self._db.execute("SELECT number FROM blocks WHERE hash = ?", (block_hash,)).fetchone()
        return None if row is None else int(row[0])

    def number_at_height(self, height: int) -> int | None:
        """The number of the block that a height made, also of a pruned one."""
        row = self._db.execute("SELECT number FROM blocks WHERE height = ?", (height,)).fetchone()
        return None if row is None else int(row[0])

    def headers(self, first: int, last: int) -> Iterator[BlockHeader]:
        """Number, hash and bloom of blocks first to last (inclusive), ascending."""
        query = "SELECT number, hash, logs_bloom FROM blocks WHERE number BETWEEN ? AND ? ORDER BY number"
        for row in self._db.execute(query, (first, last)):
            yield BlockHeader(*row)

    def transactions_total(self) -> int:
        """Executed transactions of all blocks, pruned ones included."""
        return int(self._db.execute("SELECT COALESCE(SUM(transactions), 0) FROM blocks").fetchone()[0])

    def transactions_above(self, height: int) -> int:
        """Executed transactions of the blocks above a height."""
        query = "SELECT COALESCE(SUM(transactions), 0) FROM blocks WHERE height > ?"
        return int(self._db.execute(query, (height,)).fetchone()[0])

    # What only the engine knows, kept before it forgets.

    def logs(self, number: int) -> bytes | None:
        """The logs of a block as they were stored; None where they never were."""
        row = self._db.execute("SELECT logs FROM blocks WHERE number = ?", (number,)).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def put_logs(self, number: int, block_hash: bytes, logs: bytes) -> None:
        """Keep the logs of one block, if it is still that block."""
        self._db.execute("UPDATE blocks SET logs = ? WHERE number = ? AND hash = ?", (logs, number, block_hash))

    def receipts(self, number: int) -> bytes | None:
        """Receipts of a block as they were stored; None where none were."""
        row = self._db.execute("SELECT receipts FROM blocks WHERE number = ?", (number,)).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def put_receipts(self, number: int, block_hash: bytes, receipts: bytes) -> None:
        """Keep receipts of one block, if it is still that block."""
        self._db.execute("UPDATE blocks SET receipts = ? WHERE number = ? AND hash = ?", (receipts, number, block_hash))

    # Keys.

    def put_segment(self, segment: tuple[int, int, bytes]) -> None:
        """Keep (lowest height, highest height, entries)."""
        self._db.execute("INSERT INTO segments (lowest, highest, keys) VALUES (?, ?, ?)", segment)

    def highest_segment_height(self) -> int:
        """Height up to which keys are in segments; 0 where there is none."""
        return int(self._db.execute("SELECT COALESCE(MAX(highest), 0) FROM segments").fetchone()[0])

    def heights_of_key(self, key: bytes) -> list[int]:
        """Heights that segments name for a key; hints, see `key_table`."""
        found: list[int] = []
        for segment_id, size in self._db.execute("SELECT id, length(keys) FROM segments").fetchall():
            found += self._heights_in(segment_id, size, key)
        return found

    def _heights_in(self, segment_id: int, size_bytes: int, key: bytes) -> list[int]:
        with self._db.blobopen("segments", "keys", segment_id, readonly=True) as blob:

            def read(part: slice) -> bytes:
                blob.seek(part.start)
                return blob.read(part.stop - part.start)

            return heights_in_segment(key, entry_count(size_bytes), read)
