"""Whether the figures may be trusted, with the reason in words where they may not. Read before any figure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.report.accounting import clock_residual_ms
from benchmarks.report.load_phases import LATE_P99_MS, SENT_SHARE, load_kind
from benchmarks.report.run_data import RunData
from benchmarks.report.stats import Window, rounded

LATE_SHARE = 0.01
FEW_BUNDLES = 1_000
"""Fewer leave the last percent to ten bundles or less."""
FULL_MACHINE_SHARE = 0.9
CLOCK_RESIDUAL_MS = 2.0
NS_PER_S = 1_000_000_000
SAFE_GROWTH_MS = 20.0
SAFE_GROWTH_SHARE = 0.005
"""Of the window's length, between the medians of its halves: above, and above a height, verdicts fall behind blocks."""


def generator_health(data: RunData, window: Window) -> dict[str, Any]:
    """How well the generator kept its schedule.

    Its own lateness is what it notes when it comes to a bundle; the time of sending can be later because a lane waited
    for a refused bundle, and that is the system's doing.
    """
    bundles = data.bundles
    in_window = window.holds(bundles.due_ms)
    sent = in_window & ~np.isnan(bundles.sent_ms)
    delay_ms = bundles.sent_ms[sent] - bundles.due_ms[sent]
    stored = dict(data.run.get("generator") or {})
    if load_kind(data) == "sweep":
        # Its sums cover the steps that were too much on purpose; the step that counts has its own delays.
        stored = {name: value for name, value in stored.items() if name not in ("late_p99_ms", "late_share", "missed")}
    measured_p99 = rounded(np.percentile(delay_ms, 99, method="inverted_cdf")) if len(delay_ms) else None
    late_share = float((delay_ms > LATE_P99_MS).mean()) if len(delay_ms) else 0.0
    return stored | {
        "late_p99_ms": stored.get("late_p99_ms", measured_p99),
        "late_share": rounded(stored.get("late_share", late_share) or 0.0, 5),
        "send_delay_p99_ms": measured_p99,
        "sent_share": rounded(float(sent.sum() / in_window.sum()), 5) if in_window.any() else 0.0,
        "retried": int((bundles.attempts > 1).sum()),
    }


def generator_reasons(health: Mapping[str, Any], due: int) -> list[str]:
    """Why the generator's schedule was not kept; empty if it was."""
    reasons = []
    late_p99, late_share = health.get("late_p99_ms"), health.get("late_share") or 0.0
    missed = int(health.get("missed") or 0)
    if late_p99 is not None and late_p99 > LATE_P99_MS:
        reasons.append(f"the generator was late: p99 {late_p99:.0f} ms behind its schedule, {LATE_P99_MS:g} ms allowed")
    elif late_share > LATE_SHARE:
        reasons.append(f"the generator was late for {late_share:.1%} of the bundles, 1 % allowed")
    if due and missed > LATE_SHARE * due:
        reasons.append(f"the generator missed {missed:,} of {due:,} bundles, 1 % allowed")
    return reasons


def invalid_reasons(
    data: RunData,
    *,
    counts: Mapping[str, int],
    invariants: Mapping[str, Mapping[str, Any]],
    health: Mapping[str, Any],
) -> list[str]:
    """Why the result must not be used; empty if it may."""
    reasons = []
    broken = data.run.get("broken")
    if broken:
        reasons.append(_broken_reason(data, broken))
    elif data.run.get("interrupted"):
        why = str(data.run.get("interrupt_reason") or "no reason given")
        reasons.append(f"the run was interrupted ({why}); only what had become due by then is counted")
    elif data.run.get("drained_ns") is None:
        reasons.append("the run ended before every accepted bundle was resolved (drain timeout)")
    if not counts["due"]:
        reasons.append("no bundle became due")
    elif not counts["executed"]:
        reasons.append("no bundle was executed")
    if counts["unbundled"]:
        reasons.append(f"{counts['unbundled']:,} bundles were split: all legs or none did not hold")
    if counts["lost"]:
        what = "had no outcome when it broke" if broken else "were lost"
        reasons.append(f"{counts['lost']:,} accepted bundles {what}")
    told = {"no_unbundled", "every_accepted_resolved"}
    for name, entry in invariants.items():
        if not entry["ok"] and name not in told:
            reasons.append(f"invariant {name} does not hold: {entry['detail'] or 'no detail recorded'}")
    reasons += [
        f"{_fault(fault)} was not carried out, or not in full, so the load did not meet what the scenario says: "
        f"{fault.get('problem')}"
        for fault in data.run.get("faults", [])
        if not fault.get("carried_out", True)
    ]
    if not data.run.get("interrupted"):
        reasons += generator_reasons(health, counts["due"])
    if health["sent_share"] < SENT_SHARE and not data.run.get("interrupted") and counts["due"]:
        reasons.append(f"the offered rate was not reached: {health['sent_share']:.1%} of the bundles due were sent")
    return reasons


def _fault(fault: Mapping[str, Any]) -> str:
    return f"the {fault['kind']} of {fault.get('target') or 'the testnet'}"


def _broken_reason(data: RunData, broken: Mapping[str, Any]) -> str:
    """What ended the load, when, and what to do."""
    at_s = (int(broken["at_ns"]) - data.zero_ns) / NS_PER_S
    return (
        f"{broken['part']} broke for good {at_s:.1f} s after the load began ({broken['reason']}): only what had become "
        f"due by then is counted. {broken['remedy']}"
    )


