"""A whole testnet in this process: start, use, stop, resume, and what happens when something breaks."""

import asyncio
import shutil
from pathlib import Path

import pytest

from coordinator.launch import LAUNCHERS, LaunchOptions, RunningTestnet, launcher_named, load_endpoints
from coordinator.spec import load_testnet
from nodes.evm.anvil import find_anvil
from nodes.model.errors import EngineFailure, InvalidInput, Unavailable, UnknownName
from nodes.model.faults import CrashAt
from nodes.model.status import RollupStatus
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient
from tests.support.hosts import small_testnet, transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S

LAUNCHER = LAUNCHERS["inprocess"]


async def send(running: RunningTestnet, *, nonce: int) -> None:
    """One bundle, until both its rollups executed it."""
    submission, identity = transfer_bundle(running.testnet, nonce=nonce)
    async with SequencerClient(running.sequencer_address) as sequencer:
        (ticket,) = await sequencer.submit([submission])
    assert ticket.accepted
    for rollup in running.rollups[:2]:
        for address in (rollup.grpc_address, *(node.grpc_address for node in rollup.replicas)):
            assert await until_executed(address, identity) == ["succeeded"]


async def status(running: RunningTestnet, node: str) -> RollupStatus:
    async with RollupClient(running.endpoint(node).grpc_address) as client:
        return await client.status()


async def test_replicas_agree_and_a_stopped_testnet_goes_on(tmp_path: Path) -> None:
    testnet = small_testnet(replicas=2)
    async with LAUNCHER.start(testnet, tmp_path) as running:
        assert load_endpoints(tmp_path).rollups == tuple(running.rollups)
        await send(running, nonce=0)
        first = [await status(running, name) for name in ("rollup-1", "rollup-1-replica-2")]
        assert first[0].heads.latest == first[1].heads.latest
        assert first[0].heads.latest.number == 1
        urls = [rollup.rpc_url for rollup in running.rollups]
    with pytest.raises(InvalidInput, match="no testnet runs"):
        load_endpoints(tmp_path)
    async with LAUNCHER.start(load_testnet(tmp_path), tmp_path) as running:
        assert [rollup.rpc_url for rollup in running.rollups] == urls
        await send(running, nonce=1)
        assert (await status(running, "rollup-1")).heads.latest.number == 2


async def test_faults_by_name(tmp_path: Path) -> None:
    async with LAUNCHER.start(small_testnet(), tmp_path) as running:
        await running.kill("rollup-1", "engine")
        assert await running.wait_recovered("rollup-1") > 0
        await send(running, nonce=0)
        with pytest.raises(InvalidInput, match="kill the experiment"):
            await running.kill("rollup-1")
        with pytest.raises(InvalidInput, match="kill the experiment"):
            await running.inject("sequencer", CrashAt(place="sequencer.after_commit", count=1))
        with pytest.raises(UnknownName, match="rollup-3"):
            await running.kill("rollup-3", "engine")
        with pytest.raises(UnknownName, match="prozess"):
            await running.kill("rollup-1", "prozess")


async def test_a_node_that_breaks_for_good_ends_the_block_with_its_cause(tmp_path: Path) -> None:
    engine = tmp_path / "anvil"
    shutil.copy(find_anvil(), engine)

    async def lose_engine_and_binary() -> None:
        options = LaunchOptions(engine_path=str(engine))
        async with LAUNCHER.start(small_testnet(), tmp_path / "run", options) as running:
            engine.unlink()
            await running.kill("rollup-2", "engine")
            await asyncio.Event().wait()  # cancelled by the launcher

    with pytest.raises(EngineFailure, match=r"anvil .* ended with status"):
        await asyncio.wait_for(lose_engine_and_binary(), PATIENCE_S)


async def test_a_directory_has_one_coordinator_at_a_time(tmp_path: Path) -> None:
    async with LAUNCHER.start(small_testnet(), tmp_path):
        with pytest.raises(Unavailable, match=r"runs in .* already"):
            await LAUNCHER.start(small_testnet(), tmp_path).__aenter__()


async def test_an_error_of_the_block_leaves_it_as_it_came(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with LAUNCHER.start(small_testnet(), tmp_path):
            _ = 1 // 0


async def test_data_on_a_cluster_is_not_taken_for_an_empty_testnet(tmp_path: Path) -> None:
    (tmp_path / "machines.json").write_text("{}")
    with pytest.raises(InvalidInput, match="--ray-address"):
        await LAUNCHERS["ray"].start(small_testnet(), tmp_path).__aenter__()


def test_unknown_launcher() -> None:
    with pytest.raises(UnknownName, match=r"unknown launcher 'rai'; did you mean 'ray'"):
        launcher_named("rai")
