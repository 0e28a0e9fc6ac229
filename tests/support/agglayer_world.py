"""A world of networks with exit trees and an L1 info tree, in memory: makes true claims, certificates and signatures.

It uses the rules under test only for hashing and trees; nothing here decides whether a certificate is acceptable.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2s
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from nodes.model.agglayer import (
    ETH,
    MAINNET,
    BridgeExit,
    Certificate,
    CertificateHeight,
    Claim,
    ImportedBridgeExit,
    L1InfoLeaf,
    LeafType,
    MainnetClaim,
    MerkleProof,
    Multisig,
    NetworkId,
    RollupClaim,
    TokenInfo,
    global_index_of,
)
from nodes.model.ids import ZERO_HASH, Address
from nodes.rules.certificate import certificate_commitment
from nodes.rules.claims import l1_leaf_hash
from nodes.rules.exit_tree import (
    ExitFrontier,
    ExitTree,
    global_exit_root,
    leaf_hash,
    rollup_exit_root,
    rollup_exit_siblings,
)
from nodes.rules.network_trees import NetworkTrees, witness
from nodes.rules.pessimistic import ProgramInput, ProgramOutput, encode_public_values, run
from nodes.rules.signing import address_of_key, sign_digest

VECTORS = Path(__file__).parents[1] / "vectors" / "agglayer"
KEYS = tuple(PrivateKey(bytes([n + 101]) * 32) for n in range(3))
SIGNERS = tuple(address_of_key(key) for key in KEYS)
USDC = TokenInfo(MAINNET, Address(bytes.fromhex("a0b86991c6218b36c1d19d4a2e9eb0ce3606eb48")))
USER = Address(b"\x33" * 20)


def vectors(name: str) -> Any:
    """One file of known answers."""
    return json.loads((VECTORS / f"{name}.json").read_text(encoding="utf-8"))


def unhex(text: str) -> bytes:
    """Bytes of 0x-prefixed hex, which may have an odd count of digits."""
    digits = text.removeprefix("0x")
    return bytes.fromhex("0" * (len(digits) % 2) + digits)


def blake_pair(left: bytes, right: bytes) -> bytes:
    """Another tree hash than Keccak."""
    return blake2s(left + right).digest()


def transfer(dest: int, amount: int, token: TokenInfo = ETH, metadata_hash: bytes | None = None) -> BridgeExit:
    """An exit of a token to a network."""
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=token,
        dest_network=NetworkId(dest),
        dest_address=USER,
        amount=amount,
        metadata_hash=metadata_hash,
    )


def message(dest: int, amount: int, origin: int) -> BridgeExit:
    """A message exit of a network, with ether."""
    token = TokenInfo(NetworkId(origin), Address(b"\x44" * 20))
    return replace(transfer(dest, amount, token), leaf_type=LeafType.MESSAGE)


class World:
    """Exit trees of L1 and of rollups 1 to n, and what L1 has settled of them."""

    def __init__(self, rollups: int = 2) -> None:
        self.trees = {NetworkId(network): ExitTree() for network in range(rollups + 1)}
        self.exits: dict[NetworkId, list[BridgeExit]] = {network: [] for network in self.trees}
        self.info_leaves: list[L1InfoLeaf] = []
        self.info_tree = ExitTree()
        self._counts: list[dict[NetworkId, int]] = []

    def bridge(self, network: int, exits: Sequence[BridgeExit]) -> list[int]:
        """Append exits to a network's tree; their leaf indexes."""
        tree, first = self.trees[NetworkId(network)], self.trees[NetworkId(network)].leaf_count
        tree.append_many(leaf_hash(bridge_exit) for bridge_exit in exits)
        self.exits[NetworkId(network)].extend(exits)
        return list(range(first, tree.leaf_count))

    def settle(self) -> None:
        """L1 learns all exit roots as they are now: one more L1 info leaf."""
        count = len(self.info_leaves)
        mainnet, rollups = self.trees[MAINNET].root(), rollup_exit_root(self._roots(None))
        leaf = L1InfoLeaf(
            l1_info_tree_index=count,
            rollup_exit_root=rollups,
            mainnet_exit_root=mainnet,
            global_exit_root=global_exit_root(mainnet, rollups),
            block_hash=(count + 1).to_bytes(32, "big"),
            timestamp_s=1_700_000_000 + 12 * count,
        )
        self.info_leaves.append(leaf)
        self.info_tree.append_many([l1_leaf_hash(leaf)])
        self._counts.append({network: tree.leaf_count for network, tree in self.trees.items()})

    @property
    def l1_info_root(self) -> bytes:
        return self.info_tree.root()

    def claim(self, network: int, leaf_index: int, at: int = -1) -> ImportedBridgeExit:
        """An exit of a network with its proof against L1 info leaf `at`, under the newest L1 info root."""
        source = NetworkId(network)
        leaf, counts = self.info_leaves[at], self._counts[at]
        info_proof = self.info_tree.proof(leaf.l1_info_tree_index)
        exit_proof = self.trees[source].proof(leaf_index, counts[source])
        claim: Claim = MainnetClaim(leaf_to_mer=exit_proof, ger_to_l1_root=info_proof, l1_leaf=leaf)
        if source != MAINNET:
            siblings = rollup_exit_siblings(self._roots(counts), source - 1)
            claim = RollupClaim(
                leaf_to_ler=exit_proof,
                ler_to_rer=MerkleProof(leaf.rollup_exit_root, siblings),
                ger_to_l1_root=info_proof,
                l1_leaf=leaf,
            )
        return ImportedBridgeExit(
            bridge_exit=self.exits[source][leaf_index],
            claim=claim,
            global_index=global_index_of(source, leaf_index),
        )

    def deposit(self, dest: int, amounts: Sequence[int], token: TokenInfo = ETH) -> list[ImportedBridgeExit]:
        """Deposits on L1, settled, ready to import."""
        indexes = self.bridge(MAINNET, [transfer(dest, amount, token) for amount in amounts])
        self.settle()
        return [self.claim(MAINNET, index) for index in indexes]

    def _roots(self, counts: dict[NetworkId, int] | None) -> list[bytes]:
        return [
            tree.root(None if counts is None else counts[network])
            for network, tree in self.trees.items()
            if network != MAINNET
        ]


