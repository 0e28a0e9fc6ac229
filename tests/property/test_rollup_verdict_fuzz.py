"""Nodes under verdicts, disturbed at random, strike what a naive serial reference strikes, and agree on every hash."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.faults import Fault, KillEngine, Rewind
from nodes.model.ids import Height
from nodes.rollup import follower, mailbox_link
from nodes.telemetry.events import BlockExecuted, EvidenceFound
from tests.support.crafting import CHAINS, LegPlan, bundle
from tests.support.rollup_fakes import Bench, EngineRoom
from tests.support.rollup_verdicts import VerdictWorld, resolved

REVERTS, CONTENDED = 13, 21
SEEDS = 12
HEIGHTS = 8


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (follower, mailbox_link):
        monkeypatch.setattr(module, "MIN_BACKOFF_S", 0.001)
        monkeypatch.setattr(module, "MAX_BACKOFF_S", 0.002)


@dataclass(frozen=True, slots=True)
class Pair:
    """A bundle of one leg on each of two rollups."""

    key: int
    nonces: tuple[int, int]
    values: tuple[int, int]
    mark: int
    """Makes every bundle another one."""

    def bundle(self) -> Bundle:
        return bundle(
            [
                LegPlan(chain=chain, key=self.key, nonce=nonce, value=value, gas_limit=30_000 + self.mark)
                for chain, nonce, value in zip(CHAINS, self.nonces, self.values)
            ]
        )


class Reference:
    """Executes a height again and again without what failed first, as plainly as can be."""

    def __init__(self) -> None:
        self._nonces: list[dict[int, int]] = [{}, {}]

    def height(self, pairs: Sequence[Pair]) -> list[bool]:
        """Which bundles are struck."""
        struck: dict[int, set[int]] = {}
        while True:
            nonces = [dict(of_chain) for of_chain in self._nonces]
            failed: dict[int, set[int]] = {}
            wrong: list[tuple[int, int]] = []
            for chain in (0, 1):
                self._execute(pairs, chain, struck, nonces[chain], failed, wrong)
            if wrong:
                for index, chain in wrong:
                    struck[index].add(chain)
            elif failed:
                first = min(failed)
                struck[first] = {chain for chain in failed[first] if chain >= 0}
            else:
                self._nonces = nonces
                return [index in struck for index in range(len(pairs))]

    @staticmethod
    def _execute(
        pairs: Sequence[Pair],
        chain: int,
        struck: dict[int, set[int]],
        nonces: dict[int, int],
        failed: dict[int, set[int]],
        wrong: list[tuple[int, int]],
    ) -> None:
        contended = False
        for index, pair in enumerate(pairs):
            fits = pair.nonces[chain] == nonces.get(pair.key, 0)
            if index in struck:
                if chain in struck[index]:
                    continue
                if not fits:
                    wrong.append((index, chain))
                nonces[pair.key] = nonces.get(pair.key, 0) + 1
            elif not fits:
                failed.setdefault(index, set()).add(chain)
            else:
                nonces[pair.key] = nonces.get(pair.key, 0) + 1
                value = pair.values[chain]
                if value == REVERTS or (value == CONTENDED and contended):
                    failed.setdefault(index, set()).add(-1)
                contended = contended or value == CONTENDED


def load(rng: random.Random) -> list[list[Pair]]:
    """Heights of bundles, many of which fail or depend on each other."""
    nonces = [[0] * 4, [0] * 4]
    heights: list[list[Pair]] = []
    for _ in range(HEIGHTS):
        pairs: list[Pair] = []
        for _ in range(rng.choice([0, 1, 2, 4])):
            key = rng.randrange(4)
            values = [rng.choice([1, 1, 1, REVERTS, CONTENDED, CONTENDED]) for _ in CHAINS[:2]]
            off = [rng.choice([0, 0, 0, 0, 0, 1]) for _ in CHAINS[:2]]
            pairs.append(
                Pair(
                    key,
                    (nonces[0][key] + off[0], nonces[1][key] + off[1]),
                    (values[0], values[1]),
                    len(heights) * 8 + len(pairs),
                )
            )
            for of_chain in nonces:
                of_chain[key] += 1
        heights.append(pairs)
    return heights


async def disturb(rng: random.Random, benches: Sequence[Bench]) -> None:
    for _ in range(rng.randrange(8)):
        bench = rng.choice(benches)
        fault: Fault = KillEngine() if rng.random() < 0.5 else Rewind(height=Height(rng.randrange(HEIGHTS)))
        try:
            async with asyncio.timeout(0.02):
                await bench.node.inject(fault)
        except (InvalidInput, Unavailable, TimeoutError):
            pass  # at this moment it cannot have it
        for _ in range(rng.choice([0, 3, 20])):
            await asyncio.sleep(0)


def struck_at(bench: Bench) -> dict[int, list[bool]]:
    return {
        event.height: [outcome.status.name == "ABORTED" for outcome in event.outcomes]
        for event in bench.events(BlockExecuted)
    }


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_disturbed_nodes_strike_what_the_reference_strikes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    world = VerdictWorld(tmp_path, serial_rounds=100)
    heights = load(rng)
    heights.append([Pair(7, (0, 0), (1, 1), 0)])
    reference = Reference()
    expected = [reference.height(pairs) for pairs in heights]
    depth = rng.randrange(1, 6)

    def bench(network: int) -> Bench:
        room = EngineRoom(window=rng.choice([2, 8]))
        return world.bench(
            network,
            start=room.start,
            rewind_window=room.window,
            agglayer={"speculation_heights": depth},
            checkpoint_interval_heights=rng.choice([1, 3, 100]),
        )

    for pairs in heights[: HEIGHTS // 2]:
        world.sequencer.cut(*[pair.bundle() for pair in pairs])
    for session in range(3):
        async with world.resolving():
            here, there = bench(1), bench(2)
            async with here.running(), there.running():
                if session == 1:
                    for pairs in heights[HEIGHTS // 2 :]:
                        world.sequencer.cut(*[pair.bundle() for pair in pairs])
                        await disturb(rng, [here, there])
                if session < 2:
                    await disturb(rng, [here, there])
                    continue
                late = world.bench(1, "late")
                async with late.running():
                    await resolved(late, len(heights))
                    await here.height(len(heights))
                    assert here.hashes() == late.hashes()
                    found = struck_at(late)
    assert {height: found[height] for height, pairs in enumerate(heights, 1) if pairs} == {
        height: struck for height, (pairs, struck) in enumerate(zip(heights, expected), 1) if pairs
    }
    assert not late.events(EvidenceFound)
