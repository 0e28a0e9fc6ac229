"""The open loop: what is sent when, how lanes keep their order, and what a refusal or a broken stream does."""

import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from coordinator.workload.dispatcher import STRICT_NS, Dispatcher, Standing
from nodes.model.ids import SubmissionHash
from nodes.ports import Ticket

MS = 1_000_000
BEGIN = 1_000 * MS


def dispatcher(count: int, lanes: int = 2, gap_ms: int = 1) -> Dispatcher:
    return Dispatcher(
        due_ns=[BEGIN + at * gap_ms * MS for at in range(count)], lanes=[at % lanes for at in range(count)]
    )


def tickets(count: int, *, accepted: bool = True, reason: str = "") -> list[Ticket]:
    ticket = Ticket(submission_hash=SubmissionHash(bytes(32)), accepted=accepted, duplicate=False, reason=reason)
    return [ticket] * count


def test_nothing_is_sent_before_it_is_due_and_everything_when_it_is() -> None:
    load = dispatcher(10)
    assert load.take(BEGIN - 1, limit=100) == []
    assert load.take(BEGIN + 3 * MS, limit=100) == [0, 1, 2, 3]
    assert load.take(BEGIN + 3 * MS, limit=100) == []
    assert load.take(BEGIN + 60 * MS, limit=100) == list(range(4, 10))
    assert load.reached_ns[9] - load.due_ns[9] == 51 * MS


def test_it_does_not_wait_for_answers() -> None:
    load = dispatcher(200, lanes=2)
    assert len(load.take(BEGIN + 199 * MS, limit=1000)) == 200


def test_accepted_bundles_are_settled_with_their_time() -> None:
    load = dispatcher(3)
    sent = load.take(BEGIN + 5 * MS, limit=10)
    load.answered(sent, tickets(3), BEGIN + 9 * MS)
    assert load.done
    assert (load.accepted, load.in_flight) == (3, 0)
    assert load.accepted_ns == [BEGIN + 9 * MS] * 3


def test_a_full_mempool_holds_back_only_the_lanes_of_the_refused_message() -> None:
    load = dispatcher(8, lanes=4)
    refused = load.take(BEGIN + 1 * MS, limit=10)
    assert refused == [0, 1]
    load.overloaded(refused, retry_ns=BEGIN + 50 * MS, now_ns=BEGIN + 2 * MS)
    # Bundles 4 and 5 share lanes with the refused ones and wait behind them.
    assert load.take(BEGIN + 7 * MS, limit=10) == [2, 3]
    load.answered([2, 3], tickets(2), BEGIN + 8 * MS)
    assert load.take(BEGIN + 8 * MS, limit=10) == [6, 7]
    assert load.take(BEGIN + 50 * MS, limit=10) == [0, 1]
    assert load.sent_ns[0] == BEGIN + 1 * MS, "the first sending counts"
    assert load.attempts[:2] == [2, 2]


def test_after_a_refusal_a_lane_has_one_unanswered_bundle_at_a_time() -> None:
    load = dispatcher(6, lanes=1)
    load.overloaded(load.take(BEGIN, limit=10), retry_ns=BEGIN, now_ns=BEGIN)
    later = BEGIN + 10 * MS
    for expected in range(6):
        assert load.take(later, limit=10) == [expected]
        assert load.take(later, limit=10) == []
        load.answered([expected], tickets(1), later)


def test_the_strict_mode_ends_a_second_after_the_last_refusal() -> None:
    load = dispatcher(4, lanes=1)
    load.overloaded(load.take(BEGIN, limit=10), retry_ns=BEGIN, now_ns=BEGIN)
    assert load.take(BEGIN + STRICT_NS, limit=10) == [0, 1, 2, 3]


def test_a_broken_stream_sends_everything_unanswered_again_in_lane_order() -> None:
    load = dispatcher(9, lanes=3)
    first, second = load.take(BEGIN + 3 * MS, limit=10), load.take(BEGIN + 8 * MS, limit=10)
    load.broken(second, retry_ns=BEGIN + 100 * MS)
    load.broken(first, retry_ns=BEGIN + 100 * MS)
    assert load.take(BEGIN + 99 * MS, limit=100) == []
    again = load.take(BEGIN + 100 * MS, limit=100)
    assert sorted(again) == list(range(9))
    assert all(in_lane_order(again, lane, 3) for lane in range(3))


def test_a_refused_bundle_retires_its_lane_and_no_other() -> None:
    load = dispatcher(8, lanes=2)
    sent = load.take(BEGIN, limit=10)
    load.answered(sent, tickets(1, accepted=False, reason="too large"), BEGIN)
    assert load.refusals == {0: "too large"}
    assert load.retired_lanes == [0]
    assert load.take(BEGIN + 20 * MS, limit=100) == [1, 3, 5, 7]
    assert [load.standing[at] for at in (2, 4, 6)] == [Standing.UNSENT] * 3


def test_what_was_never_sent_is_given_up_at_the_end() -> None:
    load = dispatcher(5, lanes=1)
    sent = load.take(BEGIN + 1 * MS, limit=10)
    load.answered(sent, tickets(2), BEGIN + 1 * MS)
    load.stop()
    assert load.done
    assert load.standing == [Standing.ACCEPTED] * 2 + [Standing.UNSENT] * 3
    assert load.retired_lanes == []


def test_a_message_has_a_limit_and_the_rest_comes_next() -> None:
    load = dispatcher(10, lanes=10)
    now = BEGIN + 20 * MS
    taken = load.take(now, limit=4) + load.take(now, limit=4) + load.take(now, limit=4)
    assert sorted(taken) == list(range(10))


def in_lane_order(sent: Sequence[int], lane: int, lanes: int) -> bool:
    mine = [bundle for bundle in sent if bundle % lanes == lane]
    return mine == sorted(mine)


@given(st.integers(0, 2**32), st.integers(1, 5), st.integers(1, 60))
def test_whatever_the_answers_lanes_keep_their_order_and_all_is_settled_once(seed: int, lanes: int, count: int) -> None:
    """The sequencer as it is: one stream in order, a message taken whole or refused whole, streams that break."""
    chance = random.Random(seed)
    load = dispatcher(count, lanes=lanes)
    taken_by_sequencer: list[int] = []
    known: set[int] = set()
    open_messages: list[list[int]] = []
    now = BEGIN
    for _ in range(10_000):
        if load.done:
            break
        now += chance.randrange(5 * MS)
        message = load.take(now, limit=chance.randrange(1, 8))
        if message:
            open_messages.append(message)
        while open_messages and chance.random() < 0.7:
            answered = open_messages.pop(0)
            kind = chance.random()
            if kind < 0.2:
                # Nothing that was sent later may be taken before the refusal is known; see STRICT_NS for the rest.
                for waiting in (answered, *open_messages):
                    load.overloaded(waiting, retry_ns=now + 3 * MS, now_ns=now)
                open_messages.clear()
            elif kind < 0.3:
                if chance.random() < 0.5:
                    taken_by_sequencer += [bundle for bundle in answered if bundle not in known]
                    known.update(answered)
                for lost in (answered, *open_messages):
                    load.broken(lost, retry_ns=now + 2 * MS)
                open_messages.clear()
            else:
                taken_by_sequencer += [bundle for bundle in answered if bundle not in known]
                known.update(answered)
                load.answered(answered, tickets(len(answered)), now)
    assert load.done
    assert load.accepted == count
    assert sorted(taken_by_sequencer) == list(range(count))
    assert all(in_lane_order(taken_by_sequencer, lane, lanes) for lane in range(lanes))
