"""What a settler must not forget: every batch, and every transaction that was signed for it, before it is sent.

One SQLite file. Knows states, not L1. Writes take a few milliseconds (they are synced) and come a few times an epoch.
"""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from nodes.ethereum.account import Fees, SignedTransaction
from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.ids import TxHash

JOURNAL_FILE = "settlement.db"
_FORMAT = b"1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS batches (
    batch_id INTEGER PRIMARY KEY, calldata BLOB NOT NULL, certificate_ids TEXT NOT NULL, new_roots TEXT NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL, tx_hash BLOB NOT NULL, l1_block INTEGER NOT NULL,
    l1_block_hash BLOB NOT NULL, gas_used INTEGER NOT NULL, is_done INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS transactions (
    hash BLOB PRIMARY KEY, batch_id INTEGER NOT NULL, nonce INTEGER NOT NULL, raw BLOB NOT NULL,
    max_fee_wei INTEGER NOT NULL, priority_fee_wei INTEGER NOT NULL, gas_limit INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS transactions_of ON transactions (batch_id);
"""
_SELECT_BATCHES = (
    "SELECT batch_id, calldata, certificate_ids, new_roots, state, reason, tx_hash, l1_block, l1_block_hash, gas_used, "
    "is_done FROM batches "
)


class BatchState(StrEnum):
    """How far a batch is."""

    QUEUED = "queued"
    """Nothing of it was signed, or what was signed cannot be included any more."""
    SENT = "sent"
    """A transaction is signed, and in no block."""
    INCLUDED = "included"
    REVERTED = "reverted"
    """On L1 where it has a transaction hash, before it was sent where not."""
    FINAL = "final"


@dataclass(slots=True, kw_only=True)
class BatchRecord:
    """One batch as the journal has it. Changed by its settler, who writes it back."""

    batch_id: int
    calldata: bytes
    certificate_ids: tuple[bytes, ...]
    new_roots: tuple[tuple[int, bytes], ...]
    """Network and its pessimistic root after the batch."""
    state: BatchState = BatchState.QUEUED
    reason: str = ""
    tx_hash: bytes = b""
    """Of the transaction in `l1_block`; it may be another account's."""
    l1_block: int = 0
    l1_block_hash: bytes = b""
    gas_used: int = 0
    is_done: bool = False
    """Nothing about it can change any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTransaction:
    """One transaction that was signed for a batch."""

    signed: SignedTransaction
    fees: Fees
    gas_limit: int


class SettlementJournal:
    """The journal of one settler. One process has it open."""

    def __init__(self, directory: Path, *, account: bytes) -> None:
        """Open or create. Raises Unavailable where another process has it, InvalidInput for another account's."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / JOURNAL_FILE
        self._connection = sqlite3.connect(path, timeout=0.5, isolation_level=None)
        try:
            execute = self._connection.execute
            execute("PRAGMA locking_mode=EXCLUSIVE")
            execute("PRAGMA journal_mode=WAL")
            # What was signed must be known after a loss of power too: it may be on its way.
            execute("PRAGMA synchronous=FULL")
            self._connection.executescript(_SCHEMA)
            execute("INSERT OR IGNORE INTO meta VALUES ('format', ?), ('account', ?)", (_FORMAT, account))
            found = dict(execute("SELECT key, value FROM meta"))
        except sqlite3.OperationalError as error:
            self._connection.close()
            raise Unavailable(f"{path} cannot be opened ({error}); does another process settle with it?") from error
        if found != {"format": _FORMAT, "account": account}:
            self._connection.close()
            raise InvalidInput(f"{path} is of another settlement account or format; use another directory")

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def batch(self, batch_id: int) -> BatchRecord | None:
        """A batch; None for an unknown one."""
        found = self._select("WHERE batch_id = ?", (batch_id,))
        return found[0] if found else None

    def open_batches(self) -> list[BatchRecord]:
        """All batches about which something can still change, in order."""
        return self._select("WHERE NOT is_done ORDER BY batch_id", ())

    def _select(self, where: str, arguments: Sequence[object]) -> list[BatchRecord]:
        rows = self._connection.execute(_SELECT_BATCHES + where, arguments)
        return [
            BatchRecord(
                batch_id=row[0],
                calldata=row[1],
                certificate_ids=tuple(bytes.fromhex(text) for text in json.loads(row[2])),
                new_roots=tuple((network, bytes.fromhex(text)) for network, text in json.loads(row[3])),
                state=BatchState(row[4]),
                reason=row[5],
                tx_hash=row[6],
                l1_block=row[7],
                l1_block_hash=row[8],
                gas_used=row[9],
                is_done=bool(row[10]),
            )
            for row in rows
        ]

    def write(self, record: BatchRecord) -> None:
        """Insert or replace one batch; durable when it returns."""
        self._connection.execute(
            "INSERT OR REPLACE INTO batches VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                record.batch_id,
                record.calldata,
                json.dumps([value.hex() for value in record.certificate_ids]),
                json.dumps([(network, root.hex()) for network, root in record.new_roots]),
                record.state,
                record.reason,
                record.tx_hash,
                record.l1_block,
                record.l1_block_hash,
                record.gas_used,
                record.is_done,
            ),
        )

    def write_sent(self, record: BatchRecord, transaction: SentTransaction) -> None:
        """Keep a batch and one more transaction of it together; durable when it returns."""
        signed, fees = transaction.signed, transaction.fees
        values = (signed.hash, record.batch_id, signed.nonce, signed.raw, fees.max_fee_wei, fees.priority_fee_wei)
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.execute(
                "INSERT OR REPLACE INTO transactions VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, transaction.gas_limit)
            )
            self.write(record)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def transactions(self, batch_id: int) -> list[SentTransaction]:
        """Transactions of a batch, by nonce, cheapest first."""
        rows = self._connection.execute(
            "SELECT hash, nonce, raw, max_fee_wei, priority_fee_wei, gas_limit FROM transactions WHERE batch_id = ? "
            "ORDER BY nonce, max_fee_wei",
            (batch_id,),
        )
        return [
            SentTransaction(
                signed=SignedTransaction(raw=raw, hash=TxHash(tx_hash), nonce=nonce),
                fees=Fees(max_fee_wei=max_fee_wei, priority_fee_wei=priority_fee_wei),
                gas_limit=gas_limit,
            )
            for tx_hash, nonce, raw, max_fee_wei, priority_fee_wei, gas_limit in rows
        ]

    def highest_fees(self, nonce: int) -> Fees | None:
        """The highest fees that were signed with a nonce; None where it was never used."""
        row = self._connection.execute(
            "SELECT MAX(max_fee_wei), MAX(priority_fee_wei) FROM transactions WHERE nonce = ?", (nonce,)
        ).fetchone()
        return None if row[0] is None else Fees(max_fee_wei=row[0], priority_fee_wei=row[1])
