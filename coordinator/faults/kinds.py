"""The table of faults: what each is called, its own keys, and which nodes can have it.

Plain data read from `[[faults]]` of a scenario. Carrying one out is `coordinator.faults.injector`.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

from coordinator.spec.reader import read_table
from coordinator.spec.scenario import Between, FaultTable, Hex, OneOf, Scenario
from coordinator.spec.testnet import ResolvedTestnet
from nodes.model.errors import InvalidScenario, UnknownName
from nodes.model.faults import EvidenceKind
from nodes.sequencer.backend import KILL_ENGINE
from nodes.sequencer.backends import BACKENDS

OF_EVERY_SEQUENCER = ("kill", "crash")
"""Faults of a process, whatever runs in it."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """The rollup node hands in no reports for a while. Beyond `report_timeout_ms` the rollup is evicted meanwhile."""

    for_s: Annotated[float, Between(0.01, 600)] = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SignWrong:
    """The attester signs something else than what it was asked to, for a while."""

    for_s: Annotated[float, Between(0.01, 600)] = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SlowAttester:
    """The attester answers late for a while."""

    delay_ms: Annotated[int, Between(1, 600_000)] = 2_000
    for_s: Annotated[float, Between(0.01, 600)] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProverDown:
    """Processes of attesters are stopped for a while (SIGSTOP, then SIGCONT): they neither answer nor hang up."""

    attesters: Annotated[int, Between(0, 32)] = 0
    """How many, from attester-1 on; 0 = all."""
    for_s: Annotated[float, Between(0.01, 600)] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReorgBack:
    """The L1 replaces its newest blocks."""

    depth: Annotated[int, Between(1, 64)] = 1
    keep_transactions: bool = True
    """They are in the new branch as well; otherwise they are lost until they are sent again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaveOut:
    """The L1 leaves out its next slots."""

    slots: Annotated[int, Between(1, 10_000)] = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaFork:
    """The Solana dev node abandons its newest slots. Beyond `confirm_slots` it breaks what was confirmed."""

    depth: Annotated[int, Between(1, 1_000)] = 1
    keep_transactions: bool = True
    """They come again in another order; otherwise they are lost until the submitter sends them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkipSlots:
    """The Solana leaders miss their next slots."""

    slots: Annotated[int, Between(1, 10_000)] = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class DropTransactions:
    """Transactions sent to the Solana dev node get lost on their way for a while."""

    share_percent: Annotated[int, Between(1, 100)] = 50
    slots: Annotated[int, Between(1, 10_000)] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LagRpc:
    """The RPC of the Solana dev node answers as it stood some slots earlier, for a while."""

    behind_slots: Annotated[int, Between(1, 10_000)] = 5
    slots: Annotated[int, Between(1, 10_000)] = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcOutage:
    """The RPC of the Solana dev node answers nobody for a while; its chain goes on."""

    for_s: Annotated[float, Between(0.01, 600)] = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireBlockhashes:
    """What was signed for the Solana dev node and has not landed can no longer land."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differ:
    """The engine gets another state than its transactions gave it, as by a fault of its own: for `[divergence]`."""

    account: Annotated[str, Hex(20)] = ""
    """Hex; empty = the sender of the rollup's newest transaction."""
    slot: Annotated[str, Hex(32)] = ""
    """Hex; this slot of the account; empty = its balance."""
    add: Annotated[int, Between(1, 2**53)] = 1
    """Added to the value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forge:
    """A thief hands in forged certificates and claims, and each must be refused: `coordinator.faults.forgeries`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crash:
    """The process ends by SIGKILL at a place of its own code, so that each step of a settlement can be struck."""

    place: str
    """For example settlement.after_journal; places stand in the source as `crash("...")`."""
    count: Annotated[int, Between(1, 1_000_000)] = 1
    """At the n-th time it gets there."""


