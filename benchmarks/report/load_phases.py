"""The parts of a run in time: steps of a sweep and the saturation point, a burst and its backlog, faults."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.report.run_data import NS_PER_MS, Bools, Floats, RunData, scenario_value
from benchmarks.report.stats import (
    MS_PER_S,
    Pace,
    Window,
    completed_per_s,
    executed_mask,
    latency_table,
    offered_per_s,
    percentiles,
    rounded,
)

SUSTAINED_SHARE = 0.99
STEP_SETTLE_SHARE = 0.2
"""Start of every step of a sweep that is cut: the step before may have left a backlog."""
SENT_SHARE = 0.99
LATE_P99_MS = 50.0
"""A generator later than this no longer offers the rate it names."""
RECOVERED_FACTOR = 1.5
"""A bundle counts as delayed by a fault when it took longer than this times the p99 before the fault."""


def load_kind(data: RunData) -> str:
    """steady, sweep or burst."""
    stored = data.run.get("load_kind") or scenario_value(data, "load", "kind", "")
    return str(stored or "steady")


def p99_bound_ms(data: RunData) -> float:
    """The bound that a sustained step keeps."""
    return float(data.run.get("p99_bound_ms") or scenario_value(data, "load", "p99_bound_ms", 500.0))


def measure_window(data: RunData) -> Window:
    """Due times that count, as the run cut them; of an interrupted run only what had become due."""
    from_ms, to_ms = data.since_start_ms("measure_from_ns") or 0.0, data.since_start_ms("measure_to_ns") or 0.0
    stopped_ms = data.since_start_ms("interrupted_ns")
    if stopped_ms is None and data.run.get("interrupted"):
        sent = data.bundles.sent_ms[~np.isnan(data.bundles.sent_ms)]
        stopped_ms = float(sent.max()) if len(sent) else from_ms
    if stopped_ms is not None:
        to_ms = min(to_ms, stopped_ms)
    return Window(from_ms=from_ms, to_ms=max(from_ms, to_ms))


def phase_results(data: RunData, pace: Pace) -> list[dict[str, Any]]:
    """One row per phase of the load. A sweep's are judged: sustained or why not."""
    kind = load_kind(data)
    bound_ms = p99_bound_ms(data)
    rows = []
    for phase in data.run.get("phases", []):
        window = _phase_window(data, phase, cut=STEP_SETTLE_SHARE if kind == "sweep" else 0.0)
        due = window.holds(data.bundles.due_ms)
        row: dict[str, Any] = {
            "rate_per_s": float(phase["rate_per_s"]),
            "from_s": rounded(window.from_ms / MS_PER_S),
            "to_s": rounded(window.to_ms / MS_PER_S),
            "offered_per_s": offered_per_s(data.bundles, window),
            "sent_share": rounded(float((due & ~np.isnan(data.bundles.sent_ms)).sum() / max(1, due.sum())), 5),
            "completed_per_s": completed_per_s(data.bundles, window, pace),
            "latency_ms": latency_table(data.bundles, window),
        }
        sent_ms = data.bundles.sent_ms[due & ~np.isnan(data.bundles.sent_ms)]
        delay_ms = sent_ms - data.bundles.due_ms[due & ~np.isnan(data.bundles.sent_ms)]
        row["send_delay_p99_ms"] = percentiles(delay_ms)["p99"]
        if kind == "sweep":
            row["why_not"] = _why_not_sustained(row, bound_ms)
            row["sustained"] = not row["why_not"]
        rows.append(row)
    return rows


def _phase_window(data: RunData, phase: Mapping[str, Any], *, cut: float) -> Window:
    start, end = ((int(phase[key]) - data.zero_ns) / NS_PER_MS for key in ("start_ns", "end_ns"))
    return Window(from_ms=start + cut * (end - start), to_ms=end)


def _why_not_sustained(row: Mapping[str, Any], bound_ms: float) -> str:
    if not row["offered_per_s"]:
        return "nothing was offered"
    if row["sent_share"] < SENT_SHARE:
        return f"only {row['sent_share']:.1%} was sent"
    share = row["completed_per_s"] / row["offered_per_s"]
    if share < SUSTAINED_SHARE:
        return f"completed {share:.1%} of offered"
    p99 = row["latency_ms"]["executed"]["p99"]
    if p99 > bound_ms:
        return f"p99 executed {p99:.0f} ms is over {bound_ms:g} ms"
    if row["send_delay_p99_ms"] > LATE_P99_MS:
        return f"the generator was {row['send_delay_p99_ms']:.0f} ms late at the p99"
    return ""


