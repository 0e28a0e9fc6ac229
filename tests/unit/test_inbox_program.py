"""The inbox program on a real SVM: what it writes, every refusal, and that a refusal leaves nothing behind."""

import base64
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.transaction_metadata import FailedTransactionMetadata, TransactionMetadata

from nodes.model.errors import LimitExceeded, UnknownName
from nodes.model.ids import rollup_id_of
from nodes.model.solana import Pubkey
from nodes.rules import inbox as codec
from nodes.rules.hashes import sha256
from nodes.solana.keypairs import key_of, keypair_from_bytes
from nodes.solana.program import (
    ELF_FILES,
    INBOX_ERRORS,
    LOADED_BYTES_LIMIT,
    error_text,
    inbox_address,
    init_calls,
    initialized_slot,
    memo_cu_limit,
    memo_inbox,
    posting_call,
    posting_cu,
    posting_cu_limit,
    read_elf,
)
from nodes.solana.system_calls import SYSTEM_ID, derived_address, transfer_call
from nodes.solana.transactions import MAX_ACCOUNTS, AccountUse, Budget, Call
from tests.support.inbox_svm import (
    CALLER_FILE,
    CALLER_ID,
    FIRST_SLOT,
    PROGRAM_ID,
    InboxSvm,
    address_of,
    solders_key,
)

POSTING = codec.post([b"anything"])
COMMIT = codec.commit(b"entry", chunks=2)
VERSIONS = sorted(ELF_FILES)
NAMES = re.compile(r"^ {4}([A-Z_]+) = (1\d\d),$", re.MULTILINE)
CODES = {
    name: int(code)
    for name, code in NAMES.findall((Path(__file__).parents[2] / "nodes/solana/inbox/inbox.c").read_text())
}
Outcome = TransactionMetadata | FailedTransactionMetadata


@pytest.fixture(name="svm", params=VERSIONS)
def _svm(request: pytest.FixtureRequest) -> InboxSvm:
    return InboxSvm(request.param, rollups=3)


def code_of(outcome: Outcome) -> int:
    """The custom error of a failed transaction."""
    assert isinstance(outcome, FailedTransactionMetadata), outcome
    error = json.loads(outcome.to_json())["err"]["InstructionError"][1]
    code: int = error["Custom"]
    return code


def done(outcome: Outcome) -> TransactionMetadata:
    assert isinstance(outcome, TransactionMetadata), outcome
    return outcome


def test_both_tables_of_errors_are_the_same() -> None:
    assert sorted(CODES.values()) == sorted(INBOX_ERRORS)
    assert len(CODES) == 12
    assert "initialized before" in error_text(CODES["INITIALIZED_BEFORE"])
    assert "not one of" in error_text(7)


def test_a_version_that_does_not_exist_is_named() -> None:
    with pytest.raises(UnknownName, match="did you mean 'v3'"):
        read_elf("v33")


@pytest.mark.parametrize("version", VERSIONS)
def test_the_program_is_small(version: str) -> None:
    assert len(read_elf(version)) < 5_000


def test_an_account_begins_empty_and_says_when(svm: InboxSvm) -> None:
    rollup_id = rollup_id_of(77)
    svm.svm.warp_to_slot(123_456_789_012)
    outcome = done(svm.init(rollup_id))
    data = svm.account(address_of(rollup_id))
    assert codec.decode_state(data) == (rollup_id, codec.EMPTY_STATE)
    assert initialized_slot(data) == 123_456_789_012
    assert data[1] == inbox_address(PROGRAM_ID, rollup_id)[1]
    assert event_of(outcome) == data
    assert initialized_slot(svm.account(address_of(svm.rollup_ids[0]))) == FIRST_SLOT


def test_lamports_sent_to_an_address_do_not_block_it(svm: InboxSvm) -> None:
    rollup_id = rollup_id_of(78)
    done(svm.send([transfer_call(svm.payer_key, address_of(rollup_id), lamports=svm.rent)]))
    done(svm.send(init_calls(svm.payer_key, PROGRAM_ID, rollup_id, lamports=0)))
    assert svm.state(rollup_id) == codec.EMPTY_STATE


