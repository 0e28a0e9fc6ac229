"""Drives the engine: takes derived heights in order, builds their blocks, settles them, writes checkpoints.

One task, one height at a time; whatever else the node does (receiving and deriving the next heights) goes on while
the engine, another process, works.
"""

import asyncio
from collections.abc import Callable

from nodes.model.errors import EngineFailure, Pruned
from nodes.model.execution import ExecutedBlock
from nodes.model.ids import Height, hex_of
from nodes.model.sequenced_block import CommitmentRaised
from nodes.rollup.chain import Chain, Tip
from nodes.rollup.checkpoint import Checkpoint, CheckpointStore
from nodes.rollup.engine import EngineProcess
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.follower import DerivedHeight, Place, RewindTo, Wake, Work
from nodes.rules.derivation import Derivation
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import CheckpointWritten
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

IDLE_CHECKPOINT_FACTOR = 16
"""A node whose state stands still writes a checkpoint every so many intervals, so that a restart replays little."""


class OutOfWindow(Exception):
    """The engine cannot go back to this place; a checkpoint can."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"height {place.ref.height} is out of the engine's window")
        self.place = place


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
    ) -> None:
        """`first_checkpoint_after`: changed heights before the first one; the rollups of a machine take turns."""
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
                    await self._execute(item)
                    await self._write_checkpoint_if_due(derivation)
                case CommitmentRaised():
                    self._chain.raised(item.height, item.level)
                case RewindTo():
                    self._chain.rewind(item.place, comes_again=False)
                    await self.rewind(item.place)
                    self._chain.set_back(self._tip.height)
                case Wake():
                    pass
            interrupt()

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

    async def _execute(self, work: DerivedHeight) -> None:
        tip, derived = self._tip, work.derived
        executed: ExecutedBlock | None = None
        if derived.admitted:
            timestamp_s = max(tip.timestamp_s, derived.timestamp_s)
            transactions = [(leg.payload, leg.transaction) for leg in derived.admitted]
            build = self._engine.build_block(transactions, timestamp_s=timestamp_s)
            executed = await self._cpu.metered("engine", build)
            if (executed.number, executed.parent_hash) != (tip.number + 1, tip.hash):
                raise EngineFailure(
                    f"the engine built block {executed.number} on {hex_of(executed.parent_hash)}, "
                    f"expected block {tip.number + 1} on {hex_of(tip.hash)}"
                )
            tip = Tip(work.place, executed.number, executed.hash, executed.timestamp_s, executed.state_root)
        else:
            tip = tip._replace(place=work.place)
        built_ns = self._clock.monotonic_ns()
        self._crash("rollup.after_build")
        with self._cpu.measure("index"):
            block, own = self._chain.settle(work, tip, executed, built_ns=built_ns)
        self._tip = tip
        self._heights_until_due -= 1
        if executed is not None:
            self._changed_until_due -= 1
        if block is not None:
            await self._cpu.metered("engine", self._reads.keep(self._engine, block, own))

    async def _write_checkpoint_if_due(self, derivation: Derivation) -> None:
        if self._changed_until_due > 0 and self._heights_until_due > 0:
            return
        started_ns = self._clock.monotonic_ns()
        tip = self._tip
        state = await self._cpu.metered("checkpoint", self._engine.dump())
        if derivation.height < tip.height:
            return  # the reader went back meanwhile, and the bundles of the last heights are forgotten
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
        self._changed_until_due = self._interval
        self._heights_until_due = self._interval * IDLE_CHECKPOINT_FACTOR
        self._tracer.record(
            CheckpointWritten(
                height=tip.height, size_bytes=size_bytes, duration_ns=self._clock.monotonic_ns() - started_ns
            )
        )

    async def _write(self, checkpoint: Checkpoint) -> int:
        """Hash and write some megabytes in a thread, so that the loop goes on serving."""
        writing = asyncio.get_running_loop().run_in_executor(None, self._checkpoints.write, checkpoint)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A thread cannot be cancelled, and nothing may touch the directory after the node has ended.
            await asyncio.wait([writing])
            raise


def _window(derivation: Derivation, height: Height, replay_window: int) -> tuple[tuple[int, tuple[bytes, ...]], ...]:
    """The bundles that a replay from `height` must know. Derivation itself runs ahead and remembers for longer."""
    return tuple((at, tuple(hashes)) for at, hashes in derivation.snapshot() if height - replay_window < at <= height)
