"""Kill -9 of a resolver at the instants that matter: no verdict that anybody saw changes, and nothing stands still."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodes.model.ids import NOTICE_ROLLUP_ID
from nodes.model.verdict import NoticeKind
from nodes.rules.verdict import decode_notice, notice_of_payload
from nodes.wire.mailbox import MailboxClient
from nodes.wire.sequencer import SequencerClient
from tests.integration.test_resolver import PARAMS, events_of, following, height_of, sequencing, verdicts_of
from tests.support.resolver_rollups import NOWHERE, Rollup, submission
from tests.support.sequencers import WAIT_S, blocks_until


@asynccontextmanager
async def process(
    directory: Path, sequencer: SequencerClient, specification: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A resolver's process and its address; killed when the block is left."""
    arguments = ("-m", "tests.support.resolver_process", str(directory), sequencer.address, specification, "250")
    child = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        assert child.stdout is not None
        async with asyncio.timeout(WAIT_S):
            line = await child.stdout.readline()
        yield child, line.decode().strip()
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def submit_until_ended(
    child: asyncio.subprocess.Process, sequencer: SequencerClient, rollups: tuple[Rollup, Rollup]
) -> None:
    """Give the rollups work, some of which fails; the second one then falls silent, and is heard again."""
    count = 0
    async with asyncio.timeout(WAIT_S):
        while child.returncode is None:
            count += 1
            payload = b"%s %d" % (b"bad" if count % 3 == 0 else b"good", count)
            await sequencer.submit([submission(1, payload), submission(2, payload)])
            rollups[1].is_silent = count % 60 > 20
            try:
                async with asyncio.timeout(0.01):
                    await child.wait()
            except TimeoutError:
                pass  # it lives
    assert child.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "place",
    ["in_commit:20", "after_commit:25", "before_notice:1", "after_notice:2"],
)
async def test_a_kill_changes_no_verdict_that_was_seen(tmp_path: Path, place: str) -> None:
    a, b = Rollup(1, PARAMS), Rollup(2, PARAMS)
    async with sequencing(tmp_path) as sequencer:
        async with process(tmp_path / "resolver", sequencer, f"resolver.{place}") as (child, address):
            async with MailboxClient(address) as mailbox, following((a, b), sequencer, mailbox):
                await submit_until_ended(child, sequencer, (a, b))
        b.is_silent = False
        seen = max((a, b), key=lambda rollup: rollup.reader.height)
        before = verdicts_of(seen.events)
        async with process(tmp_path / "resolver", sequencer) as (_, address):
            async with MailboxClient(address) as mailbox, following((a, b), sequencer, mailbox):
                height = await height_of(sequencer, 1, b"after the kill")
                # Both go on from the verdict they had, which `VerdictReader` would not take otherwise.
                await a.wait_height(height)
                await b.wait_height(height)
                after = verdicts_of(await events_of(mailbox, NOWHERE, height=height))
        logged = [
            decode_notice(notice_of_payload(payload).notice)
            for block in await blocks_until(sequencer, NOTICE_ROLLUP_ID, height=height)
            for payload in block.content.payloads
        ]
    assert after[: len(before)] == before
    assert a.reader.hash == b.reader.hash
    # Each notice once, whatever was submitted again.
    assert len(logged) == len(set(logged))
    assert all(notice.kind in (NoticeKind.EVICT, NoticeKind.REJOIN) for notice in logged)
