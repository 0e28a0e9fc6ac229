"""A sequencer and an engine in memory, to drive a rollup node without processes; and the node put together with them.

The engine is deterministic and knows nonces only: enough for skips, hashes that depend on the whole history, windows
and sudden death. The sequencer serves what a test puts in and misbehaves on request.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes.model.bundle import Bundle
from nodes.model.config import RollupNodeConfig
from nodes.model.errors import EngineFailure, Pruned, Unavailable
from nodes.model.execution import ExecutedBlock, Outcome, SkipReason, Status, TestnetParams, Transaction
from nodes.model.ids import Height, RollupId, hex_of
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    RolledBack,
    SequencedBlock,
    SequencerEvent,
)
from nodes.ports import Mailbox, Sequencer, SequencerStatus, Ticket
from nodes.rollup.divergence_link import Unwatched
from nodes.rollup.engine import StartEngine
from nodes.rollup.node import RollupNode
from nodes.rollup.safe_heights import Certifier
from nodes.rules import sequenced_block as blocks
from nodes.rules.hashes import keccak256, sha256
from nodes.rules.payload import decode
from nodes.telemetry.clock import Clock, SystemClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import Event
from nodes.telemetry.tracer import MemoryTracer, Tracer
from tests.support.crafting import CHAIN_ID, ROLLUPS, make_testnet, seal

WAIT_S = 60.0
TEST_S = 300.0
"""Like the other, a guard against hanging; for all that a test does with a running node."""
GENESIS_TIME_S = 1_700_000_000


class MemorySequencer:
    """A sequencer chain in memory; satisfies `nodes.ports.Sequencer`."""

    def __init__(self, *, commitment: Commitment = Commitment.FIRM) -> None:
        self.commitment = commitment
        self.chain: list[tuple[SequencedBlock, blocks.BlockTrees]] = []
        self.tamper: Callable[[FilteredBlock], FilteredBlock] = lambda block: block
        self.follows: list[list[BlockRef]] = []
        """The locators readers came with."""
        self.is_away = False
        self._news = asyncio.Event()
        self._generation = 0
        self._raised: CommitmentRaised | None = None
        self._time_ns = GENESIS_TIME_S * 1_000_000_000

    @property
    def genesis(self) -> BlockRef:
        """Height 0."""
        return blocks.genesis_ref(CHAIN_ID)

    def ref(self, height: int) -> BlockRef:
        """The block at a height."""
        if height == 0:
            return self.genesis
        return BlockRef(height=Height(height), hash=self.chain[height - 1][0].header_hash)

    def cut(self, *submissions: Bundle) -> int:
        """Sequence one block; its height."""
        self._time_ns += 100_000_000
        self.chain.append(seal(blocks.place(submissions), parent=self.ref(len(self.chain)), time_ns=self._time_ns))
        self._wake()
        return len(self.chain)

    def fork(self, height: int) -> None:
        """Abandon everything above a height."""
        del self.chain[height:]
        self._time_ns += 1
        self._generation += 1
        self._wake()

    def raise_commitment(self, height: int, level: Commitment) -> None:
        """Tell every reader."""
        self._raised = CommitmentRaised(height=Height(height), level=level)
        self._wake()

    def hang_up(self) -> None:
        """End every stream."""
        self._generation += 1
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Tests cut blocks directly."""
        raise NotImplementedError

    async def status(self) -> SequencerStatus:
        """Not needed here."""
        raise NotImplementedError

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """As the port says; streams end with Unavailable after `fork` and `hang_up`, so that readers reconnect."""
        self.follows.append(list(locator))
        generation = self._generation
        common = next((ref for ref in locator if ref.height <= len(self.chain) and self.ref(ref.height) == ref), None)
        place = common or self.genesis
        if locator and place != locator[0]:
            yield RolledBack(to=place)
        height, raised = int(place.height), None
        while True:
            if self.is_away or generation != self._generation:
                raise Unavailable("the sequencer hung up")
            if height < len(self.chain):
                height += 1
                block, trees = self.chain[height - 1]
                filtered = blocks.filter_block(block, trees, rollup_id, self.commitment)
                yield BlockSequenced(block=self.tamper(filtered))
            elif self._raised is not raised and self._raised is not None:
                raised = self._raised
                yield raised
            else:
                await self._news.wait()


