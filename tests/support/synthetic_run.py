"""Writes run directories as a benchmark leaves them, without running anything: for tests of the report.

Times follow a simple model (blocks at fixed ticks, execution time with the load), so that the expected figures are
known. Everything comes from the seed.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tests.support.synthetic_layer import SyntheticLayer, late_stages, layer_document, write_layer_tables

Ints = NDArray[np.int64]
SECOND_NS = 1_000_000_000
MS_NS = 1_000_000
ZERO_NS = 5_000 * SECOND_NS
"""Start of the load on the coordinator's monotonic clock."""
NEVER = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """What the run directory shall hold."""

    seed: int = 7
    rate_per_s: float = 200.0
    duration_s: float = 20.0
    warmup_s: float = 3.0
    cooldown_s: float = 2.0
    interval_ms: int = 100
    rollups: int = 4
    capacity_per_s: float = 4_000.0
    """Bundles per second that the modelled nodes execute; a queue builds above it."""
    phases_per_s: tuple[float, ...] = ()
    """Rates of equally long phases; empty = one phase at `rate_per_s`."""
    load_kind: str = "steady"
    late_ms: float = 0.0
    """How late the generator sends every bundle."""
    partly_share: float = 0.0
    reverted_share: float = 0.0
    skipped_share: float = 0.0
    dropped_share: float = 0.0
    refused_share: float = 0.0
    aborted_share: float = 0.0
    lost_bundles: int = 0
    split_bundles: int = 0
    """Bundles of which one leg was dropped and the others succeeded: what must never happen."""
    interrupted: bool = False
    faults: tuple[dict[str, Any], ...] = ()
    broken_invariants: tuple[str, ...] = ()
    run: dict[str, Any] = field(default_factory=dict)
    """Replaces keys of run.json."""
    layer: SyntheticLayer | None = None
    """None: a testnet without an aggregation layer."""


@dataclass(frozen=True, slots=True)
class _Life:
    due: Ints
    sent: Ints
    accepted: Ints
    sequenced: Ints
    firm: Ints
    height: Ints
    executed: Ints
    outcome: NDArray[np.object_]
    reason: NDArray[np.object_]
    rollups: NDArray[np.int64]


def write_synthetic_run(directory: Path, what: Synthetic | None = None, **changes: Any) -> Path:
    """Write a run directory and return it. `changes` are fields of `Synthetic`."""
    what = replace(what or Synthetic(), **changes)
    rng = np.random.default_rng(what.seed)
    (directory / "events").mkdir(parents=True, exist_ok=True)
    life = _live(what, rng)
    events = directory / "events"
    pq.write_table(_with_late_stages(_bundles(life), life, what), events / "bundles.parquet")
    pq.write_table(_legs(life, what), events / "legs.parquet")
    pq.write_table(_blocks(life, what), events / "blocks.parquet")
    pq.write_table(_resources(life, what), events / "resources.parquet")
    pq.write_table(_stalls(), events / "stalls.parquet")
    of_layer = {}
    if what.layer is not None:
        heights = np.unique(life.height[life.height != NEVER])
        write_layer_tables(
            what.layer,
            events,
            heights,
            rollups=what.rollups,
            zero_ns=ZERO_NS,
            end_ns=_end_ns(what),
            interval_ns=what.interval_ms * MS_NS,
        )
        of_layer = layer_document(what.layer, what.rollups)
    _write_json(directory / "run.json", _run(what) | of_layer | what.run)
    _write_json(directory / "testnet.json", {"backend": "lazy", "rollups": what.rollups})
    (directory / "scenario.toml").write_text(_scenario(what), encoding="utf-8")
    _write_json(directory / "overrides.json", [f"load.rate_per_s={what.rate_per_s}"])
    return directory


def _end_ns(what: Synthetic) -> int:
    return ZERO_NS + round(what.duration_s * SECOND_NS)


