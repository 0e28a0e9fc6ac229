"""What a run gathers between its start and its run directory."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from coordinator.collect.clocks import ClockOffset
from coordinator.faults import FaultRecord
from coordinator.record import RunDirectory
from coordinator.spec import ResolvedTestnet, Scenario
from coordinator.stages.engine_bound import EngineBound
from coordinator.stages.load import LoadDriver
from coordinator.stages.progress import Interrupt, Observer
from nodes.model.json_form import to_json
from nodes.telemetry.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What of a run is not part of its scenario."""

    out: Path
    command: str = ""
    """The command line, for the record."""
    calibrate: bool = True
    """Measure the engine bound."""
    ray_address: str = ""
    engine_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentPhase:
    """A stretch of the load as run.json has it."""

    rate_per_s: float
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """What broke for good while the load ran; run.json has it so."""

    part: str
    """The node, or its process."""
    reason: str
    remedy: str
    at_ns: int
    """When the load ended for it, on the coordinator's clock."""


@dataclass(slots=True, kw_only=True)
class RunState:
    """One run. Times on the coordinator's monotonic clock."""

    scenario: Scenario
    testnet: ResolvedTestnet
    options: BenchOptions
    directory: RunDirectory
    clock: Clock
    observer: Observer
    interrupt: Interrupt
    started_wall_ns: int
    rng: np.random.Generator
    """Chance of the schedule, from the scenario's seed."""
    driver: LoadDriver | None = None
    """Set once the testnet runs."""
    bound: EngineBound | None = None
    phases: list[SentPhase] = field(default_factory=list)
    faults: list[FaultRecord] = field(default_factory=list)
    offsets: dict[str, ClockOffset] = field(default_factory=dict)
    """By host name."""
    drained_ns: int | None = None
    """When everything accepted was resolved; None where that did not happen in time."""
    interrupted_ns: int | None = None
    ended_ns: int | None = None
    """When the load was broken off; None while it was not."""
    broken: Broken | None = None
    costs_before: Mapping[str, int] = field(default_factory=dict)
    """What the sequencer had paid outside when the load was about to begin."""
    problems: list[str] = field(default_factory=list)
    """What could not be done although the run went on."""

    def ending(self) -> dict[str, Any]:
        """How the load ended, as run.json has it. What was broken off is interrupted too, whoever did it."""
        broken = self.broken
        return {
            "interrupted": self.interrupt.is_set or broken is not None,
            "interrupt_reason": self.interrupt.reason if broken is None else f"{broken.part} broke: {broken.reason}",
            "interrupted_ns": self.interrupted_ns if broken is None else broken.at_ns,
            "broken": None if broken is None else to_json(broken),
        }

    @property
    def load_start_ns(self) -> int:
        """When the schedule began."""
        return self.phases[0].start_ns

    @property
    def load_end_ns(self) -> int:
        """When the schedule ended."""
        return self.phases[-1].end_ns
