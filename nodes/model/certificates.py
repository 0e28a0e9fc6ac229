"""What the aggregation layer tells about a network, its epochs and its prover; shown, never decided on.

Certificates themselves are in `nodes.model.agglayer`.
"""

from dataclasses import dataclass

from nodes.model.agglayer import CertificateHeader, CertificateHeight, CertificateId, GlobalIndex, NetworkId


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledImport:
    """The last import of the newest settled certificate."""

    global_index: GlobalIndex
    exit_hash: bytes
    """Leaf of the imported exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInfo:
    """One network as the aggregation layer sees it; the fields of `agglayer.node.types.v1.NetworkInfo`."""

    network_id: NetworkId
    settled_height: CertificateHeight | None = None
    settled_certificate_id: CertificateId | None = None
    settled_pessimistic_root: bytes | None = None
    settled_local_exit_root: bytes | None = None
    settled_leaf_count: int | None = None
    settled_import: SettledImport | None = None
    """None where that certificate imported nothing."""
    latest_pending: CertificateHeader | None = None
    """The newest certificate that is not settled."""
    latest_epoch_with_settlement: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochConfiguration:
    """Epochs are counted in L1 blocks."""

    genesis_block: int
    epoch_duration_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingStatus:
    """What the prover does at this moment; for dashboards."""

    prover: str
    description: str
    """Says what kind of proof it is, and what it is not."""
    batch_id: int = 0
    """0 = nothing is being proved."""
    certificates: int = 0
    done: int = 0
    total: int = 0
    step: str = ""
