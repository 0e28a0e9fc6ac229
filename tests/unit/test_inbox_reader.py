"""From Solana blocks to heights: what is read, in which order, what is void, and how heights are cut."""

from dataclasses import replace

import pytest

from nodes.model.errors import InvalidBlock
from nodes.model.ids import NOTICE_ROLLUP_ID, ZERO_HASH, rollup_id_of
from nodes.model.solana import Pubkey, SolanaBlock
from nodes.rules import inbox_pieces, inbox_reader
from nodes.rules.hashes import sha256
from nodes.rules.inbox import EMPTY_STATE, chunks_of, commit, encode_entry, encode_memo, init, post, roll
from nodes.rules.inbox_pieces import CHUNK_BLOCKS_MAX
from nodes.rules.inbox_reader import DEDUP_BLOCKS, MAX_BLOCK_HEIGHTS, InboxReader, Link, Void
from nodes.rules.lazy import placed_bytes
from nodes.rules.sequenced_block import genesis_ref, place
from nodes.rules.solana_proof import inbox_root
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_blocks import (
    CHAIN_ID,
    GENESIS_S,
    ROLLUP_IDS,
    A,
    B,
    Blocks,
    C,
    Posted,
    bundle,
    name_of,
    order_of,
    plain,
    posted,
    reader,
    rules,
    slots_of,
)


def test_each_block_gives_a_height_also_an_empty_one() -> None:
    blocks, rule = Blocks(), reader()
    first = rule.read(blocks.next())
    second = rule.read(blocks.next(posted(bundle(1)), skipped=3))
    assert [height.header.height for height in (*first, *second)] == [1, 2]
    assert first[0].header.parent_hash == genesis_ref(CHAIN_ID).hash
    assert second[0].header.parent_hash == first[0].header_hash
    assert first[0].submission_hashes == ()
    assert second[0].trees.contents == place([bundle(1)])
    assert second[0].header.time_ns == (GENESIS_S + 42) * 1_000_000_000
    assert rule.head == second[0].ref


def test_the_order_is_that_of_the_chain() -> None:
    blocks, rule = Blocks(), reader()
    (height,) = rule.read(blocks.next(posted(bundle(1), plain(2)), posted(bundle(3)), posted(plain(4), bundle(5))))
    expected = [bundle(1), plain(2), bundle(3), plain(4), bundle(5)]
    assert list(height.submission_hashes) == [name_of(one) for one in expected]
    assert height.trees.contents == place(expected)


def test_slots_count_the_accounts_of_the_instruction() -> None:
    blocks, rule = Blocks(), reader()
    (height,) = rule.read(blocks.next(posted(bundle(1, rollups=(C, A)), rollups=(C, A))))
    assert set(height.trees.contents) == {A, C}


def test_a_block_that_builds_on_another_one_is_refused() -> None:
    blocks, rule = Blocks(), reader()
    rule.read(blocks.next())
    fork = blocks.copy()
    rule.read(blocks.next())
    stray = fork.next()
    assert rule.link_of(stray) is Link.FORK
    after_stray = fork.next()
    assert rule.link_of(after_stray) is Link.FORK
    blocks.next()
    later = blocks.next(skipped=2)
    assert rule.link_of(later) is Link.GAP
    for block in (stray, later):
        with pytest.raises(InvalidBlock, match="does not build on the last one"):
            rule.read(block)


def test_the_first_block_must_follow_the_origin() -> None:
    blocks, rule = Blocks(), reader()
    blocks.next()
    assert rule.link_of(blocks.next()) is Link.GAP
    assert rule.link_of(Blocks().next(skipped=40)) is Link.NEXT


def test_a_skipped_slot_is_no_gap() -> None:
    blocks, rule = Blocks(), reader()
    rule.read(blocks.next(skipped=3))
    assert rule.link_of(blocks.next(skipped=50)) is Link.NEXT


def test_a_bundle_posted_again_is_void_until_it_is_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_reader, "DEDUP_BLOCKS", 1)
    blocks, rule = Blocks(), reader(dedup_heights=3)
    heights = rule.read(blocks.next(posted(bundle(1), bundle(1)), posted(bundle(1))))
    assert order_of(heights) == [name_of(bundle(1))]
    for _ in range(2):
        assert rule.knows(name_of(bundle(1)))
        assert order_of(rule.read(blocks.next(posted(bundle(1))))) == []
    assert not rule.knows(name_of(bundle(1)))
    assert order_of(rule.read(blocks.next(posted(bundle(1))))) == [name_of(bundle(1))]
    assert rule.voids == {Void.DUPLICATE: 4}


