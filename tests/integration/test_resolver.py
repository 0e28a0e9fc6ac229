"""The resolver over real gRPC with a real sequencer: verdicts, rounds, evictions, new epochs, evidence, restarts."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from contextlib import closing as closing_now
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.agglayer.resolver_store import ResolverStore
from nodes.model.agglayer import NetworkId
from nodes.model.errors import InvalidInput, InvalidVerdict, LimitExceeded
from nodes.model.ids import NOTICE_ROLLUP_ID, Height
from nodes.model.verdict import (
    MailboxEvent,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedReport,
    VerdictRef,
    VerdictSigned,
    VoidedBundle,
)
from nodes.rules.evaluation import signer_of_report
from nodes.rules.verdict import decode_notice, decode_report, decode_verdict, notice_of_payload, verdict_hash
from nodes.telemetry.clock import ManualClock, SystemClock
from nodes.telemetry.events import EvidenceFound, NoticeLogged, VerdictIssued
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.mailbox import MAX_REPORTS_PER_CALL, MailboxClient
from nodes.wire.sequencer import SequencerClient
from nodes.wire.streams import closing
from tests.support.crafting import CHAIN_ID, make_testnet
from tests.support.resolver_rollups import (
    NOWHERE,
    Rollup,
    bad_bundle,
    make_resolver,
    serving_resolver,
    submission,
    until_evicted,
)
from tests.support.sequencers import WAIT_S, blocks_until, make_node, sequenced_height, serving
from tests.support.verdict_model import make_params, reporter_key, rollup_of, sign_report

PARAMS = make_params(2)
REPORT_TIMEOUT_MS = 200


@asynccontextmanager
async def sequencing(directory: Path) -> AsyncIterator[SequencerClient]:
    """A real lazy sequencer of the two rollups."""
    testnet = make_testnet([rollup_of(1), rollup_of(2)])
    async with serving(make_node(directory / "sequencer", testnet=testnet)) as client:
        yield client


@asynccontextmanager
async def following(
    rollups: Sequence[Rollup], sequencer: SequencerClient, mailbox: MailboxClient
) -> AsyncIterator[None]:
    """Rollups that run until the block is left."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(rollup.run(sequencer, mailbox)) for rollup in rollups]
        yield
        for task in tasks:
            task.cancel()


def make_rollups() -> tuple[Rollup, Rollup]:
    return Rollup(1, PARAMS), Rollup(2, PARAMS)


async def events_of(mailbox: MailboxClient, after: VerdictRef, *, height: int) -> list[MailboxEvent]:
    """What a follower gets up to the verdict of a height."""
    events = []
    async with asyncio.timeout(WAIT_S), closing(mailbox.follow(after)) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, VerdictSigned) and decode_verdict(event.signed.verdict).height == height:
                return events
    raise AssertionError("the stream ended")


def verdicts_of(events: Sequence[MailboxEvent]) -> list[VerdictSigned]:
    return [event for event in events if isinstance(event, VerdictSigned)]


async def height_of(sequencer: SequencerClient, network: int, payload: bytes) -> int:
    """Where a payload was sequenced."""
    assert (await sequencer.submit([submission(network, payload)]))[0].accepted
    return await sequenced_height(sequencer, rollup_of(network), payload)


