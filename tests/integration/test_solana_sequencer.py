"""What the Solana backend promises beyond the contract of every backend: troubles of its chain, and its options."""

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from solders.hash import Hash

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, InvalidScenario
from nodes.model.faults import Fork, KillEngine, SolanaTrouble, Trouble
from nodes.model.sequenced_block import CommitmentRaised
from nodes.rules import sequenced_block as blocks
from nodes.rules.hashes import sha256
from nodes.rules.inbox import encode_entry, post
from nodes.rules.solana_proof import decode_proof
from nodes.sequencer import solana
from nodes.sequencer.backend import SequencerNode
from nodes.sequencer.solana_node import SolanaSequencer
from nodes.solana.keypairs import key_of
from nodes.solana.program import posting_call
from nodes.solana.transactions import build
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import BlockReorged
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.sequencer import SequencerClient
from nodes.wire.streams import closing
from tests.support.crafting import CHAINS, ROLLUPS, LegPlan, bundle, lone, make_testnet
from tests.support.patience import PATIENCE_S
from tests.support.sequencers import (
    Reader,
    blocks_until,
    fates_of,
    firm_height,
    make_node,
    sequenced_height,
    serving,
    submit,
)

RA, RB = ROLLUPS[:2]


def pair(nonce: int = 0) -> Bundle:
    return bundle([LegPlan(chain=chain, nonce=nonce) for chain in CHAINS[:2]])


def make(directory: Path, **options: Any) -> SequencerNode:
    return make_node(directory / "sequencer", backend=solana.BACKEND, **options)


def trouble(kind: Trouble, amount: int = 1, for_slots: int = 0) -> SolanaTrouble:
    return SolanaTrouble(trouble=kind, amount=amount, for_slots=for_slots)


async def check_each_once(node: SequencerNode, client: Any, bundles: list[Bundle]) -> None:
    """Every bundle stands in a firm height, once and whole, and both rollups derive the same."""
    await submit(client, lone(CHAINS[1], b"the last"))
    wanted = {b"the last", *[made.legs[1].payload for made in bundles]}
    readers = {rollup_id: Reader(rollup_id) for rollup_id in (RA, RB)}
    height = await firm_height_of(client, readers[RB], wanted)
    await readers[RA].read_until(client, height)
    fates = fates_of(readers)
    assert fates[RA].count("admitted") == fates[RB].count("admitted") == len(bundles)
    payloads = [payload for block in readers[RB].blocks.values() for payload in block.content.payloads]
    assert sorted(payloads) == sorted(wanted)


async def firm_height_of(client: Any, reader: Reader, wanted: set[bytes]) -> int:
    """Follow until everything wanted stands in firm heights; the newest of them that was read."""
    async with asyncio.timeout(PATIENCE_S), closing(client.follow([], reader.rollup_id)) as stream:
        async for event in stream:
            reader.take(event)
            if isinstance(event, CommitmentRaised):
                firm = [block for height, block in reader.blocks.items() if height <= event.height]
                if wanted <= {payload for block in firm for payload in block.content.payloads}:
                    return reader.head.height
    raise AssertionError("the stream ended")


class ByHand:
    """The chain of a running node, moved by the test: what is soft stays so, and no fork comes too late for it."""

    def __init__(self, node: SequencerNode, client: SequencerClient) -> None:
        assert isinstance(node, SolanaSequencer)
        assert node._session is not None
        assert node._chain is not None
        self.rpc = node._session.rpc
        self._reader = node._chain.reader
        self._client = client

    async def sequenced(self, payload: bytes) -> int:
        """Slot by slot, each read before the next, until a payload is sequenced; its height."""
        sequenced = asyncio.create_task(sequenced_height(self._client, RA, payload))
        while not sequenced.done():
            await self.rpc.call("devnode_tick", [{"slots": 1}])
            confirmed = await self.rpc.call("getSlot", [{"commitment": "confirmed"}])
            async with asyncio.timeout(PATIENCE_S):
                while self._reader.last.slot < confirmed:  # noqa: ASYNC110 - the reader tells its followers only
                    await asyncio.sleep(0.001)
            await asyncio.wait([sequenced], timeout=0.02)
        return sequenced.result()


@asynccontextmanager
async def by_hand(node: SequencerNode, client: SequencerClient) -> AsyncIterator[ByHand]:
    """The chain stands still but for what the test does, until the block is left."""
    chain = ByHand(node, client)
    await chain.rpc.call("devnode_pause")
    yield chain
    await chain.rpc.call("devnode_run")


