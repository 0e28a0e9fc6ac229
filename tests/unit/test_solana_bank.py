"""The dev node's bank: what the VM alone does not enforce or survive."""

import struct

import pytest
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageAddressTableLookup, MessageV0, MessageV1
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from nodes.model.errors import InvalidInput
from nodes.solana.devnode.bank import decode
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.costs import budget_for, cost_of
from nodes.solana.devnode.values import INVALID_PARAMS, SIGNATURE_FAILURE, Rejected
from tests.support.solana_transactions import (
    LOADER,
    MEMO,
    SOL,
    call_of,
    deployment,
    keypair,
    memo_of,
    signed,
    tiny_program,
    transfer_of,
    upgrade,
)

ALICE, BOB = keypair("alice"), keypair("bob").pubkey()
LOOKUP_TABLES = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")


def funded(config: ChainConfig | None = None) -> Chain:
    chain = Chain(config or ChainConfig())
    chain.airdrop(ALICE.pubkey(), 100 * SOL)
    chain.tick()
    return chain


def land(chain: Chain, raw: bytes) -> object:
    """Submit; the error of the transaction, which must have landed."""
    status = chain.status_of(chain.submit(raw))
    assert status is not None
    return status.error


def test_a_transaction_of_1233_bytes_is_rejected_and_one_of_1232_lands() -> None:
    chain = funded()
    size = len(memo_of(ALICE, b"m" * 1_000, chain.tip.blockhash))
    fits = memo_of(ALICE, b"m" * (1_000 + 1_232 - size), chain.tip.blockhash)
    assert len(fits) == 1_232
    assert land(chain, fits) is None
    with pytest.raises(Rejected, match="too large: 1644 bytes") as caught:
        chain.submit(memo_of(ALICE, b"m" * (1_001 + 1_232 - size), chain.tip.blockhash))
    assert caught.value.code == INVALID_PARAMS


def test_version_1_is_taken_only_where_it_is_enabled() -> None:
    message = MessageV1.try_compile(ALICE.pubkey(), [Instruction(MEMO, b"m" * 2_000, [])], Hash.default())
    raw = bytes(VersionedTransaction(message, [ALICE]))
    with pytest.raises(Rejected):
        decode(raw, is_v1_enabled=False)
    assert decode(raw, is_v1_enabled=True).version == 1
    small = MessageV1.try_compile(ALICE.pubkey(), [Instruction(MEMO, b"m", [])], Hash.default())
    with pytest.raises(Rejected, match="not enabled"):
        decode(bytes(VersionedTransaction(small, [ALICE])), is_v1_enabled=False)


@pytest.mark.parametrize("raw", [b"", b"\x01", bytes(200), b"\xff" * 300])
def test_nonsense_is_rejected(raw: bytes) -> None:
    with pytest.raises(Rejected) as caught:
        decode(raw, is_v1_enabled=True)
    assert caught.value.code == INVALID_PARAMS


def test_bytes_after_the_end_are_not_kept() -> None:
    raw = memo_of(ALICE, b"m", Hash.default())
    assert decode(raw + b"more", is_v1_enabled=False).raw == raw


def test_a_wrong_signature_is_rejected_on_submission_and_an_error_of_a_simulation() -> None:
    chain = funded()
    raw = bytearray(transfer_of(ALICE, BOB, SOL, chain.tip.blockhash))
    raw[10] ^= 1
    with pytest.raises(Rejected) as caught:
        chain.submit(bytes(raw))
    assert caught.value.code == SIGNATURE_FAILURE
    assert chain.simulate(bytes(raw), sig_verify=True).error == "SignatureFailure"
    assert chain.simulate(bytes(raw)).error is None


def test_a_failed_transaction_pays_its_fee_and_is_in_the_block() -> None:
    chain = funded()
    before = chain.account(ALICE.pubkey(), "processed")
    error = land(chain, transfer_of(ALICE, BOB, 10**18, chain.tip.blockhash))
    assert error == {"InstructionError": [1, {"Custom": 1}]}
    after = chain.account(ALICE.pubkey(), "processed")
    assert before is not None
    assert after is not None
    assert before.lamports - after.lamports == 5_000
    chain.tick()
    (found,) = chain.tip.transactions
    assert found.fee_lamports == 5_000
    assert found.pre_balances[0] - found.post_balances[0] == 5_000
    assert any("insufficient lamports" in line for line in found.logs)


def test_who_cannot_pay_leaves_no_trace_and_the_simulation_says_why() -> None:
    chain, poor = funded(), keypair("poor")
    raw = transfer_of(poor, BOB, 1, chain.tip.blockhash)
    assert chain.simulate(raw).error == "AccountNotFound"
    assert chain.status_of(chain.submit(raw)) is None
    chain.tick()
    assert chain.tip.transactions == ()


