"""Mints whose exits do not settle: watched from their verdict, voided after so many L1 blocks, and not before."""

from collections.abc import AsyncIterator, Iterable

import pytest

from nodes.agglayer.book import SettledExitCounts
from nodes.agglayer.voiding import STALL_BLOCKS, VoidWatch
from nodes.model.agglayer import NetworkId
from nodes.model.errors import Unavailable
from nodes.model.ids import ZERO_HASH, BundleHash, Height
from nodes.model.verdict import (
    LegExit,
    LegMint,
    MailboxEvent,
    Notice,
    NoticeKind,
    NoticePosted,
    Report,
    SignedNotice,
    SignedReport,
    VerdictRef,
    VerdictSigned,
    VoidedBundle,
)
from nodes.rules.verdict import encode_notice, encode_report
from tests.support.certificates import verdict

RED, BLUE = NetworkId(1), NetworkId(2)
LEAF = b"\x0e" * 32


class FakeResolver:
    """Notes what it is asked to void."""

    def __init__(self, events: Iterable[MailboxEvent] = ()) -> None:
        self.events = list(events)
        self.voided: list[list[VoidedBundle]] = []
        self.is_down = False

    async def follow(self, after: VerdictRef) -> AsyncIterator[MailboxEvent]:
        assert after == VerdictRef(0, Height(0), ZERO_HASH)
        for event in self.events:
            yield event

    async def void(self, bundles: Iterable[VoidedBundle]) -> None:
        if self.is_down:
            raise Unavailable("the resolver stops")
        self.voided.append(list(bundles))


def bundle(number: int) -> BundleHash:
    return BundleHash(bytes([number]) * 32)


def report(
    network: NetworkId, height: int, *, exits: tuple[LegExit, ...] = (), mints: tuple[LegMint, ...] = ()
) -> SignedReport:
    encoded = encode_report(
        Report(
            epoch=0,
            height=Height(height),
            network_id=network,
            aborts_hash=ZERO_HASH,
            parent_hash=ZERO_HASH,
            block_hash=ZERO_HASH,
            failures=(),
            exits=exits,
            mints=mints,
        )
    )
    return SignedReport(encoded, bytes(65))


def resolved(height: int, *, leaf_index: int) -> VerdictSigned:
    """One bundle burns on RED and mints on BLUE; an earlier round failed."""
    leaf, ordinal, struck = LEAF, height * 10, bundle(height)
    burns = report(RED, height, exits=(LegExit(ordinal, struck, 0, leaf, leaf_index),))
    mints = report(BLUE, height, mints=(LegMint(ordinal, struck, 1, RED, leaf),))
    return VerdictSigned(signed=verdict(height), rounds=((report(RED, height),), (burns, mints)))


def void_notice(height: int) -> NoticePosted:
    notice = Notice(kind=NoticeKind.VOID, epoch=1, height=Height(height), network_id=NetworkId(0))
    return NoticePosted(signed=SignedNotice(encode_notice(notice), bytes(65)))


class Watched:
    """A watch over a fake resolver, with the L1 and what is settled on it in the test's hands."""

    def __init__(self, *events: MailboxEvent, void_after_blocks: int = 3) -> None:
        self.resolver = FakeResolver(events)
        self.block = 0
        self.red, self.blue = _NOTHING, _NOTHING
        self.leaves = {0: LEAF, 1: LEAF}
        self.watch = VoidWatch(
            self.resolver,
            networks=[RED, BLUE],
            void_after_blocks=void_after_blocks,
            settled=self,
            block_number=lambda: self.block,
        )

    def settled_exits(self, network: NetworkId) -> SettledExitCounts:
        return {RED: self.red, BLUE: self.blue}[network]

    def settled_leaf(self, network: NetworkId, leaf_index: int) -> bytes:
        assert (network, leaf_index < self.red.settled) == (RED, True)
        return self.leaves[leaf_index]

    async def reach(self, block: int) -> None:
        while self.block < block:
            self.block += 1
            await self.watch.check()


_NOTHING = SettledExitCounts(certificates=0, settled=0, final=0, is_waiting=False)


