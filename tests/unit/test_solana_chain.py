"""The dev node's chain: slots, levels, views of the past, and every fault."""

import time
from random import Random

import pytest
from solders.hash import Hash
from solders.pubkey import Pubkey

from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.faults import ChainAdmin
from nodes.solana.devnode.values import (
    BlockFrozen,
    Event,
    Forked,
    LevelRaised,
    SlotOpened,
    SlotSkipped,
    TransactionExecuted,
)
from tests.support.solana_transactions import SOL, keypair, memo_of, transfer_of

ALICE, BOB = keypair("alice"), keypair("bob").pubkey()
SHORT = SolanaTiming(slot_ms=400, confirm_slots=2, finalize_slots=5)


def funded(timing: SolanaTiming = SHORT, **settings: int) -> Chain:
    chain = Chain(ChainConfig(timing=timing, **settings))  # type: ignore[arg-type]
    chain.airdrop(ALICE.pubkey(), 100 * SOL)
    chain.tick()
    return chain


def lamports(chain: Chain, key: Pubkey, level: str = "processed") -> int:
    account = chain.account(key, level)  # type: ignore[arg-type]
    return account.lamports if account else 0


def pay(chain: Chain, nonce: int, blockhash: Hash | None = None) -> str:
    """Send one SOL to Bob; the signature."""
    return chain.submit(transfer_of(ALICE, BOB, SOL, blockhash or chain.tip.blockhash, nonce=nonce))


def test_blocks_name_their_parent_and_hash_their_signatures() -> None:
    chain, twin = funded(), funded()
    for each in (chain, twin):
        pay(each, 1)
        each.tick()
    assert chain.tip == twin.tip or chain.tip.blockhash == twin.tip.blockhash
    parent = chain.block(chain.tip.parent_slot)
    assert parent is not None
    assert chain.tip.previous_blockhash == parent.blockhash
    pay(twin, 2)
    chain.tick()
    twin.tick()
    assert chain.tip.slot == twin.tip.slot
    assert chain.tip.blockhash != twin.tip.blockhash
    assert Chain(ChainConfig(seed=2)).genesis_hash != chain.genesis_hash


def test_a_transaction_rises_through_the_levels() -> None:
    chain = funded()
    signature = pay(chain, 1)
    landed = chain.open_slot
    seen = []
    for _ in range(7):
        status = chain.status_of(signature)
        assert status is not None
        assert status.slot == landed
        seen.append((status.level, status.confirmations))
        chain.tick()
    assert seen == [
        *[("processed", 0), ("processed", 0), ("processed", 1)],
        *[("confirmed", 2), ("confirmed", 3), ("confirmed", 4), ("finalized", None)],
    ]


def test_collapsed_finality_raises_both_levels_at_once() -> None:
    chain = funded(SolanaTiming(slot_ms=400, confirm_slots=1, finalize_slots=1))
    signature = pay(chain, 1)
    chain.tick(2)
    status = chain.status_of(signature)
    assert status is not None
    assert status.level == "finalized"
    assert chain.slot("confirmed") == chain.slot("finalized")
    with pytest.raises(InvalidInput, match="1 blocks are not finalized"):
        chain.fork(2)


def test_accounts_are_shown_as_they_were_at_each_level() -> None:
    chain = funded()
    paid = []
    for nonce in range(12):
        pay(chain, nonce)
        paid.append(lamports(chain, BOB))
        chain.tick()
    assert paid == [SOL * (index + 1) for index in range(12)]
    assert lamports(chain, BOB, "confirmed") == 10 * SOL
    assert lamports(chain, BOB, "finalized") == 7 * SOL


