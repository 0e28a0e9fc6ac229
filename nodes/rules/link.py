"""What a wide-area link does to the bytes of a connection: when each chunk arrives. Pure: times and chance come in.

The model, per direction of a link:

* A chunk needs the one-way delay, plus jitter: exponential with a mean of `jitter_share` of that delay, cut off at
  JITTER_CAP times the mean. Never less than the delay, because a published round trip is about the shortest one.
* A connection keeps its order, so a chunk waits for all before it. Chunks are under way at the same time: a hundred of
  them pay one delay.
* Bandwidth is a token bucket of BURST_BYTES for all connections of the link and direction.
* Loss strikes segments of SEGMENT_BYTES one by one. A lost segment is sent again: one round trip later when three
  segments after it were sent (fast retransmit: the third duplicate acknowledgement tells the sender), and at the latest
  after a retransmission time-out of a round trip and MIN_RTO_NS, as in Linux. Each time it is lost again costs another
  time-out, twice as long. Everything behind it waits (RFC 5681, RFC 6298). A loss delays and does not slow down: there
  is no congestion window, so limit the rate by bandwidth.
* A connection is set up by a SYN and its answer; a lost one is sent again after SYN_RTO_NS, then twice as long.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

NS_PER_S = 1_000_000_000
SEGMENT_BYTES = 1_448
"""Payload of a TCP segment on Ethernet, with time stamps."""
JITTER_CAP = 6.0
BURST_BYTES = 64 * 1024
MIN_RTO_NS = 200_000_000
SYN_RTO_NS = NS_PER_S
DUPLICATES = 3
"""Segments after a lost one by which its sender knows."""
MAX_REPEATS = 5
"""How often one segment can be lost again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRule:
    """One direction of a link."""

    one_way_ns: int
    jitter_share: float = 0.0
    loss: float = 0.0
    """Below 1."""
    bytes_per_s: float = 0.0
    """0 = not limited."""

    @property
    def round_trip_ns(self) -> int:
        """There and back, without jitter."""
        return 2 * self.one_way_ns

    @property
    def time_out_ns(self) -> int:
        """After which a sender that heard nothing sends again."""
        return self.round_trip_ns + MIN_RTO_NS


class Draws(NamedTuple):
    """The chance of one chunk: numbers from 0 to below 1. Always all three, so that the index of a chunk decides."""

    jitter: float
    loss: float
    repeats: float


Draw = Callable[[], Draws]
"""The next of a link and direction, whichever connection it is for."""


class Opening(NamedTuple):
    """When a connection that is being opened gets where."""

    reaches_ns: int
    """The SYN is at the server."""
    established_ns: int
    """Its answer is at the client, which may send from now on."""
    accepted_ns: int
    """The client's acknowledgement is at the server, which may send from now on."""


class Arrival(NamedTuple):
    """A chunk that has arrived."""

    sent_ns: int
    due_ns: int
    """When it should have been handed over."""
    was_lost: bool


def opening(there: LinkRule, back: LinkRule, draws: tuple[Draws, Draws], *, now_ns: int) -> Opening:
    """The times of a connection whose client connects now; `draws` are of SYN and answer."""
    reaches = now_ns + _alone_ns(there, draws[0])
    established = reaches + _alone_ns(back, draws[1])
    return Opening(reaches, established, established + there.one_way_ns)


def jitter_ns(rule: LinkRule, draw: float) -> int:
    """What is added to the one-way delay."""
    mean = rule.one_way_ns * rule.jitter_share
    return round(mean * min(-math.log1p(-draw), JITTER_CAP))


