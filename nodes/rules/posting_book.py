"""What becomes of accepted bundles on their way to Solana: waiting, sent, in a block, finalized; and back, after forks.

A state machine without I/O: it is told what arrived, what was sent and what stands in blocks, and says what to post,
what to send again and what may be forgotten. It does not sign, keeps no journal and knows no RPC.

Once a transaction is sent, only its very bytes are sent again, as often as one likes: they can land once. Its bundles
go into another one only when it failed on chain, or when it can no longer land and the chain does not know it
(`expired`, then `give_up`). What landed is kept until it is finalized, since a fork may undo it.

That a transaction stands in a block says that it was paid for. Whether a bundle in it counts, the reader says, by the
bundles that a block brought with effect: one that is not among them is void, and is posted again, later each time.
"""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from nodes.model.bundle import Bundle
from nodes.model.ids import SubmissionHash
from nodes.model.solana import Signature, SolanaBlock
from nodes.rules.lazy import placed_bytes
from nodes.rules.posting import Layout, Pieces, Posting, needs_pieces, pack, pieces_of
from nodes.rules.posting_tally import RecentHashes, Tally
from nodes.rules.posting_underway import UnderWay
from nodes.rules.posting_values import (
    AT_ONCE_NS,
    COMMIT_PART,
    WHOLE,
    Accepted,
    ChunkedBundle,
    Finalized,
    Landing,
    Outgoing,
    PostingRules,
    Todo,
)


