"""What a comparison of backends says beyond its figures: ladder, costs, theory beside measurement, and trust.

Reads results and run.json of each side's runs; a side is a backend with its repeats.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report.repeats import Spread
from benchmarks.report.run_data import STAGES, BrokenRunDirectory, shown_stage
from benchmarks.report.stats import rounded

LADDER = ("accepted", "sequenced", "firm", "executed", "atomic_safe", "settled")
"""The rungs that every comparison shows or names as absent."""
ABSENT: Mapping[str, str] = {
    "atomic_safe": "there are no verdicts with this atomicity",
    "settled": "rollups send no certificates with this atomicity",
}
GRPC = "gRPC between nodes per bundle"
SHARED_COSTS: Sequence[tuple[str, str, tuple[str, ...]]] = (
    ("CPU per bundle", "us", ("totals", "cpu_us_per_bundle")),
    ("memory of all nodes", "MB", ("totals", "pss_mb")),
    (GRPC, "bytes", ("totals", "wire_bytes_per_bundle")),
    ("L1 gas per bundle", "gas", ("atomicity", "settlement", "gas", "per_bundle")),
)
PAID_NAMES: Mapping[str, tuple[str, str]] = {
    "lamports": ("lamports", ""),
    "solana_transactions": ("Solana transactions", ""),
    "posted_bytes": ("bytes posted", "bytes"),
}

Side = Sequence[tuple[Path, Mapping[str, Any]]]
"""(run directory, results) of each run that is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One stage of one side."""

    label: str
    stage: str
    p50_ms: Spread
    p99_ms: Spread
    expected_p50_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CostLine:
    """One kind of cost over all sides; None where a side has none of it."""

    name: str
    unit: str
    spreads: tuple[Spread | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TheoryRow:
    """Expected against measured of one side, stage and percentile; medians over its runs."""

    label: str
    stage: str
    percentile: str
    expected_ms: float
    measured_ms: Spread
    tolerance_ms: float
    verdict: str
    """agrees, slower, faster, or not applicable."""
    by_construction: bool
    difference_share: float | None
    """Measured more than expected, as a share of that; None where nothing is expected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendAbout:
    """What one backend promises and whom its users trust."""

    backend: str
    promises: Mapping[str, str]
    trust: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSections:
    """See the module's docstring."""

    ladder: tuple[Rung, ...]
    absent: tuple[str, ...]
    """Rungs that no side has, and why."""
    costs: tuple[CostLine, ...]
    setup: tuple[str, ...]
    """What sides paid before the load, and what their CPU holds, a sentence each."""
    theory: tuple[TheoryRow, ...]
    formulas: tuple[tuple[str, str, str], ...]
    """(label, stage, formula)."""
    findings: tuple[str, ...]
    about: tuple[BackendAbout, ...]


def backend_sections(labels: Sequence[str], sides: Sequence[Side]) -> BackendSections:
    """The sections. Raises BrokenRunDirectory where a run.json cannot be read."""
    theory = tuple(row for label, side in zip(labels, sides, strict=True) for row in _theory(label, side))
    ladder = tuple(rung for label, side in zip(labels, sides, strict=True) for rung in _rungs(label, side))
    seen = {rung.stage for rung in ladder}
    return BackendSections(
        ladder=ladder,
        absent=tuple(
            f"{rung_name(stage)}: {ABSENT.get(stage, 'nothing reached it')}" for stage in LADDER if stage not in seen
        ),
        costs=_costs(sides),
        setup=tuple(_setup(labels, sides)),
        theory=theory,
        formulas=tuple(
            (label, stage, str(row["formula"]))
            for label, side in zip(labels, sides, strict=True)
            if side
            for stage, row in side[0][1]["expected_ms"].items()
        ),
        findings=tuple(_findings(theory)),
        about=tuple(_about(sides)),
    )


def rung_name(stage: str) -> str:
    """A rung as it is shown."""
    return shown_stage(stage)


def _rungs(label: str, side: Side) -> list[Rung]:
    found = []
    for stage in STAGES:
        rows = [results["latency_ms"].get(stage) or {} for _, results in side]
        p50, p99 = (Spread.of([row.get(name) for row in rows]) for name in ("p50", "p99"))
        if p50 is None or p99 is None:
            continue
        expected = Spread.of([results["expected_ms"].get(stage, {}).get("p50") for _, results in side])
        found.append(
            Rung(
                label=label,
                stage=stage,
                p50_ms=p50,
                p99_ms=p99,
                expected_p50_ms=None if expected is None else expected.median,
            )
        )
    return found


# Costs


