"""What the JSON-RPC needs of its node. `nodes.rollup.node.RollupNode` satisfies it; tests bring smaller ones."""

from collections.abc import Sequence
from typing import Any, Protocol

from nodes.model.execution import RollupParams, TestnetParams
from nodes.model.ids import ChainId
from nodes.model.status import Heads, RollupStatus
from nodes.rollup.heads import HeadSubscription
from nodes.rollup.index import ChainIndex
from nodes.rollup.pending import PendingPool
from nodes.rollup.records import IndexedBlock


class NodeView(Protocol):
    """The reading side of a rollup node, and its memory of what users handed in."""

    name: str
    chain_id: ChainId
    params: RollupParams
    testnet: TestnetParams
    pending: PendingPool

    @property
    def index(self) -> ChainIndex:
        """Blocks, transactions and bundles of the announced chain."""
        ...

    @property
    def heads(self) -> Heads:
        """latest, safe and finalized."""
        ...

    def subscribe_heads(self) -> HeadSubscription:
        """Every change of the chain from now on."""
        ...

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """One read of the engine. Raises RpcError, Unavailable, EngineFailure."""
        ...

    async def logs(self, block: IndexedBlock) -> list[dict[str, Any]]:
        """The logs of a block as the engine gave them. Raises Pruned, Unavailable."""
        ...

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt as the engine gave it; None for a transaction in no block. Raises Pruned, Unavailable."""
        ...

    async def status(self) -> RollupStatus:
        """A snapshot."""
        ...
