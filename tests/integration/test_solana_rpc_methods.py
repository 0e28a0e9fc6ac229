"""The dev node's method table in process: codes and forms of refusals, encodings, commitments, limits, batches."""

import base64
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from nodes.model.errors import RpcError
from nodes.model.solana import SolanaTiming
from nodes.solana import base58
from nodes.solana.devnode.rpc.accounts import account_json
from nodes.solana.devnode.rpc.dispatch import MAX_BATCH
from nodes.solana.devnode.rpc.parsed_instructions import parse_instruction
from nodes.solana.devnode.rpc.programs import (
    ASSOCIATED_TOKEN,
    CLOCK,
    LOADER_UPGRADEABLE,
    LOOKUP_TABLE,
    RENT,
    SYSTEM,
    SYSVAR,
    TOKEN,
    TOKEN_2022,
)
from tests.support.solana_chain import InProcessRpc, new_chain
from tests.support.solana_clients.world import CONFIRMED, SOL, World, build_world, encoded, key, memo, send, signed

PARSED_PROGRAMS = (TOKEN_2022, ASSOCIATED_TOKEN, LOOKUP_TABLE, LOADER_UPGRADEABLE)
MILLION = 1_000_000
"""Lamports; fewer leave an account that is not exempt from rent."""
PROCESSED = {"commitment": "processed"}
TIMING = SolanaTiming(slot_ms=400, confirm_slots=2, finalize_slots=5)
V0 = CONFIRMED | {"maxSupportedTransactionVersion": 0}


@pytest.fixture
def rpc() -> InProcessRpc:
    return InProcessRpc(new_chain(timing=TIMING))


async def world_of(rpc: InProcessRpc) -> World:
    async def settle(_signatures: Sequence[str]) -> None:
        rpc.tick(3)

    return await build_world(rpc, settle)


def code_of(rpc: InProcessRpc, method: str, *params: Any) -> int:
    with pytest.raises(RpcError) as raised:
        rpc.ask(method, *params)
    return raised.value.code


def paid(
    rpc: InProcessRpc, payer: Keypair, *, lamports: int = MILLION, level: str = "processed"
) -> VersionedTransaction:
    latest = rpc.ask("getLatestBlockhash", {"commitment": level})["value"]["blockhash"]
    pay = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=key("bob").pubkey(), lamports=lamports))
    return VersionedTransaction(Message.new_with_blockhash([pay], payer.pubkey(), Hash.from_string(latest)), [payer])


def rich(rpc: InProcessRpc, name: str = "alice") -> Keypair:
    rpc.ask("requestAirdrop", str(key(name).pubkey()), 100 * SOL)
    rpc.tick()
    return key(name)


# Blocks.


def test_each_reason_for_no_block_has_its_code(rpc: InProcessRpc) -> None:
    first = rpc.ask("getFirstAvailableBlock")
    rpc.tick(3)
    rpc.ask("devnode_skipSlots", {"slots": 2})
    skipped = rpc.chain.open_slot
    rpc.tick(8)
    assert code_of(rpc, "getBlock", skipped, CONFIRMED) == -32007
    assert code_of(rpc, "getBlock", 10**9, CONFIRMED) == -32004
    assert code_of(rpc, "getBlock", rpc.chain.open_slot, CONFIRMED) == -32004
    assert code_of(rpc, "getBlock", first - 1, CONFIRMED) == -32009
    assert code_of(rpc, "getBlock", first, PROCESSED) == -32602
    assert skipped not in rpc.ask("getBlocks", first, None, CONFIRMED)
    assert rpc.ask("getBlocks", skipped, skipped + 1, CONFIRMED) == []
    assert rpc.ask("getBlocksWithLimit", skipped, 1, CONFIRMED) == [skipped + 2]
    block = rpc.ask("getBlock", skipped + 2, CONFIRMED)
    assert block["parentSlot"] == skipped - 1
    assert block["previousBlockhash"] == rpc.ask("getBlock", skipped - 1, CONFIRMED)["blockhash"]
    assert rpc.ask("getBlockHeight", CONFIRMED) == rpc.ask("getSlot", CONFIRMED) - first - 2


