"""Emulated links in a report: what was configured, what was applied, and what that adds to the expected latencies."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.report.run_data import RunData
from benchmarks.report.stats import rounded
from nodes.model.wide_area import CLIENTS, NOWHERE, SOLANA

LATE_MS = 5.0
LATE_SHARE = 0.1
"""Of the configured delay, with LATE_MS: beyond both the mean of what the relay itself added is worth a warning."""
PATHS_SHOWN = 6
SEQUENCER, BUILDER, AGGLAYER = "sequencer", "builder", "agglayer"
SOLANA_EXCHANGES = 2
"""Round trips of a reader that has heard of a block: which blocks are there, and what is in them."""


def link_results(data: RunData) -> dict[str, Any] | None:
    """Every link and direction that carried anything; None where none was emulated."""
    area = data.run.get("wide_area")
    if not area:
        return None
    rows = list(data.run.get("links") or ())
    used = [_row(row) for row in rows if row["chunks"] or row["connections"]]
    return {
        "regions": dict(area["regions"]),
        "places": _places(area["regions"]),
        "jitter_share": area["jitter_share"],
        "loss": area["loss"],
        "bandwidth_mbit": area["bandwidth_mbit"],
        "pairs": list(area["pairs"]),
        "links": used,
        "paths": _paths(used),
        "unused": len(rows) - len(used),
    }


def _places(regions: Mapping[str, str]) -> dict[str, list[str]]:
    """Nodes by region."""
    places: dict[str, list[str]] = {}
    for name, region in regions.items():
        places.setdefault(region, []).append(name)
    return places


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    times = {part: {name: rounded(value) for name, value in row[part].items()} for part in ("applied_ms", "late_ms")}
    return {**row, "configured_ms": rounded(row["configured_ms"]), **times}


def _paths(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Links by pair of regions and direction, the busiest first."""
    by_path: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["chunks"]:
            by_path.setdefault((row["from_region"], row["to_region"]), []).append(row)
    paths = []
    for (here, there), among in by_path.items():
        chunks = sum(row["chunks"] for row in among)
        paths.append(
            {
                "from_region": here,
                "to_region": there,
                "links": len(among),
                "chunks": chunks,
                "bytes": sum(row["bytes"] for row in among),
                "lost": sum(row["lost"] for row in among),
                "configured_ms": among[0]["configured_ms"],
                "applied_mean_ms": rounded(sum(row["applied_ms"]["mean"] * row["chunks"] for row in among) / chunks),
                "applied_p99_ms": max(row["applied_ms"]["p99"] for row in among),
            }
        )
    return sorted(paths, key=lambda path: -path["chunks"])


