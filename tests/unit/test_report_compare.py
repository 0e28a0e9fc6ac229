"""Comparisons: equal runs show no difference, worse runs are named by metric, invalid runs support no verdict."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.report import BrokenRunDirectory, compare_runs, print_comparison, write_comparison, write_report
from tests.support.synthetic_run import write_synthetic_run


def run(directory: Path, **changes: Any) -> Path:
    write_report(write_synthetic_run(directory, **changes), formats=())
    return directory


def test_equal_runs_show_no_difference(tmp_path: Path) -> None:
    comparison = compare_runs([run(tmp_path / "a"), run(tmp_path / "b", seed=8)])
    assert comparison.verdict == "No difference shown (10% rule, single runs)."
    assert not comparison.regressed
    assert {verdict for line in comparison.lines for verdict in line.verdicts} <= {"no difference", "not judged"}
    assert comparison.differing_settings == {"seed": ("7", "8")}


def test_a_slower_run_is_a_regression_and_a_faster_one_is_not(tmp_path: Path) -> None:
    fast, slow = run(tmp_path / "fast"), run(tmp_path / "slow", late_ms=40)
    worse = compare_runs([fast, slow], ["baseline", "this run"])
    assert worse.regressed
    assert worse.verdict.startswith("Regression (10% rule, single runs): accepted p50")
    assert "executed p50" in worse.verdict
    better = compare_runs([slow, fast])
    assert not better.regressed
    assert better.verdict.startswith("Better, and nothing worse")


def test_less_throughput_is_a_regression(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a", rate_per_s=1_000), run(tmp_path / "b", rate_per_s=1_000, capacity_per_s=800)]
    comparison = compare_runs(runs)
    line = next(line for line in comparison.lines if line.name == "completed")
    assert line.verdicts == ("worse",)
    assert line.ratios[1] == pytest.approx(0.8, abs=0.02)
    assert comparison.regressed


def test_a_few_milliseconds_are_nobodys_regression(tmp_path: Path) -> None:
    comparison = compare_runs([run(tmp_path / "a"), run(tmp_path / "b", late_ms=1.5)])
    accepted = next(line for line in comparison.lines if line.name == "accepted p50")
    assert accepted.ratios[1] is not None
    assert accepted.ratios[1] > 1.1
    assert accepted.verdicts == ("no difference",)


def test_an_invalid_run_supports_no_verdict(tmp_path: Path) -> None:
    comparison = compare_runs([run(tmp_path / "a"), run(tmp_path / "b", late_ms=100)])
    assert comparison.verdict == "No verdict: run 2 of 2 is not valid."
    assert not comparison.regressed


def test_split_bundles_are_a_regression_whatever_the_figures(tmp_path: Path) -> None:
    comparison = compare_runs([run(tmp_path / "a"), run(tmp_path / "b", split_bundles=1)])
    assert comparison.regressed
    assert "1 unbundled" in comparison.verdict


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(count), rollups=count) for count in (2, 4, 8)]
    comparison = compare_runs(runs, ["2", "4", "8"])
    assert comparison.differing_settings["rollups"] == ("2", "4", "8")
    assert not comparison.regressed
    assert comparison.verdict.startswith("No regression verdict, because the runs differ in rollups.")
    assert all(len(line.values) == len(line.ratios) == 3 and len(line.verdicts) == 2 for line in comparison.lines)
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=80))
    assert "executed p99, ms" in file.getvalue()
    assert comparison.verdict in " ".join(file.getvalue().split())
    page = write_comparison(comparison, tmp_path)
    assert comparison.verdict in page.read_text(encoding="utf-8")
    assert json.loads((tmp_path / "comparison.json").read_text())["labels"] == ["2", "4", "8"]


def test_two_sweeps_of_one_machine_are_the_same_experiment(tmp_path: Path) -> None:
    sweep = {"load_kind": "sweep", "capacity_per_s": 1_000}
    first = run(tmp_path / "a", phases_per_s=(400, 800, 1_600), duration_s=24, **sweep)
    second = run(tmp_path / "b", phases_per_s=(400, 800, 900, 1_600), duration_s=32, **sweep)
    comparison = compare_runs([first, second])
    assert comparison.differing_settings == {}
    assert next(line for line in comparison.lines if line.name == "completed").verdicts == ("better",)


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenRunDirectory, match=r"lockstep report .*empty"):
        compare_runs([run(tmp_path / "a"), tmp_path / "empty"])
