"""Blocks of Surfpool with parents, so that a reader can walk them.

Surfpool executes transactions and answers as a Solana node does, but its blocks form no chain: a block with
transactions names itself as its parent, and its hash is not the one that the next block names (measured with 1.5). It
has no forks and a block in every slot, so here each block is given the slot before it as its parent, and a hash made
from its slot. What such links cannot show is a fork: that is what the dev node is for. Its block times are thousands of
seconds; who wants time to go on from slot to slot takes it from the slots.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from nodes.model.errors import RpcError
from nodes.rules.hashes import sha256
from nodes.solana.keypairs import base58
from nodes.solana.ports import SolanaRpc

_EARLIEST_S = 1_000_000_000
"""No Solana block is older; a time below counts thousands."""
_DOMAIN = b"surfpool block of slot "


class SurfpoolRpc:
    """The RPC of a Surfpool, its answers to getBlock mended; satisfies `nodes.solana.ports.SolanaRpc`."""

    def __init__(self, rpc: SolanaRpc) -> None:
        self._rpc = rpc

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `SolanaRpc.call`."""
        return _mended(method, params, await self._rpc.call(method, params))

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        """See `SolanaRpc.batch`."""
        answers = await self._rpc.batch(requests)
        return [_mended(method, params, answer) for (method, params), answer in zip(requests, answers)]

    def slots(self) -> AsyncIterator[int]:
        """See `SolanaRpc.slots`."""
        return self._rpc.slots()


def _mended(method: str, params: Sequence[Any], answer: Any) -> Any:
    if method != "getBlock" or not isinstance(answer, dict):
        return answer
    slot = params[0]
    links = {"parentSlot": slot - 1, "blockHeight": slot}
    time_s = answer.get("blockTime")
    if isinstance(time_s, int) and time_s < _EARLIEST_S:
        links["blockTime"] = time_s * 1_000
    return answer | links | {"blockhash": _hash_of(slot), "previousBlockhash": _hash_of(slot - 1)}


def _hash_of(slot: int) -> str:
    return base58(sha256(_DOMAIN + b"%d" % slot))
