"""The resolver's rule, event by event: rounds, silence, notices, epochs, evidence, bounds."""

from collections.abc import Sequence

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidInput
from nodes.model.execution import AbortReason
from nodes.model.ids import BundleHash, Height
from nodes.model.limits import MAX_PAYLOAD_BYTES
from nodes.model.verdict import (
    NO_ABORTS,
    Abort,
    AbortSet,
    FailureKind,
    LegFailure,
    Notice,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedReport,
    VoidedBundle,
)
from nodes.rules import resolution as rules
from nodes.rules.patience import EXTRA_ROUNDS
from nodes.rules.report_box import MAX_AHEAD_HEIGHTS, MAX_PER_HEIGHT
from nodes.rules.resolution import Resolution
from nodes.rules.resolver_steps import (
    CloseRound,
    Instruction,
    LogNotice,
    PostNotice,
    PublishEvidence,
    SignVerdict,
)
from nodes.rules.verdict import NO_VERDICT, aborts_hash, encode_report, notice_payload, verdict_hash
from nodes.rules.void_queue import MAX_VOIDED
from tests.support.verdict_model import make_params, rollup_of
from tests.support.verdict_world import sign_notice

PARAMS = make_params(3)
TIMEOUT_NS = 1_000
X, Y = (BundleHash(bytes([at]) * 32) for at in (1, 2))


def make() -> Resolution:
    return Resolution(params=PARAMS, report_timeout_ns=TIMEOUT_NS, now_ns=0)


def report(
    network: int,
    height: int = 1,
    *,
    aborts: AbortSet = NO_ABORTS,
    parent: int = 0,
    block: int = 1,
    epoch: int = 0,
    failures: Sequence[LegFailure] = (),
) -> Report:
    return Report(
        epoch=epoch,
        height=Height(height),
        network_id=NetworkId(network),
        aborts_hash=aborts_hash(aborts),
        parent_hash=bytes([parent]) * 32,
        block_hash=bytes([block]) * 32,
        failures=tuple(failures),
        exits=(),
        mints=(),
    )


def give(resolver: Resolution, *reports: Report, now_ns: int = 0) -> list[Instruction]:
    made: list[Instruction] = []
    for entry in reports:
        made += resolver.report(SignedReport(encode_report(entry), bytes(65)), entry, now_ns=now_ns)
    return made


def sequence(resolver: Resolution, *networks: int, notices: Sequence[Notice] = ()) -> list[Instruction]:
    touched = tuple(rollup_of(network) for network in networks)
    signed = [(sign_notice(notice), notice) for notice in notices]
    return resolver.sequenced(Height(resolver.highest + 1), touched, signed, now_ns=0)


def resolved(instructions: Sequence[Instruction]) -> list[int]:
    return [made.verdict.height for made in instructions if isinstance(made, SignVerdict)]


def logged(instructions: Sequence[Instruction]) -> list[Notice]:
    return [made.notice for made in instructions if isinstance(made, LogNotice)]


def evict(resolver: Resolution, network: int = 2) -> list[Instruction]:
    """Time out, read the notice back."""
    for step in (400, 800, 1_200):
        made = resolver.tick(step)
    notices = logged(made)
    assert [notice.network_id for notice in notices] == [network]
    return sequence(resolver, notices=notices)


def test_heights_that_touch_nobody_are_resolved_at_once_and_chain() -> None:
    resolver = make()
    (first,), (second,) = sequence(resolver), sequence(resolver)
    assert isinstance(first, SignVerdict)
    assert isinstance(second, SignVerdict)
    assert (first.verdict.rounds, first.rounds, first.verdict.previous) == (0, (), NO_VERDICT)
    assert second.verdict.previous == verdict_hash(first.encoded)


def test_a_height_waits_for_everybody_it_touches_and_for_the_heights_before() -> None:
    resolver = make()
    assert sequence(resolver, 1, 2) == []
    assert sequence(resolver) == []
    assert resolver.waits_for == [1, 2]
    assert give(resolver, report(2)) == []
    assert resolver.waits_for == [1]
    assert resolved(give(resolver, report(1))) == [1, 2]


def test_reports_may_come_before_the_block_and_before_their_turn() -> None:
    resolver = make()
    assert give(resolver, report(1, 2, parent=1, block=2), report(1, 1)) == []
    assert resolved(sequence(resolver, 1)) == [1]
    assert resolved(sequence(resolver, 1)) == [2]


