"""Times, routes, nonces and calls: everything of a load that is decided before it starts."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.spec.scenario import LoadTable, WorkloadTable
from coordinator.stages.schedule import load_schedule
from coordinator.workload.arrivals import MAX_BUNDLES, NS_PER_S, Segment, arrival_times, trace_times
from coordinator.workload.base import Surroundings
from coordinator.workload.phase import Planner
from coordinator.workload.routes import Routing, assign_nonces, check_routing, draw_routes
from coordinator.workload.table import WORKLOADS, build_workload
from nodes.evm.contracts import increment_call, pool_amount_out
from nodes.model.errors import InvalidScenario, LimitExceeded, Unavailable, UnknownName
from nodes.model.ids import Address

LANES, ROLLUPS = 8, 4


def surroundings(rollups: int = ROLLUPS, legs: int = 2) -> Surroundings:
    accounts = [Address(bytes([lane + 1]) * 20) for lane in range(LANES)]
    operators = [Address(bytes([lane + 101]) * 20) for lane in range(LANES)]
    return Surroundings(
        accounts=[accounts] * rollups,
        pool_reserves=(10**25, 10**25),
        operators=operators,
        stops=legs,
        has_bridge=True,
    )


def planner(kind: str = "transfer", seed: int = 1, legs: int = 2, **options: object) -> Planner:
    workload = build_workload(WorkloadTable(kind=kind, options=options), surroundings(legs=legs), source="test")
    routing = Routing(rollups=ROLLUPS, legs=legs)
    return Planner(routing=routing, lanes=LANES, workload=workload, rng=np.random.default_rng(seed))


def every_ms(count: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.arange(count, dtype=np.int64) * 1_000_000


def test_constant_arrivals_are_evenly_spaced_and_as_many_as_asked() -> None:
    times = arrival_times("constant", [Segment(rate_per_s=200, duration_s=3)], np.random.default_rng(1))
    assert len(times) == 600
    assert set(np.diff(times)) == {5_000_000}
    assert times[-1] < 3 * NS_PER_S


def test_poisson_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    times = arrival_times("poisson", [Segment(rate_per_s=1000, duration_s=20)], np.random.default_rng(1))
    gaps = np.diff(times) / 1e6
    assert abs(len(times) - 20_000) < 5 * 20_000**0.5
    assert gaps.mean() == pytest.approx(1.0, rel=0.05)
    assert gaps.std() == pytest.approx(1.0, rel=0.05)


def test_equal_seeds_give_equal_times() -> None:
    segments = [Segment(rate_per_s=300, duration_s=2)]
    one, other = (arrival_times("poisson", segments, np.random.default_rng(7)) for _ in range(2))
    assert (one == other).all()


def test_a_burst_has_three_stretches() -> None:
    load = LoadTable(kind="burst", rate_per_s=100, duration_s=10, burst_rate_per_s=1000, burst_from_s=4, burst_for_s=2,
                     arrivals="constant")  # fmt: skip
    schedule = load_schedule(load, scenario_folder=Path(), rng=np.random.default_rng(1))
    counts = [((schedule.due_ns >= p.start_ns) & (schedule.due_ns < p.end_ns)).sum() for p in schedule.phases]
    assert counts == [400, 2000, 400]
    assert [schedule.rate_at(round(at_s * NS_PER_S)) for at_s in (-0.2, 3.9, 4, 5.9, 6, 20)] == [
        100, 100, 1000, 1000, 100, 100
    ]  # fmt: skip
    assert schedule.length_ns == 10 * NS_PER_S


def test_a_trace_of_times_is_shifted_to_its_first(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    file.write_text("seconds\n10.5\n10.0\n\n12.25\n", encoding="utf-8")
    assert trace_times(file).tolist() == [0, NS_PER_S // 2, 9 * NS_PER_S // 4]


def test_a_trace_that_the_cuts_leave_nothing_of_is_refused(tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text("0\n1\n3.5\n", encoding="utf-8")
    load = LoadTable(arrivals="trace", trace="times.csv", warmup_s=3, cooldown_s=1)
    with pytest.raises(InvalidScenario, match=r"leave nothing of the 4 s of times\.csv"):
        load_schedule(load, scenario_folder=tmp_path, rng=np.random.default_rng(1))
    shorter = replace(load, cooldown_s=0.5)
    assert load_schedule(shorter, scenario_folder=tmp_path, rng=np.random.default_rng(1)).length_ns == 4 * NS_PER_S


def test_a_broken_trace_names_file_and_line(tmp_path: Path) -> None:
    file = tmp_path / "times.csv"
    file.write_text("1.0\nsoon\n", encoding="utf-8")
    with pytest.raises(InvalidScenario, match=r"times.csv line 2: 'soon'"):
        trace_times(file)
    with pytest.raises(InvalidScenario, match="cannot be read"):
        trace_times(tmp_path / "absent.csv")


def test_more_bundles_than_fit_are_refused_by_name() -> None:
    with pytest.raises(LimitExceeded, match="bundles of one load phase"):
        arrival_times("constant", [Segment(rate_per_s=MAX_BUNDLES, duration_s=2)], np.random.default_rng(1))


@pytest.mark.parametrize("popularity", ["uniform", "zipf"])
def test_routes_name_distinct_rollups(popularity: str) -> None:
    routes = draw_routes(Routing(rollups=5, legs=3, popularity=popularity), 2000, np.random.default_rng(1))
    assert routes.shape == (2000, 3)
    assert all(len(set(route)) == 3 for route in routes.tolist())


def test_zipf_prefers_the_first_rollups_and_uniform_none() -> None:
    def shares(popularity: str) -> list[float]:
        routing = Routing(rollups=4, legs=2, popularity=popularity, zipf_exponent=1.5)
        routes = draw_routes(routing, 20_000, np.random.default_rng(1))
        return [float((routes == rollup).mean()) for rollup in range(4)]

    assert shares("uniform") == pytest.approx([0.25] * 4, abs=0.01)
    popular = shares("zipf")
    assert popular == sorted(popular, reverse=True)
    assert popular[0] > 2 * popular[3]


@pytest.mark.parametrize(
    ("routing", "error"),
    [
        (Routing(rollups=2, legs=3), InvalidScenario),
        (Routing(rollups=4, legs=1), InvalidScenario),
        (Routing(rollups=4, legs=2, popularity="fair"), UnknownName),
    ],
)
def test_impossible_routings_are_refused(routing: Routing, error: type[Exception]) -> None:
    with pytest.raises(error):
        check_routing(routing)


def test_nonces_count_up_per_rollup_and_lane() -> None:
    phase = planner().plan(every_ms(500))
    seen: dict[tuple[int, int], list[int]] = {}
    unsigned = phase.unsigned
    for lane, rollups, nonces in zip(unsigned.lanes, unsigned.rollups, unsigned.nonces, strict=True):
        for rollup, nonce in zip(rollups, nonces, strict=True):
            seen.setdefault((int(rollup), int(lane)), []).append(int(nonce))
    assert all(nonces == list(range(len(nonces))) for nonces in seen.values())
    assert sum(map(len, seen.values())) == 1000


def test_nonces_of_no_bundles_are_no_nonces() -> None:
    nothing = np.empty((0, 2), dtype=np.int16)
    assert assign_nonces(nothing, np.empty((0, 2), np.int32), np.zeros((4, 8), np.int64)).shape == (0, 2)


def test_the_next_phase_goes_on_where_the_last_used_nonce_was() -> None:
    plan = planner()
    first = plan.plan(every_ms(100))
    used = np.arange(100) < 60
    plan.settle(first, used=used, retired=[])
    second = plan.plan(every_ms(100))
    last: dict[tuple[int, int], int] = {}
    for phase, mask in ((first, used), (second, np.ones(100, dtype=bool))):
        unsigned = phase.unsigned
        for bundle in np.flatnonzero(mask):
            for rollup, nonce in zip(unsigned.rollups[bundle], unsigned.nonces[bundle], strict=True):
                key = (int(rollup), int(unsigned.lanes[bundle]))
                assert nonce == last.get(key, -1) + 1
                last[key] = int(nonce)


def test_a_lane_with_a_gap_or_a_loss_is_not_used_again() -> None:
    plan = planner()
    first = plan.plan(every_ms(4 * LANES))
    used = np.ones(len(first), dtype=bool)
    used[LANES + 3] = False  # the second bundle of lane 3, while its third was used
    plan.settle(first, used=used, retired=[5])
    assert set(plan.lanes) == set(range(LANES)) - {3, 5}
    assert set(plan.plan(every_ms(50)).unsigned.lanes.tolist()) == set(plan.lanes)


def test_without_lanes_nothing_can_be_planned() -> None:
    plan = planner()
    plan.settle(plan.plan(every_ms(8)), used=np.ones(8, dtype=bool), retired=range(LANES))
    with pytest.raises(Unavailable, match="every lane is retired"):
        plan.plan(every_ms(8))


@pytest.mark.parametrize("kind", list(WORKLOADS))
def test_every_workload_plans_a_call_for_every_leg_and_repeats_itself(kind: str) -> None:
    stops = 2 if kind == "flashloan" else 3
    one, other = (planner(kind, legs=stops).plan(every_ms(300)) for _ in range(2))
    calls = one.unsigned.calls
    assert calls.index.shape == one.unsigned.rollups.shape == one.unsigned.accounts.shape
    assert len(calls.index) == 300
    assert calls.index.min() >= 0
    assert calls.index.max() < len(calls.table)
    assert calls.table == other.unsigned.calls.table
    assert (calls.index == other.unsigned.calls.index).all()
    assert all(len(call.to) == 20 and call.gas_limit >= 21_000 for call in calls.table)


def test_transfers_go_to_other_lanes_of_the_same_testnet() -> None:
    phase = planner().plan(every_ms(400))
    accounts = surroundings().accounts[0]
    table = phase.unsigned.calls.table
    for lane, calls in zip(phase.unsigned.lanes.tolist(), phase.unsigned.calls.index.tolist(), strict=True):
        assert all(table[call].to in accounts and table[call].to != accounts[lane] for call in calls)


def test_racers_for_a_counter_come_in_groups_that_expect_the_same_value() -> None:
    phase = planner("conflict", hot_share=1.0, contenders=3).plan(every_ms(120))
    unsigned = phase.unsigned
    for rollup in range(ROLLUPS):
        mine = [unsigned.calls.table[call].calldata for call in unsigned.calls.index[unsigned.rollups == rollup]]
        assert mine == [increment_call(key=1 << 32, expected=at // 3) for at in range(len(mine))]


def test_cold_bundles_touch_only_their_lanes_counter() -> None:
    phase = planner("conflict", hot_share=0.0).plan(every_ms(50))
    table = phase.unsigned.calls.table
    for lane, calls in zip(phase.unsigned.lanes.tolist(), phase.unsigned.calls.index.tolist(), strict=True):
        assert {table[call].calldata for call in calls} == {increment_call(key=lane)}


def test_a_swap_of_fresh_prices_asks_for_what_the_pool_pays_less_the_tolerance() -> None:
    phase = planner("swap", amount=10**21, tolerance_bps=50, quote_age_ms=0.0).plan(every_ms(1))
    pays = pool_amount_out(amount_in=10**21, reserve_in=10**25, reserve_out=10**25)
    least = {int.from_bytes(call.calldata[-32:], "big") for call in phase.unsigned.calls.table}
    assert least == {pays * 9950 // 10_000}


def test_swaps_sell_one_token_here_and_the_other_there() -> None:
    phase = planner("swap").plan(every_ms(40))
    table = phase.unsigned.calls.table
    for first, second in phase.unsigned.calls.index.tolist():
        assert table[first].calldata[4:36] != table[second].calldata[4:36]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("conflict", {"hot_share": 1.5}, "hot_share"),
        ("conflict", {"hotshare": 0.5}, "did you mean 'hot_share'"),
        ("swap", {"tolerance_bps": 20_000}, "tolerance_bps"),
        ("swap", {"amount": "much"}, "amount"),
        ("swop", {}, "did you mean 'swap'"),
    ],
)
def test_wrong_workload_keys_are_refused_with_a_hint(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidScenario, UnknownName), match=message):
        planner(kind, **options)


def test_swaps_need_liquidity() -> None:
    empty = Surroundings(accounts=surroundings().accounts, pool_reserves=(0, 0))
    with pytest.raises(InvalidScenario, match="liquidity"):
        build_workload(WorkloadTable(kind="swap"), empty, source="test")
