"""The answer to getBlock, taken apart: against transactions that solders made, and against nonsense."""

import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey as Address
from solders.transaction import VersionedTransaction

from nodes.model.errors import Unavailable
from nodes.solana.blocks import block_from_answer, blockhash_of, states_from_answer

PAYER = Keypair.from_seed(bytes(32))
PROGRAM = Address(bytes(31) + b"\x09")
OTHER = Address(bytes(31) + b"\x08")
ACCOUNTS = [Address(bytes(31) + bytes((number,))) for number in range(20, 26)]
BLOCKHASH = Hash(bytes(range(32)))


def _instruction(program: Address, data: bytes, *accounts: Address) -> Instruction:
    payer = AccountMeta(PAYER.pubkey(), is_signer=True, is_writable=True)
    metas = [
        AccountMeta(account, is_signer=False, is_writable=number % 2 == 0) for number, account in enumerate(accounts)
    ]
    return Instruction(program, data, [payer, *metas])


def _legacy(*instructions: Instruction) -> VersionedTransaction:
    return VersionedTransaction(Message.new_with_blockhash(instructions, PAYER.pubkey(), BLOCKHASH), [PAYER])


def _item(transaction: VersionedTransaction, *, err: Any = None, **meta: Any) -> dict[str, Any]:
    text = base64.b64encode(bytes(transaction)).decode()
    return {"transaction": [text, "base64"], "meta": {"err": err, **meta}}


def _answer(*items: dict[str, Any], **changes: Any) -> dict[str, Any]:
    usual = {
        "blockhash": str(BLOCKHASH),
        "previousBlockhash": str(Hash(bytes(32))),
        "parentSlot": 40,
        "blockHeight": 30,
        "blockTime": 1_700_000_000,
        "transactions": list(items),
    }
    return usual | changes


def test_the_instructions_of_the_program_are_found_with_their_accounts() -> None:
    large = bytes(range(200)) + b"x" * 500
    first = _legacy(_instruction(OTHER, b"not ours"), _instruction(PROGRAM, large, *ACCOUNTS[:3]))
    foreign = _legacy(_instruction(OTHER, b"foreign", PROGRAM))
    both = _legacy(_instruction(PROGRAM, b"", ACCOUNTS[1]), _instruction(PROGRAM, b"b", ACCOUNTS[0], ACCOUNTS[1]))
    block = block_from_answer(42, _answer(*map(_item, (first, foreign, both))), program_id=bytes(PROGRAM))
    assert (block.slot, block.parent_slot, block.block_height, block.block_time_s) == (42, 40, 30, 1_700_000_000)
    assert (block.blockhash, block.previous_blockhash) == (bytes(range(32)), bytes(32))
    assert list(block.signatures) == [bytes(each.signatures[0]) for each in (first, foreign, both)]
    assert [(item.transaction_index, item.instruction_index, item.data) for item in block.instructions] == [
        (0, 1, large),
        (2, 0, b""),
        (2, 1, b"b"),
    ]
    payer = bytes(PAYER.pubkey())
    assert block.instructions[0].accounts == (payer, *map(bytes, ACCOUNTS[:3]))
    assert block.instructions[2].accounts == (payer, *map(bytes, ACCOUNTS[:2]))
    assert block.instructions[0].signature == bytes(first.signatures[0])


def test_accounts_of_a_lookup_table_are_resolved() -> None:
    table = AddressLookupTableAccount(Address(bytes(31) + b"\x07"), ACCOUNTS)
    message = MessageV0.try_compile(PAYER.pubkey(), [_instruction(PROGRAM, b"data", *ACCOUNTS)], [table], BLOCKHASH)
    lookups = message.address_table_lookups[0]
    loaded = {
        "writable": [str(ACCOUNTS[at]) for at in lookups.writable_indexes],
        "readonly": [str(ACCOUNTS[at]) for at in lookups.readonly_indexes],
    }
    item = _item(VersionedTransaction(message, [PAYER]), loadedAddresses=loaded)
    block = block_from_answer(42, _answer(item), program_id=bytes(PROGRAM))
    assert block.instructions[0].accounts == (bytes(PAYER.pubkey()), *map(bytes, ACCOUNTS))
    del item["meta"]["loadedAddresses"]
    with pytest.raises(Unavailable, match="slot 42 makes no sense"):
        block_from_answer(42, _answer(item), program_id=bytes(PROGRAM))