def test_only_a_report_on_the_resolved_parent_counts() -> None:
    resolver = make()
    sequence(resolver, 1)
    sequence(resolver, 1)
    give(resolver, report(1, 2, parent=9), report(1, 1))
    assert resolver.waits_for == [1]
    assert resolved(give(resolver, report(1, 2, parent=1))) == [2]


def test_a_failing_bundle_costs_a_round() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    failed = report(1, failures=[LegFailure(0, X, 0, FailureKind.REVERTED)])
    (closed,) = give(resolver, report(2), failed)
    assert isinstance(closed, CloseRound)
    assert isinstance(closed.event, RoundClosed)
    assert resolver.pending_events == [closed.event]
    assert (closed.event.round_number, len(closed.event.reports)) == (0, 2)
    struck = AbortSet(aborts=(abort_of(X),))
    assert give(resolver, report(1, aborts=struck, block=3)) == []
    (made,) = give(resolver, report(2, aborts=struck))
    assert isinstance(made, SignVerdict)
    assert made.verdict.aborts == struck
    assert (made.verdict.rounds, made.heads) == (2, ((1, bytes([3]) * 32), (2, bytes([1]) * 32)))
    assert not resolver.pending_events


def abort_of(bundle: BundleHash, ordinal: int = 0) -> Abort:
    return Abort(ordinal, bundle, AbortReason.REVERTED, 0, False)


def test_a_silent_rollup_is_evicted_when_the_log_says_so() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    give(resolver, report(1))
    assert resolver.tick(400) == resolver.tick(800) == []
    (asked,) = resolver.tick(1_200)
    assert isinstance(asked, LogNotice)
    assert (asked.notice.kind, asked.notice.height, asked.notice.network_id) == (NoticeKind.EVICT, 1, 2)
    assert resolver.tick(1_600) == [], "asked once"
    # Its report comes too late: notice and verdict of one height must not contradict each other.
    assert give(resolver, report(2)) == []
    posted = sequence(resolver, notices=[asked.notice])
    assert [type(made) for made in posted] == [PostNotice]
    assert resolver.pending_events == [NoticePosted(signed=sign_notice(asked.notice))]
    made = give(resolver, report(1, aborts=AbortSet(evicted=(NetworkId(2),))))
    assert resolved(made) == [1, 2]
    (first, second) = [entry for entry in made if isinstance(entry, SignVerdict)]
    assert first.verdict.notices == (sign_notice(asked.notice),)
    assert second.verdict.notices == ()


def test_a_resolver_that_slept_accuses_nobody() -> None:
    resolver = make()
    sequence(resolver, 1)
    assert resolver.tick(10 * TIMEOUT_NS) == []
    assert resolver.tick(10 * TIMEOUT_NS + 400) == []
    assert len(logged(resolver.tick(10 * TIMEOUT_NS + 800))) == 0
    assert len(logged(resolver.tick(11 * TIMEOUT_NS))) == 1


def test_an_evicted_rollup_rejoins_ahead_of_everybody() -> None:
    resolver = make()
    sequence(resolver, 2)
    assert resolved(evict(resolver)) == [1, 2]
    assert resolved(sequence(resolver, 2)) == [3]
    # It does not know yet that it is left out: it is not heard.
    assert give(resolver, report(2, 3)) == []
    without = AbortSet(evicted=(NetworkId(2),))
    (asked,) = logged(give(resolver, report(2, 3, aborts=without)))
    assert (asked.kind, asked.height) == (NoticeKind.REJOIN, 3 + rules.REJOIN_LEAD_HEIGHTS)
    assert give(resolver, report(2, 3, aborts=without, parent=5)) == [], "asked once"
    made = sequence(resolver, notices=[asked])
    while resolver.highest < asked.height - 1:
        assert list(resolver.evicted) == [2]
        made = sequence(resolver, 2)
    assert [type(entry) for entry in made] == [SignVerdict, PostNotice]
    assert not resolver.evicted
    assert sequence(resolver, 2) == []
    # Where it stands now is for its first report to say.
    assert resolved(give(resolver, report(2, asked.height, parent=77))) == [asked.height]


