"""The round rule, the matching of mints, what a rollup executes without a set, and which notices hold."""

from dataclasses import replace

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidVerdict
from nodes.model.execution import AbortReason, AdmittedBundle
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import (
    ALL_LEGS,
    NO_ABORTS,
    Abort,
    AbortSet,
    FailureKind,
    LegExit,
    LegFailure,
    LegMint,
    Notice,
    NoticeKind,
    Report,
    VoidedBundle,
)
from nodes.rules.evaluation import flaw_of_report, foreign_strikes
from nodes.rules.verdict import (
    BURN_ADDRESS,
    BURN_GAS,
    DEPOSIT_TYPE,
    Standing,
    aborts_hash,
    matched_mints,
    next_aborts,
    plan,
    strikes,
    touched_networks,
    unmatched_mints,
)
from tests.support.verdict_model import Item, LegPlan, Op, bundle_hash_of, derive, make_params, rollup_of

PARAMS = make_params(3, serial_rounds=2)
ALL = make_params(3, abort_rule="all")
X, Y, Z = (BundleHash(bytes([at]) * 32) for at in (1, 2, 3))
LEAF = b"\x0e" * 32
REVERTED, SKIPPED, MISMATCH = FailureKind.REVERTED, FailureKind.SKIPPED, FailureKind.NONCE_MISMATCH


def report(
    network: int,
    *failures: LegFailure,
    exits: tuple[LegExit, ...] = (),
    mints: tuple[LegMint, ...] = (),
) -> Report:
    return Report(
        epoch=0,
        height=Height(1),
        network_id=NetworkId(network),
        aborts_hash=aborts_hash(NO_ABORTS),
        parent_hash=bytes(32),
        block_hash=bytes(32),
        failures=failures,
        exits=exits,
        mints=mints,
    )


def test_nothing_failed_means_the_set_is_the_verdict() -> None:
    made = LegExit(0, X, 0, LEAF, 7)
    mint = LegMint(0, X, 1, NetworkId(1), LEAF)
    reports = [report(2, mints=(mint,)), report(1, exits=(made,))]
    assert next_aborts(NO_ABORTS, reports, round_number=0, params=PARAMS) is None


def test_serial_rounds_strike_the_lowest_ordinal_then_all_failing() -> None:
    reports = [
        report(1, LegFailure(5, Z, 0, REVERTED), LegFailure(2, X, 1, SKIPPED)),
        report(2, LegFailure(3, Y, 0, REVERTED), LegFailure(2, X, 2, SKIPPED)),
    ]
    lowest = Abort(2, X, AbortReason.SKIPPED, 0b110, False)
    rest = (Abort(3, Y, AbortReason.REVERTED, 0, True), Abort(5, Z, AbortReason.REVERTED, 0, True))
    for number in (0, 1):
        assert next_aborts(NO_ABORTS, reports, round_number=number, params=PARAMS) == AbortSet(aborts=(lowest,))
    assert next_aborts(NO_ABORTS, reports, round_number=2, params=PARAMS) == AbortSet(aborts=(lowest, *rest))
    assert next_aborts(NO_ABORTS, reports, round_number=0, params=ALL) == AbortSet(aborts=(lowest, *rest))
    assert next_aborts(NO_ABORTS, reports[::-1], round_number=0, params=ALL) == AbortSet(aborts=(lowest, *rest))


def test_of_different_ordinals_of_a_bundle_the_lowest_counts() -> None:
    exits = (LegExit(1, X, 1, LEAF, 7),)
    reports = [
        report(1, LegFailure(9, X, 0, REVERTED)),
        report(2, exits=exits),
        report(3, LegFailure(4, X, 2, SKIPPED)),
    ]
    for order in (reports, reports[::-1]):
        assert next_aborts(NO_ABORTS, order, round_number=0, params=PARAMS) == AbortSet(
            aborts=(Abort(1, X, AbortReason.SKIPPED, 0b100, False),)
        )


def test_what_was_struck_before_stays_and_so_do_the_evicted() -> None:
    before = AbortSet(evicted=(NetworkId(3),), aborts=(Abort(9, Z, AbortReason.VOIDED, ALL_LEGS, False),))
    after = next_aborts(before, [report(1, LegFailure(1, X, 0, REVERTED))], round_number=0, params=PARAMS)
    assert after == AbortSet(
        evicted=before.evicted, aborts=(Abort(1, X, AbortReason.REVERTED, 0, False), *before.aborts)
    )


