"""A settler's process is killed at the places where it hurts, while the L1 goes on; what it settled counts once."""

import asyncio
import signal
import sys
from pathlib import Path

from nodes.agglayer.l1_view import L1View
from tests.support.l1 import l1_config, running_l1
from tests.support.patience import PATIENCE_S
from tests.support.settling import AGGREGATOR, Rollups, l1_accounts

PLACES = (
    "settlement.after_journal:2",
    "settlement.after_signed:1",
    "settlement.after_send:1",
    "settlement.after_included:1",
    "settlement.before_final:1",
)


async def test_kills_between_all_steps_settle_every_batch_once(tmp_path: Path) -> None:
    """One directory throughout: each process goes on where the one before was killed, and the last one ends."""
    config = l1_config(l1_accounts(), slot_time_ms=40)
    async with running_l1(config, tmp_path / "l1") as l1:
        for place in PLACES:
            assert await _run(l1.node.rpc_url, tmp_path / "settler", place) == -signal.SIGKILL, place
        assert await _run(l1.node.rpc_url, tmp_path / "settler", "") == 0
        assert await l1.client.nonce(AGGREGATOR.address) == 2
        view = L1View(l1.client, networks=Rollups().all)
        async with asyncio.TaskGroup() as group:
            group.create_task(view.run())
            await view.wait_ready()
            assert [view.settled(network).last_height for network in Rollups().all] == [2, 2]
            view.stop()


async def _run(url: str, directory: Path, specification: str) -> int:
    arguments = ("-m", "tests.support.settler_process", url, str(directory), specification)
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