def test_a_notice_that_is_logged_again_later_changes_nothing() -> None:
    resolver = make()
    sequence(resolver, 2)
    evict(resolver)
    (asked,) = logged(give(resolver, report(2, 3, aborts=AbortSet(evicted=(NetworkId(2),)))))
    evicting = Notice(kind=NoticeKind.EVICT, epoch=0, height=Height(1), network_id=NetworkId(2))
    sequence(resolver, notices=[asked])
    while resolver.highest <= asked.height:
        sequence(resolver)
    assert not resolver.evicted
    assert resolved(sequence(resolver, notices=[evicting])) == [resolver.highest]
    assert not resolver.evicted


def test_two_reports_of_one_execution_are_evidence() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    made = give(resolver, report(2), report(2, block=9))
    assert [type(entry) for entry in made] == [PublishEvidence, LogNotice]
    assert isinstance(made[0], PublishEvidence)
    # Both as they were signed: whoever doubts it can check them.
    assert [signed.report for signed in made[0].reports] == [
        encode_report(report(2)),
        encode_report(report(2, block=9)),
    ]
    assert resolver.waits_for == [1, 2]
    assert give(resolver, report(2)) == []
    assert resolver.ignored["banned"] == 1
    made = sequence(resolver, notices=logged(made))
    assert resolved(give(resolver, report(1, aborts=AbortSet(evicted=(NetworkId(2),))))) == [1, 2]
    without = AbortSet(evicted=(NetworkId(2),))
    assert give(resolver, report(2, 3, aborts=without)) == [], "it never rejoins"


def test_a_report_that_contradicts_a_resolved_height_is_evidence_too() -> None:
    resolver = make()
    sequence(resolver, 1)
    give(resolver, report(1))
    assert [type(made) for made in give(resolver, report(1, block=9))] == [PublishEvidence]
    assert [type(made) for made in sequence(resolver, 1)] == [LogNotice]


def test_a_report_that_contradicts_itself_is_evidence() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    twice = [LegFailure(0, X, 0, FailureKind.REVERTED)] * 2
    made = give(resolver, report(1), report(2, failures=twice))
    assert [type(entry) for entry in made] == [PublishEvidence, LogNotice]
    assert isinstance(made[0], PublishEvidence)
    assert "failed twice" in made[0].detail
    assert made[0].reports == (SignedReport(encode_report(report(2, failures=twice)), bytes(65)),)


def made_up(number: int) -> LegFailure:
    return LegFailure(number, BundleHash((number + 1).to_bytes(32, "big")), 0, FailureKind.REVERTED)


def test_reports_of_too_many_bytes_leave_their_rollup_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_ROUNDS_BYTES", 2_000)
    resolver = make()
    sequence(resolver, 1, 2)
    made: list[Instruction] = []
    for number in range(50):
        aborts = resolver._aborts
        made = give(resolver, report(1, aborts=aborts), report(2, aborts=aborts, failures=[made_up(number)]))
        if not isinstance(made[0], CloseRound):
            break
    assert [type(entry) for entry in made] == [LogNotice]
    assert [notice.network_id for notice in logged(made)] == [2]


def test_made_up_failures_cannot_hold_a_height_for_more_rounds() -> None:
    """Nobody is accused: a chain of honest bundles may look alike. The height goes on without that rollup."""
    resolver = make()
    sequence(resolver, 1, 2)
    made: list[Instruction] = []
    for number in range(PARAMS.serial_rounds + EXTRA_ROUNDS + 1):
        assert not logged(made)
        aborts = resolver._aborts
        # Once, the honest one finds something as well.
        found = [made_up(100)] if number == PARAMS.serial_rounds + 2 else []
        failures = [made_up(number)]
        made = give(resolver, report(1, aborts=aborts, failures=found), report(2, aborts=aborts, failures=failures))
    (asked,) = logged(made)
    assert (asked.kind, asked.network_id, asked.height) == (NoticeKind.EVICT, 2, 1)
    assert resolver.waits_for == [2], "the height is frozen"
    sequence(resolver, notices=[asked])
    assert resolved(give(resolver, report(1, aborts=AbortSet(evicted=(NetworkId(2),))))) == [1, 2]
    # It may come back like one that was silent.
    sequence(resolver, 2)
    (asked,) = logged(give(resolver, report(2, 3, aborts=AbortSet(evicted=(NetworkId(2),)))))
    assert asked.kind is NoticeKind.REJOIN


