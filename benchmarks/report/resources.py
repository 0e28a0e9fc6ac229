"""What the run cost: CPU and memory per node, bytes on the wire, CPU per bundle and stage, and what bounded the run.

Nodes that share a process share its figures; a process is counted once in every total.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.report.run_data import NS_PER_MS, RunData, scenario_value
from benchmarks.report.stats import MS_PER_S, Window, rounded

MEGABYTE = 1_000_000
MACHINE_FULL_SHARE = 0.9
"""Of all cores, by Lockstep's own processes: above, the machine is what bounds."""
BLOCK_FULL_SHARE = 0.9
ENGINE_STAGE = "engine (anvil)"
"""Of rollup nodes."""
BESIDE = " node"
"""After the backend's name: what a sequencer has beside itself."""
REST_STAGE = "rest of the node processes"
GENERATOR_STAGE = "load generator"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What one node used while the run loaded it."""

    process: str
    nodes_in_process: int
    engine_is: str
    """What runs beside the node and is counted as its engine."""
    seconds: float
    process_cpu_s: float
    engine_cpu_s: float
    process_pss_bytes: int
    engine_pss_bytes: int
    idle_pss_bytes: int | None
    """Process and engine together before the load, shared part split; None without a sample from then."""
    wire_bytes_in: int
    wire_bytes_out: int
    stage_cpu_ns: Mapping[str, int]


def node_use(data: RunData) -> dict[str, NodeUse]:
    """Use of every node with samples, between the start of the load and the end of the run."""
    process_of, size_of = _processes(data)
    samples: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in data.resources:
        samples[row["node"]].append(row)
    kinds = {str(node["name"]): str(node["kind"]) for node in data.run.get("nodes", [])}
    use = {}
    for node, rows in sorted(samples.items()):
        rows.sort(key=lambda row: int(row["at_ns"]))
        process = process_of.get(node, node)
        use[node] = _use(
            rows,
            zero_ns=data.zero_ns,
            process=process,
            shared_by=size_of.get(process, 1),
            engine_is=beside_sequencer(data) if kinds.get(node) == "sequencer" else ENGINE_STAGE,
        )
    return use


def beside_sequencer(data: RunData) -> str:
    """What a sequencer has beside itself: a node of the chain that orders."""
    return f"{str(data.run.get('backend', '')).capitalize()}{BESIDE}"


def _processes(data: RunData) -> tuple[dict[str, str], dict[str, int]]:
    """Node -> process, process -> number of its nodes."""
    process_of: dict[str, str] = {}
    size_of: dict[str, int] = {}
    for host in data.run.get("hosts", []):
        names = list(host.get("node_names", []))
        size_of[str(host["name"])] = max(1, len(names))
        process_of |= dict.fromkeys(names, str(host["name"]))
    return process_of, size_of


def _use(rows: Sequence[Mapping[str, Any]], *, zero_ns: int, process: str, shared_by: int, engine_is: str) -> NodeUse:
    before = [row for row in rows if row["at_ns"] <= zero_ns]
    loaded = [before[-1] if before else rows[0], *(row for row in rows if row["at_ns"] > zero_ns)]
    last = loaded[-1]
    idle = before[-1] if before else None
    stages: dict[str, int] = defaultdict(int)
    for old, new in pairwise(loaded):
        previous = dict(old["stage_cpu_ns"] or ())
        for stage, value in dict(new["stage_cpu_ns"] or ()).items():
            stages[stage] += _gain(previous.get(stage, 0), value)
    return NodeUse(
        process=process,
        nodes_in_process=shared_by,
        engine_is=engine_is,
        seconds=(last["at_ns"] - loaded[0]["at_ns"]) / NS_PER_MS / MS_PER_S,
        process_cpu_s=_total_gain(loaded, "process_cpu_s"),
        engine_cpu_s=_total_gain(loaded, "engine_cpu_s"),
        process_pss_bytes=int(last["process_pss_bytes"] or 0),
        engine_pss_bytes=int(last["engine_pss_bytes"] or 0),
        idle_pss_bytes=_pss(idle, shared_by) if idle is not None else None,
        wire_bytes_in=int(_total_gain(loaded, "wire_bytes_in")),
        wire_bytes_out=int(_total_gain(loaded, "wire_bytes_out")),
        stage_cpu_ns=dict(sorted(stages.items())),
    )


def _pss(row: Mapping[str, Any], shared_by: int) -> int:
    return int((row["process_pss_bytes"] or 0) / shared_by + (row["engine_pss_bytes"] or 0))


def _gain(old: float, new: float) -> Any:
    """A counter that fell was started anew with its process."""
    return new - old if new >= old else new


def _total_gain(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    return float(sum(_gain(old[key] or 0, new[key] or 0) for old, new in pairwise(rows)))


def resource_table(use: Mapping[str, NodeUse]) -> dict[str, dict[str, Any]]:
    """Per node: its engine and its equal part of the process that hosts it; then both apart, and the process whole."""
    return {
        node: {
            "cpu_s": rounded(one.engine_cpu_s + one.process_cpu_s / one.nodes_in_process),
            "pss_mb": rounded((one.engine_pss_bytes + one.process_pss_bytes / one.nodes_in_process) / MEGABYTE, 1),
            "idle_pss_mb": None if one.idle_pss_bytes is None else rounded(one.idle_pss_bytes / MEGABYTE, 1),
            "engine_is": one.engine_is if one.engine_pss_bytes or one.engine_cpu_s else "",
            "engine_cpu_s": rounded(one.engine_cpu_s),
            "engine_pss_mb": rounded(one.engine_pss_bytes / MEGABYTE, 1),
            "process": one.process,
            "nodes_in_process": one.nodes_in_process,
            "process_cpu_s": rounded(one.process_cpu_s),
            "process_pss_mb": rounded(one.process_pss_bytes / MEGABYTE, 1),
            "wire_bytes_in": one.wire_bytes_in,
            "wire_bytes_out": one.wire_bytes_out,
        }
        for node, one in use.items()
    }


def cores_used(data: RunData, window: Window) -> float | None:
    """Cores that Lockstep kept busy during a window, generator included; None without samples around it."""
    process_of, _ = _processes(data)
    series: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in data.resources:
        at_ms = (row["at_ns"] - data.zero_ns) / NS_PER_MS
        # All nodes of a process tell the same of it; their samples are merged into one series.
        series[f"process {process_of.get(row['node'], row['node'])}"].append((at_ms, float(row["process_cpu_s"] or 0)))
        series[f"engine {row['node']}"].append((at_ms, float(row["engine_cpu_s"] or 0)))
    if not series or not window.seconds:
        return None
    spent_s = 0.0
    for samples in series.values():
        samples.sort()
        at_ms, counter = np.array(samples).T
        total = np.cumsum(np.r_[0.0, [_gain(old, new) for old, new in pairwise(counter)]])
        begin, end = np.interp([window.from_ms, window.to_ms], at_ms, total)
        spent_s += float(end - begin)
    if not generator_inside(data) and len(data.bundles):
        # The generator's time is known as a sum; it follows the number of bundles.
        spent_s += _generator_cpu_s(data) * float(window.holds(data.bundles.due_ms).mean())
    return spent_s / window.seconds


def totals(data: RunData, use: Mapping[str, NodeUse], *, bundles: int, window: Window) -> dict[str, Any]:
    """Sums over the run, each process once, and per executed bundle; cores in use during the window."""
    whole_process = {one.process: one for one in use.values()}
    process_cpu_s = sum(one.process_cpu_s for one in whole_process.values())
    engine_cpu_s = sum(one.engine_cpu_s for one in use.values())
    generator_cpu_s = _generator_cpu_s(data)
    cpu_s = process_cpu_s + engine_cpu_s + (0.0 if generator_inside(data) else generator_cpu_s)
    seconds = max((one.seconds for one in use.values()), default=0.0)
    busy = cores_used(data, window)
    cores = int(data.run.get("machine", {}).get("cores") or 0)
    # gRPC between two nodes is counted once by each; users' traffic is small beside it.
    wire = sum(one.wire_bytes_in + one.wire_bytes_out for one in use.values())
    pss = sum(one.engine_pss_bytes for one in use.values()) + sum(p.process_pss_bytes for p in whole_process.values())
    beside = [one for one in use.values() if one.engine_is != ENGINE_STAGE and one.engine_cpu_s]
    beside_cpu_s = sum(one.engine_cpu_s for one in beside)
    return {
        "seconds": rounded(seconds),
        "cpu_s": rounded(cpu_s),
        "engine_cpu_s": rounded(engine_cpu_s),
        "process_cpu_s": rounded(process_cpu_s),
        "generator_cpu_s": rounded(generator_cpu_s),
        "generator_inside_process": generator_inside(data),
        "cores_used": None if busy is None else rounded(busy),
        "busy_share": rounded(busy / cores, 4) if busy is not None and cores else None,
        "pss_mb": rounded(pss / MEGABYTE, 1),
        "cpu_us_per_bundle": rounded(cpu_s / bundles * 1e6, 1) if bundles else None,
        # Counted in every sum above.
        "beside_is": beside[0].engine_is if beside else "",
        "beside_us_per_bundle": rounded(beside_cpu_s / bundles * 1e6, 1) if bundles and beside else None,
        "beside_pss_mb": rounded(sum(one.engine_pss_bytes for one in beside) / MEGABYTE, 1) if beside else None,
        "wire_bytes_per_bundle": rounded(wire / bundles, 1) if bundles else None,
    }


def _generator_cpu_s(data: RunData) -> float:
    return float(data.run.get("generator", {}).get("cpu_s") or 0.0)


def generator_inside(data: RunData) -> bool:
    """Whether the generator runs in a process whose CPU the nodes report already."""
    return str(data.run.get("launcher", "")) == "inprocess"


def stage_cpu(data: RunData, use: Mapping[str, NodeUse], *, bundles: int) -> dict[str, float]:
    """Microseconds of CPU per executed bundle by stage, summed over all nodes; largest first."""
    if not bundles:
        return {}
    kinds = {str(node["name"]): str(node["kind"]) for node in data.run.get("nodes", [])}
    seconds: dict[str, float] = defaultdict(float)
    staged_s = 0.0
    for node, one in use.items():
        for stage, spent_ns in one.stage_cpu_ns.items():
            seconds[f"{kinds.get(node, 'node')}: {stage}"] += spent_ns / 1e9
            staged_s += spent_ns / 1e9
    process_cpu_s = sum(one.process_cpu_s for one in {one.process: one for one in use.values()}.values())
    generator_cpu_s = _generator_cpu_s(data)
    inside_s = generator_cpu_s if generator_inside(data) else 0.0
    for one in use.values():
        seconds[one.engine_is] += one.engine_cpu_s
    seconds[REST_STAGE] = max(0.0, process_cpu_s - staged_s - inside_s)
    seconds[GENERATOR_STAGE] = generator_cpu_s
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {name: rounded(spent / bundles * 1e6, 1) for name, spent in ordered if spent > 0}


def engine_bound(data: RunData, completed: float) -> dict[str, Any]:
    """The two physical bounds that the run measured, and throughput as a share of each."""
    bound = dict(data.run.get("engine_bound") or {})
    bare, recovered = bound.get("bundles_per_s_bare"), bound.get("bundles_per_s_with_recovery")
    return bound | {
        "us_per_leg": bound.get("us_per_leg"),
        "bundles_per_s_bare": bare,
        "bundles_per_s_with_recovery": recovered,
        "share": rounded(completed / bare, 4) if bare else None,
        "share_with_recovery": rounded(completed / recovered, 4) if recovered else None,
    }


def bounded_by(
    data: RunData, window: Window, *, kept_up: bool, backlog_grew: bool, generator_late: bool
) -> dict[str, str]:
    """What kept the run from more, judged in `window`: of a sweep the lowest step that was too much.

    `what` is nothing, generator, outcomes, cores, block_limit, or what the run itself supposed.
    """
    busy = cores_used(data, window)
    cores = int(data.run.get("machine", {}).get("cores") or 0)
    busy_share = busy / cores if busy is not None and cores else None
    if generator_late:
        return {"what": "generator", "detail": "it did not keep its own schedule, so the system was offered less"}
    if kept_up:
        return {"what": "nothing", "detail": "everything offered was completed; more may be possible"}
    if not backlog_grew:
        struck = "aborted, " if data.has_verdicts else ""
        missing = f"no backlog grew; what is missing was {struck}refused, dropped, skipped or lost"
        return {"what": "outcomes", "detail": missing}
    if busy_share is not None and busy_share >= MACHINE_FULL_SHARE:
        return {"what": "cores", "detail": f"Lockstep kept {busy_share:.0%} of all cores busy"}
    block_bytes_max = _block_bytes_max(data)
    sizes = data.blocks["payload_bytes"][window.holds(data.blocks["at_ms"])]
    if block_bytes_max and len(sizes):
        full = float((sizes >= BLOCK_FULL_SHARE * block_bytes_max).mean())
        if full > 0.5:
            return {
                "what": "block_limit",
                "detail": f"{full:.0%} of the sequenced blocks were full ({block_bytes_max:,} bytes)",
            }
    hint = str(data.run.get("bounded_by_hint") or "")
    used = f"Lockstep kept {busy_share:.0%} of all cores busy" if busy_share is not None else "no CPU figures"
    return {"what": hint or "unknown", "detail": f"{used}; other load on the machine is not seen here"}


def _block_bytes_max(data: RunData) -> int:
    for source in (data.run, data.testnet.get("backend_options") or {}, data.testnet.get("options") or {}):
        if isinstance(source, Mapping) and source.get("block_bytes_max"):
            return int(source["block_bytes_max"])
    return int(scenario_value(data, "backend", "block_bytes_max", 0) or 0)
