"""Which derived heights a node keeps while they wait for their verdicts. Pure.

A height gets its verdict once it is firm, and that it is firm comes behind it in the reader's queue, maybe behind many
others. So soft heights never make the reader wait: up to a bound they are kept, and what comes after it is left out
until all that is kept is resolved; then the reader reads it again, and most of it is firm by then. Firm heights wait
for verdicts alone, which come another way: where it is these that are too many, the reader waits.
"""

from collections import deque

from nodes.model.execution import Derived
from nodes.model.ids import Height

MAX_FIRM_HEIGHTS = 32
"""Firm heights that may wait to be executed; then the reader waits as well."""
MAX_HEIGHTS = 512
"""Heights that may wait for verdicts. Fewer than derivation can go back by itself, so that checkpoints go on."""
MAX_BYTES = 64 * 1024 * 1024
"""Of these, where the next height is the one that crosses it."""
LEG_BYTES = 1_024
"""What a leg takes in memory beside its payload, roughly."""


class Backlog:
    """The derived heights that are not resolved."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Height, int]] = deque()
        self._bytes = 0
        self._last = Height(0)
        """The last height that was kept."""
        self.leaves_out = False
        """Heights after the kept ones were left out, and have to be read again."""

    def is_full(self, resolved: Height) -> bool:
        """Whether the next height would be left out. Heights up to `resolved` are gone from memory."""
        while self._kept and self._kept[0][0] <= resolved:
            self._bytes -= self._kept.popleft()[1]
        return self.leaves_out or len(self._kept) >= MAX_HEIGHTS or self._bytes >= MAX_BYTES

    def keeps(self, derived: Derived, *, resolved: Height) -> bool:
        """Whether the next height is kept; without any other it is, however large."""
        if self.is_full(resolved):
            self.leaves_out = True  # and whatever follows, since there are no gaps
            return False
        size_bytes = _size_bytes(derived)
        self._kept.append((derived.height, size_bytes))
        self._bytes += size_bytes
        self._last = derived.height
        return True

    def rewound(self, height: Height) -> None:
        """The sequencer took back every height above this one."""
        if height > self._last:
            return  # and what was left out up to it is still missing
        self.leaves_out = False
        self._last = height
        while self._kept and self._kept[-1][0] > height:
            self._bytes -= self._kept.pop()[1]


def _size_bytes(derived: Derived) -> int:
    payloads = sum(len(leg.payload) for leg in derived.admitted) + sum(map(len, derived.notices))
    return payloads + LEG_BYTES * (len(derived.admitted) + len(derived.dropped))
