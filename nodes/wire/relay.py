"""One relayed connection of an emulated link: bytes from either side come out at the other when the link's model says.

Runs in the relay's own loop. Knows nothing of what the bytes are, nor of nodes and regions.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from nodes.rules.link import NS_PER_S, Bucket, Draw, Flow, LinkRule, opening
from nodes.telemetry.clock import Clock
from nodes.wire.link_meter import DirectionMeter

MAX_UNDER_WAY_BYTES = 8 * 1024 * 1024
"""Of one direction of one connection; above, the sender is not read until half of it has arrived. Like the largest
window that Linux gives to a connection, it bounds what a connection can carry in a round trip."""
SHORTEST_WAIT_S = 0.0005
"""A loop's timers are about as exact; a shorter wait would only spin."""


@dataclass(frozen=True, slots=True)
class Direction:
    """What the connections of one direction of a link share."""

    rule: LinkRule
    bucket: Bucket
    draw: Draw
    meter: DirectionMeter


class _Pipe:
    """One direction of one connection."""

    def __init__(self, direction: Direction, clock: Clock, ended: Callable[[], None]) -> None:
        self.flow = Flow(direction.rule, direction.bucket, direction.draw)
        self.source: asyncio.Transport | None = None
        self.sink: asyncio.Transport | None = None
        self.has_ended = False
        """The end of the stream, or of the connection, was handed over."""
        self._meter = direction.meter
        self._clock = clock
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._chunks: deque[bytes | None] = deque()
        """None = the end of the stream."""
        self._bytes = 0
        self._is_closing = False
        self._breaks_off = False
        self._sink_is_full = False
        self._source_waits = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_ns = 0

    def feed(self, data: bytes | None) -> None:
        """The source sent bytes, or its end."""
        if self._is_closing:
            return
        self._is_closing = data is None
        size = len(data or b"")
        self._chunks.append(data)
        self._bytes += size
        self.flow.send(self._clock.monotonic_ns(), size)
        if self._bytes > MAX_UNDER_WAY_BYTES and not self._source_waits and self.source is not None:
            self._source_waits = True
            self.source.pause_reading()
        self._arm()

    def break_off(self) -> None:
        """The source's connection broke: so will the sink's, once everything before has arrived."""
        self._breaks_off |= not self._is_closing  # an end that was sent in order stays one
        self.feed(None)

    def opened(self, sink: asyncio.Transport) -> None:
        """There is somebody to hand over to."""
        self.sink = sink
        self._arm()

    def sink_full(self, *, is_full: bool) -> None:
        """The sink takes no more for now, or again."""
        self._sink_is_full = is_full
        self._arm()

    def close(self) -> None:
        """Hand over nothing more."""
        self._is_closing = self.has_ended = True
        self._chunks.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _arm(self) -> None:
        """Wait for the next arrival. Sending may have made it earlier, seldom: then the timer is set anew."""
        due_ns = self.flow.next_ns()
        if due_ns is None or self.has_ended or self._sink_is_full or self.sink is None:
            return
        if self._timer is not None:
            if due_ns >= self._timer_due_ns:
                return
            self._timer.cancel()
        self._timer_due_ns = due_ns
        wait_s = (due_ns - self._clock.monotonic_ns()) / NS_PER_S
        self._timer = self._loop.call_later(max(wait_s, SHORTEST_WAIT_S) if wait_s > 0 else 0, self._hand_over)

    def _hand_over(self) -> None:
        """Everything that has arrived by now."""
        self._timer = None
        assert self.sink is not None
        now_ns = self._clock.monotonic_ns()
        while not self._sink_is_full and not self.has_ended:
            arrival = self.flow.take(now_ns)
            if arrival is None:
                break
            data = self._chunks.popleft()
            if data is None:
                self._end()
                return
            self._meter.add(arrival, size=len(data), now_ns=now_ns)
            self._bytes -= len(data)
            self.sink.write(data)  # may call `sink_full`
        if self._source_waits and self._bytes <= MAX_UNDER_WAY_BYTES // 2 and self.source is not None:
            self._source_waits = False
            self.source.resume_reading()
        self._arm()

    def _end(self) -> None:
        self.has_ended = True
        if self.sink is not None and not self.sink.is_closing():
            if self._breaks_off:
                self.sink.abort()
            else:
                try:
                    self.sink.write_eof()
                except OSError:
                    self.sink.abort()  # it broke just now, and its protocol has not been told yet
        self._ended()


class _Side(asyncio.Protocol):
    """The relay's end of a connection to the client, or to the server."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe, lost: Callable[[], None]) -> None:
        self._transport: asyncio.Transport | None = None
        self._has_left = False
        self._incoming = incoming
        self._outgoing = outgoing
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = self._incoming.source = cast(asyncio.Transport, transport)
        if self._has_left:
            self._transport.abort()
        else:
            self._outgoing.opened(self._transport)

    def leave(self, *, in_order: bool) -> None:
        """Close the connection, also one that is only now being made."""
        self._has_left = True
        if self._transport is not None:
            self._transport.close() if in_order else self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._incoming.feed(data)

    def eof_received(self) -> bool:
        self._incoming.feed(None)
        return True  # the other direction may go on

    def connection_lost(self, error: Exception | None) -> None:
        self._outgoing.close()
        if error is not None:
            self._incoming.break_off()
        else:
            self._incoming.feed(None)
        self._lost()

    def pause_writing(self) -> None:
        self._outgoing.sink_full(is_full=True)

    def resume_writing(self) -> None:
        self._outgoing.sink_full(is_full=False)


class RelayedConnection:
    """From a client that was accepted to the server that it wants, over a link."""

    def __init__(self, there: Direction, back: Direction, clock: Clock) -> None:
        self._clock = clock
        self._opening = opening(there.rule, back.rule, (there.draw(), back.draw()), now_ns=clock.monotonic_ns())
        self._done = asyncio.Event()
        self._there = _Pipe(there, clock, self._check)
        self._back = _Pipe(back, clock, self._check)
        self._there.flow.open_ns = self._opening.established_ns
        self._back.flow.open_ns = self._opening.accepted_ns
        self.client = _Side(self._there, self._back, self._check)
        """The protocol of the accepted connection."""
        self._server = _Side(self._back, self._there, self._check)

    async def run(self, host: str, port: int) -> bool:
        """Connect to the server and relay until both directions have ended; False where it could not be reached."""
        try:
            await self._until(self._opening.reaches_ns)
            try:
                await asyncio.get_running_loop().create_connection(lambda: self._server, host, port)
            except OSError:
                # The client hears of it when the refusal would have come back.
                await self._until(self._opening.established_ns)
                return False
            await self._done.wait()
            return True
        finally:
            self.close()

    def close(self) -> None:
        """Leave both sides. Idempotent."""
        # What was handed over last may still be in a transport's buffer; an end in order lets it out.
        both_ended = self._done.is_set()
        self._there.close()
        self._back.close()
        for side in (self.client, self._server):
            side.leave(in_order=both_ended)

    def _check(self) -> None:
        if self._there.has_ended and self._back.has_ended:
            self._done.set()

    async def _until(self, at_ns: int) -> None:
        await asyncio.sleep(max(0, at_ns - self._clock.monotonic_ns()) / NS_PER_S)
