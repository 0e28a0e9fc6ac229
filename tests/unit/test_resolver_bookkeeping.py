"""What the resolver's rule keeps: patience with rollups, bundles to void, who was evicted and came back, reports."""

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import NO_ABORTS, Notice, NoticeKind, Report, SignedReport, VoidedBundle
from nodes.rules import void_queue
from nodes.rules.patience import EXTRA_ROUNDS, Patience
from nodes.rules.report_box import Held, ReportBox
from nodes.rules.resolved_chain import Evictions, PendingNotice
from nodes.rules.verdict import Standing, aborts_hash, encode_report
from nodes.rules.void_queue import VoidQueue
from tests.support.verdict_world import sign_notice

A, B, C = (NetworkId(at) for at in (1, 2, 3))
TIMEOUT_NS = 800


def test_time_adds_up_per_rollup_over_the_rounds_of_a_height() -> None:
    patience = Patience(timeout_ns=TIMEOUT_NS, now_ns=0)
    assert not patience.is_over(A, TIMEOUT_NS - 1)
    assert patience.is_over(A, TIMEOUT_NS)
    patience.close_round([(A, 700), (B, 10), (C, -50)])
    patience.begin_round(700)
    # An eighth more for the second round.
    assert [patience.is_over(network, 900) for network in (A, B, C)] == [True, False, False]
    assert not patience.is_over(A, 899)
    assert [patience.is_over(network, 1_599) for network in (B, C)] == [True, False]
    patience.begin_height(1_600)
    assert not patience.is_over(A, 1_600 + TIMEOUT_NS - 1)


def test_the_obstinate_reported_failures_in_the_most_of_the_last_rounds() -> None:
    patience = Patience(timeout_ns=TIMEOUT_NS, now_ns=0)
    assert patience.obstinate == []
    for _ in range(3):
        patience.failed([A])
    for at in range(EXTRA_ROUNDS):
        patience.failed([C, B] if at % 2 else [C])
    assert patience.obstinate == [C]
    patience.begin_height(0)
    patience.failed([B, A])
    assert patience.obstinate == [A, B]


def bundle(height: int, number: int) -> VoidedBundle:
    return VoidedBundle(Height(height), number, BundleHash(number.to_bytes(32, "big")))


def test_what_waits_to_be_voided_is_bounded_and_the_lowest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(void_queue, "MAX_VOIDED", 2)
    monkeypatch.setattr(void_queue, "MAX_WAITING", 3)
    queue, standing = VoidQueue(), Standing()
    assert queue.next_notice(epoch=1, lowest=Height(9)) is None
    queue.add([bundle(8, 4), bundle(5, 1), bundle(7, 3), bundle(6, 2)])
    first = queue.next_notice(epoch=1, lowest=Height(9))
    assert first is not None
    assert (first.epoch, first.height, first.voided) == (1, 5, (bundle(5, 1), bundle(6, 2)))
    standing.take(first)
    queue.voided(standing)
    rest = queue.next_notice(epoch=2, lowest=first.height)
    assert rest is not None
    assert (rest.epoch, rest.height, rest.voided) == (2, 5, (bundle(7, 3),))
    assert queue.next_notice(epoch=2, lowest=Height(8 + void_queue.MAX_DEPTH_HEIGHTS)) is None, "too old by now"


def test_a_bundle_is_voided_once_whatever_ordinal_it_is_listed_with() -> None:
    standing = Standing()
    first, again = bundle(5, 1), bundle(5, 1)._replace(ordinal=7)
    for epoch, voided in ((1, (first,)), (2, (again, bundle(5, 2)))):
        standing.take(
            Notice(kind=NoticeKind.VOID, epoch=epoch, height=Height(5), network_id=NetworkId(0), voided=voided)
        )
    assert standing.has_voided(again)
    assert not standing.has_voided(bundle(6, 1))
    assert [abort.ordinal for abort in standing.base(Height(5)).aborts] == [1, 2]


def entry(kind: NoticeKind, height: int, network: NetworkId = A) -> PendingNotice:
    notice = Notice(kind=kind, epoch=0, height=Height(height), network_id=network)
    return PendingNotice(sign_notice(notice), notice)


def test_a_new_epoch_says_again_what_only_void_verdicts_said() -> None:
    out, back = entry(NoticeKind.EVICT, 3), entry(NoticeKind.REJOIN, 20)
    evictions = Evictions()
    evictions.begin(out, Height(3))
    evictions.end(back, Height(20))
    later = entry(NoticeKind.EVICT, 30)
    evictions.begin(later, Height(30))
    assert evictions.void(Height(31)) == ([], [])
    assert A in evictions
    assert evictions.void(Height(10)) == ([later], [back])
    assert A not in evictions, "it is evicted anew when the height comes"
    assert evictions.void(Height(11)) == ([], []), "the return stands at height 10"
    assert evictions.void(Height(10)) == ([], [back])
    assert evictions.void(Height(3)) == ([], []), "there was no eviction now"
    assert evictions.void(Height(1)) == ([], [])


def held(parent: int, at_ns: int) -> Held:
    report = Report(
        epoch=0, height=Height(1), network_id=A, aborts_hash=aborts_hash(NO_ABORTS), parent_hash=bytes([parent]) * 32,
        block_hash=bytes(32), failures=(), exits=(), mints=(),
    )  # fmt: skip
    return Held(SignedReport(encode_report(report), bytes(65)), report, at_ns)


def test_of_reports_on_several_parents_the_one_that_came_last_counts() -> None:
    box, digest = ReportBox(A), aborts_hash(NO_ABORTS)
    first, second = held(1, 10), held(2, 20)
    for report in (first, second):
        assert box.put(report, lowest=Height(1)) is None
    assert box.find(Height(1), aborts_hash=digest, parent_hash=None) == second
    assert box.find(Height(1), aborts_hash=digest, parent_hash=bytes([1]) * 32) == first
    box.put(first, lowest=Height(1))
    assert box.find(Height(1), aborts_hash=digest, parent_hash=None) == first
