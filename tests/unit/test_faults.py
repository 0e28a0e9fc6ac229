"""Faults: read from a scenario with their targets, and carried out at their times with a recovery that is shown."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pytest

from coordinator.faults import FAULTS, Injector, PlannedFault, check_times, faults_of, injector, plan_faults
from coordinator.faults.forgeries import Accepted, Attempt
from coordinator.faults.kinds import (
    OF_EVERY_SEQUENCER,
    Crash,
    DropTransactions,
    ExpireBlockhashes,
    Kill,
    Kind,
    LagRpc,
    LeaveOut,
    Pause,
    ReorgBack,
    RpcOutage,
    SignWrong,
    Silence,
    SkipSlots,
    SlowAttester,
    SolanaFork,
)
from coordinator.spec import Scenario, parse_scenario, resolve
from coordinator.spec.scenario import FaultTable
from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.errors import InvalidInput, InvalidScenario, Unavailable, UnknownName
from nodes.model.faults import (
    AttestWrong,
    CrashAt,
    DelayAttestations,
    Fault,
    PauseL1,
    ReorgL1,
    SilenceReports,
    SolanaTrouble,
    Trouble,
)
from nodes.sequencer.backend import KILL_ENGINE
from nodes.sequencer.backends import BACKENDS
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.events import FaultHealed, FaultInjected
from nodes.telemetry.tracer import MemoryTracer
from nodes.wire.control import ClockReading

ROLLUPS = ("rollup-1", "rollup-2", "rollup-3")
PLAIN_NODES = {"sequencer": ("sequencer",), "rollup": ROLLUPS}
NODES = {
    **PLAIN_NODES,
    "l1": ("l1",),
    "agglayer": ("agglayer",),
    "attester": ("attester-1", "attester-2", "attester-3"),
    "builder": (),
}


def plan(*tables: FaultTable, seed: int = 1, nodes: Mapping[str, Sequence[str]] = NODES) -> tuple[PlannedFault, ...]:
    return plan_faults(tables, nodes=nodes, seed=seed, source="s.toml")


def test_faults_come_in_the_order_of_their_times_with_a_target_each() -> None:
    faults = plan(
        FaultTable(at_s=5, kind="kill", target="sequencer", options={"what": "process"}),
        FaultTable(at_s=2, kind="pause", options={"for_s": 1.5}),
        FaultTable(at_s=3, kind="fork"),
    )
    assert [(fault.at_s, fault.name) for fault in faults] == [(2, "pause"), (3, "fork"), (5, "kill")]
    assert faults[0].target in ROLLUPS
    assert faults[1].target == "sequencer"


def test_the_seed_chooses_and_choosing_one_target_does_not_move_another() -> None:
    open_ones = [FaultTable(at_s=at, kind="kill") for at in range(8)]
    chosen = [fault.target for fault in plan(*open_ones)]
    assert chosen == [fault.target for fault in plan(*open_ones)]
    assert len(set(chosen)) > 1
    named = [FaultTable(at_s=0, kind="kill", target="rollup-1"), *open_ones[1:]]
    assert [fault.target for fault in plan(*named)][1:] == chosen[1:]


@pytest.mark.parametrize("kind", list(FAULTS))
def test_every_fault_has_defaults_that_work(kind: str) -> None:
    needed = {"place": "settlement.after_journal"} if kind == "crash" else {}
    (fault,) = plan(FaultTable(at_s=0, kind=kind, options=needed))
    assert fault.name == kind
    assert fault.target in NODES[FAULTS[kind].targets[0]]


def test_a_prover_that_is_down_strikes_its_attesters() -> None:
    some, all_of_them = plan(
        FaultTable(at_s=0, kind="prover_down", options={"attesters": 2}), FaultTable(at_s=1, kind="prover_down")
    )
    assert (some.target, some.struck) == ("agglayer", ("attester-1", "attester-2"))
    assert all_of_them.struck == NODES["attester"]


@pytest.mark.parametrize("kind", ["attest_wrong", "slow_attester", "prover_down", "reorg_l1", "pause_l1"])
def test_faults_of_nodes_that_a_testnet_lacks_are_refused(kind: str) -> None:
    with pytest.raises(InvalidScenario, match=f"{kind}.*this testnet has none; it needs an aggregation layer"):
        plan(FaultTable(at_s=1, kind=kind), nodes=PLAIN_NODES)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (FaultTable(at_s=1, kind="kil"), "did you mean 'kill'"),
        (FaultTable(at_s=1, kind="rewind", target="sequencer"), "unknown target"),
        (FaultTable(at_s=1, kind="kill", target="rollup-9"), "did you mean 'rollup-"),
        (FaultTable(at_s=1, kind="pause", options={"for": 1}), "did you mean 'for_s'"),
        (FaultTable(at_s=1, kind="kill", options={"what": "cable"}), "must be one of process, engine"),
        (FaultTable(at_s=1, kind="kill", target="l1", options={"what": "engine"}), "l1 has no engine that could be"),
        (FaultTable(at_s=1, kind="crash"), "place is missing"),
    ],
)
def test_faults_that_make_no_sense_are_refused_with_a_hint(table: FaultTable, message: str) -> None:
    with pytest.raises((UnknownName, InvalidScenario), match=message):
        plan(table)


def test_faults_that_would_strike_no_load_are_refused() -> None:
    faults = plan(FaultTable(at_s=5, kind="kill"))
    check_times(faults, length_s=5.1, source="s.toml")
    check_times((), length_s=None, source="s.toml")
    with pytest.raises(InvalidScenario, match=r"s\.toml: the kill of rollup-\d at_s = 5 comes after the load.*5 s"):
        check_times(faults, length_s=5, source="s.toml")
    with pytest.raises(InvalidScenario, match="load of known length"):
        check_times(faults, length_s=None, source="s.toml")


class Testnet:
    """Records what is done to it."""

    __test__ = False
    sequencer_address = "127.0.0.1:1"

    def __init__(self, *, recovers: bool) -> None:
        self._recovers = recovers
        self.height = 0
        self.done: list[tuple[Any, ...]] = []

    async def sequenced_height(self) -> int:
        self.height += 1
        return self.height

    def endpoint(self, node: str) -> NodeEndpoint:
        raise NotImplementedError

    def host_of(self, node: str) -> HostReady:
        raise NotImplementedError

    async def inject(self, node: str, fault: Fault) -> None:
        self.done.append(("inject", node, fault))

    async def kill(self, node: str, what: str = "process") -> None:
        self.done.append(("kill", node, what))

    async def wait_recovered(self, node: str, *, timeout_s: float) -> float:
        assert timeout_s >= injector.RECOVERY_TIMEOUT_S
        self.done.append(("recovered", node))
        if not self._recovers:
            raise Unavailable(f"{node} did not recover")
        return 0.1


def kills(*at_s: float) -> Sequence[PlannedFault]:
    return [PlannedFault(at_s=at, name="kill", target="rollup-1", kind=Kill(what="engine")) for at in at_s]


async def test_a_fault_is_recorded_as_injected_and_healed() -> None:
    clock, testnet = SystemClock(), Testnet(recovers=True)
    tracer = MemoryTracer(clock)
    injector = Injector(kills(0.05), testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=tracer)
    start_ns = clock.monotonic_ns()
    await injector.run(start_ns=start_ns)
    (record,) = injector.records
    assert testnet.done == [("kill", "rollup-1", "engine"), ("recovered", "rollup-1")]
    assert record.injected_ns >= start_ns + 50_000_000
    assert record.healed_ns is not None
    assert record.healed_ns >= record.injected_ns
    assert not record.problem
    assert [stamped.event for stamped in tracer.stamped] == [
        FaultInjected(fault="kill", target="rollup-1"),
        FaultHealed(fault="kill", target="rollup-1"),
    ]


async def test_a_target_that_does_not_recover_is_recorded_with_the_reason() -> None:
    clock = SystemClock()
    testnet = Testnet(recovers=False)
    injector = Injector(
        kills(0), testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await injector.run(start_ns=clock.monotonic_ns())
    (record,) = injector.records
    assert record.healed_ns is None
    assert record.carried_out
    assert "did not recover" in record.problem


async def test_a_fault_has_its_own_length_to_heal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standing(Testnet):
        async def sequenced_height(self) -> int:
            return 7

    monkeypatch.setattr(injector, "READY_TIMEOUT_S", 0.05)
    monkeypatch.setattr(injector, "POLL_S", 0.001)
    clock, testnet = SystemClock(), Standing(recovers=True)
    fault = PlannedFault(at_s=0, name="rpc_down", target="sequencer", kind=RpcOutage(for_s=0.1), lasts_s=0.1)
    made = Injector(
        [fault], testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    assert made.records[0].problem == "no block was sequenced for 0.15 s after rpc_down"


async def test_a_fault_comes_at_its_time_although_an_earlier_one_has_the_sequencer_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = [None, None, 7, 7, 8, 9]

    class Away(Testnet):
        async def sequenced_height(self) -> int:
            height = answers.pop(0)
            if height is None:
                raise Unavailable("it is down")
            return height

    monkeypatch.setattr(injector, "POLL_S", 0.001)
    clock, testnet = SystemClock(), Away(recovers=True)
    made = Injector(
        kills(0), testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    (record,) = made.records
    assert (record.carried_out, record.problem, answers) == (True, "", [])
    assert record.healed_ns is not None


async def test_a_fault_that_the_target_refuses_was_not_carried_out() -> None:
    class Refusing(Testnet):
        async def inject(self, node: str, fault: Fault) -> None:
            raise InvalidInput("a fork of depth 60 is not possible")

    clock, testnet = SystemClock(), Refusing(recovers=True)
    fault = PlannedFault(at_s=0, name="solana_fork", target="sequencer", kind=SolanaFork(depth=60))
    made = Injector(
        [fault], testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    (record,) = made.records
    assert (record.carried_out, record.healed_ns, record.problem) == (False, None, "a fork of depth 60 is not possible")


@pytest.mark.parametrize(
    ("name", "target", "kind", "injected"),
    [
        (
            "silence_reports", "rollup-1", Silence(for_s=0.01),
            [SilenceReports(on=True), SilenceReports(on=False)],
        ),
        ("attest_wrong", "attester-1", SignWrong(for_s=0.01), [AttestWrong(on=True), AttestWrong(on=False)]),
        (
            "slow_attester", "attester-1", SlowAttester(delay_ms=70, for_s=0.01),
            [DelayAttestations(delay_ms=70), DelayAttestations(delay_ms=0)],
        ),
        ("reorg_l1", "l1", ReorgBack(depth=2), [ReorgL1(depth=2, keep_transactions=True)]),
        ("pause_l1", "l1", LeaveOut(slots=3), [PauseL1(slots=3)]),
        (
            "solana_fork", "sequencer", SolanaFork(depth=3, keep_transactions=False),
            [SolanaTrouble(trouble=Trouble.FORK_AND_LOSE, amount=3)],
        ),
        ("solana_fork", "sequencer", SolanaFork(depth=3), [SolanaTrouble(trouble=Trouble.FORK, amount=3)]),
        ("skip_slots", "sequencer", SkipSlots(slots=3), [SolanaTrouble(trouble=Trouble.SKIP_SLOTS, amount=3)]),
        (
            "drop_transactions", "sequencer", DropTransactions(share_percent=5, slots=7),
            [SolanaTrouble(trouble=Trouble.DROP_TRANSACTIONS, amount=5, for_slots=7)],
        ),
        (
            "lag_rpc", "sequencer", LagRpc(behind_slots=3, slots=7),
            [SolanaTrouble(trouble=Trouble.LAG_RPC, amount=3, for_slots=7)],
        ),
        ("rpc_down", "sequencer", RpcOutage(for_s=0.5), [SolanaTrouble(trouble=Trouble.RPC_DOWN, amount=500)]),
        (
            "expire_blockhashes", "sequencer", ExpireBlockhashes(),
            [SolanaTrouble(trouble=Trouble.EXPIRE_BLOCKHASHES)],
        ),
    ],
)  # fmt: skip
async def test_what_is_done_for_a_while_is_undone(name: str, target: str, kind: Kind, injected: list[Fault]) -> None:
    clock, testnet = SystemClock(), Testnet(recovers=True)
    fault = PlannedFault(at_s=0, name=name, target=target, kind=kind)
    made = Injector(
        [fault], testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    assert testnet.done == [*[("inject", target, fault) for fault in injected], ("recovered", target)]
    assert made.records[0].healed_ns is not None


@pytest.mark.parametrize("is_refused", [True, False])
async def test_what_was_forged_is_kept_with_its_answer(is_refused: bool) -> None:
    clock, testnet = SystemClock(), Testnet(recovers=True)
    tried = Attempt(what="a claim once more", where="rollup-1", answer="AlreadyClaimed()")

    async def forge(attempts: list[Attempt]) -> None:
        attempts.append(tried)
        if not is_refused:
            raise Accepted("a contingent mint on L1 succeeds on L1")

    made = Injector(
        plan(FaultTable(at_s=0, kind="forge")), testnet, sequenced_height=testnet.sequenced_height, clock=clock,
        tracer=MemoryTracer(clock), forge=forge,
    )  # fmt: skip
    await made.run(start_ns=clock.monotonic_ns())
    (record,) = made.records
    assert (record.target, record.attempts) == ("agglayer", (tried,))
    assert (record.healed_ns is not None, record.carried_out) == (is_refused, is_refused)
    assert record.problem == ("" if is_refused else "a contingent mint on L1 succeeds on L1")


class RestartedControl:
    """The control service of a process that dies when it is told where, and comes back with another pid."""

    pids: ClassVar[list[int]] = []

    def __init__(self, address: str) -> None:
        self.address = address

    async def __aenter__(self) -> "RestartedControl":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait_ready(self, *, timeout_s: float) -> HostReady:
        pid = self.pids.pop(0)
        if not pid:
            raise Unavailable("it is down")
        return HostReady(name="host-agglayer", host="127.0.0.1", pid=pid, control_address=self.address)


class Crashing(Testnet):
    def host_of(self, node: str) -> HostReady:
        return HostReady(name="host-agglayer", host="127.0.0.1", pid=7, control_address="127.0.0.1:1")


async def test_a_crash_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injector, "ControlClient", RestartedControl)
    monkeypatch.setattr(injector, "POLL_S", 0.001)
    monkeypatch.setattr(RestartedControl, "pids", [7, 7, 7, 0, 8])
    clock, testnet = SystemClock(), Crashing(recovers=True)
    fault = PlannedFault(at_s=0, name="crash", target="agglayer", kind=Crash(place="settlement.after_send", count=2))
    made = Injector(
        [fault], testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    assert testnet.done == [
        ("inject", "agglayer", CrashAt(place="settlement.after_send", count=2)),
        ("recovered", "agglayer"),
    ]
    assert RestartedControl.pids == []


async def test_a_place_that_is_never_reached_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(injector, "ControlClient", RestartedControl)
    monkeypatch.setattr(injector, "CRASH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(RestartedControl, "pids", [7] * 10_000)
    clock, testnet = SystemClock(), Crashing(recovers=True)
    fault = PlannedFault(at_s=0, name="crash", target="agglayer", kind=Crash(place="nowhere"))
    made = Injector(
        [fault], testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock)
    )
    await made.run(start_ns=clock.monotonic_ns())
    assert "did not come to nowhere 1 times" in made.records[0].problem


class ElsewhereControl:
    """The control service of a process on another machine."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def __aenter__(self) -> "ElsewhereControl":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def wait_ready(self, *, timeout_s: float) -> HostReady:
        node = NodeEndpoint(name="rollup-1", kind="rollup", grpc_address="", rpc_url="", engine_pid=os.getpid())
        return HostReady(name="host-1", host="10.0.0.2", pid=1, control_address=self.address, nodes=(node,))

    async def read_clock(self) -> ClockReading:
        return ClockReading(0, 0, "another boot")


