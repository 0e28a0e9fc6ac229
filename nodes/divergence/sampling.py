"""Which transactions are checked where not all are: so many per second, of every kind. Pure."""

from collections import Counter
from collections.abc import Sequence

from nodes.model.execution import Status, Transaction
from nodes.rules import rlp
from nodes.rules.payload import TRAILER_BYTES
from nodes.rules.verdict import DEPOSIT_TYPE

_NS_PER_S = 1_000_000_000
_ACCESS_LIST_FIELD = {1: 7, 2: 8}


class Sampler:
    """Takes the kind of transaction that it took least often, while it may take any."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._allowed = 1.0
        self._at_ns: int | None = None
        self._taken: Counter[str] = Counter()

    def allowed(self, now_ns: int) -> int:
        """How many may be taken now."""
        if self._at_ns is not None:
            gained = (now_ns - self._at_ns) / _NS_PER_S * self._per_s
            self._allowed = min(max(1.0, self._per_s), self._allowed + gained)
        self._at_ns = now_ns
        return int(self._allowed)

    def choose(self, kinds: Sequence[str], now_ns: int) -> tuple[int, ...]:
        """Positions of a block's transactions, ascending. `kinds` has the kind of each."""
        chosen: set[int] = set()
        for _ in range(min(self.allowed(now_ns), len(kinds))):
            left = (at for at in range(len(kinds)) if at not in chosen)
            position = min(left, key=lambda at: (self._taken[kinds[at]], at))
            chosen.add(position)
            self._taken[kinds[position]] += 1
            self._allowed -= 1
        return tuple(sorted(chosen))


def kind_of(payload: bytes, transaction: Transaction, status: Status) -> str:
    """The kind of a transaction, by what it asks of an EVM."""
    if status is Status.SKIPPED:
        return "skipped"
    if transaction.tx_type == DEPOSIT_TYPE:
        return "deposit"
    if status is Status.REVERTED:
        return "reverted"
    if not transaction.to:
        return "creation"
    field = _ACCESS_LIST_FIELD.get(transaction.tx_type)
    if field is not None and rlp.decode(payload[1:])[field]:
        return "access list"
    data_bytes = len(transaction.calldata) - (TRAILER_BYTES if transaction.trailer is not None else 0)
    return "call" if data_bytes else "transfer"
