"""The invariants of a finished run, each with what was found. Pure: traces and tables in, verdicts out.

`rederivation_matches` is not here: it takes fresh engines (`coordinator.stages.verify`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from coordinator.collect.join import OUTCOMES, BundleFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from nodes.model.bundle import Row
from nodes.model.sequenced_block import Commitment, SequencedBlock
from nodes.rules.bundle import decode_row

MAX_EXAMPLES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether an invariant held."""

    ok: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        """As run.json has it."""
        return {"ok": self.ok, "detail": self.detail}


def no_unbundled(fates: BundleFates) -> Verdict:
    """No bundle of which derivation admitted some legs and not all."""
    split = np.flatnonzero(fates.unbundled)
    return Verdict(ok=not len(split), detail=_examples(f"{len(split)} bundles split", split.tolist()))


def every_accepted_resolved(fates: BundleFates) -> Verdict:
    """No bundle that the sequencer took and whose legs did not all show up."""
    lost = np.flatnonzero(fates.outcome == OUTCOMES.index("lost"))
    return Verdict(ok=not len(lost), detail=_examples(f"{len(lost)} bundles lost", lost.tolist()))


def accounts_add_up(sent: SentBundles, fates: BundleFates) -> Verdict:
    """Every due bundle has one outcome, and none that the sequencer acknowledged counts as not taken."""
    untaken = np.isin(fates.outcome, [OUTCOMES.index("unsent"), OUTCOMES.index("refused")])
    contradicted = np.flatnonzero(untaken & (sent.accepted_ns >= 0))
    ok = len(fates.outcome) == len(sent) and not len(contradicted)
    return Verdict(ok=ok, detail=_examples(f"{len(sent)} due, {int((~untaken).sum())} taken", contradicted.tolist()))


def replicas_agree(groups: Mapping[str, Sequence[NodeTrace]], *, only_resolved: bool = False) -> Verdict:
    """All nodes of a rollup have the same block after every height both executed; no node contradicts itself.

    `only_resolved`: of a height without a verdict nodes may have executed different rounds.
    """
    problems: list[str] = []
    compared = 0
    for rollup, traces in groups.items():
        first = traces[0]
        for trace in traces:
            problems += trace.conflicts
            for height in first.executed.keys() & trace.executed.keys() if trace is not first else ():
                if only_resolved and not (height in first.resolved and height in trace.resolved):
                    continue
                mine, theirs = first.executed[height], trace.executed[height]
                compared += 1
                if (mine.number, mine.hash, mine.state_root) != (theirs.number, theirs.hash, theirs.state_root):
                    problems.append(f"{rollup}: {trace.node} differs from {first.node} at height {height}")
    found = f"{compared} block hashes compared"
    if all(len(traces) == 1 for traces in groups.values()):
        found = "one node per rollup, none to compare it with; no node contradicted itself"
    return Verdict(ok=not problems, detail=_examples(found, problems))


def firm_never_changed(sequencer: NodeTrace, rollups: Iterable[NodeTrace], log: Iterable[SequencedBlock]) -> Verdict:
    """The block at every height that was once firm is the one in the log, and no node gave up a firm height."""
    firm = max((height for _, height, level in sequencer.commitments if level >= Commitment.FIRM), default=0)
    problems = []
    checked = 0
    for block in log:
        cut = sequencer.cuts.get(block.header.height)
        if block.header.height <= firm and cut is not None:
            checked += 1
            if cut.hash != block.header_hash:
                problems.append(f"height {block.header.height} was cut as {cut.hash.hex()}, the log has another block")
    firm_at = sorted((at, height) for at, height, level in sequencer.commitments if level >= Commitment.FIRM)
    for trace in rollups:
        for at, reorg in trace.reorgs:
            already = max((height for raised, height in firm_at if raised <= at), default=0)
            if reorg.to_height < min(already, firm) and not _asked_to_rewind(trace, reorg.to_height):
                problems.append(f"{trace.node} went back to {reorg.to_height}, below firm height {already}")
    return Verdict(ok=not problems, detail=_examples(f"{checked} firm heights checked", problems))


def _asked_to_rewind(trace: NodeTrace, to_height: int) -> bool:
    """A node that re-executes the same blocks after a rewind or a restart has not left the chain."""
    redone: dict[int, set[tuple[int, bytes]]] = {}
    for block in trace.executions:
        if block.height > to_height:
            redone.setdefault(block.height, set()).add((block.number, block.hash))
    return all(len(results) == 1 for results in redone.values())


def bundle_order_equal(log: Iterable[SequencedBlock]) -> Verdict:
    """In every block any two rollups hold their common bundles in the same order."""
    problems = []
    bundles = 0
    for block in log:
        for rollup_id, content in block.contents.items():
            rows = [row for row in map(decode_row, content.rows) if row is not None]
            bundles += sum(row.legs[0].rollup_id == rollup_id for row in rows if row.legs)
            if any(earlier.ordinal >= later.ordinal for earlier, later in pairwise(rows)):
                problems.append(f"height {block.header.height}: rows of {rollup_id.hex()[-8:]} are out of order")
            problem = _positions_follow_rows(rollup_id, rows)
            if problem:
                problems.append(f"height {block.header.height}: {problem}")
    return Verdict(ok=not problems, detail=_examples(f"{bundles} bundles checked", problems))


def _positions_follow_rows(rollup_id: bytes, rows: Sequence[Row]) -> str:
    last = -1
    for row in rows:
        for leg in row.legs:
            if leg.rollup_id == rollup_id:
                if leg.position <= last:
                    return f"bundle {row.ordinal} stands before an earlier one on rollup {rollup_id.hex()[-8:]}"
                last = leg.position
    return ""


def _examples(text: str, problems: Sequence[object]) -> str:
    if not problems:
        return text
    shown = ", ".join(str(problem) for problem in problems[:MAX_EXAMPLES])
    return f"{text}; {shown}{', ...' if len(problems) > MAX_EXAMPLES else ''}"
