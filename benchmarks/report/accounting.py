"""Where every bundle ended, and whether that adds up.

Split bundles are found here from the legs, whoever else looked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report.run_data import NO_HEIGHT, NS_PER_MS, OUTCOMES, Bools, Bundles, Floats, Ints, Legs, RunData
from benchmarks.report.stats import reached
from benchmarks.report.value import conservation, conservation_problem

RESULT_NAMES: Mapping[str, str] = {"partly": "partly_succeeded"}
"""Outcome in the events -> name in results.json, where they differ."""
ENDINGS = ("succeeded", "partly", "reverted", "skipped", "aborted", "dropped", "lost")
"""What an accepted bundle ends in."""
ADMITTED = ("succeeded", "reverted", "skipped", "aborted")
"""Fates of legs that derivation let through."""
MAX_EXAMPLES = 5
CAUSES = (
    ("due", "sent"),
    ("sent", "accepted"),
    ("sequenced", "firm"),
    ("sequenced", "executed"),
    ("executed", "atomic_safe"),
    ("atomic_safe", "proved"),
    ("proved", "settled"),
    ("settled", "final"),
)
"""Stages of which the second cannot come before the first."""
CLOCK_SLACK_MS = 1.0
"""Two timestamps of one moment may differ by this much beyond the residual of the clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LegVerdict:
    """What the legs say about the bundles, independent of the outcome column."""

    unbundled: Ints
    """Ids of bundles of which derivation admitted some legs and not all, or admitted them at different heights."""
    contradicted: Ints
    """Ids of bundles whose outcome is not the one that follows from their legs."""
    partly: Ints
    """Ids of bundles of which some legs took effect and others did not."""


def count_bundles(data: RunData, verdict: LegVerdict) -> dict[str, int]:
    """All bundles of the run, also those due in warm-up and cool-down."""
    bundles = data.bundles
    by_outcome = {
        name: int(bundles.is_outcome(name).sum()) for name in (*ENDINGS[:3], "skipped", "dropped", "aborted", "lost")
    }
    counts = {
        "due": len(bundles),
        # Taken by the sequencer, whether or not its answer arrived.
        "accepted": int((~bundles.is_outcome("refused", "unsent")).sum()),
        "refused": int(bundles.is_outcome("refused").sum()),
        "unsent": int(bundles.is_outcome("unsent").sum()),
        "sequenced": int(reached(bundles, "sequenced").sum()) if "sequenced" in bundles.stage_ms else 0,
        "executed": int(reached(bundles, "executed").sum()) if "executed" in bundles.stage_ms else 0,
    }
    counts |= {RESULT_NAMES.get(name, name): count for name, count in by_outcome.items()}
    counts["unbundled"] = len(verdict.unbundled)
    return counts


def tally(names: NDArray[np.object_]) -> dict[str, int]:
    """How often each text occurs, most frequent first."""
    words, counts = np.unique(names.astype(str), return_counts=True)
    pairs = sorted(zip(words.tolist(), counts.tolist(), strict=True), key=lambda pair: (-pair[1], pair[0]))
    return {word or "unknown": count for word, count in pairs}