def test_an_account_without_its_rent_is_not_created(svm: InboxSvm) -> None:
    outcome = svm.send(init_calls(svm.payer_key, PROGRAM_ID, rollup_id_of(79), lamports=svm.rent - 1))
    assert isinstance(outcome, FailedTransactionMetadata)
    assert "InsufficientFundsForRent" in outcome.to_json()


@pytest.mark.parametrize("data", [POSTING, codec.post([]), COMMIT, codec.post([bytes(700)])])
def test_a_posting_moves_the_state_as_the_rule_says(svm: InboxSvm, data: bytes) -> None:
    named, other = svm.rollup_ids[:2], svm.rollup_ids[2]
    outcome = done(svm.post(data, named))
    expected = codec.roll(codec.EMPTY_STATE, data)
    assert [svm.state(rollup_id) for rollup_id in named] == [expected, expected]
    assert svm.state(other) == codec.EMPTY_STATE
    assert event_of(outcome) == svm.account(address_of(named[1]))


def test_a_chunk_changes_nothing_and_costs_little(svm: InboxSvm) -> None:
    (chunk,) = codec.chunks_of(bytes(900), size=900)
    outcome = done(svm.post(chunk, []))
    assert outcome.compute_units_consumed() == posting_cu(len(chunk), rollups=0)
    done(svm.post(chunk, svm.rollup_ids))
    assert set(svm.states().values()) == {codec.EMPTY_STATE}


def test_several_postings_of_one_transaction_count_in_order(svm: InboxSvm) -> None:
    rollup_id = svm.rollup_ids[0]
    datas = [codec.post([bytes([number])]) for number in range(3)]
    done(svm.send([posting_call(svm.payer_key, svm.inbox, [rollup_id], data) for data in datas]))
    expected = codec.EMPTY_STATE
    for data in datas:
        expected = codec.roll(expected, data)
    assert svm.state(rollup_id) == expected


def test_anybody_may_post(svm: InboxSvm) -> None:
    stranger = keypair_from_bytes(b"\x55" * 32)
    done(svm.send([transfer_call(svm.payer_key, key_of(stranger), lamports=10**9)]))
    call = posting_call(key_of(stranger), svm.inbox, svm.rollup_ids[:1], POSTING)
    done(svm.send([call], payer=stranger))
    assert svm.state(svm.rollup_ids[0]).sequence == 1


# Refusals

REFUSED_DATA = {
    "UNKNOWN_TAG": [b"\x04\x01", b"\xff\x01\x00"],
    "UNKNOWN_FORMAT": [b"\x01\x02rest", b"\x02\x00" + bytes(40), b"\x03\x02" + bytes(34)],
    "WRONG_LENGTH": [
        *(b"", b"\x00", b"\x01", b"\x03"),
        *(COMMIT + b"\0", COMMIT[:-1], b"\x02\x01" + bytes(34), codec.init(rollup_id_of(9), bump=255) + b"\0"),
    ],
}


@pytest.mark.parametrize(("name", "data"), [(name, data) for name, datas in REFUSED_DATA.items() for data in datas])
def test_nonsense_is_refused(svm: InboxSvm, name: str, data: bytes) -> None:
    before = svm.states()
    account = AccountUse(address_of(svm.rollup_ids[0]), is_writable=True)
    assert code_of(svm.send([svm.raw_call(data, account)])) == CODES[name]
    assert svm.states() == before


@pytest.mark.parametrize("data", [POSTING, COMMIT])
def test_the_payer_must_have_signed(svm: InboxSvm, data: bytes) -> None:
    account = AccountUse(address_of(svm.rollup_ids[0]), is_writable=True)
    stranger = AccountUse(Pubkey(b"\x09" * 32), is_writable=True)
    for accounts in ((), (stranger, account)):
        assert code_of(svm.send([Call(PROGRAM_ID, accounts, data)])) == CODES["PAYER_MISSING"]


@pytest.mark.parametrize("data", [POSTING, COMMIT, codec.init(rollup_id_of(9), bump=255)])
def test_a_rollup_must_be_named(svm: InboxSvm, data: bytes) -> None:
    assert code_of(svm.send([svm.raw_call(data)])) == CODES["ROLLUP_MISSING"]


