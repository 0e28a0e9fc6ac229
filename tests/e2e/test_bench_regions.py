"""Runs whose nodes stand in regions: latencies rise by the one-way delays, every link is reported, nothing is lost."""

from pathlib import Path

import pytest

from tests.support.bench import bench, check_sound, results, rows, run_json, scenario

pytestmark = pytest.mark.e2e

NS_PER_MS = 1_000_000
LOAD = "[load]\nrate_per_s = 40\nduration_s = 3\nwarmup_s = 0.5\ncooldown_s = 0.5\n"
REGIONS = '[regions]\ndefault = "home"\nclients = "west"\nrollup-1 = "east"\nrollup-2 = "east"\nrollup-3 = "east"\n'
NETWORK = "[network.round_trip_ms]\nhome = { west = 120, east = 160 }\nwest = { east = 240 }\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same load on a testnet in one place, and in three regions."""
    made = []
    for name, text in (("near", LOAD), ("far", LOAD + REGIONS + NETWORK)):
        folder = tmp_path_factory.mktemp(name)
        out = folder / "run"
        check_sound(bench(scenario(folder, text), out), out)
        made.append(out)
    return made[0], made[1]


def test_latency_rises_by_the_one_way_delays(runs: tuple[Path, Path]) -> None:
    near, far = (rows(run, "bundles") for run in runs)
    # To the sequencer 60 ms, and from there to the rollups 80 ms.
    for stage, added_ms in (("accepted", 120), ("sequenced", 60), ("executed", 140)):
        # The fastest bundle tells what cannot be avoided, whatever the machine is busy with.
        here_ms, there_ms = (
            min(row[f"{stage}_ns"] - row["sent_ns"] for row in bundles) / NS_PER_MS for bundles in (near, far)
        )
        assert there_ms >= added_ms, stage
        assert there_ms - here_ms < 2 * added_ms, f"{stage}: no way is delayed twice"
        assert results(runs[1])["latency_ms"][stage]["p50"] >= added_ms, stage


def test_theory_expects_what_the_links_add(runs: tuple[Path, Path]) -> None:
    near, far = (results(run)["expected_ms"]["executed"]["p50"] for run in runs)
    assert far - near == pytest.approx(140 * 1.02, abs=0.1)


def test_every_link_is_listed_as_configured_and_as_applied(runs: tuple[Path, Path]) -> None:
    near, far = runs
    assert "links" not in results(near)
    links = results(far)["links"]
    by_ends = {(row["from"], row["to"]): row for row in links["links"]}
    assert by_ends["clients", "sequencer"]["configured_ms"] == 60
    assert by_ends["sequencer", "clients"]["configured_ms"] == 60
    for number in (1, 2, 3):
        row = by_ends["sequencer", f"rollup-{number}"]
        assert row["configured_ms"] == 80
        # What the relay itself added is told apart; jitter, and chunks that wait for those before them, are the rest.
        assert 80 <= row["applied_ms"]["mean"] - row["late_ms"]["mean"] <= 100
        assert row["chunks"] > 0
    assert {pair["source"] for pair in links["pairs"]} == {"the scenario"}
    assert {"wide_area", "links"} <= run_json(far).keys()
    assert "Emulated links" in (far / "report.html").read_text(encoding="utf-8")
    assert "home to east: 80 ms one way" in " ".join((far / "report.txt").read_text(encoding="utf-8").split())


def test_a_place_that_does_not_exist_costs_no_time(tmp_path: Path) -> None:
    done = bench(scenario(tmp_path, '[regions]\nsequencer = "eu-wst-1"\n'), tmp_path / "run")
    assert done.returncode == 2
    assert "did you mean 'eu-west-1'" in done.stderr
    assert not (tmp_path / "run").exists()


def test_every_kind_of_connection_goes_through_its_link(tmp_path: Path) -> None:
    """gRPC of all services, and JSON-RPC of rollups and L1 over HTTP and WebSocket."""
    text = 'atomicity = "agglayer"\n[agglayer]\nattesters = 2\n[builder]\nenabled = true\n' + LOAD
    text += '[regions]\ndefault = "home"\nsequencer = "a"\nagglayer = "b"\nl1 = "c"\nbuilder = "d"\nattesters = "e"\n'
    text += "[network]\njitter_share = 0\n[network.round_trip_ms]\n"
    text += "home = { a = 20, b = 20, c = 20, d = 20, e = 20 }\na = { b = 20, c = 20, d = 20, e = 20 }\n"
    text += "b = { c = 20, d = 20, e = 20 }\nc = { d = 20, e = 20 }\nd = { e = 20 }\n"
    out = tmp_path / "run"
    check_sound(bench(scenario(tmp_path, text), out, "--set", "rollups=2"), out)
    used = {(row["opened_by"], row["to"]) for row in results(out)["links"]["links"] if row["to"] != row["opened_by"]}
    rollups = ("rollup-1", "rollup-2")
    assert used >= {
        ("clients", "builder"),
        ("builder", "sequencer"),
        ("agglayer", "sequencer"),
        ("agglayer", "l1"),
        ("agglayer", "attester-1"),
        ("agglayer", "attester-2"),
        *(("builder", name) for name in rollups),
        *((name, "sequencer") for name in rollups),
        *((name, "agglayer") for name in rollups),
    }
