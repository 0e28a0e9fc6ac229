"""What the lazy backend promises beyond the contract of every backend."""

import asyncio
from pathlib import Path

from tests.support.crafting import CHAINS, ROLLUPS, LegPlan, bundle
from tests.support.sequencers import make_node, sequenced_height, serving, submit

SLOW_MS = 12_000


async def test_a_full_block_does_not_wait_for_the_clock(tmp_path: Path) -> None:
    bundles = [bundle([LegPlan(chain=chain, nonce=nonce) for chain in CHAINS[:2]]) for nonce in range(40)]
    async with serving(make_node(tmp_path, block_interval_ms=SLOW_MS, block_bytes_max=2_000)) as client:
        async with asyncio.timeout(SLOW_MS / 2_000):
            await submit(client, *bundles)
            await sequenced_height(client, ROLLUPS[0], bundles[30].legs[0].payload)
