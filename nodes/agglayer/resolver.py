"""The resolver: collects reports, signs verdicts, logs notices; satisfies `ports.Mailbox`.

`nodes.rules.resolution` decides. This shell reads the sequencer, checks and makes signatures, keeps everything durable
before anyone sees it, and hands instructions on. It executes nothing and believes no report: it only checks who signed
it. A restart goes on where the store ends; reports are not stored, rollups hand them in again when they reconnect.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path

from coincurve import PrivateKey

from nodes.agglayer.resolver_feed import VerdictFeed
from nodes.agglayer.resolver_store import (
    KeepEvidence,
    KeepHeight,
    KeepOutgoing,
    KeepRound,
    KeepVerdict,
    ResolverStore,
    StoredHeight,
)
from nodes.agglayer.resolver_writer import ResolverWriter
from nodes.agglayer.sequencer_reader import ReadHeight, SequencerReader
from nodes.model.agglayer import AgglayerParams
from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import InvalidInput, InvalidVerdict, TestbedError, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, LegHash
from nodes.model.verdict import (
    MailboxEvent,
    Notice,
    NoticeKind,
    SignedNotice,
    SignedReport,
    SignedVerdict,
    VerdictRef,
    VerdictSigned,
    VoidedBundle,
)
from nodes.node_file import opened_in_thread, to_end
from nodes.ports import Sequencer
from nodes.rules.evaluation import signer_of_report, verified_notice
from nodes.rules.finality import VerifyFinality
from nodes.rules.resolution import Resolution
from nodes.rules.resolver_steps import (
    CloseRound,
    Instruction,
    KeptRound,
    KeptVerdict,
    LogNotice,
    PostNotice,
    PublishEvidence,
    SignVerdict,
)
from nodes.rules.signing import address_of_key, sign_digest
from nodes.rules.verdict import (
    decode_notice,
    decode_report,
    encode_notice,
    notice_digest,
    notice_of_payload,
    notice_payload,
    verdict_digest,
    verdict_hash,
)
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import EvidenceFound, NoticeLogged, VerdictIssued
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer
from nodes.wire.bundles import bundle_to_bytes

NOTICE_RETRY_S = 1.0
"""A notice that was submitted and is not read back is submitted again; the same bytes are sequenced once."""
MIN_TICK_S = 0.01
MAX_TICK_S = 0.25
TICKS_PER_TIMEOUT = 8
_NS_PER_MS = 1_000_000
_MS_PER_S = 1_000

_log = logging.getLogger(__name__)


class Resolver:
    """One resolver; its state is in `directory`."""

    def __init__(
        self,
        *,
        params: AgglayerParams,
        key: PrivateKey,
        chain_id: bytes,
        sources: Sequence[tuple[str, Sequencer]],
        verify_finality: VerifyFinality,
        directory: Path,
        report_timeout_ms: int,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
    ) -> None:
        """`chain_id` is the sequencer chain's. Raises InvalidInput where `key` is not the resolver's of `params`."""
        if address_of_key(key) != params.resolver:
            raise InvalidInput(
                f"the resolver's key is of address 0x{address_of_key(key).hex()}, the testnet names "
                f"0x{params.resolver.hex()}; give the resolver the key that the testnet was resolved with"
            )
        self._params = params
        self._reporters = {network.network_id: network.reporter for network in params.networks}
        self._key = key
        self._chain_id = chain_id
        self._sources = sources
        self._verify_finality = verify_finality
        self._directory = directory
        self._timeout_ms = report_timeout_ms
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._resolution = Resolution(
            params=params, report_timeout_ns=report_timeout_ms * _NS_PER_MS, now_ns=clock.monotonic_ns()
        )
        self._outgoing: dict[bytes, SignedNotice] = {}
        self._to_submit = asyncio.Event()
        self._opened = asyncio.Event()
        self._stopping = asyncio.Event()
        self._writer: ResolverWriter | None = None
        self._feed: VerdictFeed | None = None
        self._reader: SequencerReader | None = None
        self._cpu = StageCpu("reports", "sign")

    async def run(self) -> None:
        """Open the store, then read, resolve and serve until `stop`. Raises what the disk raises."""
        open_store = partial(ResolverStore, self._directory, chain_id=self._chain_id, crash=self._crash)
        async with AsyncExitStack() as opened:
            try:
                await self._run_parts(await opened_in_thread(open_store, opened))
            finally:
                self._stopping.set()
                self._opened.set()
                if self._feed is not None:
                    self._feed.end()

    async def _run_parts(self, store: ResolverStore) -> None:
        last = await to_end(lambda: self._restore(store))
        self._writer = ResolverWriter(store, crash=self._crash)
        self._feed = VerdictFeed(self._resolution, store, blocked=lambda: self.forked)
        self._reader = SequencerReader(
            sources=self._sources,
            chain_id=self._chain_id,
            verify_finality=self._verify_finality,
            start=last,
            take=self._take_height,
            forked=self._feed.wake,
            tracer=self._tracer,
        )
        self._opened.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._writer.run(), name="resolver group commit")
            parts = [
                group.create_task(self._reader.run(), name="resolver reader"),
                group.create_task(self._tick(), name="resolver clock"),
                group.create_task(self._submit_notices(), name="resolver notices"),
            ]
            await self._stopping.wait()
            for part in parts:
                part.cancel()
            self._writer.stop()

    def stop(self) -> None:
        """Take nothing more, write what was signed, let `run` return."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when the store is open. Raises Unavailable where the resolver ended before."""
        await self._opened.wait()
        self._check_running()

    @property
    def state(self) -> Resolution:
        """What it knows, to be looked at: epoch, lowest height, who is waited for or evicted, ignored reports."""
        return self._resolution

    @property
    def stalled(self) -> str:
        """Why the sequencer is not read; empty while it is."""
        return "" if self._reader is None else self._reader.stalled

    @property
    def forked(self) -> str:
        """Why no source of the sequencer can be followed for good, and what to do; followers are told. Or empty."""
        return "" if self._reader is None else self._reader.forked

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return {**self._cpu.totals_ns, "commit": self._writer.cpu_ns if self._writer else 0}

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        """See `nodes.ports.Mailbox`. Nothing is durable when it returns."""
        await self.wait_ready()
        with self._cpu.measure("reports"):
            # All are read first: a call with one false report changes nothing.
            read = [(signed, decode_report(signed.report)) for signed in reports]
            for signed, report in read:
                reporter = self._reporters.get(report.network_id)
                if reporter is None or signer_of_report(signed, chain_id=self._chain_id) != reporter:
                    self._resolution.ignored["signature"] += 1
                    continue
                self._follow_up(self._resolution.report(signed, report, now_ns=self._clock.monotonic_ns()))

    async def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        """See `nodes.ports.Mailbox`."""
        await self.wait_ready()
        assert self._feed is not None, "ready"
        async with aclosing(self._feed.follow(after)) as events:
            async for event in events:
                yield event

    async def void(self, bundles: Iterable[VoidedBundle]) -> None:
        """Begin a new epoch without these bundles, once its notice is in the log. Repeat it until they are voided.

        Many take several epochs, one after the other. Raises InvalidInput as `Resolution.void`, Unavailable where the
        resolver stops.
        """
        await self.wait_ready()
        self._follow_up(self._resolution.void(bundles, now_ns=self._clock.monotonic_ns()))

    def _check_running(self) -> None:
        if self._stopping.is_set() or self._feed is None:
            raise Unavailable("the resolver stops; connect again")

    def _restore(self, store: ResolverStore) -> ReadHeight | None:
        """Take up where the store ends; in a thread, before anything else runs."""
        heights = list(store.heights())
        self._outgoing = {signed.notice: signed for signed in store.outgoing()}
        self._resolution.restore(
            heights=((stored.ref.height, stored.touched) for stored in heights),
            journal=store.journal(),
            outgoing=[decode_notice(signed.notice) for signed in self._outgoing.values()],
            banned=[found.network_id for found in store.evidence()],
            now_ns=self._clock.monotonic_ns(),
        )
        if not heights:
            return None
        last = heights[-1]
        return ReadHeight(ref=last.ref, time_ns=last.time_ns, touched=last.touched, payloads=())

    async def _take_height(self, read: ReadHeight) -> None:
        """A firm height. Written before what follows from it, in the order in which it is found again."""
        assert self._writer is not None, "the reader runs beside the writer"
        await self._writer.wait_room()
        notices = [found for payload in read.payloads if (found := self._notice_in(payload)) is not None]
        self._writer.put(
            KeepHeight(StoredHeight(read.ref, read.time_ns, read.touched), tuple(signed for signed, _ in notices))
        )
        for signed, notice in notices:
            self._outgoing.pop(signed.notice, None)
            self._trace_notice(notice)
        self._follow_up(
            self._resolution.sequenced(read.ref.height, read.touched, notices, now_ns=self._clock.monotonic_ns())
        )

    def _notice_in(self, payload: bytes) -> tuple[SignedNotice, Notice] | None:
        """The notice, where the resolver signed it. Anybody may log anything under the reserved id."""
        signed = notice_of_payload(payload)
        try:
            return signed, verified_notice(signed, chain_id=self._chain_id, params=self._params)
        except InvalidVerdict as error:
            _log.warning("an entry of %d bytes in the log is no notice: %s", len(payload), error)
            return None

    def _follow_up(self, instructions: Iterable[Instruction]) -> None:
        assert self._feed is not None, "ready"
        assert self._writer is not None, "ready"
        for instruction in instructions:
            match instruction:
                case SignVerdict():
                    self._sign(instruction)
                case CloseRound(event=closed):
                    kept = KeptRound(epoch=closed.epoch, height=closed.height, reports=closed.reports)
                    self._writer.put(KeepRound(kept), announce=self._feed.hold_round())
                case PostNotice(notice=notice):
                    if notice.kind is NoticeKind.VOID:
                        self._feed.void(notice.height)
                    self._feed.wake()
                case LogNotice(notice=notice):
                    self._log_notice(notice)
                case PublishEvidence():
                    self._publish(instruction)

    def _sign(self, made: SignVerdict) -> None:
        assert self._writer is not None, "ready"
        with self._cpu.measure("sign"):
            digest = verdict_digest(made.encoded, chain_id=self._chain_id)
            signed = SignedVerdict(made.encoded, sign_digest(digest, self._key))
        kept = KeptVerdict(
            epoch=made.verdict.epoch, height=made.verdict.height, hash=verdict_hash(made.encoded), heads=made.heads
        )
        self._writer.put(KeepVerdict(kept, signed, made.rounds), announce=partial(self._announce, made, kept, signed))

    def _announce(self, made: SignVerdict, kept: KeptVerdict, signed: SignedVerdict) -> None:
        assert self._feed is not None, "ready"
        if not self._feed.announce(kept.height, kept.hash, VerdictSigned(signed=signed, rounds=made.rounds)):
            return
        aborts = made.verdict.aborts.aborts
        self._tracer.record(
            VerdictIssued(
                epoch=kept.epoch,
                height=kept.height,
                rounds=made.verdict.rounds,
                aborted=len(aborts),
                struck_together=sum([abort.struck_together for abort in aborts]),
                networks=len(made.heads),
            )
        )

    def _log_notice(self, notice: Notice) -> None:
        assert self._writer is not None, "ready"
        encoded = encode_notice(notice)
        digest = notice_digest(encoded, chain_id=self._chain_id)
        signed = SignedNotice(encoded, sign_digest(digest, self._key))
        self._writer.put(KeepOutgoing(signed), announce=partial(self._begin_submitting, signed))

    def _begin_submitting(self, signed: SignedNotice) -> None:
        self._outgoing[signed.notice] = signed
        self._to_submit.set()

    def _publish(self, evidence: PublishEvidence) -> None:
        assert self._writer is not None, "ready"
        found = EvidenceFound(accused=f"network {evidence.network_id}", detail=evidence.detail)
        self._writer.put(
            KeepEvidence(evidence.network_id, evidence.detail, evidence.reports),
            announce=partial(self._tracer.record, found),
        )
        _log.error("evidence against network %d: %s", evidence.network_id, evidence.detail)

    def _trace_notice(self, notice: Notice) -> None:
        self._tracer.record(
            NoticeLogged(
                kind=notice.kind.name.lower(),
                epoch=notice.epoch,
                height=notice.height,
                network_id=notice.network_id,
                voided=len(notice.voided),
            )
        )

    async def _tick(self) -> None:
        """Tell the rule the time, several times within one report timeout."""
        interval_s = min(MAX_TICK_S, max(MIN_TICK_S, self._timeout_ms / _MS_PER_S / TICKS_PER_TIMEOUT))
        while True:
            await asyncio.sleep(interval_s)
            self._follow_up(self._resolution.tick(self._clock.monotonic_ns()))

    async def _submit_notices(self) -> None:
        """Submit what is to be logged, again and again until it is read back."""
        attempt = 0
        while True:
            self._to_submit.clear()
            if self._outgoing:
                name, sequencer = self._sources[attempt % len(self._sources)]
                attempt += 1
                self._crash("resolver.before_notice")
                await self._submit(name, sequencer, [_submission(signed) for signed in self._outgoing.values()])
                self._crash("resolver.after_notice")
            try:
                async with asyncio.timeout(NOTICE_RETRY_S if self._outgoing else None):
                    await self._to_submit.wait()
            except TimeoutError:
                pass  # not read back yet

    async def _submit(self, name: str, sequencer: Sequencer, submissions: Sequence[bytes]) -> None:
        try:
            tickets = await sequencer.submit(submissions)
        except TestbedError as error:
            _log.warning("%s took no notice: %s", name, error)
            return
        for ticket in tickets:
            if not ticket.accepted:
                _log.error("%s refuses a notice: %s", name, ticket.reason)


def _submission(signed: SignedNotice) -> bytes:
    """A notice as a plain submission."""
    leg = Leg(rollup_id=NOTICE_ROLLUP_ID, payload=notice_payload(signed), leg_hash=LegHash(b""))
    return bundle_to_bytes(Bundle(version=0, expiry=0, legs=(leg,)))
