"""Why the engine left out an admitted transaction. Pure: the list, what was included, and the senders before the block.

anvil does not say why it skips, so the reason is worked out. The rules are those of a Prague block (Isthmus on the OP
stack), checked in the order below; every one but the balance is exact. The balance a sender had at its turn is not
known here (others may have paid it meanwhile), so a lack of it is what remains, and is checked for being possible.

anvil lets accounts with code send (it does not apply EIP-3607), so that is never a reason. Only a genesis can hold such
an account whose key is known. Its code may spend its balance and raise its nonce in others' transactions, so for it
alone the nonce is a best reading and the balance is not checked.

Sources: EIP-1559 (fees), EIP-3860 (init code), EIP-2028, EIP-2930 and EIP-7623 (intrinsic gas).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodes.model.errors import EngineFailure
from nodes.model.execution import SkipReason, Transaction
from nodes.model.ids import Address, hex_of
from nodes.rules import rlp

MAX_INIT_CODE_BYTES = 49_152
_TRANSACTION_GAS = 21_000
_CREATION_GAS = 32_000
_INIT_CODE_WORD_GAS = 2
_TOKEN_GAS = 4
_FLOOR_TOKEN_GAS = 10
_TOKENS_PER_NONZERO_BYTE = 4
_ACCESSED_ADDRESS_GAS = 2_400
_ACCESSED_SLOT_GAS = 1_900
_ACCESS_LIST_FIELD = {1: 7, 2: 8}


class SenderState(NamedTuple):
    """A sender before the first transaction of the block."""

    nonce: int
    balance_wei: int
    has_code: bool


def skip_reasons(
    transactions: Sequence[tuple[bytes, Transaction]],
    included: Sequence[bool],
    senders: Mapping[Address, SenderState],
) -> list[SkipReason | None]:
    """One entry per transaction, None for the included ones.

    `transactions` are the (payload, decoded) pairs as they were handed to the engine, `senders` holds at least those
    of the skipped ones. Raises EngineFailure where nothing here explains a skip.
    """
    nonces = {address: state.nonce for address, state in senders.items()}
    most_spent = dict.fromkeys(senders, 0)
    reasons: list[SkipReason | None] = []
    for (payload, transaction), is_included in zip(transactions, included, strict=True):
        sender = transaction.sender
        if not is_included:
            state = senders[sender]
            reasons.append(_reason(payload, transaction, state, nonces[sender], most_spent[sender]))
            continue
        reasons.append(None)
        if sender in nonces:
            nonces[sender] += 1
            most_spent[sender] += _most_cost_wei(transaction)
    return reasons


def _reason(payload: bytes, transaction: Transaction, state: SenderState, nonce: int, most_spent: int) -> SkipReason:
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        return SkipReason.FEE_ORDER
    if not transaction.to and len(transaction.calldata) > MAX_INIT_CODE_BYTES:
        return SkipReason.INIT_CODE_TOO_LARGE
    if transaction.gas_limit < intrinsic_gas(payload, transaction):
        return SkipReason.INTRINSIC_GAS
    if transaction.nonce != nonce:
        return SkipReason.NONCE_TOO_LOW if transaction.nonce < nonce else SkipReason.NONCE_TOO_HIGH
    if state.has_code or state.balance_wei - most_spent < _most_cost_wei(transaction):
        return SkipReason.INSUFFICIENT_BALANCE
    raise EngineFailure(
        f"the engine left out transaction {hex_of(transaction.tx_hash)} of {hex_of(transaction.sender)}, and neither "
        f"its nonce {transaction.nonce}, nor its gas, nor the sender's balance of {state.balance_wei} wei explains it; "
        "compare the engine's version and flags with those of other replicas"
    )


def _most_cost_wei(transaction: Transaction) -> int:
    """What the sender must own for the transaction to start; more than it spends in the end."""
    return transaction.value + transaction.gas_limit * transaction.max_fee_per_gas


def intrinsic_gas(payload: bytes, transaction: Transaction) -> int:
    """The least gas limit with which the transaction may start."""
    data = transaction.calldata
    tokens = _TOKENS_PER_NONZERO_BYTE * len(data) - (_TOKENS_PER_NONZERO_BYTE - 1) * data.count(0)
    addresses, slots = _access_list_size(payload, transaction.tx_type)
    gas = _TRANSACTION_GAS + _TOKEN_GAS * tokens + _ACCESSED_ADDRESS_GAS * addresses + _ACCESSED_SLOT_GAS * slots
    if not transaction.to:
        gas += _CREATION_GAS + _INIT_CODE_WORD_GAS * ((len(data) + 31) // 32)
    return max(gas, _TRANSACTION_GAS + _FLOOR_TOKEN_GAS * tokens)


def _access_list_size(payload: bytes, tx_type: int) -> tuple[int, int]:
    field = _ACCESS_LIST_FIELD.get(tx_type)
    if field is None:
        return 0, 0
    entries = rlp.decode(payload[1:])[field]
    assert isinstance(entries, list), "the payload was accepted"
    return len(entries), sum(len(slots) for _, slots in entries)
