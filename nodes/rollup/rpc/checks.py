"""What is wrong with a transaction that a user hands in, said as geth says it. Pure.

Refusing here only saves the user a wait: derivation and the engine judge again. Nothing here admits anything.
"""

from typing import NamedTuple

from nodes.evm.skip import MAX_INIT_CODE_BYTES, intrinsic_gas
from nodes.model.execution import DropReason, RollupParams, Transaction
from nodes.model.ids import hex_of
from nodes.model.limits import MAX_PAYLOAD_BYTES
from nodes.rules import rlp
from nodes.rules.payload import decode

_CHAIN_ID_FIELD = 0
_LEGACY_V_FIELD = 6
_TYPED = (1, 2)


class Account(NamedTuple):
    """A sender at the head."""

    nonce: int
    balance_wei: int
    has_code: bool


def chain_id_in(payload: bytes) -> int | None:
    """The chain id that a signed transaction names; None where it names none that can be read."""
    try:
        if not payload:
            return None
        if payload[0] >= 0xC0:
            v = _integer_at(payload, 0, _LEGACY_V_FIELD)
            return (v - 35) // 2 if v is not None and v >= 35 else None
        return _integer_at(payload, 1, _CHAIN_ID_FIELD) if payload[0] in _TYPED else None
    except rlp.RlpError:
        return None


def _integer_at(payload: bytes, start: int, field: int) -> int | None:
    items = rlp.split(payload, start)
    if len(items) <= field or items[field][3]:
        return None
    _, begin, end, _ = items[field]
    return int.from_bytes(payload[begin:end], "big")


def accepted(payload: bytes, chain_id: int) -> Transaction | str:
    """The decoded payload, or why no reader would take it."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        return f"oversized data: transaction size {len(payload)}, limit {MAX_PAYLOAD_BYTES}"
    decoded = decode(payload, chain_id)
    if isinstance(decoded, Transaction):
        return decoded
    match decoded:
        case DropReason.WRONG_CHAIN:
            return f"invalid sender: invalid chain id for signer: have {chain_id_in(payload)} want {chain_id}"
        case DropReason.BAD_SIGNATURE:
            return "invalid sender: invalid transaction v, r, s values"
        case DropReason.UNSUPPORTED_TYPE if payload[0] >= 0xC0:
            return "only replay-protected (EIP-155) transactions allowed over RPC"
        case DropReason.UNSUPPORTED_TYPE:
            return f"transaction type not supported: {payload[0]:#x}; this chain takes types 0x0, 0x1 and 0x2"
    return "rlp: the bytes are not one canonically encoded signed transaction"


def static_flaw(payload: bytes, transaction: Transaction, params: RollupParams) -> str:
    """Why a transaction cannot execute whatever the state; empty where it may."""
    if transaction.gas_limit > params.leg_gas_cap:
        return f"transaction gas limit too high (cap: {params.leg_gas_cap}, tx: {transaction.gas_limit})"
    if transaction.max_priority_fee_per_gas > transaction.max_fee_per_gas:
        return (
            f"max priority fee per gas higher than max fee per gas: address {hex_of(transaction.sender)}, "
            f"maxPriorityFeePerGas: {transaction.max_priority_fee_per_gas}, maxFeePerGas: {transaction.max_fee_per_gas}"
        )
    if not transaction.to and len(transaction.calldata) > MAX_INIT_CODE_BYTES:
        return f"max initcode size exceeded: code size {len(transaction.calldata)}, limit {MAX_INIT_CODE_BYTES}"
    needed = intrinsic_gas(payload, transaction)
    if transaction.gas_limit < needed:
        return f"intrinsic gas too low: gas {transaction.gas_limit}, minimum needed {needed}"
    return ""


def account_flaw(transaction: Transaction, account: Account, *, next_nonce: int) -> str:
    """Why a transaction cannot execute next; empty where it may. `next_nonce` follows what was accepted already."""
    address = hex_of(transaction.sender)
    nonce = transaction.nonce
    if account.has_code:
        return f"sender not an eoa: address {address} has code"
    if nonce < account.nonce:
        return f"nonce too low: address {address}, tx: {nonce} state: {account.nonce}"
    if nonce < next_nonce:
        return (
            f"replacement transaction underpriced: a transaction of {address} with nonce {nonce} was accepted and "
            "cannot be replaced, since the sequencer orders first come, first served"
        )
    if nonce > next_nonce:
        return f"nonce too high: address {address}, tx: {nonce} state: {account.nonce} pending: {next_nonce}"
    cost = transaction.value + transaction.gas_limit * transaction.max_fee_per_gas
    if account.balance_wei < cost:
        missing = f"address {address} have {account.balance_wei} want {cost}"
        return f"insufficient funds for gas * price + value: {missing}"
    return ""
