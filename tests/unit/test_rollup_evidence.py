"""What nobody honest can have signed stalls a node, readably, and is evidence."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Height
from nodes.model.verdict import (
    NO_ABORTS,
    MailboxEvent,
    Notice,
    NoticeKind,
    NoticePosted,
    RoundClosed,
    SignedNotice,
    SignedReport,
    SignedVerdict,
    VerdictRef,
    VerdictSigned,
)
from nodes.ports import Mailbox
from nodes.rollup import notices
from nodes.rules.signing import sign_digest
from nodes.rules.verdict import decode_verdict, encode_notice, encode_verdict, notice_digest, verdict_digest
from nodes.telemetry.events import EvidenceFound, HeightResolved
from tests.support.crafting import CHAIN_ID
from tests.support.rollup_verdicts import (
    RESOLVER_KEY,
    REVERTS,
    VerdictWorld,
    pair,
    resolved,
)


async def test_a_node_that_lies_about_outcomes_lets_a_reverted_bundle_stand(tmp_path: Path) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving():
        here, there = world.bench(1), world.bench(2, agglayer={"lies": "outcomes"})
        world.sequencer.cut(pair(0, 0, there=REVERTS))
        async with here.running(), there.running():
            await resolved(here, 1)
            await resolved(there, 1)
            honest = world.bench(2, "honest")
            async with honest.running() as node:
                evidence = await honest.traced(EvidenceFound)
                assert "network 2" in evidence.accused
                assert "failures" in (await node.status()).stalled
                assert node.heads.safe.number == 0


class FalseMailbox:
    """Passes everything on but changes the events."""

    def __init__(self, honest: Mailbox, change: Callable[[MailboxEvent], MailboxEvent]) -> None:
        self._honest = honest
        self._change = change

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        await self._honest.submit_reports(reports)

    async def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        async for event in self._honest.follow(after):
            yield self._change(event)


def signed_anew(**changes: Any) -> Callable[[MailboxEvent], MailboxEvent]:
    """The resolver signs another verdict than the reports give."""

    def change(event: MailboxEvent) -> MailboxEvent:
        if not isinstance(event, VerdictSigned):
            return event
        data = encode_verdict(replace(decode_verdict(event.signed.verdict), **changes))
        return replace(
            event, signed=SignedVerdict(data, sign_digest(verdict_digest(data, chain_id=CHAIN_ID), RESOLVER_KEY))
        )

    return change


def unsigned(event: MailboxEvent) -> MailboxEvent:
    """Somebody else signed the verdict."""
    if not isinstance(event, VerdictSigned):
        return event
    return replace(event, signed=event.signed._replace(signature=bytes(65)))


def without_reports(event: MailboxEvent) -> MailboxEvent:
    """The verdict comes without what it follows from."""
    return replace(event, rounds=()) if isinstance(event, VerdictSigned) else event


def closed_early(event: MailboxEvent) -> MailboxEvent:
    """A round lacks a report."""
    return replace(event, reports=event.reports[:1]) if isinstance(event, RoundClosed) else event


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (signed_anew(aborts=NO_ABORTS), "abort set is not the one"),
        (signed_anew(previous=b"\x01" * 32), "follows"),
        (signed_anew(epoch=1), "epoch"),
        (unsigned, "not signed by the resolver"),
        (without_reports, "not signed for the 0 rounds"),
        (closed_early, "reports of networks"),
    ],
)
async def test_a_contradiction_stalls_a_node_and_is_evidence(
    tmp_path: Path, change: Callable[[MailboxEvent], MailboxEvent], complaint: str
) -> None:
    world = VerdictWorld(tmp_path)
    async with world.resolving() as resolver:
        there = world.bench(2)
        world.sequencer.cut(pair(0, 0, there=REVERTS))
        world.sequencer.cut(pair(0, 1))
        async with there.running():
            here = world.bench(1, mailbox=FalseMailbox(resolver, change))
            async with here.running() as node:
                evidence = await here.traced(EvidenceFound)
                assert evidence.accused == "resolver"
                assert complaint in evidence.detail
                assert complaint in (await node.status()).stalled
                assert node.heads.safe.number == 0
            assert not here.events(HeightResolved)
            # An honest source again, and it goes on.
            again = world.bench(1)
            async with again.running():
                await resolved(again, 2)


class NoticingMailbox:
    """Says first that a rollup is back, which nobody logged and changes nothing."""

    def __init__(self, honest: Mailbox) -> None:
        self._honest = honest

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        await self._honest.submit_reports(reports)

    async def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        notice = Notice(kind=NoticeKind.REJOIN, epoch=0, height=Height(1), network_id=NetworkId(2))
        data = encode_notice(notice)
        signature = sign_digest(notice_digest(data, chain_id=CHAIN_ID), RESOLVER_KEY)
        yield NoticePosted(signed=SignedNotice(data, signature))
        async for event in self._honest.follow(after):
            yield event


async def test_a_notice_that_nobody_logged_stalls_a_node_and_is_evidence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "NOTICE_GRACE_HEIGHTS", 3)
    world = VerdictWorld(tmp_path)
    async with world.resolving() as resolver:
        here = world.bench(1, mailbox=NoticingMailbox(resolver))
        async with here.running() as node:
            for count in (6, 1, 6):
                # After 6, beyond what is executed ahead, the notice was taken; at 7 the node asks for the chain's end.
                if world.sequencer.chain:
                    await here.height(len(world.sequencer.chain))
                for _ in range(count):
                    world.sequencer.cut()
            evidence = await here.traced(EvidenceFound)
            assert evidence.accused == "resolver"
            assert "REJOIN of height 1" in evidence.detail
            assert evidence.detail in (await node.status()).stalled
            assert len(here.events(EvidenceFound)) == 1