def refused_accounts(svm: InboxSvm) -> dict[str, list[AccountUse]]:
    """By error: third accounts that are refused behind two good ones."""
    good = svm.account(address_of(svm.rollup_ids[2]))
    shapes = {
        # The right bytes, owned by somebody else: what an attacker can make.
        "FOREIGN_OWNER": [(SYSTEM_ID, good), (CALLER_ID, good)],
        # Owned by the program, as anybody may create an account for it, with bytes it never wrote.
        "NOT_A_STATE": [
            *((PROGRAM_ID, data) for data in (b"", b"\x01", good[:-1], good + b"\0", b"\0" + good[1:])),
            (PROGRAM_ID, b"\x02" + good[1:]),
        ],
    }
    uses: dict[str, list[AccountUse]] = {}
    for name, accounts in shapes.items():
        for number, (owner, data) in enumerate(accounts):
            key = Pubkey(sha256(name.encode() + bytes((number,))))
            svm.put(key, owner=owner, data=data)
            uses.setdefault(name, []).append(AccountUse(key, is_writable=True))
    uses["NOT_WRITABLE"] = [AccountUse(address_of(svm.rollup_ids[2]))]
    uses["FOREIGN_OWNER"].append(AccountUse(address_of(rollup_id_of(99)), is_writable=True))
    uses["ACCOUNT_REPEATED"] = [
        *[AccountUse(address_of(rollup_id), is_writable=True) for rollup_id in svm.rollup_ids[:2]],
        AccountUse(svm.payer_key, is_signer=True, is_writable=True),
    ]
    return uses


@pytest.mark.parametrize("name", ["FOREIGN_OWNER", "NOT_A_STATE", "NOT_WRITABLE", "ACCOUNT_REPEATED"])
def test_one_bad_account_refuses_the_whole_posting(svm: InboxSvm, name: str) -> None:
    first, second, _ = [AccountUse(address_of(rollup_id), is_writable=True) for rollup_id in svm.rollup_ids]
    done(svm.post(POSTING, svm.rollup_ids))
    before = svm.states()
    for bad in refused_accounts(svm)[name]:
        for data in (POSTING, COMMIT):
            assert code_of(svm.send([svm.raw_call(data, first, second, bad)])) == CODES[name], bad
            assert svm.states() == before


def test_a_good_posting_before_a_bad_one_in_its_transaction_is_undone(svm: InboxSvm) -> None:
    good = posting_call(svm.payer_key, svm.inbox, svm.rollup_ids, POSTING)
    assert isinstance(svm.send([good, svm.raw_call(b"\x09\x09")]), FailedTransactionMetadata)
    assert set(svm.states().values()) == {codec.EMPTY_STATE}


def test_a_program_cannot_post(svm: InboxSvm) -> None:
    """What readers of top-level instructions do not see must not move a state."""
    svm.svm.add_program_from_file(solders_key(CALLER_ID), CALLER_FILE)
    rollup_id = svm.rollup_ids[0]

    def through_the_caller(data: bytes) -> Outcome:
        call = svm.raw_call(data, AccountUse(address_of(rollup_id), is_writable=True), AccountUse(PROGRAM_ID))
        return svm.send([call._replace(program_id=CALLER_ID)])

    for data in (POSTING, COMMIT):
        assert code_of(through_the_caller(data)) == CODES["CALLED_BY_PROGRAM"]
    assert svm.state(rollup_id) == codec.EMPTY_STATE
    # The caller does reach the program: a chunk, which changes nothing, is let through.
    done(through_the_caller(codec.chunks_of(b"chunk", size=5)[0]))


