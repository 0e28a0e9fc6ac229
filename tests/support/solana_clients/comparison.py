"""The same questions to two Solana nodes, with what must differ (slots, hashes, times) taken out of the answers."""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

from solders.hash import Hash
from solders.message import Message, to_bytes_versioned
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from nodes.model.errors import RpcError
from nodes.solana.devnode.rpc import programs
from nodes.solana.ports import SolanaRpc
from tests.support.solana_clients.world import CONFIRMED, MEMO, World, encoded, key, memo, signed

NOBODY = str(key("nobody").pubkey())
Call = tuple[str, list[Any]]
_UNEQUAL_NUMBERS = frozenset(
    (
        *(
            "slot",
            "lastValidBlockHeight",
            "blockTime",
            "blockHeight",
            "parentSlot",
            "absoluteSlot",
            "slotIndex",
            "epoch",
        ),
        *(
            "transactionCount",
            "recentSlot",
            "bumpSeed",
            "unixTimestamp",
            "epochStartTimestamp",
            "leaderScheduleEpoch",
            "feature-set",
            "confirmations",
        ),
        # Counted by different versions of one runtime.
        *(
            "computeUnitsConsumed",
            "unitsConsumed",
            "costUnits",
            "loadedAccountsDataSize",
            "numSlots",
            "numTransactions",
        ),
    )
)
_UNEQUAL_TEXTS = frozenset(
    {"lastExtendedSlot", "blockhash", "previousBlockhash", "recentBlockhash", "identity", "surfnet-version"}
)


def questions(world: World) -> dict[str, Call]:
    """What is asked, by a name for each."""
    alice, mint, tokens = str(world.alice.pubkey()), str(world.mint), str(world.alice_tokens)
    bob, table = str(world.bob), str(world.lookup_table)
    both = CONFIRMED | {"maxSupportedTransactionVersion": 0}
    asked: dict[str, Call] = {
        "slot": ("getSlot", [CONFIRMED]),
        "health": ("getHealth", []),
        "version": ("getVersion", []),
        "epoch": ("getEpochInfo", [CONFIRMED]),
        "schedule": ("getEpochSchedule", []),
        "blockhash": ("getLatestBlockhash", [CONFIRMED]),
        "rent": ("getMinimumBalanceForRentExemption", [165]),
        "balance": ("getBalance", [bob, CONFIRMED]),
        "balance of nobody": ("getBalance", [NOBODY, CONFIRMED]),
        "no account": ("getAccountInfo", [NOBODY, CONFIRMED]),
        "wallet": ("getAccountInfo", [bob, CONFIRMED | {"encoding": "base64"}]),
        "wallet base58": ("getAccountInfo", [bob, CONFIRMED | {"encoding": "base58"}]),
        "token account": ("getAccountInfo", [tokens, CONFIRMED | {"encoding": "jsonParsed"}]),
        "token account base64": ("getAccountInfo", [tokens, CONFIRMED | {"encoding": "base64"}]),
        "token slice": (
            "getAccountInfo",
            [tokens, CONFIRMED | {"encoding": "base64", "dataSlice": {"offset": 32, "length": 32}}],
        ),
        "mint": ("getAccountInfo", [mint, CONFIRMED | {"encoding": "jsonParsed"}]),
        "table": ("getAccountInfo", [table, CONFIRMED | {"encoding": "jsonParsed"}]),
        "rent sysvar": ("getAccountInfo", [programs.RENT, CONFIRMED | {"encoding": "jsonParsed"}]),
        "clock sysvar": ("getAccountInfo", [programs.CLOCK, CONFIRMED | {"encoding": "jsonParsed"}]),
        "accounts": ("getMultipleAccounts", [[bob, tokens, mint], CONFIRMED | {"encoding": "base64"}]),
        "token balance": ("getTokenAccountBalance", [tokens, CONFIRMED]),
        "token supply": ("getTokenSupply", [mint, CONFIRMED]),
        "token largest": ("getTokenLargestAccounts", [mint, CONFIRMED]),
        "tokens of owner": ("getTokenAccountsByOwner", [alice, {"mint": mint}, CONFIRMED | {"encoding": "jsonParsed"}]),
        "tokens of delegate": (
            "getTokenAccountsByDelegate",
            [bob, {"mint": mint}, CONFIRMED | {"encoding": "jsonParsed"}],
        ),
        "program accounts": (
            "getProgramAccounts",
            [
                programs.TOKEN,
                CONFIRMED
                | {
                    "encoding": "base64",
                    "filters": [
                        {"dataSize": 165},
                        {"memcmp": {"offset": 0, "bytes": mint}},
                        {"memcmp": {"offset": 32, "bytes": bob}},
                    ],
                },
            ],
        ),
        "statuses": ("getSignatureStatuses", [[world.signatures["transfer"], world.signatures["failed"]]]),
        "signatures": ("getSignaturesForAddress", [str(world.bob_tokens), CONFIRMED]),
        "memo signatures": ("getSignaturesForAddress", [str(MEMO), CONFIRMED | {"limit": 1}]),
        "leaders": ("getSlotLeaders", [1, 1]),
        "samples": ("getRecentPerformanceSamples", [1]),
        "nonsense address": ("getBalance", ["nonsense0"]),
        "short address": ("getBalance", ["abc"]),
        "nonsense signature": ("getSignatureStatuses", [["abc"]]),
        "unknown method": ("getNothing", []),
        "nonsense transaction": ("sendTransaction", ["AAAA", {"encoding": "base64"}]),
        "far context": ("getBalance", [bob, CONFIRMED | {"minContextSlot": 10**12}]),
    }
    for encoding in ("json", "jsonParsed", "base64"):
        for step, signature in world.signatures.items():
            asked[f"{step} as {encoding}"] = ("getTransaction", [signature, both | {"encoding": encoding}])
    return asked


