"""Which reports a node hands in, and hands in again."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from nodes.model.ids import Height
from nodes.model.verdict import MailboxEvent, SignedReport, VerdictRef
from nodes.rollup.mailbox_link import KEPT_WHILE_EVICTED, MailboxLink
from tests.support.patience import PATIENCE_S


class FakeMailbox:
    """Keeps what is handed in."""

    def __init__(self) -> None:
        self.reports: list[SignedReport] = []
        self.arrived = asyncio.Event()

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        self.reports += reports
        self.arrived.set()

    async def follow(self, after: VerdictRef) -> AsyncIterator[MailboxEvent]:
        await asyncio.Event().wait()
        events: tuple[MailboxEvent, ...] = ()
        for event in events:
            yield event


def report_of(height: int) -> SignedReport:
    return SignedReport(bytes([height]), bytes(65))


async def handed_in(heights: range, *, is_evicted: bool) -> list[int]:
    """Report and resolve the heights while nothing is sent; what is sent afterwards."""
    mailbox = FakeMailbox()
    link = MailboxLink(
        mailbox, name="rollup", after=lambda: VerdictRef(0, Height(0), bytes(32)), news=asyncio.Event(), is_silent=True
    )
    for height in heights:
        link.report(Height(height), report_of(height))
        link.resolved(Height(height), is_evicted=is_evicted)
    link.report(Height(heights.stop), report_of(heights.stop))
    link.firm_up_to(Height(heights.stop))
    sending = asyncio.create_task(link.send())
    link.silence(False)
    async with asyncio.timeout(PATIENCE_S):
        await mailbox.arrived.wait()
    sending.cancel()
    return [report.report[0] for report in mailbox.reports]


async def test_reports_of_resolved_heights_are_not_handed_in() -> None:
    assert await handed_in(range(1, 30), is_evicted=False) == [30]


async def test_an_evicted_rollup_shows_that_it_is_back() -> None:
    expected = [*range(30 - KEPT_WHILE_EVICTED, 30), 30]
    assert await handed_in(range(1, 30), is_evicted=True) == expected
