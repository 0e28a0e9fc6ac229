"""What a builder promised, durable before the bundle is handed on, and never more than the bond that is free.

SQLite with synchronous=FULL: a promise that was shown must not be forgotten, since its amount would then be promised
twice. One thread. It does not know L1; `nodes.agglayer.builder_bond` tells it the bond, and what became of bundles.
"""

import sqlite3
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Address, BundleHash
from nodes.model.promises import BINDING, PromiseState, SignedPromise

_SCHEMA = """
CREATE TABLE IF NOT EXISTS promises (
    bundle_hash BLOB PRIMARY KEY, builder BLOB NOT NULL, user BLOB NOT NULL, amount BLOB NOT NULL,
    expiry_block INTEGER NOT NULL, placements BLOB NOT NULL, signature BLOB NOT NULL, state TEXT NOT NULL,
    made_ns INTEGER NOT NULL, closed_ns INTEGER);
CREATE INDEX IF NOT EXISTS promises_by_state ON promises (state);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
_PLACEMENT = struct.Struct(">IB")
_WORD_BYTES = 32
_COLUMNS = "builder, bundle_hash, user, amount, expiry_block, placements, signature, state, made_ns"


class KeptPromise(NamedTuple):
    """A promise with its state."""

    promise: SignedPromise
    state: PromiseState
    made_ns: int
    """Wall time."""


class PromiseStore:
    """The database of one builder. May be opened in one thread and used in another, by one at a time."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA cache_size=-1024;")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._db.close()

    def add(self, promises: Sequence[SignedPromise], *, made_ns: int) -> None:
        """Durable when it returns. A void promise of the same bundle is replaced; another one must not exist."""
        with self._transaction():
            for promise in promises:
                self._db.execute(
                    "DELETE FROM promises WHERE bundle_hash = ? AND state = ?",
                    (promise.bundle_hash, PromiseState.VOID.value),
                )
                placements = b"".join([_PLACEMENT.pack(*placement) for placement in promise.placements])
                amount = promise.amount_wei.to_bytes(_WORD_BYTES, "big")
                self._db.execute(
                    f"INSERT INTO promises ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - own names
                    (
                        *(promise.builder, promise.bundle_hash, promise.user, amount, promise.expiry_block),
                        *(placements, promise.signature, PromiseState.MADE.value, made_ns),
                    ),
                )

    def move(self, bundles: Iterable[tuple[BundleHash, PromiseState]], *, now_ns: int) -> None:
        """New states of promises."""
        with self._transaction():
            for bundle_hash, state in bundles:
                self._db.execute(
                    "UPDATE promises SET state = ?, closed_ns = ? WHERE bundle_hash = ?",
                    (state.value, None if state in BINDING else now_ns, bundle_hash),
                )

    def find(self, bundle_hash: bytes) -> KeptPromise | None:
        """The promise of a bundle, whatever its state."""
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM promises WHERE bundle_hash = ?",  # noqa: S608 - own names
            (bundle_hash,),
        ).fetchone()
        return None if row is None else _kept(row)

    def with_promise(self, bundle_hashes: Iterable[BundleHash]) -> set[BundleHash]:
        """Those of these bundles that were promised something already, and not in vain."""
        return {
            bundle_hash
            for bundle_hash in bundle_hashes
            if (kept := self.find(bundle_hash)) is not None and kept.state is not PromiseState.VOID
        }

    def open(self) -> list[KeptPromise]:
        """Promises that bind bond, oldest first."""
        states = [state.value for state in BINDING]
        marks = ", ".join("?" * len(states))
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM promises WHERE state IN ({marks}) ORDER BY made_ns",  # noqa: S608 - own names
            states,
        )
        return [_kept(row) for row in rows]

    def counts(self) -> Counter[PromiseState]:
        """Promises by state."""
        rows = self._db.execute("SELECT state, COUNT(*) FROM promises GROUP BY state")
        return Counter({PromiseState(state): count for state, count in rows})

    def kept_ns(self) -> int:
        """Sum of the times for which kept promises were open."""
        query = "SELECT COALESCE(SUM(closed_ns - made_ns), 0) FROM promises WHERE state = ?"
        total: int = self._db.execute(query, (PromiseState.KEPT.value,)).fetchone()[0]
        return total

    def get_meta(self, key: str) -> bytes | None:
        """A value that was kept."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def put_meta(self, key: str, value: bytes) -> None:
        """Keep a value."""
        self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def _kept(row: tuple[bytes, bytes, bytes, bytes, int, bytes, bytes, str, int]) -> KeptPromise:
    builder, bundle_hash, user, amount, expiry_block, placements, signature, state, made_ns = row
    promise = SignedPromise(
        builder=Address(builder),
        bundle_hash=BundleHash(bundle_hash),
        user=Address(user),
        amount_wei=int.from_bytes(amount, "big"),
        expiry_block=expiry_block,
        placements=tuple((NetworkId(network), leg) for network, leg in _PLACEMENT.iter_unpack(placements)),
        signature=signature,
    )
    return KeptPromise(promise, PromiseState(state), made_ns)
