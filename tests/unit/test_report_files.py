"""What a report writes: files that are complete, self-contained, equal when made again, and readable at any width."""

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from benchmarks.report import ALL_FORMATS, print_report, write_report
from benchmarks.report.canvas import label_rows
from benchmarks.report.style import PALETTE
from benchmarks.report.tables import latex
from benchmarks.report.terminal import report_text
from coordinator.record import STALLS
from tests.support.synthetic_layer import SyntheticLayer
from tests.support.synthetic_run import SECOND_NS, ZERO_NS, write_synthetic_run

FAULT = {
    "kind": "kill",
    "target": "rollup-1",
    "injected_ns": ZERO_NS + 8 * SECOND_NS,
    "healed_ns": ZERO_NS + 9 * SECOND_NS,
}
KINDS: dict[str, dict[str, Any]] = {
    "steady": {},
    "mixed": {
        "partly_share": 0.1,
        "reverted_share": 0.1,
        "dropped_share": 0.1,
        "refused_share": 0.1,
        "faults": (FAULT,),
    },
    "sweep": {"load_kind": "sweep", "phases_per_s": (200, 400, 800), "duration_s": 24, "capacity_per_s": 500},
    "burst": {"load_kind": "burst", "phases_per_s": (100, 900, 100), "duration_s": 15, "capacity_per_s": 500},
    "broken": {"split_bundles": 2, "lost_bundles": 1, "late_ms": 90.0, "broken_invariants": ("replicas_agree",)},
    "interrupted": {"interrupted": True},
    "nothing completed": {"dropped_share": 1.0},
    "nothing due": {"rate_per_s": 0.01},
    "agglayer": {"aborted_share": 0.05, "layer": SyntheticLayer(refused=1, deep_reorgs=1)},
    "bond": {"partly_share": 0.05, "layer": SyntheticLayer(mode="bond", prover="modelled", made_units=9)},
    "nothing safe": {"duration_s": 8, "layer": SyntheticLayer(never_safe=10**6, unsettled_from_s=-1.0)},
    "many nodes": {"rollups": 40, "duration_s": 6, "warmup_s": 1, "cooldown_s": 1},
    "bare": {"run": {"engine_bound": None, "generator": {}, "hosts": [], "versions": {}, "machine": {}}},
}


