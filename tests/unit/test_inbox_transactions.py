"""The wire form of transactions against solders' own reader of it, sizes and limits, and keypairs."""

import json
from pathlib import Path

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import (
    set_compute_unit_limit,
    set_compute_unit_price,
    set_loaded_accounts_data_size_limit,
)
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.message import Message, MessageV0, MessageV1
from solders.transaction import VersionedTransaction

from nodes.model.errors import InvalidInput, LimitExceeded
from nodes.model.solana import PACKET_BYTES, Pubkey
from nodes.rules.hashes import sha256
from nodes.solana.keypairs import (
    base58,
    derived_keypair,
    key_from_base58,
    key_of,
    keypair_from_bytes,
    read_keypair,
)
from nodes.solana.transactions import (
    NO_BUDGET,
    AccountUse,
    Budget,
    Call,
    LookupTable,
    build,
    draft,
    fee_lamports,
)
from tests.support.inbox_svm import solders_key

KEYPAIRS = [keypair_from_bytes(bytes((number,)) * 32) for number in range(1, 5)]
PAYER = KEYPAIRS[0]
KEYS = [Pubkey(sha256(bytes((number,)))) for number in range(12)]
TABLES = (LookupTable(KEYS[10], tuple(KEYS[2:6])), LookupTable(KEYS[11], (KEYS[5], KEYS[0], KEYS[7])))
BLOCKHASH = b"\x42" * 32

account_uses = st.one_of(
    st.builds(AccountUse, st.sampled_from(KEYS[:9]), st.just(False), st.booleans()),
    st.builds(AccountUse, st.sampled_from([key_of(keypair) for keypair in KEYPAIRS]), st.just(True), st.booleans()),
)
calls = st.builds(
    Call,
    st.sampled_from([*KEYS[:2], KEYS[8], KEYS[9]]),
    st.lists(account_uses, max_size=6).map(tuple),
    st.binary(max_size=90),
)
budgets = st.builds(
    Budget,
    cu_limit=st.none() | st.integers(0, 1_400_000),
    cu_price_micro_lamports=st.sampled_from([0, 1, 10**12]),
    loaded_bytes_limit=st.none() | st.integers(1, 2**26),
)


@given(calls=st.lists(calls, min_size=1, max_size=4), budget=budgets, tables=st.sampled_from([(), TABLES[:1], TABLES]))
@settings(max_examples=150, deadline=None)
def test_solders_reads_the_same_instructions_with_valid_signatures(
    calls: list[Call], budget: Budget, tables: tuple[LookupTable, ...]
) -> None:
    try:
        laid_out = draft(key_of(PAYER), calls, budget=budget, tables=tables)
    except LimitExceeded:
        reject()
    signers = [next(keypair for keypair in KEYPAIRS if key_of(keypair) == key) for key in laid_out.signers]
    assert signers[0] is PAYER
    signed = laid_out.sign(signers, blockhash=BLOCKHASH)
    assert len(signed.raw) == laid_out.size <= PACKET_BYTES

    read = VersionedTransaction.from_bytes(signed.raw)
    assert bytes(read) == signed.raw
    assert bytes(read.signatures[0]) == signed.signature
    assert all(read.verify_with_results())
    read.sanitize()
    assert bytes(read.message.recent_blockhash) == BLOCKHASH
    assert _instructions(read, tables) == _expected(calls, budget)


def _expected(calls: list[Call], budget: Budget) -> list[tuple[bytes, list[AccountUse], bytes]]:
    """With the flags that a message can say: those of all uses of an account together."""
    uses = [use for call in calls for use in call.accounts]
    signs = {use.key for use in uses if use.is_signer} | {key_of(PAYER)}
    written = {use.key for use in uses if use.is_writable} | {key_of(PAYER)}
    said = [
        (program_id, [AccountUse(use.key, use.key in signs, use.key in written) for use in accounts], data)
        for program_id, accounts, data in calls
    ]
    return [(bytes(call.program_id), list(call.accounts), call.data) for call in budget.calls()] + said


def _instructions(
    read: VersionedTransaction, tables: tuple[LookupTable, ...]
) -> list[tuple[bytes, list[AccountUse], bytes]]:
    message = read.message
    by_address = {table.address: table.addresses for table in tables}
    keys = [bytes(key) for key in message.account_keys]
    flags = [(message.is_signer(i), _is_writable(message, i)) for i in range(len(keys))]
    if isinstance(message, MessageV0):
        lookups = message.address_table_lookups
        for is_writable in (True, False):
            for lookup in lookups:
                for place in lookup.writable_indexes if is_writable else lookup.readonly_indexes:
                    keys.append(by_address[Pubkey(bytes(lookup.account_key))][place])
                    flags.append((False, is_writable))
    return [
        (
            keys[instruction.program_id_index],
            [AccountUse(Pubkey(keys[i]), *flags[i]) for i in instruction.accounts],
            bytes(instruction.data),
        )
        for instruction in message.instructions
    ]


def _is_writable(message: Message | MessageV0 | MessageV1, index: int) -> bool:
    """From the header alone: solders also calls an account read-only where it is called as a program."""
    header = message.header
    count = len(message.account_keys)
    if index < header.num_required_signatures:
        return index < header.num_required_signatures - header.num_readonly_signed_accounts
    return index < count - header.num_readonly_unsigned_accounts


