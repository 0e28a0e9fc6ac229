"""A Surfpool for a test, and waiting for its clock."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import orjson
import pytest

from nodes.child_process import tied_command
from nodes.model.errors import MissingTool
from nodes.solana.surfpool import find_package, surfpool_command
from tests.support.patience import PATIENCE_S
from tests.support.solana_clients.served import ANSWER_S, HttpRpc

SLOT_MS = 40


def need_node() -> None:
    """Skip where there is no node to run clients with."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")


def need_surfpool() -> None:
    """Skip where Surfpool cannot run, saying why."""
    need_node()
    try:
        find_package()
    except MissingTool as missing:
        pytest.skip(str(missing))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surfpool:
    """A running one."""

    http: HttpRpc
    ws_url: str
    pid: int
    payer: str

    async def settle(self, signatures: Sequence[str]) -> None:
        """Wait until these are confirmed."""
        async with asyncio.timeout(ANSWER_S):
            while True:
                answer = await self.http.call("getSignatureStatuses", [list(signatures)])
                levels = [status and status["confirmationStatus"] for status in answer["value"]]
                if all(level in ("confirmed", "finalized") for level in levels):
                    return
                await asyncio.sleep(SLOT_MS / 4_000)  # its clock is its own; nothing tells us of every slot


@asynccontextmanager
async def surfpool() -> AsyncIterator[Surfpool]:
    """Start one, and end it with the test."""
    command = surfpool_command(slot_ms=SLOT_MS)
    process = await asyncio.create_subprocess_exec(
        *tied_command(command[0], command[1:]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            said = orjson.loads(await process.stdout.readline())
        async with aiohttp.ClientSession() as session:
            http = HttpRpc(session, said["rpc_url"])
            yield Surfpool(http=http, ws_url=said["ws_url"], pid=said["pid"], payer=said["payer"])
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()
