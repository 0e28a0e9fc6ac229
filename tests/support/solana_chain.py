"""A Solana chain in this process: the dev node's chain behind its own JSON-RPC, without sockets and without a clock."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from nodes.model.errors import RpcError
from nodes.model.solana import SolanaTiming
from nodes.solana.devnode.chain import Chain
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.faults import ChainAdmin
from nodes.solana.devnode.rpc.dispatch import Dispatcher
from nodes.solana.devnode.values import Event, SlotOpened


def new_chain(*, seed: int = 1, timing: SolanaTiming | None = None, **options: Any) -> Chain:
    """A chain that moves when told: `chain.tick()`. `options` are those of ChainConfig."""
    return Chain(ChainConfig(seed=seed, timing=timing or SolanaTiming(), **options))


class InProcessRpc:
    """The RPC of a chain in this process; satisfies `nodes.solana.ports.SolanaRpc`.

    Every request takes the same way as over HTTP, bytes included, so refusals and forms are the real ones.
    """

    def __init__(self, chain: Chain, *, max_batch: int | None = None) -> None:
        """`max_batch` is the largest number of requests passed on in one body; None = all of them."""
        self.chain = chain
        self.dispatcher = Dispatcher(chain, ChainAdmin(chain))
        self.calls_count = 0
        """Requests so far."""
        self._max_batch = max_batch
        self._changed = asyncio.Event()
        chain.listeners.append(self._on_event)

    def tick(self, slots: int = 1) -> None:
        """Let slots pass."""
        self.chain.tick(slots)

    def ask(self, method: str, *params: Any) -> Any:
        """`call` without awaiting."""
        (answer,) = self._exchange([(method, params)])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See SolanaRpc."""
        return self.ask(method, *params)

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        """See SolanaRpc."""
        size = self._max_batch or max(1, len(requests))
        answers: list[Any | RpcError] = []
        for at in range(0, len(requests), size):
            answers += self._exchange(requests[at : at + size])
        return answers

    async def slots(self) -> AsyncIterator[int]:
        """See SolanaRpc."""
        while True:
            self._changed.clear()
            yield self.chain.slot("processed")
            await self._changed.wait()

    def _on_event(self, event: Event) -> None:
        if isinstance(event, SlotOpened):
            self._changed.set()

    def _exchange(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        if not requests:
            return []
        self.calls_count += len(requests)
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(requests)
        ]
        answers = orjson.loads(self.dispatcher.handle(orjson.dumps(body)))
        return [_result(answer, method) for answer, (method, _) in zip(answers, requests, strict=True)]


def _result(answer: Mapping[str, Any], method: str) -> Any | RpcError:
    error = answer.get("error")
    if error is None:
        return answer["result"]
    return RpcError(method=method, code=error["code"], message=error["message"], data=error.get("data"))