def test_a_pruned_block_is_told_from_a_skipped_one() -> None:
    rpc = InProcessRpc(new_chain(timing=TIMING, history_blocks=16))
    start = rpc.chain.config.first_slot
    rpc.tick(400)  # blocks within the age of a blockhash are always kept
    first = rpc.ask("getFirstAvailableBlock")
    assert first > start
    assert code_of(rpc, "getBlock", start + 1, CONFIRMED) == -32001
    assert rpc.ask("getBlock", first, CONFIRMED)["blockHeight"] == first - start


async def test_a_block_in_every_form(rpc: InProcessRpc) -> None:
    world = await world_of(rpc)
    (status,) = rpc.ask(
        "getSignatureStatuses", [world.signatures["through table"]], {"searchTransactionHistory": True}
    )["value"]
    slot = status["slot"]
    plain = rpc.ask("getBlock", slot, V0)["transactions"][0]
    assert plain["version"] == 0
    assert plain["meta"]["loadedAddresses"]["writable"] == [str(world.bob)]
    assert plain["transaction"]["message"]["addressTableLookups"][0]["accountKey"] == str(world.lookup_table)
    raw, name = rpc.ask("getBlock", slot, V0 | {"encoding": "base64"})["transactions"][0]["transaction"]
    assert name == "base64"
    text, _ = rpc.ask("getBlock", slot, V0 | {"encoding": "base58"})["transactions"][0]["transaction"]
    assert base58.decode(text) == base64.b64decode(raw)
    assert (
        str(VersionedTransaction.from_bytes(base64.b64decode(raw)).signatures[0]) == world.signatures["through table"]
    )
    parsed = rpc.ask("getBlock", slot, V0 | {"encoding": "jsonParsed"})["transactions"][0]
    assert {"pubkey": str(world.bob), "writable": True, "signer": False, "source": "lookupTable"} in parsed[
        "transaction"
    ]["message"]["accountKeys"]
    # The first clients sent the encoding in place of the options, which then are the defaults.
    rpc.tick(5)
    assert code_of(rpc, "getBlock", slot, "base64") == -32015
    assert code_of(rpc, "getBlock", slot, V0 | {"encoding": "xml"}) == -32602
    assert code_of(rpc, "getBlock", slot, V0 | {"transactionDetails": "most"}) == -32602
    again = rpc.ask("getBlock", slot, V0)["transactions"][0]
    assert again == plain


# Commitments and null.


def test_levels_differ_and_null_means_default(rpc: InProcessRpc) -> None:
    rpc.tick(10)
    levels = [rpc.ask("getSlot", {"commitment": level}) for level in ("processed", "confirmed", "finalized")]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == 3
    assert rpc.ask("getSlot", None) == rpc.ask("getSlot", {"commitment": None}) == rpc.ask("getSlot") == levels[2]
    assert rpc.ask("getSlot", {"commitment": "max", "minContextSlot": None}) == levels[2]
    assert code_of(rpc, "getSlot", {"commitment": "certain"}) == -32602
    with pytest.raises(RpcError) as raised:
        rpc.ask("getBalance", SYSTEM, {"minContextSlot": levels[2] + 1})
    assert (raised.value.code, raised.value.data) == (-32016, {"contextSlot": levels[2]})
    assert rpc.ask("getBalance", SYSTEM, {"minContextSlot": levels[2] + 1, "commitment": "processed"})["value"] >= 0


def test_accounts_are_read_as_of_a_level(rpc: InProcessRpc) -> None:
    rich(rpc)
    address = str(key("alice").pubkey())
    seen = []
    for _ in range(7):
        seen.append(
            [
                rpc.ask("getBalance", address, {"commitment": level})["value"]
                for level in ("processed", "confirmed", "finalized")
            ]
        )
        rpc.tick()
    assert seen[0] == [100 * SOL, 0, 0]
    assert [100 * SOL, 100 * SOL, 0] in seen
    assert seen[-1] == [100 * SOL] * 3


