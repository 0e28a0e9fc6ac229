"""A sequencer that withholds each element of a proof in turn: the reader stalls, nothing splits, and it goes on."""

from pathlib import Path

import pytest

from nodes.model.faults import EvidenceKind, WithholdEvidence
from nodes.telemetry.events import BlockExecuted, ReaderStalled
from tests.support.crafting import LegPlan, plain
from tests.support.rollup_testnet import HERE, THERE, RealTestnet, pair, real_testnet

BLOCKS = 3


async def busy_block(testnet: RealTestnet, nonce: int) -> None:
    """A bundle on both rollups among strangers, so that proofs are not empty."""
    strangers = [LegPlan(chain=chain, key=key, nonce=nonce) for key in range(1, 5) for chain in (HERE, THERE)]
    await testnet.submit(*[plain(plan) for plan in strangers], pair(nonce))
    await testnet.next_block()


@pytest.mark.parametrize("kind", EvidenceKind)
async def test_withheld_evidence_stalls_and_splits_nothing(tmp_path: Path, kind: EvidenceKind) -> None:
    async with real_testnet(tmp_path) as testnet:
        here, there = testnet.rollup("here-1"), testnet.rollup("there-1", chain=THERE)
        async with here.running() as node, there.running() as sibling:
            await busy_block(testnet, 0)
            await testnet.node.inject(WithholdEvidence(kind=kind, blocks=BLOCKS))
            await busy_block(testnet, 1)
            await busy_block(testnet, 2)
            height = await testnet.head() + 1
            await here.height(height)
            await there.height(height)
            stalls = here.events(ReaderStalled) + there.events(ReaderStalled)
            # A block that was served into a stream that its reader had left counts as served too.
            assert 1 <= len(stalls) <= BLOCKS
            assert {stall.source for stall in stalls} == {"source-0"}
            assert (await node.status()).stalled == (await sibling.status()).stalled == ""
            assert node.index.transactions == sibling.index.transactions == 15
        for bench in (here, there):
            assert not any(event.dropped for event in bench.events(BlockExecuted)), "withheld is not absent"


async def test_a_stalled_reader_says_so_and_asks_the_next_source(tmp_path: Path) -> None:
    """Both sources serve the same chain; the first asked withholds."""
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(sources=[testnet.client, testnet.client])
        async with bench.running() as node:
            await testnet.node.inject(WithholdEvidence(kind=EvidenceKind.SIBLING, blocks=1))
            await busy_block(testnet, 0)
            stall = await bench.traced(ReaderStalled)
            assert stall.source == "source-0"
            assert "asking another source" in stall.reason
            await bench.height(await testnet.head() + 1)
            assert node.index.transactions == 5
