"""Which node goes into which process, and how reservations are sized."""

import pytest

from coordinator.launch.plan import (
    HostPlan,
    Reservation,
    addresses_of,
    attesters_are_separate,
    host_config,
    plan_hosts,
    plan_one_host,
    reservations,
)
from coordinator.launch.ray_launcher import _share
from coordinator.launch.running import first_cause
from coordinator.spec import ResolvedTestnet, parse_scenario, resolve
from coordinator.spec.testnet import Addresses
from nodes.host import GRPC, RPC
from nodes.model.errors import InvalidInput, Unavailable
from tests.support.hosts import small_testnet


@pytest.mark.parametrize(
    ("rollups", "per_actor", "cores", "sizes"),
    [
        (4, 0, 1, [4]),
        (4, 0, 2, [4]),
        (5, 0, 4, [3, 2]),
        (64, 0, 2, [32, 32]),
        (100, 0, 4, [25, 25, 25, 25]),
        (3, 0, 8, [1, 1, 1]),
        (4, 1, 2, [1, 1, 1, 1]),
        (4, 100, 2, [4]),
        (5, 2, 1, [2, 2, 1]),
    ],
)
def test_rollup_nodes_fill_processes_evenly(rollups: int, per_actor: int, cores: int, sizes: list[int]) -> None:
    testnet = small_testnet(rollups, nodes_per_actor=per_actor)
    sequencer, *others = plan_hosts(testnet, cores=cores)
    assert sequencer.nodes == ("sequencer",)
    assert [len(host.nodes) for host in others] == sizes
    assert sorted(name for host in others for name in host.nodes) == sorted(testnet.node_names[1:])


def test_replicas_of_a_rollup_do_not_share_a_process_where_there_are_two() -> None:
    testnet = small_testnet(4, replicas=2)
    for host in plan_hosts(testnet, cores=2)[1:]:
        assert len({name.partition("-replica")[0] for name in host.nodes}) == len(host.nodes)


def test_a_host_gets_its_own_nodes_only() -> None:
    testnet = small_testnet(3)

    def config_for(plan: HostPlan) -> tuple[list[str], list[str]]:
        config = host_config(
            testnet,
            plan,
            directory="/d",
            addresses=Addresses(sequencer="127.0.0.1:1"),
            host="127.0.0.1",
            trace=True,
            engine_path="",
        )
        assert all(rollup.sequencer_endpoints == ("127.0.0.1:1",) for rollup in config.rollups)
        return [node.name for node in config.sequencers], [node.name for node in config.rollups]

    assert config_for(HostPlan(name="a", nodes=("rollup-3", "rollup-1"))) == ([], ["rollup-3", "rollup-1"])
    assert config_for(HostPlan(name="b", nodes=("sequencer",))) == (["sequencer"], [])
    assert config_for(plan_one_host(testnet)) == (["sequencer"], ["rollup-1", "rollup-2", "rollup-3"])


@pytest.mark.parametrize(
    ("machines", "count", "share"), [([8, 8], 3, 1.0), ([2, 2], 5, 0.5), ([1], 9, 0.0625), ([0.5, 4], 4, 1.0)]
)
def test_reservations_fit_whatever_the_cluster_has(machines: list[float], count: int, share: float) -> None:
    assert _share(machines, count) == share


def test_a_cluster_without_cpus_is_named() -> None:
    with pytest.raises(Unavailable, match="no CPUs"):
        _share([0.0], 1)


def test_the_cause_of_nested_groups_is_the_expected_error() -> None:
    expected = InvalidInput("x")
    group = ExceptionGroup("", [ValueError(), ExceptionGroup("", [OSError(), expected])])
    assert first_cause(group) is expected
    bug = ValueError()
    assert first_cause(ExceptionGroup("", [bug])) is bug


def layered(rollups: int = 2, atomicity: str = "agglayer") -> ResolvedTestnet:
    text = f'[scenario]\nname = "layered"\n[testnet]\nrollups = {rollups}\natomicity = "{atomicity}"\n'
    return resolve(parse_scenario(text, source="layered.toml"))


def reserved_of(testnet: ResolvedTestnet) -> dict[Reservation, str]:
    wanted = [entry for plan in plan_hosts(testnet, cores=2) for entry in reservations(testnet, plan)]
    assert len(set(wanted)) == len(wanted)
    return {entry: f"10.0.0.{index}:{1000 + index}" for index, entry in enumerate(wanted)}


def test_every_attester_has_a_process_of_its_own() -> None:
    testnet = layered()
    plans = {plan.name: plan.nodes for plan in plan_hosts(testnet, cores=2)}
    assert plans == {
        "host-sequencer": ("sequencer",),
        "host-1": ("rollup-1", "rollup-2"),
        "host-agglayer": ("l1", "agglayer"),
        "host-attester-1": ("attester-1",),
        "host-attester-2": ("attester-2",),
        "host-attester-3": ("attester-3",),
    }
    pids = {node: number for number, nodes in enumerate(plans.values()) for node in nodes}
    assert attesters_are_separate(testnet, pids)
    assert not attesters_are_separate(testnet, pids | {"attester-1": pids["attester-2"]})
    assert not attesters_are_separate(testnet, pids | {"attester-1": pids["agglayer"]})
    assert not attesters_are_separate(testnet, dict.fromkeys(pids, 1))
    assert plan_one_host(testnet).nodes == testnet.node_names


@pytest.mark.parametrize("atomicity", ["inclusion", "agglayer", "bond"])
def test_nodes_are_told_addresses_that_were_reserved_for_their_peers(atomicity: str) -> None:
    testnet = layered(atomicity=atomicity)
    reserved = reserved_of(testnet)
    addresses = addresses_of(testnet, reserved)
    assert addresses.sequencer == reserved[Reservation("sequencer", GRPC)]
    if atomicity == "inclusion":
        assert addresses == Addresses(sequencer=addresses.sequencer)
        return
    assert addresses.agglayer == reserved[Reservation("agglayer", GRPC)]
    assert addresses.l1_rpc_url == "http://" + reserved[Reservation("l1", RPC)]
    assert addresses.attesters == tuple(reserved[Reservation(f"attester-{n}", GRPC)] for n in (1, 2, 3))
    assert addresses.builder == (reserved[Reservation("builder", GRPC)] if atomicity == "bond" else "")
    assert addresses.rollup_rpc_urls == {
        name: "http://" + reserved[Reservation(name, RPC)] for name in ("rollup-1", "rollup-2")
    }


@pytest.mark.parametrize("atomicity", ["agglayer", "bond"])
def test_the_configs_of_all_processes_hold_every_node_once(atomicity: str) -> None:
    testnet = layered(atomicity=atomicity)
    addresses = addresses_of(testnet, reserved_of(testnet))
    names: list[str] = []
    for plan in plan_hosts(testnet, cores=2):
        config = host_config(
            testnet, plan, directory="/d", addresses=addresses, host="127.0.0.1", trace=True, engine_path=""
        )
        nodes = (
            *config.sequencers, *config.rollups, *config.l1s, *config.agglayers, *config.attesters, *config.builders
        )  # fmt: skip
        here = [str(getattr(node, "name")) for node in nodes]  # noqa: B009 - their common type knows no name
        assert sorted(here) == sorted(plan.nodes)
        names += here
    assert sorted(names) == sorted(testnet.node_names)
