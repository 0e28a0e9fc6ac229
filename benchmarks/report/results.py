"""Everything that a report says, computed once from a run directory. Rendering it is other modules' work.

`results.json` is this object. A terminal, a page and a table only print it; a figure adds curves from the same arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.report import accounting, load_phases, resources, theory, validity
from benchmarks.report.atomic import atomicity_results
from benchmarks.report.costs import cost_results
from benchmarks.report.divergence import (
    divergence_findings,
    divergence_reasons,
    divergence_results,
    divergence_warnings,
)
from benchmarks.report.links import link_results, link_warnings
from benchmarks.report.run_data import FATES, RunData
from benchmarks.report.slowest import slowest_bundles
from benchmarks.report.stats import (
    PERCENTILE_METHOD,
    Pace,
    Window,
    completed_method,
    completed_per_s,
    executed_mask,
    in_blocks,
    latency_growth_ms,
    latency_table,
    offered_per_s,
    rounded,
)

FORMAT = 1
METHOD = {"percentiles": PERCENTILE_METHOD, "latency": "from the intended time"}
BACKLOG_SHARE = 0.005
"""Growth of the median latency, of the window's length, from which a backlog is what was in the way."""
EXPECTED_INVARIANTS = (
    "no_unbundled",
    "replicas_agree",
    "firm_never_changed",
    "accounts_add_up",
    "every_accepted_resolved",
)
"""Checked in every run; a report says so where one was not."""
EXPECTED_WITH_VERDICTS = (
    "no_partly_at_atomic_safe",
    "verdicts_agree",
    "no_settled_abort",
    "value_conserved",
)
"""Checked where verdicts decide."""
EXPECTED_WITH_SETTLEMENT = ("ranges_contiguous", "settled_blocks_stand")


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Fields in the order of results.json. Latencies count from the intended time of each bundle."""

    format: int
    valid: bool
    invalid_reasons: Sequence[str]
    warnings: Sequence[str]
    findings: Sequence[str]
    """Disagreements with theory and other surprises; none of them makes a run invalid."""
    scenario: str
    backend: str
    kept_up: bool
    """Completed at least 99 % of what was offered."""
    offered_per_s: float
    completed_per_s: float
    bundles: Mapping[str, int]
    dropped_by_reason: Mapping[str, int]
    skipped_by_reason: Mapping[str, int]
    legs: Mapping[str, int]
    latency_ms: Mapping[str, Mapping[str, Any]]
    latency_blocks: Mapping[str, Mapping[str, Any]]
    expected_ms: Mapping[str, Mapping[str, Any]]
    expected_vs_measured: Sequence[Mapping[str, Any]]
    invariants: Mapping[str, bool]
    invariant_details: Mapping[str, Mapping[str, Any]]
    invariants_not_checked: Sequence[str]
    engine_bound: Mapping[str, Any]
    bounded_by: Mapping[str, str]
    resources: Mapping[str, Mapping[str, Any]]
    totals: Mapping[str, Any]
    stage_cpu_us_per_bundle: Mapping[str, float]
    load: Mapping[str, Any]
    phases: Sequence[Mapping[str, Any]]
    saturation: Mapping[str, Any] | None
    burst: Mapping[str, Any] | None
    faults: Sequence[Mapping[str, Any]]
    recovery: Mapping[str, Any]
    generator: Mapping[str, Any]
    slowest: Sequence[Mapping[str, Any]]
    configuration: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    method: Mapping[str, str]
    atomicity: Mapping[str, Any] | None
    """Verdicts, value and settlement; None for a run without an aggregation layer, and then not in results.json."""
    costs: Mapping[str, Any] | None
    """What the order cost outside; None, and then not in results.json, where the backend pays nobody."""
    divergence: Mapping[str, Any] | None
    """The check of the engines by a second EVM; None, and then not in results.json, where none was checked."""
    links: Mapping[str, Any] | None
    """Emulated links; None, and then not in results.json, where there are none."""

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        absent = ("atomicity", "costs", "divergence", "links")
        return {name: value for name, value in asdict(self).items() if name not in absent or value is not None}


def compute_results(data: RunData) -> Results:
    """All figures of a run."""
    pace = theory.pace_of(data)
    phases = load_phases.phase_results(data, pace)
    window, window_is = load_phases.headline_window(data, phases)
    verdict = accounting.judge_legs(data)
    counts = accounting.count_bundles(data, verdict)
    invariants = accounting.check_invariants(data, counts, verdict)
    unchecked = [name for name in _expected_invariants(data) if name not in invariants]
    latency = latency_table(data.bundles, window)
    offered = offered_per_s(data.bundles, window)
    completed = completed_per_s(data.bundles, window, pace)
    kept_up = bool(offered and completed >= load_phases.SUSTAINED_SHARE * offered)
    health = validity.generator_health(data, window)
    bound = resources.engine_bound(data, completed)
    expected = theory.expected_ms(data, offered_per_s=offered, bound_per_s=bound["bundles_per_s_with_recovery"])
    compared = theory.compare_with_theory(expected, latency)
    layer = atomicity_results(data, window)
    links = link_results(data)
    divergence = divergence_results(data)
    use, executed = resources.node_use(data), int(executed_mask(data.bundles).sum())
    sums = resources.totals(data, use, bundles=executed, window=window)
    invalid = validity.invalid_reasons(data, counts=counts, invariants=invariants, health=health)
    invalid += [*validity.layer_reasons(data, layer), *divergence_reasons(divergence)]
    found = load_phases.saturation(phases, load_phases.p99_bound_ms(data))
    limiting = load_phases.limiting_window(phases, found) or window
    late = bool(validity.generator_reasons(health, counts["due"]))
    return Results(
        format=FORMAT,
        valid=not invalid,
        invalid_reasons=invalid,
        warnings=[
            *validity.warnings(data, measured=latency, sums=sums, health=health, bound=bound, unchecked=unchecked),
            *validity.layer_warnings(layer, window, height_ms=pace.height_ms),
            *link_warnings(links),
            *divergence_warnings(divergence),
        ],
        findings=[*theory.theory_findings(compared), *_saturation_findings(found), *divergence_findings(divergence)],
        kept_up=kept_up,
        offered_per_s=offered,
        completed_per_s=completed,
        bundles=counts,
        dropped_by_reason=_reasons(data, "dropped"),
        skipped_by_reason=_reasons(data, "skipped"),
        legs=_leg_counts(data),
        latency_ms=latency,
        latency_blocks=in_blocks(latency, pace.height_ms),
        expected_ms=expected,
        expected_vs_measured=compared,
        invariants={name: entry["ok"] for name, entry in invariants.items()},
        invariant_details=invariants,
        invariants_not_checked=unchecked,
        engine_bound=bound,
        bounded_by=_bounded_by(data, limiting, pace, kept_up=kept_up and limiting is window, generator_late=late),
        resources=resources.resource_table(use),
        totals=sums,
        stage_cpu_us_per_bundle=resources.stage_cpu(data, use, bundles=executed),
        load=_load(data, window, window_is, pace),
        phases=phases,
        saturation=found,
        burst=load_phases.burst_recovery(data),
        faults=load_phases.fault_results(data),
        generator=health,
        slowest=slowest_bundles(data, window),
        method=METHOD | {"completed_per_s": completed_method(data.bundles)},
        atomicity=layer,
        costs=cost_results(data, bundles=counts["sequenced"]),
        divergence=divergence,
        links=links,
        **_as_recorded(data),
    )


def _as_recorded(data: RunData) -> dict[str, Any]:
    """What is taken over from run.json as it stands."""
    return {
        "scenario": str(data.run.get("scenario", "")),
        "backend": str(data.run.get("backend", "")),
        "recovery": dict(data.run.get("recovery") or {}),
        "configuration": _configuration(data),
        "versions": {str(name): str(version) for name, version in sorted(data.run.get("versions", {}).items())},
        "machine": dict(data.run.get("machine") or {}),
    }


def _expected_invariants(data: RunData) -> list[str]:
    return [
        *EXPECTED_INVARIANTS,
        *(EXPECTED_WITH_VERDICTS if data.has_verdicts else ()),
        *(EXPECTED_WITH_SETTLEMENT if data.settles else ()),
    ]


def _saturation_findings(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    if not found["found"]:
        return [f"no saturation point: {found['note']}"]
    if not found["limit_reached"]:
        return [f"the sweep did not reach the limit: {found['rate_per_s']:,.0f}/s was still sustained"]
    return []


def _reasons(data: RunData, outcome: str) -> dict[str, int]:
    return accounting.tally(data.bundles.drop_reason[data.bundles.is_outcome(outcome)])


def _leg_counts(data: RunData) -> dict[str, int]:
    """Legs of accepted bundles by fate; the legs of bundles that never left are not missing."""
    sent = set(data.bundles.ids[~data.bundles.is_outcome("refused", "unsent")].tolist())
    names = [name for name in FATES if name != "aborted" or data.has_verdicts]
    if len(sent) == len(data.bundles):
        return {name: int(data.legs.is_fate(name).sum()) for name in names}
    inside = np.isin(data.legs.bundle_ids, list(sent))
    return {name: int((data.legs.is_fate(name) & inside).sum()) for name in names}


def _bounded_by(data: RunData, window: Window, pace: Pace, *, kept_up: bool, generator_late: bool) -> dict[str, str]:
    grew = False
    if window.seconds:
        growth_ms = latency_growth_ms(data.bundles, window, pace)
        grew = growth_ms > BACKLOG_SHARE * (window.to_ms - window.from_ms)
    return resources.bounded_by(data, window, kept_up=kept_up, backlog_grew=grew, generator_late=generator_late)


def _load(data: RunData, window: Window, window_is: str, pace: Pace) -> dict[str, Any]:
    growth_ms = latency_growth_ms(data.bundles, window, pace) if window.seconds else 0.0
    return {
        "kind": load_phases.load_kind(data),
        "measured": window_is,
        "measured_from_s": rounded(window.from_ms / 1_000),
        "measured_to_s": rounded(window.to_ms / 1_000),
        "latency_growth_ms": rounded(growth_ms),
        "load_s": rounded((data.since_start_ms("load_end_ns") or 0.0) / 1_000),
        "drained_s": None if (drained := data.since_start_ms("drained_ns")) is None else rounded(drained / 1_000),
        "p99_bound_ms": load_phases.p99_bound_ms(data),
        "interrupted": bool(data.run.get("interrupted")),
        "interrupt_reason": str(data.run.get("interrupt_reason") or ""),
    }


def _configuration(data: RunData) -> dict[str, Any]:
    run = data.run
    keys = (
        "command",
        "description",
        "launcher",
        "seed",
        "rollups",
        "legs_per_bundle",
        "block_interval_ms",
        "backend_is",
        "accounts_per_rollup",
        "commit",
        "started_wall_ns",
        "ready_s",
        "tracing",
        "atomicity",
        "notes",
    )
    chosen = {key: run[key] for key in keys if key in run}
    workload = data.scenario.get("workload", {})
    chosen["workload"] = str(run.get("workload") or workload.get("kind", "transfer"))
    chosen["popularity"] = str(workload.get("popularity", "uniform"))
    chosen["arrivals"] = str(data.scenario.get("load", {}).get("arrivals", "poisson"))
    chosen["replicas"] = int(run.get("replicas") or data.scenario.get("testnet", {}).get("replicas", 1))
    chosen["verify_proofs"] = bool(run.get("verify_proofs", data.scenario.get("rollup", {}).get("verify_proofs", True)))
    chosen["overrides"] = list(data.overrides)
    chosen["height_interval_ms"] = data.height_ms
    chosen["backend_settings"] = dict(run.get("backend_settings") or {})
    chosen["clock_residual_ms"] = rounded(accounting.clock_residual_ms(data))
    return chosen
