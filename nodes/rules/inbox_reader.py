"""From Solana blocks to sequenced heights: the one step that every reader of the inbox takes in the same way.

A state machine without I/O: confirmed blocks go in, in the order of their parent links, and new heights come out.
Everything is a function of the chain: two readers agree on every header hash, however the blocks were handed to them.

Order: block, transaction, instruction, entry. A COMMIT releases its entry at its own position, provided that all of its
chunks are in blocks at or before its own, at most CHUNK_BLOCKS_MAX back, and of the same payer. What is nonsense,
refused by `nodes.rules.lazy.flaw_of`, a repetition or beyond what one block may bring is void and counted (`Void`).
Each block gives at least one height, also an empty block; with `bucket_ms` each span of that length with at least one
block does, once a block behind it is there. Where the content of a block or bucket is more than a height holds it is
cut between bundles, in order: a block gives MAX_BLOCK_HEIGHTS at most.

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
from nodes.model.ids import HASH_BYTES, NOTICE_ROLLUP_ID, HeaderHash, Height, RollupId, SubmissionHash
from nodes.model.limits import MAX_SUBMISSION_BYTES
from nodes.model.sequenced_block import BlockRef, Header
from nodes.model.solana import BLOCKHASH_AGE, InboxInstruction, InboxState, Pubkey, Slot, SolanaBlock
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
from nodes.rules.inbox_pieces import Piece, PieceMemory
from nodes.rules.inbox_room import Room
from nodes.rules.lazy import flaw_of, placed_bytes
from nodes.rules.sequenced_block import BlockTrees, genesis_ref, place, seal
from nodes.rules.solana_proof import inbox_root

MAX_BLOCK_HEIGHTS = 16
"""Heights that one Solana block may give. More would let a few postings outrun everything that counts heights."""
DEDUP_BLOCKS = BLOCKHASH_AGE
"""Solana blocks during which a sequenced bundle is remembered at least, however many heights they give: so long the
transaction that brought it may come again."""
_NOBODY = Pubkey(bytes(HASH_BYTES))
"""The payer of a memo without accounts: no key signs for it."""
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
    """The same bundle was sequenced within `dedup_heights` or DEDUP_BLOCKS."""
    NOTICES_FULL = auto()
    """The block brought as many notices as a height holds already."""
    BLOCK_FULL = auto()
    """The block filled MAX_BLOCK_HEIGHTS already."""
    CHUNK_REPEATED = auto()
    """This place held other bytes of the same payer; the newer ones count."""
    CHUNK_FORGOTTEN = auto()
    """More chunks are kept than CHUNK_BYTES_MAX."""
    COMMIT_INCOMPLETE = auto()
    """A chunk of the same payer is missing, or too old."""
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
    """Heights during which a bundle is not sequenced again; see DEDUP_BLOCKS."""
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


class Sequenced(NamedTuple):
    """What one height brought, remembered to tell repetitions."""

    height: Height
    block_height: int
    """Of the newest Solana block that it was read from."""
    hashes: tuple[SubmissionHash, ...]


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
    sequenced: tuple[Sequenced, ...]
    """The heights whose submissions would be repetitions in the next block, ascending."""
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
        self._pieces: PieceMemory
        self._taken: frozenset[SubmissionHash] = frozenset()
        self._bucket: Bucket | None
        self._voids: Counter[Void]
        self._seen: dict[SubmissionHash, Height]
        """By submission, the height that holds it; what is in the deque."""
        self._in_bucket: set[SubmissionHash]
        """Of the bundles in the open bucket."""
        self._by_height: deque[Sequenced]
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

    @property
    def taken(self) -> frozenset[SubmissionHash]:
        """The bundles that the last block read brought with effect, also such as were sequenced before.

        The only evidence that a posting did what it was for: a transaction may succeed and be void.
        """
        return self._taken

    def knows(self, submission: SubmissionHash) -> bool:
        """Whether this bundle, posted again, would be void in the next block."""
        return submission in self._seen or submission in self._in_bucket

    def height_of(self, submission: SubmissionHash) -> Height | None:
        """Where a bundle that is remembered was sequenced."""
        return self._seen.get(submission)

    def snapshot(self) -> Snapshot:
        """What to `restore` in order to be again where it is now. Shares what never changes, so it is cheap."""
        return Snapshot(
            place=self._place,
            head=self._head,
            head_time_ns=self._head_time_ns,
            block_time_ns=self._block_time_ns,
            states=self._states,
            sequenced=tuple(self._by_height),
            pieces=self._pieces.kept(),
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
        self._seen = {sequenced: height for height, _, hashes in self._by_height for sequenced in hashes}
        self._pieces = PieceMemory(snapshot.pieces)
        self._taken = frozenset()
        self._bucket = snapshot.bucket
        self._in_bucket = {admitted.hash for admitted in snapshot.bucket.bundles} if snapshot.bucket else set()
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
            self._bucket, self._in_bucket = None, set()
        bundles = self._within_bounds(self._read_instructions(block))
        place_read = ReadPlace(slot=block.slot, blockhash=block.blockhash, block_height=block.block_height)
        self._place = place_read
        if width_ns:
            earlier = self._bucket.bundles if self._bucket is not None else ()
            self._bucket = Bucket(
                number=time_ns // width_ns, place=place_read, root=self._root, bundles=(*earlier, *bundles)
            )
            self._in_bucket.update([admitted.hash for admitted in bundles])
        else:
            heights = self._cut(bundles, time_ns, place_read, self._root)
        self._forget_sequenced(block.block_height)
        return heights

    def _time_of(self, block: SolanaBlock) -> int:
        return self._block_time_ns if block.block_time_s is None else block.block_time_s * _NS_PER_S

    def _read_instructions(self, block: SolanaBlock) -> list[Admitted]:
        """The bundles of a block in order; rolls the states on."""
        self._pieces.forget_old(block.block_height)
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
            payer = instruction.accounts[0] if instruction.accounts else _NOBODY
            if isinstance(decoded, Chunk):
                self._keep(Piece(payer, *decoded, block.block_height))
            elif decoded is not None:
                postings.append((payer, decoded, rollups))
            elif not data or data[0] != INIT:
                self._voids[Void.INSTRUCTION] += 1
        if states:
            self._states = {**self._states, **states}
            self._root = inbox_root(self._states)
        # After the chunks of the whole block: a COMMIT may stand before its last chunk in the same block.
        return [bundle for posting in postings for bundle in self._bundles_of(*posting)]

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

    def _bundles_of(self, payer: Pubkey, decoded: bytes | Commit, rollups: Sequence[RollupId | None]) -> list[Admitted]:
        data = self._release(payer, decoded) if isinstance(decoded, Commit) else decoded
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

    def _keep(self, piece: Piece) -> None:
        if self._pieces.keep(piece):
            self._voids[Void.CHUNK_REPEATED] += 1
        forgotten = self._pieces.trim()
        if forgotten:
            self._voids[Void.CHUNK_FORGOTTEN] += forgotten

    def _release(self, payer: Pubkey, commit: Commit) -> bytes | None:
        """The entry."""
        entry = self._pieces.joined(payer, commit)
        if entry is None:
            self._voids[Void.COMMIT_INCOMPLETE] += 1
        elif sha256(entry) != commit.digest:
            self._voids[Void.COMMIT_DIGEST] += 1
            return None
        return entry

    def _within_bounds(self, bundles: Iterable[Admitted]) -> list[Admitted]:
        """Those of one block that are no repetitions, as many as a block may bring; notes what it `taken`."""
        room = self._new_room()
        kept: list[Admitted] = []
        taken: set[SubmissionHash] = set()
        notices = 0
        for admitted in bundles:
            bundle, submission, size_bytes = admitted
            is_notice = bundle.legs[0].rollup_id == NOTICE_ROLLUP_ID
            if submission in taken or self.knows(submission):
                self._voids[Void.DUPLICATE] += 1
                taken.add(submission)
                continue
            if is_notice and notices >= self._rules.max_payloads[NOTICE_ROLLUP_ID]:
                self._voids[Void.NOTICES_FULL] += 1
                continue
            if not room.fits(bundle, size_bytes):
                if room.heights >= MAX_BLOCK_HEIGHTS:
                    self._voids[Void.BLOCK_FULL] += 1
                    continue
                room.begin_height()
            room.take(bundle, size_bytes)
            notices += is_notice
            taken.add(submission)
            kept.append(admitted)
        self._taken = frozenset(taken)
        return kept

    def _new_room(self) -> Room:
        return Room(max_payloads=self._rules.max_payloads, block_bytes_max=self._rules.block_bytes_max)

    def _cut(self, bundles: Iterable[Admitted], time_ns: int, at: ReadPlace, root: bytes) -> list[NewHeight]:
        """At least one height with the bundles, cut between bundles where a height is full."""
        heights: list[NewHeight] = []
        placed: list[Admitted] = []
        room = self._new_room()
        for admitted in bundles:
            if not room.fits(admitted.bundle, admitted.size_bytes):
                heights.append(self._seal(placed, time_ns, at, root))
                placed = []
                room.begin_height()
            room.take(admitted.bundle, admitted.size_bytes)
            placed.append(admitted)
        heights.append(self._seal(placed, time_ns, at, root))
        return heights

    def _seal(self, taken: Sequence[Admitted], time_ns: int, at: ReadPlace, root: bytes) -> NewHeight:
        trees = BlockTrees(place([admitted.bundle for admitted in taken]))
        self._head_time_ns = max(self._head_time_ns, time_ns)
        header, header_hash = seal(trees, chain_id=self._rules.chain_id, time_ns=self._head_time_ns, parent=self._head)
        hashes = tuple([admitted.hash for admitted in taken])
        self._head = BlockRef(height=header.height, hash=header_hash)
        self._by_height.append(Sequenced(header.height, at.block_height, hashes))
        self._seen.update(dict.fromkeys(hashes, header.height))
        return NewHeight(header, header_hash, trees, hashes, at.slot, at.blockhash, root)

    def _forget_sequenced(self, block_height: int) -> None:
        """What the next block may bring again."""
        last_height = self._head.height + 1 - self._rules.dedup_heights
        last_block_height = block_height + 1 - DEDUP_BLOCKS
        while self._by_height:
            oldest = self._by_height[0]
            if oldest.height > last_height or oldest.block_height > last_block_height:
                return
            self._by_height.popleft()
            for submission in oldest.hashes:
                if self._seen.get(submission) == oldest.height:
                    del self._seen[submission]