def _with_late_stages(bundles: pa.Table, life: _Life, what: Synthetic) -> pa.Table:
    if what.layer is not None:
        stages = late_stages(what.layer, life.executed, life.outcome, zero_ns=ZERO_NS, end_ns=_end_ns(what))
        for stage, times in stages.items():
            bundles = bundles.append_column(f"{stage}_ns", _nullable(times))
    return bundles


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _phases(what: Synthetic) -> list[tuple[float, float, float]]:
    """(rate, start_s, end_s) of every phase."""
    rates = what.phases_per_s or (what.rate_per_s,)
    step = what.duration_s / len(rates)
    return [(rate, index * step, (index + 1) * step) for index, rate in enumerate(rates)]


def _live(what: Synthetic, rng: np.random.Generator) -> _Life:
    due_s = np.concatenate(
        [np.sort(rng.uniform(start, end, size=round(rate * (end - start)))) for rate, start, end in _phases(what)]
    )
    count = len(due_s)
    sent_s = due_s + 0.000_3 + what.late_ms / 1_000 + rng.exponential(0.000_4, count)
    accepted_s = sent_s + 0.002 + rng.exponential(0.001, count)
    interval_s = what.interval_ms / 1_000
    height = np.ceil(accepted_s / interval_s).astype(np.int64)
    sequenced_s = height * interval_s + 0.001
    firm_s = sequenced_s + 0.002
    # A queue with a fixed service rate, emptied in order of heights.
    service_s = 1 / what.capacity_per_s
    done_s = np.empty(count)
    free_s = 0.0
    starts = np.flatnonzero(np.diff(height, prepend=NEVER) > 0)
    for start, end in zip(starts, [*starts[1:], count]):
        free_s = max(free_s, sequenced_s[start] + 0.004) + service_s * (end - start)
        done_s[start:end] = free_s
    outcome, reason = _outcomes(what, rng, count)
    gone = np.isin(outcome, ("refused", "unsent"))
    lost = outcome == "lost"
    rollups = np.argsort(rng.random((count, what.rollups)), axis=1)[:, :2]
    return _Life(
        due=_ns(due_s),
        sent=_ns(sent_s, outcome == "unsent"),
        accepted=_ns(accepted_s, gone),
        sequenced=_ns(sequenced_s, gone | lost),
        firm=_ns(firm_s, gone | lost),
        height=np.where(gone | lost, NEVER, height),
        executed=_ns(done_s, gone | lost),
        outcome=outcome,
        reason=reason,
        rollups=rollups,
    )


def _ns(seconds: NDArray[np.floating[Any]], absent: NDArray[np.bool_] | None = None) -> Ints:
    times = ZERO_NS + np.round(seconds * SECOND_NS).astype(np.int64)
    return times if absent is None else np.where(absent, NEVER, times)


