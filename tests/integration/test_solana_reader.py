"""The reader on a real chain in this process: restarts and forks."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidBlock, InvalidInput
from nodes.model.solana import SolanaTiming
from nodes.rules.payload import address_of
from nodes.rules.solana_proof import decode_proof, is_proven_by
from nodes.solana.reader import Reader
from nodes.solana.reader_chain import SNAPSHOT_BLOCKS
from tests.support.solana_reader_nodes import ChangedRpc, advance, post, straight_hashes
from tests.support.solana_reading import (
    READER_KEY,
    ROLLUPS,
    Heard,
    World,
    bundle_of,
    hash_of,
    read_all,
)


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
