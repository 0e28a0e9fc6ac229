"""The search for saturation, against machines whose limit is known."""

from types import SimpleNamespace
from typing import Any

import pytest

from coordinator.stages import sweep
from coordinator.stages.progress import Interrupt, SilentObserver
from coordinator.stages.sweep import CLOSE_ENOUGH, MAX_STEPS, StepResult, next_rate


def search(limit: float, *, start: float = 100.0, factor: float = 1.3) -> list[StepResult]:
    """Every step of a sweep on a machine that sustains rates up to `limit`."""
    results: list[StepResult] = []
    rate = start
    while rate and len(results) < MAX_STEPS:
        ok = rate <= limit
        results.append(StepResult(rate_per_s=rate, share=1.0, p99_ms=1.0, sustained=ok))
        rate = next_rate(results, factor=factor)
    return results


@pytest.mark.parametrize("limit", [150, 333, 1_000, 3_456])
def test_the_limit_is_found_from_below_and_closely(limit: float) -> None:
    results = search(limit)
    best = max(step.rate_per_s for step in results if step.sustained)
    worst = min(step.rate_per_s for step in results if not step.sustained)
    assert best <= limit < worst
    assert worst <= best * CLOSE_ENOUGH * 1.01
    first_failure = next(at for at, step in enumerate(results) if not step.sustained)
    assert all(step.sustained for step in results[:first_failure]), "rates go up until one fails"


def test_a_first_step_that_fails_ends_the_sweep() -> None:
    assert len(search(50)) == 1


def test_a_sweep_ends() -> None:
    assert len(search(1e12, factor=1.05)) <= MAX_STEPS


async def test_a_sweep_that_runs_out_of_lanes_is_reported_and_not_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    driver: Any = SimpleNamespace(planner=SimpleNamespace(lanes=(1,)))

    async def step(_state: object, _driver: object, _start: object, rate_per_s: float) -> StepResult:
        driver.planner.lanes = ()
        return StepResult(rate_per_s=rate_per_s, share=1.0, p99_ms=1.0, sustained=True)

    monkeypatch.setattr(sweep, "_step", step)
    load = SimpleNamespace(sweep_start_per_s=100.0, sweep_factor=1.3)
    state: Any = SimpleNamespace(
        scenario=SimpleNamespace(load=load), interrupt=Interrupt(), observer=SilentObserver(), problems=[]
    )
    start: Any = None
    assert len(await sweep.run_sweep(state, driver, start)) == 1
    assert state.problems == ["the sweep ended before 130/s: a bundle of every lane was dropped or had a leg skipped"]
