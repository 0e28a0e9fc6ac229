"""What every workload is: a pure function from planned routes to the calls of their legs.

A workload sees bundles in the order they are due, and knows accounts and pools by their genesis. It does not sign, send
or time anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from nodes.model.ids import Address


class LegCall(NamedTuple):
    """What one leg does, apart from who sends it and with which nonce."""

    to: bytes
    value: int
    """Wei."""
    gas_limit: int
    calldata: bytes
    """Without trailer."""


LANE, OPERATOR = 0, 1
"""Roles of a leg's signer: the lane's own account, or the bank's operator who serves that lane."""
ROLES = 2


class LegPlace(NamedTuple):
    """Where a leg of every bundle goes, and who signs it."""

    stop: int
    """Which of the rollups of the bundle's route."""
    role: int = LANE


class BundleShape(NamedTuple):
    """What all bundles of a workload have in common."""

    legs: tuple[LegPlace, ...]
    """Legs of one stop stand next to one another."""
    mints: frozenset[int] = frozenset()
    """Legs that mint contingently: a bundle is settled only when the exits they stand for are imported."""
    binds_lanes: bool = False
    """A lane always carries the same route, so that a rollup that is out of order stops no lane of the others."""
    replay_share: float = 0.0
    """Share of the bundles that are handed in again once the replay window is over."""

    @property
    def stops(self) -> int:
        """Rollups of a bundle."""
        return max(place.stop for place in self.legs) + 1


def one_leg_per_stop(stops: int) -> BundleShape:
    """Leg `i` goes to rollup `i` of the route, signed by the lane."""
    return BundleShape(legs=tuple(LegPlace(stop) for stop in range(stops)))


class Market(NamedTuple):
    """What a pool of the bridged token (its token A) and another token gets."""

    bridged: int
    other: int
    """Both in units of 1e-18 token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """What a workload needs on every rollup before it starts; all of it comes from deposits on L1."""

    lane_tokens: int = 0
    """Bridged token of every lane account, in units of 1e-18."""
    lane_wei: int = 0
    """Ether of every lane account."""
    bank_tokens: int = 0
    """Bridged token that the bank may lend."""
    markets: Mapping[Address, Market] = field(default_factory=dict)

    def tokens(self, lanes: int) -> int:
        """Bridged token to deposit for one rollup."""
        return self.lane_tokens * lanes + self.bank_tokens + sum(market.bridged for market in self.markets.values())

    def wei(self, lanes: int) -> int:
        """Ether to deposit for one rollup."""
        return self.lane_wei * lanes


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a workload may know of the testnet."""

    accounts: Sequence[Sequence[Address]]
    """Address of every lane, by rollup."""
    pool_reserves: tuple[int, int]
    """Reserves of tokens A and B in every rollup's pool at genesis."""
    operators: Sequence[Address] = ()
    """The bank's operator for every lane; the same on every rollup."""
    stops: int = 2
    """Rollups of every bundle: `legs` of the scenario."""
    has_bridge: bool = False
    """Bridge, bank and markets stand on every rollup."""
    contracts: frozenset[Address] = frozenset()
    """Where the scenario's own contracts stand, on every rollup."""

    @property
    def rollups(self) -> int:
        """Number of rollups."""
        return len(self.accounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The bundles of one phase, in the order they are due."""

    phase: int
    """Counts the phases of a run from 0."""
    due_ns: NDArray[np.int64]
    """Nanoseconds after the start of the phase."""
    lanes: NDArray[np.int32]
    rollups: NDArray[np.int16]
    """(bundles, stops): index of each stop's rollup."""

    def __len__(self) -> int:
        return len(self.due_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """The calls of a phase: each distinct one once, and which one every leg makes."""

    table: tuple[LegCall, ...]
    index: NDArray[np.int32]
    """(bundles, legs): position in `table`."""


class Workload(Protocol):
    """One kind of load. May remember what it planned from phase to phase."""

    @property
    def shape(self) -> BundleShape:
        """Legs of every bundle. Its stops are the rollups of a route."""
        ...

    @property
    def funding(self) -> Funding | None:
        """What must be deposited for it; None where the genesis has all that it needs."""
        ...

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """The call of every leg."""
        ...
