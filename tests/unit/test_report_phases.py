"""Sweeps, bursts and faults: saturation by its rule, backlogs, latency around a fault."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.report import Results, write_report
from benchmarks.report.load_phases import saturation
from benchmarks.report.results import compute_results
from benchmarks.report.run_data import read_run
from benchmarks.report.wording import recoveries
from tests.support.synthetic_run import SECOND_NS, ZERO_NS, write_synthetic_run


def results_of(directory: Path, **changes: Any) -> Results:
    return compute_results(read_run(write_synthetic_run(directory, **changes)))


def sweep(directory: Path, *rates: float, **changes: Any) -> Results:
    changes = {"capacity_per_s": 1_000, "duration_s": 8.0 * len(rates), **changes}
    return results_of(directory, load_kind="sweep", phases_per_s=rates, **changes)


def test_saturation_is_the_highest_sustained_step(tmp_path: Path) -> None:
    results = sweep(tmp_path, 400, 600, 900, 1_350)
    assert [row["sustained"] for row in results.phases] == [True, True, True, False]
    found = results.saturation
    assert found is not None
    assert found["rate_per_s"] == 900
    assert found["limit_reached"]
    assert "1,350/s, failed: completed 7" in found["note"]
    assert results.valid
    assert results.completed_per_s == pytest.approx(900, rel=0.02)
    assert results.offered_per_s == results.phases[2]["offered_per_s"]
    assert "highest sustained step" in results.load["measured"]


def test_a_step_over_the_latency_bound_is_not_sustained(tmp_path: Path) -> None:
    results = sweep(tmp_path, 400, 600, run={"p99_bound_ms": 60.0})
    assert not any(row["sustained"] for row in results.phases)
    assert "is over 60 ms" in results.phases[0]["why_not"]
    assert results.saturation is not None
    assert not results.saturation["found"]
    assert any("no saturation point" in finding for finding in results.findings)


def test_a_sweep_that_never_failed_says_that_the_limit_lies_above(tmp_path: Path) -> None:
    results = sweep(tmp_path, 300, 400)
    assert results.saturation is not None
    assert not results.saturation["limit_reached"]
    assert any("did not reach the limit" in finding for finding in results.findings)


def test_a_late_generator_does_not_sustain_a_step(tmp_path: Path) -> None:
    results = sweep(tmp_path, 300, late_ms=70)
    assert results.phases[0]["why_not"].startswith("the generator was 7")


def test_steps_that_closed_in_on_the_limit_come_in_any_order() -> None:
    rows = [
        _row(1_000, why_not=""),
        _row(2_000, why_not="p99"),
        _row(1_400, why_not=""),
        _row(1_700, why_not="completed 97 % of offered"),
    ]
    found = saturation(rows, 500)
    assert found is not None
    assert found["rate_per_s"] == 1_400
    assert "1,700/s, failed: completed 97 %" in found["note"]


def _row(rate_per_s: float, *, why_not: str) -> dict[str, Any]:
    executed = {"p50": 60.0, "p99": 110.0}
    return {
        "rate_per_s": rate_per_s,
        "offered_per_s": rate_per_s,
        "completed_per_s": rate_per_s,
        "latency_ms": {"executed": executed},
        "why_not": why_not,
        "sustained": not why_not,
    }


def test_burst_recovery_is_when_the_backlog_is_gone(tmp_path: Path) -> None:
    results = results_of(
        tmp_path, load_kind="burst", phases_per_s=(200, 2_000, 200), duration_s=30, capacity_per_s=1_500
    )
    burst = results.burst
    assert burst is not None
    # 10 s with 500/s too many leave 5,000 bundles and those of a block, worked off at 1,500 - 200 per second.
    assert burst["recovered"]
    assert burst["peak_backlog"] == pytest.approx(5_000, rel=0.1)
    assert burst["recovery_ms"] == pytest.approx(5_000 / 1_300 * 1_000, rel=0.1)


def test_a_backlog_that_stays_is_not_recovered(tmp_path: Path) -> None:
    results = results_of(
        tmp_path,
        load_kind="burst",
        phases_per_s=(200, 2_000, 200),
        duration_s=30,
        capacity_per_s=1_500,
        lost_bundles=90,
    )
    assert results.burst is not None
    assert results.burst["recovered"] is False
    assert results.burst["recovery_ms"] is None


def test_latency_before_during_and_after_a_fault(tmp_path: Path) -> None:
    fault = {
        "kind": "kill",
        "target": "rollup-1",
        "injected_ns": ZERO_NS + 8 * SECOND_NS,
        "healed_ns": ZERO_NS + 10 * SECOND_NS,
    }
    write_synthetic_run(tmp_path, faults=(fault,))
    _delay(tmp_path, from_s=8.0, until_s=11.0)
    row = compute_results(read_run(tmp_path)).faults[0]
    assert row["executed_ms"]["before"]["p99"] < 130
    assert row["executed_ms"]["during"]["p50"] > 1_000
    assert row["executed_ms"]["after"]["p50"] < 130
    assert row["recovery_ms"] == pytest.approx(3_000, abs=150)


def test_a_fault_that_delayed_nothing(tmp_path: Path) -> None:
    fault = {"kind": "kill", "target": "rollup-1", "injected_ns": ZERO_NS + 8 * SECOND_NS, "healed_ns": None}
    row = results_of(tmp_path, faults=(fault,)).faults[0]
    assert row["healed_s"] is None
    assert row["recovery_ms"] == 0


def _fault(kind: str, from_s: float, until_s: float | None, **changes: Any) -> dict[str, Any]:
    healed_ns = None if until_s is None else ZERO_NS + round(until_s * SECOND_NS)
    return {
        "kind": kind, "target": "sequencer", "injected_ns": ZERO_NS + round(from_s * SECOND_NS),
        "healed_ns": healed_ns, "carried_out": True, "problem": "", **changes,
    }  # fmt: skip


def test_what_a_later_fault_delays_is_not_told_of_an_earlier_one(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, faults=(_fault("skip_slots", 6, 6.5), _fault("rpc_down", 10, 12)))
    _delay(tmp_path, from_s=10.0, until_s=13.0)
    results = compute_results(read_run(tmp_path))
    first, second = results.faults
    assert first["executed_ms"]["after"]["p99"] < 130
    assert (first["recovery_ms"], first["next_s"]) == (0, 10)
    assert second["executed_ms"]["before"]["p99"] < 130
    assert second["recovery_ms"] == pytest.approx(3_000, abs=150)
    assert second["executed_ms"]["after"]["p50"] < 130
    lines = recoveries(results)
    assert lines[0].endswith("no bundle took longer than 1.5 times the p99 before")
    assert "recovered after 3," in lines[1]


def test_a_fault_that_was_not_over_before_the_next_says_so(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, faults=(_fault("rpc_down", 6, 7), _fault("kill", 8, 8.2), _fault("kill", 14, 14.2)))
    _delay(tmp_path, from_s=6.0, until_s=9.0)
    first, second, third = (results := compute_results(read_run(tmp_path))).faults
    assert first["recovery_ms"] is None
    assert recoveries(results)[0].endswith("not recovered before the next fault at 8 s")
    # What was delayed by the first is no measure of what is usual.
    assert second["executed_ms"]["before"] == first["executed_ms"]["before"]
    assert second["executed_ms"]["before"]["p99"] < 130
    assert third["executed_ms"]["before"]["p99"] < 130
    assert third["recovery_ms"] == 0


def test_a_fault_that_was_not_carried_out_is_no_measurement(tmp_path: Path) -> None:
    failed = _fault("solana_fork", 6, None, carried_out=False, problem="a fork of depth 60 is not possible")
    results = results_of(tmp_path, faults=(failed, _fault("kill", 8, 9)))
    assert not results.valid
    assert any("the solana_fork of sequencer was not carried out" in reason for reason in results.invalid_reasons)
    assert not any("solana_fork" in warning for warning in results.warnings)
    assert recoveries(results)[0] == (
        "solana_fork of sequencer at 6 s: not carried out (a fork of depth 60 is not possible)"
    )
    assert results.faults[1]["executed_ms"]["before"]["count"] > 0
    write_report(tmp_path)


def test_a_fault_that_did_not_heal_is_a_warning(tmp_path: Path) -> None:
    results = results_of(tmp_path, faults=(_fault("kill", 8, None, problem="it did not recover"),))
    assert results.valid
    assert "the kill of sequencer did not heal: it did not recover" in results.warnings


def _delay(directory: Path, *, from_s: float, until_s: float) -> None:
    """Nothing is executed within a stretch of time; what was due then is executed at its end."""
    for name in ("bundles", "legs"):
        path = directory / "events" / f"{name}.parquet"
        table = pq.read_table(path)
        times = table.column("executed_ns").to_numpy()
        begin, end = (ZERO_NS + round(second * SECOND_NS) for second in (from_s, until_s))
        held = np.where((times >= begin) & (times < end), end, times)
        place = table.column_names.index("executed_ns")
        pq.write_table(table.set_column(place, "executed_ns", pa.array(held)), path)