def test_a_nonce_mismatch_takes_back_the_burn_and_nothing_else() -> None:
    before = AbortSet(aborts=(Abort(1, X, AbortReason.REVERTED, 0b1, False),))
    reports = [report(1, LegFailure(1, X, 2, MISMATCH), LegFailure(4, Y, 0, REVERTED))]
    after = next_aborts(before, reports, round_number=0, params=PARAMS)
    assert after == AbortSet(aborts=(Abort(1, X, AbortReason.REVERTED, 0b101, False),))
    with pytest.raises(InvalidVerdict):
        next_aborts(NO_ABORTS, reports, round_number=0, params=PARAMS)


def test_the_kth_mint_of_a_leaf_stands_for_the_kth_equal_exit_of_its_bundle() -> None:
    exits = (LegExit(0, X, 0, LEAF, 4), LegExit(0, X, 1, LEAF, 9), LegExit(1, Y, 0, LEAF, 10))
    mints = tuple(LegMint(0, X, leg, NetworkId(1), LEAF) for leg in (2, 3, 4))
    reports = [report(1, exits=exits), report(2, mints=mints)]
    assert [(found.mint.leg_index, found.leaf_index) for found in matched_mints(reports)] == [(2, 4), (3, 9)]
    assert unmatched_mints(reports) == [mints[2]]
    elsewhere = [report(3, exits=exits), report(2, mints=mints[:1])]
    assert unmatched_mints(elsewhere) == list(mints[:1]), "the exit must be on the network that the mint names"
    struck = next_aborts(NO_ABORTS, elsewhere, round_number=0, params=PARAMS)
    assert struck == AbortSet(aborts=(Abort(0, X, AbortReason.UNMATCHED_MINT, 0, False),))


def test_a_struck_leg_is_burnt_in_its_place_and_a_removed_one_leaves() -> None:
    block = (
        Item((LegPlan(1, 0, 0, Op("spend")), LegPlan(1, 0, 1, Op("spend")), LegPlan(2, 0, 0, Op("spend")))),
        Item((LegPlan(1, 1, 0, Op("spend")),), is_plain=True),
    )
    derived = derive(block, 5, 1).derived
    bundle = bundle_hash_of(5, 0, block[0])
    made = plan(derived, AbortSet(aborts=(Abort(0, bundle, AbortReason.REVERTED, 0b10, False),)), params=PARAMS)
    assert (made.places, made.burns) == ((0, 2), frozenset({0}))
    assert made.aborted == {0: AbortReason.REVERTED, 1: AbortReason.REVERTED}
    payload, burn = made.transactions[0]
    assert payload[0] == DEPOSIT_TYPE == burn.tx_type
    assert (burn.to, burn.gas_limit, burn.value, burn.trailer) == (BURN_ADDRESS, BURN_GAS, 0, None)
    assert burn.sender == derived.admitted[0].transaction.sender
    assert made.transactions[1] == (derived.admitted[2].payload, derived.admitted[2].transaction)
    # The same burn at another height is another transaction.
    others = {
        plan(changed, AbortSet(aborts=(Abort(0, bundle, AbortReason.REVERTED, 0b10, False),)), params=PARAMS)
        .transactions[0][1]
        .tx_hash
        for changed in (derived, replace(derived, height=Height(6)))
    }
    assert len(others) == 2


def test_bundles_of_an_evicted_rollup_leave_whole() -> None:
    block = (
        Item((LegPlan(1, 0, 0, Op("spend")), LegPlan(2, 0, 0, Op("spend")))),
        Item((LegPlan(1, 1, 0, Op("spend")), LegPlan(3, 0, 0, Op("spend")))),
    )
    derived = derive(block, 1, 1).derived
    made = plan(derived, AbortSet(evicted=(NetworkId(2),)), params=PARAMS)
    assert (made.places, made.burns, made.aborted) == ((1,), frozenset(), {0: AbortReason.EVICTED})
    assert touched_networks(derived.touched, NO_ABORTS, PARAMS) == {1, 2, 3}
    assert touched_networks(derived.touched, AbortSet(evicted=(NetworkId(2),)), PARAMS) == {1, 3}
    assert touched_networks([rollup_of(9)], NO_ABORTS, PARAMS) == set()


def notice(kind: NoticeKind, height: int, network: int = 1, epoch: int = 0) -> Notice:
    return Notice(kind=kind, epoch=epoch, height=Height(height), network_id=NetworkId(network))


def test_notices_hold_from_their_height_until_they_are_over() -> None:
    standing = Standing()
    standing.take(notice(NoticeKind.EVICT, 10))
    standing.take(notice(NoticeKind.EVICT, 12, network=2))
    assert [standing.base(Height(height)).evicted for height in (9, 10, 12)] == [(), (1,), (1, 2)]
    standing.take(notice(NoticeKind.EVICT, 10))
    standing.take(notice(NoticeKind.EVICT, 5))
    standing.take(notice(NoticeKind.EVICT, 7))
    assert standing.base(Height(5)).evicted == (1,), "the lowest height holds"
    copied = standing.copy()
    standing.take(notice(NoticeKind.REJOIN, 20))
    assert (standing.evicted, copied.evicted) == ((2,), (1, 2))


