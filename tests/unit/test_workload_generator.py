"""The generator against a sequencer that is only a script: it keeps its schedule, reconnects, and ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from coordinator.workload.dispatcher import Dispatcher, Standing
from coordinator.workload.generator import NS_PER_MS, Generator
from nodes.model.errors import Overloaded, Unavailable
from nodes.model.ids import SubmissionHash
from nodes.ports import Ticket
from nodes.rules.hashes import sha256
from nodes.telemetry.clock import SystemClock

Answer = Callable[[int, Sequence[bytes]], None]
"""(number of the message, submissions): raises what the message is answered with, or takes it."""


class ScriptedSequencer:
    """Takes everything once, except what the script refuses."""

    def __init__(self, script: Answer = lambda number, submissions: None) -> None:
        self._script = script
        self.messages = 0
        self.opened = 0
        self.order: list[bytes] = []
        self.reached = asyncio.Event()
        self._known: set[bytes] = set()

    @asynccontextmanager
    async def submit_stream(self) -> "AsyncIterator[ScriptedSequencer]":
        self.opened += 1
        yield self

    async def send(self, submissions: Sequence[bytes]) -> list[Ticket]:
        self.messages += 1
        self._script(self.messages, submissions)
        fresh = [item for item in submissions if item not in self._known]
        self._known.update(fresh)
        self.order += fresh
        self.reached.set()
        await asyncio.sleep(0)
        return [
            Ticket(submission_hash=SubmissionHash(sha256(item)), accepted=True, duplicate=item not in fresh, reason="")
            for item in submissions
        ]


def generator(sequencer: ScriptedSequencer, count: int, *, length_ms: int = 60, extra_ms: int = 60_000) -> Generator:
    clock = SystemClock()
    start_ns = clock.monotonic_ns() + 5 * NS_PER_MS
    due = [start_ns + at * length_ms * NS_PER_MS // count for at in range(count)]
    return Generator(
        dispatcher=Dispatcher(due_ns=due, lanes=[at % 4 for at in range(count)]),
        submissions=[at.to_bytes(4, "big") for at in range(count)],
        opener=sequencer,
        clock=clock,
        end_ns=start_ns + (length_ms + extra_ms) * NS_PER_MS,
    )


async def test_everything_is_sent_in_order_over_one_stream() -> None:
    sequencer = ScriptedSequencer()
    load = generator(sequencer, 200)
    await load.run()
    assert load.dispatcher.accepted == 200
    assert sequencer.order == list(load.submissions)
    assert sequencer.opened == 1
    assert sequencer.messages <= 20, "bundles travel in batches"


async def test_it_reconnects_and_sends_again_what_was_not_answered() -> None:
    def breaks_twice(number: int, submissions: Sequence[bytes]) -> None:
        if number in (1, 3):
            raise Unavailable("killed")

    sequencer = ScriptedSequencer(breaks_twice)
    load = generator(sequencer, 100)
    await load.run()
    assert load.dispatcher.accepted == 100
    assert load.reconnects >= 1
    assert sorted(sequencer.order) == sorted(load.submissions)


async def test_a_full_mempool_delays_and_loses_nothing() -> None:
    def full_at_first(number: int, submissions: Sequence[bytes]) -> None:
        if number <= 3:
            raise Overloaded("full", retry_after_ms=20)

    sequencer = ScriptedSequencer(full_at_first)
    load = generator(sequencer, 100)
    await load.run()
    assert load.dispatcher.accepted == 100
    assert load.dispatcher.overloads == 3
    for lane in range(4):
        mine = [item for item in sequencer.order if int.from_bytes(item, "big") % 4 == lane]
        assert mine == sorted(mine)


async def test_it_gives_up_at_its_end_when_nobody_answers() -> None:
    def down(number: int, submissions: Sequence[bytes]) -> None:
        raise Unavailable("gone")

    load = generator(ScriptedSequencer(down), 20, length_ms=20, extra_ms=150)
    await load.run()
    assert load.dispatcher.accepted == 0
    assert set(load.dispatcher.standing) <= {Standing.UNSENT, Standing.SENT}


async def test_stopped_early_it_sends_nothing_more() -> None:
    sequencer = ScriptedSequencer()
    load = generator(sequencer, 1000, length_ms=10_000)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(load.run())
        await sequencer.reached.wait()
        load.stop()
        await running
    assert 0 < load.dispatcher.accepted < 1000
    assert load.dispatcher.standing.count(Standing.UNSENT) == 1000 - load.dispatcher.accepted
