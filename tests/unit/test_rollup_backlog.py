"""Heights that wait for their verdicts: soft ones in any number, firm ones, roll-backs and restarts among them."""

import asyncio
from pathlib import Path

import pytest

from nodes.model.execution import Derived
from nodes.model.ids import Height
from nodes.model.sequenced_block import Commitment, FilteredBlock
from nodes.rollup import backlog as backlog_module
from nodes.rollup.backlog import Backlog
from nodes.rules.derivation import KEPT_HEIGHTS
from nodes.telemetry.events import CheckpointWritten, EvidenceFound
from tests.support.crafting import ROLLUPS, make_testnet
from tests.support.rollup_verdicts import VerdictWorld, follows_alike, pair, resolved

MANY = 100
"""More than the firm heights that may wait and the reader's queue together."""


def kept(backlog: Backlog, heights: range, *, resolved: int = 0, notice_bytes: int = 0) -> list[int]:
    """Which of these heights it keeps."""
    notices = (bytes(notice_bytes),) if notice_bytes else ()
    made = [
        Derived(height=Height(at), timestamp_s=1, admitted=(), dropped=(), bundles=(), touched=(), notices=notices)
        for at in heights
    ]
    return [work.height for work in made if backlog.keeps(work, resolved=Height(resolved))]


def test_what_is_left_out_is_left_out_until_the_reader_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_HEIGHTS", 4)
    backlog = Backlog()
    left_out = [kept(backlog, range(1, 4)) == [1, 2, 3] and backlog.leaves_out]
    assert kept(backlog, range(4, 8), resolved=1) == [4, 5]
    left_out.append(backlog.leaves_out)
    assert kept(backlog, range(8, 10), resolved=5) == []  # there is room, and there are no gaps
    backlog.rewound(Height(7))
    left_out.append(backlog.leaves_out)
    assert kept(backlog, range(8, 10), resolved=5) == []
    backlog.rewound(Height(5))  # of what was kept all stands, and nothing is missing
    left_out.append(backlog.leaves_out)
    assert left_out == [False, True, True, False]
    assert kept(backlog, range(6, 12), resolved=5) == [6, 7, 8, 9]
    backlog.rewound(Height(7))
    assert kept(backlog, range(8, 12), resolved=5) == [8, 9]


def test_the_bytes_of_what_is_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog_module, "MAX_BYTES", 1_000)
    backlog = Backlog()
    assert kept(backlog, range(1, 2), notice_bytes=5_000) == [1]  # otherwise it would never get its verdict
    assert backlog.is_full(Height(0))
    backlog.rewound(Height(0))
    assert kept(backlog, range(1, 5), notice_bytes=400) == [1, 2, 3]
    backlog.rewound(Height(1))
    assert kept(backlog, range(2, 5), notice_bytes=400) == [2, 3]
    backlog.rewound(Height(3))
    assert kept(backlog, range(4, 7), resolved=2, notice_bytes=400) == [4, 5]


def served_to(world: VerdictWorld, network: int, blocks: int) -> asyncio.Event:
    """Set once so many blocks were served to a rollup's reader."""
    served, left = asyncio.Event(), blocks

    def count(block: FilteredBlock) -> FilteredBlock:
        nonlocal left
        left -= block.rollup_id == ROLLUPS[network - 1]
        if not left:
            served.set()
        return block

    world.sequencer.tamper = count
    return served


def soft(world: VerdictWorld, nonces: range, *, here: int = 1) -> None:
    """Heights that are not firm yet."""
    world.sequencer.commitment = Commitment.SOFT
    for nonce in nonces:
        world.sequencer.cut(pair(0, nonce, here=here))


@pytest.mark.parametrize("bound", [backlog_module.MAX_HEIGHTS, 10])
async def test_many_soft_heights_become_firm_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    monkeypatch.setattr(backlog_module, "MAX_HEIGHTS", bound)
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running() as node, there.running():
            soft(world, range(MANY))
            world.sequencer.raise_commitment(MANY, Commitment.FIRM)
            await resolved(here, MANY)
            await resolved(there, MANY)
            assert node.heads.safe.number == MANY
            world.sequencer.commitment = Commitment.FIRM
            await follows_alike(world, here, 1, MANY)
        assert not here.events(EvidenceFound)


@pytest.mark.parametrize("bound", [backlog_module.MAX_HEIGHTS, 10])
@pytest.mark.parametrize("back_to", [5, 50, MANY])
async def test_soft_heights_that_are_taken_back_behind_many_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: int, back_to: int
) -> None:
    monkeypatch.setattr(backlog_module, "MAX_HEIGHTS", bound)
    world = VerdictWorld(tmp_path)
    served = served_to(world, 1, MANY)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2)
        async with here.running(), there.running():
            soft(world, range(MANY))
            await served.wait()
            world.sequencer.fork(back_to)
            soft(world, range(back_to, MANY + 10), here=5)
            world.sequencer.raise_commitment(MANY + 10, Commitment.FIRM)
            await resolved(here, MANY + 10)
            await resolved(there, MANY + 10)
            await follows_alike(world, here, 1, MANY + 10)
        assert not here.events(EvidenceFound)


async def test_a_restart_while_many_heights_are_soft(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    served = served_to(world, 1, MANY)
    async with world.resolving():
        there = world.bench(2)
        async with there.running():
            async with world.bench(1).running():
                soft(world, range(MANY))
                await served.wait()
            again = world.bench(1)
            async with again.running():
                world.sequencer.raise_commitment(MANY // 2, Commitment.FIRM)
                await resolved(again, MANY // 2)
                soft(world, range(MANY, MANY + 5))
                world.sequencer.raise_commitment(MANY + 5, Commitment.FIRM)
                await resolved(again, MANY + 5)
                await resolved(there, MANY + 5)
                await follows_alike(world, again, 1, MANY + 5)


async def test_a_reader_so_far_ahead_that_derivation_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog_module, "MAX_HEIGHTS", 10)
    world = VerdictWorld(tmp_path, testnet=make_testnet(ROLLUPS[:2], replay_window=20))
    async with world.resolving():
        here, there = world.bench(1, checkpoint_interval_heights=4), world.bench(2)
        last = 20 + KEPT_HEIGHTS + 40
        async with here.running(), there.running():
            soft(world, range(20))
            for _ in range(20, last):
                world.sequencer.cut()
            world.sequencer.raise_commitment(last, Commitment.FIRM)
            soft(world, range(20, 24))
            world.sequencer.raise_commitment(last + 4, Commitment.FIRM)
            await resolved(here, last + 4)
            await resolved(there, last + 4)
            assert here.events(CheckpointWritten)
            world.sequencer.commitment = Commitment.FIRM
            await follows_alike(world, here, 1, last + 4)
