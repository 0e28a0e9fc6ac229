"""Whole runs through the command line: what they leave behind, that it is right, and that it can be checked again."""

import json
import shutil
from pathlib import Path

import pytest

from coordinator.stages.sequenced_log import read_log
from nodes.wire.blocks import stored_block_to_bytes
from nodes.wire.trace_records import encode_length
from tests.support.bench import bench, check_sound, interrupt_when, lockstep, results, rows, run_json, scenario

pytestmark = pytest.mark.e2e

SHORT = "[load]\nrate_per_s = 60\nduration_s = 3\nwarmup_s = 0.5\ncooldown_s = 0.5\n"


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that several tests look at."""
    folder = tmp_path_factory.mktemp("quick")
    out = folder / "run"
    done = bench(scenario(folder, "replicas = 2\n" + SHORT), out)
    check_sound(done, out)
    return out


def test_a_run_is_complete_and_adds_up(quick_run: Path) -> None:
    found = results(quick_run)
    bundles = found["bundles"]
    assert bundles["due"] == bundles["accepted"] == bundles["executed"] == bundles["succeeded"] > 100
    assert bundles["lost"] == bundles["unbundled"] == bundles["unsent"] == 0
    assert found["offered_per_s"] == pytest.approx(60, rel=0.4)
    assert 0 < found["latency_ms"]["sequenced"]["p50"] < found["latency_ms"]["executed"]["p50"]
    for name in ("scenario.toml", "overrides.json", "testnet.json", "run.json", "sequenced.log", "report.html"):
        assert (quick_run / name).stat().st_size > 0


def test_every_bundle_has_its_times_in_order(quick_run: Path) -> None:
    for bundle in rows(quick_run, "bundles"):
        times = [bundle[f"{name}_ns"] for name in ("due", "sent", "sequenced", "executed")]
        assert times == sorted(times)
        assert bundle["sequenced_ns"] <= bundle["firm_ns"]
    legs = rows(quick_run, "legs")
    assert all(leg["received_ns"] <= leg["derived_ns"] <= leg["built_ns"] <= leg["executed_ns"] for leg in legs)


def test_the_record_says_what_ran(quick_run: Path) -> None:
    record = run_json(quick_run)
    assert record["launcher"] == "inprocess"
    assert record["block_interval_ms"] == 100
    assert record["versions"]["anvil"].startswith("1.7")
    assert record["machine"]["cores"] >= 1
    assert record["invariants"]["replicas_agree"]["detail"].startswith(tuple("123456789"))
    assert {node["kind"] for node in record["nodes"]} == {"sequencer", "rollup"}


def test_verify_executes_the_run_again_and_agrees(quick_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(quick_run, copy)
    done = lockstep("verify", copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok   rederivation_matches" in done.stdout
    assert results(copy)["invariants"]["rederivation_matches"]


def test_verify_finds_a_log_that_was_changed(quick_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(quick_run, copy)
    log = bytearray((copy / "sequenced.log").read_bytes())
    log[len(log) // 2] ^= 1
    (copy / "sequenced.log").write_bytes(log)
    assert lockstep("verify", copy).returncode == 1


@pytest.mark.parametrize("share", [0, 0.5])
def test_verify_finds_a_log_that_ends_too_early(quick_run: Path, tmp_path: Path, share: float) -> None:
    copy = tmp_path / "run"
    shutil.copytree(quick_run, copy)
    blocks = [stored_block_to_bytes(block) for block in read_log(copy / "sequenced.log")]
    kept = blocks[: int(share * len(blocks))]
    (copy / "sequenced.log").write_bytes(b"".join(encode_length(len(block)) + block for block in kept))
    done = lockstep("verify", copy)
    assert done.returncode == 1
    assert f"the log ends at height {len(kept)}" in done.stdout


def test_verify_finds_a_node_that_recorded_another_block(quick_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(quick_run, copy)
    path = copy / "events" / "trace" / "rollup-2.trace"
    recorded = next(
        block["state_root"] for block in rows(copy, "blocks") if block["node"] == "rollup-2" and block["admitted"]
    )
    data = path.read_bytes()
    assert recorded in data
    path.write_bytes(data.replace(recorded, bytes(32)))
    done = lockstep("verify", copy)
    assert done.returncode == 1
    assert "FAIL rederivation_matches" in done.stdout


def test_a_report_can_be_made_again_from_the_directory_alone(quick_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(quick_run, copy, ignore=shutil.ignore_patterns("results.json", "report.*", "testnet"))
    done = lockstep("report", copy, "--json")
    assert done.returncode in (0, 1), done.stderr
    first, again = results(quick_run), json.loads(done.stdout)
    assert again["latency_ms"] == first["latency_ms"]
    assert again["bundles"] == first["bundles"]


@pytest.mark.parametrize("which", ["slowest", "7", "bundle_hash", "submission_hash", "tx_hash"])
def test_show_explains_a_bundle(quick_run: Path, which: str) -> None:
    wanted = which
    if which.endswith("hash"):
        table = "legs" if which == "tx_hash" else "bundles"
        wanted = "0x" + rows(quick_run, table)[3][which].hex()
    done = lockstep("show", quick_run, wanted)
    assert done.returncode == 0, done.stderr
    for text in ("due", "sequenced at height", "verified and derived", "<- longest", "succeeded at height"):
        assert text in done.stdout


def test_show_says_when_there_is_no_such_bundle(quick_run: Path) -> None:
    for wanted, message in (("99999", "unknown bundle"), ("dropped", "no bundle"), ("zebra", "is no number")):
        done = lockstep("show", quick_run, wanted)
        assert done.returncode == 2
        assert message in done.stderr


def test_a_baseline_of_the_same_kind_is_no_regression_and_a_far_better_one_is(quick_run: Path, tmp_path: Path) -> None:
    better = tmp_path / "better"
    shutil.copytree(quick_run, better)
    document = results(better)
    for stage in document["latency_ms"].values():
        stage.update({name: value / 10 for name, value in stage.items() if name.startswith("p") and value})
    (better / "results.json").write_text(json.dumps(document), encoding="utf-8")
    text = "replicas = 2\n" + SHORT
    done = bench(scenario(tmp_path, text), tmp_path / "run", "--baseline", str(better))
    if results(tmp_path / "run")["valid"] and document["valid"]:
        assert done.returncode == 1
        assert "egression" in done.stdout
    else:
        check_sound(done, tmp_path / "run")
        assert "No verdict: run" in " ".join(done.stdout.split()), "nothing is concluded from a late generator"


def test_ctrl_c_ends_the_load_and_still_writes_the_report(tmp_path: Path) -> None:
    out = tmp_path / "run"
    file = scenario(tmp_path, "[load]\nrate_per_s = 50\nduration_s = 600\n")
    done = interrupt_when(file, out, reached=lambda progress: progress["accepted"] > 50)
    assert done.returncode == 130, done.stdout + done.stderr
    record, found = run_json(out), results(out)
    assert record["interrupted"]
    assert record["interrupt_reason"] == "Ctrl-C"
    assert found["bundles"]["lost"] == 0
    assert found["bundles"]["unsent"] > 20_000
    assert found["bundles"]["succeeded"] == found["bundles"]["accepted"] > 50
    assert "nterrupted" in (out / "report.txt").read_text(encoding="utf-8")


def test_racing_bundles_succeed_partly_and_never_split(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = '[workload]\nkind = "conflict"\nhot_share = 0.6\ncontenders = 2\n' + SHORT
    done = bench(scenario(tmp_path, text), out)
    check_sound(done, out)
    bundles = results(out)["bundles"]
    assert bundles["unbundled"] == bundles["skipped"] == bundles["dropped"] == 0
    assert min(bundles["succeeded"], bundles["partly_succeeded"], bundles["reverted"]) > 0


def test_arbitrage_fails_where_the_price_has_moved(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = '[workload]\nkind = "swap"\namount = 20_000_000_000_000_000_000_000\nlegs = 3\n' + SHORT
    done = bench(scenario(tmp_path, text), out)
    check_sound(done, out)
    bundles = results(out)["bundles"]
    assert bundles["unbundled"] == bundles["skipped"] == bundles["dropped"] == 0
    assert bundles["succeeded"] > 0
    assert bundles["partly_succeeded"] > 0


def test_a_full_mempool_delays_bundles_and_loses_none(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # Only the clock cuts, so that no disk is fast enough to make room: 400 come within a second, 100 go every 1.5 s.
    text = "[backend]\nblock_interval_ms = 1_500\nmempool_bundles_max = 100\n"
    load = ('[load]\nkind = "burst"\nrate_per_s = 20\nduration_s = 5\nwarmup_s = 0\ncooldown_s = 0\n'
            "burst_rate_per_s = 400\nburst_from_s = 1\nburst_for_s = 1\n")  # fmt: skip
    done = bench(scenario(tmp_path, text + load), out)
    found, record = results(out), run_json(out)
    assert record["generator"]["overloads"] > 0, "the mempool was meant to be too small"
    assert found["bundles"]["lost"] == found["bundles"]["unbundled"] == found["bundles"]["refused"] == 0
    assert max(bundle["attempts"] for bundle in rows(out, "bundles")) > 1
    check_sound(done, out)


def test_faults_are_injected_and_healed_and_nothing_is_lost(tmp_path: Path) -> None:
    out = tmp_path / "run"
    faults = """
