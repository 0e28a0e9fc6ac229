"""What an aggregation layer leaves in a synthetic run directory: verdicts, reorgs, certificates, settlements, value.

Certificates follow a simple model: one per rollup and `ROUND_S`, proved and settled a round after they were built; a
bundle's exit is in the certificate after it became safe, its import in the next.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

Ints = NDArray[np.int64]
MS_NS = 1_000_000
SECOND_NS = 1_000_000_000
NEVER = -1
ROUND_S = 2
"""Two slots of one second are an epoch, and one round of settlement."""
SAFE_AFTER_NS = 6 * MS_NS
GAS = 240_000
ETHER = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class SyntheticLayer:
    """What the aggregation layer of a synthetic run did."""

    mode: str = "agglayer"
    settle: bool = True
    prover: str = "attested"
    attesters_separate: bool = True
    two_round_share: float = 0.1
    """Of the heights; each of these is reorged once on rollup-1."""
    deep_reorgs: int = 0
    """Reorgs of depth 4."""
    struck_together: int = 0
    never_safe: int = 0
    """Bundles that were executed and got no verdict."""
    slower_ms: float = 0.0
    """How much longer the last verdict takes than the first."""
    unsettled_from_s: float | None = None
    """Certificates built from here on do not settle."""
    refused: int = 0
    """Certificates in error."""
    made_units: int = 0
    """Value made out of nothing on rollup-0."""
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def has_verdicts(self) -> bool:
        """Heights are resolved."""
        return self.mode == "agglayer"


def late_stages(
    layer: SyntheticLayer, executed: Ints, outcome: NDArray[np.object_], *, zero_ns: int, end_ns: int
) -> dict[str, Ints]:
    """Columns of bundles.parquet."""
    stood = (executed != NEVER) & np.isin(outcome, ("succeeded", "partly", "reverted"))
    if layer.has_verdicts:
        stood &= outcome == "succeeded"
        stood[np.flatnonzero(stood)[: layer.never_safe]] = False
    progress = np.clip((executed - zero_ns) / (end_ns - zero_ns), 0, 1)
    safe = executed + SAFE_AFTER_NS + np.round(progress * layer.slower_ms * MS_NS).astype(np.int64)
    stages = {"atomic_safe": np.where(stood, safe, NEVER)} if layer.has_verdicts else {}
    if not layer.settle:
        return stages
    period = ROUND_S * SECOND_NS
    built = zero_ns + -(-(safe - zero_ns) // period) * period
    stopped = None if layer.unsettled_from_s is None else zero_ns + round(layer.unsettled_from_s * SECOND_NS)
    settled = built + 2 * period
    reached = stood & (True if stopped is None else settled < stopped)
    stages["proved"] = np.where(reached, settled - SECOND_NS, NEVER)
    stages["settled"] = np.where(reached, settled, NEVER)
    stages["final"] = np.where(reached, settled + 2 * SECOND_NS, NEVER)
    return stages


def write_layer_tables(layer: SyntheticLayer, events: Path, heights: Ints, **where: int) -> None:
    """Write the tables beside those that every run has. `where`: rollups, zero_ns, end_ns, interval_ns."""
    if layer.has_verdicts:
        _write(events, "verdicts", _verdicts(layer, heights, **where))
        _write(events, "reorgs", _reorgs(layer, heights, **where))
    if layer.settle:
        certificates = _certificates(layer, **where)
        _write(events, "certificates", certificates)
        _write(events, "settlements", _settlements(certificates))
        _write(events, "proofs", _proofs(layer, certificates))


def _write(events: Path, name: str, rows: list[dict[str, Any]]) -> None:
    from coordinator.record import TABLES

    pq.write_table(pa.Table.from_pylist(rows, schema=TABLES[name]), events / f"{name}.parquet")


def _contested(layer: SyntheticLayer, heights: Ints) -> Ints:
    every = round(1 / layer.two_round_share) if layer.two_round_share else 0
    return heights[::every] if every else heights[:0]


def _verdicts(layer: SyntheticLayer, heights: Ints, **where: int) -> list[dict[str, Any]]:
    contested = set(_contested(layer, heights).tolist())
    rows = [
        {
            "at_ns": where["zero_ns"] + height * where["interval_ns"] + SAFE_AFTER_NS,
            "epoch": 0,
            "height": height,
            "rounds": 2 if height in contested else 1,
            "aborted": int(height in contested),
            "struck_together": 0,
            "networks": where["rollups"],
        }
        for height in heights.tolist()
    ]
    rows[0]["struck_together"] = layer.struck_together
    return rows


def _reorgs(layer: SyntheticLayer, heights: Ints, **where: int) -> list[dict[str, Any]]:
    contested = _contested(layer, heights).tolist()
    depths = [4] * layer.deep_reorgs + [1] * len(contested)
    return [
        {
            "node": "rollup-1",
            "at_ns": where["zero_ns"] + height * where["interval_ns"],
            "from_height": height + depth - 1,
            "to_height": height - 1,
            "depth": depth,
        }
        for height, depth in zip([*contested[: layer.deep_reorgs], *contested], depths, strict=True)
    ]


def _certificates(layer: SyntheticLayer, **where: int) -> list[dict[str, Any]]:
    period = ROUND_S * SECOND_NS
    stopped = None if layer.unsettled_from_s is None else where["zero_ns"] + round(layer.unsettled_from_s * SECOND_NS)
    rows = []
    for number, built in enumerate(range(where["zero_ns"], where["end_ns"] + 3 * period, period)):
        for rollup in range(where["rollups"]):
            settled = built + period
            stands = stopped is None or settled < stopped
            in_error = number == 0 and rollup < layer.refused
            rows.append(
                {
                    "network_id": rollup + 1,
                    "rollup": f"rollup-{rollup}",
                    "certificate_height": number,
                    "certificate_id": (number * 100 + rollup).to_bytes(32, "big"),
                    "first_height": number * 20 + 1,
                    "last_height": number * 20 + 20,
                    "exits": 50,
                    "imports": 50,
                    "built_ns": built,
                    "pending_ns": built + 5 * MS_NS,
                    "proven_ns": None if in_error else built + SECOND_NS,
                    "candidate_ns": None if in_error else built + SECOND_NS + 10 * MS_NS,
                    "settled_ns": settled if stands and not in_error else None,
                    "final_ns": settled + 2 * SECOND_NS if stands and not in_error else None,
                    "status": "in_error" if in_error else "settled" if stands else "candidate",
                    "error": "InvalidSigner: declared 0xaa, recovered 0xbb" if in_error else "",
                    "settlement_tx": number.to_bytes(32, "big") if stands and not in_error else None,
                }
            )
    return rows


def _settlements(certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One transaction per round; the first was moved by a reorg and counts once all the same."""
    rows = []
    for tx_hash in sorted({row["settlement_tx"] for row in certificates if row["settlement_tx"]}):
        members = [row for row in certificates if row["settlement_tx"] == tx_hash]
        at_ns = members[0]["settled_ns"]
        base = {"tx_hash": tx_hash, "l1_block": 9, "certificates": len(members)}
        rows.append({**base, "at_ns": at_ns - SECOND_NS, "step": "sent", "l1_block": 0, "gas_used": 0})
        for step in ("included", "reorged", "included") if not rows[:-1] else ("included",):
            rows.append({**base, "at_ns": at_ns, "step": step, "gas_used": GAS if step == "included" else 0})
    return rows


