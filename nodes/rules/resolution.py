"""The resolver: in which order heights are resolved, when a round closes, what happens to a rollup that says nothing.

A state machine without I/O: the caller says what the sequencer's log holds, which reports came and what the clock
reads, and gets instructions. It signs nothing, stores nothing, and trusts that signatures were checked and that what
it was told is in the log stays there (firm). What a round strikes is decided in `nodes.rules.verdict`; what was signed
before a restart is told to it again by `restore`.

A height waits for a report of every rollup that it touches. A rollup that keeps it waiting is evicted, but only once
the notice of that is read back from the sequencer's log; until then the height is frozen, so that no verdict and
notice of one height can contradict each other.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from nodes.model.agglayer import AgglayerParams, NetworkId
from nodes.model.errors import InvalidInput
from nodes.model.ids import Height, RollupId
from nodes.model.verdict import (
    AbortSet,
    MailboxEvent,
    Notice,
    NoticeKind,
    NoticePosted,
    Report,
    RoundClosed,
    SignedNotice,
    SignedReport,
    Verdict,
    VoidedBundle,
)
from nodes.rules.byte_reader import MAX_ENTRIES
from nodes.rules.evaluation import flaw_of_report
from nodes.rules.patience import EXTRA_ROUNDS, Patience
from nodes.rules.report_box import KEPT_BEHIND_HEIGHTS, Held, ReportBox
from nodes.rules.resolved_chain import Evictions, PendingNotice, ResolvedChain, VoidPoint
from nodes.rules.resolver_steps import (
    CloseRound,
    Instruction,
    Kept,
    KeptNotice,
    KeptRound,
    KeptVerdict,
    LogNotice,
    PostNotice,
    PublishEvidence,
    SignVerdict,
)
from nodes.rules.verdict import (
    Standing,
    aborts_hash,
    decode_report,
    encode_notice,
    encode_verdict,
    next_aborts,
    reports_hash,
    strikes,
    touched_networks,
    verdict_hash,
)
from nodes.rules.void_queue import MAX_DEPTH_HEIGHTS, VoidQueue

REJOIN_LEAD_HEIGHTS = 8
"""A rollup rejoins so many heights above the highest sequenced one, so that no node is there before it is known."""
MAX_ROUNDS_BYTES = 24 * 1024 * 1024
"""Reports of all rounds of one height: they travel with the verdict, in one message."""


class Resolution:
    """One method per kind of event; each gives the instructions that follow, in order."""

    def __init__(self, *, params: AgglayerParams, report_timeout_ns: int, now_ns: int) -> None:
        self._params = params
        self._names = {network.network_id: network.name for network in params.networks}
        self._timeout_ns = report_timeout_ns
        self._patience = Patience(timeout_ns=report_timeout_ns, now_ns=now_ns)
        self._last_tick_ns = now_ns
        self._chain = ResolvedChain()
        self._standing = Standing()
        self._boxes = {network.network_id: ReportBox(network.network_id) for network in params.networks}
        self._highest = Height(0)
        self._outgoing: dict[bytes, Notice] = {}
        self._pending: list[PendingNotice] = []
        self._evictions = Evictions()
        self._seen: set[bytes] = set()
        self._banned: set[NetworkId] = set()
        self._to_void = VoidQueue()
        self._current: list[PendingNotice] = []
        self._aborts = AbortSet()
        self._aborts_hash = aborts_hash(self._aborts)
        self._asked: dict[Height, dict[bytes, tuple[NetworkId, ...]]] = {}
        self._missing: NetworkId | None = None
        """One that the open round still lacks, where that is known."""
        self._awaited_now: list[NetworkId] | None = None
        self._held: dict[NetworkId, Held] = {}
        """Reports of the open round that were found. With 64 rollups, each report looks at those of all others."""
        self._rounds: list[tuple[SignedReport, ...]] = []
        self._rounds_bytes = 0
        self._events: list[MailboxEvent] = []
        self.generation = 0
        """Rises when the rounds of the lowest height begin anew; `pending_events` then starts over."""
        self.ignored: Counter[str] = Counter()
        """Reports that were of no use, by reason."""

    # What the shell reads

    @property
    def epoch(self) -> int:
        """The current one, from 0."""
        return self._standing.epoch

    @property
    def lowest(self) -> Height:
        """The lowest height without a verdict."""
        return self._chain.lowest

    @property
    def highest(self) -> Height:
        """The highest height that was read from the sequencer."""
        return self._highest

    @property
    def evicted(self) -> tuple[NetworkId, ...]:
        """Ascending."""
        return self._standing.evicted

    @property
    def voids(self) -> Sequence[VoidPoint]:
        """Where epochs began, in their order; a later one may have begun at a lower height."""
        return self._chain.voids

    def next_void(self, epoch: int, height: Height) -> VoidPoint | None:
        """See `ResolvedChain.next_void`."""
        return self._chain.next_void(epoch, height)

    @property
    def pending_events(self) -> Sequence[MailboxEvent]:
        """What a follower that has every verdict is told: notices and closed rounds of the lowest height."""
        return self._events

    @property
    def waits_for(self) -> list[NetworkId]:
        """Networks whose reports the lowest height lacks, ascending; empty where it is not sequenced yet."""
        return [network for network in self._awaited() if self._report_of(network) is None]

    def verdict_hash_of(self, height: Height) -> bytes | None:
        """Hash of the verdict of a height as it stands; None where there is none, or it is too old."""
        return self._chain.hash_of(height)

    # Events

    def restore(
        self,
        *,
        heights: Iterable[tuple[Height, tuple[RollupId, ...]]],
        journal: Iterable[Kept],
        outgoing: Iterable[Notice],
        banned: Iterable[NetworkId],
        now_ns: int,
    ) -> None:
        """Take up where a store ends; called once, before anything else.

        `heights` ascend, `journal` has verdicts, rounds and notices in the order in which they came about.
        """
        assert not self._highest, "restored once, at the start"
        self._banned.update(banned)
        for height, touched in heights:
            self._chain.add(height, touched)
            self._highest = height
        for notice in outgoing:
            self._outgoing[encode_notice(notice)] = notice
        for entry in journal:
            match entry:
                case KeptVerdict():
                    assert (entry.epoch, entry.height) == (self.epoch, self.lowest), "the journal is in order"
                    self._close_height(entry.hash, entry.heads, now_ns)
                case KeptNotice():
                    self._read_notice(entry.signed, entry.notice, now_ns)
                case KeptRound():
                    assert (entry.epoch, entry.height) == (self.epoch, self.lowest), "the journal is in order"
                    self._close_round(
                        [Held(signed, decode_report(signed.report), now_ns) for signed in entry.reports], now_ns
                    )

    def sequenced(
        self,
        height: Height,
        touched: tuple[RollupId, ...],
        notices: Iterable[tuple[SignedNotice, Notice]],
        *,
        now_ns: int,
    ) -> list[Instruction]:
        """The next firm height of the log: the rollups with payloads, and the notices that the resolver signed."""
        assert height == self._highest + 1, "heights come in order"
        self._chain.add(height, touched)
        self._highest = height
        if height == self.lowest:
            self._patience.begin_round(now_ns)
            self._awaited_now = None
        made: list[Instruction] = []
        for signed, notice in notices:
            made += self._read_notice(signed, notice, now_ns)
        return made + self._advance(now_ns)

    def report(self, signed: SignedReport, report: Report, *, now_ns: int) -> list[Instruction]:
        """A report that its network's reporter signed. What fits no round yet is kept, what never can is counted."""
        box = self._boxes.get(report.network_id)
        if box is None or report.epoch != self.epoch or report.network_id in self._banned:
            self._ignore("unknown network" if box is None else "epoch" if report.epoch != self.epoch else "banned")
            return []
        other = box.put(Held(signed, report, now_ns), lowest=self.lowest)
        if other is not None:
            detail = (
                f"two reports of height {report.height}, epoch {report.epoch}, abort set {report.aborts_hash.hex()}, "
                f"parent {report.parent_hash.hex()}: block {other.report.block_hash.hex()} and "
                f"{report.block_hash.hex()}"
            )
            return [*self._accuse(report.network_id, detail, other.signed, signed), *self._advance(now_ns)]
        if report.height == self.lowest and self._chain.head_of(report.network_id) is None:
            self._held.pop(report.network_id, None)
        made = self._rejoin(report)
        if report.height < self.lowest:
            self._ignore("resolved")
            return made
        # While another one is known to be missing, nothing can follow.
        if report.height == self.lowest and self._missing in (None, report.network_id):
            made += self._advance(now_ns)
        return made

    def tick(self, now_ns: int) -> list[Instruction]:
        """The clock moved. Called several times within one report timeout."""
        slept = now_ns - self._last_tick_ns > self._timeout_ns // 2
        self._last_tick_ns = now_ns
        if slept:
            # The resolver itself stood still: reports may lie unread, and nobody is to blame.
            self._patience.begin_round(now_ns)
        late = [network for network in self.waits_for if self._patience.is_over(network, now_ns)]
        return [notice for network in late for notice in self._evict(network)]

    def void(self, bundles: Iterable[VoidedBundle], *, now_ns: int) -> list[Instruction]:
        """Begin a new epoch without these bundles, from the lowest of their heights on. Those voided before are left.

        More than one notice can hold take several epochs, the lowest first. Those whose height has no verdict yet are
        left for a repeated call. Raises InvalidInput where none can be voided.
        """
        wanted = [bundle for bundle in bundles if not self._standing.has_voided(bundle)]
        possible = [
            bundle for bundle in wanted if bundle.height < self.lowest and self._to_void.is_young(bundle, self.lowest)
        ]
        if wanted and not possible:
            bundle = min(wanted)
            raise InvalidInput(
                f"bundle {bundle.bundle_hash.hex()} cannot be voided at height {bundle.height}: its verdict is not "
                f"there, or older than {MAX_DEPTH_HEIGHTS:,} heights; the lowest without one is {self.lowest}"
            )
        self._to_void.add(possible)
        return self._log_void()

    # Rounds

    def _advance(self, now_ns: int) -> list[Instruction]:
        """Close every round and resolve every height that can be."""
        made: list[Instruction] = []
        while True:
            awaited = self._awaited()
            for network in awaited:
                if network in self._banned:
                    made += self._evict(network)
            if not self._chain.is_sequenced(self.lowest):
                return made
            reports = []
            for network in awaited:
                held = self._report_of(network)
                if held is None:
                    self._missing = network
                    return made
                reports.append(held)
            flawed = [(entry, flaw_of_report(entry.report, self._aborts)) for entry in reports]
            accused = [
                self._accuse(entry.report.network_id, f"height {self.lowest}: {flaw}", entry.signed)
                for entry, flaw in flawed
                if flaw
            ]
            if accused:
                made += [instruction for entry in accused for instruction in entry]
                continue
            made += self._close_round(reports, now_ns)

    def _close_round(self, held: Sequence[Held], now_ns: int) -> list[Instruction]:
        """One step of the lowest height, with a report of every awaited network (maybe of none)."""
        for entry in held:
            # The first report of a rollup says where it begins; from then on each builds on the one before.
            self._chain.fix_head(entry.report.network_id, entry.report.parent_hash)
        reports = [entry.report for entry in held]
        number = len(self._rounds)
        signed = tuple(entry.signed for entry in held)
        following = next_aborts(self._aborts, reports, round_number=number, params=self._params) if reports else None
        if following is None:
            heads = tuple((report.network_id, report.block_hash) for report in reports)
            return self._resolve([*self._rounds, signed] if signed else [], heads, now_ns)
        self._patience.failed(sorted({network for network, _ in strikes(reports)}))
        size = sum([len(entry.report) + len(entry.signature) for entry in signed])
        if (
            number >= self._params.serial_rounds + EXTRA_ROUNDS
            or self._rounds_bytes + size > MAX_ROUNDS_BYTES
            or len(following.aborts) > MAX_ENTRIES
        ):
            return self._give_up()
        self._patience.close_round((entry.report.network_id, entry.at_ns) for entry in held)
        self._rounds.append(signed)
        self._rounds_bytes += size
        self._take_aborts(following, now_ns)
        event = RoundClosed(epoch=self.epoch, height=self.lowest, round_number=number, reports=signed)
        self._events.append(event)
        return [CloseRound(event=event)]

    def _give_up(self) -> list[Instruction]:
        """So many rounds hold everybody up: the height is resolved without those who reported failures in the most.

        Nobody is accused, since users can make bundles that fail one after the other. They may come back as anybody.
        """
        return [made for network in self._patience.obstinate for made in self._evict(network)]

    def _resolve(
        self, rounds: Sequence[tuple[SignedReport, ...]], heads: tuple[tuple[NetworkId, bytes], ...], now_ns: int
    ) -> list[Instruction]:
        verdict = Verdict(
            epoch=self.epoch,
            height=self.lowest,
            aborts=self._aborts,
            rounds=len(rounds),
            reports_hash=reports_hash(rounds),
            notices=tuple(entry.signed for entry in self._current),
            previous=self._chain.last_hash,
        )
        encoded = encode_verdict(verdict)
        made = SignVerdict(verdict=verdict, encoded=encoded, rounds=tuple(rounds), heads=heads)
        return [made, *self._close_height(verdict_hash(encoded), heads, now_ns)]

    def _close_height(self, digest: bytes, heads: Iterable[tuple[NetworkId, bytes]], now_ns: int) -> list[Instruction]:
        self._chain.resolve(digest, heads)
        self._current = []
        old = Height(self.lowest - KEPT_BEHIND_HEIGHTS)
        self._asked.pop(Height(old - 1), None)
        for box in self._boxes.values():
            box.forget_below(old)
        return self._begin_height(now_ns)

    def _begin_height(self, now_ns: int) -> list[Instruction]:
        """Begin the rounds of the lowest height, with the notices that hold from it on."""
        made: list[Instruction] = []
        for entry in [entry for entry in self._pending if entry.notice.height <= self.lowest]:
            at = self._pending.index(entry)
            self._pending.pop(at)
            if entry.notice.kind is NoticeKind.REJOIN:
                # It ends the evictions that were logged before it, also those a new epoch would begin again later.
                network = entry.notice.network_id
                self._pending[:at] = [old for old in self._pending[:at] if old.notice.network_id != network]
            made += self._take_effect(entry)
        self._rounds = []
        self._rounds_bytes = 0
        self._events = [
            NoticePosted(signed=entry.signed) for entry in self._current if entry.notice.kind is not NoticeKind.VOID
        ]
        self.generation += 1
        self._patience.begin_height(now_ns)
        self._take_aborts(self._standing.base(self.lowest), now_ns)
        return made

    def _take_aborts(self, aborts: AbortSet, now_ns: int) -> None:
        self._aborts = aborts
        self._aborts_hash = aborts_hash(aborts)
        self._missing = self._awaited_now = None
        self._held.clear()
        self._asked.setdefault(self.lowest, {})[self._aborts_hash] = aborts.evicted
        self._patience.begin_round(now_ns)

    def _awaited(self) -> list[NetworkId]:
        """Ascending."""
        if self._awaited_now is None:
            touched = self._chain.touched(self.lowest)
            self._awaited_now = sorted(touched_networks(touched, self._aborts, self._params))
        return self._awaited_now

    def _report_of(self, network: NetworkId) -> Held | None:
        """The report that the open round awaits of a network, unless it is about to be evicted."""
        held = self._held.get(network)
        if held is not None:
            return held
        if network in self._banned or self._is_logging(NoticeKind.EVICT, network):
            return None
        held = self._boxes[network].find(
            self.lowest, aborts_hash=self._aborts_hash, parent_hash=self._chain.head_of(network)
        )
        if held is not None:
            self._held[network] = held
        return held

    # Notices

    def _read_notice(self, signed: SignedNotice, notice: Notice, now_ns: int) -> list[Instruction]:
        """A notice is in the log. Anybody may log it again: only the first time counts."""
        self._outgoing.pop(signed.notice, None)
        if signed.notice in self._seen:
            return []
        self._seen.add(signed.notice)
        entry = PendingNotice(signed, notice)
        if notice.kind is NoticeKind.VOID:
            return self._begin_epoch(entry, now_ns)
        if notice.network_id not in self._boxes:
            return []
        self._pending.append(entry)
        if notice.height > self.lowest:
            return []
        return self._begin_height(now_ns)

    def _take_effect(self, entry: PendingNotice) -> list[Instruction]:
        notice = entry.notice
        if notice.kind is NoticeKind.EVICT:
            if notice.network_id in self._evictions:
                return []
            self._evictions.begin(entry, self.lowest)
            self._chain.lose_head(notice.network_id)
        else:
            if notice.network_id not in self._evictions:
                return []
            self._evictions.end(entry, self.lowest)
        self._standing.take(notice)
        self._current.append(entry)
        return [PostNotice(signed=entry.signed, notice=notice)]

    def _begin_epoch(self, entry: PendingNotice, now_ns: int) -> list[Instruction]:
        notice = entry.notice
        if notice.epoch <= self.epoch or notice.height > self.lowest:
            return []
        if self._chain.hash_of(Height(notice.height - 1)) is None:
            return self._log_void()
        self._standing.take(notice)
        self._to_void.voided(self._standing)
        self._chain.void(VoidPoint(notice.epoch, notice.height, entry.signed))
        self._asked.clear()
        for box in self._boxes.values():
            box.clear()
        again, returns = self._evictions.void(notice.height)
        self._pending[:0] = [eviction for eviction in again if eviction not in self._pending]
        for back in returns:
            self._standing.take(back.notice)
        self._current = [entry, *returns]
        made: list[Instruction] = [PostNotice(signed=entry.signed, notice=notice)]
        return [*made, *self._begin_height(now_ns), *self._log_void()]

    def _evict(self, network: NetworkId) -> list[Instruction]:
        if self._is_logging(NoticeKind.EVICT, network) or not self._chain.is_sequenced(self.lowest):
            return []
        return self._log(Notice(kind=NoticeKind.EVICT, epoch=self.epoch, height=self.lowest, network_id=network))

    def _rejoin(self, report: Report) -> list[Instruction]:
        """An evicted rollup comes back once it reports a late height, executed without the bundles that touch it.

        That shows that it follows the notices and is not behind. The height may have its verdict already, since nobody
        waits for an evicted rollup.
        """
        network, height = report.network_id, report.height
        rejoins = (NoticeKind.REJOIN, network)
        if network not in self._evictions or self._is_logging(*rejoins):
            return []
        if any((entry.notice.kind, entry.notice.network_id) == rejoins for entry in self._pending):
            return []
        asked = self._asked.get(height, {})
        if height > self.lowest:
            base = self._standing.base(height)
            asked = {aborts_hash(base): base.evicted}
        if network not in asked.get(report.aborts_hash, ()):
            return []
        at = Height(self._highest + REJOIN_LEAD_HEIGHTS)
        return self._log(Notice(kind=NoticeKind.REJOIN, epoch=self.epoch, height=at, network_id=network))

    def _log_void(self) -> list[Instruction]:
        """One new epoch at a time; what is to be voided meanwhile comes with the next."""
        if any(notice.kind is NoticeKind.VOID for notice in self._outgoing.values()):
            return []
        notice = self._to_void.next_notice(epoch=self.epoch + 1, lowest=self.lowest)
        return self._log(notice) if notice is not None else []

    def _log(self, notice: Notice) -> list[Instruction]:
        self._outgoing[encode_notice(notice)] = notice
        self._held.pop(notice.network_id, None)
        return [LogNotice(notice=notice)]

    def _is_logging(self, kind: NoticeKind, network: NetworkId) -> bool:
        return any(notice.kind is kind and notice.network_id == network for notice in self._outgoing.values())

    def _accuse(self, network: NetworkId, detail: str, *signed: SignedReport) -> list[Instruction]:
        self._banned.add(network)
        self._boxes[network].clear()
        self._held.pop(network, None)
        return [PublishEvidence(network_id=network, detail=f"{self._names[network]}: {detail}", reports=signed)]

    def _ignore(self, reason: str) -> None:
        self.ignored[reason] += 1
