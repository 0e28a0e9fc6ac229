"""What the lazy backend promises beyond the contract of every backend."""

from pathlib import Path

from nodes.telemetry.clock import ManualClock
from tests.support.crafting import CHAINS, ROLLUPS, LegPlan, bundle
from tests.support.sequencers import make_node, sequenced_height, serving, submit


async def test_a_full_block_does_not_wait_for_the_clock(tmp_path: Path) -> None:
    bundles = [bundle([LegPlan(chain=chain, nonce=nonce) for chain in CHAINS[:2]]) for nonce in range(40)]
    clock = ManualClock()  # its ticks never come
    async with serving(make_node(tmp_path, clock=clock, block_bytes_max=2_000)) as client:
        await submit(client, *bundles)
        await sequenced_height(client, ROLLUPS[0], bundles[30].legs[0].payload)
