"""A scenario as its author wrote it: one frozen dataclass per table of the TOML file, with bounds beside the types.

Pure values. How a file becomes these is `coordinator.spec.reader`; what they mean is `coordinator.spec.resolve`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from nodes.model.limits import MAX_LEGS_PER_BUNDLE, MAX_ROLLUPS


@dataclass(frozen=True, slots=True)
class Between:
    """Bounds of a number, both included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class OneOf:
    """The texts that a key may hold."""

    names: tuple[str, ...]


Seconds = Annotated[float, Between(0, 86_400)]
Rate = Annotated[float, Between(0, 1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AboutTable:
    """`[scenario]`: what it is called and what chance it runs with."""

    name: str
    description: str = ""
    seed: Annotated[int, Between(0, 2**63 - 1)] = 1
    """Keys, arrivals, choices of accounts and rollups all follow from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestnetTable:
    """`[testnet]`: how many nodes of what kind, and the rules they share."""

    __test__ = False

    rollups: Annotated[int, Between(1, MAX_ROLLUPS)] = 4
    backend: str = "lazy"
    launcher: str = "ray"
    replicas: Annotated[int, Between(1, 8)] = 1
    """Nodes per rollup, each with an engine of its own."""
    nodes_per_actor: Annotated[int, Between(0, MAX_ROLLUPS)] = 0
    """Rollup nodes in one process; 0 = nodes divided by half the cores, rounded up, at most 32."""
    atomicity: Annotated[str, OneOf(("inclusion",))] = "inclusion"
    leg_gas_cap: Annotated[int, Between(21_000, 2**32)] = 16_777_216
    """Largest gas limit of one transaction."""
    max_payloads: Annotated[int, Between(1, 65_536)] = 4_096
    """Payloads of one rollup in one sequenced block that can execute."""
    replay_window: Annotated[int, Between(1, 1_000_000)] = 1_000
    """Heights during which a bundle cannot be admitted twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupTable:
    """`[rollup]`: settings of every rollup node that are not consensus."""

    verify_proofs: bool = True
    checkpoint_interval_heights: Annotated[int, Between(1, 1_000_000)] = 512
    rewind_window: Annotated[int, Between(1, 4_096)] = 32
    history_blocks: Annotated[int, Between(1, 100_000_000)] = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractTable:
    """One entry of `[genesis] contracts`."""

    artifact: str
    """Foundry artifact; a relative path starts at the scenario file."""
    address: str = ""
    """Hex; empty = the next of 0x2000...0001, 0x2000...0002, ..."""
    constructor_args: tuple[Any, ...] = ()
    storage: Mapping[str, Any] = field(default_factory=dict)
    """Words to set after the constructor, by slot or by name."""
    deployer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GenesisTable:
    """`[genesis]`: what stands on every rollup before block 1."""

    contracts: tuple[ContractTable, ...] = ()
    users: Annotated[int, Between(0, 100)] = 10
    """Funded accounts whose keys `lockstep up` prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTable:
    """`[workload]`: what the bundles do."""

    kind: str = "transfer"
    legs: Annotated[int, Between(2, MAX_LEGS_PER_BUNDLE)] = 2
    popularity: Annotated[str, OneOf(("uniform", "zipf"))] = "uniform"
    zipf_exponent: Annotated[float, Between(0, 10)] = 1.0
    lanes: Annotated[int, Between(1, 512)] = 64
    """Sending accounts per rollup. Few, because an engine's cost grows with its accounts."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The workload's own keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTable:
    """`[load]`: when the bundles are due."""

    kind: Annotated[str, OneOf(("steady", "sweep", "burst"))] = "steady"
    rate_per_s: Rate = 100.0
    duration_s: Seconds = 30.0
    warmup_s: Seconds = 3.0
    """Cut from the start of the measurement."""
    cooldown_s: Seconds = 2.0
    """Cut from its end."""
    arrivals: Annotated[str, OneOf(("poisson", "constant", "trace"))] = "poisson"
    trace: str = ""
    """CSV of due times in seconds; a relative path starts at the scenario file."""
    drain_timeout_s: Seconds = 20.0
    """How long the last bundles may take after the load ended."""
    p99_bound_ms: Annotated[float, Between(1, 3_600_000)] = 500.0
    """A step of a sweep is sustained while its p99 of executed stays at or under this."""
    sweep_start_per_s: Rate = 0.0
    """Rate of the first step; 0 = rate_per_s."""
    sweep_factor: Annotated[float, Between(1.01, 10)] = 1.3
    sweep_step_s: Seconds = 8.0
    burst_rate_per_s: Rate = 0.0
    burst_from_s: Seconds = 0.0
    burst_for_s: Seconds = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultTable:
    """One entry of `[[faults]]`."""

    at_s: Seconds
    """After the start of the load."""
    kind: str
    target: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The fault's own keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A whole scenario file with its overrides applied."""

    about: AboutTable
    testnet: TestnetTable
    backend_options: Mapping[str, Any]
    """`[backend]`, checked against the backend's own `Config`; only the keys that were written."""
    rollup: RollupTable
    genesis: GenesisTable
    workload: WorkloadTable
    load: LoadTable
    faults: tuple[FaultTable, ...]
    source: str
    """The file, for messages and for relative paths."""
    text: str
    """The file as written, without the overrides."""
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.about.name

    @property
    def seed(self) -> int:
        """Source of all chance."""
        return self.about.seed
