"""What became of a bundle on its rollups, asked over their JSON-RPC (`lockstep_getBundle`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.agglayer.builder_offers import Offer
from nodes.ethereum.client import L1Client
from nodes.model.agglayer import NetworkId
from nodes.model.errors import RpcError
from nodes.model.ids import BundleHash, Height, hex_of
from nodes.model.limits import MAX_RPC_BATCH

Placements = Sequence[tuple[NetworkId, int]]
Fates = Mapping[int, Mapping[Height, str]]
"""By leg index: at which sequenced heights the leg was met, and its fate there."""
_SUCCEEDED = "succeeded"


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A height in which every leg of a bundle has a fate."""

    height: Height
    succeeded: int
    """Legs."""
    legs: int

    @property
    def is_partial(self) -> bool:
        """Some legs succeeded, and some did not."""
        return 0 < self.succeeded < self.legs


def placements_of(offer: Offer) -> Placements:
    """Network and leg index of every leg."""
    return tuple((leg.network_id, index) for index, leg in enumerate(offer.legs))


def inclusion_of(fates: Fates, *, legs: int) -> Inclusion | None:
    """The height that decides about a bundle: where it succeeded in part, or else the first one; None while unknown."""
    heights = {height for met in fates.values() for height in met}
    whole = [
        Inclusion(
            height=height,
            succeeded=sum(fates[index][height] == _SUCCEEDED for index in range(legs)),
            legs=legs,
        )
        for height in sorted(heights)
        if all(height in fates.get(index, {}) for index in range(legs))
    ]
    return next((inclusion for inclusion in whole if inclusion.is_partial), whole[0] if whole else None)


async def ask_fates(
    clients: Mapping[NetworkId, L1Client], bundles: Mapping[BundleHash, Placements]
) -> Mapping[BundleHash, Fates]:
    """Fates of the legs that the rollups have met; a rollup that has pruned them counts as one that has not met them.

    Raises Unavailable.
    """
    found: dict[BundleHash, dict[int, dict[Height, str]]] = {bundle: {} for bundle in bundles}
    for network, client in clients.items():
        asked = [bundle for bundle, placements in bundles.items() if any(at == network for at, _ in placements)]
        for start in range(0, len(asked), MAX_RPC_BATCH):
            part = asked[start : start + MAX_RPC_BATCH]
            answers = await client.batch([("lockstep_getBundle", [hex_of(bundle)]) for bundle in part])
            for bundle, answer in zip(part, answers, strict=True):
                if answer is None or isinstance(answer, RpcError):
                    continue
                for leg in answer["fates"]:
                    _note(found[bundle], leg)
    return found


def _note(fates: dict[int, dict[Height, str]], leg: Mapping[str, Any]) -> None:
    fates.setdefault(int(leg["legIndex"], 16), {})[Height(int(leg["height"], 16))] = leg["fate"]