@pytest.mark.parametrize(
    ("posting", "reason"),
    [
        ((b"", (A,)), Void.INSTRUCTION),
        ((b"\x01\x07", (A,)), Void.INSTRUCTION),
        ((b"\x09\x01", (A,)), Void.INSTRUCTION),
        ((post([b"\x02nonsense"]), (A, B)), Void.ENTRIES),
        ((post([encode_entry(bundle(1), {A: 0, B: 5})]), (A, B)), Void.ENTRIES),
        ((post([encode_entry(bundle(1), {A: 0, B: 1})]), (A, rollup_id_of(99))), Void.ENTRIES),
        (posted(bundle(1, rollups=(A, NOTICE_ROLLUP_ID)), rollups=(A, NOTICE_ROLLUP_ID)), Void.REFUSED),
        ((commit(b"entry", chunks=1), (A,)), Void.COMMIT_INCOMPLETE),
        ((commit(b"entry", chunks=0), (A,)), Void.COMMIT_INCOMPLETE),
    ],
)
def test_nonsense_is_void_and_the_rest_goes_on(posting: Posted, reason: Void) -> None:
    blocks, rule = Blocks(), reader()
    heights = rule.read(blocks.next(posting, posted(bundle(2))))
    assert order_of(heights) == [name_of(bundle(2))]
    assert rule.voids == {reason: 1}


def test_an_init_is_no_posting_and_nothing_void() -> None:
    rule = reader()
    (height,) = rule.read(Blocks().next((init(A, bump=1), (A,))))
    assert height.submission_hashes == ()
    assert rule.voids == {}
    assert rule.states[A] == EMPTY_STATE


def test_a_plain_notice_is_taken() -> None:
    notice = plain(1, rollup=NOTICE_ROLLUP_ID)
    (height,) = reader().read(Blocks().next(posted(notice, rollups=(NOTICE_ROLLUP_ID,))))
    assert height.submission_hashes == (name_of(notice),)


def test_states_roll_for_every_account_that_a_posting_names() -> None:
    blocks, rule = Blocks(), reader()
    good, bad = posted(bundle(1)), (post([b"\x02nonsense"]), (B,))
    first = rule.read(blocks.next(good))
    second = rule.read(blocks.next(bad))
    after = roll(EMPTY_STATE, good[0])
    assert rule.states == {A: after, B: roll(after, bad[0]), C: after, NOTICE_ROLLUP_ID: EMPTY_STATE}
    assert second[0].inbox_root == inbox_root(rule.states)
    assert first[0].inbox_root == inbox_root({A: after, B: after, C: after, NOTICE_ROLLUP_ID: EMPTY_STATE})


def test_chunks_write_no_state() -> None:
    blocks, rule = Blocks(), reader()
    rule.read(blocks.next(*[(data, ()) for data in chunks_of(b"x" * 50, size=20)]))
    assert rule.states == dict.fromkeys(ROLLUP_IDS, EMPTY_STATE)


class Large:
    """An entry in chunks."""

    def __init__(self, number: int = 1, *, size: int = 2_000, piece: int = 700) -> None:
        self.bundle = bundle(number, size=size)
        self.entry = encode_entry(self.bundle, slots_of((A, B)))
        self.chunks: list[Posted] = [(data, ()) for data in chunks_of(self.entry, size=piece)]
        self.commit: Posted = (commit(self.entry, chunks=len(self.chunks)), (A, B))


def test_a_commit_releases_its_chunks_at_its_own_place() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(*large.chunks[1:]))
    rule.read(blocks.next(posted(bundle(8)), large.chunks[0]))
    heights = rule.read(blocks.next(posted(bundle(9)), large.commit, posted(bundle(10))))
    assert order_of(heights) == [name_of(bundle(9)), name_of(large.bundle), name_of(bundle(10))]


def test_a_commit_may_stand_before_its_chunks_in_the_same_block_but_not_in_an_earlier_one() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    assert order_of(rule.read(blocks.next(large.commit, *large.chunks))) == [name_of(large.bundle)]
    blocks, rule = Blocks(), reader()
    assert order_of(rule.read(blocks.next(large.commit, *large.chunks[:-1]))) == []
    assert order_of(rule.read(blocks.next(large.chunks[-1]))) == []
    assert rule.voids == {Void.COMMIT_INCOMPLETE: 1}
    assert order_of(rule.read(blocks.next(large.commit))) == [name_of(large.bundle)], "the chunks are still there"