def test_a_priority_fee_is_charged() -> None:
    from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price

    chain = funded()
    priced = [set_compute_unit_limit(100_000), set_compute_unit_price(1_000_000), Instruction(MEMO, b"m", [])]
    raw = signed(ALICE, priced, chain.tip.blockhash)
    assert chain.simulate(raw).fee_lamports == 105_000
    assert land(chain, raw) is None
    found = chain.transaction(chain.decode(raw).signature, "processed")
    assert found is not None
    assert found.fee_lamports == 105_000


def test_a_simulation_has_no_effect_and_shows_what_it_would_write() -> None:
    chain = funded()
    raw = transfer_of(ALICE, BOB, SOL, chain.tip.blockhash)
    simulation = chain.simulate(raw, sig_verify=True)
    assert simulation.error is None
    assert simulation.post_accounts[BOB].lamports == SOL
    assert chain.account(BOB, "processed") is None
    stale = transfer_of(ALICE, BOB, SOL, Hash.default())
    assert chain.simulate(stale).error == "BlockhashNotFound"
    replaced = chain.simulate(stale, replace_blockhash=True)
    assert replaced.error is None
    assert replaced.replacement_blockhash == chain.latest_blockhash("processed")


def lookup_table(chain: Chain, addresses: list[Pubkey]) -> Pubkey:
    """Create and extend a lookup table by its real program."""
    recent = chain.tip.slot
    table, bump = Pubkey.find_program_address([bytes(ALICE.pubkey()), recent.to_bytes(8, "little")], LOOKUP_TABLES)
    accounts = [
        AccountMeta(table, False, True),
        AccountMeta(ALICE.pubkey(), True, False),
        AccountMeta(ALICE.pubkey(), True, True),
        AccountMeta(SYSTEM_PROGRAM, False, False),
    ]
    extension = struct.pack("<IQ", 2, len(addresses)) + b"".join(map(bytes, addresses))
    create = Instruction(LOOKUP_TABLES, struct.pack("<IQB", 0, recent, bump), accounts)
    extend = Instruction(LOOKUP_TABLES, extension, accounts)
    assert land(chain, signed(ALICE, [create, extend], chain.tip.blockhash)) is None
    chain.tick()
    return table


def by_table(table: Pubkey, blockhash: Hash, index: int) -> bytes:
    """A transfer to the account that stands at an index of a table."""
    plain = MessageV0.try_compile(
        ALICE.pubkey(),
        [transfer(TransferParams(from_pubkey=ALICE.pubkey(), to_pubkey=BOB, lamports=SOL))],
        [],
        blockhash,
    )
    header, keys = plain.header, [key for key in plain.account_keys if key != BOB]
    order = [*keys, BOB]
    instructions = [
        type(item)(order.index(plain.account_keys[item.program_id_index]), item.data, bytes([0, len(keys)]))
        for item in plain.instructions
    ]
    lookups = [MessageAddressTableLookup(table, bytes([index]), b"")]
    return bytes(VersionedTransaction(MessageV0(header, keys, blockhash, instructions, lookups), [ALICE]))


def test_accounts_of_lookup_tables_are_resolved_journalled_and_rolled_back() -> None:
    chain = funded()
    table = lookup_table(chain, [keypair("other").pubkey(), BOB])
    raw = by_table(table, chain.tip.blockhash, 1)
    assert land(chain, raw) is None
    found = chain.transaction(chain.decode(raw).signature, "processed")
    assert found is not None
    assert found.accounts.loaded_writable == (BOB,)
    chain.tick()
    assert chain.account(BOB, "confirmed") is None
    paid = chain.account(BOB, "processed")
    assert paid is not None
    assert paid.lamports == SOL
    chain.fork(1, "none")
    assert chain.account(BOB, "processed") is None


def test_lookups_that_cannot_be_resolved_are_refused() -> None:
    chain = funded()
    missing = by_table(BOB, chain.tip.blockhash, 1)
    assert chain.simulate(missing).error == "AddressLookupTableNotFound"
    table = lookup_table(chain, [BOB])
    assert chain.simulate(by_table(table, chain.tip.blockhash, 7)).error == "InvalidAddressLookupTableIndex"
    assert chain.simulate(by_table(ALICE.pubkey(), chain.tip.blockhash, 0)).error == "InvalidAddressLookupTableOwner"
    assert chain.status_of(chain.submit(missing)) is None


def deployed(chain: Chain, program: Keypair, *, name: str, status: int = 0) -> None:
    for raw in deployment(chain, ALICE, program, tiny_program(status), name=name):
        assert land(chain, raw) is None
    chain.tick()


def test_a_program_that_a_fork_removed_stays_away_and_can_be_deployed_again() -> None:
    chain, program = funded(), keypair("program")
    deployed(chain, program, name="first")
    assert land(chain, call_of(ALICE, program.pubkey(), chain.tip.blockhash)) is None
    chain.fork(1, "none")
    assert chain.account(program.pubkey(), "processed") is None
    call = call_of(ALICE, program.pubkey(), chain.tip.blockhash, nonce=1)
    assert chain.simulate(call).error == "ProgramAccountNotFound"
    assert chain.status_of(chain.submit(call)) is None
    deployed(chain, program, name="second", status=7)
    error = land(chain, call_of(ALICE, program.pubkey(), chain.tip.blockhash, nonce=2))
    assert error == {"InstructionError": [0, {"Custom": 7}]}