def segments_of(size: int) -> int:
    """Segments of so many bytes; an empty chunk (SYN, FIN) is one."""
    return max(1, -(-size // SEGMENT_BYTES))


class Bucket:
    """The bandwidth of one direction of a link."""

    def __init__(self, bytes_per_s: float) -> None:
        self._ns_per_byte = NS_PER_S / bytes_per_s if bytes_per_s else 0.0
        self._free_ns = -(1 << 62)
        """When the bucket would be empty had nothing been saved up."""

    def passed_ns(self, now_ns: int, size: int) -> int:
        """When the last byte of a chunk that is sent now has gone onto the line."""
        if not self._ns_per_byte:
            return now_ns
        saved_ns = round(BURST_BYTES * self._ns_per_byte)
        self._free_ns = max(self._free_ns, now_ns - saved_ns) + round(size * self._ns_per_byte)
        return max(now_ns, self._free_ns)


class _Chunk:
    """On its way."""

    __slots__ = ("due_ns", "missing", "repeat_ns", "sent_ns", "was_lost")

    def __init__(self, sent_ns: int, due_ns: int) -> None:
        self.sent_ns = sent_ns
        self.due_ns = due_ns
        self.was_lost = False
        self.missing = 0
        """Segments that must still be sent after the lost one before its sender knows; 0 = none was lost, or it knows.
        """
        self.repeat_ns = 0
        """Time-outs of what was lost again."""


class Flow:
    """One direction of one connection: chunks go in when they are sent and come out, in order, when they arrive."""

    def __init__(self, rule: LinkRule, bucket: Bucket, draw: Draw, *, open_ns: int = 0) -> None:
        """`open_ns`: what is sent before counts as sent then."""
        self._rule = rule
        self._bucket = bucket
        self._draw = draw
        self.open_ns = open_ns
        self._under_way: deque[_Chunk] = deque()
        self._unnoticed: list[_Chunk] = []
        self._last_due_ns = 0

    def send(self, now_ns: int, size: int) -> None:
        """A chunk of so many bytes is handed to the network; `now_ns` never goes back."""
        rule, draws = self._rule, self._draw()
        sent_ns = max(now_ns, self.open_ns)
        gone_ns = self._bucket.passed_ns(sent_ns, size)
        segments = segments_of(size)
        if self._unnoticed:
            self._notice(gone_ns, segments)
        chunk = _Chunk(sent_ns, gone_ns + rule.one_way_ns + jitter_ns(rule, draws.jitter))
        lost = _lost_segment(rule, draws, segments)
        if lost is not None:
            chunk.was_lost = True
            chunk.repeat_ns = _repeats_ns(rule, draws, first_ns=rule.time_out_ns)
            chunk.missing = max(0, DUPLICATES - (segments - 1 - lost))
            chunk.due_ns += chunk.repeat_ns + (rule.time_out_ns if chunk.missing else rule.round_trip_ns)
            if chunk.missing:
                self._unnoticed.append(chunk)
        self._under_way.append(chunk)

    def _notice(self, gone_ns: int, segments: int) -> None:
        """Segments are sent that make the receiver ask for what it misses."""
        rule = self._rule
        for chunk in self._unnoticed:
            chunk.missing -= segments
            if chunk.missing <= 0:
                again_ns = gone_ns + rule.round_trip_ns + rule.one_way_ns + chunk.repeat_ns
                chunk.due_ns = min(chunk.due_ns, again_ns)
        self._unnoticed = [chunk for chunk in self._unnoticed if chunk.missing > 0]

    def next_ns(self) -> int | None:
        """When the first chunk under way arrives, as things stand; None where none is. A later `send` can only make it
        earlier.
        """
        if not self._under_way:
            return None
        return max(self._under_way[0].due_ns, self._last_due_ns)

    def take(self, now_ns: int) -> Arrival | None:
        """The next chunk that has arrived by now, in the order they were sent."""
        due_ns = self.next_ns()
        if due_ns is None or due_ns > now_ns:
            return None
        chunk = self._under_way.popleft()
        if chunk.missing > 0:
            self._unnoticed.remove(chunk)
        self._last_due_ns = due_ns
        return Arrival(chunk.sent_ns, due_ns, chunk.was_lost)


def _alone_ns(rule: LinkRule, draws: Draws) -> int:
    """The way of a segment of a connection that is being opened."""
    took = rule.one_way_ns + jitter_ns(rule, draws.jitter)
    if _lost_segment(rule, draws, 1) is not None:
        took += SYN_RTO_NS + _repeats_ns(rule, draws, first_ns=SYN_RTO_NS)
    return took


def _lost_segment(rule: LinkRule, draws: Draws, segments: int) -> int | None:
    """Which of the segments is lost; None for none. Of several the last counts, and which one it is is evenly drawn."""
    if not rule.loss:
        return None
    any_lost = -math.expm1(segments * math.log1p(-rule.loss))
    return min(int(draws.loss / any_lost * segments), segments - 1) if draws.loss < any_lost else None


def _repeats_ns(rule: LinkRule, draws: Draws, *, first_ns: int) -> int:
    """Time-outs of a retransmission that is lost again, each twice the one before."""
    repeats = 0
    while repeats < MAX_REPEATS and draws.repeats < rule.loss ** (repeats + 1):
        repeats += 1
    return sum(first_ns << number for number in range(1, repeats + 1))
