"""One cache of decoded payloads for all rollup nodes of a process.

Recovering a signer costs more than everything else derivation does. A node decodes its own legs and, for
completeness, its siblings'; where nodes share a process each leg is otherwise recovered once per node.
"""

from collections.abc import Callable

from nodes.model.execution import DropReason, Transaction
from nodes.rules.payload import decode

GENERATION_ENTRIES = 8_192
"""About 8 MB of decoded legs; siblings ask within a second of each other."""
GENERATION_BYTES = 16 * 1024 * 1024


class SenderCache:
    """Decodes with a memory of two generations: the older is forgotten when the younger is full.

    Bounded by entries and by payload bytes. The result depends on payload and chain id alone (`nodes.rules.payload`),
    so a hit is as good as a decode.
    """

    def __init__(
        self,
        *,
        generation_entries: int = GENERATION_ENTRIES,
        generation_bytes: int = GENERATION_BYTES,
        decode: Callable[[bytes, int], Transaction | DropReason] = decode,
    ) -> None:
        self._generation_entries = generation_entries
        self._generation_bytes = generation_bytes
        self._decode = decode
        self._young: dict[tuple[bytes, int], Transaction | DropReason] = {}
        self._old: dict[tuple[bytes, int], Transaction | DropReason] = {}
        self._young_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def __call__(self, payload: bytes, chain_id: int) -> Transaction | DropReason:
        """As `nodes.rules.payload.decode`."""
        key = (payload, chain_id)
        found = self._young.get(key)
        if found is not None:
            return found
        found = self._old.get(key)
        if found is None:
            found = self._decode(payload, chain_id)
        self._young[key] = found
        self._young_bytes += len(payload)
        if len(self._young) >= self._generation_entries or self._young_bytes >= self._generation_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        return found