class MemoryEngine:
    """One chain in memory; satisfies `nodes.rollup.engine.EngineProcess`."""

    def __init__(self, *, window: int, state: bytes | None, nondeterminism: bytes = b"") -> None:
        document: list[dict[str, Any]] = [_genesis()] if state is None else json.loads(state)
        self._chain = document
        self._held_from = len(document) - 1
        self._window = window
        self._ended = asyncio.Event()
        self._nondeterminism = nondeterminism
        self.die_in: Callable[[int], bool] = lambda number: False
        """Whether building this block number kills the engine."""
        self.builds = 0
        self.receipt_blocks = 4
        """Newest blocks whose receipts it remembers."""
        self.pid = 0

    async def build_block(
        self, transactions: Sequence[tuple[bytes, Transaction]], *, timestamp_s: int
    ) -> ExecutedBlock:
        """Every transaction with the sender's next nonce succeeds; value 13 reverts; the others are skipped.

        Of several with value 21 in one block, the first succeeds and the others revert. Deposits are never skipped.
        """
        await asyncio.sleep(0)
        self._check()
        assert transactions
        parent = self._chain[-1]
        if self.die_in(parent["number"] + 1):
            self.kill()
            self._check()
        nonces, hashes, outcomes = dict(parent["nonces"]), [], []
        contended = False
        for payload, transaction in transactions:
            sender = transaction.sender.hex()
            expected = nonces.get(sender, 0)
            if transaction.nonce == expected or transaction.tx_type == 0x7E:
                nonces[sender] = expected + 1
                hashes.append(payload)
                reverts = transaction.value == 13 or (transaction.value == 21 and contended)
                contended = contended or transaction.value == 21
                status, reason = Status.REVERTED if reverts else Status.SUCCEEDED, None
            else:
                status = Status.SKIPPED
                reason = SkipReason.NONCE_TOO_LOW if transaction.nonce < expected else SkipReason.NONCE_TOO_HIGH
            outcomes.append(Outcome(transaction.tx_hash, status, reason))
        state_root = sha256(b"".join([bytes.fromhex(parent["hash"]), *hashes, self._nondeterminism]))
        block_hash = sha256(state_root + timestamp_s.to_bytes(8, "big"))
        number = parent["number"] + 1
        self._chain.append(
            {
                "number": number,
                "hash": block_hash.hex(),
                "timestamp_s": timestamp_s,
                "nonces": nonces,
                "transactions": [hex_of(keccak256(payload)) for payload in hashes],
            }
        )
        self._held_from = max(self._held_from, number - self._window)
        self.builds += 1
        return ExecutedBlock(
            number=number,
            hash=block_hash,
            parent_hash=bytes.fromhex(parent["hash"]),
            state_root=state_root,
            timestamp_s=timestamp_s,
            gas_used=21_000 * len(hashes),
            receipts_root=bytes(32),
            logs_bloom=bytes(256),
            outcomes=tuple(outcomes),
        )

    async def rewind(self, number: int) -> None:
        """Within the window only."""
        self._check()
        if number < self._held_from:
            raise Pruned(f"block {number} is out of the window")
        while self._chain[-1]["number"] > number:
            self._chain.pop()

    async def dump(self) -> bytes:
        """Everything."""
        self._check()
        return json.dumps(self._chain).encode()

    async def head(self) -> tuple[int, bytes]:
        """Number and hash."""
        self._check()
        return self._chain[-1]["number"], bytes.fromhex(self._chain[-1]["hash"])

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """What the node itself reads."""
        await asyncio.sleep(0)
        self._check()
        if method == "eth_getBlockByNumber":
            entry = self._chain[int(params[0], 16)]
            return {
                "hash": "0x" + entry["hash"],
                "parentHash": "0x" + bytes(32).hex(),
                "stateRoot": "0x" + bytes(32).hex(),
                "receiptsRoot": "0x" + bytes(32).hex(),
                "timestamp": hex(entry["timestamp_s"]),
            }
        if method == "eth_getTransactionCount":
            return hex(self._chain[int(params[1], 16)]["nonces"].get(params[0][2:], 0))
        if method == "eth_getBlockReceipts":
            entry = self._chain[int(params[0], 16)]
            return [_receipt(tx_hash, entry) for tx_hash in entry["transactions"]]
        if method == "eth_getTransactionReceipt":
            holders = [entry for entry in self._chain[-self.receipt_blocks :] if params[0] in entry["transactions"]]
            return _receipt(params[0], holders[0]) if holders else None
        raise AssertionError(f"the node should not ask {method}")

    def kill(self) -> None:
        """The process is gone."""
        self._ended.set()

    async def stop(self) -> None:
        """The process is gone in order."""
        self._ended.set()

    async def alter(self, account: bytes, *, slot: bytes, add: int) -> None:
        raise AssertionError("the state of this engine is no state")

    async def wait_ended(self) -> str:
        """Until it is gone."""
        await self._ended.wait()
        return "was killed"

    def _check(self) -> None:
        if self._ended.is_set():
            raise EngineFailure("the engine has ended")


