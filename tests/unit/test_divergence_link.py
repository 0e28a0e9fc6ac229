"""A node's side of the divergence check without the process: what is handed over, what is counted, what a find does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodes.divergence import service
from nodes.divergence.client import DivergenceClient, Watch
from nodes.divergence.forms import ALL, SAMPLE, Counts, Opening, Report, Task, report_of
from nodes.divergence.values import Block, Entry, Found
from nodes.model.config import DivergenceConfig
from nodes.model.execution import ExecutedBlock, Outcome, Status, Transaction
from nodes.model.ids import Address, ChainId, Height
from nodes.rollup.divergence_link import DivergenceLink
from nodes.rollup.records import Execution
from nodes.rollup.session import Halted
from nodes.rules.footprint import Difference
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.events import DivergenceChecked, DivergenceFound, ReaderStalled
from nodes.telemetry.tracer import MemoryTracer
from tests.support.engine_chain import PARAMS, genesis, signed


class Client(DivergenceClient):
    """Keeps what it is sent."""

    def __init__(self, *, takes: bool = True) -> None:
        super().__init__(Path())
        self.watched: dict[str, Watch] = {}
        self.sent: list[Task] = []
        self.takes = takes

    def watch(self, rollup: str, watch: Watch) -> None:
        self.watched[rollup] = watch

    def send(self, task: Task) -> bool:
        if self.takes:
            self.sent.append(task)
        return self.takes

    async def drain(self) -> None:
        pass


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
    def __init__(self, *, mode: str = ALL, policy: str = "alarm", exclude: Callable[[], None] | None = None) -> None:
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
        self.link.open(Index(), exclude=exclude)  # type: ignore[arg-type]  # as much of an index as is asked
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


FOUND = Found(9, 7, 1, b"\x01" * 32, Difference(Address(b"\x0a" * 20), "balance", "0x2", "0x1"), bytes(32), bytes(32))


async def test_blocks_wait_for_the_process_and_are_sent_once() -> None:
    world = World()
    world.build(1, signed(0, 0), signed(1, 0))
    assert world.client.sent == []
    await world.watch.began()
    world.build(2, signed(0, 1))
    world.build(2, signed(0, 1))  # executed again after a loss: the same block
    world.build(2, signed(0, 2), branch=1)  # another block in its place
    assert [(task.block.number, len(task.block.entries)) for task in world.client.sent] == [(1, 2), (2, 1), (2, 1)]
    world.report(checked=3, replaced=1)
    assert (world.totals.total, world.totals.checked, world.totals.replaced) == (4, 3, 1)


async def test_what_the_process_cannot_take_is_counted_as_missed() -> None:
    world = World()
    await world.watch.began()
    world.client.takes = False
    world.build(1, signed(0, 0))
    world.report()
    assert world.totals.missed == 1


async def test_a_lost_process_loses_what_waited_and_keeps_what_was_counted() -> None:
    world = World()
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


async def test_alarm_says_so_and_goes_on() -> None:
    world = World()
    world.report(FOUND, FOUND, differing=2)
    world.link.raise_if_halted()
    assert len(world.events(DivergenceFound)) == 2
    assert world.events(ReaderStalled) == []
    for part in ("height 9, block 7, transaction 1", "0x" + "0a" * 20, "balance is 0x2 by the engine", "0x1 by the"):
        assert part in world.link.found


@pytest.mark.parametrize("policy", ["halt", "exclude"])
async def test_halt_and_exclude_without_a_layer_stop_the_node(policy: str) -> None:
    world = World(policy=policy)
    world.link.raise_if_halted()
    world.report(FOUND, differing=1)
    with pytest.raises(Halted):
        world.link.raise_if_halted()
    (stalled,) = world.events(ReaderStalled)
    assert (stalled.height, stalled.source) == (9, "divergence check")


async def test_exclude_with_a_layer_makes_the_rollup_silent_and_nothing_else() -> None:
    silenced: list[bool] = []
    world = World(policy="exclude", exclude=lambda: silenced.append(True))
    world.report(FOUND, differing=1)
    world.report(FOUND, differing=2)
    world.link.raise_if_halted()
    assert silenced == [True]


async def test_a_check_that_cannot_keep_up_goes_on_by_samples() -> None:
    world = World()
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


async def test_samples_are_asked_for_where_samples_are_wanted() -> None:
    world = World(mode=SAMPLE)
    await world.watch.began()
    world.build(1, signed(0, 0), signed(1, 0))
    assert [task.chosen for task in world.client.sent] == [(0,)]
    assert world.watch.opening().mode == SAMPLE
