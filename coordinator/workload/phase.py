"""Planning a phase: times, routes, lanes, nonces and calls, all from the seed; and the nonces that phases hand on.

A phase is a stretch of load with its own rate on a running testnet: a steady run has one, a sweep one per step.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.workload.arrivals import Times
from coordinator.workload.base import ROLES, Routes, Workload
from coordinator.workload.presign import Unsigned
from coordinator.workload.routes import Routing, assign_nonces, draw_routes, lanes_by_route
from nodes.model.errors import Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A planned phase. Rows are bundles in the order they are due."""

    number: int
    due_ns: NDArray[np.int64]
    """Nanoseconds after the start of the phase."""
    unsigned: Unsigned

    def __len__(self) -> int:
        return len(self.due_ns)


class Planner:
    """Plans phase after phase; remembers the next nonce of every account and which lanes are out of use.

    Account `role * lanes + lane` signs the legs of that role in that lane's bundles.
    """

    def __init__(self, *, routing: Routing, lanes: int, workload: Workload, rng: np.random.Generator) -> None:
        self._routing = routing
        self._workload = workload
        self._rng = rng
        self._nonces = np.zeros((routing.rollups, ROLES * lanes), dtype=np.int64)
        self._lane_count = lanes
        self._lanes = list(range(lanes))
        self._phases = 0

    @property
    def lanes(self) -> Sequence[int]:
        """Lanes in use."""
        return tuple(self._lanes)

    def plan(self, due_ns: Times) -> Phase:
        """A phase with these due times. Raises Unavailable when every lane is retired."""
        if not self._lanes:
            raise Unavailable(
                "every lane is retired: a bundle of each was dropped or had a leg skipped; see `lockstep show`"
            )
        number, self._phases = self._phases, self._phases + 1
        usable = np.asarray(self._lanes, dtype=np.int32)
        shape = self._workload.shape
        stops = draw_routes(self._routing, len(due_ns), self._rng)
        if shape.binds_lanes:
            lanes = lanes_by_route(stops, usable, rollups=self._routing.rollups)
        else:
            lanes = usable[np.arange(len(due_ns)) % len(usable)]
        rollups = stops[:, [place.stop for place in shape.legs]]
        roles = np.array([place.role for place in shape.legs], dtype=np.int32)
        accounts = lanes[:, None] + roles[None, :] * np.int32(self._lane_count)
        nonces = assign_nonces(rollups, accounts, self._nonces)
        calls = self._workload.plan(Routes(phase=number, due_ns=due_ns, lanes=lanes, rollups=stops), self._rng)
        np.add.at(self._nonces, (rollups.reshape(-1), accounts.reshape(-1)), 1)
        unsigned = Unsigned(lanes=lanes, accounts=accounts, rollups=rollups, nonces=nonces, calls=calls)
        return Phase(number=number, due_ns=due_ns, unsigned=unsigned)

    def settle(self, phase: Phase, *, used: NDArray[np.bool_], retired: Sequence[int]) -> None:
        """Take back the nonces of bundles that were never taken by the sequencer, and stop using retired lanes.

        Within a lane the unused bundles are the last ones, so that giving back their number leaves no gap; a lane
        where that is not so is retired.
        """
        lanes, accounts, rollups = phase.unsigned.lanes, phase.unsigned.accounts, phase.unsigned.rollups
        gone = set(retired)
        for lane in set(lanes[~used].tolist()):
            mine = used[lanes == lane]
            if mine[int(np.argmin(mine)) :].any():
                gone.add(lane)
        unused = ~used
        np.subtract.at(self._nonces, (rollups[unused].reshape(-1), accounts[unused].reshape(-1)), 1)
        self._lanes = [lane for lane in self._lanes if lane not in gone]
