"""Rollup nodes whose engines are checked by the divergence process: what is found, and what the node does about it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from nodes.divergence import forms
from nodes.divergence.client import DivergenceClient, Watch
from nodes.model.config import DivergenceConfig
from nodes.model.errors import InvalidInput
from nodes.model.faults import Diverge, KillEngine, Rewind
from nodes.model.ids import ChainId, Height, chain_id_of
from nodes.rollup.divergence_link import DivergenceLink
from nodes.rollup.session import Halted
from nodes.telemetry.clock import Clock
from nodes.telemetry.events import DivergenceChecked, DivergenceFound, ReaderStalled
from nodes.telemetry.tracer import Tracer
from tests.support.crafting import ADDRESSES
from tests.support.patience import PATIENCE_S
from tests.support.rollup_fakes import Bench
from tests.support.rollup_testnet import HERE, TESTNET, RealTestnet, genesis, pair, real_testnet

PARAMS = next(params for params in TESTNET.rollups if chain_id_of(params.rollup_id) == ChainId(HERE))


@asynccontextmanager
async def client_at(directory: Path) -> AsyncIterator[DivergenceClient]:
    client = DivergenceClient(directory)
    async with asyncio.TaskGroup() as group:
        group.create_task(client.run())
        try:
            yield client
        finally:
            client.stop()


def watched_by(
    client: DivergenceClient, directory: Path, *, mode: str = "all", policy: str = "alarm", sample_per_s: float = 5
) -> Callable[[Clock, Tracer], DivergenceLink]:
    def make(clock: Clock, tracer: Tracer) -> DivergenceLink:
        return DivergenceLink(
            DivergenceConfig(mode=mode, sample_per_s=sample_per_s, policy=policy),
            client,
            name="here-1",
            params=PARAMS,
            genesis=genesis(PARAMS),
            engine_directory=str((directory / "here-1" / "engine").resolve()),
            clock=clock,
            tracer=tracer,
        )

    return make


async def checked(bench: Bench, until: Callable[[DivergenceChecked], bool]) -> DivergenceChecked:
    """Wait until the last totals are so."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            totals = bench.events(DivergenceChecked)
            if totals and until(totals[-1]):
                last: DivergenceChecked = totals[-1]
                return last
            await bench.tracer.wait_recorded()


async def submitted(testnet: RealTestnet, bench: Bench, nonces: range, *, keys: int = 3) -> None:
    """Bundles of a few keys, one block after the other; waits until they are executed."""
    for nonce in nonces:
        await testnet.submit(*[pair(nonce, key=key) for key in range(keys)])
        await testnet.next_block()
    await bench.height(await testnet.head())


async def test_the_process_says_that_it_is_there_before_any_block(tmp_path: Path) -> None:
    reports: asyncio.Queue[forms.Report] = asyncio.Queue()
    opening = forms.Opening(
        rollup="here-1", mode=forms.ALL, chain_id=ChainId(HERE), coinbase=PARAMS.coinbase,
        gas_limit=PARAMS.block_gas_limit, genesis=genesis(PARAMS), genesis_hash=bytes(32),
        engine_directory=str(tmp_path),
    )  # fmt: skip

    async def began() -> None:
        pass

    async with client_at(tmp_path) as client:
        client.watch(
            "here-1",
            Watch(
                opening=lambda: opening,
                began=began,
                reported=reports.put_nowait,
                lost=lambda reason: None,
                given_up=lambda: None,
            ),
        )
        async with asyncio.timeout(PATIENCE_S):
            report = await reports.get()
    assert (report.rollup, report.counts.waiting, report.counts.checked) == ("here-1", 0, 0)


