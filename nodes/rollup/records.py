"""What a rollup node keeps about one sequenced height and about one rollup block: packed columns, and views into them.

A block of 150 transactions is a handful of byte strings, not 150 objects: at 1,500 transactions per second and
rollup the difference decides memory and garbage collection. Pure values; storage is `journal`, search is `index`.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.bundle import Trailer
from nodes.model.execution import (
    AbortReason,
    Derived,
    DropReason,
    ExecutedBlock,
    Outcome,
    SkipReason,
    Status,
    Transaction,
)
from nodes.model.ids import HASH_BYTES, BundleHash, Height, TxHash
from nodes.model.sequenced_block import Commitment
from nodes.rules import rlp
from nodes.rules.payload import trailer_of
from nodes.rules.verdict import DEPOSIT_TYPE

_END = struct.Struct(">I")
_LEFT_OUT = struct.Struct(">BBI32sB32sBB")
_NO_HASH = bytes(HASH_BYTES)
SKIPPED = "skipped"
DROPPED = "dropped"
ABORTED = "aborted"
_SKIPPED, _DROPPED, _REMOVED, _BURNT = range(4)
_REASONS: dict[int, type[SkipReason | DropReason | AbortReason]] = {
    _SKIPPED: SkipReason, _DROPPED: DropReason, _REMOVED: AbortReason, _BURNT: AbortReason,
}  # fmt: skip
_FATES = {_SKIPPED: SKIPPED, _DROPPED: DROPPED, _REMOVED: ABORTED, _BURNT: ABORTED}
_DATA_FIELD = {1: 6, 2: 7}
"""Where calldata stands among the fields of a typed transaction; 5 in a legacy one."""
_LEGACY_DATA_FIELD = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedBlock:
    """One rollup block with its executed transactions (skipped ones are not in the block), in block order."""

    number: int
    height: Height
    """The sequenced height it was derived from; 0 for genesis."""
    hash: bytes
    parent_hash: bytes
    state_root: bytes
    timestamp_s: int
    gas_used: int
    receipts_root: bytes
    """With it the whole header can be made again, long after the engine forgot it."""
    logs_bloom: bytes
    """256 bytes."""
    tx_hashes: bytes
    """32 bytes each."""
    statuses: bytes
    """One byte each: `Status.SUCCEEDED` or `Status.REVERTED`."""
    payloads: bytes
    """The signed transactions one behind the other."""
    payload_ends: bytes
    """Where each ends in `payloads`; u32 each."""

    def __len__(self) -> int:
        return len(self.statuses)

    @property
    def size_bytes(self) -> int:
        """Memory of the columns, roughly."""
        return len(self.tx_hashes) + len(self.payloads) + len(self.payload_ends) + 1024

    def tx_hash(self, position: int) -> TxHash:
        """Hash of the transaction at `position`."""
        return TxHash(self.tx_hashes[position * HASH_BYTES : (position + 1) * HASH_BYTES])

    def payload(self, position: int) -> bytes:
        """The signed bytes of the transaction at `position`; `nodes.rules.payload.decode` takes them apart."""
        start = _END.unpack_from(self.payload_ends, (position - 1) * _END.size)[0] if position else 0
        return self.payloads[start : _END.unpack_from(self.payload_ends, position * _END.size)[0]]

    def status(self, position: int) -> Status:
        """Whether the transaction at `position` succeeded or reverted."""
        return Status(self.statuses[position])

    def position_of(self, tx_hash: bytes) -> int | None:
        """Where a transaction stands in the block, or None."""
        return position_of(self.tx_hashes, tx_hash)

    def payload_list(self) -> list[bytes]:
        """All signed transactions in block order."""
        ends = [end for (end,) in _END.iter_unpack(self.payload_ends)]
        return [self.payloads[start:end] for start, end in zip([0, *ends], ends)]

    def trailers(self) -> Iterator[tuple[int, Trailer]]:
        """(position, trailer) of every executed leg of a bundle."""
        for position, payload in enumerate(self.payload_list()):
            trailer = trailer_of_payload(payload)
            if trailer is not None:
                yield position, trailer


def position_of(hashes: bytes, wanted: bytes) -> int | None:
    """Index of a 32-byte hash in a column of them, or None."""
    at = hashes.find(wanted)
    while at >= 0:
        if at % HASH_BYTES == 0:
            return at // HASH_BYTES
        at = hashes.find(wanted, at + 1)
    return None


def trailer_of_payload(payload: bytes) -> Trailer | None:
    """The trailer of an executed payload, without recovering its signer. A deposit has none, whatever its data."""
    if payload[0] == DEPOSIT_TYPE:
        return None
    if payload[0] >= 0xC0:
        items, field = rlp.split(payload, 0), _LEGACY_DATA_FIELD
    else:
        items, field = rlp.split(payload, 1), _DATA_FIELD[payload[0]]
    _, start, stop, _ = items[field]
    return trailer_of(payload[start:stop])


class LeftOut(NamedTuple):
    """A payload of a height that is in no block."""

    fate: str
    """`SKIPPED`, `DROPPED` or `ABORTED`."""
    reason: SkipReason | DropReason | AbortReason
    position: int
    """Index in the rollup's payload list of the sequenced block."""
    tx_hash: TxHash
    trailer: Trailer | None
    burnt: bool = False
    """Aborted, and a deposit in its place advanced the signer's nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeightRecord:
    """One executed sequenced height."""

    height: Height
    header_hash: bytes
    time_ns: int
    """Of the sequenced block."""
    number: int
    """The rollup's head after this height; unchanged where nothing was admitted."""
    hash: bytes
    """Hash of that head."""
    block: IndexedBlock | None
    """Where the derived list was not empty."""
    left_out: bytes
    """Skipped, dropped and aborted payloads, packed; see `unpack_left_out`."""
    level: Commitment
    """How firmly the height was promised when it was executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What became of one derived height."""

    block: ExecutedBlock | None
    """None where nothing was handed to the engine."""
    transactions: Sequence[tuple[bytes, Transaction]]
    """(payload, decoded) as they were handed in, burns included; `block.outcomes` stands in this order."""
    outcomes: tuple[Outcome, ...]
    """One per admitted leg, in the order of `Derived.admitted`."""
    burnt: frozenset[int] = frozenset()
    """Indexes of admitted legs in whose place a burn stands."""


