"""Rollups that execute nothing and report all the same: enough to make a resolver work over real gRPC.

A block's hash is the hash of its parent, its payloads and what it leaves out. A payload that begins with `bad` stands
for a bundle that fails until it is struck.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nodes.agglayer.resolver import Resolver
from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import Unavailable
from nodes.model.ids import BundleHash, Height, LegHash, RollupId
from nodes.model.sequenced_block import BlockSequenced
from nodes.model.verdict import (
    AbortSet,
    FailureKind,
    LegFailure,
    MailboxEvent,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedReport,
    VerdictRef,
    VerdictSigned,
)
from nodes.ports import Mailbox, Sequencer
from nodes.rules.evaluation import VerdictReader
from nodes.rules.hashes import keccak256
from nodes.rules.sequenced_block import decode_header
from nodes.rules.verdict import NO_VERDICT, aborts_hash, decode_report, next_aborts
from nodes.sequencer.lazy import BACKEND
from nodes.telemetry.clock import Clock, ManualClock, SystemClock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import DiscardingTracer, Tracer
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.channel import server
from nodes.wire.mailbox import MailboxClient, MailboxServicer
from nodes.wire.streams import closing
from tests.support.crafting import CHAIN_ID
from tests.support.sequencer_configs import SIGNING_KEY
from tests.support.sequencers import WAIT_S
from tests.support.verdict_model import RESOLVER_KEY, make_params, rollup_of, sign_report

NOWHERE = VerdictRef(0, Height(0), NO_VERDICT)


def make_resolver(
    directory: Path,
    sequencer: Sequencer,
    *,
    params: AgglayerParams | None = None,
    report_timeout_ms: int = 60_000,
    clock: Clock | None = None,
    tracer: Tracer | None = None,
    crash: CrashPoint = no_crash,
) -> Resolver:
    """A resolver that is not running yet."""
    config = BACKEND.configure({"signing_key": SIGNING_KEY})
    return Resolver(
        params=params or make_params(2),
        key=RESOLVER_KEY,
        chain_id=CHAIN_ID,
        sources=[("sequencer", sequencer)],
        verify_finality=BACKEND.verifier(BACKEND.finality_options(config)),
        directory=directory,
        report_timeout_ms=report_timeout_ms,
        clock=clock or SystemClock(),
        tracer=tracer or DiscardingTracer(),
        crash=crash,
    )


@asynccontextmanager
async def serving_resolver(resolver: Resolver) -> AsyncIterator[MailboxClient]:
    """Run a resolver behind gRPC and connect to it; it is stopped in order when the block is left."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        group.create_task(resolver.run(), name="resolver under test")
        try:
            await resolver.wait_ready()
            async with server([MailboxServicer(resolver)], name="resolver", host="127.0.0.1", port=0) as bound:
                async with MailboxClient(bound.address) as client:
                    yield client
        except BaseException as error:  # noqa: BLE001 - raised behind the group, which would wrap it
            failure = error
        resolver.stop()
    if failure is not None:
        raise failure


