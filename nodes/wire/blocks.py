"""Sequenced blocks and sequencer events as messages, and the bytes of a stored block.

Checks shapes only (lengths, known numbers); whether a block agrees with its header is `nodes.rules.sequenced_block`.
"""

from itertools import pairwise

from nodes.model.errors import InvalidBlock, InvalidInput
from nodes.model.ids import HASH_BYTES, HeaderHash, Height, RollupId
from nodes.model.limits import MAX_ROLLUPS
from nodes.model.sequenced_block import (
    NO_ITEMS,
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    ProvenItems,
    RolledBack,
    RollupContent,
    SequencedBlock,
    SequencerEvent,
    SiblingEvidence,
)
from nodes.rules.sequenced_block import decode_header, encode_header, header_hash
from nodes.wire.shapes import column, hash_of, parse, whole_steps
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb

_COMMITMENTS = {int(level): level for level in Commitment}


def block_ref_to_proto(ref: BlockRef) -> pb.BlockRef:
    """A place on the sequencer's chain."""
    return pb.BlockRef(height=ref.height, hash=ref.hash)


def block_ref_from_proto(message: pb.BlockRef) -> BlockRef:
    """The place. Raises InvalidInput for a hash that is not 32 bytes."""
    return BlockRef(height=Height(message.height), hash=HeaderHash(hash_of(message.hash, name="block hash")))


def filtered_block_to_proto(block: FilteredBlock) -> pb.FilteredBlock:
    """One reader's block."""
    message = pb.FilteredBlock(
        header=block.header,
        rollup_id=block.rollup_id,
        rollup_ids=b"".join(block.rollup_ids),
        payloads=block.content.payloads,
        rows=block.content.rows,
        leaf_path=block.leaf_path,
        finality_proof=block.finality_proof,
        commitment=int(block.commitment),  # type: ignore[arg-type]  # the stubs ask for their own enum's type
    )
    for sibling in block.siblings:
        _add_sibling(message, sibling)
    return message


def _add_sibling(block: pb.FilteredBlock, sibling: SiblingEvidence) -> None:
    message = block.siblings.add(
        rollup_id=sibling.rollup_id,
        leaf_path=sibling.leaf_path,
        payload_count=sibling.payload_count,
        payloads_root=sibling.payloads_root,
        row_count=sibling.row_count,
        rows_root=sibling.rows_root,
    )
    for items, target in ((sibling.payloads, message.payloads), (sibling.rows, message.rows)):
        target.positions.extend(items.positions)
        target.values.extend(items.values)
        target.proof = items.proof


def filtered_block_from_proto(message: pb.FilteredBlock) -> FilteredBlock:
    """The block, its shapes checked. Raises InvalidBlock naming the field that is wrong."""
    rollup_ids = column(message.rollup_ids, size=HASH_BYTES, name="rollup_ids", refusal=InvalidBlock)
    if len(rollup_ids) > MAX_ROLLUPS:
        raise InvalidBlock(f"rollup_ids: MAX_ROLLUPS is {MAX_ROLLUPS:,}, but {len(rollup_ids):,} were sent")
    commitment = _COMMITMENTS.get(message.commitment)
    if commitment is None:
        raise InvalidBlock(f"commitment {message.commitment} is unknown; known: {', '.join(map(str, _COMMITMENTS))}")
    return FilteredBlock(
        header=message.header,
        rollup_id=RollupId(hash_of(message.rollup_id, name="rollup_id", refusal=InvalidBlock)),
        rollup_ids=tuple(map(RollupId, rollup_ids)),
        content=RollupContent(payloads=tuple(message.payloads), rows=tuple(message.rows)),
        leaf_path=whole_steps(message.leaf_path, name="leaf_path", refusal=InvalidBlock),
        siblings=tuple([_sibling_from_proto(sibling) for sibling in message.siblings]),
        finality_proof=message.finality_proof,
        commitment=commitment,
    )


