"""What an order cost outside: from two snapshots of the sequencer to a report's figures per bundle."""

import json
from pathlib import Path

import pytest

from benchmarks.report import write_report
from benchmarks.report.costs import cost_sentence
from coordinator.stages.costs import cost_documents
from tests.support.synthetic_run import write_synthetic_run


def test_what_came_during_the_load_is_apart_from_what_stood_before_it() -> None:
    found = cost_documents({"lamports": 700, "posted_bytes": 0}, {"lamports": 1_700, "posted_bytes": 90, "resigned": 1})
    assert found["costs"] == {"lamports": 1_000, "posted_bytes": 90, "resigned": 1}
    assert found["setup_costs"] == {"lamports": 700, "posted_bytes": 0}


def test_what_was_paid_before_the_load_only_is_no_cost_of_it() -> None:
    found = cost_documents({"deployment_lamports": 58, "resigned": 0}, {"deployment_lamports": 58, "resigned": 0})
    assert found == {"costs": {"resigned": 0}, "setup_costs": {"deployment_lamports": 58, "resigned": 0}}


def test_a_backend_that_pays_nobody_has_no_costs_and_an_unread_end_gives_none() -> None:
    assert cost_documents({}, {}) == {}
    assert cost_documents({"lamports": 700}, None) == {}


def test_a_report_says_what_a_bundle_cost(tmp_path: Path) -> None:
    costs = {"lamports": 5_000_000, "solana_transactions": 500, "failed_transactions": 0}
    run = write_synthetic_run(
        tmp_path, rate_per_s=100, duration_s=10, run={"costs": costs, "setup_costs": {"lamports": 9}}
    )
    results = write_report(run, formats=("html",))
    assert results.costs is not None
    assert results.costs["bundles"] == results.bundles["sequenced"] == 1_000
    assert results.costs["per_bundle"]["lamports"] == pytest.approx(5_000)
    sentence = "5,000 lamports, 0.5 Solana transactions per sequenced bundle"
    assert cost_sentence(results.costs) == sentence
    assert sentence in " ".join((run / "report.txt").read_text(encoding="utf-8").split())
    assert sentence in (run / "report.html").read_text(encoding="utf-8")
    assert "costs" in json.loads((run / "results.json").read_text(encoding="utf-8"))


def test_a_report_of_a_backend_that_pays_nobody_is_silent_about_it(tmp_path: Path) -> None:
    run = write_synthetic_run(tmp_path)
    assert write_report(run, formats=("html",)).costs is None
    assert "costs" not in json.loads((run / "results.json").read_text(encoding="utf-8"))
    assert "Paid" not in (run / "report.html").read_text(encoding="utf-8")
