"""The parts of the builder without a network: its queue, what it remembers of bundles, promises, simulations."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodes.agglayer import builder_queue
from nodes.agglayer.builder_fates import Inclusion, inclusion_of
from nodes.agglayer.builder_judging import LegResult, PlannedLeg
from nodes.agglayer.builder_offers import Offer, offer_of
from nodes.agglayer.builder_pending import ASK_AFTER_NS, GIVE_UP_AFTER_NS, PendingBundles
from nodes.agglayer.builder_promises import PromiseStore
from nodes.agglayer.builder_queue import NoTicket, OfferQueue, Room, Taken, tickets_of
from nodes.agglayer.builder_simulation import RollupMirror
from nodes.evm.contracts import packaged_reverts
from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidSubmission, Overloaded, RpcError, Unavailable
from nodes.model.execution import Status
from nodes.model.ids import Address, BundleHash, Height, SubmissionHash, hex_of
from nodes.model.promises import PromiseState, SignedPromise
from nodes.ports import Ticket
from nodes.wire.bundles import bundle_from_bytes, bundle_to_bytes
from tests.support.bonds import Call, bonded_testnet, increment, signed_bundle
from tests.unit.test_builder_judging import ONE, TWO, leg, offer

TESTNET = bonded_testnet()
SOMEBODY = Address(b"\x5a" * 20)


def offered(data: bytes) -> Offer:
    assert TESTNET.agglayer is not None
    return offer_of(data, testnet=TESTNET.params, params=TESTNET.agglayer.params)


def counters(lane: int = 0, nonce: int = 0) -> tuple[bytes, bytes]:
    calls = [increment(TESTNET, rollup, lane, nonce=nonce, key=1, expected=0) for rollup in (0, 1)]
    return signed_bundle(TESTNET, calls)


# Offers.


def test_an_offer_is_what_was_signed() -> None:
    data, identity = counters()
    made = offered(data)
    assert (made.bundle_hash, made.data, made.is_plain) == (identity, data, False)
    assert [part.network_id for part in made.legs] == [ONE, TWO]


def change(data: bytes, **changes: Any) -> bytes:
    return bundle_to_bytes(replace(bundle_from_bytes(data), **changes))


def test_what_derivation_would_drop_is_refused_by_name() -> None:
    data, _ = counters()
    whole = bundle_from_bytes(data)
    wrong = replace(whole.legs[0], payload=whole.legs[0].payload[:-1] + b"\x00")
    stray = Bundle(version=0, expiry=0, legs=(replace(whole.legs[0], leg_hash=type(whole.legs[0].leg_hash)(b"")),))
    unknown = replace(whole.legs[0], rollup_id=type(whole.legs[0].rollup_id)(b"\x01" * 32))
    twice = [increment(TESTNET, 0, 0, key=key, expected=0) for key in (1, 2)]
    greedy = [replace(twice[0], gas=10**9), twice[1]]
    for submission, text in [
        (change(data, expiry=7), "leg 0: its trailer does not say that it is leg 0 of 2"),
        (change(data, legs=whole.legs[::-1]), "leg 0: its trailer"),
        (change(data, version=2), "bundle version 2"),
        (change(data, legs=(wrong, whole.legs[1])), "leg 0"),
        (change(data, legs=(unknown, whole.legs[1])), "of no rollup"),
        (bundle_to_bytes(stray), "submit the whole bundle"),
        (signed_bundle(TESTNET, twice)[0], "the same rollup, sender and nonce"),
        (signed_bundle(TESTNET, greedy)[0], "leg_gas_cap"),
        (b"\xff", "not a lockstep.sequencer.v1.Bundle"),
    ]:
        with pytest.raises(InvalidSubmission, match=text):
            offered(submission)


# The queue.


async def test_each_bundle_waits_once_and_all_who_sent_it_are_answered() -> None:
    queue, first = OfferQueue(), offered(counters()[0])
    taken = [queue.take(first, now_ns=1), queue.take(first, now_ns=2)]
    assert (len(queue), queue.oldest_ns, queue.queued_bytes) == (1, 1, len(first.data))
    assert queue.pop() is first
    assert not queue.arrived.is_set()
    queue.answer(first, accepted(first))
    assert [ticket.duplicate for ticket in await tickets_of(taken, retry_after_ms=1)] == [False, True]
    again = queue.take(first, now_ns=3)
    assert isinstance(again, Ticket)
    assert again.duplicate


def accepted(made: Offer) -> Ticket:
    return Ticket(submission_hash=made.submission_hash, accepted=True, duplicate=False, reason="")


async def test_other_bytes_of_a_bundle_are_refused() -> None:
    queue, first = OfferQueue(), offer(1)
    other = replace(first, submission_hash=SubmissionHash(b"\x09" * 32))
    queue.take(first, now_ns=1)
    for _ in range(2):
        refused = queue.take(other, now_ns=2)
        assert isinstance(refused, Ticket)
        assert "other bytes" in refused.reason
        if len(queue):
            queue.answer(queue.pop(), accepted(first))


async def test_what_cannot_be_decided_now_is_to_be_sent_again() -> None:
    queue = OfferQueue()
    one, two = offer(1), offer(2)
    taken = [queue.take(made, now_ns=1) for made in (one, two)]
    queue.fail([queue.pop(), queue.pop()], "rollup-2 is away")
    with pytest.raises(Overloaded, match="rollup-2 is away") as full:
        await tickets_of(taken, retry_after_ms=70)
    assert full.value.retry_after_ms == 70
    taken = [queue.take(made, now_ns=1) for made in (one, two)]
    queue.answer(queue.pop(), accepted(one))
    queue.fail([queue.pop()], "no answer", may_be_taken=True)
    assert queue.may_be_taken(two)
    with pytest.raises(Unavailable, match="no answer"):
        await tickets_of(taken, retry_after_ms=70)


async def test_the_queue_is_bounded_and_ends_with_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_queue, "MAX_QUEUED_BUNDLES", 2)
    queue = OfferQueue()
    queue.check_room([b""] * 3, retry_after_ms=9)
    taken = [queue.take(offer(number), now_ns=number) for number in (1, 2)]
    with pytest.raises(Overloaded, match="2 bundles wait"):
        queue.check_room([b""], retry_after_ms=9)
    last = [queue.pop(), queue.pop()]
    queue.put_back(last)
    assert list(queue.first(5)) == last
    queue.fail_all("it ends")
    assert all(isinstance(item, Taken) for item in taken)
    assert [await item.ticket() for item in taken if isinstance(item, Taken)] == [NoTicket("it ends", True)] * 2


async def test_a_caller_that_leaves_takes_no_answer_from_others() -> None:
    queue, made = OfferQueue(), offer(1)
    leaving, staying = queue.take(made, now_ns=1), queue.take(made, now_ns=1)
    assert isinstance(leaving, Taken)
    assert isinstance(staying, Taken)
    waiting = asyncio.ensure_future(leaving.ticket())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    queue.answer(queue.pop(), accepted(made))
    assert isinstance(await staying.ticket(), Ticket)


def test_a_simulation_has_room_for_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_queue, "MAX_SIMULATED_CALLS", 3)
    room = Room({ONE: 30_000_000, TWO: 30_000_000})
    assert room.add(offer(1))
    assert room.add(offer(2), done=0b10)
    assert room.add(offer(3, leg(TWO), leg(TWO)))
    assert not room.add(offer(4, leg(TWO)))
    assert room.add(offer(5, leg(ONE)))
    assert not room.add(offer(6, leg(ONE)))


# Pending bundles.


def test_a_leg_is_done_when_its_nonce_has_passed() -> None:
    pending = PendingBundles()
    data, identity = counters(nonce=3)
    made = offered(data)
    pending.add(made, now_ns=0)
    nonces = {ONE: 3, TWO: 3}
    pending.advance(lambda network, _: nonces[network], now_ns=1)
    assert [entry.done for entry in pending.ordered()] == [0]
    nonces[TWO] = 4
    pending.advance(lambda network, _: nonces[network], now_ns=2)
    assert [entry.done for entry in pending.ordered()] == [0b10]
    assert pending.networks() == {ONE}
    assert pending.senders(ONE) == {made.legs[0].transaction.sender}
    assert pending.senders(TWO) == set()
    nonces[ONE] = 9
    pending.advance(lambda network, _: nonces[network], now_ns=3)
    assert BundleHash(identity) not in pending


def test_a_leg_that_takes_no_nonce_is_asked_for_and_at_last_given_up() -> None:
    pending = PendingBundles()
    one, two = offer(1), offer(2)
    for made in (one, two):
        pending.add(made, now_ns=0)
    assert pending.to_ask(now_ns=ASK_AFTER_NS - 1, limit=9) == []
    assert pending.to_ask(now_ns=ASK_AFTER_NS, limit=1) == [one]
    assert pending.to_ask(now_ns=ASK_AFTER_NS, limit=9) == [two]
    assert pending.to_ask(now_ns=ASK_AFTER_NS + 1, limit=9) == []
    pending.met(one.bundle_hash, [0])
    assert pending.networks() == {ONE, TWO}
    pending.met(one.bundle_hash, [1])
    assert len(pending) == 1
    pending.advance(lambda *_: 0, now_ns=GIVE_UP_AFTER_NS + 1)
    assert len(pending) == 0


def test_the_height_that_decides_is_the_one_that_split() -> None:
    nine, ten = Height(9), Height(10)
    assert inclusion_of({}, legs=2) is None
    assert inclusion_of({0: {nine: "succeeded"}}, legs=2) is None
    split = {0: {nine: "skipped", ten: "succeeded"}, 1: {nine: "skipped", ten: "reverted"}}
    assert inclusion_of(split, legs=2) == Inclusion(height=ten, succeeded=1, legs=2)
    replayed = {0: {nine: "succeeded", ten: "skipped"}, 1: {nine: "succeeded", ten: "skipped"}}
    assert inclusion_of(replayed, legs=2) == Inclusion(height=nine, succeeded=2, legs=2)


# Promises.


def promise(name: int) -> SignedPromise:
    return SignedPromise(
        builder=SOMEBODY,
        bundle_hash=BundleHash(bytes([name]) * 32),
        user=SOMEBODY,
        amount_wei=10**30,
        expiry_block=50,
        placements=((ONE, 0), (TWO, 1)),
        signature=b"\x01" * 65,
    )


def test_promises_outlive_their_process(tmp_path: Path) -> None:
    path = tmp_path / "promises.sqlite"
    store = PromiseStore(path)
    made = [promise(number) for number in (1, 2, 3)]
    store.add(made, made_ns=100)
    store.move([(made[0].bundle_hash, PromiseState.KEPT), (made[1].bundle_hash, PromiseState.VOID)], now_ns=130)
    store.put_meta("deposit", b"raw")
    store.close()
    store = PromiseStore(path)
    assert [kept.promise for kept in store.open()] == [made[2]]
    assert store.counts() == {PromiseState.MADE: 1, PromiseState.KEPT: 1, PromiseState.VOID: 1}
    assert store.kept_ns() == 30
    assert store.get_meta("deposit") == b"raw"
    assert store.get_meta("other") is None
    hashes = [entry.bundle_hash for entry in made]
    assert store.with_promise(hashes) == {hashes[0], hashes[2]}
    # A void promise was shown to nobody: the bundle may be promised again.
    store.add([made[1]], made_ns=200)
    found = store.find(hashes[1])
    assert found is not None
    assert (found.state, found.made_ns) == (PromiseState.MADE, 200)
    store.close()


# Simulations.


class FakeRollup:
    """Answers as a rollup node; blocks and what fails are put in by the test."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.nonce = 0
        self.asked: list[str] = []
        self.poor: set[str] = set()
        self.simulated: list[int] = []
        self.add()

    def add(self, *senders: bytes, salt: str = "a") -> None:
        number = len(self.blocks)
        self.blocks.append(
            {
                "number": hex(number),
                "hash": f"0x{salt}{number}",
                "parentHash": self.blocks[-1]["hash"] if self.blocks else "0x",
                "transactions": [{"from": hex_of(sender)} for sender in senders],
            }
        )

    async def request(self, method: str, *params: Any) -> Any:
        self.asked.append(method)
        if method == "eth_getBlockByNumber":
            at = -1 if params[0] == "latest" else int(params[0], 16)
            return self.blocks[at]
        if method == "eth_getTransactionCount":
            return hex(self.nonce)
        assert method == "eth_simulateV1"
        calls = params[0]["blockStateCalls"][0]["calls"]
        self.simulated.append(len(calls))
        if any(call["to"] in self.poor for call in calls):
            raise RpcError(method=method, code=-32000, message="insufficient funds for gas * price + value")
        return [{"calls": [{"status": "0x1", "logs": [], "returnData": "0x"} for _ in calls]}]

    async def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        return [await self.request(method, *params) for method, params in calls]


