"""The invariants of a run with verdicts: what they promise, and that all nodes took the same ones.

Pure: traces, tables and logs in, verdicts of the check out. Value is `coordinator.stages.value`'s.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from coordinator.collect.join import OUTCOMES, BundleFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import CertificateLife
from coordinator.stages.invariants import MAX_EXAMPLES, Verdict
from coordinator.stages.verdict_log import VerdictLog
from nodes.model.agglayer import NetworkId
from nodes.model.execution import AbortReason
from nodes.model.ids import HASH_BYTES, Height

_ABORTED = OUTCOMES.index("aborted")


def no_partly(fates: BundleFates, resolved: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Verdict:
    """At atomic-safe a bundle has succeeded whole, or none of it counts.

    `resolved`: all rollups of the bundle took the verdict.
    """
    broken = [OUTCOMES.index(name) for name in ("partly", "reverted", "skipped")]
    found = np.flatnonzero(np.isin(fates.outcome, broken) & resolved)
    aborted = int((fates.outcome == _ABORTED).sum())
    whole = int((fates.outcome == OUTCOMES.index("succeeded")).sum())
    return _verdict(f"{whole:,} succeeded whole, {aborted:,} aborted", [f"bundle {bundle}" for bundle in found])


def verdicts_agree(groups: Mapping[str, Sequence[NodeTrace]], log: VerdictLog | None) -> Verdict:
    """Every node took the verdict that stands in the log, and the nodes of one rollup end with the same block."""
    problems, compared = [], 0
    for traces in groups.values():
        first = traces[0]
        for trace in traces:
            for height, mine in trace.resolved.items():
                theirs = first.resolved.get(height)
                if theirs is not None and theirs.epoch == mine.epoch:
                    compared += 1
                    if (theirs.block_hash, theirs.aborted_hashes) != (mine.block_hash, mine.aborted_hashes):
                        problems.append(f"{trace.node} resolved height {height} otherwise than {first.node}")
                problems += _against_log(trace.node, height, mine.epoch, mine.aborted_hashes, mine.aborted_reasons, log)
    text = f"{compared:,} resolved heights of all nodes compared"
    if log is not None:
        text += f" with {len(log.by_height):,} verdicts"
        problems += [log.problem] if log.problem else []
    return _verdict(text, problems)


def _against_log(
    node: str, height: int, epoch: int, aborted: bytes, reasons: bytes, log: VerdictLog | None
) -> list[str]:
    if log is None or height not in log.by_height:
        return []
    verdict = log.by_height[height].verdict
    if verdict.epoch != epoch:
        return []  # the node was cut off before it took the verdict of the new epoch
    named = {abort.bundle_hash for abort in verdict.aborts.aborts}
    struck = {
        aborted[HASH_BYTES * at : HASH_BYTES * (at + 1)]
        for at, reason in enumerate(reasons)
        if reason != AbortReason.EVICTED
    }
    return [f"{node} left out {len(struck - named)} bundles at height {height} that the verdict does not name"] * bool(
        struck - named
    )


def no_import_of_aborted(sent: SentBundles, fates: BundleFates, lives: Iterable[CertificateLife]) -> Verdict:
    """No certificate imports what a bundle minted that was struck."""
    hashes = sent.bundle_hashes
    aborted = {
        hashes[HASH_BYTES * int(at) : HASH_BYTES * (int(at) + 1)] for at in np.flatnonzero(fates.outcome == _ABORTED)
    }
    imported, problems = 0, []
    for life in lives:
        imported += len(life.imported_bundles)
        problems += [
            f"certificate {life.certificate_height} of network {life.network_id} imports bundle {bundle.hex()}"
            for bundle in life.imported_bundles
            if bundle in aborted
        ]
    return _verdict(f"{imported:,} imports of contingent mints, {len(aborted):,} aborted bundles", problems)


def settled_blocks_stand(
    lives: Iterable[CertificateLife], ranges: Mapping[tuple[NetworkId, Height], bytes], primaries: Sequence[NodeTrace]
) -> Verdict:
    """The last block of every settled range is the one that the rollup's node stands on.

    `ranges`: (network, last height) to the block hash that L1 took.
    """
    problems = []
    for (network, height), block_hash in sorted(ranges.items()):
        trace = primaries[network - 1]
        own = max((at for at in trace.executed if at <= height), default=None)
        if own is not None and trace.executed[own].hash != block_hash:
            problems.append(f"{trace.node}: L1 took block {block_hash.hex()} for height {height}")
    settled = sum(life.status == "settled" for life in lives)
    return _verdict(f"{len(ranges):,} settled ranges of {settled:,} certificates", problems)


def aborted_legs(sent: SentBundles, fates: BundleFates) -> list[bytes]:
    """Transaction hashes of all legs of aborted bundles."""
    size = HASH_BYTES * sent.legs
    found = []
    for bundle in np.flatnonzero(fates.outcome == _ABORTED).tolist():
        own = sent.tx_hashes[size * bundle : size * (bundle + 1)]
        found += [own[at : at + HASH_BYTES] for at in range(0, size, HASH_BYTES)]
    return found


def both(first: Verdict, second: Verdict) -> Verdict:
    """Two checks of one promise."""
    return Verdict(ok=first.ok and second.ok, detail=f"{first.detail}; {second.detail}")


def _verdict(text: str, problems: Sequence[str]) -> Verdict:
    if not problems:
        return Verdict(ok=True, detail=text)
    more = ", ..." if len(problems) > MAX_EXAMPLES else ""
    return Verdict(ok=False, detail=f"{text}; {', '.join(problems[:MAX_EXAMPLES])}{more}")