SolanaKind = SolanaFork | SkipSlots | DropTransactions | LagRpc | RpcOutage | ExpireBlockhashes
Kind = (
    Kill
    | Pause
    | RewindBack
    | Withhold
    | ForkBack
    | Silence
    | SignWrong
    | SlowAttester
    | ProverDown
    | ReorgBack
    | LeaveOut
    | SolanaKind
    | Crash
    | Differ
    | Forge
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultKind:
    """One line of the table."""

    options_type: type[Any]
    targets: tuple[str, ...]
    """Kinds of nodes that can have it; the first is meant where a scenario names none."""


FAULTS: Mapping[str, FaultKind] = {
    "kill": FaultKind(options_type=Kill, targets=("rollup", "sequencer", "agglayer", "attester", "l1", "builder")),
    "pause": FaultKind(options_type=Pause, targets=("rollup", "l1", "sequencer")),
    "rewind": FaultKind(options_type=RewindBack, targets=("rollup",)),
    "withhold": FaultKind(options_type=Withhold, targets=("sequencer",)),
    "fork": FaultKind(options_type=ForkBack, targets=("sequencer",)),
    "silence_reports": FaultKind(options_type=Silence, targets=("rollup",)),
    "attest_wrong": FaultKind(options_type=SignWrong, targets=("attester",)),
    "slow_attester": FaultKind(options_type=SlowAttester, targets=("attester",)),
    "prover_down": FaultKind(options_type=ProverDown, targets=("agglayer",)),
    "reorg_l1": FaultKind(options_type=ReorgBack, targets=("l1",)),
    "pause_l1": FaultKind(options_type=LeaveOut, targets=("l1",)),
    "solana_fork": FaultKind(options_type=SolanaFork, targets=("sequencer",)),
    "skip_slots": FaultKind(options_type=SkipSlots, targets=("sequencer",)),
    "drop_transactions": FaultKind(options_type=DropTransactions, targets=("sequencer",)),
    "lag_rpc": FaultKind(options_type=LagRpc, targets=("sequencer",)),
    "rpc_down": FaultKind(options_type=RpcOutage, targets=("sequencer",)),
    "expire_blockhashes": FaultKind(options_type=ExpireBlockhashes, targets=("sequencer",)),
    "diverge": FaultKind(options_type=Differ, targets=("rollup",)),
    "forge": FaultKind(options_type=Forge, targets=("agglayer",)),
    "crash": FaultKind(options_type=Crash, targets=("agglayer", "sequencer", "rollup", "l1", "builder")),
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
    struck: tuple[str, ...] = ()
    """Other nodes that it strikes instead of the target: the attesters of `prover_down`."""
    lasts_s: float = 0.0
    """How long it goes on by itself once it is injected, at most: what it may take longer to heal."""


def plan_faults(
    tables: Sequence[FaultTable], *, nodes: Mapping[str, Sequence[str]], seed: int, source: str
) -> tuple[PlannedFault, ...]:
    """The faults of a scenario in the order of their times. `nodes` has the names of all nodes by kind.

    Raises UnknownName, InvalidScenario.
    """
    chance = random.Random(seed)
    planned = []
    for index, table in enumerate(tables):
        kind = FAULTS.get(table.kind)
        if kind is None:
            raise UnknownName(kind="fault", name=table.kind, known=FAULTS)
        allowed = [node for target in kind.targets for node in nodes.get(target, ())]
        if not allowed:
            raise InvalidScenario(
                f"{source}: the fault {table.kind!r} strikes a node of kind {kind.targets[0]!r}, and this testnet has "
                'none; it needs an aggregation layer, for example atomicity = "agglayer"'
            )
        # Drawn for every fault, so that naming one target does not move the choice of another.
        drawn = chance.choice(tuple(nodes["rollup"]))
        target = table.target
        if target in ("", ANY_ROLLUP):
            target = drawn if kind.targets[0] == "rollup" else allowed[0]
        if target not in allowed:
            raise UnknownName(kind=f"target of fault {table.kind!r}", name=target, known=[*allowed, ANY_ROLLUP])
        options = read_table(kind.options_type, table.options, table=f"faults[{index}]", source=source)
        if options == Kill(what="engine") and target not in (*nodes["rollup"], *nodes["sequencer"]):
            raise InvalidScenario(f"{source}: [faults[{index}]] {target} has no engine that could be killed alone")
        struck: Sequence[str] = ()
        if isinstance(options, ProverDown):
            struck = nodes["attester"][: options.attesters or None]
        planned.append(
            PlannedFault(at_s=table.at_s, name=table.kind, target=target, kind=options, struck=tuple(struck))
        )
    return tuple(sorted(planned, key=lambda fault: fault.at_s))


def faults_of(scenario: Scenario, testnet: ResolvedTestnet) -> tuple[PlannedFault, ...]:
    """`plan_faults` of a scenario whose sequencer can have them all. Raises InvalidScenario where it cannot."""
    nodes, source = testnet.nodes_by_kind, scenario.source
    planned = plan_faults(scenario.faults, nodes=nodes, seed=scenario.seed, source=source)
    backend = BACKENDS[testnet.backend]
    config = backend.configure(testnet.backend_options)
    possible = backend.faults(config)
    for fault in planned:
        name = KILL_ENGINE if fault.kind == Kill(what="engine") else fault.name
        if fault.target in nodes["sequencer"] and name not in (*OF_EVERY_SEQUENCER, *possible):
            raise InvalidScenario(
                f"{source}: the fault {name!r} at_s = {fault.at_s:g} strikes the sequencer, and that of backend "
                f"{backend.name!r} with these settings cannot have it; {_remedy(name)}"
            )
        if isinstance(fault.kind, SolanaFork) and fault.kind.depth > config.finalize_slots:
            raise InvalidScenario(
                f"{source}: the solana_fork at_s = {fault.at_s:g} has depth = {fault.kind.depth:,}, but a Solana that "
                f"finalizes {config.finalize_slots} slots behind never abandons more; use a depth of at most "
                "finalize_slots, or more finalize_slots in [backend]"
            )
    l1_slot_ms = 0 if testnet.agglayer is None else testnet.agglayer.slot_time_ms
    slots_ms = {"sequencer": config.block_interval_ms, "l1": l1_slot_ms}
    return tuple(
        replace(fault, lasts_s=_lasts_s(fault.kind, slot_ms=slots_ms.get(fault.target, 0))) for fault in planned
    )


def _lasts_s(kind: Kind, *, slot_ms: int) -> float:
    """Of a fault that is injected at once and then goes on; the others end before they count as injected."""
    match kind:
        case RpcOutage(for_s=for_s):
            return for_s
        case LagRpc(behind_slots=behind, slots=slots):
            return (behind + slots) * slot_ms / 1_000
        case SkipSlots(slots=slots) | DropTransactions(slots=slots) | LeaveOut(slots=slots):
            return slots * slot_ms / 1_000
        case SolanaFork(depth=depth):
            return depth * slot_ms / 1_000
        case _:
            return 0.0


def _remedy(fault: str) -> str:
    """Which backends can have it as they come; leaving it out always helps."""
    able = [name for name, backend in BACKENDS.items() if fault in backend.faults(backend.configure({}))]
    use = " or ".join(f"backend {name!r} with its default settings" for name in able)
    return f"use {use}, or leave the fault out" if use else "leave the fault out"


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
