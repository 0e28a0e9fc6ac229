"""A rollup node under random forks, kills, rewinds, lost streams and restarts ends like one that nothing disturbed."""

import asyncio
import random
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.faults import KillEngine, Rewind
from nodes.model.ids import Height
from nodes.rollup import follower, index, node
from nodes.rules.derivation import Derivation
from nodes.rules.hashes import keccak256
from tests.support.crafting import CHAINS, LegPlan, bundle, plain
from tests.support.patience import PATIENCE_S
from tests.support.rollup_fakes import Bench, EngineRoom, MemorySequencer, make_config

HERE, THERE = CHAINS[:2]
SEEDS = 40
CALLER_PATIENCE_S = 0.02
"""A caller of a fault may leave before it is done."""


@pytest.fixture(autouse=True)
def small_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chains of some dozens of heights then cross every bound that takes thousands otherwise."""
    monkeypatch.setattr(index, "SEGMENT_KEYS", 8)
    monkeypatch.setattr(index, "RECENT_BLOCKS", 3)
    monkeypatch.setattr(follower, "MIN_BACKOFF_S", 0.001)
    monkeypatch.setattr(follower, "MAX_BACKOFF_S", 0.002)
    monkeypatch.setattr(node, "Derivation", partial(Derivation, keep_heights=40))


class Load:
    """Cuts blocks with honest bundles, plain transactions, wrong nonces and copies of what was there before."""

    def __init__(self, rng: random.Random, sequencer: MemorySequencer) -> None:
        self._rng = rng
        self._sequencer = sequencer
        self._made: list[Bundle] = []
        self._nonce = 0
        self.payloads: set[bytes] = set()
        """Of the rollup under test."""
        self.highest = 0
        """Of all branches."""

    def cut(self, blocks: int = 1) -> None:
        """Some blocks, many of them empty."""
        for _ in range(blocks):
            submissions = [self._submission() for _ in range(self._rng.choice([0, 0, 1, 1, 2]))]
            self.payloads |= {made.legs[0].payload for made in submissions}
            self.highest = max(self.highest, self._sequencer.cut(*submissions))

    def fork(self, *, depth: int) -> None:
        """Abandon up to `depth` blocks."""
        head = len(self._sequencer.chain)
        self._sequencer.fork(self._rng.randrange(max(0, head - depth), head + 1))

    def _submission(self) -> Bundle:
        rng = self._rng
        if self._made and rng.random() < 0.3:
            return rng.choice(self._made)
        key, nonce = rng.randrange(3), rng.randrange(self._nonce // 6 + 3)
        plans = [LegPlan(chain=HERE, key=key, nonce=nonce), LegPlan(chain=THERE, key=key, nonce=self._nonce)]
        made = bundle(plans) if rng.random() < 0.7 else plain(plans[0])
        self._nonce += 1
        self._made.append(made)
        return made


async def disturb(rng: random.Random, bench: Bench, sequencer: MemorySequencer, load: Load) -> None:
    """One session's events, at moments of every kind."""
    await bench.node.wait_ready()
    for _ in range(rng.randrange(3, 25)):
        chance = rng.random()
        if chance < 0.55:
            load.cut(rng.randrange(1, 4))
        elif chance < 0.63:
            load.fork(depth=rng.choice([3, 15]))
            load.cut()
        elif chance < 0.72:
            await attempt(bench.node.inject(KillEngine()))
        elif chance < 0.84:
            height = Height(rng.randrange(len(sequencer.chain) + 1))
            await attempt(bench.node.inject(Rewind(height=height)))
        elif chance < 0.9:
            sequencer.hang_up()
        for _ in range(rng.choice([0, 1, 3, 10, 40])):
            await asyncio.sleep(0)


async def attempt(injected: Coroutine[Any, Any, None]) -> None:
    """A fault that the node may refuse, by a caller who may leave."""
    try:
        async with asyncio.timeout(CALLER_PATIENCE_S):
            await injected
    except (InvalidInput, Unavailable, TimeoutError):
        pass  # at this moment it cannot have it


async def session(rng: random.Random, bench: Bench, sequencer: MemorySequencer, load: Load) -> None:
    """Run a node through some events, and end it in order or by cancelling it."""
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        running = group.create_task(bench.node.run())
        await disturb(rng, bench, sequencer, load)
        assert not running.done()
        if rng.random() < 0.5:
            running.cancel()
        else:
            bench.node.stop()


async def account(bench: Bench, height: int, payloads: set[bytes]) -> dict[str, object]:
    """Everything that a node says of its chain, once it stands at a height that no other branch has."""
    async with asyncio.timeout(PATIENCE_S), bench.running() as node:
        await bench.height(height)
        fates = {payload: node.index.fates(keccak256(payload)) for payload in payloads}
        return {
            "hashes": bench.hashes(),
            "fates": {
                payload: [(fate.height, fate.fate, fate.reason, fate.position) for fate in found]
                for payload, found in fates.items()
            },
            "transactions": node.index.transactions,
        }


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_disturbed_node_ends_like_an_undisturbed_one(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    sequencer, room = MemorySequencer(), EngineRoom(window=rng.choice([2, 4, 8]))
    load = Load(rng, sequencer)
    config = make_config(checkpoint_interval_heights=rng.choice([2, 4, 7, 1000]))

    def disturbed() -> Bench:
        return Bench(tmp_path / "disturbed", [sequencer], room.start, config=config)

    for number in range(rng.randrange(1, 4)):
        if number and rng.random() < 0.4:
            load.fork(depth=15)
            load.cut(rng.randrange(1, 8))
        await session(rng, disturbed(), sequencer, load)
    load.cut(1 + max(0, load.highest - len(sequencer.chain)))
    height = len(sequencer.chain)
    plain_config = make_config(checkpoint_interval_heights=1000)
    expected = await account(
        Bench(tmp_path / "undisturbed", [sequencer], EngineRoom().start, config=plain_config), height, load.payloads
    )
    assert await account(disturbed(), height, load.payloads) == expected
    assert await account(disturbed(), height, load.payloads) == expected, "and once more after a restart"
