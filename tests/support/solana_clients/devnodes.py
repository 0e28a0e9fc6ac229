"""A dev node as a process of its own, its clock running, for clients that are not Python."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from nodes.child_process import tied_command
from nodes.model.json_form import to_json
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.config import ChainConfig, DevnodeConfig
from tests.support.patience import PATIENCE_S
from tests.support.solana_clients.served import HttpRpc

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
QUICK = SolanaTiming(slot_ms=80, confirm_slots=2, finalize_slots=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Devnode:
    """A running one."""

    http: HttpRpc
    rpc_url: str
    ws_url: str
    pid: int


@asynccontextmanager
async def devnode(directory: Path, *, timing: SolanaTiming = QUICK) -> AsyncIterator[Devnode]:
    """Start one and let its clock run; it ends with the test."""
    path = _write_config(directory, timing)
    process = await asyncio.create_subprocess_exec(
        *tied_command(sys.executable, ["-m", "nodes.solana.devnode", str(path)]),
        cwd=ROOT,
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
            await http.call("devnode_run")
            yield Devnode(http=http, rpc_url=said["rpc_url"], ws_url=said["ws_url"], pid=said["pid"])
    finally:
        process.terminate()
        async with asyncio.timeout(PATIENCE_S):
            await process.wait()


def _write_config(directory: Path, timing: SolanaTiming) -> Path:
    config = DevnodeConfig(directory=str(directory), chain=ChainConfig(timing=timing, genesis_time_s=0))
    path = directory / "config.json"
    path.write_bytes(orjson.dumps(to_json(config)))
    return path


async def run_script(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """Run one of the scripts beside this file by node; what it saw. Fails the test with its output where it fails."""
    process = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / name),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            output, errors = await process.communicate(json.dumps(given).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()[-4_000:]
    seen: dict[str, Any] = json.loads(output)
    return seen
