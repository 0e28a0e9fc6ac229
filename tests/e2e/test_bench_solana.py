"""Whole runs on the Solana backend through the command line: on the dev node, with its troubles, and on Surfpool."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.bench import bench, check_sound, lockstep, results, run_json, scenario

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

SOLANA = 'backend = "solana"\n[backend]\nblock_interval_ms = 50\n'
LOAD = "[load]\nrate_per_s = 40\nduration_s = 5\nwarmup_s = 0.5\ncooldown_s = 0.5\n"
NEEDS_NODE = pytest.mark.skipif(shutil.which("node") is None, reason="Surfpool is started by Node.js")


def test_a_run_on_the_dev_node_is_firm_paid_for_and_can_be_verified(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = bench(scenario(tmp_path, SOLANA + LOAD), out)
    check_sound(done, out)
    found, record = results(out), run_json(out)
    assert found["bundles"]["succeeded"] == found["bundles"]["due"]
    soft, firm = found["latency_ms"]["sequenced"], found["latency_ms"]["firm"]
    assert soft["count"] == firm["count"]
    # 29 slots of 50 ms lie between confirmed and finalized; a busy machine may hear of both at once, but never early.
    assert firm["p50"] > 1_000
    assert firm["p50"] > soft["p50"]
    assert record["costs"]["lamports"] == 5_000 * record["costs"]["solana_transactions"]
    verified = lockstep("verify", out)
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_troubles_of_the_chain_are_injected_and_healed_and_nothing_is_lost(tmp_path: Path) -> None:
    out = tmp_path / "run"
    faults = """
[[faults]]
at_s = 0.5
kind = "skip_slots"
slots = 8
[[faults]]
at_s = 1.5
kind = "solana_fork"
depth = 6
keep_transactions = false
[[faults]]
at_s = 3
kind = "kill"
target = "sequencer"
what = "engine"
"""
    done = bench(scenario(tmp_path, SOLANA + "[workload]\nlanes = 256\n" + LOAD + faults), out)
    check_sound(done, out)
    found, record = results(out), run_json(out)
    assert [fault["kind"] for fault in record["faults"]] == ["skip_slots", "solana_fork", "kill"]
    assert all(fault["injected_ns"] < (fault["healed_ns"] or 0) for fault in record["faults"]), record["faults"]
    assert found["bundles"]["lost"] == found["bundles"]["unbundled"] == found["bundles"]["refused"] == 0


@NEEDS_NODE
def test_the_same_run_goes_through_on_surfpool(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = 'backend = "solana"\n[backend]\nblock_interval_ms = 100\n'
    text += LOAD.replace("= 40", "= 10").replace("= 5\n", "= 3\n")
    done = bench(scenario(tmp_path, text), out, "--solana", "surfpool")
    check_sound(done, out)
    assert results(out)["bundles"]["succeeded"] == results(out)["bundles"]["due"]


@NEEDS_NODE
def test_lazy_and_solana_are_compared_on_surfpool(tmp_path: Path) -> None:
    out = tmp_path / "compared"
    text = "[backend]\nblock_interval_ms = 100\n" + LOAD.replace("= 40", "= 10").replace("= 5\n", "= 3\n")
    done = lockstep(
        "compare", scenario(tmp_path, text), "--backends", "lazy,solana", "--solana", "surfpool", "--repeats", "1",
        "--no-calibrate", "--progress", "none", "--out", out,
    )  # fmt: skip
    # 1: a starved machine may keep the generator from its schedule, which makes a run not valid, and not unfinished.
    assert done.returncode in (0, 1), done.stdout + done.stderr
    runs = json.loads((out / "comparison-runs.json").read_text(encoding="utf-8"))["runs"]
    assert sorted((run["label"], run["state"]) for run in runs) == [("lazy", "finished"), ("solana", "finished")], runs
    for run in runs:
        found = results(out / run["directory"])
        assert found["bundles"]["succeeded"] > 0
        assert found["bundles"]["lost"] == found["bundles"]["unbundled"] == 0
    assert (out / "comparison.json").is_file()
    assert "lamports" in done.stdout
