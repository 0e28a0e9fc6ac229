"""Values that the posting book keeps and hands out: bundles, transactions, where they stand, chunks. No behaviour."""

from dataclasses import dataclass, field
from typing import NamedTuple

from nodes.model.bundle import Bundle
from nodes.model.ids import SubmissionHash
from nodes.model.solana import Signature
from nodes.rules.inbox_reader import CHUNK_BLOCKS_MAX
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
    """Solana blocks after its own during which a bundle's bytes are not taken again; at least as long as readers."""
    chunk_slots_max: int = CHUNK_BLOCKS_MAX
    """A commit counts only with chunks at most so many slots older; readers count blocks, which are never more."""
    rebroadcast_ns: int = 2_000 * _NS_PER_MS
    """Between two sendings of the same bytes."""
    backoff_ns: int = 500 * _NS_PER_MS
    """Before bundles of a transaction that failed on chain are posted again; doubles with each failure."""
    backoff_max_ns: int = 30_000 * _NS_PER_MS
    slot_ns: int = 400 * _NS_PER_MS
    """What a client that was turned away is told to wait for."""


class Accepted(NamedTuple):
    """One bundle to post."""

    sequence: int
    """Position in the order of acceptance."""
    hash: SubmissionHash
    bundle: Bundle


class Landing(NamedTuple):
    """Where a transaction stands."""

    slot: int
    place: int
    """In its block, from 0; -1 where it was found by its signature only, not by reading the block."""
    height: int
    """Block height; where it is not known, a later one."""

    def is_before(self, other: "Landing") -> bool:
        """Whether it surely stands before the other."""
        return self.slot < other.slot or (self.slot == other.slot and 0 <= self.place < other.place)


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
    """Sequences of its bundles."""
    sent_ns: int | None = None
    """Last time; None while it is being journaled, and must not be sent."""
    data_bytes: int = 0
    """Of the instruction."""
    landing: Landing | None = None
    is_unsure: bool = False
    """It was sent before a restart: it may stand in a block that nobody will show again."""
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
    sent: dict[int, Outgoing] = field(default_factory=dict)
    """Chunks that were sent, by place."""
    commit: Outgoing | None = None
    committing: bool = False
    """A commit is about to be sent, or was."""

    def usable(self, *, at_slot: int, slots_max: int) -> bool:
        """All chunks landed, none too long before."""
        return len(self.sent) == len(self.pieces.chunks) and all(
            chunk.landing is not None and at_slot - chunk.landing.slot <= slots_max for chunk in self.sent.values()
        )
