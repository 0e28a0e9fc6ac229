"""The chain of verdicts as the resolver remembers it: what is sequenced, resolved and voided, and where rollups stand.

Bookkeeping of `nodes.rules.resolution`, which decides.
"""

from bisect import bisect_left
from collections.abc import Iterable
from typing import NamedTuple

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Height, RollupId
from nodes.model.verdict import Notice, SignedNotice
from nodes.rules.verdict import NO_VERDICT

HISTORY_HEIGHTS = 1 << 17
"""Resolved heights that a new epoch can go back to: 3.6 hours of blocks of 100 ms."""


class VoidPoint(NamedTuple):
    """Where an epoch begins."""

    epoch: int
    height: Height
    signed: SignedNotice


class PendingNotice(NamedTuple):
    """A notice that was read."""

    signed: SignedNotice
    notice: Notice


class Eviction(NamedTuple):
    """A rollup that is not awaited."""

    entry: PendingNotice
    since: Height
    """First height that was resolved without it."""


class Rejoining(NamedTuple):
    """An eviction that is over."""

    entry: PendingNotice
    evicted_since: Height
    at: Height
    """First height for which it is awaited again."""


class Evictions:
    """Who is not awaited since when, who came back when, and what of it a new epoch must say again."""

    def __init__(self) -> None:
        self._open: dict[NetworkId, Eviction] = {}
        self._over: list[Rejoining] = []

    def __contains__(self, network: object) -> bool:
        return network in self._open

    def begin(self, entry: PendingNotice, since: Height) -> None:
        """A rollup is not awaited from a height on."""
        self._open[entry.notice.network_id] = Eviction(entry, since)

    def end(self, entry: PendingNotice, at: Height) -> None:
        """A rollup that is not awaited is awaited again from a height on."""
        eviction = self._open.pop(entry.notice.network_id)
        self._over = [known for known in self._over if known.at > at - HISTORY_HEIGHTS]
        self._over.append(Rejoining(entry, eviction.since, at))

    def void(self, height: Height) -> tuple[list[PendingNotice], list[PendingNotice]]:
        """The verdicts from a height on are void: notices that they carried and that must be carried again.

        First the evictions that begin anew at their heights. Then the returns of those whose eviction is in a verdict
        that stands: they hold from `height` on, or nobody who reads verdicts alone would learn of them.
        """
        again = [eviction.entry for eviction in self._open.values() if eviction.since >= height]
        for entry in again:
            del self._open[entry.notice.network_id]
        kept = [known for known in self._over if known.evicted_since < height]
        returns = [known.entry for known in kept if known.at >= height]
        self._over = [known._replace(at=min(known.at, height)) for known in kept]
        return again, returns


class ResolvedChain:
    """Heights in order; the lowest without a verdict is where the rounds are."""

    def __init__(self) -> None:
        self.lowest = Height(1)
        self.voids: list[VoidPoint] = []
        """In the order of their epochs."""
        self._touched: dict[Height, tuple[RollupId, ...]] = {}
        self._interned: dict[tuple[RollupId, ...], tuple[RollupId, ...]] = {}
        self._hashes: dict[Height, bytes] = {Height(0): NO_VERDICT}
        self._heads: dict[NetworkId, _Heads] = {}

    def add(self, height: Height, touched: tuple[RollupId, ...]) -> None:
        """The next sequenced height. Few combinations of rollups come again and again: each is kept once."""
        self._touched[height] = self._interned.setdefault(touched, touched)

    def is_sequenced(self, height: Height) -> bool:
        """Whether the height was read."""
        return height in self._touched

    def touched(self, height: Height) -> tuple[RollupId, ...]:
        """Rollups with payloads; none for a height that was not read."""
        return self._touched.get(height, ())

    @property
    def last_hash(self) -> bytes:
        """Hash of the newest verdict."""
        return self._hashes[Height(self.lowest - 1)]

    def hash_of(self, height: Height) -> bytes | None:
        """Hash of a verdict that stands; None where there is none, or it is older than the history."""
        return self._hashes.get(height)

    def head_of(self, network: NetworkId) -> bytes | None:
        """The block on which a rollup builds the lowest height; None where its first report is to say."""
        heads = self._heads.get(network)
        return heads.before(self.lowest) if heads else None

    def fix_head(self, network: NetworkId, parent_hash: bytes) -> None:
        """A rollup stands on this block before the lowest height."""
        if self.head_of(network) is None:
            self._heads.setdefault(network, _Heads()).put(Height(self.lowest - 1), parent_hash)

    def lose_head(self, network: NetworkId) -> None:
        """From the lowest height on nobody says where a rollup stands."""
        self._heads.setdefault(network, _Heads()).put(self.lowest, None)

    def resolve(self, digest: bytes, heads: Iterable[tuple[NetworkId, bytes]]) -> None:
        """The lowest height has a verdict of this hash."""
        for network, block_hash in heads:
            self._heads.setdefault(network, _Heads()).put(self.lowest, block_hash)
        self._hashes[self.lowest] = digest
        self.lowest = Height(self.lowest + 1)
        old = Height(self.lowest - HISTORY_HEIGHTS)
        self._hashes.pop(old, None)
        self._touched.pop(old, None)

    def void(self, point: VoidPoint) -> None:
        """Forget the verdicts from a height on. Raises AssertionError where that is above the lowest, or forgotten."""
        assert Height(point.height - 1) in self._hashes, "nobody voids what is older than the history"
        for height in range(point.height, self.lowest):
            self._hashes.pop(Height(height), None)
        for heads in self._heads.values():
            heads.cut(point.height)
        self.voids.append(point)
        self.lowest = point.height

    def next_void(self, epoch: int, height: Height) -> VoidPoint | None:
        """What a follower that has the verdicts up to a height, and is in an epoch, must know before the next verdict.

        It is told of every epoch, one after the other: each names only the bundles that it adds.
        """
        later = [point for point in self.voids if point.epoch > epoch]
        return later[0] if any(point.height <= height + 1 for point in later) else None


class _Heads:
    """Where one rollup stood after which height; None = unknown from there on."""

    def __init__(self) -> None:
        self._heights: list[Height] = []
        self._hashes: list[bytes | None] = []

    def before(self, height: Height) -> bytes | None:
        at = bisect_left(self._heights, height)
        return self._hashes[at - 1] if at else None

    def put(self, height: Height, block_hash: bytes | None) -> None:
        self.cut(height)
        self._heights.append(height)
        self._hashes.append(block_hash)
        if len(self._heights) > 2 * HISTORY_HEIGHTS:
            del self._heights[:HISTORY_HEIGHTS]
            del self._hashes[:HISTORY_HEIGHTS]

    def cut(self, height: Height) -> None:
        at = bisect_left(self._heights, height)
        del self._heights[at:]
        del self._hashes[at:]
