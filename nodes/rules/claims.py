"""Claims: proofs that an exit of another network is under an L1 info root; their hashes and their verification.

It does not know who imports, what was claimed before, or which root L1 has. Source: agglayer/interop `unified-bridge`.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain

from sha3 import keccak_256 as _keccak_256

from nodes.model.agglayer import Claim, ImportedBridgeExit, L1InfoLeaf, MainnetClaim, MerkleProof
from nodes.model.proof_errors import (
    InvalidMerklePathGERToL1Root,
    InvalidMerklePathLeafToLER,
    InvalidMerklePathLERToRER,
    MismatchGlobalIndexInclusionProof,
    MismatchL1Root,
    MismatchMER,
    MismatchRER,
)
from nodes.rules.exit_tree import (
    EMPTY_ROOTS,
    EXIT_TREE_DEPTH,
    global_exit_root,
    global_index_to_int,
    l1_info_leaf_hash,
    leaf_hash,
)
from nodes.rules.hashes import keccak256


class KnownNodes(dict[bytes, bytes]):
    """Parents by the 64 bytes of their children, so that proofs of one run which meet hash the common part once.

    A lookup takes 0.1 us and a hash 0.8 us, and of the nodes of 100 imports from one tree four fifths are common. It
    grows with the run: make one for each.
    """

    def __init__(self) -> None:
        super().__init__(zip((empty * 2 for empty in EMPTY_ROOTS), EMPTY_ROOTS[1:]))

    def __missing__(self, children: bytes) -> bytes:
        """Hash what is met for the first time."""
        parent: bytes = _keccak_256(children).digest()
        self[children] = parent
        return parent

    def root_of_path(self, leaf: bytes, index: int, siblings: Sequence[bytes]) -> bytes:
        """The root that siblings, bottom-up, lead to from a leaf; bit 0 of `index` is taken first."""
        node = leaf
        for sibling in siblings:
            node = self[sibling + node if index & 1 else node + sibling]
            index >>= 1
        return node

    def proof_holds(self, leaf: bytes, index: int, proof: MerkleProof) -> bool:
        """Whether a proof of exactly 32 siblings leads from entry `index` to its own root."""
        is_index = len(proof.siblings) == EXIT_TREE_DEPTH and not index >> EXIT_TREE_DEPTH
        return is_index and self.root_of_path(leaf, index, proof.siblings) == proof.root


@lru_cache(maxsize=4_096)
def proof_hash(proof: MerkleProof) -> bytes:
    """Commits to a Merkle proof: its root, then its siblings. Kept: the imports of a certificate share most proofs."""
    return keccak256(b"".join((proof.root, *proof.siblings)))


def computed_global_exit_root(leaf: L1InfoLeaf) -> bytes:
    """The global exit root of the leaf's two roots, whatever it declares."""
    return global_exit_root(leaf.mainnet_exit_root, leaf.rollup_exit_root)


def l1_leaf_hash(leaf: L1InfoLeaf) -> bytes:
    """The leaf as the L1 info tree has it, over the computed global exit root."""
    return l1_info_leaf_hash(
        global_exit_root=computed_global_exit_root(leaf), block_hash=leaf.block_hash, timestamp_s=leaf.timestamp_s
    )


def claim_hash(claim: Claim) -> bytes:
    """Commits to a claim with all its proofs."""
    paths = (claim.leaf_to_mer,) if isinstance(claim, MainnetClaim) else (claim.leaf_to_ler, claim.ler_to_rer)
    proofs = (*paths, claim.ger_to_l1_root)
    return keccak256(b"".join(map(proof_hash, proofs)) + l1_leaf_hash(claim.l1_leaf))


def global_index_bytes(imported: ImportedBridgeExit) -> bytes:
    """The global index as commitments take it: 32 bytes, little-endian."""
    return global_index_to_int(imported.global_index).to_bytes(32, "little")


def imported_exit_hash(imported: ImportedBridgeExit) -> bytes:
    """Commits to an imported exit: its leaf, its claim and its global index."""
    parts = (leaf_hash(imported.bridge_exit), claim_hash(imported.claim), keccak256(global_index_bytes(imported)))
    return keccak256(b"".join(parts))


def claims_commitment_v2(imports: Sequence[ImportedBridgeExit]) -> bytes:
    """Commits to the global indexes only."""
    return keccak256(b"".join(keccak256(global_index_bytes(imported)) for imported in imports))


def claims_commitment_v3(imports: Sequence[ImportedBridgeExit]) -> bytes:
    """Commits to the global indexes and the exits."""
    pairs = ((global_index_bytes(imported), leaf_hash(imported.bridge_exit)) for imported in imports)
    return keccak256(b"".join(chain.from_iterable(pairs)))


def check_claim(imported: ImportedBridgeExit, l1_info_root: bytes, known: KnownNodes) -> None:
    """Raises the first BridgeError, in the order in which the pessimistic program looks for them."""
    claim, index = imported.claim, imported.global_index
    leaf, l1_leaf = leaf_hash(imported.bridge_exit), claim.l1_leaf
    if index.is_mainnet != isinstance(claim, MainnetClaim):
        raise MismatchGlobalIndexInclusionProof()
    if claim.ger_to_l1_root.root != l1_info_root:
        raise MismatchL1Root()
    if isinstance(claim, MainnetClaim):
        if claim.leaf_to_mer.root != l1_leaf.mainnet_exit_root:
            raise MismatchMER()
        if not known.proof_holds(leaf, index.leaf_index, claim.leaf_to_mer):
            raise InvalidMerklePathLeafToLER()
    else:
        if claim.ler_to_rer.root != l1_leaf.rollup_exit_root:
            raise MismatchRER()
        if not known.proof_holds(leaf, index.leaf_index, claim.leaf_to_ler):
            raise InvalidMerklePathLeafToLER()
        if not known.proof_holds(claim.leaf_to_ler.root, index.rollup_index, claim.ler_to_rer):
            raise InvalidMerklePathLERToRER()
    if not known.proof_holds(l1_leaf_hash(l1_leaf), l1_leaf.l1_info_tree_index, claim.ger_to_l1_root):
        raise InvalidMerklePathGERToL1Root()
