"""The scenarios that come with Lockstep are valid and are what their names say."""

from collections.abc import Mapping
from typing import Any

import pytest

from coordinator.spec.reader import builtin_scenarios, load_scenario
from coordinator.spec.scenario import Scenario
from coordinator.workload.table import option_types


def scenario(name: str) -> Scenario:
    return load_scenario(name, workloads=option_types())


@pytest.mark.parametrize("name", sorted(builtin_scenarios()))
def test_a_scenario_is_valid_and_explains_itself(name: str) -> None:
    loaded = scenario(name)
    assert loaded.name == name.rpartition("/")[2]
    assert loaded.about.description
    assert loaded.text.startswith("# ")
    assert loaded.load.warmup_s + loaded.load.cooldown_s < loaded.load.duration_s


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "quick",
            {"rollups": 4, "legs": 2, "kind": "steady", "duration_s": 30, "arrivals": "poisson", "interval": 100},
        ),
        ("saturation", {"rollups": 4, "legs": 2, "kind": "sweep", "workload": "transfer", "interval": 100}),
        ("many-rollups", {"rollups": 64, "rate_per_s": 200, "interval": 100}),
        ("contention", {"workload": "conflict"}),
        ("low-latency", {"rate_per_s": 47, "interval": 20}),
    ],
)
def test_the_named_scenarios(name: str, expected: Mapping[str, Any]) -> None:
    loaded = scenario(name)
    found = {
        "rollups": loaded.testnet.rollups,
        "legs": loaded.workload.legs,
        "workload": loaded.workload.kind,
        "kind": loaded.load.kind,
        "duration_s": loaded.load.duration_s,
        "rate_per_s": loaded.load.rate_per_s,
        "arrivals": loaded.load.arrivals,
        "interval": loaded.backend_options.get("block_interval_ms", 100),
    }
    assert {key: found[key] for key in expected} == dict(expected)
