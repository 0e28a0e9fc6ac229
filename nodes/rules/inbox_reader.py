"""From Solana blocks to sequenced heights: the one step that every reader of the inbox takes in the same way.

A state machine without I/O: confirmed blocks go in, in the order of their parent links, and new heights come out.
Everything is a function of the chain: two readers agree on every header hash, however the blocks were handed to them.

Order: block, transaction, instruction, entry. A COMMIT releases its entry at its own position, provided that all of its
chunks are in blocks at or before its own, at most CHUNK_BLOCKS_MAX back. What is nonsense, refused by
`nodes.rules.lazy.flaw_of` or a repetition is void and counted (`Void`). Each block gives at least one height, also an
empty block; with `bucket_ms` each span of that length with at least one block does, once a block behind it is there.
Where the content of a block or bucket is more than a height holds it is cut between bundles, in order.

A height has the time of its block (of its bucket), which never falls, and stands still where a block says none: readers
agree as far as the nodes they ask agree on block times.

It does not know which blocks are final, how they were fetched, or that a chain can fork: the caller takes a snapshot
of the places that it may have to go back to.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from typing import NamedTuple

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidBlock
from nodes.model.ids import HeaderHash, Height, RollupId, SubmissionHash
from nodes.model.limits import MAX_SUBMISSION_BYTES
from nodes.model.sequenced_block import BlockRef, Header
from nodes.model.solana import InboxInstruction, InboxState, Pubkey, Slot, SolanaBlock
from nodes.rules.hashes import sha256
from nodes.rules.inbox import (
    EMPTY_STATE,
    INIT,
    Chunk,
    Commit,
    changes_state,
    decode_entries,
    decode_instruction,
    decode_memo,
    roll,
)
from nodes.rules.lazy import flaw_of, placed_bytes
from nodes.rules.sequenced_block import BlockTrees, genesis_ref, place, seal
from nodes.rules.solana_proof import inbox_root

CHUNK_BLOCKS_MAX = 600
"""Block heights a chunk waits for its COMMIT: four lives of a blockhash."""
CHUNK_BYTES_MAX = 32 * 1024 * 1024
"""Of chunks kept, with CHUNK_OVERHEAD_BYTES for each; beyond, the oldest are forgotten. A rule, not a setting: all
readers forget the same ones."""
CHUNK_OVERHEAD_BYTES = 256
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000


class Void(StrEnum):
    """Why something that was posted has no effect."""

    INSTRUCTION = auto()
    """Instruction data that are no POST, CHUNK or COMMIT of the known format, or a memo that names a rollup twice."""
    ENTRIES = auto()
    """A POST, or what chunks gave, is not exactly entries, or names a rollup that is not of the testnet."""
    REFUSED = auto()
    """The bundle is one that a sequencer refuses: see `nodes.rules.lazy.flaw_of`, and MAX_SUBMISSION_BYTES."""
    DUPLICATE = auto()
    """The same bundle was sequenced within `dedup_heights`."""
    CHUNK_REPEATED = auto()
    """This place of this digest was filled before."""
    CHUNK_FORGOTTEN = auto()
    """More chunks are kept than CHUNK_BYTES_MAX."""
    COMMIT_INCOMPLETE = auto()
    """A chunk is missing, or too old."""
    COMMIT_DIGEST = auto()
    """The chunks do not hash to the digest."""


class Link(StrEnum):
    """How a block stands to the last one that was read."""

    NEXT = auto()
    """It builds on it."""
    GAP = auto()
    """It builds on a block that was not read."""
    FORK = auto()
    """It contradicts what was read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxRules:
    """What all readers of one inbox have in common; another value gives another chain of heights."""

    chain_id: bytes
    origin_slot: Slot
    """The first height comes from the first block after this slot."""
    rollup_ids: tuple[RollupId, ...]
    """Every rollup with the id of notices; in memo mode the list that indexes count into."""
    accounts: Mapping[Pubkey, RollupId]
    """Whose account it is; empty in memo mode."""
    is_memo: bool
    max_payloads: Mapping[RollupId, int]
    """By rollup, the most payloads of one height. With the id of notices."""
    block_bytes_max: int
    """Of one height, counted as `nodes.rules.lazy.placed_bytes`."""
    dedup_heights: int
    bucket_ms: int
    """0: each block gives heights; otherwise the width of a bucket, at least 1,000."""


class NewHeight(NamedTuple):
    """A height that was not there before; a finality proof makes it a sequenced block."""

    header: Header
    header_hash: HeaderHash
    trees: BlockTrees
    """Hold the contents too."""
    submission_hashes: tuple[SubmissionHash, ...]
    """SHA-256 of the canonical bytes of each bundle, in order."""
    slot: Slot
    """Of the newest block it was read from."""
    blockhash: bytes
    inbox_root: bytes
    """See `nodes.rules.solana_proof`; after that block."""

    @property
    def ref(self) -> BlockRef:
        """Where it stands."""
        return BlockRef(height=self.header.height, hash=self.header_hash)


