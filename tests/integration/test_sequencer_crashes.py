"""Kill -9 at chosen instants: what was acknowledged is neither lost nor doubled, and what was announced stays."""

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.model.errors import Unavailable
from nodes.model.ids import SubmissionHash
from nodes.model.sequenced_block import Commitment, FilteredBlock
from nodes.rules.hashes import sha256
from nodes.telemetry.events import BlockSequenced, CommitmentRaised
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.sequencer import SequencerClient
from nodes.wire.trace_records import read_records
from tests.support.crafting import CHAINS, ROLLUPS, lone
from tests.support.sequencers import WAIT_S, Reader, blocks_until, firm_height, sequenced_height

A = CHAINS[0]
RA = ROLLUPS[0]
LAZY_PLACES = [f"sequencer.{place}" for place in ("in_commit", "after_journal", "after_commit", "after_announcement")]
SOLANA_PLACES = [
    "solana.in_commit",
    "solana.after_commit",
    "solana.after_journal",
    "solana.after_send",
    "solana.after_tick_off",
    "solana.after_forget",
    "solana.reader_before_commit",
    "solana.reader_in_commit",
    "solana.reader_after_commit",
    "sequencer.after_announcement",
]
CASES = [("lazy", place, seed) for place in LAZY_PLACES for seed in (1, 2)]
CASES += [("solana", place, 1) for place in SOLANA_PLACES]
LAST = b"the last payload"


@asynccontextmanager
async def process(
    directory: Path, backend: str, specification: str = ""
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A sequencer's process and its address; killed when the block is left."""
    arguments = ("-m", "tests.support.sequencer_process", str(directory), specification, "20", backend)
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


async def submit_until_killed(client: SequencerClient, acknowledged: list[bytes], sent: list[bytes]) -> None:
    """Submit one payload after the other until the sequencer is gone."""
    while True:
        payload = b"payload %d" % len(sent)
        sent.append(payload)
        try:
            (ticket,) = await client.submit([bundle_to_bytes(lone(A, payload))])
        except Unavailable:
            return
        assert ticket.accepted
        assert not ticket.duplicate
        acknowledged.append(payload)


async def read_until_killed(client: SequencerClient, reader: Reader) -> None:
    """Follow until the sequencer is gone."""
    try:
        await reader.read_until(client, 10**9)
    except Unavailable:
        return


@pytest.mark.parametrize(("backend", "place", "seed"), CASES)
async def test_a_kill_loses_and_doubles_nothing(tmp_path: Path, backend: str, place: str, seed: int) -> None:
    visit = random.Random(f"{place.removeprefix('sequencer.')}-{seed}").randrange(3, 25)
    acknowledged: list[bytes] = []
    sent: list[bytes] = []
    reader = Reader(RA)
    async with process(tmp_path / "node", backend, f"{place}:{visit}") as (child, address):
        async with SequencerClient(address) as client, SequencerClient(address) as follower:
            async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
                group.create_task(read_until_killed(follower, reader))
                group.create_task(submit_until_killed(client, acknowledged, sent))
        assert await child.wait() == -signal.SIGKILL
    announced = dict(reader.blocks)

    async with process(tmp_path / "node", backend) as (_, address), SequencerClient(address) as client:
        # A client that was not answered sends the same bytes again; whether they were taken is the sequencer's to know.
        for payload in (*sent, LAST):
            (ticket,) = await client.submit([bundle_to_bytes(lone(A, payload))])
            assert ticket.accepted
            assert ticket.duplicate or payload not in acknowledged
        # Not always in the order of submission: what was on its way at the kill may come after what was sent later.
        height = max([await sequenced_height(client, RA, payload) for payload in (*sent, LAST)])
        height = await firm_height(client, RA, height)
        await reader.read_until(client, height)
        served = await blocks_until(client, RA, height=height)

    sequenced = Counter(payload for block in served for payload in block.content.payloads)
    assert sequenced == Counter([*sent, LAST])
    # The reader went on where it stood: everything it had been told is still the chain.
    assert {height: served[height - 1] for height in announced} == {
        at: as_firm(block) for at, block in announced.items()
    }
    assert [as_firm(block) for block in reader.blocks.values()] == served
    check_trace(tmp_path / "node" / "sequencer.trace", sent, height)


def as_firm(block: FilteredBlock) -> FilteredBlock:
    """The same block, told once it was firm."""
    return replace(block, commitment=Commitment.FIRM)


def check_trace(path: Path, sent: list[bytes], height: int) -> None:
    """Every sequenced submission has its record, whatever instant the kill met; a repeated record is equal."""
    events = [stamped.event for stamped in read_records(path.read_bytes())]
    blocks: dict[int, BlockSequenced] = {}
    for event in events:
        if isinstance(event, BlockSequenced):
            assert blocks.setdefault(event.height, event) == event
    assert set(blocks) >= set(range(1, height + 1))
    firm = [event.height for event in events if isinstance(event, CommitmentRaised) and event.level == Commitment.FIRM]
    assert max(firm) >= height
    recorded = Counter(found for event in blocks.values() for found in event.submission_hashes)
    expected = [SubmissionHash(sha256(bundle_to_bytes(lone(A, payload)))) for payload in (*sent, LAST)]
    assert {found: recorded[found] for found in expected} == dict.fromkeys(expected, 1)