def test_a_voided_bundle_is_left_out_at_its_height_and_nowhere_else() -> None:
    standing = Standing()
    voided = (VoidedBundle(Height(4), 1, X), VoidedBundle(Height(6), 0, Y))
    standing.take(replace(notice(NoticeKind.VOID, 4, network=0, epoch=1), voided=voided))
    assert standing.epoch == 1
    assert standing.base(Height(4)).aborts == (Abort(1, X, AbortReason.VOIDED, ALL_LEGS, False),)
    assert [len(standing.base(Height(height)).aborts) for height in (3, 5, 6)] == [0, 0, 1]


@pytest.mark.parametrize(
    ("entries", "flaw"),
    [
        (report(1, LegFailure(0, X, 0, REVERTED)), "failed, which was struck"),
        (report(1, LegFailure(1, Y, 0, REVERTED), LegFailure(1, Y, 0, SKIPPED)), "failed twice"),
        (report(1, LegFailure(1, Y, 0, MISMATCH)), "was not burnt"),
        (report(1, LegFailure(0, X, 1, MISMATCH)), "was not burnt"),
        (report(1, exits=(LegExit(0, X, 0, LEAF, 1),)), "and was struck"),
        (report(1, mints=(LegMint(0, X, 0, NetworkId(2), LEAF),)), "and was struck"),
        (report(1, LegFailure(1, Y, 0, REVERTED), exits=(LegExit(1, Y, 0, LEAF, 1),)), "and failed"),
        (report(1, LegFailure(1, Y, 0, REVERTED), exits=(LegExit(2, Y, 1, LEAF, 1),)), "has ordinal 2, and 1"),
        (report(1, exits=(LegExit(1, Y, 0, LEAF, 4), LegExit(1, Y, 1, LEAF, 4))), "leaf 4 of its exit tree follows"),
        (report(1, exits=(LegExit(1, Y, 0, LEAF, 4), LegExit(2, Z, 0, LEAF, 3))), "leaf 3 of its exit tree follows"),
    ],
)
def test_a_report_that_no_execution_gives_is_found(entries: Report, flaw: str) -> None:
    struck = AbortSet(aborts=(Abort(0, X, AbortReason.REVERTED, 0b10, False),))
    assert flaw in flaw_of_report(entries, struck)


def test_a_report_that_an_execution_can_give_has_no_flaw() -> None:
    struck = AbortSet(aborts=(Abort(0, X, AbortReason.REVERTED, 0b10, False),))
    # The ordinal of a struck bundle is what another rollup said: a report may know better.
    fine = report(1, LegFailure(3, X, 0, MISMATCH), LegFailure(1, Y, 0, REVERTED), exits=(LegExit(2, Z, 0, LEAF, 1),))
    assert flaw_of_report(fine, struck) == ""


def test_who_strikes_what() -> None:
    matched, unmatched = LegMint(0, X, 1, NetworkId(1), LEAF), LegMint(2, Z, 1, NetworkId(1), LEAF)
    reports = [
        report(3, LegFailure(1, Y, 0, REVERTED), LegFailure(1, Y, 1, SKIPPED)),
        report(1, LegFailure(1, Y, 2, REVERTED), exits=(LegExit(0, X, 0, LEAF, 7),)),
        report(2, mints=(matched, unmatched)),
    ]
    assert strikes(reports) == [(1, Y), (2, Z), (3, Y)]


def test_who_strikes_a_bundle_without_a_leg_in_it_is_named() -> None:
    bundles = [AdmittedBundle(X, 0, (rollup_of(1), rollup_of(2))), AdmittedBundle(Y, 1, (rollup_of(1),))]
    first = [
        report(1, LegFailure(0, X, 0, REVERTED), LegFailure(1, Y, 0, SKIPPED)),
        report(2, LegFailure(1, Y, 0, REVERTED), exits=(LegExit(0, Y, 0, LEAF, 1),)),
        report(3, LegFailure(0, X, 0, REVERTED), LegFailure(2, Z, 0, REVERTED)),
    ]
    second = [report(2, LegFailure(1, Y, 0, REVERTED)), report(3, mints=(LegMint(1, Y, 0, NetworkId(1), LEAF),))]
    # Of Z nobody here knows where its legs are.
    assert foreign_strikes([first, second], bundles, params=PARAMS) == [(2, Y), (3, X), (3, Y)]
    honest = [report(1, LegFailure(0, X, 0, REVERTED)), report(2, LegFailure(0, X, 1, REVERTED))]
    assert foreign_strikes([honest], bundles, params=PARAMS) == []