def test_statuses_rise_and_old_ones_need_a_search(rpc: InProcessRpc) -> None:
    signature = rpc.ask("sendTransaction", encoded(paid(rpc, rich(rpc))), {"encoding": "base64", "skipPreflight": True})
    levels = []
    for _ in range(8):
        (status,) = rpc.ask("getSignatureStatuses", [signature])["value"]
        levels.append((status["confirmationStatus"], status["confirmations"] is None))
        rpc.tick()
    assert list(dict.fromkeys(levels)) == [("processed", False), ("confirmed", False), ("finalized", True)]
    rpc.tick(400)
    assert rpc.ask("getSignatureStatuses", [signature])["value"] == [None]
    (found,) = rpc.ask("getSignatureStatuses", [signature], {"searchTransactionHistory": True})["value"]
    assert found["err"] is None
    assert rpc.ask("getTransaction", signature)["slot"] == found["slot"]


def test_a_lagging_node_says_so(rpc: InProcessRpc) -> None:
    rpc.tick(60)
    assert rpc.ask("getHealth") == "ok"
    newest = rpc.ask("getSlot", PROCESSED)
    rpc.ask("devnode_lag", {"slots": 20, "forSlots": 5})
    assert rpc.ask("getSlot", PROCESSED) < newest
    with pytest.raises(RpcError) as raised:
        rpc.ask("getHealth")
    assert raised.value.code == -32005
    assert isinstance(raised.value.data, dict)
    assert raised.value.data["numSlotsBehind"] >= 20
    assert code_of(rpc, "getSlot", PROCESSED | {"minContextSlot": newest}) == -32016
    rpc.tick(6)
    assert rpc.ask("getHealth") == "ok"


# Sending.


def test_every_refusal_of_a_transaction_has_its_code(rpc: InProcessRpc) -> None:
    alice = rich(rpc)
    options = {"encoding": "base64", "preflightCommitment": "processed"}
    good = paid(rpc, alice)
    with pytest.raises(RpcError) as raised:
        rpc.ask("sendTransaction", encoded(paid(rpc, alice, lamports=10**15)), options)
    assert raised.value.code == -32002
    assert (
        raised.value.message
        == "Transaction simulation failed: Error processing Instruction 0: custom program error: 0x1"
    )
    assert isinstance(raised.value.data, dict)
    assert raised.value.data["err"] == {"InstructionError": [0, {"Custom": 1}]}
    assert {"accounts", "logs", "unitsConsumed", "returnData", "innerInstructions"} <= raised.value.data.keys()
    forged = VersionedTransaction.populate(good.message, [Signature(b"\1" * 64)])
    assert code_of(rpc, "sendTransaction", encoded(forged), options) == -32003
    assert code_of(rpc, "sendTransaction", encoded(forged), options | {"skipPreflight": True}) == -32003
    assert code_of(rpc, "sendTransaction", base64.b64encode(bytes(1_233)).decode(), options) == -32602
    assert code_of(rpc, "sendTransaction", "not base64!", options) == -32602
    assert code_of(rpc, "sendTransaction", encoded(good), options | {"encoding": "hex"}) == -32602
    assert code_of(rpc, "sendTransaction", encoded(good), options | {"minContextSlot": 10**9}) == -32016
    assert rpc.ask("sendTransaction", base58.encode(bytes(good)), PROCESSED | {"skipPreflight": True}) == str(
        good.signatures[0]
    )
    with pytest.raises(RpcError, match="already been processed"):
        rpc.ask("sendTransaction", encoded(good), options)
    # Without preflight a duplicate is met with its signature, and lands once.
    assert rpc.ask("sendTransaction", encoded(good), options | {"skipPreflight": True}) == str(good.signatures[0])
    rpc.tick()
    assert rpc.ask("getBalance", str(key("bob").pubkey()), PROCESSED)["value"] == MILLION


