"""Reading is a function of the chain: however it is handed over, interrupted, stored or rolled back."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.model.ids import RollupId
from nodes.model.solana import SolanaBlock
from nodes.rules.inbox import EMPTY_STATE, changes_state, chunks_of, commit, encode_entry, roll
from nodes.rules.inbox_reader import InboxReader, NewHeight, Snapshot
from nodes.solana.reader_forms import block_from_bytes, block_to_bytes, snapshot_from_bytes, snapshot_to_bytes
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_blocks import (
    ACCOUNT,
    A,
    B,
    Blocks,
    C,
    Posted,
    bundle,
    order_of,
    plain,
    posted,
    rules,
    slots_of,
)

_GROUPS: tuple[tuple[RollupId, ...], ...] = ((A, B), (B, A, C), (C,))
_LARGE = [encode_entry(bundle(number, size=300), slots_of((A, B))) for number in (50, 51)]
_CHUNKS: list[Posted] = [(data, ()) for entry in _LARGE for data in chunks_of(entry, size=250)]
_COMMITS: list[Posted] = [(commit(entry, chunks=len(chunks_of(entry, size=250))), (A, B)) for entry in _LARGE]

_BUNDLES = st.one_of(
    st.builds(bundle, st.integers(0, 6), rollups=st.sampled_from(_GROUPS), size=st.sampled_from([8, 60])),
    st.builds(plain, st.integers(0, 6), rollup=st.sampled_from([A, B, C])),
)
_POSTINGS = st.one_of(
    st.lists(_BUNDLES, max_size=4).map(lambda bundles: posted(*bundles, rollups=(A, B, C))),
    st.sampled_from([*_CHUNKS, *_COMMITS]),
    st.tuples(st.binary(max_size=80), st.sampled_from(_GROUPS)),
    st.tuples(st.binary(max_size=60).map(lambda data: b"\x01\x01" + data), st.sampled_from(_GROUPS)),
    st.tuples(st.binary(max_size=60).map(lambda data: b"\x03\x01" + data), st.sampled_from(_GROUPS)),
)
_SHAPES = st.lists(st.tuples(st.lists(_POSTINGS, max_size=4), st.integers(0, 5)), min_size=1, max_size=12)
_RULES = st.fixed_dictionaries(
    {
        "bucket_ms": st.sampled_from([0, 1_000, 2_500]),
        "dedup_heights": st.sampled_from([1, 3, 100]),
        "block_bytes_max": st.sampled_from([1_000, 100_000]),
    }
)


def _chain(shapes: Sequence[tuple[Sequence[Posted], int]]) -> list[SolanaBlock]:
    blocks = Blocks()
    return [blocks.next(*postings, skipped=skipped) for postings, skipped in shapes]


def _reader(changes: dict[str, int]) -> InboxReader:
    return InboxReader(rules(**changes), canonical=bundle_to_bytes)


def _read(reader: InboxReader, blocks: Sequence[SolanaBlock]) -> list[NewHeight]:
    return [height for block in blocks for height in reader.read(block)]


@settings(max_examples=150, deadline=None)
@given(shapes=_SHAPES, changes=_RULES, cut=st.integers(0, 12))
def test_a_reader_that_was_stored_and_started_again_goes_on_with_the_same_heights(
    shapes: list[tuple[list[Posted], int]], changes: dict[str, int], cut: int
) -> None:
    blocks = _chain(shapes)
    straight = _reader(changes)
    heights = _read(straight, blocks)
    at = min(cut, len(blocks))
    first = _reader(changes)
    before = _read(first, blocks[:at])
    second = _reader(changes)
    if at:
        second.restore(_stored(first.snapshot()))
    after = _read(second, [block_from_bytes(block_to_bytes(block)) for block in blocks[at:]])
    assert [height.header_hash for height in (*before, *after)] == [height.header_hash for height in heights]
    assert second.snapshot() == straight.snapshot()


@settings(max_examples=100, deadline=None)
@given(shapes=_SHAPES, wrong=_SHAPES, changes=_RULES, cut=st.integers(0, 12))
def test_a_branch_that_was_left_leaves_no_trace(
    shapes: list[tuple[list[Posted], int]], wrong: list[tuple[list[Posted], int]], changes: dict[str, int], cut: int
) -> None:
    blocks = Blocks()
    stem = [blocks.next(*postings, skipped=skipped) for postings, skipped in shapes[:cut]]
    other = blocks.copy()
    branch = [other.next(*postings, skipped=skipped) for postings, skipped in wrong]
    rest = [blocks.next(*postings, skipped=skipped) for postings, skipped in shapes[cut:]]
    reader = _reader(changes)
    before = _read(reader, stem)
    place = reader.snapshot()
    _read(reader, branch)
    reader.restore(place)
    after = _read(reader, rest)
    straight = _reader(changes)
    assert [height.header_hash for height in (*before, *after)] == [
        height.header_hash for height in _read(straight, (*stem, *rest))
    ]
    assert reader.snapshot() == straight.snapshot()


@settings(max_examples=100, deadline=None)
@given(shapes=_SHAPES, changes=_RULES)
def test_what_is_read_keeps_its_bounds(shapes: list[tuple[list[Posted], int]], changes: dict[str, int]) -> None:
    reader = _reader(changes)
    blocks = _chain(shapes)
    heights = _read(reader, blocks)
    for height in heights:
        size = sum(
            len(item) for content in height.trees.contents.values() for item in (*content.payloads, *content.rows)
        )
        assert size <= changes["block_bytes_max"]
        assert height.trees.contents.keys() <= ACCOUNT.keys()
    times = [height.header.time_ns for height in heights]
    assert times == sorted(times)
    if changes["dedup_heights"] == 100:
        order = order_of(heights)
        assert len(order) == len(set(order))
    states = dict.fromkeys(ACCOUNT, EMPTY_STATE)
    for block in blocks:
        for item in block.instructions:
            for rollup_id, account in ACCOUNT.items():
                if changes_state(item.data) and account in item.accounts[1:]:
                    states[rollup_id] = roll(states[rollup_id], item.data)
    assert reader.states == states
    if not changes["bucket_ms"]:
        assert len(heights) >= len(blocks)


def _stored(snapshot: Snapshot) -> Snapshot:
    """As a store gives it back, which keeps the memory of submissions beside the heights."""
    stored = snapshot_from_bytes(snapshot_to_bytes(snapshot))
    kept = {one.height: one.hashes for one in snapshot.sequenced}
    return replace(stored, sequenced=tuple([one._replace(hashes=kept[one.height]) for one in stored.sequenced]))
