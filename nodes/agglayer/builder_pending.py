"""Bundles that a builder had ordered and that are not executed everywhere yet: part of the state to simulate on.

A leg is done when its sender's nonce has passed it. A leg that never takes its nonce (it was skipped, or its bundle was
dropped) is found by asking its rollup, or given up after a while. Pure; time is passed in.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from nodes.agglayer.builder_judging import Ordered
from nodes.agglayer.builder_offers import Offer
from nodes.model.agglayer import NetworkId
from nodes.model.ids import Address, BundleHash

ASK_AFTER_NS = 1_000_000_000
"""Its rollups are asked for the fates of a bundle that takes longer than this; then again and again."""
GIVE_UP_AFTER_NS = 60_000_000_000
"""A bundle without fates for so long is not reckoned with any more."""


@dataclass(slots=True)
class _Entry:
    offer: Offer
    ordered_ns: int
    ask_ns: int
    done: int = 0


class PendingBundles:
    """In the order in which they were ordered."""

    def __init__(self) -> None:
        self._entries: dict[BundleHash, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, bundle_hash: object) -> bool:
        return bundle_hash in self._entries

    def add(self, offer: Offer, *, now_ns: int) -> None:
        """The sequencer has taken it."""
        self._entries[offer.bundle_hash] = _Entry(offer, now_ns, now_ns + ASK_AFTER_NS)

    def senders(self, network_id: NetworkId) -> set[Address]:
        """Whose nonces tell what is done on a network."""
        return {
            leg.transaction.sender
            for entry in self._entries.values()
            for index, leg in enumerate(entry.offer.legs)
            if leg.network_id == network_id and not entry.done >> index & 1
        }

    def networks(self) -> set[NetworkId]:
        """Networks with legs that are not done."""
        return {
            leg.network_id
            for entry in self._entries.values()
            for index, leg in enumerate(entry.offer.legs)
            if not entry.done >> index & 1
        }

    def advance(self, nonce_of: Callable[[NetworkId, Address], int], *, now_ns: int) -> None:
        """Take the nonces of the newest blocks into account, and let go of what is done or given up."""
        for bundle_hash, entry in list(self._entries.items()):
            for index, leg in enumerate(entry.offer.legs):
                if not entry.done >> index & 1 and nonce_of(leg.network_id, leg.transaction.sender) > (
                    leg.transaction.nonce
                ):
                    entry.done |= 1 << index
            if _is_whole(entry) or now_ns - entry.ordered_ns > GIVE_UP_AFTER_NS:
                del self._entries[bundle_hash]

    def to_ask(self, *, now_ns: int, limit: int) -> list[Offer]:
        """Bundles whose fates should be asked now, oldest first; they are not named again for a while."""
        due = [entry for entry in self._entries.values() if entry.ask_ns <= now_ns][:limit]
        for entry in due:
            entry.ask_ns = now_ns + ASK_AFTER_NS
        return [entry.offer for entry in due]

    def met(self, bundle_hash: BundleHash, leg_indexes: Iterable[int]) -> None:
        """The rollup has a fate for these legs, whatever it is."""
        entry = self._entries.get(bundle_hash)
        if entry is None:
            return
        for index in leg_indexes:
            entry.done |= 1 << index
        if _is_whole(entry):
            del self._entries[bundle_hash]

    def ordered(self) -> list[Ordered]:
        """What simulations begin with."""
        return [Ordered(entry.offer, entry.done) for entry in self._entries.values()]


def _is_whole(entry: _Entry) -> bool:
    return entry.done == (1 << len(entry.offer.legs)) - 1
