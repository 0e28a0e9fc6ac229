"""The chain as users ask for it: blocks by number and hash, transactions and bundles by hash, with every fate.

The newest blocks are in memory, all of them (up to `history_blocks`) in the node's journal. What was pruned raises
Pruned and is never answered as empty. Knows nothing of engines and heads: receipts and logs need the engine and are
served by `node.RollupNode`; which block is safe or final is `heads`.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nodes.model.bundle import Trailer
from nodes.model.errors import Pruned
from nodes.model.execution import Status
from nodes.model.ids import Height, TxHash, hex_of
from nodes.model.status import LegFate
from nodes.rollup.journal import BlockHeader, Journal
from nodes.rollup.key_table import SEGMENT_KEYS, KeyTail, newest_first
from nodes.rollup.records import (
    HeightRecord,
    IndexedBlock,
    LeftOut,
    stored_keys,
    trailer_of_payload,
    transaction_keys,
    unpack_left_out,
)

RECENT_BLOCKS = 1_024
RECENT_BYTES = 16 * 1024 * 1024
"""Blocks in memory are bounded by both; older ones are read from the journal."""
PRUNE_EVERY_BLOCKS = 256
PRUNE_EVERY_HEIGHTS = 4_096
KEPT_HEIGHTS = 100_000
"""Empty heights kept, for the locator and to compare replays."""
MAX_FATES = 256
"""Heights that one lookup visits, newest first; a payload copied more often than this shows its newest fates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionFate:
    """What became of one payload at one height."""

    tx_hash: TxHash
    height: Height
    fate: str
    """succeeded, reverted, skipped, dropped or aborted."""
    reason: str
    """Lower-case name of the skip, drop or abort reason; empty otherwise."""
    block: IndexedBlock | None
    """The block that holds the transaction; None where it is in none."""
    position: int
    """Index in that block; for one that is in none, in the rollup's payload list of the sequenced block."""
    trailer: Trailer | None
    """Which bundle it says it belongs to."""

    @property
    def executed(self) -> bool:
        """It is in a block."""
        return self.block is not None


