"""The heads of a rollup chain: latest = executed, safe = executed from a firm height, finalized = from a final one.

With verdicts a safe height is resolved as well, and with settlement a finalized one is settled and final on L1.

`HeadTracker` is the rule, without I/O. `HeadAnnouncer` tells subscribers within the process; what a slow one misses
is never hidden from it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.errors import Overloaded
from nodes.model.ids import Height
from nodes.model.sequenced_block import Commitment
from nodes.model.status import BlockHead, Heads
from nodes.rollup.records import IndexedBlock

SUBSCRIBER_QUEUE = 1_024


class _Executed(NamedTuple):
    height: Height
    head: BlockHead


class HeadTracker:
    """Heads from executed heights and raised commitments. Commitments may run ahead of execution."""

    def __init__(
        self, genesis: BlockHead, *, final_level: Commitment, has_verdicts: bool = False, is_settled: bool = False
    ) -> None:
        """`has_verdicts`: safe waits for `resolved`. `is_settled`: finalized waits for `settled_final`."""
        self._genesis = genesis
        self._final_level = final_level
        self._has_verdicts = has_verdicts
        self._is_settled = is_settled
        self._resolved_height = 0
        self._settled_height = 0
        self._firm_height = 0
        self._final_height = 0
        self._latest = self._safe = self._finalized = _Executed(Height(0), genesis)
        self._waiting_safe: deque[_Executed] = deque()
        self._waiting_final: deque[_Executed] = deque()

    @property
    def heads(self) -> Heads:
        """The heads now."""
        return Heads(
            height=self._latest.height,
            latest=self._latest.head,
            safe=self._safe.head,
            finalized=self._finalized.head,
        )

    def executed(self, height: Height, head: BlockHead) -> None:
        """The next height was executed and `head` is the rollup's head after it."""
        self._latest = _Executed(height, head)
        self._waiting_safe.append(self._latest)
        # Finality may lag far behind: heights that changed nothing need no entry of their own.
        if head != (self._waiting_final[-1] if self._waiting_final else self._finalized).head:
            self._waiting_final.append(self._latest)
        self._advance()

    def raised(self, height: Height, level: Commitment) -> None:
        """Every height up to this one reached a level."""
        if level >= Commitment.FIRM:
            self._firm_height = max(self._firm_height, height)
        if level >= self._final_level:
            self._final_height = max(self._final_height, height)
        self._advance()

    @property
    def firm_height(self) -> int:
        """Up to here the sequencer's order is firm."""
        return self._firm_height

    def resolved(self, height: Height) -> None:
        """Every height up to this one has its verdict, and was executed by it."""
        self._resolved_height = max(self._resolved_height, height)
        self._advance()

    def settled_final(self, height: Height) -> None:
        """Every height up to this one is settled by a transaction that is final on L1."""
        self._settled_height = max(self._settled_height, height)
        self._advance()

    def settlement_revoked(self, height: Height) -> None:
        """What was settled above a height is not what stands there. Only for heights that are not resolved."""
        self._settled_height = min(self._settled_height, height)

    def rewound(self, height: Height, head: BlockHead, *, promises_hold: bool = False) -> None:
        """Everything above `height` is gone; `head` is the rollup's head there.

        `promises_hold`: the same sequenced heights are executed again, and what was promised of them still is.
        """
        latest = _Executed(height, head)
        self._latest = latest
        for waiting in (self._waiting_safe, self._waiting_final):
            while waiting and waiting[-1].height > height:
                waiting.pop()
        if not promises_hold:
            self._firm_height = min(self._firm_height, height)
            self._final_height = min(self._final_height, height)
            self._settled_height = min(self._settled_height, height)
        self._resolved_height = min(self._resolved_height, height)
        if self._safe.height > height:
            self._safe = latest
        if self._finalized.height > height:
            self._finalized = latest

    def _advance(self) -> None:
        safe = min(self._firm_height, self._resolved_height) if self._has_verdicts else self._firm_height
        while self._waiting_safe and self._waiting_safe[0].height <= safe:
            self._safe = self._waiting_safe.popleft()
        final = min(safe, self._settled_height) if self._is_settled else self._final_height
        while self._waiting_final and self._waiting_final[0].height <= final:
            self._finalized = self._waiting_final.popleft()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadChange:
    """One step of the chain, for subscribers."""

    heads: Heads
    block: IndexedBlock | None
    """The new block; None for a height that made none but dropped something, and for a rewind."""
    removed: tuple[IndexedBlock, ...]
    """Blocks that are no longer on the chain, newest first (at most the ones that were in memory)."""


class HeadSubscription:
    """The changes after the moment of subscribing, in order. Leave it with `close` (or as a context manager)."""

    def __init__(self, announcer: "HeadAnnouncer", limit: int) -> None:
        self._announcer = announcer
        self._queue: asyncio.Queue[HeadChange | None] = asyncio.Queue(limit + 1)
        self._limit = limit
        self._overflowed = False

    def __enter__(self) -> "HeadSubscription":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """No more changes. Idempotent."""
        self._announcer.remove(self)

    def offer(self, change: HeadChange | None) -> None:
        """For the announcer: queue a change; None ends the subscription. A full queue marks the reader as too slow."""
        if self._overflowed:
            return
        if change is not None and self._queue.qsize() >= self._limit:
            self._overflowed = True
            change = None
        self._queue.put_nowait(change)

    async def __aiter__(self) -> AsyncIterator[HeadChange]:
        """Until the node stops. Raises Overloaded where the reader fell behind; subscribe again and read the gap."""
        while True:
            change = await self._queue.get()
            if change is None:
                if self._overflowed:
                    raise Overloaded(f"a subscriber fell {self._limit} heads behind", retry_after_ms=0)
                return
            yield change


class HeadAnnouncer:
    """Hands each change to every subscriber, and the newest heads to those who only want these."""

    def __init__(self) -> None:
        self._subscribers: set[HeadSubscription] = set()
        self._watchers: set[asyncio.Event] = set()
        self._closed = False

    def subscribe(self, *, limit: int = SUBSCRIBER_QUEUE) -> HeadSubscription:
        """Changes from now on; at most `limit` wait for the reader."""
        subscription = HeadSubscription(self, limit)
        if self._closed:
            subscription.offer(None)
        else:
            self._subscribers.add(subscription)
        return subscription

    def remove(self, subscription: HeadSubscription) -> None:
        """The subscriber left."""
        self._subscribers.discard(subscription)

    def announce(self, change: HeadChange) -> None:
        """A change of the chain."""
        for subscription in self._subscribers:
            subscription.offer(change)
        self.touch()

    def touch(self) -> None:
        """The heads changed in some way."""
        for watcher in self._watchers:
            watcher.set()

    async def changes(self) -> AsyncIterator[None]:
        """Yields at once and then after changes; several at once count as one. Ends when the node stops."""
        watcher = asyncio.Event()
        self._watchers.add(watcher)
        try:
            while not self._closed:
                watcher.clear()
                yield
                await watcher.wait()
        finally:
            self._watchers.discard(watcher)

    def close(self) -> None:
        """End every subscription. Idempotent."""
        self._closed = True
        for subscription in self._subscribers:
            subscription.offer(None)
        self._subscribers.clear()
        self.touch()
