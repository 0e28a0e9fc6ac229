"""The client's burn-and-mint: what a token is, and the two legs of a transfer."""

from typing import Any

import pytest

from coordinator.bundle.bridge import asset_of, bridge_legs
from coordinator.bundle.client import outcome_of
from nodes.evm.agglayer_contracts import BRIDGE, mint_contingent_call, token_metadata
from nodes.evm.contracts import selector
from nodes.model.agglayer import ETH, MAINNET, NetworkId, TokenInfo
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, hex_of

LOCAL, ORIGIN, ALICE = Address(b"\1" * 20), Address(b"\2" * 20), Address(b"\3" * 20)
METADATA = token_metadata(name="Lockstep Token", symbol="LOCK", decimals=18)


class Bridge:
    """Answers as the bridge of a rollup does."""

    def __init__(self, origin: Address) -> None:
        self._origin = origin

    async def rpc(self, rollup: int | str, method: str, *params: Any) -> Any:
        assert (rollup, method, params[0]["to"]) == ("rollup-1", "eth_call", hex_of(BRIDGE))
        if params[0]["data"].startswith(hex_of(selector("wrappedTokenToTokenInfo(address)"))):
            return hex_of(bytes(32) + bytes(12) + self._origin)
        size = len(METADATA).to_bytes(32, "big")
        return hex_of((32).to_bytes(32, "big") + size + METADATA + bytes(-len(METADATA) % 32))


async def test_a_bridged_token_keeps_its_origin_and_another_is_of_its_own_rollup() -> None:
    bridged = await asset_of(Bridge(ORIGIN), "rollup-1", NetworkId(1), LOCAL)
    assert (bridged.token, bridged.metadata) == (TokenInfo(MAINNET, ORIGIN), METADATA)
    own = await asset_of(Bridge(Address(bytes(20))), "rollup-1", NetworkId(1), LOCAL)
    assert own.token == TokenInfo(NetworkId(1), LOCAL)
    ether = await asset_of(Bridge(ORIGIN), "rollup-1", NetworkId(1), bytes(20))
    assert (ether.token, ether.metadata) == (ETH, b"")


async def test_a_transfer_burns_on_one_rollup_and_mints_on_the_other() -> None:
    asset = await asset_of(Bridge(ORIGIN), "rollup-1", NetworkId(1), LOCAL)
    burn, mint = bridge_legs(
        asset, sender=ALICE, recipient=ALICE, source=(7001, NetworkId(1)), dest=(7002, NetworkId(2)), amount=5
    )
    assert (burn.rollup, mint.rollup, burn.to, mint.to, burn.value) == (7001, 7002, BRIDGE, BRIDGE, 0)
    assert mint.data == mint_contingent_call(
        source_network=1, token=asset.token, dest_address=ALICE, amount=5, metadata=METADATA
    )
    ether = await asset_of(Bridge(ORIGIN), "rollup-1", NetworkId(1), bytes(20))
    burn, _ = bridge_legs(
        ether, sender=ALICE, recipient=ALICE, source=(7001, NetworkId(1)), dest=(7002, NetworkId(2)), amount=5
    )
    assert burn.value == 5


@pytest.mark.parametrize(("dest", "amount"), [((7001, NetworkId(1)), 5), ((7002, NetworkId(2)), 0)])
async def test_what_goes_nowhere_is_refused(dest: tuple[int, NetworkId], amount: int) -> None:
    asset = await asset_of(Bridge(ORIGIN), "rollup-1", NetworkId(1), bytes(20))
    with pytest.raises(InvalidInput):
        bridge_legs(asset, sender=ALICE, recipient=ALICE, source=(7001, NetworkId(1)), dest=dest, amount=amount)


def test_an_aborted_leg_makes_an_aborted_bundle() -> None:
    assert outcome_of(["aborted", "aborted"]) == "aborted"
    assert outcome_of(["aborted", "dropped"]) == "dropped"
