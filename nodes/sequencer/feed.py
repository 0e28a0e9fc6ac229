"""Serving the order: every follower gets every block after its place, filtered for its rollup, without gaps.

The last blocks stand in memory with their trees; a follower that lags is served from the durable log until it has
caught up. Followers wait for a wake-up, nothing polls, and a slow reader is held back by its own stream. Knows only
durable blocks; how they came to be, and when they become firm, is the backend's.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

from nodes.model import limits
from nodes.model.errors import LimitExceeded, Pruned, Unavailable, UnknownName
from nodes.model.faults import EvidenceKind
from nodes.model.ids import HeaderHash, Height, RollupId, hex_of
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    RolledBack,
    SequencedBlock,
    SequencerEvent,
)
from nodes.node_file import to_end
from nodes.rules.sequenced_block import BlockTrees, filter_block
from nodes.rules.withholding import withhold
from nodes.telemetry.clock import thread_cpu_ns
from nodes.wire.blocks import stored_block_from_bytes

MEMORY_BYTES_MAX = 64 * 1024 * 1024
"""Payloads and rows of the blocks kept in memory, and again of those read back from the log."""


class ServedBlock(NamedTuple):
    """A block with everything that filtering needs."""

    block: SequencedBlock
    trees: BlockTrees
    size_bytes: int
    """Of payloads and rows; many small legs make large rows."""

    @property
    def ref(self) -> BlockRef:
        """Where it stands."""
        return BlockRef(height=self.block.header.height, hash=self.block.header_hash)

    @classmethod
    def of(cls, block: SequencedBlock, trees: BlockTrees) -> "ServedBlock":
        """With its bytes counted."""
        items = [item for content in block.contents.values() for item in (*content.payloads, *content.rows)]
        return cls(block, trees, sum(map(len, items)))


class StoredBlocks(Protocol):
    """The durable log as the feed reads it, in a thread of its own."""

    def block_bytes(self, height: int) -> bytes:
        """One stored block, serialized. Raises Pruned where the log does not hold it."""
        ...

    def hashes_of(self, heights: Sequence[int]) -> dict[int, HeaderHash]:
        """Hashes of the blocks that the log holds at these heights."""
        ...


class _Follower:
    """Where one stream stands."""

    def __init__(self, place: BlockRef) -> None:
        self.place = place
        self.rolled_back_to: BlockRef | None = None
        self.told_firm = 0
        """Height up to which it knows its blocks to be firm."""

    def roll_back(self, to: BlockRef) -> None:
        if self.place.height > to.height:
            self.place = self.rolled_back_to = to
            self.told_firm = min(self.told_firm, to.height)


class BlockFeed:
    """The durable chain of one sequencer as its followers see it."""

    def __init__(
        self,
        *,
        log: StoredBlocks,
        genesis: BlockRef,
        head: BlockRef,
        rollup_ids: Sequence[RollupId],
        firm_height: int | None = None,
    ) -> None:
        """`firm_height`: up to where blocks are firm; None where each is firm once it is announced."""
        self._log = log
        self._genesis = genesis
        self._head = head
        self._rollup_ids = frozenset(rollup_ids)
        self._firm_at_once = firm_height is None
        self._firm_height = head.height if firm_height is None else firm_height
        self._recent: deque[ServedBlock] = deque()
        self._recent_bytes = 0
        self._read_back: OrderedDict[HeaderHash, ServedBlock] = OrderedDict()
        self._read_back_bytes = 0
        self._followers: set[_Follower] = set()
        self._roll_backs = 0
        self._news = asyncio.Event()
        self._news_count = 0
        self._has_ended = False
        self._withheld: tuple[EvidenceKind, int] | None = None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sequencer-read")
        self.cpu_ns = 0
        """Thread CPU time of filtering."""

    @property
    def head(self) -> BlockRef:
        """The newest block announced."""
        return self._head

    @property
    def firm_height(self) -> int:
        """Blocks up to here are firm."""
        return self._firm_height

    @property
    def oldest_recent_height(self) -> int:
        """Lowest height in memory; one above the head where none is."""
        return self._recent[0].block.header.height if self._recent else self._head.height + 1

    def parent_of(self, height: int) -> BlockRef:
        """The parent of a block in memory."""
        header = self._recent[height - self.oldest_recent_height].block.header
        return BlockRef(height=Height(height - 1), hash=header.parent_hash)

    def announce(self, served: ServedBlock) -> None:
        """A block is durable: every follower may have it."""
        assert served.block.header.parent_hash == self._head.hash, "blocks are announced in order"
        self._recent.append(served)
        self._recent_bytes += served.size_bytes
        while len(self._recent) > limits.FOLLOW_BUFFER_BLOCKS or (
            self._recent_bytes > MEMORY_BYTES_MAX and len(self._recent) > 1
        ):
            self._recent_bytes -= self._recent.popleft().size_bytes
        self._head = served.ref
        if self._firm_at_once:
            self._firm_height = self._head.height
        self._wake()

    def raise_firm(self, height: int) -> None:
        """Blocks up to `height` are firm; every follower that has them is told."""
        assert self._firm_height <= height <= self._head.height, "firm only rises, up to the head"
        self._firm_height = height
        self._wake()

    def roll_back(self, to: BlockRef) -> None:
        """The blocks above `to` are gone; every follower beyond is told before it gets another block."""
        while self._recent and self._recent[-1].block.header.height > to.height:
            self._recent_bytes -= self._recent.pop().size_bytes
        self._head = to
        self._firm_height = min(self._firm_height, to.height)
        self._roll_backs += 1
        for follower in self._followers:
            follower.roll_back(to)
        self._wake()

    def withhold(self, kind: EvidenceKind, blocks: int) -> None:
        """Leave this element out of the next blocks served that have one."""
        self._withheld = (kind, blocks)

    def end(self) -> None:
        """Followers get Unavailable. A read may still be running: see `wait_read`."""
        self._has_ended = True
        self._wake()
        self._reader.shutdown(wait=False)

    async def wait_read(self) -> None:
        """After `end`: return once no read is running, so that the log can be closed. A database may take long."""
        await to_end(self._reader.shutdown)

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """See `nodes.ports.Sequencer.follow`."""
        if rollup_id not in self._rollup_ids:
            raise UnknownName(kind="rollup", name=hex_of(rollup_id), known=map(hex_of, self._rollup_ids))
        if len(locator) > limits.MAX_LOCATOR_ENTRIES:
            raise LimitExceeded(limit="MAX_LOCATOR_ENTRIES", value=len(locator), maximum=limits.MAX_LOCATOR_ENTRIES)
        follower = _Follower(await self._common_ancestor(locator))
        if self._firm_at_once:
            follower.told_firm = follower.place.height  # it got each of them as firm
        if locator and follower.place != locator[0]:
            follower.rolled_back_to = follower.place
        self._followers.add(follower)
        try:
            while True:
                self._check_running()
                if follower.rolled_back_to is not None:
                    to, follower.rolled_back_to = follower.rolled_back_to, None
                    yield RolledBack(to=to)
                elif (firm := min(self._firm_height, follower.place.height)) > follower.told_firm:
                    follower.told_firm = firm
                    yield CommitmentRaised(height=Height(firm), level=Commitment.FIRM)
                elif follower.place.height >= self._head.height:
                    await self._news.wait()
                else:
                    served = await self._next(follower)
                    if served is not None:
                        follower.place = served.ref
                        is_firm = follower.place.height <= self._firm_height
                        if is_firm:
                            follower.told_firm = follower.place.height
                        commitment = Commitment.FIRM if is_firm else Commitment.SOFT
                        yield BlockSequenced(block=self._filter(served, rollup_id, commitment))
        finally:
            self._followers.discard(follower)

    async def _next(self, follower: _Follower) -> ServedBlock | None:
        """The block after the follower's place; None where a roll-back came in between.

        The log may already lack a block that is not firm, or hold another in its place, while the roll-back that says
        so is still on its way here: then the follower waits for it, unless it came during the read. Raises Pruned.
        """
        place = follower.place
        height = place.height + 1
        news_count = self._news_count
        if height >= self.oldest_recent_height:
            return self._recent[height - self.oldest_recent_height]
        try:
            served = await asyncio.get_running_loop().run_in_executor(self._reader, self._read, height)
        except Pruned:
            # What was firm before the read and is firm now was in the log all the time, or is there no more.
            if height <= self._firm_height and news_count == self._news_count:
                raise
            served = None
        if follower.place != place or follower.rolled_back_to is not None or self._has_ended:
            return None
        if served is None or served.block.header.parent_hash != place.hash:
            if news_count == self._news_count:  # else it may be what came during the read that is to be waited for
                await self._news.wait()
            return None
        return served

    def _filter(self, served: ServedBlock, rollup_id: RollupId, commitment: Commitment) -> FilteredBlock:
        began_ns = thread_cpu_ns()
        filtered = filter_block(served.block, served.trees, rollup_id, commitment)
        if self._withheld is not None:
            kind, blocks = self._withheld
            lacking = withhold(filtered, kind)
            if lacking is not None:
                filtered = lacking
                self._withheld = (kind, blocks - 1) if blocks > 1 else None
        self.cpu_ns += thread_cpu_ns() - began_ns
        return filtered

    def _check_running(self) -> None:
        if self._has_ended:
            raise Unavailable("the sequencer stops; connect again or ask another source")

    def _wake(self) -> None:
        # A pulse: those who wait now are woken, those who come later look at the head first.
        self._news_count += 1
        self._news.set()
        self._news.clear()

    async def _common_ancestor(self, locator: Sequence[BlockRef]) -> BlockRef:
        """The newest entry on the chain; genesis where none is."""
        hashes: dict[int, HeaderHash] = {}
        roll_backs = -1
        while roll_backs != self._roll_backs:  # a roll-back in between may have taken what was read
            self._check_running()
            roll_backs = self._roll_backs
            heights = [entry.height for entry in locator if 0 < entry.height <= self._head.height]
            if heights:
                loop = asyncio.get_running_loop()
                hashes = await loop.run_in_executor(self._reader, self._log.hashes_of, heights)
        for entry in locator:
            if entry == self._genesis or (entry.height in hashes and hashes[entry.height] == entry.hash):
                return entry
        return self._genesis

    def _read(self, height: int) -> ServedBlock:
        """One block from the log with its trees; in the reader's thread, where several followers share one reading."""
        logged_hash = self._log.hashes_of([height]).get(height)
        cached = self._read_back.get(logged_hash) if logged_hash is not None else None
        if cached is not None:
            self._read_back.move_to_end(cached.block.header_hash)
            return cached
        block = stored_block_from_bytes(self._log.block_bytes(height))
        served = ServedBlock.of(block, BlockTrees(block.contents))
        self._read_back[block.header_hash] = served
        self._read_back_bytes += served.size_bytes
        while len(self._read_back) > limits.FOLLOW_BUFFER_BLOCKS or (
            self._read_back_bytes > MEMORY_BYTES_MAX and len(self._read_back) > 1
        ):
            self._read_back_bytes -= self._read_back.popitem(last=False)[1].size_bytes
        return served
