"""Executes heights under verdicts: ahead of them, again where a round or a verdict asks for it, and for good.

The shell of `speculation`: it takes heights from the reader and events from the mailbox, has every event checked by
`verdict_checks`, does the steps on executor and chain, and reports. A contradiction stops it, readably, and nothing
else of the node: users keep what they have, and nothing more becomes safe. Building blocks is the executor's matter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nodes.model.bridge_activity import SafeHeight
from nodes.model.ids import Height
from nodes.model.sequenced_block import Commitment, CommitmentRaised
from nodes.model.verdict import (
    AbortSet,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedReport,
    SignedVerdict,
    VerdictRef,
    VerdictSigned,
)
from nodes.rollup.backlog import MAX_FIRM_HEIGHTS, Backlog
from nodes.rollup.chain import Chain
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.executor import Executor
from nodes.rollup.follower import DerivedHeight, RewindTo, Wake, Work
from nodes.rollup.lies import Lie
from nodes.rollup.mailbox_link import MailboxLink
from nodes.rollup.notices import Notices
from nodes.rollup.observing import observe
from nodes.rollup.own_network import OwnNetwork
from nodes.rollup.reports import (
    Observed,
    difference,
    has_failures,
    own_report,
    report_of,
    resolved_event,
)
from nodes.rollup.safe_heights import SafeHeights, safe_height
from nodes.rollup.session import Rewound
from nodes.rollup.speculation import Execute, GoBack, ReportAgain, Resolve, Speculation, Step
from nodes.rollup.verdict_checks import Contradiction, Evaluated, VerdictChecks
from nodes.rollup.verdict_store import VerdictStore
from nodes.rules.derivation import Derivation
from nodes.rules.signing import sign_digest
from nodes.rules.verdict import (
    decode_verdict,
    encode_report,
    matched_mints,
    plan,
    report_digest,
    touched_networks,
)
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import EvidenceFound, ReaderStalled
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """The verdict of the lowest height, accepted and not carried out yet."""

    signed: SignedVerdict
    evaluated: Evaluated


class Resolving:
    """Executes from one tip on, in one session. The node builds a new one for every session."""

    def __init__(
        self,
        *,
        own: OwnNetwork,
        executor: Executor,
        chain: Chain,
        reads: EngineReads,
        store: VerdictStore,
        link: MailboxLink,
        safe: SafeHeights,
        head: Callable[[], Awaitable[Height]],
        news: asyncio.Event,
        tracer: Tracer,
        cpu: StageCpu,
        crash: CrashPoint,
    ) -> None:
        """`executor` stands at a resolved height. `head`: where the sequencer's chain ends. `news` is set when a height
        or an event comes.
        """
        self._own = own
        self._params = own.config.params
        self._executor = executor
        self._chain = chain
        self._reads = reads
        self._store = store
        self._link = link
        self._safe = safe
        self._news = news
        self._tracer = tracer
        self._cpu = cpu
        self._crash = crash
        self._checks = VerdictChecks(self._params, chain_id=own.chain_id)
        self._notices = Notices(store, self._checks, head=head)
        self._speculation: Speculation[DerivedHeight] = Speculation(
            resolved=executor.tip.height,
            limit=own.speculation_heights,
            base=self._base,
            plan=lambda derived, aborts: plan(derived, aborts, params=self._params),
        )
        self._backlog = Backlog()
        self._observed: dict[Height, Observed] = {}
        self._taken: _Taken | None = None
        self.stalled = ""
        """Which contradiction stopped it; empty while there is none."""

    def _base(self, height: Height) -> AbortSet:
        return self._notices.standing.base(height)

    async def run(self, queue: "asyncio.Queue[Work]", derivation: Derivation, interrupt: Callable[[], None]) -> None:
        """Work for ever. `interrupt` is called between steps and may raise.

        Raises Rewound where a new epoch began, EngineFailure, OutOfWindow, StateDivergence.
        """
        while True:
            interrupt()
            self._read_again(derivation)
            self._news.clear()
            if not (self._take_event() or await self._take_work(queue) or await self._advance(derivation)):
                await self._news.wait()

    # Heights.

    async def _take_work(self, queue: "asyncio.Queue[Work]") -> bool:
        if queue.empty() or self._waits_for_verdicts():
            return False
        match queue.get_nowait():
            case DerivedHeight() as work:
                await self._take_height(work)
            case CommitmentRaised(height=height, level=level):
                self._chain.raised(height, level)
                self._link.firm_up_to(self._chain.firm_height)
            case RewindTo(place=place):
                self._forget_above(place.ref.height)
                self._backlog.rewound(place.ref.height)
                self._speculation.rewound(place.ref.height)
                await self._executor.roll_back(place)
            case Wake():
                pass
        return True

    def _waits_for_verdicts(self) -> bool:
        """Too many heights wait of which some are firm: their verdicts come by the mailbox, not by the queue."""
        speculation, firm_height = self._speculation, self._chain.firm_height
        if speculation.lowest is None:
            return False
        if firm_height > speculation.resolved and self._backlog.is_full(speculation.resolved):
            return True
        return min(speculation.waiting, firm_height - speculation.executed_height) > MAX_FIRM_HEIGHTS

    async def _take_height(self, work: DerivedHeight) -> None:
        was_whole = not self._backlog.leaves_out
        if self._backlog.keeps(work.derived, resolved=self._speculation.resolved):
            self._check_branch(work)
            self._speculation.add(work)
            if work.commitment >= Commitment.FIRM:
                self._chain.raised(work.derived.height, Commitment.FIRM)
            await self._read_log(work)
        elif was_whole:
            _log.warning(
                "too much waits for verdicts: heights from %d on are read again once those before are resolved; "
                "firm is height %d", work.derived.height, self._chain.firm_height,
            )  # fmt: skip

    def _read_again(self, derivation: Derivation) -> None:
        """Raises Rewound where heights were left out and no other is left, to begin again where the node stands."""
        if self.stalled or not self._backlog.leaves_out or self._speculation.lowest is not None:
            return
        is_forgotten = self._executor.tip.height < derivation.rewindable_from
        raise Rewound(self._chain.place, comes_again=self._chain.recovering, from_checkpoint=is_forgotten)

    def _check_branch(self, work: DerivedHeight) -> None:
        """Verdicts are of one branch of the sequencer's chain. Raises Rewound where the reader came back on another."""
        height = work.place.ref.height
        if height > self._store.last:
            return
        known = self._chain.place_at(height)
        if known is not None and known.ref != work.place.ref:
            before = self._chain.rewind_place(Height(height - 1))
            if before is None:
                self._stall_without(height, "the sequencer's chain is another one")
                return
            self._forget_above(Height(height - 1))
            raise Rewound(before, comes_again=False, from_checkpoint=False)

    async def _read_log(self, work: DerivedHeight) -> None:
        """Compare the notices in the log with those of the mailbox."""
        if self.stalled:
            return
        try:
            await self._notices.read(work.derived.height, work.derived.notices)
        except Contradiction as error:
            self._stall(error)

    def _forget_above(self, height: Height) -> None:
        self._store.truncate(height)
        self._safe.rewound(height)
        self._link.went_back(Height(height - 1))
        if self._taken is not None and self._taken.evaluated.verdict.height > height:
            self._taken = None
        for gone in [at for at in self._observed if at > height]:
            del self._observed[gone]

    # Steps.

    async def _advance(self, derivation: Derivation) -> bool:
        """Do the next step; False where there is nothing to do."""
        speculation = self._speculation
        if self.stalled:
            return False
        is_due = self._executor.is_checkpoint_due(derivation)
        if is_due and speculation.executed_height == speculation.resolved:
            # Only what is resolved may be restored.
            await self._executor.write_checkpoint(derivation)
            is_due = self._executor.is_checkpoint_due(derivation)
        # While a checkpoint is due nothing is executed ahead, so that the moment for it comes; and what is resolved
        # already is executed by its verdicts, one after the other.
        speculation.holds_back = is_due or speculation.resolved < self._store.last
        step = speculation.next_step()
        if step is None:
            return False
        await self._do(step)
        return True

    async def _do(self, step: Step[DerivedHeight]) -> None:
        match step:
            case Execute():
                await self._execute(step)
            case GoBack(height=height):
                place = self._chain.place_at(height)
                assert place is not None, "it was executed in this session or before"
                self._chain.rewind(place, comes_again=False, promises_hold=True)
                await self._executor.rewind(place)
                self._link.went_back(height)
                for gone in [at for at in self._observed if at > height]:
                    del self._observed[gone]
                self._speculation.went_back(step)
            case ReportAgain(height=height, aborts=aborts):
                self._speculation.reported_again(step)
                self._report(height, aborts)
            case Resolve(height=height):
                self._resolve(height)

    async def _execute(self, step: Execute[DerivedHeight]) -> None:
        executor, height = self._executor, step.work.derived.height
        parent = executor.tip
        done = await executor.execute(step.work, step.plan)
        self._speculation.executed(step, fails=has_failures(step.work.derived, done.execution))
        if height > self._store.last:
            seen = observe(executor, self._reads, step.plan, done, parent, network_id=self._own.network.network_id)
            self._observed[height] = await self._cpu.metered("verdicts", seen)
            self._crash("rollup.before_report")
            self._link.firm_up_to(self._chain.firm_height)
            with self._cpu.measure("verdicts"):
                self._report(height, step.aborts)
        await executor.keep(done)

    # Reports.

    def _report(self, height: Height, aborts: AbortSet) -> None:
        """Report a height whose verdict is open. An evicted rollup also reports those that have one: nobody waits for
        it, and its reports are how it shows that it is back.
        """
        work = self._speculation.work_at(height)
        if self._own.network.rollup_id not in work.derived.touched:
            return
        has_verdict = self._speculation.has_verdict and height == self._speculation.resolved + 1
        if has_verdict and self._own.network.network_id not in aborts.evicted:
            return
        data = encode_report(self._made(work, aborts))
        signature = sign_digest(report_digest(data, chain_id=self._own.chain_id), self._own.reporter)
        self._link.report(height, SignedReport(data, signature))

    def _made(self, work: DerivedHeight, aborts: AbortSet) -> Report:
        return report_of(
            work.derived,
            self._observed[work.derived.height],
            aborts,
            epoch=self._notices.standing.epoch,
            network_id=self._own.network.network_id,
            hides_reverts=self._own.config.lies == Lie.OUTCOMES,
        )

    # Events of the mailbox, in their order.

    def _take_event(self) -> bool:
        """Take what comes next, once its height is derived; False where there is nothing to take."""
        speculation = self._speculation
        if self.stalled or speculation.has_verdict:
            return False
        if speculation.resolved < self._store.last:
            return self._take_stored()
        event = self._link.peek()
        if event is None or (speculation.lowest is None and not isinstance(event, NoticePosted)):
            return False
        self._link.pop()
        with self._cpu.measure("verdicts"):
            try:
                match event:
                    case RoundClosed():
                        self._close_round(event)
                    case VerdictSigned():
                        self._take_verdict(event)
                    case NoticePosted():
                        self._take_notice(event)
            except Contradiction as error:
                self._stall(error)
        return True

    def _take_stored(self) -> bool:
        """The next verdict of those that this node evaluated before."""
        lowest = self._speculation.lowest
        if lowest is None:
            return False
        stored = self._store.verdict(lowest.derived.height)
        assert stored is not None, "verdicts are stored without gaps"
        self._speculation.take_verdict(decode_verdict(stored.verdict).aborts)
        return True

    def _close_round(self, event: RoundClosed) -> None:
        speculation, lowest = self._speculation, self._speculation.lowest
        assert lowest is not None, "checked by the caller"
        height = lowest.derived.height
        if event.epoch != self._notices.standing.epoch or event.height < height:
            return  # of before; the mailbox may send things twice
        if event.height > height:
            raise Contradiction("resolver", f"it closed a round of height {event.height}, {height} has no verdict")
        if event.round_number < speculation.round_number:
            return
        if event.round_number > speculation.round_number:
            raise Contradiction("resolver", f"it left out round {speculation.round_number} of height {height}")
        aborts = speculation.aborts_of(height)
        following = self._checks.next_of_round(
            event.reports,
            epoch=event.epoch,
            height=height,
            aborts=aborts,
            round_number=event.round_number,
            awaited=touched_networks(lowest.derived.touched, aborts, self._params),
        )
        speculation.close_round(following)

    def _take_verdict(self, event: VerdictSigned) -> None:
        verdict = self._checks.verdict(event)
        lowest, height = self._speculation.lowest, verdict.height
        assert lowest is not None, "checked by the caller"
        if verdict.epoch < self._notices.standing.epoch:
            return
        if height <= self._store.last:
            known = self._store.verdict(height)
            if known is not None and known.verdict != event.signed.verdict:
                raise Contradiction("resolver", f"it signed two verdicts for height {height} in one epoch")
            return
        if height != lowest.derived.height:
            raise Contradiction("resolver", f"it left out the verdict of height {lowest.derived.height}")
        standing = self._notices.standing_with(verdict.notices)
        if verdict.epoch != standing.epoch:
            raise Contradiction(
                "resolver", f"the verdict of height {height} is of epoch {verdict.epoch}, which nobody began"
            )
        evaluated = self._checks.evaluate(
            verdict,
            event.rounds,
            previous=self._store.hash_at(self._store.last),
            base=standing.base(height),
            touched=lowest.derived.touched,
        )
        for lie in self._checks.foreign_strikes(verdict, event.rounds, lowest.derived.bundles):
            self._publish(lie)
        self._notices.standing = standing
        self._taken = _Taken(signed=event.signed, evaluated=evaluated)
        self._speculation.take_verdict(verdict.aborts)

    def _take_notice(self, event: NoticePosted) -> None:
        notice = self._checks.notice(event.signed)
        if self._store.has_notice(event.signed):
            return
        if notice.kind is not NoticeKind.VOID:
            self._notices.take(event.signed, notice)
            self._speculation.notices_changed()
            return
        if notice.epoch <= self._notices.standing.epoch:
            return
        # First, since a kill in between must not leave a certifier with heights that are void.
        self._safe.epoch_began(notice.epoch, notice.height)
        back_to = Height(min(notice.height - 1, self._speculation.resolved))
        place = self._chain.rewind_place(back_to)
        if place is None:
            self._stall_without(notice.height, f"epoch {notice.epoch} began")
            return
        settled_hash = self._chain.block_hash_at(self._store.settled_final)
        self._store.begin_epoch(event.signed, height=notice.height, settled_hash=settled_hash)
        self._crash("rollup.after_epoch")
        raise Rewound(place, comes_again=False, from_checkpoint=False)

    def _stall_without(self, height: Height, why: str) -> None:
        """It has to go back to before a height, and cannot."""
        self.stalled = (
            f"verdicts: {why} from height {height} on, and this node keeps nothing so old that it could go back to; "
            "start it with an empty directory, then it executes everything again"
        )
        _log.error("%s", self.stalled)
        self._tracer.record(ReaderStalled(height=height, reason=self.stalled, source="mailbox"))

    def _stall(self, error: Contradiction) -> None:
        self.stalled = f"verdicts: {error.accused}: {error.detail}"
        self._publish(error)

    def _publish(self, error: Contradiction) -> None:
        _log.error("a contradiction: %s", error)
        self._tracer.record(EvidenceFound(accused=error.accused, detail=error.detail))

    # A height is resolved.

    def _resolve(self, height: Height) -> None:
        taken, self._taken = self._taken, None
        if taken is None:  # it was resolved before this session
            self._speculation.resolved_lowest()
            self._chain.resolved(height)
            return
        work, observed = self._speculation.work_at(height), self._observed.pop(height)
        verdict = taken.evaluated.verdict
        problem = self._disagreement(work, observed, taken.evaluated)
        if problem:
            self._stall(Contradiction(f"a reporter of network {self._own.network.network_id}", problem))
            return
        if self._own.network.rollup_id in work.derived.touched:
            self._tracer.record(resolved_event(work.derived, observed, verdict))
        safe = self._safe_height(work, observed, taken)
        self._store.put(height, taken.signed, notices=verdict.notices, safe=safe)
        self._crash("rollup.after_verdict")
        self._speculation.resolved_lowest(rounds=verdict.rounds)
        if verdict.notices:
            self._chain.settlement_revoked(self._store.settled_final)
        self._chain.resolved(height)
        if self._store.settles_again(height, self._chain.block_hash_at):
            self._chain.settled_final(self._store.settled_final)
        self._link.resolved(height, is_evicted=self._own.network.network_id in verdict.aborts.evicted)
        if safe is not None:
            self._safe.add(safe)
            self._safe.safe_up_to(height)

    def _disagreement(self, work: DerivedHeight, observed: Observed, evaluated: Evaluated) -> str:
        """What this rollup's report in the verdict says otherwise than this node; empty where they agree."""
        signed = own_report(evaluated.last, self._own.network.network_id)
        if signed is None:
            return ""
        made = report_of(
            work.derived,
            observed,
            evaluated.verdict.aborts,
            epoch=evaluated.verdict.epoch,
            network_id=self._own.network.network_id,
            hides_reverts=self._own.config.lies == Lie.OUTCOMES,
        )
        problem = difference(made, signed)
        return f"its report of height {work.derived.height} says {problem}" if problem else ""

    def _safe_height(self, work: DerivedHeight, observed: Observed, taken: _Taken) -> SafeHeight | None:
        if not self._safe.is_wanted:
            return None
        leaves = {
            (matched.mint.bundle_hash, matched.mint.leg_index): matched.leaf_index
            for matched in matched_mints(taken.evaluated.last)
            if matched.network_id == self._own.network.network_id
        }
        return safe_height(
            work,
            observed.execution,
            epoch=taken.evaluated.verdict.epoch,
            block_hash=observed.block_hash,
            activity=observed.activity,
            mint_leaves=tuple([leaves.get((mint.bundle_hash, mint.leg_index)) for mint in observed.activity.mints]),
            verdict=taken.signed,
        )

    def after(self) -> VerdictRef:
        """Where the mailbox is to be followed from."""
        return self._store.ref