def of_stranger(block: SolanaBlock) -> SolanaBlock:
    """The block, paid for by somebody else."""
    stranger = Pubkey(sha256(b"stranger"))
    changed = [item._replace(accounts=(stranger, *item.accounts[1:])) for item in block.instructions]
    return replace(block, instructions=tuple(changed))


def test_strangers_neither_fill_places_nor_release_nor_spoil() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    forged = (large.chunks[0][0][:36] + b"forged", ())
    short = (commit(large.entry, chunks=1), (A, B))
    rule.read(of_stranger(blocks.next(forged)))
    rule.read(blocks.next(*large.chunks[1:]))
    rule.read(of_stranger(blocks.next(*large.chunks, forged, short)))
    assert order_of(rule.read(of_stranger(blocks.next(large.commit)))) == [], "the stranger's own are spoiled"
    assert order_of(rule.read(blocks.next(large.commit))) == [], "a chunk of a stranger is none of ours"
    rule.read(blocks.next(large.chunks[0]))
    rule.read(of_stranger(blocks.next(short, large.commit)))
    assert order_of(rule.read(blocks.next(large.commit))) == [name_of(large.bundle)]


def test_the_newest_chunk_of_a_place_counts() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    forged = (large.chunks[0][0][:36] + b"forged", ())
    rule.read(blocks.next(*large.chunks, forged))
    assert order_of(rule.read(blocks.next(large.commit))) == []
    rule.read(blocks.next(large.chunks[0]))
    assert order_of(rule.read(blocks.next(large.commit))) == [name_of(large.bundle)]
    assert rule.voids == {Void.CHUNK_REPEATED: 2, Void.COMMIT_DIGEST: 1}


def test_a_chunk_that_comes_again_is_new_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_pieces, "CHUNK_BLOCKS_MAX", 20)
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(*large.chunks))
    for _ in range(15):
        rule.read(blocks.next())
    rule.read(blocks.next(*large.chunks))
    for _ in range(15):
        rule.read(blocks.next())
    assert order_of(rule.read(blocks.next(large.commit))) == [name_of(large.bundle)]
    assert rule.voids == {}


def test_it_says_which_bundles_a_block_brought_with_effect() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(posted(bundle(1)), (post([b"\x02nonsense"]), (A,)), large.commit))
    assert rule.taken == {name_of(bundle(1))}
    rule.read(blocks.next(*large.chunks, large.commit, posted(bundle(1))))
    assert rule.taken == {name_of(bundle(1)), name_of(large.bundle)}, "a repetition is as good"
    rule.read(blocks.next())
    assert rule.taken == set()


def notices(first: int, last: int) -> Posted:
    """So many of them, all different."""
    ones = [plain(number, rollup=NOTICE_ROLLUP_ID, size=8) for number in range(first, last)]
    return posted(*ones, rollups=(NOTICE_ROLLUP_ID,))


def test_notices_make_no_heights() -> None:
    blocks, rule = Blocks(), reader(max_payloads={**dict.fromkeys(ROLLUP_IDS, 4_096), NOTICE_ROLLUP_ID: 64})
    (height,) = rule.read(blocks.next(notices(0, 64), notices(64, 2_600), notices(0, 9), posted(bundle(1))))
    assert len(height.submission_hashes) == 65
    assert rule.voids == {Void.NOTICES_FULL: 2_536, Void.DUPLICATE: 9}
    assert name_of(plain(64, rollup=NOTICE_ROLLUP_ID, size=8)) not in rule.taken
    (height,) = rule.read(blocks.next(notices(64, 128)))
    assert len(height.submission_hashes) == 64, "posted again they count"


@pytest.mark.parametrize("bucket_ms", [0, 1_000])
def test_a_block_gives_no_more_heights_than_its_bound(bucket_ms: int) -> None:
    blocks, rule = Blocks(), reader(block_bytes_max=placed_bytes(bundle(0)), bucket_ms=bucket_ms)
    heights = rule.read(blocks.next(*[posted(bundle(number)) for number in range(MAX_BLOCK_HEIGHTS + 4)]))
    taken = rule.taken
    heights += rule.read(blocks.next(skipped=10))[: MAX_BLOCK_HEIGHTS if bucket_ms else 0]
    assert [len(height.submission_hashes) for height in heights] == [1] * MAX_BLOCK_HEIGHTS
    assert rule.voids == {Void.BLOCK_FULL: 4}
    assert taken == set(order_of(heights))


