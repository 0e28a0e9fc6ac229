"""One sequencer's Solana: a dev node that comes back, however often that fails, and a stop while it all starts."""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, rollup_id_of
from nodes.model.solana import DEVNODE, SolanaTiming
from nodes.node_file import lock
from nodes.ports import direct
from nodes.sequencer import solana
from nodes.sequencer.solana_node import SolanaSequencer
from nodes.solana.devnode.ledger import LEDGER_FILE, LOCK_FILE
from nodes.solana.reader_store import ReaderStore
from nodes.solana.session import SessionConfig, SolanaSession
from tests.support.patience import PATIENCE_S
from tests.support.sequencers import make_node


@asynccontextmanager
async def opened(directory: Path, say: Callable[[str], None] = print) -> AsyncIterator[SolanaSession]:
    config = SessionConfig(
        solana=DEVNODE,
        ws_url="",
        timing=SolanaTiming(slot_ms=20, confirm_slots=2, finalize_slots=5),
        keypair="",
        payer_seed=b"\x11" * 32,
        payers=1,
        rollup_ids=tuple(sorted([rollup_id_of(1), NOTICE_ROLLUP_ID])),
        chain_id=b"\x22" * 32,
        has_lookup_table=False,
        is_memo=False,
    )
    async with asyncio.timeout(PATIENCE_S), AsyncExitStack() as stack:
        session = SolanaSession(config, directory, link=direct, say=say)
        await session.open(stack)
        yield session


class Said(logging.Handler):
    """What was logged or said, to wait for."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._lines: list[str] = []
        self._news = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.take(record.getMessage())

    def take(self, line: str) -> None:
        self._lines.append(line)
        self._news.set()

    async def until(self, text: str) -> None:
        while not any(text in line for line in self._lines):
            self._news.clear()
            await self._news.wait()


@pytest.fixture(name="said")
def _said() -> Iterator[Said]:
    said, log = Said(), logging.getLogger("nodes.solana.session")
    log.addHandler(said)
    yield said
    log.removeHandler(said)


async def test_a_dev_node_that_cannot_start_again_yet_is_tried_until_it_can(tmp_path: Path, said: Said) -> None:
    async with opened(tmp_path, said.take) as session:
        pid, url = session.pid, session.endpoint.rpc_url
        async with asyncio.TaskGroup() as group:
            alive = group.create_task(session.keep_alive())
            session.kill()
            await said.until("starting it again")
            held = lock(tmp_path / DEVNODE / LOCK_FILE)  # the process is gone, and another one has its ledger
            await said.until("in use by another process")
            assert not alive.done()
            held.close()
            await said.until("goes on as process")
            assert session.pid != pid
            assert session.endpoint.rpc_url == url
            assert await session.rpc.call("getSlot") > 0
            alive.cancel()


async def test_a_damaged_ledger_ends_it(tmp_path: Path) -> None:
    async with opened(tmp_path) as session:
        session.kill()
        path = tmp_path / DEVNODE / LEDGER_FILE
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(InvalidInput, match="is damaged at byte"):
            await session.keep_alive()


async def test_a_chain_of_ones_own_keeps_its_blocks_for_a_reader_that_is_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as session:
        first = await session.rpc.call("getFirstAvailableBlock")
        for _ in range(5):
            await session.rpc.call("devnode_tick", [{"slots": 1_000}])
        assert await session.rpc.call("getFirstAvailableBlock") == first
        assert await session.rpc.call("getBlocksWithLimit", [session.inbox.origin_slot + 1, 1])


async def test_the_inbox_begins_before_its_first_account(tmp_path: Path) -> None:
    """On another start, and once it is final, with the same slot."""
    async with opened(tmp_path) as session:
        origin_slot = session.inbox.origin_slot
    async with opened(tmp_path) as session:
        assert session.inbox.origin_slot == origin_slot


async def test_a_stop_during_the_start_closes_files_that_nobody_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    began, go_on = threading.Event(), threading.Event()
    continue_chain, close = SolanaSequencer._continue_chain, ReaderStore.close

    def slowly(self: SolanaSequencer, *arguments: object) -> object:
        began.set()
        assert go_on.wait(PATIENCE_S)
        chain = continue_chain(self, *arguments)  # type: ignore[arg-type]  # as they came
        said.append("continued")
        return chain

    def closed(self: ReaderStore) -> None:
        said.append("closed")
        close(self)

    monkeypatch.setattr(SolanaSequencer, "_continue_chain", slowly)
    monkeypatch.setattr(ReaderStore, "close", closed)
    node = make_node(tmp_path, backend=solana.BACKEND)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(node.run())
        assert await asyncio.to_thread(began.wait, PATIENCE_S)
        node.stop()
        for _ in range(20):
            await asyncio.sleep(0)
        assert said == []
        go_on.set()
        with pytest.raises(Unavailable):
            await node.wait_ready()
    assert said == ["continued", "closed"]
