"""Every message of the mailbox: reports, rounds, verdicts and notices as they travel."""

from typing import Any

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
from nodes.wire import mailbox_messages as mailbox
from protos.lockstep.agglayer.v1 import mailbox_pb2 as pb
from tests.golden.samples import Sample, filled

FILES = (pb.DESCRIPTOR,)

REPORTS = (SignedReport(b"report one", filled(0x51, 65)), SignedReport(b"report two", filled(0x52, 65)))
CLOSED = RoundClosed(epoch=1, height=Height(41), round_number=2, reports=REPORTS)
VERDICT = VerdictSigned(signed=SignedVerdict(b"verdict", filled(0x53, 65)), rounds=(REPORTS, REPORTS[:1]))
NOTICE = NoticePosted(signed=SignedNotice(b"notice", filled(0x54, 65)))
AFTER = VerdictRef(1, Height(40), filled(0x55))


def samples() -> list[Sample]:
    """All of them."""
    closed = mailbox.mailbox_event_to_proto(CLOSED)
    verdict = mailbox.mailbox_event_to_proto(VERDICT)
    notice = mailbox.mailbox_event_to_proto(NOTICE)
    submitted = mailbox.submit_reports_to_proto(REPORTS)
    return [
        _sample(closed, CLOSED, mailbox.mailbox_event_from_proto, "round_closed"),
        _sample(verdict, VERDICT, mailbox.mailbox_event_from_proto, "verdict_signed"),
        _sample(notice, NOTICE, mailbox.mailbox_event_from_proto, "notice_posted"),
        _sample(closed.round_closed, CLOSED, lambda message: _event(pb.MailboxEvent(round_closed=message))),
        _sample(verdict.verdict_signed, VERDICT, lambda message: _event(pb.MailboxEvent(verdict_signed=message))),
        _sample(notice.notice_posted, NOTICE, lambda message: _event(pb.MailboxEvent(notice_posted=message))),
        _sample(mailbox.reports_to_proto(REPORTS), REPORTS, mailbox.reports_from_proto),
        _sample(submitted, list(REPORTS), mailbox.submit_reports_from_proto),
        _sample(
            submitted.reports[0],
            list(REPORTS[:1]),
            lambda message: mailbox.submit_reports_from_proto(pb.SubmitReportsRequest(reports=[message])),
        ),
        _sample(pb.SubmitReportsResponse(), None, lambda message: None),
        _sample(mailbox.verdict_ref_to_proto(AFTER), AFTER, mailbox.verdict_ref_from_proto),
    ]


def _event(message: pb.MailboxEvent) -> MailboxEvent:
    return mailbox.mailbox_event_from_proto(message)


def _sample(message: Any, value: Any, restore: Any, variant: str = "") -> Sample:
    name = message.DESCRIPTOR.full_name + (f"-{variant}" if variant else "")
    return Sample(name, message, value, restore)
