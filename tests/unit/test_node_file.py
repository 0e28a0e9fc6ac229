"""A node's file that is opened in a thread: closed in any case, since a thread cannot be cancelled."""

import asyncio
import threading
from contextlib import AsyncExitStack

import pytest

from nodes.node_file import opened_in_thread
from tests.support.patience import PATIENCE_S


class File:
    """Takes as long to open as it is told."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_open = threading.Event()
        self.is_closed = False

    def open(self) -> "File":
        self.begun.set()
        assert self.may_open.wait(PATIENCE_S)
        return self

    def close(self) -> None:
        self.is_closed = True


async def run(file: File) -> None:
    async with AsyncExitStack() as opened:
        assert await opened_in_thread(file.open, opened) is file
        assert not file.is_closed


async def test_a_file_is_closed_with_what_uses_it() -> None:
    file = File()
    file.may_open.set()
    await run(file)
    assert file.is_closed


async def test_a_file_that_was_being_opened_at_a_cancellation_is_closed() -> None:
    file = File()
    running = asyncio.ensure_future(run(file))
    await asyncio.to_thread(file.begun.wait, PATIENCE_S)
    running.cancel()
    file.may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert file.is_closed


async def test_what_cannot_be_opened_is_raised() -> None:
    def refuse() -> File:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        async with AsyncExitStack() as opened:
            await opened_in_thread(refuse, opened)
