"""The order of the lazy sequencer: first in, first out; when a block is cut, what goes in, what is refused.

A state machine without I/O: the caller says what arrived and what the clocks read, and gets the submissions to keep
and the blocks to write. It does not know how anything is stored or sent, never decodes a payload, and trusts that
what it was told is durable stays so.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.bundle import Bundle
from nodes.model.errors import LimitExceeded, Overloaded
from nodes.model.ids import NOTICE_ROLLUP_ID, HeaderHash, Height, RollupId, SubmissionHash, hex_of
from nodes.model.sequenced_block import BlockRef, Header
from nodes.rules.bundle import row_bytes
from nodes.rules.sequenced_block import BlockTrees, place, seal

MAX_BLOCKS_IN_FLIGHT = 4
"""Blocks cut and not yet durable; beyond, the queue waits, fills, and turns submissions away."""
MAX_NOTICES = 64
"""Notices of one block. Every reader gets all of them, and anybody can submit what looks like one."""
_PENDING = Height(-1)
_SPACINGS_KEPT = 16
_NS_PER_MS = 1_000_000


class Submission(NamedTuple):
    """One accepted submission."""

    sequence: int
    """Position in the order of acceptance; never used twice while the submission is kept."""
    hash: SubmissionHash
    bundle: Bundle
    size_bytes: int
    """What it takes of a block; see `placed_bytes`."""


class Offer(NamedTuple):
    """A submission that passed `flaw_of` and is not yet accepted."""

    hash: SubmissionHash
    bundle: Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRules:
    """The bounds of one lazy sequencer."""

    block_interval_ns: int
    block_bytes_max: int
    mempool_bytes_max: int
    mempool_bundles_max: int
    dedup_heights: int
    """Heights during which the bytes of a sequenced submission are not taken again."""
    max_payloads: Mapping[RollupId, int]
    """By rollup, the most payloads of one block; its readers drop what stands behind them. With `NOTICE_ROLLUP_ID`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A new block, not yet durable."""

    header: Header
    header_hash: HeaderHash
    trees: BlockTrees
    """Hold the contents too."""
    submissions: tuple[Submission, ...]

    @property
    def ref(self) -> BlockRef:
        """Where the block stands."""
        return BlockRef(height=self.header.height, hash=self.header_hash)


def placed_bytes(bundle: Bundle) -> int:
    """Bytes a bundle takes of a block: its payloads, and its row under every rollup that it touches.

    Rows count because many small legs make large rows: 255 one-byte legs on as many rollups place 4.7 MB.
    """
    payloads = sum([len(leg.payload) for leg in bundle.legs])
    if bundle.is_plain:
        return payloads
    return payloads + row_bytes(len(bundle.legs)) * len({leg.rollup_id for leg in bundle.legs})


def flaw_of(bundle: Bundle, *, max_payloads: Mapping[RollupId, int], block_bytes_max: int) -> str:
    """Why the sequencer refuses a well-formed bundle; empty where it takes it. Payloads stay opaque.

    `max_payloads` has every rollup of the testnet. Notices are entries of their own: a bundle that named their id would
    bring a row under it to every reader.
    """
    for index, leg in enumerate(bundle.legs):
        if leg.rollup_id == NOTICE_ROLLUP_ID and not bundle.is_plain:
            return f"leg {index}: notices cannot be legs of a bundle; submit the notice alone, without a leg hash"
        if leg.rollup_id not in max_payloads:
            return f"leg {index}: unknown rollup {hex_of(leg.rollup_id)}; the sequencer's status lists the known ones"
        if not leg.payload:
            return f"leg {index}: the payload is empty; it must be a signed transaction"
    size = placed_bytes(bundle)
    if size > block_bytes_max:
        # It could never be placed, since a bundle goes into one block entirely.
        return str(LimitExceeded(limit="block_bytes_max", value=size, maximum=block_bytes_max))
    for rollup_id, count in _counts_of(bundle).items():
        if count > max_payloads[rollup_id]:
            limit = f"max_payloads of rollup {hex_of(rollup_id)}"
            return str(LimitExceeded(limit=limit, value=count, maximum=max_payloads[rollup_id]))
    return ""


def _counts_of(bundle: Bundle) -> dict[RollupId, int]:
    """Payloads by rollup."""
    counts: dict[RollupId, int] = {}
    for leg in bundle.legs:
        counts[leg.rollup_id] = counts.get(leg.rollup_id, 0) + 1
    return counts


class LazyOrder:
    """The queue, the chain's tip and the memory of what was submitted. One method per transition."""

    def __init__(self, *, rules: OrderRules, chain_id: bytes, head: BlockRef, head_time_ns: int, now_ns: int) -> None:
        self._rules = rules
        self._chain_id = chain_id
        self._tip = head
        self._tip_time_ns = head_time_ns
        self._queue: deque[Submission] = deque()
        self._pending_bytes = 0
        self._pending_payloads: dict[RollupId, int] = {}
        self._full_rollups = 0
        """Rollups with as many payloads pending as a block may hold."""
        self._next_sequence = 1
        self._durable_height = head.height
        self._seen: dict[SubmissionHash, Height] = {}
        self._by_height: deque[tuple[Height, tuple[SubmissionHash, ...]]] = deque()
        self._next_tick_ns = self._tick_after(now_ns)
        self._last_cut_ns = now_ns
        self._spacings_ns: deque[int] = deque(maxlen=_SPACINGS_KEPT)

    def restore(
        self, *, pending: Iterable[Submission], sequenced: Iterable[tuple[Height, Sequence[SubmissionHash]]]
    ) -> None:
        """Take over what the log kept: accepted and not yet sequenced, and the hashes of the last blocks, ascending."""
        assert not self._seen, "restored once, at the start"
        for height, hashes in sequenced:
            self._remember(height, tuple(hashes))
        for submission in pending:
            assert submission.sequence >= self._next_sequence, "the log lists submissions in order"
            self._enqueue(submission)

    @property
    def tip(self) -> BlockRef:
        """The newest block cut."""
        return self._tip

    @property
    def pending_bundles(self) -> int:
        """Submissions accepted and in no block."""
        return len(self._queue)

    @property
    def pending_bytes(self) -> int:
        """What they will take of blocks."""
        return self._pending_bytes

    @property
    def next_tick_ns(self) -> int:
        """Monotonic time of the next cut by the clock; a full block is cut before."""
        return self._next_tick_ns

    @property
    def is_full(self) -> bool:
        """A block's worth is pending: of bytes, or of some rollup's payloads."""
        return self._pending_bytes >= self._rules.block_bytes_max or self._full_rollups > 0

    @property
    def is_held(self) -> bool:
        """Too many blocks wait to become durable: none is cut until one is."""
        return self._tip.height - self._durable_height >= MAX_BLOCKS_IN_FLIGHT

    def knows(self, submission_hash: SubmissionHash) -> bool:
        """Whether these exact bytes are pending or were sequenced within `dedup_heights`."""
        return submission_hash in self._seen

    def admit(self, offers: Sequence[Offer], *, now_ns: int) -> list[Submission]:
        """Accept all offers (distinct, none known) or none. Raises Overloaded; LimitExceeded where they never fit."""
        rules = self._rules
        sizes = [placed_bytes(offer.bundle) for offer in offers]
        offered_bytes = sum(sizes)
        if len(offers) > rules.mempool_bundles_max:
            raise LimitExceeded(limit="mempool_bundles_max", value=len(offers), maximum=rules.mempool_bundles_max)
        if offered_bytes > rules.mempool_bytes_max:
            raise LimitExceeded(limit="mempool_bytes_max", value=offered_bytes, maximum=rules.mempool_bytes_max)
        excess_bytes = self._pending_bytes + offered_bytes - rules.mempool_bytes_max
        excess_bundles = len(self._queue) + len(offers) - rules.mempool_bundles_max
        if excess_bytes > 0 or excess_bundles > 0:
            raise Overloaded(
                f"the mempool holds {len(self._queue):,} of {rules.mempool_bundles_max:,} bundles and "
                f"{self._pending_bytes:,} of {rules.mempool_bytes_max:,} bytes",
                retry_after_ms=self._retry_after_ms(excess_bytes, excess_bundles, now_ns),
            )
        accepted = []
        for offer, size in zip(offers, sizes):
            submission = Submission(self._next_sequence, offer.hash, offer.bundle, size)
            self._enqueue(submission)
            accepted.append(submission)
        return accepted

    def cut(self, *, now_ns: int, wall_ns: int) -> Cut | None:
        """The next block where one is due or full; empty blocks are cut too, since expiry counts heights."""
        due = now_ns >= self._next_tick_ns
        if self.is_held or not (due or self.is_full):
            return None
        if due:
            # A tick that came late is not made up for: the next one is again a multiple of the interval.
            self._next_tick_ns = self._tick_after(now_ns)
        self._spacings_ns.append(now_ns - self._last_cut_ns)
        self._last_cut_ns = now_ns
        submissions = self._take()
        trees = BlockTrees(place([submission.bundle for submission in submissions]))
        time_ns = max(self._tip_time_ns, wall_ns)
        header, header_hash = seal(trees, chain_id=self._chain_id, time_ns=time_ns, parent=self._tip)
        cut = Cut(header=header, header_hash=header_hash, trees=trees, submissions=tuple(submissions))
        self._tip, self._tip_time_ns = cut.ref, time_ns
        self._remember(header.height, tuple([submission.hash for submission in submissions]))
        return cut

    def made_durable(self, height: Height) -> None:
        """Every block up to `height` is durable."""
        self._durable_height = height

    def fork(self, *, to: BlockRef, returned: Sequence[Submission]) -> None:
        """Abandon the blocks above `to`; their submissions, in their order, go back to the front of the queue.

        The block time of the abandoned tip stays the lower bound of the next one.
        """
        assert self._durable_height == self._tip.height, "blocks in flight are awaited first"
        while self._by_height and self._by_height[-1][0] > to.height:
            self._by_height.pop()
        self._seen.update(dict.fromkeys([submission.hash for submission in returned], _PENDING))
        self._queue.extendleft(reversed(returned))
        for submission in returned:
            self._count_pending(submission)
        self._tip = to
        self._durable_height = to.height

    def _enqueue(self, submission: Submission) -> None:
        self._queue.append(submission)
        self._count_pending(submission)
        self._next_sequence = submission.sequence + 1
        self._seen[submission.hash] = _PENDING

    def _count_pending(self, submission: Submission) -> None:
        self._pending_bytes += submission.size_bytes
        for leg in submission.bundle.legs:
            count = self._pending_payloads.get(leg.rollup_id, 0) + 1
            self._pending_payloads[leg.rollup_id] = count
            self._full_rollups += count == self._max_payloads(leg.rollup_id)

    def _count_taken(self, submission: Submission) -> None:
        self._pending_bytes -= submission.size_bytes
        for leg in submission.bundle.legs:
            count = self._pending_payloads[leg.rollup_id]
            self._pending_payloads[leg.rollup_id] = count - 1
            self._full_rollups -= count == self._max_payloads(leg.rollup_id)

    def _take(self) -> list[Submission]:
        """From the front, whole bundles only. Strictly in order: a smaller one behind does not overtake."""
        room_bytes = self._rules.block_bytes_max
        placed: dict[RollupId, int] = {}
        taken: list[Submission] = []
        while self._queue:
            submission = self._queue[0]
            counts = _counts_of(submission.bundle)
            fits = submission.size_bytes <= room_bytes and all(
                placed.get(at, 0) + count <= self._max_payloads(at) for at, count in counts.items()
            )
            # One that was accepted under larger limits, before a restart, gets a block of its own.
            if not fits and taken:
                break
            room_bytes -= submission.size_bytes
            for at, count in counts.items():
                placed[at] = placed.get(at, 0) + count
            self._count_taken(submission)
            taken.append(self._queue.popleft())
        return taken

    def _max_payloads(self, rollup_id: RollupId) -> int:
        """Of a block; one for a rollup that was of the testnet before a restart only."""
        return self._rules.max_payloads.get(rollup_id, 1)

    def _remember(self, height: Height, hashes: tuple[SubmissionHash, ...]) -> None:
        self._by_height.append((height, hashes))
        self._seen.update(dict.fromkeys(hashes, height))
        while self._by_height[0][0] <= height - self._rules.dedup_heights:
            old, forgotten = self._by_height.popleft()
            for submission_hash in forgotten:
                if self._seen.get(submission_hash) == old:
                    del self._seen[submission_hash]

    def _tick_after(self, now_ns: int) -> int:
        interval = self._rules.block_interval_ns
        return (now_ns // interval + 1) * interval

    def _retry_after_ms(self, excess_bytes: int, excess_bundles: int, now_ns: int) -> int:
        """When enough has drained: the time to the next cut, and further blocks at the spacing of the last ones."""
        if excess_bundles > 0:
            mean_bytes = max(1, self._pending_bytes // max(1, len(self._queue)))
            excess_bytes = max(excess_bytes, excess_bundles * mean_bytes)
        blocks = -(-excess_bytes // self._rules.block_bytes_max)
        spacing_ns = self._rules.block_interval_ns
        if self._spacings_ns:
            spacing_ns = min(spacing_ns, sum(self._spacings_ns) // len(self._spacings_ns))
        first_ns = spacing_ns if self.is_full or self.is_held else max(0, self._next_tick_ns - now_ns)
        return max(1, -(-(first_ns + (blocks - 1) * spacing_ns) // _NS_PER_MS))
