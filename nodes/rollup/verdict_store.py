"""A rollup node's durable record of verdicts: what each height left out, and what became safe by it.

With it a restarted node executes again what was resolved without asking anybody, and hands a certifier what it lacks.
SQLite in WAL mode with synchronous=OFF, for the reason given in `journal`. It checks nothing: what comes here was
evaluated.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson

from nodes.model.agglayer import BridgeExit, GlobalIndex, LeafType, NetworkId, TokenInfo
from nodes.model.bridge_activity import BridgeActivity, MadeClaim, MadeExit, MadeMint, SafeHeight
from nodes.model.errors import InvalidInput
from nodes.model.execution import LegOutcome, Status
from nodes.model.ids import Address, BundleHash, Height
from nodes.model.verdict import NoticeKind, SignedNotice, SignedVerdict, VerdictRef
from nodes.rules.verdict import NO_VERDICT, decode_notice, decode_verdict, verdict_hash

_FORMAT = 1
_SETTLED = "settled_final"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS identity (value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS verdicts (
    height INTEGER PRIMARY KEY, verdict BLOB NOT NULL, signature BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS notices (
    id INTEGER PRIMARY KEY, notice BLOB NOT NULL UNIQUE, signature BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS safe (height INTEGER PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS logged (notice BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS unlogged (notice BLOB PRIMARY KEY, due INTEGER);
CREATE TABLE IF NOT EXISTS revoked (height INTEGER NOT NULL, block_hash BLOB NOT NULL);
"""


