"""What the view makes of a real L1's contracts, claims against it, and that a rollup's bridge takes them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from nodes.agglayer.batch import L1Level
from nodes.agglayer.claims import ClaimProver
from nodes.agglayer.l1_view import L1View
from nodes.agglayer.oracle import GlobalExitRootOracle
from nodes.agglayer.settlement import settle_calldata
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    MANAGER,
    BridgeEvent,
    bridge_asset_call,
    claim_call,
    insert_global_exit_root_call,
)
from nodes.evm.agglayer_genesis import rollup_agglayer_accounts
from nodes.model.agglayer import (
    MAINNET,
    Claim,
    GlobalIndex,
    ImportedBridgeExit,
    LeafType,
    MainnetClaim,
    NetworkId,
    RollupClaim,
    TokenInfo,
    global_index_of,
)
from nodes.model.errors import InvalidBlock, Unavailable, UnknownName
from nodes.model.faults import ReorgL1
from nodes.model.ids import ZERO_HASH, Address, hex_of
from nodes.rules.claims import KnownNodes, check_claim
from nodes.rules.payload import address_of
from nodes.telemetry.clock import SystemClock
from nodes.wire.bundles import bundle_from_bytes
from tests.integration.anvil_chain import started
from tests.support.l1 import RunningL1, anvil, l1_config, running_l1
from tests.support.patience import PATIENCE_S
from tests.support.settling import AGGREGATOR, ORACLE_KEY, USER, Rollups, exit_to, l1_accounts, params
from tests.support.taking_sequencer import TakingSequencer

NETWORKS = [NetworkId(1), NetworkId(2)]


@asynccontextmanager
async def viewed(l1: RunningL1) -> AsyncIterator[L1View]:
    view = L1View(l1.client, networks=NETWORKS)
    async with asyncio.TaskGroup() as group:
        group.create_task(view.run())
        await view.wait_ready()
        try:
            yield view
        finally:
            view.stop()


async def seen(l1: RunningL1, view: L1View) -> None:
    """Wait until the view has the head."""
    head = await l1.client.head()
    async with asyncio.timeout(PATIENCE_S):
        async for _ in view.changes():
            if view._top.hash == head.hash:
                return


async def deposit(l1: RunningL1, network: int, *, amount: int = 5, updates: bool = True) -> None:
    call = bridge_asset_call(
        dest_network=network,
        dest_address=USER.address,
        amount=amount,
        token=bytes(20),
        updates_global_exit_root=updates,
    )
    receipt = await l1.send(USER, BRIDGE, call, value_wei=amount)
    assert receipt.succeeded


async def test_deposits_and_levels(tmp_path: Path) -> None:
    async with running_l1(l1_config(l1_accounts()), tmp_path) as l1, viewed(l1) as view:
        assert view.newest_leaf_count == 0
        assert view.l1_info_root(1) is None
        prover = ClaimProver(view, Rollups())
        assert prover.claim_proofs([global_index_of(MAINNET, 0)]).claims == {}
        await l1.node.mine()
        await deposit(l1, 1)
        await deposit(l1, 1, updates=False)
        await seen(l1, view)
        assert view.newest_leaf_count == 1
        assert [view.leaf_count(level) for level in L1Level] == [1, 1, 0]
        wanted = [global_index_of(MAINNET, index) for index in range(3)]
        proofs = prover.claim_proofs(wanted)
        # The second deposit is under no global exit root yet.
        assert list(proofs.claims) == wanted[:1]
        assert prover.claim_proofs(wanted, level=L1Level.FINALIZED).claims == {}
        await deposit(l1, 2)
        await seen(l1, view)
        assert list(prover.claim_proofs(wanted).claims) == wanted
        root = view.l1_info_root(2)
        assert root is not None
        for index, claim in prover.claim_proofs(wanted).claims.items():
            exit_ = exit_to(2 if index.leaf_index == 2 else 1, 5)
            check_claim(ImportedBridgeExit(bridge_exit=exit_, claim=claim, global_index=index), root, KnownNodes())
        with pytest.raises(UnknownName):
            view.settled(NetworkId(3))


async def test_a_view_that_starts_later_sees_the_same(tmp_path: Path) -> None:
    async with running_l1(l1_config(l1_accounts()), tmp_path) as l1:
        rollups = Rollups()
        async with viewed(l1) as early:
            await l1.node.mine()
            for network in (1, 2, 1):
                await deposit(l1, network)
                await settle(l1, rollups)
            await deposit(l1, 1, updates=False)
            await seen(l1, early)
            async with viewed(l1) as late:
                await seen(l1, late)
                assert late._info == early._info
                assert late._settled == early._settled
                assert late._settled_by == early._settled_by
                assert late.deposits.leaves == early.deposits.leaves
                assert late.newest_leaf_count == 6
                assert late.settled(NetworkId(1)).last_height == 3


async def settle(l1: RunningL1, rollups: Rollups) -> None:
    batch = rollups.batch([exit_to(2)], [exit_to(1), exit_to(0)])
    assert (await l1.send(AGGREGATOR, MANAGER, settle_calldata(batch))).succeeded


async def test_a_reorg_takes_back_what_the_old_branch_said(tmp_path: Path) -> None:
    async with running_l1(l1_config(l1_accounts(), finality_slots=4), tmp_path) as l1, viewed(l1) as view:
        rollups = Rollups()
        await l1.node.mine(3)
        await deposit(l1, 1)
        await seen(l1, view)
        before = (list(view._info), view.info_tree.root(), view.deposits.root(), dict(view._settled))
        first = (await l1.client.head()).number + 1
        await deposit(l1, 2)
        await settle(l1, rollups)
        await seen(l1, view)
        assert view.newest_leaf_count == 3
        assert view.settled(NetworkId(1)).last_height == 1
        head = await l1.client.head()
        async with aclosing(view.changes()) as changes:
            await anext(changes)
            await l1.node.inject(ReorgL1(depth=head.number - first + 1, keep_transactions=False))
            lowest = set()
            async for change in changes:
                lowest.add(change.reorged_from)
                if change.block_number == head.number + 1:
                    break
        assert lowest <= {None, first}
        assert first in lowest
        assert (list(view._info), view.info_tree.root(), view.deposits.root()) == before[:3]
        assert view.settled(NetworkId(1)).pessimistic_root == ZERO_HASH
        assert view._settled_by == {}
        await deposit(l1, 2)
        await seen(l1, view)
        assert view.newest_leaf_count == 2


async def test_a_network_that_is_not_configured_is_noticed(tmp_path: Path) -> None:
    async with running_l1(l1_config(l1_accounts()), tmp_path) as l1:
        await l1.node.mine()
        await settle(l1, Rollups())
        view = L1View(l1.client, networks=NETWORKS[:1])
        with pytest.raises(ExceptionGroup) as broken:
            async with asyncio.timeout(PATIENCE_S):
                await view.run()
        assert broken.group_contains(InvalidBlock, match="are all networks of L1 configured")
        with pytest.raises(Unavailable):
            await view.wait_ready()


def transfer(network: int, amount: int) -> BridgeEvent:
    return BridgeEvent(
        leaf_type=LeafType.TRANSFER,
        token=TokenInfo(MAINNET, Address(bytes(20))),
        dest_network=NetworkId(network),
        dest_address=USER.address,
        amount=amount,
        metadata=b"",
        leaf_index=0,
    )


def call_of(claim: Claim, index: GlobalIndex, event: BridgeEvent) -> bytes:
    local = claim.leaf_to_mer if isinstance(claim, MainnetClaim) else claim.leaf_to_ler
    rollup = claim.ler_to_rer.siblings if isinstance(claim, RollupClaim) else (ZERO_HASH,) * 32
    return claim_call(
        event,
        global_index=index,
        local_siblings=local.siblings,
        rollup_siblings=rollup,
        mainnet_exit_root=claim.l1_leaf.mainnet_exit_root,
        rollup_exit_root=claim.l1_leaf.rollup_exit_root,
    )


async def test_a_rollup_pays_deposits_and_exits_of_another_rollup(tmp_path: Path) -> None:
    oracle = Address(b"\x0a" * 20)
    async with running_l1(l1_config(l1_accounts()), tmp_path) as l1, viewed(l1) as view:
        rollups = Rollups()
        await l1.node.mine()
        await deposit(l1, 2)
        await settle(l1, rollups)
        await settle(l1, rollups)
        await seen(l1, view)
        deposited, exited = global_index_of(MAINNET, 0), global_index_of(NetworkId(1), 1)
        beyond = global_index_of(NetworkId(1), 2)
        proofs = ClaimProver(view, rollups).claim_proofs([deposited, exited, beyond])
        assert set(proofs.claims) == {deposited, exited}
        alloc = rollup_agglayer_accounts(network_id=NetworkId(2), oracle=oracle)
        with started(anvil(), alloc) as chain:
            root = view.info_leaf(proofs.l1_info_tree_leaf_count - 1).leaf.global_exit_root
            first = call_of(proofs.claims[deposited], deposited, transfer(2, 5))
            assert chain.send(USER.address, BRIDGE, first).reason == "GlobalExitRootInvalid()"
            assert chain.send(oracle, GLOBAL_EXIT_ROOT, insert_global_exit_root_call(root)).succeeded
            assert chain.send(USER.address, BRIDGE, first).succeeded
            second = call_of(proofs.claims[exited], exited, transfer(2, 1))
            assert chain.send(USER.address, BRIDGE, second).succeeded
            assert chain.send(USER.address, BRIDGE, second).reason == "AlreadyClaimed()"
            assert int(chain.engine.call("eth_getBalance", "0x" + USER.address.hex(), "latest"), 16) == 6


async def test_the_oracle_brings_roots_to_the_bridge_of_a_rollup(tmp_path: Path) -> None:
    oracle_address = address_of(ORACLE_KEY)
    alloc = rollup_agglayer_accounts(network_id=NetworkId(1), oracle=oracle_address)
    with started(anvil(), alloc) as chain:
        async with running_l1(l1_config(l1_accounts()), tmp_path) as l1, viewed(l1) as view:
            sequencer = TakingSequencer()
            oracle = GlobalExitRootOracle(
                directory=tmp_path / "oracle",
                view=view,
                sequencer=sequencer,
                networks=params().networks[:1],
                key=ORACLE_KEY,
                level=L1Level.FINALIZED,
                clock=SystemClock(),
                interval_s=0.01,
            )
            async with asyncio.TaskGroup() as group:
                group.create_task(oracle.run())
                await l1.node.mine()
                await deposit(l1, 1)
                await seen(l1, view)
                assert oracle.root() is None
                await l1.node.mine(2)
                await sequencer.wait_taken(1)
                oracle.stop()
        (submission,) = sequencer.taken
        payload = bundle_from_bytes(submission).legs[0].payload
        chain.engine.call("eth_sendRawTransaction", hex_of(payload))
        chain.engine.call("evm_mine")
        assert chain.read(GLOBAL_EXIT_ROOT, "globalExitRootMap(bytes32)", view.info_leaf(0).leaf.global_exit_root) != [
            0
        ]
