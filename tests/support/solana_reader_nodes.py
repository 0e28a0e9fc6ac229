"""Nodes that a test makes lag, lie or refuse, and what moves a reader in such tests."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from nodes.model.bundle import Bundle
from nodes.model.errors import RpcError
from nodes.solana.reader import Reader
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_chain import InProcessRpc
from tests.support.solana_reading import (
    Heard,
    World,
    hash_of,
    read_all,
)

Change = Callable[[str, Sequence[Any], Any], Any]


class ChangedRpc:
    """A node whose answers a test changes: (method, params, answer) to the answer that is given."""

    def __init__(self, rpc: InProcessRpc, change: Change | None = None) -> None:
        self._rpc = rpc
        self.change = change

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        (answer,) = await self.batch([(method, params)])
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        answers = await self._rpc.batch(requests)
        if self.change is None:
            return answers
        return [self.change(method, params, answer) for (method, params), answer in zip(requests, answers)]

    def slots(self) -> AsyncIterator[int]:
        return self._rpc.slots()


async def post(world: World, heard: Heard, bundles: Sequence[Bundle]) -> None:
    """Hand bundles to the submitter, and let it send them."""
    assert heard.submitter is not None
    heard.submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle)) for bundle in bundles])
    await heard.submitter.step()


async def advance(world: World, heard: Heard, reader: Reader, slots: int) -> None:
    for _ in range(slots):
        if heard.submitter is not None:
            await heard.submitter.step()
        await world.tick()
        await read_all(reader)


async def straight_hashes(world: World) -> list[bytes]:
    """What a reader gives that nothing happened to."""
    heard = Heard()
    await read_all(world.reader(heard, store=world.store("straight")))
    return heard.hashes


def refusal(code: int, message: str = "no") -> RpcError:
    return RpcError(method="getBlock", code=code, message=message)
