"""`python -m nodes.host`: one line when ready, an orderly end on SIGTERM, and the same chain after SIGKILL."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

from nodes.model.config import HostConfig, HostReady
from nodes.model.errors import Unavailable
from nodes.model.faults import CrashAt
from nodes.model.json_form import from_json, to_json
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient
from tests.support.hosts import address_of, config_of, small_testnet, transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S


async def spawned(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "nodes.host", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ,
    )


@asynccontextmanager
async def host_process(config: HostConfig, folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, HostReady]]:
    """A host in a process of its own, usable. Killed when the block is left, if it has not ended."""
    path = folder / "host.json"
    path.write_text(json.dumps(to_json(config)))
    process = await spawned(str(path))
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)
        yield process, from_json(HostReady, json.loads(line), where="the ready line")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def gone(pids: list[int]) -> bool:
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=PATIENCE_S)
    return not alive


async def test_sigterm_ends_everything_in_order(tmp_path: Path) -> None:
    async with host_process(config_of(small_testnet(), tmp_path), tmp_path) as (process, ready):
        engines = [node.engine_pid for node in ready.nodes if node.kind == "rollup"]
        assert all(psutil.pid_exists(pid) for pid in engines)
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert (process.returncode, errors.decode()) == (0, "")
        assert await gone(engines)


async def test_after_sigkill_the_chain_goes_on_at_the_same_addresses(tmp_path: Path) -> None:
    testnet = small_testnet()
    config = config_of(testnet, tmp_path)
    async with host_process(config, tmp_path) as (process, ready):
        submission, identity = transfer_bundle(testnet)
        async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
            await sequencer.submit([submission])
        for rollup in ("rollup-1", "rollup-2"):
            assert await until_executed(address_of(ready, rollup), identity) == ["succeeded"]
        async with RollupClient(address_of(ready, "rollup-1")) as client:
            before = await client.block_hashes(first_number=0, count=10)
        process.kill()
        await process.wait()
        assert await gone([node.engine_pid for node in ready.nodes if node.engine_pid])
    async with host_process(config, tmp_path) as (_, again):
        assert [(node.name, node.grpc_address, node.rpc_url) for node in again.nodes] == [
            (node.name, node.grpc_address, node.rpc_url) for node in ready.nodes
        ]
        submission, identity = transfer_bundle(testnet, nonce=1)
        async with SequencerClient(address_of(again, "sequencer")) as sequencer:
            await sequencer.submit([submission])
        assert await until_executed(address_of(again, "rollup-1"), identity) == ["succeeded"]
        async with RollupClient(address_of(again, "rollup-1")) as client:
            after = await client.block_hashes(first_number=0, count=10)
    assert list(after[: len(before)]) == list(before)


async def test_a_process_dies_at_the_place_it_was_told_and_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    testnet = small_testnet()
    config = config_of(testnet, tmp_path)
    submission, identity = transfer_bundle(testnet)
    async with host_process(config, tmp_path) as (process, ready):
        async with ControlClient(ready.control_address) as control:
            await control.inject("sequencer", CrashAt(place="sequencer.after_commit", count=1))
        acknowledged = False
        with suppress(Unavailable):  # it may die before it takes this, or before it answers
            async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
                await sequencer.submit([submission])
                acknowledged = True
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == -signal.SIGKILL
        assert await gone([node.engine_pid for node in ready.nodes if node.engine_pid])
    async with host_process(config, tmp_path) as (_, again):
        if not acknowledged:
            async with SequencerClient(address_of(again, "sequencer")) as sequencer:
                await sequencer.submit([submission])
        assert await until_executed(address_of(again, "rollup-1"), identity) == ["succeeded"]


async def test_errors_end_with_a_message_and_a_status(tmp_path: Path) -> None:
    config = to_json(config_of(small_testnet(), tmp_path))
    cases = {
        "nowhere.json": (None, "cannot be read"),
        "cut.json": ("{", "cannot be read"),
        "missing.json": (json.dumps({**config, "testnet": {}}), "testnet.sequencer_chain_id is missing"),
        "engine.json": (json.dumps({**config, "engine_path": "/nowhere/anvil"}), "/nowhere/anvil"),
    }
    for name, (text, part) in cases.items():
        if text is not None:
            (tmp_path / name).write_text(text)
        process = await spawned(str(tmp_path / name))
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        assert process.returncode == 1, name
        assert part in errors.decode(), name
        assert "Traceback" not in errors.decode(), name


async def test_without_config_it_tells_its_usage() -> None:
    process = await spawned()
    _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 2
    assert errors.decode().startswith("usage:")
