"""The tables of a run, from joined records. Times get each node's clock offset here, once."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from coordinator.collect.join import FATES, NEVER, OUTCOMES, REASONS, BundleFates, LegFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import NO_STAGES, BundleStages, CertificateLife
from coordinator.record import (
    BLOCKS,
    BUNDLES,
    CERTIFICATES,
    LEGS,
    PROOFS,
    REORGS,
    RESOURCES,
    SETTLEMENTS,
    STALLS,
    VERDICTS,
)
from nodes.model.ids import HASH_BYTES
from nodes.telemetry.events import ProofMade, SettlementMoved, VerdictIssued


def bundles_table(sent: SentBundles, fates: BundleFates, stages: BundleStages = NO_STAGES) -> pa.Table:
    """`bundles.parquet`. A stage that the run's mode lacks is null for every bundle."""
    count = len(sent)
    columns = {
        "bundle_id": np.arange(count, dtype=np.int64),
        "submission_hash": _hashes(sent.submission_hashes),
        "bundle_hash": _hashes(sent.bundle_hashes),
        "legs": np.full(count, sent.legs, dtype=np.int16),
        "lane": sent.lanes,
        "due_ns": sent.due_ns,
        "sent_ns": _nullable(sent.sent_ns),
        "accepted_ns": _nullable(sent.accepted_ns),
        "sequenced_ns": _nullable(fates.sequenced_ns),
        "firm_ns": _nullable(fates.firm_ns),
        "height": _nullable(fates.height),
        "executed_ns": _nullable(fates.executed_ns),
        **{
            f"{stage}_ns": pa.nulls(count, pa.int64()) if times is None else _nullable(times)
            for stage, times in stages._asdict().items()
        },
        "outcome": _names(fates.outcome, OUTCOMES),
        "drop_reason": _names(fates.reason, REASONS),
        "attempts": sent.attempts,
    }
    return _table(columns, BUNDLES)


def legs_table(sent: SentBundles, legs: LegFates, rollup_names: Sequence[str]) -> pa.Table:
    """`legs.parquet`."""
    count = len(sent)
    columns = {
        "bundle_id": np.repeat(np.arange(count, dtype=np.int64), sent.legs),
        "leg_index": np.tile(np.arange(sent.legs, dtype=np.int16), count),
        "rollup": _names(sent.rollups.reshape(-1), rollup_names),
        "tx_hash": _hashes(sent.tx_hashes),
        "height": _nullable(legs.height),
        "number": _nullable(legs.number),
        "executed_ns": _nullable(legs.executed_ns),
        "received_ns": _nullable(legs.received_ns),
        "derived_ns": _nullable(legs.derived_ns),
        "built_ns": _nullable(legs.built_ns),
        "fate": _names(legs.fate, FATES),
        "reason": _names(legs.reason, REASONS),
    }
    return _table(columns, LEGS)


def blocks_table(traces: Iterable[NodeTrace], offsets_ns: Mapping[str, int]) -> pa.Table:
    """`blocks.parquet`: cuts of the sequencer and every execution of every rollup node, replays included."""
    rows: list[dict[str, Any]] = []
    for trace in traces:
        offset_ns = offsets_ns.get(trace.node, 0)
        for height in sorted(trace.cuts):
            cut = trace.cuts[height]
            rows.append(
                {
                    "node": trace.node,
                    "kind": "sequencer",
                    "height": cut.height,
                    "hash": cut.hash,
                    "at_ns": cut.at_ns + offset_ns,
                    "payloads": cut.payloads,
                    "payload_bytes": cut.payload_bytes,
                    "replayed": False,
                }
            )
        for block in trace.executions:
            admitted, dropped = len(block.statuses), len(block.drop_reasons)
            rows.append(
                {
                    "node": trace.node,
                    "kind": "rollup",
                    "height": block.height,
                    "number": block.number,
                    "hash": block.hash,
                    "state_root": block.state_root,
                    "at_ns": block.at_ns + offset_ns,
                    "payloads": admitted + dropped,
                    "admitted": admitted,
                    "dropped": dropped,
                    "gas_used": block.gas_used,
                    "received_ns": block.received_ns + offset_ns,
                    "derived_ns": block.derived_ns + offset_ns,
                    "built_ns": block.built_ns + offset_ns,
                    "replayed": block.replayed,
                }
            )
    return pa.Table.from_pylist(rows, schema=BLOCKS)


