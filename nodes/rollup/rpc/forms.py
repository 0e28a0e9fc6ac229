"""The JSON forms of blocks, transactions, receipts and logs, as geth gives them.

Pure: from the node's own records, and from the header and the receipts that an engine gave, which are checked against
these records. Everything a form says about contents comes from the payloads that this node executed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from nodes.model.errors import EngineFailure
from nodes.model.execution import Status, Transaction
from nodes.model.ids import hex_of
from nodes.rollup.deposits import fields_of_deposit
from nodes.rollup.records import IndexedBlock
from nodes.rules import rlp
from nodes.rules.hashes import keccak256
from nodes.rules.verdict import DEPOSIT_TYPE

Json = dict[str, Any]

_HEADER_FIELDS = (
    ("parentHash", False),
    ("sha3Uncles", False),
    ("miner", False),
    ("stateRoot", False),
    ("transactionsRoot", False),
    ("receiptsRoot", False),
    ("logsBloom", False),
    ("difficulty", True),
    ("number", True),
    ("gasLimit", True),
    ("gasUsed", True),
    ("timestamp", True),
    ("extraData", False),
    ("mixHash", False),
    ("nonce", False),
    ("baseFeePerGas", True),
    ("withdrawalsRoot", False),
    ("blobGasUsed", True),
    ("excessBlobGas", True),
    ("parentBeaconBlockRoot", False),
    ("requestsHash", False),
)
"""Fields of a header in the order of its encoding, and whether each is an integer. Later forks append fields."""
_EMPTY_LISTS_BYTES = 2
"""No uncles and no withdrawals: one byte each."""


def encode_header(header: Mapping[str, Any]) -> bytes:
    """The RLP of a header in JSON form; its keccak256 is the block hash."""
    items = []
    for name, is_integer in _HEADER_FIELDS:
        value = header.get(name)
        if value is None:
            break
        items.append(rlp.encode_int(int(value, 16)) if is_integer else rlp.encode_bytes(bytes.fromhex(value[2:])))
    return rlp.encode_list(items)


def header_fields(form: Mapping[str, Any]) -> Json:
    """What of a block's form is its header."""
    return {name: form[name] for name, _ in _HEADER_FIELDS if form.get(name) is not None}


def block_json(header: Json, block: IndexedBlock, transactions: Sequence[Any]) -> Json:
    """A block; `transactions` are hashes or whole forms."""
    payload_bytes = sum(
        len(payload if payload[0] >= 0xC0 else rlp.encode_bytes(payload)) for payload in block.payload_list()
    )
    listed = len(rlp.encode_length(payload_bytes, offset=0xC0)) + payload_bytes
    body = len(encode_header(header)) + listed + _EMPTY_LISTS_BYTES
    return header | {
        "hash": hex_of(block.hash),
        "size": hex(len(rlp.encode_length(body, offset=0xC0)) + body),
        "totalDifficulty": "0x0",
        "uncles": [],
        "withdrawals": [],
        "transactions": list(transactions),
    }


def head_json(header: Json, block: IndexedBlock) -> Json:
    """What a subscriber of new heads gets: the header and its hash."""
    return header | {"hash": hex_of(block.hash)}


def transaction_json(payload: bytes, transaction: Transaction, block: IndexedBlock | None, position: int) -> Json:
    """A transaction; without a block it is pending and its place is null."""
    fee, tip = transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas
    form: Json = {
        "type": hex(transaction.tx_type),
        **({} if transaction.tx_type == DEPOSIT_TYPE else {"chainId": hex(transaction.chain_id)}),
        "nonce": hex(transaction.nonce),
        "gas": hex(transaction.gas_limit),
        "to": hex_of(transaction.to) if transaction.to else None,
        "value": hex(transaction.value),
        "input": hex_of(transaction.calldata),
        "hash": hex_of(transaction.tx_hash),
        "from": hex_of(transaction.sender),
        "blockHash": None if block is None else hex_of(block.hash),
        "blockNumber": None if block is None else hex(block.number),
        "blockTimestamp": None if block is None else hex(block.timestamp_s),
        "transactionIndex": None if block is None else hex(position),
        "gasPrice": hex(fee if block is None else effective_gas_price(transaction)),
    }
    if transaction.tx_type == 2:
        form["maxFeePerGas"], form["maxPriorityFeePerGas"] = hex(fee), hex(tip)
    if transaction.tx_type == DEPOSIT_TYPE:
        return form | _deposit_json(payload)
    return form | _signature_json(payload, transaction.tx_type)