[rollup]
checkpoint_interval_heights = 10
[load]
rate_per_s = 40
duration_s = 5
warmup_s = 0
cooldown_s = 0
[[faults]]
at_s = 0.5
kind = "kill"
what = "engine"
[[faults]]
at_s = 1.5
kind = "pause"
for_s = 0.5
target = "rollup-2"
[[faults]]
at_s = 2.5
kind = "rewind"
target = "rollup-3"
heights = 15
[[faults]]
at_s = 3.5
kind = "withhold"
evidence = "sibling"
blocks = 2
"""
    done = bench(scenario(tmp_path, "replicas = 2\n" + faults), out)
    check_sound(done, out)
    record, found = run_json(out), results(out)
    assert [fault["kind"] for fault in record["faults"]] == ["kill", "pause", "rewind", "withhold"]
    assert all(fault["injected_ns"] < (fault["healed_ns"] or 0) for fault in record["faults"]), record["faults"]
    assert found["bundles"]["lost"] == found["bundles"]["unbundled"] == 0
    assert record["recovery"]


def test_a_sweep_stops_above_what_the_bound_allows(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # No machine executes within a fraction of the block interval: the first step must fail, and end the sweep.
    text = "[load]\nrate_per_s = 50\nsweep_step_s = 2\np99_bound_ms = 20\nwarmup_s = 0\ncooldown_s = 0\n"
    lockstep("sweep", scenario(tmp_path, text), "--no-calibrate", "--out", out, "--progress", "none")
    assert len(run_json(out)["phases"]) == 1
    assert not results(out)["saturation"]["found"]


def test_a_sweep_climbs_while_the_bound_holds_and_uses_nonces_without_gaps(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = "[load]\nrate_per_s = 20\nsweep_step_s = 1.5\nsweep_factor = 10\np99_bound_ms = 60000\n"
    file = scenario(tmp_path, text + "warmup_s = 0\ncooldown_s = 0\n")
    # The second step may be over before it is seen.
    sweep = ["--set", "load.kind=sweep"]
    done = interrupt_when(file, out, reached=lambda progress: progress["rate_per_s"] >= 200, arguments=sweep)
    found = results(out)
    assert [phase["rate_per_s"] for phase in run_json(out)["phases"]][:2] == [20, 200]
    assert found["bundles"]["skipped"] == found["bundles"]["dropped"] == found["bundles"]["lost"] == 0, done.stderr


def test_vary_runs_each_value_and_leaves_a_comparison_that_report_makes_again(tmp_path: Path) -> None:
    text = "[load]\nrate_per_s = 30\nduration_s = 2\nwarmup_s = 0\ncooldown_s = 0\n"
    # So far apart that no pause of the machine outweighs it: half an interval is waited on average.
    done = bench(scenario(tmp_path, text), tmp_path / "runs", "--vary", "block_interval_ms=50,3000")
    for value in (50, 3000):
        check_sound(done, tmp_path / "runs" / f"block_interval_ms={value}")
    p50 = [
        results(tmp_path / "runs" / f"block_interval_ms={value}")["latency_ms"]["sequenced"]["p50"]
        for value in (50, 3000)
    ]
    assert p50[0] < p50[1]
    assert "block_interval_ms" in done.stdout
    comparison = tmp_path / "runs" / "comparison.json"
    first = comparison.read_text(encoding="utf-8")
    assert json.loads(first)["labels"] == ["50", "3000"]
    comparison.unlink()
    lockstep("report", tmp_path / "runs")
    assert json.loads(comparison.read_text(encoding="utf-8")) == json.loads(first)


@pytest.mark.slow
def test_killing_processes_under_ray_loses_nothing(tmp_path: Path) -> None:
    out = tmp_path / "run"
    text = """
[load]
rate_per_s = 60
duration_s = 8
warmup_s = 0
cooldown_s = 0
[[faults]]
at_s = 1
kind = "kill"
target = "sequencer"
[[faults]]
at_s = 4
kind = "kill"
target = "rollup-2"
"""
    done = bench(scenario(tmp_path, text), out, "--launcher", "ray")
    check_sound(done, out)
    found, record = results(out), run_json(out)
    assert found["bundles"]["lost"] == found["bundles"]["unbundled"] == 0
    assert found["bundles"]["accepted"] == found["bundles"]["due"]
    assert record["generator"]["reconnects"] > 0
    assert all(fault["healed_ns"] for fault in record["faults"]), record["faults"]


def test_a_second_ctrl_c_ends_everything_at_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    # What was sent waits for the next cut, so that the run is not over before the second Ctrl-C comes.
    text = "[backend]\nblock_interval_ms = 12_000\n[load]\nrate_per_s = 50\nduration_s = 600\n"
    done = interrupt_when(scenario(tmp_path, text), out, reached=lambda progress: progress["accepted"] > 0, again=True)
    assert done.returncode == 130, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (out / "results.json").exists()
