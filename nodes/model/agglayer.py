"""Values of the aggregation layer: exits, claims, certificates, and what a rollup states beside them for settlement.

Field names are AggLayer's. Hashes, encodings and checks are rules: `nodes.rules.exit_tree`, `.certificate`,
`.pessimistic`. "Root" means a Keccak-256 Merkle root of 32 bytes throughout.

Source: agglayer/interop and agglayer/agglayer (certificate commitment V5, pessimistic root V3).
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple, NewType

from nodes.model.ids import Address, ChainId, Height, RollupId, rollup_id_of

NetworkId = NewType("NetworkId", int)
"""u32: 0 is the L1, rollup `i` (counted from 1 in the order of the testnet) is network `i`."""
CertificateHeight = NewType("CertificateHeight", int)
"""u64: counts the certificates of one network from 0. Not a sequenced height."""
CertificateId = NewType("CertificateId", bytes)
"""32 bytes; `nodes.rules.certificate.certificate_id`."""

MAINNET = NetworkId(0)
NETWORK_LIMIT = 2**32
SIGNATURE_BYTES = 65


class LeafType(IntEnum):
    """What an exit carries."""

    TRANSFER = 0
    MESSAGE = 1


class TokenInfo(NamedTuple):
    """A token by where it was born; the same on every rollup."""

    origin_network: NetworkId
    origin_token_address: Address


ETH = TokenInfo(MAINNET, Address(bytes(20)))
"""Native gas token of every rollup: ether that was deposited on L1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeExit:
    """One leaf of a local exit tree: value (or a message) that leaves a network."""

    leaf_type: LeafType
    token: TokenInfo
    dest_network: NetworkId
    dest_address: Address
    amount: int
    """Smallest unit of the token; u256."""
    metadata_hash: bytes | None
    """Keccak-256 of the raw metadata; None stands for that of no bytes."""


class GlobalIndex(NamedTuple):
    """Which leaf of which network's exit tree."""

    is_mainnet: bool
    rollup_index: int
    """Network id minus 1; 0 where `is_mainnet`."""
    leaf_index: int

    @property
    def network_id(self) -> NetworkId:
        """The network whose exit tree holds the leaf."""
        return MAINNET if self.is_mainnet else NetworkId(self.rollup_index + 1)


def global_index_of(network_id: NetworkId, leaf_index: int) -> GlobalIndex:
    """The global index of a leaf of a network."""
    return GlobalIndex(network_id == MAINNET, max(0, network_id - 1), leaf_index)


class MerkleProof(NamedTuple):
    """32 siblings, bottom-up, and the root they lead to."""

    root: bytes
    siblings: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class L1InfoLeaf:
    """One leaf of the L1 info tree, with its place."""

    l1_info_tree_index: int
    rollup_exit_root: bytes
    mainnet_exit_root: bytes
    global_exit_root: bytes
    """As declared; hashes use the one computed from the two roots."""
    block_hash: bytes
    timestamp_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MainnetClaim:
    """Proof that a leaf is under an L1 info root by way of the L1 bridge's exit tree."""

    leaf_to_mer: MerkleProof
    ger_to_l1_root: MerkleProof
    l1_leaf: L1InfoLeaf


@dataclass(frozen=True, slots=True, kw_only=True)
class RollupClaim:
    """Proof that a leaf is under an L1 info root by way of a rollup's exit tree."""

    leaf_to_ler: MerkleProof
    ler_to_rer: MerkleProof
    ger_to_l1_root: MerkleProof
    l1_leaf: L1InfoLeaf


Claim = MainnetClaim | RollupClaim


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedBridgeExit:
    """An exit of another network that this one has credited."""

    bridge_exit: BridgeExit
    claim: Claim
    global_index: GlobalIndex


@dataclass(frozen=True, slots=True, kw_only=True)
class EcdsaSignature:
    """Aggchain data of the legacy kind: one signature, 65 bytes r | s | v."""

    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Multisig:
    """Aggchain data of a committee: signature `i` is signer `i`'s or absent."""

    signatures: tuple[bytes | None, ...]


