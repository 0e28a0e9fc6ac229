"""Footprints, the engine's diffs, sampling and the messages of the divergence process: everything without an EVM."""

import struct

import pytest

from nodes.divergence import engine_side, forms
from nodes.divergence.forms import ALL, Counts, Opening, Report, Task
from nodes.divergence.sampling import Sampler, kind_of
from nodes.divergence.values import Block, Entry, Found
from nodes.model.errors import EngineFailure
from nodes.model.execution import Status
from nodes.model.ids import Address, ChainId
from nodes.rules.footprint import UNCHANGED, AccountAfter, Difference, first_difference, footprint
from nodes.rules.hashes import keccak256
from tests.support.engine_chain import STORER, creation, signed, words

A, B, C = (Address(bytes([byte]) * 20) for byte in (0x0A, 0x0B, 0x0C))
CODE_HASH = keccak256(b"\x01").hex()
PRECOMPILE = Address(bytes(19) + b"\x02")


def test_a_footprint_is_the_hash_of_the_hashes_of_its_accounts() -> None:
    one = AccountAfter(3, 10**18, b"\x60\x00", {9: 1, 2: 5})
    other = AccountAfter(0, 0, b"", {})
    first = keccak256(A + struct.pack("<Q", 3) + (10**18).to_bytes(32, "big") + b"\x60\x00" + words(5, 1))
    second = keccak256(B + bytes(8) + bytes(32))
    # Whatever order they come in, and without precompiles.
    assert footprint({B: other, PRECOMPILE: one, A: one}) == keccak256(first + second)
    assert footprint({}) == keccak256(b"")


@pytest.mark.parametrize(
    ("changed", "field", "engine", "checker"),
    [
        (AccountAfter(2, 5, b"\x01", {1: 1}), "nonce", "0x2", "0x1"),
        (AccountAfter(1, 6, b"\x01", {1: 1}), "balance", "0x6", "0x5"),
        (AccountAfter(1, 5, b"", {1: 1}), "code", "none", f"1 bytes, keccak256 0x{CODE_HASH}"),
        (AccountAfter(1, 5, b"\x01", {1: 7}), f"slot 0x{1:064x}", "0x7", "0x1"),
        (AccountAfter(1, 5, b"\x01", {1: 1, 2: 7}), f"slot 0x{2:064x}", "0x7", UNCHANGED),
    ],
)
def test_a_difference_names_account_field_and_both_values(
    changed: AccountAfter, field: str, engine: str, checker: str
) -> None:
    base = AccountAfter(1, 5, b"\x01", {1: 1})
    ours, theirs = {A: base, B: changed, C: changed}, {A: base, B: base, C: base}
    assert first_difference(ours, theirs) == Difference(B, field, engine, checker)
    assert footprint(ours) != footprint(theirs)
    assert first_difference(ours, ours) is None


def test_an_account_that_only_one_execution_changed_is_a_difference() -> None:
    base = AccountAfter(1, 5, b"", {})
    assert first_difference({A: base}, {}) == Difference(A, "nonce", "0x1", UNCHANGED)
    assert first_difference({}, {A: base}) == Difference(A, "nonce", UNCHANGED, "0x1")
    assert first_difference({PRECOMPILE: base}, {}) is None


def test_diffs_are_carried_forward_from_the_parents_state() -> None:
    name = "0x" + A.hex()
    now = {A: AccountAfter(4, 100, b"\x60", {})}
    slot = "0x" + words(3).hex()
    pays = {name: {"balance": {"*": {"from": "0x64", "to": "0x63"}}, "nonce": "=", "code": "=", "storage": {}}}
    stores = {
        name: {
            "balance": "=",
            "nonce": {"*": {"from": "0x4", "to": "0x5"}},
            "code": "=",
            "storage": {slot: {"*": {"from": "0x1", "to": "0x0"}}},
        }
    }
    nothing = {name: {"balance": "=", "nonce": "=", "code": "=", "storage": {}}}
    made = {"0x" + B.hex(): {"balance": {"+": "0x0"}, "nonce": {"+": "0x1"}, "code": {"+": "0x6001"},
            "storage": {slot: {"+": "0x7"}}}}  # fmt: skip
    assert engine_side.effects_of(pays, now) == {A: AccountAfter(4, 99, b"\x60", {})}
    assert engine_side.effects_of(stores, now) == {A: AccountAfter(5, 99, b"\x60", {3: 0})}
    assert engine_side.effects_of(nothing, now) == {}
    assert engine_side.effects_of(made, now) == {B: AccountAfter(1, 0, b"\x60\x01", {3: 7})}
    assert engine_side.touched([pays, made]) == [A, B]
    with pytest.raises(EngineFailure, match="cannot be read"):
        engine_side.effects_of({name: {"nonce": "="}}, now)


def test_a_replay_of_other_transactions_is_refused() -> None:
    entry = {"transactionHash": "0x01", "stateDiff": {}}
    assert engine_side.replayed([entry], ["0x01"]) == [{}]
    for answer in ([], [entry, entry], None):
        with pytest.raises(EngineFailure, match="not the 1 of the block"):
            engine_side.replayed(answer, ["0x01"])


def test_samples_take_the_kind_taken_least_and_not_more_than_allowed() -> None:
    sampler = Sampler(2.0)
    kinds = ["transfer", "transfer", "reverted", "skipped"]
    assert sampler.choose(kinds, 0) == (0,)  # one at once
    assert sampler.choose(kinds, 1_000) == ()
    assert sampler.choose(kinds, 1_000_001_000) == (2, 3)
    assert sampler.choose(["transfer"] * 9 + ["creation"], 2_000_002_000) == (0, 9)
    # What was not used does not add up for ever.
    assert len(sampler.choose(["transfer"] * 99, 100_000_000_000)) == 2


def test_kinds_of_transactions() -> None:
    cases = {
        "transfer": signed(0, 0),
        "call": signed(0, 0, to=STORER, calldata=words(1, 2)),
        "creation": signed(0, 0, to=b"", calldata=creation(b"\x00")),
        "access list": signed(0, 0, tx_type=1, access_list=((STORER, (words(7),)),)),
    }
    for kind, (payload, transaction) in cases.items():
        assert kind_of(payload, transaction, Status.SUCCEEDED) == kind
        assert kind_of(payload, transaction, Status.REVERTED) == "reverted"
        assert kind_of(payload, transaction, Status.SKIPPED) == "skipped"


def test_messages_come_back_as_they_were() -> None:
    opening = Opening(
        rollup="rollup-1", mode=ALL, chain_id=ChainId(7001), coinbase=A, gas_limit=10**9, genesis="{}",
        genesis_hash=words(1), engine_directory="engine",
    )  # fmt: skip
    block = Block(
        height=9,
        number=7,
        hash=words(2),
        parent_hash=words(3),
        timestamp_s=1_700_000_000,
        entries=(Entry(b"\x01\x02", Status.REVERTED), Entry(b"\x03", Status.SKIPPED)),
        block_hashes=(words(4), words(3)),
    )
    task = Task(rollup="rollup-1", block=block, chosen=(1,), senders={1: B}, is_history=True)
    found = Found(9, 7, 1, words(5), Difference(A, "balance", "0x1", "0x2"), words(6), words(7))
    report = Report(rollup="rollup-1", counts=Counts(checked=3), found=(found,), samples_from=4, reason="slow")
    assert forms.request_of(forms.opening_line(opening)) == opening
    assert forms.request_of(forms.task_line(task)) == task
    assert forms.report_of(forms.report_line(report)) == report
