"""Running the `lockstep` command as a user does, and reading what a run left behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 400
"""Against hanging only, like the next one: a run ends when all is resolved, and a busy machine may take its time."""
DRAIN_S = 120


def lockstep(
    *arguments: str | Path, cwd: Path | None = None, timeout_s: float = TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "coordinator", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def bench(scenario: Path | str, out: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One run without the measurement of the bare engines."""
    options = ("--no-calibrate", "--progress", "none", "--set", f"load.drain_timeout_s={DRAIN_S}")
    return lockstep("bench", scenario, "--out", out, *options, *arguments)


def interrupt_when(
    scenario: Path | str,
    out: Path,
    *,
    reached: Callable[[Mapping[str, Any]], bool],
    arguments: Sequence[str] = (),
    again: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run, and send one Ctrl-C (with `again`: two) once a snapshot of the load says that it has come so far."""
    command = [sys.executable, "-m", "coordinator", "bench", str(scenario), "--no-calibrate", "--out", str(out)]
    command += ["--progress", "json", "--set", f"load.drain_timeout_s={DRAIN_S}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "progress" and reached(event):
            process.send_signal(signal.SIGINT)
            if again:
                # The first was taken when it is spoken of.
                assert process.stderr is not None
                while "Ctrl-C" not in process.stderr.readline():
                    pass
                process.send_signal(signal.SIGINT)
            break
    rest, errors = process.communicate(timeout=TIMEOUT_S)
    return subprocess.CompletedProcess(command, process.returncode, "".join(lines) + rest, errors)


def results(run: Path) -> dict[str, Any]:
    """results.json."""
    document: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return document


def run_json(run: Path) -> dict[str, Any]:
    """run.json."""
    document: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return document


def rows(run: Path, table: str) -> list[dict[str, Any]]:
    """A table of a run."""
    found: list[dict[str, Any]] = pq.read_table(run / "events" / f"{table}.parquet").to_pylist()
    return found


def scenario(folder: Path, text: str) -> Path:
    """A scenario file of a test: three rollups in one process, and what `text` says."""
    head = '[scenario]\nname = "test"\nseed = 5\n[testnet]\nrollups = 3\nlauncher = "inprocess"\n'
    file = folder / "scenario.toml"
    file.write_text(head + text, encoding="utf-8")
    return file


def check_sound(done: subprocess.CompletedProcess[str], run: Path) -> None:
    """The run went through and every invariant holds.

    On a machine that is busy with other tests a generator may be late, which makes a run invalid and nothing wrong.
    """
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert (run / "results.json").exists(), done.stdout + done.stderr
    found = results(run)
    assert all(found["invariants"].values()), found["invariant_details"]
    other = [reason for reason in found["invalid_reasons"] if not reason.startswith("the generator was late")]
    assert not other, other
