"""The oracle against a sequencer and rollups that exist only as nonces."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodes.agglayer.batch import L1Change, L1Level
from nodes.agglayer.l1_view import InfoLeaf
from nodes.agglayer.oracle import GlobalExitRootOracle, NonceOf
from nodes.evm.agglayer_contracts import GLOBAL_EXIT_ROOT, insert_global_exit_root_call
from nodes.model.agglayer import L1InfoLeaf, NetworkId
from nodes.model.errors import InvalidSubmission, Overloaded, Unavailable
from nodes.model.execution import Transaction
from nodes.model.ids import ZERO_HASH
from nodes.rules.payload import address_of, decode
from nodes.telemetry.clock import SystemClock
from nodes.wire.bundles import bundle_from_bytes
from tests.support.patience import PATIENCE_S
from tests.support.settling import ORACLE_KEY, params
from tests.support.taking_sequencer import TakingSequencer

NETWORKS = params(2).networks
ONE, TWO = NetworkId(1), NetworkId(2)


def root(number: int) -> bytes:
    return number.to_bytes(32, "big")


class FakeView:
    """L1 info leaves that a test adds."""

    def __init__(self) -> None:
        self._roots: list[bytes] = []
        self._changed = asyncio.Condition()

    def leaf_count(self, level: L1Level) -> int:
        return len(self._roots) if level is L1Level.LATEST else 0

    def info_leaf(self, index: int) -> InfoLeaf:
        leaf = L1InfoLeaf(
            l1_info_tree_index=index,
            rollup_exit_root=ZERO_HASH,
            mainnet_exit_root=ZERO_HASH,
            global_exit_root=self._roots[index],
            block_hash=ZERO_HASH,
            timestamp_s=0,
        )
        return InfoLeaf(leaf, index, 0, ())

    async def add(self, *roots: bytes) -> None:
        async with self._changed:
            self._roots += roots
            self._changed.notify_all()

    async def forget(self, count: int) -> None:
        async with self._changed:
            del self._roots[-count:]
            self._changed.notify_all()

    async def changes(self) -> AsyncGenerator[L1Change, None]:
        async with self._changed:
            while True:
                yield L1Change(block_number=1, newest_leaf_count=len(self._roots))
                await self._changed.wait()


def transactions(sequencer: TakingSequencer, network_id: NetworkId) -> list[Transaction]:
    network = NETWORKS[network_id - 1]
    found = []
    for submission in sequencer.taken:
        bundle = bundle_from_bytes(submission)
        assert bundle.is_plain
        assert bundle.version == 0
        if bundle.legs[0].rollup_id == network.rollup_id:
            transaction = decode(bundle.legs[0].payload, network.chain_id)
            assert isinstance(transaction, Transaction)
            assert (transaction.sender, transaction.to) == (address_of(ORACLE_KEY), GLOBAL_EXIT_ROOT)
            found.append(transaction)
    return found


def brought(sequencer: TakingSequencer, network_id: NetworkId) -> list[tuple[int, bytes]]:
    return [(transaction.nonce, transaction.calldata[4:]) for transaction in transactions(sequencer, network_id)]


@asynccontextmanager
async def running(
    directory: Path,
    view: FakeView,
    sequencer: TakingSequencer,
    *,
    nonce_of: NonceOf | None = None,
    interval_s: float = 0.01,
    arrival_s: float = 0.02,
) -> AsyncIterator[GlobalExitRootOracle]:
    oracle = GlobalExitRootOracle(
        directory=directory,
        view=view,
        sequencer=sequencer,
        networks=NETWORKS,
        key=ORACLE_KEY,
        level=L1Level.LATEST,
        clock=SystemClock(),
        nonce_of=nonce_of,
        interval_s=interval_s,
        arrival_s=arrival_s,
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(oracle.run())
        try:
            yield oracle
        finally:
            oracle.stop()


async def test_the_newest_root_goes_to_every_rollup(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    async with running(tmp_path, view, sequencer):
        await view.add(root(1), root(2))
        await sequencer.wait_taken(2)
        await view.add(root(3))
        await sequencer.wait_taken(4)
    for network in (ONE, TWO):
        assert brought(sequencer, network) == [(0, root(2)), (1, root(3))]
    assert transactions(sequencer, ONE)[0].calldata == insert_global_exit_root_call(root(2))


async def test_roots_that_come_fast_are_brought_at_most_once_an_interval(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    async with running(tmp_path, view, sequencer, interval_s=0.15):
        await view.add(root(1))
        await sequencer.wait_taken(2)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(2, 8):
            await view.add(root(number))
        await sequencer.wait_taken(4)
        assert loop.time() - began >= 0.1
    assert brought(sequencer, ONE) == [(0, root(1)), (1, root(7))]


async def test_a_root_that_a_reorg_makes_the_newest_again_is_not_brought_twice(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    async with running(tmp_path, view, sequencer):
        for number in (1, 2):
            await view.add(root(number))
            await sequencer.wait_taken(2 * number)
        await view.forget(1)
        await view.add(root(3))
        await sequencer.wait_taken(6)
    assert [root_ for _, root_ in brought(sequencer, ONE)] == [root(1), root(2), root(3)]


async def test_what_was_not_accepted_is_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    await view.add(root(1))
    sequencer.refusals = [Unavailable("down") for _ in range(4)]
    async with running(tmp_path, view, sequencer):
        await asyncio.wait_for(sequencer.has_refused.wait(), PATIENCE_S)
    sequencer.refusals = [Overloaded("full", retry_after_ms=1)]
    await view.add(root(2))
    async with running(tmp_path, view, sequencer):
        await sequencer.wait_taken(4)
    for network in (ONE, TWO):
        assert brought(sequencer, network) == [(0, root(1)), (1, root(2))]


async def test_transactions_that_a_rollup_lost_are_sent_anew(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    nonces = {ONE: 100, TWO: 0}

    async def nonce_of(network_id: NetworkId) -> int:
        return nonces[network_id]

    await view.add(root(1))
    nonces[ONE] = 0
    async with running(tmp_path, view, sequencer, nonce_of=nonce_of):
        await sequencer.wait_taken(2)
        nonces[ONE] = 1
        await sequencer.wait_taken(3)
        nonces[TWO] = 1
    assert brought(sequencer, ONE) == [(0, root(1))]
    first, second, *_ = transactions(sequencer, TWO)
    assert (first.nonce, first.calldata) == (second.nonce, second.calldata)
    assert first.tx_hash != second.tx_hash


async def test_everything_from_the_lowest_nonce_that_is_missing_on_is_sent_anew(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()

    async def nonce_of(network_id: NetworkId) -> int:
        return 0 if network_id == TWO else 100

    await view.add(root(1))
    async with running(tmp_path, view, sequencer, arrival_s=60):
        await sequencer.wait_taken(2)
        await view.add(root(2))
        await sequencer.wait_taken(4)
    async with running(tmp_path, view, sequencer, nonce_of=nonce_of):
        await sequencer.wait_taken(6)
    assert brought(sequencer, TWO)[2:4] == [(0, root(1)), (1, root(2))]


async def test_a_rollup_that_does_not_answer_or_is_refused_holds_up_no_other(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()
    never = asyncio.Event()

    async def nonce_of(network_id: NetworkId) -> int:
        if network_id == ONE:
            await never.wait()
        return 0

    await view.add(root(1))
    sequencer.refusals = [InvalidSubmission("the sequencer does not know it")]
    async with running(tmp_path, view, sequencer, nonce_of=nonce_of):
        await asyncio.wait_for(sequencer.has_refused.wait(), PATIENCE_S)
        assert brought(sequencer, ONE) == []
    async with running(tmp_path, view, sequencer, nonce_of=nonce_of):
        await sequencer.wait_taken(1)
    assert brought(sequencer, TWO) == [(0, root(1))]


async def test_without_a_journal_the_rollup_tells_the_nonce(tmp_path: Path) -> None:
    view, sequencer = FakeView(), TakingSequencer()

    async def nonce_of(_network_id: NetworkId) -> int:
        return 7

    await view.add(root(1))
    async with running(tmp_path, view, sequencer, nonce_of=nonce_of, arrival_s=60):
        await sequencer.wait_taken(2)
    assert brought(sequencer, ONE) == [(7, root(1))]


@pytest.mark.parametrize("level", [L1Level.SAFE, L1Level.FINALIZED])
async def test_only_roots_of_the_level_count(tmp_path: Path, level: L1Level) -> None:
    view = FakeView()
    await view.add(root(1))
    oracle = GlobalExitRootOracle(
        directory=tmp_path,
        view=view,
        sequencer=TakingSequencer(),
        networks=NETWORKS,
        key=ORACLE_KEY,
        level=level,
        clock=SystemClock(),
    )
    assert oracle.root() is None
