"""The past of the live branch: blocks by slot, transactions by signature and address, pre-images by block. No rules.

Abandoned blocks leave it from the newest end, old ones from the oldest, so every index is a queue with two ends.
"""

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from solders.hash import Hash
from solders.pubkey import Pubkey

from nodes.solana.devnode.bank import PreImages
from nodes.solana.devnode.values import ExecutedTransaction, FrozenBlock

_BLOCKHASHES_KEPT = 1_024
"""More than may be valid at once, since a fork makes older ones young again."""


@dataclass(slots=True)
class ChainBlock:
    """A block of the live branch and what takes it back."""

    block: FrozenBlock
    parent: "ChainBlock | None"
    """None where the parent was pruned, and for the genesis block."""
    undo: PreImages | None
    """Accounts before the block; None once they were pruned."""


class History:
    """The live branch, from the oldest block in memory to the newest one, and the transactions of the open slot."""

    def __init__(self, genesis: FrozenBlock) -> None:
        self.tip = ChainBlock(genesis, None, {})
        """The newest block."""
        self.oldest = self.tip
        self._blocks: dict[int, ChainBlock] = {genesis.slot: self.tip}
        self._slots: list[int] = [genesis.slot]
        self._with_undo: deque[ChainBlock] = deque([self.tip])
        self._heights: dict[Hash, int] = {genesis.blockhash: genesis.height}
        self._by_signature: dict[str, ExecutedTransaction] = {}
        self._by_address: dict[Pubkey, deque[ExecutedTransaction]] = {}

    # -- reading ------------------------------------------------------------------------------------------------------

    def block(self, slot: int) -> ChainBlock | None:
        """The block of a slot."""
        return self._blocks.get(slot)

    def newest_until(self, slot: int) -> ChainBlock:
        """The newest block at or below a slot; the oldest one in memory where all are above."""
        return self._blocks[self._slots[max(0, bisect_right(self._slots, slot) - 1)]]

    def slots_between(self, start: int, end: int) -> Sequence[int]:
        """Slots that have a block, both ends included."""
        return self._slots[bisect_left(self._slots, start) : bisect_right(self._slots, end)]

    def blocks_after(self, slot: int) -> Iterator[ChainBlock]:
        """Blocks above a slot, newest first."""
        node: ChainBlock | None = self.tip
        while node is not None and node.block.slot > slot:
            yield node
            node = node.parent

    def height_of(self, blockhash: Hash) -> int | None:
        """Height of the block that has this hash; None where it is unknown, old or expired."""
        return self._heights.get(blockhash)

    def transaction(self, signature: str) -> ExecutedTransaction | None:
        """A transaction of the branch or of the open slot."""
        return self._by_signature.get(signature)

    def of_address(self, address: Pubkey) -> Iterator[ExecutedTransaction]:
        """Transactions that name an address, newest first."""
        return reversed(self._by_address.get(address, ()))

    @property
    def transactions_count(self) -> int:
        """Transactions in memory."""
        return len(self._by_signature)

    @property
    def blocks_count(self) -> int:
        """Blocks in memory."""
        return len(self._slots)

    # -- the newest end -----------------------------------------------------------------------------------------------

    def add_transaction(self, transaction: ExecutedTransaction) -> None:
        """The newest transaction, in the open slot."""
        self._by_signature[transaction.signature] = transaction
        by_address = self._by_address
        for key in transaction.accounts.keys:
            found = by_address.get(key)
            if found is None:
                by_address[key] = deque((transaction,))
            else:
                found.append(transaction)

    def remove_newest(self, transactions: Iterable[ExecutedTransaction]) -> None:
        """Forget transactions of the open slot or of abandoned blocks. They must come newest first."""
        for transaction in transactions:
            del self._by_signature[transaction.signature]
            for key in transaction.accounts.keys:
                found = self._by_address[key]
                assert found.pop() is transaction, "transactions leave an address in the order opposite to their coming"
                if not found:
                    del self._by_address[key]

    def add_block(self, block: FrozenBlock, undo: PreImages) -> None:
        """The open slot became a block; its transactions are known already."""
        self.tip = ChainBlock(block, self.tip, undo)
        self._blocks[block.slot] = self.tip
        self._slots.append(block.slot)
        self._with_undo.append(self.tip)
        self._heights[block.blockhash] = block.height
        if len(self._heights) > _BLOCKHASHES_KEPT:
            del self._heights[next(iter(self._heights))]

    def remove_tip(self) -> ChainBlock:
        """Abandon the newest block, with its transactions. Its undo data must still be there."""
        node = self.tip
        assert node.parent is not None, "the oldest block was to be abandoned"
        assert node.undo is not None, "a finalized block was to be abandoned"
        self.tip = node.parent
        del self._blocks[node.block.slot]
        self._slots.pop()
        self._with_undo.pop()
        self._heights.pop(node.block.blockhash, None)
        self.remove_newest(reversed(node.block.transactions))
        return node

    def expire_blockhashes(self) -> None:
        """Forget every blockhash so far."""
        self._heights.clear()

    # -- the oldest end -----------------------------------------------------------------------------------------------

    def prune_undo(self, *, below_slot: int) -> None:
        """Drop the pre-images of blocks below a slot."""
        queue = self._with_undo
        while queue and queue[0].block.slot < below_slot:
            queue.popleft().undo = None

    def prune_oldest(self) -> None:
        """Drop the oldest block, with its transactions."""
        slots = self._slots
        assert len(slots) > 1, "the newest block is never pruned"
        node = self._blocks.pop(slots[0])
        del slots[0]
        for transaction in node.block.transactions:
            del self._by_signature[transaction.signature]
            for key in transaction.accounts.keys:
                found = self._by_address[key]
                assert found.popleft() is transaction, "transactions leave an address in the order of their coming"
                if not found:
                    del self._by_address[key]
        self.oldest = self._blocks[slots[0]]
        self.oldest.parent = None
