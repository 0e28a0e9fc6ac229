"""Bundles that are to be voided and are in no notice yet. Pure.

A notice holds so many, and one epoch begins after the other; the lowest go first. Whether a bundle can be voided at all
is for `nodes.rules.resolution` to say.
"""

from collections.abc import Iterable

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Height
from nodes.model.verdict import Notice, NoticeKind, VoidedBundle
from nodes.rules.resolved_chain import HISTORY_HEIGHTS
from nodes.rules.verdict import Standing

MAX_VOIDED = 2_048
"""Bundles that one notice voids: it must fit into a payload."""
MAX_WAITING = 1 << 16
"""Bundles that wait for a notice; whoever wants more voided asks again."""
MAX_DEPTH_HEIGHTS = HISTORY_HEIGHTS // 2
"""How far back a new epoch may begin; the other half of the history is for the time that logging it takes."""


class VoidQueue:
    """The bundles that the next epochs leave out."""

    def __init__(self) -> None:
        self._waiting: set[VoidedBundle] = set()

    @staticmethod
    def is_young(bundle: VoidedBundle, lowest: Height) -> bool:
        """Whether the verdicts before its height are remembered for long enough."""
        return bundle.height > 0 and lowest - bundle.height <= MAX_DEPTH_HEIGHTS

    def add(self, bundles: Iterable[VoidedBundle]) -> None:
        """Further ones; beyond the bound the highest are left."""
        self._waiting.update(bundles)
        if len(self._waiting) > MAX_WAITING:
            self._waiting = set(sorted(self._waiting)[:MAX_WAITING])

    def voided(self, standing: Standing) -> None:
        """A notice was read: what is voided waits no longer."""
        self._waiting = {bundle for bundle in self._waiting if not standing.has_voided(bundle)}

    def next_notice(self, *, epoch: int, lowest: Height) -> Notice | None:
        """What begins `epoch`, the next one; None where nothing waits. `lowest` has no verdict.

        Where the height of the bundles is not resolved again yet, it begins where resolving is now: then it holds as
        soon as it is read, and need not be logged again.
        """
        self._waiting = {bundle for bundle in self._waiting if self.is_young(bundle, lowest)}
        if not self._waiting:
            return None
        voided = tuple(sorted(self._waiting)[:MAX_VOIDED])
        height = min(voided[0].height, lowest)
        return Notice(kind=NoticeKind.VOID, epoch=epoch, height=height, network_id=NetworkId(0), voided=voided)
