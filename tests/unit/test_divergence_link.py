"""A node's side of the divergence check without the process: what is handed over, what is counted, what a find does."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from nodes.divergence import service
from nodes.divergence.client import MAX_STARTS, DivergenceClient, Watch
from nodes.divergence.forms import ALL, SAMPLE, Counts, Opening, Report, Task, report_of
from nodes.divergence.values import Block, Entry, Found
from nodes.model.config import DivergenceConfig
from nodes.model.execution import ExecutedBlock, Outcome, Status, Transaction
from nodes.model.ids import Address, ChainId, Height
from nodes.rollup import divergence_link
from nodes.rollup.divergence_link import FOUND_FILE, DivergenceLink
from nodes.rollup.records import Execution
from nodes.rollup.session import Halted
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.events import DivergenceChecked, DivergenceFound, ReaderStalled
from nodes.telemetry.tracer import MemoryTracer
from tests.support.divergence_fakes import FOUND, Client
from tests.support.engine_chain import PARAMS, genesis, signed


class Index:
    """A chain at genesis."""

    class Genesis:
        hash = bytes(32)
        number = 0

    genesis = head = Genesis()
    transactions = 0

    def headers(self, first: int, last: int) -> list[Any]:
        return []

    def block_by_number(self, number: int) -> None:
        return None


class World:
    def __init__(self, directory: Path, *, mode: str = ALL, policy: str = "alarm", can_exclude: bool = False) -> None:
        self.withheld: list[int] = []
        self.clock = ManualClock()
        self.tracer = MemoryTracer(self.clock)
        self.client = Client()
        self.link = DivergenceLink(
            DivergenceConfig(mode=mode, sample_per_s=1.0, policy=policy),
            self.client,
            name="rollup-1",
            params=PARAMS,
            genesis=genesis(),
            engine_directory="engine",
            clock=self.clock,
            tracer=self.tracer,
        )
        self.link.open(
            Index(),  # type: ignore[arg-type]  # as much of an index as is asked
            directory=directory,
            withhold_from=self.withheld.append,
            can_exclude=can_exclude,
        )
        self.watch = self.client.watched["rollup-1"]

    def build(self, number: int, *transactions: tuple[bytes, Transaction], branch: int = 0) -> None:
        outcomes = tuple(Outcome(transaction.tx_hash, Status.SUCCEEDED, None) for _, transaction in transactions)
        block = ExecutedBlock(
            number=number,
            hash=bytes([branch, number]) * 16,
            parent_hash=bytes(32),
            state_root=bytes(32),
            timestamp_s=1,
            gas_used=0,
            receipts_root=bytes(32),
            logs_bloom=bytes(256),
            outcomes=outcomes,
        )
        assert self.link.witness is not None
        self.link.witness(Execution(block=block, transactions=transactions, outcomes=outcomes), Height(number))

    def report(self, *found: Found, samples_from: int = 0, reason: str = "", **counts: int) -> None:
        self.watch.reported(
            Report(rollup="rollup-1", counts=Counts(**counts), found=found, samples_from=samples_from, reason=reason)
        )

    def events(self, kind: type[Any]) -> list[Any]:
        return [stamped.event for stamped in self.tracer.stamped if isinstance(stamped.event, kind)]

    @property
    def totals(self) -> DivergenceChecked:
        last: DivergenceChecked = self.events(DivergenceChecked)[-1]
        return last


async def test_blocks_wait_for_the_process_and_are_sent_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.build(1, signed(0, 0), signed(1, 0))
    assert world.client.sent == []
    await world.watch.began()
    world.build(2, signed(0, 1))
    world.build(2, signed(0, 1))  # executed again after a loss: the same block
    world.build(2, signed(0, 2), branch=1)  # another block in its place
    assert [(task.block.number, len(task.block.entries)) for task in world.client.sent] == [(1, 2), (2, 1), (2, 1)]
    world.report(checked=3, replaced=1)
    assert (world.totals.total, world.totals.checked, world.totals.replaced) == (4, 3, 1)


async def test_what_the_process_cannot_take_is_counted_as_missed(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.watch.began()
    world.client.takes = False
    world.build(1, signed(0, 0))
    world.report()
    assert world.totals.missed == 1


async def test_a_lost_process_loses_what_waited_and_keeps_what_was_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.watch.began()
    world.build(1, signed(0, 0), signed(1, 0), signed(2, 0))
    world.report(checked=1, waiting=2, busy_ns=5)
    world.watch.lost("it was killed")
    assert (world.totals.checked, world.totals.missed, world.totals.waiting) == (1, 2, 0)
    assert "it was killed" in world.totals.reason
    world.build(2, signed(0, 1))
    assert len(world.client.sent) == 1  # until the next one has begun
    await world.watch.began()
    assert len(world.client.sent) == 2
    world.report(checked=1)
    assert world.totals.checked == 2


async def test_alarm_says_so_and_goes_on(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.report(FOUND, FOUND, differing=2)
    world.link.raise_if_halted()
    assert len(world.events(DivergenceFound)) == 2
    assert world.events(ReaderStalled) == []
    for part in ("height 9, block 7, transaction 1", "0x" + "0a" * 20, "balance is 0x2 by the engine", "0x1 by the"):
        assert part in world.link.found


@pytest.mark.parametrize("policy", ["halt", "exclude"])
async def test_halt_and_exclude_without_a_layer_stop_the_node(tmp_path: Path, policy: str) -> None:
    world = World(tmp_path, policy=policy)
    world.link.raise_if_halted()
    world.report(FOUND, differing=1)
    with pytest.raises(Halted):
        world.link.raise_if_halted()
    (stalled,) = world.events(ReaderStalled)
    assert (stalled.height, stalled.source) == (9, "divergence check")
    assert str(tmp_path / FOUND_FILE) in stalled.reason
    assert world.withheld == [9]


async def test_exclude_with_a_layer_makes_the_rollup_silent_and_nothing_else(tmp_path: Path) -> None:
    world = World(tmp_path, policy="exclude", can_exclude=True)
    world.report(FOUND, differing=1)
    world.report(FOUND, differing=2)
    world.link.raise_if_halted()
    assert world.withheld == [9]


@pytest.mark.parametrize(("policy", "can_exclude"), [("halt", True), ("exclude", False), ("exclude", True)])
async def test_what_was_found_counts_after_a_restart_until_it_is_cleared(
    tmp_path: Path, policy: str, *, can_exclude: bool
) -> None:
    before = World(tmp_path, policy=policy, can_exclude=can_exclude)
    before.report(FOUND, differing=1)
    again = World(tmp_path, policy=policy, can_exclude=can_exclude)
    assert again.link.found == before.link.found
    assert again.withheld == [9]
    if policy == "halt" or not can_exclude:
        with pytest.raises(Halted):
            again.link.raise_if_halted()
        assert [stalled.height for stalled in again.events(ReaderStalled)] == [9]
    else:
        again.link.raise_if_halted()
    (tmp_path / FOUND_FILE).unlink()
    cleared = World(tmp_path, policy=policy, can_exclude=can_exclude)
    cleared.link.raise_if_halted()
    assert (cleared.link.found, cleared.withheld) == ("", [])


async def test_what_is_kept_of_a_difference_counts_though_it_is_damaged(tmp_path: Path) -> None:
    (tmp_path / FOUND_FILE).write_bytes(b"{")
    world = World(tmp_path, policy="halt")
    with pytest.raises(Halted, match="damaged"):
        world.link.raise_if_halted()
    assert world.withheld == [0]


async def test_an_alarm_is_not_kept(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.report(FOUND, differing=1)
    assert world.withheld == []
    assert World(tmp_path, policy="halt").link.found == ""


async def test_after_the_last_start_nothing_waits_and_everything_is_counted(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.build(1, signed(0, 0), signed(1, 0))
    world.watch.lost("it was killed")
    world.watch.given_up()
    assert world.totals.missed == 2
    assert "not started again" in world.totals.reason
    world.build(2, signed(0, 1))
    assert (world.totals.total, world.totals.missed) == (3, 3)
    assert world.client.sent == []


async def test_what_waits_for_the_process_is_bounded_in_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size_bytes = len(signed(0, 0)[0]) + divergence_link.ENTRY_BYTES
    monkeypatch.setattr(divergence_link, "MAX_WAITING_BYTES", 3 * size_bytes)
    world = World(tmp_path, mode=ALL)
    for number in range(1, 6):
        world.build(number, signed(0, number - 1))
    await world.watch.began()
    assert [task.block.number for task in world.client.sent] == [3, 4, 5]
    for number in range(6, 9):  # what was handed on counts no more
        world.build(number, signed(0, number - 1))
    world.report()
    assert (len(world.client.sent), world.totals.missed) == (6, 2)


async def test_a_process_that_cannot_stay_is_given_up_after_some_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ends(client: DivergenceClient) -> str:
        return "it cannot stay"

    monkeypatch.setattr(DivergenceClient, "_run_once", ends)
    client, said, given_up = DivergenceClient(tmp_path), list[str](), asyncio.Event()

    async def began() -> None:
        raise AssertionError("no process came so far")

    def give_up(name: str) -> None:
        said.append(f"{name} given up")
        given_up.set()

    def watch(name: str) -> Watch:
        return Watch(
            opening=World(tmp_path).watch.opening,
            began=began,
            reported=lambda report: None,
            lost=lambda reason: said.append(f"{name} lost"),
            given_up=lambda: give_up(name),
        )

    client.watch("r", watch("r"))
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        await given_up.wait()
        client.watch("late", watch("late"))
        client.stop()
    assert said == ["r lost"] * MAX_STARTS + ["r given up", "late given up"]


async def test_a_check_that_cannot_keep_up_goes_on_by_samples(tmp_path: Path) -> None:
    world = World(tmp_path)
    await world.watch.began()
    world.report(samples_from=5, reason="it cannot keep up")
    world.clock.advance(ns=1_000_000_000)
    world.build(6, signed(0, 0), signed(1, 0))
    world.build(7, signed(0, 1))
    (task,) = world.client.sent
    assert task.chosen == (0,)
    assert (world.totals.mode, world.totals.samples_from, world.totals.reason) == (ALL, 5, "it cannot keep up")


async def test_a_process_that_is_handed_too_much_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_WAITING", 3)
    lines: list[bytes] = []
    opening = Opening(
        rollup="r", mode=ALL, chain_id=ChainId(1), coinbase=Address(bytes(20)), gas_limit=1, genesis="{}",
        genesis_hash=bytes(32), engine_directory="nowhere",
    )  # fmt: skip
    lane = service.Lane(opening, None, lines.append)  # type: ignore[arg-type]  # nothing is executed
    for number in (1, 2):
        entries = (Entry(b"\x01", Status.SUCCEEDED), Entry(b"\x02", Status.SUCCEEDED))
        block = Block(
            height=number + 10, number=number, hash=bytes(32), parent_hash=bytes(32), timestamp_s=1, entries=entries
        )
        lane.take(Task(rollup="r", block=block))
    report = report_of(lines[-1])
    assert report.samples_from == 12
    assert "it cannot keep up: 4 transactions wait" in report.reason
    lane.take(Task(rollup="r", block=block))
    lane.report()
    assert report_of(lines[-1]).counts.missed == 2


async def test_samples_are_asked_for_where_samples_are_wanted(tmp_path: Path) -> None:
    world = World(tmp_path, mode=SAMPLE)
    await world.watch.began()
    world.build(1, signed(0, 0), signed(1, 0))
    assert [task.chosen for task in world.client.sent] == [(0,)]
    assert world.watch.opening().mode == SAMPLE
