"""The dev node's ledger: what a restart finds in it, and what it makes of damage."""

from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.ledger import LEDGER_FILE, Ledger
from nodes.solana.devnode.values import LEVELS, ClockEntry
from tests.support.solana_transactions import SOL, call_of, deployment, keypair, tiny_program, transfer_of

ALICE, BOB = keypair("alice"), keypair("bob").pubkey()
CONFIG = ChainConfig(timing=SolanaTiming(confirm_slots=2, finalize_slots=5))


def opened(directory: Path, config: ChainConfig = CONFIG) -> tuple[Ledger, Chain]:
    """What a process does at its start."""
    ledger = Ledger(directory, config)
    chain = Chain(ledger.config, record=ledger.record)
    try:
        replay(ledger, chain)
    except InvalidInput:
        ledger.close()
        raise
    return ledger, chain


def replay(ledger: Ledger, chain: Chain) -> None:
    for entry in ledger.entries():
        chain.replay(entry)


def eventful(directory: Path) -> tuple[Ledger, Chain]:
    """A chain with a program, payments, skipped slots, forks, a change of timing."""
    ledger, chain = opened(directory)
    chain.airdrop(ALICE.pubkey(), 100 * SOL)
    chain.tick(8)
    program = keypair("program")
    for raw in deployment(chain, ALICE, program, tiny_program(), name="first"):
        chain.submit(raw)
    chain.tick()
    chain.fork(1, "same")
    chain.tick()
    chain.set_timing(SolanaTiming(slot_ms=200, confirm_slots=1, finalize_slots=7))
    for nonce in range(6):
        chain.submit(transfer_of(ALICE, BOB, SOL, chain.tip.blockhash, nonce=nonce))
        chain.submit(call_of(ALICE, program.pubkey(), chain.tip.blockhash, nonce=nonce))
        chain.tick()
    chain.fork(2, "shuffled")
    chain.skip(2)
    chain.expire_blockhashes()
    chain.tick(3)
    return ledger, chain


def test_a_restart_gives_the_same_chain(tmp_path: Path) -> None:
    ledger, before = eventful(tmp_path)
    ledger.close()
    ledger, after = opened(tmp_path)
    assert after.tip.blockhash == before.tip.blockhash
    assert after.tip.time_s == before.tip.time_s
    assert after.transaction_count == before.transaction_count
    assert after.timing == before.timing
    for slot in range(before.first_slot, before.tip.slot + 1):
        mine, theirs = before.block(slot), after.block(slot)
        assert (mine and mine.blockhash) == (theirs and theirs.blockhash)
        for transaction in mine.transactions if mine else ():
            assert after.status_of(transaction.signature) == before.status_of(transaction.signature)
    for level in LEVELS:
        assert after.slot(level) == before.slot(level)
        for key in (ALICE.pubkey(), BOB, keypair("program").pubkey(), before.faucet):
            assert after.account(key, level) == before.account(key, level)
    after.submit(transfer_of(ALICE, BOB, SOL, after.tip.blockhash, nonce=99))
    after.tick()
    assert len(after.tip.transactions) == 1
    ledger.close()


def test_the_open_slot_is_lost_with_the_process(tmp_path: Path) -> None:
    ledger, chain = eventful(tmp_path)
    tip = chain.tip.blockhash
    signature = chain.submit(transfer_of(ALICE, BOB, SOL, tip, nonce=50))
    assert chain.status_of(signature) is not None
    ledger.close()
    ledger, chain = opened(tmp_path)
    assert chain.tip.blockhash == tip
    assert chain.status_of(signature) is None
    ledger.close()


@pytest.mark.parametrize("cut", [1, 7, 8, 9, 40])
def test_a_record_that_was_not_finished_is_cut_off(tmp_path: Path, cut: int) -> None:
    ledger, chain = eventful(tmp_path)
    parent = chain.tip.parent_slot
    ledger.close()
    path = tmp_path / LEDGER_FILE
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-cut])
    ledger, chain = opened(tmp_path)
    assert chain.tip.slot == parent
    assert ledger.torn_bytes > 0
    chain.tick()
    ledger.close()
    assert path.stat().st_size == size
    ledger, _ = opened(tmp_path)
    assert ledger.torn_bytes == 0
    ledger.close()


def test_zeros_after_a_power_cut_are_cut_off(tmp_path: Path) -> None:
    ledger, chain = eventful(tmp_path)
    tip = chain.tip.slot
    ledger.close()
    with (tmp_path / LEDGER_FILE).open("ab") as file:
        file.write(bytes(5_000))
    ledger, chain = opened(tmp_path)
    assert (chain.tip.slot, ledger.torn_bytes) == (tip, 5_000)
    ledger.close()


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    ledger, _ = eventful(tmp_path)
    ledger.close()
    path = tmp_path / LEDGER_FILE
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match="is damaged at byte"):
        opened(tmp_path)


def test_a_ledger_that_executes_differently_is_refused(tmp_path: Path) -> None:
    ledger, chain = eventful(tmp_path)
    ledger.close()
    other = Chain(replace(chain.config, seed=2))
    ledger = Ledger(tmp_path, CONFIG)
    with pytest.raises(InvalidInput, match="blockhash"):
        replay(ledger, other)
    ledger.close()


def test_a_ledger_belongs_to_one_chain_and_one_process(tmp_path: Path) -> None:
    ledger, _ = opened(tmp_path)
    with pytest.raises(Unavailable, match="in use"):
        Ledger(tmp_path, CONFIG)
    ledger.close()
    with pytest.raises(InvalidInput, match="seed 1, this node has 2"):
        Ledger(tmp_path, replace(CONFIG, seed=2))
    with pytest.raises(InvalidInput, match="genesis_time_s"):
        Ledger(tmp_path, replace(CONFIG, genesis_time_s=5))
    changed = replace(CONFIG, genesis_time_s=0, timing=SolanaTiming(slot_ms=50), history_blocks=500)
    ledger = Ledger(tmp_path, changed)
    assert ledger.config == replace(CONFIG, history_blocks=500)
    ledger.close()


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / LEDGER_FILE).write_bytes(b"something else entirely")
    with pytest.raises(InvalidInput, match="not a dev node's ledger"):
        Ledger(tmp_path, CONFIG)


def test_how_the_clock_stood_is_kept(tmp_path: Path) -> None:
    ledger, _ = opened(tmp_path)
    entry = ClockEntry(is_running=True, slot=1_001, wall_ns=1_800_000_000_123_456_789)
    ledger.record(entry)
    ledger.close()
    ledger = Ledger(tmp_path, CONFIG)
    assert list(ledger.entries()) == [entry]
    ledger.close()
