"""Carries out planned faults on a running testnet at their times, and waits for each to be healed.

Healed means shown: the sequencer has cut a block after the fault, and the target has caught up with it. A fault that
the target does not recover from is not swallowed: its record has no `healed_ns` and says why.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from coordinator.faults.forgeries import Attempt
from coordinator.faults.kinds import (
    Crash,
    Differ,
    DropTransactions,
    ExpireBlockhashes,
    Forge,
    ForkBack,
    Kill,
    LagRpc,
    LeaveOut,
    Pause,
    PlannedFault,
    ProverDown,
    ReorgBack,
    RewindBack,
    RpcOutage,
    SignWrong,
    Silence,
    SkipSlots,
    SlowAttester,
    SolanaFork,
    SolanaKind,
    Withhold,
)
from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.errors import InvalidInput, TestbedError, Unavailable
from nodes.model.faults import (
    AttestWrong,
    CrashAt,
    DelayAttestations,
    Diverge,
    EvidenceKind,
    Fault,
    Fork,
    PauseL1,
    ReorgL1,
    Rewind,
    SilenceReports,
    SolanaTrouble,
    Trouble,
    WithholdEvidence,
)
from nodes.model.ids import Height
from nodes.telemetry.clock import Clock, boot_id
from nodes.telemetry.events import FaultHealed, FaultInjected
from nodes.telemetry.tracer import Tracer
from nodes.wire.control import ControlClient
from nodes.wire.rollup import RollupClient
from nodes.wire.sequencer import SequencerClient

READY_TIMEOUT_S = 90.0
"""For a process to answer, and for the next block once a fault is over."""
RECOVERY_TIMEOUT_S = 120.0
"""For a target to catch up once a fault is over."""
CRASH_TIMEOUT_S = 180.0
"""For a process to come to the place where it shall die."""
POLL_S = 0.02
_NS_PER_S = 1_000_000_000


class Target(Protocol):
    """The part of a running testnet that faults need."""

    sequencer_address: str

    def endpoint(self, node: str) -> NodeEndpoint:
        """Where a node is."""
        ...

    def host_of(self, node: str) -> HostReady:
        """The process of a node."""
        ...

    async def inject(self, node: str, fault: Fault) -> None:
        """Give a node a fault."""
        ...

    async def kill(self, node: str, what: str = "process") -> None:
        """End a process or an engine."""
        ...

    async def wait_recovered(self, node: str, *, timeout_s: float) -> float:
        """Wait until a node has caught up, at most so long."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRecord:
    """A fault whose time came. Times on the coordinator's clock."""

    kind: str
    target: str
    injected_ns: int
    healed_ns: int | None
    carried_out: bool
    """False where it could not be injected: the load met nothing of it, or not all."""
    problem: str
    """Why it could not be injected or did not heal; empty otherwise."""
    attempts: tuple[Attempt, ...] = ()
    """Of `forge`: what was refused."""