def test_preflight_looks_from_its_own_commitment(rpc: InProcessRpc) -> None:
    alice = rich(rpc)
    rpc.tick()
    fresh = encoded(paid(rpc, alice, level="processed"))
    with pytest.raises(RpcError, match="Blockhash not found"):
        rpc.ask("sendTransaction", fresh, {"encoding": "base64"})
    assert rpc.ask("sendTransaction", fresh, {"encoding": "base64", "preflightCommitment": "processed"})


async def test_simulations_show_accounts_and_inner_instructions(rpc: InProcessRpc) -> None:
    world = await world_of(rpc)
    pay = transfer(TransferParams(from_pubkey=world.alice.pubkey(), to_pubkey=world.bob, lamports=5))
    transaction = encoded(await signed(rpc, [pay], [world.alice]))
    watched = {"encoding": "base64", "addresses": [str(world.bob), str(key("nobody").pubkey())]}
    shown = rpc.ask("simulateTransaction", transaction, CONFIRMED | {"encoding": "base64", "accounts": watched})[
        "value"
    ]
    assert shown["err"] is None
    assert shown["accounts"][0]["lamports"] == 2 * SOL + 5
    assert shown["accounts"][1] is None
    assert rpc.ask("getBalance", str(world.bob), PROCESSED)["value"] == 2 * SOL
    wrong = CONFIRMED | {"encoding": "base64", "accounts": watched | {"encoding": "base58"}}
    assert code_of(rpc, "simulateTransaction", transaction, wrong) == -32602
    both = {"encoding": "base64", "sigVerify": True, "replaceRecentBlockhash": True}
    assert code_of(rpc, "simulateTransaction", transaction, both) == -32602
    old = VersionedTransaction(Message.new_with_blockhash([pay], world.alice.pubkey(), Hash(bytes(32))), [world.alice])
    replaced = rpc.ask("simulateTransaction", encoded(old), {"encoding": "base64", "replaceRecentBlockhash": True})[
        "value"
    ]
    assert replaced["err"] is None
    assert replaced["replacementBlockhash"]["lastValidBlockHeight"] > 0


def test_fees_and_blockhashes_expire(rpc: InProcessRpc) -> None:
    alice = rich(rpc)
    transaction = paid(rpc, alice)
    message = base64.b64encode(bytes(transaction.message)).decode()
    assert rpc.ask("getFeeForMessage", message, PROCESSED)["value"] == 5_000
    blockhash = str(transaction.message.recent_blockhash)
    assert rpc.ask("isBlockhashValid", blockhash, PROCESSED)["value"]
    rpc.tick(160)
    assert rpc.ask("getFeeForMessage", message, PROCESSED)["value"] is None
    assert not rpc.ask("isBlockhashValid", blockhash, PROCESSED)["value"]
    assert code_of(rpc, "getFeeForMessage", "AAAA") == -32602
    rpc.ask("sendTransaction", encoded(transaction), {"encoding": "base64", "skipPreflight": True})
    rpc.tick(3)
    assert rpc.ask("getSignatureStatuses", [str(transaction.signatures[0])])["value"] == [None]


# Accounts.


