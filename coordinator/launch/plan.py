"""Which node runs in which process. Pure: no process is started and no port is chosen here."""

from dataclasses import dataclass, replace

from coordinator.spec import ResolvedTestnet
from coordinator.spec.testnet import SEQUENCER_NAME
from nodes.model.config import HostConfig, RollupNodeConfig

SEQUENCER_HOST = "host-sequencer"
MAX_PACKED_NODES = 32
"""64 rollups at 200 bundles/s keep two processes half busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """One process to be."""

    name: str
    nodes: tuple[str, ...]
    """Names of its nodes."""


def plan_hosts(testnet: ResolvedTestnet, *, cores: int) -> tuple[HostPlan, ...]:
    """A process for the sequencer, and as many for rollup nodes as the testnet says, filled evenly.

    0 = one per two cores, since the engines need the other one: nodes of one process share recovered signatures, and
    four rollups in one process carried a fifth more on two cores than in two. But one process holds at most
    MAX_PACKED_NODES, and replicas of one rollup are kept apart: neighbours in the list of nodes go to different
    processes, so that replicas do not die together.
    """
    names = testnet.node_names[1:]
    processes = max(1, cores // 2, testnet.replicas)
    per_host = testnet.nodes_per_actor or min(MAX_PACKED_NODES, -(-len(names) // processes))
    count = -(-len(names) // per_host)
    hosts = (HostPlan(name=f"host-{index + 1}", nodes=tuple(names[index::count])) for index in range(count))
    return (HostPlan(name=SEQUENCER_HOST, nodes=(SEQUENCER_NAME,)), *hosts)


def plan_one_host(testnet: ResolvedTestnet) -> HostPlan:
    """Everything in one process."""
    return HostPlan(name="host", nodes=testnet.node_names)


def host_config(
    testnet: ResolvedTestnet,
    plan: HostPlan,
    *,
    directory: str,
    sequencer_address: str,
    host: str,
    trace: bool,
    engine_path: str,
) -> HostConfig:
    """The config of a planned process that listens on `host` and keeps its nodes' folders in `directory`."""
    rollups: dict[str, RollupNodeConfig] = {
        config.name: config for config in testnet.rollup_configs(sequencer_address) if config.name in plan.nodes
    }
    config = HostConfig(
        name=plan.name,
        directory=directory,
        testnet=testnet.params,
        bind_host=host,
        advertise_host=host,
        engine_path=engine_path,
        rollups=tuple(rollups[name] for name in plan.nodes if name in rollups),
        trace=trace,
    )
    if SEQUENCER_NAME in plan.nodes:
        config = replace(config, sequencers=(testnet.sequencer_config(),))
    return config
