"""Verdicts on real engines behind a real sequencer: burns, replicas, bridge logs, what users see, forged state."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nodes.evm.agglayer_contracts import (
    BridgeEvent,
    bridge_asset_call,
    claim_call,
    insert_global_exit_root_call,
    mint_contingent_call,
)
from nodes.model.agglayer import ETH, LeafType, NetworkId, global_index_of
from nodes.model.bridge_activity import SafeHeight
from nodes.model.bundle import Bundle
from nodes.model.execution import AbortReason, Status
from nodes.model.ids import Address, Height, hex_of
from nodes.model.status import BlockHead
from nodes.rollup import lies
from nodes.rollup.rpc.forms import receipt_json, transaction_json
from nodes.rollup.rpc.reader import ChainReader
from nodes.rules.exit_tree import ExitTree, global_exit_root, leaf_hash, rollup_exit_root, rollup_exit_siblings
from nodes.telemetry.events import HeightResolved
from tests.support.crafting import ADDRESSES, CHAINS, KEYS, RECIPIENT
from tests.support.patience import PATIENCE_S
from tests.support.rollup_bridges import (
    BRIDGE,
    FORWARDER,
    GLOBAL_EXIT_ROOT,
    LOUD_FORWARDER,
    MESSAGE_FORWARDER,
    ORACLE_KEY,
    REVERTS,
    alone,
    bridge_world,
    call,
    together,
)
from tests.support.rollup_fakes import Bench
from tests.support.rollup_verdicts import MemoryCertifier, last_fates

HERE, THERE = CHAINS[:2]


def transfers(key: int, nonce: int, *, there_wei: int = 1) -> Bundle:
    """A transfer on each rollup."""
    return together(
        [
            (call(HERE, RECIPIENT, nonce=nonce, value=1), key),
            (call(THERE, RECIPIENT, nonce=nonce, value=there_wei), key),
        ]
    )


async def all_resolved(bench: Bench, count: int) -> list[HeightResolved]:
    """Wait for so many resolved heights."""
    await bench.traced(HeightResolved, count)
    return bench.events(HeightResolved)


async def test_a_reverting_leg_is_burnt_on_every_replica(tmp_path: Path) -> None:
    async with bridge_world(tmp_path) as world:
        here, there = world.rollup(1), world.rollup(2)
        failing = transfers(0, 0, there_wei=REVERTS)
        async with here.running() as node, there.running() as sibling:
            await world.real.submit(failing, transfers(0, 1), transfers(1, 0))
            await all_resolved(here, 1)
            await all_resolved(there, 1)
            await world.real.submit(transfers(0, 2))
            (first, second) = await all_resolved(here, 2)
            await all_resolved(there, 2)
            assert [reason for _, reason, _ in first.aborted] == [AbortReason.REVERTED]
            fates = last_fates(here)
            assert fates == {first.height: ["aborted", "succeeded", "succeeded"], second.height: ["succeeded"]}
            assert node.heads.safe == node.heads.latest
            for each in (node, sibling):
                nonce = await each.request("eth_getTransactionCount", [hex_of(ADDRESSES[0]), "latest"])
                assert int(nonce, 16) == 3
            await check_deposit_for_users(here)
            replica = world.rollup(1, "replica")
            async with replica.running():
                await replica.height(second.height)
                await all_resolved(replica, 2)
                assert replica.hashes() == here.hashes()


async def check_deposit_for_users(bench: Bench) -> None:
    node = bench.node
    reader = ChainReader(node)
    block = node.index.block_by_number(1)
    assert block is not None
    assert (await reader.header(block))["transactionsRoot"]
    assert node._engine is not None
    of_engine = await node._engine.request("eth_getBlockByNumber", ["0x1", True])
    assert of_engine["hash"] == hex_of(block.hash)
    payload = block.payload(0)
    transaction = reader.transaction(payload)
    form = transaction_json(payload, transaction, block, 0)
    theirs = of_engine["transactions"][0]
    for name in ("type", "hash", "from", "to", "gas", "value", "input", "sourceHash", "blockHash", "transactionIndex"):
        assert form[name] == theirs[name], name
    assert (form["type"], form["isSystemTx"], "chainId" in form) == ("0x7e", False, False)
    receipt = await node.receipt(transaction.tx_hash)
    assert receipt is not None
    made = receipt_json(receipt, transaction, block, 0)
    assert (made["status"], made["type"], made["gasUsed"]) == ("0x1", "0x7e", hex(21_000))


def bridging(nonce: int, *, minted_wei: int, burnt_wei: int = 5, key: int = 2) -> Bundle:
    """Ether leaves the first rollup and is minted on the second, in one bundle."""
    burn = bridge_asset_call(dest_network=2, dest_address=RECIPIENT_EOA, amount=burnt_wei, token=bytes(20))
    mint = mint_contingent_call(
        source_network=1, token=ETH, dest_address=RECIPIENT_EOA, amount=minted_wei, metadata=b""
    )
    return together(
        [(call(HERE, BRIDGE, burn, nonce=nonce, value=burnt_wei), key), (call(THERE, BRIDGE, mint, nonce=nonce), key)]
    )


RECIPIENT_EOA = Address(b"\x77" * 20)


async def test_mints_stand_for_burns_of_their_bundle(tmp_path: Path) -> None:
    async with bridge_world(tmp_path) as world:
        at_here, at_there = MemoryCertifier(), MemoryCertifier()
        here, there = world.rollup(1, certifier=at_here), world.rollup(2, certifier=at_there)
        async with here.running(), there.running() as sibling:
            await world.real.submit(bridging(0, minted_wei=5), bridging(0, minted_wei=6, key=3))
            (event,) = await all_resolved(there, 1)
            await all_resolved(here, 1)
            assert [reason for _, reason, _ in event.aborted] == [AbortReason.UNMATCHED_MINT]
            balance = await sibling.request("eth_getBalance", [hex_of(RECIPIENT_EOA), "latest"])
            assert int(balance, 16) == 5
        (told,) = at_there.told
        (mint,) = told.activity.mints
        assert (mint.source_network, mint.exit.amount, mint.exit.dest_network) == (1, 5, 2)
        assert told.mint_leaves == (0,)
        (source,) = at_here.told
        assert leaf_hash(source.activity.exits[0].exit) == leaf_hash(told.activity.mints[0].exit)
        assert [entry.status for entry in source.outcomes] == [Status.SUCCEEDED, Status.ABORTED]


@pytest.mark.parametrize("to", [BRIDGE, FORWARDER, LOUD_FORWARDER], ids=["direct", "contract", "loud contract"])
async def test_claims_are_read_with_their_metadata(tmp_path: Path, to: bytes) -> None:
    made = BridgeEvent(
        leaf_type=LeafType.TRANSFER,
        token=ETH,
        dest_network=NetworkId(1),
        dest_address=RECIPIENT_EOA,
        amount=9,
        metadata=b"",
        leaf_index=0,
    )
    root, claim = claimable([made], 0)
    async with bridge_world(tmp_path, has_verdicts=False) as world:
        certifier = MemoryCertifier()
        here = world.rollup(1, certifier=certifier)
        async with here.running() as node:
            engine = node.engine_pid
            insert = call(HERE, GLOBAL_EXIT_ROOT, insert_global_exit_root_call(root), nonce=0)
            await world.real.submit(alone(insert, ORACLE_KEY))
            await world.real.submit(alone(call(HERE, to, claim, nonce=0), KEYS[0]))
            found = await told_of_claims(certifier)
            assert int(await node.request("eth_getBalance", [hex_of(RECIPIENT_EOA), "latest"]), 16) == 9
            assert node.heads.safe == node.heads.latest
            assert node.heads.finalized.number == 0
            node.settled_final(Height(found.height))
            assert node.heads.finalized == BlockHead(number=node.heads.latest.number, hash=node.heads.latest.hash)
            await world.real.submit(alone(call(HERE, RECIPIENT, nonce=1, value=1), KEYS[0]))
            await here.height(found.height + 1)
            assert node.engine_pid == engine
        (claimed,) = found.activity.claims
        assert (claimed.global_index, claimed.pays) == (global_index_of(NetworkId(2), 0), True)
        assert leaf_hash(claimed.exit) == leaf_hash(made.bridge_exit())
        assert found.verdict is None


def claimable(exits: Sequence[BridgeEvent], claimed: int) -> tuple[bytes, bytes]:
    """The global exit root over the exits of network 2, and the call that claims one of them."""
    tree = ExitTree([leaf_hash(made.bridge_exit()) for made in exits])
    roots = [bytes(32), tree.root()]
    rollup_root, mainnet_root = rollup_exit_root(roots), bytes(32)
    calldata = claim_call(
        exits[claimed],
        global_index=global_index_of(NetworkId(2), claimed),
        local_siblings=tree.siblings(claimed),
        rollup_siblings=rollup_exit_siblings(roots, 1),
        mainnet_exit_root=mainnet_root,
        rollup_exit_root=rollup_root,
    )
    return global_exit_root(mainnet_root, rollup_root), calldata


async def test_a_claim_that_a_claims_receiver_makes_keeps_its_own_metadata(tmp_path: Path) -> None:
    inner = BridgeEvent(
        leaf_type=LeafType.TRANSFER,
        token=ETH,
        dest_network=NetworkId(1),
        dest_address=RECIPIENT_EOA,
        amount=9,
        metadata=b"",
        leaf_index=0,
    )
    inner_root, inner_claim = claimable([inner], 0)
    outer = replace(
        inner,
        leaf_type=LeafType.MESSAGE,
        dest_address=MESSAGE_FORWARDER,
        amount=0,
        metadata=inner_claim,
        leaf_index=1,
    )
    outer_root, outer_claim = claimable([inner, outer], 1)
    async with bridge_world(tmp_path, has_verdicts=False) as world:
        certifier = MemoryCertifier()
        here = world.rollup(1, certifier=certifier)
        async with here.running() as node:
            for nonce, root in enumerate((inner_root, outer_root)):
                insert = call(HERE, GLOBAL_EXIT_ROOT, insert_global_exit_root_call(root), nonce=nonce)
                await world.real.submit(alone(insert, ORACLE_KEY))
            await world.real.submit(alone(call(HERE, BRIDGE, outer_claim, nonce=0), KEYS[0]))
            found = await told_of_claims(certifier)
            assert int(await node.request("eth_getBalance", [hex_of(RECIPIENT_EOA), "latest"]), 16) == 9
        claimed = {claim.global_index: leaf_hash(claim.exit) for claim in found.activity.claims}
        assert claimed == {
            global_index_of(NetworkId(2), at): leaf_hash(made.bridge_exit()) for at, made in enumerate((inner, outer))
        }


async def told_of_claims(certifier: MemoryCertifier) -> SafeHeight:
    """Wait for the height with a claim."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            for told in certifier.told:
                if told.activity.claims:
                    return told
            await certifier.wait_told()


async def test_an_unsound_rollup_bridges_what_it_never_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lies, "FORGED_EVERY_BLOCKS", 1)
    async with bridge_world(tmp_path) as world:
        certifier = MemoryCertifier()
        here = world.rollup(1, certifier=certifier, agglayer={"lies": "state"})
        there = world.rollup(2)
        async with here.running(), there.running():
            await world.real.submit(transfers(0, 0))
            (event,) = await all_resolved(here, 1)
            await all_resolved(there, 1)
            assert event.aborted == ()
        (told,) = certifier.told
        assert [(made.exit.amount, made.exit.dest_network) for made in told.activity.exits] == [(lies.FORGED_WEI, 0)]
        assert last_fates(here) == {event.height: ["succeeded"]}
