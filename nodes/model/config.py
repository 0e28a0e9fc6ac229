"""What a host process is told: which nodes it runs and everything they need. Plain values, so that they travel as JSON.

Built by the coordinator from a resolved testnet; nothing here reads a file or chooses a default for consensus.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodes.model.execution import TestnetParams
from nodes.model.ids import RollupId


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
    rewind_window: int = 32
    """Rollup blocks that the engine itself can rewind; beyond, a checkpoint is loaded and replayed."""
    history_blocks: int = 100_000
    """Rollup blocks kept for users; older ones answer an error."""
    port: int = 0
    rpc_port: int = 0


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
    trace: bool = True
    resource_interval_s: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEndpoint:
    """Where a running node can be reached."""

    name: str
    kind: str
    """sequencer or rollup."""
    grpc_address: str
    rpc_url: str = ""
    """JSON-RPC over HTTP and WebSocket; rollups only."""
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
