"""Steps of a reader made by hand, for its store."""

from collections.abc import Sequence

from nodes.model.ids import HeaderHash, Height, SubmissionHash
from nodes.model.sequenced_block import BlockRef
from nodes.model.solana import Slot
from nodes.rules.hashes import sha256
from nodes.solana.reader_store import Step, StoredHeight, StoredSlot

CHAIN_ID = sha256(b"store")


def height(number: int, salt: bytes = b"") -> StoredHeight:
    """A height whose every field differs from that of others."""
    text = b"%d" % number + salt
    ref = BlockRef(height=Height(number), hash=HeaderHash(sha256(b"height" + text)))
    hashes = tuple([SubmissionHash(sha256(text + bytes((at,)))) for at in range(number % 3)])
    return StoredHeight(ref, b"block" + text + b"\x00\xff", hashes, Slot(10 + number), sha256(b"blockhash" + text))


def slot(number: int) -> StoredSlot:
    """A block whose every field differs from that of others."""
    head = height(number - 10).ref
    return StoredSlot(
        Slot(number), sha256(b"%d" % number), Slot(number - 1), number - 3, head, b"content\x00%d" % number
    )


def step(
    number: int,
    *,
    slots: Sequence[StoredSlot] = (),
    heights: Sequence[StoredHeight] = (),
    final_slot: int = 0,
    snapshot: tuple[int, bytes] | None = None,
    roll_back_to: tuple[int, int] | None = None,
) -> Step:
    """A step to the last of its slots."""
    at = slots[-1].slot if slots else 10
    return Step(
        number=number,
        slot=Slot(at),
        blockhash=sha256(b"%d" % at),
        slots=slots,
        heights=heights,
        final_slot=Slot(final_slot),
        snapshot=(Slot(snapshot[0]), snapshot[1]) if snapshot else None,
        roll_back_to=(Slot(roll_back_to[0]), Height(roll_back_to[1])) if roll_back_to else None,
    )
