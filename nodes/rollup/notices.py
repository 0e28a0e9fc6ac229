"""The resolver's notices on one node: which of them hold, and whether each stands in the sequencer's log.

A mailbox hands notices out before or after this node reads the log that far, so nothing waits for the log. But what the
log still lacks well beyond the place where it must stand was never posted there, and a node that asks another mailbox,
or none, would not know of it: that is evidence against the resolver.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

from nodes.model.errors import InvalidVerdict, TestbedError
from nodes.model.ids import Height
from nodes.model.verdict import Notice, SignedNotice
from nodes.rollup.verdict_checks import Contradiction, VerdictChecks
from nodes.rollup.verdict_store import VerdictStore
from nodes.rules.verdict import Standing, decode_notice, notice_of_payload

NOTICE_GRACE_HEIGHTS = 1_024
"""Beyond a notice's height, and beyond where the sequencer's chain ended when it was handed out: until there the log
must have it. Covers sources that lag behind one another."""
ASK_AGAIN_HEIGHTS = 64
"""Between two attempts to learn where the sequencer's chain ends."""

_log = logging.getLogger(__name__)


class Notices:
    """The notices of one node, in one session."""

    def __init__(self, store: VerdictStore, checks: VerdictChecks, *, head: Callable[[], Awaitable[Height]]) -> None:
        """`head`: where the sequencer's chain ends now; may raise TestbedError. Raises Contradiction."""
        self._store = store
        self._checks = checks
        self._head = head
        self._ask_from = Height(0)
        self.standing = Standing()
        for signed in store.notices():
            self.standing.take(checks.notice(signed))

    def standing_with(self, carried: Iterable[SignedNotice]) -> Standing:
        """What would hold with the notices of a verdict. Raises Contradiction."""
        standing = self.standing.copy()
        for signed in carried:
            notice = self._checks.notice(signed)
            if not self._store.has_notice(signed):
                standing.take(notice)
        return standing

    def take(self, signed: SignedNotice, notice: Notice) -> None:
        """It holds from now on, durably."""
        self._store.put_notice(signed)
        self.standing.take(notice)

    async def read(self, height: Height, payloads: Sequence[bytes]) -> None:
        """The log at the next height has these payloads for notices. Raises Contradiction for one that it lacks."""
        for payload in payloads:
            signed = notice_of_payload(payload)
            if self._is_ours(signed):
                self._store.put_logged(signed)
        for data, due in self._store.unlogged(height):
            if due is None:
                await self._ask(data, height)
            else:
                notice = decode_notice(data)
                raise Contradiction(
                    "resolver",
                    f"it handed out a notice ({notice.kind.name} of height {notice.height}, epoch {notice.epoch}) that "
                    f"the sequencer's log does not have up to height {height}",
                )

    def _is_ours(self, signed: SignedNotice) -> bool:
        """Anybody may log anything; what cannot be a notice is not worth the recovery of its signer."""
        try:
            decode_notice(signed.notice)
            self._checks.notice(signed)
        except (InvalidVerdict, Contradiction):
            return False
        return True

    async def _ask(self, data: bytes, height: Height) -> None:
        """Fix until where the log must have a notice, which a node that is behind learns of long before it reads it."""
        if height < self._ask_from:
            return
        try:
            head = await self._head()
        except TestbedError as error:
            self._ask_from = Height(height + ASK_AGAIN_HEIGHTS)
            _log.info("nobody tells where the sequencer's chain ends: %s", error)
            return
        self._store.expect_logged(data, Height(max(head, height, decode_notice(data).height) + NOTICE_GRACE_HEIGHTS))
