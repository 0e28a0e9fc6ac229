"""The submitter through bad times: payers run dry, the node goes away, queues fill, processes die at every point."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, LimitExceeded, Overloaded, Unavailable
from nodes.model.ids import rollup_id_of
from nodes.rules.lazy import placed_bytes
from nodes.rules.posting import flaw_of_size
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import SubmitterRules
from nodes.telemetry.crash import CrashPoint
from tests.support.patience import PATIENCE_S
from tests.support.solana_posting import ROLLUPS, bundle_of, offer_of
from tests.support.solana_submitting import CHAIN_ID, PAYERS, World, bundles, worlds


class Crashed(BaseException):
    """The process is gone."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    with worlds(tmp_path) as make_one:
        yield make_one


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


async def test_a_payer_without_funds_is_passed_over_and_named(world: World) -> None:
    poor = str(PAYERS[0].pubkey())
    world.chain.balances[poor] = 1_000_000
    await world.accept(*bundles(20))
    await world.turn()
    assert world.chain.entries() == bundles(20)
    assert poor not in {transaction.payer for transaction in world.chain.blocks[-1].transactions}
    assert poor in world.submitter.stall
    assert "1,000,000 lamports and needs" in world.submitter.stall
    assert "the others go on" in world.submitter.stall
    world.chain.fund(PAYERS)
    await world.turn()
    assert world.submitter.stall == ""
    assert world.chain.airdrops == 0


async def test_nothing_is_posted_until_somebody_can_pay(world: World) -> None:
    world.chain.fund(PAYERS, 0)
    await world.accept(*bundles(3))
    await world.turn(3)
    assert not world.chain.sent
    assert "nothing is posted until one is funded" in world.submitter.stall
    world.chain.fund(PAYERS[1:2])
    await world.turn(2)
    assert world.chain.entries() == bundles(3)


async def test_lamports_are_asked_for_where_they_are_free(make: Callable[..., World]) -> None:
    world = make(can_airdrop=True)
    world.chain.fund(PAYERS, 0)
    await world.accept(bundle_of(1))
    await world.turn(2)
    assert world.chain.entries() == [bundle_of(1)]
    assert world.chain.airdrops == len(PAYERS)
    assert world.submitter.stall == ""


async def test_while_the_node_is_away_bundles_wait_up_to_the_bound(make: Callable[..., World]) -> None:
    world = make(rules=SubmitterRules(mempool_bundles_max=50))
    await world.turn()
    world.chain.is_down = True
    await world.accept(*bundles(30))
    await world.turn(75)
    assert "down" in world.submitter.stall
    assert world.stalls == [world.submitter.stall]
    with pytest.raises(Overloaded, match="wait to stand in a block") as refused:
        await world.accept(*[bundle_of(number) for number in range(30, 51)])
    assert refused.value.retry_after_ms == 400
    await world.accept(*[bundle_of(number) for number in range(30, 50)])
    with pytest.raises(LimitExceeded, match="mempool_bundles_max"):
        world.submitter.accept([offer_of(bundle_of(number)) for number in range(100, 151)])
    world.chain.is_down = False
    await world.turn(8)
    assert world.chain.entries() == bundles(50)
    assert world.submitter.stall == ""


async def test_the_queue_is_bounded_by_bytes(make: Callable[..., World]) -> None:
    size = placed_bytes(bundle_of(0))
    world = make(rules=SubmitterRules(mempool_bytes_max=10 * size))
    await world.accept(*bundles(10))
    with pytest.raises(Overloaded):
        await world.accept(bundle_of(10))
    await world.turn()
    await world.accept(bundle_of(10))


async def test_no_more_is_signed_than_may_be_under_way(make: Callable[..., World]) -> None:
    world = make(rules=SubmitterRules(in_flight_max=4))
    world.chain.drops = lambda raw: True
    await world.accept(*bundles(40))
    await world.turn(3)
    assert len(set(world.chain.sent)) == 4
    world.chain.drops = lambda raw: False
    await world.turn(30)
    assert world.chain.entries() == bundles(40)


@pytest.mark.parametrize("lookup", [True, False])
async def test_many_rollups_and_plain_transactions(make: Callable[..., World], lookup: bool) -> None:
    world = make(lookup=lookup)
    offered = [bundle_of(number, rollups=ROLLUPS[: 1 + number % 8]) for number in range(40)]
    await world.accept(*offered)
    await world.turn(3)
    entries = world.chain.entries()
    assert sorted(entries, key=repr) == sorted(offered, key=repr)
    small = [bundle for bundle in offered if len(bundle.legs) < 4]
    assert [bundle for bundle in entries if len(bundle.legs) < 4] == small


