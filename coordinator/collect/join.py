"""From trace records to fates and latencies: which block each bundle and each leg ended in, matched by hash in columns.

Matching is by the 32-byte hashes that were known before the load started; nothing is matched by position or by time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from coordinator.collect.node_trace import NodeTrace
from nodes.model.execution import AbortReason, DropReason, SkipReason, Status
from nodes.model.ids import HASH_BYTES
from nodes.model.sequenced_block import Commitment
from nodes.wire.trace_columns import ExecutedColumns

Ints = NDArray[np.int64]
NEVER = np.int64(-1)
"""Stands for a time or height that does not exist; null in the tables."""

FATES = ("missing", "succeeded", "reverted", "skipped", "dropped", "aborted")
MISSING, SUCCEEDED, REVERTED, SKIPPED, DROPPED, ABORTED = range(6)
OUTCOMES = ("unsent", "refused", "succeeded", "partly", "reverted", "skipped", "dropped", "lost", "aborted")
_UNSENT, _REFUSED, _SUCCEEDED, _PARTLY, _REVERTED, _SKIPPED, _DROPPED, _LOST, _ABORTED = range(9)
REASONS = (
    "",
    *(reason.name.lower() for reason in DropReason),
    *(reason.name.lower() for reason in SkipReason),
    *(f"leg {reason.name.lower()}" if reason.name in ("REVERTED", "SKIPPED") else reason.name.lower()
      for reason in AbortReason),
    "unbundled",
)  # fmt: skip
"""Drop reasons, then skip reasons, then abort reasons, in the order of their numbers."""
_SKIPS_FROM = len(DropReason)
_ABORTS_FROM = _SKIPS_FROM + len(SkipReason) + 1
UNBUNDLED = len(REASONS) - 1
_FIRST_ABORT = min(AbortReason)
assert max(SkipReason) < _FIRST_ABORT
assert len(AbortReason) == max(AbortReason) - _FIRST_ABORT + 1
_STATUS_FATE = np.array([REVERTED, SUCCEEDED, SKIPPED, ABORTED], dtype=np.int8)
assert [Status.REVERTED, Status.SUCCEEDED, Status.SKIPPED, Status.ABORTED] == [0, 1, 2, 3]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentBundles:
    """What the generator knows of a run's bundles. Times on the coordinator's clock, `NEVER` where there is none."""

    legs: int
    lanes: NDArray[np.int32]
    rollups: NDArray[np.int16]
    """(bundles, legs): index into the rollups' names."""
    submission_hashes: bytes
    bundle_hashes: bytes
    tx_hashes: bytes
    """Leg after leg."""
    due_ns: Ints
    sent_ns: Ints
    accepted_ns: Ints
    refused: NDArray[np.bool_]
    attempts: NDArray[np.int16]

    def __len__(self) -> int:
        return len(self.due_ns)


@dataclass(frozen=True, slots=True, kw_only=True)
class LegFates:
    """One entry per leg, leg after leg."""

    fate: NDArray[np.int8]
    reason: NDArray[np.int8]
    """Index into `REASONS`."""
    height: Ints
    number: Ints
    executed_ns: Ints
    received_ns: Ints
    derived_ns: Ints
    built_ns: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleFates:
    """One entry per bundle."""

    outcome: NDArray[np.int8]
    """Index into `OUTCOMES`."""
    reason: NDArray[np.int8]
    """Index into `REASONS`."""
    height: Ints
    sequenced_ns: Ints
    firm_ns: Ints
    executed_ns: Ints
    unbundled: NDArray[np.bool_]


def match(wanted: bytes, offered: bytes) -> Ints:
    """For each 32-byte hash of `wanted` the first place in `offered` that holds it, or -1."""
    want, offer = _hashes(wanted), _hashes(offered)
    if not len(want) or not len(offer):
        return np.full(len(want), -1, dtype=np.int64)
    order = np.argsort(offer, kind="stable")
    place = np.searchsorted(offer[order], want)
    found = order[np.minimum(place, len(offer) - 1)]
    return np.where(offer[found] == want, found, -1).astype(np.int64)