class PostingBook:
    """All bundles that are accepted and not yet finalized. One method per transition."""

    def __init__(self, *, rules: PostingRules, layout: Layout) -> None:
        self._rules = rules
        self._layout = layout
        self._next_sequence = 1
        self._items: dict[int, Accepted] = {}
        self._by_hash: dict[SubmissionHash, int] = {}
        self._attempts: dict[int, int] = {}
        """Times that it failed on chain or was void, by bundle; absent = none."""
        self._void: set[int] = set()
        """Bundles that were void when they were posted last."""
        self._waiting: list[int] = []
        """Heap: always the oldest first, also after a transaction was given up."""
        self._held: list[tuple[int, int]] = []
        """Heap of (not before, sequence)."""
        self._chunked: dict[int, ChunkedBundle] = {}
        self._held_parts: list[tuple[int, int, int]] = []
        """Heap of (not before, sequence, place): chunks that failed on chain."""
        self._transactions: dict[Signature, Outgoing] = {}
        self._unlanded = UnderWay()
        self._landed_items: set[int] = set()
        self._pending_bytes = 0
        self._recent = RecentHashes()
        self._gone: list[Signature] = []
        """Transactions that are of no use any more, and not yet reported by `take_gone`."""
        self._confirmed_slot = 0
        self._confirmed_height = 0
        self._finalized_slot = 0
        self._finalized_height = 0
        self.tally = Tally()
        self.last_failure: Signature | None = None
        """What failed on chain last; None once something landed after it."""

    # State

    @property
    def pending_bundles(self) -> int:
        """Bundles in no confirmed block."""
        return len(self._items) - len(self._landed_items)

    @property
    def pending_bytes(self) -> int:
        """What they take of the queue."""
        return self._pending_bytes

    @property
    def unlanded(self) -> int:
        """Transactions sent, or about to be, and in no confirmed block."""
        return len(self._unlanded)

    @property
    def confirmed(self) -> tuple[int, int]:
        """Slot and block height up to which blocks were reported."""
        return self._confirmed_slot, self._confirmed_height

    @property
    def is_any_void(self) -> bool:
        """Whether some bundle was void when it was posted last."""
        return bool(self._void)

    @property
    def waiting(self) -> int:
        """Bundles that are in no transaction."""
        return len(self._waiting) + len(self._held)

    def is_unlanded(self, signature: Signature) -> bool:
        """Whether this transaction is kept, and stands in no block that was shown."""
        return signature in self._unlanded

    def is_judged(self, signature: Signature, slot: int) -> bool:
        """Whether readers read the final blocks up to `slot`: what they lack is void. Chunks give them nothing."""
        sent = self._transactions.get(signature)
        return sent is not None and (sent.part not in {WHOLE, COMMIT_PART} or slot <= self._finalized_slot)

    def has(self, signature: Signature) -> bool:
        """Whether this transaction is kept."""
        return signature in self._transactions

    def knows(self, submission_hash: SubmissionHash) -> bool:
        """Whether these bytes are pending, or landed within `dedup_blocks`."""
        return submission_hash in self._by_hash or submission_hash in self._recent

    def in_flight_lamports(self) -> dict[bytes, int]:
        """By payer, the fees of what it signed and what is in no confirmed block."""
        return self._unlanded.lamports()

    # Arrivals

    def admit(self, offers: Sequence[tuple[SubmissionHash, Bundle]]) -> list[Accepted]:
        """Take all offers (distinct, none known, none with a flaw) or none. Raises Overloaded, LimitExceeded."""
        self._rules.check_room(
            bundles=len(offers),
            size_bytes=sum([placed_bytes(bundle) for _, bundle in offers]),
            pending_bundles=self.pending_bundles,
            pending_bytes=self._pending_bytes,
        )
        accepted = []
        for submission_hash, bundle in offers:
            item = Accepted(self._next_sequence, submission_hash, bundle)
            self._take_in(item)
            heapq.heappush(self._waiting, item.sequence)
            accepted.append(item)
        return accepted

    def restore(
        self,
        *,
        items: Iterable[Accepted],
        transactions: Iterable[Outgoing],
        recent: Iterable[tuple[SubmissionHash, int]],
    ) -> None:
        """Take over what the journal kept, at the start: items ascending, transactions in the order of their writing.

        Where the transactions stand is not known: all count as unlanded, and are due to be sent.
        """
        assert not self._items, "restored once, at the start"
        outgoing = list(transactions)
        # A bundle that was void in one transaction went into a later one.
        whole = {
            sequence: transaction.signature
            for transaction in outgoing
            if transaction.part == WHOLE
            for sequence in transaction.items
        }
        in_parts = {transaction.items[0] for transaction in outgoing if transaction.part != WHOLE}
        for item in items:
            self._take_in(item)
            if item.sequence in whole:
                continue
            if item.sequence in in_parts or needs_pieces(item.bundle, self._layout):
                self._begin_pieces(pieces_of(item.sequence, item.bundle, self._layout))
            else:
                heapq.heappush(self._waiting, item.sequence)
        for transaction in outgoing:
            transaction.sent_ns = AT_ONCE_NS
            kept = [sequence for sequence in transaction.items if sequence in self._items]
            if transaction.part == WHOLE:
                kept = [sequence for sequence in kept if whole[sequence] == transaction.signature]
            transaction.items = tuple(kept)
            if kept:
                self._register(transaction)
            else:
                self._gone.append(transaction.signature)
        for submission_hash, height in recent:
            self._recent.remember(submission_hash, height)

    # Posting

    def take(self, *, now_ns: int, transactions_max: int) -> list[Todo]:
        """What to sign and send now, in order. Each must be given back by `sent` or `put_back`."""
        self._release_held(now_ns)
        room = min(transactions_max, self._rules.in_flight_max - len(self._unlanded))
        todos: list[Todo] = []
        self._take_parts(todos, room)
        while self._waiting and len(todos) < room:
            self._take_whole(todos, room)
        self._take_parts(todos, room)
        return todos

    def sent(self, transaction: Outgoing) -> None:
        """A posting became a transaction: it is being journaled, and will be sent."""
        self._register(transaction)

    def payer_of(self, todo: Todo) -> bytes | None:
        """Who must sign it; None where anybody may."""
        return None if todo.part == WHOLE else self._chunked[todo.posting.items[0]].payer

    def leave_payers(self, able: Collection[bytes]) -> None:
        """What others than these began to post in chunks is posted by somebody else, all of it; not while a commit is
        under way, which may land.
        """
        for chunked in self._chunked.values():
            if chunked.payer is None or chunked.payer in able or chunked.commit is not None:
                continue
            for chunk in chunked.sent.values():
                self._forget_transaction(chunk)
            chunked.begin_again()

    def put_back(self, todo: Todo) -> None:
        """A posting did not become a transaction."""
        sequence = todo.posting.items[0]
        if todo.part == WHOLE:
            for item in todo.posting.items:
                heapq.heappush(self._waiting, item)
        elif todo.part == COMMIT_PART:
            self._chunked[sequence].committing = False
        else:
            heapq.heappush(self._chunked[sequence].missing, todo.part)

    def due(self, *, now_ns: int, transactions_max: int) -> list[Outgoing]:
        """Transactions whose bytes are to be sent, again or for the first time after a restart; counted as sent."""
        rules = self._rules
        found = self._unlanded.due(now_ns=now_ns, pause_ns=rules.rebroadcast_ns, count_max=transactions_max)
        self.tally.count("rebroadcasts", len(found))
        return found

    def mark_sent(self, signature: Signature, *, now_ns: int) -> None:
        """The bytes are on their way."""
        self._unlanded.mark_sent(signature, now_ns=now_ns)

    # What the chain says

    def on_block(self, block: SolanaBlock, taken: Collection[SubmissionHash], *, now_ns: int) -> bool:
        """A confirmed block, and the bundles that it brought with effect; true where it held a transaction of ours."""
        found = False
        self._confirmed_slot, self._confirmed_height = block.slot, block.block_height
        for signature in block.signatures:
            transaction = self._transactions.get(signature)
            if transaction is not None:
                found = True
                if signature in block.failed:
                    self.fail(signature, now_ns=now_ns)
                else:
                    landing = Landing(block.slot, block.block_height)
                    self.land(signature, landing, holds=taken.__contains__, now_ns=now_ns)
        return found

    def land(
        self, signature: Signature, landing: Landing, *, holds: Callable[[SubmissionHash], bool], now_ns: int
    ) -> None:
        """A transaction succeeded in a confirmed block. `holds` says which bundles readers have from there; the others
        are void, and are posted again. Harmless where that is known.
        """
        transaction = self._transactions.get(signature)
        if transaction is None:
            return
        if transaction.landing is None:
            self._unlanded.leave(transaction)
            self.tally.paid(transaction)
            self.last_failure = None
        transaction.landing = landing
        if transaction.part not in {WHOLE, COMMIT_PART}:
            return
        landed = self._landed_items
        held = [one for one in transaction.items if one in landed or holds(self._items[one].hash)]
        self._tick_off(held)
        for sequence in transaction.items:
            if sequence not in self._landed_items:
                self._void.add(sequence)
                self._return(transaction, sequence, self._next_attempt_ns(sequence, now_ns))
        transaction.items = tuple(held)
        if not held:
            self._forget_transaction(transaction)

    def fail(self, signature: Signature, *, now_ns: int) -> None:
        """A transaction failed on chain: paid for, without effect. Its bundles are posted again, later and alone."""
        transaction = self._transactions.get(signature)
        if transaction is None:
            return
        self.tally.paid(transaction)
        self.tally.count("failed_transactions")
        self.last_failure = signature
        for sequence in transaction.items:
            self._return(transaction, sequence, self._next_attempt_ns(sequence, now_ns))
        self._forget_transaction(transaction)

    def expired(self) -> list[Outgoing]:
        """Transactions that can land no more; whether they did must be asked, at `confirmed` or later."""
        return [
            transaction
            for transaction in self._unlanded
            if transaction.last_valid_height < self._confirmed_height and transaction.sent_ns is not None
        ]

    def give_up(self, signature: Signature) -> None:
        """An expired transaction that the chain does not know: its bundles are posted again."""
        if signature not in self._unlanded:
            return
        transaction = self._transactions[signature]
        self.tally.count("resigned")
        for sequence in transaction.items:
            self._return(transaction, sequence, 0)
        self._forget_transaction(transaction)

    def on_finalized(self, slot: int, block_height: int) -> Finalized:
        """Blocks up to `slot` are final; what they hold may be forgotten. Empty where nothing changes."""
        self._finalized_slot, self._finalized_height = slot, block_height
        done: list[tuple[int, Landing]] = []
        for transaction in list(self._transactions.values()):
            landing = transaction.landing
            is_whole = transaction.part in {WHOLE, COMMIT_PART} and self._landed_items.issuperset(transaction.items)
            if landing is not None and landing.slot <= slot and is_whole:
                done += [(sequence, landing) for sequence in transaction.items]
                self._forget_transaction(transaction)
        hashes = []
        for sequence, landing in done:
            chunked = self._chunked.pop(sequence, None)
            for chunk in chunked.sent.values() if chunked is not None else ():
                self._forget_transaction(chunk)
            item = self._items.pop(sequence)
            self._landed_items.discard(sequence)
            self._attempts.pop(sequence, None)
            self._void.discard(sequence)
            del self._by_hash[item.hash]
            self._recent.remember(item.hash, landing.height)
            hashes.append((item.hash, landing.height))
        forget_height = block_height - self._rules.dedup_blocks
        is_news = self._recent.forget(up_to=forget_height) or bool(done)
        return Finalized(tuple([sequence for sequence, _ in done]), tuple(hashes), forget_height, is_news)

    def take_gone(self) -> list[Signature]:
        """Transactions that need not be kept any longer; each is told once."""
        gone, self._gone = self._gone, []
        return gone

    def on_rolled_back(self, to_slot: int) -> None:
        """Confirmed blocks above `to_slot` are gone: what landed in them is to be sent again, at once."""
        self._confirmed_slot = min(self._confirmed_slot, to_slot)
        # Heights of the branch that is gone say nothing of when transactions expire on the one that comes.
        self._confirmed_height = min(self._confirmed_height, self._finalized_height)
        for transaction in list(self._transactions.values()):
            if transaction.landing is None or transaction.landing.slot <= to_slot:
                continue
            transaction.landing = None
            transaction.sent_ns = AT_ONCE_NS
            self._unlanded.enter(transaction)
            if transaction.part in {WHOLE, COMMIT_PART}:
                self._untick(transaction.items)
        self._unlanded.order_by(self._transactions)

    # Inside

    def _take_in(self, item: Accepted) -> None:
        self._items[item.sequence] = item
        self._by_hash[item.hash] = item.sequence
        self._pending_bytes += placed_bytes(item.bundle)
        self._next_sequence = max(self._next_sequence, item.sequence + 1)

    def _release_held(self, now_ns: int) -> None:
        while self._held and self._held[0][0] <= now_ns:
            heapq.heappush(self._waiting, heapq.heappop(self._held)[1])
        while self._held_parts and self._held_parts[0][0] <= now_ns:
            _, sequence, place = heapq.heappop(self._held_parts)
            chunked = self._chunked.get(sequence)
            if chunked is not None and place == COMMIT_PART:
                chunked.committing = False
            elif chunked is not None and place not in chunked.missing and place not in chunked.sent:
                heapq.heappush(chunked.missing, place)

    def _take_whole(self, todos: list[Todo], room: int) -> None:
        """Postings from the front of the queue while there is room for them."""
        drawn: list[int] = []
        packed, used = pack(self._draw(drawn), self._layout, postings_max=room - len(todos))
        for sequence in drawn[used:]:
            heapq.heappush(self._waiting, sequence)
        for posting in packed:
            if isinstance(posting, Posting):
                todos.append(Todo(posting, WHOLE))
            else:
                self._begin_pieces(posting)

    def _draw(self, drawn: list[int]) -> Iterator[tuple[int, Bundle]]:
        """The front of the queue, up to a bundle that failed on chain; such a one comes alone.

        Whatever is wrong with it, it takes nobody along.
        """
        while self._waiting and not (drawn and (self._waiting[0] in self._attempts or drawn[-1] in self._attempts)):
            sequence = heapq.heappop(self._waiting)
            drawn.append(sequence)
            yield sequence, self._items[sequence].bundle

    def _begin_pieces(self, pieces: Pieces) -> None:
        self._chunked[pieces.item] = ChunkedBundle(pieces, list(range(len(pieces.chunks))))

    def _take_parts(self, todos: list[Todo], room: int) -> None:
        """Chunks, and commits of bundles whose chunks all stand in blocks."""
        for chunked in self._chunked.values():
            while chunked.missing and len(todos) < room:
                place = heapq.heappop(chunked.missing)
                todos.append(Todo(chunked.pieces.chunks[place], place))
            if len(todos) >= room:
                return
            self._commit_if_due(chunked, todos)

    def _commit_if_due(self, chunked: ChunkedBundle, todos: list[Todo]) -> None:
        if chunked.committing or chunked.missing:
            return
        # Half the age: the commit has to land while its chunks still count.
        slots_max = self._rules.chunk_slots_max // 2
        if chunked.usable(at_slot=self._confirmed_slot, slots_max=slots_max):
            chunked.committing = True
            todos.append(Todo(chunked.pieces.commit, COMMIT_PART))
            return
        self._renew_old_chunks(chunked, self._confirmed_slot, slots_max)

    def _renew_old_chunks(self, chunked: ChunkedBundle, at_slot: int, slots_max: int) -> None:
        """Chunks that landed too long ago are posted again."""
        for place, chunk in list(chunked.sent.items()):
            if chunk.landing is not None and at_slot - chunk.landing.slot > slots_max:
                self._forget_transaction(chunk)
                del chunked.sent[place]
                heapq.heappush(chunked.missing, place)

    def _register(self, transaction: Outgoing) -> None:
        self._transactions[transaction.signature] = transaction
        self._unlanded.enter(transaction)
        if transaction.part == WHOLE:
            return
        chunked = self._chunked.get(transaction.items[0])
        if chunked is None:
            return
        if transaction.part == COMMIT_PART:
            chunked.commit, chunked.committing = transaction, True
        elif chunked.payer not in {None, transaction.payer}:
            # Of a journal from before a change of payer: readers would not put it together with the others.
            self._forget_transaction(transaction)
        else:
            chunked.payer = transaction.payer
            chunked.sent[transaction.part] = transaction
            if transaction.part in chunked.missing:
                chunked.missing.remove(transaction.part)
                heapq.heapify(chunked.missing)

    def _next_attempt_ns(self, sequence: int, now_ns: int) -> int:
        """When a bundle that failed or was void may be posted again."""
        attempts = self._attempts[sequence] = self._attempts.get(sequence, 0) + 1
        return now_ns + min(self._rules.backoff_max_ns, self._rules.backoff_ns << min(attempts - 1, 20))

    def _return(self, transaction: Outgoing, sequence: int, not_before_ns: int) -> None:
        """A bundle, or its chunk or commit, is to be posted again."""
        chunked = self._chunked.get(sequence)
        if transaction.part == WHOLE:
            if transaction.landing is not None:
                self._untick((sequence,))
            heapq.heappush(self._held, (not_before_ns, sequence))
        elif chunked is not None:
            if transaction.part == COMMIT_PART:
                chunked.commit = None
                if transaction.landing is not None:
                    self.tally.count("void_commits")
                    self._return_chunks(chunked, not_before_ns)
            else:
                chunked.sent.pop(transaction.part, None)
            heapq.heappush(self._held_parts, (not_before_ns, sequence, transaction.part))

    def _return_chunks(self, chunked: ChunkedBundle, not_before_ns: int) -> None:
        """Readers lack some: all are posted again, but for those that are under way."""
        for place, chunk in list(chunked.sent.items()):
            if chunk.landing is not None:
                self._forget_transaction(chunk)
                del chunked.sent[place]
                heapq.heappush(self._held_parts, (not_before_ns, chunked.pieces.item, place))

    def _forget_transaction(self, transaction: Outgoing) -> None:
        if self._transactions.pop(transaction.signature, None) is not None:
            self._unlanded.leave(transaction)
            self.tally.forgotten(transaction)
            self._gone.append(transaction.signature)

    def _tick_off(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            if sequence not in self._landed_items:
                self._landed_items.add(sequence)
                self._void.discard(sequence)
                self._pending_bytes -= placed_bytes(self._items[sequence].bundle)

    def _untick(self, sequences: Iterable[int]) -> None:
        for sequence in sequences:
            if sequence in self._landed_items:
                self._landed_items.discard(sequence)
                self._pending_bytes += placed_bytes(self._items[sequence].bundle)