def _costs(sides: Sequence[Side]) -> tuple[CostLine, ...]:
    lines = []
    paying = sorted({str(results["backend"]) for side in sides for _, results in side if results.get("costs")})
    uncounted = f" (RPC of {' and '.join(name.capitalize() for name in paying)} not counted)"
    for name, unit, path in SHARED_COSTS:
        shown = name + (uncounted if name == GRPC and paying else "")
        lines.append(_cost_line(shown, unit, [[_at(results, path) for _, results in side] for side in sides]))
    paid = {
        name: None
        for side in sides
        for _, results in side
        for name in (results.get("costs") or {"per_bundle": ()})["per_bundle"]
    }
    for name in paid:
        shown, unit = PAID_NAMES.get(name, (name.replace("_", " "), ""))
        values = [[_at(results, ("costs", "per_bundle", name)) for _, results in side] for side in sides]
        lines.append(_cost_line(f"{shown} per bundle", unit, values))
    return tuple(line for line in lines if any(spread is not None and spread.high for spread in line.spreads))


def _cost_line(name: str, unit: str, values: Sequence[Sequence[float | None]]) -> CostLine:
    return CostLine(name=name, unit=unit, spreads=tuple(Spread.of(side) for side in values))


def _at(results: Mapping[str, Any], path: Sequence[str]) -> float | None:
    value: Any = results
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return None if value is None else float(value)


def _setup(labels: Sequence[str], sides: Sequence[Side]) -> list[str]:
    found = []
    for label, side in zip(labels, sides, strict=True):
        paid = (side[0][1].get("costs") or {}).get("setup") if side else None
        parts = [
            f"{total:,} {PAID_NAMES.get(name, (name.replace('_', ' '), ''))[0]}"
            for name, total in (paid or {}).items()
            if total
        ]
        if parts:
            found.append(f"{label} had paid {', '.join(parts)} before the load")
        if beside := side[0][1]["totals"].get("beside_is") if side else "":
            spent = Spread.of([results["totals"].get("beside_us_per_bundle") for _, results in side])
            assert spent is not None
            found.append(f"CPU and memory of {label} include the {beside}: {spent.median:,.0f} us per bundle")
        elif paid is not None:
            found.append(f"CPU and memory of {label} do not include a node of the chain that orders")
    return found


# Theory


def _theory(label: str, side: Side) -> list[TheoryRow]:
    rows: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for _, results in side:
        for row in results["expected_vs_measured"]:
            rows.setdefault((str(row["stage"]), str(row["percentile"])), []).append(row)
    found = []
    for (stage, percentile), entries in rows.items():
        expected, measured, tolerance = (
            Spread.of([float(entry[name]) for entry in entries])
            for name in ("expected_ms", "measured_ms", "tolerance_ms")
        )
        assert expected is not None
        assert measured is not None
        assert tolerance is not None
        difference = measured.median - expected.median
        verdict = "agrees" if abs(difference) <= tolerance.median else "slower" if difference > 0 else "faster"
        if any(entry["verdict"] == "not applicable" for entry in entries):
            verdict = "not applicable"
        found.append(
            TheoryRow(
                label=label,
                stage=stage,
                percentile=percentile,
                expected_ms=expected.median,
                measured_ms=measured,
                tolerance_ms=rounded(tolerance.median),
                verdict=verdict,
                by_construction=all(bool(entry["by_construction"]) for entry in entries),
                difference_share=rounded(difference / expected.median, 4) if expected.median else None,
            )
        )
    return found


def _findings(theory: Sequence[TheoryRow]) -> list[str]:
    return [
        f"{row.label}: {rung_name(row.stage)} {row.percentile} is {row.verdict} than expected: "
        f"{row.measured_ms.median:.1f} ms measured, {row.expected_ms:.1f} ms expected, "
        f"tolerance {row.tolerance_ms:.1f} ms"
        for row in theory
        if row.verdict in ("slower", "faster")
    ]


# Promises and trust


def _about(sides: Sequence[Side]) -> list[BackendAbout]:
    """Of each backend once, also where it stands on two sides."""
    found: dict[str, BackendAbout] = {}
    for side in sides:
        if not side:
            continue
        directory, results = side[0]
        run = _run_json(directory)
        backend = str(results["backend"])
        found[backend] = BackendAbout(
            backend=backend,
            promises={str(level): str(text) for level, text in (run.get("promises") or {}).items()},
            trust=tuple({str(key): str(value) for key, value in row.items()} for row in run.get("trust") or ()),
        )
    return list(found.values())


def _run_json(directory: Path) -> Mapping[str, Any]:
    path = directory / "run.json"
    try:
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenRunDirectory(f"{path} cannot be read ({error}); is {directory} a run directory?") from error
    return document