class Injector:
    """Runs the faults of one load."""

    def __init__(
        self,
        faults: Sequence[PlannedFault],
        testnet: Target,
        *,
        sequenced_height: Callable[[], Awaitable[int]],
        clock: Clock,
        tracer: Tracer,
        forge: Callable[[list[Attempt]], Awaitable[None]] | None = None,
    ) -> None:
        """`forge` carries out the fault of that name, and notes what was refused."""
        self._faults = faults
        self._testnet = testnet
        self._sequenced_height = sequenced_height
        self._clock = clock
        self._tracer = tracer
        self._forge = forge
        self.records: list[FaultRecord] = []

    async def run(self, *, start_ns: int) -> None:
        """Returns when every fault was injected and healed, or is known not to heal."""
        async with asyncio.TaskGroup() as group:
            for fault in self._faults:
                group.create_task(self._one(fault, start_ns + round(fault.at_s * _NS_PER_S)))

    async def _one(self, fault: PlannedFault, at_ns: int) -> None:
        await asyncio.sleep(max(0, at_ns - self._clock.monotonic_ns()) / _NS_PER_S)
        injected_ns = self._clock.monotonic_ns()
        self._tracer.record(FaultInjected(fault=fault.name, target=fault.target), monotonic_ns=injected_ns)
        healed_ns, problem, carried_out = None, "", False
        attempts: list[Attempt] = []
        try:
            before = await self._height_now()
            await self._inject(fault, attempts)
            carried_out = True
            await self._wait_sequenced_after(before, fault)
            await self._testnet.wait_recovered(fault.target, timeout_s=RECOVERY_TIMEOUT_S + fault.lasts_s)
        except TestbedError as error:
            problem = str(error)
        else:
            healed_ns = self._clock.monotonic_ns()
            self._tracer.record(FaultHealed(fault=fault.name, target=fault.target), monotonic_ns=healed_ns)
        self.records.append(
            FaultRecord(
                kind=fault.name,
                target=fault.target,
                injected_ns=injected_ns,
                healed_ns=healed_ns,
                carried_out=carried_out,
                problem=problem,
                attempts=tuple(attempts),
            )
        )

    async def _height_now(self) -> int | None:
        """None while an earlier fault has the sequencer away: this one comes at its time all the same."""
        try:
            return await self._sequenced_height()
        except Unavailable:
            return None

    async def _wait_sequenced_after(self, before: int | None, fault: PlannedFault) -> None:
        """Without a newer block a node that is down would count as caught up."""
        timeout_s = READY_TIMEOUT_S + fault.lasts_s
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    # The fault may have taken the sequencer away; it is asked until it is back.
                    height = await self._height_now()
                    before = height if before is None else before
                    if height is not None and before is not None and height > before + 1:
                        return
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Unavailable(f"no block was sequenced for {timeout_s:g} s after {fault.name}") from None

    async def _inject(self, fault: PlannedFault, attempts: list[Attempt]) -> None:
        target = fault.target
        match fault.kind:
            case Kill(what=what):
                await self._testnet.kill(target, what)
            case Pause(for_s=for_s):
                await self._pause(target, for_s)
            case RewindBack(heights=heights):
                async with RollupClient(self._testnet.endpoint(target).grpc_address) as client:
                    now = (await client.status()).heads.height
                await self._testnet.inject(target, Rewind(height=Height(max(0, now - heights))))
            case Withhold(evidence=evidence, blocks=blocks):
                await self._testnet.inject(target, WithholdEvidence(kind=EvidenceKind(evidence), blocks=blocks))
            case ForkBack(heights=heights):
                async with SequencerClient(self._testnet.sequencer_address) as client:
                    head = (await client.status()).head.height
                await self._testnet.inject(target, Fork(height=Height(max(0, head - heights))))
            case Silence(for_s=for_s):
                await self._for_a_while(target, SilenceReports(on=True), SilenceReports(on=False), for_s)
            case SignWrong(for_s=for_s):
                await self._for_a_while(target, AttestWrong(on=True), AttestWrong(on=False), for_s)
            case SlowAttester(delay_ms=delay_ms, for_s=for_s):
                slow, quick = DelayAttestations(delay_ms=delay_ms), DelayAttestations(delay_ms=0)
                await self._for_a_while(target, slow, quick, for_s)
            case ProverDown(for_s=for_s):
                pids = [await self._pid_here(node, engine=False) for node in fault.struck]
                await _stopped(pids, for_s)
            case Forge():
                if self._forge is None:
                    raise InvalidInput("nobody was named who could forge anything on this testnet")
                await self._forge(attempts)
            case Crash(place=place, count=count):
                await self._crash(target, CrashAt(place=place, count=count))
            case _:
                await self._testnet.inject(target, _as_it_is(fault.kind))

    async def _for_a_while(self, node: str, begin: Fault, end: Fault, for_s: float) -> None:
        await self._testnet.inject(node, begin)
        try:
            await asyncio.sleep(for_s)
        finally:
            await self._testnet.inject(node, end)

    async def _crash(self, node: str, fault: CrashAt) -> None:
        """Returns when the process has died at that place and was started again."""
        address = self._testnet.host_of(node).control_address
        async with ControlClient(address) as control:
            before = (await control.wait_ready(timeout_s=READY_TIMEOUT_S)).pid
        await self._testnet.inject(node, fault)
        try:
            async with asyncio.timeout(CRASH_TIMEOUT_S):
                while await _pid_at(address) in (before, 0):  # noqa: ASYNC110 - another process gives no sign of its end
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise Unavailable(
                f"{node} did not come to {fault.place} {fault.count} times within {CRASH_TIMEOUT_S:g} s; look for the "
                "places that exist in the source"
            ) from None

    async def _pause(self, node: str, for_s: float) -> None:
        await _stopped([await self._pid_here(node, engine=True)], for_s)

    async def _pid_here(self, node: str, *, engine: bool) -> int:
        """Of a node's engine, or of its process, which must be of this machine and not the coordinator's own."""
        what = "engine" if engine else "process"
        # Asked anew: either may have been started again since the testnet was.
        async with ControlClient(self._testnet.host_of(node).control_address) as control:
            ready = await control.wait_ready(timeout_s=READY_TIMEOUT_S)
            is_here = (await control.read_clock()).boot_id == boot_id()
        engine_pid = next((endpoint.engine_pid for endpoint in ready.nodes if endpoint.name == node), 0)
        pid = engine_pid if engine else ready.pid
        if not pid:
            raise Unavailable(f"{node} has no engine that could be paused")
        if not is_here:
            # The number could be that of any process of this machine.
            raise Unavailable(f"the {what} of {node} (pid {pid}) runs on another machine: it cannot be paused")
        if pid == os.getpid():
            raise InvalidInput(f'{node} runs inside the coordinator and cannot be stopped alone; use launcher = "ray"')
        return pid


