"""What a reader of Solana made of the chain, durable: heights, the blocks they came from, and where it stands.

One transaction per step of the reader: the cursor moves with what it speaks for, or neither does. A SQLite file or a
Postgres database, by URL; SQLAlchemy writes the statements. Written by one reader only: a lock, and a number that each
opening raises, without which no step is taken. Calls block, so the caller runs them in a thread: steps from one,
reads from any. A database that cannot be reached raises Unavailable, and the same step can be handed in again: it is
taken once, even where the answer to the first attempt was lost.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    create_engine,
    delete,
    event,
    insert,
    select,
    update,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.sql import text

from nodes.model.errors import InvalidInput, Pruned, Unavailable
from nodes.model.ids import HeaderHash, Height, SubmissionHash
from nodes.model.sequenced_block import BlockRef, Commitment
from nodes.model.solana import Slot
from nodes.node_file import lock
from nodes.rules.hashes import sha256
from nodes.solana.reader_forms import hashes_from_bytes, hashes_to_bytes
from nodes.telemetry.crash import CrashPoint, no_crash

STORE_FILE = "solana_reader.db"
_FORMAT = 2
_CONNECT_S = 5
_STATEMENT_MS = 30_000
_CURSOR = 1
"""Key of the only row of `cursor`."""

_METADATA = MetaData()
_META = Table(
    "meta", _METADATA, Column("key", String(40), primary_key=True), Column("value", LargeBinary, nullable=False)
)
_HEIGHTS = Table(
    "heights",
    _METADATA,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary, nullable=False),
    Column("block", LargeBinary, nullable=False),
    Column("submission_hashes", LargeBinary, nullable=False),
    Column("slot", BigInteger, nullable=False),
    Column("blockhash", LargeBinary, nullable=False),
)
_SLOTS = Table(
    "slots",
    _METADATA,
    Column("slot", BigInteger, primary_key=True, autoincrement=False),
    Column("blockhash", LargeBinary, nullable=False),
    Column("parent_slot", BigInteger, nullable=False),
    Column("block_height", BigInteger, nullable=False),
    Column("height", BigInteger, nullable=False),  # the newest height once this block was read
    Column("hash", LargeBinary, nullable=False),  # of that height
    Column("level", SmallInteger, nullable=False),
    Column("content", LargeBinary, nullable=False),  # to read it again; empty up to the snapshot
)
_CURSOR_TABLE = Table(
    "cursor",
    _METADATA,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),  # how often the store was opened for writing
    Column("step", BigInteger, nullable=False),
    Column("slot", BigInteger, nullable=False),
    Column("blockhash", LargeBinary, nullable=False),
    Column("final_slot", BigInteger, nullable=False),
    Column("snapshot_slot", BigInteger, nullable=False),
    Column("snapshot", LargeBinary, nullable=False),  # empty: of the origin
)
_Answer = TypeVar("_Answer")


class StoredHeight(NamedTuple):
    """One height."""

    ref: BlockRef
    block: bytes
    """A stored block, serialized."""
    submission_hashes: tuple[SubmissionHash, ...]
    slot: Slot
    """Of the newest Solana block it was read from."""
    blockhash: bytes


class StoredSlot(NamedTuple):
    """One Solana block that was read."""

    slot: Slot
    blockhash: bytes
    parent_slot: Slot
    block_height: int
    head: BlockRef
    """The newest height once it was read."""
    content: bytes
    """`nodes.solana.reader_forms.block_to_bytes`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Everything that changes at once. `number` is one more than that of the last step taken."""

    number: int
    slot: Slot
    """Where the reader stands afterwards; the origin slot before the first block."""
    blockhash: bytes
    roll_back_to: tuple[Slot, Height] | None = None
    """Forget the blocks and the heights above, first."""
    slots: Sequence[StoredSlot] = ()
    heights: Sequence[StoredHeight] = ()
    final_slot: Slot
    snapshot: tuple[Slot, bytes] | None = None
    """A newer place to read from after a restart: `content` up to this slot is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlace:
    """What a reader finds when it starts."""

    step: int
    """Number of the last step; 0 in a new store."""
    final_slot: Slot
    snapshot: bytes
    """Empty: begin at the origin."""
    slots: tuple[StoredSlot, ...]
    """Blocks after the snapshot, ascending."""