def _genesis() -> dict[str, Any]:
    document = {"number": 0, "hash": sha256(b"genesis").hex(), "timestamp_s": GENESIS_TIME_S}
    return {**document, "nonces": {}, "transactions": []}


def _receipt(tx_hash: str, entry: dict[str, Any]) -> dict[str, Any]:
    return {"transactionHash": tx_hash, "blockHash": "0x" + entry["hash"], "gasUsed": "0x5208"}


class EngineRoom:
    """Starts engines and remembers them."""

    def __init__(self, *, window: int = 8) -> None:
        self.window = window
        self.started: list[MemoryEngine] = []
        self.states: list[bytes | None] = []
        self.nondeterminism = b""
        self.prepare: Callable[[MemoryEngine], None] = lambda engine: None

    async def start(self, state: bytes | None) -> MemoryEngine:
        """A `StartEngine`."""
        await asyncio.sleep(0)
        engine = MemoryEngine(window=self.window, state=state, nondeterminism=self.nondeterminism)
        self.prepare(engine)
        self.started.append(engine)
        self.states.append(state)
        return engine


def make_config(name: str = "rollup-1", **changes: Any) -> RollupNodeConfig:
    """The config of a node of the first test rollup."""
    config = RollupNodeConfig(
        name=name,
        rollup_id=ROLLUPS[0],
        backend="memory",
        finality_options={},
        sequencer_endpoints=(),
        genesis="{}",
        checkpoint_interval_heights=4,
        rewind_window=8,
    )
    return replace(config, **changes)


class WaitableTracer(MemoryTracer):
    """Keeps events and lets a test wait for the next one."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self._recorded = asyncio.Event()

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        """Keep the event and wake whoever waits."""
        super().record(event, monotonic_ns=monotonic_ns)
        self._recorded.set()
        self._recorded = asyncio.Event()

    async def wait_recorded(self) -> None:
        """Until the next event is recorded."""
        await self._recorded.wait()


class Bench:
    """One rollup node with everything around it."""

    def __init__(
        self,
        directory: Path,
        sources: Sequence[Sequencer],
        start_engine: StartEngine,
        *,
        config: RollupNodeConfig | None = None,
        testnet: TestnetParams | None = None,
        verify_finality: Callable[[bytes, bytes], bool] = lambda header_hash, proof: True,
        final_level: Commitment = Commitment.FIRM,
        mailbox: Mailbox | None = None,
        certifier: Certifier | None = None,
        crash: CrashPoint = no_crash,
        watched: Callable[[Clock, Tracer], Unwatched] | None = None,
    ) -> None:
        """`watched` makes what checks the engine."""
        clock = SystemClock()
        self.tracer = WaitableTracer(clock)
        self.node = RollupNode(
            config or make_config(),
            testnet=testnet or make_testnet(),
            directory=directory,
            sources=[(f"source-{at}", source) for at, source in enumerate(sources)],
            verify_finality=verify_finality,
            start_engine=start_engine,
            decode=decode,
            clock=clock,
            tracer=self.tracer,
            final_level=final_level,
            mailbox=mailbox,
            certifier=certifier,
            crash=crash,
            watch=watched(clock, self.tracer) if watched is not None else None,
        )

    def events(self, kind: type[Event]) -> list[Any]:
        """Traced events of one type."""
        return [stamped.event for stamped in self.tracer.stamped if isinstance(stamped.event, kind)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[RollupNode]:
        """Run the node until the block is left."""
        async with asyncio.timeout(TEST_S), asyncio.TaskGroup() as group:
            group.create_task(self.node.run(), name="node under test")
            await self.node.wait_ready()
            yield self.node
            self.node.stop()

    async def height(self, height: int) -> None:
        """Wait until the node has executed a height."""
        async with asyncio.timeout(WAIT_S):
            heads = self.node.follow_heads()
            try:
                async for head in heads:
                    if head.height >= height:
                        return
            finally:
                await heads.aclose()  # type: ignore[attr-defined]  # a generator, which the Protocol does not promise

    async def traced(self, kind: type[Event], count: int = 1) -> Any:
        """Wait until so many events of a type were traced; the last of them."""
        async with asyncio.timeout(WAIT_S):
            while len(self.events(kind)) < count:
                await self.tracer.wait_recorded()
        return self.events(kind)[count - 1]

    def hashes(self) -> list[str]:
        """Hashes of all blocks."""
        head = self.node.index.head.number
        return [hex_of(header.hash) for header in self.node.index.headers(0, head)]
