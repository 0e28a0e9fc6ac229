"""The engine on a real anvil: what it builds, what it skips and why, and that equal lists make equal blocks."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nodes.evm import dump, ipc
from nodes.evm import engine as engine_module
from nodes.evm.engine import AnvilEngine
from nodes.model.errors import AnswerTooLong, EngineFailure, InvalidInput, Pruned, RpcError
from nodes.model.execution import SkipReason, Status, Transaction
from nodes.model.ids import hex_of
from nodes.rules.payload import address_of
from tests.support import engine_chain as chain
from tests.support.engine_chain import engine_at, signed, words

Pair = tuple[bytes, Transaction]
NOW_S = chain.GENESIS_TIME_S + 5


def at(byte: int) -> bytes:
    return bytes(19) + bytes([byte])


def methods_of(engine: AnvilEngine, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine is asked from now on, to build."""
    asked = []
    send = engine._build.send

    def noted(method: str, params: bytes, **options: Any) -> asyncio.Future[Any]:
        asked.append(method)
        return send(method, params, **options)

    monkeypatch.setattr(engine._build, "send", noted)
    return asked


@pytest.mark.parametrize("by", ["calls", "receipts"])
async def test_status_is_the_receipts_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    if by == "receipts":
        # What senders called is more than the engine's client takes.
        monkeypatch.setattr(engine_module, "MAX_READ_BYTES", 4_000)
        monkeypatch.setattr(ipc, "_SURELY_TAKEN_BYTES", 1_000)
    cases: list[tuple[str, dict[str, Any], Status]] = [
        ("transfer", {}, Status.SUCCEEDED),
        ("revert", {"to": chain.REVERTER}, Status.REVERTED),
        ("inner call reverts", {"to": chain.CALLER}, Status.SUCCEEDED),
        ("precompile fails", {"to": at(8), "calldata": b"\x01"}, Status.REVERTED),
        ("precompile works", {"to": at(4), "calldata": b"\x01", "value": 0}, Status.SUCCEEDED),
        ("out of gas", {"to": chain.STORER, "calldata": words(1, 1), "gas_limit": 30_000}, Status.REVERTED),
        ("creation", {"to": b"", "calldata": chain.creation(b"\x00"), "value": 0}, Status.SUCCEEDED),
        ("creation without code", {"to": b"", "value": 0}, Status.SUCCEEDED),
        ("creation reverts", {"to": b"", "calldata": bytes.fromhex("60006000fd")}, Status.REVERTED),
        ("creation of refused code", {"to": b"", "calldata": chain.creation(b"\xef\x00")}, Status.REVERTED),
        ("creation of too much code", {"to": b"", "calldata": bytes.fromhex("6160016000f3"), "gas_limit": 9_000_000},
         Status.REVERTED),
    ]  # fmt: skip
    pairs = [signed(0, nonce, **fields) for nonce, (_, fields, _) in enumerate(cases)]
    async with engine_at(tmp_path) as engine:
        asked = methods_of(engine, monkeypatch)
        block = await engine.build_block(pairs, timestamp_s=NOW_S)
        assert ("eth_getTransactionReceipt" in asked) == (by == "receipts")
        receipts = await engine._build.request("eth_getBlockReceipts", [hex(block.number)])
    found = {name: outcome.status for (name, _, _), outcome in zip(cases, block.outcomes, strict=True)}
    assert found == {name: status for name, _, status in cases}
    assert [int(receipt["status"], 16) for receipt in receipts] == [outcome.status for outcome in block.outcomes]
    assert [receipt["transactionHash"] for receipt in receipts] == [hex_of(tx.tx_hash) for _, tx in pairs]
    assert receipts[-1]["cumulativeGasUsed"] == hex(block.gas_used)
    assert block.logs_bloom == bytes(256)