async def test_accounts_in_every_encoding(rpc: InProcessRpc) -> None:
    world = await world_of(rpc)
    tokens, mint = str(world.alice_tokens), str(world.mint)
    data = base64.b64decode(rpc.ask("getAccountInfo", tokens, CONFIRMED | {"encoding": "base64"})["value"]["data"][0])
    assert len(data) == 165
    packed, name = rpc.ask("getAccountInfo", tokens, CONFIRMED | {"encoding": "base64+zstd"})["value"]["data"]
    assert name == "base64+zstd"
    assert pa.Codec("zstd").decompress(base64.b64decode(packed), 165, asbytes=True) == data
    assert code_of(rpc, "getAccountInfo", tokens, CONFIRMED | {"encoding": "base58"}) == -32600
    part = {"dataSlice": {"offset": 0, "length": 32}}
    assert rpc.ask("getAccountInfo", tokens, CONFIRMED | {"encoding": "base58"} | part)["value"]["data"] == [
        mint,
        "base58",
    ]
    assert rpc.ask("getAccountInfo", tokens, CONFIRMED | part)["value"]["data"] == mint
    far = {"dataSlice": {"offset": 1_000, "length": 5}}
    assert rpc.ask("getAccountInfo", tokens, CONFIRMED | {"encoding": "base64"} | far)["value"]["data"][0] == ""
    parsed = rpc.ask("getMultipleAccounts", [tokens, mint, str(world.bob)], CONFIRMED | {"encoding": "jsonParsed"})[
        "value"
    ]
    assert parsed[0]["data"]["parsed"]["info"]["delegatedAmount"]["amount"] == "7"
    assert parsed[1]["data"]["parsed"]["info"]["supply"] == "5000000"
    assert parsed[2]["data"] == ["", "base64"]
    assert code_of(rpc, "getAccountInfo", tokens, {"encoding": "xml"}) == -32602
    assert code_of(rpc, "getAccountInfo", tokens, {"dataSlice": {"offset": -1, "length": 3}}) == -32602
    assert code_of(rpc, "getMultipleAccounts", [tokens] * 101) == -32602


async def test_program_accounts_are_filtered(rpc: InProcessRpc) -> None:
    world = await world_of(rpc)

    def found(*filters: Any, **more: Any) -> set[str]:
        options = CONFIRMED | {"encoding": "base64", "filters": list(filters)} | more
        return {item["pubkey"] for item in rpc.ask("getProgramAccounts", TOKEN, options)}

    tokens = {str(world.alice_tokens), str(world.bob_tokens)}
    mint = {"memcmp": {"offset": 0, "bytes": str(world.mint)}}
    assert found() == tokens | {str(world.mint)}
    assert found({"dataSize": 165}) == tokens
    assert found(mint, {"dataSize": 82}) == set()
    bob = base64.b64encode(bytes(world.bob)).decode()
    assert found(mint, {"memcmp": {"offset": 32, "bytes": bob, "encoding": "base64"}}) == {str(world.bob_tokens)}
    assert found({"memcmp": {"offset": 32, "bytes": list(bytes(world.bob))}}) == {str(world.bob_tokens)}
    context = rpc.ask("getProgramAccounts", TOKEN, CONFIRMED | {"encoding": "base64", "withContext": True})
    assert len(context["value"]) == 3
    for wrong in ({"dataSize": -1}, {"memcmp": {"offset": 0, "bytes": "0OIl"}}, {"memcmp": {"bytes": ""}}, {}, "all"):
        assert code_of(rpc, "getProgramAccounts", TOKEN, {"encoding": "base64", "filters": [wrong]}) == -32602
    assert code_of(rpc, "getProgramAccounts", TOKEN, {"filters": [{"dataSize": 1}] * 5}) == -32602


async def test_tokens_and_what_is_none(rpc: InProcessRpc) -> None:
    world = await world_of(rpc)
    alice, tokens = str(world.alice.pubkey()), str(world.alice_tokens)
    for method, address in (
        ("getTokenAccountBalance", alice),
        ("getTokenAccountBalance", str(key("nobody").pubkey())),
        ("getTokenSupply", tokens),
        ("getTokenLargestAccounts", alice),
    ):
        assert code_of(rpc, method, address, CONFIRMED) == -32602
    assert code_of(rpc, "getTokenAccountsByOwner", alice, {"programId": SYSTEM}) == -32602
    assert code_of(rpc, "getTokenAccountsByOwner", alice, {"mint": tokens}, CONFIRMED) == -32602
    assert code_of(rpc, "getTokenAccountsByOwner", alice, {}) == -32602
    balances = rpc.ask("getTransaction", world.signatures["tokens"], V0)["meta"]
    after = {item["owner"]: item["uiTokenAmount"]["amount"] for item in balances["postTokenBalances"]}
    assert after == {alice: "3750000", str(world.bob): "1250000"}
    assert {item["uiTokenAmount"]["amount"] for item in balances["preTokenBalances"]} == {"0"}


