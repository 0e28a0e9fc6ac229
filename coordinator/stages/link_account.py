"""What run.json says of emulated links: as configured, and as their relays measured them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from coordinator.collect.node_trace import NodeTrace
from nodes.model.json_form import to_json
from nodes.model.wide_area import CLIENTS, WideArea
from nodes.telemetry.events import LinkSampled

NS_PER_MS = 1_000_000


def link_documents(
    wide_area: WideArea | None, traces: Iterable[NodeTrace], of_clients: Sequence[LinkSampled]
) -> dict[str, Any]:
    """`wide_area` and `links` of run.json; nothing where no links are emulated."""
    if wide_area is None:
        return {}
    rows = [_row(CLIENTS, sample) for sample in of_clients]
    for trace in traces:
        rows += [_row(trace.node, sample) for sample in totals(trace)]
    return {"wide_area": {**to_json(wide_area), "peers": {}}, "links": rows}


def totals(trace: NodeTrace) -> list[LinkSampled]:
    """The last sample of each link and direction, added up over the incarnations of the node's process."""
    starts = [at_ns for at_ns, _ in trace.starts]
    last: dict[tuple[str, bool], dict[int, LinkSampled]] = {}
    for at_ns, sample in trace.of(LinkSampled):
        incarnation = sum(start_ns <= at_ns for start_ns in starts)
        last.setdefault((sample.peer, sample.is_back), {})[incarnation] = sample
    return [_added(list(samples.values())) for samples in last.values()]


def _added(samples: Sequence[LinkSampled]) -> LinkSampled:
    """One sample of several: counts added, means weighted, percentiles of the incarnation that carried most."""
    most = max(samples, key=lambda sample: sample.chunks)
    chunks = sum(sample.chunks for sample in samples)

    def mean(name: str) -> int:
        return sum(getattr(sample, name) * sample.chunks for sample in samples) // chunks if chunks else 0

    return replace(
        most,
        connections=sum(sample.connections for sample in samples),
        chunks=chunks,
        bytes=sum(sample.bytes for sample in samples),
        lost=sum(sample.lost for sample in samples),
        delay_mean_ns=mean("delay_mean_ns"),
        delay_max_ns=max(sample.delay_max_ns for sample in samples),
        late_mean_ns=mean("late_mean_ns"),
    )


def _row(node: str, sample: LinkSampled) -> Mapping[str, Any]:
    """One direction: who sends, who receives, and what happened on the way."""
    sides = [(node, sample.region), (sample.peer, sample.peer_region)]
    (sender, sender_region), (receiver, receiver_region) = reversed(sides) if sample.is_back else sides
    return {
        "from": sender,
        "to": receiver,
        "from_region": sender_region,
        "to_region": receiver_region,
        "opened_by": node,
        "connections": sample.connections,
        "chunks": sample.chunks,
        "bytes": sample.bytes,
        "lost": sample.lost,
        "configured_ms": sample.one_way_ns / NS_PER_MS,
        "applied_ms": {
            "mean": sample.delay_mean_ns / NS_PER_MS,
            "p50": sample.delay_p50_ns / NS_PER_MS,
            "p99": sample.delay_p99_ns / NS_PER_MS,
            "max": sample.delay_max_ns / NS_PER_MS,
        },
        "late_ms": {"mean": sample.late_mean_ns / NS_PER_MS, "p99": sample.late_p99_ns / NS_PER_MS},
    }
