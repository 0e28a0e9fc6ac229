"""What a host process is told: which nodes it runs and everything they need. Plain values, so that they travel as JSON.

Built by the coordinator from a resolved testnet; nothing here reads a file or chooses a default for consensus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.model.agglayer import AgglayerParams
from nodes.model.execution import TestnetParams
from nodes.model.ids import RollupId
from nodes.model.wide_area import WideArea


@dataclass(frozen=True, slots=True, kw_only=True)
class SequencerNodeConfig:
    """One sequencer node."""

    name: str
    backend: str
    """A key of `nodes.sequencer.backends.BACKENDS`."""
    options: Mapping[str, Any]
    """Fields of the backend's own `Config`."""
    port: int = 0
    """gRPC port; 0 = from the OS at first start, kept across restarts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupAgglayerConfig:
    """What a rollup node needs to take part in an aggregation layer."""

    params: AgglayerParams
    endpoint: str
    """host:port of the aggregation layer's service: verdicts, certificates, claim proofs."""
    reporter_key: str
    """Hex; signs execution reports. The same for all replicas."""
    signer_key: str
    """Hex; signs certificates and their ranges. Empty on replicas: they build none."""
    co_signer_keys: tuple[str, ...] = ()
    """Hex; of the network's further signers, in order. As many sign as `params.signer_threshold` asks for."""
    speculation_heights: int = 4
    """Heights that may be executed beyond the last one with a verdict."""
    certificate_interval_s: float = 1.0
    """A certificate is built this long after the one before at the earliest, and once that one is settled."""
    max_exits: int = 5_000
    """Exits of one certificate."""
    lies: str = ""
    """A fault of the scenario from the start: `outcomes` reports reverted legs as succeeded, `state` executes unsoundly
    (mints to itself), `silent` reports nothing, `withholds` sends no certificates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergenceConfig:
    """How a rollup node has its engine checked by a second EVM."""

    mode: str
    """`all` or `sample`."""
    sample_per_s: float
    policy: str
    """`alarm`, `halt` or `exclude`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupNodeConfig:
    """One rollup node (or one replica of a rollup)."""

    name: str
    rollup_id: RollupId
    backend: str
    finality_options: Mapping[str, Any]
    """What the backend's pure check of finality proofs needs, for example the signer's address."""
    sequencer_endpoints: tuple[str, ...]
    """host:port of sources of the same sequencer chain; the next one is asked when one stalls."""
    genesis: str
    """Genesis JSON for the engine; equal for all replicas of the rollup."""
    verify_proofs: bool = True
    checkpoint_interval_heights: int = 512
    agglayer: RollupAgglayerConfig | None = None
    divergence: DivergenceConfig | None = None
    """None = its engine is not checked."""
    rewind_window: int = 32
    """Rollup blocks that the engine itself can rewind; beyond, a checkpoint is loaded and replayed."""
    history_blocks: int = 100_000
    """Rollup blocks kept for users; older ones answer an error."""
    port: int = 0
    rpc_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class L1NodeConfig:
    """The L1: an anvil with slots."""

    name: str
    chain_id: int
    genesis: str
    """Genesis JSON, contracts included."""
    slot_time_ms: int = 1_000
    finality_slots: int = 1
    """safe = latest - finality_slots, finalized = latest - 2 * finality_slots. Ethereum: 32."""
    gas_limit: int = 60_000_000
    port: int = 0
    """Of its control service."""
    rpc_port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AttesterNodeConfig:
    """One attester: runs the pessimistic program on what it is sent and signs the public values."""

    name: str
    key: str
    """Hex; registered on L1."""
    params: AgglayerParams
    chain_id: bytes
    """Of the sequencer: verdict signatures name it."""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgglayerNodeConfig:
    """The aggregation layer's service: certificates, verdicts, settlement."""

    name: str
    params: AgglayerParams
    sequencer_endpoints: tuple[str, ...]
    backend: str
    finality_options: Mapping[str, Any]
    l1_rpc_url: str
    prover: str
    """A key of `nodes.agglayer.provers.PROVERS`."""
    prover_options: Mapping[str, Any]
    attester_endpoints: tuple[str, ...]
    resolver_key: str
    settlement_key: str
    """Of the trusted aggregator's account on L1."""
    oracle_key: str
    """Of the account that brings global exit roots to the rollups."""
    epoch_blocks: int = 2
    """L1 blocks of one epoch; certificates of an epoch are aggregated into one settlement."""
    report_timeout_ms: int = 5_000
    """A rollup that has not reported a height for so long is evicted."""
    void_after_blocks: int = 64
    """L1 blocks after which an import whose source exit has not settled is voided; 0 = never. Blocks during which
    certificates wait and none settles do not count."""
    oracle_level: str = "finalized"
    """From which L1 head on a global exit root is brought to the rollups: latest, safe, finalized."""
    settled_level: str = "latest"
    """L1 head that must hold a settlement before its certificates count as settled: latest, safe, finalized."""
    rollup_rpc_urls: Mapping[str, str] = field(default_factory=dict)
    """JSON-RPC by name of the rollup, where it is known: the oracle sees there whether its roots arrived. Without it
    the oracle trusts that what the sequencer accepted is executed."""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class BuilderNodeConfig:
    """The super builder: simulates bundles on all rollups and orders those that succeed."""

    name: str
    params: AgglayerParams
    testnet: TestnetParams
    sequencer_endpoints: tuple[str, ...]
    rollup_rpc_urls: Mapping[str, str]
    """JSON-RPC by name of the rollup."""
    l1_rpc_url: str
    key: str
    """Hex; signs promises, owns the bond."""
    batch_ms: int = 50
    """How long bundles are gathered before they are simulated together."""
    bond_wei: int = 0
    """Deposited on L1 at the first start, where it promises anything."""
    promise_wei: int = 0
    """What the user of each bundle is promised from the bond, should it succeed only in part; 0 = nothing."""
    promise_blocks: int = 300
    """L1 blocks for which a promise holds. Less than a withdrawal of the bond waits."""
    careless: bool = False
    """A fault of the scenario from the start: orders every bundle without simulating it, and promises all the same."""
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """One process."""

    name: str
    directory: str
    """Everything the process keeps; one sub-folder per node. Survives restarts."""
    testnet: TestnetParams
    bind_host: str = "127.0.0.1"
    advertise_host: str = "127.0.0.1"
    engine_path: str = ""
    """The anvil binary; empty = found or installed by the process itself."""
    sequencers: tuple[SequencerNodeConfig, ...] = ()
    rollups: tuple[RollupNodeConfig, ...] = ()
    l1s: tuple[L1NodeConfig, ...] = ()
    attesters: tuple[AttesterNodeConfig, ...] = ()
    agglayers: tuple[AgglayerNodeConfig, ...] = ()
    builders: tuple[BuilderNodeConfig, ...] = ()
    wide_area: WideArea | None = None
    """Where nodes stand, with the addresses of all; None = links between nodes are not emulated."""
    trace: bool = True
    resource_interval_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEndpoint:
    """Where a running node can be reached."""

    name: str
    kind: str
    """sequencer, rollup, l1, attester, agglayer or builder."""
    grpc_address: str
    """Empty for an L1."""
    rpc_url: str = ""
    """JSON-RPC over HTTP and WebSocket; rollups, L1, and the chain behind a sequencer."""
    engine_pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReady:
    """What a host says once every node of it is usable."""

    name: str
    host: str
    pid: int
    control_address: str
    """gRPC address of the Control and Trace services of the process."""
    nodes: tuple[NodeEndpoint, ...] = field(default_factory=tuple)
