"""What the latencies should be by arithmetic, next to what was measured.

A disagreement is a finding, in either direction.

The backend's own closed form comes from run.json. Execution is added here, because it follows from the machine and the
rate and not from the backend.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.report import links
from benchmarks.report.links import add_links
from benchmarks.report.load_phases import load_kind
from benchmarks.report.run_data import NS_PER_MS, RunData, shown_stage
from benchmarks.report.stats import Pace, rounded

TOLERANCE_SHARE = 0.25
"""Of the expected value, plus the allowance below: the formulas leave out queues, batching and the tail of the
scheduler.
"""
ALLOWANCE_MS: Mapping[str, float] = {"p50": 10.0, "p99": 20.0}
OVERLOAD_SHARE = 0.9
"""Above this share of the engine bound a queue builds and the formula of `executed` says nothing."""
EXCHANGE_MS = 5.0
"""Reports to the resolver and the verdict back, with two signatures made and several checked, on one machine. An
allowance of ours, not a measurement of the run.
"""
TOLERANCE_RULE = (
    f"A measured value agrees within {TOLERANCE_SHARE:.0%} of the expected one and "
    + " or ".join(f"{allowed:g} ms more at the {name}" for name, allowed in ALLOWANCE_MS.items())
).replace("%", " %")
LAZY_WAIT = "a bundle arrives at any moment of an interval and waits for its end"


def expected_ms(data: RunData, *, offered_per_s: float, bound_per_s: float | None) -> dict[str, dict[str, Any]]:
    """Expected latency from due by stage: p50, p99, the formula with its constants, whether it holds by construction.

    The formulas are those of an even load on a healthy testnet: bursts and faults are not compared. Neither are bundles
    that a backend takes in pieces where its formula is of whole ones.
    """
    height_ms = data.height_ms
    even_load = load_kind(data) != "burst" and not data.run.get("faults")
    stages = _from_backend(data.run.get("expected") or {}) or _of_interval(height_ms)
    in_pieces = _in_pieces(data)
    for entry in stages.values():
        entry["applies"] = even_load and not in_pieces
        if in_pieces:
            entry["formula"] += f"; not applicable: {in_pieces}"
    add_links(data, stages)
    if "executed" in stages and offered_per_s > 0:
        executed = stages["executed"]
        if bound_per_s:
            execution_ms = height_ms * offered_per_s / bound_per_s
            executed["formula"] += (
                f"; plus execution of one height: {height_ms:g} ms x {offered_per_s:,.0f}/s offered"
                f" / {bound_per_s:,.0f}/s engine bound = {execution_ms:.1f} ms"
            )
            executed["applies"] &= offered_per_s <= OVERLOAD_SHARE * bound_per_s
            executed["p50"] = rounded(executed["p50"] + execution_ms)
            executed["p99"] = rounded(executed["p99"] + execution_ms)
        else:
            executed["formula"] += "; execution is not added, because this run measured no engine bound"
    if "executed" in stages:
        stages |= _of_layer(data, stages, offered_per_s=offered_per_s, bound_per_s=bound_per_s)
    return stages


def _in_pieces(data: RunData) -> str:
    """How it is known that bundles went in pieces; empty where they did not, or the backend knows none."""
    limits = [int(entry.get("whole_bytes_max") or 0) for entry in (data.run.get("expected") or {}).values()]
    posted = int((data.run.get("costs") or {}).get("posted_bytes") or 0)
    bundles = int(np.isfinite(data.bundles.stage_ms["sequenced"]).sum())
    limit = max(limits, default=0)
    if not limit or not bundles or posted <= limit * bundles:
        return ""
    return (
        f"bundles go in pieces ({posted / bundles:,.0f} bytes posted per bundle, {limit:,} fit into one transaction), "
        "which takes some slots more"
    )


def pace_of(data: RunData) -> Pace:
    """What the configuration alone says of heights and of completion."""
    expected = expected_ms(data, offered_per_s=0.0, bound_per_s=None)
    return Pace(height_ms=data.height_ms, usual_ms=float(expected.get(data.bundles.completion, {}).get("p99", 0.0)))


def _of_layer(
    data: RunData, stages: Mapping[str, dict[str, Any]], *, offered_per_s: float, bound_per_s: float | None
) -> dict[str, dict[str, Any]]:
    """What verdicts and settlement add after `executed`, and to it: the execution that stands is the last round's."""
    found: dict[str, dict[str, Any]] = {}
    executed = stages["executed"]
    base: Mapping[str, Any] = executed
    if data.has_verdicts:
        execution_ms = data.height_ms * (offered_per_s / bound_per_s if bound_per_s else 0.0)
        _add_rounds(data, executed, execution_ms=execution_ms)
        exchange_ms = EXCHANGE_MS + links.exchange_ms(data)
        found["atomic_safe"] = base = {
            **{
                # The resolver reads firm heights only.
                name: rounded(max(executed[name], stages.get("firm", executed)[name]) + exchange_ms)
                for name in ("p50", "p99")
            },
            "formula": "executed and firm, whichever is later, plus an exchange of reports and a verdict: "
            f"{_exchange(data)}",
            "by_construction": False,
            "applies": executed["applies"],
        }
    if data.settles and (rounds := _settlement_round_ms(data)) is not None:
        round_ms, why = rounds
        found |= _settled(data, base, round_ms=round_ms, why=why)
    return found