def _sibling_from_proto(message: pb.Sibling) -> SiblingEvidence:
    rollup_id = RollupId(hash_of(message.rollup_id, name="rollup_id of a sibling", refusal=InvalidBlock))
    return SiblingEvidence(
        rollup_id=rollup_id,
        leaf_path=whole_steps(message.leaf_path, name="leaf_path of a sibling", refusal=InvalidBlock),
        payload_count=message.payload_count,
        payloads_root=hash_of(message.payloads_root, name="payloads_root of a sibling", refusal=InvalidBlock),
        row_count=message.row_count,
        rows_root=hash_of(message.rows_root, name="rows_root of a sibling", refusal=InvalidBlock),
        payloads=_items_from_proto(message.payloads, "payloads") if message.HasField("payloads") else NO_ITEMS,
        rows=_items_from_proto(message.rows, "rows") if message.HasField("rows") else NO_ITEMS,
    )


def _items_from_proto(message: pb.ProvenItems, name: str) -> ProvenItems:
    if len(message.positions) != len(message.values):
        raise InvalidBlock(f"{name} of a sibling: {len(message.positions)} positions, but {len(message.values)} values")
    return ProvenItems(
        positions=tuple(message.positions),
        values=tuple(message.values),
        proof=whole_steps(message.proof, name=f"proof of a sibling's {name}", refusal=InvalidBlock),
    )


def event_to_proto(event: SequencerEvent) -> pb.FollowResponse:
    """One event of a follower's stream."""
    match event:
        case BlockSequenced(block=block):
            return pb.FollowResponse(block=filtered_block_to_proto(block))
        case CommitmentRaised(height=height, level=level):
            raised = pb.CommitmentRaised(height=height, level=int(level))  # type: ignore[arg-type]  # as above
            return pb.FollowResponse(commitment_raised=raised)
        case RolledBack(to=to):
            return pb.FollowResponse(rolled_back=pb.RolledBack(to=block_ref_to_proto(to)))


def event_from_proto(message: pb.FollowResponse) -> SequencerEvent:
    """The event. Raises InvalidBlock or InvalidInput where the peer sent nonsense."""
    match message.WhichOneof("event"):
        case "block":
            return BlockSequenced(block=filtered_block_from_proto(message.block))
        case "commitment_raised":
            level = _COMMITMENTS.get(message.commitment_raised.level)
            if level is None:
                raise InvalidInput(f"commitment {message.commitment_raised.level} is unknown to this build")
            return CommitmentRaised(height=Height(message.commitment_raised.height), level=level)
        case "rolled_back":
            return RolledBack(to=block_ref_from_proto(message.rolled_back.to))
        case _:
            raise InvalidInput("an event of a kind that this build does not know; the sequencer is of another version")


def stored_block_to_bytes(block: SequencedBlock) -> bytes:
    """A whole block as the log and a run directory keep it; equal blocks give equal bytes."""
    message = pb.StoredBlock(header=encode_header(block.header), finality_proof=block.finality_proof)
    for rollup_id, content in block.contents.items():
        message.contents.add(rollup_id=rollup_id, payloads=content.payloads, rows=content.rows)
    return message.SerializeToString(deterministic=True)


def stored_block_from_bytes(data: bytes) -> SequencedBlock:
    """The block, its hash taken over the stored header. Raises InvalidBlock where the bytes are none."""
    message = parse(pb.StoredBlock, data, InvalidBlock)
    contents = {
        RollupId(hash_of(content.rollup_id, name="rollup_id of a stored block", refusal=InvalidBlock)): RollupContent(
            payloads=tuple(content.payloads), rows=tuple(content.rows)
        )
        for content in message.contents
    }
    ids = list(contents)
    if len(ids) != len(message.contents) or any(a >= b for a, b in pairwise(ids)):
        raise InvalidBlock("a stored block's rollup ids do not strictly ascend")
    return SequencedBlock(
        header=decode_header(message.header),
        header_hash=header_hash(message.header),
        contents=contents,
        finality_proof=message.finality_proof,
    )
