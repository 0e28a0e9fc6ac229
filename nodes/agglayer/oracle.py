"""Brings global exit roots from L1 to every rollup, by sequenced transactions of an oracle account.

Only the newest root is brought, at most one per rollup and interval: it covers the older ones. A root goes through the
sequencer as a plain transaction like any other, so every replica inserts it at the same place.

Nonces come from a journal: what the sequencer accepted is sequenced. Where the JSON-RPC of a rollup is known, its nonce
is compared at the start and when a root has not arrived in time, and everything from the lowest nonce that is missing
on is sent anew with other bytes (another gas limit): the sequencer takes the same bytes once only.

Each rollup is served by itself: one that is down, or refuses, holds up no other.
"""

import asyncio
import contextlib
import logging
import sqlite3
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from coincurve import PrivateKey

from nodes.agglayer.batch import L1Change, L1Level
from nodes.agglayer.l1_view import InfoLeaf
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import GLOBAL_EXIT_ROOT, insert_global_exit_root_call
from nodes.model.agglayer import NetworkId, NetworkParams
from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import InvalidSubmission, Overloaded, RpcError, TestbedError, Unavailable
from nodes.model.ids import LegHash, hex_of
from nodes.ports import Sequencer
from nodes.rules.payload import UnsignedTransaction, address_of, sign
from nodes.telemetry.clock import Clock
from nodes.wire.bundles import bundle_to_bytes

JOURNAL_FILE = "oracle.db"
GAS_LIMIT = 150_000
"""An insertion takes about 75,000."""
INTERVAL_S = 1.0
"""Between two roots of one rollup, at least."""
ARRIVAL_S = 10.0
"""After which a root that the rollup's nonce does not show counts as lost."""
RETRY_S = 0.5
REFUSED_PAUSE_S = 10.0
"""After something that trying again at once will not mend."""
MAX_DOUBLINGS = 5
"""A rollup that does not execute is waited for twice as long each time, up to 32 times."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS brought (
    network_id INTEGER NOT NULL, nonce INTEGER NOT NULL, attempt INTEGER NOT NULL, root BLOB NOT NULL,
    submission BLOB NOT NULL, is_accepted INTEGER NOT NULL, PRIMARY KEY (network_id, nonce)
) WITHOUT ROWID;
"""

NonceOf = Callable[[NetworkId], Awaitable[int]]
"""The oracle account's nonce on a rollup. Raises Unavailable or RpcError while that cannot be told."""

_log = logging.getLogger(__name__)


class ExitRoots(Protocol):
    """What the oracle reads of L1; `nodes.agglayer.l1_view.L1View` has it."""

    def leaf_count(self, level: L1Level) -> int:
        """Leaves of the L1 info tree at the head of a level."""
        ...

    def info_leaf(self, index: int) -> InfoLeaf:
        """A leaf of the L1 info tree."""
        ...

    def changes(self) -> AsyncGenerator[L1Change, None]:
        """The present head at once, then each new one."""
        ...


class _Brought(NamedTuple):
    """One transaction of the oracle on one rollup."""

    network_id: NetworkId
    nonce: int
    attempt: int
    root: bytes
    submission: bytes
    is_accepted: bool


