"""How many bundles a sequenced height of an inbox holds. Pure."""

from collections import Counter
from collections.abc import Mapping

from nodes.model.bundle import Bundle
from nodes.model.ids import RollupId


class Room:
    """What is left of the height that is being filled. Heights are filled in order, and never come back."""

    def __init__(self, *, max_payloads: Mapping[RollupId, int], block_bytes_max: int) -> None:
        self._max_payloads = max_payloads
        self._block_bytes_max = block_bytes_max
        self.heights = 0
        """That were begun."""
        self.begin_height()

    def begin_height(self) -> None:
        """Leave the height as it is, and fill the next one."""
        self.heights += 1
        self._bytes = self._block_bytes_max
        self._counts = Counter[RollupId]()

    def fits(self, bundle: Bundle, size_bytes: int) -> bool:
        """Whether the height has room for a bundle of `placed_bytes`; an empty height has, for all but refused ones."""
        if size_bytes > self._bytes:
            return False
        counts: dict[RollupId, int] = {}
        for leg in bundle.legs:
            counts[leg.rollup_id] = counts.get(leg.rollup_id, self._counts[leg.rollup_id]) + 1
        return all(count <= self._max_payloads[rollup_id] for rollup_id, count in counts.items())

    def take(self, bundle: Bundle, size_bytes: int) -> None:
        """Put in what fits."""
        self._bytes -= size_bytes
        self._counts.update([leg.rollup_id for leg in bundle.legs])