async def test_a_process_of_this_machine_is_not_paused_for_one_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Far(Testnet):
        def host_of(self, node: str) -> HostReady:
            return HostReady(name="host-1", host="10.0.0.2", pid=1, control_address="10.0.0.2:1")

    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(injector, "ControlClient", ElsewhereControl)
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    clock, testnet = SystemClock(), Far(recovers=True)
    faults = [PlannedFault(at_s=0, name="pause", target="rollup-1", kind=Pause(for_s=0.01))]
    made = Injector(faults, testnet, sequenced_height=testnet.sequenced_height, clock=clock, tracer=MemoryTracer(clock))
    await made.run(start_ns=clock.monotonic_ns())
    assert "another machine" in made.records[0].problem
    assert not killed


def scenario_with(fault: str, *overrides: str) -> Scenario:
    text = f'[scenario]\nname = "t"\n[[faults]]\nat_s = 1\nkind = "{fault}"\ntarget = "sequencer"\n'
    return parse_scenario(text, source="t.toml", overrides=overrides)


def faults_with(scenario: Scenario) -> tuple[PlannedFault, ...]:
    return faults_of(scenario, resolve(scenario))


@pytest.mark.parametrize(
    ("fault", "overrides"),
    [
        ("solana_fork", ["backend=lazy"]),
        ("pause", ["backend=lazy"]),
        ("fork", ["backend=solana"]),
        ("skip_slots", ["backend=solana", "backend.solana.solana=surfpool"]),
        ('kill"\nwhat = "engine', ["backend=lazy"]),
        ('kill"\nwhat = "engine', ["backend=solana", "backend.solana.solana=surfpool"]),
    ],
)
def test_a_fault_that_the_backend_cannot_have_is_refused_with_one_that_can(fault: str, overrides: list[str]) -> None:
    with pytest.raises(InvalidScenario, match=r"t\.toml: the fault .* cannot have it; use backend '(lazy|solana)'"):
        faults_with(scenario_with(fault, *overrides))