async def test_a_mint_is_voided_when_its_exit_has_not_settled_in_time() -> None:
    made = Watched(resolved(4, leaf_index=0), resolved(5, leaf_index=1))
    await made.watch.run()
    await made.watch.check()
    assert made.watch.watched == 2
    made.red = SettledExitCounts(certificates=1, settled=1, final=1, is_waiting=False)
    await made.reach(2)
    assert (made.watch.watched, made.resolver.voided) == (1, [])
    await made.reach(3)
    assert made.resolver.voided == [[VoidedBundle(Height(5), 50, bundle(5))]]
    # Until its notice is in the log, it is asked for again at each head.
    await made.reach(4)
    assert len(made.resolver.voided) == 2
    made.watch.take(void_notice(5))
    await made.reach(5)
    assert (made.watch.watched, len(made.resolver.voided)) == (0, 2)


async def test_a_mint_of_a_new_epoch_is_watched_anew() -> None:
    made = Watched(resolved(4, leaf_index=0))
    await made.watch.run()
    made.watch.take(void_notice(4))
    await made.reach(9)
    made.watch.take(resolved(4, leaf_index=0))
    await made.reach(11)
    assert (made.watch.watched, made.resolver.voided) == (1, [])


async def test_all_that_a_late_source_owes_is_voided_together() -> None:
    """Its exits settle in order, and each void takes everybody back."""
    made = Watched(resolved(4, leaf_index=0))
    await made.watch.run()
    await made.watch.check()
    await made.reach(2)
    made.watch.take(resolved(9, leaf_index=1))
    await made.reach(3)
    assert made.resolver.voided == [[VoidedBundle(Height(4), 40, bundle(4)), VoidedBundle(Height(9), 90, bundle(9))]]


async def test_a_resolver_that_stops_is_asked_again() -> None:
    made = Watched(resolved(4, leaf_index=0))
    await made.watch.run()
    made.resolver.is_down = True
    await made.reach(5)
    made.resolver.is_down = False
    await made.reach(6)
    assert len(made.resolver.voided) == 1


async def test_what_a_reorg_takes_back_is_watched_still() -> None:
    made = Watched(resolved(4, leaf_index=0))
    await made.watch.run()
    await made.reach(1)
    made.red = SettledExitCounts(certificates=1, settled=1, final=0, is_waiting=False)
    await made.reach(20)
    assert (made.watch.watched, made.resolver.voided) == (1, [])
    made.red = _NOTHING
    await made.reach(21)
    assert made.resolver.voided == [[VoidedBundle(Height(4), 40, bundle(4))]]


async def test_blocks_during_which_the_layer_stands_still_do_not_count() -> None:
    """A prover that is down must not void every import."""
    made = Watched(resolved(4, leaf_index=0), void_after_blocks=2 * STALL_BLOCKS)
    await made.watch.run()
    made.red = _NOTHING._replace(is_waiting=True)
    await made.reach(50)
    assert made.resolver.voided == []
    made.red = _NOTHING._replace(is_waiting=False)  # in error: that is for its network to mend
    await made.reach(50 + STALL_BLOCKS - 1)
    assert made.resolver.voided == []
    await made.reach(50 + STALL_BLOCKS + 1)
    assert made.resolver.voided


async def test_while_others_settle_a_source_is_late_even_if_its_certificate_waits() -> None:
    made = Watched(resolved(4, leaf_index=0), void_after_blocks=2 * STALL_BLOCKS)
    await made.watch.run()
    made.red = _NOTHING._replace(is_waiting=True)
    for step in range(1, 6):
        made.blue = _NOTHING._replace(certificates=step)
        await made.reach(step * STALL_BLOCKS)
    assert made.resolver.voided


@pytest.mark.parametrize("void_after_blocks", [0, 3])
async def test_a_source_that_settles_another_exit_than_it_reported_is_voided_at_once(void_after_blocks: int) -> None:
    made = Watched(resolved(4, leaf_index=0), resolved(5, leaf_index=1), void_after_blocks=void_after_blocks)
    await made.watch.run()
    made.leaves[0] = b"\x0f" * 32
    made.red = SettledExitCounts(certificates=1, settled=2, final=2, is_waiting=False)
    await made.reach(1)
    assert made.resolver.voided == [[VoidedBundle(Height(4), 40, bundle(4))]]
