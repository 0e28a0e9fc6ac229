"""What the resolver makes of its sequencers: soft and firm heights, roll-backs, false blocks, long absences."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nodes.agglayer.resolver import Resolver
from nodes.agglayer.resolver_feed import RECENT_VERDICTS
from nodes.model.errors import InvalidVerdict, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, Height, RollupId
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    RolledBack,
    RollupContent,
    SequencerEvent,
)
from nodes.model.verdict import VerdictRef, VerdictSigned
from nodes.ports import SequencerStatus, Ticket
from nodes.rules import sequenced_block as blocks
from nodes.rules.verdict import decode_verdict, verdict_hash
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import Event, ReaderStalled, VerdictIssued
from nodes.telemetry.tracer import MemoryTracer
from tests.support.crafting import CHAIN_ID, seal
from tests.support.resolver_rollups import NOWHERE
from tests.support.sequencers import WAIT_S
from tests.support.verdict_model import RESOLVER_KEY, make_params, rollup_of

GENESIS = blocks.genesis_ref(CHAIN_ID)


@dataclass(slots=True)
class Script:
    """A sequencer that says what a test puts into it, to whoever follows."""

    events: list[SequencerEvent] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    locators: list[list[BlockRef]] = field(default_factory=list)
    head: BlockRef = GENESIS
    submitted: list[bytes] = field(default_factory=list)
    end_after: int | None = None

    def block(self, *, commitment: Commitment = Commitment.FIRM, on: BlockRef | None = None, mark: int = 0) -> BlockRef:
        """Say one more block, without content unless it has a mark."""
        parent = on or self.head
        contents = {rollup_of(1): RollupContent(payloads=(b"%d" % mark,), rows=())} if mark else {}
        made, trees = seal(contents, parent=parent, time_ns=1_000)
        filtered = blocks.filter_block(made, trees, NOTICE_ROLLUP_ID, commitment)
        self.head = BlockRef(height=made.header.height, hash=made.header_hash)
        self.say(BlockSequenced(block=filtered))
        return self.head

    def say(self, event: SequencerEvent) -> None:
        """Any event."""
        self.events.append(event)
        self.news.set()
        self.news.clear()

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        raise Unavailable("it takes nothing")

    async def status(self) -> SequencerStatus:
        raise Unavailable("it tells nothing")

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        assert rollup_id == NOTICE_ROLLUP_ID
        self.locators.append(list(locator))
        known = next((at for at, event in enumerate(self.events) if _ref(event) == locator[0]), -1)
        told = known + 1
        while self.end_after is None or told < self.end_after:
            if told < len(self.events):
                told += 1
                yield self.events[told - 1]
            else:
                await self.news.wait()


def _ref(event: SequencerEvent) -> BlockRef | None:
    if not isinstance(event, BlockSequenced):
        return None
    header = blocks.decode_header(event.block.header)
    return BlockRef(height=header.height, hash=blocks.header_hash(event.block.header))


class WatchedTracer(MemoryTracer):
    """Wakes whoever waits for an event."""

    def __init__(self) -> None:
        super().__init__(SystemClock())
        self.news = asyncio.Event()

    def record(self, event: Event, *, monotonic_ns: int | None = None) -> None:
        super().record(event, monotonic_ns=monotonic_ns)
        self.news.set()
        self.news.clear()


class Running:
    """A resolver of some scripts, and what a follower of it has got."""

    def __init__(self, directory: Path, *sources: Script) -> None:
        self.tracer = WatchedTracer()
        self.resolver = Resolver(
            params=make_params(2),
            key=RESOLVER_KEY,
            chain_id=CHAIN_ID,
            sources=[(f"source {at}", source) for at, source in enumerate(sources)],
            verify_finality=lambda header_hash, proof: proof == b"",
            directory=directory,
            report_timeout_ms=60_000,
            clock=SystemClock(),
            tracer=self.tracer,
        )

    async def __aenter__(self) -> "Running":
        self.group = asyncio.TaskGroup()
        await self.group.__aenter__()
        self.group.create_task(self.resolver.run())
        await self.resolver.wait_ready()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.resolver.stop()
        await self.group.__aexit__(None, None, None)

    async def verdicts(self, *, height: int, after: VerdictRef = NOWHERE) -> list[VerdictSigned]:
        """Up to a height."""
        found: list[VerdictSigned] = []
        async with asyncio.timeout(WAIT_S), aclosing(self.resolver.follow(after)) as events:
            async for event in events:
                assert isinstance(event, VerdictSigned)
                found.append(event)
                if decode_verdict(event.signed.verdict).height == height:
                    return found
        raise AssertionError("the stream ended")

    async def stalled(self, reason: str) -> None:
        """Until the reader has said why it waits."""
        await self.traced(lambda event: isinstance(event, ReaderStalled) and reason in event.reason)

    async def traced(self, is_wanted: Callable[[Event], bool]) -> None:
        """Until there is such an event."""
        async with asyncio.timeout(WAIT_S):
            while not any(is_wanted(record.event) for record in self.tracer.stamped):
                await self.tracer.news.wait()


async def test_a_height_counts_once_it_is_firm_and_soft_ones_may_roll_back(tmp_path: Path) -> None:
    script = Script()
    async with Running(tmp_path, script) as running:
        first = script.block()
        script.block(commitment=Commitment.SOFT, mark=1)
        script.block(commitment=Commitment.SOFT)
        await running.verdicts(height=1)
        script.say(RolledBack(to=first))
        script.block(commitment=Commitment.SOFT, on=first)
        last = script.block(commitment=Commitment.SOFT)
        script.say(CommitmentRaised(height=last.height, level=Commitment.SOFT))
        assert running.resolver.state.highest == 1
        script.say(CommitmentRaised(height=last.height, level=Commitment.FIRM))
        # The marked block, for which somebody would have to report, is gone.
        assert len(await running.verdicts(height=3)) == 3


async def test_a_firm_height_that_rolls_back_is_refused(tmp_path: Path) -> None:
    script = Script()
    async with Running(tmp_path, script) as running:
        script.block()
        script.block()
        await running.verdicts(height=2)
        script.say(RolledBack(to=GENESIS))
        await running.stalled("all was firm")
        assert running.resolver.state.lowest == 3
        # Nobody waits in silence: whoever has every verdict is told why no other comes, and what to do.
        digest = verdict_hash((await running.verdicts(height=2))[1].signed.verdict)
        with pytest.raises(Unavailable, match=r"up to 2 all was firm.*start the testnet anew"):
            async with asyncio.timeout(WAIT_S):
                await anext(running.resolver.follow(VerdictRef(0, Height(2), digest)))
        assert "start the testnet anew" in running.resolver.forked


async def test_a_follower_that_waits_already_is_told_of_a_fork(tmp_path: Path) -> None:
    script = Script()
    async with Running(tmp_path, script) as running:
        script.block()
        follower = running.resolver.follow(NOWHERE)
        await anext(follower)
        waiting = asyncio.ensure_future(anext(follower))
        script.say(RolledBack(to=GENESIS))
        with pytest.raises(Unavailable, match="takes no further height"):
            async with asyncio.timeout(WAIT_S):
                await waiting


async def test_one_forked_source_of_two_is_left_for_the_other(tmp_path: Path) -> None:
    forked, honest = Script(), Script()
    forked.block()
    forked.say(RolledBack(to=GENESIS))
    honest.block()
    async with Running(tmp_path, forked, honest) as running:
        await running.stalled("all was firm")
        honest.block()
        assert len(await running.verdicts(height=2)) == 2
        assert running.resolver.forked == ""


async def test_a_source_that_takes_back_twice_is_still_one_of_two(tmp_path: Path) -> None:
    forked, honest = Script(), Script()
    forked.block()
    forked.say(RolledBack(to=GENESIS))
    honest.block()
    honest.end_after = 1  # it has nothing new, and its stream ends each time
    async with Running(tmp_path, forked, honest) as running:
        await running.traced(lambda event: isinstance(event, ReaderStalled) and len(forked.locators) > 3)
        assert running.resolver.forked == ""


async def test_a_forked_source_that_comes_back_is_followed_on(tmp_path: Path) -> None:
    script = Script()
    async with Running(tmp_path, script) as running:
        first = script.block()
        await running.verdicts(height=1)
        script.say(RolledBack(to=GENESIS))
        await running.stalled("all was firm")
        script.events.pop()  # it has read up to where it was
        script.block(on=first)
        await running.traced(lambda event: isinstance(event, VerdictIssued) and event.height == 2)
        assert len(await running.verdicts(height=2)) == 2
        assert running.resolver.forked == ""


def false_blocks() -> dict[str, FilteredBlock]:
    made, trees = seal({}, parent=GENESIS, time_ns=1_000)
    block = blocks.filter_block(made, trees, NOTICE_ROLLUP_ID, Commitment.FIRM)
    other, other_trees = seal({}, parent=BlockRef(height=Height(4), hash=GENESIS.hash), time_ns=1_000)
    return {
        "finality proof": replace(block, finality_proof=b"false"),
        "filtered for rollup": replace(block, rollup_id=rollup_of(1)),
        "builds on": blocks.filter_block(other, other_trees, NOTICE_ROLLUP_ID, Commitment.FIRM),
        "rollup ids": replace(block, rollup_ids=(rollup_of(1),)),
    }


@pytest.mark.parametrize("reason", false_blocks())
async def test_a_source_that_lies_is_left_for_the_next(tmp_path: Path, reason: str) -> None:
    liar, honest = Script(), Script()
    liar.say(BlockSequenced(block=false_blocks()[reason]))
    honest.block()
    async with Running(tmp_path, liar, honest) as running:
        await running.verdicts(height=1)
        await running.stalled(reason)


async def test_a_follower_that_was_away_for_long_gets_every_verdict(tmp_path: Path) -> None:
    script = Script()
    count = 2 * RECENT_VERDICTS
    for _ in range(count):
        script.block()
    async with Running(tmp_path, script) as running:
        slow = running.resolver.follow(NOWHERE)
        first = await anext(slow)
        found = await running.verdicts(height=count)
        assert [first] + [await anext(slow) for _ in range(count - 1)] == found
        await slow.aclose()
        digest = verdict_hash(found[99].signed.verdict)
        assert await running.verdicts(height=count, after=VerdictRef(0, Height(100), digest)) == found[100:]
    # A restart reads on where the store ends.
    script.block()
    async with Running(tmp_path, script) as running:
        assert (await running.verdicts(height=count + 1))[:count] == found
    assert script.locators[-1][0].height == count


async def test_a_store_in_use_and_one_of_another_chain_are_refused(tmp_path: Path) -> None:
    script = Script()
    async with Running(tmp_path, script):
        with pytest.raises(Unavailable, match="in use by another process"):
            await Running(tmp_path, script).resolver.run()
    running = Running(tmp_path, script)
    running.resolver.stop()
    await running.resolver.run()
    with pytest.raises(Unavailable):
        await anext(running.resolver.follow(NOWHERE))


async def test_followers_are_told_that_the_resolver_stops(tmp_path: Path) -> None:
    async with Running(tmp_path, Script()) as running:
        follower = asyncio.ensure_future(anext(running.resolver.follow(NOWHERE)))
        with pytest.raises(InvalidVerdict):
            await anext(running.resolver.follow(VerdictRef(0, Height(0), b"\x01" * 32)))
        running.resolver.stop()
        with pytest.raises(Unavailable):
            await follower
