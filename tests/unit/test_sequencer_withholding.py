"""A withheld element is gone, the rest of the block is as it was, and no reader takes the block for complete."""

from dataclasses import replace

import pytest

from nodes.model.errors import EvidenceMissing, InvalidBlock
from nodes.model.faults import EvidenceKind
from nodes.model.sequenced_block import NO_ITEMS, Commitment, FilteredBlock, SiblingEvidence
from nodes.rules import sequenced_block as blocks
from nodes.rules.derivation import Derivation
from nodes.rules.payload import decode
from nodes.rules.sequenced_block import BlockTrees
from nodes.rules.withholding import withhold
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, make_testnet, plain, seal

A, B = CHAINS[:2]
RA, RB = ROLLUPS[:2]
GENESIS = blocks.genesis_ref(CHAIN_ID)


def filtered(*, as_whole: bool) -> tuple[FilteredBlock, BlockTrees]:
    submissions = [bundle([LegPlan(chain=A), LegPlan(chain=B)]), plain(LegPlan(chain=B, key=1))]
    block, trees = seal(blocks.place(submissions), parent=GENESIS, time_ns=1)
    received = blocks.filter_block(block, trees, RA, Commitment.FIRM)
    if as_whole:
        (sibling,) = received.siblings
        whole: SiblingEvidence = replace(sibling, whole=block.contents[RB], payloads=NO_ITEMS, rows=NO_ITEMS)
        received = replace(received, siblings=(whole,))
    return received, trees


def read(block: FilteredBlock) -> int:
    verified = blocks.verify(block, chain_id=CHAIN_ID, parent=GENESIS, parent_time_ns=0)
    derived = Derivation(testnet=make_testnet(), rollup_id=RA, decode=decode).derive(verified)
    return len(derived.admitted)


@pytest.mark.parametrize("as_whole", [False, True])
@pytest.mark.parametrize("kind", EvidenceKind)
def test_no_reader_goes_on_without(kind: EvidenceKind, *, as_whole: bool) -> None:
    block, trees = filtered(as_whole=as_whole)
    assert read(block) == 1
    lacking = withhold(block, trees, kind)
    if kind is EvidenceKind.WHOLE and not as_whole:
        assert lacking is None
        return
    assert lacking is not None
    with pytest.raises((EvidenceMissing, InvalidBlock)):
        read(lacking)


@pytest.mark.parametrize("kind", [EvidenceKind.PAYLOAD, EvidenceKind.ROW, EvidenceKind.SIBLING])
def test_evidence_about_siblings_is_missing_and_not_false(kind: EvidenceKind) -> None:
    block, trees = filtered(as_whole=True)
    lacking = withhold(block, trees, kind)
    assert lacking is not None
    with pytest.raises(EvidenceMissing):
        read(lacking)


@pytest.mark.parametrize("kind", EvidenceKind)
def test_a_block_without_the_element_is_left_as_it_is(kind: EvidenceKind) -> None:
    block, trees = seal({}, parent=GENESIS, time_ns=1)
    assert withhold(blocks.filter_block(block, trees, RA, Commitment.FIRM), trees, kind) is None
