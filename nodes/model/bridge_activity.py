"""What happened at a rollup's bridge in one sequenced height: exits made, contingent mints, claims.

Read from the logs of the bridge contract by `nodes.rollup.bridge_logs`. Reports and certificates are made of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.agglayer import BridgeExit, GlobalIndex, NetworkId
from nodes.model.execution import LegOutcome
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import SignedVerdict


class MadeExit(NamedTuple):
    """A BridgeEvent."""

    leaf_index: int
    """Its place in the rollup's local exit tree."""
    exit: BridgeExit
    position: int
    """Index of its transaction in the rollup block."""


class MadeMint(NamedTuple):
    """A ContingentMint event."""

    bundle_hash: BundleHash
    leg_index: int
    source_network: NetworkId
    exit: BridgeExit
    """The leaf that it stands for; `dest_network` is this rollup."""
    position: int


class MadeClaim(NamedTuple):
    """A ClaimEvent."""

    global_index: GlobalIndex
    exit: BridgeExit
    pays: bool
    """False where a contingent mint had paid it before: then it only marks the leaf as claimed."""
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeActivity:
    """Everything of one executed height, in block order."""

    exits: tuple[MadeExit, ...] = ()
    mints: tuple[MadeMint, ...] = ()
    claims: tuple[MadeClaim, ...] = ()


NO_ACTIVITY = BridgeActivity()


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeHeight:
    """A height of a rollup that will not change but by a new epoch: what certificates are built from."""

    epoch: int
    height: Height
    block_hash: bytes
    """The rollup's head after it."""
    activity: BridgeActivity
    mint_leaves: tuple[int | None, ...]
    """For each mint the leaf index on its source network that the verdict matched; None where there was none (only
    without verdicts)."""
    outcomes: tuple[LegOutcome, ...]
    """Fate of every admitted leg of a bundle, in the order of the derived list."""
    verdict: SignedVerdict | None
    """None where there are no verdicts."""
