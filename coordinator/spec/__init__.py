"""What to run: the scenario as written, and the testnet it resolves to. Starts nothing, knows no launcher."""

from coordinator.spec.keys import DevAccount, dev_account, dev_key
from coordinator.spec.reader import builtin_scenarios, load_scenario, parse_scenario, read_table
from coordinator.spec.resolve import resolve
from coordinator.spec.scenario import FaultTable, LoadTable, Scenario, WorkloadTable
from coordinator.spec.testnet import PlacedContract, ResolvedRollup, ResolvedTestnet, load_testnet, save_testnet

__all__ = [
    "DevAccount",
    "FaultTable",
    "LoadTable",
    "PlacedContract",
    "ResolvedRollup",
    "ResolvedTestnet",
    "Scenario",
    "WorkloadTable",
    "builtin_scenarios",
    "dev_account",
    "dev_key",
    "load_scenario",
    "load_testnet",
    "parse_scenario",
    "read_table",
    "resolve",
    "save_testnet",
]
