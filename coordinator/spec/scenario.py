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


@dataclass(frozen=True, slots=True)
class Hex:
    """A text of so many bytes as hex digits, with or without 0x in front; empty = nothing."""

    size_bytes: int


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
    atomicity: Annotated[str, OneOf(("inclusion", "agglayer", "bond"))] = "inclusion"
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
class AgglayerTable:
    """`[agglayer]`: verdicts, certificates and their settlement. Read in every mode, used where there is an L1."""

    settle: bool | None = None
    """Rollups send certificates, which settle on L1; left out = not in `inclusion`, but in the other modes."""
    prover: str = "attested"
    attesters: Annotated[int, Between(1, 32)] = 3
    """Processes that check every proof and sign it."""
    attester_threshold: Annotated[int, Between(1, 32)] = 2
    """Signatures that L1 asks for."""
    signers: Annotated[int, Between(1, 32)] = 1
    """Members of the committee that signs a rollup's certificates."""
    signer_threshold: Annotated[int, Between(1, 32)] = 1
    """Signatures of theirs that a certificate needs."""
    epoch_blocks: Annotated[int, Between(1, 10_000)] = 2
    """L1 blocks of one epoch; its certificates settle in one transaction."""
    open_after_blocks: Annotated[int, Between(0, 1_000_000)] = 20
    """L1 blocks after the last settlement from which on anybody may settle."""
    abort_rule: Annotated[str, OneOf(("serial", "all"))] = "serial"
    """Which failing bundles of a round are struck: the one of lowest ordinal, or all."""
    serial_rounds: Annotated[int, Between(0, 1_000)] = 8
    """Rounds of a height with the serial rule; afterwards all failing bundles are struck."""
    speculation_heights: Annotated[int, Between(1, 1_000)] | None = None
    """Heights beyond the last verdict that a rollup may execute; 1 = only the one whose verdict comes next. Left out =
    by the backend: as many as lie between soft and firm, and a few that hide the exchange of reports."""
    report_timeout_ms: Annotated[int, Between(50, 3_600_000)] = 5_000
    """A rollup that owes a report for so long is evicted."""
    void_after_blocks: Annotated[int, Between(0, 1_000_000)] = 64
    """L1 blocks after which an import without settled source is voided; 0 = never."""
    oracle_level: Annotated[str, OneOf(("latest", "safe", "finalized"))] = "finalized"
    """From which L1 head on a global exit root is brought to the rollups."""
    settled_level: Annotated[str, OneOf(("latest", "safe", "finalized"))] = "latest"
    """L1 head that must hold a settlement before its certificates count as settled."""
    certificate_interval_s: Annotated[float, Between(0.01, 86_400)] = 1.0
    """A rollup builds its next certificate this long after the one before at the earliest."""
    max_exits: Annotated[int, Between(1, 100_000)] = 5_000
    """Exits of one certificate."""
    liars: Mapping[str, Any] = field(default_factory=dict)
    """Rollup to what is wrong with it from the start: one of `LIES`."""