class ChainIndex:
    """Blocks and fates of one rollup, from genesis or the pruning bound up to the last announced height."""

    def __init__(self, journal: Journal, *, history_blocks: int) -> None:
        self._journal = journal
        self._history_blocks = history_blocks
        self._recent: OrderedDict[int, IndexedBlock] = OrderedDict()
        self._recent_bytes = 0
        self._numbers: dict[bytes, int] = {}
        self._tail = KeyTail()
        self._transactions = journal.transactions_total()
        genesis = journal.block(0)
        assert genesis is not None, "the node stores genesis before it builds the index"
        self._genesis = genesis
        self._head = genesis
        self._oldest_number = 0
        self._oldest_height = Height(0)
        self._restore()

    def _restore(self) -> None:
        last = self._journal.last()
        if last is None:
            return
        self._prune_blocks(last.number)
        self._head = self._head_of_journal()
        for row in self._journal.rows_above(self._journal.highest_segment_height()):
            block, left_out = self._journal.block_at_height(row.height), self._journal.left_out(row.height)
            self._tail.add(row.height, stored_keys(block, left_out))

    # The chain.

    @property
    def genesis(self) -> IndexedBlock:
        """Block 0."""
        return self._genesis

    @property
    def head(self) -> IndexedBlock:
        """The last announced block."""
        return self._head

    @property
    def oldest_number(self) -> int:
        """Blocks below this one, genesis excepted, are pruned."""
        return self._oldest_number

    @property
    def transactions(self) -> int:
        """Executed since genesis."""
        return self._transactions

    def block_by_number(self, number: int) -> IndexedBlock | None:
        """A block; None above the head or for a negative number. Raises Pruned."""
        if number == 0:
            return self._genesis
        if not 0 < number <= self._head.number:
            return None
        block = self._recent.get(number)
        if block is not None:
            return block
        if number >= self._oldest_number:
            block = self._journal.block(number)
        if block is None:
            raise Pruned(f"block {number} is pruned; this node keeps blocks from {self._oldest_number} on")
        return block

    def block_by_hash(self, block_hash: bytes) -> IndexedBlock | None:
        """A block; None for a hash that is not on the chain. Raises Pruned."""
        if block_hash == self._genesis.hash:
            return self._genesis
        number = self._numbers.get(block_hash)
        if number is None:
            number = self._journal.number_of_hash(block_hash)
        return None if number is None else self.block_by_number(number)

    def headers(self, first: int, last: int) -> list[BlockHeader]:
        """(number, hash, bloom) of blocks first to last, both inclusive, as far as the chain goes. Raises Pruned.

        For log searches: a bloom of 256 zero bytes means no logs. One query; ask for at most some thousand at once.
        """
        if 0 < first < self._oldest_number and first <= last:
            raise Pruned(f"block {first} is pruned; this node keeps blocks from {self._oldest_number} on")
        return list(self._journal.headers(first, min(last, self._head.number)))

    # Transactions and bundles.

    def transaction(self, tx_hash: bytes) -> TransactionFate | None:
        """The fate that counts: executed before all else, then the newest. None for an unknown hash. Raises Pruned."""
        # A hash executes at most once, so what the newest keys show as executed needs no search of the older ones.
        recent = self._fates_at(tx_hash, self._tail.heights_of(tx_hash))
        fates = recent if any(fate.executed for fate in recent) else self.fates(tx_hash)
        return next((fate for fate in fates if fate.executed), fates[0] if fates else None)

    def fates(self, tx_hash: bytes) -> list[TransactionFate]:
        """Every fate of the payload with this hash, newest height first. Raises Pruned."""
        return self._fates_at(tx_hash, self._heights_of(tx_hash))

    def _fates_at(self, tx_hash: bytes, hints: Sequence[int]) -> list[TransactionFate]:
        found: list[TransactionFate] = []
        for height, block, left_out in self._places(tx_hash, hints):
            position = None if block is None else block.position_of(tx_hash)
            if block is not None and position is not None:
                found.append(_executed(block, position))
            found += [_left_out(entry, height) for entry in unpack_left_out(left_out) if entry.tx_hash == tx_hash]
        return found

    def bundle_fates(self, bundle_hash: bytes) -> list[LegFate]:
        """Every leg of a bundle that this rollup met, newest height first, then leg index. Raises Pruned."""
        found: list[LegFate] = []
        for height, block, left_out in self._places(bundle_hash, self._heights_of(bundle_hash)):
            legs = [_executed(block, at) for at in _legs_in(block, bundle_hash)] if block is not None else []
            legs += [
                _left_out(entry, height)
                for entry in unpack_left_out(left_out)
                if entry.trailer is not None and entry.trailer.bundle_hash == bundle_hash
            ]
            legs.sort(key=_leg_index)
            found += [_leg_fate(leg) for leg in legs]
        return found

    def _heights_of(self, key: bytes) -> list[int]:
        return self._tail.heights_of(key) + self._journal.heights_of_key(key)

    def _places(self, key: bytes, hints: Sequence[int]) -> Iterator[tuple[Height, IndexedBlock | None, bytes]]:
        """What is stored of every height where a key may have occurred, newest first."""
        for height in newest_first(hints)[:MAX_FATES]:
            if height < self._oldest_height:
                raise Pruned(f"{hex_of(key)} was met at sequenced height {height}, which is pruned")
            number = self._journal.number_at_height(height)
            block = None if number is None else self.block_by_number(number)
            yield Height(height), block, self._journal.left_out(height)

    # Changes. Only the node's executor calls these.

    def append(self, record: HeightRecord, bundle_keys: Sequence[bytes]) -> None:
        """Keep the next executed height; durable against a kill of the process when it returns."""
        block = record.block
        if block is not None or record.left_out:
            self._tail.add(record.height, transaction_keys(block, record.left_out) + b"".join(bundle_keys))
        segment = self._tail.take_segment() if len(self._tail) >= SEGMENT_KEYS else None
        self._journal.append(record, segment)
        if record.height % PRUNE_EVERY_HEIGHTS == 0:
            self._journal.prune_heights(below=self._oldest_height, below_where_empty=record.height - KEPT_HEIGHTS)
        if block is None:
            return
        self._head = block
        self._transactions += len(block)
        self._recent[block.number] = block
        self._recent_bytes += block.size_bytes
        self._numbers[block.hash] = block.number
        while len(self._recent) > RECENT_BLOCKS or self._recent_bytes > RECENT_BYTES:
            self._forget(self._recent.popitem(last=False)[1])
        if block.number % PRUNE_EVERY_BLOCKS == 0:
            self._prune_blocks(block.number)

    def _prune_blocks(self, head_number: int) -> None:
        oldest = self._journal.block(head_number - self._history_blocks)
        if oldest is not None and oldest.number > self._oldest_number:
            if self._tail.lowest_height() < oldest.height:
                # At the next start the tail is read from the journal, which will not have these heights any more.
                self._journal.put_segment(self._tail.take_segment())
            self._journal.prune_blocks(below_number=oldest.number)
            self._oldest_number, self._oldest_height = oldest.number, oldest.height

    def check_rewind(self, height: Height) -> None:
        """Raises Pruned where the block that would be the head after a rewind to a kept height is pruned."""
        target = self._journal.at(height)
        assert target is not None or height == 0, "only to a height that is kept"
        if target is not None and 0 < target.number < self._oldest_number:
            raise Pruned(f"block {target.number} is pruned; this node cannot rewind to sequenced height {height}")

    def rewind(self, height: Height) -> list[IndexedBlock]:
        """Forget everything above a height; the blocks that went, newest first (as far as they were in memory).

        Raises Pruned, and forgets nothing, where the block that would be the head is pruned.
        """
        self.check_rewind(height)
        removed = []
        while self._recent and next(reversed(self._recent.values())).height > height:
            block = self._recent.popitem()[1]
            self._forget(block)
            removed.append(block)
        self._transactions -= self._journal.transactions_above(height)
        self._journal.truncate(height)
        # A segment made of them would name a highest height beyond the keys it has, and a restart trusts that.
        self._tail.rewind(height)
        self._head = self._head_of_journal()
        return removed

    def _head_of_journal(self) -> IndexedBlock:
        last = self._journal.last()
        if last is None or last.number == 0:
            return self._genesis
        head = self._journal.block(last.number)
        assert head is not None, "the head is never pruned"
        return head

    def _forget(self, block: IndexedBlock) -> None:
        self._recent_bytes -= block.size_bytes
        self._numbers.pop(block.hash, None)