def link_facts(links: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """Name and sentence, for a terminal."""
    if links is None:
        return []
    rows = []
    for path in links["paths"][:PATHS_SHOWN]:
        lost = f", {path['lost']:,} chunks with a lost segment" if path["lost"] else ""
        rows.append(
            f"{path['from_region']} to {path['to_region']}: {path['configured_ms']:g} ms one way, applied mean "
            f"{path['applied_mean_ms']:.1f}, p99 {path['applied_p99_ms']:.1f} ms{lost}"
        )
    left_out = len(links["paths"]) - PATHS_SHOWN
    if left_out > 0:
        rows.append(f"{left_out} more ways between regions stand in the page and in results.json")
    if not rows:
        rows.append("no two nodes that talk stand in different regions")
    return [("Links" if at == 0 else "", row) for at, row in enumerate(rows)]


def link_warnings(links: Mapping[str, Any] | None) -> list[str]:
    """Where the emulation itself was too slow to be what it says."""
    if links is None:
        return []
    late = [
        row
        for row in links["links"]
        if row["chunks"] and row["late_ms"]["mean"] > max(LATE_MS, LATE_SHARE * row["configured_ms"])
    ]
    if not late:
        return []
    worst = max(late, key=lambda row: float(row["late_ms"]["mean"]))
    how_late = f"{worst['from']} to {worst['to']} by {worst['late_ms']['mean']:.1f} ms on average"
    reason = "the machine is too busy for the delays configured"
    several = "1 emulated link was late by itself"
    if len(late) > 1:
        several = f"{len(late)} emulated links were late by themselves"
    return [f"{several}, {how_late}: {reason}"]


# What the arithmetic of expected latencies needs


def add_links(data: RunData, stages: Mapping[str, dict[str, Any]]) -> None:
    """Add the ways that a bundle goes to the expected latency of each stage, in place."""
    area = data.run.get("wide_area")
    if not area:
        return
    to_order_ms, how = _to_order_ms(data)
    for stage in ("sequenced", "firm", "executed"):
        if stage not in stages:
            continue
        added = {"p50": to_order_ms, "p99": to_order_ms}
        text = how
        if stage == "executed":
            to_rollups = _to_rollups_ms(data)
            added = {name: added[name] + to_rollups[name] for name in added}
            text += f" and to the farthest of a bundle's rollups (p50 {to_rollups['p50']:.1f} ms)"
        entry = stages[stage]
        for name, value in added.items():
            entry[name] = rounded(entry[name] + value)
        entry["formula"] += f"; plus the emulated ways with their mean jitter: {text}"


def exchange_ms(data: RunData) -> float:
    """Emulated part of an exchange of reports and a verdict, beyond the way on which a bundle came to its rollups.

    The verdict waits for the slowest report of a height and comes back to the rollups of the bundle.
    """
    if not data.run.get("wide_area"):
        return 0.0
    rollups = sorted(set(data.legs.rollup.tolist()))
    if not rollups:
        return 0.0
    reported = max(_way_ms(data, SEQUENCER, name) + _way_ms(data, name, AGGLAYER) for name in rollups)
    known = max(_way_ms(data, AGGLAYER, name) for name in rollups)
    return max(0.0, reported + known - _to_rollups_ms(data)["p50"])


def _to_order_ms(data: RunData) -> tuple[float, str]:
    """From a user to the order, and how."""
    stops = [CLIENTS, *([BUILDER] if _has_node(data, BUILDER) else []), SEQUENCER]
    total = sum(_way_ms(data, here, there) for here, there in pairwise(stops))
    how = " to ".join(stops)
    if any(SOLANA in (row["from"], row["to"]) for row in data.run.get("links") or ()):
        total += (1 + SOLANA_EXCHANGES) * (_way_ms(data, SEQUENCER, SOLANA) + _way_ms(data, SOLANA, SEQUENCER))
        how += f", to Solana and its word of a block back, {SOLANA_EXCHANGES} requests for the block"
    return total, f"{how} ({total:.1f} ms)"


def _to_rollups_ms(data: RunData) -> dict[str, float]:
    """From the sequencer to the farthest rollup of each bundle."""
    if not len(data.legs.rollup):
        return {"p50": 0.0, "p99": 0.0}
    names, codes = np.unique(data.legs.rollup.astype(str), return_inverse=True)
    ways = np.array([_way_ms(data, SEQUENCER, name) for name in names.tolist()])[codes]
    farthest = np.zeros(int(data.legs.bundle_ids.max()) + 1)
    np.maximum.at(farthest, data.legs.bundle_ids, ways)
    each = farthest[np.unique(data.legs.bundle_ids)]
    return {"p50": float(np.percentile(each, 50)), "p99": float(np.percentile(each, 99))}


def _has_node(data: RunData, name: str) -> bool:
    return any(node["name"] == name for node in data.run.get("nodes") or ())


def _way_ms(data: RunData, here: str, there: str) -> float:
    """One way between two nodes with its mean jitter; 0 within a region."""
    area = data.run["wide_area"]
    regions = {area["regions"].get(here, NOWHERE), area["regions"].get(there, NOWHERE)}
    if len(regions) < 2 or NOWHERE in regions:
        return 0.0
    for pair in area["pairs"]:
        if {pair["first"], pair["second"]} == regions:
            return float(pair["round_trip_ms"]) / 2 * (1 + float(area["jitter_share"]))
    return 0.0
