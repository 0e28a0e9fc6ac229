"""Reports, rounds, verdicts and notices as messages. What was signed passes through as the exact bytes.

Knows sizes only: what a report or a verdict says is read by `nodes.rules.verdict`, at both ends.
"""

from collections.abc import Iterable, Sequence

from nodes.model.agglayer import SIGNATURE_BYTES
from nodes.model.errors import InvalidVerdict
from nodes.model.ids import Height
from nodes.model.verdict import (
    MailboxEvent,
    NoticePosted,
    RoundClosed,
    SignedNotice,
    SignedReport,
    SignedVerdict,
    VerdictRef,
    VerdictSigned,
)
from nodes.wire.shapes import fixed, hash_of, parse
from protos.lockstep.agglayer.v1 import mailbox_pb2 as pb

ENTRY_BYTES = 16
"""Most that tags and lengths add to one report inside a message."""


def submit_reports_to_proto(reports: Sequence[SignedReport]) -> pb.SubmitReportsRequest:
    """Reports to hand in."""
    return pb.SubmitReportsRequest(reports=[_report_to_proto(report) for report in reports])


def submit_reports_from_proto(message: pb.SubmitReportsRequest) -> list[SignedReport]:
    """The reports. Raises InvalidVerdict for a signature that is none by its size."""
    return _reports_from_proto(message.reports)


def verdict_ref_to_proto(after: VerdictRef) -> pb.FollowVerdictsRequest:
    """Where a follower stands."""
    return pb.FollowVerdictsRequest(epoch=after.epoch, height=after.height, hash=after.hash)


def verdict_ref_from_proto(message: pb.FollowVerdictsRequest) -> VerdictRef:
    """Where it stands. Raises InvalidInput for a hash that is not 32 bytes."""
    return VerdictRef(message.epoch, Height(message.height), hash_of(message.hash, name="hash of the last verdict"))


def mailbox_event_to_proto(event: MailboxEvent) -> pb.MailboxEvent:
    """One event of a follower's stream."""
    match event:
        case RoundClosed():
            closed = pb.RoundClosed(
                epoch=event.epoch,
                height=event.height,
                round=event.round_number,
                reports=reports_to_proto(event.reports),
            )
            return pb.MailboxEvent(round_closed=closed)
        case VerdictSigned(signed=verdict):
            signed = pb.VerdictSigned(
                verdict=verdict.verdict,
                signature=verdict.signature,
                rounds=[reports_to_proto(reports) for reports in event.rounds],
            )
            return pb.MailboxEvent(verdict_signed=signed)
        case NoticePosted(signed=notice):
            posted = pb.NoticePosted(notice=notice.notice, signature=notice.signature)
            return pb.MailboxEvent(notice_posted=posted)


def mailbox_event_from_proto(message: pb.MailboxEvent) -> MailboxEvent:
    """The event. Raises InvalidVerdict for one that this build does not know, and for wrong sizes."""
    match message.WhichOneof("event"):
        case "round_closed":
            closed = message.round_closed
            return RoundClosed(
                epoch=closed.epoch,
                height=Height(closed.height),
                round_number=closed.round,
                reports=reports_from_proto(closed.reports),
            )
        case "verdict_signed":
            signed = message.verdict_signed
            return VerdictSigned(
                signed=SignedVerdict(signed.verdict, _signature(signed.signature, "a verdict")),
                rounds=tuple(reports_from_proto(reports) for reports in signed.rounds),
            )
        case "notice_posted":
            posted = message.notice_posted
            return NoticePosted(signed=SignedNotice(posted.notice, _signature(posted.signature, "a notice")))
        case _:
            raise InvalidVerdict("the mailbox sent an event that this build does not know; both must have one version")


def reports_to_proto(reports: Iterable[SignedReport]) -> pb.Reports:
    """The reports of one round."""
    return pb.Reports(reports=[_report_to_proto(report) for report in reports])


def reports_from_proto(message: pb.Reports) -> tuple[SignedReport, ...]:
    """The reports of one round. Raises InvalidVerdict for a signature that is none by its size."""
    return tuple(_reports_from_proto(message.reports))


def rounds_to_bytes(rounds: Sequence[Sequence[SignedReport]]) -> bytes:
    """All rounds of a height, for a store."""
    message = pb.VerdictSigned(rounds=[reports_to_proto(reports) for reports in rounds])
    return message.SerializeToString(deterministic=True)


def rounds_from_bytes(data: bytes) -> tuple[tuple[SignedReport, ...], ...]:
    """What `rounds_to_bytes` made."""
    message = pb.VerdictSigned.FromString(data)
    return tuple(reports_from_proto(reports) for reports in message.rounds)


def _report_to_proto(report: SignedReport) -> pb.SignedReport:
    return pb.SignedReport(report=report.report, signature=report.signature)


def _reports_from_proto(messages: Iterable[pb.SignedReport]) -> list[SignedReport]:
    return [SignedReport(message.report, _signature(message.signature, "a report")) for message in messages]


def _signature(signature: bytes, what: str) -> bytes:
    return fixed(signature, size=SIGNATURE_BYTES, name=f"the signature of {what}", refusal=InvalidVerdict)


def mailbox_event_to_bytes(event: MailboxEvent) -> bytes:
    """One event, for a file."""
    return mailbox_event_to_proto(event).SerializeToString(deterministic=True)


def mailbox_event_from_bytes(data: bytes) -> MailboxEvent:
    """What `mailbox_event_to_bytes` made. Raises InvalidVerdict."""
    return mailbox_event_from_proto(parse(pb.MailboxEvent, data, InvalidVerdict))
