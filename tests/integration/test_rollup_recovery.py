"""Loss and return of rollup nodes on real engines: the engine killed at seeded points, restarts, rewinds, branches."""

import asyncio
import random
from pathlib import Path

import pytest

from nodes.evm.engine import AnvilEngine
from nodes.model.faults import Fork, KillEngine, Rewind
from nodes.model.ids import Height
from nodes.telemetry.events import BlockExecuted, BlockReorged, CheckpointWritten, NodeRecovered
from tests.support.rollup_fakes import Bench
from tests.support.rollup_testnet import RealTestnet, pair, real_testnet


async def load(testnet: RealTestnet, *, nonces: range, keys: int = 4) -> None:
    """One block's worth of bundles per nonce."""
    for nonce in nonces:
        await testnet.submit(*[pair(nonce, key=key) for key in range(keys)])
        await testnet.next_block()


async def agrees_with_a_fresh_replica(testnet: RealTestnet, bench: Bench, height: int) -> None:
    """A node that nothing happened to reaches the same hashes."""
    fresh = testnet.rollup("fresh")
    async with fresh.running():
        await fresh.height(height)
        assert fresh.hashes() == bench.hashes()


@pytest.mark.parametrize("method", ["evm_mine", "anvil_reorg"])
async def test_engine_killed_inside_a_build(tmp_path: Path, method: str, rng: random.Random) -> None:
    """At a point chosen by the seed: the request is on the wire when SIGKILL comes."""
    remaining = [rng.randrange(2, 9)]

    def hook(engine: AnvilEngine) -> None:
        send = engine._build.send

        def send_and_die(name: str, params: bytes, **options: int) -> "asyncio.Future[object]":
            future = send(name, params, **options)
            if name == method and remaining:
                remaining[0] -= 1
                if not remaining[0]:
                    remaining.clear()
                    engine.kill()
            return future

        engine._build.send = send_and_die  # type: ignore[assignment, method-assign]

    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(hook=hook, checkpoint_interval_heights=3)
        async with bench.running() as node:
            await load(testnet, nonces=range(12))
            height = await testnet.head() + 1
            await bench.height(height)
            assert not remaining, "the engine was killed"
            recovered = bench.events(NodeRecovered)
            assert len(recovered) == 1
            assert node.index.transactions == 48
            await agrees_with_a_fresh_replica(testnet, bench, height)
        numbers = [event.number for event in bench.events(BlockExecuted) if not event.replayed]
        assert numbers == sorted(set(numbers))


async def test_engine_killed_on_command_under_load(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(checkpoint_interval_heights=4)
        async with bench.running() as node:
            await load(testnet, nonces=range(6))
            old = node.engine_pid
            await node.inject(KillEngine())
            await load(testnet, nonces=range(6, 10))
            height = await testnet.head() + 1
            await bench.height(height)
            assert node.engine_pid not in (0, old)
            assert node.index.transactions == 40
            assert bench.events(NodeRecovered)[0].duration_ns > 0
            await agrees_with_a_fresh_replica(testnet, bench, height)


@pytest.mark.parametrize("interval", [3, 500])
async def test_restart_from_the_directory(tmp_path: Path, interval: int) -> None:
    async with real_testnet(tmp_path) as testnet:
        first = testnet.rollup(checkpoint_interval_heights=interval)
        async with first.running():
            await load(testnet, nonces=range(8))
            await first.height(await testnet.head() + 1)
            before = first.hashes()
        await load(testnet, nonces=range(8, 10))
        again = testnet.rollup(checkpoint_interval_heights=interval)
        async with again.running() as node:
            assert again.hashes()[: len(before)] == before
            height = await testnet.head() + 1
            await again.height(height)
            assert node.index.transactions == 40
            await agrees_with_a_fresh_replica(testnet, again, height)
        (recovered,) = again.events(NodeRecovered)
        assert (recovered.checkpoint_height > 0) == (interval == 3)
        assert bool(first.events(CheckpointWritten)) == (interval == 3)
        replayed = [event.number for event in again.events(BlockExecuted) if event.replayed]
        assert replayed == list(range(len(before) - len(replayed), len(before)))


@pytest.mark.parametrize("back", [2, 9])
async def test_rewind_within_and_beyond_the_window(tmp_path: Path, back: int) -> None:
    """The engine can go back 4 blocks by itself; beyond, a checkpoint is loaded."""
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(rewind_window=4, checkpoint_interval_heights=3)
        async with bench.running() as node:
            await load(testnet, nonces=range(12))
            await bench.height(await testnet.head() + 1)
            before, pid = bench.hashes(), node.engine_pid
            target = node.index.block_by_number(node.index.head.number - back)
            assert target is not None
            await node.inject(Rewind(height=target.height))
            await bench.traced(NodeRecovered)
            assert bench.hashes() == before
            assert (node.engine_pid == pid) == (back == 2)
            await load(testnet, nonces=range(12, 14))
            height = await testnet.head() + 1
            await bench.height(height)
            await agrees_with_a_fresh_replica(testnet, bench, height)
        assert [event.to_height for event in bench.events(BlockReorged)] == [target.height]


@pytest.mark.parametrize("back", [1, 9])
async def test_follows_onto_another_branch(tmp_path: Path, back: int) -> None:
    async with real_testnet(tmp_path) as testnet:
        bench = testnet.rollup(rewind_window=4, checkpoint_interval_heights=3)
        async with bench.running() as node:
            await load(testnet, nonces=range(12))
            await bench.height(await testnet.head() + 1)
            block = node.index.block_by_number(node.index.head.number - back)
            assert block is not None
            await testnet.node.inject(Fork(height=Height(block.height)))
            await bench.traced(BlockReorged)
            # What the abandoned blocks held is sequenced again, in fewer blocks.
            height = await testnet.head() + 2
            await bench.height(height)
            assert node.index.transactions == 48
            await agrees_with_a_fresh_replica(testnet, bench, height)


async def test_reconnects_onto_another_branch(tmp_path: Path) -> None:
    """The branch changes while the node is away; its directory holds the other one."""
    async with real_testnet(tmp_path) as testnet:
        first = testnet.rollup(checkpoint_interval_heights=3)
        async with first.running() as node:
            await load(testnet, nonces=range(8))
            await first.height(await testnet.head() + 1)
            block = node.index.block_by_number(node.index.head.number - 2)
            assert block is not None
        await testnet.node.inject(Fork(height=Height(block.height)))
        await load(testnet, nonces=range(8, 9))
        again = testnet.rollup(checkpoint_interval_heights=3)
        async with again.running() as node:
            height = await testnet.head() + 1
            await again.height(height)
            assert node.index.transactions == 36
            await agrees_with_a_fresh_replica(testnet, again, height)
