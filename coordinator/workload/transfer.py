"""`transfer`: every leg moves a little value between two lane accounts. Nothing contends; nothing reverts."""

from dataclasses import dataclass

import numpy as np

from coordinator.workload.base import Calls, LegCall, Routes, Surroundings, one_leg_per_stop

GAS_LIMIT = 30_000
"""21,000 and the calldata of the trailer (EIP-7623: 1,520 at most)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferOptions:
    """Options of `transfer`."""

    value_wei: int = 1
    """Moved by every leg."""


class Transfer:
    """Recipients are lane accounts, so that the state does not grow with the load."""

    def __init__(self, options: TransferOptions, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._value_wei = options.value_wei
        self.shape = one_leg_per_stop(surroundings.stops)
        self.funding = None

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """Each leg pays the account of another lane, drawn at random."""
        accounts = self._surroundings.accounts
        lanes = len(accounts[0])
        table = tuple(
            LegCall(to=address, value=self._value_wei, gas_limit=GAS_LIMIT, calldata=b"")
            for per_rollup in accounts
            for address in per_rollup
        )
        offset = (
            rng.integers(1, lanes, size=routes.rollups.shape) if lanes > 1 else np.zeros(routes.rollups.shape, np.int64)
        )
        recipient = (routes.lanes[:, None] + offset) % lanes
        return Calls(table=table, index=(routes.rollups.astype(np.int64) * lanes + recipient).astype(np.int32))
