"""From a 32-byte key (transaction hash or bundle hash) to the sequenced heights where it occurred.

New keys are appended to one byte string and found by a plain search. Every `SEGMENT_KEYS` keys the string becomes a
segment: sorted 12-byte entries of key prefix and height, kept on disk, where a lookup reads a few hundred bytes
(prefixes are uniform, so the place can be computed). No object and no database row per key. Entries are hints: the
caller compares whole keys at the heights it is given, so a rewind leaves entries behind without harm.
"""

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence

from nodes.model.ids import HASH_BYTES

SEGMENT_KEYS = 8_192
_PREFIX_BYTES = 8
_ENTRY = struct.Struct(">8sI")
_HEIGHT = struct.Struct(">I")
_PREFIX_SPACE = 2**64
_WINDOW_ENTRIES = 256
"""Entries read around the computed place: five standard deviations of it for a whole segment."""


class KeyTail:
    """The newest keys, still in memory."""

    def __init__(self) -> None:
        self._keys = bytearray()
        self._starts: list[int] = []
        self._heights: list[int] = []

    def __len__(self) -> int:
        return len(self._keys) // HASH_BYTES

    def add(self, height: int, keys: bytes) -> None:
        """Keys of one height, 32 bytes each."""
        if keys:
            self._starts.append(len(self._keys))
            self._heights.append(height)
            self._keys += keys

    def lowest_height(self) -> float:
        """The lowest height that keys are held of; infinite where there are none."""
        return min(self._heights, default=math.inf)

    def heights_of(self, key: bytes) -> list[int]:
        """Heights at which the key was added."""
        found = []
        at = self._keys.find(key)
        while at >= 0:
            if at % HASH_BYTES == 0:
                found.append(self._heights[bisect_right(self._starts, at) - 1])
            at = self._keys.find(key, at + 1)
        return found

    def take_segment(self) -> tuple[int, int, bytes]:
        """(lowest height, highest height, sorted entries) of everything held, which is then forgotten."""
        entries = []
        stops = [*self._starts[1:], len(self._keys)]
        for start, stop, height in zip(self._starts, stops, self._heights):
            encoded = _HEIGHT.pack(height)
            entries += [bytes(self._keys[at : at + _PREFIX_BYTES]) + encoded for at in range(start, stop, HASH_BYTES)]
        entries.sort()
        lowest, highest = min(self._heights), max(self._heights)
        self.clear()
        return lowest, highest, b"".join(entries)

    def rewind(self, height: int) -> None:
        """Forget keys of heights above one. Heights were added in ascending order."""
        while self._heights and self._heights[-1] > height:
            del self._keys[self._starts.pop() :]
            self._heights.pop()

    def clear(self) -> None:
        """Forget all keys."""
        self._keys.clear()
        self._starts.clear()
        self._heights.clear()


def heights_in_segment(key: bytes, count: int, read: Callable[[slice], bytes]) -> list[int]:
    """Heights of the entries of one segment that carry the key's prefix. `read` gives its bytes."""
    prefix = key[:_PREFIX_BYTES]
    guess = int.from_bytes(prefix, "big") * count // _PREFIX_SPACE
    reach = _WINDOW_ENTRIES // 2
    while True:
        first, last = max(0, guess - reach), min(count, guess + reach)
        window = read(slice(first * _ENTRY.size, last * _ENTRY.size))
        begins_before = first == 0 or window[:_PREFIX_BYTES] < prefix
        ends_after = last == count or window[-_ENTRY.size : -_ENTRY.size + _PREFIX_BYTES] > prefix
        if begins_before and ends_after:
            return _matches(window, prefix)
        reach *= 4  # an unlucky spread, or keys that somebody ground to share a prefix


def _matches(window: bytes, prefix: bytes) -> list[int]:
    found = []
    at = window.find(prefix)
    while at >= 0:
        if at % _ENTRY.size == 0:
            found.append(_HEIGHT.unpack_from(window, at + _PREFIX_BYTES)[0])
        at = window.find(prefix, at + 1)
    return found


def entry_count(size_bytes: int) -> int:
    """Entries of a segment of this size."""
    return size_bytes // _ENTRY.size


def newest_first(heights: Sequence[int]) -> list[int]:
    """Distinct heights, newest first."""
    return sorted(set(heights), reverse=True)
