"""Whether value was conserved: what the rollups hold of each token against what L1 holds for them."""

from collections.abc import Mapping
from typing import Any

from benchmarks.report.run_data import RunData


def conservation(data: RunData) -> dict[str, Any] | None:
    """Value per token over all rollups and escrow, added up again here; None where it was not read.

    `difference` = supply of all rollups + in flight - escrow. Above 0, value was made out of nothing. A rollup whose
    execution is unsound by the scenario may print at home what it likes: there `holds` asks only that nobody was paid
    without an exit, and that the escrow covers what the others hold.
    """
    stored = (data.run.get("conservation") or {}).get("tokens")
    if not stored:
        return None
    unsound = {name for name, lie in (data.layer.get("liars") or {}).items() if lie == "state"}
    tokens = [_token(entry, unsound) for entry in stored]
    return {
        "rule": "invariant" if data.has_verdicts else "reported",
        "holds": all(token["holds"] for token in tokens),
        "unsound": sorted(unsound),
        "tokens": tokens,
        "not_counted": list((data.run.get("conservation") or {}).get("not_counted") or ()),
    }


def _token(entry: Mapping[str, Any], unsound: set[str]) -> dict[str, Any]:
    supply = {str(name): int(units) for name, units in entry["supply"].items()}
    escrow, in_flight = int(entry["escrow"]), int(entry.get("in_flight") or 0)
    created = int(entry.get("created") or 0)
    difference = sum(supply.values()) + in_flight - escrow
    honest = sum(units for name, units in supply.items() if name not in unsound)
    broken = [name for name in (entry.get("unbacked") or {}) if name not in unsound]
    return {
        "token": str(entry["token"]),
        "decimals": int(entry.get("decimals") or 0),
        "escrow": escrow,
        "supply": supply,
        "in_flight": in_flight,
        "created": created,
        "difference": difference,
        "holds": not created and not broken and (escrow >= honest if unsound else not difference),
    }


def conservation_problem(money: dict[str, Any]) -> str:
    """The tokens that do not add up, in words; empty where all do."""
    wrong = [token for token in money["tokens"] if not token["holds"]]
    return "; ".join(
        f"{token['token']}: {abs(token['difference']):,} units "
        + ("were made out of nothing" if token["difference"] > 0 else "are missing")
        for token in wrong
    )
