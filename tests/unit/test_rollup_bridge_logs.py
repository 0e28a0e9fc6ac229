"""What the events of the bridge say together."""

from collections.abc import Sequence
from typing import Any

import pytest

from nodes.evm.abi_words import address_word, uint_word
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    CLAIM_DETAILS_TOPIC,
    CLAIM_TOPIC,
    CONTINGENT_SETTLED_TOPIC,
    BridgeEvent,
)
from nodes.model.agglayer import ETH, GlobalIndex, LeafType, NetworkId, global_index_of
from nodes.model.bridge_activity import NO_ACTIVITY, BridgeActivity
from nodes.model.errors import EngineFailure
from nodes.model.execution import Transaction
from nodes.model.ids import Address, TxHash, hex_of
from nodes.rollup.bridge_logs import activity_of
from nodes.rules.exit_tree import global_index_to_int
from nodes.rules.hashes import keccak256

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


def log(topic: bytes, data: bytes, position: int) -> dict[str, Any]:
    return {
        "address": hex_of(BRIDGE),
        "topics": [hex_of(topic)],
        "data": hex_of(data),
        "transactionIndex": hex(position),
    }


def claim_logs(at: int, position: int = 0) -> list[dict[str, Any]]:
    """The two events of a claim of an exit, in the transaction at a position."""
    made = EXITS[at]
    index = uint_word(global_index_to_int(index_of(at)), 256)
    token = uint_word(0, 32) + address_word(bytes(20))
    said = index + token + address_word(made.dest_address) + uint_word(made.amount, 256)
    details = index + uint_word(made.leaf_type, 8) + keccak256(made.metadata)
    return [log(CLAIM_TOPIC, said, position), log(CLAIM_DETAILS_TOPIC, details, position)]


def settled_log(at: int, position: int = 0) -> dict[str, Any]:
    """A contingent mint had paid the exit."""
    return log(CONTINGENT_SETTLED_TOPIC, uint_word(global_index_to_int(index_of(at)), 256) + bytes(32), position)


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


def activity(logs: Sequence[dict[str, Any]]) -> BridgeActivity:
    return activity_of(logs, [transaction(ELSEWHERE, b"")] * 2, network_id=HERE)


def test_a_claim_has_what_its_two_events_say_whoever_made_it() -> None:
    """Also one that the receiver of another claim makes: the outer one's events stand before it."""
    made = activity([*claim_logs(0), *claim_logs(1), *claim_logs(2, position=1), settled_log(2, position=1)])
    assert [(claim.exit, claim.pays, claim.position) for claim in made.claims] == [
        (EXITS[0].bridge_exit(), True, 0),
        (EXITS[1].bridge_exit(), True, 0),
        (EXITS[2].bridge_exit(), False, 1),
    ]
    assert [claim.global_index for claim in made.claims] == [index_of(at) for at in range(3)]


def test_what_is_no_event_of_the_bridge_says_nothing() -> None:
    forged = [{**log, "address": hex_of(ELSEWHERE)} for log in claim_logs(1)]
    assert activity(forged) == NO_ACTIVITY


@pytest.mark.parametrize(
    "logs",
    [
        claim_logs(1)[:1],
        claim_logs(1)[1:],
        [claim_logs(1)[0], claim_logs(2)[1]],
        [claim_logs(1)[0], *claim_logs(2)],
        [claim_logs(1)[0], settled_log(1)],
    ],
)
def test_a_claim_without_its_details_is_an_engine_failure(logs: list[dict[str, Any]]) -> None:
    with pytest.raises(EngineFailure, match="details"):
        activity(logs)
