"""The engine bound of money workloads: on a bare engine their legs succeed, else the bound would measure reverts."""

from pathlib import Path

import pytest

from coordinator.spec.reader import load_scenario
from coordinator.spec.resolve import resolve
from coordinator.stages.bare_genesis import funded_genesis
from coordinator.stages.engine_bound import _transactions
from coordinator.workload.table import option_types
from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.model.execution import Status

LEGS = 60


@pytest.mark.parametrize("name", ["bridge", "flashloan"])
async def test_legs_of_a_money_workload_succeed_on_a_funded_engine(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.stages.engine_bound.LEGS_PER_ENGINE", LEGS)
    scenario = load_scenario(name, ["workload.lanes=4", "testnet.rollups=2"], workloads=option_types())
    testnet = resolve(scenario)
    lists, funding = _transactions(scenario, testnet, 2, 1)
    assert funding is not None
    rollup = funded_genesis(testnet, testnet.rollups[0], funding)
    assert rollup.genesis != testnet.rollups[0].genesis
    assert funded_genesis(testnet, testnet.rollups[0], None) is testnet.rollups[0]
    engine = await AnvilEngine.start(find_anvil(), rollup.genesis, rollup.params, tmp_path / "engine", 4)
    try:
        block = await engine.build_block(lists[0], timestamp_s=rollup.params.genesis_time_s + 1)
    finally:
        await engine.stop()
    statuses = [outcome.status for outcome in block.outcomes]
    assert len(statuses) > LEGS // 2
    assert Status.SKIPPED not in statuses
    # Arbitrage is meant to fail where another one came first; everything else succeeds.
    assert statuses.count(Status.SUCCEEDED) >= len(statuses) * 0.8
