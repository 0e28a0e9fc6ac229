"""Bytes of the Solana inbox: what a posting holds, and how a rollup's rolling hash goes on. Little-endian throughout.

INIT    u8 0 | u8 bump | rollup_id 32                     creates the account of a rollup
POST    u8 1 | u8 format | entries                        accounts: payer, then the account of each rollup named
CHUNK   u8 2 | u8 format | digest 32 | u16 index | bytes  writes no state; any number, in any order
COMMIT  u8 3 | u8 format | digest 32 | u16 chunks         releases its payer's chunks as one entry, at its place
entry   plain   u8 0 | u8 slot | u24 length | payload
        bundle  u8 n | u32 version | u64 expiry | n x (u8 slot | u24 length | leg_hash 32) | payloads
state   u8 1 | u8 bump | u48 slot of INIT | rollup_id 32 | u64 sequence | u64 data_bytes | rolling_hash 32    88 bytes

A slot is an index into the rollup accounts of the instruction, in their order. `digest` is the SHA-256 of the entry
that the chunks give in order of their index. The program hashes the whole instruction data into every rollup that it
names, so each rolling hash commits to the siblings' legs too; it does not look into entries: what they mean, and that
they may be nonsense, is decided by every reader in the same way. Total over byte strings: nonsense decodes to None.

In memo mode there is no account and no state: the data of SPL Memo is "lk1" and the base64 of
u8 n | n x u16 index | POST, CHUNK or COMMIT, with slots into the list of indexes, which count the testnet's rollups.
"""

import base64
import binascii
import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nodes.model.bundle import Bundle, Leg
from nodes.model.ids import HASH_BYTES, LegHash, RollupId
from nodes.model.limits import MAX_PAYLOAD_BYTES
from nodes.model.solana import InboxState
from nodes.rules.hashes import sha256

INIT, POST, CHUNK, COMMIT = range(4)
FORMAT = 1
SEED = b"rollup"
"""The account of a rollup is the program-derived address of this and the rollup id."""
STATE_BYTES = 88
STATE_VERSION = 1
MAX_SLOTS = 255
POST_HEAD_BYTES = 2
CHUNK_HEAD_BYTES = 36
COMMIT_BYTES = 36
MEMO_MARK = b"lk1"

_U16 = struct.Struct("<H")
_CLAIM = struct.Struct("<BIQ")
_STATE = struct.Struct("<BB6x32sQQ32s")


class Chunk(NamedTuple):
    """A piece of an entry that is too large for one transaction."""

    digest: bytes
    place: int
    """From 0."""
    data: bytes


class Commit(NamedTuple):
    """Releases an entry whose chunks, of the same payer, stand at or before it."""

    digest: bytes
    chunks: int


def encode_entry(bundle: Bundle, slots: Mapping[RollupId, int]) -> bytes:
    """One bundle, or one plain transaction. `slots` has each rollup that it touches."""
    if bundle.is_plain:
        leg = bundle.legs[0]
        return bytes((0, slots[leg.rollup_id])) + len(leg.payload).to_bytes(3, "little") + leg.payload
    parts = [_CLAIM.pack(len(bundle.legs), bundle.version, bundle.expiry)]
    parts += [
        bytes((slots[leg.rollup_id],)) + len(leg.payload).to_bytes(3, "little") + leg.leg_hash for leg in bundle.legs
    ]
    parts += [leg.payload for leg in bundle.legs]
    return b"".join(parts)


def entry_bytes(bundle: Bundle) -> int:
    """Length of `encode_entry`."""
    payloads = sum([len(leg.payload) for leg in bundle.legs])
    return payloads + (5 if bundle.is_plain else _CLAIM.size + (4 + HASH_BYTES) * len(bundle.legs))


def decode_entries(data: bytes, rollups: Sequence[RollupId | None]) -> list[Bundle] | None:
    """The entries of a posting, whose slots stand for `rollups`; None where the bytes are not exactly entries.

    A slot that is beyond the list or stands for no rollup of the testnet makes all of it nonsense, as does a payload
    that is empty or above MAX_PAYLOAD_BYTES.
    """
    bundles: list[Bundle] = []
    at = 0
    while at < len(data):
        found = _decode_entry(data, at, rollups)
        if found is None:
            return None
        bundle, at = found
        bundles.append(bundle)
    return bundles