def layer_reasons(data: RunData, layer: Mapping[str, Any] | None) -> list[str]:
    """What of the aggregation layer makes a result unusable."""
    if layer is None or data.run.get("interrupted"):
        return []
    found = []
    never = layer.get("atomic_safe", {}).get("never", 0)
    if never:
        found.append(
            f"{never:,} executed bundles never became atomic-safe: their heights had no verdict when the run ended"
        )
    settled = layer.get("settlement") or {"certificates": {}}
    in_error = settled["certificates"].get("in_error", 0)
    if in_error and not settled["certificates"].get("settled", 0):
        found.append(f"nothing settled, and {in_error:,} certificates were refused: why stands under what was refused")
    return found


def layer_warnings(layer: Mapping[str, Any] | None, window: Window, *, height_ms: float) -> list[str]:
    """What a reader should know of the aggregation layer although the run is valid."""
    if layer is None:
        return []
    found = []
    growth_ms = layer.get("atomic_safe", {}).get("growth_ms") or 0.0
    if growth_ms > max(SAFE_GROWTH_MS, height_ms) and growth_ms > SAFE_GROWTH_SHARE * (window.to_ms - window.from_ms):
        found.append(
            f"verdicts fell behind: the wait from executed to atomic-safe grew by {growth_ms:.0f} ms over the run"
        )
    if layer.get("rounds", {}).get("epochs", 0) > 1:
        found.append("a new epoch began: heights that were safe were resolved again")
    settled = layer.get("settlement")
    if settled is None:
        return found
    proof, bundles = settled["proof"], settled["bundles"]
    late = _unsettled(bundles)
    found += late
    if not late and settled["settled_in_time"] is False:
        found.append("settlement did not keep up: the last certificates were not settled when the run ended")
    refused = settled["certificates"].get("in_error", 0)
    if refused:
        found.append(f"{refused:,} certificates were refused; why stands under what was refused")
    if proof["attesters_separate"] is False:
        found.append("attesters share a process: their threshold protects from nothing")
    if proof["modelled_share"]:
        found.append(f"proving time is modelled: {proof['modelled_share']:.0%} of it was waited, not worked")
    return found


def _unsettled(bundles: Mapping[str, Any]) -> list[str]:
    """Completed bundles that had not settled: those that cannot by the scenario apart from those that were late."""
    found = []
    broken, stuck = ", ".join(bundles["never_settle"]), bundles["unsettled_of_them"]
    if stuck:
        found.append(
            f"{stuck:,} of {bundles['completed']:,} completed bundles touch {broken}, whose exits the scenario keeps "
            "from settling: they were not settled when the run ended"
        )
    late = bundles["unsettled"] - stuck
    if late:
        why = (
            f"; they do not touch {broken}, but ranges of those who import from there end below the lowest such import "
            "until it is voided (void_after_blocks)"
            if broken
            else ""
        )
        found.append(
            f"settlement did not keep up: {late:,} of {bundles['completed']:,} completed bundles were not settled when "
            f"the run ended{why}"
        )
    return found


def warnings(
    data: RunData,
    *,
    measured: Mapping[str, Mapping[str, Any]],
    sums: Mapping[str, Any],
    health: Mapping[str, Any],
    bound: Mapping[str, Any],
    unchecked: Sequence[str],
) -> list[str]:
    """What a reader should know although the run is valid."""
    found = []
    count = measured.get("executed", {}).get("count", 0)
    if 0 < count < FEW_BUNDLES:
        found.append(f"only {count:,} bundles were measured: the p99 rests on {max(1, count // 100)} of them")
    busy = sums.get("busy_share")
    if busy is not None and busy >= FULL_MACHINE_SHARE and load_kind(data) != "sweep":
        found.append(f"the machine was full ({busy:.0%} of all cores): latencies include waiting for a core")
    bare, recovered = bound.get("bundles_per_s_bare"), bound.get("bundles_per_s_with_recovery")
    if bare and recovered and recovered > bare:
        found.append(
            f"the engine bounds contradict each other ({bare:,.0f}/s bare, {recovered:,.0f}/s with more work): "
            "the machine was not quiet while they were measured"
        )
    residual_ms = clock_residual_ms(data)
    if residual_ms > CLOCK_RESIDUAL_MS:
        found.append(f"clocks of the machines agree only within {residual_ms:.1f} ms: an error bar on every latency")
    retired = int(health.get("retired_lanes") or 0)
    if retired:
        found.append(
            f"{retired:,} of {int(health.get('lanes') or 0):,} lanes were retired after a dropped or skipped bundle"
        )
    if health.get("retried"):
        found.append(
            f"{health['retried']:,} bundles were sent more than once (refused for a full mempool, or a broken stream)"
        )
    if data.stalls:
        last = max(data.stalls, key=lambda stall: int(stall["at_ns"]))
        found.append(
            f"readers stalled {len(data.stalls):,} times for lack of a proof or a block (events/stalls.parquet), last "
            f"{last['node']} at height {last['height']}: {last['reason']}"
        )
    found += [
        f"{_fault(fault)} did not heal" + (f": {fault['problem']}" if fault.get("problem") else "")
        for fault in data.run.get("faults", [])
        if fault.get("healed_ns") is None and fault.get("carried_out", True)
    ]
    found += [str(problem) for problem in data.run.get("problems") or ()]
    if data.run.get("tracing") is False:
        found.append("tracing was off: only what the coordinator saw is known")
    if unchecked:
        found.append(f"not checked in this run: {', '.join(unchecked)}")
    return found
