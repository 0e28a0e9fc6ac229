"""Values that the posting book keeps and hands out: bundles, transactions, chunks, and their bounds."""

from dataclasses import dataclass, field
from typing import NamedTuple

from nodes.model.bundle import Bundle
from nodes.model.errors import LimitExceeded, Overloaded
from nodes.model.ids import SubmissionHash
from nodes.model.solana import Signature
from nodes.rules.inbox_pieces import CHUNK_BLOCKS_MAX
from nodes.rules.posting import Pieces, Posting

WHOLE = -1
"""Part of a transaction that posts bundles whole."""
COMMIT_PART = -2
"""Part of a transaction that commits chunks; chunks have their place, from 0."""
AT_ONCE_NS = -(1 << 62)
"""`Outgoing.sent_ns` of what is in the journal and due to be sent."""
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PostingRules:
    """The bounds of one submitter."""

    mempool_bytes_max: int
    """Of bundles in no confirmed block, counted as `placed_bytes`."""
    mempool_bundles_max: int
    in_flight_max: int = 4_096
    """Transactions sent and in no confirmed block; beyond, bundles wait."""
    dedup_blocks: int = 1_000
    """Solana blocks after its own during which a bundle's bytes are known here; beyond, the reader knows them."""
    chunk_slots_max: int = CHUNK_BLOCKS_MAX
    """A commit counts only with chunks at most so many slots older; readers count blocks, which are never more."""
    rebroadcast_ns: int = 2_000 * _NS_PER_MS
    """Between two sendings of the same bytes."""
    backoff_ns: int = 500 * _NS_PER_MS
    """Before bundles of a transaction that failed on chain are posted again; doubles with each failure."""
    backoff_max_ns: int = 30_000 * _NS_PER_MS
    slot_ns: int = 400 * _NS_PER_MS
    """What a client that was turned away is told to wait for."""

    def check_room(self, *, bundles: int, size_bytes: int, pending_bundles: int, pending_bytes: int) -> None:
        """Raises Overloaded where so much more does not fit now, LimitExceeded where it never does."""
        if bundles > self.mempool_bundles_max:
            raise LimitExceeded(limit="mempool_bundles_max", value=bundles, maximum=self.mempool_bundles_max)
        if size_bytes > self.mempool_bytes_max:
            raise LimitExceeded(limit="mempool_bytes_max", value=size_bytes, maximum=self.mempool_bytes_max)
        has_room = pending_bytes + size_bytes <= self.mempool_bytes_max
        if not has_room or pending_bundles + bundles > self.mempool_bundles_max:
            raise Overloaded(
                f"{pending_bundles:,} of {self.mempool_bundles_max:,} bundles and {pending_bytes:,} of "
                f"{self.mempool_bytes_max:,} bytes wait to stand in a block of Solana",
                # The queue moves with the next block; how far depends on a chain that others use too.
                retry_after_ms=max(1, self.slot_ns // _NS_PER_MS),
            )


class Accepted(NamedTuple):
    """One bundle to post."""

    sequence: int
    """Position in the order of acceptance."""
    hash: SubmissionHash
    bundle: Bundle


class Landing(NamedTuple):
    """Where a transaction stands."""

    slot: int
    height: int
    """Block height; where it is not known, a later one."""


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """One signed transaction."""

    signature: Signature
    raw: bytes
    last_valid_height: int
    payer: bytes
    fee_lamports: int
    part: int
    """WHOLE, COMMIT_PART, or the place of a chunk."""
    items: tuple[int, ...]
    """Sequences of its bundles; without those that were void in it, which another one posts."""
    sent_ns: int | None = None
    """Last time; None while it is being journaled, and must not be sent."""
    data_bytes: int = 0
    """Of the instruction."""
    landing: Landing | None = None
    is_paid: bool = False
    """It stood in a block, perhaps on a branch that is gone."""


class Todo(NamedTuple):
    """A posting to sign and send."""

    posting: Posting
    part: int


class Finalized(NamedTuple):
    """What need not be kept any longer."""

    items: tuple[int, ...]
    hashes: tuple[tuple[SubmissionHash, int], ...]
    """Of the items, with the block height of each; kept for `dedup_blocks` more."""
    forget_height: int
    """Hashes of this height or below are known no more."""
    is_news: bool
    """Something became final, or is known no more."""


@dataclass(slots=True)
class ChunkedBundle:
    """A bundle that is posted in chunks."""

    pieces: Pieces
    missing: list[int]
    """Heap of places to post."""
    payer: bytes | None = None
    """Who signs for all of it, since readers take chunks and commit of one payer only; None before the first chunk."""
    sent: dict[int, Outgoing] = field(default_factory=dict)
    """Chunks that were sent, by place."""
    commit: Outgoing | None = None
    committing: bool = False
    """A commit is about to be sent, or was."""

    def begin_again(self) -> None:
        """Nothing of it was posted, and anybody may pay."""
        self.sent.clear()
        self.missing = list(range(len(self.pieces.chunks)))
        self.payer = None

    def usable(self, *, at_slot: int, slots_max: int) -> bool:
        """All chunks landed, none too long before."""
        return len(self.sent) == len(self.pieces.chunks) and all(
            chunk.landing is not None and at_slot - chunk.landing.slot <= slots_max for chunk in self.sent.values()
        )
