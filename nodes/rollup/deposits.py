"""Deposit transactions (type 0x7E) as they stand in blocks: taking them apart for users. Pure.

They are made by the rule of verdicts alone (`nodes.rules.verdict.burn_of`); no payload of that type is ever accepted.

Source: OP Stack specification, deposits, https://specs.optimism.io/protocol/deposits.html
"""

from typing import NamedTuple

from nodes.model.execution import Transaction
from nodes.model.ids import Address, ChainId, TxHash
from nodes.rules import rlp
from nodes.rules.hashes import keccak256
from nodes.rules.verdict import DEPOSIT_TYPE


class Deposit(NamedTuple):
    """The fields of a deposit, in their order."""

    source_hash: bytes
    """32 bytes; makes the transaction hash unique."""
    sender: Address
    to: bytes
    """20 bytes, or empty for a creation."""
    mint_wei: int
    value_wei: int
    gas_limit: int
    is_system: bool
    calldata: bytes


def fields_of_deposit(payload: bytes) -> Deposit:
    """What a deposit that was executed says."""
    fields = rlp.decode(payload[1:])
    assert isinstance(fields, list), "it was executed, so its shape is known"
    source, sender, to, mint, value, gas, is_system, calldata = [bytes(item) for item in fields]
    return Deposit(
        source, Address(sender), to, _integer(mint), _integer(value), _integer(gas), _integer(is_system) == 1, calldata
    )


def decode_deposit(payload: bytes, chain_id: ChainId) -> Transaction:
    """The deposit in the form of other transactions. Its nonce is its sender's at that place, and not known here: 0."""
    deposit = fields_of_deposit(payload)
    return Transaction(
        tx_type=DEPOSIT_TYPE,
        chain_id=chain_id,
        nonce=0,
        gas_limit=deposit.gas_limit,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=deposit.to,
        value=deposit.value_wei,
        calldata=deposit.calldata,
        sender=deposit.sender,
        tx_hash=TxHash(keccak256(payload)),
        trailer=None,
        leg_hash=None,
    )


def _integer(data: bytes) -> int:
    return int.from_bytes(data, "big")