def resources_table(traces: Iterable[NodeTrace], offsets_ns: Mapping[str, int]) -> pa.Table:
    """`resources.parquet`."""
    rows = [
        {
            "node": trace.node,
            "at_ns": at_ns + offsets_ns.get(trace.node, 0),
            "process_cpu_s": sample.process_cpu_s,
            "process_pss_bytes": sample.process_pss_bytes,
            "engine_cpu_s": sample.engine_cpu_s,
            "engine_pss_bytes": sample.engine_pss_bytes,
            "wire_bytes_in": sample.wire_bytes_in,
            "wire_bytes_out": sample.wire_bytes_out,
            "stage_cpu_ns": list(sample.stage_cpu_ns.items()),
        }
        for trace in traces
        for at_ns, sample in trace.resources
    ]
    return pa.Table.from_pylist(rows, schema=RESOURCES)


def stalls_table(traces: Iterable[NodeTrace], offsets_ns: Mapping[str, int]) -> pa.Table:
    """`stalls.parquet`."""
    rows = [
        {
            "node": trace.node,
            "at_ns": at_ns + offsets_ns.get(trace.node, 0),
            "height": stall.height,
            "reason": stall.reason,
            "source": stall.source,
        }
        for trace in traces
        for at_ns, stall in trace.stalls
    ]
    return pa.Table.from_pylist(rows, schema=STALLS)


def reorgs_table(traces: Iterable[NodeTrace], offsets_ns: Mapping[str, int]) -> pa.Table:
    """`reorgs.parquet`."""
    rows = [
        {
            "node": trace.node,
            "at_ns": at_ns + offsets_ns.get(trace.node, 0),
            "from_height": reorg.from_height,
            "to_height": reorg.to_height,
            "depth": reorg.from_height - reorg.to_height,
        }
        for trace in traces
        for at_ns, reorg in trace.reorgs
    ]
    return pa.Table.from_pylist(rows, schema=REORGS)


def verdicts_table(agglayer: NodeTrace, offset_ns: int) -> pa.Table:
    """`verdicts.parquet`."""
    return _occurrences(agglayer, VerdictIssued, VERDICTS, offset_ns)


def proofs_table(agglayer: NodeTrace, offset_ns: int) -> pa.Table:
    """`proofs.parquet`."""
    return _occurrences(agglayer, ProofMade, PROOFS, offset_ns)


def settlements_table(agglayer: NodeTrace, offset_ns: int) -> pa.Table:
    """`settlements.parquet`."""
    rows = [
        {
            "at_ns": at_ns + offset_ns,
            "step": move.step,
            "tx_hash": move.tx_hash,
            "l1_block": move.l1_block,
            "gas_used": move.gas_used,
            "certificates": len(move.certificate_ids),
        }
        for at_ns, move in agglayer.of(SettlementMoved)
    ]
    return pa.Table.from_pylist(rows, schema=SETTLEMENTS)


def certificates_table(lives: Sequence[CertificateLife], rollup_names: Sequence[str]) -> pa.Table:
    """`certificates.parquet`."""
    rows = [
        {
            "network_id": life.network_id,
            "rollup": rollup_names[life.network_id - 1] if 0 < life.network_id <= len(rollup_names) else "",
            "certificate_height": life.certificate_height,
            "certificate_id": life.certificate_id,
            "first_height": life.first_height,
            "last_height": life.last_height,
            "exits": life.exits,
            "imports": life.imports,
            **{f"{stage}_ns": at_ns for stage, at_ns in life.times_ns.items() if f"{stage}_ns" in CERTIFICATES.names},
            "status": life.status,
            "error": life.error,
            "settlement_tx": life.settlement_tx or None,
        }
        for life in lives
    ]
    return pa.Table.from_pylist(rows, schema=CERTIFICATES)


def _occurrences(trace: NodeTrace, kind: type[Any], schema: pa.Schema, offset_ns: int) -> pa.Table:
    """Events whose fields are the columns, by name."""
    names = [name for name in schema.names if name != "at_ns"]
    rows = [
        {"at_ns": at_ns + offset_ns, **{name: getattr(event, name) for name in names}}
        for at_ns, event in trace.of(kind)
    ]
    return pa.Table.from_pylist(rows, schema=schema)


def _table(columns: Mapping[str, Any], schema: pa.Schema) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, type=schema.field(name).type)
        for name, column in columns.items()
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _hashes(data: bytes) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(HASH_BYTES), len(data) // HASH_BYTES, [None, pa.py_buffer(data)]
    )


def _nullable(values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=values == NEVER)


def _names(codes: NDArray[Any], names: Sequence[str]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32)), pa.array(list(names), pa.string())).cast(
        pa.string()
    )
