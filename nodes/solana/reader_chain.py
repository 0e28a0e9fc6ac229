"""What a reader has read: the rule, the store behind it, and the places it may have to go back to.

Takes blocks that are confirmed, says what came of them, and writes it as one step. After a restart it reads the stored
blocks since its last stored snapshot again, and refuses to go on where that gives other heights. Calls take time, so
the caller runs them in a thread, one at a time. It does not know how blocks are fetched.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import orjson
from coincurve import PrivateKey

from nodes.model.errors import InvalidBlock
from nodes.model.ids import Height, RollupId, SubmissionHash, hex_of
from nodes.model.json_form import to_json
from nodes.model.sequenced_block import BlockRef, SequencedBlock
from nodes.model.solana import InboxState, Slot, SolanaBlock
from nodes.rules.hashes import sha256
from nodes.rules.inbox import EMPTY_STATE
from nodes.rules.inbox_reader import InboxReader, InboxRules, Link, NewHeight, Snapshot, Void, initial_snapshot
from nodes.rules.solana_proof import sign_proof
from nodes.solana.reader_forms import block_from_bytes, block_to_bytes, snapshot_from_bytes, snapshot_to_bytes
from nodes.solana.reader_store import ReaderStore, Step, StoredHeight, StoredSlot
from nodes.wire.blocks import stored_block_to_bytes
from nodes.wire.bundles import bundle_to_bytes

SNAPSHOT_BLOCKS = 64
"""Final blocks after which a new snapshot is stored: a restart reads these again, and those that are not final."""


class SealedHeight(NamedTuple):
    """A new height with its finality proof."""

    new: NewHeight
    block: SequencedBlock


class ReadBlock(NamedTuple):
    """A place in the chain that was read."""

    slot: Slot
    blockhash: bytes
    """Empty at the origin."""
    block_height: int
    head: BlockRef
    """The newest height once this block was read."""
    snapshot: Snapshot


class AccountStates(NamedTuple):
    """What the node said of inbox accounts at one slot."""

    slot: int
    states: Mapping[RollupId, InboxState | None]
    """None: there is no such account, or it is none of an inbox."""


class Finality(NamedTuple):
    """What the node said of finality."""

    slot: int
    """Of one of our blocks, the newest that may be final."""
    blockhash: bytes
    """That the finalized chain has in this slot."""
    accounts: Sequence[AccountStates]
    """At slots that are final too."""


@dataclass(slots=True, kw_only=True)
class Reading:
    """What came of a call of `ReadChain.read`."""

    step: Step | None = None
    """To be written before anything is told; None where nothing changed."""
    blocks: list[SolanaBlock] = field(default_factory=list)
    taken: list[frozenset[SubmissionHash]] = field(default_factory=list)
    """By block, the bundles that it brought with effect; see `InboxReader.taken`."""
    heights: list[SealedHeight] = field(default_factory=list)
    final: ReadBlock | None = None
    """The newest final block, where it moved."""
    broken: tuple[Link, SolanaBlock] | None = None
    """The block that could not be read, and why; those behind it were not looked at."""
    is_off_chain: bool = False
    """The finalized chain has another block in place of one that was read."""
    evidence: str = ""
    """The accounts of the inbox on Solana contradict what was read: nothing more may become final."""


class ReadChain:
    """One reader's chain. `open` first."""

    def __init__(self, store: ReaderStore, rules: InboxRules, *, key: PrivateKey) -> None:
        """Nothing is read yet."""
        self._store = store
        self._rules = rules
        self._key = key
        self._rule = InboxReader(rules, canonical=bundle_to_bytes)
        self._step = 0
        self._origin = ReadBlock(rules.origin_slot, b"", 0, self._rule.head, initial_snapshot(rules))
        self._final = self._origin
        self._open: deque[ReadBlock] = deque()
        """Read and not final, ascending."""
        self._snapshot_height = 0
        """Solana block height of the snapshot in the store."""

    @property
    def last(self) -> ReadBlock:
        """The newest block read."""
        return self._open[-1] if self._open else self._final

    @property
    def final(self) -> ReadBlock:
        """The newest final one."""
        return self._final

    @property
    def open_blocks(self) -> int:
        """Blocks read and not final."""
        return len(self._open)

    @property
    def open_slots(self) -> list[int]:
        """Their slots, ascending."""
        return [block.slot for block in self._open]

    @property
    def voids(self) -> Mapping[Void, int]:
        """How much of what was posted is void, by reason."""
        return self._rule.voids

    def knows(self, submission: SubmissionHash) -> bool:
        """Whether this bundle, posted again, would be void in the next height."""
        return self._rule.knows(submission)

    def is_firm(self, submission: SubmissionHash) -> bool:
        """Whether this bundle is remembered and its height is final: no fork takes it away."""
        height = self._rule.height_of(submission)
        return height is not None and height <= self._final.head.height

    def holds_finally(self, submission: SubmissionHash) -> bool:
        """Whether a final block brought it, also where its bucket is still open. Looks through the bucket."""
        bucket = self._final.snapshot.bucket
        is_open = bucket is not None and any(admitted.hash == submission for admitted in bucket.bundles)
        return is_open or self.is_firm(submission)

    def open(self) -> None:
        """Take up where the store ends.

        Raises InvalidInput for a store that was written under other rules, InvalidBlock where what it holds gives
        other heights than it says, Unavailable.
        """
        rules = self._rules
        digest = sha256(orjson.dumps(to_json(rules), option=orjson.OPT_SORT_KEYS))
        self._store.check_identity({"origin_slot": rules.origin_slot.to_bytes(8, "big"), "inbox_rules": digest})
        stored = self._store.place()
        self._step = stored.step
        if stored.snapshot:
            self._final = self._read_back(stored.snapshot)
            self._rule.restore(self._final.snapshot)
            self._snapshot_height = self._final.block_height
        for slot in stored.slots:
            self._rule.read(block_from_bytes(slot.content))
            if self._rule.head != slot.head:
                raise InvalidBlock(
                    f"{self._store.name} is damaged: reading the block of Solana slot {slot.slot} again gives height "
                    f"{self._rule.head.height} with hash {hex_of(self._rule.head.hash)}, it has {slot.head.height} "
                    f"with {hex_of(slot.head.hash)}; delete the store to read the chain anew"
                )
            self._note_read()
        self._raise_final(stored.final_slot)

    def read(self, blocks: Sequence[SolanaBlock], finality: Finality | None) -> Reading:
        """Read blocks in order as far as they build on each other, and raise what is final."""
        reading = Reading()
        stored: list[StoredSlot] = []
        for block in blocks:
            link = self._rule.link_of(block)
            if link is not Link.NEXT:
                reading.broken = (link, block)
                break
            reading.blocks.append(block)
            reading.heights += [self._seal(height) for height in self._rule.read(block)]
            reading.taken.append(self._rule.taken)
            self._note_read()
            content = block_to_bytes(block)
            head = self._rule.head
            stored.append(StoredSlot(block.slot, block.blockhash, block.parent_slot, block.block_height, head, content))
        if finality is not None:
            self._take_finality(finality, reading)
        if stored or reading.final is not None:
            reading.step = self._next_step(slots=stored, heights=[_stored(height) for height in reading.heights])
        return reading

    def roll_back(self) -> Step:
        """Forget every block that is not final; the step to write before anyone is told."""
        self._open.clear()
        self._rule.restore(self._final.snapshot)
        return self._next_step(roll_back_to=(self._final.slot, self._final.head.height))

    def _seal(self, height: NewHeight) -> SealedHeight:
        proof = sign_proof(
            height.header_hash, slot=height.slot, blockhash=height.blockhash, root=height.inbox_root, key=self._key
        )
        block = SequencedBlock(
            header=height.header,
            header_hash=height.header_hash,
            contents=height.trees.contents,
            finality_proof=proof,
        )
        return SealedHeight(height, block)

    def _note_read(self) -> None:
        snapshot = self._rule.snapshot()
        place = snapshot.place
        assert place is not None, "a block was read"
        self._open.append(ReadBlock(place.slot, place.blockhash, place.block_height, snapshot.head, snapshot))

    def _take_finality(self, finality: Finality, reading: Reading) -> None:
        ours = next((block for block in self._open if block.slot == finality.slot), None)
        if ours is None:
            return
        if ours.blockhash != finality.blockhash:
            reading.is_off_chain = True
            return
        for accounts in finality.accounts:
            reading.evidence = reading.evidence or self._contradiction(accounts, up_to=finality.slot)
        if not reading.evidence:
            self._raise_final(finality.slot)
            reading.final = self._final

    def _contradiction(self, accounts: AccountStates, *, up_to: int) -> str:
        """What an account says otherwise than we do; empty where all agree, or the node speaks of another slot."""
        known = [block for block in (self._final, *self._open) if block.slot <= accounts.slot]
        if not known or known[-1].slot > up_to or accounts.slot > self.last.slot:
            return ""
        ours = known[-1].snapshot.states
        for rollup_id, state in accounts.states.items():
            # An account that is not there yet is one that nothing was posted to: a node may lag behind its start.
            if (state or EMPTY_STATE) != ours[rollup_id]:
                return (
                    f"the inbox of rollup {hex_of(rollup_id)} contradicts what was read, at finalized Solana slot "
                    f"{accounts.slot}: the account has {_text(state)}, reading gives {_text(ours[rollup_id])}; the "
                    "node that was read, or this reader, left out or made up a posting: nothing more becomes final"
                )
        return ""

    def _raise_final(self, slot: int) -> None:
        while self._open and self._open[0].slot <= slot:
            self._final = self._open.popleft()

    def _next_step(
        self,
        *,
        slots: Sequence[StoredSlot] = (),
        heights: Sequence[StoredHeight] = (),
        roll_back_to: tuple[Slot, Height] | None = None,
    ) -> Step:
        snapshot = None
        if self._final.block_height - self._snapshot_height >= SNAPSHOT_BLOCKS:
            self._snapshot_height = self._final.block_height
            snapshot = (self._final.slot, snapshot_to_bytes(self._final.snapshot))
        self._step += 1
        return Step(
            number=self._step,
            slot=self.last.slot,
            blockhash=self.last.blockhash,
            roll_back_to=roll_back_to,
            slots=slots,
            heights=heights,
            final_slot=self._final.slot,
            snapshot=snapshot,
        )

    def _read_back(self, data: bytes) -> ReadBlock:
        snapshot = snapshot_from_bytes(data)
        head, place = snapshot.head, snapshot.place
        if place is None:
            raise InvalidBlock(f"{self._store.name} is damaged: its snapshot is of no block")
        above = snapshot.sequenced[0].height - 1 if snapshot.sequenced else head.height
        hashes = dict(self._store.submission_hashes(above=above, up_to=head.height))
        if any(one.height not in hashes for one in snapshot.sequenced):
            raise InvalidBlock(
                f"{self._store.name} is damaged: it lacks heights after {above}; delete it to read the chain anew"
            )
        sequenced = tuple([one._replace(hashes=hashes[one.height]) for one in snapshot.sequenced])
        snapshot = replace(snapshot, sequenced=sequenced)
        return ReadBlock(place.slot, place.blockhash, place.block_height, head, snapshot)


def _stored(height: SealedHeight) -> StoredHeight:
    new = height.new
    return StoredHeight(new.ref, stored_block_to_bytes(height.block), new.submission_hashes, new.slot, new.blockhash)


def _text(state: InboxState | None) -> str:
    if state is None:
        return "no state"
    return f"sequence {state.sequence}, {state.data_bytes} bytes and rolling hash {hex_of(state.rolling_hash)}"
