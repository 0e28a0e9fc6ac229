"""Faults that a lazy sequencer can be told to have: forks, and evidence that it keeps back."""

import asyncio
from pathlib import Path

import pytest

from nodes.model.bundle import Bundle
from nodes.model.errors import EvidenceMissing, InvalidBlock, InvalidInput
from nodes.model.faults import EvidenceKind, Fork, KillEngine, WithholdEvidence
from nodes.model.ids import Height
from nodes.model.sequenced_block import RolledBack
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import BlockReorged
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.streams import closing
from tests.support.crafting import CHAINS, ROLLUPS, LegPlan, bundle, plain
from tests.support.sequencers import (
    WAIT_S,
    Reader,
    blocks_until,
    fates_of,
    make_node,
    sequenced_height,
    serving,
    submit,
)

A, B = CHAINS[:2]
RA, RB = ROLLUPS[:2]


def pair(nonce: int = 0) -> Bundle:
    return bundle([LegPlan(chain=A, nonce=nonce), LegPlan(chain=B, nonce=nonce)])


async def test_a_fork_is_announced_and_loses_no_submission(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    node = make_node(tmp_path, tracer=tracer)
    reader = Reader(RA)
    payloads = [pair(nonce).legs[0].payload for nonce in range(3)]
    async with serving(node) as client:
        for nonce in range(3):
            await submit(client, pair(nonce))
            await sequenced_height(client, RA, payloads[nonce])
        roll_backs = []
        async with closing(client.follow([], RA)) as stream, asyncio.timeout(WAIT_S):
            async for event in stream:
                reader.take(event)
                if isinstance(event, RolledBack):
                    roll_backs.append(event.to.height)
                elif not roll_backs and reader.head.height == 6:
                    await node.inject(Fork(height=Height(1)))
                elif roll_backs and len(fates_of({RA: reader})[RA]) == 3:
                    break
        again = await submit(client, *[pair(nonce) for nonce in range(3)])
        assert all(ticket.duplicate for ticket in again)
        served = await blocks_until(client, RA, height=reader.head.height)
    assert roll_backs == [1]
    assert [*reader.blocks.values()] == served
    assert [payload for block in served for payload in block.content.payloads] == payloads
    (reorged,) = [record.event for record in tracer.stamped if isinstance(record.event, BlockReorged)]
    assert reorged.to_height == 1


async def test_a_follower_that_was_away_during_a_fork_is_rolled_back_when_it_returns(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    reader = Reader(RA)
    async with serving(node) as client:
        await submit(client, pair())
        await reader.read_until(client, 8)
        await node.inject(Fork(height=Height(5)))
        await blocks_until(client, RA, height=9)
        events = []
        async with closing(client.follow(reader.locator(), RA)) as stream:
            async for event in stream:
                events.append(event)
                reader.take(event)
                if reader.head.height == 9:
                    break
        served = await blocks_until(client, RA, height=9)
    assert isinstance(events[0], RolledBack)
    assert events[0].to.height == 5
    assert [*reader.blocks.values()] == served


async def test_a_fork_survives_a_restart(tmp_path: Path) -> None:
    node = make_node(tmp_path)
    async with serving(node) as client:
        await submit(client, pair())
        height = await sequenced_height(client, RA, pair().legs[0].payload)
        await node.inject(Fork(height=Height(height - 1)))
    async with serving(make_node(tmp_path)) as client:
        (ticket,) = await submit(client, pair())
        assert ticket.duplicate
        height = await sequenced_height(client, RA, pair().legs[0].payload)
        served = await blocks_until(client, RA, height=height + 2)
    assert sum(len(block.content.payloads) for block in served) == 1


async def test_only_blocks_in_memory_can_be_abandoned(tmp_path: Path) -> None:
    async with serving(make_node(tmp_path)) as client:
        await blocks_until(client, RA, height=5)
    node = make_node(tmp_path)
    async with serving(node) as client:
        head = (await client.status()).head.height
        await blocks_until(client, RA, height=head + 1)
        for height in (0, 3, head + 100):
            with pytest.raises(InvalidInput, match=f"cannot fork above height {height}"):
                await node.inject(Fork(height=Height(height)))
        with pytest.raises(InvalidInput, match="KillEngine"):
            await node.inject(KillEngine())


@pytest.mark.parametrize("kind", EvidenceKind)
async def test_a_reader_stalls_on_every_element_that_is_withheld(tmp_path: Path, kind: EvidenceKind) -> None:
    """And derives the block when it asks again and gets all of it."""
    node = make_node(tmp_path, block_interval_ms=50)
    async with serving(node) as client:
        await node.inject(WithholdEvidence(kind=kind, blocks=2))
        # A plain transaction on the sibling gives its tree a second leaf, so that a proof is not empty.
        await submit(client, pair(), plain(LegPlan(chain=B, key=1)))
        stalls = 0
        reader = Reader(RA)
        async with asyncio.timeout(WAIT_S):
            while not fates_of({RA: reader})[RA]:
                # A stream is left only at a stall: a block served into one that its reader had left would count too.
                try:
                    async with closing(client.follow(reader.locator(), RA)) as stream:
                        async for event in stream:
                            reader.take(event)
                            if fates_of({RA: reader})[RA]:
                                break
                except (EvidenceMissing, InvalidBlock):
                    stalls += 1
        other = Reader(RB)
        await other.read_until(client, reader.head.height)
    assert stalls == 2
    assert fates_of({RA: reader, RB: other}) == {RA: ["admitted"], RB: ["admitted", "admitted"]}
