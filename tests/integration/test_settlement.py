"""Settling on a real L1 with the real contracts: the happy path, refusals, reorgs, replacement, and open proving."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from nodes.agglayer.batch import (
    SettlementEvent,
    SettlementFinal,
    SettlementIncluded,
    SettlementReorged,
    SettlementReverted,
)
from nodes.agglayer.l1_view import L1View
from nodes.agglayer.settlement import REPLACE_BLOCKS, Settler, settle_directly
from nodes.agglayer.standing import Standing
from nodes.ethereum.account import L1Account
from nodes.evm.agglayer_contracts import MANAGER
from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidInput
from nodes.model.faults import ReorgL1
from nodes.model.ids import Address
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import SettlementMoved
from nodes.telemetry.tracer import MemoryTracer
from tests.support.l1 import FEES, RunningL1, l1_config, running_l1
from tests.support.patience import PATIENCE_S
from tests.support.settling import AGGREGATOR, OPEN_AFTER_BLOCKS, STRANGER, Rollups, exit_to, l1_accounts

ONE = NetworkId(1)


class Killed(BaseException):
    """Stands for SIGKILL at a crash point: nothing after it happens in this settler."""


@dataclass
class World:
    """An L1, its view, and settlers that tests make as they like. Steps are taken by hand, so nothing races."""

    l1: RunningL1
    view: L1View
    directory: Path
    rollups: Rollups = field(default_factory=Rollups)
    tracer: MemoryTracer = field(default_factory=lambda: MemoryTracer(SystemClock()))

    standings: dict[int, Standing] = field(default_factory=dict)
    """Of batches that do not stand."""
    code: str = ""

    def settler(
        self, *, account: L1Account = AGGREGATOR, crash: CrashPoint = no_crash, folder: str = "settler"
    ) -> Settler:
        return Settler(
            directory=self.directory / folder,
            client=self.l1.client,
            view=self.view,
            account=account,
            tracer=self.tracer,
            standing=lambda batch_id: self.standings.get(batch_id, Standing.STANDS),
            crash=crash,
        )

    async def mine(self, count: int = 1) -> None:
        await self.l1.node.mine(count)
        await self.seen()

    async def mine_reverting(self) -> None:
        """A block in which every call of the manager fails, whatever its simulation said."""
        manager = "0x" + MANAGER.hex()
        self.code = await self.l1.client.request("eth_getCode", manager, "latest")
        await self.l1.client.request("anvil_setCode", manager, "0x60006000fd")
        await self.mine()
        await self.restore()

    async def restore(self) -> None:
        """The manager as it was. A reorg brings back the state that failed."""
        await self.l1.client.request("anvil_setCode", "0x" + MANAGER.hex(), self.code)

    async def seen(self) -> None:
        """Wait until the view has the L1's head."""
        head = await self.l1.client.head()
        async with asyncio.timeout(PATIENCE_S):
            async for change in self.view.changes():
                if change.block_number == head.number and self.view._top.hash == head.hash:
                    return

    async def step(self, settler: Settler, *, mine: int = 1) -> list[SettlementEvent]:
        """Let the settler work, mine, let it look; what it told."""
        await settler.step()
        if mine:
            await self.mine(mine)
        await settler.step()
        return told(settler)

    def steps(self) -> list[str]:
        return [stamped.event.step for stamped in self.tracer.stamped if isinstance(stamped.event, SettlementMoved)]


def told(settler: Settler) -> list[SettlementEvent]:
    events = list(settler._events)
    settler._events.clear()
    return events


def close(settler: Settler) -> None:
    settler._journal.close()


@asynccontextmanager
async def world(directory: Path, *, finality_slots: int = 2) -> AsyncIterator[World]:
    async with running_l1(l1_config(l1_accounts(), finality_slots=finality_slots), directory / "l1") as l1:
        await l1.node.mine()
        view = L1View(l1.client, networks=Rollups().all)
        async with asyncio.TaskGroup() as group:
            group.create_task(view.run())
            await view.wait_ready()
            try:
                yield World(l1, view, directory)
            finally:
                view.stop()


