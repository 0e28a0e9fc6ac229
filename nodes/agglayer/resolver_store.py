"""What the resolver must not forget, in one SQLite file: heights read, verdicts signed, notices, evidence.

Verdicts, notices and the closed rounds of the height that has no verdict yet stand in one journal, in the order in
which they came about, since that order decides what a notice changed. Knows bytes and order only. Calls block on the
disk, so the caller runs them in a thread: writes from one thread, reads from another.
"""

import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidVerdict, Pruned
from nodes.model.ids import HASH_BYTES, HeaderHash, Height, RollupId
from nodes.model.sequenced_block import BlockRef
from nodes.model.verdict import SignedNotice, SignedReport, SignedVerdict, VerdictRef, VerdictSigned
from nodes.node_file import check_identity, connect, lock
from nodes.rules.resolver_steps import Kept, KeptNotice, KeptRound, KeptVerdict
from nodes.rules.verdict import decode_notice
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.wire.mailbox_messages import rounds_from_bytes, rounds_to_bytes

STORE_FILE = "resolver.db"
_FORMAT = 2
_HEAD = struct.Struct(">I32s")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS heights (
    height INTEGER PRIMARY KEY, hash BLOB NOT NULL, time_ns INTEGER NOT NULL, touched BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS journal (
    sequence INTEGER PRIMARY KEY, epoch INTEGER, height INTEGER, hash BLOB, heads BLOB,
    body BLOB, signature BLOB, rounds BLOB
);
CREATE INDEX IF NOT EXISTS verdicts ON journal (height, epoch) WHERE hash IS NOT NULL;
CREATE INDEX IF NOT EXISTS rounds ON journal (height) WHERE hash IS NULL AND height IS NOT NULL;
CREATE TABLE IF NOT EXISTS outgoing (notice BLOB PRIMARY KEY, signature BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS evidence (network INTEGER PRIMARY KEY, detail TEXT NOT NULL, reports BLOB NOT NULL);
"""


class StoredHeight(NamedTuple):
    """One firm height of the sequencer."""

    ref: BlockRef
    time_ns: int
    touched: tuple[RollupId, ...]


class KeepHeight(NamedTuple):
    """A height that was read, with the notices in it."""

    stored: StoredHeight
    notices: tuple[SignedNotice, ...]


class KeepVerdict(NamedTuple):
    """A verdict that was signed; nobody may see it before it is durable."""

    kept: KeptVerdict
    signed: SignedVerdict
    rounds: tuple[tuple[SignedReport, ...], ...]


class KeepRound(NamedTuple):
    """A round that was closed; forgotten when its height has a verdict."""

    kept: KeptRound


class KeepOutgoing(NamedTuple):
    """A notice that will be submitted until it is read back."""

    signed: SignedNotice


class KeepEvidence(NamedTuple):
    """A rollup that counts as silent for ever."""

    network_id: NetworkId
    detail: str
    reports: tuple[SignedReport, ...]
    """As they were signed: anybody can check them."""


Write = KeepHeight | KeepVerdict | KeepRound | KeepOutgoing | KeepEvidence


class ResolverStore:
    """One resolver's store. Opened once per process; a second process is refused."""

    def __init__(self, directory: Path, *, chain_id: bytes, crash: CrashPoint = no_crash) -> None:
        """Open or create. Raises Unavailable where a process holds it already, InvalidInput for another chain's."""
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / STORE_FILE
        self._crash = crash
        with ExitStack() as opened:
            opened.enter_context(lock(directory / f"{STORE_FILE}.lock"))
            # Autocommit: a transaction begins where `commit` says so.
            self._writer = opened.enter_context(closing(connect(str(self._path), isolation_level=None)))
            # FULL syncs at each commit (0.3 ms on an SSD): no verdict that anybody saw is forgotten by a loss of power.
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.executescript(_SCHEMA)
            check_identity(self._writer, self._path, file_format=_FORMAT, chain_id=chain_id)
            uri = f"{self._path.absolute().as_uri()}?mode=ro"
            self._reader = opened.enter_context(closing(connect(uri, uri=True)))
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let go of the file. No other call may be running."""
        self._opened.close()

    def commit(self, writes: Sequence[Write]) -> None:
        """Apply all writes in order in one transaction; durable when it returns."""
        self._writer.execute("BEGIN IMMEDIATE")
        for write in writes:
            self._apply(write)
        self._crash("resolver.in_commit")
        self._writer.execute("COMMIT")

    def _apply(self, write: Write) -> None:
        execute = self._writer.execute
        match write:
            case KeepHeight(stored=stored, notices=notices):
                row = (stored.ref.height, stored.ref.hash, stored.time_ns, b"".join(stored.touched))
                execute("INSERT INTO heights VALUES (?, ?, ?, ?)", row)
                for notice in notices:
                    execute("INSERT INTO journal (body, signature) VALUES (?, ?)", notice)
                    execute("DELETE FROM outgoing WHERE notice = ?", (notice.notice,))
            case KeepRound(kept=closed):
                execute(
                    "INSERT INTO journal (epoch, height, rounds) VALUES (?, ?, ?)",
                    (closed.epoch, closed.height, rounds_to_bytes([closed.reports])),
                )
            case KeepVerdict(kept=kept, signed=signed, rounds=rounds):
                execute("DELETE FROM journal WHERE height >= ? AND hash IS NULL", (kept.height,))
                heads = b"".join([_HEAD.pack(*head) for head in kept.heads])
                execute(
                    "INSERT INTO journal (epoch, height, hash, heads, body, signature, rounds) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (kept.epoch, kept.height, kept.hash, heads, *signed, rounds_to_bytes(rounds)),
                )
            case KeepOutgoing(signed=notice):
                execute("INSERT OR REPLACE INTO outgoing VALUES (?, ?)", notice)
            case KeepEvidence(network_id=network, detail=detail, reports=reports):
                execute(
                    "INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", (network, detail, rounds_to_bytes([reports]))
                )

    def heights(self) -> Iterator[StoredHeight]:
        """Every height, ascending."""
        for height, block_hash, time_ns, touched in self._writer.execute("SELECT * FROM heights ORDER BY height"):
            ids = tuple([RollupId(touched[at : at + HASH_BYTES]) for at in range(0, len(touched), HASH_BYTES)])
            yield StoredHeight(BlockRef(height=Height(height), hash=HeaderHash(block_hash)), time_ns, ids)

    def journal(self) -> Iterator[Kept]:
        """Verdicts (without their bytes), notices and rounds, in their order."""
        rows = self._writer.execute(
            "SELECT epoch, height, hash, heads, CASE WHEN height IS NULL THEN body END, signature, "
            "CASE WHEN hash IS NULL THEN rounds END FROM journal ORDER BY sequence"
        )
        for epoch, height, digest, heads, body, signature, rounds in rows:
            if height is None:
                yield KeptNotice(signed=SignedNotice(body, signature), notice=decode_notice(body))
            elif digest is None:
                yield KeptRound(epoch=epoch, height=Height(height), reports=rounds_from_bytes(rounds)[0])
            else:
                known = tuple([(NetworkId(network), head) for network, head in _HEAD.iter_unpack(heads)])
                yield KeptVerdict(epoch=epoch, height=Height(height), hash=digest, heads=known)

    def outgoing(self) -> list[SignedNotice]:
        """Notices that were not read back yet."""
        return [SignedNotice(*row) for row in self._writer.execute("SELECT notice, signature FROM outgoing")]

    def evidence(self) -> list[KeepEvidence]:
        """Who contradicted themselves, how, and by which reports; ascending by network."""
        rows = self._writer.execute("SELECT network, detail, reports FROM evidence ORDER BY network")
        return [
            KeepEvidence(NetworkId(network), detail, rounds_from_bytes(reports)[0]) for network, detail, reports in rows
        ]

    def verdict(self, height: Height) -> VerdictSigned:
        """The newest verdict of a height, with its reports. Raises Pruned where there is none."""
        row = self._reader.execute(
            "SELECT body, signature, rounds FROM journal WHERE height = ? AND hash IS NOT NULL "
            "ORDER BY epoch DESC LIMIT 1",
            (height,),
        ).fetchone()
        if row is None:
            raise Pruned(f"{self._path.name} holds no verdict of height {height}")
        body, signature, rounds = row
        return VerdictSigned(signed=SignedVerdict(body, signature), rounds=rounds_from_bytes(rounds))

    def check_signed(self, ref: VerdictRef) -> None:
        """Raises InvalidVerdict unless this verdict was signed, in whatever epoch."""
        row = self._reader.execute(
            "SELECT hash FROM journal WHERE height = ? AND epoch = ? AND hash IS NOT NULL", (ref.height, ref.epoch)
        ).fetchone()
        if row is None or row[0] != ref.hash:
            raise InvalidVerdict(
                f"verdict {ref.hash.hex()} of height {ref.height}, epoch {ref.epoch} was never signed here; "
                "start again from height 0, or ask the resolver of this testnet"
            )
