"""The node's smaller parts: heads, pending transactions, checkpoints, the decode cache, stage accounting."""

import asyncio
import os
from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Overloaded
from nodes.model.execution import DropReason
from nodes.model.ids import HeaderHash, Height
from nodes.model.sequenced_block import BlockRef, Commitment
from nodes.model.status import BlockHead, Heads
from nodes.rollup.checkpoint import KEPT_CHECKPOINTS, Checkpoint, CheckpointStore, decode, encode
from nodes.rollup.decode_cache import SenderCache
from nodes.rollup.heads import HeadAnnouncer, HeadChange, HeadTracker
from nodes.rollup.pending import PendingPool, next_nonce
from nodes.telemetry.resources import process_cpu_s, process_pss_bytes
from nodes.telemetry.stages import StageCpu

ALICE, BOB = b"\x01" * 20, b"\x02" * 20


def head(number: int, salt: str = "") -> BlockHead:
    return BlockHead(number=number, hash=f"{number}{salt}".encode().ljust(32, b"."))


def numbers(heads: Heads) -> tuple[int, int, int, int]:
    return heads.height, heads.latest.number, heads.safe.number, heads.finalized.number


# Heads


def test_heads_follow_execution_and_promises_in_any_order() -> None:
    tracker = HeadTracker(head(0), final_level=Commitment.FINAL)
    tracker.raised(Height(2), Commitment.FIRM)  # runs ahead of execution
    assert numbers(tracker.heads) == (0, 0, 0, 0)
    for height, number in ((1, 1), (2, 1), (3, 2)):
        tracker.executed(Height(height), head(number))
    assert numbers(tracker.heads) == (3, 2, 1, 0)
    tracker.raised(Height(1), Commitment.SOFT)
    tracker.raised(Height(3), Commitment.FINAL)
    assert numbers(tracker.heads) == (3, 2, 2, 2)


def test_heads_never_stand_above_a_rewind() -> None:
    tracker = HeadTracker(head(0), final_level=Commitment.FIRM)
    for height in range(1, 6):
        tracker.executed(Height(height), head(height))
    tracker.raised(Height(3), Commitment.FIRM)
    tracker.rewound(Height(2), head(2))
    assert numbers(tracker.heads) == (2, 2, 2, 2)
    tracker.executed(Height(3), head(3, "b"))
    assert numbers(tracker.heads) == (3, 3, 2, 2), "the promise was on another block"
    tracker.raised(Height(3), Commitment.FIRM)
    assert tracker.heads.safe == head(3, "b")


def change(number: int) -> HeadChange:
    heads = Heads(height=Height(number), latest=head(number), safe=head(0), finalized=head(0))
    return HeadChange(heads=heads, block=None, removed=())


async def test_a_slow_subscriber_is_told_and_others_are_not_held_back() -> None:
    announcer = HeadAnnouncer()
    slow, quick = announcer.subscribe(limit=2), announcer.subscribe(limit=10)
    for number in range(4):
        announcer.announce(change(number))
    announcer.close()
    assert [got.heads.height async for got in quick] == [0, 1, 2, 3]
    late = aiter(slow)
    assert [(await anext(late)).heads.height for _ in range(2)] == [0, 1]
    with pytest.raises(Overloaded, match="fell 2 heads behind"):
        await anext(late)
    assert [got async for got in announcer.subscribe()] == []


async def test_changes_conflate_and_end() -> None:
    announcer = HeadAnnouncer()
    changes = announcer.changes()
    await anext(changes)
    announcer.touch()
    announcer.touch()
    await anext(changes)
    waiting = asyncio.ensure_future(anext(changes, "ended"))
    await asyncio.sleep(0)
    assert not waiting.done()
    announcer.close()
    assert await waiting == "ended"


# Pending


def test_the_pending_nonce_counts_what_was_accepted() -> None:
    pool = PendingPool()
    for nonce in (5, 6, 8):
        pool.add(ALICE, nonce, b"%d" % nonce)
    pool.add(ALICE, 5, b"another with nonce 5")
    assert next_nonce(5, pool.nonces_of(ALICE)) == 7
    assert next_nonce(8, pool.nonces_of(ALICE)) == 9
    assert next_nonce(3, pool.nonces_of(BOB)) == 3
    assert pool.resolve(Height(1), [b"5", b"unknown", b"5"]) == [b"5", b"5"]
    assert next_nonce(5, pool.nonces_of(ALICE)) == 7, "another transaction still has nonce 5"
    pool.resolve(Height(2), [b"another with nonce 5"])
    assert next_nonce(5, pool.nonces_of(ALICE)) == 5
    assert (len(pool), b"6" in pool, b"5" in pool) == (2, True, False)