async def test_data_passed_between_calls_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction of 400,000 gas makes 2,000 calls with 30 kB each; anvil keeps them all, for some blocks."""
    poison = signed(1, 0, to=b"", value=0, calldata=chain.POISON, gas_limit=400_000)
    async with engine_at(tmp_path, transaction_blocks=2) as engine:
        received = 0
        answer = engine._build._answer

        def counted(line: bytearray) -> None:
            nonlocal received
            received += len(line)
            answer(line)

        monkeypatch.setattr(engine._build, "_answer", counted)
        block = await engine.build_block([signed(0, 0), poison, signed(2, 0)], timestamp_s=NOW_S)
        assert [outcome.status for outcome in block.outcomes] == [Status.SUCCEEDED, Status.REVERTED, Status.SUCCEEDED]
        assert received < 10_000
        # A user who asks for the trace is refused, and nobody else notices.
        with pytest.raises(AnswerTooLong, match="debug_traceTransaction: the answer has more than"):
            await engine.request("debug_traceTransaction", [hex_of(poison[1].tx_hash), {"tracer": "callTracer"}])
        assert int(await engine.request("eth_blockNumber", []), 16) == 1
        # So is a checkpoint, until the engine has forgotten the calls.
        monkeypatch.setattr(dump, "MAX_DOCUMENT_BYTES", 30_000_000)
        with pytest.raises(AnswerTooLong):
            await engine.dump()
        for nonce in range(1, 5):
            await engine.build_block([signed(0, nonce)], timestamp_s=NOW_S)
        assert len(await engine.dump()) < 100_000


async def test_every_skip_has_its_reason_and_the_rest_executes(tmp_path: Path) -> None:
    twice = signed(3, 0)
    late = signed(4, 1)
    cases: list[tuple[Pair, SkipReason | None]] = [
        (signed(0, 0), None),
        (signed(0, 0, value=2), SkipReason.NONCE_TOO_LOW),
        (signed(0, 2), SkipReason.NONCE_TOO_HIGH),
        (signed(0, 1), None),
        (signed(0, 2**64 - 2), SkipReason.NONCE_TOO_HIGH),
        (signed(1, 0, value=10**24 + 1), SkipReason.INSUFFICIENT_BALANCE),
        (signed(1, 0, max_fee_per_gas=10**20), SkipReason.INSUFFICIENT_BALANCE),
        (signed(1, 0, max_fee_per_gas=2**128 - 1, value=2**256 - 1), SkipReason.INSUFFICIENT_BALANCE),
        (signed(chain.POOR, 0), SkipReason.INSUFFICIENT_BALANCE),
        (signed(chain.POOR, 0, value=0), None),
        (signed(1, 0, gas_limit=20_999), SkipReason.INTRINSIC_GAS),
        (signed(1, 0, gas_limit=21_039, calldata=b"\x01"), SkipReason.INTRINSIC_GAS),
        (signed(1, 0, gas_limit=21_040, calldata=b"\x01"), None),
        (signed(1, 1, to=b"", value=0, calldata=b"\x00" * 49_153, gas_limit=5_000_000), SkipReason.INIT_CODE_TOO_LARGE),
        (signed(1, 1, to=b"", value=0, calldata=b"\x00" * 49_152, gas_limit=5_000_000), None),
        (signed(chain.CODE_KEY, 1), SkipReason.NONCE_TOO_HIGH),
        (signed(chain.CODE_KEY, 0), None),
        (signed(2, 0, max_priority_fee_per_gas=1), SkipReason.FEE_ORDER),
        (twice, None),
        (twice, SkipReason.NONCE_TOO_LOW),
        (late, SkipReason.NONCE_TOO_HIGH),
        (signed(4, 0), None),
        (late, None),
        (signed(5, 0, value=10**24), None),
        (signed(5, 1), SkipReason.INSUFFICIENT_BALANCE),
        (signed(6, 0, to=chain.ADDRESSES[5], value=10), None),
        (signed(5, 1), None),
    ]
    pairs = [pair for pair, _ in cases]
    async with engine_at(tmp_path) as engine:
        block = await engine.build_block(pairs, timestamp_s=NOW_S)
    assert [outcome.reason for outcome in block.outcomes] == [reason for _, reason in cases]
    assert [outcome.tx_hash for outcome in block.outcomes] == [tx.tx_hash for _, tx in pairs]
    for outcome in block.outcomes:
        assert (outcome.status is Status.SKIPPED) == (outcome.reason is not None)


@pytest.mark.parametrize("tx_type", [1, 2])
async def test_intrinsic_gas_with_an_access_list(tmp_path: Path, tx_type: int) -> None:
    access = ((chain.STORER, (bytes(32), b"\x01" * 32)), (chain.STORER, ()), (bytes(20), ()))
    exact = 21_000 + 3 * 2_400 + 2 * 1_900
    fields: dict[str, Any] = {"tx_type": tx_type, "access_list": access}
    pairs = [signed(0, 0, gas_limit=exact - 1, **fields), signed(0, 0, gas_limit=exact, **fields)]
    async with engine_at(tmp_path) as engine:
        block = await engine.build_block(pairs, timestamp_s=NOW_S)
    assert [outcome.reason for outcome in block.outcomes] == [SkipReason.INTRINSIC_GAS, None]


async def test_a_list_skipped_whole_makes_an_empty_block(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        block = await engine.build_block([signed(0, 1), signed(0, 2)], timestamp_s=NOW_S)
        assert (block.number, block.gas_used) == (1, 0)
        assert {outcome.reason for outcome in block.outcomes} == {SkipReason.NONCE_TOO_HIGH}
        assert (await engine.build_block([signed(0, 0)], timestamp_s=NOW_S)).parent_hash == block.hash


async def test_times_are_exact_and_never_fall(tmp_path: Path) -> None:
    asked = [0, 0, 7, 7, 3, 8, 1_000, 1_000]
    async with engine_at(tmp_path) as engine:
        blocks = [
            await engine.build_block([signed(0, nonce)], timestamp_s=chain.GENESIS_TIME_S + s)
            for nonce, s in enumerate(asked)
        ]
    assert [block.timestamp_s - chain.GENESIS_TIME_S for block in blocks] == [0, 0, 7, 7, 7, 8, 1_000, 1_000]
    assert [block.number for block in blocks] == list(range(1, len(asked) + 1))


def history(count: int) -> list[list[Pair]]:
    """Lists whose results depend on earlier block hashes, on storage, and on a genesis slot that was cleared."""
    lists = []
    for nonce in range(count):
        lists.append(
            [
                signed(0, nonce, to=chain.HASH_STORER, value=0),
                signed(1, nonce, to=chain.STORER, value=0, calldata=words(nonce % 9, nonce % 3 * nonce)),
                signed(2, nonce, to=b"", value=0, calldata=chain.creation(bytes([nonce]))),
                *(signed(key, nonce) for key in range(3, 12)),
            ]
        )
    return lists


async def build(engine: AnvilEngine, lists: list[list[Pair]], first: int = 0) -> list[bytes]:
    return [
        (await engine.build_block(pairs, timestamp_s=chain.GENESIS_TIME_S + (first + at_) // 3)).hash
        for at_, pairs in enumerate(lists)
    ]


async def test_equal_lists_make_equal_blocks_whatever_happened_between(tmp_path: Path) -> None:
    lists = history(20)
    async with engine_at(tmp_path / "straight") as straight:
        wanted = await build(straight, lists)
        assert len(set(wanted)) == len(wanted)
    async with engine_at(tmp_path / "rewound") as rewound:
        await build(rewound, lists[:6])
        await build(rewound, [[signed(20, 0)], [signed(21, 0)]], 90)
        await rewound.rewind(2)
        assert await rewound.head() == (2, wanted[1])
        assert await build(rewound, lists[2:12], 2) == wanted[2:12]
        state = await rewound.dump()
    async with engine_at(tmp_path / "restarted", state=state) as restarted:
        assert await restarted.head() == (12, wanted[11])
        assert await build(restarted, lists[12:16], 12) == wanted[12:16]
        again = await restarted.dump()
    async with engine_at(tmp_path / "again", state=again) as engine:
        assert await build(engine, lists[16:], 16) == wanted[16:]


async def test_a_started_state_cannot_be_rewound_below_its_head(tmp_path: Path) -> None:
    lists = history(6)
    async with engine_at(tmp_path / "a") as engine:
        wanted = await build(engine, lists)
        await engine.rewind(3)
        state = await engine.dump()
    async with engine_at(tmp_path / "b", state=state) as engine:
        assert await build(engine, lists[3:], 3) == wanted[3:]
        await engine.rewind(3)
        with pytest.raises(Pruned, match="load a checkpoint"):
            await engine.rewind(2)
        assert await build(engine, lists[3:], 3) == wanted[3:]


async def test_rewinding_reaches_as_far_as_the_window(tmp_path: Path) -> None:
    async with engine_at(tmp_path, rewind_window=4) as engine:
        hashes = await build(engine, [[signed(0, nonce)] for nonce in range(12)])
        with pytest.raises(Pruned):
            await engine.rewind(7)
        assert await engine.head() == (12, hashes[11])
        await engine.rewind(8)
        assert await engine.head() == (8, hashes[7])
        await engine.rewind(8)
        with pytest.raises(EngineFailure, match="ends at 8"):
            await engine.rewind(9)
        assert await build(engine, [[signed(0, 8)]], 8) == hashes[8:9]


async def test_a_refused_list_leaves_a_head_that_can_be_restored(tmp_path: Path) -> None:
    lists = history(3)
    async with engine_at(tmp_path / "a") as engine:
        wanted = await build(engine, lists)
    async with engine_at(tmp_path / "b") as engine:
        assert await build(engine, lists[:1]) == wanted[:1]
        # Derivation never admits such bytes; the engine must not believe in them all the same.
        false = (b"\x02\xc0", signed(0, 1)[1])
        with pytest.raises(EngineFailure, match="refused a part of block 2"):
            await engine.build_block([false, signed(5, 1)], timestamp_s=NOW_S)
        with pytest.raises(EngineFailure, match="rewind to a known block first"):
            await engine.build_block(lists[1], timestamp_s=NOW_S)
        await engine.rewind(1)
        assert await build(engine, lists[1:], 1) == wanted[1:]


async def test_a_block_other_than_asked_is_a_failure(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        # The pair does not belong together: what is built carries another hash than what was asked.
        with pytest.raises(EngineFailure, match="not next in its list"):
            await engine.build_block([(signed(0, 0)[0], signed(0, 0, value=2)[1])], timestamp_s=NOW_S)


async def test_reads_beside_builds_see_whole_blocks_only(tmp_path: Path) -> None:
    """anvil itself answers one read in sixteen with the state of the block that is being built."""
    per_block, blocks = 20, 25
    lists = [[signed(key, nonce) for key in range(per_block)] for nonce in range(blocks)]
    announced = 0
    wrong = []
    answered = asyncio.Event()
    async with engine_at(tmp_path, rewind_window=32) as engine:

        async def read() -> None:
            while announced < blocks:
                number = announced
                balance = await engine.request("eth_getBalance", [hex_of(chain.RECIPIENT), hex(number)])
                answered.set()
                if int(balance, 16) != number * per_block:
                    wrong.append((number, balance))

        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(read())
            for pairs in lists:
                answered.clear()
                announced = (await engine.build_block(pairs, timestamp_s=NOW_S)).number
                await answered.wait()  # at least one was under way beside each block
    assert not wrong


async def test_requests_that_change_or_kill_are_refused_and_errors_carry_their_code(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        for method in ("evm_mine", "anvil_setBalance", "hardhat_reset", "eth_sendRawTransaction", "eth_sign",
                       "debug_getRawTransaction"):  # fmt: skip
            with pytest.raises(InvalidInput, match=method):
                await engine.request(method, [])
        with pytest.raises(RpcError) as unknown:
            await engine.request("eth_nothing", [])
        assert unknown.value.code == -32602
        with pytest.raises(RpcError) as reverted:
            await engine.request("eth_call", [{"to": hex_of(chain.REVERTER)}, "0x0"])
        assert reverted.value.code == 3


async def test_the_pool_and_the_genesis_are_as_agreed(tmp_path: Path) -> None:
    async with engine_at(tmp_path) as engine:
        assert await engine.request("eth_chainId", []) == hex(chain.CHAIN)
        assert await engine.request("eth_accounts", []) == []
        balance = await engine.request("eth_getBalance", [hex_of(chain.ADDRESSES[0]), "0x0"])
        assert int(balance, 16) == 10**24
        code = await engine.request("eth_getCode", [hex_of(address_of(chain.CODE_KEY)), "0x0"])
        assert code == "0x00"
    assert json.loads((tmp_path / "genesis.json").read_text())["config"]["chainId"] == chain.CHAIN
