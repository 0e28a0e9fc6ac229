"""Which heights a rollup executes ahead of their verdicts, without which bundles, and what to do next. Pure.

The lowest height without a verdict is executed without the set of its current round, those above it without what the
notices say (`Standing.base`), up to a depth that adapts to what verdicts strike, and only as long as nothing is known
to fail: what is executed on a height that will be executed again is work for nothing, and rounds come sooner without
it.

A new set for a height means: go back to before it, unless for this rollup the set changes nothing, and then only
another report is due. It does not know what reports say, and takes its events for checked: `verdict_checks` checks
them, `resolving` does what `next_step` asks.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from nodes.model.execution import Derived
from nodes.model.ids import Height
from nodes.model.verdict import AbortSet
from nodes.rules.verdict import Plan


class HasDerived(Protocol):
    """What the reader hands over for a height."""

    @property
    def derived(self) -> Derived:
        """What derivation made of it."""
        ...


Work = TypeVar("Work", bound=HasDerived)

CLEAN_HEIGHTS_PER_STEP = 8
"""After so many heights in a row that struck nothing one more is executed ahead; one that does strike sets it back to
none. What was executed ahead of it is done again, and its next round waits for what is being executed: with 5 % failing
bundles in 64 % of the heights, 200/s were carried without looking ahead and 164/s with three heights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute(Generic[Work]):
    """Execute the next height by this plan, on top of the heights executed before."""

    work: Work
    aborts: AbortSet
    plan: Plan
    is_final: bool
    """Its verdict is known: no report is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoBack:
    """Give up every executed height above this one."""

    height: Height


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportAgain:
    """What was executed stands without another set as well: only the report names it."""

    height: Height
    aborts: AbortSet


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """The lowest height was executed as its verdict says."""

    height: Height


Step = Execute[Work] | GoBack | ReportAgain | Resolve


@dataclass(slots=True, kw_only=True)
class _Executed:
    aborts: AbortSet
    plan: Plan
    fails: bool


class Speculation(Generic[Work]):
    """The heights above the last resolved one. Feed it events, do what `next_step` says, and say when it is done."""

    def __init__(
        self,
        *,
        resolved: Height,
        limit: int,
        base: Callable[[Height], AbortSet],
        plan: Callable[[Derived, AbortSet], Plan],
    ) -> None:
        """`resolved`: executed and resolved up to here. `limit`: heights beyond it that may be executed, at
        most. `base`: S_0 of a height by the notices that hold now. `plan`: what this rollup executes of a height
        without a set.
        """
        self.holds_back = False
        """Set it while no more than the lowest height is to be executed, whatever verdicts say."""
        self._limit = limit
        self._clean_heights = limit * CLEAN_HEIGHTS_PER_STEP
        """Heights in a row that were resolved in one round; it begins as if all had been."""
        self._resolved = resolved
        self._base = base
        self._plan = plan
        self._derived: deque[Work] = deque()
        self._executed: list[_Executed] = []
        self._round = 0
        self._aborts: AbortSet | None = None
        """Of the lowest height in its current round; None = the one it begins with."""
        self._verdict: AbortSet | None = None
        """Of the lowest height, once it is known."""

    @property
    def resolved(self) -> Height:
        """The last height that was resolved."""
        return self._resolved

    @property
    def lowest(self) -> Work | None:
        """The height whose verdict comes next; None while it is not derived."""
        return self._derived[0] if self._derived else None

    @property
    def depth(self) -> int:
        """Heights beyond the last resolved one that may be executed now; at least 1."""
        return 1 if self.holds_back else min(self._limit, 1 + self._clean_heights // CLEAN_HEIGHTS_PER_STEP)

    @property
    def waiting(self) -> int:
        """Heights that are derived and not executed."""
        return len(self._derived) - len(self._executed)

    @property
    def executed_height(self) -> Height:
        """The last height that was executed."""
        return Height(self._resolved + len(self._executed))

    @property
    def has_verdict(self) -> bool:
        """The verdict of the lowest height is known, and the height not resolved yet."""
        return self._verdict is not None

    @property
    def round_number(self) -> int:
        """The round that the lowest height is in; from 0."""
        return self._round

    def aborts_of(self, height: Height) -> AbortSet:
        """Without which set a height above the resolved ones is to be executed, by all that is known now."""
        if height == self._resolved + 1:
            if self._verdict is not None:
                return self._verdict
            if self._aborts is not None:
                return self._aborts
        return self._base(height)

    def work_at(self, height: Height) -> Work:
        """A derived height above the resolved ones."""
        return self._derived[height - self._resolved - 1]

    # Events.

    def add(self, work: Work) -> None:
        """The next height was derived."""
        assert work.derived.height == self._resolved + len(self._derived) + 1, "heights are derived one after the other"
        self._derived.append(work)

    def close_round(self, aborts: AbortSet) -> None:
        """The round of the lowest height is over; the next one is executed without `aborts`."""
        assert self._derived, "rounds are of derived heights"
        assert self._verdict is None, "no round follows the verdict"
        self._round += 1
        self._aborts = aborts

    def take_verdict(self, aborts: AbortSet) -> None:
        """The verdict of the lowest height."""
        assert self._derived, "verdicts are taken for derived heights"
        self._verdict = aborts

    def notices_changed(self) -> None:
        """Another `base` may hold now; the lowest height begins with its first round again."""
        if self._verdict is None:
            self._round, self._aborts = 0, None

    def rewound(self, height: Height) -> None:
        """The sequencer took back every height above this one."""
        del self._executed[max(0, height - self._resolved) :]
        while self._derived and self._derived[-1].derived.height > height:
            self._derived.pop()
        if not self._derived:
            self._round, self._aborts, self._verdict = 0, None, None
        self._resolved = Height(min(self._resolved, height))

    # What to do.

    def next_step(self) -> Step[Work] | None:
        """What is to be done now; None: wait for an event."""
        for index, executed in enumerate(self._executed):
            height = Height(self._resolved + index + 1)
            wanted = self.aborts_of(height)
            if wanted == executed.aborts:
                continue
            if self._same(self._plan(self._derived[index].derived, wanted), executed.plan):
                return ReportAgain(height=height, aborts=wanted)
            return GoBack(height=Height(height - 1))
        if self._executed and self._verdict is not None:
            return Resolve(height=Height(self._resolved + 1))
        if self.waiting and len(self._executed) < self.depth and not (self._executed and self._is_contested):
            work = self._derived[len(self._executed)]
            aborts = self.aborts_of(work.derived.height)
            is_final = self._verdict is not None and not self._executed
            return Execute(work=work, aborts=aborts, plan=self._plan(work.derived, aborts), is_final=is_final)
        return None

    @property
    def _is_contested(self) -> bool:
        """A height without a verdict is in a later round than its first, or will be: a bundle failed here."""
        return self._round > 0 or any(executed.fails for executed in self._executed)

    @staticmethod
    def _same(one: Plan, other: Plan) -> bool:
        def listed(plan: Plan) -> tuple[tuple[bytes, ...], Mapping[int, object]]:
            return tuple([payload for payload, _ in plan.transactions]), plan.aborted

        return listed(one) == listed(other)

    # It is done.

    def executed(self, step: Execute[Work], *, fails: bool) -> None:
        """An `Execute` was done. `fails`: a leg of a bundle failed in it.

        What is wanted may have changed meanwhile; `next_step` says so.
        """
        self._executed.append(_Executed(aborts=step.aborts, plan=step.plan, fails=fails and not step.is_final))

    def went_back(self, step: GoBack) -> None:
        """A `GoBack` was done."""
        del self._executed[step.height - self._resolved :]

    def reported_again(self, step: ReportAgain) -> None:
        """A `ReportAgain` was done."""
        self._executed[step.height - self._resolved - 1].aborts = step.aborts

    def resolved_lowest(self, *, rounds: int | None = None) -> Work:
        """A `Resolve` was done; the height that it was. `rounds`: how many its verdict took; None: it was resolved
        before, and says nothing about what comes.
        """
        if rounds is not None:
            self._clean_heights = self._clean_heights + 1 if rounds <= 1 else 0
        self._resolved = Height(self._resolved + 1)
        self._round, self._aborts, self._verdict = 0, None, None
        self._executed.pop(0)
        return self._derived.popleft()
