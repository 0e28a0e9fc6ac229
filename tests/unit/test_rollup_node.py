"""The rollup node against a sequencer and an engine in memory: execution, loss, restart, rewind, stalls."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.errors import (
    AnswerTooLong,
    EngineFailure,
    InvalidInput,
    StateDivergence,
    TestbedError,
    Unavailable,
    UnknownName,
)
from nodes.model.faults import KillEngine, Rewind
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import BlockRef, Commitment, RolledBack, SequencerEvent
from nodes.rollup.heads import HeadChange
from nodes.rules.bundle import bundle_hash
from nodes.telemetry.events import BlockExecuted, BlockReorged, CheckpointWritten, NodeRecovered, ReaderStalled
from tests.support.crafting import CHAINS, LegPlan, bundle, plain
from tests.support.patience import PATIENCE_S
from tests.support.rollup_fakes import Bench, EngineRoom, MemoryEngine, MemorySequencer, make_config

HERE, THERE = CHAINS[0], CHAINS[1]


def fill(sequencer: MemorySequencer, heights: int, *, key: int = 0, nonce: int = 0) -> int:
    """One transfer a height; the next nonce."""
    for at in range(heights):
        sequencer.cut(plain(LegPlan(chain=HERE, key=key, nonce=nonce + at)))
    return nonce + heights


async def test_executes_the_derived_list_and_tells_every_fate(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)
    good = bundle([LegPlan(chain=HERE, key=0), LegPlan(chain=THERE, key=0)])
    reverting = bundle([LegPlan(chain=HERE, key=1, value=13), LegPlan(chain=THERE, key=1)])
    skipped = bundle([LegPlan(chain=HERE, key=2, nonce=5), LegPlan(chain=THERE, key=2)])
    broken = bundle([LegPlan(chain=HERE, key=3), LegPlan(chain=THERE, key=3)], replace={1: b"\x02nonsense"})
    sequencer.cut(good, reverting, skipped, broken)
    async with bench.running() as node:
        await bench.height(1)
        executed = bench.events(BlockExecuted)
        assert [len(event.outcomes) for event in executed] == [3]
        assert (executed[0].number, executed[0].replayed) == (1, False)
        assert executed[0].received_ns <= executed[0].derived_ns <= executed[0].built_ns
        fates = {}
        for submitted in (good, reverting, skipped, broken):
            legs = [leg.leg_hash for leg in submitted.legs]
            (fate,) = await node.bundle_fates(bundle_hash(version=1, expiry=0, leg_hashes=legs))
            fates[submitted.legs[0].payload] = (fate.fate, fate.reason, fate.block_number, fate.leg_index)
        assert list(fates.values()) == [
            ("succeeded", "", 1, 0),
            ("reverted", "", 1, 0),
            ("skipped", "nonce_too_high", 0, 0),
            ("dropped", "incomplete", 0, 0),
        ]
        status = await node.status()
        assert (status.transactions, status.heads.latest.number, status.sequencer_height) == (2, 1, 1)
        assert status.heads.safe == status.heads.finalized == status.heads.latest
        assert {name for name, spent in node.stage_cpu_ns.items() if spent} >= {"verify", "derive", "engine", "index"}


async def test_empty_heights_move_the_height_and_nothing_else(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)
    sequencer.cut()
    sequencer.cut(plain(LegPlan(chain=THERE)))
    async with bench.running() as node:
        await bench.height(2)
        assert node.heads.latest.number == 0
        assert not bench.events(BlockExecuted)
        assert room.started[0].builds == 0


async def test_safe_and_finalized_follow_the_promises(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(commitment=Commitment.SOFT), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start, final_level=Commitment.FINAL)
    fill(sequencer, 3)
    async with bench.running() as node:
        await bench.height(3)
        assert (node.heads.latest.number, node.heads.safe.number, node.heads.finalized.number) == (3, 0, 0)
        sequencer.raise_commitment(2, Commitment.FIRM)
        async with asyncio.timeout(PATIENCE_S):
            async for heads in node.follow_heads():
                if heads.safe.number == 2:
                    break
        assert node.heads.finalized.number == 0
        sequencer.raise_commitment(1, Commitment.FINAL)
        async with asyncio.timeout(PATIENCE_S):
            async for heads in node.follow_heads():
                if heads.finalized.number == 1:
                    break
        assert (node.heads.latest.number, node.heads.safe.number) == (3, 2)


@pytest.mark.parametrize("dies_at", [1, 5, 9])
async def test_a_lost_engine_is_replaced_and_nobody_notices(tmp_path: Path, dies_at: int) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()

    def die_once(engine: MemoryEngine) -> None:
        if not room.started:
            engine.die_in = lambda number: number == dies_at

    room.prepare = die_once
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 10)
    async with bench.running() as node:
        await bench.height(10)
        assert len(room.started) == 2
        assert node.heads.latest.number == 10
    heights = [event.height for event in bench.events(BlockExecuted) if not event.replayed]
    assert heights == list(range(1, 11))
    assert all(event.height < dies_at for event in bench.events(BlockExecuted) if event.replayed)
    assert await undisturbed(tmp_path / "other", sequencer, 10) == [
        event.hash for event in bench.events(BlockExecuted) if not event.replayed
    ]


async def undisturbed(directory: Path, sequencer: MemorySequencer, height: int) -> list[bytes]:
    """Block hashes of a second replica that nothing happens to."""
    bench = Bench(directory, [sequencer], EngineRoom().start)
    async with bench.running():
        await bench.height(height)
    return [event.hash for event in bench.events(BlockExecuted)]


async def test_kill_engine_on_command_keeps_answers_and_reports_recovery(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=4))
    nonce = fill(sequencer, 10)
    async with bench.running() as node:
        await bench.height(10)
        before = bench.hashes()
        await node.inject(KillEngine())
        recovered = await bench.traced(NodeRecovered)
        assert bench.hashes() == before
        assert recovered.recovered_height == 10
        assert 0 < recovered.checkpoint_height < 10
        assert room.states[-1] is not None
        fill(sequencer, 1, nonce=nonce)
        await bench.height(11)
        assert node.heads.latest.number == 11


async def test_engines_lost_without_progress_end_the_node(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()

    def die_always(engine: MemoryEngine) -> None:
        engine.die_in = lambda number: number == 3

    room.prepare = die_always
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 4)
    with pytest.raises(ExceptionGroup) as raised:
        async with bench.running():
            await asyncio.Event().wait()
    assert isinstance(raised.value.exceptions[0], EngineFailure)
    assert "in a row at height 2" in str(raised.value.exceptions[0])


@pytest.mark.parametrize("interval", [4, 1000])
async def test_restart_replays_to_the_same_hashes(tmp_path: Path, interval: int) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    config = make_config(checkpoint_interval_heights=interval)
    first = Bench(tmp_path, [sequencer], room.start, config=config)
    nonce = fill(sequencer, 11)
    async with first.running():
        await first.height(11)
        before = first.hashes()
    again = Bench(tmp_path, [sequencer], room.start, config=config)
    async with again.running() as node:
        assert node.heads.latest.number == 11, "ready means: back where it was"
        assert again.hashes() == before
        assert node.index.transactions == 11
        fill(sequencer, 2, nonce=nonce)
        await again.height(13)
        block = node.index.block_by_number(12)
        assert block is not None
        assert block.parent_hash.hex() == before[-1][2:]
    events = again.events(BlockExecuted)
    assert [event.height for event in events if not event.replayed] == [12, 13]
    recovered = again.events(NodeRecovered)
    assert [event.recovered_height for event in recovered] == [11]
    written = [int(path.stem) for path in (tmp_path / "checkpoints").glob("*.checkpoint")]
    assert recovered[0].checkpoint_height in (written if interval == 4 else [0])
    assert [event.height for event in events if event.replayed] == list(range(recovered[0].checkpoint_height + 1, 12))


async def test_a_state_too_long_to_dump_puts_the_checkpoint_off(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    refused: list[int] = []

    def dump_late(engine: MemoryEngine) -> None:
        dump = engine.dump

        async def long_at_first() -> bytes:
            if len(refused) < 2:
                refused.append((await engine.head())[0])
                raise AnswerTooLong(method="anvil_dumpState", maximum_bytes=1)
            return await dump()

        engine.dump = long_at_first  # type: ignore[method-assign]

    room.prepare = dump_late
    bench = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=4))
    fill(sequencer, 16)
    async with bench.running():
        written = await bench.traced(CheckpointWritten)
    assert refused[1] == refused[0] + 4
    assert written.height == refused[1] + 4
    assert len(room.started) == 1


async def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    first = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 12)
    async with first.running():
        await first.height(12)
        before = first.hashes()
    heights = sorted(int(path.stem) for path in (tmp_path / "checkpoints").glob("*.checkpoint"))
    assert len(heights) >= 2
    newest = tmp_path / "checkpoints" / f"{heights[-1]}.checkpoint"
    newest.write_bytes(newest.read_bytes()[:-1])
    again = Bench(tmp_path, [sequencer], room.start)
    async with again.running():
        assert again.hashes() == before
    assert again.events(NodeRecovered)[0].checkpoint_height == heights[-2]


async def test_another_result_on_replay_stops_the_node(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    first = Bench(tmp_path, [sequencer], room.start, config=make_config(checkpoint_interval_heights=1000))
    fill(sequencer, 5)
    async with first.running():
        await first.height(5)
    room.nondeterminism = b"!"
    again = Bench(tmp_path, [sequencer], room.start)
    with pytest.raises(StateDivergence, match="height 1 executed again"):
        await again.node.run()
    with pytest.raises(Unavailable):
        await again.node.wait_ready()


@pytest.mark.parametrize(("to", "engines"), [(17, 1), (3, 2), (0, 2)])
async def test_rewind_within_and_beyond_the_window(tmp_path: Path, to: int, engines: int) -> None:
    sequencer, room = MemorySequencer(), EngineRoom(window=8)
    bench = Bench(tmp_path, [sequencer], room.start)
    nonce = fill(sequencer, 20)
    async with bench.running() as node:
        await bench.height(20)
        before = bench.hashes()
        with node.subscribe_heads() as subscription:
            await node.inject(Rewind(height=Height(to)))
            recovered = await bench.traced(NodeRecovered)
            assert recovered.recovered_height == 20
            fill(sequencer, 1, nonce=nonce)
            await bench.height(21)
            changes: list[HeadChange] = []
            async for change in subscription:
                changes.append(change)
                if change.heads.height == 21:
                    break
        assert [block.number for block in changes[0].removed] == list(range(20, to, -1))
        assert [change.block.number for change in changes[1:] if change.block] == list(range(to + 1, 22))
        assert bench.hashes()[:-1] == before
        assert len(room.started) == engines
    assert [(event.from_height, event.to_height) for event in bench.events(BlockReorged)] == [(20, to)]
    assert sum(event.replayed for event in bench.events(BlockExecuted)) >= 20 - to


async def test_rewind_to_a_height_that_is_not_there_is_refused(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 2)
    async with bench.running() as node:
        await bench.height(2)
        with pytest.raises(InvalidInput, match="heights 0 to 2"):
            await node.inject(Rewind(height=Height(3)))


@pytest.mark.parametrize("to", [18, 5, 0])
async def test_another_branch_replaces_the_blocks(tmp_path: Path, to: int) -> None:
    sequencer, room = MemorySequencer(), EngineRoom(window=8)
    bench = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 20)
    async with bench.running() as node:
        await bench.height(20)
        before = bench.hashes()
        sequencer.fork(to)
        for nonce in range(to, 25):
            sequencer.cut(plain(LegPlan(chain=HERE, nonce=nonce, value=2)))
        await bench.traced(BlockReorged)
        await bench.height(25)
        after = bench.hashes()
        assert node.heads.latest.number == 25
        assert after[: to + 1] == before[: to + 1]
        assert not set(after[to + 1 :]) & set(before[to + 1 :])
        gone = node.index.block_by_hash(bytes.fromhex(before[-1][2:]))
        assert gone is None
    assert await undisturbed(tmp_path / "other", sequencer, 25) == [bytes.fromhex(value[2:]) for value in after[1:]]
    assert not any(event.replayed for event in bench.events(BlockExecuted) if event.height > 20)


async def test_a_branch_that_changed_while_the_node_was_away(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    first = Bench(tmp_path, [sequencer], room.start)
    fill(sequencer, 12)
    async with first.running():
        await first.height(12)
        before = first.hashes()
    sequencer.fork(10)
    for nonce in range(10, 14):
        sequencer.cut(plain(LegPlan(chain=HERE, nonce=nonce, value=3)))
    again = Bench(tmp_path, [sequencer], room.start)
    async with again.running():
        await again.height(14)
        after = again.hashes()
    assert after[:11] == before[:11]
    assert after[11] != before[11]
    assert [event.to_height for event in again.events(BlockReorged)] == [10]
    assert await undisturbed(tmp_path / "other", sequencer, 14) == [bytes.fromhex(value[2:]) for value in after[1:]]


async def test_a_block_without_evidence_stalls_and_the_next_source_is_asked(tmp_path: Path) -> None:
    liar, honest, room = MemorySequencer(), MemorySequencer(), EngineRoom()
    whole = [bundle([LegPlan(chain=HERE, nonce=nonce), LegPlan(chain=THERE, nonce=nonce)]) for nonce in range(3)]
    for sequencer in (liar, honest):
        for submission in whole:
            sequencer.cut(submission)
    liar.tamper = lambda block: replace(block, siblings=())
    bench = Bench(tmp_path, [liar, honest], room.start)
    async with bench.running() as node:
        await bench.height(3)
        stalled = bench.events(ReaderStalled)[0]
        assert (stalled.height, stalled.source) == (1, "source-0")
        assert "no leaf proof" in stalled.reason
        assert node.index.transactions == 3
        assert (await node.status()).stalled == ""


async def test_a_lone_lying_source_delays_and_splits_nothing(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    sequencer.cut(bundle([LegPlan(chain=HERE), LegPlan(chain=THERE)]))
    sequencer.tamper = lambda block: replace(block, siblings=())
    bench = Bench(tmp_path, [sequencer], room.start)
    async with bench.running() as node:
        await bench.traced(ReaderStalled, 2)
        status = await node.status()
        assert "no leaf proof" in status.stalled
        assert (status.heads.height, status.transactions) == (0, 0)
        assert not bench.events(BlockExecuted)
        sequencer.tamper = lambda block: block
        await bench.height(1)
        assert (await node.status()).transactions == 1


class Raising(MemorySequencer):
    """A source that answers every reader with one error."""

    def __init__(self, error: TestbedError) -> None:
        super().__init__()
        self.error = error

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """Raise."""
        if rollup_id:
            raise self.error
        yield RolledBack(to=self.genesis)


@pytest.mark.parametrize(
    "error", [EngineFailure("made up"), UnknownName(kind="rollup", name="x", known=()), Unavailable("away")]
)
async def test_no_error_of_one_source_ends_the_node(tmp_path: Path, error: TestbedError) -> None:
    honest, room = MemorySequencer(), EngineRoom()
    fill(honest, 2)
    bench = Bench(tmp_path, [Raising(error), honest], room.start)
    async with bench.running():
        await bench.height(2)
    assert len(room.started) == 1
    assert len(bench.events(ReaderStalled)) == (0 if isinstance(error, Unavailable) else 1)


async def test_a_rollup_that_no_source_knows_ends_the_node(tmp_path: Path) -> None:
    error = UnknownName(kind="rollup", name="x", known=())
    bench = Bench(tmp_path, [Raising(error), Raising(error)], EngineRoom().start)
    with pytest.raises(UnknownName):
        await bench.node.run()


async def test_a_false_finality_proof_is_refused(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    fill(sequencer, 1)
    bench = Bench(tmp_path, [sequencer], room.start, verify_finality=lambda header_hash, proof: False)
    async with bench.running() as node:
        stalled = await bench.traced(ReaderStalled)
        assert "finality proof" in stalled.reason
        assert node.heads.height == 0


async def test_reconnects_from_where_it_stands(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)
    nonce = fill(sequencer, 40)
    async with bench.running():
        await bench.height(40)
        sequencer.hang_up()
        fill(sequencer, 1, nonce=nonce)
        await bench.height(41)
    locator = sequencer.follows[-1]
    assert locator[0] == sequencer.ref(40)
    assert [ref.height for ref in locator[:16]] == list(range(40, 24, -1))
    assert locator[-1] == sequencer.genesis
    assert len(locator) <= 64
    assert not bench.events(BlockReorged)


async def test_a_crash_of_a_part_reaches_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    bench = Bench(tmp_path, [sequencer], room.start)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(bench.node.pending, "resolve", broken)
    fill(sequencer, 1)
    with pytest.raises(ZeroDivisionError):
        await bench.node.run()


async def test_the_directory_of_another_chain_is_refused(tmp_path: Path) -> None:
    sequencer, room = MemorySequencer(), EngineRoom()
    first = Bench(tmp_path, [sequencer], room.start)
    async with first.running():
        pass
    other = Bench(tmp_path, [sequencer], room.start, config=make_config(genesis='{"other": 1}'))
    with pytest.raises(InvalidInput, match="directory of its own"):
        await other.node.run()