def test_many_heights_do_not_end_the_memory_of_what_was_sequenced() -> None:
    blocks, rule = Blocks(), reader(block_bytes_max=placed_bytes(bundle(0)), dedup_heights=20)
    rule.read(blocks.next(posted(bundle(0))))
    for at in range(DEDUP_BLOCKS - 2):
        rule.read(blocks.next(*[posted(bundle(1_000 + 20 * at + number)) for number in range(3)]))
    rule.restore(rule.snapshot())
    assert order_of(rule.read(blocks.next(posted(bundle(0))))) == []
    rule.read(blocks.next())
    assert order_of(rule.read(blocks.next(posted(bundle(0))))) == [name_of(bundle(0))]


def test_a_commit_on_other_accounts_takes_nothing() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(*large.chunks))
    assert order_of(rule.read(blocks.next((large.commit[0], (A,))))) == []
    assert rule.voids == {Void.ENTRIES: 1}
    assert order_of(rule.read(blocks.next(large.commit))) == [name_of(large.bundle)]


def test_a_commit_releases_exactly_one_entry() -> None:
    entries = b"".join(encode_entry(bundle(number), slots_of((A, B))) for number in (1, 2))
    chunks: list[Posted] = [(data, ()) for data in chunks_of(entries, size=100)]
    blocks, rule = Blocks(), reader()
    rule.read(blocks.next(*chunks))
    assert order_of(rule.read(blocks.next((commit(entries, chunks=len(chunks)), (A, B))))) == []
    assert rule.voids == {Void.ENTRIES: 1}


@pytest.mark.parametrize("is_late", [False, True])
def test_chunks_are_forgotten_by_block_height(*, is_late: bool) -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(*large.chunks))
    for _ in range(CHUNK_BLOCKS_MAX - 1 + is_late):
        rule.read(blocks.next(skipped=1))
    assert order_of(rule.read(blocks.next(large.commit))) == ([] if is_late else [name_of(large.bundle)])


def test_chunks_are_bounded_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox_pieces, "CHUNK_BYTES_MAX", 12_000)
    first, second = Large(1, size=3_000), Large(2, size=3_000)
    blocks, rule = Blocks(), reader()
    rule.read(blocks.next(*first.chunks, *second.chunks))
    heights = rule.read(blocks.next(first.commit, second.commit))
    assert order_of(heights) == [name_of(second.bundle)], "the oldest are forgotten first"
    assert rule.voids[Void.CHUNK_FORGOTTEN] >= 1
    assert rule.voids[Void.COMMIT_INCOMPLETE] == 1
    assert len(rule.snapshot().pieces) < len(first.chunks) + len(second.chunks)


def test_a_full_block_is_cut_between_bundles_by_bytes() -> None:
    size = placed_bytes(bundle(0))
    rule = reader(block_bytes_max=3 * size + 5)
    heights = rule.read(Blocks().next(*[posted(bundle(number)) for number in range(8)]))
    assert [len(height.submission_hashes) for height in heights] == [3, 3, 2]
    assert order_of(heights) == [name_of(bundle(number)) for number in range(8)]
    assert len({height.header.time_ns for height in heights}) == 1
    assert len({(height.slot, height.blockhash, height.inbox_root) for height in heights}) == 1


def test_a_full_block_is_cut_by_the_payloads_of_a_rollup() -> None:
    limits = {**dict.fromkeys(ROLLUP_IDS, 100), B: 2}
    rule = reader(max_payloads=limits)
    order = [plain(1), bundle(2), bundle(3), plain(4), bundle(5)]
    heights = rule.read(Blocks().next(posted(*order)))
    assert [len(height.submission_hashes) for height in heights] == [4, 1]
    too_many = bundle(6, rollups=(B, B, B))
    assert order_of(rule.read(replace_parent(rule, posted(too_many)))) == []
    assert rule.voids == {Void.REFUSED: 1}


def replace_parent(rule: InboxReader, *postings: Posted) -> SolanaBlock:
    blocks = Blocks()
    assert rule.place is not None
    blocks.slot, blocks.blockhash = rule.place.slot, rule.place.blockhash
    return blocks.next(*postings)


def test_a_bucket_closes_when_a_block_of_a_later_one_comes() -> None:
    blocks, rule = Blocks(), reader(bucket_ms=1_000)
    # Slots of 400 ms from 101 on: second 40, 40 | 41, 41 | 42 ...
    assert rule.read(blocks.next(posted(bundle(1)))) == []
    assert rule.read(blocks.next(posted(bundle(2)))) == []
    second = blocks.blockhash
    (height,) = rule.read(blocks.next(posted(bundle(3))))
    assert height.submission_hashes == (name_of(bundle(1)), name_of(bundle(2)))
    assert (height.slot, height.blockhash) == (102, second)
    assert height.header.time_ns == (GENESIS_S + 40) * 1_000_000_000
    # A gap of several buckets gives no heights for those without a block.
    (height,) = rule.read(blocks.next(skipped=20))
    assert height.submission_hashes == (name_of(bundle(3)),)
    assert height.header.time_ns == (GENESIS_S + 41) * 1_000_000_000
    (height,) = rule.read(blocks.next(skipped=5))
    assert height.submission_hashes == (), "a bucket with a block gives a height, though it is empty"
    assert rule.head.height == 3


