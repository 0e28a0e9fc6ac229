"""Workloads that move value between rollups: shapes, signers, amounts, and what is made to fail."""

from typing import Any

import numpy as np
import pytest
from coincurve import PrivateKey

from coordinator.spec.keys import dev_account
from coordinator.spec.scenario import WorkloadTable
from coordinator.workload.base import LegCall, Surroundings
from coordinator.workload.bridge import FORWARDER
from coordinator.workload.flashloan import FlashLoan
from coordinator.workload.money import bridged_token, ether
from coordinator.workload.phase import Phase, Planner
from coordinator.workload.presign import Signers, presigner
from coordinator.workload.routes import Routing, lanes_by_route
from coordinator.workload.table import build_workload
from nodes.evm.agglayer_contracts import BANK, BRIDGE, MARKET_1, MARKET_2
from nodes.evm.contracts import selector
from nodes.model.errors import InvalidScenario
from nodes.model.execution import Transaction
from nodes.rules.payload import address_of, decode
from nodes.wire.bundles import bundle_from_bytes

LANES, ROLLUPS = 6, 4
ACCOUNTS = [dev_account(1, "lane", index) for index in range(LANES)]
OPERATORS = [dev_account(1, "bank", index) for index in range(LANES)]
BURN = selector("bridgeAsset(uint32,address,uint256,address,bool,bytes)")
MINT = selector("mintContingent(uint32,uint32,address,address,uint256,bytes)")


def around(*, stops: int = 2, has_bridge: bool = True, has_forwarder: bool = True) -> Surroundings:
    return Surroundings(
        accounts=[[account.address for account in ACCOUNTS]] * ROLLUPS, pool_reserves=(1, 1),
        operators=[account.address for account in OPERATORS], stops=stops, has_bridge=has_bridge,
        contracts=frozenset({FORWARDER} if has_forwarder else ()),
    )  # fmt: skip


def planned(kind: str, count: int = 300, *, stops: int = 2, gap_ns: int = 1_000_000, **options: Any) -> Phase:
    workload = build_workload(WorkloadTable(kind=kind, options=options), around(stops=stops), source="test")
    routing = Routing(rollups=ROLLUPS, legs=stops)
    planner = Planner(routing=routing, lanes=LANES, workload=workload, rng=np.random.default_rng(5))
    return planner.plan(np.arange(count, dtype=np.int64) * gap_ns)


def calls_of(phase: Phase, bundle: int) -> list[LegCall]:
    return [phase.unsigned.calls.table[at] for at in phase.unsigned.calls.index[bundle]]


def word(call: LegCall, index: int) -> int:
    return int.from_bytes(call.calldata[4 + 32 * index : 36 + 32 * index], "big")


def test_a_bridge_bundle_burns_on_its_first_rollup_what_it_mints_on_its_second() -> None:
    phase = planned("bridge")
    for bundle in range(len(phase)):
        burn, mint = calls_of(phase, bundle)
        source, dest = phase.unsigned.rollups[bundle].tolist()
        assert (burn.to, burn.calldata[:4], mint.to, mint.calldata[:4]) == (BRIDGE, BURN, BRIDGE, MINT)
        assert (word(burn, 0), word(mint, 0)) == (dest + 1, source + 1), "networks count from 1"
        assert word(burn, 2) == word(mint, 4) == 1_000
        assert word(burn, 1) == word(mint, 3) == int.from_bytes(ACCOUNTS[phase.unsigned.lanes[bundle]].address, "big")
        assert word(burn, 3) == int.from_bytes(bridged_token().local, "big")
        assert word(mint, 2) == int.from_bytes(bridged_token().token.origin_token_address, "big")
    assert len(phase.unsigned.calls.table) <= 2 * LANES * ROLLUPS * (ROLLUPS - 1), "equal calls are shared"


def test_ether_travels_as_the_value_of_the_burn() -> None:
    burn, mint = calls_of(planned("bridge", asset="ether", amount=7), 0)
    assert (burn.value, word(burn, 2), word(burn, 3), word(mint, 4), mint.value) == (7, 7, 0, 7, 0)
    assert ether().metadata == b""


