"""A sequencer that is stopped and started anywhere writes the same blocks as one that never was."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from coincurve import PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from nodes.model.ids import SubmissionHash
from nodes.rules.hashes import sha256
from nodes.rules.lazy import Offer, OrderRules
from nodes.sequencer.block_log import BlockLog
from nodes.sequencer.lazy_chain import LazyChain
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.crash import no_crash
from nodes.telemetry.tracer import DiscardingTracer
from nodes.wire.bundles import bundle_to_bytes
from tests.support.crafting import CHAIN_ID, CHAINS, LegPlan, bundle, lone, make_testnet

A, B = CHAINS[:2]
INTERVAL_NS = 100_000_000
TESTNET = make_testnet()
RULES = OrderRules(
    block_interval_ns=INTERVAL_NS,
    block_bytes_max=1_500,
    mempool_bytes_max=10_000,
    mempool_bundles_max=20,
    dedup_heights=3,
    max_payloads={params.rollup_id: 3 for params in TESTNET.rollups},
)
POOL = [
    *[lone(A, b"payload %d" % number) for number in range(6)],
    *[bundle([LegPlan(chain=A, nonce=nonce), LegPlan(chain=B, nonce=nonce)]) for nonce in range(3)],
]
RESTART, TICK = "restart", "tick"

steps = st.lists(
    st.one_of(
        st.sampled_from([RESTART, TICK, TICK]),
        st.lists(st.sampled_from(range(len(POOL))), min_size=1, max_size=4, unique=True),
    ),
    max_size=14,
)


class Driver:
    """A chain whose clock moves only at ticks. Restarts are steps like any other, and can be left out."""

    def __init__(self, directory: Path, *, heeds_restarts: bool) -> None:
        self._directory = directory
        self._heeds_restarts = heeds_restarts
        self._clock = ManualClock()
        self.known: list[list[bool]] = []
        """For each submit step, which submissions were known already."""

    async def play(self, script: list[str | list[int]]) -> list[bytes]:
        """Run the steps and return every block of the log."""
        remaining = list(script)
        while True:
            log = BlockLog(self._directory, chain_id=CHAIN_ID)
            chain = LazyChain(
                log,
                rules=RULES,
                testnet=TESTNET,
                key=PrivateKey(b"\x33" * 32),
                clock=self._clock,
                tracer=DiscardingTracer(),
                crash=no_crash,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(chain.write_log())
                while remaining and not (remaining[0] == RESTART and self._heeds_restarts):
                    await self._step(chain, remaining.pop(0))
                chain.stop()
            chain.feed.end()
            blocks = [logged.block for logged in log.last_blocks(1_000)]
            log.close()
            if not remaining:
                return blocks
            remaining.pop(0)

    async def _step(self, chain: LazyChain, step: str | list[int]) -> None:
        if step == TICK:
            self._clock.advance(ns=INTERVAL_NS)
            while chain.cut_one():
                await chain.wait_durable()
        elif isinstance(step, list):
            data = [bundle_to_bytes(POOL[number]) for number in step]
            hashes = [SubmissionHash(sha256(item)) for item in data]
            self.known.append([chain.order.knows(found) for found in hashes])
            offers = [
                (Offer(found, POOL[number]), item)
                for number, found, item in zip(step, hashes, data, strict=True)
                if not chain.order.knows(found)
            ]
            if offers:
                chain.accept(offers)
                await chain.wait_durable()


@settings(max_examples=60)
@given(script=steps)
def test_restarts_anywhere_change_no_block(
    tmp_path_factory: pytest.TempPathFactory, script: list[str | list[int]]
) -> None:
    script = [*script, TICK, TICK, TICK]
    room = tmp_path_factory.getbasetemp()
    with tempfile.TemporaryDirectory(dir=room) as first, tempfile.TemporaryDirectory(dir=room) as second:
        restarted = Driver(Path(first), heeds_restarts=True)
        untouched = Driver(Path(second), heeds_restarts=False)
        assert asyncio.run(restarted.play(script)) == asyncio.run(untouched.play(script))
    assert restarted.known == untouched.known
