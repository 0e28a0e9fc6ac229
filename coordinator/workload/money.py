"""The token that money workloads move: born on L1, bridged to every rollup, the same address on each.

Nothing of it exists at genesis: what lanes, banks and markets hold was deposited on L1 (`coordinator.stages.fund`).
"""

from typing import NamedTuple

from coordinator.spec.agglayer import BRIDGED_TEXTS, BRIDGED_TOKEN
from coordinator.workload.base import LegCall, Surroundings
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    bridge_asset_call,
    bridged_token_address,
    mint_contingent_call,
    token_metadata,
)
from nodes.model.agglayer import ETH, NetworkId, TokenInfo
from nodes.model.errors import InvalidScenario
from nodes.model.ids import Address

BURN_GAS = 250_000
"""A burn with an exit: 32 levels of the exit tree at worst."""
MINT_GAS = 200_000
TRANSFER_GAS = 80_000


class Asset(NamedTuple):
    """What moves between rollups."""

    token: TokenInfo
    local: Address
    """Where it stands on every rollup; zero for ether."""
    metadata: bytes

    def burn(self, *, dest_network: int, dest_address: bytes, amount: int) -> LegCall:
        """The leg that takes value from its sender towards another rollup."""
        value = 0 if any(self.local) else amount
        call = bridge_asset_call(dest_network=dest_network, dest_address=dest_address, amount=amount, token=self.local)
        return LegCall(BRIDGE, value, BURN_GAS, call)

    def mint(self, *, source_network: int, dest_address: bytes, amount: int) -> LegCall:
        """The leg that pays it there, good only if its bundle made exactly that exit."""
        call = mint_contingent_call(
            source_network=source_network,
            token=self.token,
            dest_address=dest_address,
            amount=amount,
            metadata=self.metadata,
        )
        return LegCall(BRIDGE, 0, MINT_GAS, call)


def bridged_token() -> Asset:
    """The token of L1."""
    # The exit carries what the token says of itself, and a contingent mint must state the same.
    name, symbol, decimals = BRIDGED_TEXTS
    metadata = token_metadata(name=name, symbol=symbol, decimals=decimals)
    return Asset(BRIDGED_TOKEN, bridged_token_address(BRIDGED_TOKEN), metadata)


def ether() -> Asset:
    """The gas token of every rollup."""
    return Asset(ETH, ETH.origin_token_address, b"")


def network_of(rollup_index: int) -> NetworkId:
    """Network of the rollup with this index: 1 and up, in the order of the testnet."""
    return NetworkId(rollup_index + 1)


def require_bridge(surroundings: Surroundings, *, kind: str) -> None:
    """Raises InvalidScenario where the testnet has no bridge."""
    if not surroundings.has_bridge:
        raise InvalidScenario(
            f"workload `{kind}` moves value between rollups, but this testnet was resolved without a bridge"
        )
