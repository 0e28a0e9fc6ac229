"""Rollup nodes with their JSON-RPC on a real testnet in one event loop, and a small client for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from nodes.model.execution import TestnetParams
from nodes.rollup.node import RollupNode
from nodes.rollup.rpc.server import RpcServer
from tests.support.rollup_fakes import Bench
from tests.support.rollup_testnet import HERE, THERE, RealTestnet, real_testnet

ANSWER_S = 60.0
"""Patience of a test for one answer."""


class Refused(Exception):
    """A JSON-RPC error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: int = error["code"]
        self.message: str = error["message"]
        self.data: Any = error.get("data")


class RpcClient:
    """Calls one URL by HTTP."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def post(self, body: Any) -> Any:
        """Any JSON body; the decoded answer."""
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with self.session.post(self.url, json=body, timeout=timeout) as response:
            return await response.json()

    async def call(self, method: str, *params: Any) -> Any:
        """The result of one request. Raises Refused."""
        answer = await self.post({"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)})
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    async def refusal(self, method: str, *params: Any) -> Refused:
        """The error of a request that must be refused."""
        try:
            result = await self.call(method, *params)
        except Refused as refused:
            return refused
        raise AssertionError(f"{method} answered {result!r}")


@dataclass(slots=True)
class Served:
    """One rollup node and its JSON-RPC."""

    node: RollupNode
    rpc: RpcClient
    bench: Bench
    testnet: RealTestnet

    async def settled(self, tx_hash: str) -> dict[str, Any]:
        """The status of a transaction, once it is neither pending nor unknown."""
        async with asyncio.timeout(ANSWER_S):
            heads = self.node.follow_heads()
            try:
                async for _ in heads:
                    status: dict[str, Any] = await self.rpc.call("lockstep_getTransactionStatus", tx_hash)
                    if status["status"] not in ("pending", "unknown"):
                        return status
            finally:
                await heads.aclose()  # type: ignore[attr-defined]  # a generator, which the Protocol does not promise
        raise AssertionError("the node ended")


@asynccontextmanager
async def rpc_testnet(
    directory: Path, *, chains: tuple[int, ...] = (HERE,), testnet: TestnetParams | None = None, **config: Any
) -> AsyncIterator[dict[int, Served]]:
    """A lazy sequencer and one rollup node with JSON-RPC per chain, by chain id."""
    options = {} if testnet is None else {"testnet": testnet}
    async with real_testnet(directory, **options) as real, AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        served = {}
        for chain in chains:
            bench = real.rollup(f"node-{chain}", chain=chain, **config)
            node = await stack.enter_async_context(bench.running())
            url = await stack.enter_async_context(_serving(node, real))
            served[chain] = Served(node, RpcClient(session, url), bench, real)
        yield served


@asynccontextmanager
async def _serving(node: RollupNode, real: RealTestnet) -> AsyncIterator[str]:
    server = RpcServer(node, real.client, "127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        group.create_task(server.run(), name="JSON-RPC under test")
        await server.wait_ready()
        yield server.rpc_url
        server.stop()


__all__ = ["HERE", "THERE", "Refused", "RpcClient", "Served", "rpc_testnet"]
