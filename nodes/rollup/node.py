"""A rollup node: puts follower, executor and engine together, and gets them going again after a loss.

What other parts use is at the top of `RollupNode`: `index`, `pending`, `heads`, `subscribe_heads`, `request`, `logs`,
`receipt` for users' JSON-RPC; `status`, `follow_heads`, `block_hashes`, `bundle_fates`, `outcome_proofs` for nodes.

Recovery has one path: start an engine at the newest usable checkpoint, follow the sequencer from there, execute again
what was executed before, and compare every hash with the journal: engine lost, process restarted, or rewound too far.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nodes.model.config import RollupNodeConfig
from nodes.model.errors import EngineFailure, InvalidInput, Unavailable
from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.faults import Diverge, Fault, KillEngine, Rewind, SilenceReports
from nodes.model.ids import ChainId, Height, chain_id_of
from nodes.model.limits import MAX_BLOCK_HASHES
from nodes.model.promises import OutcomeEvidence
from nodes.model.sequenced_block import Commitment
from nodes.model.status import Heads, LegFate, RollupStatus
from nodes.ports import Mailbox, Sequencer
from nodes.rollup.chain import Chain, Tip
from nodes.rollup.checkpoint import CheckpointStore
from nodes.rollup.decode_ahead import DecodeAhead
from nodes.rollup.divergence_link import Unwatched, joined, make_diverge
from nodes.rollup.engine import EngineProcess, StartEngine
from nodes.rollup.engine_reads import EngineReads, genesis_block
from nodes.rollup.executor import Executor, OutOfWindow, first_checkpoint_after
from nodes.rollup.follower import QUEUE_HEIGHTS, Follower, NewsQueue, Place, TooFarBack, Wake, Work
from nodes.rollup.heads import HeadAnnouncer, HeadSubscription
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import Journal
from nodes.rollup.pending import PendingPool
from nodes.rollup.records import IndexedBlock
from nodes.rollup.restore import restore
from nodes.rollup.safe_heights import Certifier
from nodes.rollup.session import EngineLost, Halted, Losses, Over, RequestedRewind, Rewound, Stopped, run_until_over
from nodes.rollup.settling import settling_of
from nodes.rules.derivation import Decode, Derivation
from nodes.rules.finality import VerifyFinality
from nodes.rules.hashes import sha256
from nodes.rules.sequenced_block import genesis_ref
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

_log = logging.getLogger(__name__)


class RollupNode:
    """One rollup node. `run` owns everything it starts, until `stop` or until something breaks."""

    def __init__(
        self,
        config: RollupNodeConfig,
        *,
        testnet: TestnetParams,
        directory: Path,
        sources: Sequence[tuple[str, Sequencer]],
        verify_finality: VerifyFinality,
        start_engine: StartEngine,
        decode: Decode,
        decode_ahead: DecodeAhead | None = None,
        clock: Clock,
        tracer: Tracer,
        final_level: Commitment = Commitment.FIRM,
        crash: CrashPoint = no_crash,
        mailbox: Mailbox | None = None,
        certifier: Certifier | None = None,
        watch: Unwatched | None = None,
    ) -> None:
        """`mailbox`: needed where heights have verdicts. `certifier`: told of safe heights. `watch`: checks the engine.

        `sources` serve the same sequencer chain. `final_level`: the promise from which on a height is final for users.
        """
        params = testnet.rollup(config.rollup_id)
        assert params is not None, "the host checks that the rollup is of its testnet"
        self.config = config
        self.testnet = testnet
        self.params: RollupParams = params
        self.name = config.name
        self.chain_id: ChainId = chain_id_of(config.rollup_id)
        self.pending = PendingPool()
        self.rpc_url = ""
        """Set by whoever serves the JSON-RPC; shown in the status."""
        self._directory = directory
        self._sources = sources
        self._verify_finality = verify_finality
        self._start_engine = start_engine
        self._decode = decode
        self._decode_ahead = decode_ahead
        self._clock = clock
        self._tracer = tracer
        self._final_level = final_level
        self._crash = crash
        self._watch = watch or Unwatched()
        self._genesis = genesis_ref(testnet.sequencer_chain_id)
        self._announcer = HeadAnnouncer()
        self._cpu = StageCpu("verify", "derive", "engine", "index", "checkpoint")
        self._settling = settling_of(
            config,
            chain_id=testnet.sequencer_chain_id,
            sources=sources,
            mailbox=mailbox,
            certifier=certifier,
            tracer=tracer,
            cpu=self._cpu,
            crash=crash,
        )
        self._stopping = asyncio.Event()
        self._ready = asyncio.Event()
        self._ended = False
        self._was_killed = False
        self._journal: Journal | None = None
        self._index: ChainIndex | None = None
        self._chain: Chain | None = None
        self._reads: EngineReads | None = None
        self._engine: EngineProcess | None = None
        self._executor: Executor | None = None
        self._follower: Follower | None = None
        self._derivation = self._new_derivation()
        self._derivable_from = Height(0)
        self._news = asyncio.Event()
        self._queue: asyncio.Queue[Work] = NewsQueue(QUEUE_HEIGHTS, self._news)
        self._requested = RequestedRewind()

    # For users' JSON-RPC.

    @property
    def index(self) -> ChainIndex:
        """Blocks, transactions and bundles. Raises Unavailable before the node is ready the first time."""
        if self._index is None:
            raise Unavailable(f"{self.name} is starting; wait until it is ready")
        return self._index

    @property
    def heads(self) -> Heads:
        """latest, safe and finalized. Raises Unavailable before the node is ready the first time."""
        return self._opened().heads

    def subscribe_heads(self) -> HeadSubscription:
        """Every new block and every rewind from now on, in order; close it when done."""
        return self._announcer.subscribe()

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """One read of the engine; name blocks by number or hash, never by tag.

        Raises RpcError with the engine's own code, Unavailable while the engine is being replaced, EngineFailure.
        """
        return await self._current_engine().request(method, params)

    async def logs(self, block: IndexedBlock) -> list[dict[str, Any]]:
        """The logs of a block as Ethereum JSON, in order; none where its bloom is empty. Raises Pruned, Unavailable."""
        return await self._opened_reads().logs(block)

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt as the engine gives it (Ethereum JSON); None for a transaction in no block.

        Kept for users' own transactions and small blocks; others are the engine's, which remembers the newest blocks.
        Raises Pruned where it has forgotten (the fate itself is in the index), Unavailable.
        """
        return await self._opened_reads().receipt(tx_hash)

    # For other nodes and the coordinator; satisfies nodes.wire.rollup.RollupView.

    async def status(self) -> RollupStatus:
        """A snapshot. Raises Unavailable before the node is ready the first time."""
        chain, follower = self._opened(), self._follower
        return RollupStatus(
            name=self.name,
            chain_id=self.chain_id,
            heads=chain.heads,
            sequencer_height=max(chain.height, follower.height if follower is not None else Height(0)),
            pending_transactions=len(self.pending),
            transactions=self.index.transactions,
            rpc_url=self.rpc_url,
            stalled=joined(follower.stalled if follower else "", self._settling.stalled, self._watch.found),
        )

    async def follow_heads(self) -> AsyncIterator[Heads]:
        """The heads at once, then after changes; a slow reader misses states in between, never the newest."""
        async for _ in self._announcer.changes():
            yield self._opened().heads

    async def block_hashes(self, *, first_number: int, count: int) -> Sequence[bytes]:
        """Hashes of up to `count` blocks, at most `MAX_BLOCK_HASHES`, also of pruned ones."""
        self._opened()
        assert self._journal is not None
        last = first_number + min(count, MAX_BLOCK_HASHES) - 1
        return [header.hash for header in self._journal.headers(first_number, last)]

    async def bundle_fates(self, bundle_hash: bytes) -> Sequence[LegFate]:
        """Every leg of the bundle that this rollup has met, newest height first. Raises Pruned."""
        return self.index.bundle_fates(bundle_hash)

    async def outcome_proofs(self, bundle_hash: bytes, leg_index: int) -> Sequence[OutcomeEvidence]:
        """Fates of one leg, proved, for each inclusion that a certificate covers. Raises Unavailable, Pruned."""
        heights = {fate.height for fate in self.index.bundle_fates(bundle_hash) if fate.leg_index == leg_index}
        proofs = [self._settling.outcome_proof(bundle_hash, leg_index, height) for height in sorted(heights)]
        return [proof for proof in proofs if proof is not None]

    # For the host.

    @property
    def engine_pid(self) -> int:
        """Process id of the engine; 0 while there is none."""
        return self._engine.pid if self._engine is not None else 0

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._cpu.totals_ns

    async def wait_ready(self) -> None:
        """Return when the engine stands where the node stood before. Raises Unavailable where it ended first."""
        await self._ready.wait()
        if self._ended:
            raise Unavailable(f"{self.name} has ended")

    def stop(self) -> None:
        """Let `run` return soon. Idempotent."""
        self._stopping.set()

    def settled_final(self, height: Height) -> None:
        """Every height up to this one is settled, and that is final on L1: it counts as finalized for users.

        Raises Unavailable before the node is ready the first time.
        """
        self._settling.settled_final(self._opened(), height)

    async def inject(self, fault: Fault) -> None:
        """Take a fault; returns once it has it. Raises InvalidInput for one it cannot have, Pruned, Unavailable."""
        match fault:
            case KillEngine():
                if self._engine is None:
                    raise Unavailable(f"{self.name} has no engine at the moment")
                self._was_killed = True
                self._engine.kill()
            case Rewind(height=height):
                await self._rewind_on_command(height)
            case Diverge():
                await make_diverge(self._current_engine(), fault, self.index, self._decode, chain_id=self.chain_id)
            case SilenceReports(on=on) if self._settling.has_verdicts:
                self._settling.silence(on)
            case _:
                raise InvalidInput(f"{self.name} is a rollup node; it cannot have the fault {type(fault).__name__}")

    async def run(self) -> None:
        """Run until `stop`. Raises what broke: StateDivergence, EngineFailure, MissingTool, UnknownName, or a bug."""
        try:
            await self._open()
            await self._settling.run_beside(self._restore_and_run())
        finally:
            self._ended = True
            self._ready.set()
            self._announcer.close()
            self._requested.refuse(Unavailable(f"{self.name} has ended"))
            await self._drop_engine()
            if self._journal is not None:
                self._journal.close()
            self._settling.close()

    # Sessions: from one start of the reader to the next.

    async def _restore_and_run(self) -> None:
        await self._restore(limit=None, started_ns=self._clock.monotonic_ns())
        await self._run_sessions()

    async def _run_sessions(self) -> None:
        losses = Losses(self.name)
        while True:
            over = await self._session()
            started_ns = self._clock.monotonic_ns()
            chain = self._opened()
            if isinstance(over, Stopped | Halted):
                await self._stopping.wait()  # a halted node serves what it has
                return
            if isinstance(over, Rewound):
                await self._go_back(over, started_ns)
                continue
            losses.count(over, chain.height, was_killed=self._was_killed)
            self._was_killed = False
            _log.warning("%s lost its engine at height %d: %s", self.name, chain.height, over)
            await self._restore(limit=None, started_ns=started_ns)

    async def _session(self) -> Over:
        """Follow and execute until something ends it; what did."""
        executor = self._executor
        assert executor is not None, "a session has an engine"
        self._news = asyncio.Event()
        self._queue = NewsQueue(QUEUE_HEIGHTS, self._news)
        if self._requested.is_waiting:
            self._queue.put_nowait(Wake())  # asked for between sessions: there may be no height for long
        follower = self._new_follower(executor.tip.place)
        self._follower = follower
        parts = {
            f"{self.name} follower": self._follow(follower),
            f"{self.name} executor": self._execute(executor),
            f"{self.name} engine": self._watch_engine(executor.engine),
            f"{self.name} stop": self._watch_stop(),
        }
        parts |= self._settling.begin_session(executor, self._opened(), self._opened_reads(), self._news)
        if not self._opened().recovering:
            self._ready.set()
        return await run_until_over(parts)

    async def _follow(self, follower: Follower) -> None:
        try:
            await follower.run()
        except TooFarBack as error:
            raise Rewound(error.place, comes_again=False, from_checkpoint=True) from error

    async def _execute(self, executor: Executor) -> None:
        resolving = self._settling.resolving
        run = executor.run if resolving is None else resolving.run
        try:
            await run(self._queue, self._derivation, self._between_heights)
        except EngineFailure as error:
            raise EngineLost(str(error)) from error
        except OutOfWindow as error:
            raise Rewound(error.place, comes_again=False, from_checkpoint=True) from error

    async def _watch_engine(self, engine: EngineProcess) -> None:
        raise EngineLost(await engine.wait_ended())

    async def _watch_stop(self) -> None:
        await self._stopping.wait()
        raise Stopped

    def _between_heights(self) -> None:
        if not self._opened().recovering:
            self._ready.set()
            self._watch.raise_if_halted()  # what was executed before is executed again, so that it can be served
        self._requested.raise_it()

    # Going back.

    async def _rewind_on_command(self, height: Height) -> None:
        chain = self._opened()
        place = chain.place_at(height) if height >= 0 else None
        if place is None or height > chain.height:
            raise InvalidInput(f"{self.name} cannot rewind to height {height}; it has heights 0 to {chain.height}")
        self.index.check_rewind(height)
        if self._requested.is_waiting or self._ended:
            raise Unavailable(f"{self.name} is rewinding already or has ended")
        done = self._requested.ask(Rewound(place, comes_again=True, from_checkpoint=False))
        if not self._queue.full():
            self._queue.put_nowait(Wake())
        self._news.set()  # a full queue may wait for verdicts
        await done

    async def _go_back(self, over: Rewound, started_ns: int) -> None:
        chain, executor = self._opened(), self._executor
        assert executor is not None, "sessions have one"
        # What has no verdict yet may be executed otherwise the next time.
        self._settling.forget_unresolved(chain, back_to=None if over.comes_again else over.place.ref.height)
        until = chain.height
        place = over.place if over.place.ref.height <= until else chain.place
        chain.rewind(place, comes_again=over.comes_again)
        height = place.ref.height
        try:
            if over.from_checkpoint or height < max(self._derivable_from, self._derivation.rewindable_from):
                raise OutOfWindow(place)
            await executor.rewind(place)
        except (OutOfWindow, EngineFailure):
            await self._restore(limit=height, started_ns=started_ns, until=until if over.comes_again else height)
        else:
            # An engine that still recovers is below that height, and the reader starts again where the engine stands.
            reached = executor.tip.height
            self._derivation.rewind(reached)
            if over.comes_again:
                chain.begin_recovery(restored=reached, until=until, started_ns=started_ns)
        self._requested.done(over)

    # Opening and restoring.

    async def _open(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        identity = sha256(self.testnet.sequencer_chain_id + self.config.rollup_id + self.config.genesis.encode())
        self._journal = Journal(self._directory / "journal.sqlite", identity=identity)
        self._checkpoints = CheckpointStore(self._directory / "checkpoints", crash=self._crash)
        if self._journal.block(0) is None:
            self._engine = await self._start_engine(None)
            self._journal.insert_genesis(await genesis_block(self._engine))
        self._index = ChainIndex(self._journal, history_blocks=self.config.history_blocks)
        settling = self._settling
        withhold, has_verdicts = settling.withhold_from, settling.has_verdicts
        self._watch.open(self._index, directory=self._directory, withhold_from=withhold, can_exclude=has_verdicts)
        settling.open(self._directory / "verdicts.sqlite", identity=identity)
        self._reads = EngineReads(self._journal, self._index, self._current_engine)
        self._chain = Chain(
            journal=self._journal,
            index=self._index,
            pending=self.pending,
            announcer=self._announcer,
            genesis=self._genesis,
            final_level=self._final_level,
            clock=self._clock,
            tracer=self._tracer,
            crash=self._crash,
            has_verdicts=has_verdicts,
            is_settled=settling.is_settled,
            resolved=settling.resolved,
            settled=settling.settled,
        )

    async def _restore(self, *, limit: Height | None, started_ns: int, until: Height | None = None) -> None:
        """An engine at the newest usable checkpoint up to `limit`, and derivation with it."""
        chain = self._opened()
        self._settling.forget_unresolved(chain, back_to=None)
        self._executor = None
        self._derivation = self._new_derivation()
        if chain.height == 0 and self._engine is not None and limit is None and self._follower is None:
            tip = chain.tip_at(Height(0))  # the first start: the engine that told the genesis block
        else:
            await self._drop_engine()
            restored = await restore(
                name=self.name,
                start_engine=self._start_engine,
                checkpoints=self._checkpoints,
                chain=chain,
                limit=limit,
            )
            self._engine, tip = restored.engine, restored.tip
            self._derivation.restore(restored.replay_window)
        self._derivable_from = tip.height
        self._executor = self._new_executor(tip)
        until = chain.height if until is None else until
        if until > 0:
            chain.begin_recovery(restored=tip.height, until=until, started_ns=started_ns)

    async def _drop_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.stop()

    # Parts.

    def _new_derivation(self) -> Derivation:
        return Derivation(testnet=self.testnet, rollup_id=self.config.rollup_id, decode=self._decode)

    def _new_follower(self, start: Place) -> Follower:
        return Follower(
            sources=self._sources,
            rollup_id=self.config.rollup_id,
            chain_id=self.testnet.sequencer_chain_id,
            verify_finality=self._verify_finality,
            check_proofs=self.config.verify_proofs,
            derivation=self._derivation,
            decode_ahead=self._decode_ahead,
            start=start,
            oldest_derivable=self._derivable_from,
            place_at=self._opened().place_at,
            queue=self._queue,
            clock=self._clock,
            tracer=self._tracer,
            cpu=self._cpu,
        )

    def _new_executor(self, tip: Tip) -> Executor:
        assert self._engine is not None, "an engine was started"
        return Executor(
            engine=self._engine,
            tip=tip,
            chain=self._opened(),
            reads=self._opened_reads(),
            checkpoints=self._checkpoints,
            checkpoint_interval_heights=self.config.checkpoint_interval_heights,
            first_checkpoint_after=first_checkpoint_after(self.name, self.config.checkpoint_interval_heights),
            replay_window=self.testnet.replay_window,
            clock=self._clock,
            tracer=self._tracer,
            cpu=self._cpu,
            crash=self._crash,
            observe=self._settling.observer(self._opened(), self._opened_reads()),
            prepare=self._settling.prepare,
            witness=self._watch.witness,
        )

    def _opened(self) -> Chain:
        if self._chain is None:
            raise Unavailable(f"{self.name} is starting; wait until it is ready")
        return self._chain

    def _opened_reads(self) -> EngineReads:
        if self._reads is None:
            raise Unavailable(f"{self.name} is starting; wait until it is ready")
        return self._reads

    def _current_engine(self) -> EngineProcess:
        """The engine, once it stands at the head that users were told."""
        executor = self._executor
        if self._engine is None or executor is None or executor.tip.number < self.index.head.number:
            raise Unavailable(f"{self.name} restores its execution engine; try again soon")
        return self._engine
