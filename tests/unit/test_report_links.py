"""What a run says of emulated links: from samples in traces to rows, sentences, a section and expected latencies."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import write_report
from benchmarks.report.links import link_warnings
from benchmarks.report.page import page
from benchmarks.report.results import Results, compute_results
from benchmarks.report.run_data import read_run
from benchmarks.report.terminal import report_text
from coordinator.collect.node_trace import NodeTrace
from coordinator.stages.link_account import link_documents, totals
from nodes.model.wide_area import RegionPair, WideArea
from nodes.telemetry.events import LinkSampled, NodeStarted, Stamped
from nodes.wire.trace_records import stamped_to_bytes
from tests.support.synthetic_layer import SyntheticLayer
from tests.support.synthetic_run import write_synthetic_run

MS = 1_000_000
WEST, EAST, SOUTH = "us-west-2", "us-east-1", "sa-east-1"
AREA = WideArea(
    seed=1,
    regions={
        "clients": WEST,
        "sequencer": EAST,
        "agglayer": EAST,
        **dict.fromkeys(("rollup-1", "rollup-2", "rollup-3", "rollup-4"), EAST),
        "solana": "none",
    },
    pairs=(
        RegionPair(first=WEST, second=EAST, round_trip_ms=80.0, source="a page, 2026"),
        RegionPair(first=EAST, second=SOUTH, round_trip_ms=120.0, source="another"),
    ),
    jitter_share=0.0,
    loss=0.01,
    bandwidth_mbit=0.0,
)


def sampled(**changes: Any) -> LinkSampled:
    values: dict[str, Any] = {
        "peer": "sequencer",
        "region": WEST,
        "peer_region": EAST,
        "is_back": False,
        "one_way_ns": 40 * MS,
        "connections": 1,
        "chunks": 100,
        "bytes": 5_000,
        "lost": 1,
        "delay_mean_ns": 41 * MS,
        "delay_p50_ns": 40 * MS,
        "delay_p99_ns": 45 * MS,
        "delay_max_ns": 90 * MS,
        "late_mean_ns": MS // 2,
        "late_p99_ns": 2 * MS,
    }
    return LinkSampled(**{**values, **changes})


def started() -> NodeStarted:
    return NodeStarted(node="rollup-1", kind="rollup", pid=1, host="h", boot_id="b")


def trace_of(*events: LinkSampled | NodeStarted) -> NodeTrace:
    """A trace that went through its bytes."""
    trace = NodeTrace("rollup-1")
    for at_ns, event in enumerate(events):
        trace.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    return trace


def test_the_newest_sample_of_each_direction_counts() -> None:
    trace = trace_of(started(), sampled(), sampled(is_back=True, chunks=7), sampled(chunks=200))
    assert {(sample.is_back, sample.chunks) for sample in totals(trace)} == {(False, 200), (True, 7)}


def test_incarnations_of_a_process_are_added_up() -> None:
    (total,) = totals(
        trace_of(
            started(), sampled(chunks=50), sampled(chunks=100),
            started(), sampled(chunks=10), sampled(chunks=300, delay_mean_ns=45 * MS, delay_max_ns=60 * MS),
        )
    )  # fmt: skip
    assert (total.chunks, total.bytes, total.connections, total.lost) == (400, 10_000, 2, 2)
    assert total.delay_mean_ns == 44 * MS
    assert total.delay_max_ns == 90 * MS


def documents(*, of_clients: tuple[LinkSampled, ...] = (), samples: tuple[LinkSampled, ...] = ()) -> dict[str, Any]:
    return link_documents(AREA, [trace_of(started(), *samples)], of_clients)


def test_a_row_names_who_sends_and_who_receives() -> None:
    rows = documents(of_clients=(sampled(), sampled(is_back=True)))["links"]
    assert [(row["from"], row["from_region"], row["to"], row["to_region"], row["opened_by"]) for row in rows] == [
        ("clients", WEST, "sequencer", EAST, "clients"),
        ("sequencer", EAST, "clients", WEST, "clients"),
    ]
    assert rows[0]["configured_ms"] == 40
    assert rows[0]["applied_ms"] == {"mean": 41, "p50": 40, "p99": 45, "max": 90}
    assert link_documents(None, [], ()) == {}


def results_of(directory: Path, run: dict[str, Any], **changes: Any) -> Results:
    return compute_results(read_run(write_synthetic_run(directory, run=run, **changes)))


def test_a_run_without_links_says_nothing_of_them(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=("tables",))
    assert results.links is None
    assert "links" not in json.loads((tmp_path / "results.json").read_text())
    assert "Links" not in report_text(results)
    assert "Emulated links" not in page(read_run(tmp_path), results, ())


def test_every_used_link_is_listed_with_what_was_configured_and_applied(tmp_path: Path) -> None:
    unused = sampled(peer="rollup-1", chunks=0, connections=0)
    run = documents(of_clients=(sampled(), sampled(is_back=True), unused))
    results = results_of(tmp_path, run)
    assert results.links is not None
    assert [row["to"] for row in results.links["links"]] == ["sequencer", "clients"]
    assert results.links["unused"] == 1
    shown = page(read_run(tmp_path), results, ())
    for text in ("Emulated links", "1.00 %", "a page, 2026", "us-west-2", "1 more directions"):
        assert text in shown
    said = " ".join(report_text(results).split())
    assert "us-west-2 to us-east-1: 40 ms one way, applied mean 41.0" in said


def test_links_of_one_way_between_regions_are_summed_up(tmp_path: Path) -> None:
    run = documents(of_clients=(sampled(), sampled(peer="rollup-1", chunks=300, delay_mean_ns=45 * MS)))
    links = results_of(tmp_path, run).links
    assert links is not None
    (path,) = links["paths"]
    assert (path["links"], path["chunks"], path["applied_mean_ms"]) == (2, 400, 44.0)


def test_a_relay_that_is_late_by_itself_is_a_warning(tmp_path: Path) -> None:
    results = results_of(tmp_path, documents(of_clients=(sampled(late_mean_ns=9 * MS),)))
    said = "1 emulated link was late by itself, clients to sequencer by 9.0 ms"
    assert any(said in warning for warning in results.warnings)
    links = results.links
    assert links is not None
    assert link_warnings({**links, "links": [{**links["links"][0], "late_ms": {"mean": 4.0, "p99": 9.0}}]}) == []


def test_expected_latencies_have_the_ways_in_them(tmp_path: Path) -> None:
    plain = results_of(tmp_path / "a", {}).expected_ms
    linked = results_of(tmp_path / "b", documents(of_clients=(sampled(),))).expected_ms
    for stage in ("sequenced", "firm", "executed"):
        assert linked[stage]["p50"] == pytest.approx(plain[stage]["p50"] + 40)
        assert "clients to sequencer (40.0 ms)" in linked[stage]["formula"]


def test_an_order_made_on_solana_is_posted_there_and_read_from_there(tmp_path: Path) -> None:
    run = documents(of_clients=(sampled(),), samples=(sampled(peer="solana"),))
    run["wide_area"]["regions"]["solana"] = SOUTH
    plain = results_of(tmp_path / "a", {}).expected_ms["sequenced"]
    linked = results_of(tmp_path / "b", run).expected_ms["sequenced"]
    # 40 ms to the sequencer, 60 ms to Solana, 60 ms until its word is back, twice 120 ms for the block.
    assert linked["p50"] == pytest.approx(plain["p50"] + 40 + 120 + 240)
    assert "its word of a block back" in linked["formula"]


def test_executed_waits_for_the_farthest_rollup_of_a_bundle(tmp_path: Path) -> None:
    run = documents(of_clients=(sampled(),))
    run["wide_area"]["regions"].update(dict.fromkeys(("rollup-1", "rollup-2", "rollup-3"), SOUTH))
    plain = results_of(tmp_path / "a", {}).expected_ms["executed"]
    linked = results_of(tmp_path / "b", run).expected_ms["executed"]
    # Of two legs on four rollups, one at least is in the south.
    assert linked["p50"] == pytest.approx(plain["p50"] + 40 + 60)


def test_atomic_safe_waits_for_the_farthest_report_and_the_verdict(tmp_path: Path) -> None:
    run = documents(of_clients=(sampled(),))
    run["wide_area"]["regions"]["agglayer"] = SOUTH
    expected = results_of(tmp_path, run, layer=SyntheticLayer()).expected_ms
    assert expected["atomic_safe"]["p50"] == pytest.approx(expected["executed"]["p50"] + 5 + 120)
    assert "120.0 ms of emulated ways" in expected["atomic_safe"]["formula"]