def saturation(rows: Sequence[Mapping[str, Any]], bound_ms: float) -> dict[str, Any] | None:
    """The highest sustained step of a sweep; None for other loads."""
    if not rows or "sustained" not in rows[0]:
        return None
    sustained = [row for row in rows if row["sustained"]]
    rule = f"highest step with completed >= 99 % of offered and p99 executed <= {bound_ms:g} ms"
    if not sustained:
        return {"found": False, "rule": rule, "note": f"not even {rows[0]['rate_per_s']:,.0f}/s was sustained"}
    best = max(sustained, key=lambda row: float(row["rate_per_s"]))
    failed = [row for row in rows if not row["sustained"]]
    above = sorted(
        (row for row in failed if row["rate_per_s"] > best["rate_per_s"]), key=lambda row: float(row["rate_per_s"])
    )
    below = [row for row in failed if row["rate_per_s"] < best["rate_per_s"]]
    note = "no step failed: the limit lies above"
    if above:
        note = f"the next higher step, {above[0]['rate_per_s']:,.0f}/s, failed: {above[0]['why_not']}"
    if below:
        note += f"; a lower step ({below[0]['rate_per_s']:,.0f}/s) failed, so the machine was not quiet"
    return {
        "found": True,
        "rule": rule,
        "rate_per_s": best["rate_per_s"],
        "offered_per_s": best["offered_per_s"],
        "completed_per_s": best["completed_per_s"],
        "p50_executed_ms": best["latency_ms"]["executed"]["p50"],
        "p99_executed_ms": best["latency_ms"]["executed"]["p99"],
        "limit_reached": bool(above),
        "note": note,
    }


def headline_window(data: RunData, rows: Sequence[Mapping[str, Any]]) -> tuple[Window, str]:
    """The due times that the headline figures cover, and what they are."""
    if load_kind(data) == "sweep" and rows:
        found = [row for row in rows if row["sustained"]]
        row = max(found, key=lambda row: float(row["rate_per_s"])) if found else rows[0]
        what = "the highest sustained step of the sweep" if found else "the first step of the sweep; none was sustained"
        return Window(from_ms=row["from_s"] * MS_PER_S, to_ms=row["to_s"] * MS_PER_S), what
    return measure_window(data), "the whole load without warm-up and cool-down"


def limiting_window(rows: Sequence[Mapping[str, Any]], found: Mapping[str, Any] | None) -> Window | None:
    """The lowest step above the sustained ones; None where there is none."""
    if not found:
        return None
    highest = found["rate_per_s"] if found["found"] else 0.0
    above = [row for row in rows if not row["sustained"] and row["rate_per_s"] > highest]
    if not above:
        return None
    lowest = min(above, key=lambda row: float(row["rate_per_s"]))
    return Window(from_ms=lowest["from_s"] * MS_PER_S, to_ms=lowest["to_s"] * MS_PER_S)


# Bursts


def burst_recovery(data: RunData) -> dict[str, Any] | None:
    """How large the backlog of a burst grew and when it was gone; None for other loads."""
    phases = data.run.get("phases", [])
    if load_kind(data) != "burst" or len(phases) < 2:
        return None
    rates = [float(phase["rate_per_s"]) for phase in phases]
    peak = rates.index(max(rates))
    window = _phase_window(data, phases[peak], cut=0.0)
    at_ms, backlog = backlog_over_time(data)
    before = backlog[at_ms < window.from_ms]
    normal = int(before.max()) if len(before) else 0
    peak_backlog = int(backlog[at_ms >= window.from_ms].max(initial=0))
    # The first return to what was usual: later peaks above it are chance, and come without a burst too.
    back = np.flatnonzero((at_ms >= window.to_ms) & (backlog <= normal))
    recovery_ms = rounded(float(at_ms[back[0]]) - window.to_ms) if len(back) else None
    return {
        "normal_backlog": normal,
        "peak_backlog": peak_backlog,
        "recovered": recovery_ms is not None,
        "recovery_ms": recovery_ms,
    }


def backlog_over_time(data: RunData) -> tuple[Floats, Floats]:
    """Bundles due and not yet resolved, after each change. Bundles that were never accepted do not count."""
    bundles = data.bundles
    counted = ~bundles.is_outcome("refused", "unsent")
    due = bundles.due_ms[counted]
    resolved = bundles.stage_ms["executed"][counted]
    resolved = np.sort(resolved[~np.isnan(resolved)])
    times = np.concatenate([due, resolved])
    steps = np.concatenate([np.ones(len(due)), -np.ones(len(resolved))])
    order = np.argsort(times, kind="stable")
    backlog: Floats = np.cumsum(steps[order])
    return times[order], backlog


# Faults


@dataclass(frozen=True, slots=True, kw_only=True)
class _FaultTimes:
    """Between which moments a fault can be told from those around it, in ms after the start of the load."""

    calm: Window
    """Before it, and after what the faults before it did."""
    injected_ms: float
    end_ms: float
    """Healed, or the last moment that counts."""
    until_ms: float
    """The next fault, or the end of what is measured."""