async def test_the_history_of_an_address(rpc: InProcessRpc) -> None:
    alice = rich(rpc)
    sent = []
    for index in range(4):
        sent.append(await send(rpc, [memo(f"number {index}")], [alice], skip_preflight=True))
        rpc.tick()
    rpc.tick(4)
    memos = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"
    found = rpc.ask("getSignaturesForAddress", memos, CONFIRMED)
    assert [item["signature"] for item in found] == sent[::-1]
    assert found[0]["memo"] == "[8] number 3"
    between = rpc.ask("getSignaturesForAddress", memos, CONFIRMED | {"before": sent[3], "until": sent[0]})
    assert [item["signature"] for item in between] == [sent[2], sent[1]]
    assert len(rpc.ask("getSignaturesForAddress", memos, CONFIRMED | {"limit": 1})) == 1
    assert code_of(rpc, "getSignaturesForAddress", memos, {"limit": 1_001}) == -32602


# The cluster.


def test_leaders_take_turns_of_four_slots(rpc: InProcessRpc) -> None:
    rpc.tick(40)
    slot = rpc.ask("getSlot", PROCESSED) // 4 * 4
    leaders = rpc.ask("getSlotLeaders", slot, 16)
    assert [len(set(leaders[at : at + 4])) for at in range(0, 16, 4)] == [1] * 4
    assert len(set(leaders)) == 4
    schedule = rpc.ask("getLeaderSchedule")
    assert sorted(index for slots in schedule.values() for index in slots) == list(range(432_000))
    assert slot in schedule[leaders[0]]
    assert list(rpc.ask("getLeaderSchedule", None, {"identity": leaders[0]})) == [leaders[0]]
    assert rpc.ask("getLeaderSchedule", 10**10) is None
    production = rpc.ask("getBlockProduction", CONFIRMED)["value"]["byIdentity"]
    assert sum(made for _, made in production.values()) == len(rpc.ask("getBlocks", 0, None, CONFIRMED))
    assert code_of(rpc, "getSlotLeaders", 0, 5_001) == -32602
    assert rpc.ask("getVoteAccounts")["current"][0]["votePubkey"] != leaders[0]


def test_priority_fees_are_what_was_paid_per_account(rpc: InProcessRpc) -> None:
    assert {item["prioritizationFee"] for item in rpc.ask("getRecentPrioritizationFees")} == {0}
    assert rpc.ask("getInflationReward", [SYSTEM]) == [None]
    assert rpc.ask("getInflationRate")["total"] == 0
    assert rpc.ask("getSupply")["value"]["total"] > 0
    assert code_of(rpc, "getHighestSnapshotSlot") == -32008


# JSON-RPC.


def exchange(rpc: InProcessRpc, body: Any) -> Any:
    answer = rpc.dispatcher.handle(body if isinstance(body, bytes) else orjson.dumps(body))
    return json.loads(answer) if answer else None


