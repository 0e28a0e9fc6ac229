"""Deploying the inbox through the chain's own loader, over JSON-RPC: whole, interrupted anywhere, and under faults."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from solders.hash import Hash

from nodes.model.errors import EngineFailure, InvalidInput, LimitExceeded, MissingTool, RpcError, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId, rollup_id_of
from nodes.model.solana import InboxState, Pubkey
from nodes.rules import inbox as codec
from nodes.solana.confirming import Confirmer, Job
from nodes.solana.deploy import Inbox, deploy_inbox
from nodes.solana.endpoint import SolanaProcess
from nodes.solana.keypairs import base58, derived_keypair, key_of, keypair_from_bytes
from nodes.solana.ports import SolanaRpc
from nodes.solana.program import ELF_FILES, LOADED_BYTES_LIMIT, posting_call, posting_cu_limit, read_elf
from nodes.solana.rpc import HttpSolanaRpc
from nodes.solana.surfpool import surfpool_command
from nodes.solana.system_calls import LOOKUP_TABLE_ID, create_account_call, transfer_call
from nodes.solana.transactions import NO_BUDGET, AccountUse, Budget, Call, build
from tests.support.inbox_page import room
from tests.support.inbox_svm import solders_key
from tests.support.solana_chain import InProcessRpc, new_chain

PAYER = keypair_from_bytes(b"\x21" * 32)
PROGRAM = derived_keypair(PAYER, "inbox of a test")
ROLLUPS = [rollup_id_of(number) for number in (7, 8, 9)]
RICH = 10**10
LAMPORTS_PER_BYTE = 6_960


class Interrupted(Exception):
    """The process ended here."""


class Interrupting:
    """An RPC whose caller dies at the n-th exchange, before it goes out or before its answer comes back."""

    def __init__(self, rpc: SolanaRpc, *, at: int = 0, after: bool = False) -> None:
        self._rpc = rpc
        self._at = at
        self._after = after
        self.exchanges: list[str] = []

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        return await self._guard(method, lambda: self._rpc.call(method, params))

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        found: list[Any | RpcError] = await self._guard(requests[0][0], lambda: self._rpc.batch(requests))
        return found

    def slots(self) -> AsyncIterator[int]:
        return self._rpc.slots()

    async def _guard(self, method: str, exchange: Callable[[], Awaitable[Any]]) -> Any:
        self.exchanges.append(method)
        if len(self.exchanges) == self._at and not self._after:
            raise Interrupted
        answer = await exchange()
        if len(self.exchanges) == self._at:
            raise Interrupted
        return answer

    @property
    def sends(self) -> int:
        return self.exchanges.count("sendTransaction")


@pytest.fixture(name="rpc")
def _rpc() -> InProcessRpc:
    return funded()


def funded(lamports: int = RICH) -> InProcessRpc:
    rpc = InProcessRpc(new_chain())
    if lamports:
        rpc.chain.airdrop(solders_key(key_of(PAYER)), lamports)
    rpc.tick(4)
    return rpc


async def deploy(
    chain: InProcessRpc,
    record: Path | None = None,
    *,
    through: SolanaRpc | None = None,
    rollup_ids: Sequence[RollupId] = ROLLUPS,
    **options: Any,
) -> Inbox:
    async def tick() -> None:
        chain.tick()

    given: dict[str, Any] = {"program_keypair": PROGRAM, "tick": tick}
    return await deploy_inbox(through or chain, PAYER, rollup_ids, lookup_table_record=record, **given | options)


def balance(rpc: InProcessRpc) -> int:
    found: int = rpc.ask("getBalance", base58(key_of(PAYER)), {"commitment": "processed"})["value"]
    return found


async def post(rpc: InProcessRpc, inbox: Inbox, rollup_ids: Sequence[RollupId], data: bytes) -> None:
    """One posting, out of the lookup table where there is one."""
    budget = Budget(
        cu_limit=posting_cu_limit(len(data), rollups=len(rollup_ids)), loaded_bytes_limit=LOADED_BYTES_LIMIT
    )

    async def tick() -> None:
        rpc.tick()

    job = Job(what="a posting", calls=(posting_call(key_of(PAYER), inbox, rollup_ids, data),), budget=budget)
    await Confirmer(rpc, PAYER, tick=tick).confirm([job])


async def state(rpc: SolanaRpc, inbox: Inbox, rollup_id: RollupId) -> InboxState:
    options = {"encoding": "base64", "commitment": "confirmed"}
    value = (await rpc.call("getAccountInfo", [base58(inbox.accounts[rollup_id]), options]))["value"]
    found = codec.decode_state(base64.b64decode(value["data"][0]))
    assert found is not None
    assert found[0] == rollup_id
    return found[1]


@pytest.mark.parametrize("version", sorted(ELF_FILES))
async def test_both_versions_pass_the_real_loader(rpc: InProcessRpc, version: str, tmp_path: Path) -> None:
    said: list[str] = []
    inbox = await deploy(rpc, tmp_path / "table.json", elf=read_elf(version), progress=said.append)
    assert inbox.rollup_ids == (*ROLLUPS, NOTICE_ROLLUP_ID)
    assert inbox.program_id == key_of(PROGRAM)
    assert inbox.lookup_table is not None
    assert sorted(inbox.lookup_table.addresses) == sorted(inbox.accounts.values())
    assert 0 < inbox.origin_slot <= rpc.chain.slot("confirmed")
    assert said[-1] == "the inbox stands"
    data = codec.post([b"entry"])
    await post(rpc, inbox, ROLLUPS, data)
    for rollup_id in ROLLUPS:
        assert await state(rpc, inbox, rollup_id) == codec.roll(codec.EMPTY_STATE, data)
    assert await state(rpc, inbox, NOTICE_ROLLUP_ID) == codec.EMPTY_STATE


@pytest.mark.parametrize("rollups", [1, 4])
@pytest.mark.parametrize("has_table", [False, True])
async def test_the_largest_posting_lands_and_a_larger_one_is_not_sent(
    rpc: InProcessRpc, tmp_path: Path, rollups: int, has_table: bool
) -> None:
    inbox = await deploy(rpc, tmp_path / "table.json" if has_table else None)
    ids = inbox.rollup_ids[:rollups]
    tables = [inbox.lookup_table] if inbox.lookup_table else []
    budget = Budget(cu_limit=10_000, cu_price_micro_lamports=1, loaded_bytes_limit=LOADED_BYTES_LIMIT)
    size = room(rollups, tables=tables, inbox=inbox, rollup_ids=ids)
    for data in (codec.post([bytes(size - 2)]), codec.post([bytes(size - 1)])):
        calls = [posting_call(key_of(PAYER), inbox, ids, data)]
        blockhash = bytes(Hash.from_string(rpc.ask("getLatestBlockhash")["value"]["blockhash"]))
        if len(data) > size:
            with pytest.raises(LimitExceeded, match="but 1,233 was offered"):
                build(PAYER, calls, blockhash=blockhash, budget=budget, tables=tables)
            continue
        signed = build(PAYER, calls, blockhash=blockhash, budget=budget, tables=tables)
        assert len(signed.raw) == 1_232
        # With preflight: refused at once if anything is wrong with it.
        rpc.ask("sendTransaction", base64.b64encode(signed.raw).decode(), {"encoding": "base64"})
        rpc.tick(4)
        for rollup_id in ids:
            assert await state(rpc, inbox, rollup_id) == codec.roll(codec.EMPTY_STATE, data)


async def test_a_second_call_sends_and_costs_nothing(rpc: InProcessRpc, tmp_path: Path) -> None:
    first = await deploy(rpc, tmp_path / "table.json")
    await post(rpc, first, ROLLUPS, codec.post([b"later"]))
    rpc.tick(200)
    before = balance(rpc)
    watching = Interrupting(rpc)
    assert await deploy(rpc, tmp_path / "table.json", through=watching) == first
    assert watching.sends == 0
    assert balance(rpc) == before


async def test_it_goes_on_after_an_interruption_at_any_exchange(tmp_path: Path) -> None:
    whole = Interrupting(rpc := funded())
    expected = await deploy(rpc, tmp_path / "whole.json", through=whole)
    spent = RICH - balance(rpc)
    fees = 5_000 * 12
    for at, method in enumerate(whole.exchanges, 1):
        if method != "sendTransaction" and at % 4:
            continue
        for after in (False, True):
            rpc = funded()
            record = tmp_path / f"{at}-{after}.json"
            with pytest.raises(Interrupted):
                await deploy(rpc, record, through=Interrupting(rpc, at=at, after=after))
            rpc.tick(at % 3)
            inbox = await deploy(rpc, record)
            assert (inbox.program_id, inbox.accounts) == (expected.program_id, expected.accounts), at
            assert inbox.lookup_table is not None
            addresses = inbox.lookup_table.addresses
            assert set(addresses) == set(inbox.accounts.values()), at
            # Nothing was made twice, neither a table nor a buffer lies about; places in the table may be.
            twice = (len(addresses) - len(inbox.accounts)) * 32 * LAMPORTS_PER_BYTE
            assert abs(RICH - balance(rpc) - spent - twice) <= fees, at


async def test_more_rollups_are_added_to_what_is_there(rpc: InProcessRpc, tmp_path: Path) -> None:
    before = await deploy(rpc, tmp_path / "table.json")
    more = [rollup_id_of(number) for number in range(1, 41)]
    after = await deploy(rpc, tmp_path / "table.json", rollup_ids=[*ROLLUPS, *more])
    assert after.program_id == before.program_id
    assert after.origin_slot == before.origin_slot, "what was posted to the first ones counts"
    assert after.lookup_table is not None
    assert before.lookup_table is not None
    assert after.lookup_table.addresses[:4] == before.lookup_table.addresses
    assert len(after.lookup_table.addresses) == 41
    assert await deploy(rpc, tmp_path / "table.json", rollup_ids=[*ROLLUPS, *more]) == after


async def test_a_table_holds_the_first_rollups_and_the_rest_stand_in_transactions(
    rpc: InProcessRpc, tmp_path: Path
) -> None:
    ids = [rollup_id_of(number) for number in range(1, 300)]
    inbox = await deploy(rpc, tmp_path / "table.json", rollup_ids=ids)
    assert inbox.lookup_table is not None
    assert set(inbox.lookup_table.addresses) == {inbox.accounts[rollup_id] for rollup_id in inbox.rollup_ids[:256]}
    assert await state(rpc, inbox, ids[-1]) == codec.EMPTY_STATE


async def test_a_recorded_slot_that_has_no_block_is_replaced(rpc: InProcessRpc, tmp_path: Path) -> None:
    """As after an interruption before a fork."""
    first = rpc.chain.slot("processed")
    rpc.chain.skip(1)
    rpc.tick(6)
    last = rpc.chain.slot("confirmed")
    (skipped,) = set(range(first, last)) - set(rpc.chain.blocks_between(first, last, "confirmed"))
    record = tmp_path / "table.json"
    record.write_text(json.dumps({"program": base58(key_of(PROGRAM)), "table_slot": skipped}), encoding="utf-8")
    inbox = await deploy(rpc, record)
    assert inbox.lookup_table is not None
    assert json.loads(record.read_text(encoding="utf-8"))["table_slot"] > skipped


async def test_without_a_record_there_is_no_table(rpc: InProcessRpc) -> None:
    inbox = await deploy(rpc)
    assert inbox.lookup_table is None
    assert await deploy(rpc) == inbox
    assert rpc.ask("getProgramAccounts", base58(LOOKUP_TABLE_ID), {"commitment": "processed"}) == []


async def test_two_testnets_of_one_payer_share_nothing(rpc: InProcessRpc) -> None:
    first = await deploy(rpc)
    second = await deploy(rpc, program_keypair=derived_keypair(PAYER, "another"))
    assert first.program_id != second.program_id
    assert not set(first.accounts.values()) & set(second.accounts.values())


# What stands in the way


@pytest.mark.parametrize("lamports", [0, 20_000_000])
async def test_a_poor_payer_is_told_how_much_it_needs(lamports: int, tmp_path: Path) -> None:
    rpc = funded(lamports)
    watching = Interrupting(rpc)
    with pytest.raises(InvalidInput, match=r"Send it [\d,]+ more") as raised:
        await deploy(rpc, tmp_path / "table.json", through=watching)
    assert watching.sends == 0
    text = str(raised.value)
    assert base58(key_of(PAYER)) in text
    assert f"has {lamports:,} lamports" in text
    more = int(text.rpartition("Send it ")[2].partition(" ")[0].replace(",", ""))
    rpc.chain.airdrop(solders_key(key_of(PAYER)), more)
    rpc.tick(4)
    await deploy(rpc, tmp_path / "table.json")
    assert balance(rpc) < more // 10


async def test_another_program_at_the_address_is_not_overwritten(rpc: InProcessRpc) -> None:
    await deploy(rpc, elf=read_elf("v3"))
    with pytest.raises(InvalidInput, match="is deployed with other bytes"):
        await deploy(rpc, elf=read_elf("v0"))


async def test_an_account_that_is_no_program_is_left_alone(rpc: InProcessRpc) -> None:
    rpc.chain.airdrop(solders_key(key_of(PROGRAM)), 10**9)
    rpc.tick(4)
    with pytest.raises(InvalidInput, match="is no program"):
        await deploy(rpc)


async def test_a_program_that_the_runtime_refuses_fails_with_its_log(rpc: InProcessRpc) -> None:
    broken = bytearray(read_elf("v3"))
    broken[-8:] = bytes(8)  # no exit at the end of the code
    with pytest.raises(EngineFailure, match="the deployment of the program failed on chain") as raised:
        await deploy(rpc, elf=bytes(broken))
    assert "InstructionError" in str(raised.value)
    assert "BPFLoaderUpgradeab1e" in str(raised.value)


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"program": 1, "table_slot": "x"}'])
async def test_a_damaged_record_is_named(rpc: InProcessRpc, tmp_path: Path, text: str) -> None:
    record = tmp_path / "table.json"
    record.write_text(text, encoding="utf-8")
    if text.startswith('{"program"'):
        await deploy(rpc, record)  # of another program: not ours
        assert json.loads(record.read_text(encoding="utf-8"))["program"] == base58(key_of(PROGRAM))
        return
    with pytest.raises(InvalidInput, match=r"table\.json does not say which lookup table is ours"):
        await deploy(rpc, record)


async def test_too_many_rollups_are_refused(rpc: InProcessRpc) -> None:
    with pytest.raises(LimitExceeded, match="rollups of a testnet is 1,024, but 1,025"):
        await deploy(rpc, rollup_ids=[rollup_id_of(number) for number in range(1, 1_026)])


# Faults of the chain


async def test_it_survives_drops_forks_and_expired_blockhashes(tmp_path: Path) -> None:
    rpc = funded()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        ticks += 1
        if ticks % 5 == 1:
            rpc.chain.drop(0.6, 2)
        if ticks % 7 == 3:
            rpc.chain.fork(1, "none")
        if ticks % 23 == 0:
            rpc.chain.expire_blockhashes()
        rpc.tick()

    inbox = await deploy(rpc, tmp_path / "table.json", tick=tick)
    rpc.tick(4)
    assert await deploy(rpc, tmp_path / "table.json") == inbox
    for rollup_id in inbox.rollup_ids:
        assert await state(rpc, inbox, rollup_id) == codec.EMPTY_STATE
    assert ticks > 20


async def test_it_waits_for_slots_where_nobody_gives_it_a_tick(rpc: InProcessRpc) -> None:
    is_done = False

    async def clock() -> None:
        while not is_done:
            rpc.tick()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(clock())
        inbox = await deploy(rpc, tick=None)
        is_done = True
    assert inbox.lookup_table is None


async def test_a_chain_that_stands_still_is_given_up(rpc: InProcessRpc) -> None:
    with pytest.raises(Unavailable, match=r"not deployed within 1 s; it stopped at: creating the buffer"):
        await deploy(rpc, tick=None, deadline_s=1)
    await deploy(rpc)


async def test_a_transaction_that_never_lands_is_given_up() -> None:
    rpc = funded()
    rpc.chain.drop(1.0, 10_000)

    async def tick() -> None:
        rpc.tick(20)

    job = Job(
        what="the transfer",
        calls=(transfer_call(key_of(PAYER), Pubkey(b"\x05" * 32), lamports=10**9),),
        budget=NO_BUDGET,
    )
    with pytest.raises(Unavailable, match="the transfer did not land in 5 attempts"):
        await Confirmer(rpc, PAYER, tick=tick).confirm([job])


async def test_what_the_node_refuses_is_told_with_its_reason(rpc: InProcessRpc) -> None:
    """A signature that does not fit is refused at once, not waited for."""
    call = create_account_call(key_of(PAYER), key_of(PROGRAM), lamports=10**9, size=0, owner=Pubkey(bytes(32)))
    job = Job(what="a bad call", calls=(call,), budget=NO_BUDGET, signers=())
    with pytest.raises(InvalidInput, match="is to be signed by"):
        await Confirmer(rpc, PAYER).confirm([job])
    oversized = Call(Pubkey(bytes(32)), (AccountUse(key_of(PAYER), is_signer=True),), bytes(1_200))
    with pytest.raises(LimitExceeded):
        await Confirmer(rpc, PAYER).confirm([Job(what="a large call", calls=(oversized,), budget=NO_BUDGET)])


async def test_on_a_surfpool(tmp_path: Path) -> None:
    """An independent node; its program loader is the same runtime behind another RPC."""
    try:
        surfpool_command(slot_ms=50)
    except MissingTool as missing:
        pytest.skip(str(missing))
    process = await SolanaProcess.start_surfpool(tmp_path, slot_ms=50)
    try:
        async with HttpSolanaRpc(process.endpoint.rpc_url, process.endpoint.ws_url) as rpc:
            await rpc.call("requestAirdrop", [base58(key_of(PAYER)), RICH])
            inbox = await deploy_inbox(
                rpc, PAYER, ROLLUPS, program_keypair=PROGRAM, lookup_table_record=tmp_path / "table.json"
            )
            assert await state(rpc, inbox, ROLLUPS[0]) == codec.EMPTY_STATE
            assert inbox == await deploy_inbox(
                rpc, PAYER, ROLLUPS, program_keypair=PROGRAM, lookup_table_record=tmp_path / "table.json"
            )
    finally:
        await process.stop()
