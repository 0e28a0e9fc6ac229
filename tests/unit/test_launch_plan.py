"""Which node goes into which process, and how reservations are sized."""

import pytest

from coordinator.launch.plan import HostPlan, host_config, plan_hosts, plan_one_host
from coordinator.launch.ray_launcher import _share
from coordinator.launch.running import first_cause
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
            sequencer_address="127.0.0.1:1",
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
