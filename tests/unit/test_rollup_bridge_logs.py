"""Which call of a transaction an event of the bridge belongs to."""

from collections.abc import Sequence
from typing import Any

import pytest

from nodes.evm.abi_words import address_word, uint_word
from nodes.evm.agglayer_contracts import BRIDGE, CLAIM_TOPIC, CONTINGENT_SETTLED_TOPIC, BridgeEvent, claim_call
from nodes.model.agglayer import ETH, BridgeExit, GlobalIndex, LeafType, NetworkId, global_index_of
from nodes.model.errors import EngineFailure
from nodes.model.execution import Transaction
from nodes.model.ids import Address, TxHash, hex_of
from nodes.rollup.bridge_logs import activity_of, claim_calls, claims_to_trace
from nodes.rules.exit_tree import global_index_to_int

HERE, SOURCE = NetworkId(1), NetworkId(2)
ELSEWHERE = Address(b"\xaa" * 20)
EXITS = [
    BridgeEvent(
        leaf_type=LeafType.MESSAGE if at == 0 else LeafType.TRANSFER,
        token=ETH,
        dest_network=HERE,
        dest_address=Address(bytes([at]) * 20),
        amount=at,
        metadata=b"metadata %d" % at,
        leaf_index=at,
    )
    for at in range(3)
]


def index_of(at: int) -> GlobalIndex:
    return global_index_of(SOURCE, at)


def claim_of(at: int) -> bytes:
    """The call that claims an exit; nobody here looks at its proofs."""
    nothing = [bytes(32)] * 32
    return claim_call(
        EXITS[at],
        global_index=index_of(at),
        local_siblings=nothing,
        rollup_siblings=nothing,
        mainnet_exit_root=bytes(32),
        rollup_exit_root=bytes(32),
    )


def log_of(at: int, position: int = 0) -> dict[str, Any]:
    """The ClaimEvent of an exit, in the transaction at a position."""
    made = EXITS[at]
    words = uint_word(global_index_to_int(index_of(at)), 256) + uint_word(0, 32) + address_word(bytes(20))
    data = words + address_word(made.dest_address) + uint_word(made.amount, 256)
    return {
        "address": hex_of(BRIDGE),
        "topics": [hex_of(CLAIM_TOPIC)],
        "data": hex_of(data),
        "transactionIndex": hex(position),
    }


def settled_log(at: int) -> dict[str, Any]:
    """A contingent mint had paid the exit."""
    data = uint_word(global_index_to_int(index_of(at)), 256) + bytes(32)
    return {**log_of(at), "topics": [hex_of(CONTINGENT_SETTLED_TOPIC)], "data": hex_of(data)}


def transaction(to: bytes, calldata: bytes) -> Transaction:
    return Transaction(
        tx_type=2,
        chain_id=7001,
        nonce=0,
        gas_limit=1,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=to,
        value=0,
        calldata=calldata,
        sender=ELSEWHERE,
        tx_hash=TxHash(bytes(32)),
        trailer=None,
        leg_hash=None,
    )


def frame(kind: str, to: bytes, calldata: bytes, *calls: dict[str, Any], error: str = "") -> dict[str, Any]:
    made = {"type": kind, "to": hex_of(to), "input": hex_of(calldata), "calls": list(calls)}
    return {**made, "error": error} if error else made


def exits_of(logs: Sequence[dict[str, Any]], made: Transaction, traced: dict[int, list[bytes]]) -> list[BridgeExit]:
    activity = activity_of(logs, [made], network_id=HERE, traced=traced)
    return [claim.exit for claim in activity.claims]


def test_a_transactions_own_claim_needs_no_trace() -> None:
    own = transaction(BRIDGE, claim_of(1))
    assert claims_to_trace([log_of(1)], [own]) == []
    assert exits_of([log_of(1)], own, {}) == [EXITS[1].bridge_exit()]


def test_what_a_contract_claims_is_traced() -> None:
    assert claims_to_trace([log_of(1)], [transaction(ELSEWHERE, claim_of(1))]) == [0]


def test_a_claim_made_within_a_claim_is_traced() -> None:
    """The receiver of a claim may claim something else when it is called."""
    own = transaction(BRIDGE, claim_of(0))
    logs = [log_of(0), log_of(1)]
    assert claims_to_trace(logs, [own]) == [0]
    trace = frame("CALL", BRIDGE, claim_of(0), frame("CALL", ELSEWHERE, b"", frame("CALL", BRIDGE, claim_of(1))))
    calls = claim_calls(trace)
    assert calls == [claim_of(0), claim_of(1)]
    assert exits_of(logs, own, {0: calls}) == [EXITS[0].bridge_exit(), EXITS[1].bridge_exit()]


def test_events_and_calls_are_paired_by_global_index() -> None:
    logs = [log_of(2), log_of(1), settled_log(1)]
    activity = activity_of(
        logs, [transaction(ELSEWHERE, b"")], network_id=HERE, traced={0: [claim_of(1), claim_of(0), claim_of(2)]}
    )
    assert [(claim.exit, claim.pays) for claim in activity.claims] == [
        (EXITS[2].bridge_exit(), True),
        (EXITS[1].bridge_exit(), False),
    ]


@pytest.mark.parametrize("kind", ["DELEGATECALL", "CALLCODE", "STATICCALL", "CREATE"])
def test_only_plain_calls_are_claims(kind: str) -> None:
    calls = frame(kind, BRIDGE, claim_of(1), frame("CALL", BRIDGE, claim_of(2)))
    assert claim_calls(frame("CALL", ELSEWHERE, b"", calls)) == [claim_of(2)]


def test_what_failed_is_no_claim_and_nothing_below_it() -> None:
    failed = frame("CALL", ELSEWHERE, b"", frame("CALL", BRIDGE, claim_of(1)), error="execution reverted")
    assert claim_calls(frame("CALL", ELSEWHERE, b"", failed, frame("CALL", BRIDGE, claim_of(2)))) == [claim_of(2)]


@pytest.mark.parametrize("calls", [[], [claim_of(2)], [claim_of(1)[:4]]])
def test_an_event_without_its_call_is_an_engine_failure(calls: list[bytes]) -> None:
    with pytest.raises(EngineFailure, match="did not call"):
        exits_of([log_of(1)], transaction(ELSEWHERE, b""), {0: calls})