def test_a_report_timeout_is_for_all_rounds_of_a_height() -> None:
    resolver, now_ns = make(), 0
    sequence(resolver, 1, 2)
    notices: list[Notice] = []
    for number in range(PARAMS.serial_rounds):
        aborts = resolver._aborts
        give(resolver, report(1, aborts=aborts), now_ns=now_ns + 10)
        for _ in range(2):
            now_ns += 300
            notices += logged(resolver.tick(now_ns))
        # Just below the timeout, again and again.
        give(resolver, report(2, aborts=aborts, failures=[made_up(number)]), now_ns=now_ns)
        if notices:
            break
    assert [(notice.kind, notice.network_id) for notice in notices] == [(NoticeKind.EVICT, 2)]
    assert now_ns <= 2 * TIMEOUT_NS
    sequence(resolver, notices=notices)
    assert resolved(give(resolver, report(1, aborts=AbortSet(evicted=(NetworkId(2),))))) == [1, 2]


def test_a_false_ordinal_of_one_rollup_is_not_the_fault_of_another() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    give(resolver, report(1), report(2, failures=[LegFailure(7, X, 1, FailureKind.REVERTED)]))
    aborts = resolver._aborts
    mismatch = LegFailure(3, X, 0, FailureKind.NONCE_MISMATCH)  # 3 is the true ordinal
    made = give(resolver, report(2, aborts=aborts), report(1, aborts=aborts, failures=[mismatch]))
    assert [type(entry) for entry in made] == [CloseRound]
    assert resolver._aborts.aborts == (aborts.aborts[0]._replace(removed=0b1),)


def test_a_rollup_whose_place_is_not_known_stands_where_its_last_report_says() -> None:
    resolver = make()
    sequence(resolver, 1, 2)
    give(resolver, report(1, parent=5), report(1, parent=6))
    assert resolver.waits_for == [2], "the first one was looked at"
    give(resolver, report(1, parent=5))
    give(resolver, report(1, parent=7, block=9))
    (made,) = give(resolver, report(2))
    assert isinstance(made, SignVerdict)
    assert made.heads[0] == (1, bytes([9]) * 32)
    # From now on it builds on that.
    sequence(resolver, 1)
    assert give(resolver, report(1, 2, parent=1)) == []
    assert resolved(give(resolver, report(1, 2, parent=9))) == [2]


def test_what_waits_is_bounded() -> None:
    resolver = make()
    sequence(resolver, 1)
    give(resolver, report(1, MAX_AHEAD_HEIGHTS + 2), report(9), report(1, epoch=4))
    assert (resolver.ignored["unknown network"], resolver.ignored["epoch"]) == (1, 1)
    box = resolver._boxes[NetworkId(1)]
    assert list(box) == []
    give(resolver, *[report(1, 3, parent=parent) for parent in range(30)])
    assert len(list(box)) == MAX_PER_HEIGHT


def void_of(made: Sequence[Instruction]) -> Notice:
    (notice,) = logged(made)
    assert notice.kind is NoticeKind.VOID
    return notice


def test_a_new_epoch_resolves_again_without_the_voided_and_one_follows_the_other() -> None:
    resolver = make()
    for height in (1, 2, 3):
        sequence(resolver, 1)
        give(resolver, report(1, height, parent=height - 1, block=height))
    second, third = VoidedBundle(Height(2), 0, X), VoidedBundle(Height(3), 1, Y)
    first_void = void_of(resolver.void([third], now_ns=0))
    assert (first_void.epoch, first_void.height, first_void.voided) == (1, 3, (third,))
    assert resolver.void([third, second], now_ns=0) == [], "the next one waits for this one"
    made = sequence(resolver, notices=[first_void])
    assert resolver.epoch == 1
    assert resolver.lowest == 3
    second_void = void_of(made)
    assert (second_void.epoch, second_void.height, second_void.voided) == (2, 2, (second,))
    sequence(resolver, notices=[second_void])
    assert [(point.epoch, point.height) for point in resolver.voids] == [(1, 3), (2, 2)]
    assert resolver.void([second, third], now_ns=0) == [], "they are voided"
    second_base, third_base = (resolver._standing.base(Height(height)) for height in (2, 3))
    assert [abort.bundle_hash for abort in (*second_base.aborts, *third_base.aborts)] == [X, Y]
    assert {abort.reason for abort in second_base.aborts} == {AbortReason.VOIDED}
    made = give(resolver, report(1, 2, parent=1, block=8, epoch=2, aborts=second_base))
    (verdict,) = [entry.verdict for entry in made if isinstance(entry, SignVerdict)]
    assert (verdict.epoch, verdict.height, verdict.notices) == (2, 2, (sign_notice(second_void),))
    assert verdict.previous == resolver.verdict_hash_of(Height(1))


