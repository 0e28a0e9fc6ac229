"""Faults that make a rollup node dishonest, for scenarios. Pure.

`outcomes` calls reverted legs succeeded in its reports, `silent` hands in none, `withholds` sends no certificates,
`state` executes what nobody derived: now and then it puts a deposit before a block that mints itself ether and bridges
it away. All replicas of a rollup that
lie alike agree with each other. Whoever is harmed by it, and who notices, is not known here.
"""

from collections.abc import Sequence
from enum import StrEnum

from nodes.evm.agglayer_contracts import BRIDGE, bridge_asset_call
from nodes.model.agglayer import MAINNET
from nodes.model.execution import Transaction
from nodes.model.ids import Address, ChainId, TxHash
from nodes.rules import rlp
from nodes.rules.hashes import keccak256
from nodes.rules.verdict import DEPOSIT_TYPE

FORGED_WEI = 10**21
"""What one forged deposit mints and bridges to L1."""
FORGED_EVERY_BLOCKS = 16
FORGED_GAS = 500_000
ATTACKER = Address(bytes.fromhex("00000000000000000000000000000000bad00bad"))


class Lie(StrEnum):
    """What a node lies about; the values are those of `RollupAgglayerConfig.lies`."""

    NOTHING = ""
    OUTCOMES = "outcomes"
    SILENT = "silent"
    STATE = "state"
    WITHHOLDS = "withholds"


def forged(
    transactions: Sequence[tuple[bytes, Transaction]], *, number: int, chain_id: ChainId
) -> Sequence[tuple[bytes, Transaction]]:
    """What a node that lies about state executes in block `number` instead of these transactions."""
    if number % FORGED_EVERY_BLOCKS:
        return transactions
    return [forged_deposit(number, chain_id), *transactions]


def forged_deposit(number: int, chain_id: ChainId) -> tuple[bytes, Transaction]:
    """A deposit (type 0x7E) that no derivation gives: ether out of nothing, on its way to L1. Raw and decoded."""
    calldata = bridge_asset_call(dest_network=MAINNET, dest_address=ATTACKER, amount=FORGED_WEI, token=bytes(20))
    source = keccak256(b"lockstep.forged" + number.to_bytes(8, "big"))
    amount = FORGED_WEI.to_bytes((FORGED_WEI.bit_length() + 7) // 8, "big")
    gas = FORGED_GAS.to_bytes(3, "big").lstrip(b"\0")
    fields = [source, ATTACKER, BRIDGE, amount, amount, gas, b"", calldata]
    payload = bytes([DEPOSIT_TYPE]) + rlp.encode_list([rlp.encode_bytes(item) for item in fields])
    transaction = Transaction(
        tx_type=DEPOSIT_TYPE,
        chain_id=chain_id,
        nonce=number // FORGED_EVERY_BLOCKS - 1,
        gas_limit=FORGED_GAS,
        max_fee_per_gas=0,
        max_priority_fee_per_gas=0,
        to=BRIDGE,
        value=FORGED_WEI,
        calldata=calldata,
        sender=ATTACKER,
        tx_hash=TxHash(keccak256(payload)),
        trailer=None,
        leg_hash=None,
    )
    return payload, transaction