def test_accounts_of_a_program_are_shown_as_they_were_at_each_level() -> None:
    chain = funded()
    owner = Pubkey.from_string("11111111111111111111111111111111")
    pay(chain, 1)
    assert BOB in dict(chain.program_accounts(owner, "processed"))
    assert BOB not in dict(chain.program_accounts(owner, "confirmed"))
    chain.tick(3)
    assert dict(chain.program_accounts(owner, "confirmed"))[BOB].lamports == SOL
    assert BOB not in dict(chain.program_accounts(owner, "finalized"))


def test_a_blockhash_is_valid_for_150_heights_and_not_for_slots() -> None:
    chain = funded()
    blockhash, last = chain.latest_blockhash("processed")
    assert last == chain.tip.height + 150
    chain.skip(100)
    chain.tick(100)
    chain.tick(149)
    assert chain.block_height("processed") == last
    assert chain.is_blockhash_valid(blockhash, "processed")
    signature = pay(chain, 1, blockhash)
    assert chain.status_of(signature) is not None
    chain.tick()
    assert not chain.is_blockhash_valid(blockhash, "processed")
    assert chain.is_blockhash_valid(blockhash, "confirmed")
    assert chain.status_of(pay(chain, 2, blockhash)) is None
    assert chain.simulate(transfer_of(ALICE, BOB, SOL, blockhash, nonce=2)).error == "BlockhashNotFound"


def test_a_transaction_lands_once() -> None:
    chain = funded()
    blockhash = chain.tip.blockhash
    first = pay(chain, 1, blockhash)
    for _ in range(3):
        assert pay(chain, 1, blockhash) == first
        chain.tick()
    assert lamports(chain, BOB) == SOL
    assert chain.simulate(transfer_of(ALICE, BOB, SOL, blockhash, nonce=1)).error == "AlreadyProcessed"


def test_skipped_slots_have_no_block_and_their_transactions_wait() -> None:
    chain = funded()
    signature = pay(chain, 1)
    open_slot, height, processed = chain.open_slot, chain.tip.height, chain.slot("processed")
    chain.skip(3)
    assert chain.status_of(signature) is None
    assert lamports(chain, BOB) == 0
    assert chain.slot("processed") == processed - 1
    late = pay(chain, 2)
    chain.tick(3)
    status = chain.status_of(signature)
    assert status is not None
    assert status.slot == open_slot + 3
    assert chain.status_of(late) is not None
    chain.tick()
    assert chain.tip.height == height + 1
    assert chain.tip.parent_slot == open_slot - 1
    assert [item.signature for item in chain.tip.transactions] == [signature, late]
    assert list(chain.blocks_between(open_slot - 1, open_slot + 9, "processed")) == [open_slot - 1, open_slot + 3]
    assert chain.block(open_slot) is None


