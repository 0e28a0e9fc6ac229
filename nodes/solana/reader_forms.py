"""Bytes of what a reader keeps besides its heights: blocks to be read again, and snapshots.

A private form of one store, read back by the same build only; the store's format number guards it. Blocks keep what
the rule reads (of signatures only those of inbox transactions). Snapshots leave out the memory of submissions, which
stands beside the heights already.
"""

import struct
from collections.abc import Sequence

from nodes.model.errors import InvalidBlock
from nodes.model.ids import HASH_BYTES, HeaderHash, Height, RollupId, SubmissionHash
from nodes.model.sequenced_block import BlockRef
from nodes.model.solana import InboxInstruction, InboxState, Pubkey, Signature, Slot, SolanaBlock
from nodes.rules.inbox_pieces import Piece
from nodes.rules.inbox_reader import Admitted, Bucket, ReadPlace, Sequenced, Snapshot, Void
from nodes.rules.lazy import placed_bytes
from nodes.wire.bundles import bundle_from_bytes, bundle_to_bytes

_LENGTH = struct.Struct("<I")
_BLOCK = struct.Struct("<Q32sQ32sQq")
_INSTRUCTION = struct.Struct("<II64sB")
_PLACE = struct.Struct("<Q32sQ")
_HEAD = struct.Struct("<Q32sQQ")
_STATE = struct.Struct("<32sQQ32s")
_PIECE = struct.Struct("<32s32sHQ")
_SEQUENCED = struct.Struct("<QQ")
_BUCKET = struct.Struct("<Q32s")
_VOID = struct.Struct("<Q")
_NO_TIME = -1


def hashes_to_bytes(hashes: Sequence[SubmissionHash]) -> bytes:
    """One after the other."""
    return b"".join(hashes)


def hashes_from_bytes(data: bytes) -> tuple[SubmissionHash, ...]:
    """The reverse."""
    return tuple([SubmissionHash(data[at : at + HASH_BYTES]) for at in range(0, len(data), HASH_BYTES)])


def block_to_bytes(block: SolanaBlock) -> bytes:
    """What the rule needs of a block."""
    time_s = _NO_TIME if block.block_time_s is None else block.block_time_s
    place = (block.slot, block.blockhash, block.parent_slot, block.previous_blockhash, block.block_height)
    parts = [_BLOCK.pack(*place, time_s)]
    for item in block.instructions:
        parts.append(
            _INSTRUCTION.pack(item.transaction_index, item.instruction_index, item.signature, len(item.accounts))
        )
        parts += [*item.accounts, _LENGTH.pack(len(item.data)), item.data]
    return b"".join(parts)


def block_from_bytes(data: bytes) -> SolanaBlock:
    """The reverse. Raises InvalidBlock where the bytes are none."""
    source = _Source(data)
    slot, blockhash, parent_slot, previous, height, time_s = source.fields(_BLOCK)
    instructions = []
    while not source.is_at_end:
        transaction, index, signature, accounts = source.fields(_INSTRUCTION)
        keys = tuple([Pubkey(source.take(32)) for _ in range(accounts)])
        instructions.append(InboxInstruction(transaction, index, Signature(signature), keys, source.sized()))
    return SolanaBlock(
        slot=Slot(slot),
        blockhash=blockhash,
        parent_slot=Slot(parent_slot),
        previous_blockhash=previous,
        block_height=height,
        block_time_s=None if time_s == _NO_TIME else time_s,
        signatures=tuple(dict.fromkeys([item.signature for item in instructions])),
        failed=frozenset(),
        instructions=tuple(instructions),
    )


