"""Transactions that this node's users handed in and that were not yet executed or dropped.

For the `pending` nonce that wallets ask for. A hint, not a pool: the sequencer holds the transactions, and what
other nodes' users sent is unknown here. Bounded in number and in heights.
"""

from collections import OrderedDict
from collections.abc import Iterable, Set
from typing import NamedTuple

from nodes.model.ids import Height

MAX_PENDING = 65_536
EXPIRY_HEIGHTS = 600
"""A minute at 100 ms; what is not executed by then counts no more."""


class _Entry(NamedTuple):
    sender: bytes
    nonce: int
    height: int


class PendingPool:
    """Accepted transactions by hash and by sender."""

    def __init__(self, *, max_pending: int = MAX_PENDING, expiry_heights: int = EXPIRY_HEIGHTS) -> None:
        self._max_pending = max_pending
        self._expiry_heights = expiry_heights
        self._by_hash: OrderedDict[bytes, _Entry] = OrderedDict()
        self._nonces: dict[bytes, dict[int, int]] = {}
        self._height = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, tx_hash: object) -> bool:
        return tx_hash in self._by_hash

    def add(self, sender: bytes, nonce: int, tx_hash: bytes) -> None:
        """The sequencer accepted a transaction. At the bound the oldest entry makes room."""
        if tx_hash in self._by_hash:
            return
        if len(self._by_hash) >= self._max_pending:
            self._remove(next(iter(self._by_hash)))
        self._by_hash[tx_hash] = _Entry(sender, nonce, self._height)
        counts = self._nonces.setdefault(sender, {})
        counts[nonce] = counts.get(nonce, 0) + 1

    def nonces_of(self, sender: bytes) -> frozenset[int]:
        """The nonces that accepted transactions of `sender` have now; to be compared with its account at this moment's
        head, whenever that is read.
        """
        return frozenset(self._nonces.get(sender, ()))

    def resolve(self, height: Height, tx_hashes: Iterable[bytes]) -> list[bytes]:
        """These were executed, skipped or dropped at `height`; old entries go as well. Returns which were pending."""
        self._height = height
        if not self._by_hash:
            return []
        pending = [tx_hash for tx_hash in tx_hashes if tx_hash in self._by_hash]
        for tx_hash in dict.fromkeys(pending):
            self._remove(tx_hash)
        while self._by_hash and next(iter(self._by_hash.values())).height < height - self._expiry_heights:
            self._remove(next(iter(self._by_hash)))
        return pending

    def _remove(self, tx_hash: bytes) -> None:
        entry = self._by_hash.pop(tx_hash)
        counts = self._nonces[entry.sender]
        if counts[entry.nonce] > 1:
            counts[entry.nonce] -= 1
        else:
            del counts[entry.nonce]
            if not counts:
                del self._nonces[entry.sender]


def next_nonce(executed_nonce: int, pending: Set[int]) -> int:
    """The first nonce from `executed_nonce` (the account's) on that no pending transaction has."""
    while executed_nonce in pending:
        executed_nonce += 1
    return executed_nonce