def test_size_is_that_of_solders_own_compilation() -> None:
    """Nothing is spent that the reference does not spend."""
    uses = [AccountUse(key_of(PAYER), is_signer=True, is_writable=True)]
    uses += [AccountUse(key, is_writable=True) for key in KEYS[2:7]]
    call = Call(KEYS[0], tuple(uses), bytes(300))
    metas = [AccountMeta(solders_key(key), signs, written) for key, signs, written in uses]
    theirs = Instruction(solders_key(call.program_id), call.data, metas)
    legacy = Message.new_with_blockhash([theirs], PAYER.pubkey(), Hash(BLOCKHASH))
    assert draft(key_of(PAYER), [call]).size == len(bytes(VersionedTransaction(legacy, [PAYER])))
    accounts = [
        AddressLookupTableAccount(solders_key(table.address), [solders_key(key) for key in table.addresses])
        for table in TABLES
    ]
    with_tables = MessageV0.try_compile(PAYER.pubkey(), [theirs], accounts, Hash(BLOCKHASH))
    size = draft(key_of(PAYER), [call], tables=TABLES).size
    assert size == len(bytes(VersionedTransaction(with_tables, [PAYER])))


def test_the_budget_is_said_as_solders_says_it() -> None:
    said = Budget(cu_limit=7, cu_price_micro_lamports=8, loaded_bytes_limit=9).calls()
    theirs = [set_compute_unit_limit(7), set_compute_unit_price(8), set_loaded_accounts_data_size_limit(9)]
    assert [(call.program_id, call.data) for call in said] == [
        (bytes(instruction.program_id), bytes(instruction.data)) for instruction in theirs
    ]
    assert NO_BUDGET.calls() == []


def test_fees_round_up() -> None:
    assert fee_lamports(NO_BUDGET) == 5_000
    assert fee_lamports(Budget(cu_limit=1_000), signatures=2) == 10_000
    assert fee_lamports(Budget(cu_limit=1_001, cu_price_micro_lamports=1_000)) == 5_002


def test_a_packet_has_a_largest_size() -> None:
    room = PACKET_BYTES - draft(key_of(PAYER), [Call(KEYS[0], (), b"")]).size - 1
    assert draft(key_of(PAYER), [Call(KEYS[0], (), bytes(room))]).size == PACKET_BYTES
    with pytest.raises(LimitExceeded, match="bytes of a Solana transaction is 1,232, but 1,233"):
        build(PAYER, [Call(KEYS[0], (), bytes(room + 1))], blockhash=BLOCKHASH)


def test_the_wrong_signers_are_named() -> None:
    call = Call(KEYS[0], (AccountUse(key_of(KEYPAIRS[1]), is_signer=True),), b"")
    with pytest.raises(InvalidInput, match=r"is to be signed by .*, .*, not by"):
        build(PAYER, [call], blockhash=BLOCKHASH)
    with pytest.raises(InvalidInput, match="a blockhash has 32 bytes"):
        build(PAYER, [call], blockhash=b"short", signers=[KEYPAIRS[1]])


# Keypairs


def test_keypairs_are_read_in_every_form(tmp_path: Path) -> None:
    seed = PAYER.secret()
    whole = bytes(PAYER)
    path = tmp_path / "id.json"
    path.write_text(json.dumps(list(whole)), encoding="utf-8")
    texts = [
        *(seed.hex(), "0x" + whole.hex().upper(), str(path), f" {path}\n"),
        *(base58(seed), str(PAYER)),
    ]
    for text in texts:
        assert read_keypair(text) == PAYER, text
    zeros = keypair_from_bytes(bytes(32))
    assert read_keypair(base58(bytes(32))) == zeros


def test_what_is_no_keypair_is_refused_without_repeating_it(tmp_path: Path) -> None:
    whole = bytes(PAYER)
    files = {
        "short.json": json.dumps([1, 2, 3]),
        "words.json": json.dumps(["a"]),
        "large.json": json.dumps([256] * 64),
        "text.json": "not json",
        "mixed.json": json.dumps([*whole[:32], *bytes(32)]),
        "bool.json": json.dumps([True] * 64),
        "huge.json": "[" + "1," * 5_000 + "1]",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidInput, match=name):
            read_keypair(str(path))
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe")
    refused = [
        *("", str(tmp_path / "absent.json"), str(tmp_path / "binary.json"), whole.hex()[:-2], "l" * 40, "x" * 5_000),
        *(base58(whole[:32])[:-4] + "0OIl", (whole[:32] + bytes(32)).hex(), "2" * 60, "a\0b"),
    ]
    for text in refused:
        with pytest.raises(InvalidInput) as raised:
            read_keypair(text)
        if len(text) > 40 and "/" not in text:
            assert text not in str(raised.value)


def test_derived_keypairs_differ_by_parent_and_label() -> None:
    assert key_of(PAYER) == bytes(PAYER.pubkey())
    found = [derived_keypair(parent, label) for parent in KEYPAIRS[:2] for label in ("a", "b")]
    assert len({key_of(keypair) for keypair in found}) == 4
    assert derived_keypair(PAYER, "a") == found[0]


def test_addresses_as_text() -> None:
    assert key_from_base58(base58(KEYS[0])) == KEYS[0]
    for text in ("", "abc", "0" * 44, base58(KEYS[0]) + "1"):
        with pytest.raises(InvalidInput, match="no Solana account"):
            key_from_base58(text)
