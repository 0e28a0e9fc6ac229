"""How far "all legs or none" held when legs fail: aborts, verdict rounds, reorgs, conservation of value, refusals.

Everything here is absent, not 0, where the mode of the run lacks it. Certificates and their cost: `settlement`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report.accounting import tally
from benchmarks.report.run_data import AGGLAYER, BOND, INCLUSION, RunData
from benchmarks.report.settlement import settlement_results
from benchmarks.report.stats import Window, completed_mask, executed_mask, percentiles, rounded
from benchmarks.report.value import conservation

PROMISES: Mapping[str, str] = {
    INCLUSION: "all legs stand at the same height; whether all of them succeed is measured, not promised",
    BOND: "all legs stand at the same height; where one fails, the builder's bond pays the user",
    AGGLAYER: "no bundle of which a leg fails becomes atomic-safe or settles: it is struck whole",
}
CUT_OFF_CERTIFICATES = 2
"""In a row without a height and without an exit, while there are heights to settle: no matter of timing any more."""
MAX_REFUSALS = 200
"""Different refusals that a report lists; beyond, it says how many it left out."""


def atomicity_results(data: RunData, window: Window) -> dict[str, Any] | None:
    """The section of an aggregation layer; None for a run without one."""
    if not data.layer and data.atomicity == INCLUSION:
        return None
    found: dict[str, Any] = {
        "mode": data.atomicity,
        "promise": PROMISES.get(data.atomicity, ""),
        "completed_at": data.bundles.completion,
        "partly_succeeded": int(data.bundles.is_outcome("partly").sum()),
        "parameters": dict(data.layer),
    }
    if data.has_verdicts:
        found |= {
            "aborts": _aborts(data),
            "atomic_safe": _atomic_safe(data, window),
            "rounds": _rounds(data),
            "reorgs": _reorgs(data),
        }
    if (money := conservation(data)) is not None:
        found["conservation"] = money
    if (settled := settlement_results(data, window)) is not None:
        found["settlement"] = settled
    if (capital := data.run.get("capital")) is not None:
        found["capital"] = dict(capital)
    if bond := data.run.get("bond"):
        found["bond"] = dict(bond)
    found["refused"] = _refused(data)
    return found


# Verdicts


def _aborts(data: RunData) -> dict[str, Any]:
    """Bundles struck, why, and which of them may be collateral."""
    struck = data.bundles.is_outcome("aborted")
    executed = int(executed_mask(data.bundles).sum()) + int(struck.sum())
    together = sum(int(row["struck_together"]) for row in data.verdicts)
    return {
        "bundles": int(struck.sum()),
        "share": rounded(float(struck.sum()) / executed, 5) if executed else None,
        "by_reason": tally(data.bundles.drop_reason[struck]),
        # Of the whole testnet, as the resolver counted them: users' own bundles included.
        "struck_together": together,
    }


def _atomic_safe(data: RunData, window: Window) -> dict[str, Any]:
    """How long bundles waited for the verdict after their execution, and how many never got one."""
    bundles = data.bundles
    executed, safe = bundles.stage_ms["executed"], bundles.stage_ms["atomic_safe"]
    done = completed_mask(bundles)
    chosen = window.holds(bundles.due_ms) & done
    waits = safe[chosen] - executed[chosen]
    middle = (window.from_ms + window.to_ms) / 2
    early = chosen & (bundles.due_ms < middle)
    late = chosen & ~early
    growth = None
    if early.any() and late.any():
        growth = rounded(float(np.median((safe - executed)[late]) - np.median((safe - executed)[early])))
    return {
        "after_executed_ms": percentiles(waits),
        "growth_ms": growth,
        "never": int((executed_mask(bundles) & ~done).sum()),
    }


def _rounds(data: RunData) -> dict[str, Any]:
    """Executions that each height took until nothing of it failed. Of a height that got several verdicts, the last.

    Heights for which no report was awaited, because they are empty or all they touch was evicted, are counted apart.
    """
    last = {int(row["height"]): int(row["rounds"]) for row in sorted(data.verdicts, key=_epoch)}
    rounds = [count for count in last.values() if count > 0]
    values = np.array(rounds, dtype=np.float64)
    return {
        "heights": len(rounds),
        "heights_without_reports": len(last) - len(rounds),
        "per_height": percentiles(values),
        "mean": rounded(float(values.mean()), 4) if len(values) else None,
        "histogram": _histogram(rounds, "rounds", "heights"),
        "serial_rounds": data.layer.get("serial_rounds"),
        "epochs": len({int(row["epoch"]) for row in data.verdicts}),
    }


def _epoch(row: Mapping[str, Any]) -> tuple[int, int]:
    return int(row["epoch"]), int(row["at_ns"])


def _reorgs(data: RunData) -> dict[str, Any]:
    """Executed heights that nodes gave up because a verdict struck something in them."""
    depths = [int(row["depth"]) for row in data.reorgs]
    by_node = Counter(str(row["node"]) for row in data.reorgs)
    return {
        "count": len(depths),
        "depth_heights": percentiles(np.array(depths, dtype=np.float64)),
        "histogram": _histogram(depths, "depth", "reorgs"),
        "by_node": dict(sorted(by_node.items())),
    }


def _histogram(values: Iterable[int], what: str, unit: str) -> list[dict[str, int]]:
    return [{what: value, unit: count} for value, count in sorted(Counter(values).items())]


# Refusals


def _refused(data: RunData) -> dict[str, Any]:
    """What was refused and why, in the order of how often: certificates, exits, forgeries, accusations,
    notices."""
    entries: Counter[tuple[str, str, str]] = Counter()
    for row in data.certificates:
        if row["status"] == "in_error":
            who = str(row.get("rollup") or f"network {row['network_id']}")
            entries["certificate", who, str(row["error"] or "no reason recorded")] += 1
    for who, why in _cut_off(data):
        entries["exits", who, why] += 1
    for fault in _listed(data.run.get("faults")):
        for tried in _listed(fault.get("attempts")):
            entries["forgery", "a thief", f"{tried['what']}, refused by {tried['where']}: {tried['answer']}"] += 1
    for item in _listed(data.run.get("evidence")):
        entries["evidence", str(item.get("accused", "")), str(item.get("detail", ""))] += 1
    for item in _listed(data.run.get("notices")):
        who = str(item.get("rollup") or (f"network {item['network_id']}" if item.get("network_id") else "testnet"))
        entries["notice", who, _notice(item)] += 1
    ordered = sorted(entries.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "entries": [
            {"what": what, "who": who, "why": why, "count": count} for (what, who, why), count in ordered[:MAX_REFUSALS]
        ],
        "left_out": max(0, len(ordered) - MAX_REFUSALS),
    }


def _cut_off(data: RunData) -> Iterable[tuple[str, str]]:
    """Rollups whose certificates settle no further height although there is one: no balance covers their next exit."""
    stood = data.legs.is_fate("succeeded")
    for rollup in sorted({str(row["rollup"]) for row in data.certificates}):
        settled = [row for row in data.certificates if row["rollup"] == rollup and row["settled_ns"] is not None]
        settled.sort(key=lambda row: int(row["certificate_height"]))
        empty = 0
        for row in reversed(settled):
            if int(row["last_height"]) >= int(row["first_height"]) or int(row["exits"] or 0):
                break
            empty += 1
        heights = data.legs.height[stood & (data.legs.rollup == rollup)]
        if empty >= CUT_OFF_CERTIFICATES and len(heights) and int(heights.max()) > int(settled[-1]["last_height"]):
            last = settled[-1]["last_height"]
            why = f"its last {empty} certificates settle no height beyond {last}: its next exit asks for more than its"
            yield rollup, f"{why} proven balance"


def _listed(value: Any) -> Sequence[Mapping[str, Any]]:
    return [item for item in value or () if isinstance(item, Mapping)]


def _notice(item: Mapping[str, Any]) -> str:
    kind, height = str(item.get("kind", "")).lower(), item.get("height", "-")
    said = {
        "evict": f"evicted from height {height} on: its reports are not awaited, bundles that touch it are struck",
        "rejoin": f"takes part again from height {height} on",
        "void": f"a new epoch: resolved again from height {height} on without {item.get('voided', 0)} bundles",
    }
    return said.get(kind, f"{kind} at height {height}")
