"""The dev node as a process: its line, its clock, kill -9 and restart, SIGTERM, being down."""

import asyncio
import base64
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from solders.hash import Hash

from nodes.model.json_form import to_json
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.config import ChainConfig, DevnodeConfig
from tests.support.patience import PATIENCE_S
from tests.support.solana_transactions import SOL, keypair, transfer_of

ALICE, BOB = keypair("alice"), keypair("bob").pubkey()
CONFIRMED = {"commitment": "confirmed"}


class Node:
    """A running dev node and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.url = url
        self._session = session

    async def post(self, method: str, *params: Any) -> tuple[int, Any]:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self._session.post(self.url, json=body) as response:
            text = await response.text()
            return response.status, json.loads(text) if response.status == 200 else text

    async def call(self, method: str, *params: Any) -> Any:
        status, answer = await self.post(method, *params)
        assert status == 200, answer
        assert "error" not in answer, answer
        return answer["result"]

    async def wait_slot(self, slot: int, level: str = "confirmed") -> int:
        async with asyncio.timeout(PATIENCE_S):
            while (now := await self.call("getSlot", {"commitment": level})) < slot:
                pass
        return int(now)


@asynccontextmanager
async def running(path: Path) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "nodes.solana.devnode", str(path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = json.loads(await process.stdout.readline())
        assert line["pid"] == process.pid
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
            yield Node(process, line["rpc_url"], session)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    chain = ChainConfig(genesis_time_s=0, timing=SolanaTiming(slot_ms=20, confirm_slots=2, finalize_slots=8))
    path = tmp_path / "config.json"
    path.write_text(json.dumps(to_json(DevnodeConfig(directory=str(tmp_path / "node"), chain=chain))))
    return path


async def pay(node: Node, nonce: int) -> str:
    options = {"encoding": "base64", "preflightCommitment": "confirmed"}
    while True:
        latest = await node.call("getLatestBlockhash", CONFIRMED)
        raw = transfer_of(ALICE, BOB, SOL, Hash.from_string(latest["value"]["blockhash"]), nonce=nonce)
        _, answer = await node.post("sendTransaction", base64.b64encode(raw).decode(), options)
        if "result" in answer:
            return str(answer["result"])
        # A blockhash lasts three seconds here, which a busy machine may lose between the two calls.
        assert "Blockhash not found" in answer["error"]["message"]


async def test_it_stands_until_told_to_run_and_survives_a_kill(config: Path) -> None:
    async with running(config) as node:
        start = await node.call("getSlot", {"commitment": "processed"})
        await node.call("requestAirdrop", str(ALICE.pubkey()), 100 * SOL)
        assert await node.call("devnode_tick", {"slots": 10}) == start + 10
        # Before the clock runs, so that no blockhash expires while this process waits for its turn.
        signature = await pay(node, 1)
        await node.call("devnode_run")
        await node.wait_slot(start + 40)
        blocks = await node.call("getBlocks", start, start + 20, CONFIRMED)
        hashes = {slot: (await node.call("getBlock", slot, CONFIRMED))["blockhash"] for slot in blocks}
        node.process.kill()
        await node.process.wait()
    async with running(config) as node:
        assert (await node.call("devnode_status"))["running"]
        status = (await node.call("getSignatureStatuses", [signature], {"searchTransactionHistory": True}))["value"][0]
        assert status["err"] is None
        await node.wait_slot(start + 80)
        for slot, blockhash in hashes.items():
            assert (await node.call("getBlock", slot, CONFIRMED))["blockhash"] == blockhash
        assert (await node.call("getBalance", str(BOB), CONFIRMED))["value"] == SOL
        await pay(node, 2)
        node.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE_S):
            assert await node.process.wait() == 0


async def test_a_node_that_is_down_comes_back_and_its_chain_went_on(config: Path) -> None:
    async with running(config) as node:
        before = await node.call("devnode_run")
        assert await node.call("devnode_down", {"forMs": 3_000})
        status, _ = await node.post("getSlot")
        assert status == 503
        async with asyncio.timeout(PATIENCE_S):
            while (await node.post("getSlot"))[0] == 503:
                pass
        assert await node.call("getSlot", {"commitment": "processed"}) >= before + 9


async def test_an_expected_error_is_one_line(config: Path) -> None:
    async with running(config):
        second = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nodes.solana.devnode", str(config), stderr=asyncio.subprocess.PIPE
        )
        async with asyncio.timeout(PATIENCE_S):
            _, errors = await second.communicate()
        assert second.returncode == 1
        assert errors.startswith(b"error: ")
        assert b"in use by another process" in errors
        assert errors.count(b"\n") == 1
