"""What waits at a builder for its ticket: in order, bounded, and each bundle once.

Knows no rollup and no sequencer. Every submission is answered: by a ticket, or by why there is none.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import NamedTuple

from nodes.agglayer.builder_offers import Offer
from nodes.agglayer.builder_simulation import call_bytes
from nodes.model.agglayer import NetworkId
from nodes.model.errors import Overloaded, Unavailable
from nodes.model.ids import BundleHash, SubmissionHash
from nodes.model.limits import MAX_MESSAGE_BYTES, MAX_RPC_BODY_BYTES
from nodes.ports import Ticket

MAX_QUEUED_BUNDLES = 4_096
MAX_QUEUED_BYTES = 16 * 1024 * 1024
MAX_REMEMBERED = 100_000
"""Bundles of which it is known that they were taken, so that the same bytes are answered as duplicates."""
MAX_SIMULATED_BYTES = MAX_RPC_BODY_BYTES * 9 // 10
"""Of one simulation's request, pending bundles included."""
MAX_BATCH_BYTES = MAX_MESSAGE_BYTES // 2
"""Of the submissions of one batch, which goes to the sequencer in one message."""
MAX_SIMULATED_CALLS = 2_048
MAX_SIMULATED_LEGS = 200
"""Gas of one simulation, in legs of the largest gas limit; rollup nodes take a little more."""


def refusal(submission_hash: SubmissionHash, reason: str) -> Ticket:
    """The ticket of a submission that is not taken."""
    return Ticket(submission_hash=submission_hash, accepted=False, duplicate=False, reason=reason)


class NoTicket(NamedTuple):
    """Why a submission has no ticket. Sending the same bytes again is safe."""

    reason: str
    may_be_taken: bool
    """The sequencer may have it."""


def _new_answer() -> "asyncio.Future[Ticket | NoTicket]":
    return asyncio.get_running_loop().create_future()


@dataclass(slots=True)
class _Waiting:
    """A submission that has no ticket yet."""

    offer: Offer
    arrived_ns: int
    answer: "asyncio.Future[Ticket | NoTicket]" = field(default_factory=_new_answer)


@dataclass(frozen=True, slots=True)
class Taken:
    """A submission that is in the queue, for one caller."""

    waiting: _Waiting
    is_first: bool
    """False for the same bytes as a submission that waits already."""

    async def ticket(self) -> Ticket | NoTicket:
        """Its ticket, once that is decided."""
        # Others may wait for the same answer, so a caller that leaves must not cancel it.
        answer = await asyncio.shield(self.waiting.answer)
        if isinstance(answer, NoTicket) or self.is_first or not answer.accepted:
            return answer
        return replace(answer, duplicate=True)


async def tickets_of(taken: Sequence[Taken | Ticket], *, retry_after_ms: int) -> list[Ticket]:
    """The tickets of one call's submissions.

    Where some have none: raises Overloaded if nothing of the call was taken, Unavailable if something was, or may be.
    """
    answers = [item if isinstance(item, Ticket) else await item.ticket() for item in taken]
    tickets = [answer for answer in answers if isinstance(answer, Ticket)]
    missing = [answer for answer in answers if isinstance(answer, NoTicket)]
    if not missing:
        return tickets
    if any(answer.may_be_taken for answer in missing) or any(ticket.accepted for ticket in tickets):
        raise Unavailable(missing[0].reason)
    raise Overloaded(missing[0].reason, retry_after_ms=retry_after_ms)