LIES = ("outcomes", "state", "silent", "withholds")
"""Reports reverted legs as succeeded; executes unsoundly and mints to itself; reports nothing; certifies nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Table:
    """`[l1]`: the chain that everything settles on."""

    slot_time_ms: Annotated[int, Between(50, 60_000)] = 1_000
    """A block per slot. Ethereum: 12,000."""
    finality_slots: Annotated[int, Between(1, 64)] = 1
    """Slots from latest to safe, and again from safe to finalized. Ethereum: 32."""
    block_gas_limit: Annotated[int, Between(1_000_000, 2**32)] = 60_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderTable:
    """`[builder]`: the super builder between users and sequencer."""

    enabled: bool | None = None
    """Left out = only with `atomicity = "bond"`, which needs it."""
    batch_ms: Annotated[int, Between(1, 10_000)] = 50
    """How long bundles are gathered before they are simulated together."""
    bond_eth: Annotated[float, Between(0, 1_000_000)] = 100.0
    """What it deposits on L1 for the users of bundles that fail in part."""
    withdrawal_delay_blocks: Annotated[int, Between(0, 1_000_000)] = 400
    """L1 blocks that a withdrawal of its bond waits, so that claims come first."""
    promise_eth: Annotated[float, Between(0, 1_000_000)] = 0.01
    """What it promises the user of each bundle, should that succeed only in part. Used with `atomicity = "bond"`."""
    promise_blocks: Annotated[int, Between(1, 1_000_000)] = 300
    """L1 blocks for which a promise holds; less than `withdrawal_delay_blocks`."""
    careless: bool = False
    """A fault: it orders every bundle without simulating it, and promises all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTable:
    """`[network]`: what links between regions are like. Used with `[regions]` only."""

    jitter_share: Annotated[float, Between(0, 10)] = 0.02
    """Mean of what is added to each one-way delay, as a share of it."""
    loss: Annotated[float, Between(0, 0.5)] = 0.0
    """Share of TCP segments that are lost and sent again."""
    bandwidth_mbit: Annotated[float, Between(0, 1_000_000)] = 0.0
    """Of each link and direction; 0 = not limited."""
    matrix: str = ""
    """TOML file of round trips, before those that come with Lockstep; a relative path starts at the scenario file."""
    round_trip_ms: Mapping[str, Any] = field(default_factory=dict)
    """Round trips of the scenario's own, before all others: region to region to milliseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceTable:
    """`[divergence]`: a second, independent EVM executes again what the rollups' engines executed."""

    mode: Annotated[str, OneOf(("off", "sample", "all"))] = "off"
    """`all`: every transaction, on a state of its own from genesis on. `sample`: some, on the engine's state."""
    sample_per_s: Annotated[float, Between(0.1, 1_000)] = 5.0
    """With `sample`: transactions per second and rollup; also where `all` cannot keep up."""
    policy: Annotated[str, OneOf(("alarm", "halt", "exclude"))] = "alarm"
    """What a rollup does that finds a difference: say so; stop; hand in no reports any more, so that it is evicted."""
    only: tuple[str, ...] = ()
    """Which rollups are checked, by name; none named = all."""
    finish_s: Seconds = 30.0
    """How long the check may take for what still waits after the load."""


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
    """Of `[backend]` and its sub-tables what the chosen backend gets, checked against its own `Config`; only the keys
    that were written.
    """
    rollup: RollupTable
    agglayer: AgglayerTable
    prover_options: Mapping[str, Any]
    """`[prover]`, checked against the `Config` of the prover of `[agglayer]`; only the keys that were written."""
    l1: L1Table
    builder: BuilderTable
    regions: Mapping[str, str]
    """`[regions]`: node, or group of nodes, to region. Empty = links are not emulated."""
    network: NetworkTable
    divergence: DivergenceTable
    genesis: GenesisTable
    workload: WorkloadTable
    load: LoadTable
    faults: tuple[FaultTable, ...]
    source: str
    """The file, for messages and for relative paths."""
    text: str
    """The file as written, without the overrides."""
    overrides: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """What whoever runs it must be told: keys that were written and are not used."""

    @property
    def name(self) -> str:
        """The scenario's name."""
        return self.about.name

    @property
    def seed(self) -> int:
        """Source of all chance."""
        return self.about.seed

    @property
    def settles(self) -> bool:
        """Rollups send certificates to an L1."""
        wanted = self.agglayer.settle
        return self.testnet.atomicity != "inclusion" if wanted is None else wanted

    @property
    def uses_agglayer(self) -> bool:
        """There is an aggregation layer, and an L1."""
        return self.settles or self.testnet.atomicity != "inclusion"

    @property
    def has_builder(self) -> bool:
        """Users submit to a super builder."""
        wanted = self.builder.enabled
        return self.testnet.atomicity == "bond" if wanted is None else wanted
