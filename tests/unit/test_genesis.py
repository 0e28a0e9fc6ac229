"""The genesis document and the storage it writes, without an engine."""

import json
import math
from typing import Any

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from nodes.evm.contracts import packaged, parse_artifact
from nodes.evm.genesis import (
    COUNTER,
    MAX_RESERVE,
    NOBODY,
    POOL,
    PREDEPLOYED,
    TOKEN_A,
    TOKEN_B,
    UNLIMITED,
    Account,
    ChainParameters,
    PoolGenesis,
    TokenGenesis,
    genesis_alloc,
    genesis_bytes,
    genesis_digest,
    genesis_document,
    traders_genesis,
)
from nodes.evm.storage_layout import StorageWriter, mapping_slot, storage_overrides
from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.ids import Address
from nodes.rules.hashes import keccak256

ALICE, BOB = Address(bytes(19) + b"\xa1"), Address(bytes(19) + b"\xb0")
CHAIN = ChainParameters(chain_id=7001, timestamp_s=1_700_000_000, gas_limit=10**9, coinbase=Address(bytes(20)))


def layout(*variables: tuple[str, int, int, str]) -> Any:
    """An artifact with variables (label, slot, offset, type) of the types below."""
    types = {
        "u8": {"encoding": "inplace", "label": "uint8", "numberOfBytes": "1"},
        "i16": {"encoding": "inplace", "label": "int16", "numberOfBytes": "2"},
        "b4": {"encoding": "inplace", "label": "bytes4", "numberOfBytes": "4"},
        "bool": {"encoding": "inplace", "label": "bool", "numberOfBytes": "1"},
        "address": {"encoding": "inplace", "label": "address", "numberOfBytes": "20"},
        "string": {"encoding": "bytes", "label": "string", "numberOfBytes": "32"},
        "by_b4": {"encoding": "mapping", "label": "mapping", "key": "b4", "value": "u8", "numberOfBytes": "32"},
        "by_i16": {"encoding": "mapping", "label": "mapping", "key": "i16", "value": "u8", "numberOfBytes": "32"},
        "by_text": {"encoding": "mapping", "label": "mapping", "key": "string", "value": "u8", "numberOfBytes": "32"},
    }
    storage = [{"label": a, "slot": str(b), "offset": c, "type": d} for a, b, c, d in variables]
    document = {"abi": [], "bytecode": "0x00", "storageLayout": {"storage": storage, "types": types}}
    return parse_artifact(json.dumps(document), source="Laid.json")


def test_addresses_are_distinct_and_outside_reserved_ranges() -> None:
    assert len(set(PREDEPLOYED.values())) == 4
    assert all(address[0] == 0x10 and len(address) == 20 for address in PREDEPLOYED.values())


def test_a_mapping_slot_is_the_hash_of_key_and_slot() -> None:
    expected = keccak256(encode(["address", "uint256"], [ALICE, 1]))
    assert mapping_slot(1, int.from_bytes(ALICE, "big")) == int.from_bytes(expected, "big")


def test_small_variables_share_a_slot_without_harming_each_other() -> None:
    artifact = layout(
        ("a", 0, 0, "u8"), ("b", 0, 1, "i16"), ("c", 0, 3, "b4"), ("d", 0, 7, "address"), ("e", 1, 0, "bool")
    )
    writer = StorageWriter(artifact)
    writer.write("a", value=0xFF)
    writer.write("b", value=-2)
    writer.write("c", value=b"\x01\x02\x03\x04")
    writer.write("d", value=ALICE)
    writer.write("e", value=True)
    writer.write("a", value=0x11)
    assert writer.words() == {0: int("a1" + "01020304" + "fffe" + "11", 16), 1: 1}
    writer.write("e", value=False)
    assert 1 not in writer.words()


def test_keys_are_padded_as_the_compiler_pads_them() -> None:
    writer = StorageWriter(layout(("m", 3, 0, "by_b4"), ("n", 4, 0, "by_i16")))
    writer.write("m", b"\x01\x02\x03\x04", value=5)
    writer.write("n", -2, value=6)
    by_bytes = keccak256(encode(["bytes4", "uint256"], [b"\x01\x02\x03\x04", 3]))
    by_integer = keccak256(encode(["int16", "uint256"], [-2, 4]))
    assert writer.words() == {int.from_bytes(by_bytes, "big"): 5, int.from_bytes(by_integer, "big"): 6}


