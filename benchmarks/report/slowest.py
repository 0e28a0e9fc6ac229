"""The ten slowest bundles of the measured window, with where each spent its time."""

from typing import Any

import numpy as np

from benchmarks.report.run_data import FATES, NO_HEIGHT, OUTCOMES, Floats, Legs, RunData
from benchmarks.report.stats import Window, completed_mask, rounded

SLOWEST = 10
SEGMENTS = ("send", "accept", "order", "deliver", "derive", "execute", "announce")
"""due -> sent -> accepted -> sequenced -> received by the slowest leg's rollup -> derived -> built -> announced."""
RESOLVE = "resolve"
"""executed -> atomic-safe, where verdicts decide."""


def slowest_bundles(data: RunData, window: Window) -> list[dict[str, Any]]:
    """Slowest first; lost bundles are not here, because they have no latency. See SEGMENTS for the parts."""
    bundles = data.bundles
    chosen = np.flatnonzero(window.holds(bundles.due_ms) & completed_mask(bundles))
    latency = bundles.stage_ms[bundles.completion][chosen] - bundles.due_ms[chosen]
    # Ties by due time, so that the list does not depend on how a sort treats equals.
    worst = chosen[np.lexsort((bundles.due_ms[chosen], -latency))][:SLOWEST]
    return [_describe(data, int(place)) for place in worst]


def _describe(data: RunData, place: int) -> dict[str, Any]:
    bundles, legs = data.bundles, data.legs
    rows = np.flatnonzero(legs.bundle_ids == bundles.ids[place])
    last = _last_leg(legs.executed_ms, rows)
    moments = [
        float(bundles.due_ms[place]),
        float(bundles.sent_ms[place]),
        *(float(bundles.stage_ms[stage][place]) for stage in ("accepted", "sequenced")),
        *(_leg_moments(legs, last) if last is not None else [np.nan] * 3),
        float(bundles.stage_ms["executed"][place]),
    ]
    segments = _segments(moments)
    row: dict[str, Any] = {
        "bundle_id": int(bundles.ids[place]),
        "submission_hash": bundles.submission_hash[place].as_py().hex(),
        "due_s": rounded(moments[0] / 1_000),
        "executed_ms": rounded(moments[-1] - moments[0]),
        "height": None if bundles.height[place] == NO_HEIGHT else int(bundles.height[place]),
        "outcome": OUTCOMES[int(bundles.outcome[place])],
        "attempts": int(bundles.attempts[place]),
        "segments_ms": segments,
        "slowest_leg": None if last is None else int(legs.index[last]),
        "legs": [
            {"index": int(legs.index[row]), "rollup": str(legs.rollup[row]), "fate": FATES[int(legs.fate[row])]}
            for row in rows
        ],
    }
    if bundles.completion != "executed":
        safe_ms = float(bundles.stage_ms[bundles.completion][place])
        segments[RESOLVE] = rounded(safe_ms - moments[-1])
        row["atomic_safe_ms"] = rounded(safe_ms - moments[0])
    return row


def _last_leg(executed_ms: Floats, rows: "np.ndarray[Any, Any]") -> int | None:
    known = rows[~np.isnan(executed_ms[rows])]
    return int(known[np.argmax(executed_ms[known])]) if len(known) else None


def _leg_moments(legs: Legs, row: int) -> list[float]:
    return [float(legs.received_ms[row]), float(legs.derived_ms[row]), float(legs.built_ms[row])]


def _segments(moments: list[float]) -> dict[str, float]:
    """Durations that add up to the latency. A missing moment joins two segments under the later name.

    An acknowledgement can arrive after the cut; then nothing was spent on ordering that the user did not see as
    accepting.
    """
    parts = {}
    previous = moments[0]
    for name, moment in zip(SEGMENTS, moments[1:]):
        if np.isnan(moment):
            continue
        # The cap keeps the sum right where an acknowledgement overtakes or trails the block.
        moment = min(max(moment, previous), moments[-1])
        parts[name] = rounded(moment - previous)
        previous = moment
    return parts