async def test_a_batch_is_included_then_final(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        batch = w.rollups.batch([exit_to(2), exit_to(0)], [exit_to(1)])
        await settler.submit(batch)
        (included,) = await w.step(settler)
        assert isinstance(included, SettlementIncluded)
        assert included.l1_block == 2
        assert 0 < included.gas_used < 800_000
        for item in batch.items:
            settled = w.view.settled(item.network_id)
            assert settled.pessimistic_root == item.new_pessimistic_root
            assert settled.local_exit_root == item.new_local_exit_root
            assert settled.last_height == 1
        assert w.view.newest_leaf_count == 1
        assert await w.step(settler, mine=3) == []
        (final,) = await w.step(settler)
        assert final == SettlementFinal(
            batch_id=1, tx_hash=included.tx_hash, l1_block=included.l1_block, gas_used=included.gas_used
        )
        assert w.steps() == ["sent", "included", "final"]
        close(settler)


async def test_batches_build_on_one_another(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        batches = [w.rollups.batch([exit_to(2)], []) for _ in range(3)]
        for batch in batches:
            await settler.submit(batch)
        events: list[SettlementEvent] = []
        for _ in range(8):
            events += await w.step(settler)
        assert [event.batch_id for event in events if isinstance(event, SettlementIncluded)] == [1, 2, 3]
        assert [event.batch_id for event in events if isinstance(event, SettlementFinal)] == [1, 2, 3]
        close(settler)


async def test_what_l1_refuses_is_told_with_its_reason_before_it_costs(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)], attesters=1))
        (reverted,) = await w.step(settler)
        assert reverted == SettlementReverted(batch_id=1, tx_hash=b"", reason="UnderThreshold(signatures=1, needed=2)")
        assert await w.l1.client.nonce(AGGREGATOR.address) == 0
        await settler.submit(Rollups().batch([exit_to(2)], attesters=1))
        assert told(settler) == [reverted]
        close(settler)


async def test_a_revert_on_l1_is_told_once_it_is_final(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        await settler.step()
        await w.mine_reverting()
        assert await w.step(settler, mine=0) == []
        close(settler)
        again = w.settler()
        await again.submit(Rollups().batch([exit_to(2)]))
        assert await w.step(again, mine=3) == []
        (reverted,) = await w.step(again)
        assert isinstance(reverted, SettlementReverted)
        assert reverted.reason
        assert reverted.tx_hash
        assert w.steps() == ["sent", "reverted"]
        close(again)


async def test_a_revert_that_a_reorg_takes_back_may_succeed_after_all(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        await settler.step()
        await w.mine_reverting()
        assert await w.step(settler, mine=0) == []
        await w.l1.node.inject(ReorgL1(depth=1, keep_transactions=False))
        await w.restore()
        await w.seen()
        (included,) = await w.step(settler)
        assert isinstance(included, SettlementIncluded)
        assert w.view.settled(ONE).last_height == 1
        close(settler)


async def test_nothing_is_signed_for_heights_that_are_resolved_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        w.standings = {1: Standing.WAITS}
        assert await w.step(settler, mine=2) == []
        w.standings = {1: Standing.REPLACED}
        (dropped,) = await w.step(settler)
        assert isinstance(dropped, SettlementReverted)
        assert dropped.reason.startswith("VerdictReplaced")
        assert not w.view.settled(ONE).last_height
        assert await w.l1.client.nonce(AGGREGATOR.address) == 0
        # What is sent already may be in a block of its own any moment: it goes on.
        w.standings, w.rollups = {}, Rollups()
        await settler.submit(replace(w.rollups.batch([exit_to(2)]), batch_id=2))
        await settler.step()
        w.standings = {2: Standing.REPLACED}
        (included,) = await w.step(settler)
        assert isinstance(included, SettlementIncluded)
        close(settler)


async def test_a_known_batch_with_other_content_is_refused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        with pytest.raises(InvalidInput, match="another content"):
            await settler.submit(Rollups().batch([exit_to(2), exit_to(2)]))
        close(settler)


@pytest.mark.parametrize("keep_transactions", [True, False])
async def test_a_reorg_of_the_settlement(tmp_path: Path, *, keep_transactions: bool) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)], [exit_to(1)]))
        await settler.submit(w.rollups.batch([exit_to(2)]))
        (first,) = await w.step(settler)
        (second,) = await w.step(settler)
        assert isinstance(first, SettlementIncluded)
        assert isinstance(second, SettlementIncluded)
        await w.l1.node.inject(ReorgL1(depth=2, keep_transactions=keep_transactions))
        await w.seen()
        if not keep_transactions:
            assert w.view.settled(ONE).last_height == 0
            assert w.view.newest_leaf_count == 0
        events = await w.step(settler)
        by_batch = {batch: [type(event) for event in events if event.batch_id == batch] for batch in (1, 2)}
        assert by_batch == {key: [SettlementReorged, SettlementIncluded] for key in (1, 2)}
        assert {event.tx_hash for event in events} == {first.tx_hash, second.tx_hash}, "the same bytes"
        assert w.view.settled(ONE).last_height == 2
        finals = await w.step(settler, mine=5)
        assert [type(event) for event in finals] == [SettlementFinal, SettlementFinal]
        close(settler)


