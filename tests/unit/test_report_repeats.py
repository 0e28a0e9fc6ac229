"""The statistics of repeated runs: intervals that hold what they say, and words that follow from them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.report.metrics import Metric
from benchmarks.report.repeats import (
    ENOUGH_PAIRS,
    Pairs,
    Spread,
    judge,
    pairs_of,
    ratio_interval,
    ratio_of,
)

LATENCY = Metric(name="executed p50", unit="ms", value=lambda _: None, more_is_better=False, floor=2.0)
RATE = Metric(name="completed", unit="bundles/s", value=lambda _: None, more_is_better=True)
TRIALS = 300


def pairs(first: Sequence[float] | NDArray[Any], other: Sequence[float] | NDArray[Any]) -> Pairs:
    return list(zip(map(float, first), map(float, other), strict=True))


def drawn(rng: np.random.Generator, count: int, *, ratio: float, heavy: bool) -> Pairs:
    """What a repeat did to the machine touches both sides; the rest is each side's own."""
    shared = rng.normal(0, 0.10, count)

    def own() -> NDArray[np.float64]:
        return 0.05 * (rng.standard_t(2, count) if heavy else rng.normal(0, 1, count))

    return pairs(100 * np.exp(shared + own()), 100 * ratio * np.exp(shared + own()))


@pytest.mark.parametrize("heavy", [False, True], ids=["normal", "heavy tails"])
@pytest.mark.parametrize("count", [5, 6, 7, 10, 20])
def test_an_interval_holds_the_true_ratio_about_as_often_as_it_says(count: int, heavy: bool) -> None:
    rng = np.random.default_rng([count, heavy])
    held = 0
    for _ in range(TRIALS):
        interval = ratio_interval(drawn(rng, count, ratio=1.5, heavy=heavy))
        assert interval is not None
        held += interval[0] <= 1.5 <= interval[1]
    # 3 standard errors of 300 trials at 0.92 to 0.98 are 0.05.
    assert 0.88 <= held / TRIALS <= 1.0


def test_equal_sides_are_seldom_told_apart_and_unequal_ones_nearly_always() -> None:
    rng = np.random.default_rng(4)
    same = [judge(LATENCY, drawn(rng, 5, ratio=1.0, heavy=False)) for _ in range(TRIALS)]
    apart = [judge(LATENCY, drawn(rng, 5, ratio=1.5, heavy=False)) for _ in range(TRIALS)]
    assert sum(word != "no difference shown" for word in same) / TRIALS < 0.12
    assert sum(word == "worse" for word in apart) / TRIALS > 0.95


def test_pairing_takes_out_what_a_repeat_did_to_both() -> None:
    drift = np.array([100, 140, 90, 180, 120, 160])
    paired = ratio_interval(pairs(drift, 1.2 * drift))
    mixed = ratio_interval(pairs(drift, 1.2 * drift[::-1]))
    assert paired == (1.2, 1.2)
    assert mixed is not None
    assert mixed[0] < 1 < mixed[1]


def test_identical_samples_show_no_difference() -> None:
    values = [51.0, 52.0, 50.5, 51.2, 51.9]
    assert ratio_interval(pairs(values, values)) == (1.0, 1.0)
    assert judge(LATENCY, pairs(values, values)) == "no difference shown"


def test_a_known_ratio_is_found_with_its_direction() -> None:
    slow = pairs([50, 51, 52, 49, 50], [100, 102, 104, 98, 100])
    assert ratio_of(slow) == 2.0
    assert judge(LATENCY, slow) == "worse"
    assert judge(LATENCY, [(b, a) for a, b in slow]) == "better"
    assert judge(RATE, slow) == "better"


def test_what_is_sure_but_tiny_is_no_difference() -> None:
    # 1.5 ms more in every pair: less than a scheduler does, however sure.
    assert judge(LATENCY, pairs([3, 3.1, 3.2, 3, 3.1], [4.5, 4.6, 4.7, 4.5, 4.6])) == "no difference shown"
    assert judge(RATE, pairs([1000] * 5, [990] * 5)) == "no difference shown"
    assert judge(RATE, pairs([1000] * 5, [970] * 5)) == "worse"


def test_one_pair_follows_the_ten_percent_rule_and_few_pairs_only_their_ranges() -> None:
    assert judge(LATENCY, pairs([50], [56])) == "worse"
    assert judge(LATENCY, pairs([50], [54])) == "no difference"
    assert judge(LATENCY, pairs([50, 60], [59, 70])) == "ranges overlap"
    assert judge(LATENCY, pairs([50, 60], [61, 70])) == "ranges apart"
    assert judge(LATENCY, pairs([50, 50], [51, 51])) == "no difference shown"
    assert ratio_interval(pairs([50] * (ENOUGH_PAIRS - 1), [60] * (ENOUGH_PAIRS - 1))) is None


def test_a_first_side_of_zero_has_no_ratio_and_is_judged_all_the_same() -> None:
    assert ratio_of(pairs([0] * 5, [7] * 5)) is None
    assert ratio_interval(pairs([0] * 5, [7] * 5)) is None
    assert judge(LATENCY, pairs([0] * 5, [7] * 5)) == "worse"
    assert judge(LATENCY, pairs([0] * 5, [7, 7, 7, 7, 0])) == "no difference shown"
    assert judge(LATENCY, pairs([0] * 5, [0] * 5)) == "no difference shown"


def test_the_same_pairs_give_the_same_interval() -> None:
    one = drawn(np.random.default_rng(1), 7, ratio=1.1, heavy=False)
    assert ratio_interval(one) == ratio_interval(one)


def test_values_that_are_missing_take_their_pair_with_them() -> None:
    assert pairs_of([1, None, 3], [4, 5, None]) == [(1, 4)]
    assert judge(LATENCY, []) == "not known"
    assert Spread.of([None, None]) is None
    spread = Spread.of([1.0, None, 2.0, 3.0, 4.0, 5.0])
    assert spread == Spread(median=3.0, low=1.0, high=5.0, iqr=2.0, count=5)