def _proofs(layer: SyntheticLayer, certificates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    modelled = 400 * MS_NS if layer.prover == "modelled" else 0
    return [
        {
            "at_ns": built + SECOND_NS,
            "prover": layer.prover,
            "certificates": 4,
            "exits": 200,
            "imports": 200,
            "duration_ns": 100 * MS_NS + modelled,
            "modelled_ns": modelled,
        }
        for built in sorted({row["built_ns"] for row in certificates})
    ]


def layer_document(layer: SyntheticLayer, rollups: int) -> dict[str, Any]:
    """Keys of run.json."""
    escrow = 1_000 * ETHER
    supply = {f"rollup-{number}": escrow // rollups for number in range(rollups)}
    supply["rollup-0"] += layer.made_units
    token = {
        "token": "LOCK",
        "decimals": 18,
        "escrow": str(escrow),
        "supply": {name: str(units) for name, units in supply.items()},
        "in_flight": "0",
        "created": str(layer.made_units),
        "unbacked": {},
    }
    return {
        "atomicity": layer.mode,
        "agglayer": {
            "prover": layer.prover,
            "attesters": 3,
            "threshold": 2,
            "attesters_separate": layer.attesters_separate,
            "settle": layer.settle,
            "settled_in_time": layer.unsettled_from_s is None,
            "liars": {},
            "slot_time_ms": 1_000,
            "epoch_blocks": 2,
            "finality_slots": 1,
            "serial_rounds": 8,
            "certificate_interval_s": 1.0,
        },
        "conservation": {"tokens": [token]},
        "evidence": [{"accused": "rollup-2", "detail": "two reports of height 7 for one abort set"}],
        "notices": [{"kind": "evict", "height": 9, "rollup": "rollup-3", "voided": 0}],
        "mints_per_bundle": 1,
    } | layer.run
