"""The open chain of a lazy sequencer: takes what the pure order decides, signs it, writes it, announces it.

Reads the clock, owns the group writer and the feed, and continues where the log ends. It does not know who calls it,
and decides nothing about order.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial

from coincurve import PrivateKey

from nodes.model.errors import InvalidBlock, InvalidInput
from nodes.model.execution import TestnetParams
from nodes.model.ids import NOTICE_ROLLUP_ID, Height, SubmissionHash
from nodes.model.sequenced_block import BlockRef, Commitment, SequencedBlock
from nodes.rules.finality import sign_header
from nodes.rules.lazy import MAX_BLOCKS_IN_FLIGHT, Cut, LazyOrder, Offer, OrderRules, Submission, placed_bytes
from nodes.rules.sequenced_block import genesis_ref
from nodes.sequencer.block_log import AppendBlock, BlockLog, JournalEntry, KeepSubmissions, LoggedBlock, TruncateBlocks
from nodes.sequencer.feed import BlockFeed, ServedBlock
from nodes.sequencer.group_writer import GroupWriter
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import BlockReorged, BlockSequenced, CommitmentRaised
from nodes.telemetry.tracer import Tracer
from nodes.wire.blocks import stored_block_from_bytes, stored_block_to_bytes
from nodes.wire.bundles import bundle_from_bytes, bundle_to_bytes

_NS_PER_S = 1_000_000_000
_MIN_WAIT_S = 0.001
"""Event loops round timers to milliseconds; a shorter wait would spin until the tick."""


class LazyChain:
    """Built in a thread, since it reads the log; everything else runs in one event loop."""

    def __init__(
        self,
        log: BlockLog,
        *,
        rules: OrderRules,
        testnet: TestnetParams,
        key: PrivateKey,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint,
    ) -> None:
        """Take up where the log ends: head, queue, memory of submissions. Raises InvalidBlock where it is damaged."""
        self._key = key
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._cutter_wake = asyncio.Event()
        self._fork_lock = asyncio.Lock()
        self._is_paused = False
        self._is_stopping = False
        self._cut_cpu_ns = 0
        self._recent: deque[tuple[Height, tuple[Submission, ...]]] = deque()
        genesis = genesis_ref(testnet.sequencer_chain_id)
        head, head_time_ns = self._read_head(log, genesis)
        self.order = LazyOrder(
            rules=rules,
            chain_id=testnet.sequencer_chain_id,
            head=head,
            head_time_ns=head_time_ns,
            now_ns=clock.monotonic_ns(),
        )
        self.order.restore(
            pending=map(_submission_of, log.journal()),
            sequenced=log.submission_hashes(above=head.height - rules.dedup_heights),
        )
        rollup_ids = [*[params.rollup_id for params in testnet.rollups], NOTICE_ROLLUP_ID]
        self.feed = BlockFeed(log=log, genesis=genesis, head=head, rollup_ids=rollup_ids)
        self._writer = GroupWriter(log, crash=crash)

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return {"cut": self._cut_cpu_ns, "filter": self.feed.cpu_ns, "commit": self._writer.cpu_ns}

    def accept(self, offers: Sequence[tuple[Offer, bytes]]) -> None:
        """Queue offers with their bytes, all or none; durable after `wait_durable`. Raises as `LazyOrder.admit`."""
        accepted = self.order.admit([offer for offer, _ in offers], now_ns=self._clock.monotonic_ns())
        entries = [
            JournalEntry(submission.sequence, submission.hash, data) for submission, (_, data) in zip(accepted, offers)
        ]
        self._writer.put(KeepSubmissions(entries))
        if self.order.is_full:
            self._cutter_wake.set()

    async def wait_durable(self) -> None:
        """Wait for everything accepted so far. Raises Unavailable where the node ended first."""
        await self._writer.wait_durable()

    async def write_log(self) -> None:
        """Write until stopped."""
        await self._writer.run()

    def stop(self) -> None:
        """Cut no more; write what was accepted."""
        self._is_stopping = True
        self._cutter_wake.set()
        self._writer.stop()

    async def cut_blocks(self) -> None:
        """Cut by the clock, and early where a block is full, until stopped."""
        while not self._is_stopping:
            self._cutter_wake.clear()
            if self.cut_one():
                # Under a burst full blocks follow each other; calls that wait get their turn in between.
                await asyncio.sleep(0)
            else:
                await self._wait_cut()

    def cut_one(self) -> bool:
        """Cut a block and hand it to the log where one is due or full; whether there was one."""
        began_ns = thread_cpu_ns()
        now_ns = self._clock.monotonic_ns()
        cut = None if self._is_paused else self.order.cut(now_ns=now_ns, wall_ns=self._clock.wall_ns())
        if cut is None:
            return False
        self._write_block(cut, cut_ns=now_ns)
        self._cut_cpu_ns += thread_cpu_ns() - began_ns
        return True

    async def fork(self, height: int) -> None:
        """Abandon the blocks above `height`; their submissions are sequenced anew, first.

        Raises InvalidInput where they are no longer in memory: what followers read back from the log stays.
        """
        async with self._fork_lock:
            self._is_paused = True
            try:
                await self._writer.wait_durable()
                head, oldest = self.feed.head, self.feed.oldest_recent_height
                if not oldest - 1 <= height < head.height:
                    raise InvalidInput(
                        f"cannot fork above height {height}: the head is {head.height}, and only blocks from {oldest} "
                        "on, announced since the node started, can be abandoned"
                    )
                to = self.feed.parent_of(height + 1)
                returned = [submission for at, block in self._recent if at > height for submission in block]
                while self._recent and self._recent[-1][0] > height:
                    self._recent.pop()
                self.order.fork(to=to, returned=returned)
                # Written again from the decoded form: the hash stays the key, also of bytes that were not canonical.
                entries = [JournalEntry(s.sequence, s.hash, bundle_to_bytes(s.bundle)) for s in returned]
                announce = partial(self._announce_fork, head.height, to)
                self._writer.put(TruncateBlocks(to.height, entries), announce=announce)
            finally:
                self._is_paused = False
                self._cutter_wake.set()
            await self._writer.wait_durable()

    def _read_head(self, log: BlockLog, genesis: BlockRef) -> tuple[BlockRef, int]:
        """The newest block and its time. A kill between log and trace lost the record of the last blocks: repeat it."""
        head, time_ns = genesis, 0
        for logged in log.last_blocks(MAX_BLOCKS_IN_FLIGHT):
            block = stored_block_from_bytes(logged.block)
            head, time_ns = logged.ref, block.header.time_ns
            if block.header_hash != head.hash or block.header.height != head.height:
                raise InvalidBlock(
                    f"the sequencer's log is damaged at height {head.height}: the hash does not fit the header"
                )
            self._trace(block, logged.submission_hashes, cut_ns=self._clock.monotonic_ns())
        return head, time_ns

    async def _wait_cut(self) -> None:
        """Until the next tick, or until woken by a full block, a durable block or the end of a pause."""
        timeout_s = None
        if not self._is_paused and not self.order.is_held:
            remaining_s = (self.order.next_tick_ns - self._clock.monotonic_ns()) / _NS_PER_S
            timeout_s = max(_MIN_WAIT_S, remaining_s)
        try:
            async with asyncio.timeout(timeout_s):
                await self._cutter_wake.wait()
        except TimeoutError:
            pass  # the tick

    def _write_block(self, cut: Cut, *, cut_ns: int) -> None:
        block = SequencedBlock(
            header=cut.header,
            header_hash=cut.header_hash,
            contents=cut.trees.contents,
            finality_proof=sign_header(cut.header_hash, self._key),
        )
        hashes = tuple([submission.hash for submission in cut.submissions])
        last_sequence = cut.submissions[-1].sequence if cut.submissions else 0
        self._writer.put(
            AppendBlock(LoggedBlock(cut.ref, stored_block_to_bytes(block), hashes), last_sequence),
            announce=partial(self._announce, ServedBlock.of(block, cut.trees), cut.submissions, hashes, cut_ns),
        )

    def _announce(
        self,
        served: ServedBlock,
        submissions: tuple[Submission, ...],
        hashes: tuple[SubmissionHash, ...],
        cut_ns: int,
    ) -> None:
        """The block is durable: let everyone see it."""
        height = served.block.header.height
        self.order.made_durable(height)
        self._trace(served.block, hashes, cut_ns=cut_ns)
        self.feed.announce(served)
        self._recent.append((height, submissions))
        while self._recent[0][0] < self.feed.oldest_recent_height:
            self._recent.popleft()
        self._cutter_wake.set()
        self._crash("sequencer.after_announcement")

    def _announce_fork(self, from_height: int, to: BlockRef) -> None:
        self._tracer.record(BlockReorged(from_height=from_height, to_height=to.height))
        self.feed.roll_back(to)

    def _trace(self, block: SequencedBlock, hashes: tuple[SubmissionHash, ...], *, cut_ns: int) -> None:
        sizes = [len(payload) for content in block.contents.values() for payload in content.payloads]
        height = block.header.height
        sequenced = BlockSequenced(
            height=height,
            hash=block.header_hash,
            time_ns=block.header.time_ns,
            submission_hashes=hashes,
            payload_bytes=sum(sizes),
            payloads=len(sizes),
        )
        self._tracer.record(sequenced, monotonic_ns=cut_ns)
        self._tracer.record(CommitmentRaised(height=height, level=Commitment.FIRM))


def _submission_of(entry: JournalEntry) -> Submission:
    bundle = bundle_from_bytes(entry.submission)
    return Submission(entry.sequence, entry.hash, bundle, placed_bytes(bundle))
