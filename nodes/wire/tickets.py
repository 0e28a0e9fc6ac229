"""Answers of a sequencer as messages: tickets of submissions, and its status."""

from collections.abc import Sequence

from nodes.model.errors import InvalidInput
from nodes.model.ids import HASH_BYTES, RollupId, SubmissionHash
from nodes.ports import SequencerStatus, Ticket
from nodes.wire.blocks import block_ref_from_proto, block_ref_to_proto
from nodes.wire.shapes import hash_of
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb

_REFUSED = pb.Ticket.OUTCOME_REFUSED
_ACCEPTED = pb.Ticket.OUTCOME_ACCEPTED
_DUPLICATE = pb.Ticket.OUTCOME_DUPLICATE


def tickets_to_proto(tickets: Sequence[Ticket]) -> pb.SubmitResponse:
    """The answer to one submit request, in the order of its bundles."""
    response = pb.SubmitResponse()
    add = response.tickets.add
    for ticket in tickets:
        outcome = _DUPLICATE if ticket.duplicate else _ACCEPTED if ticket.accepted else _REFUSED
        add(submission_hash=ticket.submission_hash, outcome=outcome, reason=ticket.reason)
    return response


def tickets_from_proto(message: pb.SubmitResponse, *, count: int) -> list[Ticket]:
    """The tickets of `count` submissions. Raises InvalidInput where the peer answered another number or nonsense."""
    tickets = []
    for ticket in message.tickets:
        outcome = ticket.outcome
        if outcome not in (_ACCEPTED, _DUPLICATE, _REFUSED) or len(ticket.submission_hash) != HASH_BYTES:
            raise InvalidInput(
                f"a ticket with outcome {outcome} and a hash of {len(ticket.submission_hash)} bytes; "
                "the sequencer is of another version"
            )
        tickets.append(
            Ticket(
                submission_hash=SubmissionHash(ticket.submission_hash),
                accepted=outcome != _REFUSED,
                duplicate=outcome == _DUPLICATE,
                reason=ticket.reason,
            )
        )
    if len(tickets) != count:
        raise InvalidInput(f"the sequencer answered {len(tickets)} tickets to {count} submissions")
    return tickets


def sequencer_status_to_proto(status: SequencerStatus) -> pb.GetStatusResponse:
    """A snapshot."""
    return pb.GetStatusResponse(
        backend=status.backend,
        head=block_ref_to_proto(status.head),
        firm_height=status.firm_height,
        pending_bundles=status.pending_bundles,
        pending_bytes=status.pending_bytes,
        rollup_ids=status.rollup_ids,
        block_interval_ms=status.block_interval_ms,
        block_bytes_max=status.block_bytes_max,
        costs=status.costs,
    )


def sequencer_status_from_proto(message: pb.GetStatusResponse) -> SequencerStatus:
    """The snapshot. Raises InvalidInput for ids and hashes that are not 32 bytes."""
    return SequencerStatus(
        backend=message.backend,
        head=block_ref_from_proto(message.head),
        firm_height=message.firm_height,
        pending_bundles=message.pending_bundles,
        pending_bytes=message.pending_bytes,
        rollup_ids=tuple([RollupId(hash_of(value, name="rollup id")) for value in message.rollup_ids]),
        block_interval_ms=message.block_interval_ms,
        block_bytes_max=message.block_bytes_max,
        costs=dict(message.costs),
    )
