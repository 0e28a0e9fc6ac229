"""Bundles as they travel: the submission a client makes, the trailer inside each leg, the row the sequencer places.

Byte encodings and hashes are rules: `nodes.rules.bundle`.
"""

from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.ids import BundleHash, LegHash, RollupId

BUNDLE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One signed transaction for one rollup."""

    rollup_id: RollupId
    payload: bytes
    """The signed transaction; opaque to the sequencer. At most `limits.MAX_PAYLOAD_BYTES`."""
    leg_hash: LegHash
    """Empty for a plain transaction that travels alone, 32 bytes otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A submission: ordered legs, and the preimage of the bundle hash."""

    version: int
    """`BUNDLE_VERSION`; u32. Another value makes the row void at every reader. 0 for a plain transaction."""
    expiry: int
    """Last sequenced height at which the bundle may execute; u64, 0 = none."""
    legs: tuple[Leg, ...]

    @property
    def is_plain(self) -> bool:
        """One transaction without leg hash: it gets no row."""
        return len(self.legs) == 1 and not self.legs[0].leg_hash


class Trailer(NamedTuple):
    """The last 38 bytes of a leg's calldata."""

    bundle_hash: BundleHash
    leg_index: int
    """Position of this leg in the bundle, from 0."""
    leg_count: int
    """Legs in the bundle."""


class RowLeg(NamedTuple):
    """Where a row says that one leg stands."""

    rollup_id: RollupId
    position: int
    """Index of the payload in the rollup's payload list."""
    leg_hash: LegHash
    row_index: int
    """Index of the same row in the rollup's row list."""


class Row(NamedTuple):
    """One bundle as the sequencer placed it; the same bytes stand under every rollup it names."""

    ordinal: int
    """Counts the rows of the block, from 0."""
    version: int
    expiry: int
    legs: tuple[RowLeg, ...]
