"""What a lying server sends: a filtered block that lacks one kind of evidence. Faults only; readers must stall on it.

Knows the shape of evidence, not who lies or when.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from nodes.model.faults import EvidenceKind
from nodes.model.sequenced_block import NO_ITEMS, FilteredBlock, ProvenItems, SiblingEvidence
from nodes.rules.merkle import Tree
from nodes.rules.sequenced_block import BlockTrees


def withhold(block: FilteredBlock, trees: BlockTrees, kind: EvidenceKind) -> FilteredBlock | None:
    """The block without this kind of evidence; None where it holds none, so that nothing could be left out."""
    lacking = _WITHOUT[kind](block, trees)
    return None if lacking == block else lacking


def _without_leaves(block: FilteredBlock, _trees: BlockTrees) -> FilteredBlock:
    siblings = tuple([replace(sibling, leaf_path=b"") for sibling in block.siblings])
    return replace(block, leaf_path=b"", siblings=siblings)


def _without_siblings(block: FilteredBlock, _trees: BlockTrees) -> FilteredBlock:
    return replace(block, siblings=())


def _without_ids(block: FilteredBlock, _trees: BlockTrees) -> FilteredBlock:
    return replace(block, rollup_ids=())


def _without_whole(block: FilteredBlock, _trees: BlockTrees) -> FilteredBlock:
    return replace(block, siblings=tuple([replace(sibling, whole=None) for sibling in block.siblings]))


def _without_payloads(block: FilteredBlock, trees: BlockTrees) -> FilteredBlock:
    def strip(sibling: SiblingEvidence) -> SiblingEvidence:
        if sibling.whole is None or not sibling.whole.payloads:
            return replace(sibling, payloads=NO_ITEMS)
        return replace(sibling, whole=None, rows=_all_items(sibling.whole.rows, trees.rollups[sibling.rollup_id].rows))

    return replace(block, siblings=tuple(map(strip, block.siblings)))


def _without_rows(block: FilteredBlock, trees: BlockTrees) -> FilteredBlock:
    def strip(sibling: SiblingEvidence) -> SiblingEvidence:
        if sibling.whole is None or not sibling.whole.rows:
            return replace(sibling, rows=NO_ITEMS)
        return replace(
            sibling, whole=None, payloads=_all_items(sibling.whole.payloads, trees.rollups[sibling.rollup_id].payloads)
        )

    return replace(block, siblings=tuple(map(strip, block.siblings)))


def _all_items(values: tuple[bytes, ...], tree: Tree) -> ProvenItems:
    positions = tuple(range(len(values)))
    return ProvenItems(positions=positions, values=values, proof=tree.proof(positions))


_WITHOUT: Mapping[EvidenceKind, Callable[[FilteredBlock, BlockTrees], FilteredBlock]] = {
    EvidenceKind.LEAF: _without_leaves,
    EvidenceKind.SIBLING: _without_siblings,
    EvidenceKind.PAYLOAD: _without_payloads,
    EvidenceKind.ROW: _without_rows,
    EvidenceKind.IDS: _without_ids,
    EvidenceKind.WHOLE: _without_whole,
}