def effective_gas_price(transaction: Transaction) -> int:
    """Wei per gas that the sender pays; the base fee is 0, so it is the tip, which never exceeds the maximum."""
    return min(transaction.max_fee_per_gas, transaction.max_priority_fee_per_gas)


def _deposit_json(payload: bytes) -> Json:
    """What only a deposit has, under op-geth's names. It has no signature; its zeros stand in their place."""
    deposit = fields_of_deposit(payload)
    form: Json = {"sourceHash": hex_of(deposit.source_hash), "isSystemTx": deposit.is_system}
    if deposit.mint_wei:
        form["mint"] = hex(deposit.mint_wei)
    return form | {"v": "0x0", "r": "0x0", "s": "0x0"}


def _signature_json(payload: bytes, tx_type: int) -> Json:
    # The payload was accepted, so its shape is known: bytes, and lists of bytes in the access list.
    fields: Any = rlp.decode(payload if tx_type == 0 else payload[1:])
    v, r, s = [int.from_bytes(item, "big") for item in fields[-3:]]
    form: Json = {"v": hex(v), "r": hex(r), "s": hex(s)}
    if tx_type:
        form["yParity"] = hex(v)
        form["accessList"] = [
            {"address": hex_of(address), "storageKeys": [hex_of(key) for key in keys]} for address, keys in fields[-4]
        ]
    return form


def log_json(log: Mapping[str, Any], block: IndexedBlock, *, removed: bool = False) -> Json:
    """A log of an engine as users see it: its place in the chain, and no field of another engine's making."""
    return {
        "address": log["address"],
        "topics": log["topics"],
        "data": log["data"],
        "blockHash": hex_of(block.hash),
        "blockNumber": hex(block.number),
        "blockTimestamp": hex(block.timestamp_s),
        "transactionHash": log["transactionHash"],
        "transactionIndex": log["transactionIndex"],
        "logIndex": log["logIndex"],
        "removed": removed,
    }


def receipt_json(receipt: Mapping[str, Any], transaction: Transaction, block: IndexedBlock, position: int) -> Json:
    """A receipt from an engine's: gas, bloom and logs are the engine's; place, status and parties are the node's own.

    Raises EngineFailure where the two disagree.
    """
    status = block.status(position)
    named = (str(receipt.get("transactionHash")), int(str(receipt.get("status")), 16))
    if named != (hex_of(transaction.tx_hash), int(status is Status.SUCCEEDED)):
        raise EngineFailure(
            f"the engine's receipt at position {position} of block {block.number} says {named}, "
            f"the node has {hex_of(transaction.tx_hash)}, {status.name}"
        )
    created = None
    if not transaction.to:
        address = rlp.encode([transaction.sender, _integer_bytes(transaction.nonce)])
        created = hex_of(keccak256(address)[12:])
    return {
        "type": hex(transaction.tx_type),
        "status": hex(named[1]),
        "transactionHash": hex_of(transaction.tx_hash),
        "transactionIndex": hex(position),
        "blockHash": hex_of(block.hash),
        "blockNumber": hex(block.number),
        "from": hex_of(transaction.sender),
        "to": hex_of(transaction.to) if transaction.to else None,
        "contractAddress": created,
        "cumulativeGasUsed": receipt["cumulativeGasUsed"],
        "gasUsed": receipt["gasUsed"],
        "effectiveGasPrice": hex(effective_gas_price(transaction)),
        "logsBloom": receipt["logsBloom"],
        "logs": [log_json(log, block) for log in receipt["logs"]],
    }


def _integer_bytes(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
