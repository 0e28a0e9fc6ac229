"""Sentences and figures as both the terminal and the page say them."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.report.load_phases import RECOVERED_FACTOR
from benchmarks.report.results import Results
from benchmarks.report.run_data import shown_stage

NOT_KNOWN = "-"
INVARIANT_MEANINGS: Mapping[str, str] = {
    "accounts_add_up": "Due = accepted + refused + unsent, and every accepted bundle ended in exactly one way.",
    "bundle_order_equal": "Two bundles that meet on two rollups stand in the same order on both.",
    "every_accepted_resolved": "No bundle that the sequencer took was lost.",
    "firm_never_changed": "What was announced as firm is what stands in the end.",
    "no_unbundled": "No bundle had some legs admitted and others not, and all legs stand at one height.",
    "outcomes_match_legs": "The outcome of every bundle follows from the fates of its legs.",
    "rederivation_matches": "Deriving and executing the sequenced log again gives the same block hashes.",
    "replicas_agree": "All nodes of a rollup have the same block hashes.",
    "times_in_order": "No effect was seen before its cause, beyond what the clocks allow.",
    "no_partly_at_atomic_safe": "No bundle that became atomic-safe succeeded on one rollup and not on another.",
    "no_settled_abort": "No exit, mint, claim or settled import was made by a leg of an aborted bundle.",
    "ranges_contiguous": "The settled ranges of every rollup follow one another without a gap.",
    "settled_blocks_stand": "The last block of every settled range is the one that the rollup stands on.",
    "value_conserved": "Of every token, the rollups hold and have under way exactly what L1 holds in escrow for them.",
    "verdicts_agree": "All nodes took the same verdict of every height.",
}
FEW_SHARE = 0.005
"""Below this a cause is not worth naming in the headline."""


def number(value: float | None, digits: int = 0) -> str:
    """With thousands separated; a dash where there is none."""
    return NOT_KNOWN if value is None else f"{value:,.{digits}f}"


def milliseconds(value: float | None) -> str:
    """Three significant places at most, without the unit."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def rate(value: float | None) -> str:
    """Per second, without the unit."""
    if value is None:
        return NOT_KNOWN
    return f"{value:,.0f}" if value >= 1_000 else f"{value:,.1f}".removesuffix(".0")


def percent(value: float | None, digits: int = 1) -> str:
    """A share as percent."""
    return NOT_KNOWN if value is None else f"{value * 100:.{digits}f} %"


def theory_verdict(verdict: str, *, by_construction: bool, difference_share: float | None) -> str:
    """Of one line of expected against measured: also what agrees says by how much it differs."""
    if verdict == "not applicable":
        return verdict
    parts = [verdict, *(["by construction"] if by_construction and verdict == "agrees" else [])]
    if difference_share is not None:
        parts.append(f"{difference_share * 100:+.1f} %")
    return ", ".join(parts)