def _as_it_is(kind: SolanaKind | ReorgBack | LeaveOut | Differ) -> Fault:
    """Of kinds that the target carries out by itself."""
    match kind:
        case ReorgBack(depth=depth, keep_transactions=keep):
            return ReorgL1(depth=depth, keep_transactions=keep)
        case LeaveOut(slots=slots):
            return PauseL1(slots=slots)
        case Differ(account=account, slot=slot, add=add):
            where = [bytes.fromhex(text.removeprefix("0x")) for text in (account, slot)]
            return Diverge(account=where[0], slot=where[1], add=add)
        case SolanaFork(depth=depth, keep_transactions=keep):
            return SolanaTrouble(trouble=Trouble.FORK if keep else Trouble.FORK_AND_LOSE, amount=depth)
        case SkipSlots(slots=slots):
            return SolanaTrouble(trouble=Trouble.SKIP_SLOTS, amount=slots)
        case DropTransactions(share_percent=share, slots=slots):
            return SolanaTrouble(trouble=Trouble.DROP_TRANSACTIONS, amount=share, for_slots=slots)
        case LagRpc(behind_slots=behind, slots=slots):
            return SolanaTrouble(trouble=Trouble.LAG_RPC, amount=behind, for_slots=slots)
        case RpcOutage(for_s=for_s):
            return SolanaTrouble(trouble=Trouble.RPC_DOWN, amount=max(1, round(for_s * 1_000)))
        case ExpireBlockhashes():
            return SolanaTrouble(trouble=Trouble.EXPIRE_BLOCKHASHES)


async def _pid_at(address: str) -> int:
    """Of the process that serves there; 0 while none does."""
    async with ControlClient(address) as control:
        try:
            return (await control.wait_ready(timeout_s=READY_TIMEOUT_S)).pid
        except Unavailable:
            return 0


async def _stopped(pids: Sequence[int], for_s: float) -> None:
    """SIGSTOP, wait, SIGCONT."""
    stopped: list[int] = []
    try:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGSTOP)
            except ProcessLookupError as error:
                raise Unavailable(f"process {pid} has ended: it cannot be paused") from error
            stopped.append(pid)
        await asyncio.sleep(for_s)
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
