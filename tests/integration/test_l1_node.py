"""The L1 node on a real anvil: slots, levels, reorgs, and what a restart keeps."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import aclosing
from itertools import pairwise
from pathlib import Path

import pytest

from nodes.ethereum.account import Fees
from nodes.ethereum.client import L1Client
from nodes.ethereum.l1_node import BASE_FEE_WEI
from nodes.model.errors import EngineFailure, InvalidInput, RpcError, Unavailable
from nodes.model.faults import KillEngine, PauseL1, ReorgL1
from nodes.model.ids import Address, hex_of
from tests.support.l1 import FEES, RunningL1, account, l1_config, running_l1
from tests.support.patience import PATIENCE_S

SOMEBODY = Address(b"\x51" * 20)


async def test_every_slot_has_one_block_and_whole_seconds_rise(tmp_path: Path) -> None:
    async with running_l1(l1_config(slot_time_ms=30), tmp_path) as l1:
        began = time.monotonic()
        async with aclosing(l1.client.new_heads()) as heads:
            blocks = [await anext(heads)]
            while len(blocks) < 6:
                block = await anext(heads)
                if block.number > blocks[-1].number:  # others were announced while the first one was asked for
                    blocks.append(block)
        took_s = time.monotonic() - began
    assert [block.number - blocks[0].number for block in blocks] == list(range(6))
    # The first is there already, and so is the second soon; after one that was late the next may come at once.
    assert took_s >= 3 * 0.03
    assert all(later.timestamp_s > earlier.timestamp_s for earlier, later in pairwise(blocks))
    assert all(later.parent_hash == earlier.hash for earlier, later in pairwise(blocks))


async def test_levels_and_constant_base_fee(tmp_path: Path) -> None:
    async with running_l1(l1_config(finality_slots=3), tmp_path) as l1:
        await l1.node.mine(10)
        assert [(await l1.client.head(level)).number for level in ("latest", "safe", "finalized")] == [10, 7, 4]
        assert {(await l1.client.block(number)).base_fee_wei for number in (1, 5, 10)} == {BASE_FEE_WEI}  # type: ignore[union-attr]
        assert await l1.client.block(11) is None


async def test_a_restart_builds_the_same_blocks_again(tmp_path: Path) -> None:
    config = l1_config()
    async with running_l1(config, tmp_path) as l1:
        for _ in range(3):
            await _transfer(l1, 1)
            await _transfer(l1, 2)
            await l1.node.mine()
        await l1.node.inject(ReorgL1(depth=2, keep_transactions=True))
        await _transfer(l1, 1)
        await l1.node.mine(2)
        before = [await l1.client.block(number) for number in range(1, 7)]
        assert None not in before
    async with running_l1(config, tmp_path) as l1:
        assert [await l1.client.block(number) for number in range(1, 7)] == before
        assert await l1.client.balance_wei(SOMEBODY) == 7
        await l1.node.mine()


async def _transfer(l1: RunningL1, number: int) -> bytes:
    sender = account(number)
    nonce = await l1.client.nonce(sender.address, "pending")
    signed = sender.sign_call(to=SOMEBODY, calldata=b"", nonce=nonce, gas_limit=21_000, fees=FEES, value_wei=1)
    return await l1.client.send_raw(signed.raw)


async def test_a_kill_before_the_entry_in_the_journal_loses_one_block(tmp_path: Path) -> None:
    config = l1_config()

    def crash(place: str) -> None:
        assert place == "l1.before_journal"
        raise Killed

    async with running_l1(config, tmp_path) as l1:
        await _transfer(l1, 1)
        await l1.node.mine()
        l1.node._crash = crash
        await _transfer(l1, 1)
        with pytest.raises(Killed):
            await l1.node.mine()
        assert (await l1.client.head()).number == 2
        kept = await l1.client.block(1)
    async with running_l1(config, tmp_path) as l1:
        assert await l1.client.head() == kept
        assert await l1.client.nonce(account(1).address) == 1


class Killed(BaseException):
    """Stands for SIGKILL."""


async def test_state_set_past_transactions_is_refused_at_the_next_start(tmp_path: Path) -> None:
    config = l1_config()
    async with running_l1(config, tmp_path) as l1:
        await l1.client.request("anvil_setBalance", hex_of(SOMEBODY), hex(5))
        await l1.node.mine()
    with pytest.raises(ExceptionGroup) as broken:
        async with running_l1(config, tmp_path):
            pass
    assert any("Delete the file to begin again" in str(leaf) for leaf in _leaves(broken.value))


async def test_blocks_that_a_tool_mined_are_kept(tmp_path: Path) -> None:
    config = l1_config()
    async with running_l1(config, tmp_path) as l1:
        await _transfer(l1, 1)
        await l1.client.request("anvil_mine", "0x3")
        await l1.node.mine()
        head = await l1.client.head()
        assert head.number == 4
    async with running_l1(config, tmp_path) as l1:
        assert await l1.client.head() == head


@pytest.mark.parametrize("keep_transactions", [True, False])
async def test_a_reorg_replaces_blocks(tmp_path: Path, *, keep_transactions: bool) -> None:
    async with running_l1(l1_config(finality_slots=2), tmp_path) as l1:
        await l1.node.mine(4)
        tx_hash = await _transfer(l1, 1)
        await l1.node.mine(2)
        old = await l1.client.block(5)
        async with aclosing(l1.client.new_heads()) as heads:
            assert (await anext(heads)).number == 6
            await l1.node.inject(ReorgL1(depth=2, keep_transactions=keep_transactions))
            seen = [await anext(heads) for _ in range(3)]
        assert [block.number for block in seen] == [5, 6, 7]
        assert old is not None
        assert seen[0].parent_hash == old.parent_hash
        assert seen[0].hash != old.hash
        receipt = await l1.client.receipt(tx_hash)
        assert (receipt is not None) == keep_transactions
        with pytest.raises(InvalidInput, match="is finalized"):
            await l1.node.inject(ReorgL1(depth=5, keep_transactions=True))
        with pytest.raises(InvalidInput, match="cannot have the fault KillEngine"):
            await l1.node.inject(KillEngine())


async def test_a_pause_leaves_slots_out(tmp_path: Path) -> None:
    async with running_l1(l1_config(slot_time_ms=20), tmp_path) as l1:
        before = time.monotonic()
        await l1.node.inject(PauseL1(slots=10))
        async with l1.node._changing:  # a block that is being mined still comes
            last = await l1.client.head()
        async with aclosing(l1.client.new_heads()) as heads:
            async for head in heads:
                if head.number > last.number:
                    break
        assert time.monotonic() - before >= 9 * 0.02


async def test_a_pool_takes_replacements_and_known_transactions(tmp_path: Path) -> None:
    async with running_l1(l1_config(), tmp_path) as l1:
        sender = account(1)
        fees: list[Fees] = [FEES, FEES.raised()]
        cheap, dear = [
            sender.sign_call(to=SOMEBODY, calldata=b"", nonce=0, gas_limit=21_000, fees=fee, value_wei=1)
            for fee in fees
        ]
        await l1.client.send_raw(cheap.raw)
        await l1.client.send_raw(cheap.raw)
        await l1.client.send_raw(dear.raw)
        await l1.node.mine()
        assert await l1.client.receipt(cheap.hash) is None
        receipt = await l1.client.receipt(dear.hash)
        assert receipt is not None
        assert receipt.gas_used == 21_000
        assert receipt.gas_price_wei == BASE_FEE_WEI + fees[1].priority_fee_wei
        with pytest.raises(RpcError, match="nonce too low"):
            await l1.client.send_raw(cheap.raw)


async def test_the_stream_of_heads_outlives_a_restart(tmp_path: Path) -> None:
    config = l1_config()
    async with L1Client(f"http://127.0.0.1:{config.rpc_port}") as outside:
        with pytest.raises(Unavailable, match="is the L1 running"):
            await outside.head()
        async with aclosing(outside.new_heads()) as heads:
            for expected in (0, 1):
                async with running_l1(config, tmp_path) as l1:
                    async with asyncio.timeout(PATIENCE_S):
                        assert (await anext(heads)).number == expected
                        await l1.node.mine()
                        assert (await anext(heads)).number == expected + 1


async def test_an_anvil_that_is_killed_ends_the_node(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as broken:
        await _run_and_kill_anvil(tmp_path)
    leaves = list(_leaves(broken.value))
    assert any(isinstance(leaf, EngineFailure) for leaf in leaves)


async def _run_and_kill_anvil(directory: Path) -> None:
    async with running_l1(l1_config(slot_time_ms=20), directory) as l1:
        os.kill(l1.node.engine_pid, signal.SIGKILL)
        await asyncio.Event().wait()


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
