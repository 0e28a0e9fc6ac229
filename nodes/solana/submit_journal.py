"""What a submitter must not forget: accepted bundles, and each signed transaction before it is sent. One SQLite file.

Knows bytes and order only. Writes are collected and committed together in a thread of the journal's own: everything
that arrives while one commit is on its way to the disk goes into the next. Who needs something durable waits for it.
Why SQLite: docs/adr/0002-durable-log.md.
"""

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from nodes.model.errors import Unavailable
from nodes.model.ids import SubmissionHash
from nodes.model.solana import Signature
from nodes.node_file import check_identity, connect, lock
from nodes.rules.posting_values import Outgoing
from nodes.telemetry.crash import CrashPoint, no_crash

JOURNAL_FILE = "solana-submitter.db"
_FORMAT = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS submissions (sequence INTEGER PRIMARY KEY, hash BLOB NOT NULL, submission BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS transactions (
    number INTEGER PRIMARY KEY, signature BLOB NOT NULL UNIQUE, raw BLOB NOT NULL, last_valid_height INTEGER NOT NULL,
    payer BLOB NOT NULL, fee_lamports INTEGER NOT NULL, data_bytes INTEGER NOT NULL, part INTEGER NOT NULL,
    items BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS done (height INTEGER NOT NULL, hash BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS done_by_height ON done (height);
CREATE TABLE IF NOT EXISTS totals (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
_ITEM_BYTES = 8
_NOT_WRITTEN = "the journal of the Solana submitter cannot be written: {}"


class JournaledSubmission(NamedTuple):
    """One accepted bundle."""

    sequence: int
    hash: SubmissionHash
    submission: bytes
    """The bytes as submitted."""


class KeepSubmissions(NamedTuple):
    """Write accepted bundles."""

    entries: Sequence[JournaledSubmission]


class KeepTransactions(NamedTuple):
    """Write transactions that are about to be sent, and forget those that they stand in for."""

    transactions: Sequence[Outgoing]
    gone: Sequence[Signature]
    totals: Mapping[str, int]


class Forget(NamedTuple):
    """Bundles are final: keep their hashes for a while, and nothing else."""

    items: Sequence[int]
    hashes: Sequence[tuple[SubmissionHash, int]]
    """With the block height of each."""
    forget_height: int
    """Hashes of this height or below go too."""
    gone: Sequence[Signature]
    totals: Mapping[str, int]


Write = KeepSubmissions | KeepTransactions | Forget


class Kept(NamedTuple):
    """All that the journal holds."""

    submissions: list[JournaledSubmission]
    """In the order of acceptance."""
    transactions: list[Outgoing]
    """In the order of writing."""
    recent: list[tuple[SubmissionHash, int]]
    """Final bundles that are still known, by ascending block height."""
    totals: dict[str, int]


class _Batch:
    """Writes of one commit."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class SubmitJournal:
    """One node's journal, used from one event loop. A second process is refused."""

    def __init__(self, directory: Path, *, chain_id: bytes, crash: CrashPoint = no_crash) -> None:
        """Open or create; blocks on the disk. `chain_id` is the testnet's.

        Raises Unavailable where a process holds the file already, InvalidInput where it is of another testnet.
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / JOURNAL_FILE
        self._crash = crash
        with ExitStack() as opened:
            opened.enter_context(lock(directory / f"{JOURNAL_FILE}.lock"))
            # Autocommit: a transaction begins where `_commit` says so.
            self._writer = opened.enter_context(closing(connect(str(path), isolation_level=None)))
            self._writer.execute("PRAGMA journal_mode=WAL")
            # What was acknowledged survives a loss of power as well.
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.executescript(_SCHEMA)
            check_identity(self._writer, path, file_format=_FORMAT, chain_id=chain_id)
            self._executor = opened.enter_context(ThreadPoolExecutor(1, thread_name_prefix="solana-journal"))
            self._opened = opened.pop_all()
        self._collecting: _Batch | None = None
        self._committing: _Batch | None = None
        self._failure: BaseException | None = None

    def close(self) -> None:
        """Let go of the file, after a commit under way. What was put and not waited for is not kept."""
        self._failure = self._failure or Unavailable("it was closed")
        self._opened.close()

    def load(self) -> Kept:
        """Everything, at the start. Blocks on the disk."""
        execute = self._writer.execute
        submissions = [
            JournaledSubmission(sequence, SubmissionHash(submission_hash), data)
            for sequence, submission_hash, data in execute("SELECT * FROM submissions ORDER BY sequence")
        ]
        transactions = [
            Outgoing(
                signature=Signature(signature),
                raw=raw,
                last_valid_height=last_valid_height,
                payer=payer,
                fee_lamports=fee_lamports,
                data_bytes=data_bytes,
                part=part,
                items=_items_of(items),
            )
            for _, signature, raw, last_valid_height, payer, fee_lamports, data_bytes, part, items in execute(
                "SELECT * FROM transactions ORDER BY number"
            )
        ]
        recent = [
            (SubmissionHash(submission_hash), height)
            for height, submission_hash in execute("SELECT height, hash FROM done ORDER BY height, rowid")
        ]
        totals: dict[str, int] = dict(execute("SELECT name, value FROM totals"))
        return Kept(submissions, transactions, recent, totals)

    def put(self, write: Write) -> None:
        """Write after all that was put before. Raises Unavailable where a commit failed."""
        self._raise_failure()
        if self._collecting is None:
            self._collecting = _Batch()
            if self._committing is None:
                # Soon: what arrives in the same turn of the loop goes into the same commit.
                asyncio.get_running_loop().call_soon(self._begin)
        self._collecting.writes.append(write)

    async def wait_durable(self) -> None:
        """Return when everything put so far is durable. Raises Unavailable where it cannot be."""
        self._raise_failure()
        batch = self._collecting or self._committing
        if batch is not None:
            # Whoever waits may be cancelled, and others wait for the same.
            await asyncio.shield(batch.durable)

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise Unavailable(_NOT_WRITTEN.format(self._failure))

    def _begin(self) -> None:
        """Hand what was collected to the thread."""
        if self._committing is not None or self._collecting is None:
            return
        batch, self._collecting = self._collecting, None
        if self._failure is not None:
            self._end(batch)
            return
        self._committing = batch
        loop = asyncio.get_running_loop()
        loop.run_in_executor(self._executor, self._commit, batch.writes).add_done_callback(self._finished)

    def _finished(self, done: asyncio.Future[None]) -> None:
        """In the loop: the commit ended."""
        batch, self._committing = self._committing, None
        assert batch is not None, "one commit at a time"
        error = done.exception()
        if error is None:
            batch.durable.set_result(None)
        else:
            self._failure = error
            self._end(batch)
        self._begin()

    def _end(self, batch: _Batch) -> None:
        """Its writes are not kept."""
        batch.durable.set_exception(Unavailable(_NOT_WRITTEN.format(self._failure)))
        batch.durable.exception()  # seen: there may be nobody who waits

    def _commit(self, writes: Sequence[Write]) -> None:
        """In the thread: all writes in one transaction."""
        execute = self._writer.execute
        execute("BEGIN IMMEDIATE")
        try:
            for write in writes:
                self._apply(write)
            self._crash("solana.in_commit")
            execute("COMMIT")
        except BaseException:
            self._writer.rollback()
            raise
        self._crash("solana.after_commit")

    def _apply(self, write: Write) -> None:
        many = self._writer.executemany
        match write:
            case KeepSubmissions(entries=entries):
                many("INSERT INTO submissions VALUES (?, ?, ?)", entries)
            case KeepTransactions(transactions=transactions, gone=gone, totals=totals):
                self._forget(gone, totals)
                many(
                    "INSERT INTO transactions (signature, raw, last_valid_height, payer, fee_lamports, data_bytes, "
                    "part, items) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    [_row(transaction) for transaction in transactions],
                )
            case Forget(items=items, hashes=hashes, forget_height=forget_height, gone=gone, totals=totals):
                self._forget(gone, totals)
                many("DELETE FROM submissions WHERE sequence = ?", [(sequence,) for sequence in items])
                many("INSERT INTO done VALUES (?, ?)", [(height, one) for one, height in hashes])
                self._writer.execute("DELETE FROM done WHERE height <= ?", (forget_height,))

    def _forget(self, gone: Sequence[Signature], totals: Mapping[str, int]) -> None:
        many = self._writer.executemany
        many("DELETE FROM transactions WHERE signature = ?", [(signature,) for signature in gone])
        many("INSERT OR REPLACE INTO totals VALUES (?, ?)", totals.items())


def _row(transaction: Outgoing) -> tuple[bytes, bytes, int, bytes, int, int, int, bytes]:
    return (
        transaction.signature,
        transaction.raw,
        transaction.last_valid_height,
        transaction.payer,
        transaction.fee_lamports,
        transaction.data_bytes,
        transaction.part,
        b"".join([sequence.to_bytes(_ITEM_BYTES, "little") for sequence in transaction.items]),
    )


def _items_of(data: bytes) -> tuple[int, ...]:
    return tuple([int.from_bytes(data[at : at + _ITEM_BYTES], "little") for at in range(0, len(data), _ITEM_BYTES)])
