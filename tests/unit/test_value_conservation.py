"""Counting value: conserved, on its way, made from nothing, printed at home; and what each mode makes of it."""

from dataclasses import replace
from typing import Any

import pytest

from coordinator.spec.agglayer import BRIDGED_TOKEN
from coordinator.stages.value import (
    Books,
    BridgeLog,
    NetworkBooks,
    TokenCount,
    count_value,
    nothing_of_aborted,
    ranges_contiguous,
    uncounted_tokens,
    value_conserved,
)
from nodes.evm.agglayer_contracts import BridgeEvent, ClaimEvent, ContingentMint, ContingentSettled, RangeSettled
from nodes.model.agglayer import ETH, MAINNET, LeafType, NetworkId, SettledRange, TokenInfo, global_index_of
from nodes.model.ids import Address, BundleHash, Height
from nodes.rules.exit_tree import leaf_hash

USER = Address(b"\5" * 20)


def exit_of(leaf_index: int, *, dest: int, amount: int, token: TokenInfo = BRIDGED_TOKEN) -> BridgeEvent:
    return BridgeEvent(
        leaf_type=LeafType.TRANSFER, token=token, dest_network=NetworkId(dest), dest_address=USER, amount=amount,
        metadata=b"", leaf_index=leaf_index,
    )  # fmt: skip


def claim_of(source: int, made: BridgeEvent) -> ClaimEvent:
    index = global_index_of(NetworkId(source), made.leaf_index)
    return ClaimEvent(global_index=index, token=made.token, dest_address=USER, amount=made.amount)


def mint_of(source: int, made: BridgeEvent) -> ContingentMint:
    return ContingentMint(
        bundle_hash=BundleHash(b"\7" * 32), leg_index=1, source_network=NetworkId(source),
        leaf=leaf_hash(made.bridge_exit()), token=made.token, dest_address=USER, amount=made.amount,
    )  # fmt: skip


def network(number: int, name: str, held: int, *events: Any, held_wei: int = 0) -> NetworkBooks:
    logs = tuple(BridgeLog(event, b"tx of %s %d" % (name.encode(), at)) for at, event in enumerate(events))
    return NetworkBooks(
        network_id=NetworkId(number), name=name, block=9, holdings={BRIDGED_TOKEN: held, ETH: held_wei}, logs=logs
    )


DEPOSIT = exit_of(0, dest=1, amount=100)
BURN = exit_of(0, dest=2, amount=30)


def books(first: NetworkBooks, second: NetworkBooks, *, escrow: int = 100) -> Books:
    return Books(l1=network(0, "L1", escrow, DEPOSIT), rollups=(first, second), ranges=())


def token_of(all_books: Books) -> TokenCount:
    return next(count for count in count_value(all_books) if count.token == "LOCK")


def test_a_deposit_and_a_burn_with_its_mint_are_conserved() -> None:
    found = token_of(books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 30, mint_of(1, BURN))))
    assert (found.in_flight, found.created, found.unbacked, found.is_conserved) == (0, 0, {}, True)


def test_an_exit_that_nobody_claimed_is_in_flight() -> None:
    found = token_of(books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 0)))
    assert (found.in_flight, found.is_conserved) == (30, True)
    before = token_of(books(network(1, "a", 0), network(2, "b", 0)))
    assert (before.in_flight, before.is_conserved) == (100, True)


def test_a_mint_without_a_burn_is_created_from_nothing() -> None:
    found = token_of(books(network(1, "a", 100, claim_of(0, DEPOSIT)), network(2, "b", 30, mint_of(1, BURN))))
    assert (found.created, found.in_flight, found.is_conserved) == (30, 0, False)
    twice = [mint_of(1, BURN), mint_of(1, BURN)]
    found = token_of(books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 60, *twice)))
    assert found.created == 30


def test_a_claim_of_what_a_mint_had_paid_pays_nothing_again() -> None:
    claim = claim_of(1, BURN)
    settled = ContingentSettled(global_index=claim.global_index, leaf=leaf_hash(BURN.bridge_exit()))
    second = network(2, "b", 30, mint_of(1, BURN), claim, settled)
    found = token_of(books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), second))
    assert found.is_conserved
    unknown = replace(claim, global_index=global_index_of(NetworkId(1), 77))
    found = token_of(
        books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 60, mint_of(1, BURN), unknown))
    )
    assert found.created == 30, "a claim of an exit that nobody made"


def test_a_rollup_that_prints_at_home_is_named() -> None:
    found = token_of(books(network(1, "a", 100, claim_of(0, DEPOSIT)), network(2, "b", 5)))
    assert found.unbacked == {"b": 5}
    assert not found.is_conserved


