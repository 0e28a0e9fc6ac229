"""From submitted bytes to tickets: what is known, what is flawed, and what is new. Keeps nothing."""

from collections.abc import Callable, Sequence

from nodes.model import limits
from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidSubmission, LimitExceeded
from nodes.model.ids import SubmissionHash
from nodes.ports import Ticket
from nodes.rules.hashes import sha256
from nodes.rules.lazy import Offer
from nodes.wire.bundles import bundle_from_bytes


def check_count(submissions: Sequence[bytes]) -> None:
    """Raises LimitExceeded where one call brings too many."""
    if len(submissions) > limits.MAX_SUBMISSIONS_PER_CALL:
        raise LimitExceeded(
            limit="MAX_SUBMISSIONS_PER_CALL", value=len(submissions), maximum=limits.MAX_SUBMISSIONS_PER_CALL
        )


def examine(
    submissions: Sequence[bytes],
    *,
    knows: Callable[[SubmissionHash], bool],
    flaw: Callable[[Bundle, bytes], str],
) -> tuple[list[Ticket], list[tuple[Offer, bytes]]]:
    """A ticket for each submission, and the new ones with their bytes. `flaw` says why one is refused, or nothing."""
    tickets = []
    offers: dict[SubmissionHash, tuple[Offer, bytes]] = {}
    for data in submissions:
        submission_hash = SubmissionHash(sha256(data))
        duplicate = submission_hash in offers or knows(submission_hash)
        reason = ""
        if not duplicate:
            try:
                bundle = bundle_from_bytes(data)
                reason = flaw(bundle, data)
            except InvalidSubmission as error:
                reason = str(error)
            if not reason:
                offers[submission_hash] = (Offer(submission_hash, bundle), data)
        tickets.append(Ticket(submission_hash=submission_hash, accepted=not reason, duplicate=duplicate, reason=reason))
    return tickets, list(offers.values())