async def test_every_height_gets_a_verdict_that_everybody_can_check(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    a, b = make_rollups()
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(tmp_path / "resolver", sequencer, tracer=tracer)
        async with serving_resolver(resolver) as mailbox, following((a, b), sequencer, mailbox):
            await height_of(sequencer, 1, b"one")
            await height_of(sequencer, 2, b"two")
            height = await height_of(sequencer, 1, b"bad apple")
            await a.wait_height(height + 2)
            late = await events_of(mailbox, NOWHERE, height=height + 2)
            await b.wait_height(height + 2)
    (abort,) = decode_verdict(verdicts_of(late)[height - 1].signed.verdict).aborts.aborts
    assert abort.bundle_hash == bad_bundle(b"bad apple")
    (closed,) = [event for event in a.events if isinstance(event, RoundClosed)]
    assert (closed.height, closed.round_number) == (height, 0)
    assert verdicts_of(late)[height - 1].rounds[0] == closed.reports
    heights = [decode_verdict(event.signed.verdict).height for event in verdicts_of(late)]
    assert heights == list(range(1, height + 3))
    issued = [record.event for record in tracer.stamped if isinstance(record.event, VerdictIssued)]
    (struck,) = [event for event in issued if event.aborted]
    assert (struck.height, struck.rounds, struck.networks, struck.struck_together) == (height, 2, 1, 0)


async def test_a_follower_goes_on_where_it_stood(tmp_path: Path) -> None:
    async with sequencing(tmp_path) as sequencer:
        async with serving_resolver(make_resolver(tmp_path / "resolver", sequencer)) as mailbox:
            first = await events_of(mailbox, NOWHERE, height=3)
            digest = verdict_hash(verdicts_of(first)[1].signed.verdict)
            rest = await events_of(mailbox, VerdictRef(0, Height(2), digest), height=4)
            assert [decode_verdict(event.signed.verdict).height for event in verdicts_of(rest)] == [3, 4]
            for wrong in (VerdictRef(0, Height(2), bytes(32)), VerdictRef(3, Height(0), bytes(32))):
                with pytest.raises(InvalidVerdict):
                    await events_of(mailbox, wrong, height=4)


async def test_what_is_no_report_is_refused_and_a_foreign_one_ignored(tmp_path: Path) -> None:
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(tmp_path / "resolver", sequencer)
        async with serving_resolver(resolver) as mailbox:
            with pytest.raises(InvalidVerdict):
                await mailbox.submit_reports([SignedReport(b"nonsense", bytes(65))])
            with pytest.raises(InvalidVerdict):
                await mailbox.submit_reports([SignedReport(b"nonsense", b"short")])
            foreign = sign_report(some_report(), reporter_key(2))
            await mailbox.submit_reports([foreign])
            with pytest.raises(LimitExceeded):
                await mailbox.submit_reports([foreign] * (MAX_REPORTS_PER_CALL + 1))
            assert resolver.state.ignored["signature"] == 1
            with pytest.raises(InvalidInput, match="voided"):
                await resolver.void([VoidedBundle(Height(10**6), 0, bad_bundle(b"none"))])


def some_report() -> Report:
    return Report(
        epoch=0, height=Height(1), network_id=NetworkId(1), aborts_hash=bytes(32), parent_hash=bytes(32),
        block_hash=bytes(32), failures=(), exits=(), mints=(),
    )  # fmt: skip


async def test_a_silent_rollup_is_evicted_through_the_log_and_rejoins(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    a, b = make_rollups()
    b.is_silent = True
    clock = ManualClock()
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(
            tmp_path / "resolver", sequencer, report_timeout_ms=REPORT_TIMEOUT_MS, clock=clock, tracer=tracer
        )
        async with serving_resolver(resolver) as mailbox, following((a, b), sequencer, mailbox):
            height = await height_of(sequencer, 2, b"nobody reports this")
            await until_evicted(resolver, clock, 2, report_timeout_ms=REPORT_TIMEOUT_MS)
            await a.wait_height(height)
            b.is_silent = False
            count = 0
            while resolver.state.evicted:
                count += 1
                await height_of(sequencer, 2, b"something to report %d" % count)
            await b.wait_height(resolver.state.lowest - 1)
            again = await height_of(sequencer, 2, b"back again")
            await b.wait_height(again)
            late = await events_of(mailbox, NOWHERE, height=again)
            logged = [
                decode_notice(notice_of_payload(payload).notice)
                for block in await blocks_until(sequencer, NOTICE_ROLLUP_ID, height=again)
                for payload in block.content.payloads
            ]
    assert [notice.kind for notice in logged] == [NoticeKind.EVICT, NoticeKind.REJOIN]
    assert logged[0].height == height
    verdicts = [decode_verdict(event.signed.verdict) for event in verdicts_of(late)]
    carrying = [(verdict.height, decode_notice(entry.notice).kind) for verdict in verdicts for entry in verdict.notices]
    assert carrying == [(height, NoticeKind.EVICT), (logged[1].height, NoticeKind.REJOIN)]
    assert (verdicts[height - 1].rounds, verdicts[height - 1].aborts.evicted) == (0, (2,))
    assert (verdicts[again - 1].rounds, verdicts[again - 1].aborts.evicted) == (1, ())
    kinds = [record.event.kind for record in tracer.stamped if isinstance(record.event, NoticeLogged)]
    assert kinds == ["evict", "rejoin"]


async def test_a_new_epoch_is_told_to_those_who_were_in_the_old_one(tmp_path: Path) -> None:
    a, b = make_rollups()
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(tmp_path / "resolver", sequencer)
        async with serving_resolver(resolver) as mailbox, following((a, b), sequencer, mailbox):
            height = await height_of(sequencer, 1, b"a leg that is to go")
            await a.wait_height(height + 3)
            left = a.ref
            await resolver.void([VoidedBundle(Height(height), 0, bad_bundle(b"a leg that is to go"))])
            await a.wait(lambda: a.reader.epoch == 1 and a.reader.height >= height + 3)
            await b.wait(lambda: b.reader.epoch == 1 and b.reader.height >= height + 3)
            resumed = await events_of(mailbox, left, height=height + 3)
            fresh = await events_of(mailbox, NOWHERE, height=height + 3)
    assert isinstance(resumed[0], NoticePosted)
    assert decode_notice(resumed[0].signed.notice).kind is NoticeKind.VOID
    assert verdicts_of(resumed) == verdicts_of(fresh)[height - 1 :]
    epochs = [decode_verdict(event.signed.verdict).epoch for event in verdicts_of(fresh)]
    assert epochs == [0] * (height - 1) + [1] * 4


async def test_who_comes_late_is_told_of_every_epoch(tmp_path: Path) -> None:
    a, b = make_rollups()
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(tmp_path / "resolver", sequencer)
        async with serving_resolver(resolver) as mailbox, following((a, b), sequencer, mailbox):
            low = await height_of(sequencer, 1, b"the second to go")
            high = await height_of(sequencer, 1, b"the first to go")
            await a.wait_height(high)
            left = a.ref
            await resolver.void([VoidedBundle(Height(high), 0, bad_bundle(b"the first to go"))])
            # The height above is not resolved again yet, or just is: either way both are voided in the end.
            await resolver.void([VoidedBundle(Height(low), 0, bad_bundle(b"the second to go"))])
            await a.wait(lambda: a.reader.epoch == 2 and a.reader.height >= high)
            await b.wait(lambda: b.reader.epoch == 2 and b.reader.height >= high)
            resumed = await events_of(mailbox, left, height=high)
            fresh = await events_of(mailbox, NOWHERE, height=high)
        async with serving_resolver(make_resolver(tmp_path / "resolver", sequencer)) as mailbox:
            restarted = await events_of(mailbox, NOWHERE, height=high)
    assert verdicts_of(resumed) == verdicts_of(fresh)[low - 1 :]
    assert restarted == fresh
    verdicts = {decode_verdict(event.signed.verdict).height: event.signed.verdict for event in verdicts_of(fresh)}
    for height, payload in ((low, b"the second to go"), (high, b"the first to go")):
        struck = decode_verdict(verdicts[Height(height)]).aborts.aborts
        assert [abort.bundle_hash for abort in struck] == [bad_bundle(payload)]


async def test_two_reports_of_one_execution_are_evidence_and_the_end(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    a, b = make_rollups()
    async with sequencing(tmp_path) as sequencer:
        resolver = make_resolver(tmp_path / "resolver", sequencer, tracer=tracer)
        async with serving_resolver(resolver) as mailbox, following((a, b), sequencer, mailbox):
            height = await height_of(sequencer, 2, b"first")
            await b.wait_height(height)
            report = next(signed for event in verdicts_of(b.events) for signed in sum(event.rounds, ()))
            other = sign_report(replace(decode_report(report.report), block_hash=bytes(32)))
            await mailbox.submit_reports([other])
            last = await height_of(sequencer, 2, b"second")
            await a.wait_height(last)
            assert list(resolver.state.evicted) == [2]
    (found,) = [record.event for record in tracer.stamped if isinstance(record.event, EvidenceFound)]
    assert found.accused == "network 2"
    with closing_store(tmp_path / "resolver") as store:
        (kept,) = store.evidence()
    assert (kept.network_id, kept.detail, set(kept.reports)) == (2, found.detail, {report, other})
    assert {signer_of_report(signed, chain_id=CHAIN_ID) for signed in kept.reports} == {PARAMS.networks[1].reporter}


def closing_store(directory: Path) -> "closing_now[ResolverStore]":
    return closing_now(ResolverStore(directory, chain_id=CHAIN_ID))


async def test_a_restart_changes_no_verdict_and_goes_on(tmp_path: Path) -> None:
    a, b = make_rollups()
    async with sequencing(tmp_path) as sequencer:
        async with serving_resolver(make_resolver(tmp_path / "resolver", sequencer)) as mailbox:
            async with following((a, b), sequencer, mailbox):
                height = await height_of(sequencer, 1, b"bad egg")
                await a.wait_height(height)
                await b.wait_height(height)
            before = await events_of(mailbox, NOWHERE, height=height)
        pending = await height_of(sequencer, 2, b"while it was down")
        async with serving_resolver(make_resolver(tmp_path / "resolver", sequencer)) as mailbox:
            async with following((a, b), sequencer, mailbox):
                await b.wait_height(pending)
            after = await events_of(mailbox, NOWHERE, height=height)
    assert before == after
