"""Somebody who hands in other people's old bundles again: the same signed legs, in other bytes.

Every bundle is public once it was sequenced. A sequencer knows submissions by their exact bytes, and derivation knows
bundles for the replay window only; what comes later is stopped by nonces alone. It sends nothing of its own and waits
for no answer beyond the ticket.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coordinator.workload.dispatcher import Dispatcher, Standing
from nodes.model.errors import Overloaded, Unavailable
from nodes.ports import Sequencer
from nodes.telemetry.clock import Clock

LOOK_EVERY_S = 0.25
NS_PER_S = 1_000_000_000
UNKNOWN_FIELD = b"\xc0\x3e\x01"
"""Field 1000 of a protobuf message, as a varint of 1: readers skip what they do not know, and the bytes are others."""


@dataclass(slots=True, kw_only=True)
class Replayer:
    """Replays a share of one phase's bundles, each `after_ns` after the sequencer took it."""

    dispatcher: Dispatcher
    submissions: Sequence[bytes]
    sequencer: Sequencer
    clock: Clock
    rng: np.random.Generator
    share: float
    after_ns: int
    tell: Callable[[int], None]
    """Told of every bundle that is replayed, before it is sent."""
    sent: int = 0
    accepted: int = 0
    _looked_at: int = 0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)  # the victims' time passes; nothing could wake it
            chosen = self._old()
            for bundle in chosen:
                self.tell(bundle)
            if not chosen:
                continue
            self.sent += len(chosen)
            try:
                tickets = await self.sequencer.submit([self.submissions[bundle] + UNKNOWN_FIELD for bundle in chosen])
            except (Overloaded, Unavailable):
                continue  # an attacker who is turned away has simply failed
            self.accepted += sum(ticket.accepted for ticket in tickets)

    def _old(self) -> list[int]:
        """The next bundles that were taken long enough ago and that chance chooses."""
        dispatcher, before_ns = self.dispatcher, self.clock.monotonic_ns() - self.after_ns
        chosen = []
        while self._looked_at < dispatcher.reached and dispatcher.due_ns[self._looked_at] <= before_ns:
            bundle, self._looked_at = self._looked_at, self._looked_at + 1
            taken = dispatcher.standing[bundle] is Standing.ACCEPTED and dispatcher.accepted_ns[bundle] <= before_ns
            if taken and self.rng.random() < self.share:
                chosen.append(bundle)
        return chosen