def planned_legs(count: int, *, to: Mapping[int, bytes] | None = None, can_fail: bool = True) -> list[PlannedLeg]:
    """Of lane 0 on the first rollup, nonces from 0."""
    legs = []
    for number in range(count):
        target = (to or {}).get(number, SOMEBODY)
        call = Call(rollup=0, sender=TESTNET.lane_accounts[0], nonce=number, to=target)
        made = offered(signed_bundle(TESTNET, [call])[0])
        legs.append(PlannedLeg(number, 0, made.legs[0], False, can_fail))
    return legs


def mirror(node: FakeRollup) -> RollupMirror:
    return RollupMirror("rollup-1", node, reverts=packaged_reverts())  # type: ignore[arg-type]


SENDER = TESTNET.lane_accounts[0].address


async def test_nonces_are_asked_once_and_then_counted() -> None:
    node = FakeRollup()
    seen = mirror(node)
    await seen.sync([SENDER])
    node.add(SENDER, SOMEBODY, SENDER)
    node.add(SENDER)
    node.asked.clear()
    await seen.sync([SENDER])
    assert seen.nonce(SENDER) == 3
    assert "eth_getTransactionCount" not in node.asked


async def test_a_chain_that_moved_is_read_anew() -> None:
    node = FakeRollup()
    seen = mirror(node)
    node.add(SENDER)
    await seen.sync([SENDER])
    del node.blocks[-1]
    node.add(salt="b")
    node.add(SENDER, salt="b")
    node.nonce = 7
    await seen.sync([SENDER])
    assert seen.nonce(SENDER) == 7