class Network:
    """One rollup at the aggregation layer: its trees, its height, and its pessimistic root on L1."""

    def __init__(self, network_id: int = 1, signers: int = 1, threshold: int = 1) -> None:
        self.network_id = NetworkId(network_id)
        self.height = CertificateHeight(0)
        self.trees = NetworkTrees()
        self.root = ZERO_HASH
        self.keys = KEYS[:signers]
        self.signers = SIGNERS[:signers]
        self.threshold = threshold

    def certificate(self, exits: Sequence[BridgeExit] = (), imports: Sequence[ImportedBridgeExit] = ()) -> Certificate:
        """A signed certificate after the settled ones."""
        unsigned = Certificate(
            network_id=self.network_id,
            height=self.height,
            prev_local_exit_root=self.trees.local_exit_root,
            new_local_exit_root=_new_local_exit_root(self.trees, exits),
            bridge_exits=tuple(exits),
            imported_bridge_exits=tuple(imports),
        )
        return self.signed(unsigned)

    def signed(self, certificate: Certificate) -> Certificate:
        """With the signatures of all keys over commitment V5."""
        digest = certificate_commitment(certificate)
        return replace(
            certificate, aggchain_data=Multisig(signatures=tuple(sign_digest(digest, key) for key in self.keys))
        )

    def witness(self, certificate: Certificate, l1_info_root: bytes = ZERO_HASH) -> tuple[ProgramInput, NetworkTrees]:
        return witness(
            self.trees,
            certificate,
            prev_pessimistic_root=self.root,
            l1_info_root=l1_info_root,
            signers=self.signers,
            threshold=self.threshold,
        )

    def settle(self, certificate: Certificate, l1_info_root: bytes = ZERO_HASH) -> ProgramOutput:
        """Prove and commit; the committed trees have the state that the program proved."""
        program, trees = self.witness(certificate, l1_info_root)
        output = run(program)
        assert output.new_state == trees.state
        assert len(encode_public_values(output.public_values)) == 196
        self.trees, self.root = trees, output.public_values.new_pessimistic_root
        self.height = CertificateHeight(self.height + 1)
        return output


def _new_local_exit_root(trees: NetworkTrees, exits: Sequence[BridgeExit]) -> bytes:
    frontier = ExitFrontier(trees.leaf_count, trees.frontier)
    for bridge_exit in exits:
        frontier.append(leaf_hash(bridge_exit))
    return frontier.root()
