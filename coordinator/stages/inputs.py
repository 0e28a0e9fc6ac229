"""What a run directory gets before anything runs: the scenario as written, what was changed, the resolved testnet."""

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from coordinator.record import RunDirectory
from coordinator.spec import ResolvedTestnet, Scenario, save_testnet
from coordinator.spec.reader import TABLES
from coordinator.workload.table import WORKLOADS
from nodes.sequencer.backends import BACKENDS


def write_inputs(directory: RunDirectory, scenario: Scenario, testnet: ResolvedTestnet) -> None:
    """Write scenario.toml, overrides.json and testnet.json."""
    directory.scenario_toml.write_text(scenario.text, encoding="utf-8")
    overrides = full_overrides(scenario)
    directory.overrides_json.write_text(json.dumps(overrides, indent=1) + "\n", encoding="utf-8")
    save_testnet(testnet, directory.path)


def full_overrides(scenario: Scenario) -> list[str]:
    """The overrides with every key written out as table.key, so that a reader needs no table of keys."""
    full = []
    for override in scenario.overrides:
        key, _, value = override.partition("=")
        full.append(f"{_full_key(key.strip(), scenario)}={value.strip()}")
    return full


def _full_key(key: str, scenario: Scenario) -> str:
    if "." in key:
        return key
    if key == "backend":
        return "testnet.backend"
    owners: Mapping[str, list[type[Any]]] = {
        **{table: [kind] for table, kind in TABLES.items()},
        "backend": [BACKENDS[scenario.testnet.backend].config_type],
        "workload": [TABLES["workload"], WORKLOADS[scenario.workload.kind].options_type],
    }
    homes = [
        table for table, kinds in owners.items() if any(field.name == key for kind in kinds for field in fields(kind))
    ]
    assert len(homes) == 1, "the scenario was read, so every short key had one table"
    return f"{homes[0]}.{key}"
