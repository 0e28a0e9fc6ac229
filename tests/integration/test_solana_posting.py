"""The submitter on a real chain with the real program: what it asks for is enough, and the chain's state agrees."""

import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from solders.keypair import Keypair

from nodes.model.bundle import Bundle
from nodes.model.ids import RollupId, rollup_id_of
from nodes.rules import inbox as codec
from nodes.rules.hashes import sha256
from nodes.rules.posting import needs_pieces
from nodes.rules.posting_tally import COSTS
from nodes.solana.deploy import deploy_inbox, memo_inbox
from nodes.solana.keypairs import base58
from nodes.solana.program import Inbox
from nodes.solana.reader_store import ReaderStore
from nodes.solana.submitter import Submitter
from tests.support.solana_chain import InProcessRpc, new_chain
from tests.support.solana_posting import bundle_of, offer_of
from tests.support.solana_reading import LAMPORTS, Heard, World, read_all

ROLLUPS = tuple(rollup_id_of(number) for number in range(1, 62))
PAYERS = [Keypair.from_seed(sha256(b"payer %d" % number)) for number in range(3)]


async def world_of(directory: Path, *, lookup: bool = False, memo: bool = False) -> World:
    rpc = InProcessRpc(new_chain())
    for payer in PAYERS:
        rpc.chain.airdrop(payer.pubkey(), LAMPORTS)
    rpc.tick(40)

    async def tick() -> None:
        rpc.tick()

    rollups = ROLLUPS if lookup else ROLLUPS[:20]
    inbox: Inbox
    if memo:
        inbox = memo_inbox(rollups, origin_slot=rpc.chain.slot("finalized"))
    else:
        inbox = await deploy_inbox(
            rpc,
            PAYERS[0],
            rollups,
            program_keypair=Keypair.from_seed(sha256(b"program")),
            lookup_table_record=directory / "table.json" if lookup else None,
            tick=tick,
        )
    rpc.tick(2)
    return World(rpc, inbox, PAYERS, directory)


async def drive(world: World, submitter: Submitter, bundles: Sequence[Bundle], *, slots: int = 40) -> Heard:
    heard = Heard(submitter=submitter)
    store = ReaderStore(f"sqlite:///{world.directory}/reader.db", chain_id=sha256(b"solana test chain"))
    world._opened.append(store)
    reader = world.reader(heard, store=store)
    await read_all(reader)
    submitter.accept([offer_of(bundle) for bundle in bundles])
    await submitter.wait_durable()
    for _ in range(slots):
        await submitter.step()
        await world.tick()
        await read_all(reader)
    return heard


def fitting(submitter: Submitter, rollups: Sequence[RollupId], number: int) -> Bundle:
    """A bundle of these rollups that fills its transaction to the last byte or so."""
    room = submitter.layout.room_bytes[len(rollups)] - codec.POST_HEAD_BYTES
    empty = codec.entry_bytes(bundle_of(number, rollups=rollups, size=32)) - 32 * len(rollups)
    return bundle_of(number, rollups=rollups, size=max(32, (room - empty) // len(rollups)))


@pytest.mark.parametrize(("lookup", "price"), [(True, 0), (False, 5_000)])
async def test_the_fullest_transactions_land_and_roll_the_state(tmp_path: Path, lookup: bool, price: int) -> None:
    world = await world_of(tmp_path, lookup=lookup)
    try:
        submitter = world.submitter(cu_price_micro_lamports=price)
        counts = [1, 2, 3, 4, 8, 11, 16] + ([24, 40, 61] if lookup else [])
        bundles = [fitting(submitter, world.inbox.rollup_ids[:count], count) for count in counts]
        assert not any(needs_pieces(bundle, submitter.layout) for bundle in bundles[:5])
        before = world.rpc.ask("getBalance", base58(bytes(PAYERS[1].pubkey())), {"commitment": "confirmed"})["value"]
        heard = await drive(world, submitter, bundles)
        assert sorted(heard.order) == sorted(offer_of(bundle)[0] for bundle in bundles)
        assert submitter.pending_bundles == 0
        costs = submitter.costs
        assert set(costs) == set(COSTS)
        assert costs["failed_transactions"] == costs["resigned"] == costs["void_commits"] == 0
        paid = [one for block in heard.blocks for one in block.instructions if one.data[0] != codec.INIT]
        assert costs["solana_transactions"] == len(paid)
        after = world.rpc.ask("getBalance", base58(bytes(PAYERS[1].pubkey())), {"commitment": "confirmed"})["value"]
        assert 0 < before - after <= costs["lamports"]
        assert (costs["lamports"] == 5_000 * len(paid)) == (price == 0)
        for rollup_id in world.inbox.rollup_ids[:16]:
            state = codec.EMPTY_STATE
            for instruction in paid:
                if world.inbox.accounts[rollup_id] in instruction.accounts:
                    state = codec.roll(state, instruction.data)
            account = world.rpc.ask(
                "getAccountInfo",
                base58(world.inbox.accounts[rollup_id]),
                {"encoding": "base64", "commitment": "confirmed"},
            )
            assert codec.decode_state(base64.b64decode(account["value"]["data"][0])) == (rollup_id, state)
    finally:
        world.close()


async def test_large_bundles_go_in_chunks(tmp_path: Path) -> None:
    world = await world_of(tmp_path)
    try:
        submitter = world.submitter()
        bundles = [bundle_of(1, rollups=ROLLUPS[:2], size=60_000), bundle_of(2, rollups=ROLLUPS[:2])]
        heard = await drive(world, submitter, bundles, slots=12)
        assert heard.order == [offer_of(bundles[1])[0], offer_of(bundles[0])[0]]
        assert submitter.costs["failed_transactions"] == submitter.costs["void_commits"] == 0
        assert submitter.costs["posted_bytes"] > 120_000
    finally:
        world.close()


async def test_memos(tmp_path: Path) -> None:
    world = await world_of(tmp_path, memo=True)
    try:
        submitter = world.submitter()
        bundles = [bundle_of(number, rollups=ROLLUPS[number % 5 : number % 5 + 2]) for number in range(20)]
        bundles.append(bundle_of(20, rollups=ROLLUPS[:2], size=3_000))
        heard = await drive(world, submitter, bundles, slots=12)
        assert heard.order == [offer_of(bundle)[0] for bundle in bundles]
        assert submitter.costs["failed_transactions"] == 0
    finally:
        world.close()


async def test_a_lost_blockhash_costs_time_and_nothing_else(tmp_path: Path) -> None:
    world = await world_of(tmp_path)
    try:
        submitter = world.submitter()
        bundles = [bundle_of(number, rollups=ROLLUPS[:2]) for number in range(10)]
        await submitter.step()
        world.rpc.ask("devnode_expireBlockhashes", {})
        # Signed for a blockhash that no leader takes any more: it is known to be lost when it has expired.
        submitter.accept([offer_of(bundle) for bundle in bundles[:5]])
        await submitter._post()
        await world.tick(4)
        heard = await drive(world, submitter, bundles[5:], slots=170)
        assert sorted(heard.order) == sorted(offer_of(bundle)[0] for bundle in bundles)
        assert submitter.costs["resigned"] == 3
        assert submitter.pending_bundles == 0
    finally:
        world.close()
