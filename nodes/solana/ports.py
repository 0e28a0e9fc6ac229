"""How the parts around a Solana chain see its RPC, so that a test can put a chain without sockets in its place."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from nodes.model.errors import RpcError

ACCOUNTS_PER_CALL = 100
"""What `getMultipleAccounts` takes."""
STATUSES_PER_CALL = 256
"""Signatures that `getSignatureStatuses` takes."""


class SolanaRpc(Protocol):
    """JSON-RPC of one Solana node."""

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """The `result` of one request. Raises RpcError for an error answer, Unavailable where nobody answers."""
        ...

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        """Answers in the order of the requests; one request on the wire where the node takes batches.

        Raises Unavailable where nobody answers; an error answer stands in its place in the list.
        """
        ...

    def slots(self) -> AsyncIterator[int]:
        """A wake-up: the processed slot, whenever it changes and after each reconnection. Never ends by itself.

        A subscription where the node offers one; a slow reader misses numbers in between, never the newest.
        """
        ...
