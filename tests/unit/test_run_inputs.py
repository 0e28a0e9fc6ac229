"""What a run directory holds before the run."""

from pathlib import Path

import pytest

from coordinator.record import RunDirectory
from coordinator.spec import load_scenario
from coordinator.stages.inputs import full_overrides
from coordinator.workload.table import option_types
from nodes.model.errors import InvalidInput


def test_short_keys_are_written_out_for_whoever_reads_the_run_later() -> None:
    given = [
        "rollups=3",
        "block_interval_ms = 50",
        "workload.kind=conflict",
        "hot_share=0.5",
        "backend=lazy",
        "lanes=8",
    ]
    scenario = load_scenario("quick", given, workloads=option_types())
    assert full_overrides(scenario) == [
        "testnet.rollups=3",
        "backend.block_interval_ms=50",
        "workload.kind=conflict",
        "workload.hot_share=0.5",
        "testnet.backend=lazy",
        "workload.lanes=8",
    ]


def test_the_rest_of_a_killed_run_is_not_gone_on_with(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path)
    RunDirectory.create(tmp_path)
    run.testnet.mkdir()
    with pytest.raises(InvalidInput, match="already holds a run"):
        RunDirectory.create(tmp_path)
    run.scenario_toml.write_text("")
    with pytest.raises(InvalidInput, match="was killed, or broke"):
        RunDirectory.open(tmp_path)
