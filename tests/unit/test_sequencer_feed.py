"""What the feed of a sequencer keeps in memory, and what it makes of changes while it reads its log."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from nodes.model.errors import Pruned, Unavailable
from nodes.model.ids import HeaderHash
from nodes.model.sequenced_block import BlockSequenced, SequencedBlock, SequencerEvent
from nodes.node_file import to_end
from nodes.rules.bundle import row_bytes
from nodes.rules.sequenced_block import encode_header, genesis_ref, place
from nodes.sequencer.feed import BlockFeed, ServedBlock
from nodes.wire.blocks import stored_block_to_bytes
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, seal
from tests.support.patience import PATIENCE_S


def test_rows_count_under_every_rollup_they_touch() -> None:
    submitted = bundle([LegPlan(chain=CHAINS[0]), LegPlan(chain=CHAINS[1]), LegPlan(chain=CHAINS[2])])
    block, trees = seal(place([submitted]), parent=genesis_ref(CHAIN_ID), time_ns=1)
    payload_bytes = sum(len(leg.payload) for leg in submitted.legs)
    assert ServedBlock.of(block, trees).size_bytes == payload_bytes + 3 * row_bytes(3)


class Log:
    """Blocks by height, as a store holds them. A read stops at the gate, in the feed's own thread, while it is shut."""

    def __init__(self) -> None:
        self.blocks: dict[int, SequencedBlock] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.has_read = threading.Event()
        self.reads = 0

    def block_bytes(self, height: int) -> bytes:
        self.reads += 1
        found = self.blocks.get(height)
        self.has_read.set()
        assert self.gate.wait(PATIENCE_S)
        if found is None:
            raise Pruned(f"no block of height {height}")
        return stored_block_to_bytes(found)

    def hashes_of(self, heights: Sequence[int]) -> dict[int, HeaderHash]:
        return {height: self.blocks[height].header_hash for height in heights if height in self.blocks}


class Feed:
    """A feed with its log, and one follower that is read by hand."""

    def __init__(self, heights: int) -> None:
        """All blocks are in the log only, as after a restart; none is firm."""
        self.log = Log()
        self.chain = [genesis_ref(CHAIN_ID)]
        for _ in range(heights):
            self.put(b"first")
        self.feed = BlockFeed(
            log=self.log, genesis=self.chain[0], head=self.chain[-1], rollup_ids=ROLLUPS, firm_height=0
        )
        self.events = self.feed.follow([], ROLLUPS[0])

    def put(self, branch: bytes) -> ServedBlock:
        submitted = bundle([LegPlan(chain=CHAINS[0], nonce=len(branch)), LegPlan(chain=CHAINS[1])])
        block, trees = seal(place([submitted]), parent=self.chain[-1], time_ns=len(self.chain) * 1_000)
        served = ServedBlock.of(block, trees)
        self.chain.append(served.ref)
        self.log.blocks[served.ref.height] = block
        return served

    def header(self, height: int) -> bytes:
        return encode_header(self.log.blocks[height].header)

    def abandon(self, height: int) -> None:
        """The store forgets the blocks above; the feed has not been told."""
        for gone in [gone for gone in self.log.blocks if gone > height]:
            del self.log.blocks[gone]
        del self.chain[height + 1 :]

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncio.Future[SequencerEvent]]:
        """The next event is asked for, and its read from the log has begun, with what the log holds now."""
        self.log.has_read.clear()
        self.log.gate.clear()
        asked = asyncio.ensure_future(anext(self.events))
        assert await asyncio.to_thread(self.log.has_read.wait, PATIENCE_S)
        yield asked
        self.log.gate.set()
        await asyncio.wait([asked], timeout=PATIENCE_S)

    async def close(self) -> None:
        self.log.gate.set()
        await self.events.aclose()
        self.feed.end()
        await self.feed.wait_read()


async def test_a_roll_back_during_the_read_that_it_made_fail_is_not_waited_for_again() -> None:
    feed = Feed(3)
    for height in (1, 2):
        event = await anext(feed.events)
        assert isinstance(event, BlockSequenced)
        assert event.block.header == feed.header(height)
    feed.abandon(2)
    async with feed.reading() as asked:
        feed.feed.roll_back(feed.chain[2])
        feed.feed.announce(feed.put(b"second"))
        # Nothing more happens: before, the follower waited here for the block after this one.
    event = asked.result()
    assert isinstance(event, BlockSequenced)
    assert event.block.header == feed.header(3)
    await feed.close()


async def test_a_block_that_came_and_became_firm_during_the_read_is_not_pruned() -> None:
    feed = Feed(1)
    feed.abandon(0)
    async with feed.reading() as asked:
        feed.feed.roll_back(feed.chain[0])
        feed.feed.announce(feed.put(b"second"))
        feed.feed.raise_firm(1)
    assert isinstance(asked.result(), BlockSequenced)
    await feed.close()


async def test_a_firm_block_that_the_log_lacks_is_pruned() -> None:
    feed = Feed(2)
    feed.feed.raise_firm(2)
    feed.abandon(0)
    with pytest.raises(Pruned):
        await anext(feed.events)
    assert feed.log.reads == 1
    await feed.close()


async def test_the_end_does_not_wait_for_a_read_and_closing_the_log_can() -> None:
    feed = Feed(1)
    async with feed.reading() as asked:
        feed.feed.end()  # returns although the read does not; else this would not come to an end
        waiting = asyncio.ensure_future(feed.feed.wait_read())
        await asyncio.sleep(0)
        assert not waiting.done()
        feed.log.gate.set()
        await waiting
    assert isinstance(asked.exception(), Unavailable)


async def test_a_thread_is_waited_for_where_its_task_is_cancelled() -> None:
    began, go_on = threading.Event(), threading.Event()
    ended: list[bool] = []

    def work() -> None:
        began.set()
        assert go_on.wait(PATIENCE_S)
        ended.append(True)

    working = asyncio.ensure_future(to_end(work))
    await asyncio.to_thread(began.wait, PATIENCE_S)
    for _ in range(2):
        working.cancel()
        done, _waiting = await asyncio.wait([working], timeout=0.01)
        assert not done
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await working
    assert ended