class VerdictStore:
    """The database of one node. Not for use from several threads."""

    def __init__(self, path: Path, *, identity: bytes) -> None:
        """Open or create. `identity` names the chain; raises InvalidInput where the file belongs to another one."""
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF; PRAGMA cache_size=-512;")
        self._db.executescript(_SCHEMA)
        kept = self._db.execute("SELECT value FROM identity").fetchone()
        if kept is None:
            self._db.execute("INSERT INTO identity VALUES (?)", (identity,))
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        (found,) = self._db.execute("PRAGMA user_version").fetchone()
        if (kept is not None and kept[0] != identity) or found != _FORMAT:
            self._db.close()
            raise InvalidInput(f"{path} is of another chain or format; give the node a directory of its own")
        (last,) = self._db.execute("SELECT COALESCE(MAX(height), 0) FROM verdicts").fetchone()
        self._last = Height(last)

    def close(self) -> None:
        """Release the file. Idempotent."""
        self._db.close()

    @property
    def last(self) -> Height:
        """The highest height with a verdict; 0 = none."""
        return self._last

    @property
    def ref(self) -> VerdictRef:
        """The last verdict; where a follower goes on."""
        signed = self.verdict(self._last)
        if signed is None:
            return VerdictRef(0, Height(0), NO_VERDICT)
        return VerdictRef(decode_verdict(signed.verdict).epoch, self._last, verdict_hash(signed.verdict))

    def hash_at(self, height: Height) -> bytes:
        """Hash of the verdict of a height; what the next one names as previous."""
        signed = self.verdict(height)
        return NO_VERDICT if signed is None else verdict_hash(signed.verdict)

    def verdict(self, height: Height) -> SignedVerdict | None:
        """The verdict of a height."""
        row = self._db.execute("SELECT verdict, signature FROM verdicts WHERE height = ?", (height,)).fetchone()
        return None if row is None else SignedVerdict(*row)

    def notices(self) -> Iterator[SignedNotice]:
        """Every notice that was taken, in order."""
        for row in self._db.execute("SELECT notice, signature FROM notices ORDER BY id").fetchall():
            yield SignedNotice(*row)

    # Changes, each of them all or nothing.

    def put(
        self,
        height: Height,
        signed: SignedVerdict,
        *,
        notices: Sequence[SignedNotice],
        safe: SafeHeight | None,
    ) -> None:
        """The next height is resolved; `notices` begin with it."""
        assert height == self._last + 1, "heights are resolved one after the other"
        self._db.execute("BEGIN")
        try:
            self._db.execute("INSERT INTO verdicts VALUES (?, ?, ?)", (height, signed.verdict, signed.signature))
            for notice in notices:
                self.put_notice(notice)
            if safe is not None:
                self._put_safe(safe)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._last = height

    def put_safe(self, safe: SafeHeight) -> None:
        """A height that may be delivered, of a chain without verdicts. One that was put before is replaced."""
        self._put_safe(safe)

    def begin_epoch(self, notice: SignedNotice, *, height: Height, settled_hash: bytes) -> None:
        """Everything from `height` on is void.

        `settled_hash`: of the block after the height up to which the chain is settled; empty where it is not known.
        """
        self._db.execute("BEGIN")
        try:
            self._revoke_settled(height, settled_hash)
            self.put_notice(notice)
            self._truncate(Height(height - 1))
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def truncate(self, height: Height) -> None:
        """The sequencer took back what is above a height."""
        self._db.execute("BEGIN")
        self._truncate(height)
        self._db.execute("COMMIT")

    def _truncate(self, height: Height) -> None:
        self._db.execute("DELETE FROM verdicts WHERE height > ?", (height,))
        self._db.execute("DELETE FROM safe WHERE height > ?", (height,))
        self._last = Height(min(self._last, height))

    # Notices.

    def put_notice(self, notice: SignedNotice) -> None:
        """A notice was taken; one that was taken before stays in its place."""
        query = "INSERT OR IGNORE INTO notices (notice, signature) VALUES (?, ?)"
        if not self._db.execute(query, (notice.notice, notice.signature)).rowcount:
            return
        if not self._db.execute("DELETE FROM logged WHERE notice = ?", (notice.notice,)).rowcount:
            self._db.execute("INSERT INTO unlogged VALUES (?, NULL)", (notice.notice,))
        taken = decode_notice(notice.notice)
        if taken.kind is NoticeKind.VOID:
            # Of a node that was not there when the epoch began: what was settled before may be other blocks.
            self._revoke_settled(taken.height, b"")

    def has_notice(self, notice: SignedNotice) -> bool:
        """Whether it was taken before."""
        query = "SELECT 1 FROM notices WHERE notice = ?"
        return self._db.execute(query, (notice.notice,)).fetchone() is not None

    def put_logged(self, notice: SignedNotice) -> None:
        """It stands in the sequencer's log; maybe nobody has handed it out yet."""
        if self.has_notice(notice):
            self._db.execute("DELETE FROM unlogged WHERE notice = ?", (notice.notice,))
        else:
            self._db.execute("INSERT OR IGNORE INTO logged VALUES (?)", (notice.notice,))

    def unlogged(self, height: Height) -> list[tuple[bytes, Height | None]]:
        """Notices that were taken and not met in the log up to a height, where they must be; None: not known where."""
        query = "SELECT notice, due FROM unlogged WHERE due IS NULL OR due <= ?"
        return [(notice, None if due is None else Height(due)) for notice, due in self._db.execute(query, (height,))]

    def expect_logged(self, notice: bytes, due: Height) -> None:
        """The log must have it up to a height."""
        self._db.execute("UPDATE unlogged SET due = ? WHERE notice = ?", (due, notice))

    def _put_safe(self, safe: SafeHeight) -> None:
        self._db.execute("INSERT OR REPLACE INTO safe VALUES (?, ?)", (safe.height, pack_safe(safe)))

    # Safe heights.

    def safe_above(self, height: Height) -> Iterator[SafeHeight]:
        """Safe heights above one, ascending."""
        query = "SELECT value FROM safe WHERE height > ? ORDER BY height"
        for (value,) in self._db.execute(query, (height,)).fetchall():
            yield unpack_safe(value)

    def truncate_safe(self, height: Height) -> None:
        """Safe heights above one will be put again."""
        self._db.execute("DELETE FROM safe WHERE height > ?", (height,))

    def forget_safe(self, height: Height) -> None:
        """What is up to a height is durable elsewhere."""
        self._db.execute("DELETE FROM safe WHERE height <= ?", (height,))

    @property
    def settled_final(self) -> Height:
        """Up to here the chain is settled, and that is final on L1."""
        row = self._db.execute("SELECT value FROM marks WHERE name = ?", (_SETTLED,)).fetchone()
        return Height(0 if row is None else row[0])

    def put_settled_final(self, height: Height) -> bool:
        """The chain is settled up to here. False, and nothing is kept, where other blocks than these may be meant."""
        revoked = self._revoked()
        if revoked is not None and height <= revoked[0]:
            return False
        self._db.execute("DELETE FROM revoked")
        self._set_settled(height)
        return True

    def settles_again(self, resolved: Height, hash_at: Callable[[Height], bytes]) -> bool:
        """Whether the very block stands again that had been settled before an epoch began; then so it is.

        `hash_at`: of the block after a height up to `resolved`.
        """
        revoked = self._revoked()
        if revoked is None or not revoked[1] or revoked[0] > resolved or hash_at(revoked[0]) != revoked[1]:
            return False
        self._db.execute("DELETE FROM revoked")
        self._set_settled(revoked[0])
        return True

    def _set_settled(self, height: Height) -> None:
        self._db.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (_SETTLED, height))

    def _revoked(self) -> tuple[Height, bytes] | None:
        """Up to where the chain was settled before an epoch began, and the hash of the block there, if known."""
        row = self._db.execute("SELECT height, block_hash FROM revoked").fetchone()
        return None if row is None else (Height(row[0]), bytes(row[1]))

    def _revoke_settled(self, height: Height, block_hash: bytes) -> None:
        """What is settled from `height` on need not be what stands there from now on."""
        settled = self.settled_final
        if settled < height:
            return
        if self._revoked() is None:  # else it was settled further, and this mark lies below
            self._db.execute("INSERT INTO revoked VALUES (?, ?)", (settled, block_hash))
        self._set_settled(Height(height - 1))