def _executed(block: IndexedBlock, position: int) -> TransactionFate:
    return TransactionFate(
        tx_hash=block.tx_hash(position),
        height=block.height,
        fate="succeeded" if block.status(position) is Status.SUCCEEDED else "reverted",
        reason="",
        block=block,
        position=position,
        trailer=trailer_of_payload(block.payload(position)),
    )


def _left_out(entry: LeftOut, height: Height) -> TransactionFate:
    return TransactionFate(
        tx_hash=entry.tx_hash,
        height=height,
        fate=entry.fate,
        reason=entry.reason.name.lower(),
        block=None,
        position=entry.position,
        trailer=entry.trailer,
    )


def _legs_in(block: IndexedBlock, bundle_hash: bytes) -> list[int]:
    """Positions of a bundle's executed legs. Plain searches come first: they rule out nearly everything."""
    if bundle_hash not in block.payloads:
        return []
    candidates = [at for at, payload in enumerate(block.payload_list()) if bundle_hash in payload]
    trailers = [(at, trailer_of_payload(block.payload(at))) for at in candidates]
    return [at for at, trailer in trailers if trailer is not None and trailer.bundle_hash == bundle_hash]


def _leg_index(leg: TransactionFate) -> int:
    assert leg.trailer is not None, "found by its trailer"
    index: int = leg.trailer[1]
    return index


def _leg_fate(leg: TransactionFate) -> LegFate:
    return LegFate(
        leg_index=_leg_index(leg),
        height=leg.height,
        tx_hash=leg.tx_hash,
        fate=leg.fate,
        reason=leg.reason,
        block_number=0 if leg.block is None else leg.block.number,
    )