async def test_everything_is_checked_and_an_altered_state_raises_an_alarm(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet, client_at(tmp_path) as client:
        bench = testnet.rollup(watched=watched_by(client, tmp_path), rewind_window=32)
        async with bench.running() as node:
            with pytest.raises(InvalidInput, match="no transaction was executed yet"):
                await node.inject(Diverge(account=b"", slot=b"", add=1))
            # The second of each is skipped: its nonce is taken.
            await testnet.submit(pair(0), pair(0, values=(2, 2)), pair(0, key=1))
            await testnet.next_block()
            await submitted(testnet, bench, range(1, 4))
            totals = await checked(bench, lambda last: last.checked == last.total >= 11)
            assert (totals.mode, totals.differing, totals.missed, totals.waiting) == ("all", 0, 0, 0)
            assert totals.busy_ns > 0
            assert (await node.status()).stalled == ""
            await node.inject(Diverge(account=ADDRESSES[1], slot=b"", add=7))
            await submitted(testnet, bench, range(4, 5))
            found: DivergenceFound = await bench.traced(DivergenceFound)
            first = node.index.transaction(found.tx_hash)
            assert first is not None
            assert first.block is not None
            assert (found.account, found.field, found.policy) == (ADDRESSES[1], "balance", "alarm")
            assert int(found.engine, 16) - int(found.checker, 16) == 7
            assert (found.number, found.height) == (first.block.number, first.block.height)
            assert f"block {found.number}, transaction" in (await node.status()).stalled
            # It goes on, and is still checked.
            await submitted(testnet, bench, range(5, 7))
            await checked(bench, lambda last: last.checked == last.total >= 20 and last.differing == 1)


async def test_with_halt_the_node_goes_no_further_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_halted = asyncio.Event()

    def halted(reason: str) -> Halted:
        has_halted.set()
        return Halted(reason)

    monkeypatch.setattr("nodes.rollup.divergence_link.Halted", halted)
    async with real_testnet(tmp_path) as testnet, client_at(tmp_path) as client:
        bench = testnet.rollup(watched=watched_by(client, tmp_path, policy="halt"), rewind_window=32)
        async with bench.running() as node:
            await submitted(testnet, bench, range(2))
            await node.inject(Diverge(account=b"", slot=b"", add=1))
            await submitted(testnet, bench, range(2, 3))
            stalled: ReaderStalled = await bench.traced(ReaderStalled)
            assert stalled.source == "divergence check"
            # What was under way at that moment is finished, and nothing begun after it.
            async with asyncio.timeout(PATIENCE_S):
                await has_halted.wait()
            height = (await node.status()).heads.height
            for nonce in range(3, 6):
                await testnet.submit(pair(nonce))
                await testnet.next_block()
            status = await node.status()
            assert status.heads.height == height < await testnet.head()
            assert status.stalled == stalled.reason
            assert "policy halt" in status.stalled
            # What it has it still serves.
            assert await node.request("eth_getBalance", ["0x" + ADDRESSES[0].hex(), hex(status.heads.latest.number)])


async def test_engines_that_are_lost_and_nodes_that_go_back_are_no_divergence(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet, client_at(tmp_path) as client:
        bench = testnet.rollup(watched=watched_by(client, tmp_path), rewind_window=32, checkpoint_interval_heights=4)
        async with bench.running() as node:
            await submitted(testnet, bench, range(4))
            # What was read before is not lost with the engine, however slow this machine reads.
            await checked(bench, lambda last: last.checked == last.total >= 12)
            await node.inject(KillEngine())
            await submitted(testnet, bench, range(4, 8))
            await checked(bench, lambda last: last.total >= 24 and not last.waiting)
            await node.inject(Rewind(height=Height(max(0, node.heads.height - 3))))
            await submitted(testnet, bench, range(8, 12))
            totals = await checked(bench, lambda last: last.total >= 36 and not last.waiting)
            assert totals.checked + totals.missed + totals.replaced == totals.total
            assert totals.checked >= totals.total - 6  # a block may be lost with its engine
            assert totals.differing == 0


async def test_a_check_that_is_killed_comes_to_the_present_state_again(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet, client_at(tmp_path) as client:
        bench = testnet.rollup(watched=watched_by(client, tmp_path), rewind_window=32)
        async with bench.running():
            await submitted(testnet, bench, range(3))
            await checked(bench, lambda last: last.checked == last.total >= 9)
            os.kill(client.pid, signal.SIGKILL)
            await submitted(testnet, bench, range(3, 5))
            totals = await checked(bench, lambda last: last.history > 0 and not last.waiting and last.total >= 15)
            assert totals.differing == 0
            await submitted(testnet, bench, range(5, 7))
            totals = await checked(bench, lambda last: last.total == 21 and last.checked >= 15 and not last.waiting)
            assert "divergence process ended" in totals.reason
        # And the same after a restart of the node itself.
        again = testnet.rollup(watched=watched_by(client, tmp_path), rewind_window=32)
        async with again.running():
            await submitted(testnet, again, range(7, 9))
            totals = await checked(again, lambda last: last.history >= 21 and not last.waiting and last.checked >= 6)
            assert totals.differing == 0


async def test_samples_are_of_every_kind_and_say_what_they_do_not_see(tmp_path: Path) -> None:
    async with real_testnet(tmp_path) as testnet, client_at(tmp_path) as client:
        watched = watched_by(client, tmp_path, mode="sample", sample_per_s=200)
        bench = testnet.rollup(watched=watched, rewind_window=32)
        async with bench.running() as node:
            await submitted(testnet, bench, range(2))
            await testnet.submit(pair(2), pair(2, values=(2, 2)), pair(9, key=1))  # one is done, two are skipped
            await testnet.next_block()
            await node.inject(Diverge(account=ADDRESSES[0], slot=b"", add=1))
            await submitted(testnet, bench, range(3, 6), keys=1)
            totals = await checked(bench, lambda last: last.checked >= 6 and not last.waiting)
            assert totals.mode == "sample"
            # The altered state is where the samples start from.
            assert totals.differing == 0


def test_what_the_process_is_told_is_one_line() -> None:
    opening = forms.Opening(
        rollup="r", mode=forms.ALL, chain_id=ChainId(1), coinbase=ADDRESSES[0], gas_limit=1, genesis="{\n}",
        genesis_hash=bytes(32), engine_directory="d",
    )  # fmt: skip
    assert forms.opening_line(opening).count(b"\n") == 1