class ReaderStore:
    """One reader's store. Opened once; a second reader is refused."""

    def __init__(self, url: str, chain_id: bytes, *, crash: CrashPoint = no_crash) -> None:
        """Open or create; `sqlite:///path` or `postgresql://...`.

        Raises Unavailable where the database does not answer or another reader has it, InvalidInput for another
        chain's or format's store, and for a URL that is none of the two kinds.
        """
        self._url = _url_of(url)
        self.name = _shown(self._url)
        """For messages; without the password."""
        self._crash = crash
        self._chain_id = chain_id
        self._is_postgres = self._url.get_backend_name() == "postgresql"
        self._writer: Connection | None = None
        with ExitStack() as opened:
            if not self._is_postgres:
                path = Path(str(self._url.database))
                path.parent.mkdir(parents=True, exist_ok=True)
                opened.enter_context(lock(path.with_name(f"{path.name}.lock")))
            self._engine = _engine_of(self._url)
            opened.callback(self._engine.dispose)
            opened.callback(self._drop_writer)
            self._epoch = self._attempt(self._open)
            self._opened = opened.pop_all()

    def close(self) -> None:
        """Let go of the database. No other call may be running."""
        self._opened.close()

    def check_identity(self, facts: Mapping[str, bytes]) -> None:
        """Keep these facts in a new store. Raises InvalidInput where it was written with others."""

        def check(connection: Connection) -> None:
            known = {row.key: row.value for row in connection.execute(select(_META))}
            for key, value in facts.items():
                if key not in known:
                    connection.execute(insert(_META).values(key=key, value=value))
                elif known[key] != value:
                    raise InvalidInput(
                        f"{self.name} was written with {key} {known[key].hex()}, this node has {value.hex()}; give the "
                        "node a store of its own, or delete the old one"
                    )

        self._attempt(lambda: self._write(check))

    def commit(self, step: Step) -> None:
        """Take a step; it survives the end of this process when it returns.

        Raises Unavailable where the database cannot be reached: hand the same step in again. Raises InvalidInput where
        another reader has opened the store in the meantime.
        """
        self._attempt(lambda: self._write(lambda connection: self._take(connection, step)))

    def place(self) -> StoredPlace:
        """Where the reader stands. Raises Unavailable."""

        def read(connection: Connection) -> StoredPlace:
            cursor = connection.execute(select(_CURSOR_TABLE)).one()
            rows = connection.execute(
                select(_SLOTS).where(_SLOTS.c.slot > cursor.snapshot_slot).order_by(_SLOTS.c.slot)
            )
            slots = tuple([_slot_of(row) for row in rows])
            return StoredPlace(
                step=cursor.step, final_slot=Slot(cursor.final_slot), snapshot=cursor.snapshot, slots=slots
            )

        return self._read(read)

    def submission_hashes(self, *, above: int, up_to: int) -> list[tuple[Height, tuple[SubmissionHash, ...]]]:
        """The submissions of the heights above `above` and up to `up_to`, ascending. Raises Unavailable."""
        table = _HEIGHTS.c
        wanted = select(table.height, table.submission_hashes).where(table.height > above, table.height <= up_to)
        rows = self._read(lambda connection: connection.execute(wanted.order_by(table.height)).all())
        return [(Height(row.height), hashes_from_bytes(row.submission_hashes)) for row in rows]

    def last_blocks(self, count: int) -> list[StoredHeight]:
        """Up to `count` heights below and including the head, ascending. Raises Unavailable."""
        wanted = select(_HEIGHTS).order_by(_HEIGHTS.c.height.desc()).limit(count)
        rows = self._read(lambda connection: connection.execute(wanted).all())
        return [_height_of(row) for row in reversed(rows)]

    def block(self, height: int) -> StoredHeight:
        """One height. Raises Pruned where the store does not hold it, Unavailable."""
        wanted = select(_HEIGHTS).where(_HEIGHTS.c.height == height)
        row = self._read(lambda connection: connection.execute(wanted).one_or_none())
        if row is None:
            raise Pruned(f"{self.name} holds no block of sequenced height {height}")
        return _height_of(row)

    def block_bytes(self, height: int) -> bytes:
        """One stored block, serialized. Raises as `block`."""
        return self.block(height).block

    def hashes_of(self, heights: Sequence[int]) -> dict[int, HeaderHash]:
        """Hashes of the blocks that the store holds at these heights. Raises Unavailable."""
        wanted = select(_HEIGHTS.c.height, _HEIGHTS.c.hash).where(_HEIGHTS.c.height.in_(list(heights)))
        rows = self._read(lambda connection: connection.execute(wanted).all())
        return {row.height: HeaderHash(row.hash) for row in rows}

    def _open(self) -> int:
        """Create what is missing, check whose store it is, and take it over."""

        def prepare(connection: Connection) -> int:
            _METADATA.create_all(connection)
            known = {row.key: row.value for row in connection.execute(select(_META))}
            wanted = {"format": str(_FORMAT).encode(), "chain_id": self._chain_id}
            for key, value in wanted.items():
                if not known:
                    connection.execute(insert(_META).values(key=key, value=value))
                elif known.get(key) != value:
                    raise InvalidInput(
                        f"{self.name} was written with {key} {known.get(key, b'').hex()}, this node has {value.hex()}; "
                        "give the node a store of its own, or delete the old one"
                    )
            if not known:
                nothing = {"slot": 0, "blockhash": b"", "final_slot": 0, "snapshot_slot": -1, "snapshot": b""}
                connection.execute(insert(_CURSOR_TABLE).values(id=_CURSOR, epoch=0, step=0, **nothing))
            raised = update(_CURSOR_TABLE).values(epoch=_CURSOR_TABLE.c.epoch + 1).returning(_CURSOR_TABLE.c.epoch)
            return int(connection.execute(raised).scalar_one())

        return self._write(prepare)

    def _take(self, connection: Connection, step: Step) -> None:
        cursor = _CURSOR_TABLE.c
        moved: dict[str, Any] = {
            "step": step.number,
            "slot": step.slot,
            "blockhash": step.blockhash,
            "final_slot": step.final_slot,
        }
        if step.snapshot is not None:
            moved |= {"snapshot_slot": step.snapshot[0], "snapshot": step.snapshot[1]}
        before = connection.execute(select(_CURSOR_TABLE)).one()
        mine = update(_CURSOR_TABLE).where(cursor.step == step.number - 1, cursor.epoch == self._epoch)
        if connection.execute(mine.values(**moved)).rowcount != 1:
            self._check_taken(connection, step)
            return
        if step.roll_back_to is not None:
            slot, height = step.roll_back_to
            connection.execute(delete(_HEIGHTS).where(_HEIGHTS.c.height > height))
            connection.execute(delete(_SLOTS).where(_SLOTS.c.slot > slot))
        if step.slots:
            connection.execute(insert(_SLOTS), [_slot_row(slot) for slot in step.slots])
        if step.heights:
            connection.execute(insert(_HEIGHTS), [_height_row(height) for height in step.heights])
        slots = _SLOTS.c.slot
        if step.final_slot > before.final_slot:
            raised = update(_SLOTS).where(slots > before.final_slot, slots <= step.final_slot)
            connection.execute(raised.values(level=int(Commitment.FIRM)))
        if step.snapshot is not None:
            done = update(_SLOTS).where(slots > before.snapshot_slot, slots <= step.snapshot[0])
            connection.execute(done.values(content=b""))
        self._crash("solana.reader_in_commit")

    def _check_taken(self, connection: Connection, step: Step) -> None:
        """The cursor was not where the step begins: fine where an earlier attempt at this step had come through."""
        found = connection.execute(select(_CURSOR_TABLE)).one()
        if (found.epoch, found.step, found.slot, found.blockhash) != (
            self._epoch,
            step.number,
            step.slot,
            step.blockhash,
        ):
            raise InvalidInput(
                f"{self.name} is written by another reader: it is at step {found.step} (opening {found.epoch}), this "
                f"reader wanted to write step {step.number} (opening {self._epoch}); end one of the two and start again"
            )

    def _write(self, work: Callable[[Connection], _Answer]) -> _Answer:
        connection = self._connect_writer()
        with connection.begin():
            return work(connection)

    def _connect_writer(self) -> Connection:
        """The one connection that writes; it holds the lock of a Postgres database as long as it lives."""
        if self._writer is None:
            connection = self._engine.connect()
            self._writer = connection
            if self._is_postgres:
                key = int.from_bytes(sha256(b"lockstep.solana.reader" + self._chain_id)[:8], "big", signed=True)
                with connection.begin():
                    taken = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one()
                if not taken:
                    raise Unavailable(
                        f"{self.name} is in use by another reader; end it, or give this node a database of its own"
                    )
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            writer, self._writer = self._writer, None
            try:
                # Closed for good, not returned to the pool: the lock goes with it.
                writer.invalidate()
                writer.close()
            except DBAPIError:
                pass  # it was gone already

    def _attempt(self, work: Callable[[], _Answer]) -> _Answer:
        """Write, and give up the connection where that fails: the next attempt begins with a new one."""
        try:
            return work()
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            self._drop_writer()
            raise _unavailable(self.name, error) from error
        except DBAPIError as error:
            self._drop_writer()
            if error.connection_invalidated:
                raise _unavailable(self.name, error) from error
            raise
        except Unavailable:
            self._drop_writer()
            raise

    def _read(self, work: Callable[[Connection], _Answer]) -> _Answer:
        try:
            with self._reading() as connection:
                return work(connection)
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            raise _unavailable(self.name, error) from error
        except DBAPIError as error:
            if error.connection_invalidated:
                raise _unavailable(self.name, error) from error
            raise

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with self._engine.connect() as connection:
            with connection.begin():
                yield connection


