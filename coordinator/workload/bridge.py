"""`bridge`: every bundle burns on one rollup and mints the same amount on the next, in the same height.

With more than two legs per route it is a ring: every rollup of the route burns towards the next one and mints what the
one before burnt. A share of the bundles can be made to fail: a burn above the sender's balance while the mint would
succeed, or a mint without any burn. Both are what a naive bridge inflates supply by.
"""

from dataclasses import dataclass

import numpy as np

from coordinator.workload.base import BundleShape, Calls, Funding, LegCall, LegPlace, Routes, Surroundings
from coordinator.workload.money import TRANSFER_GAS, bridged_token, ether, network_of, require_bridge
from nodes.evm.contracts import encode_call
from nodes.model.errors import InvalidScenario
from nodes.model.ids import Address, hex_of

CUSHION = 1_000_000
"""Bundles that a lane could send one way before its balance ends. The token costs nothing, so this is no plan."""
FORWARDER = Address(bytes.fromhex("2000000000000000000000000000000000000f0d"))
"""Where scenarios place `Forwarder`, a contract that calls whatever it is told to."""
HONEST, FAILING, UNMATCHED, FORGED = range(4)
_ONE_WAY = 2
"""Rollups of a route that is no ring."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeOptions:
    """Options of `bridge`."""

    amount: int = 1_000
    """Moved by every bundle, in the smallest unit."""
    asset: str = "token"
    """token (an ERC-20 of L1) or ether."""
    failing_share: float = 0.0
    """Share of the bundles whose first burn is above its sender's balance, while the mint would succeed."""
    unmatched_share: float = 0.0
    """Share of the bundles that mint without a burn: a harmless transfer stands in its place."""
    forged_share: float = 0.0
    """Share of the bundles whose mint goes through a contract, which the bridge must refuse. Needs `FORWARDER`."""
    replay_share: float = 0.0
    """Share of the bundles that somebody hands in again, in other bytes, once the replay window is over."""
    lanes_by_route: bool = False
    """Each lane carries one route only, so that a rollup that is out of order stops no lane of the others."""


class Bridge:
    """Value that is made by a failing bundle where nothing strikes it goes to the operators' accounts, never to lanes:
    a lane that grew rich by it could pay for the next burn that is meant to fail.
    """

    def __init__(self, options: BridgeOptions, surroundings: Surroundings) -> None:
        require_bridge(surroundings, kind="bridge")
        shares = (options.failing_share, options.unmatched_share, options.forged_share)
        if min(shares) < 0 or sum(shares) > 1 or options.amount < 1 or not 0 <= options.replay_share <= 1:
            raise InvalidScenario(
                f"[workload] failing_share, unmatched_share and forged_share are {shares}: at least 0 and at most 1 "
                f"together; replay_share {options.replay_share}: 0 to 1; amount {options.amount}: at least 1"
            )
        if options.asset not in ("token", "ether"):
            raise InvalidScenario(f"[workload] asset is {options.asset!r}: give token or ether")
        if options.forged_share and FORWARDER not in surroundings.contracts:
            # A call to an address without code succeeds and mints nothing: no forged trailer would ever be tried.
            raise InvalidScenario(
                f"[workload] forged_share is {options.forged_share}, but no contract stands at {hex_of(FORWARDER)}: "
                "place contracts/artifacts/Forwarder.json there in [genesis] contracts"
            )
        self._options = options
        self._surroundings = surroundings
        self._asset = ether() if options.asset == "ether" else bridged_token()
        stops = surroundings.stops
        legs = tuple(LegPlace(stop) for stop in range(stops) for _ in range(1 if stops == _ONE_WAY else 2))
        mints = frozenset(range(1, len(legs), 2))
        self.shape = BundleShape(legs=legs, mints=mints, binds_lanes=options.lanes_by_route,
                                 replay_share=options.replay_share)  # fmt: skip
        each = options.amount * CUSHION
        self.funding = Funding(lane_wei=each) if options.asset == "ether" else Funding(lane_tokens=each)
        self._too_much = each * surroundings.rollups + 1
        """More than a lane can ever hold."""

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """Equal bundles of one lane and route share their calls."""
        options = self._options
        ends = np.cumsum([options.failing_share, options.unmatched_share, options.forged_share])
        drawn = np.searchsorted(ends, rng.random(len(routes)), side="right")
        kinds = np.array([FAILING, UNMATCHED, FORGED, HONEST])[drawn]
        index = np.empty((len(routes), len(self.shape.legs)), dtype=np.int32)
        table: list[LegCall] = []
        known: dict[tuple[int, int, tuple[int, ...]], tuple[int, ...]] = {}
        rows = zip(routes.rollups.tolist(), routes.lanes.tolist(), kinds.tolist(), strict=True)
        for bundle, (route, lane, kind) in enumerate(rows):
            key = (kind, lane, tuple(route))
            if key not in known:
                calls = self._calls(kind, lane, route)
                known[key] = tuple(range(len(table), len(table) + len(calls)))
                table += calls
            index[bundle] = known[key]
        return Calls(table=tuple(table), index=index)

    def _calls(self, kind: int, lane: int, route: list[int]) -> list[LegCall]:
        hops = [(route[stop], route[(stop + 1) % len(route)]) for stop in range(len(route))]
        if len(route) == _ONE_WAY:
            hops = hops[:1]
        burns, mints = [], []
        for number, (source, dest) in enumerate(hops):
            bad = kind != HONEST and number == 0
            amount = self._too_much if bad and kind == FAILING else self._options.amount
            account = self._surroundings.operators[lane] if bad else self._surroundings.accounts[dest][lane]
            if bad and kind == UNMATCHED:
                burns.append(self._harmless(self._surroundings.accounts[source][lane]))
            else:
                burns.append(self._asset.burn(dest_network=network_of(dest), dest_address=account, amount=amount))
            mint = self._asset.mint(source_network=network_of(source), dest_address=account, amount=amount)
            mints.append(_through_contract(mint) if bad and kind == FORGED else mint)
        if len(hops) == 1:
            return [burns[0], mints[0]]
        # Stop i burns hop i and mints hop i - 1, which ends there.
        return [call for stop in range(len(hops)) for call in (burns[stop], mints[stop - 1])]

    def _harmless(self, account: Address) -> LegCall:
        if any(self._asset.local):
            return LegCall(self._asset.local, 0, TRANSFER_GAS, encode_call("transfer(address,uint256)", account, 1))
        return LegCall(account, 1, TRANSFER_GAS, b"")


def _through_contract(call: LegCall) -> LegCall:
    """The same call made by `Forwarder`. The leg's trailer ends up behind it, where the bridge looks for one."""
    forward = encode_call("forward(address)", call.to)
    return LegCall(FORWARDER, call.value, call.gas_limit + TRANSFER_GAS, forward + call.calldata)
