"""What run.json says of the second EVM: what was checked, how fast, and every difference that was found."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from coordinator.collect.node_trace import NodeTrace
from nodes.model.config import DivergenceConfig
from nodes.telemetry.events import DivergenceChecked, DivergenceFound

_NS_PER_S = 1_000_000_000
_COUNTS = ("total", "checked", "differing", "missed", "replaced", "waiting", "history", "busy_ns")


def divergence_document(
    config: DivergenceConfig | None, traces: Iterable[NodeTrace], offsets_ns: Mapping[str, int]
) -> dict[str, Any]:
    """`divergence` of run.json; nothing where no engine is checked. `traces` are of the nodes that are."""
    if config is None:
        return {}
    nodes = list(traces)
    return {
        "divergence": {
            "mode": config.mode,
            "policy": config.policy,
            "sample_per_s": config.sample_per_s,
            "rollups": [_row(trace) for trace in nodes],
            "found": [found for trace in nodes for found in _found(trace, offsets_ns.get(trace.node, 0))],
        }
    }


def is_checked(traces: Sequence[NodeTrace]) -> bool:
    """The second EVM is there, and nothing waits for it, as far as the nodes have said."""
    said = [trace.of(DivergenceChecked) for trace in traces]
    return all(samples and not samples[-1][1].waiting for samples in said)


def _row(trace: NodeTrace) -> dict[str, Any]:
    totals = dict.fromkeys(_COUNTS, 0)
    samples_from, reason = 0, ""
    working: list[int] = []
    for samples in _by_incarnation(trace):
        last = samples[-1][1]
        for name in _COUNTS:
            totals[name] += getattr(last, name)
        samples_from, reason = last.samples_from or samples_from, last.reason or reason
        done = [(at_ns, sample.checked) for at_ns, sample in samples]
        first_ns = next((at_ns for at_ns, checked in done if checked), 0)
        last_ns = next((at_ns for at_ns, checked in done if checked == done[-1][1]), 0)
        working.append(last_ns - first_ns)
    busy_s, working_s = totals.pop("busy_ns") / _NS_PER_S, sum(working) / _NS_PER_S
    return {
        "rollup": trace.node,
        **totals,
        "most_waiting": max((sample.waiting for _, sample in trace.of(DivergenceChecked)), default=0),
        "samples_from": samples_from,
        "reason": reason,
        "busy_s": busy_s,
        "checked_per_s": totals["checked"] / working_s if working_s else None,
        "checked_per_cpu_s": totals["checked"] / busy_s if busy_s else None,
    }


def _by_incarnation(trace: NodeTrace) -> list[list[tuple[int, DivergenceChecked]]]:
    """Totals begin anew with each start of the node."""
    starts = [at_ns for at_ns, _ in trace.starts]
    samples: dict[int, list[tuple[int, DivergenceChecked]]] = {}
    for at_ns, sample in trace.of(DivergenceChecked):
        samples.setdefault(sum(start_ns <= at_ns for start_ns in starts), []).append((at_ns, sample))
    return list(samples.values())


def _found(trace: NodeTrace, offset_ns: int) -> list[dict[str, Any]]:
    return [
        {
            "rollup": trace.node,
            "at_ns": at_ns + offset_ns,
            "height": found.height,
            "number": found.number,
            "position": found.position,
            "tx_hash": found.tx_hash.hex(),
            "account": found.account.hex(),
            "field": found.field,
            "engine": found.engine,
            "checker": found.checker,
            "engine_footprint": found.engine_footprint.hex(),
            "checker_footprint": found.checker_footprint.hex(),
            "policy": found.policy,
        }
        for at_ns, found in trace.of(DivergenceFound)
    ]
