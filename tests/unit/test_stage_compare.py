"""The runs of a comparison: their order, what is kept when one fails or Ctrl-C comes, and how long is left."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.cli.compare_command import CompareRequest, labels_of
from coordinator.record import ComparisonDirectory
from coordinator.spec import Scenario, load_scenario
from coordinator.stages import compare
from coordinator.stages.broken import RunBroke
from coordinator.stages.compare import OVERHEAD_S, CompareOptions, RunPlace, Side, run_compare, turns
from coordinator.stages.progress import Interrupt, InterruptedEarly, Progress
from coordinator.stages.run_state import BenchOptions, Broken
from nodes.model.errors import InvalidInput, Unavailable, UnknownName

SIDES = [Side(label=name, scenario=load_scenario("quick")) for name in ("a", "b")]


@dataclass
class Seen:
    """An observer that keeps what it is told."""

    places: list[RunPlace] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def run(self, place: RunPlace) -> None:
        self.places.append(place)

    def stage(self, text: str) -> None:
        self.stages.append(text)

    def progress(self, progress: Progress) -> None:
        raise AssertionError("no run runs here")


def order_of(sides: int, repeats: int) -> list[str]:
    named = [Side(label="abc"[index], scenario=SIDES[0].scenario) for index in range(sides)]
    found = turns(named, repeats)
    return ["".join(side.label for number, side in found if number == repeat) for repeat in range(1, repeats + 1)]


def test_runs_are_interleaved_and_every_side_begins_in_turn() -> None:
    assert order_of(2, 4) == ["ab", "ba", "ab", "ba"]
    assert order_of(3, 4) == ["abc", "bca", "cab", "abc"]
    firsts = Counter(row[0] for row in order_of(3, 6))
    assert set(firsts.values()) == {2}


def compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Callable[[str, Interrupt], None], *, repeats: int = 2
) -> tuple[dict[str, Any], Seen, list[Path]]:
    """Run a comparison whose runs are `run(label/repeat-n, interrupt)`; its list, what was shown, runs reported."""
    seen, interrupt, reported = Seen(), Interrupt(), list[Path]()

    async def bench(_scenario: Scenario, options: BenchOptions, **_: Any) -> Path:
        run(options.out.relative_to(tmp_path).as_posix(), interrupt)
        return options.out

    async def report(directory: Path) -> None:
        reported.append(directory)

    monkeypatch.setattr(compare, "run_bench", bench)
    options = CompareOptions(out=tmp_path, repeats=repeats)
    try:
        asyncio.run(run_compare(SIDES, options, observer=seen, interrupt=interrupt, report=report))
    finally:
        record = ComparisonDirectory.open(tmp_path).read()
    return record, seen, reported


def test_every_run_is_a_folder_of_its_own_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record, seen, reported = compared(tmp_path, monkeypatch, lambda *_: None)
    places = ["a/repeat-1", "b/repeat-1", "b/repeat-2", "a/repeat-2"]
    assert [entry["directory"] for entry in record["runs"]] == places
    assert reported == [tmp_path / place for place in places]
    assert {entry["state"] for entry in record["runs"]} == {"finished"}
    assert [(place.number, place.of, place.label, place.repeat) for place in seen.places] == [
        (1, 4, "a", 1),
        (2, 4, "b", 1),
        (3, 4, "b", 2),
        (4, 4, "a", 2),
    ]


def test_the_time_left_follows_the_scenario_then_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, seen, _ = compared(tmp_path, monkeypatch, lambda *_: None)
    guess_s = SIDES[0].scenario.load.duration_s + OVERHEAD_S
    left_s = [place.left_s for place in seen.places]
    assert left_s[0] == 4 * guess_s
    # a was timed: one of the three that are left; after b none is guessed.
    assert left_s[1] == pytest.approx(2 * guess_s, abs=1)
    assert left_s[3] == pytest.approx(0, abs=1)


def test_a_run_that_fails_later_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(place: str, _: Interrupt) -> None:
        if place == "b/repeat-2":
            raise BaseExceptionGroup("nested", [Unavailable("no port was free")])

    record, seen, _ = compared(tmp_path, monkeypatch, run)
    assert [entry["state"] for entry in record["runs"]] == ["finished", "finished", "failed", "finished"]
    assert record["runs"][2]["error"] == "no port was free"
    assert seen.stages == ["failed: no port was free"]


def test_a_traceback_of_another_process_becomes_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "host-1:   + Exception Group Traceback (most recent call last):\n"
        "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
        "  +-+---------------- 1 ----------------\n"
        "    | Traceback (most recent call last):\n"
        '    |   File "subscriptions.py", line 9, in <module>\n'
        "    | ImportError: cannot import name 'new_mailbox'\n"
        "    +------------------------------------\n"
    )

    def run(place: str, _: Interrupt) -> None:
        if place == "b/repeat-2":
            raise Unavailable(text)

    record, seen, _ = compared(tmp_path, monkeypatch, run)
    said = record["runs"][2]["error"]
    assert said.startswith("host-1: ImportError: cannot import name 'new_mailbox' (host.log of its process")
    assert seen.stages == [f"failed: {said}"]


def test_a_run_that_broke_is_reported_and_not_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Broken(part="rollup-1", reason="its engine ended", remedy="Look at its log", at_ns=1)

    def run(place: str, _: Interrupt) -> None:
        if place == "b/repeat-2":
            raise RunBroke(broken, tmp_path / place)

    record, _, reported = compared(tmp_path, monkeypatch, run)
    assert [entry["state"] for entry in record["runs"]] == ["finished", "finished", "failed", "finished"]
    assert record["runs"][2]["error"] == "rollup-1 broke for good: its engine ended. Look at its log."
    assert tmp_path / "b/repeat-2" in reported


def test_a_side_that_never_worked_ends_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(place: str, _: Interrupt) -> None:
        if place.startswith("b"):
            raise Unavailable("the endpoint refuses")

    record, _, reported = compared(tmp_path, monkeypatch, run)
    assert [entry["state"] for entry in record["runs"]] == ["finished", "failed"]
    assert len(reported) == 1


def test_where_nothing_finished_the_reason_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_place: str, _: Interrupt) -> None:
        raise Unavailable("the endpoint refuses")

    with pytest.raises(Unavailable, match="the endpoint refuses"):
        compared(tmp_path, monkeypatch, run)


def test_a_bug_is_raised_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_place: str, _: Interrupt) -> None:
        raise BaseExceptionGroup("nested", [Unavailable("down"), KeyError("a bug")])

    with pytest.raises(BaseExceptionGroup):
        compared(tmp_path, monkeypatch, run)


def test_ctrl_c_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(place: str, interrupt: Interrupt) -> None:
        if place == "b/repeat-1":
            interrupt.set("Ctrl-C")

    record, _, reported = compared(tmp_path, monkeypatch, run, repeats=5)
    assert [(entry["directory"], entry["state"]) for entry in record["runs"]] == [
        ("a/repeat-1", "finished"),
        ("b/repeat-1", "interrupted"),
    ]
    assert reported == [tmp_path / "a/repeat-1", tmp_path / "b/repeat-1"]


def test_ctrl_c_in_the_first_run_leaves_nothing_to_compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_place: str, interrupt: Interrupt) -> None:
        interrupt.set("Ctrl-C")
        raise InterruptedEarly("interrupted before any load was sent: Ctrl-C")

    with pytest.raises(InterruptedEarly, match="interrupted before a run finished: Ctrl-C"):
        compared(tmp_path, monkeypatch, run)


def request(**changes: Any) -> CompareRequest:
    options: dict[str, Any] = {
        "scenario": "quick",
        "backends": "lazy,lazy",
        "repeats": 5,
        "overrides": (),
        "out": None,
        "progress": "none",
        "as_json": False,
        "no_calibrate": False,
        "ray_address": "",
        "solana": None,
    }
    return CompareRequest.of({**options, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backends": "lazy"}, "names 1; a comparison takes 2 to 8"),
        ({"backends": " , "}, "names 0"),
        ({"backends": ",".join(["lazy"] * 9)}, "names 9"),
        ({"repeats": 0}, "--repeats 0 must be 1 to 1,000"),
        ({"repeats": -3}, "--repeats -3"),
        ({"solana": "surfpool"}, "--solana is for the backend solana"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        request(**changes)


def test_an_unknown_backend_proposes_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'lazy'"):
        request(backends="lazy,lasy")


def test_shorthands_become_overrides() -> None:
    asked = request(rate=50.0, duration=4.0, overrides=("backend.lazy.block_interval_ms=20",))
    assert asked.overrides == ("backend.lazy.block_interval_ms=20", "load.rate_per_s=50.0", "load.duration_s=4.0")


def test_a_backend_named_twice_gets_numbers() -> None:
    assert labels_of(["lazy", "solana", "lazy"]) == ["lazy-1", "solana", "lazy-2"]
    assert labels_of(["lazy", "solana"]) == ["lazy", "solana"]
