"""The open-loop load generator: sends what the dispatcher says every few milliseconds over one submit stream.

A broken stream (the sequencer was killed) is opened again and everything unanswered goes out once more. The generator
does not read what became of a bundle; the collector tells it which lanes to retire.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from coordinator.workload.dispatcher import Dispatcher
from nodes.model.errors import Overloaded, Unavailable
from nodes.model.limits import MAX_SUBMISSIONS_PER_CALL
from nodes.ports import Ticket
from nodes.telemetry.clock import Clock, thread_cpu_ns

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
TICK_NS = 5 * NS_PER_MS
"""Least time between two messages. 1 ms costs 80 us of CPU more per bundle, 20 ms adds 8 ms of latency."""
BUSY_BUNDLES = 8
"""After a message of so many bundles two ticks pass: half the messages for 2.5 ms more of median latency."""
IDLE_NS = 50 * NS_PER_MS
"""Longest sleep: watchers are told about the time, and a stop is seen."""
RECONNECT_NS = 100 * NS_PER_MS
MAX_OPEN_MESSAGES = 64
"""Messages sent or queued and not answered; above, due bundles wait in the dispatcher and grow into larger messages."""
MAX_BATCH_BYTES = 4 * 1024 * 1024
"""What one message may carry; well below what the wire takes."""
LAST_ANSWERS_S = 0.5
"""How long answers of the last messages are waited for when the load was stopped early."""


class Stream(Protocol):
    """An open submit stream."""

    async def send(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Tickets in order. Raises Overloaded (nothing was taken), Unavailable (unknown, send again)."""
        ...


class StreamOpener(Protocol):
    """The part of a sequencer's client that the generator uses."""

    def submit_stream(self) -> AbstractAsyncContextManager[Stream]:
        """Open a stream. Once broken it stays broken."""
        ...


@dataclass(slots=True)
class Generator:
    """Sends one phase. All times of the dispatcher are on `clock`."""

    dispatcher: Dispatcher
    submissions: Sequence[bytes]
    opener: StreamOpener
    clock: Clock
    end_ns: int
    """Give up what is not answered by then."""
    tick_ns: int = TICK_NS
    on_tick: Callable[[], None] = lambda: None
    reconnects: int = 0
    last_break: str = ""
    """Why the stream broke last."""
    cpu_ns: int = 0
    """Thread CPU time of the generator's own code, the submit stream aside."""
    _queue: deque[list[int]] = field(default_factory=deque)
    _open: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _stopped: bool = False
    _message_limit: int = field(init=False)

    def __post_init__(self) -> None:
        largest = max(map(len, self.submissions), default=1)
        self._message_limit = max(1, min(MAX_SUBMISSIONS_PER_CALL, MAX_BATCH_BYTES // largest))

    async def run(self) -> None:
        """Send until every bundle is settled, `stop` is called, or `end_ns`."""
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._keep_stream())
            await self._tick()
            sending.cancel()
        self.dispatcher.stop()

    def stop(self) -> None:
        """Send nothing more; `run` ends once what was sent is answered, or after half a second."""
        if not self._stopped:
            self._stopped = True
            self.end_ns = min(self.end_ns, self.clock.monotonic_ns() + int(LAST_ANSWERS_S * NS_PER_S))

    async def _tick(self) -> None:
        dispatcher = self.dispatcher
        while not dispatcher.done and not (self._stopped and not self._open):
            now_ns = self.clock.monotonic_ns()
            if now_ns >= self.end_ns:
                return
            taken: list[int] = []
            if not self._stopped:
                cpu_ns = thread_cpu_ns()
                room = self._message_limit if self._open < MAX_OPEN_MESSAGES else 0
                taken = dispatcher.take(now_ns, limit=room)
                if taken:
                    self._open += 1
                    self._queue.append(taken)
                    self._changed.set()
                self.on_tick()
                self.cpu_ns += thread_cpu_ns() - cpu_ns
            await asyncio.sleep(self._pause_ns(now_ns, sent=len(taken)) / NS_PER_S)

    def _pause_ns(self, now_ns: int, *, sent: int) -> int:
        """Until the next bundle is due, but a tick or two after a message of `sent`: a low rate is not kept waiting."""
        dispatcher = self.dispatcher
        wake_ns = now_ns + (self.tick_ns if dispatcher.holds_back or self._stopped else IDLE_NS)
        if dispatcher.next_due_ns is not None:
            wake_ns = min(wake_ns, dispatcher.next_due_ns)
        if sent:
            wake_ns = max(wake_ns, now_ns + self.tick_ns * (2 if sent >= BUSY_BUNDLES else 1))
        return max(0, wake_ns - now_ns)

    async def _keep_stream(self) -> None:
        while True:
            async with self.opener.submit_stream() as stream, asyncio.TaskGroup() as group:
                await self._feed(stream, group)
            self.reconnects += 1
            await asyncio.sleep(RECONNECT_NS / NS_PER_S)

    async def _feed(self, stream: Stream, group: asyncio.TaskGroup) -> None:
        """Hand messages to the stream until it breaks. Tasks start in the order of their making, and so keep it."""
        broken = asyncio.Event()
        while not broken.is_set():
            while self._queue:
                group.create_task(self._send(stream, self._queue.popleft(), broken))
            self._changed.clear()
            await self._changed.wait()

    async def _send(self, stream: Stream, bundles: list[int], broken: asyncio.Event) -> None:
        dispatcher = self.dispatcher
        try:
            tickets = await stream.send([self.submissions[bundle] for bundle in bundles])
        except Overloaded as full:
            now_ns = self.clock.monotonic_ns()
            dispatcher.overloaded(bundles, retry_ns=now_ns + full.retry_after_ms * NS_PER_MS, now_ns=now_ns)
        except Unavailable as error:
            self.last_break = str(error)
            dispatcher.broken(bundles, retry_ns=self.clock.monotonic_ns() + RECONNECT_NS)
            broken.set()
            self._changed.set()
        else:
            cpu_ns = thread_cpu_ns()
            dispatcher.answered(bundles, tickets, self.clock.monotonic_ns())
            self.cpu_ns += thread_cpu_ns() - cpu_ns
        self._open -= 1