AggchainData = EcdsaSignature | Multisig


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What a network sends to have its exits settled."""

    network_id: NetworkId
    height: CertificateHeight
    prev_local_exit_root: bytes
    new_local_exit_root: bytes
    bridge_exits: tuple[BridgeExit, ...]
    imported_bridge_exits: tuple[ImportedBridgeExit, ...]
    metadata: bytes = bytes(32)
    aggchain_data: AggchainData = Multisig(signatures=())
    custom_chain_data: bytes = b""
    """Lockstep puts the signed `SettledRange` here; not part of the id."""
    l1_info_tree_leaf_count: int | None = None


class CertificateStatus(IntEnum):
    """Life of a certificate; the numbers of `agglayer.node.types.v1`."""

    PENDING = 1
    PROVEN = 2
    CANDIDATE = 3
    IN_ERROR = 4
    SETTLED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateHeader:
    """What the aggregation layer tells about a certificate."""

    network_id: NetworkId
    height: CertificateHeight
    certificate_id: CertificateId
    prev_local_exit_root: bytes
    new_local_exit_root: bytes
    metadata: bytes
    status: CertificateStatus
    error: str = ""
    """Why it is IN_ERROR; empty otherwise."""
    epoch_number: int | None = None
    certificate_index: int | None = None
    settlement_tx_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledRange:
    """The sequenced heights that a certificate speaks for, stated beside the public values. 112 bytes when encoded.

    Settled ranges of a rollup continue one another: the first height is the last settled one plus 1. An empty range
    (`last_height` = `first_height` - 1) states nothing, and keeps the other fields of the one before.
    """

    first_height: Height
    last_height: Height
    last_block_hash: bytes
    """Hash of the rollup's block after `last_height`."""
    outcome_root: bytes
    """Root over the fate of every leg of the range on this rollup; `nodes.rules.outcomes`."""
    verdict_root: bytes
    """Hash of the verdict of `last_height`, which commits to all before it; zero where there are no verdicts."""


class NetworkState(NamedTuple):
    """What the pessimistic program starts from: the state of one network before a certificate."""

    leaf_count: int
    """Leaves of the local exit tree."""
    frontier: tuple[bytes, ...]
    """32 nodes; entry `h` is the root of the last complete left subtree of height `h`."""
    balance_root: bytes
    nullifier_root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkParams:
    """One network as the aggregation layer and L1 know it; part of the resolved testnet."""

    network_id: NetworkId
    name: str
    chain_id: ChainId
    signer: Address
    """Who signs its certificates and, alone, their ranges."""
    reporter: Address
    """Who signs its execution reports: every node of the rollup holds this key."""
    co_signers: tuple[Address, ...] = ()
    """Further members of the committee that signs its certificates."""

    @property
    def signers(self) -> tuple[Address, ...]:
        """The committee: signature `i` of a multisig is that of entry `i`."""
        return (self.signer, *self.co_signers)

    @property
    def rollup_id(self) -> RollupId:
        """Its id at the sequencer."""
        return rollup_id_of(self.chain_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgglayerParams:
    """What all parts of one aggregation layer must agree on; part of the resolved testnet."""

    networks: tuple[NetworkParams, ...]
    """Ascending by network id, from 1 without gaps, in the order of the testnet's rollups."""
    resolver: Address
    """Who signs verdicts and notices."""
    serial_rounds: int
    """Rounds of a height in which only the failing bundle of lowest ordinal is struck."""
    abort_rule: str
    """serial, or all: strike every failing bundle from the first round on."""
    has_verdicts: bool
    """Heights are resolved (`agglayer`); otherwise blocks settle as they were executed (`bond`, `inclusion`)."""
    l1_chain_id: ChainId
    attesters: tuple[Address, ...]
    attester_threshold: int
    signer_threshold: int = 1
    """Signatures that a certificate needs, of the network's signers."""

    def network_of(self, rollup_id: bytes) -> NetworkParams | None:
        """The network of a rollup, or None."""
        return next((network for network in self.networks if network.rollup_id == rollup_id), None)