def test_ether_is_counted_apart() -> None:
    deposit = exit_of(1, dest=2, amount=8, token=ETH)
    l1 = network(0, "L1", 0, deposit, held_wei=8)
    everything = Books(
        l1=l1, rollups=(network(1, "a", 0), network(2, "b", 0, claim_of(0, deposit), held_wei=8)), ranges=()
    )
    found = {count.token: count for count in count_value(everything)}
    assert found["ether"].is_conserved
    assert (found["ether"].escrow, found["LOCK"].escrow) == (8, 0)
    assert found["ether"].to_json()["supply"] == {"a": "0", "b": "8"}


def test_other_tokens_are_named_as_not_counted() -> None:
    other = TokenInfo(NetworkId(1), USER)
    out, home = exit_of(1, dest=2, amount=5, token=other), exit_of(0, dest=1, amount=2, token=other)
    first = network(1, "a", 70, claim_of(0, DEPOSIT), BURN, out, claim_of(2, home))
    second = network(2, "b", 30, mint_of(1, BURN), mint_of(1, out), home)
    everything = books(first, second)
    (found,) = uncounted_tokens(everything)
    assert found == (other, 4)
    assert found.to_json() == {"network": 1, "address": f"0x{USER.hex()}", "events": 4}
    told = value_conserved(count_value(everything), is_promised=True, uncounted=[found])
    assert told.ok
    assert told.detail.endswith(f"; not counted: 0x{USER.hex()} of network 1 (4 events)")
    many = [found] * 7
    assert value_conserved([], is_promised=True, uncounted=many).detail.endswith(" and 2 more")
    assert not uncounted_tokens(books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 0)))


def test_a_message_moves_ether_and_is_no_token_of_its_sender() -> None:
    sender = TokenInfo(MAINNET, USER)
    message = replace(exit_of(1, dest=2, amount=8, token=sender), leaf_type=LeafType.MESSAGE)
    l1 = network(0, "L1", 0, message, held_wei=8)

    def ether_with(second: NetworkBooks) -> TokenCount:
        everything = Books(l1=l1, rollups=(network(1, "a", 0), second), ranges=())
        assert not uncounted_tokens(everything)
        return next(count for count in count_value(everything) if count.token == "ether")

    under_way = ether_with(network(2, "b", 0))
    assert (under_way.in_flight, under_way.is_conserved) == (8, True)
    claimed = ether_with(network(2, "b", 0, claim_of(0, message), held_wei=8))
    assert (claimed.in_flight, claimed.is_conserved) == (0, True)


def test_it_is_an_invariant_only_where_it_is_promised() -> None:
    broken = count_value(books(network(1, "a", 100, claim_of(0, DEPOSIT)), network(2, "b", 30, mint_of(1, BURN))))
    assert not value_conserved(broken, is_promised=True).ok
    reported = value_conserved(broken, is_promised=False)
    assert reported.ok
    assert "30 created from nothing" in reported.detail
    assert "not promised" in reported.detail


def test_what_an_unsound_rollup_prints_is_its_own_but_the_escrow_must_cover_the_others() -> None:
    printing = count_value(books(network(1, "a", 100, claim_of(0, DEPOSIT)), network(2, "b", 5)))
    assert not value_conserved(printing, is_promised=True).ok
    assert value_conserved(printing, is_promised=True, liars=["b"]).ok
    assert not value_conserved(printing, is_promised=True, liars=["a"]).ok
    robbed = count_value(books(network(1, "a", 100, claim_of(0, DEPOSIT)), network(2, "b", 5), escrow=99))
    assert not value_conserved(robbed, is_promised=True, liars=["b"]).ok


def settled(number: int, first: int, last: int) -> RangeSettled:
    stated = SettledRange(
        first_height=Height(first), last_height=Height(last), last_block_hash=bytes(32), outcome_root=bytes(32),
        verdict_root=bytes(32),
    )  # fmt: skip
    return RangeSettled(network_id=NetworkId(number), range=stated)


@pytest.mark.parametrize(
    ("ranges", "ok"),
    [
        ([settled(1, 1, 4), settled(2, 1, 9), settled(1, 5, 4), settled(1, 5, 6)], True),
        ([settled(1, 1, 4), settled(1, 6, 7)], False),
        ([settled(1, 1, 4), settled(1, 4, 7)], False),
        ([settled(1, 2, 4)], False),
        ([], True),
    ],
)
def test_settled_ranges_leave_no_gap(ranges: list[RangeSettled], ok: bool) -> None:
    assert ranges_contiguous(ranges).ok is ok


def test_a_bridge_event_of_an_aborted_leg_is_found() -> None:
    everything = books(network(1, "a", 70, claim_of(0, DEPOSIT), BURN), network(2, "b", 30, mint_of(1, BURN)))
    assert nothing_of_aborted(everything, [b"another"]).ok
    found = nothing_of_aborted(everything, [b"tx of a 1"])
    assert not found.ok
    assert "BridgeEvent on a" in found.detail
    assert MAINNET == 0
