"""A rollup node's own account of its chain: what was executed at each height, durable, traced and announced.

`settle` takes what the engine made of one height, compares it with what this node had before (after a restart or a
rewind the same heights come again and must end in the same hashes), keeps it, and tells whoever listens. It does not
know the engine and awaits nothing, so a height is settled whole or not at all.
"""

from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.errors import Pruned, StateDivergence
from nodes.model.ids import Height, hex_of
from nodes.model.sequenced_block import BlockRef, Commitment
from nodes.model.status import BlockHead, Heads
from nodes.rollup.follower import DerivedHeight, Place
from nodes.rollup.heads import HeadAnnouncer, HeadChange, HeadTracker
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import HeightRow, Journal
from nodes.rollup.pending import PendingPool
from nodes.rollup.records import Execution, HeightRecord, IndexedBlock, block_of, bundle_keys, pack_left_out
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import BlockExecuted, BlockReorged, NodeRecovered
from nodes.telemetry.tracer import Tracer


class Tip(NamedTuple):
    """Where an engine stands: the place on the sequencer's chain, and the rollup's head there."""

    place: Place
    number: int
    hash: bytes
    timestamp_s: int
    state_root: bytes

    @property
    def height(self) -> Height:
        """Sequenced height."""
        return self.place.ref.height


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recovery:
    checkpoint_height: int
    until: Height
    started_ns: int


