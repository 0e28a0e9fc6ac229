"""Kill -9 of a rollup node's process at the instants that matter, under load, and its return from its directory."""

import asyncio
import random
import signal
import sys
from pathlib import Path

import pytest

from nodes.telemetry.events import BlockExecuted, NodeRecovered
from nodes.wire.trace_records import read_records
from tests.support.rollup_fakes import WAIT_S
from tests.support.rollup_process import TRACE
from tests.support.rollup_testnet import RealTestnet, pair, real_testnet

PLACES = ("rollup.after_build", "rollup.after_journal", "rollup.after_trace", "rollup.before_checkpoint")
ROOT = Path(__file__).resolve().parents[2]


async def killed_at(testnet: RealTestnet, directory: Path, specification: str) -> int:
    """Run a node under load until it dies at a crash point; the next nonce of the load."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.rollup_process", str(directory), testnet.client.address, specification,
        stdout=asyncio.subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    nonce = 0
    try:
        assert process.stdout is not None
        async with asyncio.timeout(WAIT_S):
            assert await process.stdout.readline() == b"ready\n"
            while process.returncode is None:
                await testnet.submit(*[pair(nonce, key=key) for key in range(4)])
                await testnet.next_block()
                nonce += 1
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == -signal.SIGKILL
    return nonce


@pytest.mark.parametrize("place", PLACES)
async def test_returns_to_identical_hashes(tmp_path: Path, place: str, rng: random.Random) -> None:
    count = 2 if place == "rollup.before_checkpoint" else rng.randrange(3, 20)
    async with real_testnet(tmp_path) as testnet:
        directory = tmp_path / "here-1"
        directory.mkdir()
        nonces = await killed_at(testnet, directory, f"{place}:{count}")
        before = [stamped.event for stamped in read_records((directory / TRACE).read_bytes())]
        first = {event.height: event.hash for event in before if isinstance(event, BlockExecuted)}
        again = testnet.rollup("here-1", checkpoint_interval_heights=3)
        async with again.running() as node:
            height = await testnet.head() + 1
            await again.height(height)
            assert node.index.transactions == 4 * nonces, "lost 0, and nothing twice"
            fresh = testnet.rollup("fresh")
            async with fresh.running():
                await fresh.height(height)
                assert fresh.hashes() == again.hashes()
        assert again.events(NodeRecovered)
        second = {event.height: event.hash for event in again.events(BlockExecuted)}
        assert all(second.get(height, known) == known for height, known in first.items())
        # Every block is in the trace of one life or the other, so a collector misses none.
        assert {*first.values(), *second.values()} >= {event.hash for event in fresh.events(BlockExecuted)}
