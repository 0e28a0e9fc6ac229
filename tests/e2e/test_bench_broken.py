"""A node that breaks for good in the middle of a load: what was measured is kept, and the report says what happened."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodes.evm.anvil import find_anvil
from tests.support.bench import ROOT, TIMEOUT_S, lockstep, results, rows, run_json, scenario
from tests.support.ray_guard import one_ray_at_a_time

pytestmark = pytest.mark.e2e

LOAD = "[load]\nrate_per_s = 20\nduration_s = 600\nwarmup_s = 0\ncooldown_s = 0\n"
VICTIM = "rollup-2"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """An anvil of this test's own, which can be taken away."""
    binary = tmp_path / "bin" / "anvil"
    binary.parent.mkdir()
    # A link of its own name: the original stays whatever becomes of it.
    try:
        binary.hardlink_to(find_anvil())
    except OSError:
        binary.write_bytes(find_anvil().read_bytes())
        binary.chmod(0o755)
    return binary


@contextmanager
def running_bench(file: Path, out: Path, engine: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "coordinator", "bench", str(file), "--no-calibrate", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LOCKSTEP_ANVIL": str(engine)}
    with subprocess.Popen(
        [*command, "--progress", "json"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        yield process


def until_resolved(process: "subprocess.Popen[str]", bundles: int) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "progress" and event["resolved"] > bundles:
            return
    pytest.fail("the run ended before its load was under way")


def kill_engine_for_good(out: Path, engine: Path) -> None:
    """The engine of one rollup dies, and can never be started again."""
    endpoints = json.loads((out / "testnet" / "endpoints.json").read_text(encoding="utf-8"))
    nodes: list[dict[str, Any]] = [node for host in endpoints["hosts"] for node in host["nodes"]]
    engine.unlink()
    os.kill(next(node["engine_pid"] for node in nodes if node["name"] == VICTIM), signal.SIGKILL)


@pytest.mark.parametrize("launcher", ["inprocess", pytest.param("ray", marks=pytest.mark.slow)])
def test_what_was_measured_until_a_node_broke_for_good_is_kept(tmp_path: Path, engine: Path, launcher: str) -> None:
    out = tmp_path / "run"
    file = scenario(tmp_path, LOAD)
    file.write_text(file.read_text(encoding="utf-8").replace('"inprocess"', f'"{launcher}"'), encoding="utf-8")
    with one_ray_at_a_time(), running_bench(file, out, engine) as process:
        until_resolved(process, 20)
        kill_engine_for_good(out, engine)
        _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 1, errors
    assert "broke for good" in errors
    record, found = run_json(out), results(out)
    broken = record["broken"]
    assert broken["reason"]
    assert broken["remedy"]
    assert record["load_start_ns"] < broken["at_ns"] < record["load_end_ns"]
    if launcher == "inprocess":
        assert broken["part"] == VICTIM
    assert not found["valid"]
    assert f"{broken['part']} broke for good" in found["invalid_reasons"][0]
    assert (out / "failure.txt").stat().st_size
    assert (out / "report.html").stat().st_size
    assert found["bundles"]["accepted"] > 20
    assert sum(bundle["executed_ns"] is not None for bundle in rows(out, "bundles")) > 0
    assert found["latency_ms"]["executed"]["count"] > 0
    assert all(ok for name, ok in found["invariants"].items() if name != "every_accepted_resolved")
    again = lockstep("report", out)
    assert again.returncode == 1, again.stderr
    assert "broke for good" in again.stdout.replace("\n", " ")