class Chain:
    """Journal, index, heads and subscribers of one rollup, moved together."""

    def __init__(
        self,
        *,
        journal: Journal,
        index: ChainIndex,
        pending: PendingPool,
        announcer: HeadAnnouncer,
        genesis: BlockRef,
        final_level: Commitment,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint,
        has_verdicts: bool = False,
        is_settled: bool = False,
        resolved: Height = Height(0),
        settled: Height = Height(0),
    ) -> None:
        """`genesis` is height 0 of the sequencer's chain. `resolved`, `settled`: how far these had come before."""
        self._journal = journal
        self._index = index
        self._pending = pending
        self._announcer = announcer
        self._genesis = Place(genesis, 0)
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._tracker = HeadTracker(
            BlockHead(number=0, hash=index.genesis.hash),
            final_level=final_level,
            has_verdicts=has_verdicts,
            is_settled=is_settled,
        )
        self._former: dict[Height, HeightRow] = {}
        """What stood at heights that were rewound on command and will come again."""
        self._recovery: _Recovery | None = None
        last = journal.last()
        self._place = self._genesis if last is None else Place(last.ref, last.time_ns)
        known = [journal.at(height) for height in (settled, resolved)]
        levels = (Commitment.FINAL, Commitment.FIRM, Commitment.SOFT)
        promised = {level: journal.last_at_level(level) for level in levels}
        for row in sorted({row for row in (*known, *promised.values()) if row is not None}):
            self._tracker.executed(row.height, BlockHead(number=row.number, hash=row.hash))
        for level, promise in promised.items():
            if promise is not None:
                self._tracker.raised(promise.height, level)
        self._tracker.resolved(resolved)
        self._tracker.settled_final(settled)

    @property
    def height(self) -> Height:
        """Height settled last."""
        return self._place.ref.height

    @property
    def place(self) -> Place:
        """The place settled last."""
        return self._place

    @property
    def firm_height(self) -> Height:
        """Up to here the sequencer's order is firm."""
        return Height(self._tracker.firm_height)

    @property
    def heads(self) -> Heads:
        """What users see."""
        return self._tracker.heads

    @property
    def recovering(self) -> bool:
        """The engine is behind what was settled before and catches up."""
        return self._recovery is not None

    def place_at(self, height: Height) -> Place | None:
        """A settled place; genesis at 0; None above the tip or for a pruned one."""
        if height == 0:
            return self._genesis
        row = self._journal.at(height)
        return None if row is None else Place(row.ref, row.time_ns)

    def rewind_place(self, height: Height) -> Place | None:
        """A settled place to go back to; None where it, or the block that would be the head there, is pruned."""
        place = self.place_at(height)
        if place is None:
            return None
        try:
            self._index.check_rewind(height)
        except Pruned:
            return None
        return place

    def block_hash_at(self, height: Height) -> bytes:
        """Hash of the head after a settled height; empty where the height is above the tip, or pruned."""
        row = self._journal.at(height)
        return b"" if row is None else row.hash

    def tip_at(self, height: Height) -> Tip:
        """Where an engine stands that executed exactly up to a settled height."""
        row = self._journal.at(height)
        assert row is not None or height == 0, "only settled heights"
        place = self._genesis if row is None else Place(row.ref, row.time_ns)
        block = self._journal.summary(0 if row is None else row.number)
        assert block is not None, "summaries are never pruned"
        return Tip(place, block.number, block.hash, block.timestamp_s, block.state_root)

    # Transitions.

    def settle(
        self, work: DerivedHeight, tip: Tip, execution: Execution, *, built_ns: int
    ) -> tuple[IndexedBlock | None, list[bytes]]:
        """One height was executed and the engine now stands at `tip`.

        Its block, and the hashes in this height that this node's users were waiting for. Raises StateDivergence, and
        keeps nothing then.
        """
        height = tip.height
        earlier = self._earlier(tip)
        if earlier is not None and (earlier.number, earlier.hash) != (tip.number, tip.hash):
            raise StateDivergence(
                f"sequenced height {height} executed again gave block {tip.number} {hex_of(tip.hash)}, "
                f"the journal has block {earlier.number} {hex_of(earlier.hash)}; the node stops"
            )
        is_new = height > self.height
        record = self._record(work, tip, execution) if is_new else None
        if record is not None:
            assert height == self.height + 1, "heights are settled one after the other"
            self._index.append(record, bundle_keys(work.derived))
            self._crash("rollup.after_journal")
        self._trace(work, tip, execution, built_ns=built_ns, replayed=not is_new or earlier is not None)
        self._crash("rollup.after_trace")
        own: list[bytes] = []
        if record is not None:
            self._place = tip.place
            self._tracker.executed(height, BlockHead(number=tip.number, hash=tip.hash))
            own = self._resolve_pending(work)
        self._tracker.raised(height, work.commitment)
        if record is not None and (record.block is not None or record.left_out):
            self._announcer.announce(HeadChange(heads=self.heads, block=record.block, removed=()))
        else:
            self._announcer.touch()
        self._finish_recovery(height)
        if record is not None:
            return record.block, own
        return (self._journal.block(tip.number) if execution.block is not None else None), own

    def raised(self, height: Height, level: Commitment) -> None:
        """The sequencer promises heights up to this one more firmly."""
        before = self.heads
        self._tracker.raised(height, level)
        if self.heads != before:
            self._announcer.touch()

    def resolved(self, height: Height) -> None:
        """Every height up to this one has its verdict, and stands here as that asks."""
        before = self.heads
        self._tracker.resolved(height)
        if self.heads != before:
            self._announcer.touch()

    def settled_final(self, height: Height) -> None:
        """Every height up to this one is settled, and that is final on L1."""
        before = self.heads
        self._tracker.settled_final(height)
        if self.heads != before:
            self._announcer.touch()

    def settlement_revoked(self, height: Height) -> None:
        """What was settled above a height is not what stands there, or will."""
        self._tracker.settlement_revoked(height)

    def rewind(self, place: Place, *, comes_again: bool, promises_hold: bool = False) -> None:
        """Give up everything above a settled place. `comes_again`: the same heights will follow and must end alike.

        `promises_hold`: the sequencer takes nothing back; the same sequenced heights are executed in another way.
        """
        if not comes_again and self._recovery is not None and self._recovery.until > place.ref.height:
            self._finish_recovery_at(place.ref.height)  # what it recovered towards is off the chain
        if place.ref.height >= self.height:
            return
        from_height = self.height
        if comes_again:
            self._former.update({row.height: row for row in self._journal.rows_above(place.ref.height)})
        else:
            self._former.clear()
        removed = self._index.rewind(place.ref.height)
        self._place = place
        head = self._index.head
        head_there = BlockHead(number=head.number, hash=head.hash)
        self._tracker.rewound(place.ref.height, head_there, promises_hold=promises_hold)
        self._tracer.record(BlockReorged(from_height=from_height, to_height=place.ref.height))
        self._announcer.announce(HeadChange(heads=self.heads, block=None, removed=tuple(removed)))

    def begin_recovery(self, *, restored: Height, until: Height, started_ns: int) -> None:
        """The engine was set back to height `restored`; recovered once `until` is settled again."""
        if self._recovery is not None:
            # A second loss before the first was made good: the clock runs on.
            until, started_ns = max(until, self._recovery.until), self._recovery.started_ns
        self._recovery = _Recovery(checkpoint_height=restored, until=until, started_ns=started_ns)
        self._finish_recovery(restored)

    def set_back(self, height: Height) -> None:
        """The engine was set back to a settled height; a recovery that only had to come so far is over."""
        self._finish_recovery(height)

    def _finish_recovery(self, height: Height) -> None:
        recovery = self._recovery
        if recovery is None or height < recovery.until:
            return
        self._recovery = None
        self._tracer.record(
            NodeRecovered(
                checkpoint_height=recovery.checkpoint_height,
                recovered_height=height,
                duration_ns=self._clock.monotonic_ns() - recovery.started_ns,
            )
        )

    def _earlier(self, tip: Tip) -> HeightRow | None:
        """What this node had at the height before, from the same sequenced block."""
        if tip.height <= self.height:
            earlier = self._journal.at(tip.height)
        else:
            earlier = self._former.pop(tip.height, None)
        if earlier is None or earlier.header_hash == tip.place.ref.hash:
            return earlier
        # The sequencer went another way while this node was away: what it had from here on is gone.
        if tip.height <= self.height:
            before = self.place_at(Height(tip.height - 1))
            assert before is not None, "the journal has no gaps above a checkpoint"
            self.rewind(before, comes_again=False)
        self._former.clear()
        if self._recovery is not None:
            self._finish_recovery_at(tip.height)
        return None

    def _finish_recovery_at(self, height: Height) -> None:
        assert self._recovery is not None, "checked by the caller"
        recovery = self._recovery
        self._recovery = _Recovery(
            checkpoint_height=recovery.checkpoint_height, until=height, started_ns=recovery.started_ns
        )

    def _record(self, work: DerivedHeight, tip: Tip, execution: Execution) -> HeightRecord:
        executed = execution.block
        return HeightRecord(
            height=tip.height,
            header_hash=tip.place.ref.hash,
            time_ns=tip.place.time_ns,
            number=tip.number,
            hash=tip.hash,
            block=None if executed is None else block_of(tip.height, executed, execution.transactions),
            left_out=pack_left_out(execution, work.derived),
            level=work.commitment,
        )

    def _trace(self, work: DerivedHeight, tip: Tip, execution: Execution, *, built_ns: int, replayed: bool) -> None:
        derived, executed = work.derived, execution.block
        if not derived.admitted and not derived.dropped:
            return
        self._tracer.record(
            BlockExecuted(
                height=tip.height,
                number=tip.number,
                hash=tip.hash,
                state_root=tip.state_root,
                timestamp_s=tip.timestamp_s,
                gas_used=executed.gas_used if executed is not None else 0,
                outcomes=execution.outcomes,
                dropped=derived.dropped,
                received_ns=work.received_ns,
                derived_ns=work.derived_ns,
                built_ns=built_ns,
                replayed=replayed,
            )
        )

    def _resolve_pending(self, work: DerivedHeight) -> list[bytes]:
        derived = work.derived
        resolved: list[bytes] = []
        if len(self._pending):
            resolved += [leg.transaction.tx_hash for leg in derived.admitted]
            resolved += [leg.tx_hash for leg in derived.dropped]
        return self._pending.resolve(derived.height, resolved)
