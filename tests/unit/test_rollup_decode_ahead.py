"""Decoding ahead fills the shared cache with what derivation would decode itself, and leaves small blocks alone."""

import pytest

from nodes.model.execution import DropReason, Transaction
from nodes.model.sequenced_block import Commitment, FilteredBlock
from nodes.rollup.decode_ahead import INLINE_PAYLOADS, DecodeAhead
from nodes.rollup.decode_cache import SenderCache
from nodes.rules import sequenced_block as blocks
from nodes.rules.payload import decode
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, lone, seal


def filtered(bundles: int) -> FilteredBlock:
    """A block with so many bundles over two rollups and one payload of junk."""
    pairs = [bundle([LegPlan(chain=chain, nonce=nonce) for chain in CHAINS[:2]]) for nonce in range(bundles)]
    block, trees = seal(
        blocks.place([*pairs, lone(CHAINS[0], b"junk")]), parent=blocks.genesis_ref(CHAIN_ID), time_ns=1
    )
    return blocks.filter_block(block, trees, ROLLUPS[0], Commitment.FIRM)


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, payload: bytes, chain_id: int) -> Transaction | DropReason:
        self.calls += 1
        return decode(payload, chain_id)


@pytest.mark.parametrize("bundles", [INLINE_PAYLOADS, 40])
async def test_afterwards_derivation_decodes_nothing_itself(bundles: int) -> None:
    counting = Counting()
    cache = SenderCache(decode=counting)
    ahead = DecodeAhead(cache)
    block = filtered(bundles)
    assert await ahead.decode(block) > 0
    assert counting.calls == 2 * bundles + 1
    for payload in block.content.payloads:
        assert cache(payload, CHAINS[0]) == decode(payload, CHAINS[0])
    for payload in block.siblings[0].payloads.values:
        assert cache(payload, CHAINS[1]) == decode(payload, CHAINS[1])
    assert counting.calls == 2 * bundles + 1
    ahead.close()


async def test_a_small_block_is_left_to_derivation() -> None:
    counting = Counting()
    ahead = DecodeAhead(SenderCache(decode=counting))
    assert await ahead.decode(filtered((INLINE_PAYLOADS - 1) // 2)) == 0
    assert counting.calls == 0
    ahead.close()
