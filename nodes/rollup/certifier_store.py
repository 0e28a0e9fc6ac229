"""What a rollup's certifier keeps: safe heights, exits, imports, and how far certificates cover them.

A new epoch voids heights. What no certificate covers of them is forgotten; what one covers stays as stale until the
height comes again, and must then be equal: certificates cannot be taken back. Where it is not equal the heights are put
aside, and `contested` says so. Only the end of the certificate in error frees it; a settled one never does.

SQLite in WAL mode with synchronous=OFF, as the node's journal: a killed process loses nothing, and after a crash of
the machine the node delivers its heights again and the aggregation layer still has the certificates. One thread.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from nodes.model.agglayer import BridgeExit, CertificateHeight, CertificateId, GlobalIndex, NetworkId
from nodes.model.bridge_activity import MadeClaim, SafeHeight
from nodes.model.errors import InvalidInput
from nodes.model.execution import LegOutcome
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import SignedVerdict
from nodes.rollup.certifier_forms import (
    pack_balances,
    pack_exit,
    pack_frontier,
    pack_outcomes,
    pack_verdict,
    unpack_balances,
    unpack_exit,
    unpack_frontier,
    unpack_outcomes,
    unpack_verdict,
)
from nodes.rollup.verdict_store import pack_safe, unpack_safe
from nodes.rules.certifying import Balances, Import, import_of_claim
from nodes.rules.exit_tree import ExitFrontier, leaf_hash
from nodes.rules.verdict import verdict_hash

_FORMAT = 2
_CONTESTED = "contested"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS epochs (epoch INTEGER PRIMARY KEY, height INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS aside (height INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS heights (
    height INTEGER PRIMARY KEY, block_hash BLOB NOT NULL, verdict BLOB NOT NULL, outcomes BLOB NOT NULL,
    stale INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS heights_stale ON heights (height) WHERE stale;
CREATE TABLE IF NOT EXISTS exits (
    leaf_index INTEGER PRIMARY KEY, height INTEGER NOT NULL, exit BLOB NOT NULL, stale INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS exits_by_height ON exits (height);
CREATE INDEX IF NOT EXISTS exits_stale ON exits (height) WHERE stale;
CREATE TABLE IF NOT EXISTS imports (
    id INTEGER PRIMARY KEY, network INTEGER NOT NULL, leaf_index INTEGER NOT NULL, height INTEGER NOT NULL,
    leaf BLOB NOT NULL, exit BLOB NOT NULL, bundle BLOB NOT NULL, certificate INTEGER,
    stale INTEGER NOT NULL DEFAULT 0, flawed INTEGER NOT NULL DEFAULT 0, flaw TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS imports_by_leaf ON imports (network, leaf_index);
CREATE INDEX IF NOT EXISTS imports_by_height ON imports (height);
CREATE INDEX IF NOT EXISTS imports_of_certificate ON imports (certificate) WHERE certificate IS NOT NULL;
CREATE INDEX IF NOT EXISTS imports_open ON imports (network, flawed, leaf_index) WHERE certificate IS NULL;
CREATE INDEX IF NOT EXISTS imports_flawed ON imports (height) WHERE certificate IS NULL AND flawed;
CREATE INDEX IF NOT EXISTS mints_open ON imports (height) WHERE certificate IS NULL AND bundle != x'';
CREATE TABLE IF NOT EXISTS spares (
    network INTEGER NOT NULL, leaf_index INTEGER NOT NULL, height INTEGER NOT NULL, leaf BLOB NOT NULL,
    used_height INTEGER, PRIMARY KEY (network, leaf_index)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS spares_by_leaf ON spares (network, leaf, leaf_index) WHERE used_height IS NULL;
CREATE INDEX IF NOT EXISTS spares_by_height ON spares (height);
CREATE INDEX IF NOT EXISTS spares_used ON spares (used_height) WHERE used_height IS NOT NULL;
CREATE TABLE IF NOT EXISTS certificates (
    height INTEGER PRIMARY KEY, id BLOB NOT NULL, first_height INTEGER NOT NULL, last_height INTEGER NOT NULL,
    leaf_count INTEGER NOT NULL, frontier BLOB NOT NULL, balances BLOB NOT NULL, body BLOB NOT NULL);
CREATE INDEX IF NOT EXISTS certificates_by_last ON certificates (last_height, height);
"""
_CERTIFICATE = "SELECT height, id, first_height, last_height, leaf_count FROM certificates "
_NO_LIMIT = 2**62


