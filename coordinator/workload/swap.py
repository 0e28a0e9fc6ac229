"""`swap`: arbitrage between the same pool on two rollups, with a bound on the price that can make a leg revert.

Each bundle sells token A for token B on its first rollup and B for A on its second (further legs alternate). The
trader quotes against the pools as they stood some time ago, as a real one would, and accepts a stated loss. When
another bundle moved the price by more since then, that leg reverts while its sibling may succeed. To quote, the plan
runs the pools' own formula over the planned order; what the chain then does is measured, not assumed.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from coordinator.workload.base import Calls, LegCall, Routes, Surroundings, one_leg_per_stop
from nodes.evm.contracts import pool_amount_out, swap_call
from nodes.evm.genesis import POOL, TOKEN_A, TOKEN_B
from nodes.model.errors import InvalidScenario

GAS_LIMIT = 220_000
_NS_PER_MS = 1_000_000
_BPS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SwapOptions:
    """Options of `swap`."""

    amount: int = 2_000 * 10**18
    """Sold by every leg, in units of 1e-18 token; against the default pools one such swap moves the price by 4 bps."""
    tolerance_bps: int = 10
    """Loss against the quote that the trader accepts, in 1/10,000."""
    quote_age_ms: float = 100.0
    """How old the prices are that traders decide by."""


class Swap:
    """Remembers the reserves that its plan leads to, from phase to phase."""

    def __init__(self, options: SwapOptions, surroundings: Surroundings) -> None:
        reserve_a, reserve_b = surroundings.pool_reserves
        if not reserve_a or not reserve_b:
            raise InvalidScenario("workload `swap` needs pools with liquidity, but the genesis has none")
        if options.amount <= 0 or not 0 <= options.tolerance_bps <= _BPS or options.quote_age_ms < 0:
            raise InvalidScenario(
                "[workload] amount must be positive, tolerance_bps 0 to 10,000, quote_age_ms not negative"
            )
        self._options = options
        self._pools = [[reserve_a, reserve_b] for _ in range(surroundings.rollups)]
        self.shape = one_leg_per_stop(surroundings.stops)
        self.funding = None

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """One swap per leg, with the least amount out that its trader accepts."""
        index = np.empty(routes.rollups.shape, dtype=np.int32)
        known: dict[tuple[int, int], int] = {}
        coin = rng.random(len(routes)) < 0.5
        age_ns = round(self._options.quote_age_ms * _NS_PER_MS)
        past: deque[tuple[int, tuple[tuple[int, int, int], ...]]] = deque()
        quoted = [list(pool) for pool in self._pools]
        times, route_rows = routes.due_ns.tolist(), routes.rollups.tolist()
        for bundle, (due_ns, route) in enumerate(zip(times, route_rows, strict=True)):
            while past and past[0][0] <= due_ns - age_ns:
                for rollup, reserve_a, reserve_b in past.popleft()[1]:
                    quoted[rollup] = [reserve_a, reserve_b]
            sell_a_first = self._sells_a_first(quoted, route, coin=bool(coin[bundle]))
            changes = []
            for leg, rollup in enumerate(route):
                token_in = (0 if sell_a_first else 1) ^ (leg & 1)
                least = self._accepted(quoted[rollup], token_in)
                self._trade(self._pools[rollup], token_in, least)
                changes.append((rollup, self._pools[rollup][0], self._pools[rollup][1]))
                index[bundle, leg] = known.setdefault((token_in, least), len(known))
            past.append((due_ns, tuple(changes)))
        return Calls(table=tuple(self._call(token_in, least) for token_in, least in known), index=index)

    def _sells_a_first(self, quoted: list[list[int]], route: list[int], *, coin: bool) -> bool:
        """Sell A where it fetches more B. Equal prices (within the tolerance) leave the choice to the coin."""
        (first_a, first_b), (second_a, second_b) = quoted[route[0]], quoted[route[1]]
        here, there = first_b * second_a, second_b * first_a
        if abs(here - there) * _BPS <= self._options.tolerance_bps * max(here, there):
            return coin
        return here > there

    def _accepted(self, pool: list[int], token_in: int) -> int:
        out = pool_amount_out(amount_in=self._options.amount, reserve_in=pool[token_in], reserve_out=pool[1 - token_in])
        return out * (_BPS - self._options.tolerance_bps) // _BPS

    def _trade(self, pool: list[int], token_in: int, least: int) -> None:
        out = pool_amount_out(amount_in=self._options.amount, reserve_in=pool[token_in], reserve_out=pool[1 - token_in])
        if out >= max(1, least):
            pool[token_in] += self._options.amount
            pool[1 - token_in] -= out

    def _call(self, token_in: int, least: int) -> LegCall:
        token = (TOKEN_A, TOKEN_B)[token_in]
        return LegCall(
            POOL, 0, GAS_LIMIT, swap_call(token_in=token, amount_in=self._options.amount, min_amount_out=least)
        )
