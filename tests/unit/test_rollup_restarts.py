"""A rollup node that is cancelled, or comes back to a sequencer whose chain is another one by then."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from nodes.model.faults import KillEngine, Rewind
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import BlockRef, Commitment, FilteredBlock, SequencerEvent
from nodes.rollup import follower as follower_module
from nodes.telemetry.events import CheckpointWritten, NodeRecovered
from tests.support.crafting import CHAINS, LegPlan, bundle, plain
from tests.support.patience import PATIENCE_S
from tests.support.rollup_fakes import WAIT_S, Bench, EngineRoom, MemoryEngine, MemorySequencer, make_config

HERE, THERE = CHAINS[0], CHAINS[1]


def fill(sequencer: MemorySequencer, heights: int) -> None:
    """One bundle of two legs a height."""
    for nonce in range(heights):
        sequencer.cut(bundle([LegPlan(chain=HERE, nonce=nonce), LegPlan(chain=THERE, nonce=nonce)]))


async def test_a_cancelled_node_ends_though_it_loses_its_engine_in_the_same_step(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 3)
    running = asyncio.create_task(bench.node.run())
    await bench.node.wait_ready()
    await bench.height(3)
    room.started[-1].kill()
    running.cancel()
    await asyncio.wait([running], timeout=PATIENCE_S)
    try:
        assert running.cancelled()
    finally:
        bench.node.stop()
        await asyncio.wait([running])


@pytest.mark.parametrize("interval", [2, 4, 5, 12, 1000])
@pytest.mark.parametrize(("kept", "added"), [(2, 1), (0, 1), (2, 3), (10, 1)])
async def test_a_restarted_node_gets_ready_on_a_shorter_chain(
    tmp_path: Path, interval: int, kept: int, added: int
) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    config = make_config(checkpoint_interval_heights=interval)
    fill(sequencer, 12)
    first = Bench(tmp_path, [sequencer], room.start, config=config)
    async with first.running():
        await first.height(12)
    sequencer.fork(kept)
    for at in range(added):
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=kept + at, value=5)))
    again, other = (Bench(tmp_path, [sequencer], room.start, config=config) for _ in range(2))
    async with again.running() as node:
        async with asyncio.timeout(WAIT_S):
            async for heads in node.follow_heads():
                if heads.height == kept + added:
                    break
        assert node.index.head.number == kept + added
    async with other.running() as node:
        assert node.heads.height == kept + added  # ready means that the engine is there


async def test_a_rewind_asked_for_while_the_engine_is_being_replaced(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    starting, released = asyncio.Event(), asyncio.Event()

    async def start(state: bytes | None) -> MemoryEngine:
        if room.started:
            starting.set()
            await released.wait()
        return await room.start(state)

    bench = Bench(tmp_path, [sequencer], start, config=make_config(checkpoint_interval_heights=1))
    fill(sequencer, 6)
    async with bench.running() as node, asyncio.TaskGroup() as group:
        await bench.traced(CheckpointWritten, count=6)  # so that no height is executed again
        room.started[-1].kill()
        await starting.wait()
        rewinding = group.create_task(node.inject(Rewind(height=Height(3))))
        await asyncio.sleep(0)
        released.set()
        await rewinding
        await bench.height(6)


async def test_a_rollback_in_the_middle_of_a_recovery_ends_it(tmp_path: Path) -> None:
    """The recovery was to end at height 12, which is off the chain; no further height comes."""
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=1000))

    served = 0

    def fork_when_served(block: FilteredBlock) -> FilteredBlock:
        nonlocal served
        served += 1
        if served == 12 + 8:
            sequencer.fork(5)
        return block

    sequencer.tamper = fork_when_served
    fill(sequencer, 12)
    async with bench.running() as node:
        await bench.height(12)
        await node.inject(KillEngine())
        recovered = await bench.traced(NodeRecovered)
        assert (recovered.recovered_height, node.heads.height, node.index.head.number) == (5, 5, 5)
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=5, value=5)))
        await bench.height(6)


async def test_safe_and_final_heads_are_known_before_anything_is_executed_again(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(commitment=Commitment.SOFT), EngineRoom()
    config = make_config(checkpoint_interval_heights=1000)
    first = Bench(tmp_path, [sequencer], room.start, config=config, final_level=Commitment.FINAL)
    async with first.running() as node:
        sequencer.commitment = Commitment.FINAL
        fill(sequencer, 2)
        await first.height(2)
        sequencer.commitment = Commitment.FIRM
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=2)))
        await first.height(3)
        sequencer.commitment = Commitment.SOFT
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=3)))
        await first.height(4)
        before = node.heads
    restoring = asyncio.Event()

    async def start(state: bytes | None) -> MemoryEngine:
        restoring.set()
        return await room.start(state)

    sequencer.is_away = True
    again = Bench(tmp_path, [sequencer], start, config=config, final_level=Commitment.FINAL)
    async with asyncio.TaskGroup() as group:
        group.create_task(again.node.run())
        await restoring.wait()
        after = again.node.heads
        again.node.stop()
    assert after == before
    assert (before.latest.number, before.safe.number, before.finalized.number) == (4, 3, 2)


class Silent(MemorySequencer):
    """Takes a reader and never says a word."""

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """Nothing."""
        self.follows.append(list(locator))
        await asyncio.Event().wait()
        yield  # type: ignore[misc]  # makes it a generator; never reached


async def test_a_source_that_says_nothing_is_left_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "SILENCE_S", 0.05)
    silent, other, room = Silent(), MemorySequencer(), EngineRoom()
    fill(other, 3)
    bench = Bench(tmp_path, [silent, other], room.start)
    async with bench.running():
        await bench.height(3)
    assert len(silent.follows) >= 1
