"""Which rollups a bundle touches, and which lane carries it. Pure; chance comes in as a generator.

A lane is one account on every rollup. Bundles go round the lanes, so that two bundles of one lane are as far apart
in time as possible and a refused one holds up few others.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodes.model.errors import InvalidScenario, UnknownName

POPULARITY = ("uniform", "zipf")
_MAX_DRAW = 1 << 22
"""Numbers drawn at a time: bounds the memory of a plan over many rollups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """How bundles spread over rollups."""

    rollups: int
    legs: int
    popularity: str = "uniform"
    zipf_exponent: float = 1.0


def check_routing(routing: Routing) -> None:
    """Raises InvalidScenario or UnknownName for a routing that cannot be planned."""
    if routing.popularity not in POPULARITY:
        raise UnknownName(kind="popularity", name=routing.popularity, known=POPULARITY)
    if not 2 <= routing.legs <= routing.rollups:
        raise InvalidScenario(
            f"[workload] legs is {routing.legs}: each leg goes to another rollup, so it must be 2 to "
            f"{routing.rollups}, the number of rollups"
        )


def draw_routes(routing: Routing, count: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """For each bundle its distinct rollups in leg order: an array of (count, legs) indexes."""
    check_routing(routing)
    ranks = np.arange(1, routing.rollups + 1, dtype=np.float64)
    exponent = routing.zipf_exponent if routing.popularity == "zipf" else 0.0
    weights = np.log(ranks**-exponent)
    chunk = max(1, _MAX_DRAW // routing.rollups)
    parts = []
    for begin in range(0, count, chunk):
        size = min(chunk, count - begin)
        # Gumbel trick: the largest `legs` of weight plus Gumbel noise are a weighted draw without replacement.
        scores = weights + rng.gumbel(size=(size, routing.rollups))
        parts.append(np.argsort(-scores, axis=1)[:, : routing.legs].astype(np.int16))
    return np.concatenate(parts) if parts else np.empty((0, routing.legs), dtype=np.int16)


def lanes_by_route(routes: NDArray[np.int16], usable: NDArray[np.int32], *, rollups: int) -> NDArray[np.int32]:
    """A lane for every bundle such that each lane carries one route only, as far as there are lanes for all routes.

    Lanes are dealt out to the routes in turn; the bundles of one route go round its lanes.
    """
    weights = rollups ** np.arange(routes.shape[1], dtype=np.int64)
    route, place = np.unique((routes.astype(np.int64) * weights).sum(axis=1), return_inverse=True)
    lanes = np.empty(len(routes), dtype=np.int32)
    for number in range(len(route)):
        mine = np.flatnonzero(place == number)
        own = usable[number % len(usable) :: len(route)]
        lanes[mine] = own[np.arange(len(mine)) % len(own)]
    return lanes


def assign_nonces(
    rollups: NDArray[np.int16], accounts: NDArray[np.int32], first: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Nonce of every leg, counted per (rollup, account) from `first[rollup, account]` in bundle order.

    `rollups` and `accounts` are (bundles, legs), and so is the result.
    """
    count, legs = rollups.shape
    keys = (rollups.astype(np.int64) * first.shape[1] + accounts).reshape(-1)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(ordered) else np.empty(0, int)
    lengths = np.diff(np.concatenate((starts, [len(ordered)])))
    rank = np.arange(len(ordered)) - np.repeat(starts, lengths)
    nonces = np.empty(count * legs, dtype=np.int64)
    nonces[order] = rank
    absolute: NDArray[np.int64] = (nonces + first.reshape(-1)[keys]).reshape(count, legs)
    return absolute
