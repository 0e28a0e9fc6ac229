"""Bundle hash, and the byte encodings of submissions' rows.

bundle_hash = keccak256(rlp([version, expiry, [leg_hash_0, ..., leg_hash_n-1]]))
row         = u32 ordinal | u32 version | u64 expiry | u8 n | n x leg
leg         = rollup_id 32 | u32 position | leg_hash 32 | u32 row_index
"""

import struct
from collections.abc import Sequence

from nodes.model.bundle import Row, RowLeg
from nodes.model.ids import BundleHash, LegHash, RollupId
from nodes.rules import rlp
from nodes.rules.hashes import keccak256

_HEAD = struct.Struct(">IIQB")
_LEG = struct.Struct(">32sI32sI")


def bundle_hash(*, version: int, expiry: int, leg_hashes: Sequence[bytes]) -> BundleHash:
    """The 32 bytes that every leg of the bundle names in its trailer."""
    legs = rlp.encode_list([b"\xa0" + leg if len(leg) == 32 else rlp.encode_bytes(leg) for leg in leg_hashes])
    return BundleHash(keccak256(rlp.encode_list((rlp.encode_int(version), rlp.encode_int(expiry), legs))))


def row_hash(row: Row) -> BundleHash:
    """The bundle hash that a row's own preimage gives."""
    return bundle_hash(version=row.version, expiry=row.expiry, leg_hashes=[leg.leg_hash for leg in row.legs])


def row_bytes(legs: int) -> int:
    """Length of the encoding of a row with so many legs."""
    return _HEAD.size + legs * _LEG.size


def encode_row(row: Row) -> bytes:
    """Exact bytes of a row. Raises struct.error where a number does not fit its field."""
    legs = b"".join([_LEG.pack(*leg) for leg in row.legs])
    return _HEAD.pack(row.ordinal, row.version, row.expiry, len(row.legs)) + legs


def decode_row(data: bytes) -> Row | None:
    """The row, or None where the bytes are not exactly one row. Total over byte strings."""
    if len(data) < _HEAD.size:
        return None
    ordinal, version, expiry, count = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + count * _LEG.size:
        return None
    legs = tuple(
        RowLeg(RollupId(rollup_id), position, LegHash(leg_hash), row_index)
        for rollup_id, position, leg_hash, row_index in _LEG.iter_unpack(data[_HEAD.size :])
    )
    return Row(ordinal, version, expiry, legs)