def test_the_frame_of_requests(rpc: InProcessRpc) -> None:
    assert exchange(rpc, b"{")["error"]["code"] == -32700
    assert exchange(rpc, {"id": 1})["error"]["code"] == -32600
    assert exchange(rpc, [])["error"]["code"] == -32600
    assert exchange(rpc, {"id": 7, "method": "getNothing"}) == {
        "jsonrpc": "2.0",
        "error": {"code": -32601, "message": "Method not found"},
        "id": 7,
    }
    for helper in ("table", "check_health", "__init__", "devnode_nothing", "slotSubscribe", "voteSubscribe"):
        assert exchange(rpc, {"id": 7, "method": helper})["error"]["code"] == -32601
    assert (
        exchange(rpc, {"id": 1, "method": "getSlot", "params": {"commitment": "processed"}})["error"]["code"] == -32602
    )
    assert exchange(rpc, {"id": {}, "method": "getSlot"})["error"]["code"] == -32600
    assert exchange(rpc, {"method": "getSlot"}) is None
    assert exchange(rpc, {"id": "a", "method": "getHealth", "params": None}) == {
        "jsonrpc": "2.0",
        "result": "ok",
        "id": "a",
    }
    answers = exchange(rpc, [{"id": 2, "method": "getHealth"}, {"id": 1, "method": "getX"}, 5, {"method": "getSlot"}])
    assert [(answer["id"], "result" in answer) for answer in answers] == [(2, True), (1, False), (None, False)]
    assert exchange(rpc, [{"id": 1, "method": "getHealth"}] * (MAX_BATCH + 1))["error"]["code"] == -32600


@pytest.mark.parametrize("address", ["", "0OIl", "abc", 5, None, [], "1" * 31, "1" * 33])
def test_what_is_no_address_is_refused(rpc: InProcessRpc, address: Any) -> None:
    assert code_of(rpc, "getBalance", address) == -32602
    assert code_of(rpc, "getSignatureStatuses", [address]) == -32602
    assert code_of(rpc, "isBlockhashValid", address) == -32602


def test_no_method_falls_over_nonsense(rpc: InProcessRpc) -> None:
    """Whatever is sent, a method answers or refuses; an internal error is a bug."""
    nonsense: list[Any] = [None, True, -1, 2**64, 1.5, "", "x", [], [None], {}, {"commitment": 5}, {"encoding": []}]
    methods = [method for method in rpc.dispatcher._methods if method != "getLeaderSchedule"]
    for method in methods:
        for first in nonsense:
            for second in nonsense:
                body = {"id": 1, "method": method, "params": [first, second, {"limit": -5}]}
                answer = exchange(rpc, json.dumps(body).encode())
                assert answer.get("error", {}).get("code") != -32603, (method, first, second, answer)


@given(
    program=st.sampled_from([SYSTEM, TOKEN, *PARSED_PROGRAMS]),
    number=st.integers(0, 30),
    rest=st.binary(max_size=120),
    accounts=st.integers(0, 9),
)
def test_any_instruction_can_be_shown(program: str, number: int, rest: bytes, accounts: int) -> None:
    data = (
        number.to_bytes(4, "little") if program in (SYSTEM, LOOKUP_TABLE, LOADER_UPGRADEABLE) else bytes((number,))
    ) + rest
    shown = parse_instruction(program, [SYSTEM] * accounts, data, 1)
    assert shown["programId"] == program
    assert ("parsed" in shown) != ("data" in shown)
    orjson.dumps(shown)


@given(
    owner=st.sampled_from([SYSTEM, SYSVAR, TOKEN, *PARSED_PROGRAMS]),
    address=st.sampled_from([SYSTEM, CLOCK, RENT]),
    size=st.sampled_from([0, 1, 17, 40, 56, 80, 82, 165, 170, 355]),
    data=st.binary(min_size=400, max_size=400),
)
def test_any_account_can_be_shown(owner: str, address: str, size: int, data: bytes) -> None:
    account = Account(1, data[:size], Pubkey.from_string(owner))
    shown = account_json(Pubkey.from_string(address), account, encoding="jsonParsed", lookup=lambda _key: account)
    assert shown["space"] == size
    orjson.dumps(shown)


def test_base58_round_trips_and_agrees() -> None:
    for data in (b"", b"\0", b"\0\0abc", bytes(range(256)), b"\xff" * 1_232):
        assert base58.decode(base58.encode(data)) == data
    assert base58.encode(bytes(Pubkey.from_string(TOKEN))) == TOKEN
    with pytest.raises(ValueError, match="base58"):
        base58.decode("0")
    with pytest.raises(ValueError, match="base58"):
        base58.decode("é")