def sqlite_url(directory: Path) -> str:
    """The store of a node that was given no other: a file in its directory."""
    return f"sqlite:///{(directory / STORE_FILE).absolute()}"


def _url_of(url: str) -> URL:
    try:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
    except ArgumentError:
        raise InvalidInput(
            "the store's URL cannot be read; it has the form sqlite:///path or postgresql://..."
        ) from None
    if backend == "postgres":
        parsed = parsed.set(drivername="postgresql")
        backend = "postgresql"
    if backend == "postgresql":
        return parsed.set(drivername="postgresql+psycopg")
    if backend != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise InvalidInput(
            f"a store cannot be {_shown(parsed)}; it is a file (sqlite:///path) or a "
            "Postgres database (postgresql://user:password@host/database)"
        )
    return parsed


def _shown(url: URL) -> str:
    """For messages: without the password, which may also stand among the settings."""
    return url.set(query={}).render_as_string(hide_password=True)


def _engine_of(url: URL) -> Engine:
    if url.get_backend_name() == "postgresql":
        # A server that is gone is noticed within seconds also where nobody says so.
        arguments = {
            "connect_timeout": _CONNECT_S,
            "client_encoding": "utf8",  # a database in SQL_ASCII would answer text as bytes
            "keepalives_idle": _CONNECT_S,
            "tcp_user_timeout": 2_000 * _CONNECT_S,
            "options": f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_STATEMENT_MS}",
        }
        return create_engine(url, connect_args=arguments, pool_pre_ping=True, pool_timeout=2 * _CONNECT_S)
    engine = create_engine(url, connect_args={"timeout": _CONNECT_S})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions begin below, not where the driver guesses
        connection.execute("PRAGMA journal_mode=WAL")
        # A kill loses nothing. A loss of power may take the last steps, never a part of one, and they are read from
        # Solana again with the same hashes: no reason to wait for the disk at each step (measured: 13 ms of 15).
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _unavailable(name: str, error: Exception) -> Unavailable:
    original = getattr(error, "orig", None) or error
    return Unavailable(f"the reader's store {name} does not answer: {str(original).strip()}")


def _slot_row(slot: StoredSlot) -> dict[str, Any]:
    return {
        "slot": slot.slot,
        "blockhash": slot.blockhash,
        "parent_slot": slot.parent_slot,
        "block_height": slot.block_height,
        "height": slot.head.height,
        "hash": slot.head.hash,
        "level": int(Commitment.SOFT),
        "content": slot.content,
    }


def _slot_of(row: Any) -> StoredSlot:
    head = BlockRef(height=Height(row.height), hash=HeaderHash(row.hash))
    return StoredSlot(Slot(row.slot), row.blockhash, Slot(row.parent_slot), row.block_height, head, row.content)


def _height_row(height: StoredHeight) -> dict[str, Any]:
    return {
        "height": height.ref.height,
        "hash": height.ref.hash,
        "block": height.block,
        "submission_hashes": hashes_to_bytes(height.submission_hashes),
        "slot": height.slot,
        "blockhash": height.blockhash,
    }


def _height_of(row: Any) -> StoredHeight:
    ref = BlockRef(height=Height(row.height), hash=HeaderHash(row.hash))
    hashes = hashes_from_bytes(row.submission_hashes)
    return StoredHeight(ref, row.block, hashes, Slot(row.slot), row.blockhash)