def _decode_entry(data: bytes, at: int, rollups: Sequence[RollupId | None]) -> tuple[Bundle, int] | None:
    count = data[at]
    version = expiry = 0
    is_plain = count == 0
    size = 4 if is_plain else 4 + HASH_BYTES
    if is_plain:
        count, at = 1, at + 1
    elif at + _CLAIM.size > len(data):
        return None
    else:
        _, version, expiry = _CLAIM.unpack_from(data, at)
        at += _CLAIM.size
    payload_at = at + count * size
    if payload_at > len(data):
        return None
    legs = []
    for leg_at in range(at, payload_at, size):
        slot = data[leg_at]
        rollup_id = rollups[slot] if slot < len(rollups) else None
        length = int.from_bytes(data[leg_at + 1 : leg_at + 4], "little")
        if rollup_id is None or not 1 <= length <= MAX_PAYLOAD_BYTES or payload_at + length > len(data):
            return None
        payload = data[payload_at : payload_at + length]
        legs.append(Leg(rollup_id=rollup_id, payload=payload, leg_hash=LegHash(data[leg_at + 4 : leg_at + size])))
        payload_at += length
    return Bundle(version=version, expiry=expiry, legs=tuple(legs)), payload_at


def post(entries: Sequence[bytes]) -> bytes:
    """Instruction data of a POST."""
    return bytes((POST, FORMAT)) + b"".join(entries)


def chunks_of(entry: bytes, *, size: int) -> list[bytes]:
    """Instruction data of the CHUNKs of one entry, at most `size` bytes of it in each."""
    digest = sha256(entry)
    return [
        bytes((CHUNK, FORMAT)) + digest + _U16.pack(index) + entry[at : at + size]
        for index, at in enumerate(range(0, len(entry), size))
    ]


def commit(entry: bytes, *, chunks: int) -> bytes:
    """Instruction data of the COMMIT of one entry."""
    return bytes((COMMIT, FORMAT)) + sha256(entry) + _U16.pack(chunks)


def init(rollup_id: RollupId, *, bump: int) -> bytes:
    """Instruction data of an INIT."""
    return bytes((INIT, bump)) + rollup_id


def decode_instruction(data: bytes) -> bytes | Chunk | Commit | None:
    """The entries of a POST (see `decode_entries`), a Chunk or a Commit; None for INIT and for nonsense."""
    if len(data) < POST_HEAD_BYTES or data[1] != FORMAT:
        return None
    if data[0] == POST:
        return data[POST_HEAD_BYTES:]
    if data[0] == CHUNK and len(data) > CHUNK_HEAD_BYTES:
        return Chunk(data[2:34], _U16.unpack_from(data, 34)[0], data[CHUNK_HEAD_BYTES:])
    if data[0] == COMMIT and len(data) == COMMIT_BYTES:
        return Commit(data[2:34], _U16.unpack_from(data, 34)[0])
    return None


def changes_state(data: bytes) -> bool:
    """Whether the program, had it succeeded with these bytes, moved the state of each rollup account it was given."""
    return len(data) >= POST_HEAD_BYTES and data[0] in {POST, COMMIT} and data[1] == FORMAT


def roll(state: InboxState, data: bytes) -> InboxState:
    """The state of a rollup after a posting with these instruction data.

    rolling_hash = SHA-256(rolling_hash || u64 sequence before || SHA-256(data))
    """
    rolling = sha256(state.rolling_hash + state.sequence.to_bytes(8, "little") + sha256(data))
    return InboxState(sequence=state.sequence + 1, data_bytes=state.data_bytes + len(data), rolling_hash=rolling)


EMPTY_STATE = InboxState(sequence=0, data_bytes=0, rolling_hash=bytes(HASH_BYTES))


def decode_state(data: bytes) -> tuple[RollupId, InboxState] | None:
    """What an account of the program says; None where it is no account of a rollup."""
    if len(data) != STATE_BYTES or data[0] != STATE_VERSION:
        return None
    _, _, rollup_id, sequence, data_bytes, rolling = _STATE.unpack(data)
    return RollupId(rollup_id), InboxState(sequence=sequence, data_bytes=data_bytes, rolling_hash=rolling)


def encode_memo(data: bytes, indexes: Sequence[int]) -> bytes:
    """Data of an SPL Memo instruction: text, four bytes for every three."""
    table = bytes((len(indexes),)) + b"".join([_U16.pack(index) for index in indexes])
    return MEMO_MARK + base64.b64encode(table + data)


def decode_memo(memo: bytes) -> tuple[bytes, tuple[int, ...]] | None:
    """Instruction data and indexes; None for a memo of somebody else."""
    if not memo.startswith(MEMO_MARK):
        return None
    try:
        data = base64.b64decode(memo[len(MEMO_MARK) :], validate=True)
    except binascii.Error:
        return None
    if not data or len(data) < 1 + 2 * data[0]:
        return None
    indexes = struct.unpack_from(f"<{data[0]}H", data, 1)
    return data[1 + 2 * data[0] :], indexes
