"""How long the lowest height has waited for whom, and who keeps it from being resolved. Pure.

Time counts per rollup over all rounds of the height, and each further round adds a fraction only: who hands in every
report just in time would otherwise hold the height for as many timeouts as it can make rounds.
"""

from collections import Counter, deque
from collections.abc import Iterable

from nodes.model.agglayer import NetworkId

EXTRA_ROUNDS = 8
"""Rounds of a height after the serial ones. All failing bundles are struck in each, so few heights need more than two;
a chain of bundles, each of which fails only once the one before is struck, needs one for each."""


class Patience:
    """The waiting of one height; `begin_height` starts it anew."""

    def __init__(self, *, timeout_ns: int, now_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self._began_ns = now_ns
        self._closed = 0
        self._used_ns: Counter[NetworkId] = Counter()
        self._failed: deque[frozenset[NetworkId]] = deque(maxlen=EXTRA_ROUNDS)

    def begin_height(self, now_ns: int) -> None:
        """Another height, or the same one from its first round on."""
        self._began_ns = now_ns
        self._closed = 0
        self._used_ns.clear()
        self._failed.clear()

    def begin_round(self, now_ns: int) -> None:
        """From now on reports of the open round are waited for: it opened, or nobody could be blamed until now."""
        self._began_ns = now_ns

    def close_round(self, arrivals: Iterable[tuple[NetworkId, int]]) -> None:
        """The open round has every report; when each arrived. Those that came before it opened cost nothing."""
        self._closed += 1
        for network, at_ns in arrivals:
            self._used_ns[network] += max(0, at_ns - self._began_ns)

    def failed(self, networks: Iterable[NetworkId]) -> None:
        """Who reported failures in the round that was closed."""
        self._failed.append(frozenset(networks))

    def is_over(self, network: NetworkId, now_ns: int) -> bool:
        """Whether a rollup that owes a report has had its time: one timeout, and an eighth for each round before."""
        allowed_ns = self._timeout_ns + self._closed * self._timeout_ns // EXTRA_ROUNDS
        return self._used_ns[network] + now_ns - self._began_ns >= allowed_ns

    @property
    def obstinate(self) -> list[NetworkId]:
        """Who reported failures in the most of the last rounds, ascending."""
        rounds = Counter(network for failed in self._failed for network in failed)
        most = max(rounds.values(), default=0)
        return sorted(network for network, count in rounds.items() if count == most)
