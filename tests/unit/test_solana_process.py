"""The dev node's slot clock, and what a restart makes of the time that passed."""

from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.config import ChainConfig, DevnodeConfig
from nodes.solana.devnode.process import Devnode, SlotClock
from nodes.telemetry.clock import ManualClock
from tests.support.solana_transactions import SOL, keypair

MS = 1_000_000
ALICE = keypair("alice").pubkey()


def config_in(directory: Path, *, slot_ms: int = 400, paused: bool = False) -> DevnodeConfig:
    timing = SolanaTiming(slot_ms=slot_ms, confirm_slots=2, finalize_slots=5)
    return DevnodeConfig(directory=str(directory), chain=ChainConfig(genesis_time_s=0, timing=timing), paused=paused)


def test_the_slot_clock_does_not_drift() -> None:
    clock = ManualClock()
    slots = SlotClock(clock)
    slots.start(10, slot_ms=400)
    assert slots.seconds_until(11) == 0.4
    clock.advance(ns=399 * MS)
    assert slots.due_slot() == 10
    clock.advance(ns=3 * MS)
    assert slots.due_slot() == 11
    assert slots.seconds_until(12) == pytest.approx(0.398)
    clock.advance(ns=4_000 * MS)
    assert slots.due_slot() == 21
    assert slots.seconds_until(15) == 0


def test_slots_that_passed_while_the_node_was_busy_have_no_block(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    first = node.call("devnode_run", {})
    clock.advance(ns=1_900 * MS)
    node._tick_if_due()
    assert node.chain.open_slot == first + 4
    assert node.chain.tip.slot == first
    node.close()


def test_block_times_are_those_of_the_world_from_genesis_and_again_from_the_start_of_the_clock(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    now_s = clock.wall_ns() // 1_000_000_000
    assert abs(node.chain.tip.time_s - now_s) <= 1
    node.call("devnode_tick", {"slots": 10})
    clock.advance(ns=3_600_000 * MS)
    node.call("devnode_run", {})
    assert node.chain.time_of(node.chain.open_slot) == now_s + 3_600
    node.close()


def test_a_restart_skips_the_slots_that_passed_and_goes_on(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    node.chain.airdrop(ALICE, SOL)
    node.call("devnode_tick", {"slots": 8})
    first = node.call("devnode_run", {})
    clock.advance(ns=800 * MS)
    node._tick_if_due()
    tip, time_s = node.chain.tip, node.chain.time_of(node.chain.open_slot)
    node.close()

    clock.advance(ns=10_000 * MS)
    node = Devnode(config_in(tmp_path), clock)
    assert node.chain.tip.blockhash == tip.blockhash
    assert node.chain.open_slot == first + 27
    assert node.chain.time_of(node.chain.open_slot) == time_s + 10
    assert node.call("devnode_status", {})["running"]
    node.close()

    node = Devnode(config_in(tmp_path, paused=True), clock)
    assert not node.call("devnode_status", {})["running"]
    node.close()
    clock.advance(ns=10_000 * MS)
    node = Devnode(config_in(tmp_path), clock)
    assert node.chain.open_slot == first + 27
    assert not node.call("devnode_status", {})["running"]
    account = node.chain.account(ALICE, "finalized")
    assert account is not None
    assert account.lamports == SOL
    node.close()


def test_a_restart_may_change_the_slot_time(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    node.call("devnode_tick", {"slots": 4})
    time_ms = node.chain.time_ms_of(node.chain.open_slot)
    node.close()
    node = Devnode(config_in(tmp_path, slot_ms=50), clock)
    assert node.chain.timing.slot_ms == 50
    slot = node.chain.open_slot
    assert node.chain.time_ms_of(slot) == time_ms
    assert node.chain.time_ms_of(slot + 1) == time_ms + 50
    node.close()
    node = Devnode(config_in(tmp_path, slot_ms=50), clock)
    assert node.chain.time_ms_of(slot + 1) == time_ms + 50
    node.close()


def test_a_timer_that_fires_just_after_slots_were_moved_by_hand_moves_none(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    first = node.call("devnode_run", {})
    clock.advance(ns=400 * MS)  # the timer of the next slot is due, and the request comes first
    node.call("devnode_tick", {"slots": 10})
    node._tick_if_due()
    assert node.chain.open_slot == first + 10
    node.call("devnode_pause", {})
    node._tick_if_due()
    assert node.chain.open_slot == first + 10
    node.close()


def test_slots_moved_by_hand_while_the_clock_runs_do_not_make_it_wait(tmp_path: Path) -> None:
    clock = ManualClock()
    node = Devnode(config_in(tmp_path), clock)
    node.call("devnode_run", {})
    slot = node.call("devnode_tick", {"slots": 100})
    assert node._clock.due_slot() == slot
    node.close()


def test_the_timing_of_a_run_is_checked(tmp_path: Path) -> None:
    node = Devnode(config_in(tmp_path), ManualClock())
    with pytest.raises(InvalidInput, match="slotMs is 0"):
        node.call("devnode_run", {"slotMs": 0})
    node.call("devnode_run", {"slotMs": 100, "confirmSlots": 1})
    assert node.chain.timing == SolanaTiming(slot_ms=100, confirm_slots=1, finalize_slots=5)
    node.call("devnode_pause", {})
    assert not node.call("devnode_status", {})["running"]
    node.close()
