"""What every workload is: a pure function from planned routes to the calls of their legs.

A workload sees bundles in the order they are due, and knows accounts and pools by their genesis. It does not sign, send
or time anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a workload may know of the testnet."""

    accounts: Sequence[Sequence[Address]]
    """Address of every lane, by rollup."""
    pool_reserves: tuple[int, int]
    """Reserves of tokens A and B in every rollup's pool at genesis."""

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
    """(bundles, legs): index of each leg's rollup."""

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

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """The call of every leg."""
        ...
