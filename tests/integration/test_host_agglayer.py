"""L1 and attesters as nodes of a host: readiness, kept ports, faults, traces. And what an attester loads."""

import asyncio
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from coincurve import PrivateKey

from coordinator.spec import ResolvedTestnet, parse_scenario, resolve
from nodes.ethereum.client import L1Block, L1Client
from nodes.evm.agglayer_contracts import MANAGER, VERIFIER
from nodes.model.errors import InvalidInput, TestbedError, UnknownName
from nodes.model.faults import AttestWrong, DelayAttestations, KillEngine, PauseL1
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.telemetry.events import NodeStarted, ResourcesSampled
from nodes.wire.control import ControlClient
from nodes.wire.trace import TraceClient
from nodes.wire.trace_records import read_records
from tests.support.hosts import config_of, running_host
from tests.support.patience import PATIENCE_S

SEND_AGAIN_S = 0.01
SCENARIO = """
[scenario]
name = "layered"
[testnet]
rollups = 1
atomicity = "agglayer"
launcher = "inprocess"
[backend]
block_interval_ms = 20
[l1]
slot_time_ms = 100
[workload]
lanes = 4
"""


def layered_testnet() -> ResolvedTestnet:
    return resolve(parse_scenario(SCENARIO, source="layered.toml"))


async def test_an_l1_with_its_contracts_is_there_and_keeps_its_address(tmp_path: Path) -> None:
    testnet = layered_testnet()
    urls: list[str] = []
    heads: list[tuple[L1Block | None, int]] = []
    for _ in range(2):
        async with running_host(config_of(testnet, tmp_path, "l1")) as (_, ready):
            (node,) = ready.nodes
            assert (node.name, node.kind, node.grpc_address) == ("l1", "l1", "")
            assert node.engine_pid > 0
            urls.append(node.rpc_url)
            async with L1Client(node.rpc_url) as l1:
                assert await l1.chain_id() == 900
                for contract in (MANAGER, VERIFIER):
                    assert len(await l1.request("eth_getCode", "0x" + contract.hex(), "latest")) > 2
                assert await l1.balance_wei(testnet.keys.treasury.address) > 0
                async with asyncio.timeout(PATIENCE_S):
                    async for head in l1.new_heads():
                        if head.number >= len(heads) + 2:
                            break
                heads.append((await l1.block(1), (await l1.head()).number))
    assert urls[0] == urls[1]
    assert heads[0][0] == heads[1][0] is not None
    assert heads[1][1] >= heads[0][1]


async def test_faults_reach_l1_and_attesters_and_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    config = config_of(layered_testnet(), tmp_path, "l1", "attester-1", "attester-2")
    async with running_host(config) as (_, ready), ControlClient(ready.control_address) as control:
        assert [node.kind for node in ready.nodes] == ["l1", "attester", "attester"]
        await control.inject("l1", PauseL1(slots=2))
        for fault in (AttestWrong(on=True), AttestWrong(on=False), DelayAttestations(delay_ms=5)):
            await control.inject("attester-2", fault)
        with pytest.raises(InvalidInput):
            await control.inject("attester-1", PauseL1(slots=2))
        with pytest.raises(InvalidInput):
            await control.inject("l1", KillEngine())
        with pytest.raises(UnknownName, match="attester-3"):
            await control.inject("attester-3", AttestWrong(on=True))


async def test_they_leave_traces_with_their_resources(tmp_path: Path) -> None:
    config = config_of(layered_testnet(), tmp_path, "l1", "attester-1")
    async with running_host(config) as (_, ready), TraceClient(ready.control_address) as traces:
        for endpoint in ready.nodes:
            has_engine = endpoint.kind == "l1"
            data = b""
            async with asyncio.timeout(PATIENCE_S):
                async for chunk in traces.collect(endpoint.name, follow=True):
                    data += chunk.records
                    events = [stamped.event for stamped in read_records(data)]
                    samples = [event for event in events if isinstance(event, ResourcesSampled)]
                    # The first sample may be older than the engine.
                    if samples and samples[-1].process_pss_bytes and (samples[-1].engine_pss_bytes or not has_engine):
                        break
            assert isinstance(events[0], NodeStarted)
            assert (events[0].node, events[0].kind) == (endpoint.name, endpoint.kind)
            assert (samples[-1].engine_pss_bytes > 0) == has_engine


def test_an_attester_loads_neither_rollup_nodes_nor_a_web_server() -> None:
    """Each is a process of its own: what it loads is paid for as often as there are attesters."""
    script = (
        "import sys, nodes.host, nodes.host.run_attester\n"
        "print([name for name in ('aiohttp', 'nodes.rollup', 'nodes.ethereum', 'web3') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


async def test_a_rollup_is_usable_before_its_aggregation_layer_is(tmp_path: Path) -> None:
    config = config_of(layered_testnet(), tmp_path, "sequencer", "rollup-1")
    assert config.rollups[0].agglayer is not None
    async with running_host(config) as (_, ready):
        assert [node.name for node in ready.nodes] == ["sequencer", "rollup-1"]


async def test_an_l1_is_rebuilt_the_same_while_others_already_send_it_transactions(tmp_path: Path) -> None:
    """Its engine listens before its journal is built again; a settlement that was sent then went into an old block."""
    testnet = layered_testnet()
    treasury = testnet.keys.treasury

    def transfer(nonce: int) -> bytes:
        unsigned = UnsignedTransaction(
            chain_id=900,
            nonce=nonce,
            gas_limit=21_000,
            to=treasury.address,
            value=1,
            max_fee_per_gas=3 * 10**9,
            max_priority_fee_per_gas=10**9,
        )
        return sign(unsigned, PrivateKey(treasury.key))

    async def hammer(url: str, raw: bytes) -> None:
        async with L1Client(url) as l1:
            while True:
                with suppress(TestbedError):
                    await l1.send_raw(raw)
                await asyncio.sleep(SEND_AGAIN_S)

    async with running_host(config_of(testnet, tmp_path, "l1")) as (_, ready), L1Client(ready.nodes[0].rpc_url) as l1:
        for nonce in range(3):
            hashes = [await l1.send_raw(transfer(nonce))]
            await l1.wait_receipts(hashes, deadline_s=PATIENCE_S)
        before = [await l1.block(number) for number in range(1, (await l1.head()).number + 1)]
        url = ready.nodes[0].rpc_url
    async with asyncio.TaskGroup() as group:
        hammering = group.create_task(hammer(url, transfer(3)))
        async with running_host(config_of(testnet, tmp_path, "l1")), L1Client(url) as l1:
            assert [await l1.block(block.number) for block in before if block is not None] == before
            async with asyncio.timeout(PATIENCE_S):
                async for _ in l1.new_heads():
                    if await l1.nonce(treasury.address) == 4:  # it is taken after all
                        break
            hammering.cancel()
