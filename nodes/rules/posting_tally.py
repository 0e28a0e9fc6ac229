"""Small memories of the posting book: hashes known for a while, and what posting cost."""

from collections import deque
from collections.abc import Mapping

from nodes.model.ids import SubmissionHash
from nodes.rules.posting_values import Outgoing

COSTS = (
    "lamports",
    "solana_transactions",
    "posted_bytes",
    "failed_transactions",
    "resigned",
    "rebroadcasts",
    "void_commits",
)
"""Names of the totals. The first three are what was paid for: lamports, transactions and instruction data in blocks;
the others may lose the last few counts when a process is killed.
"""


class RecentHashes:
    """Bundles that landed not long ago, by the block height at which they did."""

    def __init__(self) -> None:
        self._heights: dict[SubmissionHash, int] = {}
        self._order: deque[tuple[int, SubmissionHash]] = deque()

    def __contains__(self, submission_hash: object) -> bool:
        return submission_hash in self._heights

    def remember(self, submission_hash: SubmissionHash, height: int) -> None:
        """It landed at `height`."""
        self._heights[submission_hash] = height
        self._order.append((height, submission_hash))

    def forget(self, *, up_to: int) -> bool:
        """Those that landed at `up_to` or below are forgotten; whether there were any."""
        is_any = bool(self._order) and self._order[0][0] <= up_to
        while self._order and self._order[0][0] <= up_to:
            height, submission_hash = self._order.popleft()
            if self._heights.get(submission_hash) == height:
                del self._heights[submission_hash]
        return is_any


class Tally:
    """What posting cost. Totals never fall: what a fork undid is counted all the same, once."""

    def __init__(self) -> None:
        self._settled = dict.fromkeys(COSTS, 0)
        """Of transactions that are forgotten: what a journal keeps."""
        self._live = dict.fromkeys(COSTS, 0)
        """Of transactions that stand in blocks and are not forgotten: found again after a restart."""

    def restore(self, totals: Mapping[str, int]) -> None:
        """Go on from what a journal kept."""
        self._settled.update({name: totals[name] for name in COSTS if name in totals})

    @property
    def settled(self) -> Mapping[str, int]:
        """What to keep in the journal together with the forgetting of the transactions."""
        return dict(self._settled)

    def totals(self) -> Mapping[str, int]:
        """All of it."""
        return {name: self._settled[name] + self._live[name] for name in COSTS}

    def count(self, name: str, many: int = 1) -> None:
        """Something happened that a restart cannot find again."""
        self._settled[name] += many

    def paid(self, transaction: Outgoing) -> None:
        """It stands in a block; counted once."""
        if not transaction.is_paid:
            transaction.is_paid = True
            self._add(self._live, transaction, 1)

    def forgotten(self, transaction: Outgoing) -> None:
        """It will not be found again."""
        if transaction.is_paid:
            self._add(self._live, transaction, -1)
            self._add(self._settled, transaction, 1)

    def _add(self, to: dict[str, int], transaction: Outgoing, sign: int) -> None:
        to["lamports"] += sign * transaction.fee_lamports
        to["solana_transactions"] += sign
        to["posted_bytes"] += sign * transaction.data_bytes
