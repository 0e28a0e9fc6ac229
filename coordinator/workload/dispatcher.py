"""Which bundles to send now: an open-loop schedule, lanes that keep their order, refusals, broken streams.

A state machine without I/O: times and answers in, bundles to send out. It never waits for an answer before the next
bundle is due. Only a lane whose bundle was refused holds back what follows in it, because nonces must stay in order.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from nodes.ports import Ticket

MAX_IN_FLIGHT = 65_536
"""Bundles sent and not yet answered."""
STRICT_MESSAGE = 64
"""Most bundles of a message while lanes are strict: what was held back must not come as one message that never fits."""
STRICT_NS = 1_000_000_000
"""How long after a refusal a lane may have one unanswered bundle only: a second could overtake a refused first."""


class Standing(IntEnum):
    """Where a bundle stands with the sequencer."""

    WAITING = 0
    SENT = 1
    ACCEPTED = 2
    REFUSED = 3
    UNSENT = 4


@dataclass(slots=True)
class _Lane:
    waiting: list[int]
    """Heap of bundles that are due and held back."""
    in_flight: int = 0
    ready_ns: int = 0
    retired: bool = False


class Dispatcher:
    """The schedule of one phase. All times are nanoseconds on one monotonic clock."""

    def __init__(self, *, due_ns: Sequence[int], lanes: Sequence[int], retired: Sequence[int] = ()) -> None:
        self.due_ns = due_ns
        self._lane_of = lanes
        count = len(due_ns)
        self.standing = [Standing.WAITING] * count
        self.sent_ns: list[int] = [0] * count
        """First sending; 0 = never."""
        self.accepted_ns: list[int] = [0] * count
        self.reached_ns: list[int] = [0] * count
        """When the generator came to the bundle; minus `due_ns` = its own lateness, whatever a lane or the peer did."""
        self.attempts: list[int] = [0] * count
        self.refusals: dict[int, str] = {}
        self.overloads = 0
        """Messages that a full mempool refused."""
        self._lanes = {lane: _Lane(waiting=[]) for lane in set(lanes)}
        for lane in retired:
            if lane in self._lanes:
                self._lanes[lane].retired = True
        # A dict, not a set: the order of sending must not depend on hashing.
        self._held: dict[int, None] = {}
        self._next = 0
        self._strict_until_ns = 0
        self.in_flight = 0
        self.accepted = 0
        self.settled = 0
        """Accepted, refused or given up."""

    @property
    def done(self) -> bool:
        """Every bundle is settled."""
        return self.settled == len(self.due_ns)

    @property
    def reached(self) -> int:
        """Bundles that have become due."""
        return self._next

    @property
    def next_due_ns(self) -> int | None:
        """When the next bundle becomes due; None after the last."""
        return self.due_ns[self._next] if self._next < len(self.due_ns) else None

    @property
    def holds_back(self) -> bool:
        """Some bundle is due and waits for its lane or for room."""
        return bool(self._held)

    @property
    def retired_lanes(self) -> list[int]:
        """Lanes out of use."""
        return sorted(lane for lane, state in self._lanes.items() if state.retired)

    def take(self, now_ns: int, *, limit: int) -> list[int]:
        """Bundles to send now, in an order that keeps every lane's own; at most `limit`, they count as sent."""
        taken: list[int] = []
        is_strict = now_ns < self._strict_until_ns
        limit = min(limit, MAX_IN_FLIGHT - self.in_flight, STRICT_MESSAGE if is_strict else MAX_IN_FLIGHT)
        window = 1 if is_strict else MAX_IN_FLIGHT
        for lane in list(self._held):
            state = self._lanes[lane]
            while state.waiting and len(taken) < limit and state.ready_ns <= now_ns and state.in_flight < window:
                self._send(heapq.heappop(state.waiting), state, now_ns, taken)
            if not state.waiting:
                self._held.pop(lane, None)
        due, count = self.due_ns, len(self.due_ns)
        while self._next < count and due[self._next] <= now_ns:
            bundle, self._next = self._next, self._next + 1
            self.reached_ns[bundle] = now_ns
            state = self._lanes[self._lane_of[bundle]]
            if state.retired:
                self._give_up(bundle)
            elif state.waiting or state.ready_ns > now_ns or state.in_flight >= window or len(taken) >= limit:
                heapq.heappush(state.waiting, bundle)
                self._held[self._lane_of[bundle]] = None
            else:
                self._send(bundle, state, now_ns, taken)
        return taken

    def _send(self, bundle: int, state: _Lane, now_ns: int, taken: list[int]) -> None:
        state.in_flight += 1
        self.in_flight += 1
        self.attempts[bundle] += 1
        self.standing[bundle] = Standing.SENT
        if not self.sent_ns[bundle]:
            self.sent_ns[bundle] = now_ns
        taken.append(bundle)

    def answered(self, bundles: Sequence[int], tickets: Sequence[Ticket], now_ns: int) -> None:
        """The sequencer's tickets for one message, in its order."""
        lanes, lane_of, standing, accepted_ns = self._lanes, self._lane_of, self.standing, self.accepted_ns
        self.in_flight -= len(bundles)
        self.settled += len(bundles)
        for bundle, ticket in zip(bundles, tickets, strict=True):
            state = lanes[lane_of[bundle]]
            state.in_flight -= 1
            if ticket.accepted:
                standing[bundle] = Standing.ACCEPTED
                accepted_ns[bundle] = now_ns
                self.accepted += 1
            else:
                standing[bundle] = Standing.REFUSED
                self.refusals[bundle] = ticket.reason
                # Its nonce will never be used, so nothing after it in this lane can execute.
                self.retire(lane_of[bundle])

    def overloaded(self, bundles: Sequence[int], *, retry_ns: int, now_ns: int) -> None:
        """Nothing of one message was taken; its lanes wait until `retry_ns`."""
        self.overloads += 1
        self._strict_until_ns = max(self._strict_until_ns, max(retry_ns, now_ns) + STRICT_NS)
        for bundle in bundles:
            self._take_back(bundle, retry_ns)

    def broken(self, bundles: Sequence[int], *, retry_ns: int) -> None:
        """No answer will come for these; each is sent again with the same bytes, which is idempotent."""
        for bundle in bundles:
            self._take_back(bundle, retry_ns)

    def _take_back(self, bundle: int, retry_ns: int) -> None:
        lane = self._lane_of[bundle]
        state = self._lanes[lane]
        state.in_flight -= 1
        self.in_flight -= 1
        state.ready_ns = max(state.ready_ns, retry_ns)
        if state.retired:
            self._give_up(bundle)
            return
        self.standing[bundle] = Standing.WAITING
        heapq.heappush(state.waiting, bundle)
        self._held[lane] = None

    def retire(self, lane: int) -> None:
        """Stop using a lane: what waits in it, and what becomes due in it later, is not sent. Idempotent."""
        state = self._lanes.get(lane)
        if state is None or state.retired:
            return
        state.retired = True
        self._give_up_waiting(lane, state)

    def stop(self) -> None:
        """Give up everything that is not sent: the phase ends. What is sent and not answered stays so."""
        for lane, state in self._lanes.items():
            self._give_up_waiting(lane, state)
        for bundle in range(self._next, len(self.due_ns)):
            self._give_up(bundle)
        self._next = len(self.due_ns)

    def _give_up_waiting(self, lane: int, state: _Lane) -> None:
        for bundle in state.waiting:
            self._give_up(bundle)
        state.waiting.clear()
        self._held.pop(lane, None)

    def _give_up(self, bundle: int) -> None:
        self.standing[bundle] = Standing.UNSENT
        self.settled += 1
