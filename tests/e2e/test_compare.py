"""Whole comparisons through the command line: real runs, what they leave behind, and Ctrl-C."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.bench import ROOT, lockstep, results, run_json, scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TWO_SECONDS = (
    "[backend]\nblock_interval_ms = 50\n[load]\nrate_per_s = 40\nduration_s = 2\nwarmup_s = 0.2\ncooldown_s = 0.2\n"
)
SEVERAL_RUNS_S = 900
RUNS = ("lazy-1/repeat-1", "lazy-2/repeat-1", "lazy-2/repeat-2", "lazy-1/repeat-2")


def comparison(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The lazy sequencer against itself, two repeats."""
    folder = tmp_path_factory.mktemp("twice")
    out = folder / "out"
    arguments = ("--backends", "lazy,lazy", "--repeats", "2", "--no-calibrate", "--progress", "json", "--out", out)
    return out, lockstep("compare", scenario(folder, TWO_SECONDS), *arguments, timeout_s=SEVERAL_RUNS_S)


def test_every_run_is_a_whole_run_directory(twice: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = twice
    # On a busy machine a generator may be late, which makes a run invalid and nothing wrong.
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    order = [(event["label"], event["repeat"]) for event in events if event["event"] == "run"]
    assert [f"{label}/repeat-{repeat}" for label, repeat in order] == list(RUNS)
    for run in RUNS:
        assert (out / run / "report.html").stat().st_size > 0
        assert all(results(out / run)["invariants"].values())
        assert run_json(out / run)["block_interval_ms"] == 50
        assert len(run_json(out / run)["trust"]) >= 2
        assert run_json(out / run)["block_bytes_max"] == 1024 * 1024
        assert "costs" not in run_json(out / run), "the lazy sequencer pays nobody"


def test_the_comparison_says_what_it_can(twice: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = twice
    document = comparison(out)
    assert document["labels"] == ["lazy-1", "lazy-2"]
    assert document["differing_settings"] == {}
    assert [row["directory"] for row in document["runs"]] == list(RUNS)
    assert document["verdict"] in " ".join(done.stderr.split())
    if document["verdict"].startswith("No verdict"):
        # On a busy machine a generator may be late in both repeats: then nothing is concluded.
        assert not all(results(out / run)["valid"] for run in RUNS)
    elif document["repeats"] == 2:
        assert "ratios with intervals need 5" in document["verdict"]
        assert re.match(r"No difference shown between|lazy-2 and lazy-1 are the same twice", document["verdict"])
    else:
        assert document["notes"]
    assert [rung["stage"] for rung in document["backends"]["ladder"]][:4] == [
        "accepted",
        "sequenced",
        "firm",
        "executed",
    ]
    assert "Latency, stage by stage" in (out / "comparison.html").read_text(encoding="utf-8")


def test_report_makes_it_again_from_the_directory_alone(
    twice: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns("comparison.*", "results.json", "report.*", "testnet", "figures")
    shutil.copytree(twice[0], copy, ignore=ignored)
    done = lockstep("report", copy, "--json")
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout) == comparison(twice[0])
    assert (copy / "comparison.html").stat().st_size > 0


def test_ctrl_c_compares_what_is_finished(tmp_path: Path) -> None:
    out = tmp_path / "out"
    text = "[load]\nrate_per_s = 40\nduration_s = 3\nwarmup_s = 0.2\ncooldown_s = 0.2\n"
    command = [sys.executable, "-m", "coordinator", "compare", str(scenario(tmp_path, text)), "--backends", "lazy,lazy"]
    command += ["--repeats", "9", "--no-calibrate", "--progress", "json", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    number = 0
    for line in process.stdout:
        event = json.loads(line)
        number = event.get("number", number)
        if number == 3 and event["event"] == "progress":
            process.send_signal(signal.SIGINT)
            break
    _, errors = process.communicate(timeout=SEVERAL_RUNS_S)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    document = comparison(out)
    assert [row["state"] for row in document["runs"]] == ["finished", "finished", "interrupted"]
    assert "15 of 18 runs were not started" in document["notes"]
    assert not document["runs"][2]["used"]
