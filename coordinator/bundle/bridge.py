"""Moving value between rollups in one bundle: the legs of a burn and its mint, and what a token is by origin.

It signs and sends nothing. What a token is, it asks the bridge of the rollup where the token stands.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.bundle.legs import LegSpec
from nodes.evm.agglayer_contracts import BRIDGE, bridge_asset_call, mint_contingent_call
from nodes.evm.contracts import encode_call
from nodes.model.agglayer import ETH, NetworkId, TokenInfo
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, hex_of

MINT_GAS = 1_500_000
"""Stated, not estimated: the first mint of a token creates it, and an estimate cannot know the bundle."""
_WORD = 32


class Reader(Protocol):
    """Answers JSON-RPC of rollups; `Client` does."""

    async def rpc(self, rollup: int | str, method: str, *params: Any) -> Any:
        """The result of one request. Raises RpcError, Unavailable."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A token as it stands on one rollup."""

    local: Address
    """Zero for ether."""
    token: TokenInfo
    metadata: bytes
    """What its exits carry, and its contingent mints must state."""


async def asset_of(reader: Reader, rollup: int | str, network_id: NetworkId, local: bytes) -> Asset:
    """What the bridge of a rollup knows of a token there. Raises RpcError, Unavailable."""
    if not any(local):
        return Asset(local=ETH.origin_token_address, token=ETH, metadata=b"")
    answer = await _call(reader, rollup, encode_call("wrappedTokenToTokenInfo(address)", local))
    origin = Address(answer[2 * _WORD - 20 : 2 * _WORD])
    token = TokenInfo(NetworkId(int.from_bytes(answer[:_WORD], "big")), origin)
    if not any(origin):
        token = TokenInfo(network_id, Address(local))
    encoded = await _call(reader, rollup, encode_call("getTokenMetadata(address)", local))
    size = int.from_bytes(encoded[_WORD : 2 * _WORD], "big")
    return Asset(local=Address(local), token=token, metadata=encoded[2 * _WORD : 2 * _WORD + size])


def bridge_legs(
    asset: Asset,
    *,
    sender: Address,
    recipient: Address,
    source: tuple[int, NetworkId],
    dest: tuple[int, NetworkId],
    amount: int,
) -> list[LegSpec]:
    """The burn and the mint. `source` and `dest` are (chain id, network). Raises InvalidInput for no way to go."""
    if source == dest:
        raise InvalidInput("a transfer goes from one rollup to another; source and destination are the same")
    if amount <= 0:
        raise InvalidInput(f"amount is {amount}; it must be positive")
    burn = bridge_asset_call(dest_network=dest[1], dest_address=recipient, amount=amount, token=asset.local)
    mint = mint_contingent_call(
        source_network=source[1], token=asset.token, dest_address=recipient, amount=amount, metadata=asset.metadata
    )
    value = 0 if any(asset.local) else amount
    return [
        LegSpec(rollup=source[0], sender=sender, to=BRIDGE, value=value, data=burn),
        LegSpec(rollup=dest[0], sender=sender, to=BRIDGE, data=mint, gas=MINT_GAS),
    ]


async def _call(reader: Reader, rollup: int | str, calldata: bytes) -> bytes:
    answer = await reader.rpc(rollup, "eth_call", {"to": hex_of(BRIDGE), "data": hex_of(calldata)}, "latest")
    return bytes.fromhex(answer[2:])
