"""A certificate service over an L1 that exists in memory, killed and started again as tests like."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from coincurve import PrivateKey

from nodes.agglayer.admission import NO_RANGE
from nodes.agglayer.batch import (
    Batch,
    L1Change,
    L1Level,
    SettledOnL1,
    SettlementEvent,
    SettlementFinal,
    SettlementIncluded,
    SettlementItem,
    SettlementReorged,
    SettlementReverted,
)
from nodes.agglayer.book import CertificateBook
from nodes.agglayer.orchestrator import Orchestrator
from nodes.agglayer.proving import EpochProver
from nodes.agglayer.store import OpenBatch
from nodes.model.agglayer import (
    AgglayerParams,
    Certificate,
    CertificateStatus,
    NetworkId,
    NetworkParams,
    SettledRange,
)
from nodes.model.errors import ProofFailed, TestbedError
from nodes.model.ids import ZERO_HASH, Address, ChainId, Height
from nodes.model.verdict import NO_ABORTS, SignedVerdict, Verdict
from nodes.ports import Proof, ProofProgress, ProvingItem
from nodes.rules.certificate import certificate_id, pack_chain_data, range_digest, statement_bytes
from nodes.rules.exit_tree import ExitTree
from nodes.rules.hashes import keccak256
from nodes.rules.pessimistic import decode_public_values, encode_public_values, run
from nodes.rules.program_encoding import decode_program
from nodes.rules.signing import address_of_key, sign_digest
from nodes.rules.verdict import encode_verdict, verdict_digest, verdict_hash
from nodes.telemetry.clock import ManualClock
from nodes.telemetry.tracer import MemoryTracer
from tests.support.agglayer_world import KEYS, SIGNERS, Network, World
from tests.support.patience import PATIENCE_S

CHAIN_ID = b"\x07" * 32
RESOLVER = PrivateKey(b"\x66" * 32)
EPOCH_BLOCKS = 2


def params(
    networks: int = 2, *, has_verdicts: bool = True, attesters: Sequence[PrivateKey] = (), threshold: int = 2
) -> AgglayerParams:
    """Networks whose certificates KEYS[0] signs."""
    return AgglayerParams(
        networks=tuple(
            NetworkParams(
                network_id=NetworkId(number),
                name=f"rollup-{number}",
                chain_id=ChainId(7_000 + number),
                signer=SIGNERS[0],
                reporter=Address(bytes(19) + bytes([number])),
            )
            for number in range(1, networks + 1)
        ),
        resolver=address_of_key(RESOLVER),
        serial_rounds=8,
        abort_rule="serial",
        has_verdicts=has_verdicts,
        l1_chain_id=ChainId(900),
        attesters=tuple(address_of_key(key) for key in attesters),
        attester_threshold=threshold,
    )


def verdict(height: int, *, epoch: int = 0, key: PrivateKey = RESOLVER) -> SignedVerdict:
    """A verdict that strikes nothing."""
    encoded = encode_verdict(
        Verdict(
            epoch=epoch,
            height=Height(height),
            aborts=NO_ABORTS,
            rounds=1,
            reports_hash=keccak256(b"reports of %d" % height),
            notices=(),
            previous=ZERO_HASH,
        )
    )
    return SignedVerdict(encoded, sign_digest(verdict_digest(encoded, chain_id=CHAIN_ID), key))


def heights(first: int, last: int, *, epoch: int = 0) -> SettledRange:
    """A range that ends in the verdict above."""
    return SettledRange(
        first_height=Height(first),
        last_height=Height(last),
        last_block_hash=keccak256(b"block %d" % last),
        outcome_root=keccak256(b"outcomes %d" % last),
        verdict_root=verdict_hash(verdict(last, epoch=epoch).verdict),
    )


def stating(
    certificate: Certificate,
    settled: SettledRange,
    *,
    signed: SignedVerdict | None = None,
    keys: Sequence[PrivateKey | None] = KEYS[:1],
) -> Certificate:
    """The certificate with a range signed by these, and by default the verdict of its last height."""
    if signed is None and settled.last_height >= settled.first_height:
        signed = verdict(settled.last_height)
    digest = range_digest(certificate_id(certificate), settled)
    signatures = [None if key is None else sign_digest(digest, key) for key in keys]
    return replace(certificate, custom_chain_data=pack_chain_data(settled, signatures, signed))


class MemoryL1:
    """What L1 has settled, block by block; each batch that was submitted is executed in the next block.

    It checks what the contract does: roots before, the L1 info root, ranges that continue.
    """

    def __init__(self, world: World, networks: int = 2) -> None:
        self.world = world
        self.number = 0
        self.finality_blocks = 1
        nothing = SettledOnL1(local_exit_root=ZERO_HASH, pessimistic_root=ZERO_HASH, last_height=0)
        self.settled_roots = {NetworkId(number): nothing for number in range(1, networks + 1)}
        self.ranges = dict.fromkeys(self.settled_roots, NO_RANGE)
        self.waiting: list[Batch] = []
        self.executed: dict[int, int] = {}
        """Batch id to the block that holds it."""
        self.known: dict[int, Batch] = {}
        self.finished: set[int] = set()
        self.reverted: dict[int, str] = {}
        self.refuses_next = ""
        self._before: dict[int, dict[NetworkId, tuple[SettledOnL1, SettledRange]]] = {}
        self._listeners: list[asyncio.Queue[SettlementEvent]] = []
        self._heads: list[asyncio.Event] = []

    # Facts

    def l1_info_root(self, leaf_count: int) -> bytes | None:
        tree: ExitTree = self.world.info_tree
        return tree.root(leaf_count) if leaf_count <= tree.leaf_count else None

    @property
    def newest_leaf_count(self) -> int:
        return self.world.info_tree.leaf_count

    def block_number(self, level: L1Level = L1Level.LATEST) -> int:
        behind = {L1Level.LATEST: 0, L1Level.SAFE: self.finality_blocks, L1Level.FINALIZED: 2 * self.finality_blocks}
        return max(0, self.number - behind[level])

    def settled(self, network_id: NetworkId) -> SettledOnL1:
        return self.settled_roots[network_id]

    async def changes(self) -> AsyncIterator[L1Change]:
        moved = asyncio.Event()
        self._heads.append(moved)
        while True:
            moved.clear()
            yield L1Change(block_number=self.number, newest_leaf_count=self.newest_leaf_count)
            await moved.wait()

    # Settlement

    async def submit(self, batch: Batch) -> None:
        known = self.known.setdefault(batch.batch_id, batch)
        assert known == batch, "one id, one batch"
        if batch.batch_id in self.reverted:
            self._tell(SettlementReverted(batch_id=batch.batch_id, tx_hash=b"", reason=self.reverted[batch.batch_id]))
        elif batch.batch_id in self.finished:
            self._tell(SettlementFinal(batch_id=batch.batch_id, tx_hash=_tx(batch), l1_block=1, gas_used=1))
        elif batch.batch_id in self.executed:
            self._tell(self._included(batch.batch_id))
        elif batch not in self.waiting:
            self.waiting.append(batch)

    async def events(self) -> AsyncIterator[SettlementEvent]:
        queue: asyncio.Queue[SettlementEvent] = asyncio.Queue()
        self._listeners = [queue]  # the one before was killed with its process
        while True:
            yield await queue.get()

    # The chain

    def mine(self) -> None:
        """One block."""
        self.number += 1
        waiting, self.waiting = self.waiting, []
        for batch in waiting:
            self._execute(batch)
        for batch_id in sorted(set(self.executed) - self.finished):
            if self.executed[batch_id] <= self.block_number(L1Level.FINALIZED):
                self.finished.add(batch_id)
                batch = self.known[batch_id]
                self._tell(
                    SettlementFinal(batch_id=batch_id, tx_hash=_tx(batch), l1_block=self.executed[batch_id], gas_used=1)
                )
        for moved in self._heads:
            moved.set()

    def reorg(self) -> None:
        """Take back the newest settlement; it waits again."""
        batch_id = max(set(self.executed) - self.finished)
        for network, (roots, settled) in self._before[batch_id].items():
            self.settled_roots[network], self.ranges[network] = roots, settled
        del self.executed[batch_id]
        self.waiting.append(self.known[batch_id])
        self._tell(SettlementReorged(batch_id=batch_id, tx_hash=_tx(self.known[batch_id])))

    def _execute(self, batch: Batch) -> None:
        reason, self.refuses_next = self.refuses_next, ""
        reason = reason or next(filter(None, map(self._problem, batch.items)), "")
        if reason:
            self.reverted[batch.batch_id] = reason
            self._tell(SettlementReverted(batch_id=batch.batch_id, tx_hash=_tx(batch), reason=reason))
            return
        self._before[batch.batch_id] = {
            item.network_id: (self.settled_roots[item.network_id], self.ranges[item.network_id]) for item in batch.items
        }
        for item in batch.items:
            values = decode_public_values(item.statement[:196])
            self.ranges[item.network_id] = item.settled_range
            self.settled_roots[item.network_id] = SettledOnL1(
                local_exit_root=values.new_local_exit_root,
                pessimistic_root=values.new_pessimistic_root,
                last_height=item.settled_range.last_height,
            )
        self.executed[batch.batch_id] = self.number
        self._tell(self._included(batch.batch_id))

    def _problem(self, item: SettlementItem) -> str:
        values = decode_public_values(item.statement[:196])
        settled, stated = self.settled_roots[values.network_id], item.settled_range
        stands = (settled.local_exit_root, settled.pessimistic_root)
        if (values.prev_local_exit_root, values.prev_pessimistic_root) != stands:
            return f"roots of network {values.network_id} are others"
        if values.l1_info_root != self.l1_info_root(item.l1_info_tree_leaf_count):
            return "L1InfoTreeLeafCountInvalid"
        if stated.first_height != settled.last_height + 1:
            return "RangeNotContinuous"
        if stated.last_height == settled.last_height and _stated(stated) != _stated(self.ranges[values.network_id]):
            return "EmptyRangeChanges"
        return ""

    def _included(self, batch_id: int) -> SettlementIncluded:
        return SettlementIncluded(
            batch_id=batch_id, tx_hash=_tx(self.known[batch_id]), l1_block=self.executed[batch_id], gas_used=1
        )

    def _tell(self, event: SettlementEvent) -> None:
        for queue in self._listeners:
            queue.put_nowait(event)


def _stated(settled: SettledRange) -> tuple[bytes, ...]:
    return settled.last_block_hash, settled.outcome_root, settled.verdict_root


def _tx(batch: Batch) -> bytes:
    return keccak256(b"settlement %d" % batch.batch_id)


class NativeProver:
    """Runs the program and signs nothing."""

    name = "native"
    tree_hashes = ("sha256",)

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.problem: TestbedError | None = None
        self.lies = False
        self.held = asyncio.Event()
        self.held.set()
        self.stage_cpu_ns: dict[str, int] = {}

    async def close(self) -> None:
        """Nothing is open."""

    async def prove(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Proof:
        progress(ProofProgress(done=0, total=len(items), step="program"))
        self.batches.append(len(items))
        await self.held.wait()
        if self.problem is not None:
            raise self.problem
        statements = []
        for index, item in enumerate(items):
            try:
                output = run(decode_program(item.program_input))
            except TestbedError as error:
                raise ProofFailed(f"{type(error).__name__}: {error}", item=index) from error
            statements.append(statement_bytes(encode_public_values(output.public_values), item.settled_range))
        if self.lies:
            statements[0] = bytes(308)
        return Proof(statements=tuple(statements), proof=b"", kind=self.name)


class Killed(BaseException):
    """The process is gone."""


class CrashOnce:
    """Dies at a place when it is reached for the n-th time, and never again."""

    def __init__(self, place: str = "", count: int = 1) -> None:
        self.place, self.count = place, count
        self.visited: dict[str, int] = {}

    def __call__(self, place: str) -> None:
        self.visited[place] = self.visited.get(place, 0) + 1
        if place == self.place and self.visited[place] == self.count:
            raise Killed(place)


class CertificateHarness:
    """One incarnation of the service."""

    def __init__(
        self,
        directory: Path,
        l1: MemoryL1,
        *,
        agglayer: AgglayerParams | None = None,
        prover: NativeProver | None = None,
        crash: CrashOnce | None = None,
        settled_level: L1Level = L1Level.LATEST,
    ) -> None:
        self.l1 = l1
        self.clock = ManualClock()
        self.tracer = MemoryTracer(self.clock)
        self.prover = prover or NativeProver()
        self.params = agglayer or params()
        self.verdicts: dict[int, bytes] = {}
        self.lowest = Height(2**32)
        """By default nothing is being resolved again, and nobody remembers any verdict."""
        crash = crash or CrashOnce()
        self.book = CertificateBook(
            params=self.params,
            chain_id=CHAIN_ID,
            directory=directory,
            tree_hashes=self.prover.tree_hashes,
            tracer=self.tracer,
            crash=crash,
        )
        self.proving = EpochProver(
            self.book,
            prover=self.prover,
            describe="native: for tests",
            settlement=l1,
            facts=l1,
            verdicts=self,
            clock=self.clock,
            tracer=self.tracer,
            crash=crash,
        )
        self.orchestrator = Orchestrator(
            self.book,
            proving=self.proving,
            settlement=l1,
            facts=l1,
            chain_id=CHAIN_ID,
            epoch_blocks=EPOCH_BLOCKS,
            verdicts=self,
            crash=crash,
            settled_level=settled_level,
        )
        self.ended = asyncio.Event()

    def verdict_hash_of(self, height: Height) -> bytes | None:
        return self.verdicts.get(height)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["CertificateHarness"]:
        """Serve within the block; a crash point ends it early and sets `ended`."""
        task: asyncio.Task[None] | None = None
        try:
            task = asyncio.create_task(self._run(await self.book.open()))
            yield self
        finally:
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self.proving.close()
            await self.book.close()

    async def _run(self, open_batches: Sequence[OpenBatch]) -> None:
        try:
            await self.orchestrator.run(open_batches)
        except BaseExceptionGroup as group:
            if group.subgroup(Killed) is None:
                raise
        except Killed:
            pass
        finally:
            self.ended.set()

    def status(self, network: int, height: int) -> CertificateStatus | None:
        """Of an open or the newest final certificate."""
        lane = self.book.lanes[NetworkId(network)]
        entry = lane.at(height)
        if entry is not None:
            return entry.status
        final = lane.final
        return final.header.status if final is not None and height <= final.header.height else None

    def error(self, network: int, height: int) -> str:
        entry = self.book.lanes[NetworkId(network)].at(height)
        return "" if entry is None else entry.row.header.error

    async def until(self, condition: Callable[[], bool]) -> None:
        """Without mining: until something that is under way is through."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition() and not self.ended.is_set():  # noqa: ASYNC110 - any change of any part may fulfil it
                await asyncio.sleep(0.002)
        assert condition() or self.ended.is_set()

    async def is_status(self, network: int, height: int, status: CertificateStatus) -> None:
        await self.until(lambda: self.status(network, height) is status)

    def end_epoch(self) -> None:
        """Mine to the first block of the next epoch."""
        self.l1.mine()
        while self.l1.number % EPOCH_BLOCKS:
            self.l1.mine()

    async def drive(self, condition: Callable[[], bool]) -> None:
        """Mine until the condition holds, or the process is dead."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition() and not self.ended.is_set():
                self.l1.mine()
                for _ in range(10):
                    await asyncio.sleep(0.001)
                    if condition() or self.ended.is_set():
                        return


class Chain(Network):
    """A network of the world that states ranges beside its certificates."""

    def __init__(self, network_id: int) -> None:
        super().__init__(network_id)
        self.range = NO_RANGE

    def empty(self) -> SettledRange:
        return replace(self.range, first_height=Height(self.range.last_height + 1))

    def advance(self, certificate: Certificate, settled: SettledRange | None = None) -> None:
        """Take the certificate for granted; the next one builds on it."""
        if settled is not None:
            self.range = settled
        self.trees = self.trees.applied(certificate)
        self.height += 1  # type: ignore[assignment]
