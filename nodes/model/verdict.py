"""What makes inclusion atomic: reports of executions, the bundles that a height strikes, the verdict on a height.

Encodings, hashes and the round rule: `nodes.rules.verdict`. Who collects reports and signs: `nodes.agglayer.resolver`.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from nodes.model.agglayer import NetworkId
from nodes.model.execution import AbortReason
from nodes.model.ids import BundleHash, Height

ALL_LEGS = 2**256 - 1
"""Bitmap of removed legs for a bundle that was never executed."""


class FailureKind(IntEnum):
    """What a rollup reports of a leg that did not succeed."""

    REVERTED = 1
    """Executed with status 0."""
    SKIPPED = 2
    """The engine left it out."""
    NONCE_MISMATCH = 3
    """It was burnt, but its signer's nonce at that place is not the leg's: the next round removes the burn."""


class LegFailure(NamedTuple):
    """One leg that did not succeed."""

    ordinal: int
    """Of the bundle's row in its sequenced block."""
    bundle_hash: BundleHash
    leg_index: int
    kind: FailureKind


class LegExit(NamedTuple):
    """An exit that a leg made: value it burnt for another network."""

    ordinal: int
    bundle_hash: BundleHash
    leg_index: int
    leaf: bytes
    """32 bytes: `nodes.rules.exit_tree.leaf_hash`."""
    leaf_index: int
    """In the rollup's local exit tree."""


class LegMint(NamedTuple):
    """A contingent mint that a leg made, good only if its bundle made the exit on the source network."""

    ordinal: int
    bundle_hash: BundleHash
    leg_index: int
    source_network: NetworkId
    leaf: bytes


class Abort(NamedTuple):
    """A bundle that a verdict strikes."""

    ordinal: int
    bundle_hash: BundleHash
    reason: AbortReason
    removed: int
    """Bit `i`: leg `i` is left out. The other legs are burnt: their signer's nonce advances, nothing else happens."""
    struck_together: bool
    """Struck in one round with a failing bundle of lower ordinal: it may have failed only because of that one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbortSet:
    """What an execution of a height leaves out. Equal sets have equal bytes."""

    evicted: tuple[NetworkId, ...] = ()
    """Ascending: every bundle that touches one of these is left out whole."""
    aborts: tuple[Abort, ...] = ()
    """Ascending by ordinal, then bundle hash."""


NO_ABORTS = AbortSet()


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What one rollup made of one height without one abort set. Signed by the rollup's reporter key."""

    epoch: int
    height: Height
    network_id: NetworkId
    aborts_hash: bytes
    """`nodes.rules.verdict.aborts_hash` of what was left out."""
    parent_hash: bytes
    """The rollup's head before the height."""
    block_hash: bytes
    """The rollup's head after it."""
    failures: tuple[LegFailure, ...]
    exits: tuple[LegExit, ...]
    """Only of legs of bundles, in block order."""
    mints: tuple[LegMint, ...]
    """In block order."""


class SignedReport(NamedTuple):
    """A report as it travels: the exact bytes that were signed."""

    report: bytes
    signature: bytes
    """65 bytes."""


class NoticeKind(IntEnum):
    """What the resolver logs through the sequencer."""

    EVICT = 1
    """From a height on a rollup's reports are not awaited, and bundles that touch it are left out."""
    REJOIN = 2
    """From a height on that is over."""
    VOID = 3
    """A new epoch: from a height on everything is resolved again without some bundles."""


class VoidedBundle(NamedTuple):
    """A bundle that a new epoch leaves out."""

    height: Height
    ordinal: int
    bundle_hash: BundleHash


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An entry of the resolver in the sequencer's log, under `NOTICE_ROLLUP_ID`."""

    kind: NoticeKind
    epoch: int
    """The epoch it belongs to; of VOID the one it begins."""
    height: Height
    """From here on it holds."""
    network_id: NetworkId
    """EVICT and REJOIN: whom; 0 for VOID."""
    voided: tuple[VoidedBundle, ...] = ()
    """VOID only, ascending, none below the height. What earlier epochs voided stays voided, and is not listed again."""


class SignedNotice(NamedTuple):
    """A notice as it travels."""

    notice: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What holds for one height in one epoch. The resolver signs it, every node evaluates it again from the reports."""

    epoch: int
    height: Height
    aborts: AbortSet
    rounds: int
    """Executions it took; 1 where nothing failed, 0 where no reports were awaited."""
    reports_hash: bytes
    """`nodes.rules.verdict.reports_hash` over the reports of all rounds."""
    notices: tuple[SignedNotice, ...]
    """Those that hold from this height on."""
    previous: bytes
    """Hash of the verdict of the height before; zero for height 1."""


class SignedVerdict(NamedTuple):
    """A verdict as it travels."""

    verdict: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundClosed:
    """All reports of one round are in and something failed: the next round begins."""

    epoch: int
    height: Height
    round_number: int
    """From 0."""
    reports: tuple[SignedReport, ...]
    """Ascending by network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictSigned:
    """A height is resolved. With the reports of every round, so that anybody can evaluate it again."""

    signed: SignedVerdict
    rounds: tuple[tuple[SignedReport, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticePosted:
    """A notice is in the sequencer's log. It holds from its height on, which has no verdict yet (VOID: a new epoch)."""

    signed: SignedNotice


MailboxEvent = RoundClosed | VerdictSigned | NoticePosted


class VerdictRef(NamedTuple):
    """Where a follower of verdicts stands."""

    epoch: int
    height: Height
    """0 = before the first verdict."""
    hash: bytes
    """Zero at height 0."""
