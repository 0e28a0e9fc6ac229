"""Places at which a process can be made to die: from its start, or told later."""

import os
import signal

import pytest

from nodes.model.errors import InvalidInput
from nodes.telemetry.crash import CrashSwitch


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append(number) if pid == os.getpid() else None)
    return found


def test_it_strikes_at_the_nth_visit_of_its_place_and_only_there(deaths: list[int]) -> None:
    switch = CrashSwitch("store.after_commit:2")
    for place in ("store.before_commit", "store.after_commit", "store.before_commit"):
        switch(place)
    assert deaths == []
    switch("store.after_commit")
    assert deaths == [signal.SIGKILL]


def test_it_counts_from_the_moment_it_is_armed(deaths: list[int]) -> None:
    switch = CrashSwitch()
    for _ in range(3):
        switch("settlement.after_send")
    switch.arm("settlement.after_send", 2)
    switch("settlement.after_send")
    assert deaths == []
    switch("settlement.after_send")
    assert deaths == [signal.SIGKILL]


@pytest.mark.parametrize("specification", ["place", "place:0", "place:x", ":3", "place:-1"])
def test_what_is_no_place_and_count_is_refused(specification: str) -> None:
    with pytest.raises(InvalidInput, match="place and a count"):
        CrashSwitch(specification)
