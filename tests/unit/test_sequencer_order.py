"""The lazy order: first in, first out, whole bundles, bounded, idempotent."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import LimitExceeded, Overloaded
from nodes.model.ids import SubmissionHash
from nodes.rules.hashes import sha256
from nodes.rules.lazy import (
    MAX_BLOCKS_IN_FLIGHT,
    Cut,
    LazyOrder,
    Offer,
    OrderRules,
    Submission,
    flaw_of,
    placed_bytes,
)
from nodes.rules.sequenced_block import BlockTrees, genesis_ref, place
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, lone

MS = 1_000_000
INTERVAL_NS = 100 * MS
RULES = OrderRules(
    block_interval_ns=INTERVAL_NS,
    block_bytes_max=1_000,
    mempool_bytes_max=10_000,
    mempool_bundles_max=50,
    dedup_heights=3,
    max_payloads=dict.fromkeys(ROLLUPS, 64),
)
WALL_NS = 1_700_000_000_000_000_000


def make_order(rules: OrderRules = RULES, *, now_ns: int = 0) -> LazyOrder:
    return LazyOrder(rules=rules, chain_id=CHAIN_ID, head=genesis_ref(CHAIN_ID), head_time_ns=0, now_ns=now_ns)


def offer(number: int, *, size: int = 100, chain: int = CHAINS[0]) -> Offer:
    payload = number.to_bytes(4, "big").ljust(size, b"\x00")
    return Offer(SubmissionHash(sha256(payload)), lone(chain, payload))


def many_on_one(count: int) -> Bundle:
    """A bundle with one leg on the first rollup and some on the second."""
    return Bundle(version=1, expiry=0, legs=(leg_on(CHAINS[0]), *[leg_on(CHAINS[1])] * count))


def leg_on(chain: int) -> Leg:
    return lone(chain, b"payload").legs[0]


def cut_at(order: LazyOrder, now_ns: int) -> Cut:
    cut = order.cut(now_ns=now_ns, wall_ns=WALL_NS + now_ns)
    assert cut is not None
    order.made_durable(cut.header.height)
    return cut


def hashes(submissions: Sequence[Submission] | Sequence[Offer]) -> list[bytes]:
    return [submission.hash for submission in submissions]


def test_blocks_are_cut_at_multiples_of_the_interval_also_empty_ones() -> None:
    order = make_order(now_ns=30 * MS)
    assert order.cut(now_ns=99 * MS, wall_ns=WALL_NS) is None
    first = cut_at(order, 100 * MS)
    assert first.submissions == ()
    assert order.cut(now_ns=101 * MS, wall_ns=WALL_NS) is None
    second = cut_at(order, 200 * MS)
    assert (first.header.height, second.header.height) == (1, 2)
    assert second.header.parent_hash == first.header_hash


def test_a_late_tick_is_not_made_up_for() -> None:
    order = make_order()
    cut_at(order, 350 * MS)
    assert order.next_tick_ns == 400 * MS
    assert order.cut(now_ns=351 * MS, wall_ns=WALL_NS) is None


def test_a_block_is_cut_early_when_its_bytes_are_pending() -> None:
    order = make_order()
    order.admit([offer(n) for n in range(9)], now_ns=0)
    assert order.cut(now_ns=1, wall_ns=WALL_NS) is None
    order.admit([offer(9)], now_ns=0)
    assert len(cut_at(order, 2).submissions) == 10
    assert order.next_tick_ns == INTERVAL_NS, "the clock's own ticks stay where they are"


def test_order_is_first_in_first_out_and_bundles_stay_whole() -> None:
    order = make_order()
    offers = [offer(0, size=600), offer(1, size=500), offer(2, size=100)]
    order.admit(offers, now_ns=0)
    first, second = cut_at(order, 1), cut_at(order, INTERVAL_NS)
    # The third would have fitted into the first block; it does not overtake.
    assert (hashes(first.submissions), hashes(second.submissions)) == (hashes(offers[:1]), hashes(offers[1:]))
    assert order.pending_bytes == 0


def test_a_block_holds_no_more_payloads_of_a_rollup_than_its_readers_take() -> None:
    order = make_order(replace(RULES, max_payloads={ROLLUPS[0]: 2, ROLLUPS[1]: 2}))
    twin = Offer(SubmissionHash(sha256(b"twin")), many_on_one(1))
    offers = [offer(0), twin, offer(1, chain=CHAINS[1]), offer(2), offer(3, chain=CHAINS[1])]
    order.admit(offers, now_ns=0)
    first, second = cut_at(order, 1), cut_at(order, INTERVAL_NS)
    # The last would have fitted into the first block only without the one before it, which it does not overtake.
    assert (hashes(first.submissions), hashes(second.submissions)) == (hashes(offers[:3]), hashes(offers[3:]))


def test_a_block_is_cut_early_when_a_rollup_has_its_payloads_pending() -> None:
    order = make_order(replace(RULES, max_payloads={ROLLUPS[0]: 3, ROLLUPS[1]: 3}))
    order.admit([offer(0), offer(1), offer(2, chain=CHAINS[1])], now_ns=0)
    assert not order.is_full
    order.admit([offer(3), offer(4)], now_ns=0)
    first = cut_at(order, 1)
    assert len(first.submissions) == 4
    assert order.cut(now_ns=2, wall_ns=WALL_NS) is None
    order.fork(to=genesis_ref(CHAIN_ID), returned=first.submissions)
    assert len(cut_at(order, 3).submissions) == 4


def test_what_was_accepted_under_a_larger_count_gets_a_block_of_its_own() -> None:
    offers = [Offer(SubmissionHash(sha256(b"wide")), many_on_one(9)), offer(1)]
    accepted = make_order().admit(offers, now_ns=0)
    order = make_order(replace(RULES, max_payloads={ROLLUPS[0]: 3, ROLLUPS[1]: 3}))
    order.restore(pending=accepted, sequenced=[])
    first, second = cut_at(order, 1), cut_at(order, INTERVAL_NS)
    assert [hashes(cut.submissions) for cut in (first, second)] == [hashes(accepted[:1]), hashes(accepted[1:])]
    assert not order.is_full


def test_size_is_what_placing_takes() -> None:
    made = bundle([LegPlan(chain=CHAINS[0]), LegPlan(chain=CHAINS[1]), LegPlan(chain=CHAINS[1], nonce=1)])
    contents = place([made])
    placed = sum(len(item) for content in contents.values() for item in content.payloads + content.rows)
    assert placed_bytes(made) == placed
    assert placed_bytes(lone(CHAINS[0], b"abc")) == 3


def test_contents_are_what_was_accepted() -> None:
    order = make_order()
    offers = [offer(n, chain=CHAINS[n % 2]) for n in range(4)]
    order.admit(offers, now_ns=0)
    cut = cut_at(order, INTERVAL_NS)
    assert cut.trees.contents == place([made.bundle for made in offers])
    assert cut.header.rollups_root == BlockTrees(cut.trees.contents).top.root


def test_block_time_never_decreases() -> None:
    order = make_order()
    first = cut_at(order, INTERVAL_NS)
    second = order.cut(now_ns=2 * INTERVAL_NS, wall_ns=5)
    assert second is not None
    assert second.header.time_ns == first.header.time_ns


def test_a_full_mempool_takes_nothing_and_says_when_to_come_back() -> None:
    order = make_order(replace(RULES, mempool_bundles_max=3))
    order.admit([offer(0), offer(1)], now_ns=0)
    with pytest.raises(Overloaded, match="2 of 3 bundles") as refused:
        order.admit([offer(2), offer(3)], now_ns=40 * MS)
    assert refused.value.retry_after_ms == 60, "at the next tick there is room"
    assert order.pending_bundles == 2
    assert not order.knows(offer(2).hash)
    order.admit([offer(2)], now_ns=0)


def test_the_retry_hint_grows_with_what_must_drain_first() -> None:
    order = make_order(replace(RULES, mempool_bytes_max=3_000))
    order.admit([offer(n) for n in range(30)], now_ns=0)
    hints = []
    for count in (1, 15):
        with pytest.raises(Overloaded) as refused:
            order.admit([offer(100 + n) for n in range(count)], now_ns=0)
        hints.append(refused.value.retry_after_ms)
    assert hints == [100, 200]


def test_what_never_fits_names_its_limit() -> None:
    order = make_order()
    with pytest.raises(LimitExceeded, match="mempool_bundles_max is 50, but 51"):
        order.admit([offer(n) for n in range(51)], now_ns=0)
    with pytest.raises(LimitExceeded, match="mempool_bytes_max is 10,000"):
        order.admit([offer(n, size=1_000) for n in range(11)], now_ns=0)


def test_submissions_are_remembered_for_dedup_heights() -> None:
    order = make_order()
    made = offer(1)
    order.admit([made], now_ns=0)
    known = [order.knows(made.hash)]
    for tick in range(1, 6):
        cut_at(order, tick * INTERVAL_NS)
        known.append(order.knows(made.hash))
    # Pending, then sequenced at height 1 and remembered at the heads 1, 2 and 3.
    assert known == [True, True, True, True, False, False]


def test_no_block_is_cut_while_too_many_wait_for_the_disk() -> None:
    order = make_order()
    for tick in range(1, MAX_BLOCKS_IN_FLIGHT + 1):
        assert order.cut(now_ns=tick * INTERVAL_NS, wall_ns=WALL_NS) is not None
    assert order.is_held
    assert order.cut(now_ns=99 * INTERVAL_NS, wall_ns=WALL_NS) is None
    order.made_durable(order.tip.height)
    assert order.cut(now_ns=99 * INTERVAL_NS, wall_ns=WALL_NS) is not None


def test_a_fork_returns_submissions_to_the_front_in_order() -> None:
    order = make_order()
    offers = [offer(n) for n in range(4)]
    order.admit(offers[:2], now_ns=0)
    first = cut_at(order, INTERVAL_NS)
    order.admit(offers[2:3], now_ns=0)
    second = cut_at(order, 2 * INTERVAL_NS)
    order.admit(offers[3:], now_ns=0)
    order.fork(to=first.ref, returned=second.submissions)
    assert order.knows(offers[2].hash)
    again = cut_at(order, 3 * INTERVAL_NS)
    assert (again.header.height, again.header.parent_hash) == (2, first.header_hash)
    assert hashes(again.submissions) == hashes(offers[2:])
    assert again.header.time_ns > second.header.time_ns


def test_a_restored_order_continues_as_if_nothing_had_happened() -> None:
    order = make_order()
    offers = [offer(n) for n in range(5)]
    order.admit(offers[:2], now_ns=0)
    first = cut_at(order, INTERVAL_NS)
    pending = order.admit(offers[2:4], now_ns=0)
    restored = LazyOrder(
        rules=RULES,
        chain_id=CHAIN_ID,
        head=first.ref,
        head_time_ns=first.header.time_ns,
        now_ns=INTERVAL_NS + 1,
    )
    restored.restore(pending=pending, sequenced=[(first.header.height, [made.hash for made in offers[:2]])])
    for each in (order, restored):
        each.admit(offers[4:], now_ns=INTERVAL_NS + 1)
        assert all(each.knows(made.hash) for made in offers)
    assert cut_at(order, 2 * INTERVAL_NS).header == cut_at(restored, 2 * INTERVAL_NS).header


def test_what_was_accepted_under_a_larger_limit_gets_a_block_of_its_own() -> None:
    accepted = make_order(replace(RULES, block_bytes_max=5_000)).admit([offer(1, size=3_000), offer(2)], now_ns=0)
    order = make_order()
    order.restore(pending=accepted, sequenced=[])
    first, second = cut_at(order, 1), cut_at(order, INTERVAL_NS)
    assert [hashes(cut.submissions) for cut in (first, second)] == [hashes(accepted[:1]), hashes(accepted[1:])]
    assert order.pending_bytes == 0


@pytest.mark.parametrize(
    ("made", "flaw"),
    [
        (bundle([LegPlan(chain=CHAINS[0]), LegPlan(chain=CHAINS[1])]), ""),
        (lone(CHAINS[0], b"any bytes are a payload"), ""),
        (bundle([LegPlan(chain=CHAINS[0]), LegPlan(chain=99)]), f"leg 1: unknown rollup 0x{99:064x}; the sequencer's"),
        (lone(CHAINS[0], b""), "leg 0: the payload is empty"),
        (lone(CHAINS[0], bytes(1_001)), "block_bytes_max is 1,000, but 1,001 was offered"),
        (many_on_one(2), ""),
        (many_on_one(3), f"max_payloads of rollup 0x{CHAINS[1]:064x} is 2, but 3 was offered"),
    ],
)
def test_structure_is_judged_and_payloads_are_not(made: Bundle, flaw: str) -> None:
    found = flaw_of(made, max_payloads=dict.fromkeys(ROLLUPS, 2), block_bytes_max=1_000)
    assert found.startswith(flaw) if flaw else found == ""