async def block_questions(rpc: SolanaRpc, world: World) -> dict[str, Call]:
    """About blocks: where they are differs, so that is asked first."""
    both = CONFIRMED | {"maxSupportedTransactionVersion": 0, "encoding": "json"}
    statuses = await rpc.call("getSignatureStatuses", [[world.signatures["tokens"], world.signatures["transfer"]]])
    slot, before = (status["slot"] for status in statuses["value"])
    asked: dict[str, Call] = {
        f"block with {details}": ("getBlock", [slot, both | {"transactionDetails": details}])
        for details in ("full", "accounts", "signatures", "none")
    }
    return asked | {
        "block parsed": ("getBlock", [slot, both | {"encoding": "jsonParsed"}]),
        "block without rewards": ("getBlock", [slot, both | {"rewards": False, "transactionDetails": "none"}]),
        "block for old clients": ("getBlock", [slot, CONFIRMED]),
        "block of the future": ("getBlock", [slot + 10**6, both]),
        "block at processed": ("getBlock", [slot, {"commitment": "processed"}]),
        "blocks backwards": ("getBlocks", [before, before - 1, CONFIRMED]),
        "blocks with limit": ("getBlocksWithLimit", [before, 0, CONFIRMED]),
        "block time": ("getBlockTime", [slot]),
    }


async def submission_questions(rpc: SolanaRpc, world: World) -> dict[str, Call]:
    """About transactions that would fail, and one that would not."""
    pay = transfer(TransferParams(from_pubkey=world.alice.pubkey(), to_pubkey=world.bob, lamports=1))
    overpay = transfer(TransferParams(from_pubkey=world.alice.pubkey(), to_pubkey=world.bob, lamports=10**17))
    good, bad = await signed(rpc, [pay], [world.alice]), await signed(rpc, [overpay], [world.alice])
    poor = await signed(rpc, [memo("poor")], [key("a pauper")])
    stale = VersionedTransaction(
        Message.new_with_blockhash([pay], world.alice.pubkey(), Hash(bytes(32))), [world.alice]
    )
    forged = VersionedTransaction.populate(good.message, [Signature(b"\1" * 64)])
    options = CONFIRMED | {"encoding": "base64"}
    send_options = {"encoding": "base64", "preflightCommitment": "confirmed"}
    message = base64.b64encode(to_bytes_versioned(good.message)).decode()
    asked: dict[str, Call] = {"fee": ("getFeeForMessage", [message, CONFIRMED])}
    for name, transaction in (("bad", bad), ("poor", poor), ("stale", stale), ("forged", forged)):
        asked[f"send {name}"] = ("sendTransaction", [encoded(transaction), send_options])
    for name, transaction in (("good", good), ("bad", bad), ("poor", poor), ("stale", stale)):
        asked[f"simulate {name}"] = ("simulateTransaction", [encoded(transaction), options])
    replaced = options | {"replaceRecentBlockhash": True}
    watched = options | {"accounts": {"encoding": "base64", "addresses": [str(world.bob)]}}
    return asked | {
        "simulate replaced": ("simulateTransaction", [encoded(stale), replaced]),
        "simulate watched": ("simulateTransaction", [encoded(good), watched]),
        "simulate both": ("simulateTransaction", [encoded(good), replaced | {"sigVerify": True}]),
        "send too large": ("sendTransaction", [base64.b64encode(bytes(1_300)).decode(), send_options]),
    }


async def answer_of(rpc: SolanaRpc, call: Call) -> Any:
    """The result, or the code of the error."""
    (answer,) = await rpc.batch([call])
    return {"error": answer.code, "data": answer.data} if isinstance(answer, RpcError) else answer


def normal(answer: Any, world: World, member: str = "") -> Any:
    """An answer without what must differ between two chains."""
    names = {signature: f"signature of {step}" for step, signature in world.signatures.items()}
    if isinstance(answer, Mapping):
        return {name: normal(value, world, name) for name, value in answer.items()}
    if isinstance(answer, (list, tuple)):
        if member == "transaction" and len(answer) == 2 and answer[1] == "base64":
            return ["transaction", "base64"]
        return [normal(value, world, member) for value in answer]
    if member in _UNEQUAL_NUMBERS and (isinstance(answer, int) or answer is None):
        return "number"
    if member in _UNEQUAL_TEXTS and isinstance(answer, str):
        return "text"
    if isinstance(answer, str):
        return names.get(answer, answer).replace(str(world.lookup_table), "lookup table")
    return answer


def differences(ours: Any, theirs: Any, path: str = "") -> Iterator[str]:
    """Where two answers are not the same, each place with both values."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for name in sorted(set(ours) | set(theirs)):
            if name not in theirs:
                yield f"{path}.{name}: only ours"
            elif name not in ours:
                yield f"{path}.{name}: only theirs"
            else:
                yield from differences(ours[name], theirs[name], f"{path}.{name}")
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif ours != theirs:
        yield f"{path}: ours {_short(ours)}, theirs {_short(theirs)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 120 else text[:117] + "..."
