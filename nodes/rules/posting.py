"""Packing bundles into Solana transactions: in their order, under the packet limit, no bundle in two postings.

Counts bytes exactly, so that nothing is built only to be thrown away; it neither signs nor sends. A transaction holds
compute-budget instructions and one of the inbox (or of SPL Memo):

legacy   u8 1 | signature 64 | header 3 | u8 n | n x key 32 | blockhash 32 | u8 n | instructions
v0       as legacy, with a version byte before the header, keys of rollups in a lookup table, and that behind
budget   limit 8 | loaded accounts size 8 | price 12 where one is paid
inbox    u8 program | u8 n | n x u8 account | u8 or u16 length | data
lookup   u8 1 | table key 32 | u8 n | n x u8 index | u8 0
keys     payer, rollups (in the table where there is one), the budget program, the inbox

Lengths follow https://solana.com/docs/core/transactions; a property test compares them with serialized transactions.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from nodes.model.bundle import Bundle
from nodes.model.errors import LimitExceeded
from nodes.model.ids import RollupId
from nodes.model.solana import PACKET_BYTES
from nodes.rules.inbox import (
    CHUNK_HEAD_BYTES,
    COMMIT_BYTES,
    MAX_SLOTS,
    MEMO_MARK,
    POST_HEAD_BYTES,
    chunks_of,
    commit,
    encode_entry,
    entry_bytes,
    post,
)

MAX_ACCOUNT_KEYS = 64
"""Accounts that one transaction may lock, those of a lookup table included."""
LOOKUP_FROM_ROLLUPS = 2
"""A lookup table costs 36 bytes and saves 31 per rollup: for one rollup the plain form is shorter."""
MAX_CHUNKS = 1 << 16
_KEY_BYTES = 32
_SIGNATURES_BYTES = 65
_HEADER_BYTES = 3
_BLOCKHASH_BYTES = 32
_BUDGET_BYTES = 16
_PRICE_BYTES = 12
_FIXED_KEYS = 3
_MEMO_TABLE_BYTES = 2


class Posting(NamedTuple):
    """One inbox instruction, to be sent in a transaction of its own."""

    rollups: tuple[RollupId, ...]
    """Those whose accounts it names, in the order of their slots; empty for a chunk."""
    data: bytes
    """Instruction data; in memo mode, what the memo encodes."""
    items: tuple[int, ...]
    """Sequences of the bundles in it; of the one that a chunk is a piece of."""


class Pieces(NamedTuple):
    """A bundle that is too large for one posting: chunks in any order, then the commit that releases them."""

    item: int
    chunks: tuple[Posting, ...]
    commit: Posting


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What one transaction has room for."""

    has_lookup_table: bool = False
    """For the accounts of all rollups."""
    has_price: bool = False
    """Transactions pay a priority fee."""
    is_memo: bool = False

    def transaction_bytes(self, *, rollups: int, data_bytes: int) -> int:
        """Serialized length of a transaction with this instruction, one signature included."""
        named = 0 if self.is_memo else rollups
        in_table = named if self.uses_lookup(named) else 0
        keys = _FIXED_KEYS + named - in_table
        message = _HEADER_BYTES + 1 + keys * _KEY_BYTES + _BLOCKHASH_BYTES
        message += 1 + _BUDGET_BYTES + (_PRICE_BYTES if self.has_price else 0)
        if in_table:
            message += 1 + 1 + _KEY_BYTES + 1 + in_table + 1
        size = memo_bytes(data_bytes, rollups=rollups) if self.is_memo else data_bytes
        return _SIGNATURES_BYTES + message + 1 + 1 + (1 + named) + _length_bytes(size) + size

    def uses_lookup(self, rollups: int) -> bool:
        """Whether a transaction that names so many rollups refers to the lookup table."""
        return self.has_lookup_table and not self.is_memo and rollups >= LOOKUP_FROM_ROLLUPS

    @cached_property
    def room_bytes(self) -> tuple[int, ...]:
        """By the number of rollups that it names: how long the instruction data may be. The last is of `max_rollups`.

        Never grows along the numbers, so what does not fit with few rollups does not fit with more.
        """
        rooms: list[int] = []
        for rollups in range(min(MAX_SLOTS, MAX_ACCOUNT_KEYS - _FIXED_KEYS) + 1):
            room = PACKET_BYTES
            while room >= COMMIT_BYTES and self.transaction_bytes(rollups=rollups, data_bytes=room) > PACKET_BYTES:
                room -= 1
            if room < COMMIT_BYTES:
                break
            rooms.append(min(room, rooms[-1]) if rooms else room)
        return tuple(rooms)

    @property
    def max_rollups(self) -> int:
        """Rollups that one bundle may name: a commit of it must fit."""
        return len(self.room_bytes) - 1

    @cached_property
    def chunk_bytes(self) -> int:
        """Bytes of an entry in one chunk. The same with and without a price, which may change while chunks are out."""
        return replace(self, has_price=True).room_bytes[0] - CHUNK_HEAD_BYTES

    def fits(self, *, rollups: int, data_bytes: int) -> bool:
        """Whether one transaction holds this instruction."""
        rooms = self.room_bytes
        return rollups < len(rooms) and data_bytes <= rooms[rollups]


