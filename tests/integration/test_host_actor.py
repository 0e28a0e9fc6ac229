"""The class that Ray wraps, without Ray: what it reports, and when it ends its process so that Ray restarts it."""

import asyncio
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.launch.ray_actor import LOG_FILE, HostActor
from nodes.evm.anvil import find_anvil
from nodes.host import GRPC, RPC
from nodes.model.faults import KillEngine
from nodes.wire.control import ControlClient
from tests.support.hosts import LOOPBACK, config_of, small_testnet
from tests.support.patience import PATIENCE_S


class Exited(BaseException):
    """Stands for the end of the process."""


async def test_reserved_addresses_are_kept(tmp_path: Path) -> None:
    wanted = [("sequencer", GRPC), ("l1", RPC)]
    placed = await HostActor().prepare(str(tmp_path / "nodes"), reserve=wanted, host=LOOPBACK)
    again = await HostActor().prepare(str(tmp_path / "nodes"), reserve=wanted, host=LOOPBACK)
    assert placed == again
    assert len(set(placed.reserved)) == 2
    assert all(address.startswith(f"{LOOPBACK}:") for address in placed.reserved)
    other = await HostActor().prepare(str(tmp_path / "nodes"), reserve=[], host=LOOPBACK)
    assert other.reserved == ()


async def test_a_host_that_never_was_usable_reports_why_and_stays(tmp_path: Path) -> None:
    config = config_of(small_testnet(), tmp_path)
    broken = replace(config, rollups=(replace(config.rollups[0], genesis="not json"),))
    actor = HostActor()
    waiting = asyncio.ensure_future(actor.wait_ready())
    reason = await asyncio.wait_for(actor.run(broken), PATIENCE_S)
    assert reason.startswith("host: anvil")
    assert await waiting is None
    assert "anvil" in (tmp_path / "host" / LOG_FILE).read_text()


async def test_a_host_that_breaks_later_ends_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = tmp_path / "anvil"
    shutil.copy(find_anvil(), engine)
    statuses = []

    def exit_process(status: int) -> None:
        statuses.append(status)
        raise Exited

    monkeypatch.setattr(os, "_exit", exit_process)
    actor = HostActor()
    config = replace(config_of(small_testnet(), tmp_path), engine_path=str(engine))
    running = asyncio.ensure_future(actor.run(config))
    ready = await asyncio.wait_for(actor.wait_ready(), PATIENCE_S)
    assert ready is not None
    engine.unlink()
    async with ControlClient(ready.control_address) as control:
        await control.inject("rollup-1", KillEngine())
    done, _ = await asyncio.wait([running], timeout=PATIENCE_S)
    assert isinstance(done.pop().exception(), Exited)
    assert statuses == [1]
    assert "host broke: anvil" in (tmp_path / "host" / LOG_FILE).read_text()


async def test_stop_counts_even_before_run(tmp_path: Path) -> None:
    actor = HostActor()
    await actor.stop()
    assert await actor.run(config_of(small_testnet(), tmp_path)) == ""