@pytest.mark.parametrize(
    ("label", "keys", "value", "message"),
    [
        ("a", (), 256, "out of range for uint8"),
        ("a", (), "x", "not a value of uint8"),
        ("a", (1,), 1, "not a mapping"),
        ("m", (), 1, "not a value type"),
        ("m", (b"\x01",), 1, "not 4 bytes for bytes4"),
        ("s", (), "x", "not a value type"),
        ("t", ("x",), 1, "keys of type string are not supported"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(
    label: str, keys: tuple[object, ...], value: object, message: str
) -> None:
    writer = StorageWriter(
        layout(("a", 0, 0, "u8"), ("m", 1, 0, "by_b4"), ("s", 2, 0, "string"), ("t", 3, 0, "by_text"))
    )
    with pytest.raises(InvalidInput, match=f"Laid.json.*{message}"):
        writer.write(label, *keys, value=value)


def test_storage_of_a_scenario_is_by_slot_by_name_and_by_element() -> None:
    overrides = [("0x05", "0x7"), ("6", 8), ("totalSupply", "9"), (f"balanceOf[0x{ALICE.hex()}]", 9),
                 (f"allowance[0x{ALICE.hex()}][0x{BOB.hex()}]", 4)]  # fmt: skip
    words = storage_overrides(packaged("Token"), {6: 1, 7: 2}, overrides)
    expected = StorageWriter(packaged("Token"), {5: 7, 6: 8, 7: 2})
    expected.write("totalSupply", value=9)
    expected.write("balanceOf", ALICE, value=9)
    expected.write("allowance", ALICE, BOB, value=4)
    assert words == expected.words()
    assert storage_overrides(packaged("Token"), {6: 1}, [("6", 0)]) == {}


@pytest.mark.parametrize(
    ("key", "value", "error", "message"),
    [
        ("totalSuply", 1, UnknownName, "did you mean 'totalSupply'"),
        ("a b", 1, InvalidInput, "neither a slot, nor a name"),
        ("0x1", "x", InvalidInput, "'x' is not a number"),
        ("0x1", -1, InvalidInput, "not a word"),
        (hex(2**256), 1, InvalidInput, "not below"),
        ("balanceOf[7]", 1, InvalidInput, "'7' is not an address"),
    ],
)
def test_a_wrong_storage_entry_is_refused(key: str, value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        storage_overrides(packaged("Token"), {}, [(key, value)])


def test_a_name_without_a_layout_names_the_remedy() -> None:
    artifact = parse_artifact('{"abi": [], "bytecode": "0x00"}', source="out/Foo.json")
    assert storage_overrides(artifact, {}, [("1", 2)]) == {1: 2}
    with pytest.raises(InvalidInput, match=r"out/Foo.json has no storageLayout.*extra_output"):
        storage_overrides(artifact, {}, [("owner", 2)])


@given(
    balances=st.dictionaries(st.sampled_from([ALICE, BOB, POOL]), st.integers(0, 2**200), max_size=3),
    reserves=st.tuples(st.integers(2000, MAX_RESERVE), st.integers(2000, MAX_RESERVE)),
)
def test_supplies_and_shares_are_consistent(balances: dict[Address, int], reserves: tuple[int, int]) -> None:
    pool = PoolGenesis(reserve_a=reserves[0], reserve_b=reserves[1], provider=BOB)
    alloc = genesis_alloc(funded_wei={}, token_a=TokenGenesis(balances=balances), pool=pool)
    storage = alloc[TOKEN_A].storage
    slots = {owner: mapping_slot(0, int.from_bytes(owner, "big")) for owner in (ALICE, BOB, POOL)}
    assert (
        storage.get(2, 0)
        == sum(storage.get(slot, 0) for slot in slots.values())
        == sum(balances.values()) + reserves[0]
    )
    assert storage.get(slots[POOL], 0) >= reserves[0]
    assert alloc[TOKEN_B].storage[2] == reserves[1]
    shares = alloc[POOL].storage
    held = [shares.get(mapping_slot(4, int.from_bytes(owner, "big")), 0) for owner in (NOBODY, BOB)]
    assert held[0] == 1000
    assert sum(held) == shares[3] == math.isqrt(reserves[0] * reserves[1])
    assert shares[2] == reserves[0] | reserves[1] << 112


def test_traders_hold_tokens_and_let_the_pool_take_them() -> None:
    token = traders_genesis([ALICE, BOB], amount=5)
    assert token.balances == {ALICE: 5, BOB: 5}
    assert token.allowances == {(ALICE, POOL): UNLIMITED, (BOB, POOL): UNLIMITED}


def test_a_funded_contract_keeps_its_code() -> None:
    account = genesis_alloc(funded_wei={COUNTER: 7, ALICE: 8})
    assert account[COUNTER].balance_wei == 7
    assert account[COUNTER].code == packaged("Counter").runtime_code
    assert account[ALICE] == Account(balance_wei=8)


def test_the_document_is_canonical() -> None:
    forward = genesis_document(CHAIN, genesis_alloc(funded_wei={ALICE: 1, BOB: 2}))
    backward = genesis_document(CHAIN, genesis_alloc(funded_wei={BOB: 2, ALICE: 1}))
    assert genesis_bytes(forward) == genesis_bytes(backward)
    assert genesis_digest(forward) == genesis_digest(backward)
    other = genesis_document(CHAIN, genesis_alloc(funded_wei={ALICE: 1, BOB: 3}))
    assert genesis_digest(forward) != genesis_digest(other)


def test_the_document_has_the_form_that_geth_and_anvil_read() -> None:
    alloc = {ALICE: Account(balance_wei=16, nonce=2, code=b"\x60", storage={1: 2, 3: 0})}
    document = json.loads(genesis_bytes(genesis_document(CHAIN, alloc)))
    assert document["config"]["chainId"] == 7001
    assert document["timestamp"] == hex(1_700_000_000)
    assert document["gasLimit"] == hex(10**9)
    assert document["baseFeePerGas"] == "0x0"
    word_1, word_2 = "0x" + "00" * 31 + "01", "0x" + "00" * 31 + "02"
    assert document["alloc"] == {
        "0x" + ALICE.hex(): {"balance": "0x10", "nonce": "0x2", "code": "0x60", "storage": {word_1: word_2}}
    }


@pytest.mark.parametrize(
    ("account", "message"),
    [
        (Account(balance_wei=-1), "balance -1"),
        (Account(balance_wei=2**256), "out of range"),
        (Account(nonce=2**64), "nonce"),
        (Account(code=bytes(24_577)), "EIP-170"),
        (Account(storage={-1: 1}), "not a storage word"),
        (Account(storage={1: 2**256}), "not a storage word"),
    ],
)
def test_an_account_out_of_range_is_named(account: Account, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"0x{ALICE.hex()}.*{message}"):
        genesis_document(CHAIN, {ALICE: account})


def test_a_chain_out_of_range_is_refused() -> None:
    with pytest.raises(InvalidInput, match="chain id 0"):
        genesis_document(ChainParameters(chain_id=0, timestamp_s=0, gas_limit=1, coinbase=ALICE), {})
    with pytest.raises(InvalidInput, match="genesis time -1"):
        genesis_document(ChainParameters(chain_id=1, timestamp_s=-1, gas_limit=1, coinbase=ALICE), {})


@pytest.mark.parametrize("pool", [PoolGenesis(reserve_a=1), PoolGenesis(reserve_a=10**6, reserve_b=1),
                                  PoolGenesis(reserve_a=2**112, reserve_b=10**6)])  # fmt: skip
def test_reserves_that_the_pool_could_not_have_are_refused(pool: PoolGenesis) -> None:
    with pytest.raises(InvalidInput, match="pool reserves"):
        genesis_alloc(funded_wei={}, pool=pool)


def test_balances_that_overflow_the_supply_are_refused() -> None:
    with pytest.raises(InvalidInput, match="token A: balances"):
        genesis_alloc(funded_wei={}, token_a=TokenGenesis(balances={ALICE: 2**255, BOB: 2**255}))
