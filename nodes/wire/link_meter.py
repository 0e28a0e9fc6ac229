"""What the relay of a link measured: how long chunks really took, in one direction of a link.

Bounded: delays are counted in classes of two per cent. Written by the relay's thread, read by any other.
"""

import math
from collections.abc import Sequence

from nodes.rules.link import Arrival

_LOWEST_NS = 10_000
_CLASS_RATIO = 1.02
_CLASSES = 1_000
"""Up to an hour."""
_LOG_RATIO = math.log(_CLASS_RATIO)


class Delays:
    """Durations, by class."""

    def __init__(self) -> None:
        self.total_ns = 0
        self.most_ns = 0
        self._counts = [0] * _CLASSES

    def add(self, took_ns: int) -> None:
        """One more."""
        self.total_ns += took_ns
        self.most_ns = max(self.most_ns, took_ns)
        at = int(math.log(took_ns / _LOWEST_NS) / _LOG_RATIO) + 1 if took_ns > _LOWEST_NS else 0
        self._counts[min(at, _CLASSES - 1)] += 1

    @property
    def counts(self) -> Sequence[int]:
        """How many are in each class, as they are now."""
        return list(self._counts)

    def mean_ns(self) -> int:
        """0 where there are none."""
        count = sum(self._counts)
        return self.total_ns // count if count else 0

    def percentile_ns(self, percent: float) -> int:
        """At most two per cent too much, and never more than the longest; 0 where there are none."""
        counts = self.counts
        wanted, seen = sum(counts) * percent / 100, 0
        for at, count in enumerate(counts):
            seen += count
            if seen and seen >= wanted:
                return min(round(_LOWEST_NS * _CLASS_RATIO**at), self.most_ns)
        return 0


class DirectionMeter:
    """Totals of one direction of a link since the process began."""

    def __init__(self) -> None:
        self.chunks = 0
        self.bytes = 0
        self.lost = 0
        self.delay = Delays()
        """From when a chunk was handed to the network until it was handed over."""
        self.late = Delays()
        """How much later than the model says that was: the error of the emulation itself."""

    def add(self, arrival: Arrival, *, size: int, now_ns: int) -> None:
        """A chunk was handed over."""
        self.chunks += 1
        self.bytes += size
        self.lost += arrival.was_lost
        self.delay.add(now_ns - arrival.sent_ns)
        self.late.add(now_ns - arrival.due_ns)
