"""The live table's figures: rates from totals, and what a row shows of a node in trouble."""

import io

import pytest
from rich.console import Console

from coordinator.stages.live import NodeRow, RateMeter, table_of


def test_rates_are_over_the_last_seconds() -> None:
    meter = RateMeter()
    assert meter.rate("a", total=100, now_s=0) is None
    assert meter.rate("a", total=200, now_s=1) == 100
    for second in range(2, 20):
        rate = meter.rate("a", total=200 + 10 * (second - 1), now_s=second)
    assert rate == pytest.approx(10)
    assert meter.rate("b", total=0, now_s=0) is None


def test_a_node_that_began_anew_has_no_negative_rate() -> None:
    meter = RateMeter()
    meter.rate("a", total=100, now_s=0)
    assert meter.rate("a", total=3, now_s=1) is None
    assert meter.rate("a", total=5, now_s=2) == 2


def test_rows_show_what_is_known_and_nothing_else() -> None:
    rows = [
        NodeRow(name="sequencer", kind="sequencer", address="x", height=12_345, pending=0, lag=0, state="ok"),
        NodeRow(name="rollup-1", kind="rollup", address="y", height=9, block=3, transactions_per_s=1234.6, state="ok"),
        NodeRow(name="rollup-2", kind="rollup", address="z", state="unreachable: gone"),
    ]
    console = Console(file=io.StringIO(), width=120)
    console.print(table_of(rows, title="nodes"))
    assert isinstance(console.file, io.StringIO)
    lines = [line.replace("│", " ").split() for line in console.file.getvalue().splitlines() if "│" in line]
    assert lines == [
        ["sequencer", "12,345", "0", "0", "ok"],
        ["rollup-1", "9", "3", "1,235", "ok"],
        ["rollup-2", "unreachable:", "gone"],
    ]