def _hashes(data: bytes) -> NDArray[np.bytes_]:
    assert len(data) % HASH_BYTES == 0
    return np.frombuffer(data, dtype=f"S{HASH_BYTES}")


def leg_fates(sent: SentBundles, traces: Sequence[NodeTrace], offsets_ns: Mapping[str, int]) -> LegFates:
    """What became of every leg, by the first node of each rollup; `traces` in the order of rollup indexes.

    A leg both dropped and executed (a copy was dropped) counts as executed.
    """
    count = len(sent) * sent.legs
    legs = LegFates(
        fate=np.zeros(count, dtype=np.int8),
        reason=np.zeros(count, dtype=np.int8),
        **{name: np.full(count, NEVER) for name in _LEG_TIMES},
    )
    flat = sent.rollups.reshape(-1)
    hashes = np.frombuffer(sent.tx_hashes, dtype=f"V{HASH_BYTES}")
    for rollup, trace in enumerate(traces):
        rows = np.flatnonzero(flat == rollup)
        wanted = hashes[rows].tobytes()
        blocks = [trace.executed[height] for height in sorted(trace.executed)]
        offset_ns = offsets_ns.get(trace.node, 0)
        found = match(wanted, b"".join([block.tx_hashes for block in blocks]))
        _fill(legs, rows, found, blocks, [len(block.statuses) for block in blocks], offset_ns)
        hit = found >= 0
        statuses = np.frombuffer(b"".join([block.statuses for block in blocks]), dtype=np.uint8)
        skips = np.frombuffer(b"".join([block.skip_reasons for block in blocks]), dtype=np.uint8)
        legs.fate[rows[hit]] = _STATUS_FATE[statuses[found[hit]]]
        legs.reason[rows[hit]] = _left_out(skips[found[hit]])
        rest = rows[~hit]
        found = match(hashes[rest].tobytes(), b"".join([block.dropped_hashes for block in blocks]))
        _fill(legs, rest, found, blocks, [len(block.drop_reasons) for block in blocks], offset_ns)
        hit = found >= 0
        reasons = np.frombuffer(b"".join([block.drop_reasons for block in blocks]), dtype=np.uint8)
        legs.fate[rest[hit]] = DROPPED
        legs.reason[rest[hit]] = reasons[found[hit]]
    return legs