@pytest.mark.parametrize(
    ("fault", "overrides"),
    [
        ("solana_fork", ["backend=solana"]),
        ("pause", ["backend=solana", "backend.solana.solana=surfpool"]),
        ("fork", ["backend=lazy"]),
        ("withhold", ["backend=solana"]),
        ("kill", ["backend=lazy"]),
        ('kill"\nwhat = "engine', ["backend=solana"]),
    ],
)
def test_a_fault_that_the_backend_can_have_is_planned(fault: str, overrides: list[str]) -> None:
    assert len(faults_with(scenario_with(fault, *overrides))) == 1


@pytest.mark.parametrize(
    ("fault", "lasts_s"),
    [
        ('kind = "rpc_down"\nfor_s = 70.0', 70),
        ('kind = "lag_rpc"\nbehind_slots = 5\nslots = 200', 82),
        ('kind = "skip_slots"\nslots = 300', 120),
        ('kind = "drop_transactions"\nslots = 10', 4),
        ('kind = "solana_fork"\ndepth = 5', 2),
        ('kind = "kill"', 0),
    ],
)
def test_what_goes_on_by_itself_has_a_length_in_slots_or_seconds(fault: str, lasts_s: float) -> None:
    text = f'[scenario]\nname = "t"\n[[faults]]\nat_s = 1\ntarget = "sequencer"\n{fault}\n'
    assert faults_with(parse_scenario(text, source="t.toml", overrides=["backend=solana"]))[0].lasts_s == lasts_s


def test_a_fork_below_what_is_finalized_is_refused_before_the_start() -> None:
    def fork(depth: int, *overrides: str) -> Scenario:
        text = f'[scenario]\nname = "t"\n[[faults]]\nat_s = 3\nkind = "solana_fork"\ndepth = {depth}\n'
        return parse_scenario(text, source="t.toml", overrides=["backend=solana", *overrides])

    assert len(faults_with(fork(31))) == 1
    with pytest.raises(InvalidScenario, match=r"t\.toml: the solana_fork at_s = 3 has depth = 32, .* 31 slots behind"):
        faults_with(fork(32))
    with pytest.raises(InvalidScenario, match="finalizes 8 slots behind"):
        faults_with(fork(9, "backend.solana.finalize_slots=8"))


def test_backends_name_faults_that_exist_and_every_fault_of_a_sequencer_is_somebodys() -> None:
    named = {name for backend in BACKENDS.values() for name in backend.faults(backend.configure({}))}
    of_sequencers = {name for name, kind in FAULTS.items() if "sequencer" in kind.targets}
    assert named == of_sequencers - set(OF_EVERY_SEQUENCER) | {KILL_ENGINE}
