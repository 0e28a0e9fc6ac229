"""What a report says of an aggregation layer: verdicts, reorgs, value, proofs, settlement, refusals, theory."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.report import Results, compare_runs, layer_wording, write_comparison, write_report
from benchmarks.report.charts import charts_of
from benchmarks.report.page import page
from benchmarks.report.results import compute_results
from benchmarks.report.run_data import read_run
from benchmarks.report.terminal import report_text
from tests.support.synthetic_layer import GAS, SyntheticLayer
from tests.support.synthetic_run import Synthetic, write_synthetic_run

AGGLAYER = SyntheticLayer()
BOND = SyntheticLayer(
    mode="bond",
    made_units=5_000,
    run={"capital": {"bond_wei": str(10**18), "escrow_LOCK": "7", "bank_outstanding": "5"}},
)
PAID = {
    "paid": 2,
    "paid_wei": str(2 * 10**18),
    "claim_gas": 240_000,
    "unpaid": {"the promise expired": 1},
    "executed_not_whole": 3,
    "account": {"release_s": 1.5, "expected_per_s": 50.0, "measured_per_s": 10.0, "lacked_bond": 4},
}
INCLUSION = SyntheticLayer(mode="inclusion", settle=False, made_units=7)


def results_of(directory: Path, layer: SyntheticLayer | None, **changes: Any) -> Results:
    return compute_results(read_run(write_synthetic_run(directory, layer=layer, **changes)))


def change_run(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    run = json.loads((directory / "run.json").read_text())
    change(run)
    (directory / "run.json").write_text(json.dumps(run))


def section(results: Results) -> dict[str, Any]:
    assert results.atomicity is not None
    return dict(results.atomicity)


def test_a_run_without_a_layer_says_nothing_of_one(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=("tables",))
    assert results.atomicity is None
    stored = json.loads((tmp_path / "results.json").read_text())
    assert "atomicity" not in stored
    assert "aborted" not in stored["legs"]
    assert not {"rounds.csv", "settlement.csv", "refused.csv"} & {path.name for path in (tmp_path / "tables").iterdir()}
    shown = page(read_run(tmp_path), results, ())
    assert "Atomic execution" not in shown
    assert "Settlement" not in shown
    assert not {"ladder", "rounds", "settling"} & {chart.name for chart in charts_of(results)}


def test_stages_are_those_of_the_mode(tmp_path: Path) -> None:
    before = ["accepted", "sequenced", "firm", "executed"]
    settled = ["proved", "settled", "final"]
    assert list(results_of(tmp_path / "a", AGGLAYER).latency_ms) == [*before, "atomic_safe", *settled]
    assert list(results_of(tmp_path / "b", BOND).latency_ms) == [*before, *settled]
    assert list(results_of(tmp_path / "c", INCLUSION).latency_ms) == before


def test_what_a_mode_lacks_is_absent(tmp_path: Path) -> None:
    verdicts, always = {"aborts", "atomic_safe", "rounds", "reorgs"}, {"mode", "promise", "refused", "conservation"}
    agglayer, bond, inclusion = (
        section(results_of(tmp_path / layer.mode, layer)) for layer in (AGGLAYER, BOND, INCLUSION)
    )
    assert verdicts | always | {"settlement"} <= set(agglayer)
    assert not verdicts & set(bond)
    assert always | {"settlement", "capital"} <= set(bond)
    assert not (verdicts | {"settlement", "capital"}) & set(inclusion)


def test_a_stage_that_the_mode_promises_and_nothing_reached_is_shown_with_nothing(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(never_safe=10**6, unsettled_from_s=-1))
    assert results.latency_ms["atomic_safe"]["count"] == 0
    assert results.latency_ms["settled"]["failures"] > 0
    assert results.completed_per_s == 0
    assert any("never became atomic-safe" in reason for reason in results.invalid_reasons)


def test_completed_means_atomic_safe_where_verdicts_decide(tmp_path: Path) -> None:
    clean = results_of(tmp_path / "a", AGGLAYER)
    assert clean.kept_up
    assert "became atomic-safe" in clean.method["completed_per_s"]
    struck = results_of(tmp_path / "b", AGGLAYER, aborted_share=0.05)
    assert struck.valid
    assert not struck.kept_up
    assert struck.completed_per_s == pytest.approx(0.95 * struck.offered_per_s, rel=0.01)
    assert struck.bounded_by["what"] == "outcomes"
    text = " ".join(report_text(struck).replace("│", " ").split())
    assert "Not everything was atomic-safe" in text
    assert "were never atomic-safe" in text


def test_aborted_bundles_follow_from_their_legs(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(struck_together=3), aborted_share=0.05)
    aborts = section(results)["aborts"]
    assert aborts["bundles"] == results.bundles["aborted"] > 0
    assert aborts["by_reason"] == {"leg reverted": aborts["bundles"]}
    assert aborts["struck_together"] == 3
    assert aborts["share"] == pytest.approx(0.05, abs=0.01)
    assert results.legs["aborted"] == 2 * aborts["bundles"]
    assert results.invariants["outcomes_match_legs"]
    assert results.invariants["accounts_add_up"]
    assert "possible collateral" in report_text(results)


def test_a_bundle_that_stands_in_part_in_spite_of_verdicts_breaks_an_invariant(tmp_path: Path) -> None:
    results = results_of(tmp_path / "a", AGGLAYER, partly_share=0.02)
    assert results.invariants["no_partly_at_atomic_safe"] is False
    assert not results.valid
    assert "no_partly_at_atomic_safe" not in results_of(tmp_path / "b", BOND, partly_share=0.02).invariants


def test_waiting_for_a_verdict_is_measured_from_the_execution(tmp_path: Path) -> None:
    found = section(results_of(tmp_path, AGGLAYER))["atomic_safe"]
    assert found["after_executed_ms"]["p50"] == found["after_executed_ms"]["max"] == pytest.approx(6.0, abs=1e-3)
    assert found["never"] == 0


def test_verdicts_that_fall_behind_are_said(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(slower_ms=2_000))
    assert section(results)["atomic_safe"]["growth_ms"] > 500
    assert any("verdicts fell behind" in warning for warning in results.warnings)


def test_rounds_and_reorgs_are_counted_by_height(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(two_round_share=0.1, deep_reorgs=2))
    rounds, reorgs = section(results)["rounds"], section(results)["reorgs"]
    histogram = {row["rounds"]: row["heights"] for row in rounds["histogram"]}
    assert sum(histogram.values()) == rounds["heights"]
    assert histogram[2] == pytest.approx(0.1 * rounds["heights"], abs=1)
    assert rounds["mean"] == pytest.approx(1.1, abs=0.01)
    assert {row["depth"]: row["reorgs"] for row in reorgs["histogram"]} == {1: histogram[2], 4: 2}
    assert reorgs["by_node"] == {"rollup-1": histogram[2] + 2}
    assert {"rounds", "reorg_depth", "ladder", "settling"} <= {chart.name for chart in charts_of(results)}


def test_a_height_with_two_verdicts_counts_by_the_last(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer(two_round_share=0))
    path = tmp_path / "events" / "verdicts.parquet"
    rows = pq.read_table(path).to_pylist()
    rows.append({**rows[0], "epoch": 1, "rounds": 5})
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    results = compute_results(read_run(tmp_path))
    assert section(results)["rounds"]["histogram"][-1] == {"rounds": 5, "heights": 1}
    assert section(results)["rounds"]["heights"] == len(rows) - 1
    assert any("a new epoch began" in warning for warning in results.warnings)


def test_value_is_an_invariant_or_an_amount_by_the_mode(tmp_path: Path) -> None:
    whole = results_of(tmp_path / "a", AGGLAYER)
    assert whole.invariants["value_conserved"]
    assert section(whole)["conservation"]["tokens"][0]["difference"] == 0
    inflated = results_of(tmp_path / "b", SyntheticLayer(made_units=12))
    assert not inflated.invariants["value_conserved"]
    assert not inflated.valid
    assert "12 units were made out of nothing" in inflated.invariant_details["value_conserved"]["detail"]
    reported = results_of(tmp_path / "c", INCLUSION)
    assert reported.valid
    assert "value_conserved" not in reported.invariants
    assert section(reported)["conservation"]["tokens"][0]["difference"] == 7
    assert "made out of nothing (reported, not promised)" in " ".join(report_text(reported).replace("│", " ").split())


def test_an_unsound_rollup_can_lose_only_what_is_its_own(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    path = tmp_path / "run.json"
    run = json.loads(path.read_text())
    run["agglayer"]["liars"] = {"rollup-1": "state"}
    run["conservation"]["tokens"][0]["supply"]["rollup-1"] = str(10**24)
    run["conservation"]["tokens"][0]["unbacked"] = {"rollup-1": "1"}
    path.write_text(json.dumps(run))
    results = compute_results(read_run(tmp_path))
    assert results.invariants["value_conserved"]
    assert "whatever the unsound rollup-1 printed" in layer_wording.value(section(results)["conservation"])
    run["conservation"]["tokens"][0]["supply"]["rollup-0"] = str(10**24)
    path.write_text(json.dumps(run))
    assert not compute_results(read_run(tmp_path)).invariants["value_conserved"]


def test_how_far_rollups_may_look_ahead_is_named(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    path = tmp_path / "run.json"
    run = json.loads(path.read_text())
    run["agglayer"]["speculation_heights"] = 32
    path.write_text(json.dumps(run))
    said = dict(layer_wording.facts(compute_results(read_run(tmp_path))))["Verdicts"]
    assert said.endswith("; at most 32 heights executed ahead of their verdicts")


def test_what_the_bond_paid_stands_beside_what_it_can_carry(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer(mode="bond", run={"bond": PAID}))
    results = write_report(tmp_path, formats=("tables",))
    said = dict(layer_wording.facts(results))["Bond"]
    assert said.startswith("2 of 3 bundles that did not succeed whole paid, 2 ether at 120,000 gas a claim")
    assert "unpaid: 1 (the promise expired)" in said
    assert "50.0 promises/s expected at most, 10.0/s made; 4 bundles lacked free bond" in said
    assert "account release_s,1.5" in (tmp_path / "tables" / "bond.csv").read_text()
    assert "bond" not in section(results_of(tmp_path / "b", AGGLAYER))


@pytest.mark.parametrize(
    ("units", "text"),
    [
        (10**18, "1"),
        (-(5 * 10**17), "-0.5"),
        (2_000 * 10**18, "2,000"),
        (7, "7 units"),
        (10**18 + 1, f"{10**18 + 1:,} units"),
    ],
)
def test_amounts_lose_no_digit(units: int, text: str) -> None:
    assert layer_wording.amount(units, {"decimals": 18}) == text


def test_gas_counts_each_transaction_once(tmp_path: Path) -> None:
    results = results_of(tmp_path, AGGLAYER)
    settled = section(results)["settlement"]
    gas = settled["gas"]
    assert gas["total"] == gas["settlements"] * GAS
    assert gas["certificates"] == 4 * gas["settlements"]
    assert gas["per_settlement"] == GAS
    assert gas["per_bundle"] == pytest.approx(gas["total"] / settled["bundles"]["settled"], abs=0.1)
    assert settled["bundles"]["unsettled"] == 0
    assert settled["life_ms"]["settled"]["p50"] == pytest.approx(2_000)
    assert settled["cycle_ms"]["p50"] == pytest.approx(2_000)


def test_settlement_that_does_not_keep_up_is_said(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(unsettled_from_s=12))
    bundles = section(results)["settlement"]["bundles"]
    assert bundles["unsettled"] > 0
    assert any("settlement did not keep up" in warning for warning in results.warnings)
    assert results.valid


@pytest.mark.parametrize("lie", ["state", "withholds"])
def test_bundles_that_cannot_settle_by_the_scenario_are_told_apart_from_late_ones(tmp_path: Path, lie: str) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer(unsettled_from_s=12))
    change_run(tmp_path, lambda run: run["agglayer"].update(liars={"rollup-1": lie}))
    results = compute_results(read_run(tmp_path))
    bundles = section(results)["settlement"]["bundles"]
    stuck, late = bundles["unsettled_of_them"], bundles["unsettled"] - bundles["unsettled_of_them"]
    assert min(stuck, late) > 0
    said = " ".join(results.warnings)
    assert f"{stuck:,} of {bundles['completed']:,} completed bundles touch rollup-1, whose exits the scenario" in said
    assert f"settlement did not keep up: {late:,} of {bundles['completed']:,} completed bundles were not" in said
    assert "ranges of those who import from there end below the lowest such import until it is voided" in said


def test_a_certificate_may_be_proved_before_its_heights_are_resolved_again(tmp_path: Path) -> None:
    """A void takes `safe` back; what a certificate covers already comes again equal, and keeps its certificate."""
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    path = tmp_path / "events" / "bundles.parquet"
    columns = pq.read_table(path)
    place = next(at for at, proved in enumerate(columns.column("proved_ns").to_pylist()) if proved)
    proved_ns, height = columns.column("proved_ns")[place].as_py(), columns.column("height")[place].as_py()
    safe = columns.column("atomic_safe_ns").to_pylist()
    safe[place] = proved_ns + 500_000_000
    at = columns.column_names.index("atomic_safe_ns")
    pq.write_table(columns.set_column(at, "atomic_safe_ns", pa.array(safe, type=pa.int64())), path)
    assert not compute_results(read_run(tmp_path)).invariants["times_in_order"]

    def void(*, from_height: int, after_ms: int) -> None:
        notice = {"kind": "void", "height": from_height, "at_ns": proved_ns + after_ms * 1_000_000, "voided": 1}
        change_run(tmp_path, lambda run: run.update(notices=[notice]))

    void(from_height=height, after_ms=100)
    assert compute_results(read_run(tmp_path)).invariants["times_in_order"]
    void(from_height=height + 1, after_ms=100)
    assert not compute_results(read_run(tmp_path)).invariants["times_in_order"], "not resolved again"
    void(from_height=height, after_ms=600)
    assert not compute_results(read_run(tmp_path)).invariants["times_in_order"], "the void came later"


def test_tokens_that_nobody_counted_are_named(tmp_path: Path) -> None:
    results = results_of(tmp_path, AGGLAYER)
    assert layer_wording.value(section(results)["conservation"]) == "conserved in LOCK"
    others = [{"network": 2, "address": f"0x{number:040x}", "events": 3} for number in range(7)]
    change_run(tmp_path, lambda run: run["conservation"].update(not_counted=others))
    said = layer_wording.value(section(compute_results(read_run(tmp_path)))["conservation"])
    assert said.startswith(f"conserved in LOCK; not counted: 0x{0:040x} of network 2, 0x{1:040x} of network 2, ")
    assert said.endswith(" and 2 more")


@pytest.mark.parametrize(
    ("prover", "label"),
    [
        ("attested", "attested (2 of 3), not a ZK proof"),
        ("modelled", "modelled: attested (2 of 3), with a delay drawn from published proving times; not a ZK proof"),
    ],
)
def test_a_proof_is_never_named_without_what_it_is(tmp_path: Path, prover: str, label: str) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer(prover=prover))
    results = write_report(tmp_path, formats=("tables",))
    assert section(results)["settlement"]["proof"]["label"] == label
    said = " ".join(report_text(results).replace("│", " ").split())
    assert label in said
    assert f"proved ({prover})" in said
    shown = page(read_run(tmp_path), results, ())
    assert label in shown
    assert f"proved ({prover})" in shown
    assert label in (tmp_path / "tables" / "settlement.csv").read_text()
    modelled = any("proving time is modelled: 80% of it was waited" in warning for warning in results.warnings)
    assert modelled is (prover == "modelled")


def test_attesters_that_share_a_process_are_said(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(attesters_separate=False))
    assert "attesters share a process: their threshold protects from nothing" in results.warnings


def test_what_was_refused_has_its_reason_everywhere(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer(refused=2))
    results = write_report(tmp_path, formats=("tables",))
    entries = section(results)["refused"]["entries"]
    assert {(row["what"], row["who"]) for row in entries} == {
        ("certificate", "rollup-0"),
        ("certificate", "rollup-1"),
        ("evidence", "rollup-2"),
        ("notice", "rollup-3"),
    }
    with (tmp_path / "tables" / "refused.csv").open(encoding="utf-8") as file:
        whys = {row["why"] for row in csv.DictReader(file)}
    shown, text = page(read_run(tmp_path), results, ()), " ".join(report_text(results).replace("│", " ").split())
    for why in whys:
        assert why in shown
        assert why[:40] in text
    assert any("2 certificates were refused" in warning for warning in results.warnings)


def test_a_run_in_which_nothing_settles_but_refusals_pile_up_is_not_valid(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(refused=2, unsettled_from_s=0))
    assert not results.valid
    assert any("nothing settled, and 2 certificates were refused" in reason for reason in results.invalid_reasons)


def test_forgeries_stand_among_what_was_refused(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    tried = {"what": "a claim once more", "where": "rollup-1", "answer": "AlreadyClaimed()"}
    fault = {
        "kind": "forge",
        "target": "agglayer",
        "injected_ns": 1,
        "healed_ns": 2,
        "problem": "",
        "attempts": [tried],
    }
    change_run(tmp_path, lambda run: run.update(faults=[fault]))
    entries = section(compute_results(read_run(tmp_path)))["refused"]["entries"]
    why = "a claim once more, refused by rollup-1: AlreadyClaimed()"
    assert {"what": "forgery", "who": "a thief", "why": why, "count": 1} in entries


def test_a_rollup_whose_exits_no_balance_covers_is_named(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    path = tmp_path / "events" / "certificates.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["rollup"] == "rollup-2" and row["certificate_height"] >= 3:
            row |= {"first_height": 61, "last_height": 60, "exits": 0}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    entries = section(compute_results(read_run(tmp_path)))["refused"]["entries"]
    (cut,) = [entry for entry in entries if entry["what"] == "exits"]
    assert cut["who"] == "rollup-2"
    assert "settle no height beyond 60: its next exit asks for more than its proven balance" in cut["why"]


def test_theory_of_verdicts_and_settlement(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(two_round_share=0), capacity_per_s=5_490)
    expected = results.expected_ms
    assert expected["atomic_safe"]["p50"] == pytest.approx(expected["executed"]["p50"] + 5, abs=0.01)
    # Half a round of waiting, one for the exit, one for the import; a round is an epoch of two slots.
    assert expected["settled"]["p50"] == pytest.approx(expected["atomic_safe"]["p50"] + 5_000, abs=0.01)
    assert expected["final"]["p50"] == pytest.approx(expected["settled"]["p50"] + 2_000, abs=0.01)
    assert "k = 1 hops" in expected["settled"]["formula"]
    verdicts = {(row["stage"], row["percentile"]): row["verdict"] for row in results.expected_vs_measured}
    assert {verdicts[stage, "p50"] for stage in ("atomic_safe", "settled", "final")} == {"agrees"}


def test_further_rounds_are_part_of_the_expected_execution(tmp_path: Path) -> None:
    once = results_of(tmp_path / "a", SyntheticLayer(two_round_share=0)).expected_ms
    twice = results_of(tmp_path / "b", SyntheticLayer(two_round_share=1)).expected_ms
    execution_ms = once["executed"]["p50"] - 50
    assert twice["executed"]["p50"] == pytest.approx(once["executed"]["p50"] + 5 + execution_ms, abs=0.01)
    assert "r - 1 further rounds" in twice["executed"]["formula"]


def test_without_verdicts_mints_are_not_imported(tmp_path: Path) -> None:
    expected = results_of(tmp_path, BOND).expected_ms
    assert "atomic_safe" not in expected
    assert expected["settled"]["p50"] == pytest.approx(expected["executed"]["p50"] + 3_000, abs=0.01)


def test_a_proof_that_outlasts_an_epoch_makes_longer_rounds(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, layer=SyntheticLayer())
    path = tmp_path / "events" / "proofs.parquet"
    table = pq.read_table(path)
    slow = pa.array([2_300_000_000] * table.num_rows, pa.int64())
    pq.write_table(table.set_column(table.column_names.index("duration_ns"), "duration_ns", slow), path)
    results = compute_results(read_run(tmp_path))
    assert "one round = 4 s" in results.expected_ms["settled"]["formula"]


def test_the_slowest_are_ranked_by_completion(tmp_path: Path) -> None:
    results = results_of(tmp_path, SyntheticLayer(slower_ms=400))
    latencies = [row["atomic_safe_ms"] for row in results.slowest]
    assert latencies == sorted(latencies, reverse=True)
    assert latencies[0] == results.latency_ms["atomic_safe"]["max"]
    for row in results.slowest:
        assert sum(row["segments_ms"].values()) == pytest.approx(row["atomic_safe_ms"], abs=0.01)


def test_modes_side_by_side(tmp_path: Path) -> None:
    runs = []
    for layer, partly, aborted in ((INCLUSION, 0.05, 0.0), (BOND, 0.05, 0.0), (AGGLAYER, 0.0, 0.05)):
        what = Synthetic(layer=layer, partly_share=partly, aborted_share=aborted)
        write_report(write_synthetic_run(tmp_path / layer.mode, what), formats=())
        runs.append(tmp_path / layer.mode)
    comparison = compare_runs(runs, ["inclusion", "bond", "agglayer"])
    assert comparison.differing_settings["atomicity"] == ("inclusion", "bond", "agglayer")
    lines: dict[str, Any] = {line.name: line.values for line in comparison.lines}
    assert lines["partly succeeded"] == pytest.approx((5, 5, 0), abs=1)
    assert lines["aborted"] == pytest.approx((0, 0, 5), abs=1)
    assert lines["value out of nothing"] == (7, 5_000, 0)
    assert lines["atomic_safe p50"][:2] == (None, None)
    assert lines["L1 gas per bundle"][0] is None
    assert comparison.verdict.startswith("No regression verdict, because the runs differ in atomicity.")
    shown = write_comparison(comparison, tmp_path).read_text()
    assert "not ZK proofs" in shown
    assert "atomic-safe" in (tmp_path / "figures" / "ladder.svg").read_text()
    assert "% aborted" in (tmp_path / "figures" / "outcomes.svg").read_text()
    assert json.loads((tmp_path / "comparison.json").read_text())["modes"] == ["inclusion", "bond", "agglayer"]