def flaw_of_size(bundle: Bundle, layout: Layout) -> str:
    """Why a bundle can never be posted; empty where it can, in one transaction or in chunks."""
    rollups = len({leg.rollup_id for leg in bundle.legs})
    if rollups > layout.max_rollups:
        return str(
            LimitExceeded(
                limit="rollups of one bundle (accounts of one Solana transaction)",
                value=rollups,
                maximum=layout.max_rollups,
            )
        )
    chunks = -(-entry_bytes(bundle) // layout.chunk_bytes)
    if chunks >= MAX_CHUNKS:
        return str(LimitExceeded(limit="chunks of one bundle", value=chunks, maximum=MAX_CHUNKS - 1))
    return ""


def pack(
    items: Iterable[tuple[int, Bundle]], layout: Layout, *, postings_max: int | None = None
) -> tuple[list[Posting | Pieces], int]:
    """Postings of the bundles, in their order, and how many bundles are in them: all, unless `postings_max` are full.

    Each (sequence, bundle) passed `flaw_of_size`. The next bundle goes into the current posting where it fits, else
    into a new one: a smaller one behind it does not overtake. One bundle more than counted may have been drawn.
    """
    postings: list[Posting | Pieces] = []
    rooms = layout.room_bytes
    max_rollups = layout.max_rollups
    slots: dict[RollupId, int] = {}
    entries: list[bytes] = []
    sequences: list[int] = []
    size_bytes = POST_HEAD_BYTES
    packed = 0
    for sequence, bundle in items:
        length = entry_bytes(bundle)
        named = {leg.rollup_id for leg in bundle.legs}
        together = len(named.union(slots))
        if entries and (together > max_rollups or size_bytes + length > rooms[together]):
            postings.append(Posting(tuple(slots), post(entries), tuple(sequences)))
            slots, entries, sequences, size_bytes = {}, [], [], POST_HEAD_BYTES
        if not entries and postings_max is not None and len(postings) >= postings_max:
            return postings, packed
        packed += 1
        if not entries and size_bytes + length > rooms[len(named)]:
            postings.append(pieces_of(sequence, bundle, layout))
            continue
        for leg in bundle.legs:
            slots.setdefault(leg.rollup_id, len(slots))
        entries.append(encode_entry(bundle, slots))
        sequences.append(sequence)
        size_bytes += length
    if entries:
        postings.append(Posting(tuple(slots), post(entries), tuple(sequences)))
    return postings, packed


def needs_pieces(bundle: Bundle, layout: Layout) -> bool:
    """Whether no single posting holds the bundle."""
    rollups = len({leg.rollup_id for leg in bundle.legs})
    return not layout.fits(rollups=rollups, data_bytes=POST_HEAD_BYTES + entry_bytes(bundle))


def pieces_of(sequence: int, bundle: Bundle, layout: Layout) -> Pieces:
    """A bundle in chunks; the same every time, so that a single chunk can be posted again after a restart."""
    rollups = tuple(dict.fromkeys([leg.rollup_id for leg in bundle.legs]))
    entry = encode_entry(bundle, {rollup_id: slot for slot, rollup_id in enumerate(rollups)})
    chunks = chunks_of(entry, size=layout.chunk_bytes)
    items = (sequence,)
    return Pieces(
        sequence,
        tuple([Posting((), chunk, items) for chunk in chunks]),
        Posting(rollups, commit(entry, chunks=len(chunks)), items),
    )


def memo_bytes(data_bytes: int, *, rollups: int) -> int:
    """Length of the memo that `nodes.rules.inbox.encode_memo` makes."""
    return len(MEMO_MARK) + 4 * -(-(1 + _MEMO_TABLE_BYTES * rollups + data_bytes) // 3)


def _length_bytes(value: int) -> int:
    """Of a compact length."""
    return 1 if value < 0x80 else 2 if value < 0x4000 else 3
