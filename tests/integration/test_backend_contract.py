"""What every sequencer backend promises, over real gRPC. Runs over the table: a new line is tested unasked."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from nodes.model import limits
from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import EvidenceMissing, InvalidInput, LimitExceeded, Overloaded, Unavailable, UnknownName
from nodes.model.faults import EvidenceKind, WithholdEvidence
from nodes.model.ids import NOTICE_ROLLUP_ID, HeaderHash, Height, LegHash, RollupId, hex_of, rollup_id_of
from nodes.model.sequenced_block import BlockRef, BlockSequenced, Commitment, FilteredBlock, RolledBack
from nodes.rules import sequenced_block as blocks
from nodes.rules.hashes import sha256
from nodes.rules.payload import sign
from nodes.sequencer.backend import SequencerNode
from nodes.sequencer.backends import BACKENDS, Backend
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import BlockSequenced as TracedBlock
from nodes.telemetry.events import CommitmentRaised
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.sequencer import SequencerClient
from tests.support.crafting import CHAIN_ID, CHAINS, KEYS, ROLLUPS, LegPlan, bundle, lone, make_testnet
from tests.support.sequencer_configs import SIGNING_KEY
from tests.support.sequencers import (
    WAIT_S,
    Reader,
    blocks_until,
    events_until,
    fates_of,
    firm_height,
    make_node,
    sequenced_height,
    serving,
    submit,
)

A, B = CHAINS[:2]
RA, RB = ROLLUPS[:2]
SLOW = 12_000
"""Milliseconds between cuts where a test wants none to happen."""

MakeNode = Callable[..., SequencerNode]


@pytest.fixture(params=BACKENDS.values(), ids=list(BACKENDS))
def backend(request: pytest.FixtureRequest) -> Backend:
    chosen: Backend = request.param
    return chosen


@pytest.fixture
def make(backend: Backend, tmp_path: Path) -> MakeNode:
    """Builds a node of the backend; always on the same directory, as a restart does."""
    return lambda **options: make_node(tmp_path / "sequencer", backend=backend, **options)


def pair(nonce: int = 0) -> Bundle:
    return bundle([LegPlan(chain=A, nonce=nonce), LegPlan(chain=B, nonce=nonce)])


def payload_of(made: Bundle) -> bytes:
    return made.legs[0].payload


async def test_a_bundle_comes_out_whole_proven_and_in_order(make: MakeNode) -> None:
    bundles = [pair(nonce) for nonce in range(20)]
    async with serving(make()) as client:
        for made in bundles:
            (ticket,) = await submit(client, made)
            assert (ticket.accepted, ticket.duplicate, ticket.reason) == (True, False, "")
            assert ticket.submission_hash == sha256(bundle_to_bytes(made))
        last = await sequenced_height(client, RA, payload_of(bundles[-1]))
        readers = {rollup_id: Reader(rollup_id) for rollup_id in ROLLUPS}
        for reader in readers.values():
            await reader.read_until(client, last)
    assert fates_of(readers) == {RA: ["admitted"] * 20, RB: ["admitted"] * 20, ROLLUPS[2]: [], ROLLUPS[3]: []}
    order = [leg.payload for height in sorted(readers[RA].derived) for leg in readers[RA].derived[height].admitted]
    assert order == [payload_of(made) for made in bundles]


async def test_blocks_carry_a_proof_that_the_backends_own_rule_accepts(make: MakeNode, backend: Backend) -> None:
    config = backend.configure({"signing_key": SIGNING_KEY})
    check = backend.verifier(backend.finality_options(config))
    async with serving(make()) as client:
        served = await blocks_until(client, RA, height=3)
    for block in served:
        header_hash = blocks.header_hash(block.header)
        assert check(header_hash, block.finality_proof)
        assert not check(sha256(header_hash), block.finality_proof)
        assert block.commitment in Commitment
    headers = [blocks.decode_header(block.header) for block in served]
    assert [header.height for header in headers] == [1, 2, 3]
    assert all(before.time_ns <= after.time_ns for before, after in pairwise(headers))


async def test_heights_advance_without_any_load(make: MakeNode) -> None:
    async with serving(make()) as client:
        first = (await client.status()).head.height
        await blocks_until(client, RA, height=first + 5)


async def test_the_same_bytes_are_taken_once(make: MakeNode) -> None:
    async with serving(make()) as client:
        together = await submit(client, pair(), pair())
        assert [ticket.duplicate for ticket in together] == [False, True]
        height = await sequenced_height(client, RA, payload_of(pair()))
        (again,) = await submit(client, pair())
        assert (again.accepted, again.duplicate) == (True, True)
        served = await blocks_until(client, RA, height=height + 3)
    assert sum(len(block.content.payloads) for block in served) == 1


async def test_many_calls_at_once_are_each_answered_and_sequenced_once(make: MakeNode) -> None:
    payloads = [b"payload %d" % n for n in range(200)]
    async with serving(make()) as client, asyncio.TaskGroup() as group:
        calls = [group.create_task(submit(client, lone(A, payload))) for payload in payloads for _ in range(2)]
        tickets = [(await call)[0] for call in calls]
        assert all(ticket.accepted for ticket in tickets)
        assert sum(ticket.duplicate for ticket in tickets) == 200
        await submit(client, lone(A, b"the last"))
        height = await sequenced_height(client, RA, b"the last")
        served = await blocks_until(client, RA, height=height)
    sequenced = [payload for block in served for payload in block.content.payloads]
    assert sorted(sequenced) == sorted([*payloads, b"the last"])


async def test_a_submit_stream_keeps_the_order_of_its_requests(make: MakeNode) -> None:
    payloads = [b"payload %03d" % n for n in range(100)]
    async with serving(make()) as client:
        async with client.submit_stream() as stream, asyncio.TaskGroup() as group:
            for payload in payloads:
                group.create_task(stream.send([bundle_to_bytes(lone(A, payload))]))
        height = await sequenced_height(client, RA, payloads[-1])
        served = await blocks_until(client, RA, height=height)
    assert [payload for block in served for payload in block.content.payloads] == payloads


@pytest.mark.parametrize(
    ("submission", "reason"),
    [
        (b"\xff\xff\xff", "not a lockstep.sequencer.v1.Bundle"),
        (b"", "MAX_LEGS_PER_BUNDLE"),
        (bundle_to_bytes(bundle([LegPlan(chain=A), LegPlan(chain=99)])), f"unknown rollup 0x{99:064x}"),
        (bundle_to_bytes(lone(A, b"")), "payload is empty"),
        (bundle_to_bytes(lone(A, bytes(limits.MAX_PAYLOAD_BYTES + 1))), "MAX_PAYLOAD_BYTES is 131,072"),
        (bytes(limits.MAX_SUBMISSION_BYTES + 1), "MAX_SUBMISSION_BYTES is 524,288"),
        (bundle_to_bytes(bundle([LegPlan(chain=A), LegPlan(chain=B)], leg_hashes=[b"", b"x"])), "leg_hash has 0 bytes"),
        (bundle_to_bytes(lone(A, bytes(5_000))), "block_bytes_max is 4,096, but 5,000 was offered"),
    ],
    ids=["no bundle", "no leg", "unknown rollup", "no payload", "payload", "submission", "leg hash", "block"],
)
async def test_bad_submissions_are_refused_alone_with_the_reason(
    make: MakeNode, submission: bytes, reason: str
) -> None:
    async with serving(make(block_bytes_max=4_096)) as client:
        before, refused, after = await client.submit([bundle_to_bytes(pair(0)), submission, bundle_to_bytes(pair(1))])
        assert (before.accepted, refused.accepted, after.accepted) == (True, False, True)
        assert reason in refused.reason


async def test_256_legs_are_refused_naming_the_limit(make: MakeNode) -> None:
    made = Bundle(version=1, expiry=0, legs=pair().legs * 128)
    async with serving(make()) as client:
        (ticket,) = await submit(client, made)
    assert not ticket.accepted
    assert all(part in ticket.reason for part in ("MAX_LEGS_PER_BUNDLE", "255", "256"))


async def test_255_legs_are_sequenced(make: MakeNode) -> None:
    made = Bundle(version=1, expiry=0, legs=(pair().legs * 128)[:255])
    async with serving(make(testnet=make_testnet(max_payloads=128))) as client:
        (ticket,) = await submit(client, made)
        assert ticket.accepted, ticket.reason
        await sequenced_height(client, RB, made.legs[1].payload)


async def test_no_block_holds_more_payloads_of_a_rollup_than_its_readers_take(make: MakeNode) -> None:
    async with serving(make(testnet=make_testnet(max_payloads=2))) as client:
        too_many = Bundle(version=1, expiry=0, legs=pair().legs * 3)
        *taken, refused = await submit(client, *[pair(nonce) for nonce in range(5)], too_many)
        assert all(ticket.accepted for ticket in taken)
        assert f"max_payloads of rollup {hex_of(RA)} is 2, but 3 was offered" in refused.reason
        last = await sequenced_height(client, RB, pair(4).legs[1].payload)
        served = await blocks_until(client, RA, height=last)
    counts = [len(block.content.payloads) for block in served]
    assert max(counts) == 2
    assert sum(counts) == 5


async def test_too_much_in_one_call_names_the_limit(make: MakeNode) -> None:
    async with serving(make()) as client:
        with pytest.raises(LimitExceeded, match="4,096, but 4,097"):
            await client.submit([b""] * 4_097)
        with pytest.raises(LimitExceeded, match="MAX_MESSAGE_BYTES is 33,554,432"):
            await client.submit([bytes(limits.MAX_MESSAGE_BYTES)])


async def test_a_full_mempool_takes_nothing_and_hints_when_to_retry(make: MakeNode) -> None:
    async with serving(make(block_interval_ms=SLOW, mempool_bundles_max=3)) as client:
        await submit(client, pair(0), pair(1))
        with pytest.raises(Overloaded) as refused:
            await submit(client, pair(2), pair(3))
        assert 1 <= refused.value.retry_after_ms <= SLOW
        assert (await client.status()).pending_bundles == 2
        (ticket,) = await submit(client, pair(2))
        assert ticket.accepted
        (known,) = await submit(client, pair(0))
        assert known.duplicate, "what is known needs no room"


async def test_an_overloaded_client_that_heeds_the_hint_gets_through(make: MakeNode) -> None:
    async with serving(make(mempool_bundles_max=5)) as client:
        for nonce in range(30):
            await _submit_patiently(client, pair(nonce))
        await sequenced_height(client, RA, payload_of(pair(29)))


async def _submit_patiently(client: SequencerClient, made: Bundle) -> None:
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                await submit(client, made)
                return
            except Overloaded as full:
                await asyncio.sleep(full.retry_after_ms / 1_000)


async def test_blocks_keep_to_their_bytes_and_bundles_stay_whole(make: MakeNode) -> None:
    bundles = [pair(nonce) for nonce in range(40)]
    async with serving(make(block_bytes_max=2_000)) as client:
        await submit(client, *bundles)
        height = await sequenced_height(client, RA, payload_of(bundles[-1]))
        counts = {}
        for rollup_id in (RA, RB):
            served = await blocks_until(client, rollup_id, height=height)
            counts[rollup_id] = [len(block.content.payloads) for block in served]
    assert counts[RA] == counts[RB]
    assert sum(counts[RA]) == len(bundles)
    assert max(counts[RA]) <= 2_000 // sum(len(leg.payload) for leg in bundles[0].legs)


async def test_a_follower_starts_anywhere_and_gets_every_block(make: MakeNode) -> None:
    async with serving(make()) as client:
        served = await blocks_until(client, RA, height=8)
        refs = [
            BlockRef(height=Height(at + 1), hash=blocks.header_hash(block.header)) for at, block in enumerate(served)
        ]
        events = await events_until(client, [refs[4], refs[2], refs[0]], RA, height=8)
    assert not any(isinstance(event, RolledBack) for event in events)
    assert _heights(events) == [6, 7, 8]


async def test_a_stale_locator_is_rolled_back_to_the_common_ancestor(make: MakeNode) -> None:
    async with serving(make()) as client:
        served = await blocks_until(client, RA, height=4)
        third = BlockRef(height=Height(3), hash=blocks.header_hash(served[2].header))
        strange = [BlockRef(height=Height(height), hash=HeaderHash(bytes(32))) for height in (900, 5, 4)]
        known = await events_until(client, [*strange, third], RA, height=4)
        unknown = await events_until(client, strange, RA, height=2)
    assert known[0] == RolledBack(to=third)
    assert unknown[0] == RolledBack(to=blocks.genesis_ref(CHAIN_ID))
    assert _heights(known[1:] + unknown[1:]) == [4, 1, 2]


async def test_an_unknown_rollup_and_an_endless_locator_are_refused(make: MakeNode) -> None:
    endless = [BlockRef(height=Height(at), hash=HeaderHash(bytes(32))) for at in range(65)]
    async with serving(make()) as client:
        with pytest.raises(UnknownName, match="unknown rollup"):
            await events_until(client, [], rollup_id_of(12345), height=1)
        with pytest.raises(InvalidInput, match="rollup_id has 3 bytes"):
            await events_until(client, [], RollupId(b"abc"), height=1)
        with pytest.raises(LimitExceeded, match="MAX_LOCATOR_ENTRIES is 64, but 65"):
            await events_until(client, endless, RA, height=1)


async def test_a_slow_reader_misses_nothing(make: MakeNode) -> None:
    """It falls out of the memory of the last blocks and goes on from the log."""
    node = make(block_interval_ms=10)
    async with serving(node) as client:
        stream = node.follow([], RA)
        heights = _heights([await anext(stream)])
        await blocks_until(client, RB, height=limits.FOLLOW_BUFFER_BLOCKS + 20)
        async with asyncio.timeout(WAIT_S):
            while heights[-1] < limits.FOLLOW_BUFFER_BLOCKS + 30:
                heights += _heights([await anext(stream)])
        await stream.aclose()  # type: ignore[attr-defined]  # a generator
    assert heights == list(range(1, len(heights) + 1))


async def test_a_restart_continues_the_chain_and_its_memory(make: MakeNode) -> None:
    async with serving(make()) as client:
        await submit(client, pair(0))
        await sequenced_height(client, RA, payload_of(pair(0)))
        head = (await client.status()).head
        before = await blocks_until(client, RA, height=head.height)
    async with serving(make()) as client:
        (known,) = await submit(client, pair(0))
        assert known.duplicate
        await submit(client, pair(1))
        height = await sequenced_height(client, RA, payload_of(pair(1)))
        reader = Reader(RA)
        await reader.read_until(client, height)
        after = await blocks_until(client, RA, height=head.height)
    assert [_without_level(block) for block in before] == [_without_level(block) for block in after]
    assert all(old.commitment <= new.commitment for old, new in zip(before, after, strict=True))
    assert fates_of({RA: reader}) == {RA: ["admitted", "admitted"]}


async def test_what_was_accepted_before_a_restart_is_sequenced_after_it(make: MakeNode) -> None:
    async with serving(make(block_interval_ms=SLOW)) as client:
        await submit(client, *[pair(nonce) for nonce in range(5)])
    async with serving(make()) as client:
        assert (await submit(client, pair(0)))[0].duplicate
        height = await sequenced_height(client, RB, pair(4).legs[1].payload)
        reader = Reader(RB)
        await reader.read_until(client, height)
    assert fates_of({RB: reader}) == {RB: ["admitted"] * 5}


async def test_after_the_end_callers_are_told_and_followers_too(make: MakeNode) -> None:
    node = make(block_interval_ms=SLOW)
    async with serving(node) as client, asyncio.TaskGroup() as group:
        follower = group.create_task(_end_of(client))
        await submit(client, pair())
        node.stop()
        assert "stop" in await follower
        with pytest.raises(Unavailable):
            await submit(client, pair(1))
    with pytest.raises(Unavailable):
        await node.wait_ready()


async def _end_of(client: SequencerClient) -> str:
    with pytest.raises(Unavailable) as ended:
        await events_until(client, [], RA, height=10**6)
    return str(ended.value)


async def test_a_directory_in_use_is_refused(make: MakeNode) -> None:
    async with serving(make()):
        with pytest.raises(Unavailable, match="in use by another process"):
            await make().run()


async def test_every_block_is_traced_with_what_it_holds(backend: Backend, tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    made = pair()
    async with serving(make_node(tmp_path, backend=backend, tracer=tracer)) as client:
        await submit(client, made)
        height = await sequenced_height(client, RA, payload_of(made))
        await firm_height(client, RA, height)
    traced = [(record, record.event) for record in tracer.stamped if isinstance(record.event, TracedBlock)]
    (holding,) = [(record, event) for record, event in traced if event.height == height]
    assert holding[1].submission_hashes == (sha256(bundle_to_bytes(made)),)
    assert (holding[1].payloads, holding[1].payload_bytes) == (2, sum(len(leg.payload) for leg in made.legs))
    firm = next(
        record
        for record in tracer.stamped
        if isinstance(record.event, CommitmentRaised)
        and record.event.level == Commitment.FIRM
        and record.event.height >= height
    )
    assert holding[0].monotonic_ns <= firm.monotonic_ns
    assert [event.height for _, event in traced] == list(range(1, len(traced) + 1))


async def test_status_says_what_the_node_is(make: MakeNode, backend: Backend) -> None:
    async with serving(make(block_interval_ms=SLOW, block_bytes_max=5_000)) as client:
        await submit(client, pair())
        status = await client.status()
    assert (status.backend, status.rollup_ids) == (backend.name, ROLLUPS)
    assert (status.block_interval_ms, status.block_bytes_max) == (SLOW, 5_000)
    assert (status.pending_bundles, status.pending_bytes > 0) == (1, True)


async def test_a_payload_is_never_looked_into(make: MakeNode) -> None:
    opaque = [b"\x00", b"\xff" * 300, sign(LegPlan(chain=99).unsigned(), KEYS[0])]
    async with serving(make()) as client:
        tickets = await submit(client, *[lone(A, payload) for payload in opaque])
        assert all(ticket.accepted for ticket in tickets)
        reader = Reader(RA)
        await reader.read_until(client, await sequenced_height(client, RA, opaque[-1]))
    assert fates_of({RA: reader}) == {RA: ["unsupported_type", "malformed", "wrong_chain"]}


async def test_notices_reach_every_reader_whole_and_with_proof(make: MakeNode) -> None:
    notices = [b"notice one", b"notice two"]
    async with serving(make()) as client:
        await submit(client, pair(0), *[notice(payload) for payload in notices], pair(1))
        height = await sequenced_height(client, NOTICE_ROLLUP_ID, notices[1])
        readers = {rollup_id: Reader(rollup_id) for rollup_id in ROLLUPS}
        for reader in readers.values():
            await reader.read_until(client, height)
        own = await blocks_until(client, NOTICE_ROLLUP_ID, height=height)
    seen = {tuple(at for derived in reader.derived.values() for at in derived.notices) for reader in readers.values()}
    assert seen == {tuple(notices)}
    assert [payload for block in own for payload in block.content.payloads] == notices
    # Their id is no rollup: nobody is touched by a notice.
    touched = {at for reader in readers.values() for derived in reader.derived.values() for at in derived.touched}
    assert touched == {RA, RB}
    assert fates_of(readers)[RA] == ["admitted", "admitted"]


async def test_a_notice_is_no_leg_of_a_bundle(make: MakeNode) -> None:
    legs = (pair().legs[0], Leg(rollup_id=NOTICE_ROLLUP_ID, payload=b"notice", leg_hash=LegHash(b"\x01" * 32)))
    async with serving(make()) as client:
        (refused,) = await submit(client, Bundle(version=1, expiry=0, legs=legs))
        (alone,) = await submit(client, notice(b"notice"))
        (again,) = await submit(client, notice(b"notice"))
    assert not refused.accepted
    assert "notices cannot be legs of a bundle" in refused.reason
    assert alone.accepted
    assert again.duplicate


async def test_a_reader_stalls_without_the_notices_and_no_reader_is_split(make: MakeNode) -> None:
    node = make()
    async with serving(node) as client:
        await submit(client, notice(b"withheld"))
        height = await sequenced_height(client, NOTICE_ROLLUP_ID, b"withheld")
        await node.inject(WithholdEvidence(kind=EvidenceKind.SIBLING, blocks=1))
        reader = Reader(RB)
        with pytest.raises(EvidenceMissing):
            await reader.read_until(client, height)
        assert reader.head.height == height - 1
        await reader.read_until(client, height)
    assert reader.derived[height].notices == (b"withheld",)


def notice(payload: bytes) -> Bundle:
    """A submission under the reserved id."""
    leg = Leg(rollup_id=NOTICE_ROLLUP_ID, payload=payload, leg_hash=LegHash(b""))
    return Bundle(version=0, expiry=0, legs=(leg,))


async def test_followers_learn_when_blocks_become_firm(make: MakeNode) -> None:
    async with serving(make()) as client:
        await submit(client, pair())
        height = await sequenced_height(client, RA, payload_of(pair()))
        assert await firm_height(client, RA, height) >= height
        assert (await client.status()).firm_height >= height


def _heights(events: Sequence[object]) -> list[int]:
    """Of the blocks among the events; whatever else a backend tells in between."""
    return [blocks.decode_header(event.block.header).height for event in events if isinstance(event, BlockSequenced)]


def _without_level(block: FilteredBlock) -> FilteredBlock:
    return replace(block, commitment=Commitment.SOFT)
