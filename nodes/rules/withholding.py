"""What a lying server sends: a filtered block that lacks one kind of evidence. Faults only; readers must stall on it.

Knows the shape of evidence, not who lies or when.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from nodes.model.faults import EvidenceKind
from nodes.model.sequenced_block import NO_ITEMS, FilteredBlock


def withhold(block: FilteredBlock, kind: EvidenceKind) -> FilteredBlock | None:
    """The block without this kind of evidence; None where it holds none, so that nothing could be left out."""
    lacking = _WITHOUT[kind](block)
    return None if lacking == block else lacking


def _without_leaves(block: FilteredBlock) -> FilteredBlock:
    siblings = tuple([replace(sibling, leaf_path=b"") for sibling in block.siblings])
    return replace(block, leaf_path=b"", siblings=siblings)


def _without_siblings(block: FilteredBlock) -> FilteredBlock:
    return replace(block, siblings=())


def _without_ids(block: FilteredBlock) -> FilteredBlock:
    return replace(block, rollup_ids=())


def _without_payloads(block: FilteredBlock) -> FilteredBlock:
    return replace(block, siblings=tuple([replace(sibling, payloads=NO_ITEMS) for sibling in block.siblings]))


def _without_rows(block: FilteredBlock) -> FilteredBlock:
    return replace(block, siblings=tuple([replace(sibling, rows=NO_ITEMS) for sibling in block.siblings]))


_WITHOUT: Mapping[EvidenceKind, Callable[[FilteredBlock], FilteredBlock]] = {
    EvidenceKind.LEAF: _without_leaves,
    EvidenceKind.SIBLING: _without_siblings,
    EvidenceKind.PAYLOAD: _without_payloads,
    EvidenceKind.ROW: _without_rows,
    EvidenceKind.IDS: _without_ids,
}