def natural(name: str) -> list[tuple[int, str]]:
    """Sort key that puts rollup-2 before rollup-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def stage_name(stage: str, results: Results) -> str:
    """A stage as it is shown; whoever reads of a proof reads what kind it is."""
    plain = shown_stage(stage)
    kind = _settlement(results).get("proof", {}).get("kind")
    return f"{plain} ({kind})" if stage == "proved" and kind else plain


def _settlement(results: Results) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (results.atomicity or {}).get("settlement", {})
    return found


def all_or_none(results: Results) -> str:
    """The line everyone looks for."""
    split, due = results.bundles["unbundled"], results.bundles["sequenced"]
    if split:
        return f"ALL LEGS OR NONE BROKE: {split:,} of {due:,} sequenced bundles were split"
    if results.invariants.get("no_unbundled") is False:
        return f"ALL LEGS OR NONE BROKE: {results.invariant_details['no_unbundled']['detail']}"
    if not due:
        return "All legs or none: nothing was sequenced, so nothing was shown"
    if results.invariants_not_checked:
        return f"All legs or none held in {due:,} sequenced bundles, as far as was checked"
    return f"All legs or none held: {due:,} bundles sequenced, 0 split"


def headline(results: Results) -> str:
    """Throughput and whether it kept up."""
    offered, completed = results.offered_per_s, results.completed_per_s
    if results.saturation and results.saturation["found"]:
        kind = "Saturates at" if results.saturation["limit_reached"] else "Still carried the highest step:"
        return f"{kind} {rate(completed)} bundles/s ({rate(offered)}/s offered)"
    if not offered:
        return "No bundle was due in the measured window"
    if results.kept_up:
        return f"Carried {rate(completed)} bundles/s, all of the {rate(offered)}/s offered"
    what = f"{rate(completed)} bundles/s completed, {percent(completed / offered)} of the {rate(offered)}/s offered"
    stage = completed_at(results)
    row = results.latency_ms.get(stage, {"count": 0, "failures": 0})
    never = row["failures"] / max(1, row["count"] + row["failures"])
    causes = [f"{percent(never)} were never {shown_stage(stage)}"] if never > FEW_SHARE else []
    if (growth_ms := results.load["latency_growth_ms"]) > FEW_SHARE * 1_000 * _window_s(results):
        causes.append(f"a backlog grew by {milliseconds(growth_ms)} ms")
    # Refused, dropped and skipped bundles can be what the workload provokes; only a backlog shows that the system is
    # slow.
    backlog = growth_ms > FEW_SHARE * 1_000 * _window_s(results)
    start = "Did not keep up" if backlog else f"Not everything was {shown_stage(stage)}"
    return f"{start}: {what}" + (f" ({', '.join(causes)})" if causes else "")


def completed_at(results: Results) -> str:
    """The stage at which a bundle counts as completed."""
    return str((results.atomicity or {}).get("completed_at", "executed"))


def _window_s(results: Results) -> float:
    return float(results.load["measured_to_s"] - results.load["measured_from_s"])


def bounds(results: Results) -> str:
    """Throughput as a share of what the engines alone can do."""
    bound = results.engine_bound
    if bound.get("share") is None:
        return "Engine bound: not measured in this run"
    parts = [f"{percent(bound['share'])} of the bare engines ({rate(bound['bundles_per_s_bare'])}/s)"]
    if bound.get("share_with_recovery") is not None:
        recovery = rate(bound["bundles_per_s_with_recovery"])
        parts.append(f"{percent(bound['share_with_recovery'])} of engines plus signature recovery ({recovery}/s)")
    return ", ".join(parts) + ", measured in this run"


def bounded_by(results: Results) -> str:
    """What kept the run from more."""
    names = {
        "nothing": "Bounded by nothing",
        "cores": "Bounded by the cores",
        "block_limit": "Bounded by the size limit of a block",
        "generator": "Bounded by the load generator",
        "outcomes": "Bounded by outcomes, not by speed",
        "unknown": "What bounded it is not known",
    }
    what = results.bounded_by["what"]
    return f"{names.get(what, f'Bounded by {what}')}: {results.bounded_by['detail']}"


def invariant_meaning(name: str) -> str:
    """What an invariant says, in a sentence; empty for one that only the run knows."""
    return INVARIANT_MEANINGS.get(name, "")


def outcomes(results: Results) -> list[tuple[str, int]]:
    """Outcomes that occurred, in words; succeeded always."""
    names = ("succeeded", "partly_succeeded", "reverted", "skipped", "aborted", "dropped", "refused", "unsent", "lost")
    return [
        (name.replace("_", " "), results.bundles[name])
        for name in names
        if results.bundles[name] or name == "succeeded"
    ]


def reasons(results: Results) -> list[tuple[str, Mapping[str, int]]]:
    """Why bundles were dropped or skipped."""
    pairs = (("dropped", results.dropped_by_reason), ("skipped", results.skipped_by_reason))
    return [(name, by_reason) for name, by_reason in pairs if by_reason]


def invariants(results: Results) -> str:
    """How many hold."""
    held = sum(results.invariants.values())
    text = f"{held} of {len(results.invariants)} hold"
    broken = [name for name, ok in results.invariants.items() if not ok]
    if broken:
        text += f"; BROKEN: {', '.join(broken)}"
    if results.invariants_not_checked:
        text += f"; not checked: {', '.join(results.invariants_not_checked)}"
    return text


def configuration(results: Results) -> list[tuple[str, str]]:
    """The run's parameters."""
    conf, load = results.configuration, results.load
    network = (
        f"{conf.get('rollups', NOT_KNOWN)} rollups, {results.backend} sequencer, "
        f"{blocks(conf)}, {conf.get('launcher', NOT_KNOWN)} launcher"
    )
    if conf.get("replicas", 1) > 1:
        network += f", {conf['replicas']} replicas"
    if not conf.get("verify_proofs", True):
        network += ", proofs NOT verified"
    if results.atomicity is not None:
        network += f", atomicity {results.atomicity['mode']}"
    kind = f"{conf['workload']}, {conf.get('legs_per_bundle', NOT_KNOWN)} legs, {conf['popularity']} rollups"
    rows = [
        ("Testnet", network),
        *([("Order", str(conf["backend_is"]))] if conf.get("backend_is") else []),
        ("Workload", f"{kind}, {conf.get('accounts_per_rollup', NOT_KNOWN)} accounts per rollup"),
        ("Load", _load(results)),
        ("Measured", f"{load['measured']}: {load['measured_from_s']:g} s to {load['measured_to_s']:g} s"),
        ("Machine", machine(results)),
        ("Clocks", _clocks(float(conf["clock_residual_ms"]))),
        ("Source", f"commit {short_commit(str(conf.get('commit') or NOT_KNOWN))}, seed {conf.get('seed', NOT_KNOWN)}"),
    ]
    if started := conf.get("started_wall_ns"):
        rows.append(("Started", f"{datetime.fromtimestamp(started / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"))
    if (ready := conf.get("ready_s")) is not None:
        rows.append(("Ready", f"{ready:.1f} s after the start"))
    if conf.get("overrides"):
        rows.append(("Overrides", ", ".join(conf["overrides"])))
    return rows + [("Left out", note) for note in conf.get("notes") or ()]


