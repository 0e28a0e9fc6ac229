"""Comparisons of backends: what is used, what is said, and pages that hold every section."""

import io
import json
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.report import BrokenRunDirectory, print_comparison, read_comparison, write_comparison, write_report
from benchmarks.report.compare_text import comparison_text
from coordinator.record import RUNS_FILE, VARY_KIND, ComparisonDirectory
from nodes.model.errors import InvalidInput
from tests.support.synthetic_comparison import Side, write_synthetic_comparison
from tests.support.synthetic_layer import SyntheticLayer
from tests.support.synthetic_run import Synthetic, write_synthetic_run

EXPECTED = {
    stage: {"p50_ms": p50, "p99_ms": p99, "formula": f"formula of {stage}"}
    for stage, p50, p99 in (("sequenced", 200.0, 396.0), ("firm", 900.0, 990.0), ("executed", 200.0, 396.0))
}
LAZY = Side(label="lazy")
SLOW = Side(
    label="slow",
    backend="slow",
    changes={"interval_ms": 400},
    run={
        "expected": EXPECTED,
        "costs": {"lamports": 8_000_000, "solana_transactions": 800},
        "setup_costs": {"lamports": 58_000_000},
    },
)


class Texts(HTMLParser):
    """The texts of a page, and what it fetches."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value for name, value in attrs if name == "src" and value]
        assert tag not in ("script", "link", "img", "iframe")

    def handle_data(self, data: str) -> None:
        self.found.append(data)


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five repeats of two different backends."""
    return write_synthetic_comparison(tmp_path_factory.mktemp("five") / "c", [LAZY, SLOW], repeats=5)


def test_a_slower_backend_is_told_with_ratio_and_interval(five: Path) -> None:
    comparison = read_comparison(five)
    assert comparison.repeats == 5
    assert comparison.labels == ("lazy", "slow")
    assert comparison.valid == (True, True)
    line = next(line for line in comparison.lines if line.name == "sequenced p50")
    ratio, interval = line.ratios[1], line.intervals[1]
    assert ratio is not None
    assert interval is not None
    assert interval[0] <= ratio <= interval[1]
    assert ratio == pytest.approx(3.8, abs=0.4)
    assert line.verdicts == ("worse",)
    spread = line.spreads[0]
    assert spread is not None
    assert spread.low <= spread.median <= spread.high
    assert spread.count == 5
    assert comparison.verdict.startswith("slow against lazy takes longer: sequenced (soft) p50 3.")
    assert "only slow pays lamports per bundle: 5,000" in comparison.verdict
    assert next(line for line in comparison.lines if line.name == "lamports per bundle").verdicts == ("only slow",)
    assert "no difference shown in" in comparison.verdict
    assert comparison.differing_settings["backend"] == ("lazy", "slow")


def test_the_same_backend_twice_shows_no_difference(tmp_path: Path) -> None:
    sides = [Side(label="lazy-1"), Side(label="lazy-2", seeds=(11, 12, 13, 14, 15))]
    comparison = read_comparison(write_synthetic_comparison(tmp_path, sides, repeats=5))
    assert comparison.verdict.startswith("No difference shown between lazy-2 and lazy-1 in any of")
    assert {word for line in comparison.lines for word in line.verdicts} == {"no difference shown", "not judged"}


def test_a_difference_between_equals_is_told_as_the_machines(tmp_path: Path) -> None:
    sides = [Side(label="lazy-1"), Side(label="lazy-2", changes={"late_ms": 20})]
    comparison = read_comparison(write_synthetic_comparison(tmp_path, sides, repeats=5))
    assert comparison.verdict.startswith("lazy-2 and lazy-1 are the same twice: no difference shown in")
    assert "by chance alone" in comparison.verdict
    assert "apart in accepted p50" in comparison.verdict


def test_few_repeats_give_ranges_and_say_so(tmp_path: Path) -> None:
    comparison = read_comparison(write_synthetic_comparison(tmp_path, [LAZY, SLOW], repeats=2))
    assert all(interval is None for line in comparison.lines for interval in line.intervals)
    assert "slow against lazy takes longer: sequenced (soft) p50" in comparison.verdict
    assert "(named where the ranges lie apart)" in comparison.verdict
    assert comparison.verdict.endswith("Medians and ranges of 2 repeats; ratios with intervals need 5.")
    equal = [Side(label="lazy-1"), Side(label="lazy-2")]
    same = read_comparison(write_synthetic_comparison(tmp_path / "same", equal, repeats=2))
    assert same.verdict.startswith("No difference shown between lazy-2 and lazy-1: their ranges overlap")