def block_of(
    height: Height, executed: ExecutedBlock, transactions: Sequence[tuple[bytes, Transaction]]
) -> IndexedBlock:
    """The columns of a block that the engine built from these transactions. Outcomes stand in their order."""
    payloads, hashes, statuses = [], [], bytearray()
    for (payload, _), outcome in zip(transactions, executed.outcomes, strict=True):
        if outcome.status is not Status.SKIPPED:
            payloads.append(payload)
            hashes.append(outcome.tx_hash)
            statuses.append(outcome.status)
    ends, total = [], 0
    for payload in payloads:
        total += len(payload)
        ends.append(total)
    return IndexedBlock(
        number=executed.number,
        height=height,
        hash=executed.hash,
        parent_hash=executed.parent_hash,
        state_root=executed.state_root,
        timestamp_s=executed.timestamp_s,
        gas_used=executed.gas_used,
        receipts_root=executed.receipts_root,
        logs_bloom=executed.logs_bloom,
        tx_hashes=b"".join(hashes),
        statuses=bytes(statuses),
        payloads=b"".join(payloads),
        payload_ends=struct.pack(f">{len(ends)}I", *ends),
    )


def pack_left_out(execution: Execution, derived: Derived) -> bytes:
    """The payloads of one height that are in no block, in one column."""
    entries = []
    for index, (leg, outcome) in enumerate(zip(derived.admitted, execution.outcomes)):
        if outcome.status is Status.SKIPPED:
            kind = _SKIPPED
        elif outcome.status is Status.ABORTED:
            kind = _BURNT if index in execution.burnt else _REMOVED
        else:
            continue
        reason = outcome.reason or 0
        entries.append(_left_out_bytes(kind, reason, leg.position, outcome.tx_hash, leg.transaction.trailer))
    entries += [
        _left_out_bytes(_DROPPED, leg.reason, leg.position, leg.tx_hash, leg.trailer) for leg in derived.dropped
    ]
    return b"".join(entries)


def _left_out_bytes(kind: int, reason: int, position: int, tx_hash: bytes, trailer: Trailer | None) -> bytes:
    bundle_hash, index, count = trailer or (_NO_HASH, 0, 0)
    return _LEFT_OUT.pack(kind, reason, position, tx_hash, trailer is not None, bundle_hash, index, count)


def unpack_left_out(column: bytes) -> Iterator[LeftOut]:
    """The entries of `HeightRecord.left_out`."""
    for kind, reason, position, tx_hash, has_trailer, bundle_hash, index, count in _LEFT_OUT.iter_unpack(column):
        yield LeftOut(
            _FATES[kind],
            _REASONS[kind](reason),
            position,
            TxHash(tx_hash),
            Trailer(BundleHash(bundle_hash), index, count) if has_trailer else None,
            kind == _BURNT,
        )


def bundle_keys(derived: Derived) -> list[bytes]:
    """The bundle hash of every leg that carries one, dropped ones included: what `index` finds bundles by."""
    keys: list[bytes] = [
        leg.transaction.trailer.bundle_hash for leg in derived.admitted if leg.transaction.trailer is not None
    ]
    keys += [leg.trailer.bundle_hash for leg in derived.dropped if leg.trailer is not None]
    return keys


def transaction_keys(block: IndexedBlock | None, left_out: bytes) -> bytes:
    """The transaction hashes of one height, 32 bytes each, those of dropped and skipped payloads included."""
    executed = block.tx_hashes if block is not None else b""
    return executed + b"".join([entry[3] for entry in _LEFT_OUT.iter_unpack(left_out)])


def stored_keys(block: IndexedBlock | None, left_out: bytes) -> bytes:
    """Transaction and bundle keys of one stored height, 32 bytes each: what was indexed when it was executed."""
    bundles: list[bytes] = [] if block is None else [trailer.bundle_hash for _, trailer in block.trailers()]
    bundles += [entry.trailer.bundle_hash for entry in unpack_left_out(left_out) if entry.trailer is not None]
    return transaction_keys(block, left_out) + b"".join(bundles)