def test_a_rollup_has_one_account_at_one_address(svm: InboxSvm) -> None:
    rollup_id = rollup_id_of(80)
    account, bump = inbox_address(PROGRAM_ID, rollup_id)
    refused: list[tuple[Callable[[], Outcome], str]] = [
        (lambda: init(svm, account, codec.init(rollup_id, bump=bump - 1)), "WRONG_ADDRESS"),
        (lambda: init(svm, address_of(rollup_id_of(81)), codec.init(rollup_id, bump=bump)), "WRONG_ADDRESS"),
        (lambda: init(svm, account, codec.init(rollup_id, bump=bump), is_writable=False), "NOT_WRITABLE"),
        (lambda: init(svm, svm.payer_key, codec.init(rollup_id, bump=bump)), "ACCOUNT_REPEATED"),
    ]
    for attempt, name in refused:
        assert code_of(attempt()) == CODES[name]
    done(svm.init(rollup_id))
    done(svm.send([posting_call(svm.payer_key, svm.inbox, svm.rollup_ids, POSTING)]))
    assert code_of(init(svm, account, codec.init(rollup_id, bump=bump))) == CODES["INITIALIZED_BEFORE"]
    assert svm.state(rollup_id) == codec.EMPTY_STATE


def test_a_lower_bump_gives_no_second_account(svm: InboxSvm) -> None:
    """An address that another bump derives is the program's too; only the highest is taken."""
    rollup_id = rollup_id_of(82)
    _, bump = inbox_address(PROGRAM_ID, rollup_id)
    lower, found = next(
        (address, other)
        for other in range(bump - 1, -1, -1)
        for address in [_address_with(rollup_id, other)]
        if address is not None
    )
    assert derived_address(PROGRAM_ID, codec.SEED, rollup_id)[0] != lower
    assert code_of(init(svm, lower, codec.init(rollup_id, bump=found))) == CODES["WRONG_ADDRESS"]


def init(svm: InboxSvm, account: Pubkey, data: bytes, *, is_writable: bool = True) -> Outcome:
    fund = transfer_call(svm.payer_key, account, lamports=svm.rent)
    call = svm.raw_call(data, AccountUse(account, is_writable=is_writable), AccountUse(SYSTEM_ID))
    # Alone where the transfer would make it writable: flags of a transaction are those of all its instructions.
    return svm.send([fund, call] if is_writable else [call])


def _address_with(rollup_id: bytes, bump: int) -> Pubkey | None:
    try:
        key = solders_key(PROGRAM_ID).create_program_address(
            [codec.SEED, rollup_id, bytes((bump,))], solders_key(PROGRAM_ID)
        )
    except Exception as error:  # its type is not exported  # noqa: BLE001
        assert type(error).__name__ == "PubkeyError"  # the seeds give a point of the curve  # noqa: PT017
        return None
    return Pubkey(bytes(key))


# Sizes


@pytest.mark.parametrize("rollups", [1, 2, 3, 8, 16])
@pytest.mark.parametrize("length", [2, 21, 22, 300])
@pytest.mark.parametrize("version", VERSIONS)
def test_compute_units_are_what_the_formula_says(version: str, rollups: int, length: int) -> None:
    svm = InboxSvm(version, rollups=rollups)
    data = codec.post([bytes(length - 2)])
    outcome = done(svm.post(data, svm.rollup_ids))
    assert outcome.compute_units_consumed() == posting_cu(length, rollups=rollups)
    commit_cu = done(svm.post(COMMIT, svm.rollup_ids)).compute_units_consumed()
    assert abs(commit_cu - posting_cu(len(COMMIT), rollups=rollups)) <= 10


@pytest.mark.parametrize("version", VERSIONS)
def test_the_limits_that_the_package_proposes_are_enough(version: str) -> None:
    svm = InboxSvm(version, rollups=8)
    for data, rollup_ids in [(POSTING, svm.rollup_ids), (COMMIT, svm.rollup_ids[:1]), (codec.post([]), svm.rollup_ids)]:
        budget = Budget(
            cu_limit=posting_cu_limit(len(data), rollups=len(rollup_ids)),
            cu_price_micro_lamports=1_000,
            loaded_bytes_limit=LOADED_BYTES_LIMIT,
        )
        done(svm.post(data, rollup_ids, budget=budget))
    (chunk,) = codec.chunks_of(bytes(800), size=800)
    done(svm.post(chunk, [], budget=Budget(cu_limit=posting_cu_limit(len(chunk), rollups=0))))


