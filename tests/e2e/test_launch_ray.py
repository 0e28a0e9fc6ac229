"""A whole testnet on Ray on this machine: processes of their own, restarted when killed, none left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import psutil
import pytest

from coordinator.launch import LAUNCHERS, RunningTestnet
from coordinator.spec import load_testnet
from nodes.model.errors import TestbedError
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient
from tests.support.hosts import small_testnet, transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S
from tests.support.ray_guard import one_ray_at_a_time

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LAUNCHER = LAUNCHERS["ray"]
UP = """
import sys
from pathlib import Path
from coordinator.spec import parse_scenario
from coordinator.stages.up import run_up
from tests.support.hosts import SCENARIO
scenario = parse_scenario(SCENARIO.format(rollups=3, launcher="ray"), source="small.toml")
run_up(scenario, directory=Path(sys.argv[1]), as_json=True)
"""


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    with one_ray_at_a_time():
        yield


async def send(running: RunningTestnet, *, nonce: int) -> None:
    submission, identity = transfer_bundle(running.testnet, nonce=nonce)
    async with SequencerClient(running.sequencer_address) as sequencer:
        (ticket,) = await sequencer.submit([submission])
        assert ticket.accepted
        (again,) = await sequencer.submit([submission])
        assert again.duplicate
    for rollup in running.rollups[:2]:
        assert await until_executed(rollup.grpc_address, identity) == ["succeeded"]


async def pid_of(running: RunningTestnet, node: str) -> int:
    async with ControlClient(running.host_of(node).control_address) as control:
        return (await control.wait_ready(timeout_s=PATIENCE_S)).pid


def listening_addresses() -> set[str]:
    """Addresses on which this process and all that it started listen for TCP."""
    found = set()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            sockets = process.net_connections(kind="tcp")
        except psutil.Error:
            continue
        found |= {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
    return found


async def test_killed_processes_come_back_where_they_were(tmp_path: Path) -> None:
    async with LAUNCHER.start(small_testnet(3, launcher="ray", nodes_per_actor=2), tmp_path) as running:
        pids = {host.name: host.pid for host in running.hosts}
        assert set(pids) == {"host-sequencer", "host-1", "host-2"}
        assert len({*pids.values(), os.getpid()}) == 4
        assert all(ip_address(address.removeprefix("::ffff:")).is_loopback for address in listening_addresses())
        await send(running, nonce=0)
        async with RollupClient(running.endpoint("rollup-1").grpc_address) as client:
            before = list(await client.block_hashes(first_number=0, count=5))
        for number, victim in enumerate(("rollup-1", "sequencer"), start=1):
            await running.kill(victim)
            await running.wait_recovered(victim)
            assert await pid_of(running, victim) != running.host_of(victim).pid
            await send(running, nonce=number)
        await running.kill("rollup-2", "engine")
        await running.wait_recovered("rollup-2")
        await send(running, nonce=3)
        async with RollupClient(running.endpoint("rollup-1").grpc_address) as client:
            after = list(await client.block_hashes(first_number=0, count=5))
        assert after[: len(before)] == before
        assert len(after) == len(before) + 3


async def test_a_node_that_cannot_start_says_why(tmp_path: Path) -> None:
    testnet = small_testnet(2, launcher="ray")
    broken = replace(testnet, rollups=(testnet.rollups[0], replace(testnet.rollups[1], genesis="not json")))
    with pytest.raises(TestbedError, match=r"host-\d: anvil .* ended with status"):
        async with LAUNCHER.start(broken, tmp_path):
            pytest.fail("a testnet with a broken genesis became ready")


def started_up(directory: Path) -> tuple["subprocess.Popen[bytes]", list[psutil.Process]]:
    """`up` in a process of its own, ready, and everything it started."""
    process = subprocess.Popen([sys.executable, "-c", UP, str(directory)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert len(ready["rollups"]) == 3
    return process, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_command(tmp_path: Path, number: signal.Signals) -> None:
    process, family = started_up(tmp_path)
    names = {member.name() for member in family}
    with process:
        assert {"gcs_server", "raylet", "anvil"} <= names
        os.kill(process.pid, number)
        status = process.wait(PATIENCE_S)
        assert process.stdout is not None
        assert process.stdout.read() == b"", "with --json there is one object and nothing else"
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not [member for member in alive if member.status() != psutil.STATUS_ZOMBIE]
    assert status == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert (tmp_path / "endpoints.json").exists() == (number == signal.SIGKILL)
    # What it left is a testnet that can be resumed, with either launcher.
    asyncio.run(resumed(tmp_path))


async def resumed(directory: Path) -> None:
    async with LAUNCHERS["inprocess"].start(load_testnet(directory), directory) as running:
        await send(running, nonce=0)