async def test_memo_mode(make: Callable[..., World]) -> None:
    world = make(memo=True)
    offered = [bundle_of(0), bundle_of(1, size=2_000), bundle_of(2, rollups=ROLLUPS[3:4])]
    await world.accept(*offered)
    await world.turn(3)
    assert world.chain.entries() == [offered[0], offered[2], offered[1]]


def test_more_rollups_than_accounts_fit_is_a_flaw_that_names_the_limit(world: World) -> None:
    many = [rollup_id_of(number) for number in range(1, 101)]
    flaw = flaw_of_size(bundle_of(1, rollups=many), world.submitter.layout)
    assert "rollups of one bundle (accounts of one Solana transaction) is " in flaw
    assert "but 100 was offered" in flaw


async def test_one_process_and_one_testnet(world: World, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="in use by another process"):
        SubmitJournal(tmp_path, chain_id=CHAIN_ID)
    world.journal.close()
    with pytest.raises(InvalidInput, match="was written with chain_id"):
        SubmitJournal(tmp_path, chain_id=bytes(32))


def crash_at(place: str, count: int) -> CrashPoint:
    visits = 0

    def crash(at: str) -> None:
        nonlocal visits
        visits += at == place
        if at == place and visits == count:
            raise Crashed

    return crash


CRASHES = ["in_commit", "after_commit", "after_journal", "after_send", "after_tick_off", "after_forget"]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("place", CRASHES)
async def test_restart_at_every_crash_point(make: Callable[..., World], place: str, count: int) -> None:
    world = make()
    world.restart(crash_at(f"solana.{place}", count))
    acknowledged: list[Bundle] = []

    async def life() -> None:
        for number in range(0, 12, 3):
            group = [bundle_of(number), bundle_of(number + 1), bundle_of(number + 2, size=900)]
            await world.accept(*group)
            acknowledged.extend(group)
            await world.turn()
            world.finalize()
            await world.submitter.wait_durable()
        raise AssertionError("nothing crashed")

    with pytest.raises((Crashed, Unavailable)):
        await life()
    world.restart()
    for bundle in acknowledged:
        name = offer_of(bundle)[0]
        assert world.submitter.knows(name)
    await world.settle(10)
    entries = world.chain.entries()
    for bundle in acknowledged:
        assert entries.count(bundle) == 1
    assert len(set(map(repr, entries))) == len(entries)
    assert world.submitter.pending_bundles == 0
    assert world.submitter.costs["resigned"] == 0
    landed = sum(len(block.transactions) for block in world.chain.blocks)
    assert world.submitter.costs["solana_transactions"] == landed


async def test_run_posts_by_itself_and_stops(make: Callable[..., World]) -> None:
    world = make(rules=SubmitterRules(flush_ms=1, slot_ms=10))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(world.submitter.run())
        await world.accept(*bundles(10))
        async with asyncio.timeout(PATIENCE_S):
            while len(world.chain.entries()) < 10:
                await asyncio.sleep(0)
                if world.chain.open:
                    world.chain.block()
                    world.show()
        world.submitter.stop()
        await running
    assert world.chain.entries() == bundles(10)
    assert world.submitter.stage_cpu_ns["post"] > 0


async def test_run_goes_on_when_the_node_is_back(make: Callable[..., World]) -> None:
    world = make(rules=SubmitterRules(flush_ms=1, slot_ms=10))
    told = asyncio.Event()
    world.submitter._on_stall = lambda reason: told.set()
    world.chain.is_down = True
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE_S):
        running = group.create_task(world.submitter.run())
        await told.wait()
        await world.accept(bundle_of(1))
        world.chain.is_down = False
        while not world.chain.entries():
            await asyncio.sleep(0)
            if world.chain.open:
                world.chain.block()
                world.show()
        world.submitter.stop()
        await running


async def test_whoever_waits_may_be_cancelled(world: World) -> None:
    world.submitter.accept([offer_of(bundle_of(1))])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(world.submitter.wait_durable(), 0)
    await world.submitter.wait_durable()
    assert len(world.journal.load().submissions) == 1