class GlobalExitRootOracle:
    """`run` owns it until `stop`; sequencer and view belong to the caller."""

    def __init__(
        self,
        *,
        directory: Path,
        view: ExitRoots,
        sequencer: Sequencer,
        networks: Sequence[NetworkParams],
        key: PrivateKey,
        level: L1Level,
        clock: Clock,
        nonce_of: NonceOf | None = None,
        interval_s: float = INTERVAL_S,
        arrival_s: float = ARRIVAL_S,
    ) -> None:
        """`level`: from which L1 head on a root is brought; one that a reorg takes back stays on the rollups."""
        self._directory = directory
        self._view = view
        self._sequencer = sequencer
        self._networks = tuple(networks)
        self._key = key
        self._level = level
        self._clock = clock
        self._nonce_of = nonce_of
        self._interval_ns = int(interval_s * 1e9)
        self._arrival_ns = int(arrival_s * 1e9)
        self._database: sqlite3.Connection | None = None
        self._sent_ns: dict[NetworkId, int] = {}
        self._checked: set[NetworkId] = set()
        self._wanted = {network.network_id: asyncio.Event() for network in self._networks}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Bring roots until `stop`. A sequencer or an L1 that cannot be reached is waited for."""
        self._database = _open(self._directory)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._listen(), name="oracle: L1 heads")]
                tasks += [
                    group.create_task(self._work(network), name=f"oracle of {network.name}")
                    for network in self._networks
                ]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
        finally:
            self._database.close()

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()

    def root(self) -> bytes | None:
        """The global exit root that rollups should have now; None where L1 has none yet."""
        count = self._view.leaf_count(self._level)
        return self._view.info_leaf(count - 1).leaf.global_exit_root if count else None

    # The loop

    async def _listen(self) -> None:
        async with contextlib.aclosing(self._view.changes()) as changes:
            async for _ in changes:
                for wanted in self._wanted.values():
                    wanted.set()

    async def _work(self, network: NetworkParams) -> None:
        wanted = self._wanted[network.network_id]
        while True:
            wanted.clear()
            due_ns = await self._serve(network)
            wait_s = None if due_ns is None else max(0, due_ns - self._clock.monotonic_ns()) / 1e9
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await wanted.wait()

    async def _serve(self, network: NetworkParams) -> int | None:
        """Do for one rollup what is due; the monotonic time at which to look again, or None where nothing is open."""
        now_ns = self._clock.monotonic_ns()
        try:
            return await self._bring(network, now_ns)
        except (Unavailable, Overloaded, RpcError) as problem:
            _log.info("oracle: %s: %s; trying again", network.name, problem)
            return now_ns + int(RETRY_S * 1e9)
        except TestbedError as problem:
            _log.error("oracle: %s has no new exit root: %s; trying again later", network.name, problem)
            return now_ns + int(REFUSED_PAUSE_S * 1e9)

    async def _bring(self, network: NetworkParams, now_ns: int) -> int | None:
        network_id = network.network_id
        last = self._last(network_id)
        if last is not None and not last.is_accepted:
            await self._submit(last)  # a crash or a full queue came between
            last = self._last(network_id)
        if last is not None and (lost := await self._lost(last, now_ns)):
            for one in lost:
                await self._again(network, one)
            return now_ns + self._arrival_ns
        root = self.root()
        if root is not None and (last is None or last.root != root) and not self._was_brought(network_id, root):
            due_ns = self._sent_ns.get(network_id, now_ns - self._interval_ns) + self._interval_ns
            if due_ns > now_ns:
                return due_ns
            nonce = await self._next_nonce(network_id, last)
            await self._write_and_submit(network, nonce=nonce, attempt=0, root=root)
        if self._nonce_of is not None and network_id not in self._checked:
            return self._clock.monotonic_ns() + self._arrival_ns
        return None

    async def _lost(self, last: _Brought, now_ns: int) -> list[_Brought]:
        """Transactions that the rollup has not executed in time; none where nobody can be asked."""
        network_id = last.network_id
        sent_ns = self._sent_ns.get(network_id)
        patience_ns = self._arrival_ns << min(last.attempt, MAX_DOUBLINGS)
        is_due = sent_ns is None or now_ns - sent_ns >= patience_ns
        if self._nonce_of is None or network_id in self._checked or not is_due:
            return []
        try:
            nonce = await self._nonce_of(network_id)
        except (Unavailable, RpcError) as problem:
            _log.info("oracle: nonce on network %d: %s", network_id, problem)
            return []  # that nobody answers is no reason to bring nothing new
        if nonce > last.nonce:
            self._checked.add(network_id)
            return []
        if sent_ns is None:  # of an earlier run: it may be on its way
            self._sent_ns[network_id] = now_ns
            return []
        # Those after a lost one were skipped for their nonce.
        return [lost for at in range(nonce, last.nonce + 1) if (lost := self._of_nonce(network_id, at)) is not None]

    async def _again(self, network: NetworkParams, lost: _Brought) -> None:
        account = hex_of(address_of(self._key))
        _log.warning(
            "oracle: %s did not execute transaction %d of %s, sent %d times; sending it anew",
            network.name, lost.nonce, account, lost.attempt + 1,
        )  # fmt: skip
        await self._write_and_submit(network, nonce=lost.nonce, attempt=lost.attempt + 1, root=lost.root)

    async def _next_nonce(self, network_id: NetworkId, last: _Brought | None) -> int:
        if last is not None:
            return last.nonce + 1
        # Without a journal the rollup knows, or it is the first transaction.
        return 0 if self._nonce_of is None else await self._nonce_of(network_id)

    async def _write_and_submit(self, network: NetworkParams, *, nonce: int, attempt: int, root: bytes) -> None:
        payload = sign(
            UnsignedTransaction(
                chain_id=network.chain_id,
                nonce=nonce,
                gas_limit=GAS_LIMIT + attempt,
                to=GLOBAL_EXIT_ROOT,
                calldata=insert_global_exit_root_call(root),
            ),
            self._key,
        )
        leg = Leg(rollup_id=network.rollup_id, payload=payload, leg_hash=LegHash(b""))
        submission = bundle_to_bytes(Bundle(version=0, expiry=0, legs=(leg,)))
        brought = _Brought(network.network_id, nonce, attempt, root, submission, False)
        self._connection.execute("INSERT OR REPLACE INTO brought VALUES (?, ?, ?, ?, ?, ?)", brought)
        await self._submit(brought)

    async def _submit(self, brought: _Brought) -> None:
        (ticket,) = await self._sequencer.submit([brought.submission])
        if not ticket.accepted:
            raise InvalidSubmission(f"the sequencer refuses the oracle's transaction: {ticket.reason}")
        self._connection.execute(
            "UPDATE brought SET is_accepted = 1 WHERE network_id = ? AND nonce = ?", (brought.network_id, brought.nonce)
        )
        self._sent_ns[brought.network_id] = self._clock.monotonic_ns()
        self._checked.discard(brought.network_id)

    # The journal

    @property
    def _connection(self) -> sqlite3.Connection:
        assert self._database is not None, "opened by run"
        return self._database

    def _last(self, network_id: NetworkId) -> _Brought | None:
        return self._select("WHERE network_id = ? ORDER BY nonce DESC LIMIT 1", network_id)

    def _of_nonce(self, network_id: NetworkId, nonce: int) -> _Brought | None:
        return self._select("WHERE network_id = ? AND nonce = ?", network_id, nonce)

    def _was_brought(self, network_id: NetworkId, root: bytes) -> bool:
        """A rollup refuses a root that it has; after a reorg an old one may be the newest again."""
        return self._select("WHERE network_id = ? AND root = ?", network_id, root) is not None

    def _select(self, where: str, *arguments: object) -> _Brought | None:
        columns = "SELECT network_id, nonce, attempt, root, submission, is_accepted FROM brought "
        row = self._connection.execute(columns + where, arguments).fetchone()
        if row is None:
            return None
        network, nonce, attempt, root, submission, is_accepted = row
        return _Brought(NetworkId(network), nonce, attempt, root, submission, bool(is_accepted))


def rpc_nonces(clients: Mapping[NetworkId, L1Client], account: bytes) -> NonceOf:
    """`NonceOf` over the JSON-RPC clients of the rollups (the client of L1 speaks to any Ethereum node)."""

    async def nonce_of(network_id: NetworkId) -> int:
        if network_id not in clients:
            raise Unavailable(f"no JSON-RPC of network {network_id} is configured")
        return await clients[network_id].nonce(account)

    return nonce_of


def _open(directory: Path) -> sqlite3.Connection:
    directory.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(directory / JOURNAL_FILE, timeout=0.5, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.executescript(_SCHEMA)
    return connection
