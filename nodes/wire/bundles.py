"""Submissions as bytes. The exact bytes are the key of idempotent submission, so they are made once, by the client.

Knows sizes only: what a leg hash commits to, and whether a row is void, is decided by every reader (`nodes.rules`).
"""

from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import InvalidSubmission
from nodes.model.ids import HASH_BYTES, LegHash, RollupId
from nodes.model.limits import MAX_LEGS_PER_BUNDLE, MAX_PAYLOAD_BYTES, MAX_SUBMISSION_BYTES
from nodes.wire.shapes import parse
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb


def bundle_to_bytes(bundle: Bundle) -> bytes:
    """The bytes to submit. Equal bundles give equal bytes in this build; retry with the bytes, not with the value."""
    message = pb.Bundle(version=bundle.version, expiry=bundle.expiry)
    add = message.legs.add
    for leg in bundle.legs:
        add(rollup_id=leg.rollup_id, payload=leg.payload, leg_hash=leg.leg_hash)
    return message.SerializeToString(deterministic=True)


def bundle_from_bytes(data: bytes) -> Bundle:
    """The submission. Raises InvalidSubmission naming the part that is wrong and, for a limit, the limit."""
    if len(data) > MAX_SUBMISSION_BYTES:
        raise InvalidSubmission(f"MAX_SUBMISSION_BYTES is {MAX_SUBMISSION_BYTES:,}, but {len(data):,} was offered")
    message = parse(pb.Bundle, data, InvalidSubmission)
    legs = tuple(
        [
            Leg(rollup_id=RollupId(leg.rollup_id), payload=leg.payload, leg_hash=LegHash(leg.leg_hash))
            for leg in message.legs
        ]
    )
    if not 1 <= len(legs) <= MAX_LEGS_PER_BUNDLE:
        raise InvalidSubmission(f"a bundle has 1 to {MAX_LEGS_PER_BUNDLE} legs (MAX_LEGS_PER_BUNDLE), got {len(legs)}")
    bundle = Bundle(version=message.version, expiry=message.expiry, legs=legs)
    plain = bundle.is_plain
    for index, leg in enumerate(legs):
        if len(leg.rollup_id) != HASH_BYTES:
            raise InvalidSubmission(f"leg {index}: rollup_id has {len(leg.rollup_id)} bytes; it must have {HASH_BYTES}")
        # A short hash would be padded into the row, and then stand for another leg.
        if len(leg.leg_hash) != HASH_BYTES and not plain:
            raise InvalidSubmission(f"leg {index}: leg_hash has {len(leg.leg_hash)} bytes; it must have {HASH_BYTES}")
        if len(leg.payload) > MAX_PAYLOAD_BYTES:
            raise InvalidSubmission(
                f"leg {index}: MAX_PAYLOAD_BYTES is {MAX_PAYLOAD_BYTES:,}, but {len(leg.payload):,} was offered"
            )
    if plain and bundle.expiry:
        raise InvalidSubmission("a plain transaction has no row and so no expiry; submit it with expiry 0")
    if plain and bundle.version:
        # Its entry in a block has no version, so it would stand there as another submission than the one accepted.
        raise InvalidSubmission("a plain transaction has no row and so no version; submit it with version 0")
    return bundle
