"""The whole service over a real L1 with the real contracts and attesters over gRPC: deposits in, certificates settled,
their exits claimed by the other network; killed at the places where it hurts.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from nodes.agglayer.attester import AttesterNode
from nodes.agglayer.service import AgglayerNode
from nodes.ethereum.client import L1Client
from nodes.evm.agglayer_contracts import BRIDGE, bridge_asset_call
from nodes.evm.agglayer_genesis import l1_agglayer_accounts
from nodes.model.agglayer import (
    ETH,
    MAINNET,
    BridgeExit,
    Certificate,
    CertificateHeight,
    GlobalIndex,
    ImportedBridgeExit,
    LeafType,
    NetworkId,
    global_index_of,
)
from nodes.model.config import AgglayerNodeConfig, AttesterNodeConfig
from nodes.model.errors import InvalidInput, Unavailable, UnknownName
from nodes.model.faults import AttestWrong, KillEngine
from nodes.model.ids import Address
from nodes.model.json_form import to_json
from nodes.ports import CertificateService
from nodes.rules.exit_tree import EMPTY_METADATA_HASH
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import EvidenceFound, SettlementMoved
from nodes.telemetry.tracer import DiscardingTracer, MemoryTracer
from nodes.wire.certificates import CertificateClient
from nodes.wire.channel import server
from tests.integration.test_attested_prover import ATTESTERS
from tests.support.agglayer_process import service_node
from tests.support.agglayer_world import transfer
from tests.support.certificates import CHAIN_ID, Chain, params
from tests.support.l1 import FEES, RunningL1, account, free_port, key_of, l1_config, running_l1
from tests.support.patience import PATIENCE_S

HOST = "127.0.0.1"
PARAMS = params(2, has_verdicts=False, attesters=ATTESTERS[:3], threshold=2)
AGGREGATOR, USER = account(1), account(3)
DEPOSIT_WEI = 10**18
RED, BLUE = NetworkId(1), NetworkId(2)
PLACES = (
    "agglayer.after_certificate:1",
    "agglayer.after_proof:1",
    "agglayer.after_batch:1",
    "settlement.after_send:1",
    "agglayer.after_event:1",
)


@asynccontextmanager
async def environment(
    directory: Path, *, slot_time_ms: int = 60
) -> AsyncIterator[tuple[RunningL1, AgglayerNodeConfig]]:
    """An L1 with the contracts, three attesters, and what a service of them is told."""
    accounts = l1_agglayer_accounts(
        PARAMS, trusted_aggregator=AGGREGATOR.address, open_after_blocks=1_000, withdrawal_delay_blocks=5
    )
    async with AsyncExitStack() as stack:
        l1 = await stack.enter_async_context(running_l1(l1_config(accounts, slot_time_ms=60), directory / "l1"))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        endpoints = []
        for number, key in enumerate(ATTESTERS[:3]):
            config = AttesterNodeConfig(name=f"attester-{number}", key=key.to_hex(), params=PARAMS, chain_id=CHAIN_ID)
            node = AttesterNode(config, clock=SystemClock(), tracer=DiscardingTracer())
            if number == 0:
                # It is always there, and always wrong.
                await node.inject(AttestWrong(on=True))
            group.create_task(node.run())
            stack.callback(node.stop)
            endpoints.append(
                (await stack.enter_async_context(server(node.servicers, name=config.name, host=HOST, port=0))).address
            )
        yield (
            l1,
            AgglayerNodeConfig(
                name="agglayer-0",
                params=PARAMS,
                sequencer_endpoints=(f"{HOST}:1",),
                backend="lazy",
                finality_options={},
                l1_rpc_url=l1.node.rpc_url,
                prover="attested",
                prover_options={},
                attester_endpoints=tuple(endpoints),
                resolver_key=key_of(9).to_hex(),
                settlement_key=key_of(1).to_hex(),
                oracle_key=key_of(4).to_hex(),
            ),
        )


async def deposit(client: L1Client, dest: NetworkId, nonce: int) -> BridgeExit:
    """Ether to a rollup; the exit it makes on L1."""
    call = bridge_asset_call(
        dest_network=dest, dest_address=USER.address, amount=DEPOSIT_WEI, token=bytes(20), updates_global_exit_root=True
    )
    signed = USER.sign_call(
        to=BRIDGE, calldata=call, nonce=nonce, gas_limit=1_000_000, fees=FEES, value_wei=DEPOSIT_WEI
    )
    await client.send_raw(signed.raw)
    return BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=ETH,
        dest_network=dest,
        dest_address=Address(USER.address),
        amount=DEPOSIT_WEI,
        metadata_hash=EMPTY_METADATA_HASH,
    )


async def claimed(service: CertificateService, bridge_exit: BridgeExit, index: GlobalIndex) -> ImportedBridgeExit:
    """The exit with its proof, once L1 covers it."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            async for _ in service.follow_network(RED):
                proofs = await service.claim_proofs([index])
                if index in proofs.claims:
                    return ImportedBridgeExit(bridge_exit=bridge_exit, claim=proofs.claims[index], global_index=index)


