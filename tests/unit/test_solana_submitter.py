"""The submitter against a chain that drops, forks, fails and lags: everything lands, once, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.rules.inbox import CHUNK, COMMIT
from nodes.rules.lazy import placed_bytes
from nodes.solana.submitter import SubmitterRules
from tests.support.solana_posting import bundle_of, offer_of
from tests.support.solana_submitting import PAYERS, World, bundles, worlds


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., World]]:
    with worlds(tmp_path) as make_one:
        yield make_one


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


async def test_bundles_land_in_order_and_are_forgotten_when_final(world: World) -> None:
    offered = bundles(60)
    await world.accept(*offered)
    assert world.submitter.pending_bundles == 60
    assert world.submitter.pending_bytes == sum(placed_bytes(bundle) for bundle in offered)
    await world.turn()
    assert world.chain.entries() == offered
    assert world.submitter.pending_bundles == world.submitter.pending_bytes == 0
    assert all(world.submitter.knows(offer_of(bundle)[0]) for bundle in offered)
    payers = {transaction.payer for transaction in world.chain.blocks[-1].transactions}
    assert payers == {str(payer.pubkey()) for payer in PAYERS}
    world.finalize()
    await world.submitter.wait_durable()
    kept = world.journal.load()
    assert not kept.submissions
    assert not kept.transactions
    assert len(kept.recent) == 60
    costs = world.submitter.costs
    assert (
        costs["solana_transactions"] == len(world.chain.blocks[-1].transactions) == kept.totals["solana_transactions"]
    )
    assert costs["lamports"] == 5_000 * costs["solana_transactions"]
    assert costs["rebroadcasts"] == costs["resigned"] == costs["failed_transactions"] == 0


async def test_known_until_the_dedup_window_has_passed(make: Callable[..., World]) -> None:
    world = make(rules=SubmitterRules(dedup_blocks=5))
    name = offer_of(bundle_of(1))[0]
    await world.accept(bundle_of(1))
    await world.turn()
    world.finalize()
    await world.submitter.wait_durable()
    world.restart()
    assert world.submitter.knows(name)
    await world.turn(5)
    world.finalize()
    assert not world.submitter.knows(name)
    await world.submitter.wait_durable()
    world.restart()
    assert not world.submitter.knows(name)


async def test_what_was_dropped_is_sent_again_with_the_same_bytes(world: World) -> None:
    world.chain.drops = lambda raw: True
    await world.accept(bundle_of(1))
    await world.turn(4)
    assert len(world.chain.sent) == 1, "paced: not in every slot"
    world.chain.drops = lambda raw: False
    await world.turn(4)
    assert world.chain.entries() == [bundle_of(1)]
    assert len(set(world.chain.sent)) == 1
    assert world.submitter.costs["rebroadcasts"] == 1


async def test_signed_anew_only_after_expiry_and_only_when_unknown(world: World) -> None:
    world.chain.drops = lambda raw: True
    await world.accept(bundle_of(1))
    await world.turn(149)
    first = set(world.chain.sent)
    assert len(first) == 1
    world.chain.drops = lambda raw: raw in first
    # Statuses from before the expiry say nothing of what came after it.
    world.chain.lag_slots = 3
    await world.turn(6)
    assert set(world.chain.sent) == first
    world.chain.lag_slots = 0
    await world.turn(2)
    assert len(set(world.chain.sent)) == 2
    assert world.chain.entries() == [bundle_of(1)]
    assert world.submitter.costs["resigned"] == 1
    assert world.submitter.pending_bundles == 0


async def test_what_landed_unseen_is_found_and_not_signed_anew(world: World) -> None:
    await world.accept(bundle_of(1))
    await world.turn(shown=False)
    assert world.submitter.pending_bundles == 1
    await world.turn(160)
    assert world.submitter.pending_bundles == 1, "that it is confirmed somewhere says nothing that lasts"
    world.finalize()
    await world.turn()
    assert world.submitter.pending_bundles == 0
    assert world.chain.entries() == [bundle_of(1)]
    assert world.submitter.costs["resigned"] == 0


async def test_nothing_is_signed_anew_while_nobody_says_what_landed(world: World) -> None:
    world.chain.drops = lambda raw: True
    await world.accept(bundle_of(1))
    await world.turn(3)
    world.chain.drops = lambda raw: False
    world.chain.has_history = False
    await world.accept(bundle_of(2))
    world.chain.drops = lambda raw: bundle_of(1).legs[0].payload in raw
    await world.turn(160)
    assert world.chain.entries() == [bundle_of(2)], "others go on"
    assert "cannot be asked: getSignatureStatuses: no history" in world.submitter.stall
    assert world.submitter.costs["resigned"] == 0
    world.chain.has_history = True
    world.chain.drops = lambda raw: False
    await world.turn(2)
    assert world.chain.entries() == [bundle_of(2), bundle_of(1)]
    assert world.submitter.stall == ""


async def test_a_node_that_talks_nonsense_is_as_one_that_is_away(world: World) -> None:
    world.chain.balances[str(PAYERS[1].pubkey())] = None  # type: ignore[assignment]
    await world.accept(bundle_of(1))
    await world.turn()
    assert "make no sense" in world.submitter.stall
    world.chain.fund(PAYERS)
    await world.turn()
    assert world.chain.entries() == [bundle_of(1)]


async def test_what_the_node_refuses_is_said(world: World) -> None:
    world.chain.refusal = "Node is behind by 42 slots"
    await world.accept(bundle_of(1))
    await world.turn()
    await world.submitter.look_after()
    assert "does not take a transaction: sendTransaction: Node is behind by 42 slots" in world.submitter.stall
    world.chain.refusal = ""
    await world.turn(6)
    assert world.chain.entries() == [bundle_of(1)]
    assert world.submitter.stall == ""


async def test_bundles_of_a_failed_transaction_are_posted_again_alone(world: World) -> None:
    offered = bundles(2)
    world.chain.fails = lambda raw: len(world.chain.sent) == 1
    await world.accept(*offered)
    await world.turn()
    assert world.chain.entries() == []
    await world.submitter.step()
    assert "not owned by the inbox program" in world.submitter.stall
    assert "failed on chain" in world.stalls[-1]
    await world.turn(4)
    assert world.chain.entries() == offered
    assert len(world.chain.sent) == 3, "one failed, and one for each bundle"
    assert world.submitter.stall == ""
    assert world.submitter.costs["failed_transactions"] == 1
    assert world.submitter.costs["solana_transactions"] == 3, "a failed one is paid for as well"


async def test_one_that_always_fails_does_not_stop_the_others(world: World) -> None:
    bad, good = bundle_of(0), bundle_of(1)
    world.chain.fails = lambda raw: bad.legs[0].payload in raw
    await world.accept(bad, good)
    await world.turn(20)
    assert world.chain.entries() == [good]
    assert world.submitter.pending_bundles == 1
    sent = len(world.chain.sent)
    await world.turn(20)
    assert 1 <= len(world.chain.sent) - sent <= 3, "later and later"


async def test_a_rollback_brings_the_same_bytes_again(world: World) -> None:
    offered = bundles(5)
    fork_slot = world.chain.blocks[-1].slot
    await world.accept(*offered)
    await world.turn()
    assert world.submitter.pending_bundles == 0
    world.chain.fork(fork_slot)
    world.submitter.on_rolled_back(fork_slot)
    assert world.submitter.pending_bundles == 5
    sent = list(world.chain.sent)
    await world.turn()
    assert world.chain.sent[len(sent) :] == sent
    assert world.chain.entries() == offered
    world.finalize()
    assert world.submitter.costs["solana_transactions"] == len(sent)


async def test_finality_is_taken_only_of_what_is_final(world: World) -> None:
    await world.accept(bundle_of(1))
    await world.turn()
    before = world.chain.blocks[-2]
    world.submitter.on_finalized(before.slot, before.height)
    await world.submitter.wait_durable()
    assert len(world.journal.load().submissions) == 1


async def test_a_large_bundle_is_committed_after_its_chunks(world: World) -> None:
    large = bundle_of(1, size=3_000)
    await world.accept(bundle_of(0), large, bundle_of(2))
    await world.turn()
    assert world.chain.entries() == [bundle_of(0), bundle_of(2)]
    chunks = len(world.chain.sent) - 1
    assert chunks >= 6
    await world.turn()
    assert world.chain.entries() == [bundle_of(0), bundle_of(2), large]
    assert len(world.chain.sent) == 1 + chunks + 1
    assert world.submitter.pending_bundles == 0
    world.finalize()
    await world.submitter.wait_durable()
    assert not world.journal.load().transactions


async def test_no_commit_while_a_chunk_is_missing(world: World) -> None:
    world.chain.drops = lambda raw: len(world.chain.sent) == 2
    await world.accept(bundle_of(1, size=2_000))
    await world.turn(3)
    assert world.chain.entries() == []
    await world.turn(5)
    assert world.chain.entries() == [bundle_of(1, size=2_000)]
    assert world.submitter.costs["void_commits"] == 0


async def test_chunks_survive_a_restart(world: World) -> None:
    await world.accept(bundle_of(1, size=2_000))
    await world.turn()
    count = len(world.chain.sent)
    world.restart()
    await world.settle(3)
    assert world.chain.entries() == [bundle_of(1, size=2_000)]
    assert len(set(world.chain.sent)) == count + 1, "only the commit is new"
    assert len(payers_of(world)) == 1


async def test_a_commit_whose_chunks_went_with_a_fork_is_posted_again(world: World) -> None:
    large = bundle_of(1, size=2_000)
    fork_slot = world.chain.blocks[-1].slot
    await world.accept(large)
    await world.turn(2)
    assert world.chain.entries() == [large]
    world.chain.fork(fork_slot)
    world.submitter.on_rolled_back(fork_slot)
    # The commit comes first on the new branch, and is void there.
    world.chain.takes_any_blockhash = True
    chunks = world.chain.sent[:-1]
    world.chain.drops = lambda raw: raw in chunks
    await world.turn()
    world.chain.drops = lambda raw: False
    assert world.chain.entries() == []
    await world.turn(8)
    assert world.chain.entries() == [large]
    assert world.submitter.costs["void_commits"] == 1
    assert world.submitter.pending_bundles == 0


def payers_of(world: World) -> set[str]:
    """Who paid for chunks and commits."""
    return {
        transaction.payer
        for block in world.chain.blocks
        for transaction in block.transactions
        if world.chain.instruction(transaction.raw)[0][0] in {CHUNK, COMMIT}
    }


async def test_chunks_that_are_too_old_are_posted_again(make: Callable[..., World]) -> None:
    world = make()
    world.submitter._book._rules = replace(world.rules.posting_rules(), chunk_slots_max=20)
    world.chain.chunk_blocks_max = 20
    # Commits are lost until the chunks are old.
    world.chain.drops = lambda raw: world.chain.instruction(raw)[0][0] == COMMIT and len(world.chain.blocks) < 60
    large = bundle_of(1, size=2_000)
    await world.accept(large)
    await world.turn(80)
    assert world.chain.entries() == [large]
    assert world.submitter.pending_bundles == 0
    assert world.submitter.costs["void_commits"] == 1
    chunks = [raw for raw in set(world.chain.sent) if world.chain.instruction(raw)[0][0] == CHUNK]
    assert len(chunks) == 2 * len({world.chain.instruction(raw)[0] for raw in chunks})


async def test_one_payer_signs_for_all_of_a_large_bundle(world: World) -> None:
    offered = bundles(3, size=2_500)
    await world.accept(*offered)
    await world.turn(3)
    assert sorted(map(repr, world.chain.entries())) == sorted(map(repr, offered))
    by_digest: dict[bytes, set[str]] = {}
    for block in world.chain.blocks:
        for transaction in block.transactions:
            digest = world.chain.instruction(transaction.raw)[0][2:34]
            by_digest.setdefault(digest, set()).add(transaction.payer)
    assert [len(payers) for payers in by_digest.values()] == [1, 1, 1]


async def test_another_payer_begins_again_where_the_first_one_cannot_pay(world: World) -> None:
    large = bundle_of(1, size=2_500)
    world.chain.drops = lambda raw: len(world.chain.sent) >= 3
    await world.accept(large)
    await world.turn()
    (first,) = payers_of(world)
    world.chain.balances[first] = 0
    world.chain.drops = lambda raw: False
    await world.turn(4)
    assert world.chain.entries() == [large]
    assert payers_of(world) != {first}
    assert world.submitter.pending_bundles == 0
    world.finalize()
    await world.submitter.wait_durable()
    assert not world.journal.load().transactions


@pytest.mark.parametrize("size", [150, 2_500])
async def test_a_bundle_that_is_void_in_its_block_is_posted_again_later_each_time(world: World, size: int) -> None:
    victim, other = bundle_of(1, size=size), bundle_of(2)
    world.chain.voids = lambda bundle: bundle == victim
    await world.accept(victim, other)
    await world.settle(4)
    assert world.chain.entries() == [other]
    assert world.submitter.pending_bundles == 1
    assert "bundles in blocks of Solana without effect" in world.submitter.stall
    sent = len(world.chain.sent)
    await world.settle(40)
    rounds = (len(world.chain.sent) - sent) / (1 if size == 150 else 7)
    assert 1 <= rounds <= 5, "later and later"
    assert len(world.journal.load().submissions) == 1
    world.restart()
    world.chain.voids = lambda bundle: False
    await world.settle(120)
    assert world.chain.entries() == [other, victim], "once, whatever the journal held of void transactions"
    assert world.submitter.pending_bundles == 0
    assert world.submitter.stall == ""
    await world.submitter.wait_durable()
    kept = world.journal.load()
    assert not kept.submissions
    assert not kept.transactions


@pytest.mark.parametrize("size", [150, 2_500])
async def test_a_status_of_a_branch_that_is_abandoned_is_no_landing(world: World, size: int) -> None:
    """Killed after it landed, before the reader came there; then the confirmed branch is gone."""
    bundle = bundle_of(1, size=size)
    await world.accept(bundle)
    await world.turn(3, shown=False)
    landed_slot = world.chain.blocks[-1].slot
    world.restart()
    world.show(0)
    await world.submitter.look_after()
    assert world.submitter.pending_bundles == 1
    world.chain.fork(1)
    world.chain.block(skip=landed_slot)
    world.show()
    await world.settle(10)
    assert world.chain.entries() == [bundle]
    assert world.submitter.pending_bundles == 0


async def test_what_was_void_before_a_restart_is_no_landing(world: World) -> None:
    """The reader read the block, the process ended before the submitter knew; the block is not shown again."""
    victim, other = bundle_of(1), bundle_of(2)
    world.chain.voids = lambda bundle: bundle == victim
    await world.accept(victim, other)
    await world.turn(shown=False)
    world.restart()
    world.chain.voids = lambda bundle: False
    await world.settle(6)
    assert world.chain.entries() == [other, victim]
    assert world.submitter.pending_bundles == 0