@given(
    postings=st.lists(
        st.tuples(st.sets(st.integers(0, 2), min_size=1), st.binary(max_size=600), st.sampled_from([1, 3])),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=40, deadline=None)
def test_any_postings_give_the_rolling_hash_of_the_rule(postings: list[tuple[set[int], bytes, int]]) -> None:
    svm = InboxSvm(rollups=3)
    expected = dict.fromkeys(svm.rollup_ids, codec.EMPTY_STATE)
    for places, content, tag in postings:
        data = codec.post([content]) if tag == codec.POST else codec.commit(content, chunks=len(content))
        assert codec.changes_state(data)
        named = [svm.rollup_ids[place] for place in sorted(places)]
        done(svm.post(data, named))
        for rollup_id in named:
            expected[rollup_id] = codec.roll(expected[rollup_id], data)
    assert svm.states() == expected


@pytest.mark.parametrize("version", VERSIONS)
def test_as_many_rollups_as_a_transaction_may_lock(version: str) -> None:
    """All of them out of one lookup table, within the limits that the package proposes."""
    rollups = MAX_ACCOUNTS - 3  # besides the payer, the program, and the program that sets the limits
    svm = InboxSvm(version, rollups=rollups)
    table = svm.make_table([address_of(rollup_id) for rollup_id in svm.rollup_ids])
    data = codec.post([bytes(700)])
    budget = Budget(
        cu_limit=posting_cu_limit(len(data), rollups=rollups),
        cu_price_micro_lamports=1,
        loaded_bytes_limit=LOADED_BYTES_LIMIT,
    )
    call = posting_call(svm.payer_key, svm.inbox, svm.rollup_ids, data)
    done(svm.send([call], budget=budget, tables=[table]))
    assert set(svm.states().values()) == {codec.roll(codec.EMPTY_STATE, data)}
    # One account too many is refused here, not by the chain.
    more = call._replace(accounts=(*call.accounts, AccountUse(Pubkey(b"\x03" * 32))))
    with pytest.raises(LimitExceeded, match="accounts of a Solana transaction is 64, but 65"):
        svm.send([more], budget=budget, tables=[table])
    # And the same as a bad last account: nothing of the 61 is changed.
    before = svm.states()
    svm.put(Pubkey(b"\x04" * 32), owner=SYSTEM_ID, data=bytes(88))
    bad = call._replace(accounts=(*call.accounts[:-1], AccountUse(Pubkey(b"\x04" * 32), is_writable=True)))
    assert code_of(svm.send([bad], tables=[table])) == CODES["FOREIGN_OWNER"]
    assert svm.states() == before


# Memo mode


def test_memos_name_rollups_by_their_place() -> None:
    ids = [rollup_id_of(number) for number in (5, 3)]
    inbox = memo_inbox(ids, origin_slot=12)
    call = posting_call(Pubkey(b"\x01" * 32), inbox, [rollup_id_of(5)], POSTING)
    assert codec.decode_memo(call.data) == (POSTING, (1,))
    assert (inbox.is_memo, inbox.origin_slot, dict(inbox.accounts)) == (True, 12, {})
    assert call.program_id == inbox.program_id


@pytest.mark.parametrize(
    ("length", "units"), [(1, 15_135), (5, 16_587), (100, 50_252), (500, 190_377), (900, 330_502), (1_000, 365_533)]
)
def test_the_limit_of_a_memo_is_enough_for_the_older_program(length: int, units: int) -> None:
    """`units` were measured with SPL Memo 3.0.0, the payer among the accounts; some payers' addresses take 500 more."""
    assert units + 500 < memo_cu_limit(length) < 1.5 * units
    assert memo_cu_limit(10_000) == 1_400_000


def test_the_limit_of_a_memo_is_enough_for_the_newer_program() -> None:
    svm = InboxSvm()
    inbox = memo_inbox([rollup_id_of(3)], origin_slot=0)
    call = posting_call(svm.payer_key, inbox, [rollup_id_of(3)], POSTING)
    done(svm.send([call], budget=Budget(cu_limit=memo_cu_limit(len(call.data)), cu_price_micro_lamports=1)))


def event_of(outcome: TransactionMetadata) -> bytes:
    """The last event of a transaction's log."""
    lines = [line for line in outcome.logs() if line.startswith("Program data: ")]
    return base64.b64decode(lines[-1].removeprefix("Program data: "))
