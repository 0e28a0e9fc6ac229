"""The guide to scenarios names every key that exists, so that a new one is not forgotten."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from coordinator.faults import FAULTS
from coordinator.spec.reader import TABLES
from coordinator.spec.scenario import ContractTable, FaultTable
from coordinator.workload.table import WORKLOADS
from nodes.agglayer.provers import PROVERS
from nodes.sequencer.backends import BACKENDS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
KINDS = [
    *TABLES.values(),
    FaultTable,
    *(kind.options_type for kind in WORKLOADS.values()),
    *(kind.options_type for kind in FAULTS.values()),
    *(prover.config_type for prover in PROVERS.values()),
    *(backend.config_type for backend in BACKENDS.values()),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.__module__.rpartition('.')[2]}.{kind.__name__}")
def test_every_key_is_explained(kind: type) -> None:
    names = [field.name for field in fields(kind) if field.name != "options"]
    assert [name for name in names if f"`{name}`" not in GUIDE] == []


def test_every_kind_of_workload_and_fault_and_every_key_of_a_contract_is_named() -> None:
    assert all(f"`{name}`" in GUIDE for name in (*WORKLOADS, *FAULTS, *PROVERS))
    assert all(field.name in GUIDE for field in fields(ContractTable))


@pytest.mark.parametrize("name", BACKENDS)
def test_the_table_of_a_backend_has_each_of_its_keys_with_its_default(name: str) -> None:
    rows = GUIDE.partition(f"\nKeys of `{name}`")[2].partition("\n\n| key ")[2].partition("\n\n")[0]
    told = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", rows, re.MULTILINE))
    expected = {field.name: field.default for field in fields(BACKENDS[name].config_type)}
    assert list(told) == list(expected)
    for key, value in expected.items():
        if value != "":  # what stands for nothing is told in words
            assert told[key] == _as_told(value), key


def _as_told(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:,}" if isinstance(value, int) else f"`{value}`"
