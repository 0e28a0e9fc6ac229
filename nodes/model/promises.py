"""What a builder promises for a bundle, what its bond answers for, and what a claim against it is proved with.

How a promise is signed and claimed on L1: `nodes.evm.agglayer_l1_calls`. How outcomes are proved:
`nodes.rules.outcomes`.
"""

from dataclasses import dataclass
from enum import StrEnum

from nodes.model.agglayer import NetworkId
from nodes.model.execution import LegOutcome
from nodes.model.ids import Address, BundleHash, Height


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPromise:
    """The bundle succeeds as a whole, or the user gets the amount from the builder's bond on L1."""

    builder: Address
    bundle_hash: BundleHash
    user: Address
    """The beneficiary: sender of the bundle's first leg."""
    amount_wei: int
    expiry_block: int
    """The last L1 block in which it can be claimed."""
    placements: tuple[tuple[NetworkId, int], ...]
    """Network and leg index of every leg."""
    signature: bytes
    """65 bytes, the builder's."""


class PromiseState(StrEnum):
    """What became of a promise. While it is MADE, ORDERED or DUE, its amount is bound."""

    MADE = "made"
    """Signed, and the bundle handed to the sequencer: whether that took it is not known yet. Shown to nobody."""
    ORDERED = "ordered"
    """The sequencer took the bundle."""
    DUE = "due"
    """The bundle succeeded only in part: the amount waits to be claimed."""
    KEPT = "kept"
    """All legs had one fate, and that is settled."""
    PAID = "paid"
    """Claimed on L1."""
    EXPIRED = "expired"
    """Its last L1 block has passed."""
    VOID = "void"
    """The sequencer refused the bundle."""


BINDING = frozenset({PromiseState.MADE, PromiseState.ORDERED, PromiseState.DUE})


@dataclass(frozen=True, slots=True, kw_only=True)
class BondStatus:
    """A builder's bond, and its promises since it was made. Survives restarts."""

    builder: Address
    bond_wei: int
    """On L1, less what a withdrawal was asked for."""
    bound_wei: int
    """By promises that are open."""
    promise_wei: int
    """Of one promise; 0 = this builder promises nothing."""
    made: int
    """Promises, whatever became of them."""
    open: int
    due: int
    """Part of `open`."""
    kept: int
    paid: int
    expired: int
    lacked_bond: int
    """Bundles refused because no bond was free, since this process started."""
    not_whole: int
    """Promised bundles that were executed and did not succeed as a whole, since this process started."""
    kept_ns: int
    """Sum over kept promises of the time for which each was open: from its making until all was settled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeEvidence:
    """That a leg had a fate: a leaf of the outcome tree of a range that the rollup put into a certificate."""

    outcome: LegOutcome
    position: int
    siblings: tuple[bytes, ...]
    """Bottom-up."""
    first_height: Height
    last_height: Height
    """Of the range. L1 knows its outcome root once the certificate is settled."""
