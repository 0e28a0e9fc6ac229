"""One process with all nodes: what a host serves, records and refuses, and how it ends."""

import asyncio
from dataclasses import replace
from pathlib import Path

import aiohttp
import psutil
import pytest

from nodes.host import Host
from nodes.model.errors import EngineFailure, InvalidInput, InvalidScenario, TestbedError, Unavailable, UnknownName
from nodes.model.faults import KillEngine
from nodes.telemetry.clock import boot_id
from nodes.telemetry.events import BlockExecuted, BlockSequenced, Event, NodeStarted, ResourcesSampled
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient
from nodes.wire.trace import TraceClient
from nodes.wire.trace_records import read_records
from tests.support.hosts import address_of, config_of, running_host, small_testnet, transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S


async def test_a_bundle_goes_through_all_nodes_of_a_host(tmp_path: Path) -> None:
    testnet = small_testnet()
    async with running_host(config_of(testnet, tmp_path)) as (_, ready):
        assert [(node.name, node.kind) for node in ready.nodes] == [
            ("sequencer", "sequencer"),
            ("rollup-1", "rollup"),
            ("rollup-2", "rollup"),
        ]
        submission, identity = transfer_bundle(testnet)
        async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
            (ticket,) = await sequencer.submit([submission])
        assert ticket.accepted
        for rollup in ("rollup-1", "rollup-2"):
            assert await until_executed(address_of(ready, rollup), identity) == ["succeeded"]


async def test_users_reach_each_rollup_by_its_url(tmp_path: Path) -> None:
    testnet = small_testnet()
    async with running_host(config_of(testnet, tmp_path)) as (_, ready), aiohttp.ClientSession() as session:
        for node, rollup in zip(ready.nodes[1:], testnet.rollups, strict=True):
            request = {"jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": []}
            async with session.post(node.rpc_url, json=request) as answer:
                assert int((await answer.json())["result"], 16) == rollup.chain_id
            async with RollupClient(node.grpc_address) as client:
                assert (await client.status()).rpc_url == node.rpc_url


async def test_control_answers_readiness_clocks_faults_and_stop(tmp_path: Path) -> None:
    config = config_of(small_testnet(), tmp_path)
    async with running_host(config) as (_, ready), ControlClient(ready.control_address) as control:
        assert await control.wait_ready(timeout_s=PATIENCE_S) == ready
        clock = await control.read_clock()
        assert clock.boot_id == boot_id()
        with pytest.raises(UnknownName, match=r"rollup-9.*did you mean"):
            await control.inject("rollup-9", KillEngine())
        with pytest.raises(InvalidInput):
            await control.inject("sequencer", KillEngine())
        await control.stop()


async def test_a_lost_engine_is_replaced(tmp_path: Path) -> None:
    testnet = small_testnet()
    async with running_host(config_of(testnet, tmp_path)) as (host, ready):
        engine = psutil.Process(ready.nodes[1].engine_pid)
        await host.inject("rollup-1", KillEngine())
        await asyncio.to_thread(psutil.wait_procs, [engine], timeout=PATIENCE_S)
        assert not engine.is_running()
        submission, identity = transfer_bundle(testnet)
        async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
            await sequencer.submit([submission])
        assert await until_executed(address_of(ready, "rollup-1"), identity) == ["succeeded"]


async def test_every_node_leaves_a_trace(tmp_path: Path) -> None:
    testnet = small_testnet()
    config = replace(config_of(testnet, tmp_path), resource_interval_s=0.05)
    async with running_host(config) as (_, ready), TraceClient(ready.control_address) as traces:
        async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
            await sequencer.submit([transfer_bundle(testnet)[0]])
        for endpoint in ready.nodes:
            data = b""
            async with asyncio.timeout(PATIENCE_S):
                async for chunk in traces.collect(endpoint.name, follow=True):
                    data += chunk.records
                    events = [stamped.event for stamped in read_records(data)]
                    if is_complete(events, endpoint.kind):
                        break
            assert isinstance(events[0], NodeStarted)
            assert (events[0].node, events[0].kind) == (endpoint.name, endpoint.kind)