def test_shares_of_the_bundles_are_made_to_fail_and_pay_no_lane() -> None:
    phase = planned("bridge", 2_000, failing_share=0.05, unmatched_share=0.1)
    lanes = {int.from_bytes(account.address, "big") for account in ACCOUNTS}
    failing = unmatched = 0
    for bundle in range(len(phase)):
        burn, mint = calls_of(phase, bundle)
        if burn.calldata[:4] != BURN:
            unmatched += 1
            assert word(mint, 3) not in lanes
        elif word(burn, 2) != 1_000:
            failing += 1
            assert word(burn, 2) == word(mint, 4) > 4 * 1_000 * 1_000_000, "more than a lane can own on all rollups"
            assert word(burn, 1) == word(mint, 3) not in lanes
    assert failing / 2_000 == pytest.approx(0.05, abs=0.02)
    assert unmatched / 2_000 == pytest.approx(0.1, abs=0.02)


def test_forged_mints_go_through_a_contract() -> None:
    phase = planned("bridge", 300, forged_share=1.0)
    burn, mint = calls_of(phase, 0)
    assert burn.calldata[:4] == BURN
    assert mint.to == FORWARDER
    assert mint.calldata[:36] == selector("forward(address)") + bytes(12) + BRIDGE
    assert mint.calldata[36:40] == MINT


def test_forged_mints_need_the_contract_that_forges_them() -> None:
    options = {"forged_share": 0.01}
    with pytest.raises(InvalidScenario, match=f"no contract stands at 0x{FORWARDER.hex()}"):
        build_workload(WorkloadTable(kind="bridge", options=options), around(has_forwarder=False), source="test")
    build_workload(WorkloadTable(kind="bridge"), around(has_forwarder=False), source="test")


def test_a_ring_mints_on_every_rollup_what_the_one_before_burns() -> None:
    phase = planned("bridge", 50, stops=3)
    assert phase.unsigned.rollups.shape == (50, 6)
    for bundle in range(50):
        calls, rollups = calls_of(phase, bundle), phase.unsigned.rollups[bundle].tolist()
        assert rollups[0::2] == rollups[1::2], "two legs per rollup, side by side"
        route = rollups[0::2]
        for stop in range(3):
            assert word(calls[2 * stop], 0) == route[(stop + 1) % 3] + 1
            assert word(calls[2 * stop + 1], 0) == route[stop - 1] + 1


def test_lanes_that_are_bound_carry_one_route_each() -> None:
    routes = planned("bridge", 500, lanes_by_route=True).unsigned
    of_lane: dict[int, set[tuple[int, ...]]] = {}
    for lane, route in zip(routes.lanes.tolist(), routes.rollups.tolist(), strict=True):
        of_lane.setdefault(lane, set()).add(tuple(route))
    assert len({route for mine in of_lane.values() for route in mine}) == 12, "every pair of rollups is used"
    many = lanes_by_route(routes.rollups, np.arange(30, dtype=np.int32), rollups=ROLLUPS)
    carried: dict[int, set[tuple[int, ...]]] = {}
    for lane, route in zip(many.tolist(), routes.rollups.tolist(), strict=True):
        carried.setdefault(lane, set()).add(tuple(route))
    assert {len(mine) for mine in carried.values()} == {1}
    assert set(carried) == set(range(30))


