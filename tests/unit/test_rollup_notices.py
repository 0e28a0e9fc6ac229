"""Notices of a mailbox must stand in the sequencer's log; a new epoch may take back what was settled."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from coincurve import PrivateKey

from nodes.model.errors import Unavailable
from nodes.model.ids import Height
from nodes.model.verdict import Notice, NoticeKind, SignedNotice
from nodes.rollup.notices import ASK_AGAIN_HEIGHTS, NOTICE_GRACE_HEIGHTS, Notices
from nodes.rollup.verdict_checks import Contradiction, VerdictChecks
from nodes.rollup.verdict_store import VerdictStore
from nodes.rules.signing import sign_digest
from nodes.rules.verdict import encode_notice, notice_digest, notice_payload
from tests.support.crafting import CHAIN_ID, ROLLUPS, make_testnet
from tests.support.rollup_verdicts import HERE_NETWORK, REPORTER_KEYS, RESOLVER_KEY, make_params

CHECKS = VerdictChecks(make_params(make_testnet(ROLLUPS[:2])), chain_id=CHAIN_ID)
HEAD = 5_000
HEIGHT = 20


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    opened = VerdictStore(tmp_path / "verdicts.sqlite", identity=b"chain")
    yield opened
    opened.close()


def signed_by(key: PrivateKey, notice: Notice) -> SignedNotice:
    data = encode_notice(notice)
    return SignedNotice(data, sign_digest(notice_digest(data, chain_id=CHAIN_ID), key))


EVICTION = Notice(kind=NoticeKind.EVICT, epoch=0, height=Height(HEIGHT), network_id=HERE_NETWORK)
SIGNED = signed_by(RESOLVER_KEY, EVICTION)
PAYLOAD = notice_payload(SIGNED)


class Head:
    """Where the sequencer's chain ends."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False

    async def __call__(self) -> Height:
        self.asked += 1
        if self.is_away:
            raise Unavailable("away")
        return Height(HEAD)


@pytest.mark.parametrize("is_read_first", [True, False])
async def test_a_notice_that_is_logged_is_no_matter(store: VerdictStore, *, is_read_first: bool) -> None:
    head = Head()
    notices = Notices(store, CHECKS, head=head)
    if is_read_first:
        await notices.read(Height(HEIGHT + 1), [b"anything", PAYLOAD])
    notices.take(SIGNED, EVICTION)
    assert notices.standing.evicted == (HERE_NETWORK,)
    if not is_read_first:
        await notices.read(Height(HEIGHT + 1), [b"anything", PAYLOAD])
    await notices.read(Height(HEAD + 2 * NOTICE_GRACE_HEIGHTS), [PAYLOAD])
    assert head.asked == 0


async def test_what_the_log_never_has_is_evidence_against_the_resolver(store: VerdictStore) -> None:
    """A node that is behind reads on to where the chain ended when it was told, and some heights more."""
    head = Head()
    notices = Notices(store, CHECKS, head=head)
    notices.take(SIGNED, EVICTION)
    for height in (HEIGHT, HEIGHT + 2 * NOTICE_GRACE_HEIGHTS, HEAD + NOTICE_GRACE_HEIGHTS - 1):
        await notices.read(Height(height), [])
    assert head.asked == 1
    again = Notices(store, CHECKS, head=head)
    for _ in range(2):
        with pytest.raises(Contradiction, match=r"EVICT of height 20.* does not have up to height") as caught:
            await again.read(Height(HEAD + NOTICE_GRACE_HEIGHTS), [])
        assert caught.value.accused == "resolver"


async def test_what_others_log_does_not_count(store: VerdictStore) -> None:
    notices = Notices(store, CHECKS, head=Head())
    notices.take(SIGNED, EVICTION)
    forged = notice_payload(signed_by(REPORTER_KEYS[0], EVICTION))
    await notices.read(Height(HEIGHT), [forged])
    with pytest.raises(Contradiction):
        await notices.read(Height(HEAD + NOTICE_GRACE_HEIGHTS), [forged])


async def test_nobody_is_accused_before_the_chains_end_is_known(store: VerdictStore) -> None:
    head = Head()
    head.is_away = True
    notices = Notices(store, CHECKS, head=head)
    notices.take(SIGNED, EVICTION)
    for height in range(2 * HEAD, 2 * HEAD + ASK_AGAIN_HEIGHTS + 1):
        await notices.read(Height(height), [])
    assert head.asked == 2
    head.is_away = False
    last = 2 * HEAD + 2 * ASK_AGAIN_HEIGHTS
    await notices.read(Height(last), [])
    await notices.read(Height(last + 1), [])
    await notices.read(Height(last + 2), [PAYLOAD])
    await notices.read(Height(last + 2 * NOTICE_GRACE_HEIGHTS), [])


# Settlement below a new epoch.

VOID = Notice(kind=NoticeKind.VOID, epoch=1, height=Height(HEIGHT), network_id=HERE_NETWORK)
SIGNED_VOID = signed_by(RESOLVER_KEY, VOID)
SETTLED, SETTLED_HASH = Height(HEIGHT + 5), b"\x07" * 32


def voided(store: VerdictStore, settled_hash: bytes = SETTLED_HASH) -> None:
    assert store.put_settled_final(SETTLED)
    store.begin_epoch(SIGNED_VOID, height=VOID.height, settled_hash=settled_hash)


def test_a_new_epoch_takes_back_what_was_settled_above_it(store: VerdictStore) -> None:
    voided(store)
    assert store.settled_final == HEIGHT - 1
    assert not store.put_settled_final(SETTLED), "these are other blocks"
    assert store.settled_final == HEIGHT - 1
    assert store.put_settled_final(Height(SETTLED + 1))
    assert store.settled_final == SETTLED + 1


def test_the_very_blocks_that_were_settled_are_settled_again(store: VerdictStore) -> None:
    voided(store)
    assert not store.settles_again(Height(SETTLED - 1), lambda _: SETTLED_HASH)
    assert not store.settles_again(SETTLED, lambda _: b"\x08" * 32)
    assert store.settles_again(Height(SETTLED + 1), lambda height: SETTLED_HASH if height == SETTLED else b"")
    assert store.settled_final == SETTLED
    assert not store.settles_again(SETTLED, lambda _: SETTLED_HASH)


def test_blocks_that_this_node_never_had_are_not_taken_for_settled_ones(store: VerdictStore) -> None:
    voided(store, settled_hash=b"")
    assert not store.settles_again(SETTLED, lambda _: b"")
    assert store.settled_final == HEIGHT - 1


def test_a_second_epoch_below_the_first_remembers_what_was_settled(store: VerdictStore) -> None:
    voided(store)
    lower = Notice(kind=NoticeKind.VOID, epoch=2, height=Height(HEIGHT - 5), network_id=HERE_NETWORK)
    store.begin_epoch(signed_by(RESOLVER_KEY, lower), height=lower.height, settled_hash=b"\x01" * 32)
    assert store.settled_final == lower.height - 1
    assert store.settles_again(SETTLED, lambda _: SETTLED_HASH)
    assert store.settled_final == SETTLED


def test_a_settlement_of_below_the_new_epoch_stands(store: VerdictStore) -> None:
    store.put_settled_final(Height(HEIGHT - 1))
    store.begin_epoch(SIGNED_VOID, height=VOID.height, settled_hash=SETTLED_HASH)
    assert store.settled_final == HEIGHT - 1
    assert store.put_settled_final(Height(HEIGHT))
