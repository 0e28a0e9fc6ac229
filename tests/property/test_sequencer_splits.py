"""However submissions, honest and malicious, fall into blocks: nothing is unbundled, lost, or overtakes."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.model.bundle import Bundle, Trailer
from nodes.model.execution import Derived
from nodes.model.ids import BundleHash, RollupId, SubmissionHash
from nodes.model.sequenced_block import Commitment, SequencedBlock
from nodes.rules import sequenced_block as blocks
from nodes.rules.bundle import bundle_hash
from nodes.rules.derivation import Derivation
from nodes.rules.hashes import sha256
from nodes.rules.lazy import Cut, LazyOrder, Offer, OrderRules, placed_bytes
from nodes.rules.payload import decode, sign
from nodes.rules.sequenced_block import genesis_ref
from tests.support.crafting import CHAIN_ID, CHAINS, KEYS, LegPlan, bundle, lone, make_testnet, plain, signed_legs

A, B, C, _ = CHAINS
INTERVAL_NS = 100_000_000
TESTNET = make_testnet(max_payloads=6, replay_window=1_000)


def _pool() -> tuple[Bundle, ...]:
    """Honest bundles over two and three rollups, and everything a hostile client can make of them."""
    made: list[Bundle] = []
    for nonce in range(3):
        plans = (LegPlan(chain=A, nonce=nonce), LegPlan(chain=B, nonce=nonce))
        legs = signed_legs(plans)
        wanted = BundleHash(bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in plans]))
        foreign = LegPlan(chain=B, key=5, nonce=nonce)
        made += [
            bundle(plans),
            bundle(plans, replace={1: legs[0]}),
            bundle(plans, replace={0: b"\xff"}),
            bundle(plans, replace={1: sign(foreign.unsigned(), KEYS[5], Trailer(wanted, 1, 2))}),
            bundle(plans, leg_hashes=[plans[1].leg_hash(), plans[0].leg_hash()]),
            Bundle(version=1, expiry=0, legs=tuple(reversed(bundle(plans).legs))),
            Bundle(version=1, expiry=0, legs=(bundle(plans).legs[0],)),
            Bundle(version=1, expiry=0, legs=bundle(plans).legs * 2),
            lone(A, legs[0]),
            lone(B, legs[1]),
            lone(C, legs[1]),
            plain(LegPlan(chain=B, key=6, nonce=nonce)),
        ]
        wide = tuple(LegPlan(chain=chain, key=2, nonce=nonce + at) for chain in (A, B, C) for at in (0, 1))
        made += [bundle(wide), bundle(wide, expiry=2), bundle(wide, version=2), bundle(wide[:3], replace={2: b""})]
    return tuple(item for item in made if all(leg.payload for leg in item.legs))


POOL = _pool()
SMALLEST_BLOCK_BYTES = max(map(placed_bytes, POOL))


def cut_all(
    submissions: Sequence[Bundle], *, block_bytes_max: int, calls: Sequence[int]
) -> tuple[list[Cut], list[SubmissionHash]]:
    """Blocks of a sequencer that got the submissions in calls of these sizes, one tick after each call."""
    rules = OrderRules(
        block_interval_ns=INTERVAL_NS,
        block_bytes_max=block_bytes_max,
        mempool_bytes_max=2**40,
        mempool_bundles_max=10**6,
        dedup_heights=1,
        max_payloads={params.rollup_id: params.max_payloads for params in TESTNET.rollups},
    )
    order = LazyOrder(rules=rules, chain_id=CHAIN_ID, head=genesis_ref(CHAIN_ID), head_time_ns=0, now_ns=0)
    # The number makes the hashes differ: the same bundle may come in any number of encodings.
    offers = [Offer(SubmissionHash(sha256(number.to_bytes(4, "big"))), made) for number, made in enumerate(submissions)]
    cuts: list[Cut] = []
    now_ns, rest = 0, offers
    sizes = iter(calls)
    while rest or order.pending_bundles:
        size = next(sizes, 1)
        order.admit(rest[:size], now_ns=now_ns)
        rest = rest[size:]
        now_ns += INTERVAL_NS
        while (cut := order.cut(now_ns=now_ns, wall_ns=now_ns)) is not None:
            order.made_durable(cut.header.height)
            cuts.append(cut)
    return cuts, [offer.hash for offer in offers]


def derive_all(cuts: Sequence[Cut]) -> list[Mapping[RollupId, Derived]]:
    """What every rollup derives from each block."""
    readers = {
        params.rollup_id: Derivation(testnet=TESTNET, rollup_id=params.rollup_id, decode=decode)
        for params in TESTNET.rollups
    }
    parent, time_ns = genesis_ref(CHAIN_ID), 0
    derived: list[Mapping[RollupId, Derived]] = []
    for cut in cuts:
        block = SequencedBlock(
            header=cut.header, header_hash=cut.header_hash, contents=cut.trees.contents, finality_proof=b""
        )
        at_height = {}
        for rollup_id, reader in readers.items():
            filtered = blocks.filter_block(block, cut.trees, rollup_id, Commitment.FIRM)
            verified = blocks.verify(filtered, chain_id=CHAIN_ID, parent=parent, parent_time_ns=time_ns)
            at_height[rollup_id] = reader.derive(verified)
        parent, time_ns = cut.ref, cut.header.time_ns
        derived.append(at_height)
    return derived


submissions_of_pool = st.lists(st.sampled_from(POOL), min_size=1, max_size=14)
call_sizes = st.lists(st.integers(min_value=0, max_value=6), max_size=14)
block_sizes = st.integers(min_value=SMALLEST_BLOCK_BYTES, max_value=4 * SMALLEST_BLOCK_BYTES)


@settings(max_examples=150)
@given(submissions=submissions_of_pool, calls=call_sizes, block_bytes_max=block_sizes)
def test_no_split_unbundles(submissions: list[Bundle], calls: list[int], block_bytes_max: int) -> None:
    cuts, _hashes = cut_all(submissions, block_bytes_max=block_bytes_max, calls=calls)
    seen: set[BundleHash] = set()
    for at_height in derive_all(cuts):
        legs: dict[BundleHash, list[Trailer]] = defaultdict(list)
        for derived in at_height.values():
            for leg in derived.admitted:
                if leg.transaction.trailer is not None:
                    legs[leg.transaction.trailer.bundle_hash].append(leg.transaction.trailer)
        for wanted, trailers in legs.items():
            (count,) = {trailer.leg_count for trailer in trailers}
            assert sorted(trailer.leg_index for trailer in trailers) == list(range(count)), "all legs, each once"
            assert wanted not in seen, "within the replay window a bundle is admitted once"
        seen |= set(legs)
        bundles = {bundle for derived in at_height.values() for bundle in derived.bundles}
        assert {bundle.bundle_hash for bundle in bundles} == set(legs)
        assert len(bundles) == len(legs), "every rollup gives a bundle the same ordinal and the same rollups"
        assert len({derived.touched for derived in at_height.values()}) == 1, "and all see who is touched"


@given(submissions=submissions_of_pool, calls=call_sizes, block_bytes_max=block_sizes)
def test_blocks_hold_what_was_accepted_in_its_order(
    submissions: list[Bundle], calls: list[int], block_bytes_max: int
) -> None:
    cuts, hashes = cut_all(submissions, block_bytes_max=block_bytes_max, calls=calls)
    assert [submission.hash for cut in cuts for submission in cut.submissions] == hashes
    for cut in cuts:
        assert sum(submission.size_bytes for submission in cut.submissions) <= block_bytes_max
        for content in cut.trees.contents.values():
            assert len(content.payloads) <= TESTNET.rollups[0].max_payloads
        lists = [item for content in cut.trees.contents.values() for item in content.payloads + content.rows]
        assert sum(map(len, lists)) == sum(submission.size_bytes for submission in cut.submissions)
    payloads = [leg.payload for made in submissions for leg in made.legs]
    placed = [payload for cut in cuts for content in cut.trees.contents.values() for payload in content.payloads]
    assert sorted(placed) == sorted(payloads)


@given(submissions=submissions_of_pool, calls=call_sizes, block_bytes_max=block_sizes)
def test_an_honest_bundle_is_admitted_whatever_stands_around_it(
    submissions: list[Bundle], calls: list[int], block_bytes_max: int
) -> None:
    """Copies, foreign trailers and duplicate landings harm nobody."""
    plans = (LegPlan(chain=A, key=7, nonce=7), LegPlan(chain=C, key=7, nonce=7))
    legs = bundle(plans).legs
    hostile = [lone(A, legs[0].payload), bundle(plans, replace={1: b"\xff"})]
    cuts, _hashes = cut_all(
        [*hostile, *submissions, bundle(plans), *hostile], block_bytes_max=block_bytes_max, calls=calls
    )
    wanted = BundleHash(bundle_hash(version=1, expiry=0, leg_hashes=[plan.leg_hash() for plan in plans]))
    admitted = [
        leg.transaction.trailer.leg_index
        for at_height in derive_all(cuts)
        for derived in at_height.values()
        for leg in derived.admitted
        if leg.transaction.trailer is not None and leg.transaction.trailer.bundle_hash == wanted
    ]
    assert sorted(admitted) == [0, 1]
