"""New epochs: what was safe or settled is taken back, whatever a node was doing at that moment."""

from pathlib import Path
from typing import Any

import pytest

from nodes.model.execution import AbortReason
from nodes.model.ids import Height
from nodes.model.verdict import (
    VoidedBundle,
)
from nodes.rollup import index
from nodes.telemetry.events import EvidenceFound, HeightResolved, ReaderStalled
from tests.support.crafting import LegPlan, bundle, plain
from tests.support.rollup_fakes import EngineRoom
from tests.support.rollup_verdicts import (
    HERE,
    THERE,
    Killed,
    MemoryCertifier,
    VerdictWorld,
    follows_alike,
    hash_of,
    pair,
    resolved,
    resolved_in,
)


async def test_a_new_epoch_reverts_what_was_safe(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving() as resolver:
        certifier = MemoryCertifier()
        here, there = world.bench(1, certifier=certifier), world.bench(2)
        made = [pair(0, nonce) for nonce in range(6)]
        for each in made:
            world.sequencer.cut(each)
        async with here.running() as node, there.running():
            await resolved(here, 6)
            await resolved(there, 6)
            await resolver.void([VoidedBundle(Height(3), 0, hash_of(made[2]))])
            await resolved_in(here, 1, 6)
            voided = [event for event in here.events(HeightResolved) if event.epoch == 1 and event.height == 3]
            assert voided[0].aborted == ((hash_of(made[2]), AbortReason.VOIDED, False),)
            assert certifier.epochs == [(1, 3)]
            assert [told.height for told in certifier.told] == [1, 2, 3, 4, 5, 6]
            # The voided leg was never executed again, so it moves no nonce, and what follows on it cannot run.
            assert node.index.head.number == 2
            await follows_alike(world, here, 1, 6)


class KilledCertifier(MemoryCertifier):
    """The process ends as soon as it was told of a new epoch."""

    def epoch_began(self, epoch: int, height: Height) -> None:
        super().epoch_began(epoch, height)
        raise Killed


@pytest.mark.parametrize("has_begun", [True, False])
async def test_a_node_killed_as_an_epoch_begins_goes_on_in_it(tmp_path: Path, *, has_begun: bool) -> None:
    """The certifier is told first: heights that are void would be settled otherwise."""
    world = VerdictWorld(tmp_path)

    def crash(name: str) -> None:
        if name == "rollup.after_epoch":
            raise Killed

    async with world.resolving() as resolver:
        there, made = world.bench(2), [pair(0, nonce) for nonce in range(6)]
        for each in made:
            world.sequencer.cut(each)
        async with there.running():
            async with world.bench(1).running():
                await resolved(there, 6)
            await resolver.void([VoidedBundle(Height(3), 0, hash_of(made[2]))])
            certifier = MemoryCertifier() if has_begun else KilledCertifier()
            with pytest.raises(Killed):
                await world.bench(1, certifier=certifier, crash=crash).node.run()
            assert certifier.epochs == [(1, 3)]
            survivor = MemoryCertifier()
            again = world.bench(1, certifier=survivor)
            async with again.running():
                await resolved_in(again, 1, 6)
                assert survivor.epochs == ([] if has_begun else [(1, 3)])
                assert {told.epoch for told in survivor.told if told.height >= 3} == {1}
                await follows_alike(world, again, 1, 6)


@pytest.mark.parametrize("is_of_this_rollup", [True, False])
async def test_what_was_settled_above_a_new_epoch_is_final_only_where_it_stands_again(
    tmp_path: Path, *, is_of_this_rollup: bool
) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving() as resolver:
        here, there = world.bench(1), world.bench(2)
        foreign = bundle([LegPlan(chain=THERE, key=3), LegPlan(chain=THERE, key=4)])
        made = pair(3, 0) if is_of_this_rollup else foreign
        for height in range(1, 7):
            plans = [plain(LegPlan(chain=chain, key=0, nonce=height - 1)) for chain in (HERE, THERE)]
            world.sequencer.cut(*plans, *([made] if height == 3 else []))
        async with here.running() as node, there.running():
            await resolved(here, 6)
            await resolved(there, 6)
            node.settled_final(Height(5))
            before = node.heads.finalized
            assert before.number == 5
            await resolver.void([VoidedBundle(Height(3), 0, hash_of(made))])
            await resolved_in(here, 1, 6)
            node.settled_final(Height(5))  # the layer says it again
            if is_of_this_rollup:
                assert node.heads.finalized.number == 2
                node.settled_final(Height(6))
                assert node.heads.finalized.number == 6
            else:
                assert node.heads.finalized == before


async def test_an_epoch_that_begins_below_what_a_node_keeps_stalls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "KEPT_HEIGHTS", 2)
    monkeypatch.setattr(index, "PRUNE_EVERY_HEIGHTS", 1)
    world = VerdictWorld(tmp_path)
    async with world.resolving() as resolver:
        certifier = MemoryCertifier()
        here, there = world.bench(1, certifier=certifier), world.bench(2)
        made = [pair(0, nonce) for nonce in range(8)]
        for each in made:
            world.sequencer.cut(each)
        async with here.running() as node, there.running():
            await resolved(here, 8)
            await resolved(there, 8)
            head = node.heads.latest
            await resolver.void([VoidedBundle(Height(3), 0, hash_of(made[2]))])
            assert (await here.traced(ReaderStalled)).height == 3
            assert "epoch 1 began from height 3 on" in (await node.status()).stalled
            assert node.heads.latest == head
            assert certifier.epochs == [(1, 3)], "it certifies nothing that is void"
            assert not here.events(EvidenceFound)
        again = world.bench(1)
        async with again.running() as node:
            await again.traced(ReaderStalled)
            assert node.heads.latest == head


@pytest.mark.parametrize("window", [1, 8])
async def test_an_epoch_that_began_while_a_node_was_away(tmp_path: Path, window: int) -> None:
    world = VerdictWorld(tmp_path)
    room = EngineRoom(window=window)
    options: dict[str, Any] = {"start": room.start, "rewind_window": window, "checkpoint_interval_heights": 2}
    async with world.resolving() as resolver:
        there, made = world.bench(2), [pair(0, nonce) for nonce in range(6)]
        for each in made:
            world.sequencer.cut(each)
        async with there.running():
            here = world.bench(1, **options)
            async with here.running():
                await resolved(here, 6)
            await resolver.void([VoidedBundle(Height(3), 0, hash_of(made[2]))])
            again = world.bench(1, **options)
            async with again.running() as node:
                while not any(event.epoch == 1 and event.height == 6 for event in again.events(HeightResolved)):
                    await again.tracer.wait_recorded()
                assert node.index.head.number == 2
                await follows_alike(world, again, 1, 6)