async def until_settled(service: CertificateService, network: NetworkId, height: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        async for progress in service.follow_network(network):
            assert progress.latest is None or not progress.latest.error, progress.latest.error
            if progress.settled is not None and progress.settled.height >= height:
                return


@asynccontextmanager
async def running(node: AgglayerNode) -> AsyncIterator[AgglayerNode]:
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run())
        try:
            await node.wait_ready()
            yield node
        finally:
            node.stop()


async def test_deposits_become_exits_that_the_other_network_imports(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    async with environment(tmp_path) as (l1, config):
        red, blue = Chain(RED), Chain(BLUE)
        async with running(service_node(config, tmp_path / "service", tracer=tracer)) as node:
            paid = await deposit(l1.client, RED, 0)
            first = red.certificate([transfer(BLUE, 7)], [await claimed(node.view, paid, global_index_of(MAINNET, 0))])
            await node.view.submit_certificate(first)
            await until_settled(node.view, RED, 0)
            red.advance(first)
            # The exit is under a root on L1 now.
            moved = await claimed(node.view, transfer(BLUE, 7), global_index_of(RED, 0))
            second = blue.certificate([transfer(RED, 3)], [moved])
            third = red.certificate([transfer(0, 5)])
            await node.view.submit_certificate(second)
            await node.view.submit_certificate(third)
            await until_settled(node.view, BLUE, 0)
            await until_settled(node.view, RED, 1)
            with pytest.raises(InvalidInput, match="cannot have the fault KillEngine"):
                await node.inject(KillEngine())
        with pytest.raises(Unavailable):
            await node.wait_ready()
        assert node.stage_cpu_ns["certificates witness"] > 0
        events = [stamped.event for stamped in tracer.stamped]
        included = [event for event in events if isinstance(event, SettlementMoved) and event.step == "included"]
        assert sum(len(event.certificate_ids) for event in included) == 3
        assert all(event.gas_used for event in included)
        assert any(isinstance(event, EvidenceFound) and "attester" in event.accused for event in events)
        # Everything is there again after an orderly restart, final trees and those on their way.
        async with running(service_node(config, tmp_path / "service")) as again:
            assert await again.view.certificate(RED, CertificateHeight(1)) == third
            back = await claimed(again.view, transfer(RED, 3), global_index_of(BLUE, 0))
            red.advance(third)
            await again.view.submit_certificate(red.certificate([], [back]))
            await until_settled(again.view, RED, 2)


async def test_the_oracle_asks_the_rollups_for_its_nonces(tmp_path: Path) -> None:
    asked: dict[str, asyncio.Event] = {"/rollup-1": asyncio.Event(), "/rollup-2": asyncio.Event()}

    async def answer(request: web.Request) -> web.Response:
        (called,) = orjson.loads(await request.read())
        assert called["method"] == "eth_getTransactionCount"
        assert called["params"][0] == "0x" + account(4).address.hex()
        asked[request.path].set()
        return web.json_response([{"jsonrpc": "2.0", "id": called["id"], "result": "0x7"}])

    app = web.Application()
    app.router.add_post("/{rollup}", answer)
    async with environment(tmp_path) as (l1, config), TestServer(app) as rollups:
        urls = {path[1:]: str(rollups.make_url(path)) for path in asked}
        with pytest.raises(InvalidInput, match="no URL of rollup-2; name all, or none"):
            service_node(replace(config, rollup_rpc_urls={"rollup-1": urls["rollup-1"]}), tmp_path / "service")
        async with running(service_node(replace(config, rollup_rpc_urls=urls), tmp_path / "service")):
            await deposit(l1.client, RED, 0)
            async with asyncio.timeout(PATIENCE_S):
                for was_asked in asked.values():
                    await was_asked.wait()


async def test_a_service_killed_at_every_step_settles_each_certificate_once(tmp_path: Path) -> None:
    """One directory throughout: each process goes on where the one before was killed, with one certificate more."""
    port = free_port()
    async with environment(tmp_path) as (l1, config):
        file = tmp_path / "config.json"
        file.write_bytes(orjson.dumps(to_json(config)))
        paid = await deposit(l1.client, RED, 0)
        red, certificates = Chain(RED), list[Certificate]()
        async with running(service_node(config, tmp_path / "other")) as node:
            claim = await claimed(node.view, paid, global_index_of(MAINNET, 0))
        for at, place in enumerate((*PLACES, "")):
            # A client of its own for each process: one that failed to connect waits before it tries again.
            async with CertificateClient(f"{HOST}:{port}") as client:
                arguments = (str(file), str(tmp_path / "service"), str(port), place)
                child = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "tests.support.agglayer_process", *arguments
                )
                try:
                    certificates.append(red.certificate([transfer(BLUE, at + 1)], [] if at else [claim]))
                    red.advance(certificates[-1])
                    await submit_all(client, certificates, child)
                    if place:
                        async with asyncio.timeout(PATIENCE_S):
                            assert await child.wait() == -signal.SIGKILL, place
                    else:
                        await until_settled(client, RED, at)
                finally:
                    if child.returncode is None:
                        child.kill()
                        await child.wait()
        async with running(service_node(config, tmp_path / "service")) as node:
            info = await node.view.network_info(RED)
            assert info.settled_leaf_count == len(certificates) == len(PLACES) + 1
            assert info.settled_local_exit_root == red.trees.local_exit_root


async def submit_all(
    client: CertificateClient, certificates: Sequence[Certificate], child: asyncio.subprocess.Process
) -> None:
    """Until the service has all of them, or is dead."""
    async with asyncio.timeout(PATIENCE_S):
        while child.returncode is None:
            try:
                for certificate in certificates:
                    if await client.certificate(RED, certificate.height) is None:
                        await client.submit_certificate(certificate)
            except Unavailable:
                # It starts, or it dies.
                await asyncio.sleep(0.02)
            else:
                return


def test_what_cannot_be_built_says_why(tmp_path: Path) -> None:
    config = AgglayerNodeConfig(
        name="agglayer-0", params=PARAMS, sequencer_endpoints=("127.0.0.1:1",), backend="lazy", finality_options={},
        l1_rpc_url="http://127.0.0.1:1", prover="zk", prover_options={}, attester_endpoints=(),
        resolver_key="", settlement_key=key_of(1).to_hex(), oracle_key=key_of(4).to_hex(),
    )  # fmt: skip
    with pytest.raises(UnknownName, match="unknown prover 'zk'; known: attested, modelled"):
        service_node(config, tmp_path)
