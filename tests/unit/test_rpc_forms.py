"""The JSON forms of headers, transactions and receipts."""

import pytest

from nodes.model.errors import EngineFailure
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.rpc.forms import encode_header, receipt_json, transaction_json
from nodes.rollup.rpc.headers import checked_header, ordered_trie_root
from nodes.rules.hashes import keccak256
from nodes.rules.payload import UnsignedTransaction, decode, sign
from tests.support.crafting import ADDRESSES, CHAINS, KEYS, RECIPIENT
from tests.support.rpc_fakes import block_with

# Block 0 of Ethereum's main chain, whose hash everybody knows.
MAINNET_GENESIS = {
    "parentHash": "0x" + "00" * 32,
    "sha3Uncles": "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347",
    "miner": "0x" + "00" * 20,
    "stateRoot": "0xd7f8974fb5ac78d9ac099b9ad5018bedc2ce0a72dad1827a1709da30580f0544",
    "transactionsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "receiptsRoot": "0x56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421",
    "logsBloom": "0x" + "00" * 256,
    "difficulty": "0x400000000",
    "number": "0x0",
    "gasLimit": "0x1388",
    "gasUsed": "0x0",
    "timestamp": "0x0",
    "extraData": "0x11bbe8db4e347b4e8c937c1c8370e4b5ed33adb3db69cbdb7a38e1e50b1b82fa",
    "mixHash": "0x" + "00" * 32,
    "nonce": "0x0000000000000042",
}
MAINNET_GENESIS_HASH = "0xd4e56740f876aef8c010b86a40d5f56745a118d0906a34e69aec8c0db1cb8fa3"


def test_headers_hash_as_ethereum_hashes_them() -> None:
    assert hex_of(keccak256(encode_header(MAINNET_GENESIS))) == MAINNET_GENESIS_HASH


def test_a_header_of_another_block_is_refused() -> None:
    with pytest.raises(EngineFailure):
        checked_header(MAINNET_GENESIS, block_with(0))
    with pytest.raises(EngineFailure):
        checked_header(None, block_with(0))


def test_the_trie_of_a_list_has_the_root_that_ethereum_gives() -> None:
    assert hex_of(ordered_trie_root([])) == MAINNET_GENESIS["transactionsRoot"]
    # One leaf: the path is the RLP of index 0, 0x80, behind the flag of a leaf with an even number of nibbles.
    assert hex_of(ordered_trie_root([b"\x01"])) == hex_of(keccak256(b"\xc4\x82\x20\x80\x01"))


ACCESS = ((b"\x0a" * 20, (b"\x01" * 32, b"\x02" * 32)), (b"\x0b" * 20, ()))


@pytest.mark.parametrize("tx_type", [0, 1, 2])
def test_transactions_show_what_was_signed(tx_type: int) -> None:
    unsigned = UnsignedTransaction(
        tx_type=tx_type,
        chain_id=CHAINS[0],
        nonce=5,
        gas_limit=90_000,
        max_fee_per_gas=7,
        max_priority_fee_per_gas=7 if tx_type < 2 else 3,
        to=RECIPIENT,
        value=2**100,
        calldata=b"\x01\x02",
        access_list=ACCESS if tx_type else (),
    )
    payload = sign(unsigned, KEYS[0])
    transaction = decode(payload, CHAINS[0])
    assert isinstance(transaction, Transaction)
    block = block_with(9, [payload])
    form = transaction_json(payload, transaction, block, 0)
    assert form["hash"] == hex_of(keccak256(payload))
    assert (form["type"], form["nonce"], form["value"], form["input"]) == (hex(tx_type), "0x5", hex(2**100), "0x0102")
    assert (form["from"], form["to"], form["chainId"]) == (hex_of(ADDRESSES[0]), hex_of(RECIPIENT), hex(CHAINS[0]))
    assert (form["blockNumber"], form["transactionIndex"], form["blockHash"]) == ("0x9", "0x0", hex_of(block.hash))
    assert form["gasPrice"] == ("0x3" if tx_type == 2 else "0x7")
    assert ("maxFeePerGas" in form) == (tx_type == 2)
    if tx_type:
        assert form["accessList"] == [
            {"address": "0x" + "0a" * 20, "storageKeys": ["0x" + "01" * 32, "0x" + "02" * 32]},
            {"address": "0x" + "0b" * 20, "storageKeys": []},
        ]
        assert form["v"] == form["yParity"]
    else:
        assert int(form["v"], 16) in (35 + 2 * CHAINS[0], 36 + 2 * CHAINS[0])
        assert "accessList" not in form
    pending = transaction_json(payload, transaction, None, 0)
    assert [pending[name] for name in ("blockHash", "blockNumber", "transactionIndex")] == [None] * 3
    assert pending["gasPrice"] == "0x7"


def test_a_receipt_that_contradicts_the_node_is_refused() -> None:
    payload = sign(UnsignedTransaction(chain_id=CHAINS[0], nonce=0, gas_limit=90_000, to=b""), KEYS[0])
    transaction = decode(payload, CHAINS[0])
    assert isinstance(transaction, Transaction)
    block = block_with(9, [payload])
    receipt = {
        "transactionHash": hex_of(keccak256(payload)),
        "status": "0x1",
        "gasUsed": "0x5208",
        "cumulativeGasUsed": "0x5208",
        "logsBloom": "0x",
        "logs": [],
        "blobGasPrice": "0x1",
    }
    form = receipt_json(receipt, transaction, block, 0)
    # Of the address of key 1's first creation.
    assert form["contractAddress"] == hex_of(keccak256(b"\xd6\x94" + ADDRESSES[0] + b"\x80")[12:])
    assert "blobGasPrice" not in form
    for false in ({"status": "0x0"}, {"transactionHash": "0x" + "00" * 32}):
        with pytest.raises(EngineFailure, match="the engine's receipt at position 0 of block 9"):
            receipt_json(receipt | false, transaction, block, 0)
