"""The reader on a real chain in this process: restarts, forks, lags, lies, and nodes that do not answer."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidBlock, InvalidInput, RpcError, Unavailable
from nodes.model.solana import SolanaTiming
from nodes.rules.payload import address_of
from nodes.rules.solana_proof import decode_proof, is_proven_by
from nodes.solana.reader import QUIET_S, Reader
from nodes.solana.reader_chain import SNAPSHOT_BLOCKS
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_chain import InProcessRpc
from tests.support.solana_reading import (
    READER_KEY,
    ROLLUPS,
    Heard,
    World,
    bundle_of,
    hash_of,
    read_all,
)

Change = Callable[[str, Sequence[Any], Any], Any]


class ChangedRpc:
    """A node whose answers a test changes: (method, params, answer) to the answer that is given."""

    def __init__(self, rpc: InProcessRpc, change: Change | None = None) -> None:
        self._rpc = rpc
        self.change = change

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        answers = await self._rpc.batch(requests)
        if self.change is None:
            return answers
        return [self.change(method, params, answer) for (method, params), answer in zip(requests, answers)]

    def slots(self) -> AsyncIterator[int]:
        return self._rpc.slots()


async def post(world: World, heard: Heard, bundles: Sequence[Bundle]) -> None:
    """Hand bundles to the submitter, and let it send them."""
    assert heard.submitter is not None
    heard.submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle)) for bundle in bundles])
    await heard.submitter.step()


async def advance(world: World, heard: Heard, reader: Reader, slots: int) -> None:
    for _ in range(slots):
        if heard.submitter is not None:
            await heard.submitter.step()
        await world.tick()
        await read_all(reader)


async def straight_hashes(world: World) -> list[bytes]:
    """What a reader gives that nothing happened to."""
    heard = Heard()
    await read_all(world.reader(heard, store=world.store("straight")))
    return heard.hashes


def refusal(code: int, message: str = "no") -> RpcError:
    return RpcError(method="getBlock", code=code, message=message)


async def test_heights_carry_proofs_and_become_final(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    reader = world.reader(heard)
    heard.submitter = world.submitter()
    bundles = [bundle_of(number) for number in range(20)]
    await post(world, heard, bundles)
    await advance(world, heard, reader, 45)
    assert heard.order == [hash_of(bundle) for bundle in bundles]
    signer = address_of(READER_KEY)
    for height in heard.heights:
        proof = height.block.finality_proof
        assert is_proven_by(signer, header_hash=height.block.header_hash, proof=proof)
        parts = decode_proof(proof)
        assert parts is not None
        frozen = world.chain.block(parts.slot)
        assert frozen is not None
        assert bytes(frozen.blockhash) == parts.blockhash
    assert heard.final_slot == world.chain.slot("finalized")
    assert 0 < heard.final_height < heard.head.height
    assert (reader.head, reader.firm_height) == (heard.head, heard.final_height)
    assert reader.knows(hash_of(bundles[0]))
    assert not reader.knows(hash_of(bundle_of(99)))
    assert reader.stage_cpu_ns["read"] > 0
    assert heard.submitter.pending_bundles == 0
    world.close()


async def test_a_large_bundle_comes_in_chunks(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    reader = world.reader(heard)
    heard.submitter = world.submitter()
    large = bundle_of(1, rollups=ROLLUPS, payload_bytes=9_000)
    await post(world, heard, [large, bundle_of(2)])
    await advance(world, heard, reader, 15)
    assert sorted(heard.order) == sorted([hash_of(large), hash_of(bundle_of(2))])
    assert reader.voids == {}
    world.close()


async def test_memo_mode_is_read_too(tmp_path: Path) -> None:
    world = await World.open(tmp_path, is_memo=True)
    heard = Heard()
    reader = world.reader(heard)
    heard.submitter = world.submitter()
    bundles = [bundle_of(number, payload_bytes=30) for number in range(8)] + [bundle_of(9, payload_bytes=2_000)]
    await post(world, heard, bundles)
    await advance(world, heard, reader, 45)
    assert sorted(heard.order) == sorted(hash_of(bundle) for bundle in bundles)
    assert heard.final_height > 0
    world.close()


@pytest.mark.parametrize("confirm_slots", [1, 2])
async def test_finality_may_come_in_one_step(tmp_path: Path, confirm_slots: int) -> None:
    timing = SolanaTiming(confirm_slots=confirm_slots, finalize_slots=confirm_slots)
    world = await World.open(tmp_path, timing=timing)
    heard = Heard()
    reader = world.reader(heard)
    heard.submitter = world.submitter()
    await post(world, heard, [bundle_of(1)])
    await advance(world, heard, reader, 10)
    assert heard.order == [hash_of(bundle_of(1))]
    assert heard.final_height == heard.head.height > 5
    world.close()


class Died(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("bucket_ms", [0, 1_000])
@pytest.mark.parametrize("place", ["before_commit", "in_commit", "after_commit"])
async def test_a_kill_loses_nothing_and_tells_nothing_that_is_not_kept(
    tmp_path: Path, place: str, bucket_ms: int
) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    heard.submitter = world.submitter()
    visits = 0

    def crash(at: str) -> None:
        nonlocal visits
        visits += at == f"solana.reader_{place}"
        if visits == 15:
            visits = 0
            raise Died

    def start() -> Reader:
        return world.reader(heard, store=world.store(crash=crash), crash=crash, rules={"bucket_ms": bucket_ms})

    reader, kills = start(), 0
    bundles: list[Bundle] = []
    for number in range(80):
        bundles.append(bundle_of(number))
        await post(world, heard, bundles[-1:])
        try:
            await advance(world, heard, reader, 1)
        except Died:
            kills += 1
            world.close_stores()
            reader = start()
            # Between store and listener a kill loses the telling: what was told is a part of what is kept.
            kept = {stored.ref.hash for stored in reader._store.last_blocks(1_000)}
            assert set(heard.hashes) <= kept
            heard.head = reader.head
    await advance(world, heard, reader, 5)
    assert kills >= 4
    stored = reader._store.last_blocks(1_000)
    assert len(stored) == reader.head.height
    order = [name for height in stored for name in height.submission_hashes]
    assert len(order) == len(set(order))
    assert set(order) <= {hash_of(bundle) for bundle in bundles}
    straight = Heard()
    await read_all(world.reader(straight, store=world.store("straight"), rules={"bucket_ms": bucket_ms}))
    assert [height.ref.hash for height in stored] == straight.hashes
    world.close()


async def test_a_restart_reads_what_is_kept_again(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    heard.submitter = world.submitter()
    reader = world.reader(heard)
    for number in range(SNAPSHOT_BLOCKS + 50):
        await post(world, heard, [bundle_of(number)])
        await advance(world, heard, reader, 1)
    before = reader.last
    voids = dict(reader.voids)
    world.close_stores()
    reader = world.reader(heard, store=world.store())
    assert reader.last == before
    assert (reader.head, reader.firm_height, dict(reader.voids)) == (heard.head, heard.final_height, voids)
    await advance(world, heard, reader, 5)
    assert heard.hashes == await straight_hashes(world)
    world.close()


async def test_a_store_that_is_damaged_or_of_other_rules_is_refused(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    await advance(world, heard := Heard(), world.reader(heard), 10)
    world.close()
    with pytest.raises(InvalidInput, match="inbox_rules"):
        world.reader(Heard(), rules={"block_bytes_max": 99_999})
    world.close()
    with sqlite3.connect(tmp_path / "reader" / "solana_reader.db") as connection:
        connection.execute("UPDATE slots SET hash = ? WHERE slot = (SELECT max(slot) FROM slots)", (bytes(32),))
    connection.close()
    with pytest.raises(InvalidBlock, match="is damaged"):
        world.reader(Heard())
    world.close()


async def test_another_solana_is_refused(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    store = world.store()
    await advance(world, heard := Heard(), world.reader(heard, store=store), 10)

    def other(method: str, params: Sequence[Any], answer: Any) -> Any:
        return "another chain" if method == "getGenesisHash" else answer

    reader = world.reader(heard, store=store, rpc=ChangedRpc(world.rpc, other))
    with pytest.raises(InvalidInput, match="solana_genesis"):
        await reader.step()
    world.close()


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("reinclude", ["none", "shuffled"])
async def test_a_fork_below_confirmed_takes_it_back_to_the_last_final_height(
    tmp_path: Path, reinclude: Any, *, is_restarted: bool
) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    heard.submitter = world.submitter()
    reader = world.reader(heard)
    bundles: list[Bundle] = []
    for number in range(60):
        bundles.append(bundle_of(number))
        await post(world, heard, bundles[-1:])
        await advance(world, heard, reader, 1)
        if number == 45:
            final, final_hashes = reader.final, heard.hashes[: heard.final_height]
            if is_restarted:
                world.close_stores()
            world.chain.fork(8, reinclude)
            await world.tick(4)
            if is_restarted:
                reader = world.reader(heard, store=world.store())
    # Transactions on blockhashes of the branch that is gone can never land: they are signed anew once expired.
    await advance(world, heard, reader, 200)
    (to, to_slot) = heard.roll_backs[0]
    assert len(heard.roll_backs) == reader.roll_backs == 1
    assert to.height >= final.head.height
    assert heard.hashes[: len(final_hashes)] == final_hashes
    assert to_slot >= final.slot
    assert "forked below confirmed" in heard.stalls[0]
    assert heard.stalls[-1] == ""
    assert sorted(heard.order) == sorted(hash_of(bundle) for bundle in bundles), "nothing is lost, nothing comes twice"
    assert heard.hashes == await straight_hashes(world)
    assert [stored.ref.hash for stored in reader._store.last_blocks(1_000)] == heard.hashes
    assert heard.submitter.pending_bundles == 0
    world.close()


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
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
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
