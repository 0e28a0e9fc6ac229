"""The model of a link: in order, never too early, as jittery, lossy and narrow as its rule says, and repeatable."""

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.rules.link import (
    BURST_BYTES,
    JITTER_CAP,
    MIN_RTO_NS,
    NS_PER_S,
    SEGMENT_BYTES,
    SYN_RTO_NS,
    Bucket,
    Draws,
    Flow,
    LinkRule,
    jitter_ns,
    opening,
    segments_of,
)
from nodes.wire.links import draws

MS = 1_000_000
CALM = Draws(0.0, 0.999, 0.999)
"""No jitter, no loss."""

unit = st.floats(min_value=0, max_value=1, exclude_max=True)
chances = st.builds(Draws, unit, unit, unit)
rules = st.builds(
    LinkRule,
    one_way_ns=st.integers(1, 400 * MS),
    jitter_share=st.floats(0, 1),
    loss=st.sampled_from([0.0, 0.001, 0.1, 0.5]),
    bytes_per_s=st.sampled_from([0.0, 1e5, 1e7]),
)
chunks = st.lists(st.tuples(st.integers(0, 300 * MS), st.integers(0, 300_000), chances), min_size=1, max_size=40)
"""Pause before it, size, chance."""


def arrivals_of(rule: LinkRule, sent: Sequence[tuple[int, int]], chance: Sequence[Draws]) -> list[int]:
    """When each chunk, (time, size), arrives; taken as a relay does, at the times that the flow names."""
    given_out = iter(chance)
    flow = Flow(rule, Bucket(rule.bytes_per_s), lambda: next(given_out))
    arrived: list[int] = []

    def take(until_ns: int | None) -> None:
        while (due_ns := flow.next_ns()) is not None and (until_ns is None or due_ns <= until_ns):
            taken = flow.take(due_ns)
            assert taken is not None
            assert taken.due_ns == due_ns
            arrived.append(due_ns)

    for at_ns, size in sent:
        take(at_ns)
        flow.send(at_ns, size)
    take(None)
    return arrived


def timed(entries: Sequence[tuple[int, int, Draws]]) -> tuple[list[tuple[int, int]], list[Draws]]:
    at_ns, sent = 0, []
    for pause_ns, size, _ in entries:
        at_ns += pause_ns
        sent.append((at_ns, size))
    return sent, [chance for _, _, chance in entries]


@given(rules, chunks)
def test_every_chunk_arrives_once_in_order_and_never_before_the_delay(
    rule: LinkRule, entries: list[tuple[int, int, Draws]]
) -> None:
    sent, chance = timed(entries)
    arrived = arrivals_of(rule, sent, chance)
    assert len(arrived) == len(sent)
    assert all(first <= second for first, second in pairwise(arrived))
    assert all(at_ns - sent_ns >= rule.one_way_ns for at_ns, (sent_ns, _) in zip(arrived, sent, strict=True))


@given(rules, chunks)
def test_the_same_chance_gives_the_same_times(rule: LinkRule, entries: list[tuple[int, int, Draws]]) -> None:
    sent, chance = timed(entries)
    assert arrivals_of(rule, sent, chance) == arrivals_of(rule, sent, chance)


@given(rules, chunks)
def test_no_more_passes_than_the_bandwidth_and_the_burst(rule: LinkRule, entries: list[tuple[int, int, Draws]]) -> None:
    sent, chance = timed(entries)
    arrived = arrivals_of(rule, sent, chance)
    if not rule.bytes_per_s:
        return
    carried = 0
    for at_ns, (_, size) in zip(arrived, sent, strict=True):
        carried += size
        took_s = (at_ns - rule.one_way_ns - sent[0][0]) / NS_PER_S
        assert carried <= BURST_BYTES + rule.bytes_per_s * took_s + 1 + carried * 1e-6


def test_a_hundred_chunks_pay_one_delay() -> None:
    rule = LinkRule(one_way_ns=100 * MS)
    arrived = arrivals_of(rule, [(number * MS, 50) for number in range(100)], [CALM] * 100)
    assert arrived == [(100 + number) * MS for number in range(100)]