def blocks(conf: Mapping[str, Any]) -> str:
    """How often there are blocks, and how many of them make a height."""
    interval_ms, height_ms = conf.get("block_interval_ms"), conf.get("height_interval_ms")
    if interval_ms is None:
        return f"{NOT_KNOWN} ms blocks"
    gathered = f" in heights of {height_ms:,g} ms" if height_ms and height_ms != interval_ms else ""
    return f"{interval_ms:,g} ms blocks{gathered}"


def _clocks(residual_ms: float) -> str:
    if not residual_ms:
        return "one for all nodes"
    return f"of several machines, aligned within {residual_ms:.3f} ms: an error bar on every latency"


def short_commit(commit: str) -> str:
    """Twelve digits, and whether the tree was changed."""
    name, dash, rest = commit.partition("-")
    return name[:12] + dash + rest


def _load(results: Results) -> str:
    load, phases = results.load, results.phases
    arrivals = results.configuration["arrivals"].replace("poisson", "Poisson")
    if load["kind"] == "sweep" and phases:
        highest = rate(max(row["rate_per_s"] for row in phases))
        steps = f"from {rate(phases[0]['rate_per_s'])} to {highest}/s in {len(phases)} steps"
        return f"sweep {steps}, {arrivals} arrivals"
    if load["kind"] == "burst" and phases:
        peak = rate(max(row["rate_per_s"] for row in phases))
        return f"burst of {peak}/s over {rate(phases[0]['rate_per_s'])}/s, {arrivals} arrivals"
    asked = f"{rate(phases[0]['rate_per_s'])} bundles/s" if phases else f"{rate(results.offered_per_s)} bundles/s"
    return f"{asked} for {load['load_s']:g} s, {arrivals} arrivals"


