"""Drives the engine: takes derived heights in order, builds their blocks, settles them, writes checkpoints.

One task, one height at a time; whatever else the node does (receiving and deriving the next heights) goes on while
the engine, another process, works. `run` executes every height as it was derived. Where verdicts decide what a height
leaves out, `resolving` calls the steps instead.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from nodes.model.errors import AnswerTooLong, EngineFailure, Pruned
from nodes.model.execution import ExecutedBlock, Outcome, Status, Transaction
from nodes.model.ids import Height, hex_of
from nodes.model.sequenced_block import CommitmentRaised
from nodes.rollup.chain import Chain, Tip
from nodes.rollup.checkpoint import Checkpoint, CheckpointStore
from nodes.rollup.engine import EngineProcess
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.follower import DerivedHeight, Place, RewindTo, Wake, Work
from nodes.rollup.records import Execution, IndexedBlock
from nodes.rules.derivation import Derivation
from nodes.rules.hashes import sha256
from nodes.rules.verdict import Plan
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import CheckpointWritten
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

_log = logging.getLogger(__name__)

IDLE_CHECKPOINT_FACTOR = 16
"""A node whose state stands still writes a checkpoint every so many intervals, so that a restart replays little."""


def first_checkpoint_after(name: str, interval: int) -> int:
    """Changed heights before the first checkpoint of a node; rollups of one machine would otherwise all write theirs
    at the same moment.
    """
    return interval - int.from_bytes(sha256(name.encode())[:4], "big") % max(1, interval // 2)


class OutOfWindow(Exception):
    """The engine cannot go back to this place; a checkpoint can."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"height {place.ref.height} is out of the engine's window")
        self.place = place


Prepare = Callable[[Sequence[tuple[bytes, Transaction]], int], Sequence[tuple[bytes, Transaction]]]
"""(transactions, number of the block) to what is really handed to the engine: more may be put before them."""


Witness = Callable[["Execution", Height], None]
"""Told of what the engine was handed and what it made of it, with the sequenced height. Must not block."""


class Executed(NamedTuple):
    """One height, executed and settled."""

    execution: Execution
    block: IndexedBlock | None
    own: list[bytes]
    """Hashes in this height that this node's users were waiting for."""


Observe = Callable[["Executor", DerivedHeight | None, Executed | None], Awaitable[None]]
"""Told of an executed height; without one when a commitment was raised."""