def _outcomes(what: Synthetic, rng: np.random.Generator, count: int) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    outcome = np.full(count, "succeeded", dtype=object)
    draw = rng.random(count)
    low = 0.0
    for name in ("partly", "reverted", "skipped", "dropped", "refused", "aborted"):
        share = getattr(what, f"{name}_share")
        outcome[(draw >= low) & (draw < low + share)] = name
        low += share
    middle = count // 2
    outcome[middle : middle + what.lost_bundles] = "lost"
    if what.interrupted:
        outcome[-count // 10 :] = "unsent"
    kinds = [outcome == name for name in ("dropped", "skipped", "aborted")]
    reason = np.select(kinds, ["over_limit", "nonce", "leg reverted"], "").astype(object)
    split = middle + what.lost_bundles
    outcome[split : split + what.split_bundles] = "dropped"
    reason[split : split + what.split_bundles] = "unbundled"
    return outcome, reason


def _nullable(values: Ints) -> pa.Array:
    return pa.array(values, mask=values == NEVER)


def _hashes(count: int, tag: int) -> pa.Array:
    ids = np.zeros((count, 32), dtype=np.uint8)
    ids[:, 24:] = np.arange(count, dtype=">u8").view(np.uint8).reshape(count, 8)
    ids[:, 0] = tag
    return pa.Array.from_buffers(pa.binary(32), count, [None, pa.py_buffer(ids.tobytes())])


def _bundles(life: _Life) -> pa.Table:
    count = len(life.due)
    return pa.table(
        {
            "bundle_id": np.arange(count, dtype=np.int64),
            "submission_hash": _hashes(count, 0x51),
            "bundle_hash": _hashes(count, 0xB0),
            "legs": np.full(count, 2, dtype=np.int16),
            "lane": (np.arange(count) % 64).astype(np.int32),
            "due_ns": life.due,
            "sent_ns": _nullable(life.sent),
            "accepted_ns": _nullable(life.accepted),
            "sequenced_ns": _nullable(life.sequenced),
            "firm_ns": _nullable(life.firm),
            "height": _nullable(life.height),
            "executed_ns": _nullable(life.executed),
            "outcome": pa.array(life.outcome.tolist(), pa.string()),
            "drop_reason": pa.array(life.reason.tolist(), pa.string()),
            "attempts": np.where(life.outcome == "unsent", 0, 1).astype(np.int16),
        }
    )


def _legs(life: _Life, what: Synthetic) -> pa.Table:
    """Two rows per bundle that was accepted; a lost bundle's legs are missing."""
    kept = np.flatnonzero(life.accepted != NEVER)
    bundle = np.repeat(kept, 2)
    index = np.tile(np.array([0, 1]), len(kept))
    first, second = _fates(life.outcome[kept], life.reason[kept])
    fate = np.stack([first, second], axis=1).reshape(-1)
    executed = np.where(np.isin(fate, ("succeeded", "reverted", "skipped", "aborted")), _last(life, bundle), NEVER)
    step = np.where(executed == NEVER, NEVER, 1)
    received = np.where(step == 1, life.sequenced[bundle] + 2 * MS_NS, NEVER)
    height = np.where(fate == "missing", NEVER, life.height[bundle])
    return pa.table(
        {
            "bundle_id": bundle.astype(np.int64),
            "leg_index": index.astype(np.int16),
            "rollup": pa.array([f"rollup-{n}" for n in life.rollups[bundle, index].tolist()], pa.string()),
            "tx_hash": _hashes(len(bundle), 0x77),
            "height": _nullable(height),
            "number": _nullable(height),
            "executed_ns": _nullable(executed),
            "received_ns": _nullable(received),
            "derived_ns": _nullable(np.where(step == 1, received + MS_NS, NEVER)),
            "built_ns": _nullable(np.where(step == 1, executed - MS_NS // 2, NEVER)),
            "fate": pa.array(fate.tolist(), pa.string()),
            "reason": pa.array(np.where(fate == "dropped", "over_limit", "").tolist(), pa.string()),
        }
    )


def _last(life: _Life, bundle: Ints) -> Ints:
    return np.where(life.executed[bundle] == NEVER, life.firm[bundle] + 10 * MS_NS, life.executed[bundle])


def _fates(
    outcome: NDArray[np.object_], reason: NDArray[np.object_]
) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    same = {
        "succeeded": "succeeded",
        "reverted": "reverted",
        "skipped": "skipped",
        "dropped": "dropped",
        "lost": "missing",
        "aborted": "aborted",
    }
    first = np.array([same.get(name, "succeeded") for name in outcome], dtype=object)
    second = np.array([same.get(name, "reverted") for name in outcome], dtype=object)
    first[reason == "unbundled"] = "succeeded"
    return first, second


def _blocks(life: _Life, what: Synthetic) -> pa.Table:
    heights, counts = np.unique(life.height[life.height != NEVER], return_counts=True)
    at = ZERO_NS + heights * what.interval_ms * MS_NS
    rows: list[dict[str, Any]] = []
    for height, payloads, at_ns in zip(heights.tolist(), (counts * 2).tolist(), at.tolist()):
        digest = int(height).to_bytes(32, "big")
        shared = {
            "height": height,
            "hash": digest,
            "at_ns": at_ns,
            "payloads": payloads,
            "payload_bytes": payloads * 141,
        }
        rows.append({"node": "sequencer-0", "kind": "sequencer", **shared})
        for rollup in range(what.rollups):
            built = {"admitted": payloads // what.rollups, "dropped": 0, "number": height, "replayed": False}
            rows.append({"node": f"rollup-{rollup}", "kind": "rollup", **shared, **built})
    schema = pa.schema(
        [
            *[(name, pa.string()) for name in ("node", "kind")],
            *[(name, pa.int64()) for name in ("height", "number")],
            *[(name, pa.binary()) for name in ("hash", "state_root")],
            *[(name, pa.int64()) for name in ("at_ns", "payloads", "payload_bytes", "admitted", "dropped", "gas_used")],
            *[(name, pa.int64()) for name in ("received_ns", "derived_ns", "built_ns")],
            ("replayed", pa.bool_()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _resources(life: _Life, what: Synthetic) -> pa.Table:
    """A sample per node and second, from 2 s before the load to 3 s after it."""
    per_s = len(life.due) / what.duration_s
    rows: list[dict[str, Any]] = []
    for second in range(-2, int(what.duration_s) + 4):
        load_s = min(max(second, 0), what.duration_s)
        for node in ("sequencer-0", *[f"rollup-{n}" for n in range(what.rollups)]):
            rollup = node.startswith("rollup")
            stages = (
                {"verify": 70_000, "decode": 9_000, "index": 14_000} if rollup else {"receive": 5_000, "cut": 9_000}
            )
            # Stage times are per bundle and node; two of the rollups see each bundle.
            seen = per_s * load_s * (2 / what.rollups if rollup else 1)
            rows.append(
                {
                    "node": node,
                    "at_ns": ZERO_NS + second * SECOND_NS,
                    "process_cpu_s": 1.5 + 0.02 * (second + 2) + per_s * load_s * (200e-6 if rollup else 60e-6),
                    "process_pss_bytes": 70_000_000 + int(load_s) * 300_000,
                    "engine_cpu_s": (0.3 + per_s * load_s * 350e-6 / what.rollups) if rollup else 0.0,
                    "engine_pss_bytes": (24_000_000 + int(load_s) * 100_000) if rollup else 0,
                    "wire_bytes_in": int(seen * 600),
                    "wire_bytes_out": int(seen * 400),
                    "stage_cpu_ns": [(name, int(cost * seen)) for name, cost in stages.items()],
                }
            )
    schema = pa.schema(
        [
            ("node", pa.string()),
            ("at_ns", pa.int64()),
            ("process_cpu_s", pa.float64()),
            ("process_pss_bytes", pa.int64()),
            ("engine_cpu_s", pa.float64()),
            ("engine_pss_bytes", pa.int64()),
            ("wire_bytes_in", pa.int64()),
            ("wire_bytes_out", pa.int64()),
            ("stage_cpu_ns", pa.map_(pa.string(), pa.int64())),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _stalls() -> pa.Table:
    empty: dict[str, pa.Array] = {
        "node": pa.array([], pa.string()),
        "at_ns": pa.array([], pa.int64()),
        "height": pa.array([], pa.int64()),
        "reason": pa.array([], pa.string()),
        "source": pa.array([], pa.string()),
    }
    return pa.table(empty)


def _run(what: Synthetic) -> dict[str, Any]:
    """run.json."""
    return _when(what) | _where(what) | {"invariants": _invariants(what)}


def _when(what: Synthetic) -> dict[str, Any]:
    end_ns = _end_ns(what)
    return {
        "format": 1,
        "command": "lockstep bench synthetic",
        "scenario": "synthetic",
        "description": "Made for a test",
        "backend": "lazy",
        "launcher": "inprocess",
        "seed": what.seed,
        "rollups": what.rollups,
        "legs_per_bundle": 2,
        "block_interval_ms": what.interval_ms,
        "started_wall_ns": 1_790_000_000 * SECOND_NS,
        "wall_zero_ns": 1_789_995_000 * SECOND_NS,
        "load_start_ns": ZERO_NS,
        "load_end_ns": end_ns,
        "measure_from_ns": ZERO_NS + round(what.warmup_s * SECOND_NS),
        "measure_to_ns": end_ns - round(what.cooldown_s * SECOND_NS),
        "drained_ns": None if what.interrupted else end_ns + SECOND_NS,
        "interrupted": what.interrupted,
        "interrupt_reason": "Ctrl-C" if what.interrupted else "",
        "phases": [
            {
                "rate_per_s": rate,
                "start_ns": ZERO_NS + round(start * SECOND_NS),
                "end_ns": ZERO_NS + round(end * SECOND_NS),
            }
            for rate, start, end in _phases(what)
        ],
    }


def _where(what: Synthetic) -> dict[str, Any]:
    rollups = [f"rollup-{n}" for n in range(what.rollups)]
    return {
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"python": "3.11.2", "lockstep": "0.1.0", "anvil": "1.4.4", "grpcio": "1.80.0"},
        "machine": {
            "cores": 2,
            "memory_bytes": 8 * 2**30,
            "kernel": "Linux 6.1",
            "cpu": "Test CPU at 2.5 GHz",
            "cloud": "",
        },
        "hosts": [
            {"name": "host-0", "node_names": ["sequencer-0"], "pid": 100, "host": "127.0.0.1"},
            {"name": "host-1", "node_names": rollups, "pid": 101, "host": "127.0.0.1"},
        ],
        "nodes": [
            {"name": "sequencer-0", "kind": "sequencer", "host": "host-0"},
            *[{"name": name, "kind": "rollup", "host": "host-1"} for name in rollups],
        ],
        "clock_offsets": {"127.0.0.1": {"offset_ns": 0, "residual_ns": 0}},
        "ready_s": 1.4,
        "engine_bound": {
            "us_per_leg": 154.0,
            "bundles_per_s_bare": 6_500.0,
            "recover_us": 28.0,
            "recoveries_per_bundle": 2.0,
            "bundles_per_s_with_recovery": 5_490.0,
            "cores": 2,
        },
        "generator": {
            "cpu_s": 1.25,
            "presign_s": 0.4,
            "lanes": 64 * what.rollups,
            "retired_lanes": 0,
            "late_p99_ms": what.late_ms + 2.0,
            "late_share": 1.0 if what.late_ms > 50 else 0.0,
            "missed": 0,
        },
        "faults": list(what.faults),
        "accounts_per_rollup": 74,
        "recovery": {},
        "tracing": True,
        "bounded_by_hint": "",
    }


def _invariants(what: Synthetic) -> dict[str, Any]:
    names: tuple[str, ...] = (
        "no_unbundled",
        "replicas_agree",
        "firm_never_changed",
        "accounts_add_up",
        "every_accepted_resolved",
        "bundle_order_equal",
    )
    if what.layer is not None and what.layer.has_verdicts:
        names += ("no_settled_abort", "verdicts_agree")
    if what.layer is not None and what.layer.settle:
        names += ("ranges_contiguous", "settled_blocks_stand")
    return {
        name: {
            "ok": name not in what.broken_invariants,
            "detail": "" if name not in what.broken_invariants else "two replicas of rollup-1 differ at height 7",
        }
        for name in names
    }


def _scenario(what: Synthetic) -> str:
    return (
        f'[scenario]\nname = "synthetic"\nseed = {what.seed}\n\n[testnet]\nrollups = {what.rollups}\n\n'
        f"[backend]\nblock_interval_ms = {what.interval_ms}\n\n"
        f'[load]\nkind = "{what.load_kind}"\nrate_per_s = 100\nduration_s = {what.duration_s}\np99_bound_ms = 500\n'
    )