async def test_legs_out_of_turn_are_not_simulated() -> None:
    node = FakeRollup()
    node.nonce = 1
    seen = mirror(node)
    await seen.sync([SENDER])
    legs = planned_legs(4)
    results = await seen.simulate([legs[0], legs[1], legs[3], legs[2]])
    assert [None if result is None else result.status for result in results] == [
        Status.SKIPPED,
        Status.SUCCEEDED,
        Status.SKIPPED,
        Status.SUCCEEDED,
    ]
    assert results[2] is not None
    assert results[2].reason == "nonce too high: it has 3, the account's next is 2"
    assert node.simulated == [2]


async def test_the_leg_that_cannot_be_paid_is_found() -> None:
    node = FakeRollup()
    seen = mirror(node)
    await seen.sync([SENDER])
    poor = b"\x66" * 20
    node.poor.add(hex_of(poor))
    for place in (0, 5, 19):
        results = await seen.simulate(planned_legs(20, to={place: poor}))
        skipped = LegResult(Status.SKIPPED, "insufficient funds")
        assert results == [LegResult(Status.SUCCEEDED)] * place + [skipped] + [None] * (19 - place)
    # One that was ordered long ago only goes missing, with what its sender sends behind it.
    results = await seen.simulate(planned_legs(4, to={1: poor}, can_fail=False))
    assert [result.status for result in results if result is not None] == [Status.SUCCEEDED] + [Status.SKIPPED] * 3


async def test_another_error_is_the_callers() -> None:
    node = FakeRollup()
    seen = mirror(node)
    await seen.sync([SENDER])

    async def broken(method: str, *params: Any) -> Any:
        raise RpcError(method="eth_simulateV1", code=-32000, message="header not found")

    node.request = broken  # type: ignore[method-assign]
    with pytest.raises(RpcError, match="header not found"):
        await seen.simulate(planned_legs(1))
