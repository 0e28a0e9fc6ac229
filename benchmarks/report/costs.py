"""What the order of a run cost outside of Lockstep, per bundle: lamports, transactions, posted bytes.

A backend that pays nobody has no such section. CPU, memory and gas stand elsewhere in a report.
"""

from collections.abc import Mapping
from typing import Any

from benchmarks.report.run_data import RunData
from benchmarks.report.stats import rounded


def cost_results(data: RunData, *, bundles: int) -> dict[str, Any] | None:
    """Totals of the load by name, the same per sequenced bundle, and what was spent before the load; None for none."""
    totals = data.run.get("costs")
    if not totals:
        return None
    return {
        "bundles": bundles,
        "totals": {str(name): int(value) for name, value in totals.items()},
        "per_bundle": {str(name): rounded(value / bundles) if bundles else None for name, value in totals.items()},
        "setup": {str(name): int(value) for name, value in (data.run.get("setup_costs") or {}).items()},
    }


def cost_sentence(costs: Mapping[str, Any]) -> str:
    """Per bundle, in the order of the backend."""
    shown = [f"{_amount(value)} {_unit(name)}" for name, value in costs["per_bundle"].items() if value]
    return f"{', '.join(shown) or 'nothing'} per sequenced bundle"


def setup_sentence(costs: Mapping[str, Any]) -> str:
    """What was paid before the load; empty for nothing."""
    return ", ".join(f"{total:,} {_unit(name)}" for name, total in costs["setup"].items() if total)


def _amount(value: float) -> str:
    """Four digits at most, never with an exponent."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:,.4g}"


def _unit(name: str) -> str:
    words = name.replace("_", " ")
    return words[0].upper() + words[1:] if words.startswith("solana ") else words
