"""What tests of node processes share: a small testnet, configs of hosts, and one signed transfer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from coincurve import PrivateKey

from coordinator.launch.plan import HostPlan, addresses_of, host_config, plan_one_host, reservations
from coordinator.launch.running import supervised
from coordinator.spec import ResolvedTestnet, parse_scenario, resolve
from nodes.host import Host, reserve_address
from nodes.model.bundle import BUNDLE_VERSION, Bundle, Leg, Trailer
from nodes.model.config import HostConfig, HostReady
from nodes.rules.bundle import bundle_hash
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.rollup import RollupClient
from tests.support.patience import PATIENCE_S

LOOPBACK = "127.0.0.1"
SCENARIO = """
[scenario]
name = "small"
[testnet]
rollups = {rollups}
launcher = "{launcher}"
[backend]
block_interval_ms = 20
[rollup]
checkpoint_interval_heights = 16
[workload]
lanes = 4
"""


def small_testnet(rollups: int = 2, *, launcher: str = "inprocess", **changes: object) -> ResolvedTestnet:
    text = SCENARIO.format(rollups=rollups, launcher=launcher)
    return replace(resolve(parse_scenario(text, source="small.toml")), **changes)  # type: ignore[arg-type]


def config_of(testnet: ResolvedTestnet, directory: Path, *nodes: str, name: str = "host") -> HostConfig:
    """One process with these nodes; all of them where none is named."""
    reserved = {
        wanted: reserve_address(directory, wanted.node, host=LOOPBACK, use=wanted.use)
        for wanted in reservations(testnet, plan_one_host(testnet))
    }
    return host_config(
        testnet,
        HostPlan(name=name, nodes=nodes or testnet.node_names),
        directory=str(directory),
        addresses=addresses_of(testnet, reserved),
        host=LOOPBACK,
        trace=True,
        engine_path="",
    )


def transfer_bundle(testnet: ResolvedTestnet, *, nonce: int = 0) -> tuple[bytes, bytes]:
    """A bundle of one transfer of 1 wei on each of the first two rollups: as it is submitted, and its bundle hash."""
    sender, recipient = testnet.lane_accounts[0], testnet.lane_accounts[1]
    rollups = testnet.rollups[:2]
    unsigned = [
        UnsignedTransaction(chain_id=rollup.chain_id, nonce=nonce, gas_limit=50_000, to=recipient.address, value=1)
        for rollup in rollups
    ]
    leg_hashes = [transaction.leg_hash(sender.address) for transaction in unsigned]
    identity = bundle_hash(version=BUNDLE_VERSION, expiry=0, leg_hashes=leg_hashes)
    legs = tuple(
        Leg(
            rollup_id=rollup.params.rollup_id,
            payload=sign(transaction, PrivateKey(sender.key), Trailer(identity, index, len(rollups))),
            leg_hash=leg_hash,
        )
        for index, (rollup, transaction, leg_hash) in enumerate(zip(rollups, unsigned, leg_hashes, strict=True))
    )
    return bundle_to_bytes(Bundle(version=BUNDLE_VERSION, expiry=0, legs=legs)), identity


@asynccontextmanager
async def running_host(config: HostConfig) -> AsyncIterator[tuple[Host, HostReady]]:
    """A host in this loop, usable; stopped when the block is left."""
    host = Host(config)
    async with supervised(host.run(), stop=host.stop):
        async with asyncio.timeout(PATIENCE_S):
            ready = await host.wait_ready()
        yield host, ready


def address_of(ready: HostReady, node: str) -> str:
    """The gRPC address of one node."""
    return next(endpoint.grpc_address for endpoint in ready.nodes if endpoint.name == node)


async def until_executed(address: str, identity: bytes, *, legs: int = 1) -> list[str]:
    """Fates of the bundle's legs on one rollup, once it has met them."""
    async with asyncio.timeout(PATIENCE_S), RollupClient(address) as rollup:
        async for _ in rollup.follow_heads():
            fates = await rollup.bundle_fates(identity)
            if len(fates) >= legs:
                return [fate.fate for fate in fates]
    raise AssertionError("the node ended its heads")
