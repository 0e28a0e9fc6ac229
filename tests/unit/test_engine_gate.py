"""The gate: reads together, changes alone, and nobody is left behind."""

import asyncio

from nodes.evm.gate import Gate
from tests.support.patience import PATIENCE_S


async def test_reads_run_together_and_a_change_runs_alone() -> None:
    gate = Gate()
    log: list[str] = []
    release = asyncio.Event()

    async def read(name: str) -> None:
        async with gate.reading():
            log.append(f"{name} in")
            await release.wait()
            log.append(f"{name} out")

    async def change() -> None:
        async with gate.changing():
            log.append("change in")
            await asyncio.sleep(0)
            log.append("change out")

    async with asyncio.TaskGroup() as group:
        group.create_task(read("a"))
        group.create_task(read("b"))
        await asyncio.sleep(0)
        group.create_task(change())
        await asyncio.sleep(0)
        group.create_task(read("late"))
        await asyncio.sleep(0)
        assert log == ["a in", "b in"]
        release.set()
    assert log == ["a in", "b in", "a out", "b out", "change in", "change out", "late in", "late out"]


async def test_a_failed_or_cancelled_holder_leaves_the_gate_open() -> None:
    gate = Gate()
    for hold in (gate.reading, gate.changing):
        try:
            async with hold():
                raise ValueError
        except ValueError:
            pass
    waiting = asyncio.Event()

    async def stuck() -> None:
        async with gate.reading():
            waiting.set()
            await asyncio.Event().wait()

    task = asyncio.ensure_future(stuck())
    await waiting.wait()
    blocked = asyncio.ensure_future(_change(gate))
    await asyncio.sleep(0)
    blocked.cancel()
    task.cancel()
    await asyncio.gather(task, blocked, return_exceptions=True)
    async with asyncio.timeout(PATIENCE_S):
        await _change(gate)
        async with gate.reading():
            pass


async def _change(gate: Gate) -> None:
    async with gate.changing():
        pass