def test_followers_are_told_of_every_epoch_before_the_heights_that_it_concerns() -> None:
    resolver = make()
    for height in (1, 2, 3, 4):
        sequence(resolver, 1)
        give(resolver, report(1, height, parent=height - 1, block=height))
    fourth, second = VoidedBundle(Height(4), 0, X), VoidedBundle(Height(2), 0, Y)
    sequence(resolver, notices=[void_of(resolver.void([fourth], now_ns=0))])
    assert resolver.next_void(0, Height(2)) is None, "the verdict of height 3 stands"
    at_three = resolver.next_void(0, Height(3))
    assert at_three is not None
    sequence(resolver, notices=[void_of(resolver.void([second], now_ns=0))])
    assert resolver.next_void(0, Height(0)) is None
    for place in (1, 3):
        # One after the other: the second notice does not name what the first voids.
        assert resolver.next_void(0, Height(place)) == at_three
        later = resolver.next_void(1, Height(place))
        assert later is not None
        assert (later.epoch, later.height) == (2, 2)
        assert resolver.next_void(2, Height(place)) is None


def test_a_second_void_above_the_first_begins_where_resolving_is() -> None:
    resolver = make()
    for height in range(1, 6):
        sequence(resolver, 1)
        give(resolver, report(1, height, parent=height - 1, block=height))
    low, high = VoidedBundle(Height(1), 0, X), VoidedBundle(Height(5), 0, Y)
    first = void_of(resolver.void([low], now_ns=0))
    assert resolver.void([low, high], now_ns=0) == [], "the next one waits for this one"
    second = void_of(sequence(resolver, notices=[first]))
    assert (second.epoch, second.height, second.voided) == (2, 1, (high,))
    assert logged(sequence(resolver, notices=[second])) == []
    assert (resolver.epoch, resolver.lowest) == (2, 1)
    for height in range(1, 6):
        base = resolver._aborts
        assert [abort.bundle_hash for abort in base.aborts] == {1: [X], 5: [Y]}.get(height, [])
        give(resolver, report(1, height, epoch=2, aborts=base, parent=height - 1, block=height))
    assert resolver.lowest == resolver.highest + 1


def test_more_bundles_than_a_notice_holds_are_voided_in_several_epochs() -> None:
    resolver = make()
    sequence(resolver, 1)
    give(resolver, report(1))
    sequence(resolver)
    wanted = [VoidedBundle(Height(1), at, BundleHash(at.to_bytes(32, "big"))) for at in range(2 * MAX_VOIDED + 5)]
    late = VoidedBundle(Height(3), 0, Y)
    made = resolver.void([late, *wanted], now_ns=0)
    sizes = []
    while notices := logged(made):
        (notice,) = notices
        sizes.append(len(notice.voided))
        assert len(notice_payload(sign_notice(notice))) <= MAX_PAYLOAD_BYTES
        made = sequence(resolver, notices=notices)
    assert sizes == [MAX_VOIDED, MAX_VOIDED, 5], "that of the height without a verdict is left"
    assert resolver.epoch == 3
    assert [abort.bundle_hash for abort in resolver._aborts.aborts] == [entry.bundle_hash for entry in wanted]


def test_only_a_resolved_height_can_be_voided() -> None:
    resolver = make()
    sequence(resolver, 1)
    for height in (0, 1, 7):
        with pytest.raises(InvalidInput, match="cannot be voided"):
            resolver.void([VoidedBundle(Height(height), 0, X)], now_ns=0)


def test_an_eviction_is_carried_again_in_a_new_epoch() -> None:
    resolver = make()
    sequence(resolver, 1)
    give(resolver, report(1))
    sequence(resolver, 2)
    evict(resolver)
    void = void_of(resolver.void([VoidedBundle(Height(1), 0, X)], now_ns=0))
    sequence(resolver, notices=[void])
    base = resolver._standing.base(Height(1))
    made = give(resolver, report(1, epoch=1, aborts=base))
    carried = {entry.verdict.height: entry.verdict.notices for entry in made if isinstance(entry, SignVerdict)}
    assert [len(carried[Height(height)]) for height in (1, 2, 3)] == [1, 1, 0]