async def until_evicted(resolver: Resolver, clock: ManualClock, network: int, *, report_timeout_ms: int) -> None:
    """Let time pass once nobody but this rollup is waited for, until it is evicted: nobody else can be late.

    In steps that are too short to look like a pause of the resolver itself, which would accuse nobody.
    """
    async with asyncio.timeout(WAIT_S):
        while list(resolver.state.evicted) != [network]:
            if resolver.state.waits_for == [network]:
                clock.advance(ns=report_timeout_ms * 1_000_000 // 5)
            await asyncio.sleep(report_timeout_ms / 4_000)


def submission(network: int, payload: bytes) -> bytes:
    """One opaque payload for a rollup."""
    leg = Leg(rollup_id=rollup_of(network), payload=payload, leg_hash=LegHash(b""))
    return bundle_to_bytes(Bundle(version=0, expiry=0, legs=(leg,)))


def bad_bundle(payload: bytes) -> BundleHash:
    """The bundle that a bad payload stands for."""
    return BundleHash(keccak256(payload))


@dataclass(slots=True)
class Rollup:
    """One rollup: follows the sequencer and the mailbox, reports, checks every verdict."""

    network: int
    params: AgglayerParams
    reader: VerdictReader = field(init=False)
    heads: list[bytes] = field(default_factory=list)
    """After each height with a verdict, genesis first."""
    blocks: list[tuple[tuple[bytes, ...], tuple[RollupId, ...]]] = field(default_factory=list)
    """Payloads and touched rollups of each sequenced height."""
    closed: list[tuple[SignedReport, ...]] = field(default_factory=list)
    evicted_reports: list[Report] = field(default_factory=list)
    """Of the newest height that had its verdict before this evicted rollup could report it."""
    events: list[MailboxEvent] = field(default_factory=list)
    is_silent: bool = False
    lies: Callable[[Report], Report] = lambda report: report
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.reader = VerdictReader(chain_id=CHAIN_ID, params=self.params)
        self.heads.append(keccak256(b"genesis %d" % self.network))

    @property
    def ref(self) -> VerdictRef:
        """Where it stands."""
        return VerdictRef(self.reader.epoch, self.reader.height, self.reader.hash)

    async def run(self, sequencer: Sequencer, mailbox: Mailbox) -> None:
        """Until cancelled, or until the mailbox is gone."""
        self.closed = []
        # Both streams move the rollup on; reports go out when either has.
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read_blocks(sequencer))
                group.create_task(self._read_verdicts(mailbox))
                group.create_task(self._report(mailbox))
        except* Unavailable:
            pass

    async def wait(self, condition: Callable[[], bool]) -> None:
        """Until something that it took makes the condition true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.news.wait()

    async def wait_height(self, height: int) -> None:
        """Until it has the verdict of a height."""
        await self.wait(lambda: self.reader.height >= height)

    def pulse(self) -> None:
        """Something changed."""
        self.news.set()
        self.news.clear()

    async def _read_blocks(self, sequencer: Sequencer) -> None:
        self.blocks.clear()
        async with closing(sequencer.follow([], rollup_of(self.network))) as events:
            async for event in events:
                if isinstance(event, BlockSequenced):
                    assert decode_header(event.block.header).height == len(self.blocks) + 1
                    self.blocks.append((event.block.content.payloads, event.block.rollup_ids))
                    self.pulse()

    async def _read_verdicts(self, mailbox: Mailbox) -> None:
        async with closing(mailbox.follow(self.ref)) as events:
            async for event in events:
                await self.wait(lambda: len(self.blocks) > self.reader.height)
                self._take(event)
                self.pulse()

    def _take(self, event: MailboxEvent) -> None:
        self.events.append(event)
        match event:
            case NoticePosted(signed=signed):
                notice = self.reader.take_notice(signed)
                self.closed = []
                if notice.kind is NoticeKind.VOID:
                    del self.heads[notice.height :]
            case RoundClosed():
                assert (event.epoch, event.height) == (self.reader.epoch, self.reader.height + 1)
                self.closed[event.round_number :] = [event.reports]
            case VerdictSigned(signed=verdict, rounds=rounds):
                found = self.reader.take_verdict(verdict, rounds, touched=self.blocks[self.reader.height][1])
                aborts, parent = found.verdict.aborts, self.heads[-1]
                self.heads.append(self._block_hash(parent, self.reader.height, aborts))
                if self.network in aborts.evicted and self.blocks[self.reader.height - 1][0]:
                    self.evicted_reports = [self._report_of(self.reader.height, aborts, parent, self.heads[-1])]
                self.closed = []

    async def _report(self, mailbox: Mailbox) -> None:
        sent: set[bytes] = set()
        while True:
            made = [] if self.is_silent else [signed for signed in self._reports() if signed.report not in sent]
            if made:
                sent.update(signed.report for signed in made)
                await mailbox.submit_reports(made)
            else:
                await self.news.wait()

    def _reports(self) -> list[SignedReport]:
        made, parent = [sign_report(report) for report in self.evicted_reports], self.heads[-1]
        for height in range(self.reader.height + 1, min(len(self.blocks), self.reader.height + 3) + 1):
            aborts = self.reader.standing.base(Height(height))
            if height == self.reader.height + 1:
                for number, reports in enumerate(self.closed):
                    read = [decode_report(signed.report) for signed in reports]
                    following = next_aborts(aborts, read, round_number=number, params=self.params)
                    assert following is not None
                    aborts = following
            after = self._block_hash(parent, height, aborts)
            if self.blocks[height - 1][0]:
                report = self._report_of(height, aborts, parent, after)
                made.append(sign_report(self.lies(report)))
            parent = after
        return made

    def _report_of(self, height: int, aborts: AbortSet, parent: bytes, after: bytes) -> Report:
        struck = {abort.bundle_hash for abort in aborts.aborts}
        bad = [bad_bundle(payload) for payload in self.blocks[height - 1][0] if payload.startswith(b"bad")]
        return Report(
            epoch=self.reader.epoch,
            height=Height(height),
            network_id=NetworkId(self.network),
            aborts_hash=aborts_hash(aborts),
            parent_hash=parent,
            block_hash=after,
            failures=tuple(
                LegFailure(at, bundle, 0, FailureKind.REVERTED) for at, bundle in enumerate(bad) if bundle not in struck
            ),
            exits=(),
            mints=(),
        )

    def _block_hash(self, parent: bytes, height: int, aborts: AbortSet) -> bytes:
        payloads = self.blocks[height - 1][0]
        return keccak256(parent + b"".join(payloads) + aborts_hash(aborts)) if payloads else parent