def test_one_run_each_follows_the_ten_percent_rule_and_says_so(tmp_path: Path) -> None:
    comparison = read_comparison(write_synthetic_comparison(tmp_path, [LAZY, SLOW], repeats=1))
    assert comparison.verdict.startswith("slow against lazy takes longer: sequenced (soft) p50")
    assert comparison.verdict.endswith("One run each, 10% rule; ratios with intervals need 5 repeats.")
    equal = [Side(label="lazy-1"), Side(label="lazy-2")]
    same = read_comparison(write_synthetic_comparison(tmp_path / "same", equal, repeats=1))
    assert same.verdict.startswith("No difference shown between lazy-2 and lazy-1. One run each")
    late = [Side(label="lazy-1"), Side(label="lazy-2", changes={"late_ms": 20})]
    apart = read_comparison(write_synthetic_comparison(tmp_path / "late", late, repeats=1))
    assert apart.verdict.startswith("lazy-2 and lazy-1 are the same twice; still they differ in accepted p50")


def test_the_sections_hold_ladder_costs_theory_and_trust(five: Path) -> None:
    sections = read_comparison(five).backends
    assert sections is not None
    stages = [rung.stage for rung in sections.ladder if rung.label == "slow"]
    assert stages == ["accepted", "sequenced", "firm", "executed"]
    assert [text.partition(":")[0] for text in sections.absent] == ["atomic-safe", "settled"]
    costs = {line.name: line.spreads for line in sections.costs}
    assert costs["CPU per bundle"][0] is not None
    assert costs["lamports per bundle"][0] is None
    lamports = costs["lamports per bundle"][1]
    assert lamports is not None
    assert lamports.median == pytest.approx(8_000_000 / 1_600, rel=0.01)
    assert sections.setup == (
        "slow had paid 58,000,000 lamports before the load",
        "CPU and memory of slow do not include a node of the chain that orders",
    )
    assert any(line.name == "gRPC between nodes per bundle (RPC of Slow not counted)" for line in sections.costs)
    verdicts = {(row.label, row.stage, row.percentile): row.verdict for row in sections.theory}
    assert verdicts["lazy", "sequenced", "p50"] == "agrees"
    assert verdicts["slow", "firm", "p50"] == "faster"
    assert any(text.startswith("slow: firm p50 is faster than expected") for text in sections.findings)
    assert ("slow", "firm", "formula of firm") in sections.formulas
    assert [about.backend for about in sections.about] == ["lazy", "slow"]
    assert sections.about[0].trust[0]["part"] == "a quorum"


def test_the_page_is_self_contained_and_has_every_section(five: Path, tmp_path: Path) -> None:
    comparison = read_comparison(five)
    page = write_comparison(comparison, tmp_path)
    texts = Texts()
    texts.feed(page.read_text(encoding="utf-8"))
    shown = " ".join(texts.found)
    assert texts.fetched == []
    for text in (
        "Latency, stage by stage", "Run by run", "Metric by metric", "What it costs", "Expected next to measured",
        "Whom users trust", "The runs, in their order", "Settings that differ", "nothing is <firm> until it is back",
        "atomic-safe: there are no verdicts", "keys were left out", "The sides take turns.", "bootstrap",
    ):  # fmt: skip
        assert text in shown
    document = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert document["verdict"] == comparison.verdict
    assert document["lines"][0]["spreads"][0]["count"] == 5
    assert document["backends"]["costs"][0]["name"] == "CPU per bundle"
    drawing = (tmp_path / "figures" / "ladder.svg").read_text(encoding="utf-8")
    for text in ("lazy", "slow", "soft", "firm", "executed", "expected p50"):
        assert text in drawing
    assert (tmp_path / "figures" / "order.png").stat().st_size > 0