def snapshot_to_bytes(snapshot: Snapshot) -> bytes:
    """A snapshot, without the hashes in `sequenced`."""
    head = snapshot.head
    parts = [_HEAD.pack(head.height, head.hash, snapshot.head_time_ns, snapshot.block_time_ns)]
    parts.append(_place_to_bytes(snapshot.place))
    parts.append(_LENGTH.pack(len(snapshot.states)))
    parts += [
        _STATE.pack(rollup_id, state.sequence, state.data_bytes, state.rolling_hash)
        for rollup_id, state in snapshot.states.items()
    ]
    parts.append(_LENGTH.pack(len(snapshot.pieces)))
    for piece in snapshot.pieces:
        parts += [_PIECE.pack(piece.payer, piece.digest, piece.place, piece.block_height), _sized(piece.data)]
    bucket = snapshot.bucket
    parts.append(bytes((bucket is not None,)))
    if bucket is not None:
        parts += [_BUCKET.pack(bucket.number, bucket.root), _place_to_bytes(bucket.place)]
        parts.append(_LENGTH.pack(len(bucket.bundles)))
        parts += [_sized(bundle_to_bytes(admitted.bundle)) + admitted.hash for admitted in bucket.bundles]
    parts.append(_LENGTH.pack(len(snapshot.voids)))
    for reason, count in snapshot.voids.items():
        parts += [_sized(reason.encode()), _VOID.pack(count)]
    parts.append(_LENGTH.pack(len(snapshot.sequenced)))
    parts += [_SEQUENCED.pack(one.height, one.block_height) for one in snapshot.sequenced]
    return b"".join(parts)


def snapshot_from_bytes(data: bytes) -> Snapshot:
    """The reverse; what is remembered of submissions has its heights, and no hashes. Raises InvalidBlock for others."""
    source = _Source(data)
    height, head_hash, head_time_ns, block_time_ns = source.fields(_HEAD)
    place = _place_from(source)
    states = {}
    for _ in range(source.count()):
        rollup_id, sequence, data_bytes, rolling = source.fields(_STATE)
        states[RollupId(rollup_id)] = InboxState(sequence=sequence, data_bytes=data_bytes, rolling_hash=rolling)
    pieces = []
    for _ in range(source.count()):
        payer, digest, index, block_height = source.fields(_PIECE)
        pieces.append(Piece(Pubkey(payer), digest, index, source.sized(), block_height))
    bucket = _bucket_from(source) if source.take(1) == b"\x01" else None
    voids = {}
    for _ in range(source.count()):
        reason = Void(source.sized().decode())
        voids[reason] = source.fields(_VOID)[0]
    sequenced = []
    for _ in range(source.count()):
        remembered, at_block = source.fields(_SEQUENCED)
        sequenced.append(Sequenced(Height(remembered), at_block, ()))
    if not source.is_at_end:
        raise InvalidBlock("a stored snapshot of the Solana reader has bytes left over")
    return Snapshot(
        place=place,
        head=BlockRef(height=Height(height), hash=HeaderHash(head_hash)),
        head_time_ns=head_time_ns,
        block_time_ns=block_time_ns,
        states=states,
        sequenced=tuple(sequenced),
        pieces=tuple(pieces),
        bucket=bucket,
        voids=voids,
    )


def _bucket_from(source: "_Source") -> Bucket:
    number, root = source.fields(_BUCKET)
    place = _place_from(source)
    if place is None:
        raise InvalidBlock("a stored snapshot of the Solana reader has a bucket without a block")
    bundles = []
    for _ in range(source.count()):
        bundle = bundle_from_bytes(source.sized())
        bundles.append(Admitted(bundle, SubmissionHash(source.take(HASH_BYTES)), placed_bytes(bundle)))
    return Bucket(number=number, place=place, root=root, bundles=tuple(bundles))


def _sized(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _place_to_bytes(place: ReadPlace | None) -> bytes:
    return b"\x00" if place is None else b"\x01" + _PLACE.pack(place.slot, place.blockhash, place.block_height)


def _place_from(source: "_Source") -> ReadPlace | None:
    if source.take(1) == b"\x00":
        return None
    slot, blockhash, height = source.fields(_PLACE)
    return ReadPlace(slot=Slot(slot), blockhash=blockhash, block_height=height)


class _Source:
    """Takes bytes apart from the front. Raises InvalidBlock where they end early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._data):
            raise InvalidBlock("what the Solana reader stored is cut short; delete the store to read the chain anew")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def fields(self, form: struct.Struct) -> tuple:  # type: ignore[type-arg]  # as struct gives them
        return form.unpack(self.take(form.size))

    def count(self) -> int:
        return int(self.fields(_LENGTH)[0])

    def sized(self) -> bytes:
        return self.take(self.count())
