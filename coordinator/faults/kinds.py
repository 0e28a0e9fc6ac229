"""The table of faults: what each is called, its own keys, and which nodes can have it.

Plain data read from `[[faults]]` of a scenario. Carrying one out is `coordinator.faults.injector`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from coordinator.spec.reader import read_table
from coordinator.spec.scenario import Between, FaultTable, OneOf
from nodes.model.errors import InvalidScenario, UnknownName
from nodes.model.faults import EvidenceKind

ANY_ROLLUP = "any-rollup"
"""As a target: one of the rollup nodes, chosen by the scenario's seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """SIGKILL to a node's process (which its launcher starts again) or only to its engine."""

    what: Annotated[str, OneOf(("process", "engine"))] = "process"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """The node's engine is stopped for a while (SIGSTOP, then SIGCONT), as by a machine that stalls."""

    for_s: Annotated[float, Between(0.01, 600)] = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindBack:
    """The rollup node goes back some sequenced heights and executes them again."""

    heights: Annotated[int, Between(1, 100_000)] = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Withhold:
    """The sequencer leaves one kind of evidence out of the next blocks that it serves."""

    evidence: Annotated[str, OneOf(tuple(kind.value for kind in EvidenceKind))] = EvidenceKind.SIBLING.value
    blocks: Annotated[int, Between(1, 1_000_000)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkBack:
    """The sequencer abandons its newest heights and continues on another branch."""

    heights: Annotated[int, Between(1, 1_000)] = 1


Kind = Kill | Pause | RewindBack | Withhold | ForkBack


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One line of the table."""

    options_type: type[Any]
    targets: tuple[str, ...]
    """Kinds of nodes that can have it; the first is meant where a scenario names none."""


FAULTS: Mapping[str, FaultKind] = {
    "kill": FaultKind(options_type=Kill, targets=("rollup", "sequencer")),
    "pause": FaultKind(options_type=Pause, targets=("rollup",)),
    "rewind": FaultKind(options_type=RewindBack, targets=("rollup",)),
    "withhold": FaultKind(options_type=Withhold, targets=("sequencer",)),
    "fork": FaultKind(options_type=ForkBack, targets=("sequencer",)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFault:
    """A fault with nothing left to choose."""

    at_s: float
    """After the start of the load."""
    name: str
    """A key of `FAULTS`."""
    target: str
    """A node."""
    kind: Kind


def plan_faults(
    tables: Sequence[FaultTable], *, rollup_nodes: Sequence[str], sequencer: str, seed: int, source: str
) -> tuple[PlannedFault, ...]:
    """The faults of a scenario in the order of their times. Raises UnknownName, InvalidScenario."""
    chance = random.Random(seed)
    planned = []
    for index, table in enumerate(tables):
        kind = FAULTS.get(table.kind)
        if kind is None:
            raise UnknownName(kind="fault", name=table.kind, known=FAULTS)
        nodes = {"rollup": tuple(rollup_nodes), "sequencer": (sequencer,)}
        allowed = [node for target in kind.targets for node in nodes[target]]
        # Drawn for every fault, so that naming one target does not move the choice of another.
        drawn = chance.choice(tuple(rollup_nodes))
        target = table.target
        if target in ("", ANY_ROLLUP):
            target = drawn if kind.targets[0] == "rollup" else sequencer
        if target not in allowed:
            raise UnknownName(kind=f"target of fault {table.kind!r}", name=target, known=[*allowed, ANY_ROLLUP])
        options = read_table(kind.options_type, table.options, table=f"faults[{index}]", source=source)
        planned.append(PlannedFault(at_s=table.at_s, name=table.kind, target=target, kind=options))
    return tuple(sorted(planned, key=lambda fault: fault.at_s))


def check_times(faults: Sequence[PlannedFault], *, length_s: float | None, source: str) -> None:
    """Refuse faults that would strike no load. `length_s` is that of the load; None = of a sweep, which nobody knows.

    Raises InvalidScenario.
    """
    if faults and length_s is None:
        raise InvalidScenario(f'{source}: [[faults]] need a load of known length: kind = "steady" or "burst"')
    for fault in faults:
        if length_s is not None and fault.at_s >= length_s:
            raise InvalidScenario(
                f"{source}: the {fault.name} of {fault.target} at_s = {fault.at_s:g} comes after the load, "
                f"which ends at {length_s:g} s"
            )