def test_pending_is_bounded_and_expires() -> None:
    pool = PendingPool(max_pending=3, expiry_heights=10)
    for nonce in range(5):
        pool.add(ALICE, nonce, b"%d" % nonce)
    assert len(pool) == 3
    assert next_nonce(0, pool.nonces_of(ALICE)) == 0
    assert next_nonce(2, pool.nonces_of(ALICE)) == 5
    pool.resolve(Height(5), ())
    pool.add(BOB, 0, b"later")
    pool.resolve(Height(11), ())
    assert len(pool) == 1
    pool.resolve(Height(16), ())
    assert len(pool) == 0


# Checkpoints


def checkpoint(height: int) -> Checkpoint:
    return Checkpoint(
        ref=BlockRef(height=Height(height), hash=HeaderHash(b"\x07" * 32)),
        time_ns=123,
        number=height // 2,
        hash=b"\x08" * 32,
        timestamp_s=9,
        replay_window=((height - 1, (b"\x01" * 32, b"\x02" * 32)), (height, ())),
        state=b"engine state",
    )


def test_checkpoints_round_trip_and_damage_is_seen() -> None:
    data = encode(checkpoint(12))
    assert decode(data) == checkpoint(12)
    for at in range(0, len(data), 7):
        with pytest.raises(InvalidInput, match="damaged"):
            decode(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(InvalidInput, match="damaged"):
            decode(data[:at])


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for height in (4, 8, 16, 20, 100):
        store.write(checkpoint(height))
    assert [int(path.stem) for path, _ in store.at_or_below(None)] == [100, 20, 16]
    assert [found for _, found in store.at_or_below(99)] == [checkpoint(20), checkpoint(16)]
    assert len(list(tmp_path.iterdir())) == KEPT_CHECKPOINTS


def test_checkpoints_from_before_a_rewind_do_not_push_out_new_ones(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for height in (16, 20, 100, 8):
        store.write(checkpoint(height))
    assert [found for _, found in store.at_or_below(None)] == [checkpoint(8)]


def test_a_checkpoint_cut_short_by_a_kill_does_not_count(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.write(checkpoint(4))
    (tmp_path / "8.unfinished").write_bytes(encode(checkpoint(8))[:50])
    (tmp_path / "6.checkpoint").write_bytes(encode(checkpoint(6))[:50])
    found = list(store.at_or_below(None))
    assert [type(entry) for _, entry in found] == [InvalidInput, Checkpoint]
    CheckpointStore(tmp_path)
    assert not list(tmp_path.glob("*.unfinished"))


# Decode cache


def test_the_cache_decodes_once_and_forgets_in_generations() -> None:
    calls: list[tuple[bytes, int]] = []

    def counting(payload: bytes, chain_id: int) -> DropReason:
        calls.append((payload, chain_id))
        return DropReason.MALFORMED

    cache = SenderCache(generation_entries=4, decode=counting)
    assert cache(b"a", 1) is cache(b"a", 1) is DropReason.MALFORMED
    cache(b"a", 2)
    assert calls == [(b"a", 1), (b"a", 2)], "another chain is another question"
    for at in range(20):
        cache(b"%d" % at, 1)
        cache(b"a", 1)  # in use, so never forgotten
    assert calls.count((b"a", 1)) == 1
    cache(b"0", 1)
    assert calls.count((b"0", 1)) == 2
    assert len(cache) <= 8


def test_the_cache_is_bounded_in_bytes() -> None:
    cache = SenderCache(generation_bytes=100, decode=lambda payload, chain_id: DropReason.MALFORMED)
    for at in range(100):
        cache(bytes([at]) * 30, 1)
    assert len(cache) <= 8


# Accounting


async def test_metered_counts_the_own_steps_only() -> None:
    cpu = StageCpu("mine")

    def burn() -> int:
        return sum(range(200_000))

    async def other() -> None:
        for _ in range(20):
            burn()
            await asyncio.sleep(0)

    async def mine() -> str:
        await asyncio.sleep(0)
        burn()
        await asyncio.sleep(0)
        return "done"

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        assert await cpu.metered("mine", mine()) == "done"
    spent = cpu.totals_ns["mine"]
    with cpu.measure("all"):
        for _ in range(10):
            burn()
    assert 0 < spent < cpu.totals_ns["all"]


async def test_metered_passes_errors_and_cancellation_on() -> None:
    cpu = StageCpu()
    cleaned = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    with pytest.raises(ZeroDivisionError):
        await cpu.metered("x", fails())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await cpu.metered("x", waits())
    assert cleaned == [True]


def test_resources_of_this_process_and_of_none() -> None:
    assert process_cpu_s(os.getpid()) > 0
    assert process_pss_bytes(os.getpid()) > 1_000_000
    assert (process_cpu_s(2**22 + 1), process_pss_bytes(2**22 + 1)) == (0.0, 0)
