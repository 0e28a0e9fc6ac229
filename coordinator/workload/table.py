"""The table of workloads. A new one is a module with options and a `plan`, and one line here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.spec.reader import read_table
from coordinator.spec.scenario import WorkloadTable
from coordinator.workload.base import Surroundings, Workload
from coordinator.workload.bridge import Bridge, BridgeOptions
from coordinator.workload.conflict import Conflict, ConflictOptions
from coordinator.workload.flashloan import FlashLoan, FlashLoanOptions
from coordinator.workload.swap import Swap, SwapOptions
from coordinator.workload.transfer import Transfer, TransferOptions
from nodes.model.errors import UnknownName


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadKind:
    """One line of the table."""

    name: str
    options_type: type[Any]
    build: Callable[[Any, Surroundings], Workload]
    describe: str
    expects: str
    """Outcomes a healthy run shows."""
    needs_funding: bool = False
    """Its accounts start empty; what they move is deposited on L1 before the load."""


WORKLOADS: Mapping[str, WorkloadKind] = {
    kind.name: kind
    for kind in (
        WorkloadKind(
            name="transfer",
            options_type=TransferOptions,
            build=Transfer,
            describe="Each leg moves 1 wei between two of the run's own accounts; nothing contends.",
            expects="every bundle succeeds",
        ),
        WorkloadKind(
            name="swap",
            options_type=SwapOptions,
            build=Swap,
            describe="Arbitrage between the same pool on two rollups; a price moved by others makes a leg revert.",
            expects="succeeded, partly and reverted",
        ),
        WorkloadKind(
            name="conflict",
            options_type=ConflictOptions,
            build=Conflict,
            describe="A share of the bundles race for one hot counter; the first of each race wins.",
            expects="succeeded, partly and reverted",
        ),
        WorkloadKind(
            name="bridge",
            options_type=BridgeOptions,
            build=Bridge,
            describe="Burns on one rollup and mints the same on the next, in one bundle; a share can be made to fail.",
            expects="every bundle succeeds; those made to fail are aborted in `agglayer`, partly otherwise",
            needs_funding=True,
        ),
        WorkloadKind(
            name="flashloan",
            options_type=FlashLoanOptions,
            build=FlashLoan,
            describe="Borrows on one rollup, arbitrages on another and repays on the first: six legs, no collateral.",
            expects="succeeded; late ones aborted in `agglayer`, partly otherwise, which costs the bank",
            needs_funding=True,
        ),
    )
}


def option_types() -> dict[str, type[Any]]:
    """Name of each workload to the dataclass of its own keys; what `load_scenario` reads `[workload]` against."""
    return {name: kind.options_type for name, kind in WORKLOADS.items()}


def build_workload(table: WorkloadTable, surroundings: Surroundings, *, source: str) -> Workload:
    """The workload that a scenario names. Raises UnknownName, InvalidScenario for an option it does not have."""
    kind = WORKLOADS.get(table.kind)
    if kind is None:
        raise UnknownName(kind="workload", name=table.kind, known=WORKLOADS)
    options = read_table(kind.options_type, table.options, table="workload", source=source)
    return kind.build(options, surroundings)
