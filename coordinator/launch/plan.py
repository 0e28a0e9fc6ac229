"""Which node runs in which process, and which addresses must be known before any of them runs. Pure: no process is
started and no port is chosen here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from coordinator.spec import ResolvedTestnet
from coordinator.spec.testnet import AGGLAYER_NAME, BUILDER_NAME, L1_NAME, SEQUENCER_NAME, Addresses
from nodes.host import GRPC, RPC
from nodes.model.config import HostConfig, RollupNodeConfig
from nodes.model.wide_area import WideArea

SEQUENCER_HOST = "host-sequencer"
AGGLAYER_HOST = "host-agglayer"
MAX_PACKED_NODES = 32
"""64 rollups at 200 bundles/s keep two processes half busy."""


class Reservation(NamedTuple):
    """An address that other nodes' configs name, so that it must exist before its node does."""

    node: str
    use: str
    """`nodes.host.GRPC` or `RPC`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """One process to be."""

    name: str
    nodes: tuple[str, ...]
    """Names of its nodes."""


def plan_hosts(testnet: ResolvedTestnet, *, cores: int) -> tuple[HostPlan, ...]:
    """A process for the sequencer, as many for rollup nodes as the testnet says, filled evenly, and those of the
    aggregation layer.

    0 = one per two cores, since the engines need the other one: nodes of one process share recovered signatures, and
    four rollups in one process carried a fifth more on two cores than in two. But one process holds at most
    MAX_PACKED_NODES, and replicas of one rollup are kept apart: neighbours in the list of nodes go to different
    processes, so that replicas do not die together.

    The aggregation layer shares a process with its L1, whose Python only cuts slots. Attesters are never packed: a
    threshold inside one process is decoration. Nor is the builder, whose simulations must not delay the verdicts.
    """
    names = testnet.rollup_node_names
    processes = max(1, cores // 2, testnet.replicas)
    per_host = testnet.nodes_per_actor or min(MAX_PACKED_NODES, -(-len(names) // processes))
    count = -(-len(names) // per_host)
    hosts = [HostPlan(name=SEQUENCER_HOST, nodes=(SEQUENCER_NAME,))]
    hosts += [HostPlan(name=f"host-{index + 1}", nodes=tuple(names[index::count])) for index in range(count)]
    if testnet.uses_agglayer:
        hosts.append(HostPlan(name=AGGLAYER_HOST, nodes=(L1_NAME, AGGLAYER_NAME)))
        hosts += [HostPlan(name=f"host-{name}", nodes=(name,)) for name in testnet.attester_names]
    if testnet.has_builder:
        hosts.append(HostPlan(name=f"host-{BUILDER_NAME}", nodes=(BUILDER_NAME,)))
    return tuple(hosts)


def plan_one_host(testnet: ResolvedTestnet) -> HostPlan:
    """Everything in one process."""
    return HostPlan(name="host", nodes=testnet.node_names)


def reservations(testnet: ResolvedTestnet, plan: HostPlan) -> tuple[Reservation, ...]:
    """What must be reserved on the machine of a planned process."""
    grpc = {SEQUENCER_NAME, AGGLAYER_NAME, BUILDER_NAME, *testnet.attester_names}
    rpc = {L1_NAME}
    if testnet.uses_agglayer:
        rpc |= {rollup.name for rollup in testnet.rollups}
    return tuple(
        Reservation(node, use) for node in plan.nodes for use, users in ((GRPC, grpc), (RPC, rpc)) if node in users
    )


def addresses_of(testnet: ResolvedTestnet, reserved: Mapping[Reservation, str]) -> Addresses:
    """Every reserved address, host:port, as the nodes' configs need them."""
    names = [rollup.name for rollup in testnet.rollups]
    urls = {name: f"http://{reserved[Reservation(name, RPC)]}" for name in names if Reservation(name, RPC) in reserved}
    l1 = reserved.get(Reservation(L1_NAME, RPC), "")
    return Addresses(
        sequencer=reserved[Reservation(SEQUENCER_NAME, GRPC)],
        agglayer=reserved.get(Reservation(AGGLAYER_NAME, GRPC), ""),
        attesters=tuple(reserved[Reservation(name, GRPC)] for name in testnet.attester_names),
        l1_rpc_url=f"http://{l1}" if l1 else "",
        builder=reserved.get(Reservation(BUILDER_NAME, GRPC), ""),
        rollup_rpc_urls=urls,
    )


def peers_of(testnet: ResolvedTestnet, addresses: Addresses) -> dict[str, str]:
    """host:port to node, of every address that a node is given for another."""
    peers = {addresses.sequencer: SEQUENCER_NAME, addresses.agglayer: AGGLAYER_NAME, addresses.builder: BUILDER_NAME}
    peers |= dict(zip(addresses.attesters, testnet.attester_names, strict=False))
    peers |= {authority_of(url): name for name, url in addresses.rollup_rpc_urls.items()}
    peers[authority_of(addresses.l1_rpc_url)] = L1_NAME
    return {address: name for address, name in peers.items() if address}


def authority_of(url: str) -> str:
    """host:port of a URL."""
    return url.partition("://")[2].partition("/")[0]


def located(wide_area: WideArea | None, peers: Mapping[str, str]) -> WideArea | None:
    """The emulated network with the addresses of its nodes."""
    return None if wide_area is None else replace(wide_area, peers=peers)


def attesters_are_separate(testnet: ResolvedTestnet, pids: Mapping[str, int]) -> bool:
    """Whether every attester has a process of its own. `pids` is by node; True where there are no attesters."""
    others = [pid for node, pid in pids.items() if node not in testnet.attester_names]
    own = [pids[name] for name in testnet.attester_names]
    return len(set(own)) == len(own) and not set(own) & set(others)


def host_config(
    testnet: ResolvedTestnet,
    plan: HostPlan,
    *,
    directory: str,
    addresses: Addresses,
    host: str,
    trace: bool,
    engine_path: str,
) -> HostConfig:
    """The config of a planned process that listens on `host` and keeps its nodes' folders in `directory`."""
    rollups: dict[str, RollupNodeConfig] = {
        config.name: config for config in testnet.rollup_configs(addresses) if config.name in plan.nodes
    }
    config = HostConfig(
        name=plan.name,
        directory=directory,
        testnet=testnet.params,
        bind_host=host,
        advertise_host=host,
        engine_path=engine_path,
        rollups=tuple(rollups[name] for name in plan.nodes if name in rollups),
        attesters=tuple(attester for attester in testnet.attester_configs() if attester.name in plan.nodes),
        trace=trace,
        wide_area=located(testnet.wide_area, peers_of(testnet, addresses)),
    )
    if SEQUENCER_NAME in plan.nodes:
        config = replace(config, sequencers=(testnet.sequencer_config(),))
    if L1_NAME in plan.nodes:
        config = replace(config, l1s=(testnet.l1_config(),))
    if AGGLAYER_NAME in plan.nodes:
        config = replace(config, agglayers=(testnet.agglayer_config(addresses),))
    if BUILDER_NAME in plan.nodes:
        config = replace(config, builders=(testnet.builder_config(addresses),))
    return config