class Admitted(NamedTuple):
    """A bundle that stands in a block and is not yet in a height."""

    bundle: Bundle
    hash: SubmissionHash
    size_bytes: int


class Piece(NamedTuple):
    """A chunk that waits for its COMMIT."""

    digest: bytes
    place: int
    data: bytes
    block_height: int
    """Of the Solana block that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadPlace:
    """The last Solana block that was read."""

    slot: Slot
    blockhash: bytes
    block_height: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket that is still open."""

    number: int
    """Its time divided by its width."""
    place: ReadPlace
    """Its newest block."""
    root: bytes
    bundles: tuple[Admitted, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a reader remembers, after one block."""

    place: ReadPlace | None
    """None before the first block."""
    head: BlockRef
    head_time_ns: int
    block_time_ns: int
    states: Mapping[RollupId, InboxState]
    sequenced: tuple[tuple[Height, tuple[SubmissionHash, ...]], ...]
    """The submissions of the last `dedup_heights` heights, ascending."""
    pieces: tuple[Piece, ...]
    """In order of arrival."""
    bucket: Bucket | None
    voids: Mapping[Void, int]


def initial_snapshot(rules: InboxRules) -> Snapshot:
    """What a reader knows at the origin."""
    return Snapshot(
        place=None,
        head=genesis_ref(rules.chain_id),
        head_time_ns=0,
        block_time_ns=0,
        states=dict.fromkeys(rules.rollup_ids, EMPTY_STATE),
        sequenced=(),
        pieces=(),
        bucket=None,
        voids={},
    )


class InboxReader:
    """The reading of one inbox up to some block. One mutating method per transition."""

    def __init__(self, rules: InboxRules, *, canonical: Callable[[Bundle], bytes]) -> None:
        """At the origin. `canonical` gives the bytes of a bundle as submitted; equal bundles give equal bytes."""
        assert rules.bucket_ms == 0 or rules.bucket_ms >= 1_000, "seconds are what rollups can tell apart"
        self._rules = rules
        self._canonical = canonical
        self._place: ReadPlace | None
        self._head: BlockRef
        self._head_time_ns: int
        self._block_time_ns: int
        # Mappings and tuples are replaced, never changed in place: snapshots share them.
        self._states: Mapping[RollupId, InboxState]
        self._pieces: dict[tuple[bytes, int], Piece]
        self._pieces_kept: tuple[Piece, ...] | None
        """The pieces as a snapshot has them; None since they changed."""
        self._bucket: Bucket | None
        self._voids: Counter[Void]
        self._seen: dict[SubmissionHash, Height]
        self._by_height: deque[tuple[Height, tuple[SubmissionHash, ...]]]
        self.restore(initial_snapshot(rules))

    @property
    def place(self) -> ReadPlace | None:
        """The last block read; None at the origin."""
        return self._place

    @property
    def head(self) -> BlockRef:
        """The newest height."""
        return self._head

    @property
    def states(self) -> Mapping[RollupId, InboxState]:
        """What the rollups' accounts say after the last block."""
        return self._states

    @property
    def voids(self) -> Mapping[Void, int]:
        """How much of what was posted is void, by reason."""
        return self._voids

    def knows(self, submission: SubmissionHash) -> bool:
        """Whether this bundle, posted again, would be void in the next height."""
        return self._is_repeated(submission, Height(self._head.height + 1))

    def snapshot(self) -> Snapshot:
        """What to `restore` in order to be again where it is now. Shares what never changes, so it is cheap."""
        if self._pieces_kept is None:
            self._pieces_kept = tuple(self._pieces.values())
        return Snapshot(
            place=self._place,
            head=self._head,
            head_time_ns=self._head_time_ns,
            block_time_ns=self._block_time_ns,
            states=self._states,
            sequenced=tuple(self._by_height),
            pieces=self._pieces_kept,
            bucket=self._bucket,
            voids=dict(self._voids),
        )

    def restore(self, snapshot: Snapshot) -> None:
        """Forget everything after a snapshot."""
        self._place = snapshot.place
        self._head, self._head_time_ns = snapshot.head, snapshot.head_time_ns
        self._block_time_ns = snapshot.block_time_ns
        self._states = snapshot.states
        self._root = inbox_root(snapshot.states)
        self._by_height = deque(snapshot.sequenced)
        self._seen = {sequenced: height for height, hashes in self._by_height for sequenced in hashes}
        self._pieces = {(piece.digest, piece.place): piece for piece in snapshot.pieces}
        self._pieces_kept = snapshot.pieces
        self._piece_bytes = sum([_kept_bytes(piece) for piece in snapshot.pieces])
        self._bucket = snapshot.bucket
        self._voids = Counter(snapshot.voids)

    def link_of(self, block: SolanaBlock) -> Link:
        """Whether `block` can be read next. Decided by parent links alone: a slot without a block is no gap."""
        last_slot = self._rules.origin_slot if self._place is None else self._place.slot
        if block.parent_slot > last_slot:
            return Link.GAP
        if block.slot <= last_slot:
            return Link.FORK
        if self._place is None:
            return Link.NEXT
        is_child = block.parent_slot == last_slot and block.previous_blockhash == self._place.blockhash
        return Link.NEXT if is_child else Link.FORK

    def read(self, block: SolanaBlock) -> list[NewHeight]:
        """Take the next block; the heights that it completes, ascending. Raises InvalidBlock for another one."""
        link = self.link_of(block)
        if link is not Link.NEXT:
            raise InvalidBlock(
                f"Solana block of slot {block.slot} on slot {block.parent_slot} ({block.previous_blockhash.hex()}) "
                f"does not build on the last one read, {self._place}: a {link.value}"
            )
        heights: list[NewHeight] = []
        time_ns = self._block_time_ns = max(self._block_time_ns, self._time_of(block))
        width_ns = self._rules.bucket_ms * _NS_PER_MS
        if width_ns and self._bucket is not None and time_ns // width_ns > self._bucket.number:
            bucket = self._bucket
            heights = self._cut(bucket.bundles, bucket.number * width_ns, bucket.place, bucket.root)
            self._bucket = None
        bundles = self._read_instructions(block)
        place_read = ReadPlace(slot=block.slot, blockhash=block.blockhash, block_height=block.block_height)
        self._place = place_read
        if width_ns:
            earlier = self._bucket.bundles if self._bucket is not None else ()
            self._bucket = Bucket(
                number=time_ns // width_ns, place=place_read, root=self._root, bundles=(*earlier, *bundles)
            )
            return heights
        return self._cut(bundles, time_ns, place_read, self._root)

    def _time_of(self, block: SolanaBlock) -> int:
        return self._block_time_ns if block.block_time_s is None else block.block_time_s * _NS_PER_S

    def _read_instructions(self, block: SolanaBlock) -> list[Admitted]:
        """The bundles of a block in order; rolls the states on."""
        self._forget_old(block.block_height)
        postings = []
        states: dict[RollupId, InboxState] = {}
        for instruction in block.instructions:
            found = self._unwrap(instruction)
            if found is None:
                continue
            data, rollups = found
            if changes_state(data):
                for rollup_id in rollups:
                    if rollup_id is not None:
                        states[rollup_id] = roll(states.get(rollup_id) or self._states[rollup_id], data)
            decoded = decode_instruction(data)
            if isinstance(decoded, Chunk):
                self._keep(decoded, block.block_height)
            elif decoded is not None:
                postings.append((decoded, rollups))
            elif not data or data[0] != INIT:
                self._voids[Void.INSTRUCTION] += 1
        if states:
            self._states = {**self._states, **states}
            self._root = inbox_root(self._states)
        # After the chunks of the whole block: a COMMIT may stand before its last chunk in the same block.
        return [bundle for decoded, rollups in postings for bundle in self._bundles_of(decoded, rollups)]

    def _unwrap(self, instruction: InboxInstruction) -> tuple[bytes, Sequence[RollupId | None]] | None:
        """Instruction data, and the rollups that its slots stand for; None for a memo that is nothing of ours."""
        rules = self._rules
        if not rules.is_memo:
            return instruction.data, [rules.accounts.get(account) for account in instruction.accounts[1:]]
        found = decode_memo(instruction.data)
        if found is None:
            return None
        data, indexes = found
        if len(set(indexes)) != len(indexes):
            self._voids[Void.INSTRUCTION] += 1
            return None
        known = rules.rollup_ids
        return data, [known[index] if index < len(known) else None for index in indexes]

    def _bundles_of(self, decoded: bytes | Commit, rollups: Sequence[RollupId | None]) -> list[Admitted]:
        data = self._release(decoded) if isinstance(decoded, Commit) else decoded
        if data is None:
            return []
        bundles = decode_entries(data, rollups)
        if bundles is None or (isinstance(decoded, Commit) and len(bundles) != 1):
            self._voids[Void.ENTRIES] += 1
            return []
        admitted = [self._admit(bundle) for bundle in bundles]
        return [bundle for bundle in admitted if bundle is not None]

    def _admit(self, bundle: Bundle) -> Admitted | None:
        rules = self._rules
        canonical = self._canonical(bundle)
        if len(canonical) > MAX_SUBMISSION_BYTES or flaw_of(
            bundle, max_payloads=rules.max_payloads, block_bytes_max=rules.block_bytes_max
        ):
            self._voids[Void.REFUSED] += 1
            return None
        return Admitted(bundle, SubmissionHash(sha256(canonical)), placed_bytes(bundle))

    def _keep(self, chunk: Chunk, block_height: int) -> None:
        """The first one of a place counts: a later one, of whoever saw the digest, cannot spoil it."""
        key = (chunk.digest, chunk.place)
        if key in self._pieces:
            self._voids[Void.CHUNK_REPEATED] += 1
            return
        piece = Piece(chunk.digest, chunk.place, chunk.data, block_height)
        self._pieces[key] = piece
        self._pieces_kept = None
        self._piece_bytes += _kept_bytes(piece)
        while self._piece_bytes > CHUNK_BYTES_MAX:
            self._forget(next(iter(self._pieces)))
            self._voids[Void.CHUNK_FORGOTTEN] += 1

    def _release(self, commit: Commit) -> bytes | None:
        """The entry. Its chunks stay until they are old: a COMMIT of others, on other accounts, takes nothing."""
        keys = [(commit.digest, index) for index in range(commit.chunks)]
        if not keys or any(key not in self._pieces for key in keys):
            self._voids[Void.COMMIT_INCOMPLETE] += 1
            return None
        entry = b"".join([self._pieces[key].data for key in keys])
        if sha256(entry) != commit.digest:
            # Some chunk is a forgery: the sender can post all of them anew.
            for key in keys:
                self._forget(key)
            self._voids[Void.COMMIT_DIGEST] += 1
            return None
        return entry

    def _forget_old(self, block_height: int) -> None:
        while self._pieces:
            key, oldest = next(iter(self._pieces.items()))
            if oldest.block_height + CHUNK_BLOCKS_MAX >= block_height:
                return
            self._forget(key)

    def _forget(self, key: tuple[bytes, int]) -> None:
        self._piece_bytes -= _kept_bytes(self._pieces.pop(key))
        self._pieces_kept = None

    def _cut(self, bundles: Iterable[Admitted], time_ns: int, at: ReadPlace, root: bytes) -> list[NewHeight]:
        """At least one height with the bundles that are no duplicates, cut between bundles where a height is full."""
        rules = self._rules
        heights: list[NewHeight] = []
        taken: list[Admitted] = []
        hashes: set[SubmissionHash] = set()
        room_bytes, counts = rules.block_bytes_max, Counter[RollupId]()
        for admitted in bundles:
            if admitted.hash in hashes or self._is_repeated(admitted.hash, Height(self._head.height + 1)):
                self._voids[Void.DUPLICATE] += 1
                continue
            needed = Counter([leg.rollup_id for leg in admitted.bundle.legs])
            if admitted.size_bytes > room_bytes or any(
                counts[rollup_id] + count > rules.max_payloads[rollup_id] for rollup_id, count in needed.items()
            ):
                heights.append(self._seal(taken, time_ns, at, root))
                taken, room_bytes, counts = [], rules.block_bytes_max, Counter()
                hashes = set()
            taken.append(admitted)
            hashes.add(admitted.hash)
            room_bytes -= admitted.size_bytes
            counts.update(needed)
        heights.append(self._seal(taken, time_ns, at, root))
        return heights

    def _is_repeated(self, submission: SubmissionHash, height: Height) -> bool:
        seen = self._seen.get(submission)
        return seen is not None and seen > height - self._rules.dedup_heights

    def _seal(self, taken: Sequence[Admitted], time_ns: int, at: ReadPlace, root: bytes) -> NewHeight:
        trees = BlockTrees(place([admitted.bundle for admitted in taken]))
        self._head_time_ns = max(self._head_time_ns, time_ns)
        header, header_hash = seal(trees, chain_id=self._rules.chain_id, time_ns=self._head_time_ns, parent=self._head)
        hashes = tuple([admitted.hash for admitted in taken])
        self._head = BlockRef(height=header.height, hash=header_hash)
        self._remember(header.height, hashes)
        return NewHeight(header, header_hash, trees, hashes, at.slot, at.blockhash, root)

    def _remember(self, height: Height, hashes: tuple[SubmissionHash, ...]) -> None:
        self._by_height.append((height, hashes))
        self._seen.update(dict.fromkeys(hashes, height))
        # One more than counts: what the next height may not repeat.
        while self._by_height and self._by_height[0][0] <= height - self._rules.dedup_heights:
            old, forgotten = self._by_height.popleft()
            for submission in forgotten:
                if self._seen.get(submission) == old:
                    del self._seen[submission]


def _kept_bytes(piece: Piece) -> int:
    return len(piece.data) + CHUNK_OVERHEAD_BYTES
