"""The guide to scenarios names every key that exists, so that a new one is not forgotten."""

from dataclasses import fields
from pathlib import Path

import pytest

from coordinator.faults import FAULTS
from coordinator.spec.reader import TABLES
from coordinator.spec.scenario import ContractTable, FaultTable
from coordinator.workload.table import WORKLOADS
from nodes.agglayer.provers import PROVERS

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
KINDS = [
    *TABLES.values(),
    FaultTable,
    *(kind.options_type for kind in WORKLOADS.values()),
    *(kind.options_type for kind in FAULTS.values()),
    *(prover.config_type for prover in PROVERS.values()),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_every_key_is_explained(kind: type) -> None:
    names = [field.name for field in fields(kind) if field.name != "options"]
    assert [name for name in names if f"`{name}`" not in GUIDE] == []


def test_every_kind_of_workload_and_fault_and_every_key_of_a_contract_is_named() -> None:
    assert all(f"`{name}`" in GUIDE for name in (*WORKLOADS, *FAULTS, *PROVERS))
    assert all(field.name in GUIDE for field in fields(ContractTable))
