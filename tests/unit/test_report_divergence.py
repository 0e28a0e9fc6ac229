"""What a run says of the second EVM: from totals in traces to rows, sentences and a section."""

import json
from pathlib import Path
from typing import Any

from benchmarks.report import write_report
from benchmarks.report.divergence import divergence_facts
from benchmarks.report.page import page
from benchmarks.report.results import Results, compute_results
from benchmarks.report.run_data import read_run
from benchmarks.report.terminal import report_text
from coordinator.collect.node_trace import NodeTrace
from coordinator.stages.divergence_account import divergence_document, is_checked
from nodes.model.config import DivergenceConfig
from nodes.telemetry.events import DivergenceChecked, DivergenceFound, Event, NodeStarted, Stamped
from nodes.wire.trace_records import stamped_to_bytes
from tests.support.synthetic_run import write_synthetic_run

S = 1_000_000_000
STARTED = NodeStarted(node="rollup-1", kind="rollup", pid=1, host="h", boot_id="b")
ALL = DivergenceConfig(mode="all", sample_per_s=5.0, policy="halt")
FAULT = {"kind": "diverge", "target": "rollup-1", "injected_ns": 0, "healed_ns": None, "problem": ""}


def totals(**changes: Any) -> DivergenceChecked:
    values: dict[str, Any] = dict.fromkeys(
        ("total", "checked", "differing", "missed", "replaced", "waiting", "history", "busy_ns", "samples_from"), 0
    )
    return DivergenceChecked(**{**values, "mode": "all", "reason": "", **changes})


FOUND = DivergenceFound(
    height=12, number=9, position=3, tx_hash=b"\xab" * 32, account=b"\x0a" * 20, field="balance", engine="0x2",
    checker="0x1", engine_footprint=bytes(32), checker_footprint=bytes(32), policy="halt",
)  # fmt: skip


def trace_of(*events: Event) -> NodeTrace:
    """A trace that went through its bytes, with an event per second."""
    trace = NodeTrace("rollup-1")
    for at, event in enumerate(events):
        trace.feed(stamped_to_bytes(Stamped(monotonic_ns=at * S, wall_ns=at * S, event=event)))
    return trace


def document(*events: Event, config: DivergenceConfig = ALL) -> dict[str, Any]:
    return divergence_document(config, [trace_of(STARTED, *events)], {"rollup-1": 5})


def results_of(directory: Path, run: dict[str, Any]) -> Results:
    return compute_results(read_run(write_synthetic_run(directory, run=run)))


def test_totals_of_incarnations_are_added_up() -> None:
    before = totals(total=60, checked=50, waiting=0, missed=10, busy_ns=S)
    (row,) = document(totals(), before, STARTED, totals(total=5), totals(total=30, checked=30, busy_ns=S))[
        "divergence"
    ]["rollups"]
    assert (row["total"], row["checked"], row["missed"], row["busy_s"]) == (90, 80, 10, 2.0)
    assert row["checked_per_cpu_s"] == 40
    assert divergence_document(None, [], {}) == {}


def test_a_run_is_checked_when_nothing_waits() -> None:
    assert not is_checked([trace_of(STARTED)])
    assert not is_checked([trace_of(STARTED, totals(total=2, waiting=1))])
    assert is_checked([trace_of(STARTED, totals(total=2, waiting=1), totals(total=2, checked=2))])


def test_a_run_without_a_check_says_nothing_of_it(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=("tables",))
    assert "divergence" not in json.loads((tmp_path / "results.json").read_text())
    assert "second EVM" not in report_text(results)
    assert "State divergence check" not in page(read_run(tmp_path), results, ())


def test_what_was_checked_and_at_which_rate_is_said(tmp_path: Path) -> None:
    run = document(
        totals(total=100, checked=20, busy_ns=S // 10), totals(total=220, checked=200, replaced=20, busy_ns=S)
    )
    results = results_of(tmp_path, run)
    ((name, said),) = divergence_facts(results.divergence)
    assert name in report_text(results)
    assert "second EVM (all): 200 of 200 transactions checked (100.0 %), 20 more in blocks that were replaced" in said
    assert "none differs" in said
    assert "200 per second of CPU" in said
    assert "State divergence check" in page(read_run(tmp_path), results, ())


def test_a_difference_that_nobody_made_makes_the_run_invalid(tmp_path: Path) -> None:
    results = results_of(tmp_path, document(FOUND, totals(total=10, checked=10, differing=1)))
    assert not results.valid
    (reason,) = [reason for reason in results.invalid_reasons if reason.startswith("STATE DIVERGENCE")]
    for part in ("rollup-1 height 12, block 9, transaction 3", "ab" * 32, "0x" + "0a" * 20, "balance is 0x2", "0x1 by"):
        assert part in reason
    shown = page(read_run(tmp_path), results, ())
    assert "0x" + "ab" * 32 in shown
    assert "halt" in shown


def test_a_difference_that_a_fault_made_is_a_finding(tmp_path: Path) -> None:
    results = results_of(tmp_path, {**document(FOUND, totals(total=10, checked=10, differing=1)), "faults": [FAULT]})
    assert not [reason for reason in results.invalid_reasons if "DIVERGENCE" in reason]
    assert [line for line in results.findings if "rollup-1 height 12" in line]


def test_limits_of_the_check_are_warnings(tmp_path: Path) -> None:
    last = totals(total=100, checked=40, missed=10, waiting=50, samples_from=7, reason="it cannot keep up")
    said = " ".join(results_of(tmp_path, {**document(last), "faults": [FAULT]}).warnings)
    for part in (
        "in full up to height 6 and by samples from there on: it cannot keep up",
        "10 transactions of rollup-1 were not checked",
        "50 transactions of rollup-1 still waited",
        "the difference that was made in rollup-1 was not found",
    ):
        assert part in said


def test_when_a_difference_was_found_is_said_and_too_late_is_a_warning(tmp_path: Path) -> None:
    exclude = DivergenceConfig(mode="all", sample_per_s=5.0, policy="exclude")
    run = document(totals(total=9, waiting=70), FOUND, totals(total=10, checked=10, differing=1), config=exclude)
    assert run["divergence"]["rollups"][0]["most_waiting"] == 70
    made = {**FAULT, "injected_ns": 2 * S - 1_500_000_000 + 5}
    in_time = results_of(tmp_path / "a", {**run, "faults": [made], "load_end_ns": 20 * S})
    assert any("rollup-1 was found 1.5 s after it was made" in line for line in in_time.findings)
    assert not any("after the end of the load" in line for line in in_time.warnings)
    ((_, said),) = divergence_facts(in_time.divergence)
    assert "at most 70 of a rollup waited" in said
    late = results_of(tmp_path / "b", {**run, "faults": [made], "load_end_ns": S + 5, "atomicity": "agglayer"})
    assert any("found 1.0 s after the end of the load" in line for line in late.warnings)
    assert any("rollup-1 was not evicted before the run ended" in line for line in late.warnings)
    notices = [{"kind": "evict", "height": 9, "rollup": "rollup-1", "voided": 0}]
    told = results_of(tmp_path / "c", {**run, "faults": [made], "atomicity": "agglayer", "notices": notices})
    assert not any("was not evicted" in line for line in told.warnings)
