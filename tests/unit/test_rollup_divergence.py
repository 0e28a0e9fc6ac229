"""What a node does once a divergence was found, and does again after a restart."""

from collections.abc import Callable
from pathlib import Path

import pytest

from nodes.divergence.forms import Counts, Report
from nodes.model.config import DivergenceConfig
from nodes.model.faults import SilenceReports
from nodes.rollup.divergence_link import FOUND_FILE, DivergenceLink
from nodes.telemetry.clock import Clock, ManualClock
from nodes.telemetry.events import EvidenceFound, HeightResolved, ReaderStalled
from nodes.telemetry.tracer import Tracer
from tests.support.crafting import LegPlan, plain
from tests.support.divergence_fakes import FOUND, Client
from tests.support.engine_chain import PARAMS, genesis
from tests.support.resolver_rollups import until_evicted
from tests.support.rollup_fakes import Bench, EngineRoom, MemorySequencer, make_config
from tests.support.rollup_verdicts import HERE, THERE, MemoryCertifier, VerdictWorld, pair, resolved

NAME = "watched"


def watched_by(client: Client, policy: str) -> Callable[[Clock, Tracer], DivergenceLink]:
    """For a bench."""

    def make(clock: Clock, tracer: Tracer) -> DivergenceLink:
        return DivergenceLink(
            DivergenceConfig(mode="all", sample_per_s=1.0, policy=policy),
            client,
            name=NAME,
            params=PARAMS,
            genesis=genesis(),
            engine_directory="engine",
            clock=clock,
            tracer=tracer,
        )

    return make


def find(client: Client, height: int) -> None:
    """The process reports a difference."""
    found = FOUND._replace(height=height)
    client.watched[NAME].reported(Report(rollup=NAME, counts=Counts(differing=1), found=(found,)))


def cut_own(sequencer: MemorySequencer, nonce: int) -> int:
    """A height with one transaction on each of two rollups; which."""
    return sequencer.cut(*[plain(LegPlan(chain=chain, key=5, nonce=nonce)) for chain in (HERE, THERE)])


@pytest.mark.parametrize("interval", [2, 1000])
async def test_a_halted_node_is_halted_after_a_restart_and_serves_what_it_had(tmp_path: Path, interval: int) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()

    def bench(client: Client) -> Bench:
        return Bench(
            tmp_path,
            [sequencer],
            room.start,
            config=make_config(checkpoint_interval_heights=interval),
            watched=watched_by(client, "halt"),
        )

    client = Client()
    first = bench(client)
    async with first.running():
        for nonce in range(5):
            cut_own(sequencer, nonce)
        await first.height(5)
        find(client, 3)
        cut_own(sequencer, 5)
        await first.traced(ReaderStalled)
    again = bench(Client())
    async with again.running() as node:
        cut_own(sequencer, 6)
        assert (await again.traced(ReaderStalled)).height == 3
        assert await node.request("eth_getTransactionCount", ["0x" + bytes(20).hex(), hex(node.heads.latest.number)])
        status = await node.status()
        assert status.heads.height == 5
        assert str(tmp_path / FOUND_FILE) in status.stalled
    (tmp_path / FOUND_FILE).unlink()
    cleared = bench(Client())
    async with cleared.running():
        await cleared.height(7)


async def test_an_excluded_node_has_nothing_settled_from_the_difference_on(tmp_path: Path) -> None:
    clock = ManualClock()
    world = VerdictWorld(tmp_path, report_timeout_ms=150, clock=clock)
    async with world.resolving() as resolver:
        there = world.bench(2)
        async with there.running():
            client, certifier = Client(), MemoryCertifier()
            here = world.bench(1, certifier=certifier, watched=watched_by(client, "exclude"))
            async with here.running() as node:
                for nonce in range(3):
                    world.sequencer.cut(pair(0, nonce))
                await resolved(here, 3)
                find(client, 2)
                await node.inject(SilenceReports(on=False))  # of a fault that is over, and of nothing else
                later = [cut_own(world.sequencer, 0)]
                await until_evicted(resolver, clock, 1, report_timeout_ms=150)
                await resolved(here, later[-1])
                assert resolver.state.evicted
            assert [told.height for told in certifier.told] == [1, 2, 3]
            told_again = MemoryCertifier()
            again = world.bench(1, certifier=told_again, watched=watched_by(Client(), "exclude"))
            async with again.running():
                later.append(cut_own(world.sequencer, 1))
                await resolved(again, later[-1])
                assert resolver.state.evicted
            assert [told.height for told in told_again.told] == [1]
            (tmp_path / "rollup-1" / FOUND_FILE).unlink()
            settles = MemoryCertifier(have_height=1)
            cleared = world.bench(1, certifier=settles, watched=watched_by(Client(), "exclude"))
            async with cleared.running():
                later.append(cut_own(world.sequencer, 2))
                await resolved(cleared, later[-1])
            assert [told.height for told in settles.told] == [2, 3, *later]
        for bench in (here, again, cleared):
            assert not bench.events(EvidenceFound)
            assert bench.events(HeightResolved)


async def test_a_halted_node_without_verdicts_has_nothing_settled_after_a_restart(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path, has_verdicts=False)
    client, certifier = Client(), MemoryCertifier()
    here = world.bench(1, certifier=certifier, watched=watched_by(client, "exclude"), checkpoint_interval_heights=1000)
    async with here.running():
        for nonce in range(4):
            world.sequencer.cut(pair(0, nonce))
        while len(certifier.told) < 4:
            await certifier.wait_told()
        find(client, 2)
    again = MemoryCertifier()
    restarted = world.bench(
        1, certifier=again, watched=watched_by(Client(), "exclude"), checkpoint_interval_heights=1000
    )
    async with restarted.running():
        world.sequencer.cut(pair(0, 4))
        await restarted.traced(ReaderStalled)
    assert [told.height for told in again.told] == [1]