@pytest.mark.parametrize(
    "struck",
    [
        [trouble(Trouble.FORK, 1), trouble(Trouble.FORK_AND_LOSE, 2)],
        [trouble(Trouble.SKIP_SLOTS, 8)],
        [trouble(Trouble.DROP_TRANSACTIONS, 60, 20)],
        [trouble(Trouble.LAG_RPC, 6, 20)],
        [trouble(Trouble.RPC_DOWN, 700)],
        [trouble(Trouble.EXPIRE_BLOCKHASHES)],
        [KillEngine()],
    ],
    ids=["forks", "skipped slots", "drops", "lag", "rpc down", "expiry", "dev node killed"],
)
async def test_no_trouble_of_the_chain_loses_or_doubles_a_bundle(tmp_path: Path, struck: list[Any]) -> None:
    node = make(tmp_path)
    bundles = [pair(nonce) for nonce in range(60)]
    async with serving(node) as client:
        for at in range(0, 60, 6):
            if at == 18:
                for fault in struck:
                    await node.inject(fault)
            await submit(client, *bundles[at : at + 6])
            await asyncio.sleep(0.03)  # the load goes on while the trouble lasts
        await check_each_once(node, client, bundles)


async def test_a_fork_below_confirmed_takes_soft_heights_back_and_their_bundles_come_again(tmp_path: Path) -> None:
    tracer = MemoryTracer(SystemClock())
    node = make(tmp_path, tracer=tracer)
    bundles = [pair(nonce) for nonce in range(10)]
    async with serving(node) as client:
        reader = Reader(RA)
        async with by_hand(node, client) as chain:
            await submit(client, *bundles)
            soft = await chain.sequenced(bundles[-1].legs[0].payload)
            await reader.read_until(client, soft)
            assert (await client.status()).firm_height < soft
            await node.inject(trouble(Trouble.FORK_AND_LOSE, 12))
        await check_each_once(node, client, bundles)
        # A reader that had the soft heights is led back, and ends where everybody is.
        await reader.read_until(client, (await client.status()).firm_height + 1)
    assert fates_of({RA: reader})[RA].count("admitted") == len(bundles)
    reorgs = [record.event for record in tracer.stamped if isinstance(record.event, BlockReorged)]
    assert reorgs
    assert reorgs[0].to_height < soft


async def test_a_bundle_that_only_a_stranger_posted_is_kept_before_it_is_acknowledged(tmp_path: Path) -> None:
    node = make(tmp_path)
    (made,) = bundles = [pair(1)]
    async with serving(node) as client, by_hand(node, client) as chain:
        assert isinstance(node, SolanaSequencer)
        assert node._session is not None
        inbox, payer = node._session.inbox, node._session.payers[0]
        rollups = [leg.rollup_id for leg in made.legs]
        data = post([encode_entry(made, {rollup_id: slot for slot, rollup_id in enumerate(rollups)})])
        latest = await node._session.rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}])
        blockhash = bytes(Hash.from_string(latest["value"]["blockhash"]))
        copied = build(payer, [posting_call(key_of(payer), inbox, rollups, data)], blockhash=blockhash)
        text = base64.b64encode(copied.raw).decode()
        await node._session.rpc.call("sendTransaction", [text, {"encoding": "base64", "skipPreflight": True}])
        soft = await chain.sequenced(made.legs[0].payload)
        assert (await client.status()).firm_height < soft
        (ticket,) = await submit(client, made)
        assert ticket.accepted
        assert not ticket.duplicate, "nobody here had it: it is kept now"
        (ticket,) = await submit(client, made)
        assert ticket.duplicate
        await node.inject(trouble(Trouble.FORK_AND_LOSE, 12))
        await chain.rpc.call("devnode_run")
        await check_each_once(node, client, bundles)


async def test_memos_carry_the_same_order_without_a_program(tmp_path: Path) -> None:
    node = make(tmp_path, inbox="memo")
    bundles = [pair(nonce) for nonce in range(12)]
    async with serving(node) as client:
        await submit(client, *bundles)
        await check_each_once(node, client, bundles)
        memo_bytes = (await client.status()).costs["posted_bytes"]
    node = make(tmp_path / "other")
    async with serving(node) as client:
        await submit(client, *bundles)
        await check_each_once(node, client, bundles)
        assert memo_bytes > 1.25 * (await client.status()).costs["posted_bytes"]