async def test_a_transaction_that_is_not_taken_is_replaced(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        await settler.step()
        first = settler._journal.transactions(1)
        for _ in range(REPLACE_BLOCKS):
            await w.l1.client.request("anvil_dropAllTransactions")
            await w.mine()
            await settler.step()
        sent = settler._journal.transactions(1)
        assert sent[:-1] == first
        assert sent[-1].signed.nonce == first[0].signed.nonce
        assert sent[-1].fees.max_fee_wei * 100 >= first[0].fees.max_fee_wei * 110
        await w.mine()
        await settler.step()
        (included,) = told(settler)
        assert isinstance(included, SettlementIncluded)
        assert included.tx_hash == sent[-1].signed.hash
        assert "replaced" in w.steps()
        close(settler)


async def test_a_nonce_that_another_transaction_took(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        settler = w.settler()
        await settler.submit(w.rollups.batch([exit_to(2)]))
        await settler.step()
        await w.l1.client.request("anvil_dropAllTransactions")
        elsewhere = AGGREGATOR.sign_call(
            to=Address(b"\x51" * 20), calldata=b"", nonce=0, gas_limit=21_000, fees=FEES.raised()
        )
        await w.l1.client.send_raw(elsewhere.raw)
        await w.mine()
        await settler.step()
        (included,) = await w.step(settler)
        assert isinstance(included, SettlementIncluded)
        assert await w.l1.client.nonce(AGGREGATOR.address) == 2
        close(settler)


CRASHES = (
    "settlement.before_journal",
    "settlement.after_journal",
    "settlement.before_signed",
    "settlement.after_signed",
    "settlement.after_send",
    "settlement.before_included",
    "settlement.after_included",
    "settlement.before_reorged",
    "settlement.before_final",
)


@pytest.mark.parametrize("place", CRASHES)
async def test_a_kill_at_every_step_settles_once(tmp_path: Path, place: str) -> None:
    """The caller submits what it has not heard of again, as the service does after a restart."""
    fired: list[str] = []

    def crash(at: str) -> None:
        if at == place and not fired:
            fired.append(at)
            raise Killed

    async with world(tmp_path) as w:
        batch = w.rollups.batch([exit_to(2)], [exit_to(1)])
        settler = w.settler(crash=crash)
        events: list[SettlementEvent] = []
        has_reorged = False
        for round_number in range(14):
            try:
                await settler.submit(batch)
                events += told(settler)
                events += await w.step(settler)
            except Killed:
                close(settler)
                settler = w.settler()
                # The L1 goes on while the settler is down.
                await w.mine(round_number % 2)
            if place == "settlement.before_reorged" and not has_reorged and w.view.settled(ONE).last_height:
                has_reorged = True
                await w.l1.node.inject(ReorgL1(depth=1, keep_transactions=False))
                await w.seen()
        close(settler)
        assert fired == [place]
        assert any(isinstance(event, SettlementIncluded) for event in events) or place == "settlement.before_final"
        assert isinstance(events[-1], SettlementFinal)
        assert not any(isinstance(event, SettlementReverted) for event in events)
        assert await w.l1.client.nonce(AGGREGATOR.address) == 1, "one transaction was ever included"
        assert w.view.settled(ONE).last_height == 1


async def test_a_settler_without_its_journal_finds_its_settlement_on_l1(tmp_path: Path) -> None:
    """The roots before the batch are no longer those of L1: nothing may be sent, and the batch is not in error."""
    async with world(tmp_path) as w:
        batch = w.rollups.batch([exit_to(2)])
        lost = w.settler()
        await lost.submit(batch)
        (included,) = await w.step(lost)
        close(lost)
        settler = w.settler(folder="new")
        await settler.submit(batch)
        assert await w.step(settler) == [included]
        assert await w.l1.client.nonce(AGGREGATOR.address) == 1
        close(settler)


async def test_open_proving(tmp_path: Path) -> None:
    """Somebody else settles after the window; the trusted settler takes that for its own and goes on."""
    async with world(tmp_path) as w:
        stranger = w.settler(account=STRANGER, folder="stranger")
        trusted = w.settler()
        batch = w.rollups.batch([exit_to(2)], [exit_to(1)])
        with pytest.raises(InvalidInput, match="OnlyTrustedAggregatorUntil"):
            await settle_directly(w.l1.client, STRANGER, batch, deadline_s=PATIENCE_S)
        await stranger.submit(batch)
        assert await w.step(stranger) == []
        await w.mine(OPEN_AFTER_BLOCKS)
        (included,) = await w.step(stranger)
        assert isinstance(included, SettlementIncluded)
        await trusted.submit(batch)
        assert await w.step(trusted) == [included]
        await trusted.submit(w.rollups.batch([exit_to(2)]))
        (second,) = [event for event in await w.step(trusted) if event.batch_id == 2]
        assert isinstance(second, SettlementIncluded)
        close(stranger)
        close(trusted)


async def test_two_settlers_race_and_the_slower_one_is_not_in_error(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.mine(OPEN_AFTER_BLOCKS)
        stranger = w.settler(account=STRANGER, folder="stranger")
        trusted = w.settler()
        batch = w.rollups.batch([exit_to(2)])
        for settler in (stranger, trusted):
            await settler.submit(batch)
            await settler.step()
        await w.mine()
        for settler in (stranger, trusted):
            await settler.step()
            await settler.step()
        (first,), (second,) = told(stranger), told(trusted)
        assert isinstance(first, SettlementIncluded)
        assert second == first
        # The account's next nonce is taken by the transaction that L1 reverted.
        await trusted.submit(w.rollups.batch([exit_to(2)]))
        assert any(event.batch_id == 2 for event in await w.step(trusted))
        close(stranger)
        close(trusted)


async def test_a_running_settler_follows_the_slots(tmp_path: Path) -> None:
    config = l1_config(l1_accounts(), slot_time_ms=40)
    async with running_l1(config, tmp_path / "l1") as l1, asyncio.TaskGroup() as group:
        view = L1View(l1.client, networks=Rollups().all)
        w = World(l1, view, tmp_path)
        settler = w.settler()
        group.create_task(view.run())
        group.create_task(settler.run())
        for _ in range(3):
            await settler.submit(w.rollups.batch([exit_to(2)], [exit_to(1)]))
        finals = []
        async with asyncio.timeout(PATIENCE_S):
            async for event in settler.events():
                finals += [event.batch_id] if isinstance(event, SettlementFinal) else []
                if len(finals) == 3:
                    break
        assert finals == [1, 2, 3]
        settler.stop()
        view.stop()
