"""The submitter on a chain that does whatever it likes: what was acknowledged stands on it once, however it went."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.keypair import Keypair

from nodes.model.bundle import Bundle
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import Submitter, SubmitterRules
from nodes.telemetry.clock import ManualClock
from tests.support.solana_posting import ROLLUPS, FakeSolana, bundle_of, inbox_of, offer_of

SLOT_NS = 400_000_000
PAYERS = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 4)]
ACTIONS = (
    ["accept"] * 4
    + ["turn"] * 6
    + ["drop", "fail", "fork", "restart", "down", "lag", "finalize", "quiet", "poor", "void"]
)


class Walk:
    """A submitter, its reader (which may be behind), and the chain."""

    def __init__(self, directory: Path, random: Random) -> None:
        self.directory = directory
        self.random = random
        self.clock = ManualClock()
        self.chain = FakeSolana(inbox_of(lookup=random.random() < 0.5, memo=random.random() < 0.2))
        self.chain.fund(PAYERS)
        self.acknowledged: list[Bundle] = []
        self.shown_height = 1
        """Up to which the reader showed blocks."""
        self.final_height = 1
        self.was_void = False
        self.journal = SubmitJournal(directory, chain_id=bytes(32))
        self.submitter = self.start()

    def start(self) -> Submitter:
        rules = SubmitterRules(in_flight_max=self.random.choice([3, 4_096]), batch_transactions=20)
        submitter = Submitter(self.chain, self.chain.inbox, PAYERS, self.journal, rules, clock=self.clock)
        submitter.ask_reader(self.chain.holds_finally)
        return submitter

    async def turn(self, *, is_shown: bool) -> None:
        await self.submitter.step()
        self.chain.block(skip=self.random.choice([0, 0, 0, 2]))
        self.clock.advance(ns=SLOT_NS)
        if is_shown:
            self.show()

    def show(self) -> None:
        for block in self.chain.blocks:
            if block.height > self.shown_height:
                self.submitter.on_block(self.chain.shown(block), self.chain.taken(block.slot))
                self.shown_height = block.height

    async def act(self, action: str) -> None:
        random, chain = self.random, self.chain
        match action:
            case "accept":
                first = len(self.acknowledged)
                group = [self.bundle(first + number) for number in range(random.randint(1, 12))]
                self.submitter.accept([offer_of(bundle) for bundle in group])
                await self.submitter.wait_durable()
                self.acknowledged += group
            case "turn":
                for _ in range(random.choice([1, 1, 2, 8, 40])):
                    await self.turn(is_shown=random.random() < 0.8)
            case "drop":
                share = random.choice([0.2, 1.0])
                chain.drops = lambda raw: random.random() < share
            case "fail":
                share = random.choice([0.1, 0.5])
                chain.fails = lambda raw: random.random() < share
            case "void":
                share = random.choice([0.3, 1.0])
                chain.voids = lambda bundle: random.random() < share
                self.was_void = True
            case "fork":
                slots = [block.slot for block in chain.blocks if block.height >= self.final_height]
                to_slot = random.choice(slots[-6:])
                chain.fork(to_slot)
                if self.shown_height > chain.blocks[-1].height:
                    self.shown_height = chain.blocks[-1].height
                    self.submitter.on_rolled_back(to_slot)
            case "restart":
                self.journal.close()
                self.journal = SubmitJournal(self.directory, chain_id=bytes(32))
                self.submitter = self.start()
            case "down":
                chain.is_down = True
            case "lag":
                chain.lag_slots = random.randint(1, 20)
            case "poor":
                chain.fund(PAYERS[:2], 0)
            case "finalize":
                self.finalize()
            case "quiet":
                self.quiet()

    def bundle(self, number: int) -> Bundle:
        legs = self.random.choice([1, 2, 2, 3])
        size = self.random.choice([40, 150, 150, 400, 2_500])
        return bundle_of(number, rollups=self.random.sample(ROLLUPS, legs), size=size)

    def finalize(self) -> None:
        final = [block for block in self.chain.blocks if self.final_height <= block.height <= self.shown_height]
        if final:
            block = self.random.choice(final)
            self.final_height = block.height
            self.chain.final_slot = block.slot
            self.submitter.on_finalized(block.slot, block.height)

    def quiet(self) -> None:
        self.chain.drops = self.chain.fails = lambda raw: False
        self.chain.voids = lambda bundle: False
        self.chain.is_down = False
        self.chain.lag_slots = 0
        self.chain.fund(PAYERS)


async def walk(room: Path, seed: int, steps: int) -> None:
    with TemporaryDirectory(dir=room) as directory:
        one = Walk(Path(directory), Random(seed))
        try:
            await take(one, steps)
        finally:
            one.journal.close()


async def take(one: Walk, steps: int) -> None:
    for _ in range(steps):
        await one.act(one.random.choice(ACTIONS))
    one.quiet()
    for _ in range(800):
        if not one.submitter.pending_bundles:
            break
        await one.turn(is_shown=True)
        one.finalize()
    assert one.submitter.pending_bundles == 0
    assert one.submitter.pending_bytes == 0
    entries = list(map(repr, one.chain.entries()))
    if one.was_void:
        # What was void on one branch may have effect on another, beside its repetition; readers void that.
        entries = list(dict.fromkeys(entries))
    assert sorted(entries) == sorted(map(repr, one.acknowledged))
    tip = one.chain.blocks[-1]
    one.submitter.on_finalized(tip.slot, tip.height)
    await one.submitter.wait_durable()
    kept = one.journal.load()
    assert not kept.submissions
    assert not kept.transactions
    # Of repetitions, those since the last write may be missing.
    for name in ("lamports", "solana_transactions", "posted_bytes", "failed_transactions"):
        assert kept.totals.get(name, 0) == one.submitter.costs[name]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_everything_acknowledged_lands_once(tmp_path_factory: pytest.TempPathFactory, seed: int, steps: int) -> None:
    asyncio.run(walk(tmp_path_factory.getbasetemp(), seed, steps))