class KeptHeight(NamedTuple):
    """A safe height as certificates need it."""

    height: Height
    block_hash: bytes
    verdict: SignedVerdict | None

    @property
    def verdict_root(self) -> bytes:
        """Hash of the verdict; zero where there is none."""
        return bytes(32) if self.verdict is None else verdict_hash(self.verdict.verdict)


class OpenImport(NamedTuple):
    """An import that is in no certificate yet."""

    id: int
    network_id: NetworkId
    leaf_index: int
    exit: BridgeExit
    bundle_hash: BundleHash | None
    """Of the contingent mint that it settles; None for a claim."""

    @property
    def global_index(self) -> GlobalIndex:
        """As certificates name it."""
        return Import(self.network_id, self.leaf_index, self.exit).global_index


class CertificateRow(NamedTuple):
    """A certificate that was built: what it covers."""

    height: CertificateHeight
    id: CertificateId
    first_height: Height
    last_height: Height
    """One less than `first_height` where it states no range."""
    leaf_count: int
    """Exits of the rollup up to and with this certificate."""


class CertifierStore:
    """The database of one certifier."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises InvalidInput for a file of another format."""
        # Certificates are built, which only reads, in another thread than that of the writes; SQLite takes turns.
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-1024;")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        is_new = self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is None
        if found != _FORMAT and not is_new:
            self._db.close()
            raise InvalidInput(f"{path} has format {found}, not {_FORMAT}; give the node a directory of its own")
        self._db.executescript(f"{_SCHEMA} PRAGMA user_version = {_FORMAT};")

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._db.close()

    # Heights.

    @property
    def height(self) -> Height:
        """Up to here nothing needs to be delivered; 0 = nothing is kept."""
        if self.contested:
            return Height(self._number("SELECT MAX(height) FROM aside"))
        stale = self._number("SELECT MIN(height) FROM heights WHERE stale")
        return Height(self._number("SELECT MAX(height) FROM heights WHERE height < ?", stale or _NO_LIMIT))

    @property
    def epoch(self) -> int:
        """The newest epoch that is known here."""
        return self._number("SELECT MAX(epoch) FROM epochs")

    @property
    def contested(self) -> str:
        """How a height that came again differs from what a certificate covers; empty while none does."""
        row = self._db.execute("SELECT value FROM marks WHERE name = ?", (_CONTESTED,)).fetchone()
        return "" if row is None else str(row[0])

    def add(self, heights: Iterable[SafeHeight]) -> None:
        """Keep safe heights. Those that are known already, or that a later epoch has voided, are passed over."""
        with self._transaction():
            for safe in heights:
                self._take(safe)

    def begin_epoch(self, epoch: int, height: Height) -> None:
        """Heights from this one on are void and come again. Idempotent."""
        with self._transaction():
            if epoch > self.epoch:
                self._begin_epoch(epoch, height)

    def _begin_epoch(self, epoch: int, height: Height) -> None:
        self._db.execute("INSERT INTO epochs VALUES (?, ?)", (epoch, height))
        self._db.execute("DELETE FROM aside WHERE height >= ?", (height,))
        if self._db.execute("SELECT 1 FROM aside LIMIT 1").fetchone() is None:
            self._db.execute("DELETE FROM marks WHERE name = ?", (_CONTESTED,))
        last = self.last_certificate()
        covered, leaf_count = (Height(0), 0) if last is None else (last.last_height, last.leaf_count)
        self._db.execute("DELETE FROM heights WHERE height >= ? AND height > ?", (height, covered))
        self._db.execute("UPDATE heights SET stale = 1 WHERE height >= ?", (height,))
        self._db.execute("DELETE FROM exits WHERE height >= ? AND leaf_index >= ?", (height, leaf_count))
        self._db.execute("UPDATE exits SET stale = 1 WHERE height >= ?", (height,))
        self._db.execute("DELETE FROM imports WHERE height >= ? AND certificate IS NULL", (height,))
        self._db.execute("UPDATE imports SET stale = 1 WHERE height >= ?", (height,))
        self._db.execute("DELETE FROM spares WHERE height >= ?", (height,))
        self._db.execute("UPDATE spares SET used_height = NULL WHERE used_height >= ?", (height,))

    def _take(self, safe: SafeHeight) -> None:
        if safe.epoch > self.epoch:
            self._begin_epoch(safe.epoch, safe.height)  # a node that came late learns of epochs by their verdicts
        voided = "SELECT 1 FROM epochs WHERE epoch > ? AND height <= ? LIMIT 1"
        if self._db.execute(voided, (safe.epoch, safe.height)).fetchone() is not None:
            return
        if safe.height <= self.height:
            return
        difference = "" if self.contested else self._difference(safe)
        if difference:
            self._db.execute("INSERT INTO marks VALUES (?, ?)", (_CONTESTED, difference))
        if self.contested:
            self._db.execute("INSERT INTO aside VALUES (?, ?)", (safe.height, pack_safe(safe)))
        else:
            self._put(safe)

    def _difference(self, safe: SafeHeight) -> str:
        """What of a height is not as a certificate covers it; empty where all is, or nothing is covered."""
        last = self.last_certificate()
        if last is None:
            return ""
        where = f"height {safe.height}, resolved again in epoch {safe.epoch}, is not as certificates cover it"
        missed = self._number("SELECT MIN(height) FROM heights WHERE stale AND height < ?", safe.height)
        if missed:
            return f"{where}: nothing happened at height {missed} any more"
        if safe.height <= last.last_height:
            row = self._db.execute(
                "SELECT block_hash, outcomes FROM heights WHERE height = ?", (safe.height,)
            ).fetchone()
            if row != (safe.block_hash, pack_outcomes(safe.outcomes)):
                return f"{where}: its block or its legs are others"
        made = {entry.leaf_index: pack_exit(entry.exit) for entry in safe.activity.exits}
        stale = "SELECT leaf_index, exit FROM exits WHERE stale AND height <= ?"
        for leaf_index, packed in self._db.execute(stale, (safe.height,)):
            if made.get(leaf_index) != packed:
                return f"{where}: exit {leaf_index} is another or is gone"
        for leaf_index, packed in made.items():
            known = self._db.execute("SELECT exit FROM exits WHERE leaf_index = ?", (leaf_index,)).fetchone()
            if known is not None and known[0] != packed:
                return f"{where}: exit {leaf_index} is another"
        return ""

    def _put(self, safe: SafeHeight) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO heights (height, block_hash, verdict, outcomes) VALUES (?, ?, ?, ?)",
            (safe.height, safe.block_hash, pack_verdict(safe.verdict), pack_outcomes(safe.outcomes)),
        )
        self._db.executemany(
            "INSERT OR REPLACE INTO exits (leaf_index, height, exit) VALUES (?, ?, ?)",
            [(made.leaf_index, safe.height, pack_exit(made.exit)) for made in safe.activity.exits],
        )
        for mint, leaf_index in zip(safe.activity.mints, safe.mint_leaves, strict=True):
            if leaf_index is not None:
                self._put_import(Import(mint.source_network, leaf_index, mint.exit), safe.height, mint.bundle_hash)
        for claim in safe.activity.claims:
            self._put_claim(claim, safe.height)

    def _put_claim(self, claim: MadeClaim, height: Height) -> None:
        network, leaf_index, leaf = claim.global_index.network_id, claim.global_index.leaf_index, leaf_hash(claim.exit)
        imported = "SELECT 1 FROM imports WHERE network = ? AND leaf_index = ? AND leaf = ? AND NOT stale LIMIT 1"
        is_imported = self._db.execute(imported, (network, leaf_index, leaf)).fetchone() is not None
        if not claim.pays:
            if not is_imported:
                values = (network, leaf_index, height, leaf)
                self._db.execute("INSERT OR REPLACE INTO spares VALUES (?, ?, ?, ?, NULL)", values)
            return
        spare = None
        if is_imported:
            query = (
                "SELECT leaf_index FROM spares WHERE network = ? AND leaf = ? AND used_height IS NULL "
                "ORDER BY leaf_index LIMIT 1"
            )
            row = self._db.execute(query, (network, leaf)).fetchone()
            spare = None if row is None else row[0]
        found = import_of_claim(claim, is_imported=is_imported, spare=spare)
        assert found is not None, "a claim that pays has an import"
        if found.leaf_index == spare:
            taken = "UPDATE spares SET used_height = ? WHERE network = ? AND leaf_index = ?"
            self._db.execute(taken, (height, network, spare))
        self._put_import(found, height, BundleHash(b""))

    def _put_import(self, found: Import, height: Height, bundle_hash: BundleHash) -> None:
        leaf = leaf_hash(found.exit)
        again = (
            "UPDATE imports SET stale = 0, height = ?, bundle = ? WHERE id = (SELECT id FROM imports "
            "WHERE network = ? AND leaf_index = ? AND leaf = ? AND stale LIMIT 1)"
        )
        values = (height, bundle_hash, found.network_id, found.leaf_index, leaf)
        if self._db.execute(again, values).rowcount:
            return
        self._db.execute(
            "INSERT INTO imports (network, leaf_index, height, leaf, exit, bundle) VALUES (?, ?, ?, ?, ?, ?)",
            (found.network_id, found.leaf_index, height, leaf, pack_exit(found.exit), bundle_hash),
        )

    # What certificates are made of.

    def exits(self, first_leaf: int, limit: int) -> list[tuple[Height, BridgeExit]]:
        """Exits from a leaf on, in the order of leaves, each with its height."""
        rows = self._db.execute(
            "SELECT height, exit FROM exits WHERE leaf_index >= ? ORDER BY leaf_index LIMIT ?", (first_leaf, limit)
        )
        return [(Height(height), unpack_exit(packed)) for height, packed in rows]

    def open_imports(self, limit: int) -> list[OpenImport]:
        """Imports that may go into the next certificate: of each network the lowest leaves, which settle first.

        Those with a flaw come last of their network. Every network has an equal part of the limit, so that one that
        settles nothing keeps out nobody.
        """
        networks = [network for (network,) in self._db.execute(_OPEN_NETWORKS)]
        part = max(1, limit // max(1, len(networks)))
        return [entry for network in networks for entry in self._open_of(network, part)][:limit]

    def _open_of(self, network: int, limit: int) -> Iterator[OpenImport]:
        rows = self._db.execute(
            "SELECT id, network, leaf_index, exit, bundle FROM imports AS open WHERE certificate IS NULL "
            "AND network = ? AND NOT EXISTS (SELECT 1 FROM imports AS done WHERE done.network = open.network "
            "AND done.leaf_index = open.leaf_index AND done.certificate IS NOT NULL) "
            "ORDER BY flawed, leaf_index LIMIT ?",
            (network, limit),
        )
        for row, of, leaf, packed, bundle in rows.fetchall():
            yield OpenImport(row, NetworkId(of), leaf, unpack_exit(packed), BundleHash(bundle) if bundle else None)

    def open_import(self, index: GlobalIndex, bridge_exit: BridgeExit) -> OpenImport | None:
        """The open import of a leaf; None where there is none."""
        row = self._db.execute(
            "SELECT id, bundle FROM imports WHERE network = ? AND leaf_index = ? AND leaf = ? AND certificate IS NULL",
            (index.network_id, index.leaf_index, leaf_hash(bridge_exit)),
        ).fetchone()
        if row is None:
            return None
        bundle = BundleHash(row[1]) if row[1] else None
        return OpenImport(row[0], index.network_id, index.leaf_index, bridge_exit, bundle)

    def expected(self, but: Sequence[int]) -> Iterator[BridgeExit]:
        """The exit of every import that is in no certificate, has no flaw and is not among those (by id)."""
        chosen = set(but)
        rows = self._db.execute(
            "SELECT id, exit FROM imports INDEXED BY imports_open WHERE certificate IS NULL AND NOT flawed"
        )
        for at, packed in rows:
            if at not in chosen:
                yield unpack_exit(packed)

    def put_flaws(self, flaws: Iterable[tuple[int, str]]) -> None:
        """Imports, by their ids, that cannot be in a certificate as they are, and why."""
        with self._transaction():
            query = "UPDATE imports SET flawed = 1, flaw = ? WHERE id = ?"
            self._db.executemany(query, [(flaw, at) for at, flaw in flaws])

    @property
    def flaw(self) -> str:
        """The lowest import that cannot be in a certificate, in words; empty where all can."""
        row = self._db.execute(
            "SELECT height, network, leaf_index, bundle, flaw FROM imports WHERE certificate IS NULL AND flawed "
            "ORDER BY height LIMIT 1"
        ).fetchone()
        if row is None:
            return ""
        height, network, leaf_index, bundle, flaw = row
        what = f"the mint of bundle 0x{bundle.hex()}" if bundle else "a claim"
        return f"{what} at height {height} stands for leaf {leaf_index} of network {network}, but {flaw}"

    def first_open_mint(self, but: Sequence[int]) -> Height | None:
        """The lowest height with a contingent mint whose import is in no certificate, nor among those (by id)."""
        chosen = set(but)
        rows = self._db.execute(
            "SELECT id, height FROM imports WHERE certificate IS NULL AND bundle != x'' ORDER BY height"
        )
        return next((Height(height) for at, height in rows if at not in chosen), None)

    def last_height_below(self, height: Height | None) -> KeptHeight | None:
        """The newest kept height, or the newest below `height`."""
        row = self._db.execute(
            "SELECT height, block_hash, verdict FROM heights WHERE height < ? ORDER BY height DESC LIMIT 1",
            (_NO_LIMIT if height is None else height,),
        ).fetchone()
        return None if row is None else KeptHeight(Height(row[0]), row[1], unpack_verdict(row[2]))

    def outcomes(self, first: Height, last: Height) -> list[LegOutcome]:
        """Fates of the legs of the heights first to last, both included, in order."""
        rows = self._db.execute(
            "SELECT outcomes FROM heights WHERE height BETWEEN ? AND ? ORDER BY height", (first, last)
        )
        return [outcome for (packed,) in rows for outcome in unpack_outcomes(packed)]

    # Certificates.

    def certificate(self, height: CertificateHeight) -> CertificateRow | None:
        """The certificate of a height, by its number."""
        row = self._db.execute(_CERTIFICATE + "WHERE height = ?", (height,)).fetchone()
        return None if row is None else _certificate(row)

    def certificate_of(self, height: Height) -> CertificateRow | None:
        """The certificate whose range holds a sequenced height; None where none does yet."""
        row = self._db.execute(
            _CERTIFICATE + "WHERE last_height >= ? ORDER BY last_height, height LIMIT 1", (height,)
        ).fetchone()
        return None if row is None or row[2] > height else _certificate(row)

    def last_certificate(self) -> CertificateRow | None:
        """The newest one that was built; None before the first."""
        row = self._db.execute(_CERTIFICATE + "ORDER BY height DESC LIMIT 1").fetchone()
        return None if row is None else _certificate(row)

    def body(self, height: CertificateHeight) -> bytes:
        """The newest certificate as it was, or will be, sent."""
        (body,) = self._db.execute("SELECT body FROM certificates WHERE height = ?", (height,)).fetchone()
        return bytes(body)

    def standing(self) -> tuple[Balances, ExitFrontier]:
        """Balances and exit tree as the newest certificate leaves them."""
        row = self._db.execute(
            "SELECT balances, frontier, leaf_count FROM certificates ORDER BY height DESC LIMIT 1"
        ).fetchone()
        if row is None:
            return {}, ExitFrontier()
        return unpack_balances(row[0]), unpack_frontier(row[1], row[2])

    def add_certificate(
        self, row: CertificateRow, imports: Sequence[int], *, body: bytes, balances: Balances, frontier: ExitFrontier
    ) -> None:
        """Keep a certificate with the imports in it (by id), before it is sent, and what it leaves behind."""
        with self._transaction():
            self._db.execute("UPDATE certificates SET body = x'' WHERE body != x'' AND height = ?", (row.height - 1,))
            values = (*row, pack_frontier(frontier), pack_balances(balances), body)
            self._db.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            self._db.executemany(
                "UPDATE imports SET certificate = ?, flawed = 0, flaw = '' WHERE id = ?",
                [(row.height, at) for at in imports],
            )

    def drop_certificates(self, lowest: CertificateHeight) -> None:
        """This certificate and all above were refused or are in error: what they cover is open again.

        What of it is void is forgotten. Heights that were put aside are looked at again.
        """
        with self._transaction():
            self._db.execute("DELETE FROM certificates WHERE height >= ?", (lowest,))
            self._db.execute("UPDATE imports SET certificate = NULL WHERE certificate >= ?", (lowest,))
            last = self.last_certificate()
            covered, leaf_count = (Height(0), 0) if last is None else (last.last_height, last.leaf_count)
            self._db.execute("DELETE FROM heights WHERE stale AND height > ?", (covered,))
            self._db.execute("DELETE FROM exits WHERE stale AND leaf_index >= ?", (leaf_count,))
            self._db.execute("DELETE FROM imports WHERE stale AND certificate IS NULL")
            aside = self._db.execute("SELECT value FROM aside ORDER BY height").fetchall()
            self._db.execute("DELETE FROM aside")
            self._db.execute("DELETE FROM marks WHERE name = ?", (_CONTESTED,))
            for (value,) in aside:
                self._take(unpack_safe(value))

    def _number(self, query: str, *values: int) -> int:
        return int(self._db.execute(query, values).fetchone()[0] or 0)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


_OPEN_NETWORKS = """
WITH RECURSIVE found (network) AS (
    SELECT MIN(network) FROM imports WHERE certificate IS NULL
    UNION ALL
    SELECT (SELECT MIN(network) FROM imports WHERE certificate IS NULL AND network > found.network)
    FROM found WHERE found.network IS NOT NULL)
SELECT network FROM found WHERE network IS NOT NULL
"""
"""Skips from network to network in the index, instead of reading all that is open."""


def _certificate(row: tuple[int, bytes, int, int, int]) -> CertificateRow:
    height, named, first, last, leaf_count = row
    return CertificateRow(CertificateHeight(height), CertificateId(named), Height(first), Height(last), leaf_count)
