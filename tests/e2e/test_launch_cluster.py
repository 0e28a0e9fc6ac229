"""An existing Ray cluster of two machines (two loopback addresses): placement, addresses, shipped code and engine."""

import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest

from coordinator.launch import LAUNCHERS, LaunchOptions, RunningTestnet
from coordinator.launch.ray_session import own_token
from nodes.model.errors import Unavailable
from nodes.wire.control import ControlClient
from nodes.wire.sequencer import SequencerClient
from tests.support.hosts import small_testnet, transfer_bundle, until_executed
from tests.support.patience import PATIENCE_S
from tests.support.ray_guard import one_ray_at_a_time

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
HEAD, WORKER = "127.0.0.2", "127.0.0.3"


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a cluster of two nodes that know each other by a token; both end with the test."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", own_token())
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    # The nodes of the testnet keep their data in the home directory of their machine.
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
    with one_ray_at_a_time(), TemporaryDirectory(prefix="lsc-") as name:
        folder = Path(name)  # short: Ray's sockets lie inside, and their paths end at 107 bytes
        address = f"{HEAD}:{free_port()}"
        head = ("--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false", f"--temp-dir={folder}")
        with ray_node(folder, HEAD, *head), ray_node(folder, WORKER, f"--address={address}"):
            yield address


def free_port() -> int:
    while True:
        with socket.socket() as probe:
            try:
                probe.bind((HEAD, random.SystemRandom().randint(20_000, 30_000)))
            except OSError:
                continue
            return int(probe.getsockname()[1])


@contextmanager
def ray_node(folder: Path, address: str, *arguments: str) -> Iterator[None]:
    log = folder / f"start-{address}.log"
    common = (f"--node-ip-address={address}", "--num-cpus=2", "--object-store-memory=80000000", "--disable-usage-stats")
    ray = str(Path(sys.executable).with_name("ray"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            [ray, "start", *arguments, *common, "--block"], stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
    try:
        deadline_s = time.monotonic() + PATIENCE_S
        while b"Ray runtime started" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)  # `ray start` tells its progress in its output only
        yield
    finally:
        family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
        process.terminate()
        process.wait(PATIENCE_S)
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        for left in alive:
            left.kill()


async def send(running: RunningTestnet, *, nonce: int) -> None:
    submission, identity = transfer_bundle(running.testnet, nonce=nonce)
    async with SequencerClient(running.sequencer_address) as sequencer:
        await sequencer.submit([submission])
    for rollup in running.rollups[:2]:
        assert await until_executed(rollup.grpc_address, identity) == ["succeeded"]


def address_part(endpoint: str) -> str:
    found = re.search(r"\d+\.\d+\.\d+\.\d+", endpoint)
    assert found is not None, endpoint
    return found[0]


async def test_a_testnet_spreads_over_the_machines_of_a_cluster(cluster: str, tmp_path: Path) -> None:
    options = LaunchOptions(ray_address=cluster)
    testnet = small_testnet(3, launcher="ray")
    async with LAUNCHERS["ray"].start(testnet, tmp_path, options) as running:
        placed = {host.name: host.host for host in running.hosts}
        assert set(placed.values()) == {HEAD, WORKER}
        for host in running.hosts:
            # Each node is told to others by the address of its own machine, and listens on no other.
            told = {address_part(host.control_address)}
            told |= {address_part(text) for node in host.nodes for text in (node.grpc_address, node.rpc_url) if text}
            assert told == {host.host}
            code = Path(psutil.Process(host.pid).cwd())
            assert "working_dir_files" in code.parts
            assert (code / "nodes" / "host" / "process.py").is_file()
            for node in host.nodes:
                if node.engine_pid:
                    assert Path(psutil.Process(node.engine_pid).exe()) == code / "bin" / "anvil"
        await send(running, nonce=0)
        await running.kill("rollup-1")
        await running.wait_recovered("rollup-1")
        async with ControlClient(running.host_of("rollup-1").control_address) as control:
            again = await control.wait_ready(timeout_s=PATIENCE_S)
        assert again.pid != running.host_of("rollup-1").pid
        assert again.host == placed[again.name]
        await send(running, nonce=1)
    async with LAUNCHERS["ray"].start(testnet, tmp_path, options) as running:
        assert {host.name: host.host for host in running.hosts} == placed
        await send(running, nonce=2)


async def test_a_cluster_that_is_not_there_is_named(tmp_path: Path) -> None:
    launch = LAUNCHERS["ray"].start(small_testnet(1), tmp_path, LaunchOptions(ray_address="127.0.0.2:1"))
    with pytest.raises(Unavailable, match=r"no Ray cluster listens at 127\.0\.0\.2:1 .*ray start --head"):
        await launch.__aenter__()