class OfferQueue:
    """Submissions from their arrival to their ticket."""

    def __init__(self) -> None:
        self._queue: deque[_Waiting] = deque()
        self._waiting: dict[BundleHash, _Waiting] = {}
        self._accepted: OrderedDict[BundleHash, SubmissionHash] = OrderedDict()
        self._uncertain: OrderedDict[BundleHash, SubmissionHash] = OrderedDict()
        self.queued_bytes = 0
        self.arrived = asyncio.Event()
        """Something waits."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def oldest_ns(self) -> int:
        """When the first one arrived. Only where something waits."""
        return self._queue[0].arrived_ns

    def check_room(self, submissions: Sequence[bytes], *, retry_after_ms: int) -> None:
        """Raises Overloaded where these would be too many. An empty queue takes any one call."""
        size = sum(map(len, submissions))
        is_full = len(self._queue) + len(submissions) > MAX_QUEUED_BUNDLES
        if self._queue and (is_full or self.queued_bytes + size > MAX_QUEUED_BYTES):
            raise Overloaded(f"{len(self._queue):,} bundles wait for the builder", retry_after_ms=retry_after_ms)

    def take(self, offer: Offer, *, now_ns: int) -> Taken | Ticket:
        """Put a submission in the queue; its ticket at once where it is known already."""
        waiting = self._waiting.get(offer.bundle_hash)
        known = self._accepted.get(offer.bundle_hash) if waiting is None else waiting.offer.submission_hash
        if known is not None and known != offer.submission_hash:
            return refusal(offer.submission_hash, "the same bundle was submitted before, in other bytes")
        if waiting is not None:
            return Taken(waiting, is_first=False)
        if known is not None:
            return Ticket(submission_hash=offer.submission_hash, accepted=True, duplicate=True, reason="")
        waiting = self._waiting[offer.bundle_hash] = _Waiting(offer, now_ns)
        self._queue.append(waiting)
        self.queued_bytes += len(offer.data)
        self.arrived.set()
        return Taken(waiting, is_first=True)

    def first(self, count: int) -> Iterator[Offer]:
        """The offers that are next, without taking them."""
        return (waiting.offer for waiting in islice(self._queue, count))

    def pop(self) -> Offer:
        """The next offer; it still has no ticket."""
        offer = self._queue.popleft().offer
        self.queued_bytes -= len(offer.data)
        if not self._queue:
            self.arrived.clear()
        return offer

    def put_back(self, offers: Sequence[Offer]) -> None:
        """They are next again, in this order."""
        for offer in reversed(offers):
            self._queue.appendleft(self._waiting[offer.bundle_hash])
            self.queued_bytes += len(offer.data)
            self.arrived.set()

    def answer(self, offer: Offer, ticket: Ticket) -> None:
        """Its ticket is known."""
        if ticket.accepted:
            _remember(self._accepted, offer)
        self._uncertain.pop(offer.bundle_hash, None)
        self._settle(offer, ticket)

    def fail(self, offers: Iterable[Offer], reason: str, *, may_be_taken: bool = False) -> None:
        """There is no ticket."""
        for offer in offers:
            if may_be_taken:
                _remember(self._uncertain, offer)
            self._settle(offer, NoTicket(reason, may_be_taken))

    def may_be_taken(self, offer: Offer) -> bool:
        """The sequencer may have these bytes from before; only it can say."""
        return self._uncertain.get(offer.bundle_hash) == offer.submission_hash

    def fail_all(self, reason: str) -> None:
        """No more tickets will come."""
        self._queue.clear()
        self.queued_bytes = 0
        self.fail([waiting.offer for waiting in self._waiting.values()], reason, may_be_taken=True)

    def _settle(self, offer: Offer, answer: Ticket | NoTicket) -> None:
        waiting = self._waiting.pop(offer.bundle_hash)
        if not waiting.answer.done():
            waiting.answer.set_result(answer)


class Room:
    """What one simulation of each rollup holds."""

    def __init__(self, leg_gas_caps: Mapping[NetworkId, int]) -> None:
        self._gas = {network: MAX_SIMULATED_LEGS * cap for network, cap in leg_gas_caps.items()}
        self._bytes = dict.fromkeys(leg_gas_caps, MAX_SIMULATED_BYTES)
        self._calls = dict.fromkeys(leg_gas_caps, MAX_SIMULATED_CALLS)
        self._batch_bytes = MAX_BATCH_BYTES

    def add(self, offer: Offer, *, done: int = 0) -> bool:
        """Take the room that a bundle needs, less the legs that are `done`; False, and no change, where it has none."""
        needed: dict[NetworkId, list[int]] = {}
        for index, leg in enumerate(offer.legs):
            if not done >> index & 1:
                needs = needed.setdefault(leg.network_id, [0, 0, 0])
                needs[0] += leg.transaction.gas_limit
                needs[1] += call_bytes(leg.payload)
                needs[2] += 1
        for network, (gas, size, calls) in needed.items():
            if gas > self._gas[network] or size > self._bytes[network] or calls > self._calls[network]:
                return False
        if len(offer.data) > self._batch_bytes:
            return False
        self._batch_bytes -= len(offer.data)
        for network, (gas, size, calls) in needed.items():
            self._gas[network] -= gas
            self._bytes[network] -= size
            self._calls[network] -= calls
        return True


def _remember(known: OrderedDict[BundleHash, SubmissionHash], offer: Offer) -> None:
    known[offer.bundle_hash] = offer.submission_hash
    if len(known) > MAX_REMEMBERED:
        known.popitem(last=False)
