"""A dev node's chain behind real sockets in this process, and a plain JSON-RPC client that shows whole answers."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from nodes.model.errors import RpcError
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.faults import ChainAdmin
from nodes.solana.devnode.rpc.dispatch import Dispatcher
from nodes.solana.devnode.rpc.server import RpcServer
from tests.support.solana_chain import new_chain

ANSWER_S = 60.0
FAST = SolanaTiming(slot_ms=20, confirm_slots=2, finalize_slots=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A chain that moves when told, and its server."""

    chain: Chain
    server: RpcServer
    http: "HttpRpc"

    async def settle(self, _signatures: Sequence[str]) -> None:
        """Let slots pass until everything sent so far is confirmed."""
        self.chain.tick(self.chain.config.timing.confirm_slots + 1)


class HttpRpc:
    """JSON-RPC over HTTP, one request at a time or in batches; enough of `SolanaRpc` for tests."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url

    async def answer(self, method: str, *params: Any) -> dict[str, Any]:
        """The whole answer, error or not."""
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        async with self.session.post(self.url, json=body, timeout=aiohttp.ClientTimeout(total=ANSWER_S)) as response:
            answer: dict[str, Any] = await response.json()
            return answer

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See SolanaRpc."""
        return _result(await self.answer(method, *params), method)

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        """See SolanaRpc; one by one, since not every node takes batches."""
        answers: list[Any | RpcError] = []
        for method, params in requests:
            try:
                answers.append(await self.call(method, params))
            except RpcError as error:
                answers.append(error)
        return answers

    async def slots(self) -> AsyncIterator[int]:
        """See SolanaRpc; no test here waits for it."""
        yield await self.call("getSlot", [{"commitment": "processed"}])


def _result(answer: Mapping[str, Any], method: str) -> Any:
    error = answer.get("error")
    if error is not None:
        raise RpcError(method=method, code=error["code"], message=error["message"], data=error.get("data"))
    return answer["result"]


@asynccontextmanager
async def served_chain(**options: Any) -> AsyncIterator[Served]:
    """Serve a new chain on a port of the OS."""
    chain = new_chain(**({"timing": FAST} | options))
    server = RpcServer(Dispatcher(chain, ChainAdmin(chain)), "127.0.0.1", 0)
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        group.create_task(server.run())
        try:
            await server.wait_ready()
            yield Served(chain=chain, server=server, http=HttpRpc(session, server.rpc_url))
        finally:
            server.stop()