def _left_out(reasons: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Index into `REASONS` of a skipped or an aborted leg; 0 for the others."""
    skipped = np.where(reasons > 0, reasons.astype(np.int16) + _SKIPS_FROM, 0)
    aborted = reasons.astype(np.int16) - _FIRST_ABORT + _ABORTS_FROM
    return np.where(reasons >= _FIRST_ABORT, aborted, skipped).astype(np.int8)


_LEG_TIMES = ("height", "number", "executed_ns", "received_ns", "derived_ns", "built_ns")


def _fill(
    legs: LegFates, rows: Ints, found: Ints, blocks: Sequence[ExecutedColumns], sizes: Sequence[int], offset_ns: int
) -> None:
    """Copy the values of the block that holds each found entry."""
    hit = found >= 0
    if not hit.any():
        return
    block = np.repeat(np.arange(len(blocks)), sizes)[found[hit]]
    target = rows[hit]
    legs.height[target] = np.array([b.height for b in blocks], dtype=np.int64)[block]
    legs.number[target] = np.array([b.number for b in blocks], dtype=np.int64)[block]
    for name, values in (
        ("executed_ns", [b.at_ns for b in blocks]),
        ("received_ns", [b.received_ns for b in blocks]),
        ("derived_ns", [b.derived_ns for b in blocks]),
        ("built_ns", [b.built_ns for b in blocks]),
    ):
        getattr(legs, name)[target] = np.array(values, dtype=np.int64)[block] + offset_ns


def bundle_fates(sent: SentBundles, legs: LegFates, sequencer: NodeTrace, *, offset_ns: int) -> BundleFates:
    """What became of every bundle. A bundle that the sequencer took and whose legs are not all resolved is lost."""
    cuts = [sequencer.cuts[height] for height in sorted(sequencer.cuts)]
    found = match(sent.submission_hashes, b"".join([cut.submission_hashes for cut in cuts]))
    hit = found >= 0
    cut = np.repeat(np.arange(len(cuts)), [len(c.submission_hashes) // HASH_BYTES for c in cuts])[found[hit]]
    height = np.full(len(sent), NEVER)
    sequenced_ns = np.full(len(sent), NEVER)
    height[hit] = np.array([c.height for c in cuts], dtype=np.int64)[cut]
    sequenced_ns[hit] = np.array([c.at_ns for c in cuts], dtype=np.int64)[cut] + offset_ns
    fates = legs.fate.reshape(len(sent), sent.legs)
    outcome, unbundled = _outcomes(fates)
    taken = (sent.accepted_ns >= 0) | hit
    outcome[~taken] = np.where(sent.refused[~taken], _REFUSED, _UNSENT)
    resolved = taken & (fates != MISSING).all(axis=1)
    executed_ns = np.where(resolved, legs.executed_ns.reshape(fates.shape).max(axis=1), NEVER)
    return BundleFates(
        outcome=outcome,
        reason=_reasons(legs.reason.reshape(fates.shape), outcome, unbundled),
        height=height,
        sequenced_ns=sequenced_ns,
        firm_ns=_firm(height, sequenced_ns, sequencer, offset_ns),
        executed_ns=executed_ns,
        unbundled=unbundled,
    )


def _outcomes(fates: NDArray[np.int8]) -> tuple[NDArray[np.int8], NDArray[np.bool_]]:
    legs = fates.shape[1]
    counts = {fate: (fates == fate).sum(axis=1) for fate in range(len(FATES))}
    outcome = np.full(len(fates), _LOST, dtype=np.int8)
    whole = counts[MISSING] == 0
    outcome[whole & (counts[SKIPPED] == legs)] = _SKIPPED
    outcome[whole & (counts[SUCCEEDED] == 0) & (counts[REVERTED] > 0)] = _REVERTED
    outcome[whole & (counts[SUCCEEDED] > 0)] = _PARTLY
    outcome[counts[SUCCEEDED] == legs] = _SUCCEEDED
    # A bundle that is struck on one rollup and stands on another is partly succeeded, and breaks an invariant.
    outcome[counts[ABORTED] == legs] = _ABORTED
    outcome[whole & (counts[ABORTED] > 0) & (counts[ABORTED] < legs)] = _PARTLY
    outcome[whole & (counts[DROPPED] > 0)] = _DROPPED
    unbundled = (counts[DROPPED] > 0) & (legs > counts[DROPPED] + counts[MISSING])
    return outcome, unbundled


_INCOMPLETE = int(DropReason.INCOMPLETE)


def _reasons(reasons: NDArray[np.int8], outcome: NDArray[np.int8], unbundled: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Why a bundle was dropped: the leg that was wrong itself says more than its siblings' `incomplete`."""
    own = np.where(reasons == _INCOMPLETE, 0, reasons).max(axis=1)
    reason: NDArray[np.int8] = np.where(own > 0, own, reasons.max(axis=1)).astype(np.int8)
    reason[~np.isin(outcome, [_DROPPED, _SKIPPED, _ABORTED])] = 0
    reason[unbundled] = UNBUNDLED
    return reason


def _firm(height: Ints, sequenced_ns: Ints, sequencer: NodeTrace, offset_ns: int) -> Ints:
    """When each height became firm. After a fork a height is cut and promised anew, and only that promise counts."""
    raised = sorted((at, up_to) for at, up_to, level in sequencer.commitments if level >= Commitment.FIRM)
    firm_ns = np.full(len(height), NEVER)
    if not raised:
        return firm_ns
    times = np.array([at for at, _ in raised], dtype=np.int64) + offset_ns
    heights = np.array([up_to for _, up_to in raised], dtype=np.int64)
    place = np.maximum(
        np.searchsorted(np.maximum.accumulate(heights), height), np.searchsorted(times, sequenced_ns, side="left")
    )
    hit = (height >= 0) & (place < len(heights))
    while (behind := hit & (heights[np.minimum(place, len(heights) - 1)] < height)).any():
        place += behind
        hit &= place < len(heights)
    firm_ns[hit] = times[place[hit]]
    return firm_ns
