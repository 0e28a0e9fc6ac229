"""Reports that wait for their round: early, late, speculative or false ones, kept within bounds until they fit.

Decides nothing about rounds. Signatures were checked before.
"""

from collections.abc import Iterator
from typing import NamedTuple

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Height
from nodes.model.verdict import Report, SignedReport

MAX_AHEAD_HEIGHTS = 256
"""Reports of heights further above the lowest unresolved one are not kept: nodes may speculate less far than this."""
KEPT_BEHIND_HEIGHTS = 16
"""Reports of so many resolved heights are kept, to find those that contradict them."""
MAX_PER_HEIGHT = 8
"""Of one network and height: other abort sets and other parents. The oldest goes first."""
MAX_BYTES_PER_NETWORK = 32 * 1024 * 1024


class Held(NamedTuple):
    """A report as it came, and read."""

    signed: SignedReport
    report: Report
    at_ns: int
    """When it arrived."""


class _Key(NamedTuple):
    aborts_hash: bytes
    parent_hash: bytes


class ReportBox:
    """The reports of one network in one epoch."""

    def __init__(self, network_id: NetworkId) -> None:
        self.network_id = network_id
        self._by_height: dict[Height, dict[_Key, Held]] = {}
        self._bytes = 0

    def put(self, held: Held, *, lowest: Height) -> Held | None:
        """Keep a report; the answer is another one for the same execution where there is one (and that stays).

        What is out of bounds is not kept.
        """
        report = held.report
        if not lowest - KEPT_BEHIND_HEIGHTS <= report.height <= lowest + MAX_AHEAD_HEIGHTS:
            return None
        at_height = self._by_height.setdefault(report.height, {})
        key = _Key(report.aborts_hash, report.parent_hash)
        known = at_height.get(key)
        if known is not None:
            if known.signed.report != held.signed.report:
                return known
            # Handed in again: that is what the rollup stands by now.
            at_height[key] = at_height.pop(key)
            return None
        at_height[key] = held
        self._bytes += len(held.signed.report)
        while len(at_height) > MAX_PER_HEIGHT:
            self._drop(report.height, next(iter(at_height)))
        # The farthest first: nobody waits for them yet.
        while self._bytes > MAX_BYTES_PER_NETWORK and len(self._by_height) > 1:
            self._drop_height(max(self._by_height))
        return None

    def find(self, height: Height, *, aborts_hash: bytes, parent_hash: bytes | None) -> Held | None:
        """The report of one execution; where the parent is not known, the one that came last.

        Earlier ones may be of a place that the rollup has given up since.
        """
        at_height = self._by_height.get(height, {})
        if parent_hash is not None:
            return at_height.get(_Key(aborts_hash, parent_hash))
        return next((held for key, held in reversed(at_height.items()) if key.aborts_hash == aborts_hash), None)

    def forget_below(self, height: Height) -> None:
        """Resolved heights leave."""
        for old in [at for at in self._by_height if at < height]:
            self._drop_height(old)

    def clear(self) -> None:
        """A new epoch."""
        self._by_height.clear()
        self._bytes = 0

    def __iter__(self) -> Iterator[Held]:
        return (held for at_height in self._by_height.values() for held in at_height.values())

    def _drop(self, height: Height, key: _Key) -> None:
        self._bytes -= len(self._by_height[height].pop(key).signed.report)

    def _drop_height(self, height: Height) -> None:
        for held in self._by_height.pop(height).values():
            self._bytes -= len(held.signed.report)
