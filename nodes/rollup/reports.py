"""Makes the report of one executed height, its event once it is resolved, and the fates of its legs. Pure.

It does not know who asks for the report, nor how logs were read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nodes.model.agglayer import NetworkId
from nodes.model.bridge_activity import BridgeActivity
from nodes.model.bundle import Trailer
from nodes.model.execution import AbortReason, Derived, LegOutcome, Status, Transaction
from nodes.model.ids import Address, BundleHash, hex_of
from nodes.model.verdict import AbortSet, FailureKind, LegExit, LegFailure, LegMint, Report, Verdict
from nodes.rollup.records import Execution
from nodes.rules.exit_tree import leaf_hash
from nodes.rules.verdict import Plan, aborts_hash
from nodes.telemetry.events import HeightResolved

_KINDS = {Status.REVERTED: FailureKind.REVERTED, Status.SKIPPED: FailureKind.SKIPPED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """Everything of one execution that reports and certificates are made of."""

    parent_hash: bytes
    block_hash: bytes
    """The rollup's heads before and after the height."""
    plan: Plan
    execution: Execution
    activity: BridgeActivity
    mismatches: frozenset[int]
    """Indexes of admitted legs that were burnt while their signer's nonce was another one."""


def burn_senders(plan: Plan) -> list[Address]:
    """Whose nonces before the block `nonce_mismatches` needs, each once."""
    return sorted({plan.transactions[at][1].sender for at in plan.burns})


def nonce_mismatches(plan: Plan, execution: Execution, nonces: Mapping[Address, int]) -> frozenset[int]:
    """Admitted legs, by index, whose burn stands where the signer's nonce is another one. `nonces`: of the parent."""
    if not plan.burns:
        return frozenset()
    assert execution.block is not None, "a burn makes a block"
    found, expected = set(), dict(nonces)
    before = len(execution.transactions) - len(plan.transactions)
    for at, ((_, transaction), outcome) in enumerate(
        zip(execution.transactions, execution.block.outcomes, strict=True), start=-before
    ):
        sender = transaction.sender
        if sender not in expected or outcome.status is Status.SKIPPED:
            continue
        if at in plan.burns and transaction.nonce != expected[sender]:
            found.add(plan.places[at])
        expected[sender] += 1
    return frozenset(found)


def report_of(
    derived: Derived, observed: Observed, aborts: AbortSet, *, epoch: int, network_id: NetworkId, hides_reverts: bool
) -> Report:
    """What this rollup says of the height. `hides_reverts`: it lies, and calls reverted legs succeeded."""
    ordinals = {bundle.bundle_hash: bundle.ordinal for bundle in derived.bundles}
    trailers = included_trailers(observed.execution)
    exits = [
        LegExit(
            ordinals[trailer.bundle_hash], trailer.bundle_hash, trailer.leg_index, leaf_hash(made.exit), made.leaf_index
        )
        for made in observed.activity.exits
        if (trailer := trailers[made.position]) is not None
    ]
    mints = [
        LegMint(
            ordinals[trailer.bundle_hash],
            trailer.bundle_hash,
            trailer.leg_index,
            made.source_network,
            leaf_hash(made.exit),
        )
        for made in observed.activity.mints
        if (trailer := trailers[made.position]) is not None
    ]
    return Report(
        epoch=epoch,
        height=derived.height,
        network_id=network_id,
        aborts_hash=aborts_hash(aborts),
        parent_hash=observed.parent_hash,
        block_hash=observed.block_hash,
        failures=tuple(_failures(derived, observed, ordinals, hides_reverts=hides_reverts)),
        exits=tuple(exits),
        mints=tuple(mints),
    )


def _failures(
    derived: Derived, observed: Observed, ordinals: Mapping[BundleHash, int], *, hides_reverts: bool
) -> list[LegFailure]:
    failures = []
    for index, (leg, outcome) in enumerate(zip(derived.admitted, observed.execution.outcomes)):
        trailer = leg.transaction.trailer
        if trailer is None:
            continue
        kind = FailureKind.NONCE_MISMATCH if index in observed.mismatches else _KINDS.get(outcome.status)
        if kind is None or (hides_reverts and kind is FailureKind.REVERTED):
            continue
        failures.append(LegFailure(ordinals[trailer.bundle_hash], trailer.bundle_hash, trailer.leg_index, kind))
    return failures


def has_failures(derived: Derived, execution: Execution) -> bool:
    """Whether a leg of a bundle reverted or was skipped."""
    return any(
        outcome.status in _KINDS and leg.transaction.trailer is not None
        for leg, outcome in zip(derived.admitted, execution.outcomes)
    )


def included_trailers(execution: Execution) -> list[Trailer | None]:
    """Of each transaction of the block, in block order, which leg of a bundle it is."""
    return [transaction.trailer for transaction in included(execution)]


def included(execution: Execution) -> list[Transaction]:
    """The transactions of the block, in block order."""
    if execution.block is None:
        return []
    outcomes = execution.block.outcomes
    return [pair[1] for pair, outcome in zip(execution.transactions, outcomes) if outcome.status is not Status.SKIPPED]


def leg_outcomes(derived: Derived, execution: Execution) -> tuple[LegOutcome, ...]:
    """The fate of every admitted leg of a bundle, in the order of the derived list."""
    return tuple(
        LegOutcome(
            leg.transaction.trailer.bundle_hash, leg.transaction.trailer.leg_index, derived.height, outcome.status
        )
        for leg, outcome in zip(derived.admitted, execution.outcomes)
        if leg.transaction.trailer is not None
    )


def own_report(reports: Sequence[Report], network_id: NetworkId) -> Report | None:
    """The report of one network among those of a round."""
    return next((report for report in reports if report.network_id == network_id), None)


def difference(made: Report, signed: Report) -> str:
    """In words, where a report under this rollup's key is not the one that this node makes; empty where it is."""
    for name in ("parent_hash", "block_hash"):
        own, theirs = getattr(made, name), getattr(signed, name)
        if own != theirs:
            return f"{name.replace('_', ' ')} {hex_of(theirs)}, executed here: {hex_of(own)}"
    for name in ("failures", "exits", "mints"):
        if getattr(made, name) != getattr(signed, name):
            return f"{len(getattr(signed, name))} {name}, executed here: {len(getattr(made, name))}"
    return "" if made == signed else "another set, height or epoch"


def resolved_event(derived: Derived, observed: Observed, verdict: Verdict) -> HeightResolved:
    """What is traced of a height that was executed as its verdict says."""
    together = {abort.bundle_hash for abort in verdict.aborts.aborts if abort.struck_together}
    struck: dict[BundleHash, AbortReason] = {}
    for index, reason in observed.plan.aborted.items():
        trailer = derived.admitted[index].transaction.trailer
        assert trailer is not None, "only legs of bundles are struck"
        struck[trailer.bundle_hash] = reason
    return HeightResolved(
        epoch=verdict.epoch,
        height=verdict.height,
        rounds=verdict.rounds,
        block_hash=observed.block_hash,
        aborted=tuple([(bundle, reason, bundle in together) for bundle, reason in struck.items()]),
    )
