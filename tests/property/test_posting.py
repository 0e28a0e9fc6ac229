"""Packing: any bundles, in their order, in transactions that are exactly as long as was counted."""

import functools
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from solders.hash import Hash
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from nodes.model.bundle import Bundle, Leg
from nodes.model.ids import LegHash, RollupId, rollup_id_of
from nodes.model.solana import PACKET_BYTES
from nodes.rules import inbox as codec
from nodes.rules.posting import Layout, Pieces, Posting, flaw_of_size, needs_pieces, pack, pieces_of
from nodes.rules.posting_values import WHOLE, Todo
from nodes.solana.payers import Payer
from nodes.solana.posting_signer import PostingSigner
from tests.support.solana_posting import inbox_of

ROLLUPS = tuple(rollup_id_of(number) for number in range(1, 80))
PAYER = Payer(Keypair.from_seed(bytes(32)))
layouts = st.builds(Layout, has_lookup_table=st.booleans(), has_price=st.booleans(), is_memo=st.booleans()).filter(
    lambda layout: not (layout.is_memo and layout.has_lookup_table)
)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    rollups = draw(st.lists(st.sampled_from(ROLLUPS), min_size=1, max_size=draw(st.sampled_from([1, 2, 2, 4, 30]))))
    sizes = st.one_of(st.integers(1, 300), st.integers(1, 2_500))
    is_plain = len(rollups) == 1 and draw(st.booleans())
    legs = [
        Leg(
            rollup_id=rollup_id,
            payload=draw(st.binary(min_size=1, max_size=4)) * draw(sizes),
            leg_hash=LegHash(b"" if is_plain else draw(st.binary(min_size=32, max_size=32))),
        )
        for rollup_id in rollups
    ]
    if is_plain:
        return Bundle(version=0, expiry=0, legs=tuple(legs))
    return Bundle(version=draw(st.integers(0, 2**32 - 1)), expiry=draw(st.integers(0, 2**64 - 1)), legs=tuple(legs))


@functools.cache
def signer_of(layout: Layout) -> PostingSigner:
    inbox = inbox_of(ROLLUPS[:60], lookup=layout.has_lookup_table, memo=layout.is_memo)
    signer = PostingSigner(inbox, cu_price_micro_lamports=1_000 if layout.has_price else 0)
    assert signer.layout == layout
    return signer


def signed_bytes(posting: Posting, layout: Layout) -> bytes:
    return signer_of(layout).sign(Todo(posting, WHOLE), PAYER, blockhash=bytes(32), last_valid_height=0).raw


def within(bundle: Bundle) -> Bundle:
    """The same on rollups that the inbox has."""
    legs = [
        Leg(
            rollup_id=ROLLUPS[int.from_bytes(leg.rollup_id, "big") % 60],
            payload=leg.payload,
            leg_hash=leg.leg_hash,
        )
        for leg in bundle.legs
    ]
    return Bundle(version=bundle.version, expiry=bundle.expiry, legs=tuple(legs))


def read(postings: Sequence[Posting | Pieces]) -> list[Bundle]:
    """What a reader makes of them."""
    found: list[Bundle] = []
    for posting in postings:
        if isinstance(posting, Pieces):
            parts = [codec.decode_instruction(chunk.data) for chunk in posting.chunks]
            entry = b"".join([part.data for part in parts if isinstance(part, codec.Chunk)])
            commit = codec.decode_instruction(posting.commit.data)
            assert isinstance(commit, codec.Commit)
            assert commit.chunks == len(parts)
            rollups: Sequence[RollupId | None] = posting.commit.rollups
        else:
            decoded = codec.decode_instruction(posting.data)
            assert isinstance(decoded, bytes)
            entry, rollups = decoded, posting.rollups
        bundles_read = codec.decode_entries(entry, rollups)
        assert bundles_read is not None
        found += bundles_read
    return found


@settings(max_examples=100, deadline=None)
@given(st.lists(bundles().map(within), max_size=12), layouts, st.none() | st.integers(1, 3))
def test_pack(offered: list[Bundle], layout: Layout, postings_max: int | None) -> None:
    taken = [(number, bundle) for number, bundle in enumerate(offered, start=1) if not flaw_of_size(bundle, layout)]
    postings, packed = pack(iter(taken), layout, postings_max=postings_max)
    if postings_max is None:
        assert packed == len(taken)
    else:
        assert len(postings) <= postings_max
    assert read(postings) == [bundle for _, bundle in taken[:packed]]
    items = [
        item for posting in postings for item in ([posting.item] if isinstance(posting, Pieces) else posting.items)
    ]
    assert items == [number for number, _ in taken[:packed]]
    for posting in postings:
        for one in (*posting.chunks, posting.commit) if isinstance(posting, Pieces) else [posting]:
            raw = signed_bytes(one, layout)
            counted = layout.transaction_bytes(rollups=len(one.rollups), data_bytes=len(one.data))
            assert len(raw) == counted <= PACKET_BYTES
            transaction = VersionedTransaction.from_bytes(raw)
            assert transaction.message.recent_blockhash == Hash(bytes(32))
            assert all(transaction.verify_with_results())


@settings(max_examples=60, deadline=None)
@given(bundles().map(within), bundles().map(within), layouts)
def test_nothing_is_left_out_that_would_have_fitted(first: Bundle, second: Bundle, layout: Layout) -> None:
    taken = [(1, first), (2, second)]
    if any(flaw_of_size(bundle, layout) or needs_pieces(bundle, layout) for _, bundle in taken):
        return
    postings, _ = pack(taken, layout)
    together = len({leg.rollup_id for bundle in (first, second) for leg in bundle.legs})
    size = codec.POST_HEAD_BYTES + codec.entry_bytes(first) + codec.entry_bytes(second)
    assert (len(postings) == 1) == layout.fits(rollups=together, data_bytes=size)


@settings(max_examples=60, deadline=None)
@given(bundles(), layouts)
def test_pieces_do_not_depend_on_the_price(bundle: Bundle, layout: Layout) -> None:
    other = Layout(has_lookup_table=layout.has_lookup_table, has_price=not layout.has_price, is_memo=layout.is_memo)
    assert pieces_of(1, bundle, layout).chunks == pieces_of(1, bundle, other).chunks


@given(layouts)
def test_room_is_exact(layout: Layout) -> None:
    for rollups, room in enumerate(layout.room_bytes):
        assert layout.transaction_bytes(rollups=rollups, data_bytes=room) <= PACKET_BYTES
        more = layout.transaction_bytes(rollups=rollups, data_bytes=room + 1) > PACKET_BYTES
        assert more or room == layout.room_bytes[rollups - 1]
