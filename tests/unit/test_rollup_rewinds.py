"""Rewinds of a rollup node at awkward moments: in recovery, far back, into what is pruned, for a caller who left."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from nodes.model.errors import Pruned
from nodes.model.execution import DropReason, ExecutedBlock, Transaction
from nodes.model.faults import KillEngine, Rewind
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import BlockRef, FilteredBlock, RolledBack, SequencerEvent
from nodes.rollup import index as index_module
from nodes.rules.derivation import KEPT_HEIGHTS
from nodes.telemetry.events import BlockExecuted, BlockReorged, NodeRecovered
from tests.support.crafting import CHAINS, LegPlan, bundle, plain
from tests.support.rollup_fakes import Bench, EngineRoom, MemoryEngine, MemorySequencer, make_config

HERE, THERE = CHAINS[0], CHAINS[1]


class Barrier:
    """Stops an engine before it builds one block, until released."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    def attach(self, engine: MemoryEngine) -> None:
        """Give one engine the barrier."""
        build = engine.build_block

        async def held(transactions: Sequence[tuple[bytes, Transaction]], *, timestamp_s: int) -> ExecutedBlock:
            if (await engine.head())[0] + 1 == self._number:
                self.reached.set()
                await self.released.wait()
            return await build(transactions, timestamp_s=timestamp_s)

        engine.build_block = held  # type: ignore[method-assign]  # one engine of the test, not the class


class Telling(MemorySequencer):
    """Says when a reader has taken a roll-back."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = asyncio.Event()

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """As the memory sequencer; the reader that asks for the next event has taken this one."""
        async for event in super().follow(locator, rollup_id):
            yield event
            if isinstance(event, RolledBack):
                self.taken.set()


def fill(sequencer: MemorySequencer, heights: int, *, nonce: int = 0) -> None:
    """One bundle of two legs a height."""
    for at in range(nonce, nonce + heights):
        sequencer.cut(bundle([LegPlan(chain=HERE, nonce=at), LegPlan(chain=THERE, nonce=at)]))


async def test_a_rewind_while_the_engine_is_still_behind_that_height(tmp_path: Path) -> None:
    sequencer, room, barrier = MemorySequencer(), EngineRoom(), Barrier(4)
    served_again, served = asyncio.Event(), 0

    def count(block: FilteredBlock) -> FilteredBlock:
        nonlocal served
        served += 1
        if served == 20:
            served_again.set()
        return block

    sequencer.tamper = count
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=1000))
    fill(sequencer, 10)
    async with bench.running() as node, asyncio.TaskGroup() as group:
        await bench.height(10)
        before = bench.hashes()
        room.prepare = barrier.attach
        await node.inject(KillEngine())
        await barrier.reached.wait()
        await served_again.wait()  # derivation stands at 10 again, the engine at 3
        rewinding = group.create_task(node.inject(Rewind(height=Height(6))))
        await asyncio.sleep(0)
        barrier.released.set()
        await rewinding
        await bench.traced(NodeRecovered)
        assert bench.hashes() == before
    assert all(not event.dropped for event in bench.events(BlockExecuted))


async def test_a_rewind_beyond_what_derivation_remembers_drops_the_same_copies(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=100_000))
    twice = bundle([LegPlan(chain=HERE), LegPlan(chain=THERE)])
    for height in range(1, KEPT_HEIGHTS + 100):
        sequencer.cut(*([twice] if height in (5, 12) else []))
    async with bench.running() as node:
        await bench.height(len(sequencer.chain))
        await node.inject(Rewind(height=Height(8)))
        await bench.traced(NodeRecovered)
    copies = [event.dropped[0].reason for event in bench.events(BlockExecuted) if event.height == 12]
    assert copies == [DropReason.DUPLICATE, DropReason.DUPLICATE]


async def test_a_rewind_whose_caller_gave_up_harms_nobody(tmp_path: Path) -> None:
    sequencer, room, barrier = MemorySequencer(), EngineRoom(), Barrier(4)
    room.prepare = barrier.attach
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 6)
    async with bench.running() as node, asyncio.TaskGroup() as group:
        await barrier.reached.wait()
        rewinding = group.create_task(node.inject(Rewind(height=Height(2))))
        await asyncio.sleep(0)
        rewinding.cancel()
        barrier.released.set()
        await bench.traced(NodeRecovered)
        await bench.height(6)
        await node.inject(Rewind(height=Height(5)))
        await bench.traced(NodeRecovered, count=2)


async def test_a_rewind_into_pruned_history_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PRUNE_EVERY_BLOCKS", 4)
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(history_blocks=4))
    fill(sequencer, 12)
    async with bench.running() as node:
        await bench.height(12)
        with pytest.raises(Pruned, match="block 2 is pruned"):
            await node.inject(Rewind(height=Height(2)))
        fill(sequencer, 1, nonce=12)
        await bench.height(13)


async def test_heights_that_left_the_journal_are_replays_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PRUNE_EVERY_BLOCKS", 4)
    monkeypatch.setattr(index_module, "PRUNE_EVERY_HEIGHTS", 4)
    sequencer, room = MemorySequencer(), EngineRoom()
    config = make_config(history_blocks=4, checkpoint_interval_heights=1000)
    for nonce in range(12):
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=nonce)))
    first = Bench(tmp_path, [sequencer], room.start, config=config)
    async with first.running():
        await first.height(12)
    again = Bench(tmp_path, [sequencer], room.start, config=config)
    async with again.running():
        assert again.events(NodeRecovered)[0].checkpoint_height == 0
    assert [(event.height, event.replayed) for event in again.events(BlockExecuted)] == [
        (height, True) for height in range(1, 13)
    ]


async def test_no_checkpoint_of_a_height_that_the_reader_went_back_below(tmp_path: Path) -> None:
    """A source that lags makes a reader go back, and then serves the same blocks: their bundles must be known again."""
    sequencer, room = Telling(), EngineRoom()
    dumping, released = asyncio.Event(), asyncio.Event()

    def slow(engine: MemoryEngine) -> None:
        dump = engine.dump

        async def held() -> bytes:
            dumping.set()
            await released.wait()
            return await dump()

        engine.dump = held  # type: ignore[method-assign]  # as above

    room.prepare = slow
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=3))
    fill(sequencer, 3)
    async with bench.running() as node:
        await dumping.wait()
        whole = list(sequencer.chain)
        sequencer.fork(1)
        await sequencer.taken.wait()
        released.set()
        await bench.traced(BlockReorged)
        sequencer.chain = whole
        sequencer.cut(bundle([LegPlan(chain=HERE, nonce=1), LegPlan(chain=THERE, nonce=1)]))  # once more
        await bench.height(4)
        before = bench.hashes()
        await node.inject(KillEngine())
        await bench.traced(NodeRecovered)
        assert bench.hashes() == before