def test_a_failed_transaction_had_no_effect() -> None:
    item = _item(_legacy(_instruction(PROGRAM, b"data")), err={"InstructionError": [0, {"Custom": 100}]})
    block = block_from_answer(42, _answer(item, blockTime=None), program_id=bytes(PROGRAM))
    assert block.instructions == ()
    assert block.failed == set(block.signatures)
    assert block.block_time_s is None


@pytest.mark.parametrize(
    "changes",
    [
        {"blockhash": "0"},
        {"blockhash": "1" * 31},
        {"previousBlockhash": None},
        {"parentSlot": 42},
        {"parentSlot": "41"},
        {"blockHeight": None},
        {"blockTime": "now"},
        {"transactions": None},
        {"transactions": [{"transaction": ["AAAA", "base64"], "meta": {"err": None}}]},
        {"transactions": [{"transaction": ["!", "base64"], "meta": {"err": None}}]},
        {"transactions": [{"transaction": "text", "meta": {"err": None}}]},
        {"transactions": [{**_item(_legacy(_instruction(PROGRAM, b""))), "meta": None}]},
        {"transactions": [{**_item(_legacy(_instruction(PROGRAM, b""))), "meta": {}}]},
    ],
)
def test_an_answer_that_makes_no_sense_says_so(changes: dict[str, Any]) -> None:
    with pytest.raises(Unavailable, match="getBlock of slot 42 makes no sense"):
        block_from_answer(42, _answer(**changes), program_id=bytes(PROGRAM))


def test_another_encoding_and_another_version_are_refused() -> None:
    item = _item(_legacy(_instruction(PROGRAM, b"")))
    item["transaction"][1] = "base58"
    with pytest.raises(Unavailable, match="base58"):
        block_from_answer(42, _answer(item), program_id=bytes(PROGRAM))
    raw = bytearray(bytes(_legacy(_instruction(PROGRAM, b""))))
    raw[65:65] = b"\x81"
    item = {"transaction": [base64.b64encode(raw).decode(), "base64"], "meta": {"err": None}}
    with pytest.raises(Unavailable, match="version 1"):
        block_from_answer(42, _answer(item), program_id=bytes(PROGRAM))


@settings(deadline=None)
@given(cut=st.integers(0, 200), junk=st.binary(max_size=60))
def test_cut_transactions_are_no_crash(cut: int, junk: bytes) -> None:
    raw = bytes(_legacy(_instruction(PROGRAM, b"data", *ACCOUNTS)))
    text = base64.b64encode(raw[: len(raw) - cut] + bytes(PROGRAM) + junk).decode()
    answer = _answer({"transaction": [text, "base64"], "meta": {"err": None, "loadedAddresses": {}}})
    with suppress(Unavailable):
        block_from_answer(42, answer, program_id=bytes(PROGRAM))


@given(answer=st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)))
def test_an_answer_of_any_shape_is_refused(answer: Any) -> None:
    for read in (
        lambda: block_from_answer(1, answer, program_id=bytes(PROGRAM)),
        lambda: blockhash_of(1, answer),
        lambda: states_from_answer([bytes(32)], answer),
    ):
        with pytest.raises(Unavailable):
            read()


def test_account_states_come_with_their_slot() -> None:
    value = [{"data": [base64.b64encode(b"state").decode(), "base64"]}, None]
    answer = {"context": {"slot": 9}, "value": value}
    assert states_from_answer([bytes(32), bytes(32)], answer) == (9, [b"state", None])
    with pytest.raises(Unavailable, match="2 answers for 1 accounts"):
        states_from_answer([bytes(32)], answer)