async def test_buckets_give_heights_a_second_apart(tmp_path: Path) -> None:
    node = make(tmp_path, bucket_ms=1_000, confirm_slots=0)
    async with serving(node) as client:
        await submit(client, pair())
        served = await blocks_until(client, RA, height=3)
    times = [blocks.decode_header(block.header).time_ns // 1_000_000_000 for block in served]
    assert times == [times[0], times[0] + 1, times[0] + 2]


async def test_single_step_finality_makes_confirmed_heights_firm(tmp_path: Path) -> None:
    node = make(tmp_path, confirm_slots=1, finalize_slots=1)
    async with serving(node) as client:
        await submit(client, pair())
        height = await sequenced_height(client, RA, pair().legs[0].payload)
        await firm_height(client, RA, height)
        # With two steps there would always be slots in between. A reader that was away is behind for a moment.
        async with asyncio.timeout(PATIENCE_S):
            status = await client.status()
            while status.head.height - status.firm_height > 1:
                status = await client.status()


async def test_heights_name_the_block_they_were_read_from(tmp_path: Path) -> None:
    async with serving(make(tmp_path)) as client:
        await submit(client, pair())
        height = await sequenced_height(client, RA, pair().legs[0].payload)
        served = await blocks_until(client, RA, height=height)
    proofs = [decode_proof(block.finality_proof) for block in served]
    slots = [proof.slot for proof in proofs if proof]
    assert len(slots) == height
    assert slots == sorted(slots)
    roots = {proof.inbox_root for proof in proofs if proof}
    assert len(roots) == 2, "the root moves with the one posting, and only then"


async def test_a_second_reader_of_the_chain_gets_the_same_heights(tmp_path: Path) -> None:
    """The store is thrown away and the chain read anew from its origin."""
    bundles = [pair(nonce) for nonce in range(10)]
    async with serving(make(tmp_path)) as client:
        await submit(client, *bundles)
        height = await firm_height(client, RA, await sequenced_height(client, RA, bundles[-1].legs[0].payload))
        first = [sha256(block.header) for block in await blocks_until(client, RA, height=height)]
    for file in (tmp_path / "sequencer").glob("solana_reader.db*"):
        file.unlink()
    async with serving(make(tmp_path)) as client:
        again = [sha256(block.header) for block in await blocks_until(client, RA, height=height)]
    assert first == again


async def test_it_says_what_the_order_cost(tmp_path: Path) -> None:
    async with serving(make(tmp_path)) as client:
        await submit(client, *[pair(nonce) for nonce in range(20)])
        await sequenced_height(client, RA, pair(19).legs[0].payload)
        costs = (await client.status()).costs
    assert costs["lamports"] == 5_000 * costs["solana_transactions"]
    assert 20 * 2 * 100 < costs["posted_bytes"] < 20 * 1_000


async def test_what_can_never_be_posted_is_refused_with_the_limit(tmp_path: Path) -> None:
    wide = bundle([LegPlan(chain=chain) for chain in CHAINS[:2]])
    data = bundle_to_bytes(wide)
    async with serving(make(tmp_path, testnet=make_testnet())) as client:
        (odd,) = await client.submit([data + b"\x78\x01"])
    assert not odd.accepted
    assert "canonical" in odd.reason


async def test_faults_of_others_are_refused_with_the_one_that_is_meant(tmp_path: Path) -> None:
    node = make(tmp_path)
    async with serving(node):
        with pytest.raises(InvalidInput, match="solana_fork"):
            await node.inject(Fork(height=1))  # type: ignore[arg-type]  # a height


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"solana": "mainnet"}, "must be 'devnode', 'surfpool' or the URL"),
        ({"solana": "https://example.org"}, "keypair must name the account"),
        ({"bucket_ms": 500}, "bucket_ms is 500"),
        ({"inbox": "email"}, "inbox is 'email'"),
        ({"finalize_slots": 1}, "finalize_slots is 1"),
        ({"payers": 0}, "payers is 0"),
    ],
)
def test_a_wrong_option_is_named_with_its_remedy(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidScenario, match=text):
        solana.BACKEND.configure(options)


@pytest.mark.skipif(shutil.which("node") is None, reason="Surfpool is started by Node.js, which is not installed")
async def test_the_same_backend_runs_on_surfpool(tmp_path: Path) -> None:
    node = make(tmp_path, solana="surfpool", block_interval_ms=50)
    bundles = [pair(nonce) for nonce in range(10)]
    async with serving(node) as client:
        await submit(client, *bundles)
        await check_each_once(node, client, bundles)
        with pytest.raises(InvalidInput, match="fault of the dev node"):
            await node.inject(trouble(Trouble.SKIP_SLOTS))
