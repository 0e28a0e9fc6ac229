"""Claim proofs: that an exit of any network is under a root of the L1 info tree.

Pure over what L1 says (`nodes.agglayer.l1_view`) and over the exit trees of the rollups that the service keeps. It does
not know who claims, nor what was claimed before.
"""

from collections.abc import Sequence

from nodes.agglayer.batch import L1Level, SettledExits
from nodes.agglayer.l1_view import InfoLeaf, L1View
from nodes.model.agglayer import Claim, GlobalIndex, MainnetClaim, MerkleProof, RollupClaim
from nodes.ports import ClaimProofs
from nodes.rules.exit_tree import rollup_exit_siblings


class ClaimProver:
    """Makes claims against the newest leaf of the L1 info tree, which covers every earlier one."""

    def __init__(self, view: L1View, exits: SettledExits) -> None:
        self._view = view
        self._exits = exits

    def claim_proofs(self, wanted: Sequence[GlobalIndex], *, level: L1Level = L1Level.LATEST) -> ClaimProofs:
        """Claims of those exits that are covered at the head of a level; the others are left out.

        All claims of one answer name one L1 info root. One whose leaf a reorg takes back proves nothing any more: ask
        for a level that is as hard to revert as the claim's use.
        """
        leaf_count = self._view.leaf_count(level)
        if not leaf_count:
            return ClaimProofs(l1_info_tree_leaf_count=0, claims={})
        claims = {}
        for index in wanted:
            claim = self.claim(index, leaf_count=leaf_count)
            if claim is not None:
                claims[index] = claim
        return ClaimProofs(l1_info_tree_leaf_count=leaf_count, claims=claims)

    def claim(self, index: GlobalIndex, *, leaf_count: int) -> Claim | None:
        """The claim of one exit against the L1 info root of `leaf_count` leaves; None where it is not covered by it."""
        if not 0 < leaf_count <= self._view.newest_leaf_count:
            return None
        info = self._view.info_leaf(leaf_count - 1)
        tree = self._view.info_tree
        to_l1_root = MerkleProof(tree.root(leaf_count), tree.siblings(leaf_count - 1, leaf_count))
        if index.is_mainnet:
            return self._mainnet_claim(index, info, to_l1_root)
        return self._rollup_claim(index, info, to_l1_root)

    def _mainnet_claim(self, index: GlobalIndex, info: InfoLeaf, to_l1_root: MerkleProof) -> Claim | None:
        if not 0 <= index.leaf_index < info.mainnet_leaf_count or index.rollup_index:
            return None
        siblings = self._view.deposits.siblings(index.leaf_index, info.mainnet_leaf_count)
        return MainnetClaim(
            leaf_to_mer=MerkleProof(info.leaf.mainnet_exit_root, siblings),
            ger_to_l1_root=to_l1_root,
            l1_leaf=info.leaf,
        )

    def _rollup_claim(self, index: GlobalIndex, info: InfoLeaf, to_l1_root: MerkleProof) -> Claim | None:
        roots = info.local_exit_roots
        if not 0 <= index.rollup_index < len(roots) or not any(roots[index.rollup_index]):
            return None
        local_exit_root = roots[index.rollup_index]
        tree = self._exits.exit_tree(index.network_id)
        exits = self._exits.leaf_count_of(index.network_id, local_exit_root)
        # A root that somebody else settled may be known here a moment later than on L1.
        if tree is None or exits is None or tree.leaf_count < exits or not 0 <= index.leaf_index < exits:
            return None
        return RollupClaim(
            leaf_to_ler=MerkleProof(local_exit_root, tree.siblings(index.leaf_index, exits)),
            ler_to_rer=MerkleProof(info.leaf.rollup_exit_root, rollup_exit_siblings(roots, index.rollup_index)),
            ger_to_l1_root=to_l1_root,
            l1_leaf=info.leaf,
        )