def machine(results: Results) -> str:
    """Cores, memory, processor."""
    return machine_text(results.machine)


def machine_text(of: Mapping[str, Any]) -> str:
    """The same from what run.json says of it."""
    memory = of.get("memory_bytes")
    parts = [
        f"{of.get('cores', NOT_KNOWN)} cores",
        f"{memory / 2**30:.1f} GiB" if memory else "",
        str(of.get("cpu") or ""),
        str(of.get("kernel") or ""),
        " ".join(str(of.get(key) or "") for key in ("cloud", "product")).strip(),
    ]
    return ", ".join(part for part in parts if part and "unknown" not in part)


def cost(results: Results) -> str:
    """CPU and memory in a sentence."""
    sums = results.totals
    if not results.resources:
        return "not recorded"
    parts = []
    if sums["cpu_us_per_bundle"] is not None:
        parts.append(f"{number(sums['cpu_us_per_bundle'])} us of CPU per bundle{_of_it_beside(results)}")
    if sums["cores_used"] is not None:
        parts.append(f"{sums['cores_used']:.2f} cores in use while measured")
    parts.append(f"{number(sums['pss_mb'])} MB in all nodes")
    return ", ".join(parts)


def _of_it_beside(results: Results) -> str:
    """Whether the node of the chain that orders is counted."""
    sums = results.totals
    if sums.get("beside_is"):
        return (
            f" (of it {number(sums['beside_us_per_bundle'])} us in the {sums['beside_is']}, which also holds "
            f"{number(sums['beside_pss_mb'])} MB)"
        )
    return " (without the chain that orders)" if results.costs is not None else ""


def biggest_stages(results: Results, count: int = 4) -> str:
    """Where most of the CPU goes."""
    stages = list(results.stage_cpu_us_per_bundle.items())
    shown = [f"{name} {number(value)}" for name, value in stages[:count]]
    rest = sum(value for _, value in stages[count:])
    return ", ".join([*shown, *([f"others {number(rest)}"] if rest else [])])


def recoveries(results: Results) -> Sequence[str]:
    """Faults and bursts, a sentence each."""
    lines = [_fault(fault) for fault in results.faults]
    burst: Mapping[str, Any] | None = results.burst
    if burst is not None:
        gone = f"gone {milliseconds(burst['recovery_ms'])} ms after the burst" if burst["recovered"] else "never gone"
        lines.append(
            f"burst: backlog of up to {burst['peak_backlog']:,} bundles (usually {burst['normal_backlog']:,}), {gone}"
        )
    return lines


def _fault(fault: Mapping[str, Any]) -> str:
    """What a fault did to latency, and how long; of one that could not be carried out only why."""
    what = f"{fault['kind']} of {fault['target'] or 'the testnet'} at {fault['injected_s']:g} s"
    if not fault["carried_out"]:
        return f"{what}: not carried out ({fault['problem']})"
    parts = ", ".join(f"{name} {milliseconds(row['p99'])}" for name, row in fault["executed_ms"].items())
    problem = f" ({fault['problem']})" if fault["problem"] else ""
    return f"{what}: executed p99 in ms {parts}; {_recovered(fault)}{problem}"


def _recovered(fault: Mapping[str, Any]) -> str:
    recovery_ms = fault["recovery_ms"]
    if fault["executed_ms"]["before"]["p99"] is None:
        return "nothing was executed before it to compare with"
    if recovery_ms is None:
        next_s = fault["next_s"]
        return (
            "not recovered within the run" if next_s is None else f"not recovered before the next fault at {next_s:g} s"
        )
    if not recovery_ms:
        return f"no bundle took longer than {RECOVERED_FACTOR:g} times the p99 before"
    return f"recovered after {milliseconds(recovery_ms)} ms"