def _add_rounds(data: RunData, executed: dict[str, Any], *, execution_ms: float) -> None:
    """Every round beyond the first is an exchange of reports and another execution of the height."""
    values = [int(row["rounds"]) for row in data.verdicts if int(row["rounds"]) > 0] or [1]
    rounds = {"p50": float(np.percentile(values, 50)), "p99": float(np.percentile(values, 99))}
    if rounds["p99"] <= 1:
        return
    each_ms = EXCHANGE_MS + links.exchange_ms(data) + execution_ms
    for name, count in rounds.items():
        executed[name] = rounded(executed[name] + (count - 1) * each_ms)
    executed["formula"] += (
        f"; plus r - 1 further rounds of {_exchange(data)} and one execution each, r as measured: "
        f"p50 {rounds['p50']:g}, p99 {rounds['p99']:g}"
    )


def _exchange(data: RunData) -> str:
    emulated_ms = links.exchange_ms(data)
    return f"{EXCHANGE_MS:g} ms (an allowance)" + (f" and {emulated_ms:.1f} ms of emulated ways" if emulated_ms else "")


def _settlement_round_ms(data: RunData) -> tuple[float, str] | None:
    """One round of settlement: whole epochs that hold the proof, the transaction's slot and the next certificate."""
    layer = data.layer
    slot_ms, epoch_blocks = float(layer.get("slot_time_ms") or 0), int(layer.get("epoch_blocks") or 0)
    if not slot_ms or not epoch_blocks:
        return None
    proofs = [int(row["duration_ns"]) / NS_PER_MS for row in data.proofs]
    proof_ms = float(np.median(proofs)) if proofs else 0.0
    epoch_ms = slot_ms * epoch_blocks
    interval_ms = 1_000.0 * float(layer.get("certificate_interval_s") or 0)
    # After the end of an epoch: the proof, then the next slot. The next certificate is made after that, and is in time
    # for the end of the epoch that is then under way.
    busy_ms = slot_ms * (math.floor(proof_ms / slot_ms) + 1)
    round_ms = max(math.floor(busy_ms / epoch_ms) + 1, math.ceil(interval_ms / epoch_ms)) * epoch_ms
    why = (
        f"one round = {round_ms / 1_000:g} s: {round_ms / epoch_ms:g} epoch(s) of {epoch_blocks} x "
        f"{slot_ms / 1_000:g} s slots, which hold a proof of {proof_ms:.0f} ms as measured and the transaction's slot"
    )
    return round_ms, why


def _settled(data: RunData, base: Mapping[str, Any], *, round_ms: float, why: str) -> dict[str, dict[str, Any]]:
    """A bundle waits for its certificate; its exits settle in the first round, its imports in the round after.

    An exit waits for imports only where the balance proven before does not cover it, so a bundle of k hops takes from
    2 to k + 1 rounds; the expectation is the lower end.
    """
    # Without verdicts nothing matches a mint with its exit, so certificates import none of a bundle's mints.
    hops = int(data.run.get("mints_per_bundle") or 0) if data.has_verdicts else 0
    rounds = 2 if hops else 1
    wait = {"p50": 0.5 * round_ms, "p99": 0.99 * round_ms}
    settled = {name: base[name] + wait[name] + rounds * round_ms for name in wait}
    spread = f"k = {hops} hops: 2 rounds where balances cover every exit, at most k + 1 = {hops + 1}"
    text = spread if hops else "nothing of a bundle is imported: 1 round"
    slot_ms = float(data.layer["slot_time_ms"])
    final_ms = 2 * int(data.layer.get("finality_slots") or 0) * slot_ms
    common = {"by_construction": False, "applies": base["applies"]}
    return {
        "settled": {
            **{name: rounded(value) for name, value in settled.items()},
            "formula": f"atomic-safe or executed, plus the wait for the next certificate (up to one round), plus "
            f"{rounds} round(s); {text}; {why}",
            **common,
        },
        "final": {
            **{name: rounded(value + final_ms) for name, value in settled.items()},
            "formula": f"settled, plus 2 x {data.layer.get('finality_slots')} slots until the L1 block is finalized",
            **common,
        },
    }


def _from_backend(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        stage: {
            "p50": rounded(entry["p50_ms"]),
            "p99": rounded(entry["p99_ms"]),
            "formula": str(entry.get("formula", "")),
            # A run that does not say is an older one of the lazy backend, which sets its interval itself.
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
                    "difference_share": rounded(difference / entry[name], 4) if entry[name] else None,
                    "verdict": verdict if entry["applies"] else "not applicable",
                    "by_construction": entry["by_construction"],
                }
            )
    return rows


def theory_findings(rows: list[dict[str, Any]]) -> list[str]:
    """The disagreements, in words."""
    return [
        f"{shown_stage(row['stage'])} {row['percentile']} is {row['verdict']} than expected: {_figures(row)}"
        for row in rows
        if row["verdict"] in ("slower", "faster")
    ]


def _figures(row: Mapping[str, Any]) -> str:
    measured, expected, tolerance = (row[f"{name}_ms"] for name in ("measured", "expected", "tolerance"))
    return f"{measured:.1f} ms measured, {expected:.1f} ms expected, tolerance {tolerance:.1f} ms"