class Executor:
    """One engine from one tip on. The node builds a new one for every engine it starts."""

    def __init__(
        self,
        *,
        engine: EngineProcess,
        tip: Tip,
        chain: Chain,
        reads: EngineReads,
        checkpoints: CheckpointStore,
        checkpoint_interval_heights: int,
        first_checkpoint_after: int,
        replay_window: int,
        clock: Clock,
        tracer: Tracer,
        cpu: StageCpu,
        crash: CrashPoint,
        observe: Observe | None = None,
        prepare: Prepare | None = None,
        witness: Witness | None = None,
    ) -> None:
        """`first_checkpoint_after`: changed heights before the first one; the rollups of a machine take turns.

        `run` awaits `observe` after each height and each commitment. `prepare` makes the execution unsound, as a fault.
        `witness` is told of every block that was built.
        """
        self._engine = engine
        self._tip = tip
        self._chain = chain
        self._reads = reads
        self._checkpoints = checkpoints
        self._interval = checkpoint_interval_heights
        self._changed_until_due = first_checkpoint_after
        self._heights_until_due = first_checkpoint_after * IDLE_CHECKPOINT_FACTOR
        self._replay_window = replay_window
        self._clock = clock
        self._tracer = tracer
        self._cpu = cpu
        self._crash = crash
        self._observe = observe
        self._prepare = prepare
        self._witness = witness

    @property
    def tip(self) -> Tip:
        """Where the engine stands. Behind the chain while a loss is made good."""
        return self._tip

    @property
    def engine(self) -> EngineProcess:
        """The engine it drives."""
        return self._engine

    async def run(self, queue: "asyncio.Queue[Work]", derivation: Derivation, interrupt: Callable[[], None]) -> None:
        """Work for ever. `interrupt` is called between items and may raise.

        Raises EngineFailure (the engine's state is unknown then), OutOfWindow, StateDivergence.
        """
        while True:
            item = await queue.get()
            interrupt()
            match item:
                case DerivedHeight():
                    done = await self.execute(item)
                    await self.keep(done)
                    if self._observe is not None:
                        await self._observe(self, item, done)
                    if self.is_checkpoint_due(derivation):
                        await self.write_checkpoint(derivation)
                case CommitmentRaised():
                    self._chain.raised(item.height, item.level)
                    if self._observe is not None:
                        await self._observe(self, None, None)
                case RewindTo():
                    await self.roll_back(item.place)
                case Wake():
                    pass
            interrupt()

    async def roll_back(self, place: Place) -> None:
        """The sequencer took back what is above a place. Raises OutOfWindow, EngineFailure."""
        self._chain.rewind(place, comes_again=False)
        await self.rewind(place)
        self._chain.set_back(self._tip.height)

    async def rewind(self, place: Place) -> None:
        """Set the engine back to a settled place. Raises OutOfWindow, EngineFailure."""
        if place.ref.height >= self._tip.height:
            return
        tip = self._chain.tip_at(place.ref.height)
        if tip.number != self._tip.number:
            try:
                await self._engine.rewind(tip.number)
            except Pruned as error:
                raise OutOfWindow(place) from error
        self._tip = tip

    async def execute(self, work: DerivedHeight, plan: Plan | None = None) -> Executed:
        """Build the block of the next height and settle it. `plan`: what of it is executed; None = all.

        Raises EngineFailure (the engine's state is unknown then), StateDivergence.
        """
        tip, derived = self._tip, work.derived
        transactions: Sequence[tuple[bytes, Transaction]]
        if plan is None:
            transactions = [(leg.payload, leg.transaction) for leg in derived.admitted]
        else:
            transactions = plan.transactions
        before = 0
        if self._prepare is not None and transactions:
            prepared = self._prepare(transactions, tip.number + 1)
            before, transactions = len(prepared) - len(transactions), prepared
        executed = await self._build(transactions, max(tip.timestamp_s, derived.timestamp_s)) if transactions else None
        outcomes = executed.outcomes[before:] if executed is not None else ()
        if executed is not None:
            tip = Tip(work.place, executed.number, executed.hash, executed.timestamp_s, executed.state_root)
        else:
            tip = tip._replace(place=work.place)
        execution = Execution(
            block=executed,
            transactions=transactions,
            outcomes=outcomes if plan is None else _outcomes_of_legs(work, plan, outcomes),
            burnt=frozenset() if plan is None else frozenset([plan.places[at] for at in plan.burns]),
        )
        built_ns = self._clock.monotonic_ns()
        self._crash("rollup.after_build")
        with self._cpu.measure("index"):
            block, own = self._chain.settle(work, tip, execution, built_ns=built_ns)
        if self._witness is not None:
            self._witness(execution, tip.height)
        self._tip = tip
        self._heights_until_due -= 1
        if executed is not None:
            self._changed_until_due -= 1
        return Executed(execution, block, own)

    async def _build(self, transactions: Sequence[tuple[bytes, Transaction]], timestamp_s: int) -> ExecutedBlock:
        tip = self._tip
        executed = await self._cpu.metered("engine", self._engine.build_block(transactions, timestamp_s=timestamp_s))
        if (executed.number, executed.parent_hash) != (tip.number + 1, tip.hash):
            raise EngineFailure(
                f"the engine built block {executed.number} on {hex_of(executed.parent_hash)}, "
                f"expected block {tip.number + 1} on {hex_of(tip.hash)}"
            )
        return executed

    async def keep(self, done: Executed) -> None:
        """Read of the new block what the engine will forget. Raises EngineFailure."""
        if done.block is not None:
            await self._cpu.metered("engine", self._reads.keep(self._engine, done.block, done.own))

    def is_checkpoint_due(self, derivation: Derivation) -> bool:
        """Enough changed, or enough time went by, since the last checkpoint.

        Not while the reader is so far ahead that derivation has forgotten what a replay from here needs.
        """
        is_due = self._changed_until_due <= 0 or self._heights_until_due <= 0
        return is_due and derivation.rewindable_from <= self._tip.height

    async def write_checkpoint(self, derivation: Derivation) -> None:
        """Keep the state at the tip. Raises EngineFailure."""
        started_ns = self._clock.monotonic_ns()
        tip = self._tip
        try:
            state = await self._cpu.metered("checkpoint", self._engine.dump())
        except AnswerTooLong as error:
            # The engine works. Its dump has the newest transactions in it, so a later one may be shorter.
            _log.warning("no checkpoint at height %d: %s", tip.height, error)
            self._put_off()
            return
        if derivation.height < tip.height or derivation.rewindable_from > tip.height:
            return  # the reader went back or far ahead meanwhile, and bundles that a replay needs are forgotten
        with self._cpu.measure("checkpoint"):
            checkpoint = Checkpoint(
                ref=tip.place.ref,
                time_ns=tip.place.time_ns,
                number=tip.number,
                hash=tip.hash,
                timestamp_s=tip.timestamp_s,
                replay_window=_window(derivation, tip.height, self._replay_window),
                state=state,
            )
        size_bytes = await self._write(checkpoint)
        self._put_off()
        self._tracer.record(
            CheckpointWritten(
                height=tip.height, size_bytes=size_bytes, duration_ns=self._clock.monotonic_ns() - started_ns
            )
        )

    def _put_off(self) -> None:
        self._changed_until_due = self._interval
        self._heights_until_due = self._interval * IDLE_CHECKPOINT_FACTOR

    async def _write(self, checkpoint: Checkpoint) -> int:
        """Hash and write some megabytes in a thread, so that the loop goes on serving."""
        writing = asyncio.get_running_loop().run_in_executor(None, self._checkpoints.write, checkpoint)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and nothing may touch the directory after the node has ended.
            await asyncio.wait([writing])
            raise


def _outcomes_of_legs(work: DerivedHeight, plan: Plan, built: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """One outcome per admitted leg. A struck one is aborted, whatever became of the burn in its place."""
    at_place = dict(zip(plan.places, built, strict=True))
    return tuple(
        [
            Outcome(leg.transaction.tx_hash, Status.ABORTED, plan.aborted[index])
            if index in plan.aborted
            else at_place[index]
            for index, leg in enumerate(work.derived.admitted)
        ]
    )


def _window(derivation: Derivation, height: Height, replay_window: int) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    """The bundles that a replay from `height` must know. Derivation itself runs ahead and remembers for longer."""
    return tuple((at, tuple(hashes)) for at, hashes in derivation.snapshot() if height - replay_window < at <= height)
