"""The reader and the node that it asks: lags, gaps, lies, silence, and history that is gone."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from solders.keypair import Keypair

from nodes.model.errors import Unavailable
from nodes.model.solana import SolanaTiming
from nodes.rules import inbox as inbox_forms
from nodes.rules.hashes import sha256
from nodes.solana.deploy import deploy_inbox
from nodes.solana.reader import QUIET_S
from nodes.solana.session import OWN_HISTORY_BLOCKS
from tests.support.patience import PATIENCE_S
from tests.support.solana_reader_nodes import ChangedRpc, advance, post, refusal, straight_hashes
from tests.support.solana_reading import (
    ROLLUPS,
    Heard,
    World,
    bundle_of,
    hash_of,
    read_all,
)


async def test_a_node_that_lags_moves_nothing_back(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    reader = world.reader(heard)
    await advance(world, heard, reader, 40)
    told = heard.head
    world.chain.lag(15, 8)
    await advance(world, heard, reader, 7)
    assert heard.head == told
    await advance(world, heard, reader, 20)
    assert heard.stalls == []
    assert heard.head.height == told.height + 27
    assert heard.hashes == await straight_hashes(world)
    world.close()


async def test_a_node_without_a_block_that_it_lists_is_waited_for(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)
    await advance(world, heard, reader, 5)
    for answer in (refusal(-32004), refusal(-32007), refusal(-32009), None):
        told = heard.head.height
        rpc.change = lambda method, params, given, answer=answer: answer if method == "getBlock" else given
        await advance(world, heard, reader, 3)
        assert heard.head.height == told
        rpc.change = None
        await advance(world, heard, reader, 1)
        assert heard.head.height == told + 4
    assert heard.stalls == []
    rpc.change = lambda method, params, given: refusal(-32004) if method == "getBlock" else given
    for _ in range(int(QUIET_S / 0.4) + 1):
        await advance(world, heard, reader, 1)
    assert "lists a block" in heard.stalls[-1]
    rpc.change = lambda method, params, given: refusal(-32015, "Transaction version (1) is not supported")
    await reader.step()
    assert "Transaction version (1)" in heard.stalls[-1]
    rpc.change = None
    await advance(world, heard, reader, 1)
    assert heard.stalls[-1] == ""
    world.close()


async def test_a_block_that_is_left_out_of_the_list_is_a_gap_and_no_fork(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)
    await advance(world, heard, reader, 5)
    told = heard.head
    gone = reader.last.slot + 1
    rpc.change = lambda method, params, given: (
        [slot for slot in given if slot != gone] if method == "getBlocksWithLimit" else given
    )
    await advance(world, heard, reader, 30)
    assert heard.head == told
    assert heard.roll_backs == []
    assert "left out a block" in heard.stalls[-1]
    rpc.change = None
    await advance(world, heard, reader, 1)
    assert heard.hashes == await straight_hashes(world)
    world.close()


async def test_a_block_that_contradicts_what_the_same_node_said_is_no_fork(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)
    await advance(world, heard, reader, 40)
    told = heard.head

    def lie(method: str, params: Sequence[Any], given: Any) -> Any:
        if method == "getBlock" and params[1]["transactionDetails"] == "full":
            return {**given, "previousBlockhash": given["blockhash"]}
        return given

    rpc.change = lie
    await advance(world, heard, reader, 30)
    assert (heard.head, heard.roll_backs) == (told, [])
    assert "contradicts itself" in heard.stalls[-1]
    rpc.change = None
    await advance(world, heard, reader, 1)
    assert heard.stalls[-1] == ""
    world.close()


async def test_a_posting_that_a_node_hides_ends_it_with_evidence(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    heard.submitter = world.submitter()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)
    await advance(world, heard, reader, 35)
    final = heard.final_height

    def hide(method: str, params: Sequence[Any], given: Any) -> Any:
        if method == "getBlock" and isinstance(given, dict) and given.get("transactions"):
            return {**given, "transactions": given["transactions"][1:]}
        return given

    rpc.change = hide
    await post(world, heard, [bundle_of(1)])
    await advance(world, heard, reader, 4)
    rpc.change = None
    assert heard.order == []
    hidden = heard.head.height
    await advance(world, heard, reader, 60)
    assert "contradicts what was read" in heard.stalls[-1]
    assert "sequence 1" in heard.stalls[-1]
    assert "sequence 0" in heard.stalls[-1]
    assert final < heard.final_height < hidden, "what was right became final, nothing of what was wrong"
    assert heard.order == []
    assert not await reader.step()
    world.close()


async def test_a_final_block_that_changes_ends_it_with_evidence(tmp_path: Path) -> None:
    timing = SolanaTiming(confirm_slots=2, finalize_slots=2)
    world = await World.open(tmp_path, timing=timing)
    heard = Heard()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)
    await advance(world, heard, reader, 5)
    told = heard.head

    def rewrite(method: str, params: Sequence[Any], given: Any) -> Any:
        if method == "getBlock" and isinstance(given, dict):
            return {**given, "blockhash": "1" * 31 + "2", "previousBlockhash": "1" * 31 + "3"}
        return given

    rpc.change = rewrite
    await advance(world, heard, reader, 3)
    assert heard.head == told
    assert "contradicts a block that was final" in heard.stalls[-1]
    world.close()


async def test_a_node_that_does_not_answer_is_said_and_waited_for(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    rpc = ChangedRpc(world.rpc)
    reader = world.reader(heard, rpc=rpc)

    def away(method: str, params: Sequence[Any], given: Any) -> Any:
        raise Unavailable("the Solana node is away")

    await advance(world, heard, reader, 3)
    rpc.change = away
    await advance(world, heard, reader, 20)
    assert heard.stalls == ["the Solana node is away"], "said once"
    rpc.change = lambda method, params, given: {"nonsense": 1} if method == "getBlock" else given
    await advance(world, heard, reader, 1)
    assert "makes no sense" in heard.stalls[-1]
    rpc.change = None
    await advance(world, heard, reader, 1)
    assert heard.stalls[-1] == ""
    assert heard.hashes == await straight_hashes(world)
    world.close()


async def test_it_runs_on_wake_ups_until_it_is_stopped(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    reader = world.reader(heard)
    reader._poll_s = 60.0  # only a wake-up can bring it on
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(reader.run())
        for _ in range(5):
            told = len(heard.heights)
            await world.tick()
            while len(heard.heights) == told:
                await heard.wait_told()
        reader.stop()
        await running
    assert len(heard.heights) >= 5
    world.close()


async def test_what_is_posted_before_the_last_rollup_stands_counts(tmp_path: Path) -> None:
    """Anybody may post to an account as soon as it is there; the hash on chain then has it."""
    world = await World.open(tmp_path, rollups=ROLLUPS[:2])
    rollups = ROLLUPS[:2]
    slots = {rollup_id: slot for slot, rollup_id in enumerate(rollups)}
    world.post(inbox_forms.post([inbox_forms.encode_entry(bundle_of(1), slots)]), rollups)

    async def tick() -> None:
        world.rpc.tick()

    world.rpc.tick(3)
    whole = await deploy_inbox(
        world.rpc,
        world.payers[0],
        ROLLUPS,
        program_keypair=Keypair.from_seed(sha256(b"program")),
        tick=tick,
        progress=lambda _: None,
    )
    assert set(whole.accounts) > set(world.inbox.accounts)
    assert whole.origin_slot == world.inbox.origin_slot
    world.inbox = whole
    heard = Heard()
    reader = world.reader(heard)
    await advance(world, heard, reader, 45)
    assert reader.stall == ""
    assert heard.order == [hash_of(bundle_of(1))]
    assert heard.final_slot == world.chain.slot("finalized")
    world.close()


async def test_a_node_that_does_not_have_the_last_account_yet_contradicts_nothing(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()

    def without_last(method: str, params: Sequence[Any], given: Any) -> Any:
        if method == "getMultipleAccounts" and isinstance(given, dict):
            return {**given, "value": [*given["value"][:-1], None]}
        return given

    reader = world.reader(heard, rpc=ChangedRpc(world.rpc, without_last))
    await advance(world, heard, reader, 45)
    assert reader.stall == ""
    assert heard.final_slot == world.chain.slot("finalized")
    world.close()


async def test_a_reader_that_was_away_for_too_long_names_the_first_block_that_there_is(tmp_path: Path) -> None:
    world = await World.open(tmp_path, history_blocks=16)
    heard = Heard()
    reader = world.reader(heard)
    await advance(world, heard, reader, 5)
    world.rpc.tick(400)  # what is younger than a blockhash may be is always kept
    await read_all(reader)
    first = world.rpc.ask("getFirstAvailableBlock")
    assert first > reader.last.slot + 1
    assert f"no blocks before slot {first} any more (its first available block)" in reader.stall
    world.close()


async def test_a_reader_that_was_away_reads_on_from_a_longer_history(tmp_path: Path) -> None:
    world = await World.open(tmp_path, history_blocks=OWN_HISTORY_BLOCKS)
    heard = Heard()
    reader = world.reader(heard)
    await advance(world, heard, reader, 5)
    world.rpc.tick(400)
    await read_all(reader)
    assert (reader.stall, reader.last.slot) == ("", world.chain.slot("confirmed"))
    world.close()
