"""Rollup nodes with verdicts: the real resolver in the same loop, over a sequencer and engines in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coincurve import PrivateKey

from nodes.agglayer.resolver import Resolver
from nodes.model.agglayer import AgglayerParams, NetworkId, NetworkParams
from nodes.model.bridge_activity import SafeHeight
from nodes.model.bundle import Bundle
from nodes.model.config import RollupAgglayerConfig
from nodes.model.execution import TestnetParams
from nodes.model.ids import BundleHash, ChainId, Height, SubmissionHash, chain_id_of
from nodes.model.sequenced_block import BlockRef, Commitment
from nodes.ports import Mailbox, Sequencer, SequencerStatus, Ticket
from nodes.rollup.divergence_link import Unwatched
from nodes.rollup.engine import StartEngine
from nodes.rules.bundle import bundle_hash
from nodes.rules.hashes import sha256
from nodes.rules.signing import address_of_key
from nodes.telemetry.clock import Clock, SystemClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import BlockExecuted, HeightResolved
from nodes.telemetry.tracer import Tracer
from nodes.wire.bundles import bundle_from_bytes
from tests.support.crafting import CHAIN_ID, CHAINS, ROLLUPS, LegPlan, bundle, make_testnet
from tests.support.patience import PATIENCE_S
from tests.support.rollup_fakes import Bench, EngineRoom, MemorySequencer, WaitableTracer, make_config

RESOLVER_KEY = PrivateKey(b"\x51" * 32)
REPORTER_KEYS = tuple(PrivateKey(bytes([0x61 + at]) * 32) for at in range(4))
HERE, THERE = CHAINS[:2]
REVERTS, CONTENDED = 13, 21
"""Values, in wei, that `tests.support.rollup_fakes.MemoryEngine` treats in their own way."""
HERE_NETWORK, THERE_NETWORK = NetworkId(1), NetworkId(2)


def make_params(testnet: TestnetParams, **changes: Any) -> AgglayerParams:
    """Networks 1 and up, in the order of the testnet."""
    params = AgglayerParams(
        networks=tuple(
            NetworkParams(
                network_id=NetworkId(at + 1),
                name=rollup.name,
                chain_id=chain_id_of(rollup.rollup_id),
                signer=address_of_key(REPORTER_KEYS[at]),
                reporter=address_of_key(REPORTER_KEYS[at]),
            )
            for at, rollup in enumerate(testnet.rollups)
        ),
        resolver=address_of_key(RESOLVER_KEY),
        serial_rounds=8,
        abort_rule="serial",
        has_verdicts=True,
        l1_chain_id=ChainId(900),
        attesters=(),
        attester_threshold=0,
    )
    return replace(params, **changes)


def make_agglayer(params: AgglayerParams, network_id: int, **changes: Any) -> RollupAgglayerConfig:
    """The config of a node of one network."""
    key = REPORTER_KEYS[network_id - 1].to_hex()
    config = RollupAgglayerConfig(params=params, endpoint="", reporter_key=key, signer_key="", speculation_heights=4)
    return replace(config, **changes)


class SubmittingSequencer(MemorySequencer):
    """Takes submissions as well, each in a block of its own: the resolver's notices."""

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Cut a block of them."""
        self.cut(*[bundle_from_bytes(data) for data in submissions])
        return [
            Ticket(submission_hash=SubmissionHash(sha256(data)), accepted=True, duplicate=False, reason="")
            for data in submissions
        ]

    async def status(self) -> SequencerStatus:
        """Where the chain ends."""
        return SequencerStatus(
            backend="memory",
            head=BlockRef(height=Height(len(self.chain)), hash=self.ref(len(self.chain)).hash),
            firm_height=len(self.chain) if self.commitment >= Commitment.FIRM else 0,
            pending_bundles=0,
            pending_bytes=0,
            rollup_ids=ROLLUPS,
            block_interval_ms=100,
            block_bytes_max=1 << 20,
        )


class MemoryCertifier:
    """Remembers what it was told; satisfies `nodes.rollup.safe_heights.Certifier`."""

    stalled = ""

    def __init__(self, have_height: int = 0) -> None:
        self._have_height = Height(have_height)
        self.told: list[SafeHeight] = []
        self.epochs: list[tuple[int, Height]] = []
        self._stopping = asyncio.Event()
        self._news = asyncio.Event()

    @property
    def have_height(self) -> Height:
        """What it was made with."""
        return self._have_height

    def safe(self, height: SafeHeight) -> None:
        """Keep it."""
        self.told.append(height)
        self._news.set()
        self._news = asyncio.Event()

    async def wait_told(self) -> None:
        """Until the next height."""
        await self._news.wait()

    def epoch_began(self, epoch: int, height: Height) -> None:
        """Keep it."""
        self.epochs.append((epoch, height))
        self.told = [told for told in self.told if told.height < height]

    def outcome_proof(self, bundle_hash: bytes, leg_index: int, height: Height) -> None:
        """It has no certificates."""

    async def run(self) -> None:
        """Until `stop`."""
        await self._stopping.wait()

    def stop(self) -> None:
        """End."""
        self._stopping.set()


class VerdictWorld:
    """A sequencer, a resolver, and a way to make rollup nodes that follow both."""

    def __init__(
        self,
        directory: Path,
        *,
        sequencer: Sequencer | None = None,
        testnet: TestnetParams | None = None,
        report_timeout_ms: int = 60_000,
        clock: Clock | None = None,
        verify_finality: Any = lambda header_hash, proof: True,
        **params: Any,
    ) -> None:
        self.directory = directory
        self.testnet = testnet or make_testnet(ROLLUPS[:2])
        self.params = make_params(self.testnet, **params)
        self.sequencer = SubmittingSequencer()
        self._source: Sequencer = sequencer or self.sequencer
        self._timeout_ms = report_timeout_ms
        self._clock = clock or SystemClock()
        self._verify_finality = verify_finality
        self.tracer = WaitableTracer(SystemClock())
        self.resolver = self._resolver()

    def _resolver(self) -> Resolver:
        return Resolver(
            params=self.params,
            key=RESOLVER_KEY,
            chain_id=CHAIN_ID,
            sources=[("memory", self._source)],
            verify_finality=self._verify_finality,
            directory=self.directory / "resolver",
            report_timeout_ms=self._timeout_ms,
            clock=self._clock,
            tracer=self.tracer,
        )

    @asynccontextmanager
    async def resolving(self) -> AsyncIterator[Resolver]:
        """Run the resolver."""
        self.resolver = self._resolver()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.resolver.run(), name="resolver")
            await self.resolver.wait_ready()
            try:
                yield self.resolver
            finally:
                self.resolver.stop()

    def bench(
        self,
        network_id: int,
        name: str = "",
        *,
        start: StartEngine | None = None,
        mailbox: Mailbox | None = None,
        certifier: MemoryCertifier | None = None,
        crash: CrashPoint = no_crash,
        watched: Callable[[Clock, Tracer], Unwatched] | None = None,
        agglayer: dict[str, Any] | None = None,
        **config: Any,
    ) -> Bench:
        """A rollup node that is not running; the same name again is the same directory."""
        name = name or f"rollup-{network_id}"
        own = make_config(
            name,
            rollup_id=self.testnet.rollups[network_id - 1].rollup_id,
            agglayer=make_agglayer(self.params, network_id, **(agglayer or {})),
            **config,
        )
        return Bench(
            self.directory / name,
            [self._source],
            start or EngineRoom().start,
            config=own,
            testnet=self.testnet,
            mailbox=mailbox or self.resolver,
            certifier=certifier,
            crash=crash,
            watched=watched,
            verify_finality=self._verify_finality,
        )


async def resolved(bench: Bench, height: int) -> HeightResolved:
    """Wait until a node has the verdict of a height that touches it; the newest such event."""
    async with asyncio.timeout(PATIENCE_S):
        while not any(event.height >= height for event in bench.events(HeightResolved)):
            await bench.tracer.wait_recorded()
    found: HeightResolved = next(event for event in bench.events(HeightResolved) if event.height >= height)
    return found


def last_fates(bench: Bench) -> dict[int, list[str]]:
    """By height, how its legs ended in the last execution."""
    return {
        event.height: [outcome.status.name.lower() for outcome in event.outcomes]
        for event in bench.events(BlockExecuted)
    }


def pair(key: int, nonce: int = 0, *, here: int = 1, there: int = 1, there_nonce: int | None = None) -> Bundle:
    """A leg on each of two rollups."""
    return bundle(
        [
            LegPlan(chain=HERE, key=key, nonce=nonce, value=here),
            LegPlan(chain=THERE, key=key, nonce=nonce if there_nonce is None else there_nonce, value=there),
        ]
    )


def hash_of(made: Bundle) -> BundleHash:
    """The hash of a bundle of `pair`."""
    return bundle_hash(version=1, expiry=0, leg_hashes=[leg.leg_hash for leg in made.legs])


async def resolved_in(bench: Bench, epoch: int, height: int) -> None:
    """Wait until a height is resolved in an epoch."""
    async with asyncio.timeout(PATIENCE_S):
        while not any((event.epoch, event.height) == (epoch, height) for event in bench.events(HeightResolved)):
            await bench.tracer.wait_recorded()


async def follows_alike(world: VerdictWorld, bench: Bench, network: int, height: int) -> None:
    """A replica that starts late and only follows verdicts ends in the same hashes."""
    replica = world.bench(network, "replica")
    async with replica.running():
        await resolved(replica, height)
        assert replica.hashes() == bench.hashes()


class Killed(BaseException):
    """The process ends here."""
