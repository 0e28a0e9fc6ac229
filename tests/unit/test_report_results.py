"""Figures of a report from synthetic run directories: what counts, what does not, and what makes a run invalid."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.report import BrokenRunDirectory, Results, wording, write_report
from benchmarks.report.results import compute_results
from benchmarks.report.run_data import read_run
from tests.support.synthetic_run import MS_NS, SECOND_NS, ZERO_NS, write_synthetic_run

GOLDEN = Path(__file__).parents[1] / "golden" / "report_results.json"


def results_of(directory: Path, **changes: Any) -> Results:
    return compute_results(read_run(write_synthetic_run(directory, **changes)))


def change_table(directory: Path, name: str, column: str, values: list[Any]) -> None:
    path = directory / "events" / f"{name}.parquet"
    table = pq.read_table(path)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, column, pa.array(values, table.schema.field(column).type)), path)


def test_results_are_those_of_the_golden_file(tmp_path: Path) -> None:
    results = results_of(
        tmp_path,
        rate_per_s=60,
        duration_s=8,
        partly_share=0.03,
        skipped_share=0.02,
        dropped_share=0.02,
        refused_share=0.01,
        faults=({"kind": "kill", "target": "rollup-1", "injected_ns": ZERO_NS + 4 * SECOND_NS, "healed_ns": None},),
    )
    text = json.dumps(results.as_json(), indent=1) + "\n"
    if os.environ.get("LOCKSTEP_WRITE_GOLDEN"):
        GOLDEN.write_text(text, encoding="utf-8")
    # Written anew with LOCKSTEP_WRITE_GOLDEN=1; read the difference before committing it.
    assert json.loads(text) == json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_results_have_what_other_tools_read(tmp_path: Path) -> None:
    results = results_of(tmp_path).as_json()
    assert results["valid"] is True
    assert (results["backend"], results["scenario"]) == ("lazy", "synthetic")
    assert set(results["bundles"]) == {
        *("due", "accepted", "refused", "unsent", "sequenced", "executed", "succeeded", "partly_succeeded"),
        *("reverted", "skipped", "dropped", "aborted", "unbundled", "lost"),
    }
    for row in results["latency_ms"].values():
        assert set(row) == {"p50", "p90", "p99", "max", "count", "failures"}
    assert set(results["latency_ms"]) == {"accepted", "sequenced", "firm", "executed"}
    assert set(results["expected_ms"]) == {"sequenced", "firm", "executed"}
    assert all(isinstance(ok, bool) for ok in results["invariants"].values())
    assert results["engine_bound"]["share"] == pytest.approx(results["completed_per_s"] / 6_500, abs=1e-4)
    assert results["resources"]["rollup-0"]["cpu_s"] > 0
    assert results["resources"]["rollup-0"]["pss_mb"] > 0
    json.dumps(results, allow_nan=False)


def test_latency_counts_from_the_intended_time_within_the_window_only(tmp_path: Path) -> None:
    data = read_run(write_synthetic_run(tmp_path))
    results = compute_results(data)
    due, executed = data.bundles.due_ms, data.bundles.stage_ms["executed"]
    inside = (due >= 3_000) & (due < 18_000)
    latencies = np.sort((executed - due)[inside])
    row = results.latency_ms["executed"]
    assert row["count"] == len(latencies)
    assert row["p99"] == pytest.approx(latencies[int(np.ceil(0.99 * len(latencies))) - 1], abs=1e-3)
    assert row["max"] == pytest.approx(latencies[-1], abs=1e-3)


def test_a_backlog_that_grows_is_not_throughput(tmp_path: Path) -> None:
    results = results_of(tmp_path, rate_per_s=1_500, capacity_per_s=1_000)
    assert results.bundles["executed"] == 30_000
    assert results.completed_per_s == pytest.approx(1_000, rel=0.02)
    assert not results.kept_up


def test_a_rate_that_is_carried_is_completed_in_full(tmp_path: Path) -> None:
    results = results_of(tmp_path, rate_per_s=1_000, capacity_per_s=1_200)
    assert results.kept_up
    assert results.completed_per_s == pytest.approx(results.offered_per_s, rel=0.005)
    assert results.bounded_by["what"] == "nothing"


def test_dropped_and_skipped_bundles_are_resolved_but_not_completed(tmp_path: Path) -> None:
    results = results_of(tmp_path, dropped_share=0.1, skipped_share=0.1)
    counts = results.bundles
    assert counts["executed"] == counts["succeeded"] < counts["accepted"] == 4_000
    assert results.completed_per_s < 0.85 * results.offered_per_s
    assert results.dropped_by_reason == {"over_limit": counts["dropped"]}
    assert results.skipped_by_reason == {"nonce": counts["skipped"]}
    assert results.latency_ms["executed"]["failures"] > 0
    assert results.bounded_by["what"] == "outcomes"
    assert results.valid


def test_split_bundles_are_found_from_the_legs_whatever_the_run_says(tmp_path: Path) -> None:
    results = results_of(tmp_path, split_bundles=3)
    assert json.loads((tmp_path / "run.json").read_text())["invariants"]["no_unbundled"]["ok"]
    assert results.bundles["unbundled"] == 3
    assert results.invariants["no_unbundled"] is False
    assert not results.valid
    assert "3 bundles were split" in " ".join(results.invalid_reasons)


def test_legs_at_two_heights_are_split(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    heights = pq.read_table(tmp_path / "events" / "legs.parquet").column("height").to_pylist()
    heights[10] += 1
    change_table(tmp_path, "legs", "height", heights)
    assert compute_results(read_run(tmp_path)).bundles["unbundled"] == 1


def test_a_leg_without_a_row_is_missing(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    path = tmp_path / "events" / "legs.parquet"
    legs = pq.read_table(path)
    pq.write_table(legs.filter(pc.not_equal(legs.column("bundle_id"), 7)), path)
    results = compute_results(read_run(tmp_path))
    assert results.bundles["unbundled"] == 0
    assert not results.invariants["outcomes_match_legs"]
    pq.write_table(pa.concat_tables([legs.slice(0, 15), legs.slice(16)]), path)
    assert compute_results(read_run(tmp_path)).bundles["unbundled"] == 1


def test_an_outcome_that_does_not_follow_from_the_legs_is_found(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    outcomes = pq.read_table(tmp_path / "events" / "bundles.parquet").column("outcome").to_pylist()
    change_table(tmp_path, "bundles", "outcome", ["partly", *outcomes[1:]])
    results = compute_results(read_run(tmp_path))
    assert not results.invariants["outcomes_match_legs"]
    assert not results.valid


def test_lost_bundles_make_a_run_invalid(tmp_path: Path) -> None:
    results = results_of(tmp_path, lost_bundles=2)
    assert results.bundles["lost"] == 2
    assert results.bundles["unbundled"] == 0
    assert not results.invariants["every_accepted_resolved"]
    assert not results.valid


def test_accounts_that_do_not_add_up_are_found(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    outcomes = pq.read_table(tmp_path / "events" / "bundles.parquet").column("outcome").to_pylist()
    change_table(tmp_path, "bundles", "outcome", ["refused", *outcomes[1:]])
    results = compute_results(read_run(tmp_path))
    assert not results.invariants["accounts_add_up"]
    assert "the sequencer accepted them" in results.invariant_details["accounts_add_up"]["detail"]


def test_an_effect_before_its_cause_is_found(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    executed = pq.read_table(tmp_path / "events" / "bundles.parquet").column("executed_ns").to_pylist()
    executed[5] -= 400 * MS_NS
    change_table(tmp_path, "bundles", "executed_ns", executed)
    results = compute_results(read_run(tmp_path))
    assert not results.invariants["times_in_order"]


def test_an_invariant_that_the_run_found_broken_stays_broken(tmp_path: Path) -> None:
    results = results_of(tmp_path, broken_invariants=("replicas_agree", "no_unbundled"))
    assert results.invariants["replicas_agree"] is False
    assert results.invariants["no_unbundled"] is False
    assert not results.valid


def test_an_invariant_that_nobody_checked_is_not_claimed(tmp_path: Path) -> None:
    results = results_of(tmp_path, run={"invariants": {}})
    assert "replicas_agree" not in results.invariants
    assert "replicas_agree" in results.invariants_not_checked
    assert any("not checked" in warning for warning in results.warnings)


def test_a_fault_that_was_not_carried_out_is_not_passed_over(tmp_path: Path) -> None:
    fault = {"kind": "pause", "target": "rollup-1", "injected_ns": ZERO_NS + SECOND_NS, "healed_ns": None}
    fault |= {"carried_out": False, "problem": "it runs on another machine"}
    results = results_of(tmp_path, faults=(fault,))
    (reason,) = results.invalid_reasons
    assert reason.startswith("the pause of rollup-1 was not carried out, or not in full, so the load did not meet")
    assert reason.endswith(": it runs on another machine")


def test_clocks_of_several_machines_are_an_error_bar_in_every_report(tmp_path: Path) -> None:
    alone = results_of(tmp_path / "alone")
    assert ("Clocks", "one for all nodes") in wording.configuration(alone)
    offsets = {"a": {"offset_ns": 5, "residual_ns": 0}, "b": {"offset_ns": 9 * MS_NS, "residual_ns": MS_NS // 4}}
    several = results_of(tmp_path / "several", run={"clock_offsets": offsets})
    assert "within 0.250 ms" in dict(wording.configuration(several))["Clocks"]


def test_a_late_generator_makes_a_run_invalid(tmp_path: Path) -> None:
    results = results_of(tmp_path, late_ms=80)
    assert any("the generator was late" in reason for reason in results.invalid_reasons)
    assert results.bounded_by["what"] == "generator"


def test_a_rate_that_was_not_offered_makes_a_run_invalid(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    bundles = pq.read_table(tmp_path / "events" / "bundles.parquet")
    gone = np.arange(bundles.num_rows) % 20 == 0
    for column in ("sent_ns", "accepted_ns", "sequenced_ns", "firm_ns", "height", "executed_ns"):
        values = [None if missing else v for v, missing in zip(bundles.column(column).to_pylist(), gone, strict=True)]
        change_table(tmp_path, "bundles", column, values)
    outcomes = np.where(gone, "unsent", "succeeded").tolist()
    change_table(tmp_path, "bundles", "outcome", outcomes)
    results = compute_results(read_run(tmp_path))
    assert results.bundles["unsent"] == 200
    assert any("offered rate was not reached: 95" in reason for reason in results.invalid_reasons)


def test_an_interrupted_run_says_so_and_counts_what_was_due_until_then(tmp_path: Path) -> None:
    results = results_of(tmp_path, interrupted=True)
    assert not results.valid
    assert "interrupted (Ctrl-C)" in results.invalid_reasons[0]
    assert results.bundles["unsent"] == 400
    assert results.latency_ms["executed"]["failures"] == 0
    assert results.kept_up


def test_a_run_whose_testnet_broke_says_what_broke_when_and_what_to_do(tmp_path: Path) -> None:
    at_ns = ZERO_NS + 12_300 * MS_NS
    broken = {"part": "rollup-2", "reason": "its engine ended", "remedy": "Start it again.", "at_ns": at_ns}
    ending = {"interrupted": True, "interrupt_reason": "rollup-2 broke", "interrupted_ns": at_ns, "broken": broken}
    results = results_of(tmp_path, lost_bundles=3, run=ending)
    assert not results.valid
    told = "rollup-2 broke for good 12.3 s after the load began (its engine ended): only what had become due by then is"
    assert results.invalid_reasons == [
        f"{told} counted. Start it again.",
        "3 accepted bundles had no outcome when it broke",
    ]
    assert results.load["measured_to_s"] == 12.3


def test_a_run_in_which_nothing_completed(tmp_path: Path) -> None:
    results = results_of(tmp_path, dropped_share=1.0)
    assert not results.valid
    assert results.completed_per_s == 0
    assert results.latency_ms["executed"] == {
        **dict.fromkeys(("p50", "p90", "p99", "max")),
        "count": 0,
        "failures": results.latency_ms["sequenced"]["count"],
    }
    assert results.slowest == []


def test_a_run_without_any_bundle(tmp_path: Path) -> None:
    results = results_of(tmp_path, rate_per_s=0.01, duration_s=20)
    assert results.bundles["due"] == 0
    assert results.invalid_reasons == ["no bundle became due"]


def test_a_stage_that_the_mode_lacks_is_absent(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    bundles = pq.read_table(tmp_path / "events" / "bundles.parquet")
    change_table(tmp_path, "bundles", "firm_ns", [None] * bundles.num_rows)
    assert list(compute_results(read_run(tmp_path)).latency_ms) == ["accepted", "sequenced", "executed"]


def test_theory_stands_beside_the_measurement(tmp_path: Path) -> None:
    results = results_of(tmp_path / "a", capacity_per_s=5_490)
    assert {row["verdict"] for row in results.expected_vs_measured} == {"agrees"}
    assert results.expected_ms["sequenced"]["p50"] == 50
    assert "100 ms x" in results.expected_ms["executed"]["formula"]
    assert results.expected_ms["sequenced"]["by_construction"]
    assert not results.expected_ms["executed"]["by_construction"]
    slow = results_of(tmp_path / "b", late_ms=45)
    assert any("slower than expected" in finding for finding in slow.findings)
    assert slow.valid


def test_the_backends_own_formula_is_used(tmp_path: Path) -> None:
    expected = {"sequenced": {"formula": "a slot", "p50_ms": 6_000.0, "p99_ms": 11_880.0}}
    results = results_of(tmp_path, run={"expected": expected})
    assert results.expected_ms["sequenced"]["p50"] == 6_000
    assert list(results.expected_ms) == ["sequenced"]
    assert any("faster than expected" in finding for finding in results.findings)


def test_a_formula_of_whole_bundles_is_not_compared_with_bundles_in_pieces(tmp_path: Path) -> None:
    entry = {"formula": "a slot", "p50_ms": 6_000.0, "p99_ms": 11_880.0, "whole_bytes_max": 973}
    run = {"expected": {"sequenced": entry}, "costs": {"posted_bytes": 900}}
    assert {row["verdict"] for row in results_of(tmp_path / "a", run=run).expected_vs_measured} == {"faster"}
    run["costs"] = {"posted_bytes": 10**9}
    write_synthetic_run(tmp_path / "b", run=run)
    results = write_report(tmp_path / "b", formats=("html",))
    assert {row["verdict"] for row in results.expected_vs_measured} == {"not applicable"}
    assert "; not applicable: bundles go in pieces (" in results.expected_ms["sequenced"]["formula"]
    assert not any("than expected" in finding for finding in results.findings)
    assert "bundles go in pieces" in (tmp_path / "b" / "report.html").read_text(encoding="utf-8")


def test_agreement_says_by_how_much_it_differs(tmp_path: Path) -> None:
    (row, *_) = results_of(tmp_path, capacity_per_s=5_490).expected_vs_measured
    assert row["difference_share"] == pytest.approx(row["measured_ms"] / row["expected_ms"] - 1, abs=1e-4)
    assert (
        wording.theory_verdict("agrees", by_construction=True, difference_share=0.0921)
        == "agrees, by construction, +9.2 %"
    )
    assert wording.theory_verdict("slower", by_construction=True, difference_share=0.5) == "slower, +50.0 %"
    assert wording.theory_verdict("not applicable", by_construction=True, difference_share=3.0) == "not applicable"


def test_a_shared_process_is_counted_once(tmp_path: Path) -> None:
    results = results_of(tmp_path, run={"launcher": "ray"})
    rollups = [results.resources[f"rollup-{index}"] for index in range(4)]
    assert {row["nodes_in_process"] for row in rollups} == {4}
    parts = sum(row["cpu_s"] for row in results.resources.values())
    assert results.totals["cpu_s"] == pytest.approx(parts + 1.25, abs=0.01)
    per_bundle = sum(results.stage_cpu_us_per_bundle.values())
    assert per_bundle == pytest.approx(results.totals["cpu_us_per_bundle"], rel=0.01)


def test_cores_in_use_are_those_of_the_measured_window(tmp_path: Path) -> None:
    results = results_of(tmp_path, run={"launcher": "ray"})
    # 200/s of 350 us in engines, 260 us in processes and 312 us in the generator, and what idling costs.
    assert results.totals["cores_used"] == pytest.approx(200 * (350 + 260 + 312) * 1e-6 + 2 * 0.02, rel=0.03)


def test_slowest_bundles_say_where_the_time_went(tmp_path: Path) -> None:
    results = results_of(tmp_path)
    latencies = [row["executed_ms"] for row in results.slowest]
    assert len(latencies) == 10
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[0] == results.latency_ms["executed"]["max"]
    for row in results.slowest:
        assert sum(row["segments_ms"].values()) == pytest.approx(row["executed_ms"], abs=0.01)
        assert len(row["legs"]) == 2


@pytest.mark.parametrize("missing", ["run.json", "events/legs.parquet"])
def test_a_directory_that_is_no_run_is_named(tmp_path: Path, missing: str) -> None:
    write_synthetic_run(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(BrokenRunDirectory, match=missing):
        read_run(tmp_path)


def test_an_unknown_outcome_is_refused(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path)
    bundles = pq.read_table(tmp_path / "events" / "bundles.parquet")
    change_table(tmp_path, "bundles", "outcome", ["fine"] * bundles.num_rows)
    with pytest.raises(BrokenRunDirectory, match="'fine'"):
        read_run(tmp_path)