def test_a_fork_that_takes_a_deployment_along_deploys_it_again() -> None:
    chain, program = funded(), keypair("program")
    deployed(chain, program, name="first")
    chain.fork(1, "same")
    chain.tick()
    assert len(chain.tip.transactions) == 2
    assert all(item.error is None for item in chain.tip.transactions)
    assert land(chain, call_of(ALICE, program.pubkey(), chain.tip.blockhash)) is None


def test_an_upgrade_that_is_rolled_back_brings_the_old_code_back() -> None:
    chain, program = funded(), keypair("program")
    deployed(chain, program, name="first")
    chain.tick(2)
    for raw in upgrade(chain, ALICE, program, tiny_program(9), name="second"):
        assert land(chain, raw) is None
    chain.tick()
    error = land(chain, call_of(ALICE, program.pubkey(), chain.tip.blockhash))
    assert error == {"InstructionError": [0, {"Custom": 9}]}
    chain.fork(1, "none")
    assert land(chain, call_of(ALICE, program.pubkey(), chain.tip.blockhash, nonce=1)) is None


def test_a_panic_of_the_vm_refuses_one_transaction_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    chain, program = funded(), keypair("program")
    deployed(chain, program, name="first")
    chain.fork(1, "none")
    # Without the bank's own check the VM panics on a program that its cache has and its accounts have not.
    monkeypatch.setattr(chain._bank, "_names_removed_program", lambda accounts: False)
    call = call_of(ALICE, program.pubkey(), chain.tip.blockhash)
    before = chain.account(ALICE.pubkey(), "processed")
    assert chain.simulate(call).error == "InvalidProgramForExecution"
    assert chain.status_of(chain.submit(call)) is None
    assert chain.account(ALICE.pubkey(), "processed") == before
    assert land(chain, transfer_of(ALICE, BOB, SOL, chain.tip.blockhash)) is None


def test_programs_see_the_clock_and_the_recent_slots_of_the_chain() -> None:
    chain = funded()
    chain.tick(600)
    chain.skip(1)
    chain.tick(2)
    clock = chain.account(Pubkey.from_string("SysvarC1ock11111111111111111111111111111111"), "processed")
    hashes = chain.account(Pubkey.from_string("SysvarS1otHashes111111111111111111111111111"), "processed")
    assert clock is not None
    assert hashes is not None
    slot, _, epoch, _, time_s = struct.unpack("<QqQQq", clock.data)
    assert (slot, epoch, time_s) == (chain.open_slot, 0, chain.time_of(chain.open_slot))
    count, newest = struct.unpack_from("<QQ", hashes.data)
    assert (count, newest) == (512, chain.tip.slot)
    assert hashes.data[16:48] == bytes(chain.tip.blockhash)


def test_costs_follow_the_model_of_the_network() -> None:
    from solders.compute_budget import set_compute_unit_limit, set_loaded_accounts_data_size_limit

    chain = funded()
    data = b"m" * 900
    bare = chain.decode(memo_of(ALICE, data, chain.tip.blockhash))
    accounts = chain._bank.resolve(bare)
    assert not hasattr(accounts, "error")
    cost = cost_of(bare, accounts)
    assert cost == (720 + 300 + 900 // 4 + 8 * 2_048, 200_000)
    limits = [set_compute_unit_limit(2_500), set_loaded_accounts_data_size_limit(64 * 1024)]
    frugal = chain.decode(signed(ALICE, [*limits, Instruction(MEMO, data, [])], chain.tip.blockhash))
    cost = cost_of(frugal, chain._bank.resolve(frugal))  # type: ignore[arg-type]
    assert cost == (720 + 300 + 910 // 4 + 16, 2_500)


def test_a_budget_limits_the_block_the_account_and_the_count() -> None:
    budget = budget_for(slot_ms=400, block_cost_max=10_000_000, account_cost_percent=40, transactions_max=3)
    assert budget.fits(4_000_000, [BOB])
    assert not budget.fits(4_000_001, [BOB])
    budget.add(3_000_000, [BOB])
    assert not budget.fits(1_000_001, [BOB])
    assert budget.fits(4_000_000, [ALICE.pubkey()])
    budget.add(4_000_000, [ALICE.pubkey()])
    assert not budget.fits(3_000_001, [LOADER])
    budget.add(1, [])
    assert not budget.fits(1, [])
    half = budget_for(slot_ms=200, block_cost_max=10_000_000, account_cost_percent=100, transactions_max=3)
    assert half.fits(5_000_000, [])
    assert not half.fits(5_000_001, [])


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(InvalidInput, match="account_cost_percent is 0"):
        ChainConfig(account_cost_percent=0)