def judge_legs(data: RunData) -> LegVerdict:
    """Recompute admission and outcome of every accepted bundle from its legs.

    A leg counts as admitted where any trace says that the engine got it. A run that ended before it was drained may
    lack legs that were on their way: there a missing leg makes a bundle lost, not split.
    """
    bundles, legs = data.bundles, data.legs
    position = _positions(bundles, legs)
    known = position >= 0
    rows, position = np.flatnonzero(known), position[known]
    # One verdict per leg: replicas and replays may report a leg more than once.
    leg_key = position * 256 + legs.index[rows]
    count = len(bundles)

    def distinct(mask: Bools) -> Ints:
        keys = np.unique(leg_key[mask[rows]])
        return np.bincount(keys // 256, minlength=count)

    admitted = distinct(legs.is_fate(*ADMITTED))
    aborted = distinct(legs.is_fate("aborted"))
    dropped = distinct(legs.is_fate("dropped"))
    succeeded, reverted = distinct(legs.is_fate("succeeded")), distinct(legs.is_fate("reverted"))
    drained = data.run.get("drained_ns") is not None and not data.run.get("interrupted")
    not_admitted = bundles.legs - admitted if drained else dropped
    split = (admitted > 0) & ((not_admitted > 0) | (dropped > 0))
    split |= _heights_differ(legs, rows, position, count)

    # A bundle of which any leg was dropped counts as dropped, also a split one. One that was struck on one rollup and
    # stands on another is partly succeeded, however its other legs ended.
    follows = np.select(
        [
            succeeded >= bundles.legs,
            dropped > 0,
            aborted >= bundles.legs,
            (succeeded > 0) | (aborted > 0),
            reverted > 0,
            admitted >= bundles.legs,
        ],
        [OUTCOMES.index(name) for name in ("succeeded", "dropped", "aborted", "partly", "reverted", "skipped")],
        default=-1,
    )
    accepted = ~bundles.is_outcome("refused", "unsent", "lost")
    contradicted = accepted & (follows != bundles.outcome)
    partly = accepted & (follows == OUTCOMES.index("partly"))
    return LegVerdict(unbundled=bundles.ids[split], contradicted=bundles.ids[contradicted], partly=bundles.ids[partly])


def _positions(bundles: Bundles, legs: Legs) -> Ints:
    """Index into bundles of each leg, -1 where the bundle is not of this run's schedule."""
    if not len(bundles):
        return np.full(len(legs.bundle_ids), -1, dtype=np.int64)
    order = np.argsort(bundles.ids, kind="stable")
    sorted_ids = bundles.ids[order]
    place = np.clip(np.searchsorted(sorted_ids, legs.bundle_ids), 0, len(order) - 1)
    return np.where(sorted_ids[place] == legs.bundle_ids, order[place], -1)


def _heights_differ(legs: Legs, rows: Ints, position: Ints, count: int) -> Bools:
    """Bundles whose admitted legs do not all stand at one height."""
    admitted = legs.is_fate(*ADMITTED)[rows] & (legs.height[rows] != NO_HEIGHT)
    place, height = position[admitted], legs.height[rows][admitted]
    lowest = np.full(count, np.iinfo(np.int64).max)
    highest = np.full(count, np.iinfo(np.int64).min)
    np.minimum.at(lowest, place, height)
    np.maximum.at(highest, place, height)
    return highest > lowest


# Invariants


def check_invariants(data: RunData, counts: Mapping[str, int], verdict: LegVerdict) -> dict[str, dict[str, Any]]:
    """Every invariant with what was found: those that the run's own stages checked, and those recomputed here.

    An invariant that both looked at holds only if both say so.
    """
    found: dict[str, dict[str, Any]] = {
        name: {"ok": bool(entry.get("ok")), "detail": str(entry.get("detail", "")), "checked_by": "run"}
        for name, entry in sorted(data.run.get("invariants", {}).items())
        if entry.get("ok") is not None
    }
    for name, problem in _recomputed(data, counts, verdict).items():
        entry = found.get(name, {"ok": True, "detail": "", "checked_by": ""})
        details = [text for text in (entry["detail"] if not entry["ok"] else "", problem) if text]
        by = "run and report" if entry["checked_by"] else "report"
        detail = "; ".join(details) if details else entry["detail"]
        found[name] = {"ok": entry["ok"] and not problem, "detail": detail, "checked_by": by}
    return dict(sorted(found.items()))


def _recomputed(data: RunData, counts: Mapping[str, int], verdict: LegVerdict) -> dict[str, str]:
    """Invariant -> what is wrong, empty if it holds."""
    found = {
        "accounts_add_up": _accounts_problem(data, counts),
        "every_accepted_resolved": f"{counts['lost']:,} accepted bundles were lost" if counts["lost"] else "",
        "no_unbundled": _examples("unbundled", verdict.unbundled),
        "outcomes_match_legs": _examples("with an outcome that does not follow from their legs", verdict.contradicted),
        "times_in_order": _order_problem(data),
    }
    if data.has_verdicts:
        found["no_partly_at_atomic_safe"] = _examples("that succeeded in part in spite of verdicts", verdict.partly)
        if (money := conservation(data)) is not None:
            found["value_conserved"] = conservation_problem(money)
    return found


def _accounts_problem(data: RunData, counts: Mapping[str, int]) -> str:
    bundles = data.bundles
    problems = []
    ended = sum(counts[RESULT_NAMES.get(name, name)] for name in ENDINGS)
    if counts["due"] != counts["accepted"] + counts["refused"] + counts["unsent"]:
        problems.append(f"due {counts['due']:,} is not accepted + refused + unsent")
    if counts["accepted"] != ended:
        problems.append(f"accepted {counts['accepted']:,}, but {ended:,} ended in some way")
    accepted_at = bundles.stage_ms.get("accepted")
    if accepted_at is not None:
        refused_later = int((bundles.is_outcome("refused", "unsent") & ~np.isnan(accepted_at)).sum())
        if refused_later:
            problems.append(f"{refused_later:,} bundles count as refused or unsent, but the sequencer accepted them")
    if len(np.unique(bundles.ids)) != len(bundles):
        problems.append("bundle ids repeat")
    executed_at = bundles.stage_ms.get("executed")
    if executed_at is not None:
        timeless = int((bundles.is_outcome("succeeded", "partly", "reverted") & np.isnan(executed_at)).sum())
        if timeless:
            problems.append(f"{timeless:,} bundles ended executed without a time of it")
    return "; ".join(problems)


def _examples(what: str, ids: Ints) -> str:
    if not len(ids):
        return ""
    shown = ", ".join(str(number) for number in ids[:MAX_EXAMPLES].tolist())
    return f"{len(ids):,} bundles {what}: {shown}{', ...' if len(ids) > MAX_EXAMPLES else ''}"


def clock_residual_ms(data: RunData) -> float:
    """How wrong a difference between times of two machines can be; 0 where all share one clock."""
    offsets = data.run.get("clock_offsets", {}).values()
    return max((abs(offset.get("residual_ns", 0)) / NS_PER_MS for offset in offsets), default=0.0)


def _order_problem(data: RunData) -> str:
    """Causes after their effects: clocks of two machines that were aligned worse than their residual says, or a bug."""
    bundles = data.bundles
    residual_ms = clock_residual_ms(data)
    times: dict[str, Floats] = {"due": bundles.due_ms, "sent": bundles.sent_ms, **bundles.stage_ms}
    for earlier, later in CAUSES:
        if earlier not in times or later not in times:
            continue
        # A comparison with NaN is false: a time that does not exist is in no wrong order.
        wrong = times[later] < times[earlier] - residual_ms - CLOCK_SLACK_MS
        if earlier == "atomic_safe":
            wrong &= ~_resolved_again(data)
        if wrong.any():
            return f"{_examples(f'were {later} before they were {earlier}', bundles.ids[wrong])}"
    return ""


def _resolved_again(data: RunData) -> Bools:
    """Bundles whose verdict is that of a new epoch: a certificate may have covered their height in the one before."""
    bundles = data.bundles
    found = np.zeros(len(bundles), dtype=np.bool_)
    safe_ms = bundles.stage_ms["atomic_safe"]
    for notice in data.run.get("notices") or ():
        if notice["kind"] == "void":
            void_ms = (int(notice["at_ns"]) - data.zero_ns) / NS_PER_MS
            found |= (bundles.height >= int(notice["height"])) & (safe_ms > void_ms - CLOCK_SLACK_MS)
    return found
