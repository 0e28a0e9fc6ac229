"""Reasons of skipped transactions: which condition is named, what is carried along the list, what is contradicted."""

from typing import Any

import pytest
from coincurve import PrivateKey

from nodes.evm.skip import SenderState, intrinsic_gas, skip_reasons
from nodes.model.errors import EngineFailure
from nodes.model.execution import DropReason, SkipReason, Transaction
from nodes.model.ids import Address
from nodes.rules.payload import UnsignedTransaction, address_of, decode, sign

KEY, OTHER = PrivateKey(b"\x01" * 32), PrivateKey(b"\x02" * 32)
Pair = tuple[bytes, Transaction]


def pair(nonce: int = 0, *, key: PrivateKey = KEY, **fields: Any) -> Pair:
    wanted: dict[str, Any] = {"gas_limit": 21_000, "to": b"\x07" * 20, "value": 10} | fields
    payload = sign(UnsignedTransaction(chain_id=1, nonce=nonce, **wanted), key)
    transaction = decode(payload, 1)
    assert not isinstance(transaction, DropReason)
    return payload, transaction


def state(nonce: int = 0, balance_wei: int = 100, *, has_code: bool = False) -> dict[Address, SenderState]:
    return {address_of(KEY): SenderState(nonce, balance_wei, has_code)}


def reasons(pairs: list[Pair], included: list[bool], senders: dict[Address, SenderState]) -> list[SkipReason | None]:
    return skip_reasons(pairs, included, senders)


@pytest.mark.parametrize(
    ("skipped", "reason"),
    [
        (pair(4), SkipReason.NONCE_TOO_LOW),
        (pair(6), SkipReason.NONCE_TOO_HIGH),
        (pair(5, value=101), SkipReason.INSUFFICIENT_BALANCE),
        (pair(5, max_fee_per_gas=1), SkipReason.INSUFFICIENT_BALANCE),
        (pair(4, value=101), SkipReason.NONCE_TOO_LOW),
        (pair(4, gas_limit=20_999), SkipReason.INTRINSIC_GAS),
        (pair(5, max_priority_fee_per_gas=2, max_fee_per_gas=1, gas_limit=1), SkipReason.FEE_ORDER),
        (pair(5, to=b"", calldata=b"\x00" * 49_153, gas_limit=1), SkipReason.INIT_CODE_TOO_LARGE),
        (pair(5, to=b"\x07" * 20, calldata=b"\x00" * 49_153, gas_limit=1), SkipReason.INTRINSIC_GAS),
    ],
)
def test_each_condition_is_named_in_order(skipped: Pair, reason: SkipReason) -> None:
    assert reasons([skipped], [False], state(5)) == [reason]


def test_nonce_and_spending_are_carried_along_the_list() -> None:
    pairs = [pair(0, value=60), pair(0), pair(1, value=60), pair(1, value=5), pair(3), pair(2, key=OTHER)]
    included = [True, False, False, True, False, True]
    assert reasons(pairs, included, state(0, 100)) == [
        None,
        SkipReason.NONCE_TOO_LOW,
        SkipReason.INSUFFICIENT_BALANCE,
        None,
        SkipReason.NONCE_TOO_HIGH,
        None,
    ]


def test_a_skip_that_nothing_explains_is_a_failure() -> None:
    with pytest.raises(EngineFailure, match="left out transaction 0x"):
        reasons([pair(0)], [False], state(0, 100))
    with pytest.raises(EngineFailure, match="explains it"):
        reasons([pair(0, value=40), pair(1, value=60)], [True, False], state(0, 100))


def test_code_of_the_sender_may_have_spent_its_balance() -> None:
    assert reasons([pair(0)], [False], state(0, 100, has_code=True)) == [SkipReason.INSUFFICIENT_BALANCE]


@pytest.mark.parametrize(
    ("fields", "gas"),
    [
        ({}, 21_000),
        ({"calldata": b"\x00\x01"}, 21_000 + 50),
        ({"calldata": b"\x00" * 100, "to": b""}, 21_000 + 32_000 + 4 * 100 + 2 * 4),
        ({"tx_type": 0}, 21_000),
        ({"tx_type": 1, "access_list": ((b"\x01" * 20, (b"\x02" * 32,) * 3),)}, 21_000 + 2_400 + 3 * 1_900),
        ({"tx_type": 2, "access_list": ((b"\x01" * 20, ()),) * 2}, 21_000 + 4_800),
    ],
)
def test_intrinsic_gas(fields: dict[str, Any], gas: int) -> None:
    assert intrinsic_gas(*pair(0, **fields)) == gas