def test_a_bucket_is_cut_where_it_is_full() -> None:
    blocks, rule = Blocks(), reader(bucket_ms=2_000, block_bytes_max=2 * placed_bytes(bundle(0)))
    for number in range(4):
        assert rule.read(blocks.next(posted(bundle(number), bundle(0)))) == []
    heights = rule.read(blocks.next(skipped=10))
    assert [len(height.submission_hashes) for height in heights] == [2, 2]
    assert rule.voids == {Void.DUPLICATE: 4}


def test_time_never_falls_and_stands_still_where_a_block_has_none() -> None:
    blocks, rule = Blocks(), reader()
    times = [rule.read(blocks.next(time_s=time_s))[0].header.time_ns for time_s in (50, None, 49, 51)]
    assert times == [50_000_000_000, 50_000_000_000, 50_000_000_000, 51_000_000_000]


def test_in_memo_mode_indexes_count_the_rollups() -> None:
    blocks = Blocks()
    rule = reader(is_memo=True, accounts={})
    data = post([encode_entry(bundle(1, rollups=(A, C)), {C: 0, A: 1})])
    memo = encode_memo(data, [2, 0])
    heights = rule.read(
        blocks.next(
            (memo, ()),
            (b"gm", ()),
            (encode_memo(data, [2, 2]), ()),
            (encode_memo(post([encode_entry(bundle(2, rollups=(A,)), {A: 0})]), [9]), ()),
        )
    )
    assert order_of(heights) == [name_of(bundle(1, rollups=(A, C)))]
    assert rule.states[A] == rule.states[C] == roll(EMPTY_STATE, data)
    assert rule.states[B] == EMPTY_STATE
    assert rule.voids == {Void.INSTRUCTION: 1, Void.ENTRIES: 1}


def test_a_snapshot_takes_it_back() -> None:
    blocks, rule, large = Blocks(), reader(), Large()
    rule.read(blocks.next(posted(bundle(1)), *large.chunks[:2]))
    snapshot, other = rule.snapshot(), blocks.copy()
    rule.read(blocks.next(posted(bundle(2)), *large.chunks[2:]))
    rule.read(blocks.next(large.commit))
    rule.restore(snapshot)
    assert rule.snapshot() == snapshot
    again = reader()
    again.restore(snapshot)
    for one in (rule, again):
        copy = other.copy()
        first = one.read(copy.next(posted(bundle(2), bundle(1))))
        second = one.read(copy.next(*large.chunks[2:], large.commit))
        assert order_of([*first, *second]) == [name_of(bundle(2)), name_of(large.bundle)]
    assert rule.snapshot() == again.snapshot()


def test_an_account_of_nobody_is_nothing() -> None:
    blocks, rule = Blocks(), reader()
    block = blocks.next(posted(bundle(1)))
    (instruction,) = block.instructions
    foreign = replace(block, instructions=(instruction._replace(accounts=(Pubkey(ZERO_HASH),) * 4),))
    assert order_of(rule.read(foreign)) == []
    assert rule.states == dict.fromkeys(ROLLUP_IDS, EMPTY_STATE)


def test_the_bytes_of_a_submission_are_bounded() -> None:
    huge = bundle(1, rollups=(A,) * 6, size=100_000)
    assert len(bundle_to_bytes(huge)) > 512 * 1024
    entry = encode_entry(huge, {A: 0})
    chunks: list[Posted] = [(data, ()) for data in chunks_of(entry, size=900)]
    blocks, rule = Blocks(), reader(block_bytes_max=8 * 1024 * 1024)
    rule.read(blocks.next(*chunks[:400]))
    rule.read(blocks.next(*chunks[400:]))
    assert order_of(rule.read(blocks.next((commit(entry, chunks=len(chunks)), (A,))))) == []
    assert rule.voids == {Void.REFUSED: 1}


def test_rules_say_what_they_are() -> None:
    assert rules() == rules()
    with pytest.raises(AssertionError):
        reader(bucket_ms=500)
