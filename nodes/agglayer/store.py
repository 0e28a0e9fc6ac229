"""What the certificate service keeps, in one SQLite file: certificates, their status, batches, and settled state.

State trees are kept as of each network's last certificate that is final on L1, as plain items (leaves, balances,
claimed exits) from which trees over any hash are built; they move in the same transaction as the batch that becomes
final. What came later is in the certificates themselves and is applied again at the start, so that a reorg of L1
changes statuses and never a tree. Knows no rule of the life of certificates: the orchestrator says what to write.

Calls block on the disk: the orchestrator makes all of them from one thread.
"""

import fcntl
import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nodes.agglayer.batch import Batch, SettlementItem
from nodes.model.agglayer import (
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    NetworkId,
    SettledRange,
)
from nodes.model.errors import InvalidInput, Unavailable
from nodes.rules.certificate import decode_range, encode_range
from nodes.rules.exit_tree import ExitTree
from nodes.rules.network_trees import NetworkTrees
from nodes.rules.sparse_tree import BALANCE_DEPTH, NULLIFIER_DEPTH, NULLIFIER_SET, SparseTree
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.wire.certificate_messages import certificate_from_bytes, certificate_to_bytes

STORE_FILE = "certificates.db"
_FORMAT = b"1"
_BALANCE_BYTES = BALANCE_DEPTH // 8
_NULLIFIER_BYTES = NULLIFIER_DEPTH // 8
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS certificates (
    id BLOB PRIMARY KEY, network INTEGER NOT NULL, height INTEGER NOT NULL, is_current INTEGER NOT NULL,
    body BLOB NOT NULL, range BLOB NOT NULL, exits INTEGER NOT NULL, imports INTEGER NOT NULL,
    prev_root BLOB NOT NULL, new_root BLOB NOT NULL, metadata BLOB NOT NULL,
    status INTEGER NOT NULL, error TEXT NOT NULL, attempts INTEGER NOT NULL, batch INTEGER,
    leaf_count INTEGER, pessimistic_root BLOB, epoch INTEGER, position INTEGER, tx_hash BLOB NOT NULL,
    is_final INTEGER NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS current ON certificates (network, height) WHERE is_current;
CREATE INDEX IF NOT EXISTS by_batch ON certificates (batch);
CREATE TABLE IF NOT EXISTS batches (
    id INTEGER PRIMARY KEY AUTOINCREMENT, epoch INTEGER NOT NULL, proof BLOB NOT NULL, kind TEXT NOT NULL,
    state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS items (
    batch INTEGER NOT NULL, network INTEGER NOT NULL, height INTEGER NOT NULL, id BLOB NOT NULL,
    leaf_count INTEGER NOT NULL, new_root BLOB NOT NULL, pessimistic_root BLOB NOT NULL, range BLOB NOT NULL,
    statement BLOB NOT NULL, PRIMARY KEY (batch, network)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS leaves (
    network INTEGER NOT NULL, leaf_index INTEGER NOT NULL, leaf BLOB NOT NULL, PRIMARY KEY (network, leaf_index)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS balances (
    network INTEGER NOT NULL, path BLOB NOT NULL, value BLOB NOT NULL, PRIMARY KEY (network, path)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claimed (
    network INTEGER NOT NULL, path BLOB NOT NULL, PRIMARY KEY (network, path)) WITHOUT ROWID;
"""
_ROW = (
    "id, network, height, range, exits, imports, prev_root, new_root, metadata, status, error, attempts, batch, "
    "leaf_count, pessimistic_root, epoch, position, tx_hash, is_final"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCertificate:
    """A certificate without its exits."""

    header: CertificateHeader
    settled_range: SettledRange
    exits: int
    imports: int
    attempts: int = 0
    """Settlements that L1 refused although the certificate before was settled."""
    batch_id: int | None = None
    leaf_count: int | None = None
    """Leaves of the exit tree after it; known once it is proven, like the next."""
    pessimistic_root: bytes | None = None
    is_final: bool = False


class TreeItems(NamedTuple):
    """What a certificate changes in the trees of its network."""

    network_id: NetworkId
    first_leaf: int
    leaves: tuple[bytes, ...]
    balances: tuple[tuple[int, bytes], ...]
    """(path, balance in 32 bytes); zero = gone."""
    claimed: tuple[int, ...]
    """Paths."""


class KeptState(NamedTuple):
    """Trees of a network as of its last final certificate."""

    exits: ExitTree
    trees: NetworkTrees


class OpenBatch(NamedTuple):
    """A batch that is neither final nor refused."""

    batch: Batch
    epoch: int


class CertificateStore:
    """One service's file. A second process is refused."""

    def __init__(self, directory: Path, *, identity: bytes, crash: CrashPoint = no_crash) -> None:
        """Open or create. `identity` is a hash of what the file belongs to. Raises Unavailable, InvalidInput."""
        directory.mkdir(parents=True, exist_ok=True)
        self._crash = crash
        self._lock = (directory / f"{STORE_FILE}.lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise Unavailable(
                f"{directory} is in use by another process; end it, or give this node another directory"
            ) from None
        os.set_inheritable(self._lock.fileno(), False)
        # The orchestrator's one disk thread makes every call after this one.
        self._database = sqlite3.connect(directory / STORE_FILE, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_SCHEMA)
        wanted = {"format": _FORMAT, "identity": identity}
        self._database.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", wanted.items())
        found = dict(self._database.execute("SELECT key, value FROM meta"))
        if found != wanted:
            self.close()
            raise InvalidInput(
                f"{directory / STORE_FILE} belongs to another testnet; give the node a directory of its own, or delete "
                "the old one"
            )

    def close(self) -> None:
        """Let go of the file. Idempotent."""
        self._database.close()
        self._lock.close()

    # Certificates

    def put(
        self,
        certificate: Certificate,
        header: CertificateHeader,
        settled_range: SettledRange,
        body: bytes | None = None,
    ) -> None:
        """Write a new certificate; one that stood at its height stays known by its id.

        `body` is the certificate's message where it is at hand: making it takes as long as everything else here.
        """
        compressed = zlib.compress(certificate_to_bytes(certificate) if body is None else body, 1)
        with self._transaction() as execute:
            execute(
                "UPDATE certificates SET is_current = 0 WHERE network = ? AND height = ? AND is_current",
                (header.network_id, header.height),
            )
            execute(
                "INSERT OR REPLACE INTO certificates VALUES "
                "(?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, '', 0, NULL, NULL, NULL, NULL, NULL, x'', 0)",
                (
                    header.certificate_id,
                    header.network_id,
                    header.height,
                    compressed,
                    encode_range(settled_range),
                    len(certificate.bridge_exits),
                    len(certificate.imported_bridge_exits),
                    header.prev_local_exit_root,
                    header.new_local_exit_root,
                    header.metadata,
                    int(header.status),
                ),
            )

    def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        """The certificate that stands at a height."""
        row = self._database.execute(
            "SELECT body FROM certificates WHERE network = ? AND height = ? AND is_current", (network_id, height)
        ).fetchone()
        return None if row is None else certificate_from_bytes(zlib.decompress(row[0]))

    def by_id(self, certificate_id: CertificateId) -> StoredCertificate | None:
        """Any certificate that was ever taken."""
        row = self._database.execute(f"SELECT {_ROW} FROM certificates WHERE id = ?", (certificate_id,)).fetchone()  # noqa: S608
        return None if row is None else _stored(row)

    def open_certificates(self, network_id: NetworkId) -> list[StoredCertificate]:
        """Those that stand and are not final, ascending by height."""
        rows = self._database.execute(
            f"SELECT {_ROW} FROM certificates WHERE network = ? AND is_current AND NOT is_final ORDER BY height",  # noqa: S608
            (network_id,),
        )
        return [_stored(row) for row in rows]

    def newest_final(self, network_id: NetworkId) -> StoredCertificate | None:
        """The last certificate that is final."""
        row = self._database.execute(
            f"SELECT {_ROW} FROM certificates WHERE network = ? AND is_final ORDER BY height DESC LIMIT 1",  # noqa: S608
            (network_id,),
        ).fetchone()
        return None if row is None else _stored(row)

    def final_roots(self, network_id: NetworkId, count: int) -> list[tuple[bytes, int]]:
        """(local exit root, leaf count) of the last `count` final certificates, ascending."""
        rows = self._database.execute(
            "SELECT new_root, leaf_count FROM certificates WHERE network = ? AND is_final ORDER BY height DESC LIMIT ?",
            (network_id, count),
        ).fetchall()
        return [(root, leaf_count) for root, leaf_count in reversed(rows)]

    def settled_in_epoch(self, epoch: int) -> int:
        """How many certificates were settled in an epoch."""
        (count,) = self._database.execute("SELECT count(*) FROM certificates WHERE epoch = ?", (epoch,)).fetchone()
        return int(count)

    def write(self, rows: Sequence[StoredCertificate]) -> None:
        """Bring the changing fields of certificates up to date, in one transaction."""
        with self._transaction() as execute:
            for row in rows:
                self._update(execute, row)

    # Batches

    def next_batch_id(self) -> int:
        """One that was never used."""
        row = self._database.execute("SELECT seq FROM sqlite_sequence WHERE name = 'batches'").fetchone()
        return 1 if row is None else int(row[0]) + 1

    def add_batch(self, batch: Batch, *, epoch: int, rows: Sequence[StoredCertificate]) -> None:
        """Write a proved batch and its certificates' new status."""
        with self._transaction() as execute:
            execute(
                "INSERT INTO batches VALUES (?, ?, ?, ?, 'open')",
                (batch.batch_id, epoch, batch.proof, batch.proof_kind),
            )
            for item in batch.items:
                execute(
                    "INSERT INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        batch.batch_id,
                        item.network_id,
                        item.certificate_height,
                        item.certificate_id,
                        item.l1_info_tree_leaf_count,
                        item.new_local_exit_root,
                        item.new_pessimistic_root,
                        encode_range(item.settled_range),
                        item.statement,
                    ),
                )
            for row in rows:
                self._update(execute, row)

    def refuse_batch(self, batch_id: int, rows: Sequence[StoredCertificate]) -> None:
        """L1 refused a batch: it is over, and its certificates get these statuses."""
        with self._transaction() as execute:
            execute("UPDATE batches SET state = 'refused', proof = x'' WHERE id = ?", (batch_id,))
            for row in rows:
                self._update(execute, row)

    def finish_batch(self, batch_id: int, rows: Sequence[StoredCertificate], items: Sequence[TreeItems]) -> None:
        """A batch is final: its certificates are, and the trees move, in one transaction."""
        with self._transaction() as execute:
            execute("UPDATE batches SET state = 'final', proof = x'' WHERE id = ?", (batch_id,))
            for row in rows:
                self._update(execute, row)
            for changed in items:
                self._move_trees(changed)

    def open_batches(self) -> list[OpenBatch]:
        """Ascending."""
        rows = self._database.execute("SELECT id, epoch, proof, kind FROM batches WHERE state = 'open' ORDER BY id")
        return [
            OpenBatch(Batch(batch_id=batch_id, items=self._items(batch_id), proof=proof, proof_kind=kind), epoch)
            for batch_id, epoch, proof, kind in rows.fetchall()
        ]

    # Trees

    def state(self, network_id: NetworkId) -> KeptState:
        """The trees of a network, built from their items."""
        leaves = self._database.execute("SELECT leaf FROM leaves WHERE network = ? ORDER BY leaf_index", (network_id,))
        exits = ExitTree(leaf for (leaf,) in leaves)
        frontier = exits.frontier()
        return KeptState(
            exits,
            NetworkTrees(
                leaf_count=frontier.leaf_count,
                frontier=frontier.nodes,
                balances=SparseTree(BALANCE_DEPTH).updated(self.balance_items(network_id)),
                nullifiers=SparseTree(NULLIFIER_DEPTH).updated(self.nullifier_items(network_id)),
            ),
        )

    def balance_items(self, network_id: NetworkId) -> list[tuple[int, bytes]]:
        """(path, balance) of a network, for a tree over any hash."""
        rows = self._database.execute("SELECT path, value FROM balances WHERE network = ?", (network_id,))
        return [(int.from_bytes(path, "big"), value) for path, value in rows]

    def nullifier_items(self, network_id: NetworkId) -> list[tuple[int, bytes]]:
        """(path, leaf) of every exit that a network has claimed."""
        rows = self._database.execute("SELECT path FROM claimed WHERE network = ?", (network_id,))
        return [(int.from_bytes(path, "big"), NULLIFIER_SET) for (path,) in rows]

    def _move_trees(self, changed: TreeItems) -> None:
        network_id, many = changed.network_id, self._database.executemany
        many(
            "INSERT INTO leaves VALUES (?, ?, ?)",
            [(network_id, index, leaf) for index, leaf in enumerate(changed.leaves, changed.first_leaf)],
        )
        values = [(path.to_bytes(_BALANCE_BYTES, "big"), value) for path, value in changed.balances]
        many(
            "INSERT OR REPLACE INTO balances VALUES (?, ?, ?)",
            [(network_id, path, value) for path, value in values if any(value)],
        )
        many(
            "DELETE FROM balances WHERE network = ? AND path = ?",
            [(network_id, path) for path, value in values if not any(value)],
        )
        many(
            "INSERT INTO claimed VALUES (?, ?)",
            [(network_id, path.to_bytes(_NULLIFIER_BYTES, "big")) for path in changed.claimed],
        )

    # Parts

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        execute = self._database.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield execute
        except BaseException:
            execute("ROLLBACK")
            raise
        self._crash("agglayer.in_commit")
        execute("COMMIT")

    def _update(self, execute: Any, row: StoredCertificate) -> None:
        header = row.header
        execute(
            "UPDATE certificates SET status = ?, error = ?, attempts = ?, batch = ?, leaf_count = ?, "
            "pessimistic_root = ?, epoch = ?, position = ?, tx_hash = ?, is_final = ? WHERE id = ?",
            (
                int(header.status),
                header.error,
                row.attempts,
                row.batch_id,
                row.leaf_count,
                row.pessimistic_root,
                header.epoch_number,
                header.certificate_index,
                header.settlement_tx_hash,
                int(row.is_final),
                header.certificate_id,
            ),
        )

    def _items(self, batch_id: int) -> tuple[SettlementItem, ...]:
        rows = self._database.execute(
            "SELECT network, height, id, leaf_count, new_root, pessimistic_root, range, statement FROM items "
            "WHERE batch = ? ORDER BY network",
            (batch_id,),
        )
        return tuple(_item(row) for row in rows)


def _item(row: tuple[Any, ...]) -> SettlementItem:
    network, height, certificate_id, leaf_count, new_root, pessimistic_root, settled_range, statement = row
    return SettlementItem(
        network_id=NetworkId(network),
        certificate_height=CertificateHeight(height),
        certificate_id=CertificateId(certificate_id),
        l1_info_tree_leaf_count=leaf_count,
        new_local_exit_root=new_root,
        new_pessimistic_root=pessimistic_root,
        settled_range=decode_range(settled_range),
        statement=statement,
    )


def _stored(row: tuple[Any, ...]) -> StoredCertificate:
    (
        certificate_id, network, height, settled_range, exits, imports, prev_root, new_root, metadata, status, error,
        attempts, batch, leaf_count, pessimistic_root, epoch, position, tx_hash, is_final,
    ) = row  # fmt: skip
    return StoredCertificate(
        header=CertificateHeader(
            network_id=NetworkId(network),
            height=CertificateHeight(height),
            certificate_id=CertificateId(certificate_id),
            prev_local_exit_root=prev_root,
            new_local_exit_root=new_root,
            metadata=metadata,
            status=CertificateStatus(status),
            error=error,
            epoch_number=epoch,
            certificate_index=position,
            settlement_tx_hash=tx_hash,
        ),
        settled_range=decode_range(settled_range),
        exits=exits,
        imports=imports,
        attempts=attempts,
        batch_id=batch,
        leaf_count=leaf_count,
        pessimistic_root=pessimistic_root,
        is_final=bool(is_final),
    )
