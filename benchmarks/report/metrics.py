"""The figures by which runs are compared, and the settings that must be equal for it; read from results.json.

Knows single runs only. How figures of several runs are weighed is `repeats` and `verdicts`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import wording
from benchmarks.report.run_data import BrokenRunDirectory

FLOOR_MS = 2.0
"""A latency that moved by less is the scheduler's, however large the share."""
SAID_ALREADY = ("rate_per_s", "duration_s", "warmup_s", "cooldown_s", "kind", "legs", "sweep_start_per_s")
"""Last part of overrides that show in other settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One line of a comparison."""

    name: str
    unit: str
    value: Callable[[Mapping[str, Any]], float | None]
    more_is_better: bool
    floor: float = 0.0
    judged: bool = True
    """Whether it can make a regression."""
    headline: bool = False
    """Whether a verdict in words names it."""


def _at(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    def find(results: Mapping[str, Any]) -> float | None:
        value: Any = results
        for key in path:
            value = value.get(key) if isinstance(value, Mapping) else None
        return None if value is None else float(value)

    return find


def _memory_per_node(results: Mapping[str, Any]) -> float | None:
    nodes = results.get("resources") or {}
    return float(results["totals"]["pss_mb"]) / len(nodes) if nodes else None


def _share_of_engines(results: Mapping[str, Any]) -> float | None:
    share = _at("engine_bound", "share")(results)
    return None if share is None else round(100 * share, 2)


def _share(outcome: str) -> Callable[[Mapping[str, Any]], float | None]:
    """Of the bundles that were executed, in percent; only of runs that say what they promise of legs that fail."""

    def find(results: Mapping[str, Any]) -> float | None:
        counts = results["bundles"]
        ran = counts["executed"] + counts["aborted"]
        return round(100 * counts[outcome] / ran, 4) if ran and results.get("atomicity") else None

    return find


def _created(results: Mapping[str, Any]) -> float | None:
    """Value that no escrow backs, over all tokens, in their smallest units."""
    money = (results.get("atomicity") or {}).get("conservation")
    return None if money is None else float(sum(token["difference"] for token in money["tokens"]))


def _of_layer(name: str, unit: str, *path: str, floor: float = 0.0, judged: bool = True) -> Metric:
    return Metric(name=name, unit=unit, value=_at("atomicity", *path), more_is_better=False, floor=floor, judged=judged)


METRICS: Sequence[Metric] = (
    Metric(name="offered", unit="bundles/s", value=_at("offered_per_s"), more_is_better=True, judged=False),
    Metric(name="completed", unit="bundles/s", value=_at("completed_per_s"), more_is_better=True, headline=True),
    *(
        Metric(
            name=f"{stage} {name}",
            unit="ms",
            value=_at("latency_ms", stage, name),
            more_is_better=False,
            floor=FLOOR_MS,
            headline=name == "p50",
        )
        for stage in ("accepted", "sequenced", "firm", "executed", "atomic_safe", "settled", "final")
        for name in ("p50", "p99")
    ),
    Metric(
        name="executed p50",
        unit="blocks",
        value=_at("latency_blocks", "executed", "p50"),
        more_is_better=False,
        judged=False,
    ),
    Metric(name="share of bare engines", unit="%", value=_share_of_engines, more_is_better=True, judged=False),
    Metric(
        name="CPU per bundle", unit="us", value=_at("totals", "cpu_us_per_bundle"), more_is_better=False, floor=10.0
    ),
    Metric(name="memory per node", unit="MB", value=_memory_per_node, more_is_better=False, floor=5.0),
    Metric(name="partly succeeded", unit="%", value=_share("partly_succeeded"), more_is_better=False, judged=False),
    Metric(name="aborted", unit="%", value=_share("aborted"), more_is_better=False, judged=False),
    Metric(name="value out of nothing", unit="units", value=_created, more_is_better=False, judged=False),
    _of_layer("atomic-safe after executed p50", "ms", "atomic_safe", "after_executed_ms", "p50", floor=FLOOR_MS),
    _of_layer("bundles paid from the bond", "", "bond", "paid", judged=False),
    _of_layer("rounds per height", "", "rounds", "mean", judged=False),
    _of_layer("possible collateral", "bundles", "aborts", "struck_together", judged=False),
    _of_layer("reorg depth p99", "heights", "reorgs", "depth_heights", "p99", judged=False),
    _of_layer("L1 gas per bundle", "gas", "settlement", "gas", "per_bundle", floor=100.0),
    Metric(
        name="gRPC between nodes per bundle",
        unit="bytes",
        value=_at("totals", "wire_bytes_per_bundle"),
        more_is_better=False,
        floor=100.0,
        judged=False,
    ),
    Metric(
        name="lamports per bundle",
        unit="",
        value=_at("costs", "per_bundle", "lamports"),
        more_is_better=False,
    ),
)


def proof_kind_of(run: Mapping[str, Any]) -> str:
    """attested or modelled; empty where a run proved nothing."""
    settlement = (run.get("atomicity") or {}).get("settlement") or {}
    return str(settlement.get("proof", {}).get("kind", ""))


def read_results(run_dir: Path) -> Mapping[str, Any]:
    """results.json of a run. Raises BrokenRunDirectory where there is none."""
    path = run_dir / "results.json"
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BrokenRunDirectory(f"{path} cannot be read ({error}); `lockstep report {run_dir}` writes it") from error
    if not isinstance(results, dict) or "latency_ms" not in results:
        raise BrokenRunDirectory(f"{path} is not a result of Lockstep")
    return results


def settings_of(run: Mapping[str, Any]) -> dict[str, str]:
    """What a reader must know to be the same, as texts."""
    conf = run["configuration"]
    keys = ("launcher", "rollups", "legs_per_bundle", "block_interval_ms", "seed", "workload", "popularity", "arrivals",
            "replicas", "verify_proofs", "commit")  # fmt: skip
    settings = {key: str(conf[key]) for key in keys if key in conf}
    settings["atomicity"] = str((run.get("atomicity") or {}).get("mode", "inclusion"))
    if conf.get("backend_is"):
        settings["order"] = str(conf["backend_is"])
    if conf.get("height_interval_ms", conf.get("block_interval_ms")) != conf.get("block_interval_ms"):
        settings["height_interval_ms"] = f"{conf['height_interval_ms']:g}"
    settings |= {"scenario": str(run["scenario"]), "backend": str(run["backend"]), "machine": _machine(run)}
    settings["load"] = str(run["load"]["kind"])
    if settings["load"] != "sweep":
        # A sweep chooses its steps by what it finds.
        settings["load_s"] = str(run["load"]["load_s"])
        settings["rates_per_s"] = ", ".join(f"{phase['rate_per_s']:g}" for phase in run["phases"])
    settings["commit"] = wording.short_commit(settings.get("commit", wording.NOT_KNOWN))
    for override in conf.get("overrides", []):
        key, _, value = str(override).partition("=")
        if key.rpartition(".")[2] not in (*settings, *SAID_ALREADY):
            settings[f"set {key}"] = value
    return settings


def _machine(run: Mapping[str, Any]) -> str:
    of = run["machine"]
    return f"{of.get('cores')} x {of.get('cpu')}"
