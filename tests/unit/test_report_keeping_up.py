"""Keeping up, judged by the width of a height and by what a backend is expected to take: steps are no backlog."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.report import Results, write_report
from benchmarks.report.results import compute_results
from benchmarks.report.run_data import read_run
from benchmarks.report.theory import pace_of
from benchmarks.report.wording import headline
from tests.support.synthetic_layer import SyntheticLayer
from tests.support.synthetic_run import MS_NS, write_synthetic_run

SLOT_MS, BUCKET_MS = 400, 2_000


def stages_of(soft_ms: float, firm_ms: float) -> dict[str, Any]:
    """Expected latencies as a backend with one height per bucket says them."""
    times = {"sequenced": soft_ms, "firm": firm_ms, "executed": soft_ms}
    return {stage: {"formula": stage, "p50_ms": at / 2, "p99_ms": at} for stage, at in times.items()}


def results_of(
    directory: Path, *, height_ms: int, seed: int = 7, run: dict[str, Any] | None = None, **changes: Any
) -> Results:
    """Slots of 400 ms, gathered into heights of `height_ms`."""
    document = {"block_interval_ms": SLOT_MS, "height_interval_ms": height_ms, **(run or {})}
    changes = {"rate_per_s": 100, "duration_s": 8.0, **changes}
    return compute_results(
        read_run(write_synthetic_run(directory, interval_ms=height_ms, seed=seed, run=document, **changes))
    )


@pytest.mark.parametrize("height_ms", [SLOT_MS, BUCKET_MS])
@pytest.mark.parametrize("seed", range(1, 7))
def test_a_saw_tooth_keeps_up_in_three_measured_seconds(tmp_path: Path, height_ms: int, seed: int) -> None:
    results = results_of(tmp_path, height_ms=height_ms, seed=seed)
    assert results.kept_up
    assert results.load["latency_growth_ms"] == 0
    assert results.bounded_by["what"] == "nothing"
    assert headline(results).startswith("Carried")


@pytest.mark.parametrize("height_ms", [SLOT_MS, BUCKET_MS])
def test_a_true_backlog_still_shows(tmp_path: Path, height_ms: int) -> None:
    results = results_of(tmp_path, height_ms=height_ms, rate_per_s=450, capacity_per_s=300, duration_s=20.0)
    assert not results.kept_up
    assert results.load["latency_growth_ms"] > height_ms
    assert results.completed_per_s == pytest.approx(300, rel=0.1)
    assert headline(results).startswith("Did not keep up")


def later(directory: Path, *, by_ms: int) -> None:
    """Every bundle is executed so much later than the model says."""
    path = directory / "events" / "bundles.parquet"
    table = pq.read_table(path)
    at = table.column_names.index("executed_ns")
    times = np.asarray(table.column("executed_ns")) + by_ms * MS_NS
    pq.write_table(table.set_column(at, "executed_ns", pa.array(times)), path)


def test_a_latency_that_is_expected_is_no_backlog_however_long(tmp_path: Path) -> None:
    firm = {"block_interval_ms": SLOT_MS, "expected": stages_of(13_000, 13_000)}
    write_synthetic_run(tmp_path, interval_ms=SLOT_MS, rate_per_s=100, run=firm)
    later(tmp_path, by_ms=12_000)
    results = compute_results(read_run(tmp_path))
    assert results.latency_ms["executed"]["p50"] > 12_000
    assert results.kept_up
    run = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(run | {"expected": stages_of(1_200, 13_000)}))
    # The same times where a second was expected: most of it came when the load was over.
    assert not compute_results(read_run(tmp_path)).kept_up


def test_a_bundle_that_verdicts_complete_is_expected_after_firm(tmp_path: Path) -> None:
    layer = SyntheticLayer(mode="agglayer")
    plain = {"block_interval_ms": SLOT_MS, "expected": stages_of(1_200, 12_800)}
    data = read_run(write_synthetic_run(tmp_path, interval_ms=SLOT_MS, layer=layer, run=plain))
    assert data.bundles.completion == "atomic_safe"
    assert pace_of(data).usual_ms > 12_800
    executed = read_run(write_synthetic_run(tmp_path / "b", interval_ms=SLOT_MS, run=plain))
    assert pace_of(executed).usual_ms == pytest.approx(1_200)


def test_the_report_names_the_order_its_settings_and_its_heights(tmp_path: Path) -> None:
    run = {
        "backend": "solana",
        "block_interval_ms": SLOT_MS,
        "height_interval_ms": BUCKET_MS,
        "backend_is": "Lockstep dev node, no validators: confirmed 2",
        "backend_settings": {"bucket_ms": BUCKET_MS, "store_url": ""},
    }
    results = write_report(write_synthetic_run(tmp_path, interval_ms=BUCKET_MS, run=run), formats=("html",))
    text = " ".join((tmp_path / "report.txt").read_text().replace("│", " ").split())
    page = (tmp_path / "report.html").read_text()
    for part in ("Order Lockstep dev node, no validators", "400 ms blocks in heights of 2,000 ms", "sequenced (soft)"):
        assert part in text
    for part in ("Lockstep dev node, no validators", "One block here is a height of 2,000 ms", "bucket_ms"):
        assert part in page
    assert results.latency_blocks["executed"]["p50"] == pytest.approx(
        results.latency_ms["executed"]["p50"] / BUCKET_MS, abs=1e-3
    )


def test_a_node_beside_the_sequencer_is_not_called_an_engine(tmp_path: Path) -> None:
    directory = write_synthetic_run(tmp_path, run={"backend": "solana"})
    path = directory / "events" / "resources.parquet"
    rows = pq.read_table(path).to_pylist()
    for row in rows:
        if row["node"] == "sequencer-0":
            row |= {"engine_cpu_s": row["process_cpu_s"], "engine_pss_bytes": 80_000_000}
    pq.write_table(pa.Table.from_pylist(rows, schema=pq.read_schema(path)), path)
    results = write_report(directory, formats=("html",))
    assert results.stage_cpu_us_per_bundle["Solana node"] > 0
    assert results.resources["sequencer-0"]["engine_is"] == "Solana node"
    assert results.totals["beside_pss_mb"] == 80
    for name in ("report.txt", "report.html"):
        assert "in the Solana node" in " ".join((directory / name).read_text().replace("│", " ").split())