def fault_results(data: RunData) -> list[dict[str, Any]]:
    """Latency of `executed` before, during and after every fault, and how long until nothing was late because of it.

    What is late after the next fault came may be late because of that one, so each is looked at up to the next only.
    """
    whole = measure_window(data)
    faults = sorted(data.run.get("faults", []), key=lambda fault: int(fault["injected_ns"]))
    began_ms = [_since_zero(data, fault["injected_ns"]) for fault in faults if fault.get("carried_out", True)]
    rows = []
    calm_from_ms, calm = whole.from_ms, Window(from_ms=whole.from_ms, to_ms=whole.from_ms)
    for fault in faults:
        injected_ms = _since_zero(data, fault["injected_ns"])
        healed_ms = None if fault.get("healed_ns") is None else _since_zero(data, fault["healed_ns"])
        row: dict[str, Any] = {
            "kind": str(fault["kind"]),
            "target": str(fault.get("target", "")),
            "problem": str(fault.get("problem") or ""),
            "carried_out": bool(fault.get("carried_out", True)),
            "injected_s": rounded(injected_ms / MS_PER_S),
            "healed_s": None if healed_ms is None else rounded(healed_ms / MS_PER_S),
        }
        rows.append(row)
        if not row["carried_out"]:
            row |= {"executed_ms": {}, "next_s": None, "recovery_ms": None}
            continue
        next_ms = next((at_ms for at_ms in began_ms if at_ms > injected_ms and at_ms < whole.to_ms), None)
        if _is_calm(data, Window(from_ms=calm_from_ms, to_ms=injected_ms)):
            calm = Window(from_ms=calm_from_ms, to_ms=injected_ms)
        until_ms = whole.to_ms if next_ms is None else next_ms
        end_ms = until_ms if healed_ms is None else healed_ms
        times = _FaultTimes(calm=calm, injected_ms=injected_ms, end_ms=end_ms, until_ms=until_ms)
        latency = _around(data, whole, times)
        recovery_ms = _recovery_ms(data, times, latency["before"]["p99"], has_next=next_ms is not None)
        row |= {
            "executed_ms": latency,
            "next_s": None if next_ms is None else rounded(next_ms / MS_PER_S),
            "recovery_ms": recovery_ms,
        }
        over_ms = whole.to_ms if recovery_ms is None or healed_ms is None else max(healed_ms, injected_ms + recovery_ms)
        calm_from_ms = max(calm_from_ms, over_ms)
    return rows


def _since_zero(data: RunData, at_ns: Any) -> float:
    return (int(at_ns) - data.zero_ns) / NS_PER_MS


def _executed_within(data: RunData, window: Window) -> Bools:
    """Bundles that were due and executed between two faults: untouched by either."""
    bundles = data.bundles
    return (bundles.due_ms >= window.from_ms) & (bundles.stage_ms["executed"] < window.to_ms) & executed_mask(bundles)


def _is_calm(data: RunData, window: Window) -> bool:
    """There is something to compare with; faults that overlap share what was before the first of them."""
    return bool((_executed_within(data, window) & (data.bundles.due_ms < window.to_ms)).any())


def _around(data: RunData, whole: Window, times: _FaultTimes) -> dict[str, dict[str, Any]]:
    """A bundle that was on its way when the fault came belongs to the time of the fault."""
    bundles = data.bundles
    due_ms, executed_ms = bundles.due_ms, bundles.stage_ms["executed"]
    chosen = whole.holds(due_ms) & executed_mask(bundles)
    after = chosen & (due_ms >= times.end_ms) & (due_ms < times.until_ms)
    if times.until_ms < whole.to_ms:
        after &= executed_ms < times.until_ms
    parts = {
        "before": chosen & _executed_within(data, times.calm),
        "during": chosen & (executed_ms >= times.injected_ms) & (due_ms < times.end_ms),
        "after": after,
    }
    return {name: percentiles(executed_ms[mask] - due_ms[mask]) for name, mask in parts.items()}


def _recovery_ms(data: RunData, times: _FaultTimes, usual_p99_ms: float | None, *, has_next: bool) -> float | None:
    """From the fault until the last bundle in a row of delayed ones was executed; None if it was not over before the
    next fault or the end of the run, or if there is nothing to compare with.

    Delayed bundles that come after two seconds without any are another matter than this fault.
    """
    if usual_p99_ms is None:
        return None
    bundles, injected_ms = data.bundles, times.injected_ms
    executed = bundles.stage_ms["executed"]
    chosen = (bundles.due_ms >= injected_ms - usual_p99_ms) & (bundles.due_ms < times.until_ms)
    chosen &= ~bundles.is_outcome("refused", "unsent")
    # Dropped and skipped bundles are resolved too; only what never was resolved is late without end.
    latency = np.where(np.isnan(executed), np.inf, executed - bundles.due_ms)
    ends_ms = bundles.due_ms + latency
    late = chosen & (latency > RECOVERED_FACTOR * usual_p99_ms) & (ends_ms >= injected_ms)
    if has_next:
        # Of a bundle that was not late yet when the next fault came nobody knows which of the two delayed it.
        late &= bundles.due_ms + RECOVERED_FACTOR * usual_p99_ms < times.until_ms
    recovered_ms = injected_ms
    for due_ms, end_ms in zip(bundles.due_ms[late].tolist(), ends_ms[late].tolist(), strict=True):
        if due_ms > recovered_ms + 2 * MS_PER_S:
            break
        if np.isinf(end_ms) or (has_next and end_ms > times.until_ms):
            return None
        recovered_ms = max(recovered_ms, end_ms)
    return rounded(recovered_ms - injected_ms)
