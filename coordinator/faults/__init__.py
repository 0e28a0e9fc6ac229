"""Faults of a scenario: typed, timed from the start of the load, and each shown to be healed."""

from coordinator.faults.forgeries import forge
from coordinator.faults.injector import FaultRecord, Injector
from coordinator.faults.kinds import FAULTS, PlannedFault, check_times, faults_of, plan_faults

__all__ = ["FAULTS", "FaultRecord", "Injector", "PlannedFault", "check_times", "faults_of", "forge", "plan_faults"]
