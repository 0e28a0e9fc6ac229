"""The rule of executing ahead: which heights under which set, going back, reporting again, resolving."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from nodes.model.agglayer import NetworkId
from nodes.model.execution import AbortReason, Derived
from nodes.model.ids import BundleHash, Height
from nodes.model.verdict import NO_ABORTS, Abort, AbortSet
from nodes.rollup.speculation import CLEAN_HEIGHTS_PER_STEP, Execute, GoBack, ReportAgain, Resolve, Speculation
from nodes.rules.verdict import Plan


@dataclass(frozen=True, slots=True)
class Work:
    """A height of a rollup that has the bundles `own`."""

    derived: Derived


def work(height: int) -> Work:
    return Work(Derived(height=Height(height), timestamp_s=0, admitted=(), dropped=(), bundles=(), touched=()))


def aborts(*ordinals: int) -> AbortSet:
    """A set that strikes these; even ordinals are bundles of this rollup, odd ones are not."""
    return AbortSet(
        aborts=tuple(
            Abort(ordinal, BundleHash(bytes([ordinal]) * 32), AbortReason.REVERTED, 0, False) for ordinal in ordinals
        )
    )


def plan_of(derived: Derived, without: AbortSet) -> Plan:
    own = {entry.ordinal: entry.reason for entry in without.aborts if entry.ordinal % 2 == 0}
    return Plan(
        transactions=(), places=(), burns=frozenset(), aborted=own | dict.fromkeys(without.evicted, AbortReason.EVICTED)
    )


@dataclass
class Shell:
    """Does what is asked, and checks that it can be done."""

    limit: int = 3
    base: AbortSet = NO_ABORTS
    failing: tuple[int, ...] = ()
    executed: list[AbortSet] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    resolved: dict[int, AbortSet] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.rule: Speculation[Work] = Speculation(
            resolved=Height(0), limit=self.limit, base=lambda height: self.base, plan=plan_of
        )

    def steps(self) -> Iterator[str]:
        while True:
            text = self.step()
            if not text:
                return
            yield text

    def step(self) -> str:
        step = self.rule.next_step()
        match step:
            case None:
                return ""
            case Execute():
                assert step.work.derived.height == len(self.resolved) + len(self.executed) + 1
                self.executed.append(step.aborts)
                self.rule.executed(step, fails=step.work.derived.height in self.failing and not step.aborts.aborts)
                text = f"execute {step.work.derived.height}" + (" for good" if step.is_final else "")
            case GoBack(height=height):
                assert height >= len(self.resolved)
                del self.executed[height - len(self.resolved) :]
                self.rule.went_back(step)
                text = f"back to {height}"
            case ReportAgain(height=height, aborts=wanted):
                self.executed[height - len(self.resolved) - 1] = wanted
                self.rule.reported_again(step)
                text = f"report {height}"
            case Resolve(height=height):
                self.resolved[height] = self.executed.pop(0)
                self.rule.resolved_lowest()
                text = f"resolve {height}"
        self.done.append(text)
        return text

    def run(self) -> list[str]:
        return list(self.steps())


def test_runs_ahead_up_to_the_limit() -> None:
    shell = Shell(limit=2)
    for height in (1, 2, 3):
        shell.rule.add(work(height))
    assert shell.run() == ["execute 1", "execute 2"]
    shell.rule.take_verdict(NO_ABORTS)
    assert shell.run() == ["resolve 1", "execute 3"]


def resolve_heights(shell: Shell, *, rounds: int | None, count: int = 1) -> None:
    """Derive, execute and resolve the next heights, each after so many rounds."""
    for _ in range(count):
        height = shell.rule.resolved + 1
        if shell.rule.lowest is None:
            shell.rule.add(work(height))
        shell.run()
        shell.rule.take_verdict(NO_ABORTS)
        step = shell.rule.next_step()
        assert isinstance(step, Resolve)
        shell.resolved[height] = shell.executed.pop(0)
        shell.rule.resolved_lowest(rounds=rounds)


def test_a_height_that_strikes_sets_back_and_clean_ones_add_one_each() -> None:
    shell = Shell(limit=3)
    assert shell.rule.depth == 3, "it begins with the most"
    resolve_heights(shell, rounds=2)
    assert shell.rule.depth == 1
    resolve_heights(shell, rounds=1, count=CLEAN_HEIGHTS_PER_STEP - 1)
    assert shell.rule.depth == 1
    resolve_heights(shell, rounds=1)
    assert shell.rule.depth == 2
    resolve_heights(shell, rounds=1, count=5 * CLEAN_HEIGHTS_PER_STEP)
    assert shell.rule.depth == 3, "never more than the limit"
    resolve_heights(shell, rounds=5)
    assert shell.rule.depth == 1, "however long nothing was struck"
    first = shell.rule.resolved + 1
    for height in (first, first + 1):
        shell.rule.add(work(height))
    assert shell.run() == [f"execute {first}"]


def test_heights_of_before_say_nothing_about_what_comes() -> None:
    shell = Shell(limit=2)
    resolve_heights(shell, rounds=2)
    resolve_heights(shell, rounds=None, count=3 * CLEAN_HEIGHTS_PER_STEP)
    assert shell.rule.depth == 1


def test_held_back_it_executes_only_the_lowest_height() -> None:
    shell = Shell(limit=3)
    shell.rule.holds_back = True
    for height in (1, 2, 3):
        shell.rule.add(work(height))
    assert shell.run() == ["execute 1"]
    shell.rule.holds_back = False
    assert shell.run() == ["execute 2", "execute 3"]


def test_a_round_sends_back_and_executes_everything_above_again() -> None:
    shell = Shell()
    for height in (1, 2):
        shell.rule.add(work(height))
    shell.run()
    shell.rule.close_round(aborts(2))
    assert shell.run() == ["back to 0", "execute 1"], "nothing is executed on what may be executed again"
    shell.rule.take_verdict(aborts(2))
    assert shell.run() == ["resolve 1", "execute 2"]
    assert shell.resolved == {1: aborts(2)}


def test_a_set_without_own_bundles_is_only_reported() -> None:
    shell = Shell()
    shell.rule.add(work(1))
    shell.rule.add(work(2))
    shell.run()
    shell.rule.close_round(aborts(1))
    assert shell.run() == ["report 1"]
    shell.rule.close_round(aborts(1, 3))
    assert shell.run() == ["report 1"]
    shell.rule.take_verdict(aborts(1, 3))
    assert shell.run() == ["resolve 1"]


def test_nothing_is_executed_on_what_fails() -> None:
    shell = Shell(failing=(2,))
    for height in (1, 2, 3):
        shell.rule.add(work(height))
    assert shell.run() == ["execute 1", "execute 2"]
    shell.rule.take_verdict(NO_ABORTS)
    assert shell.run() == ["resolve 1"]
    shell.rule.take_verdict(aborts(2))
    assert shell.run() == ["back to 1", "execute 2 for good", "resolve 2", "execute 3"]


def test_a_known_verdict_is_executed_at_once() -> None:
    shell = Shell()
    shell.rule.add(work(1))
    shell.rule.take_verdict(aborts(2, 4))
    assert shell.run() == ["execute 1 for good", "resolve 1"]


def test_another_verdict_than_executed_sends_back() -> None:
    shell = Shell()
    shell.rule.add(work(1))
    shell.rule.add(work(2))
    shell.run()
    shell.rule.take_verdict(aborts(2))
    assert shell.run() == ["back to 0", "execute 1 for good", "resolve 1", "execute 2"]


def test_notices_begin_the_rounds_again_and_count_for_all_heights() -> None:
    shell = Shell()
    shell.rule.add(work(1))
    shell.rule.add(work(2))
    shell.run()
    shell.rule.close_round(aborts(2))
    shell.run()
    shell.base = AbortSet(evicted=(NetworkId(2),))
    shell.rule.notices_changed()
    assert shell.rule.round_number == 0
    assert shell.run() == ["back to 0", "execute 1", "execute 2"]
    assert shell.executed == [shell.base, shell.base]


@pytest.mark.parametrize("seed", range(60))
def test_any_order_of_events_ends_in_the_verdicts(seed: int) -> None:
    rng = random.Random(seed)
    shell, heights = Shell(limit=rng.randrange(1, 5)), 12
    rounds = {height: [aborts(*range(1, 1 + n)) for n in range(rng.randrange(4))] for height in range(1, heights + 1)}
    verdicts = {height: sets[-1] if sets else NO_ABORTS for height, sets in rounds.items()}
    derived, at_round = 0, 0
    while len(shell.resolved) < heights:
        choice = rng.random()
        if choice < 0.4 and derived < heights:
            derived += 1
            shell.rule.add(work(derived))
        elif choice < 0.6 and shell.rule.lowest is not None and not shell.rule.has_verdict:
            height = shell.rule.lowest.derived.height
            at_round = shell.rule.round_number
            if at_round < len(rounds[height]) and rng.random() < 0.8:
                shell.rule.close_round(rounds[height][at_round])
            else:
                shell.rule.take_verdict(verdicts[height])
        elif choice < 0.65 and derived > len(shell.resolved) and not shell.rule.has_verdict:
            back = rng.randrange(len(shell.resolved), derived + 1)
            shell.rule.rewound(Height(back))
            del shell.executed[max(0, back - len(shell.resolved)) :]
            derived = back
        else:
            shell.step()
        assert len(shell.executed) <= shell.limit
        assert shell.rule.executed_height == len(shell.resolved) + len(shell.executed)
    assert shell.resolved == verdicts
