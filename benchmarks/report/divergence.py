"""The check of the engines by a second EVM in a report: what was checked, at which rate, and what differs."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report.run_data import RunData
from benchmarks.report.stats import rounded

FOUND_SHOWN = 8
_MISSED = "the engine had forgotten them when it was asked"
NS_PER_S = 1_000_000_000
FAULT = "diverge"
"""The fault that makes an engine differ."""
_RATES = ("busy_s", "checked_per_s", "checked_per_cpu_s")


def divergence_results(data: RunData) -> dict[str, Any] | None:
    """What was checked by rollup and in all; None where no engine was."""
    account = data.run.get("divergence")
    if not account:
        return None
    rows = [
        {**row, **{name: None if row[name] is None else rounded(row[name]) for name in _RATES}}
        for row in account["rollups"]
    ]
    faults = [fault for fault in data.run.get("faults") or () if fault["kind"] == FAULT]
    sums = {name: sum(row[name] for row in rows) for name in ("total", "checked", "differing", "missed", "replaced",
            "waiting", "history")}  # fmt: skip
    # What was built and replaced before its turn stands on no chain.
    standing = sums["total"] - sums["replaced"]
    busy_s = sum(row["busy_s"] or 0 for row in rows)
    return {
        **account,
        **sums,
        "rollups": rows,
        "checked_share": rounded(sums["checked"] / standing) if standing else None,
        "checked_per_s": rounded(sum(row["checked_per_s"] or 0 for row in rows)),
        "checked_per_cpu_s": rounded(sums["checked"] / busy_s) if busy_s else None,
        "most_waiting": max((row.get("most_waiting") or 0 for row in rows), default=0),
        "injected": [fault["target"] for fault in faults if fault.get("carried_out", True)],
        "made": [_made(data, fault) for fault in faults if fault.get("carried_out", True)],
    }


def _made(data: RunData, fault: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a difference that a fault made: None where it was not found, or nobody would evict for it."""
    target, account = fault["target"], data.run["divergence"]
    at_ns = min((int(found["at_ns"]) for found in account["found"] if found["rollup"] == target), default=None)
    is_evicted = None
    if account["policy"] == "exclude" and data.has_verdicts and at_ns is not None:
        notices = data.run.get("notices") or ()
        is_evicted = any(notice["kind"] == "evict" and notice["rollup"] == target for notice in notices)
    return {
        "rollup": target,
        "found_after_s": None if at_ns is None else rounded((at_ns - int(fault["injected_ns"])) / NS_PER_S),
        "after_load_s": None if at_ns is None else rounded((at_ns - int(data.run["load_end_ns"])) / NS_PER_S),
        "is_evicted": is_evicted,
    }


def divergence_reasons(results: Mapping[str, Any] | None) -> list[str]:
    """Why the run is not valid: an engine that nobody made differ has another state than the second EVM."""
    if results is None:
        return []
    own = [found for found in results["found"] if found["rollup"] not in results["injected"]]
    return [f"STATE DIVERGENCE: {_sentence(found)}" for found in own[:FOUND_SHOWN]]


def divergence_warnings(results: Mapping[str, Any] | None) -> list[str]:
    """What limits the check's meaning."""
    if results is None:
        return []
    lines = []
    for row in results["rollups"]:
        name = row["rollup"]
        if results["mode"] == "all" and row["samples_from"]:
            lines.append(
                f"the second EVM checked {name} in full up to height {row['samples_from'] - 1} and by samples from "
                f"there on: {row['reason']}"
            )
        if row["missed"]:
            lines.append(f"{row['missed']:,} transactions of {name} were not checked: {row['reason'] or _MISSED}")
        if row["waiting"]:
            lines.append(
                f"{row['waiting']:,} transactions of {name} still waited for the second EVM at the end; it checked "
                f"{row['checked_per_s'] or 0:,.0f} per second"
            )
    found = {one["rollup"] for one in results["found"]}
    lines += [
        f"the difference that was made in {name} was not found"
        + (": samples check transitions on the engine's own state" if results["mode"] == "sample" else "")
        for name in results["injected"]
        if name not in found
    ]
    for made in results["made"]:
        if (late_s := made["after_load_s"]) is not None and late_s > 0:
            lines.append(
                f"the difference that was made in {made['rollup']} was found {late_s:.1f} s after the end of the load: "
                "nothing that followed from it was measured"
            )
        if made["is_evicted"] is False:
            lines.append(
                f"{made['rollup']} was not evicted before the run ended, although the second EVM found the difference "
                "and the policy is exclude; a longer load shows it"
            )
    return lines


def divergence_findings(results: Mapping[str, Any] | None) -> list[str]:
    """Differences that a fault of the scenario made."""
    if results is None:
        return []
    lines = [_sentence(found) for found in results["found"] if found["rollup"] in results["injected"]][:FOUND_SHOWN]
    return lines + [
        f"the difference that was made in {made['rollup']} was found {made['found_after_s']:.1f} s after it was made"
        for made in results["made"]
        if made["found_after_s"] is not None
    ]


def divergence_facts(results: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """The line of the terminal report."""
    if results is None:
        return []
    share = results["checked_share"]
    how = "all" if results["mode"] == "all" else f"samples, {results['sample_per_s']:g}/s and rollup,"
    differ = f"{results['differing']:,} differ" if results["differing"] else "none differs"
    line = (
        f"second EVM ({how}): {results['checked']:,} of {results['total'] - results['replaced']:,} transactions checked"
        + (f" ({100 * share:.1f} %)" if share is not None else "")
        + (f", {results['replaced']:,} more in blocks that were replaced" if results["replaced"] else "")
        + f", {differ}; {results['checked_per_s']:,.0f}/s"
    )
    if results["most_waiting"]:
        line += f"; at most {results['most_waiting']:,} of a rollup waited"
    if results["checked_per_cpu_s"]:
        line += f", {results['checked_per_cpu_s']:,.0f} per second of CPU"
    return [("State", line)]


def _sentence(found: Mapping[str, Any]) -> str:
    where = f"account 0x{found['account']} {found['field']}" if found["account"] else found["field"]
    return (
        f"{found['rollup']} height {found['height']}, block {found['number']}, transaction {found['position']} "
        f"0x{found['tx_hash']}: {where} is {found['engine']} by the engine, {found['checker']} by the second EVM "
        f"({found['policy']})"
    )
