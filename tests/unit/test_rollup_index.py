"""The node's index and what it stands on: packed columns, the journal, the key table."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.bundle import Trailer
from nodes.model.errors import InvalidInput, Pruned
from nodes.model.execution import (
    AdmittedLeg,
    Derived,
    DroppedLeg,
    DropReason,
    ExecutedBlock,
    Outcome,
    SkipReason,
    Status,
    Transaction,
)
from nodes.model.ids import Height, TxHash
from nodes.model.sequenced_block import Commitment
from nodes.rollup import index as index_module
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import Journal
from nodes.rollup.key_table import KeyTail, entry_count, heights_in_segment, newest_first
from nodes.rollup.records import (
    Execution,
    HeightRecord,
    IndexedBlock,
    block_of,
    bundle_keys,
    pack_left_out,
    position_of,
    trailer_of_payload,
    unpack_left_out,
)
from nodes.rules.hashes import sha256
from nodes.rules.payload import decode, sign
from tests.support.crafting import CHAINS, KEYS, LegPlan, signed_legs

HERE = CHAINS[0]
GENESIS = IndexedBlock(
    number=0,
    height=Height(0),
    hash=sha256(b"genesis"),
    parent_hash=bytes(32),
    state_root=bytes(32),
    timestamp_s=0,
    gas_used=0,
    receipts_root=bytes(32),
    logs_bloom=bytes(256),
    tx_hashes=b"",
    statuses=b"",
    payloads=b"",
    payload_ends=b"",
)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "journal", identity=b"one")
    opened.insert_genesis(GENESIS)
    yield opened
    opened.close()


def leg(nonce: int, *, key: int = 0, value: int = 1, tx_type: int = 2) -> tuple[bytes, Transaction]:
    """The first leg of a bundle of two."""
    plans = [
        LegPlan(chain=HERE, key=key, nonce=nonce, value=value, tx_type=tx_type),
        LegPlan(chain=CHAINS[1], key=key, nonce=nonce, value=value),
    ]
    payload = signed_legs(plans)[0]
    transaction = decode(payload, HERE)
    assert isinstance(transaction, Transaction)
    return payload, transaction


def bundle_of(transaction: Transaction) -> bytes:
    assert transaction.trailer is not None
    return transaction.trailer.bundle_hash


def record(
    height: int,
    number: int,
    legs: Sequence[tuple[bytes, Transaction]] = (),
    *,
    statuses: Sequence[Status] = (),
    dropped: Sequence[DroppedLeg] = (),
    salt: bytes = b"",
) -> tuple[HeightRecord, list[bytes]]:
    """What the executor hands over after one height."""
    derived = Derived(
        height=Height(height),
        timestamp_s=height,
        admitted=tuple(AdmittedLeg(payload, transaction, at) for at, (payload, transaction) in enumerate(legs)),
        dropped=tuple(dropped),
        bundles=(),
        touched=(),
    )
    wanted = list(statuses) or [Status.SUCCEEDED] * len(legs)
    outcomes = tuple(
        Outcome(transaction.tx_hash, status, SkipReason.NONCE_TOO_LOW if status is Status.SKIPPED else None)
        for (_, transaction), status in zip(legs, wanted, strict=True)
    )
    block_hash = sha256(b"%d-%d" % (height, number) + salt)
    executed = ExecutedBlock(
        number=number,
        hash=block_hash,
        parent_hash=bytes(32),
        state_root=block_hash,
        timestamp_s=height,
        gas_used=21_000 * len(legs),
        receipts_root=bytes(32),
        logs_bloom=bytes(256),
        outcomes=outcomes,
    )
    execution = Execution(block=executed if legs else None, transactions=legs, outcomes=outcomes)
    block = block_of(Height(height), executed, legs) if legs else None
    return HeightRecord(
        height=Height(height),
        header_hash=sha256(b"header %d" % height),
        time_ns=height,
        number=number,
        hash=block_hash,
        block=block,
        left_out=pack_left_out(execution, derived),
        level=Commitment.FIRM,
    ), bundle_keys(derived)


def test_columns_give_back_what_was_put_in() -> None:
    legs = [leg(0), leg(1), leg(2, tx_type=1), leg(3, tx_type=0)]
    statuses = [Status.SUCCEEDED, Status.SKIPPED, Status.REVERTED, Status.SUCCEEDED]
    kept, _ = record(5, 1, legs, statuses=statuses)
    block = kept.block
    assert block is not None
    assert len(block) == 3
    assert block.payload_list() == [legs[0][0], legs[2][0], legs[3][0]]
    assert [block.payload(at) for at in range(3)] == block.payload_list()
    assert [block.tx_hash(at) for at in range(3)] == [legs[at][1].tx_hash for at in (0, 2, 3)]
    assert [block.status(at) for at in range(3)] == [Status.SUCCEEDED, Status.REVERTED, Status.SUCCEEDED]
    assert block.position_of(legs[2][1].tx_hash) == 1
    assert block.position_of(legs[1][1].tx_hash) is None
    assert list(block.trailers()) == [
        (at, transaction.trailer) for at, (_, transaction) in enumerate([legs[0], legs[2], legs[3]])
    ]
    (skipped,) = unpack_left_out(kept.left_out)
    assert (skipped.fate, skipped.reason, skipped.position) == ("skipped", SkipReason.NONCE_TOO_LOW, 1)
    assert skipped.trailer == legs[1][1].trailer


def test_a_hash_is_found_only_where_one_begins() -> None:
    column = b"\x00" * 31 + b"\x01" * 33 + b"\x02" * 32
    assert position_of(column, b"\x00" * 31 + b"\x01") == 0
    assert position_of(column, b"\x01" * 32) == 1
    assert position_of(column, b"\x01" * 16 + b"\x02" * 16) is None


def test_a_plain_payload_has_no_trailer() -> None:
    assert trailer_of_payload(sign(LegPlan(chain=HERE).unsigned(), KEYS[0])) is None


def test_blocks_by_number_and_hash(journal: Journal) -> None:
    index = ChainIndex(journal, history_blocks=100)
    kept, keys = record(1, 1, [leg(0)])
    index.append(kept, keys)
    index.append(*record(2, 1))
    assert index.head == kept.block == index.block_by_number(1) == index.block_by_hash(kept.hash)
    assert index.block_by_number(0) == GENESIS == index.block_by_hash(GENESIS.hash)
    assert index.block_by_number(2) is None
    assert index.block_by_number(-1) is None
    assert index.block_by_hash(bytes(32)) is None
    assert [header.number for header in index.headers(0, 9)] == [0, 1]
    assert index.transactions == 1


def test_every_fate_is_found(journal: Journal) -> None:
    index = ChainIndex(journal, history_blocks=100)
    (first, one), (second, two) = leg(0), leg(1, key=1)
    dropped = DroppedLeg(2, DropReason.INCOMPLETE, two.tx_hash, two.trailer)
    nameless = DroppedLeg(3, DropReason.MALFORMED, TxHash(sha256(b"junk")), None)
    index.append(*record(1, 1, [(first, one)], dropped=[dropped, nameless]))
    index.append(*record(2, 2, [(second, two), (first, one)], statuses=[Status.REVERTED, Status.SKIPPED]))
    found = index.transaction(one.tx_hash)
    assert found is not None
    assert (found.fate, found.height, found.position) == ("succeeded", 1, 0)
    assert [(fate.fate, fate.height, fate.reason) for fate in index.fates(one.tx_hash)] == [
        ("skipped", 2, "nonce_too_low"),
        ("succeeded", 1, ""),
    ]
    assert [(fate.fate, fate.block_number) for fate in index.bundle_fates(bundle_of(two))] == [
        ("reverted", 2),
        ("dropped", 0),
    ]
    junk = index.transaction(nameless.tx_hash)
    assert junk is not None
    assert (junk.fate, junk.reason, junk.position, junk.trailer, junk.executed) == (
        "dropped",
        "malformed",
        3,
        None,
        False,
    )
    assert index.transaction(bytes(32)) is None
    assert index.bundle_fates(bytes(32)) == []


def test_a_bundle_hash_in_the_middle_of_calldata_is_no_leg(journal: Journal) -> None:
    _, victim = leg(0)
    plan = LegPlan(chain=HERE, key=3, calldata=bundle_of(victim) + b"\x00\x02LkS1" + b"\x00")
    payload = sign(plan.unsigned(), KEYS[3])
    transaction = decode(payload, HERE)
    assert isinstance(transaction, Transaction)
    index = ChainIndex(journal, history_blocks=100)
    index.append(*record(1, 1, [leg(0), (payload, transaction)]))
    assert [fate.tx_hash for fate in index.bundle_fates(bundle_of(victim))] == [victim.tx_hash]


def filled(journal: Journal, heights: int, *, history_blocks: int = 1000) -> tuple[ChainIndex, list[Transaction]]:
    index = ChainIndex(journal, history_blocks=history_blocks)
    transactions = []
    for height in range(1, heights + 1):
        payload, transaction = leg(height)
        index.append(*record(height, height, [(payload, transaction)]))
        transactions.append(transaction)
    return index, transactions


def test_lookups_reach_segments_and_survive_a_restart(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SEGMENT_KEYS", 16)
    monkeypatch.setattr(index_module, "RECENT_BLOCKS", 4)
    index, transactions = filled(journal, 50)
    for opened in (index, ChainIndex(journal, history_blocks=1000)):
        assert opened.transactions == 50
        assert opened.head.number == 50
        for height, transaction in enumerate(transactions, 1):
            found = opened.transaction(transaction.tx_hash)
            assert found is not None
            assert found.height == height
            assert [fate.height for fate in opened.bundle_fates(bundle_of(transaction))] == [height]
        assert opened.transaction(sha256(b"no such")) is None


def test_rewind_forgets_and_finds_what_comes_instead(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "SEGMENT_KEYS", 16)
    index, transactions = filled(journal, 30)
    removed = index.rewind(Height(20))
    assert [block.number for block in removed] == list(range(30, 20, -1))
    assert (index.head.number, index.transactions) == (20, 20)
    assert index.transaction(transactions[25].tx_hash) is None
    assert index.block_by_hash(removed[0].hash) is None
    payload, transaction = leg(7, key=5)
    index.append(*record(21, 21, [(payload, transaction)], salt=b"other"))
    for opened in (index, ChainIndex(journal, history_blocks=1000)):
        found = opened.transaction(transaction.tx_hash)
        assert found is not None
        assert found.height == 21
        assert opened.transaction(transactions[20].tx_hash) is None
        kept = opened.transaction(transactions[19].tx_hash)
        assert kept is not None
        assert kept.height == 20
    assert index.rewind(Height(0))
    assert index.head == GENESIS
    assert index.transactions == 0


def test_keys_that_a_rewind_left_behind_hide_no_later_ones_after_a_restart(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "SEGMENT_KEYS", 16)
    index, transactions = filled(journal, 30)
    index.rewind(Height(26))
    index.append(*record(27, 27, [leg(27, key=5)], salt=b"other"))
    index.append(*record(28, 28, [leg(28, key=5)], salt=b"other"))
    late = leg(29, key=5)
    index.append(*record(29, 29, [late], salt=b"other"))
    for opened in (index, ChainIndex(journal, history_blocks=1000)):
        found = opened.transaction(late[1].tx_hash)
        assert found is not None
        assert found.height == 29
        assert opened.transaction(transactions[28].tx_hash) is None


def test_pruned_history_is_an_error_and_never_empty(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PRUNE_EVERY_BLOCKS", 4)
    monkeypatch.setattr(index_module, "RECENT_BLOCKS", 2)
    index, transactions = filled(journal, 40, history_blocks=10)
    assert index.oldest_number == 30
    old = journal.summary(5)
    assert old is not None
    for opened in (index, ChainIndex(journal, history_blocks=10)):
        with pytest.raises(Pruned, match="block 5 is pruned"):
            opened.block_by_number(5)
        with pytest.raises(Pruned):
            opened.block_by_hash(old.hash)
        with pytest.raises(Pruned, match="height 5, which is pruned"):
            opened.transaction(transactions[4].tx_hash)
        with pytest.raises(Pruned):
            opened.bundle_fates(bundle_of(transactions[4]))
        with pytest.raises(Pruned):
            opened.headers(5, 35)
        assert opened.block_by_number(30) is not None
        assert opened.block_by_number(0) == GENESIS
        assert opened.transactions == 40
        found = opened.transaction(transactions[34].tx_hash)
        assert found is not None
        assert found.height == 35
    with pytest.raises(Pruned, match="cannot rewind to sequenced height 15"):
        index.rewind(Height(15))
    assert index.head.number == 40


def test_pruned_heights_leave_the_journal_and_empty_ones_sooner(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "PRUNE_EVERY_BLOCKS", 4)
    monkeypatch.setattr(index_module, "PRUNE_EVERY_HEIGHTS", 4)
    monkeypatch.setattr(index_module, "KEPT_HEIGHTS", 8)
    index, transactions = filled(journal, 40, history_blocks=10)
    for height in range(41, 61):
        index.append(*record(height, 40))
    heights = [row.height for row in journal.rows_above(0)]
    assert heights == list(range(52, 61))
    with pytest.raises(Pruned):
        index.transaction(transactions[4].tx_hash)
    kept = ChainIndex(journal, history_blocks=10).transaction(transactions[35].tx_hash)
    assert kept is not None
    assert kept.fate == "succeeded"


def test_a_failed_append_leaves_nothing(journal: Journal) -> None:
    kept, _ = record(1, 1, [leg(0)])
    with pytest.raises(Exception, match="NOT NULL"):
        journal.append(replace(kept, header_hash=None), None)  # type: ignore[arg-type]
    assert journal.last() is None
    assert journal.block(1) is None
    journal.append(kept, None)
    assert journal.block(1) == kept.block


def test_a_journal_of_another_chain_is_refused(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="directory of its own"):
        Journal(tmp_path / "journal", identity=b"two")


def test_segments_find_every_key_and_no_other(rng: random.Random) -> None:
    tail = KeyTail()
    keys = {}
    for height in range(1, 200):
        some = [rng.randbytes(32) for _ in range(rng.randrange(1, 30))]
        keys.update(dict.fromkeys(some, height))
        tail.add(height, b"".join(some))
    assert all(tail.heights_of(key) == [height] for key, height in keys.items())
    count = len(tail)
    assert count == len(keys)
    lowest, highest, segment = tail.take_segment()
    assert (lowest, highest, len(tail), entry_count(len(segment))) == (1, 199, 0, count)
    assert all(height in heights_in_segment(key, count, segment.__getitem__) for key, height in keys.items())
    for _ in range(200):
        assert heights_in_segment(rng.randbytes(32), count, segment.__getitem__) == []
    for extreme in (bytes(32), b"\xff" * 32):
        assert heights_in_segment(extreme, count, segment.__getitem__) == []


def test_segments_of_crowded_keys_are_still_searched_right() -> None:
    """Keys that somebody ground to share a prefix, all at one end of the space."""
    tail = KeyTail()
    crowd = [b"\x00" * 7 + bytes([at % 3]) + at.to_bytes(24, "big") for at in range(3000)]
    for height, key in enumerate(crowd, 1):
        tail.add(height, key)
    _, _, segment = tail.take_segment()
    found = heights_in_segment(crowd[0], 3000, segment.__getitem__)
    assert sorted(found) == [height for height in range(1, 3001) if (height - 1) % 3 == 0]
    assert newest_first([3, 1, 3]) == [3, 1]


def test_trailer_counts_are_kept() -> None:
    entry = DroppedLeg(7, DropReason.STRAY_LEG, TxHash(bytes(32)), Trailer(TxHash(b"\x05" * 32), 3, 9))  # type: ignore[arg-type]
    derived = Derived(height=Height(1), timestamp_s=0, admitted=(), dropped=(entry,), bundles=(), touched=())
    nothing = Execution(block=None, transactions=(), outcomes=())
    (kept,) = unpack_left_out(pack_left_out(nothing, derived))
    assert (kept.trailer, kept.position, kept.reason) == (entry.trailer, 7, DropReason.STRAY_LEG)
