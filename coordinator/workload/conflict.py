"""`conflict`: a share of the bundles race for one counter on each rollup they touch.

A hot leg calls `incrementIf(key, expected)`. Racers come in groups: the members of one group on one rollup expect the
same value, so the first to land succeeds and the others revert. Groups follow each other, so the next group finds the
value it expects, whichever member won. Since the routes of racers differ, a bundle can win on one rollup and lose on
another. The other bundles add 1 to a counter that only their lane uses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.workload.base import Calls, LegCall, Routes, Surroundings, one_leg_per_stop
from nodes.evm.contracts import increment_call
from nodes.evm.genesis import COUNTER
from nodes.model.errors import InvalidScenario

GAS_LIMIT = 120_000
NEVER_REACHED = 2**255
"""A value that no counter has."""
HOT_KEYS_FROM = 1 << 32
"""Key of the hot counter of phase 0. Later phases take the next keys, since a phase can end with a group cut short."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictOptions:
    """Options of `conflict`."""

    hot_share: float = 0.2
    """Share of the bundles that race, 0 to 1."""
    contenders: int = 2
    """Legs on one rollup that expect the same value."""
    killer_share: float = 0.0
    """Share of the bundles, of those that race, that are built to make rivals fail: all legs but the last take the
    value that rivals expect, and the last one always reverts."""


class Conflict:
    """Counts, per rollup, the hot legs planned so far in a phase."""

    def __init__(self, options: ConflictOptions, surroundings: Surroundings) -> None:
        if not 0 <= min(options.hot_share, options.killer_share) <= max(options.hot_share, options.killer_share) <= 1:
            raise InvalidScenario(
                f"[workload] hot_share {options.hot_share} and killer_share {options.killer_share} must be 0 to 1"
            )
        if options.contenders < 1:
            raise InvalidScenario(f"[workload] contenders is {options.contenders}: at least one leg races for a value")
        self._options = options
        self._rollups = surroundings.rollups
        self.shape = one_leg_per_stop(surroundings.stops)
        self.funding = None

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """Hot bundles by chance; the k-th hot leg of a rollup expects k // contenders."""
        hot = rng.random(len(routes)) < self._options.hot_share
        killers = np.zeros(len(routes), dtype=np.bool_)
        if self._options.killer_share:
            killers = hot & (rng.random(len(routes)) < self._options.killer_share)
        expected = self._expected(routes.rollups, hot, killers)
        lanes = int(routes.lanes.max()) + 1 if len(routes) else 0
        cold = [LegCall(COUNTER, 0, GAS_LIMIT, increment_call(key=lane)) for lane in range(lanes)]
        hot_key = HOT_KEYS_FROM + routes.phase
        values = int(expected.max()) + 1 if hot.any() else 0
        racing = [
            LegCall(COUNTER, 0, GAS_LIMIT, increment_call(key=hot_key, expected=value)) for value in range(values)
        ]
        hopeless = LegCall(COUNTER, 0, GAS_LIMIT, increment_call(key=hot_key, expected=NEVER_REACHED))
        index = np.where(hot[:, None], lanes + expected, routes.lanes[:, None])
        index[killers, -1] = lanes + len(racing)
        return Calls(table=(*cold, *racing, hopeless), index=index.astype(np.int32))

    def _expected(
        self, rollups: NDArray[np.int16], hot: NDArray[np.bool_], killers: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        expected = np.zeros(rollups.shape, dtype=np.int64)
        for rollup in range(self._rollups):
            mine = (rollups == rollup) & hot[:, None]
            # A killer takes the value of the group after it and belongs to none: where it is struck, the group finds
            # its counter as if it had never been.
            counts = mine & ~killers[:, None]
            # Row-major order of the mask is bundle order.
            before = np.cumsum(counts.reshape(-1)).reshape(counts.shape) - counts
            expected[mine] = (before // self._options.contenders)[mine]
        return expected
