"""A rollup node's connection to the mailbox: events come in in order, reports go out in the background.

It never blocks execution, and it loses nothing: after a break it follows from the last verdict that the node has, and
hands in again every report of heights that are not resolved. What events and reports say is not its matter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from nodes.model.errors import InvalidVerdict, TestbedError
from nodes.model.ids import Height
from nodes.model.verdict import MailboxEvent, SignedReport, VerdictRef
from nodes.ports import Mailbox
from nodes.wire.streams import closing

MAX_WAITING_EVENTS = 64
"""Beyond, the mailbox's stream is not read."""
MAX_REPORTS_AT_ONCE = 64
MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 1.0
KEPT_WHILE_EVICTED = 8
"""Heights below the newest resolved one whose reports an evicted rollup still hands in."""
QUIET_FAILURES = 5
"""Attempts to reach the mailbox that may fail in a row before somebody is told."""
_log = logging.getLogger(__name__)


class MailboxLink:
    """One session's link. `follow` and `send` run until cancelled."""

    def __init__(
        self, mailbox: Mailbox, *, name: str, after: Callable[[], VerdictRef], news: asyncio.Event, is_silent: bool
    ) -> None:
        """`after`: where the node stands. `news` is set when an event came. `is_silent`: no reports are handed in."""
        self._mailbox = mailbox
        self._name = name
        self._after = after
        self._news = news
        self._is_silent = is_silent
        self._events: deque[MailboxEvent] = deque()
        self._taken = asyncio.Event()
        self._reports: dict[Height, list[SignedReport]] = {}
        """Of heights that are not resolved, one per round; while the rollup is evicted, of some that are."""
        self._unsent: list[tuple[Height, SignedReport]] = []
        self._firm_height = Height(0)
        self._to_send = asyncio.Event()
        self.stalled = ""
        """Why no verdicts come; empty while they do."""

    # Events.

    def peek(self) -> MailboxEvent | None:
        """The next event; None while there is none."""
        return self._events[0] if self._events else None

    def pop(self) -> None:
        """The next event was dealt with."""
        self._events.popleft()
        self._taken.set()

    async def follow(self) -> None:
        """Read for ever."""
        failures = 0
        while True:
            try:
                self._events.clear()
                self._send_all_again()
                async with closing(self._mailbox.follow(self._after())) as events:
                    async for event in events:
                        failures, self.stalled = 0, ""
                        await self._keep(event)
                reason = "the mailbox ended its stream"
            except TestbedError as error:
                # Unavailable, and whatever else a peer can make up: none of it may end the node.
                reason = str(error)
            failures += 1
            self.stalled = f"verdicts: {reason}"
            # A layer that starts beside the node, or again, is nothing to speak of.
            level = logging.INFO if failures <= QUIET_FAILURES else logging.WARNING
            _log.log(level, "%s gets no verdicts: %s", self._name, reason)
            await asyncio.sleep(_backoff_s(failures))

    async def _keep(self, event: MailboxEvent) -> None:
        while len(self._events) >= MAX_WAITING_EVENTS:
            self._taken.clear()
            await self._taken.wait()
        self._events.append(event)
        self._news.set()

    # Reports.

    def report(self, height: Height, report: SignedReport) -> None:
        """Hand a report in soon."""
        self._reports.setdefault(height, []).append(report)
        self._unsent.append((height, report))
        self._to_send.set()

    def firm_up_to(self, height: Height) -> None:
        """The sequencer takes back nothing up to here. Reports above wait: of a height there must be but one."""
        if height != self._firm_height:
            self._firm_height = height
            self._to_send.set()

    def resolved(self, height: Height, *, is_evicted: bool) -> None:
        """Nobody asks for reports of this height any more, but those of an evicted rollup show that it is back."""
        until = height - KEPT_WHILE_EVICTED if is_evicted else height
        for gone in [at for at in self._reports if at <= until]:
            del self._reports[gone]

    def went_back(self, height: Height) -> None:
        """What was reported of heights above the next one was on a parent that is gone."""
        for gone in [at for at in self._reports if at > height + 1]:
            del self._reports[gone]

    def silence(self, on: bool) -> None:  # noqa: FBT001 - the state that the fault names
        """Hand in no reports while it is on; afterwards those that are still asked for."""
        self._is_silent = on
        self._send_all_again()

    def _send_all_again(self) -> None:
        self._unsent = [(height, report) for height, reports in self._reports.items() for report in reports]
        self._to_send.set()

    async def send(self) -> None:
        """Hand reports in for ever."""
        failures = 0
        while True:
            await self._to_send.wait()
            self._to_send.clear()
            if self._is_silent:
                continue
            wanted = [(height, report) for height, report in self._unsent if report in self._reports.get(height, ())]
            self._unsent = [entry for entry in wanted if entry[0] > self._firm_height]
            reports = [report for height, report in wanted if height <= self._firm_height]
            for first in range(0, len(reports), MAX_REPORTS_AT_ONCE):
                try:
                    await self._mailbox.submit_reports(reports[first : first + MAX_REPORTS_AT_ONCE])
                    failures = 0
                except InvalidVerdict as error:
                    # Sending the same again would not help; `follow` shows what becomes of the height.
                    _log.warning("%s: a report was refused: %s", self._name, error)
                except TestbedError as error:
                    failures += 1
                    _log.warning("%s cannot hand in reports: %s", self._name, error)
                    await asyncio.sleep(_backoff_s(failures))
                    self._send_all_again()
                    break


def _backoff_s(failures: int) -> float:
    return min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(failures, 10))
