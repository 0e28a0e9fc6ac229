"""What is submitted, what counts as pending afterwards, and why bundles are refused."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.model.errors import InvalidSubmission, Overloaded, Unavailable
from nodes.model.ids import hex_of
from nodes.rollup.pending import PendingPool
from nodes.rollup.rpc.accepted import MAX_BUNDLES, AcceptedBundle, AcceptedTransactions
from nodes.rollup.rpc.methods import build_methods
from nodes.rollup.rpc.params import Params
from nodes.rules.hashes import keccak256
from nodes.rules.payload import sign
from nodes.telemetry.clock import ManualClock
from nodes.wire.bundles import bundle_from_bytes
from tests.support.crafting import ADDRESSES, CHAINS, KEYS, LegPlan, bundle, plain, signed_legs
from tests.support.rpc_fakes import FakeNode, FakeSequencer

HERE, THERE = CHAINS[0], CHAINS[1]


class Parts:
    def __init__(self, directory: Path) -> None:
        self.node = FakeNode(directory)
        self.sequencer = FakeSequencer()
        self.methods, _ = build_methods(self.node, self.sequencer, ManualClock())
        self.account(nonce=0)

    def account(self, *, nonce: int, balance: int = 10**18, code: str = "0x") -> None:
        account = {"nonce": hex(nonce), "balance": hex(balance), "code": code}
        self.node.answers["eth_getAccountInfo"] = account
        self.node.answers["eth_getTransactionCount"] = hex(nonce)

    async def call(self, method: str, *params: Any) -> Any:
        return await self.methods[method](Params(list(params)))

    async def send(self, payload: bytes) -> Any:
        return await self.call("eth_sendRawTransaction", hex_of(payload))

    async def refusal(self, payload: bytes) -> str:
        with pytest.raises(RpcFault) as refused:
            await self.send(payload)
        assert refused.value.code == -32000
        return refused.value.message

    async def pending_nonce(self) -> int:
        return int(await self.call("eth_getTransactionCount", hex_of(ADDRESSES[0]), "pending"), 16)


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    with closing(parts.node):
        yield parts


def signed(nonce: int = 0, **changes: Any) -> bytes:
    return sign(LegPlan(chain=HERE, nonce=nonce, **changes).unsigned(), KEYS[0])


async def test_a_transaction_is_submitted_as_it_came_and_then_pending(parts: Parts) -> None:
    payload = signed()
    assert await parts.send(payload) == hex_of(keccak256(payload))
    assert [bundle_from_bytes(data) for data in parts.sequencer.submitted] == [plain(LegPlan(chain=HERE))]
    assert await parts.pending_nonce() == 1
    shown = await parts.call("eth_getTransactionByHash", hex_of(keccak256(payload)))
    assert (shown["blockHash"], shown["from"], shown["nonce"]) == (None, hex_of(ADDRESSES[0]), "0x0")
    assert await parts.call("eth_getTransactionReceipt", hex_of(keccak256(payload))) is None
    status = await parts.call("lockstep_getTransactionStatus", hex_of(keccak256(payload)))
    assert status["status"] == "pending"
    assert await parts.refusal(payload) == "already known"
    assert "replacement transaction underpriced" in await parts.refusal(signed(value=9))
    assert (await parts.refusal(signed(2))).startswith("nonce too high")
    await parts.send(signed(1))
    assert await parts.pending_nonce() == 2


async def test_once_executed_it_is_pending_no_more(parts: Parts) -> None:
    payload = signed()
    await parts.send(payload)
    parts.node.add(payload)
    parts.node.pending.resolve(parts.node.index.head.height, [keccak256(payload)])
    parts.account(nonce=1)
    assert await parts.pending_nonce() == 1
    shown = await parts.call("eth_getTransactionByHash", hex_of(keccak256(payload)))
    assert shown["blockNumber"] == "0x1"
    status = await parts.call("lockstep_getTransactionStatus", hex_of(keccak256(payload)))
    assert (status["status"], status["blockNumber"]) == ("succeeded", "0x1")
    assert (await parts.refusal(payload)).startswith("nonce too low")


async def test_what_was_derived_before_its_ticket_came_is_not_kept_as_pending(parts: Parts) -> None:
    payload = signed()
    submit = parts.sequencer.submit

    async def slow_ticket(submissions: Any) -> Any:
        parts.node.add(payload)
        return await submit(submissions)

    parts.sequencer.submit = slow_ticket  # type: ignore[method-assign]
    await parts.send(payload)
    assert len(parts.node.pending) == 0


async def test_a_block_that_comes_during_the_check_does_not_refuse_the_next_nonce(parts: Parts) -> None:
    """The first is executed between the read of the account and the look into the pool."""
    first, second = signed(0), signed(1)
    await parts.send(first)

    def account(*_: Any) -> Any:
        parts.node.add(first)
        parts.node.pending.resolve(parts.node.index.head.height, [keccak256(first)])
        return {"nonce": "0x0", "balance": hex(10**18), "code": "0x"}

    parts.node.answers["eth_getAccountInfo"] = account
    assert await parts.send(second) == hex_of(keccak256(second))


@pytest.mark.parametrize(
    ("failure", "seen"),
    [
        (Overloaded("the mempool is full", retry_after_ms=120), Overloaded),
        (Unavailable("the sequencer is away"), Unavailable),
        (InvalidSubmission("too odd"), RpcFault),
    ],
)
async def test_nothing_is_pending_unless_the_sequencer_took_it(
    parts: Parts, failure: Exception, seen: type[Exception]
) -> None:
    parts.sequencer.failure = failure
    with pytest.raises(seen):
        await parts.send(signed())
    assert len(parts.node.pending) == 0
    parts.sequencer.failure = None
    parts.sequencer.refusal = "unknown rollup"
    assert await parts.refusal(signed()) == "the sequencer refused it: unknown rollup"
    assert len(parts.node.pending) == 0
    parts.sequencer.refusal = ""
    await parts.send(signed())


async def test_a_lone_leg_is_told_where_to_go(parts: Parts) -> None:
    legs = signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE)])
    assert await parts.refusal(legs[0]) == "leg 1 of 2: send the bundle with lockstep_sendBundle"
    assert parts.sequencer.submitted == []


async def test_a_bundle_is_submitted_once_and_remembered(parts: Parts) -> None:
    plans = [LegPlan(chain=HERE), LegPlan(chain=THERE, nonce=77)]
    legs = [hex_of(leg) for leg in signed_legs(plans, expiry=9)]
    answer = await parts.call("lockstep_sendBundle", legs, {"expiry": 9})
    assert [bundle_from_bytes(data) for data in parts.sequencer.submitted] == [bundle(plans, expiry=9)]
    assert await parts.call("lockstep_sendBundle", legs, {"expiry": "0x9"}) == answer
    assert len(parts.sequencer.submitted) == 1
    assert await parts.pending_nonce() == 1
    known = await parts.call("lockstep_getBundle", answer["bundleHash"])
    assert (known["submissionHash"], known["expiry"], known["fates"]) == (answer["submissionHash"], "0x9", [])
    assert [leg["chainId"] for leg in known["legs"]] == [hex(HERE), hex(THERE)]
    assert await parts.call("lockstep_getBundle", "0x" + "00" * 32) is None


PAIR = [LegPlan(chain=HERE), LegPlan(chain=THERE)]


def _swapped() -> list[bytes]:
    return list(reversed(signed_legs(PAIR)))


@pytest.mark.parametrize(
    ("legs", "expiry", "text"),
    [
        (signed_legs(PAIR)[:1] + signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE, value=2)])[1:], 0,
         "leg 1: its trailer names bundle"),
        (signed_legs(PAIR), 5, "was another expiry signed?"),
        (signed_legs(PAIR, version=2), 0, "leg 1: its trailer names bundle"),
        (_swapped(), 0, "leg 1 of 2 says it is leg 2 of 2"),
        ([*signed_legs(PAIR), signed_legs(PAIR)[1]], 0, "leg 1 of 3 says it is leg 1 of 2"),
        ([signed_legs(PAIR)[0], sign(PAIR[1].unsigned(), KEYS[0])], 0, "leg 2 carries no bundle trailer"),
        (signed_legs([LegPlan(chain=HERE), LegPlan(chain=4242)]), 0,
         "leg 2: chain id 4242 is no rollup; this testnet has 7001 (rollup-1), 7002"),
        ([b"\x02\xc0", signed_legs(PAIR)[1]], 0, "leg 1: its chain id cannot be read"),
        ([signed_legs(PAIR)[0], signed_legs(PAIR)[1] + b"\0"], 0, "leg 2: its chain id cannot be read"),
        (signed_legs([LegPlan(chain=HERE), LegPlan(chain=THERE, gas_limit=10**7)]), 0,
         "leg 2: transaction gas limit too high"),
        (signed_legs([LegPlan(chain=HERE, nonce=1), LegPlan(chain=THERE)]), 0, "leg 1: nonce too high"),
        (signed_legs([LegPlan(chain=HERE), LegPlan(chain=HERE)]), 0, "two legs have the same chain, sender and nonce"),
    ],
)  # fmt: skip
async def test_a_bundle_that_would_be_dropped_is_refused_by_leg(
    parts: Parts, legs: list[bytes], expiry: int, text: str
) -> None:
    with pytest.raises(RpcFault) as refused:
        await parts.call("lockstep_sendBundle", [hex_of(leg) for leg in legs], {"expiry": expiry})
    assert text in refused.value.message
    assert parts.sequencer.submitted == []
    assert len(parts.node.pending) == 0


async def test_an_expired_bundle_is_refused(parts: Parts) -> None:
    for _ in range(4):
        parts.node.add()
    legs = [hex_of(leg) for leg in signed_legs(PAIR, expiry=4)]
    with pytest.raises(RpcFault, match="the bundle expired: expiry 4, sequenced height 4"):
        await parts.call("lockstep_sendBundle", legs, {"expiry": 4})


@pytest.mark.parametrize("params", [[[]], [["0x"]], [5], [["0x", "0x"], 5], [["0x", "0x"], {"expire": 1}],
                                    [["0x", "0x"], {"expiry": -1}], [["0x", 5]], [["0x"] * 256]])  # fmt: skip
async def test_malformed_bundles_are_refused(parts: Parts, params: list[Any]) -> None:
    with pytest.raises(RpcFault) as refused:
        await parts.call("lockstep_sendBundle", *params)
    assert refused.value.code in (-32602, -32000)


async def test_two_legs_of_one_sender_on_this_rollup_follow_each_other(parts: Parts) -> None:
    plans = [LegPlan(chain=HERE, nonce=0), LegPlan(chain=HERE, nonce=1), LegPlan(chain=THERE)]
    await parts.call("lockstep_sendBundle", [hex_of(leg) for leg in signed_legs(plans)])
    assert await parts.pending_nonce() == 2


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    pending = PendingPool()
    accepted = AcceptedTransactions(pending)
    monkeypatch.setattr("nodes.rollup.rpc.accepted.MAX_BYTES", 100)
    for at in range(10):
        tx_hash: Any = at.to_bytes(32, "big")
        pending.add(ADDRESSES[0], at, tx_hash)
        accepted.keep(tx_hash, bytes(30))
    kept = [at for at in range(10) if accepted.payload(at.to_bytes(32, "big")) is not None]
    assert kept == [7, 8, 9]
    for at in range(MAX_BUNDLES + 1):
        name: Any = at.to_bytes(32, "big")
        accepted.keep_bundle(AcceptedBundle(bundle_hash=name, submission_hash=name, expiry=0, legs=()))
    assert accepted.bundle(bytes(32)) is None
    assert accepted.bundle(MAX_BUNDLES.to_bytes(32, "big")) is not None