def test_jitter_is_exponential_with_the_mean_of_the_rule() -> None:
    rule, chance = LinkRule(one_way_ns=50 * MS, jitter_share=0.1), random.Random(1)
    extra = sorted(jitter_ns(rule, chance.random()) for _ in range(50_000))
    assert sum(extra) / len(extra) == pytest.approx(5 * MS, rel=0.02)
    assert extra[len(extra) // 2] == pytest.approx(0.693 * 5 * MS, rel=0.03)
    assert extra[round(len(extra) * 0.99)] == pytest.approx(4.605 * 5 * MS, rel=0.05)
    assert extra[0] >= 0
    assert extra[-1] <= JITTER_CAP * 5 * MS


def test_a_stream_is_as_fast_as_its_bandwidth() -> None:
    rule = LinkRule(one_way_ns=10 * MS, bytes_per_s=1_000_000)
    arrived = arrivals_of(rule, [(0, 10_000)] * 300, [CALM] * 300)
    assert (arrived[-1] - 10 * MS) / NS_PER_S == pytest.approx((3_000_000 - BURST_BYTES) / 1_000_000, rel=0.01)


def test_a_narrow_link_does_not_delay_what_fits_its_burst() -> None:
    rule = LinkRule(one_way_ns=10 * MS, bytes_per_s=1_000_000)
    assert arrivals_of(rule, [(5 * NS_PER_S, 1_000)], [CALM]) == [5 * NS_PER_S + 10 * MS]


LOSSY = LinkRule(one_way_ns=30 * MS, loss=0.01)
LOST = Draws(0.0, 0.0, 0.999)
"""The chunk's first segment is lost, its retransmission is not."""


def test_a_lost_segment_with_three_behind_it_costs_a_round_trip() -> None:
    assert arrivals_of(LOSSY, [(0, 4 * SEGMENT_BYTES)], [LOST]) == [90 * MS]


def test_a_lost_message_costs_a_time_out_where_nothing_follows() -> None:
    assert arrivals_of(LOSSY, [(0, 100)], [LOST]) == [30 * MS + 60 * MS + MIN_RTO_NS]


def test_a_lost_message_is_noticed_by_the_third_after_it_and_all_wait() -> None:
    sent = [(number * 10 * MS, 100) for number in range(5)]
    arrived = arrivals_of(LOSSY, sent, [LOST, CALM, CALM, CALM, CALM])
    # The third is sent at 30 ms, at the receiver at 60 ms, known to the sender at 90 ms.
    assert arrived == [120 * MS] * 5


def test_a_message_behind_a_loss_that_is_noticed_late_does_not_make_it_later() -> None:
    sent = [(0, 100), (10 * MS, 100), (20 * MS, 100), (280 * MS, 100)]
    assert arrivals_of(LOSSY, sent, [LOST, CALM, CALM, CALM])[0] == 90 * MS + MIN_RTO_NS


def test_what_is_lost_again_waits_twice_as_long_each_time() -> None:
    once_again, twice_again = Draws(0.0, 0.0, 0.009), Draws(0.0, 0.0, 0.00009)
    time_out = 60 * MS + MIN_RTO_NS
    assert arrivals_of(LOSSY, [(0, 100)], [once_again]) == [30 * MS + time_out + 2 * time_out]
    assert arrivals_of(LOSSY, [(0, 100)], [twice_again]) == [30 * MS + time_out + (2 + 4) * time_out]


@pytest.mark.parametrize("size", [100, 20 * SEGMENT_BYTES])
def test_as_many_chunks_are_hit_as_their_segments_make_likely(size: int) -> None:
    chance, hit, count = random.Random(2), 0, 20_000
    flow = Flow(LOSSY, Bucket(0.0), lambda: Draws(chance.random(), chance.random(), chance.random()))
    for number in range(count):
        flow.send(number * NS_PER_S * 1_000, size)
        while (due_ns := flow.next_ns()) is not None:
            taken = flow.take(due_ns)
            assert taken is not None
            hit += taken.was_lost
    assert hit / count == pytest.approx(1 - 0.99 ** segments_of(size), rel=0.1)


def test_a_connection_pays_a_round_trip_before_data_flows() -> None:
    rule = LinkRule(one_way_ns=40 * MS, loss=0.01)
    calm = opening(rule, rule, (CALM, CALM), now_ns=0)
    assert calm == (40 * MS, 80 * MS, 120 * MS)
    assert opening(rule, rule, (LOST, CALM), now_ns=0).established_ns == 80 * MS + SYN_RTO_NS
    flow = Flow(rule, Bucket(0.0), lambda: CALM, open_ns=calm.established_ns)
    flow.send(5 * MS, 100)
    assert flow.next_ns() == 120 * MS


def test_chance_follows_from_seed_link_and_direction_alone() -> None:
    def numbers(*key: object) -> list[Draws]:
        draw = draws(*key)  # type: ignore[arg-type]
        return [draw() for _ in range(50)]

    first = numbers(1, "rollup-1", "sequencer", "there")
    assert numbers(1, "rollup-1", "sequencer", "there") == first
    others = [
        numbers(2, "rollup-1", "sequencer", "there"),
        numbers(1, "rollup-2", "sequencer", "there"),
        numbers(1, "rollup-1", "agglayer", "there"),
        numbers(1, "rollup-1", "sequencer", "back"),
    ]
    assert all(other != first for other in others)
