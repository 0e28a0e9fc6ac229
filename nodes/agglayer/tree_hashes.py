"""State trees over other hashes than Keccak, kept beside the canonical ones for provers that cannot use it cheaply.

A proof system over a small field hashes with what suits it (Poseidon2 and the like); it then needs its own roots over
the very same balances and claimed exits. A new hash is one line of the table. The canonical trees stay those of
`nodes.rules.network_trees`, and L1 knows no others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from nodes.agglayer.store import TreeItems
from nodes.model.errors import UnknownName
from nodes.rules.sparse_tree import BALANCE_DEPTH, NULLIFIER_DEPTH, NULLIFIER_SET, HashPair, SparseTree

Items = Iterable[tuple[int, bytes]]


def sha256_pair(left: bytes, right: bytes) -> bytes:
    """SHA-256 of two nodes; cheap in circuits that have it as a gadget."""
    return sha256(left + right).digest()


TREE_HASHES: Mapping[str, HashPair] = {"sha256": sha256_pair}
"""By the name that a prover asks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HashedTrees:
    """The trees of one network over one hash."""

    balances: SparseTree
    nullifiers: SparseTree

    @classmethod
    def of(cls, name: str, *, balances: Items, nullifiers: Items) -> "HashedTrees":
        """The trees that hold these items. Raises UnknownName for a hash that is not in the table."""
        if name not in TREE_HASHES:
            raise UnknownName(kind="tree hash", name=name, known=TREE_HASHES)
        hash_pair = TREE_HASHES[name]
        return cls(
            balances=SparseTree(BALANCE_DEPTH, hash_pair).updated(balances),
            nullifiers=SparseTree(NULLIFIER_DEPTH, hash_pair).updated(nullifiers),
        )

    def advanced(self, changed: TreeItems) -> "HashedTrees":
        """The trees after a certificate."""
        return HashedTrees(
            balances=self.balances.updated(changed.balances),
            nullifiers=self.nullifiers.updated((path, NULLIFIER_SET) for path in changed.claimed),
        )