def test_made_again_it_is_the_same(five: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_comparison(read_comparison(five), tmp_path / name)
    files = ("comparison.json", "comparison.html", "comparison.txt", "figures/ladder.svg", "figures/order.png")
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_the_terminal_fits_a_hundred_columns(five: Path) -> None:
    text = comparison_text(read_comparison(five))
    assert max(map(len, text.splitlines())) <= 100
    for part in (
        *("sequenced (soft) p50", "ratio [95% interval]", "lamports per bundle", "Expected and measured", "a quorum"),
        *("A measured value agrees within 25 %", "steady, 200 bundles/s", "Command", "Machine", "Seed"),
    ):
        assert part in text
    assert "…" not in text, "nothing is cut off"


@pytest.mark.parametrize("columns", [80, 100])
def test_three_sides_with_an_aggregation_layer_fit_too(tmp_path: Path, columns: int) -> None:
    layer = {"layer": SyntheticLayer()}
    sides = [Side(label=name, changes=layer) for name in ("lazy-1", "lazy-2", "lazy-3")]
    comparison = read_comparison(write_synthetic_comparison(tmp_path, sides, repeats=1))
    file = io.StringIO()
    print_comparison(comparison, Console(file=file, width=columns))
    assert max(map(len, file.getvalue().splitlines())) <= columns
    assert comparison.backends is not None
    assert {"atomic_safe", "settled"} <= {rung.stage for rung in comparison.backends.ladder}
    assert comparison.backends.absent == ()
    assert {row.label for row in comparison.backends.theory} == {"lazy-1", "lazy-2", "lazy-3"}
    page = write_comparison(comparison, tmp_path)
    assert "Proofs are attested, not ZK proofs" in page.read_text(encoding="utf-8")


def test_a_repeat_with_a_failed_or_invalid_run_is_left_out_and_named(tmp_path: Path) -> None:
    folder = write_synthetic_comparison(tmp_path, [LAZY, SLOW], repeats=4, states={("slow", 2): "failed"})
    late = tmp_path / "lazy" / "repeat-3"
    write_report(write_synthetic_run(late, late_ms=100, duration_s=8.0, warmup_s=1.0, cooldown_s=1.0), formats=())
    comparison = read_comparison(folder)
    assert comparison.repeats == 2
    assert comparison.valid == (True, True)
    used = {(row.label, row.repeat) for row in comparison.runs if row.used}
    assert used == {("lazy", 1), ("slow", 1), ("lazy", 4), ("slow", 4)}
    note = next(note for note in comparison.notes if "not in the figures" in note)
    for text in ("4 of 8 runs", "slow, repeat 2 (it broke)", "lazy, repeat 2 (slow did not finish", "not valid: "):
        assert text in note


def test_without_a_whole_repeat_there_are_figures_and_no_verdict(tmp_path: Path) -> None:
    folder = write_synthetic_comparison(tmp_path, [LAZY, SLOW], repeats=1, states={("slow", 1): "interrupted"})
    comparison = read_comparison(folder)
    assert comparison.repeats == 0
    assert comparison.verdict == "No verdict: there is no repeat in which every side finished."
    assert comparison.lines[0].values[0] is not None
    assert comparison.lines[0].values[1] is None
    assert "No verdict" in write_comparison(comparison, tmp_path).read_text(encoding="utf-8")
    assert comparison_text(comparison)


def test_without_a_valid_repeat_there_are_figures_and_no_verdict(tmp_path: Path) -> None:
    sides = [Side(label="lazy-1", changes={"late_ms": 100}), Side(label="lazy-2")]
    comparison = read_comparison(write_synthetic_comparison(tmp_path, sides, repeats=1))
    assert comparison.verdict == "No verdict: there is no repeat in which every run is valid."
    assert comparison.valid == (False, True)
    assert "lazy-1 (INVALID)" in comparison_text(comparison)


def test_split_bundles_are_said_before_any_figure(tmp_path: Path) -> None:
    sides = [Side(label="lazy-1"), Side(label="lazy-2")]
    folder = write_synthetic_comparison(tmp_path, sides, repeats=2)
    split = tmp_path / "lazy-2" / "repeat-2"
    what = Synthetic(split_bundles=1, duration_s=8.0, warmup_s=1.0, cooldown_s=1.0, seed=2, run={"seed": 1})
    write_report(write_synthetic_run(split, what), formats=())
    comparison = read_comparison(folder)
    # The run is not valid, so the figures are those of the first repeat alone; the broken rule is said all the same.
    assert comparison.repeats == 1
    assert comparison.verdict == "No verdict: lazy-2 has 1 unbundled bundles."


def test_runs_that_were_not_started_are_said(tmp_path: Path) -> None:
    folder = write_synthetic_comparison(tmp_path, [LAZY, SLOW], repeats=1)
    record = ComparisonDirectory.open(folder).read()
    ComparisonDirectory(path=folder).write({**record, "repeats": 3})
    assert "4 of 6 runs were not started" in read_comparison(folder).notes


def test_a_varied_key_can_be_read_again_from_its_folder(tmp_path: Path) -> None:
    for count in (2, 4):
        write_report(write_synthetic_run(tmp_path / f"rollups={count}", rollups=count), formats=())
    runs = [{"label": str(n), "repeat": 1, "directory": f"rollups={n}", "state": "finished"} for n in (2, 4)]
    document = {"kind": VARY_KIND, "scenario": "synthetic", "labels": ["2", "4"], "repeats": 1, "runs": runs}
    ComparisonDirectory(path=tmp_path).write(document)
    comparison = read_comparison(tmp_path)
    assert comparison.labels == ("2", "4")
    assert comparison.backends is None
    assert comparison.verdict.startswith("No regression verdict, because the runs differ in rollups.")


def test_folders_that_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=rf"{RUNS_FILE}; give the directory that `lockstep compare` wrote"):
        read_comparison(tmp_path)
    states = {("lazy", 1): "failed", ("slow", 1): "failed"}
    folder = write_synthetic_comparison(tmp_path / "c", [LAZY, SLOW], repeats=1, states=states)
    with pytest.raises(BrokenRunDirectory, match=r"no run of .* finished"):
        read_comparison(folder)
    (folder / RUNS_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_comparison(folder)
    with pytest.raises(InvalidInput, match="already holds runs"):
        ComparisonDirectory.create(folder)