# A safe height as JSON; kept until the certifier has it.


def pack_safe(safe: SafeHeight) -> bytes:
    """The bytes of a safe height."""
    activity, verdict = safe.activity, safe.verdict
    return orjson.dumps(
        [
            safe.epoch,
            safe.height,
            safe.block_hash.hex(),
            [[made.leaf_index, _exit_form(made.exit), made.position] for made in activity.exits],
            [
                [made.bundle_hash.hex(), made.leg_index, made.source_network, _exit_form(made.exit), made.position]
                for made in activity.mints
            ],
            [[list(made.global_index), _exit_form(made.exit), made.pays, made.position] for made in activity.claims],
            safe.mint_leaves,
            [[entry.bundle_hash.hex(), entry.leg_index, entry.height, entry.status] for entry in safe.outcomes],
            None if verdict is None else [verdict.verdict.hex(), verdict.signature.hex()],
        ]
    )


def unpack_safe(data: bytes) -> SafeHeight:
    """The reverse of `pack_safe`."""
    epoch, height, block_hash, exits, mints, claims, mint_leaves, outcomes, verdict = orjson.loads(data)
    return SafeHeight(
        epoch=epoch,
        height=Height(height),
        block_hash=bytes.fromhex(block_hash),
        activity=BridgeActivity(
            exits=tuple(MadeExit(index, _exit_of(form), position) for index, form, position in exits),
            mints=tuple(
                MadeMint(BundleHash(bytes.fromhex(bundle)), leg, NetworkId(source), _exit_of(form), position)
                for bundle, leg, source, form, position in mints
            ),
            claims=tuple(
                MadeClaim(GlobalIndex(*index), _exit_of(form), pays, position) for index, form, pays, position in claims
            ),
        ),
        mint_leaves=tuple(mint_leaves),
        outcomes=tuple(
            LegOutcome(BundleHash(bytes.fromhex(bundle)), leg, Height(at), Status(status))
            for bundle, leg, at, status in outcomes
        ),
        verdict=None if verdict is None else SignedVerdict(bytes.fromhex(verdict[0]), bytes.fromhex(verdict[1])),
    )


def _exit_form(made: BridgeExit) -> list[object]:
    return [
        made.leaf_type,
        made.token.origin_network,
        made.token.origin_token_address.hex(),
        made.dest_network,
        made.dest_address.hex(),
        hex(made.amount),  # more than the 64 bits that JSON numbers have here
        None if made.metadata_hash is None else made.metadata_hash.hex(),
    ]


def _exit_of(form: list[object]) -> BridgeExit:
    leaf_type, origin, token, network, address, amount, metadata = form
    return BridgeExit(
        leaf_type=LeafType(int(str(leaf_type))),
        token=TokenInfo(NetworkId(int(str(origin))), Address(bytes.fromhex(str(token)))),
        dest_network=NetworkId(int(str(network))),
        dest_address=Address(bytes.fromhex(str(address))),
        amount=int(str(amount), 16),
        metadata_hash=None if metadata is None else bytes.fromhex(str(metadata)),
    )
