"""Every message between the aggregation layer and its attesters."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from nodes.model.agglayer import SettledRange
from nodes.model.ids import Height
from nodes.ports import ProvingItem
from nodes.wire import attester
from protos.lockstep.agglayer.v1 import attester_pb2 as pb
from tests.golden.samples import Sample, filled

FILES = (pb.DESCRIPTOR,)

ITEM = ProvingItem(
    program_input=b"input of the program",
    settled_range=SettledRange(
        first_height=Height(3),
        last_height=Height(9),
        last_block_hash=filled(1),
        outcome_root=filled(2),
        verdict_root=filled(3),
    ),
    range_signatures=(filled(4, 65), None),
    signed_verdict=b"signed verdict",
)
ATTESTATION = attester.Attestation(statements=(filled(5, 308), filled(6, 308)), signature=filled(7, 65))


def samples() -> list[Sample]:
    """All of them."""
    item = attester._item_to_proto(ITEM)
    attestation = pb.Attestation(statements=ATTESTATION.statements, signature=ATTESTATION.signature)
    progress = pb.AttestProgress(done=1, total=2, step="program")
    return [
        _sample(item, ITEM, attester._item_from_proto),
        _sample(attestation, ATTESTATION, lambda message: attester._attestation_from_proto(message, count=2)),
        *[
            _sample(message, message, lambda message: message, variant)
            for message, variant in (
                (pb.AttestRequest(items=[item]), ""),
                (progress, ""),
                (pb.AttestResponse(progress=progress), "progress"),
                (pb.AttestResponse(attestation=attestation), "attestation"),
            )
        ],
    ]


def _sample(message: Message, value: Any, restore: Callable[[Any], Any], variant: str = "") -> Sample:
    name = message.DESCRIPTOR.full_name + (f"-{variant}" if variant else "")
    return Sample(name, message, value, restore)
