"""Whether a certificate still speaks of heights as they stand: a void resolves heights again. Pure.

A range ends in a verdict, which must be the one that stands. A certificate without heights speaks of none.
"""

from enum import Enum
from typing import Protocol

from nodes.model.agglayer import SettledRange
from nodes.model.ids import Height


class Standing(Enum):
    """Of one certificate, or of the worst in a batch."""

    STANDS = "stands"
    WAITS = "waits"
    """A height of its range is being resolved again; nobody knows yet how."""
    REPLACED = "replaced"
    """It speaks of heights as they were in an earlier epoch, and must be built anew."""


class Verdicts(Protocol):
    """What is asked of the resolver's state; `nodes.rules.resolution.Resolution` has it."""

    @property
    def lowest(self) -> Height:
        """The lowest height without a verdict."""
        ...

    def verdict_hash_of(self, height: Height) -> bytes | None:
        """Hash of the verdict that stands; None where there is none, or it is too old."""
        ...


def standing_of(settled: SettledRange, verdicts: Verdicts | None) -> Standing:
    """Of a stated range; `verdicts` is None where blocks settle as they were executed."""
    if verdicts is None or settled.last_height < settled.first_height:
        return Standing.STANDS
    found = verdicts.verdict_hash_of(settled.last_height)
    if found is None:
        # Below the lowest height a verdict that is not there is merely older than what the resolver remembers.
        return Standing.WAITS if settled.last_height >= verdicts.lowest else Standing.STANDS
    return Standing.STANDS if found == settled.verdict_root else Standing.REPLACED
