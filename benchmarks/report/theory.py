"""What the latencies should be by arithmetic, next to what was measured.

A disagreement is a finding, in either direction.

The backend's own closed form comes from run.json. Execution is added here, because it follows from the machine and the
rate and not from the backend.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.report.load_phases import load_kind
from benchmarks.report.run_data import RunData
from benchmarks.report.stats import rounded

TOLERANCE_SHARE = 0.25
"""Of the expected value, plus the allowance below: the formulas leave out queues, batching and the tail of the
scheduler.
"""
ALLOWANCE_MS: Mapping[str, float] = {"p50": 10.0, "p99": 20.0}
OVERLOAD_SHARE = 0.9
"""Above this share of the engine bound a queue builds and the formula of `executed` says nothing."""
LAZY_WAIT = "a bundle arrives at any moment of an interval and waits for its end"


def expected_ms(data: RunData, *, offered_per_s: float, bound_per_s: float | None) -> dict[str, dict[str, Any]]:
    """Expected latency from due by stage: p50, p99, the formula with its constants, whether it holds by construction.

    The formulas are those of an even load on a healthy testnet: bursts and faults are not compared.
    """
    interval_ms = float(data.run["block_interval_ms"])
    even_load = load_kind(data) != "burst" and not data.run.get("faults")
    stages = _from_backend(data.run.get("expected") or {}) or _of_interval(interval_ms)
    for entry in stages.values():
        entry["applies"] = even_load
    if "executed" in stages and offered_per_s > 0:
        executed = stages["executed"]
        if bound_per_s:
            execution_ms = interval_ms * offered_per_s / bound_per_s
            executed["formula"] += (
                f"; plus execution of one block: {interval_ms:g} ms x {offered_per_s:,.0f}/s offered"
                f" / {bound_per_s:,.0f}/s engine bound = {execution_ms:.1f} ms"
            )
            executed["applies"] &= offered_per_s <= OVERLOAD_SHARE * bound_per_s
            executed["p50"] = rounded(executed["p50"] + execution_ms)
            executed["p99"] = rounded(executed["p99"] + execution_ms)
        else:
            executed["formula"] += "; execution is not added, because this run measured no engine bound"
    return stages


def _from_backend(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        stage: {
            "p50": rounded(entry["p50_ms"]),
            "p99": rounded(entry["p99_ms"]),
            "formula": str(entry.get("formula", "")),
            # The waiting time follows from an interval that we set ourselves: agreement shows that nothing was added.
            "by_construction": bool(entry.get("by_construction", stage in ("sequenced", "firm"))),
        }
        for stage, entry in stored.items()
    }


def _of_interval(interval_ms: float) -> dict[str, dict[str, Any]]:
    """For a run directory without the backend's own formulas."""
    formula = f"{LAZY_WAIT}: p50 = {interval_ms:g} ms / 2, p99 = 0.99 x {interval_ms:g} ms"
    return {
        stage: {
            "p50": rounded(interval_ms / 2),
            "p99": rounded(interval_ms * 0.99),
            "formula": formula,
            "by_construction": stage != "executed",
        }
        for stage in ("sequenced", "firm", "executed")
    }


def compare_with_theory(
    expected: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One row per stage and percentile that has both. `verdict` is agrees, slower, faster or not applicable."""
    rows = []
    for stage, entry in expected.items():
        for name in ("p50", "p99"):
            value = measured.get(stage, {}).get(name)
            if value is None:
                continue
            tolerance = TOLERANCE_SHARE * entry[name] + ALLOWANCE_MS[name]
            difference = value - entry[name]
            verdict = "agrees" if abs(difference) <= tolerance else "slower" if difference > 0 else "faster"
            rows.append(
                {
                    "stage": stage,
                    "percentile": name,
                    "expected_ms": entry[name],
                    "measured_ms": value,
                    "tolerance_ms": rounded(tolerance),
                    "verdict": verdict if entry["applies"] else "not applicable",
                    "by_construction": entry["by_construction"],
                }
            )
    return rows


def theory_findings(rows: list[dict[str, Any]]) -> list[str]:
    """The disagreements, in words."""
    return [
        f"{row['stage']} {row['percentile']} is {row['verdict']} than expected: {row['measured_ms']:.1f} ms measured, "
        f"{row['expected_ms']:.1f} ms expected, tolerance {row['tolerance_ms']:.1f} ms"
        for row in rows
        if row["verdict"] in ("slower", "faster")
    ]