def test_leaders_take_turns_of_four_slots() -> None:
    chain = funded()
    leaders = [chain.leader(slot) for slot in range(1_000, 1_016)]
    assert leaders == [leaders[index // 4 * 4] for index in range(16)]
    assert set(leaders) == set(chain.validators)


def test_a_fork_abandons_blocks_and_their_slots_stay_empty() -> None:
    chain = funded()
    chain.tick(6)
    kept = chain.tip
    first = pay(chain, 1)
    chain.tick()
    second = pay(chain, 2)
    lost = chain.tip.slot
    forked = chain.fork(1, "none")
    assert forked.abandoned_slots == (lost,)
    assert set(forked.abandoned_signatures) == {first, second}
    assert chain.status_of(first) is None
    assert lamports(chain, BOB) == 0
    assert chain.tip == kept
    assert chain.block(lost) is None
    chain.tick()
    assert chain.tip.parent_slot == kept.slot
    assert chain.tip.slot == lost + 2
    assert chain.tip.height == kept.height + 1


def test_a_fork_includes_again_what_is_still_valid() -> None:
    chain = funded()
    chain.tick(6)
    old = chain.tip.blockhash
    chain.tick()
    survivor = pay(chain, 1, old)
    orphan = pay(chain, 2)  # its blockhash is that of a block that will be gone
    chain.tick()
    chain.fork(2, "same")
    assert chain.status_of(survivor) is not None
    assert chain.status_of(orphan) is None
    assert lamports(chain, BOB) == SOL


def test_a_shuffled_fork_has_the_same_transactions_in_another_order() -> None:
    chain = funded()
    chain.tick(6)
    before = [pay(chain, nonce) for nonce in range(8)]
    chain.tick()
    chain.fork(1, "shuffled")
    chain.tick()
    after = [item.signature for item in chain.tip.transactions]
    assert sorted(after) == sorted(before)
    assert after != before


def test_a_fork_below_the_finalized_block_is_refused() -> None:
    chain = funded()
    chain.tick(20)
    for depth in (6, 7, 1_000, -1):
        with pytest.raises(InvalidInput, match="5 blocks are not finalized"):
            chain.fork(depth)
    finalized = chain.slot("finalized")
    assert chain.fork(5).parent_slot == finalized


def test_a_fork_below_the_confirmed_block_leaves_the_mark_until_the_new_branch_passes_it() -> None:
    chain = funded()
    chain.tick(20)
    broken, tip = chain.slot("confirmed"), chain.tip.slot
    raised: list[int] = []

    def note(event: Event) -> None:
        if isinstance(event, LevelRaised) and event.level == "confirmed":
            raised.append(event.slot)

    chain.listeners.append(note)
    parent = chain.fork(4).parent_slot
    assert parent < broken
    assert chain.slot("confirmed") == broken
    assert chain.latest_blockhash("confirmed")[0] == chain.tip.blockhash
    assert list(chain.blocks_between(parent, broken, "confirmed")) == [parent]
    chain.tick(2)
    assert chain.slot("confirmed") == broken
    chain.tick()
    assert chain.slot("confirmed") == tip + 2
    assert raised == [tip + 2]


def test_marks_never_fall_and_every_block_below_finalized_stays() -> None:
    chain, random = funded(), Random(7)
    finalized: dict[int, Hash] = {}
    marks = (0, 0)
    for _ in range(400):
        chain.tick()
        if random.random() < 0.3:
            depth = random.randrange(
                len(chain.blocks_between(chain.slot("finalized") + 1, chain.tip.slot, "processed")) + 1
            )
            chain.fork(depth, "none")
        now = (chain.slot("confirmed"), chain.slot("finalized"))
        assert now >= marks
        assert now[1] >= marks[1]
        marks = now
        for slot in chain.blocks_between(0, now[1], "finalized"):
            block = chain.block(slot)
            assert block is not None
            assert finalized.setdefault(slot, block.blockhash) == block.blockhash


def test_dropped_transactions_never_land() -> None:
    chain = funded()
    chain.drop(1.0, for_slots=2)
    signature = pay(chain, 1)
    chain.tick()
    chain.tick()
    assert chain.status_of(signature) is None
    assert chain.status_of(pay(chain, 1)) is not None
    chain.drop(0.5, for_slots=1)
    landed = [chain.status_of(pay(chain, nonce)) is not None for nonce in range(2, 42)]
    assert 5 < sum(landed) < 35


def test_a_lagging_view_is_consistent_and_transactions_still_arrive() -> None:
    chain = funded()
    chain.tick(10)
    signature = pay(chain, 1)
    tip = chain.tip
    chain.tick()
    chain.lag(4, for_slots=3)
    assert chain.slot("processed") == chain.tip.slot - 4
    assert chain.slot("confirmed") == chain.tip.slot - 6
    assert chain.slot("finalized") == chain.tip.slot - 9
    assert chain.status_of(signature) is None
    assert lamports(chain, BOB) == 0
    late = pay(chain, 2, tip.blockhash)
    assert chain.simulate(transfer_of(ALICE, BOB, SOL, tip.blockhash, nonce=3)).error == "BlockhashNotFound"
    chain.tick(3)
    assert chain.status_of(signature) is not None
    assert chain.status_of(late) is not None
    assert lamports(chain, BOB) == 2 * SOL


def test_a_view_never_lags_beyond_what_can_be_read() -> None:
    chain = funded()
    chain.tick(200)
    chain.fork(5, "none")
    chain.lag(64, for_slots=1)
    assert chain.slot("finalized") == chain.tip.slot - 64
    assert lamports(chain, ALICE.pubkey(), "finalized") == 100 * SOL
    with pytest.raises(InvalidInput, match="at most 64"):
        chain.lag(65, for_slots=1)


def test_expired_blockhashes_are_refused_until_a_new_block() -> None:
    chain = funded()
    old = chain.tip.blockhash
    chain.expire_blockhashes()
    assert not chain.is_blockhash_valid(old, "processed")
    assert chain.status_of(pay(chain, 1, old)) is None
    chain.tick()
    assert chain.status_of(pay(chain, 2)) is not None


def test_what_does_not_fit_waits_for_the_next_slot() -> None:
    chain = funded(block_transactions_max=3, pending_transactions_max=4)
    signatures = [pay(chain, nonce) for nonce in range(8)]
    assert [chain.status_of(each) is not None for each in signatures] == [True] * 3 + [False] * 5
    assert (chain.pending_count, chain.pending_dropped_count) == (4, 1)
    chain.tick(3)
    landed = [status.slot if (status := chain.status_of(each)) else 0 for each in signatures]
    first = landed[0]
    assert landed == [first] * 3 + [first + 1] * 3 + [first + 2, 0]


def test_an_account_that_is_written_too_much_waits_and_others_go_on() -> None:
    # The smallest budget: two million cost units, of which a memo with default limits asks for a tenth.
    chain = funded(block_cost_max=5_000_000)
    other = keypair("other")
    chain.airdrop(other.pubkey(), SOL)
    chain.tick()
    blockhash = chain.tip.blockhash
    mine = [chain.submit(memo_of(ALICE, b"m%d" % index, blockhash)) for index in range(200)]
    waiting = [each for each in mine if chain.status_of(each) is None]
    assert 0 < len(waiting) < 200
    assert chain.status_of(chain.submit(memo_of(other, b"m", blockhash))) is not None
    chain.tick(5)
    assert all(chain.status_of(each) is not None for each in mine)


def test_old_blocks_are_pruned_and_recent_ones_stay() -> None:
    chain = funded(history_blocks=200)
    signature = pay(chain, 1)
    chain.tick(190)
    assert chain.transaction(signature, "finalized") is not None
    first = chain.first_slot
    chain.tick(100)
    assert chain.first_slot > first
    assert chain.status_of(signature) is None
    assert chain.signatures_for(BOB, "finalized") == []
    assert len(chain.blocks_between(0, chain.tip.slot, "processed")) == 200
    assert lamports(chain, BOB, "finalized") == SOL
    assert chain.transaction_count == 2


def test_transactions_in_memory_are_bounded_down_to_the_age_of_a_blockhash() -> None:
    chain = funded(history_transactions=1)
    for nonce in range(400):
        pay(chain, nonce)
        chain.tick()
    assert chain.slot("finalized") - chain.first_slot == 150


def test_signatures_of_an_address_come_newest_first_and_in_pages() -> None:
    chain = funded()
    sent = []
    for nonce in range(6):
        sent.append(pay(chain, nonce))
        chain.tick()
    newest = [item.signature for item in chain.signatures_for(BOB, "processed")]
    assert newest == sent[::-1]
    assert [item.signature for item in chain.signatures_for(BOB, "confirmed")] == sent[3::-1]
    page = chain.signatures_for(BOB, "processed", before=sent[4], until=sent[1])
    assert [item.signature for item in page] == [sent[3], sent[2]]
    assert [item.signature for item in chain.signatures_for(BOB, "processed", limit=2)] == [sent[5], sent[4]]


def test_listeners_hear_what_happens_in_order() -> None:
    chain = funded()
    chain.tick(5)
    events: list[Event] = []
    chain.listeners.append(events.append)
    pay(chain, 1)
    chain.tick()
    assert [type(event) for event in events] == [
        TransactionExecuted,
        BlockFrozen,
        SlotOpened,
        LevelRaised,
        LevelRaised,
    ]
    raised = [event for event in events if isinstance(event, LevelRaised)]
    assert [(event.level, event.slot - event.previous_slot) for event in raised] == [("confirmed", 1), ("finalized", 1)]
    events.clear()
    chain.skip(1)
    chain.tick()
    assert [type(event) for event in events] == [SlotSkipped, SlotOpened]
    events.clear()
    chain.fork(1)
    # The payment was in the abandoned block, and comes again.
    assert [type(event) for event in events] == [Forked, SlotOpened, TransactionExecuted]


def test_block_times_follow_slots_and_never_fall_when_the_timing_changes() -> None:
    chain = funded()
    chain.tick(10)
    before = chain.time_of(chain.open_slot)
    chain.set_timing(SolanaTiming(slot_ms=1_000, confirm_slots=1, finalize_slots=2))
    chain.tick(10)
    assert chain.tip.time_s == before + 9
    chain.set_timing(SHORT, time_ms=(before + 1_000) * 1_000)
    chain.tick()
    assert chain.tip.time_s == before + 1_000
    chain.set_timing(SHORT, time_ms=5)
    chain.tick()
    assert chain.tip.time_s == before + 1_000


def test_admin_methods_do_what_they_say_and_name_wrong_parameters() -> None:
    chain = funded()
    admin = ChainAdmin(chain)
    assert admin.call("devnode_tick", {"slots": 20}) == chain.open_slot
    pay(chain, 1)
    forked = admin.call("devnode_fork", {"depth": 1, "reinclude": "none"})
    assert len(forked["abandonedSignatures"]) == 1
    assert admin.call("devnode_skipSlots", {"slots": 2})
    assert admin.call("devnode_status", {})["skipsLeft"] == 2
    assert admin.call("devnode_dropTransactions", {"share": 1, "slots": 1})
    assert admin.call("devnode_lag", {"slots": 1, "forSlots": 1})
    assert admin.call("devnode_expireBlockhashes", {})
    with pytest.raises(InvalidInput, match="depth is None"):
        admin.call("devnode_fork", {})
    with pytest.raises(InvalidInput, match="share is"):
        admin.call("devnode_dropTransactions", {"share": "all"})
    with pytest.raises(InvalidInput, match="reinclude is"):
        admin.call("devnode_fork", {"depth": 1, "reinclude": "maybe"})
    with pytest.raises(UnknownName, match="devnode_tick"):
        admin.call("devnode_tik", {})


def test_an_airdrop_beyond_the_faucet_is_refused() -> None:
    chain = funded()
    with pytest.raises(InvalidInput, match="airdrop"):
        chain.airdrop(BOB, 2**62)
    with pytest.raises(InvalidInput, match="InsufficientFundsForRent"):
        chain.airdrop(BOB, 5)
    assert chain.airdrop(BOB, SOL) != chain.airdrop(BOB, SOL)
    assert lamports(chain, BOB) == 2 * SOL


def test_it_is_fast_enough() -> None:
    """A fraction of what was measured: 8,000 transactions and 40,000 empty slots per second of CPU."""
    chain = funded()
    payments = [transfer_of(ALICE, BOB, SOL // 1_000, chain.tip.blockhash, nonce=nonce) for nonce in range(500)]
    start_s = time.process_time()
    for raw in payments:
        chain.submit(raw)
    submitted_s = time.process_time()
    chain.tick(2_000)
    assert submitted_s - start_s < 500 / 1_500
    assert time.process_time() - submitted_s < 2_000 / 5_000
    assert chain.transaction_count == 501
