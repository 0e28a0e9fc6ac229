"""What the feed of a sequencer keeps in memory."""

from nodes.rules.bundle import row_bytes
from nodes.rules.sequenced_block import genesis_ref, place
from nodes.sequencer.feed import ServedBlock
from tests.support.crafting import CHAIN_ID, CHAINS, LegPlan, bundle, seal


def test_rows_count_under_every_rollup_they_touch() -> None:
    submitted = bundle([LegPlan(chain=CHAINS[0]), LegPlan(chain=CHAINS[1]), LegPlan(chain=CHAINS[2])])
    block, trees = seal(place([submitted]), parent=genesis_ref(CHAIN_ID), time_ns=1)
    payload_bytes = sum(len(leg.payload) for leg in submitted.legs)
    assert ServedBlock.of(block, trees).size_bytes == payload_bytes + 3 * row_bytes(3)
