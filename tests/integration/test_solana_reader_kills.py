"""A reader that is killed by SIGKILL in the middle of a step goes on as if nothing had been."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from tests.support.solana_reader_process import SLOTS, grow, open_world
from tests.support.solana_reading import Heard, read_all
from tests.tidy.repository import ROOT


@pytest.mark.parametrize(
    "crash", ["solana.reader_before_commit:40", "solana.reader_in_commit:90", "solana.reader_after_commit:117"]
)
async def test_a_killed_reader_goes_on(tmp_path: Path, crash: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.solana_reader_process", str(tmp_path), crash, cwd=ROOT
    )
    async with asyncio.timeout(PATIENCE_S):
        assert await process.wait() == -signal.SIGKILL
    world = await open_world(tmp_path)
    await grow(world, None)
    store = world.store()
    taken = store.place().step
    assert taken == int(crash.partition(":")[2]) - (not crash.startswith("solana.reader_after"))
    heard = Heard(head=store.last_blocks(1)[0].ref)
    await read_all(world.reader(heard, store=store))
    assert heard.stalls == []
    straight = Heard()
    await read_all(world.reader(straight, store=world.store("straight")))
    assert [stored.ref.hash for stored in store.last_blocks(10_000)] == straight.hashes
    assert len(straight.order) > 3 * (SLOTS - 5)
    world.close()