class Page(HTMLParser):
    """Collects what a page refers to and checks that its tags are balanced."""

    VOID = frozenset({"meta", "link", "br", "img", "path", "use", "rect", "circle", "hr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        self._look(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._look(attrs)

    def _look(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.ids.append(value)
            if name in ("href", "src", "xlink:href") and value:
                self.references.append(value)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_page_that_needs_nothing_else(tmp_path: Path, kind: str) -> None:
    write_synthetic_run(tmp_path, **KINDS[kind])
    results = write_report(tmp_path, formats=("html", "tables"))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert "script" not in page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert len(page.ids) == len(set(page.ids))
    assert {reference[1:] for reference in page.references} <= set(page.ids)
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    said = " ".join(" ".join(page.text).split())
    assert ("NOT VALID" in said) is not results.valid
    for reason in (*results.invalid_reasons, *results.warnings, *results.findings):
        assert reason in said
    assert "nan" not in said.lower().split()


def test_the_page_follows_the_theme(tmp_path: Path) -> None:
    write_report(write_synthetic_run(tmp_path), formats=("html",))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    drawings = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
    assert "var(--vermilion)" in drawings
    assert not set(re.findall(r"#[0-9a-f]{6}\b", drawings)), "a colour outside the palette would not follow the theme"
    assert "prefers-color-scheme: dark" in text
    lights = [light for light, _ in PALETTE.values()]
    assert len(lights) == len(set(lights))


def test_all_files_are_written_and_equal_when_made_again(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, rate_per_s=50, duration_s=8)
    write_report(tmp_path)
    first = _contents(tmp_path)
    write_report(tmp_path)
    assert _contents(tmp_path) == first
    names = {name.rpartition(".")[0] for name in first if name.startswith("figures/")}
    assert {"figures/latency_cdf", "figures/throughput", "figures/outcomes", "figures/resources"} <= names
    for name in names:
        assert {f"{name}.{suffix}" for suffix in ("png", "svg", "pdf")} <= set(first)
    assert {"results.json", "report.txt", "report.html", "tables/results.tex", "tables/latency.csv"} <= set(first)


def _contents(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "events" not in path.parts
    }


def test_formats_can_be_left_out(tmp_path: Path) -> None:
    write_synthetic_run(tmp_path, rate_per_s=50, duration_s=8)
    write_report(tmp_path, formats=())
    assert (tmp_path / "results.json").exists()
    assert (tmp_path / "report.txt").exists()
    assert not (tmp_path / "report.html").exists()
    assert not (tmp_path / "figures").exists()
    assert set(ALL_FORMATS) == {"html", "png", "svg", "pdf", "tables"}


def test_tables_hold_the_results(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=("tables",))
    with (tmp_path / "tables" / "latency.csv").open(encoding="utf-8") as file:
        rows = {row["stage"]: row for row in csv.DictReader(file)}
    assert float(rows["executed"]["p99_ms"]) == results.latency_ms["executed"]["p99"]
    assert float(rows["executed"]["p50_blocks"]) == results.latency_blocks["executed"]["p50"]
    tex = (tmp_path / "tables" / "results.tex").read_text(encoding="utf-8")
    assert r"\toprule" in tex
    assert tex.count("{") == tex.count("}")


def test_latex_reads_no_text_as_a_command() -> None:
    assert latex("50 % of a_b & {c} \\d #1 $x ~ ^") == (
        r"50 \% of a\_b \& \{c\} \textbackslash{}d \#1 \$x \textasciitilde{} \textasciicircum{}"
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("kind", KINDS)
def test_the_terminal_shows_what_matters_within_its_width(tmp_path: Path, kind: str, width: int) -> None:
    write_synthetic_run(tmp_path, **KINDS[kind])
    results = write_report(tmp_path, formats=())
    text = report_text(results, width)
    assert max(len(line) for line in text.splitlines()) <= width
    assert ("INVALID" in text) is not results.valid
    flat = " ".join(text.replace("│", " ").split())
    assert "All legs or none" in flat or "ALL LEGS OR NONE BROKE" in flat
    for reason in results.invalid_reasons:
        assert reason.split(":")[0][:30] in flat
    assert ("ALL LEGS OR NONE BROKE" in flat) == bool(results.bundles["unbundled"])


def test_validity_comes_before_any_figure(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path, **KINDS["broken"]), formats=())
    text = report_text(results)
    assert text.index("Not valid:") < text.index("ALL LEGS OR NONE BROKE") < text.index("Carried") < text.index("p50")


def test_the_last_stall_says_who_waited_and_why(tmp_path: Path) -> None:
    stalls = [
        {"node": node, "at_ns": ZERO_NS + at, "height": at, "reason": reason, "source": "sequencer"}
        for node, at, reason in (("agglayer", 9, "start the testnet anew"), ("rollup-1", 3, "no leaf proof"))
    ]
    write_synthetic_run(tmp_path)
    pq.write_table(pa.Table.from_pylist(stalls, schema=STALLS), tmp_path / "events" / "stalls.parquet")
    warnings = write_report(tmp_path, formats=()).warnings
    (told,) = [warning for warning in warnings if "stalled" in warning]
    assert told.startswith("readers stalled 2 times ")
    assert told.endswith("last agglayer at height 9: start the testnet anew")


def test_a_terminal_with_colours_prints_too(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=())
    file = io.StringIO()
    print_report(results, Console(file=file, force_terminal=True, width=100))
    assert "\x1b[" in file.getvalue()


def test_results_json_is_what_was_returned(tmp_path: Path) -> None:
    results = write_report(write_synthetic_run(tmp_path), formats=())
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results.as_json()))


def test_labels_of_faults_stand_on_as_many_rows_as_they_need() -> None:
    assert label_rows([0.1, 0.5], [0.3, 0.3]) == [(0, False), (0, False)]
    assert label_rows([0.1, 0.1, 0.2], [0.3, 0.3, 0.05]) == [(0, False), (1, False), (2, False)]
    # Beyond the right end it stands on the other side, as long as there is room.
    assert label_rows([0.5, 0.9], [0.3, 0.3]) == [(0, False), (1, True)]
    assert label_rows([0.9], [0.95]) == [(0, False)]
    assert label_rows([], []) == []