def test_a_flash_loan_has_six_legs_and_the_operator_signs_the_first() -> None:
    phase = planned("flashloan", 60)
    unsigned = phase.unsigned
    assert unsigned.rollups.shape == (60, 6)
    keys = tuple(account.key for account in (*ACCOUNTS, *OPERATORS))
    with presigner(Signers(chain_ids=(7001, 7002, 7003, 7004), secrets=(keys,) * ROLLUPS), workers=1) as signing:
        signed = signing.sign(unsigned)
    nonces: dict[tuple[int, bytes], int] = {}
    for bundle, submission in enumerate(signed.submissions):
        lender, venue = unsigned.rollups[bundle, 0], unsigned.rollups[bundle, 3]
        assert unsigned.rollups[bundle].tolist() == [lender] * 3 + [venue] * 3
        lend, repaid, repay, borrowed, trade, back = calls_of(phase, bundle)
        assert (lend.to, repay.to, trade.to) == (BANK, bridged_token().local, bridged_token().local)
        assert word(lend, 4) == word(borrowed, 4) == 10**18
        assert word(repaid, 4) == word(back, 2) == word(repay, 1) == 10**18 + 10**15
        assert (word(lend, 2), word(back, 0)) == (venue + 1, lender + 1)
        for index, leg in enumerate(bundle_from_bytes(submission).legs):
            transaction = decode(leg.payload, int.from_bytes(leg.rollup_id, "big"))
            assert isinstance(transaction, Transaction)
            lane = unsigned.lanes[bundle]
            signer = OPERATORS[lane] if index == 0 else ACCOUNTS[lane]
            assert transaction.sender == address_of(PrivateKey(signer.key))
            key = (int(unsigned.rollups[bundle, index]), bytes(transaction.sender))
            assert transaction.nonce == nonces.get(key, 0), "nonces count per rollup and account"
            nonces[key] = transaction.nonce + 1
    loans = {calls_of(phase, bundle)[0].calldata[4:36] for bundle in range(60)}
    assert len(loans) == 60


def test_a_flash_loan_demands_the_profit_that_its_trader_saw() -> None:
    workload = build_workload(WorkloadTable(kind="flashloan"), around(), source="test")
    assert isinstance(workload, FlashLoan)
    assert set(workload.funding.markets) == {MARKET_1, MARKET_2}
    apart = planned("flashloan", 40, gap_ns=10**9)
    wanted = [int.from_bytes(calls_of(apart, bundle)[4].calldata[-32:], "big") for bundle in range(40)]
    assert all(10**16 < profit < 4 * 10**16 for profit in wanted), "about the gap of 4 % less both pools' fees"
    closed = planned("flashloan", 5, gap_bps=0)
    least = {int.from_bytes(calls_of(closed, bundle)[4].calldata[-32:], "big") for bundle in range(5)}
    assert least == {10**15}, "never less than the bank's fee, so that without a gap it reverts"


@pytest.mark.parametrize(
    ("kind", "stops", "options", "message"),
    [
        ("bridge", 2, {"failing_share": 0.6, "unmatched_share": 0.5}, "at most 1"),
        ("bridge", 2, {"asset": "gold"}, "token or ether"),
        ("bridge", 2, {"amount": 0}, "at least 1"),
        ("flashloan", 3, {}, "spans 2 rollups"),
        ("flashloan", 2, {"principal": 0}, "principal must be positive"),
    ],
)
def test_what_cannot_run_is_refused(kind: str, stops: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidScenario, match=message):
        build_workload(WorkloadTable(kind=kind, options=options), around(stops=stops), source="test")


@pytest.mark.parametrize("kind", ["bridge", "flashloan"])
def test_money_needs_a_bridge(kind: str) -> None:
    with pytest.raises(InvalidScenario, match="without a bridge"):
        build_workload(WorkloadTable(kind=kind), around(has_bridge=False), source="test")


def test_killers_take_what_rivals_expect_and_always_revert_themselves() -> None:
    phase = planned("conflict", 1_000, hot_share=1.0, killer_share=0.3, contenders=1)
    hopeless = (2**255).to_bytes(32, "big")
    killers = [bundle for bundle in range(1_000) if calls_of(phase, bundle)[1].calldata[36:68] == hopeless]
    assert 200 < len(killers) < 400
    rollups, others = phase.unsigned.rollups, set(range(1_000)) - set(killers)
    reached = [0] * ROLLUPS
    for bundle in sorted(others):
        for leg, call in enumerate(calls_of(phase, bundle)):
            rollup = rollups[bundle, leg]
            assert word(call, 1) == reached[rollup], "without the killers every rival finds what it expects"
            reached[rollup] += 1
