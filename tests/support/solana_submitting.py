"""A submitter on the fake chain, moved slot by slot by a test, and restarted from what its journal kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from solders.keypair import Keypair

from nodes.model.bundle import Bundle
from nodes.rules.posting import flaw_of_size
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import Submitter, SubmitterRules
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.crash import CrashPoint, no_crash
from tests.support.solana_posting import FakeSolana, bundle_of, inbox_of, offer_of

SLOT_NS = 400_000_000
CHAIN_ID = bytes(31) + b"\x01"
PAYERS = [Keypair.from_seed(bytes([number]) * 32) for number in range(1, 4)]


class World:
    """A submitter, its chain, and what a restart keeps."""

    def __init__(self, directory: Path, *, rules: SubmitterRules | None = None, **options: Any) -> None:
        self.directory = directory
        self.clock = ManualClock()
        self.chain = FakeSolana(inbox_of(lookup=options.pop("lookup", False), memo=options.pop("memo", False)))
        self.chain.fund(PAYERS)
        self.rules = rules or SubmitterRules()
        self.options = options
        self.stalls: list[str] = []
        self.start()

    def start(self, crash: CrashPoint = no_crash) -> None:
        self.journal = SubmitJournal(self.directory, chain_id=CHAIN_ID, crash=crash)
        self.submitter = Submitter(
            self.chain,
            self.chain.inbox,
            PAYERS,
            self.journal,
            self.rules,
            clock=self.clock,
            crash=crash,
            on_stall=self.stalls.append,
            **self.options,
        )
        self.submitter.ask_reader(self.chain.holds_finally)

    def restart(self, crash: CrashPoint = no_crash) -> None:
        self.journal.close()
        self.start(crash)

    async def accept(self, *bundles: Bundle) -> None:
        for bundle in bundles:
            assert flaw_of_size(bundle, self.submitter.layout) == ""
        self.submitter.accept([offer_of(bundle) for bundle in bundles])
        await self.submitter.wait_durable()

    async def turn(self, slots: int = 1, *, shown: bool = True) -> None:
        """So many slots pass, each with a turn of the submitter before its block."""
        for _ in range(slots):
            await self.submitter.step()
            self.chain.block()
            if shown:
                self.show()
            self.clock.advance(ns=SLOT_NS)

    def show(self, at: int = -1) -> None:
        """The reader tells of a block, by default of the newest."""
        block = self.chain.blocks[at]
        self.submitter.on_block(self.chain.shown(block), self.chain.taken(block.slot))

    async def settle(self, slots: int) -> None:
        """So many slots pass, each of them final at once."""
        for _ in range(slots):
            await self.turn()
            self.finalize()

    def finalize(self) -> None:
        tip = self.chain.blocks[-1]
        self.chain.final_slot = tip.slot
        self.submitter.on_finalized(tip.slot, tip.height)


@contextmanager
def worlds(directory: Path) -> Iterator[Callable[..., World]]:
    """Makes worlds, and closes them."""
    made: list[World] = []

    def make_one(**options: Any) -> World:
        made.append(World(directory, **options))
        return made[-1]

    yield make_one
    for world in made:
        world.journal.close()


def bundles(count: int, **options: Any) -> list[Bundle]:
    """Bundles 0 to `count` - 1; see `bundle_of`."""
    return [bundle_of(number, **options) for number in range(count)]
