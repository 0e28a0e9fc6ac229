"""Certificates, proofs and settlement on L1: how long they took, and what a bundle cost there."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.report.run_data import NS_PER_MS, RunData
from benchmarks.report.stats import Window, completed_mask, percentiles, reached, rounded

NEVER_SETTLE = ("state", "withholds")
"""What is wrong by the scenario with a rollup whose own bundles cannot all settle."""
REFUSED = ("in_error", "given_up")
"""Statuses of certificates that count for nothing: the layer, or the rollup itself, put another in their place."""
PROOF_STEPS = ("pending", "proven", "candidate", "settled", "final")


def proof_kind(data: RunData) -> str:
    """attested or modelled; empty where nothing is proved."""
    return str(data.layer.get("prover") or "") if data.settles else ""


def proof_label(data: RunData) -> str:
    """What stands wherever a proof is spoken of."""
    layer = data.layer
    threshold, attesters = layer.get("threshold"), layer.get("attesters")
    made = f"{threshold} of {attesters}" if threshold and attesters else "number not recorded"
    if layer.get("prover") == "modelled":
        return f"modelled: attested ({made}), with a delay drawn from published proving times; not a ZK proof"
    if layer.get("prover") == "attested":
        return f"attested ({made}), not a ZK proof"
    return str(layer.get("label") or layer.get("prover") or "of an unknown prover")


def settlement_results(data: RunData, window: Window) -> dict[str, Any] | None:
    """None where rollups send no certificates."""
    if not data.settles:
        return None
    certificates = data.certificates
    return {
        "proof": _proof(data),
        "certificates": dict(sorted(Counter(str(row["status"]) for row in certificates).items())),
        "exits": sum(int(row["exits"] or 0) for row in certificates if row["settled_ns"] is not None),
        "imports": sum(int(row["imports"] or 0) for row in certificates if row["settled_ns"] is not None),
        "life_ms": _lives(data),
        "cycle_ms": _cycle(data),
        "bundles": _bundles(data, window),
        "settled_in_time": data.layer.get("settled_in_time"),
        "gas": _gas(data),
    }


def _proof(data: RunData) -> dict[str, Any]:
    took = np.array([int(row["duration_ns"]) / NS_PER_MS for row in data.proofs], dtype=np.float64)
    waited = sum(int(row["modelled_ns"] or 0) for row in data.proofs)
    whole = sum(int(row["duration_ns"]) for row in data.proofs)
    return {
        "label": proof_label(data),
        "kind": proof_kind(data),
        "batches": len(data.proofs),
        "certificates_per_batch": percentiles(_column(data, "certificates")),
        "exits_per_batch": percentiles(_column(data, "exits")),
        "duration_ms": percentiles(took),
        "modelled_share": rounded(waited / whole, 4) if whole else None,
        "attesters_separate": data.layer.get("attesters_separate"),
    }


def _column(data: RunData, name: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    return np.array([float(row[name] or 0) for row in data.proofs], dtype=np.float64)


def _lives(data: RunData) -> dict[str, dict[str, Any]]:
    """How long after it was built a certificate came to each step. Refused ones are not in it."""
    found = {}
    for step in PROOF_STEPS:
        spans = [
            (int(row[f"{step}_ns"]) - int(row["built_ns"])) / NS_PER_MS
            for row in data.certificates
            if row["built_ns"] is not None and row.get(f"{step}_ns") is not None and row["status"] not in REFUSED
        ]
        found[step] = percentiles(np.array(spans, dtype=np.float64))
    return found


def _cycle(data: RunData) -> dict[str, Any]:
    """From one certificate of a network to its next."""
    by_network: dict[int, list[int]] = {}
    for row in data.certificates:
        if row["built_ns"] is not None and row["status"] not in REFUSED:
            by_network.setdefault(int(row["network_id"]), []).append(int(row["built_ns"]))
    spans = [np.diff(np.sort(np.array(times))) / NS_PER_MS for times in by_network.values()]
    return percentiles(np.concatenate(spans) if spans else np.empty(0))


def _bundles(data: RunData, window: Window) -> dict[str, Any]:
    """Of the completed bundles: settled, and final."""
    bundles = data.bundles
    done = completed_mask(bundles)
    settled, final = (
        reached(bundles, stage) if stage in bundles.stage_ms else np.zeros(len(bundles), dtype=bool)
        for stage in ("settled", "final")
    )
    inside = window.holds(bundles.due_ms) & done
    broken = sorted(name for name, lie in (data.layer.get("liars") or {}).items() if lie in NEVER_SETTLE)
    touches = np.isin(bundles.ids, data.legs.bundle_ids[np.isin(data.legs.rollup, broken)])
    return {
        "completed": int(done.sum()),
        "settled": int(settled.sum()),
        "final": int(final.sum()),
        "unsettled": int((done & ~settled).sum()),
        "never_settle": broken,
        "unsettled_of_them": int((done & ~settled & touches).sum()),
        "settled_share_in_window": rounded(float((settled & inside).sum()) / float(inside.sum()), 4)
        if inside.any()
        else None,
    }


def _gas(data: RunData) -> dict[str, Any]:
    """Gas of the settlement transactions that are in a block, those of the load apart from what came before.

    A transaction that a reorg moved to another block counts once.
    """
    included: dict[bytes, Mapping[str, Any]] = {}
    for row in sorted(data.settlements, key=lambda row: int(row["at_ns"])):
        if row["step"] == "included":
            included[bytes(row["tx_hash"])] = row
        elif row["step"] == "reorged":
            included.pop(bytes(row["tx_hash"]), None)
    loaded = [row for row in included.values() if int(row["at_ns"]) >= data.zero_ns]
    gas = sum(int(row["gas_used"]) for row in loaded)
    carried = sum(int(row["certificates"]) for row in loaded)
    bundles = int(reached(data.bundles, "settled").sum()) if "settled" in data.bundles.stage_ms else 0
    return {
        "settlements": len(loaded),
        "settlements_before_load": len(included) - len(loaded),
        "certificates": carried,
        "total": gas,
        "per_settlement": rounded(gas / len(loaded), 1) if loaded else None,
        "per_certificate": rounded(gas / carried, 1) if carried else None,
        "bundles_per_certificate": rounded(bundles / carried, 1) if carried else None,
        "per_bundle": rounded(gas / bundles, 1) if bundles else None,
    }
