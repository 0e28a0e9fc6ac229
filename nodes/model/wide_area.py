"""Where nodes stand and how far regions are from one another: what an emulated wide-area network is made of.

Plain values. What a link does to a message is `nodes.rules.link`, how it is done to a connection `nodes.wire.links`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nodes.model.errors import InvalidInput

CLIENTS = "clients"
"""Where users stand: the load generator, and programs that read `endpoints.json`."""
SOLANA = "solana"
"""Where the Solana endpoint of a sequencer stands."""
NOWHERE = "none"
"""In place of a region: this node has no place, and nothing to and from it is delayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionPair:
    """Two regions. The way there is as long as the way back."""

    first: str
    second: str
    round_trip_ms: float
    source: str
    """Who says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WideArea:
    """The network of a testnet whose nodes stand in regions."""

    seed: int
    regions: Mapping[str, str]
    """Node to region, with `clients` and `solana`; NOWHERE for one without a place."""
    pairs: tuple[RegionPair, ...]
    """Every two regions in use."""
    jitter_share: float
    """Mean of what is added to the one-way delay of each chunk, as a share of that delay."""
    loss: float
    """Share of segments that are lost and sent again, in either direction."""
    bandwidth_mbit: float
    """Of each link and direction, in 10^6 bits per second; 0 = not limited."""
    peers: Mapping[str, str] = field(default_factory=dict)
    """host:port to node: who listens there. Known once the testnet has its addresses."""

    def region_of(self, node: str) -> str:
        """The region of a node, NOWHERE for none. Raises InvalidInput for a node that the scenario does not know."""
        if node not in self.regions:
            raise InvalidInput(f"{node!r} stands in no region; known: {', '.join(self.regions)}")
        return self.regions[node]

    def round_trip_ms(self, first: str, second: str) -> float:
        """Between two regions. Raises InvalidInput where nobody says how far they are apart."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair.round_trip_ms
        raise InvalidInput(f"the distance of regions {first} and {second} is not known")