def is_complete(events: list[Event], kind: str) -> bool:
    """Whether a node has shown all that its kind records: work, memory of the process, and of its engine."""
    samples = [event for event in events if isinstance(event, ResourcesSampled)]
    if kind == "sequencer":
        return any(isinstance(event, BlockSequenced) for event in events) and any(s.process_pss_bytes for s in samples)
    worked = any(isinstance(event, BlockExecuted) for event in events)
    return worked and any(sample.engine_pss_bytes and sample.wire_bytes_in for sample in samples)


async def test_ports_and_chain_are_kept_over_a_restart(tmp_path: Path) -> None:
    testnet = small_testnet()
    hashes = []
    addresses = []
    for nonce in range(2):
        async with running_host(config_of(testnet, tmp_path)) as (_, ready):
            addresses.append([(node.grpc_address, node.rpc_url) for node in ready.nodes] + [ready.control_address])
            submission, identity = transfer_bundle(testnet, nonce=nonce)
            async with SequencerClient(address_of(ready, "sequencer")) as sequencer:
                await sequencer.submit([submission])
            assert await until_executed(address_of(ready, "rollup-2"), identity) == ["succeeded"]
            async with RollupClient(address_of(ready, "rollup-2")) as rollup:
                hashes.append(await rollup.block_hashes(first_number=0, count=10))
    assert addresses[0] == addresses[1]
    assert list(hashes[1][: len(hashes[0])]) == list(hashes[0])
    assert len(hashes[1]) == len(hashes[0]) + 1


async def test_nodes_find_each_other_whoever_starts_first(tmp_path: Path) -> None:
    testnet = small_testnet()
    rollups = config_of(testnet, tmp_path, "rollup-1", "rollup-2", name="host-1")
    sequencer = config_of(testnet, tmp_path, "sequencer", name="host-2")
    async with running_host(rollups) as (_, ready), running_host(sequencer) as (_, other):
        async with SequencerClient(address_of(other, "sequencer")) as client:
            submission, identity = transfer_bundle(testnet)
            await client.submit([submission])
        assert await until_executed(address_of(ready, "rollup-1"), identity) == ["succeeded"]


async def failure_of(host: Host) -> TestbedError:
    waiting = asyncio.ensure_future(host.wait_ready())
    with pytest.raises(TestbedError) as caught:
        await asyncio.wait_for(host.run(), PATIENCE_S)
    with pytest.raises(type(caught.value)):
        await waiting
    return caught.value


async def test_what_breaks_one_node_ends_the_host_and_is_named(tmp_path: Path) -> None:
    config = config_of(small_testnet(), tmp_path)
    broken = replace(config.rollups[1], genesis="not json")
    error = await failure_of(Host(replace(config, rollups=(config.rollups[0], broken))))
    assert isinstance(error, EngineFailure)
    assert "anvil" in str(error)


async def test_unknown_backend_bad_option_missing_engine(tmp_path: Path) -> None:
    config = config_of(small_testnet(), tmp_path)
    sequencer = config.sequencers[0]
    error = await failure_of(Host(replace(config, sequencers=(replace(sequencer, backend="lasy"),))))
    assert "unknown backend 'lasy'; did you mean 'lazy'?" in str(error)
    error = await failure_of(Host(replace(config, sequencers=(replace(sequencer, options={"block_interval_ms": 1}),))))
    assert isinstance(error, InvalidScenario)
    error = await failure_of(Host(replace(config, engine_path="/nowhere/anvil")))
    assert "/nowhere/anvil" in str(error)


async def test_a_port_in_use_is_named_with_the_node(tmp_path: Path) -> None:
    config = config_of(small_testnet(), tmp_path)
    taken = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    async with taken:
        port = taken.sockets[0].getsockname()[1]
        rollup = replace(config.rollups[0], rpc_port=port)
        error = await failure_of(Host(replace(config, rollups=(rollup,))))
    assert isinstance(error, Unavailable)
    assert "rollup-1" in str(error)
    assert str(port) in str(error)


async def test_a_host_can_be_stopped_before_it_is_ready(tmp_path: Path) -> None:
    host = Host(config_of(small_testnet(), tmp_path))
    host.stop()
    await asyncio.wait_for(host.run(), PATIENCE_S)
    with pytest.raises(Unavailable, match="has ended"):
        await host.wait_ready()
