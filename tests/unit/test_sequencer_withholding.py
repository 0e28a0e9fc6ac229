"""A withheld element is gone, the rest of the block is as it was, and no reader takes the block for complete."""

import pytest

from nodes.model.errors import EvidenceMissing, InvalidBlock
from nodes.model.faults import EvidenceKind
from nodes.model.sequenced_block import Commitment, FilteredBlock
from nodes.rules import sequenced_block as blocks
from nodes.rules.derivation import Derivation
from nodes.rules.payload import decode
from nodes.rules.withholding import withhold
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, make_testnet, plain, seal

A, B = CHAINS[:2]
RA, RB = ROLLUPS[:2]
GENESIS = blocks.genesis_ref(CHAIN_ID)


def filtered() -> FilteredBlock:
    submissions = [bundle([LegPlan(chain=A), LegPlan(chain=B)]), plain(LegPlan(chain=B, key=1))]
    block, trees = seal(blocks.place(submissions), parent=GENESIS, time_ns=1)
    return blocks.filter_block(block, trees, RA, Commitment.FIRM)


def read(block: FilteredBlock) -> int:
    verified = blocks.verify(block, chain_id=CHAIN_ID, parent=GENESIS, parent_time_ns=0)
    derived = Derivation(testnet=make_testnet(), rollup_id=RA, decode=decode).derive(verified)
    return len(derived.admitted)


@pytest.mark.parametrize("kind", EvidenceKind)
def test_no_reader_goes_on_without(kind: EvidenceKind) -> None:
    block = filtered()
    assert read(block) == 1
    lacking = withhold(block, kind)
    assert lacking is not None
    with pytest.raises((EvidenceMissing, InvalidBlock)):
        read(lacking)


@pytest.mark.parametrize("kind", [EvidenceKind.PAYLOAD, EvidenceKind.ROW, EvidenceKind.SIBLING])
def test_evidence_about_siblings_is_missing_and_not_false(kind: EvidenceKind) -> None:
    lacking = withhold(filtered(), kind)
    assert lacking is not None
    with pytest.raises(EvidenceMissing):
        read(lacking)


@pytest.mark.parametrize("kind", EvidenceKind)
def test_a_block_without_the_element_is_left_as_it_is(kind: EvidenceKind) -> None:
    block, trees = seal({}, parent=GENESIS, time_ns=1)
    assert withhold(blocks.filter_block(block, trees, RA, Commitment.FIRM), kind) is None
