"""The end of an epoch: the next certificate of every network is staged, all are proved as one batch and handed on.

A certificate that the program refuses is put in error with its readable reason and the batch goes on without it. Where
no proof can be had (attesters down) certificates stay pending and the next epoch tries again. Certificates whose batch
L1 has refused once are settled one by one, so that the one at fault stands alone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from nodes.agglayer.batch import Batch, L1Facts, Settlement
from nodes.agglayer.book import CertificateBook, OnItsWay
from nodes.agglayer.lane import Entry, Lane, moved
from nodes.agglayer.provers.backend import ProverNode
from nodes.agglayer.staging import Staged, stage
from nodes.agglayer.standing import Standing, Verdicts, standing_of
from nodes.model.agglayer import Certificate, CertificateStatus
from nodes.model.certificates import ProvingStatus
from nodes.model.errors import ProofFailed, TestbedError
from nodes.model.limits import MAX_MESSAGE_BYTES
from nodes.model.proof_errors import Refusal
from nodes.ports import Proof, ProofProgress
from nodes.rules.network_trees import l1_info_leaf_count
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import EvidenceFound, ProofMade
from nodes.telemetry.tracer import Tracer

L1_INFO_WAIT_BLOCKS = 64
"""L1 blocks that a certificate may wait for the L1 info root it names."""

MAX_BATCH_BYTES = MAX_MESSAGE_BYTES // 2
"""Program inputs of one batch: it travels to attesters in one message."""

_REPLACED = (
    "VerdictReplaced: heights that it speaks of were resolved again in a new epoch; build the certificate from the "
    "heights as they stand now"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Pick:
    """A certificate in a batch that is being made."""

    entry: Entry
    lane: Lane
    staged: Staged


def _batches(picks: Sequence[_Pick]) -> list[list[_Pick]]:
    """As few batches as their size allows; what L1 has refused once is alone."""
    batches: list[list[_Pick]] = []
    alone: list[list[_Pick]] = []
    room = 0
    for pick in picks:
        size = len(pick.staged.proving.program_input) + len(pick.staged.proving.signed_verdict)
        if pick.entry.row.attempts:
            alone.append([pick])
        elif batches and size <= room:
            batches[-1].append(pick)
            room -= size
        else:
            batches.append([pick])
            room = MAX_BATCH_BYTES - size
    return batches + alone


class EpochProver:
    """Makes the batches. The orchestrator calls it at each epoch's end, never twice at a time."""

    def __init__(
        self,
        book: CertificateBook,
        *,
        prover: ProverNode,
        describe: str,
        settlement: Settlement,
        facts: L1Facts,
        verdicts: Verdicts | None,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint,
    ) -> None:
        self._book = book
        self._prover = prover
        self._settlement = settlement
        self._facts = facts
        self._verdicts = verdicts
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="staging")
        self._waiting_since: dict[bytes, int] = {}
        self._idle = ProvingStatus(prover=prover.name, description=describe)
        self.status = self._idle

    def close(self) -> None:
        """Let go of the thread."""
        self._worker.shutdown(wait=False, cancel_futures=True)

    async def end_epoch(self, epoch: int) -> None:
        """Prove and hand on everything that is ready."""
        picked = [await self._pick(self._book.lanes[network_id]) for network_id in sorted(self._book.lanes)]
        for picks in _batches([pick for pick in picked if pick is not None]):
            try:
                await self._prove(picks, epoch)
            finally:
                self.status = self._idle

    # Staging

    async def _pick(self, lane: Lane) -> _Pick | None:
        """The network's next certificate, ready for the prover; None where there is none, or it must wait."""
        async with self._book.turn:
            entry = lane.ready()
            if entry is None:
                return None
            certificate = await self._book.load(entry)
            leaf_count = l1_info_leaf_count(certificate)
            if leaf_count is None:
                leaf_count = self._facts.newest_leaf_count
            l1_info_root = self._facts.l1_info_root(leaf_count)
            standing = standing_of(entry.row.settled_range, self._verdicts)
            if standing is Standing.WAITS:
                return None
            problem = _REPLACED if standing is Standing.REPLACED else ""
            if l1_info_root is None and not problem:
                if not self._has_waited_enough(entry):
                    return None
                problem = (
                    f"L1InfoRootNotFound: L1 has no L1 info root of {leaf_count} leaves, its newest is of "
                    f"{self._facts.newest_leaf_count}; build the certificate anew"
                )
            if problem or l1_info_root is None:
                await self._fail([(entry, problem)])
                return None
            self._waiting_since.pop(entry.row.header.certificate_id, None)
            try:
                staged = await self._stage(lane, entry, certificate, leaf_count, l1_info_root)
            except Refusal as error:
                await self._fail([(entry, f"{type(error).__name__}: {error}")])
                return None
            return _Pick(entry, lane, staged)

    async def _stage(
        self, lane: Lane, entry: Entry, certificate: Certificate, leaf_count: int, l1_info_root: bytes
    ) -> Staged:
        def metered() -> tuple[Staged, int]:
            began_ns = thread_cpu_ns()
            staged = stage(
                certificate,
                entry.row.settled_range,
                network=lane.network,
                params=self._book.params,
                trees=lane.trees_before(entry),
                prev_pessimistic_root=lane.root_before(entry),
                l1_info_tree_leaf_count=leaf_count,
                l1_info_root=l1_info_root,
            )
            return staged, thread_cpu_ns() - began_ns

        staged, used_ns = await asyncio.get_running_loop().run_in_executor(self._worker, metered)
        self._book.stages.add_ns("witness", used_ns)
        return staged

    def _has_waited_enough(self, entry: Entry) -> bool:
        now = self._facts.block_number()
        since = self._waiting_since.setdefault(entry.row.header.certificate_id, now)
        return now - since >= L1_INFO_WAIT_BLOCKS

    # Proving

    async def _prove(self, picks: list[_Pick], epoch: int) -> None:
        batch_id = await self._book.on_disk(self._book.store.next_batch_id)
        began_ns = self._clock.monotonic_ns()
        self._crash("agglayer.before_proof")
        while picks:
            try:
                proof = await self._prover.prove(
                    [pick.staged.proving for pick in picks], self._shows(batch_id, len(picks))
                )
                break
            except ProofFailed as error:
                refused = picks.pop(error.item)
                async with self._book.turn:
                    await self._fail([(refused.entry, f"ProofGenerationError: {error}")])
            except TestbedError as error:
                _log.warning("batch %d of %d certificates has no proof: %s", batch_id, len(picks), error)
                return
        if not picks:
            return
        if proof.statements != tuple(pick.staged.settlement.statement for pick in picks):
            detail = "its public values are not those of the state trees; the proof is thrown away"
            _log.error("prover %s: %s", self._prover.name, detail)
            self._tracer.record(EvidenceFound(accused=f"prover {self._prover.name}", detail=detail))
            return
        self._tracer.record(
            ProofMade(
                prover=proof.kind,
                certificates=len(picks),
                exits=sum(pick.entry.row.exits for pick in picks),
                imports=sum(pick.entry.row.imports for pick in picks),
                duration_ns=self._clock.monotonic_ns() - began_ns,
                modelled_ns=proof.modelled_ns,
            )
        )
        self._crash("agglayer.after_proof")
        await self._hand_on(picks, proof, batch_id=batch_id, epoch=epoch)

    async def _hand_on(self, picks: Sequence[_Pick], proof: Proof, *, batch_id: int, epoch: int) -> None:
        batch = Batch(
            batch_id=batch_id,
            items=tuple(pick.staged.settlement for pick in picks),
            proof=proof.proof,
            proof_kind=proof.kind,
        )
        async with self._book.turn:
            if any(pick.lane.ready() is not pick.entry for pick in picks):
                # What one of them builds on was refused by L1 while the proof was made.
                _log.warning("batch %d is given up: L1 refused what it builds on", batch_id)
                return
            if any(standing_of(pick.entry.row.settled_range, self._verdicts) is not Standing.STANDS for pick in picks):
                # Its certificates are looked at one by one at the end of the next epoch.
                _log.warning("batch %d is given up: heights of it are resolved again", batch_id)
                return
            moves = [
                (
                    pick.entry,
                    replace(
                        moved(pick.entry.row, CertificateStatus.PROVEN),
                        batch_id=batch_id,
                        leaf_count=pick.staged.after.leaf_count,
                        pessimistic_root=pick.staged.settlement.new_pessimistic_root,
                    ),
                )
                for pick in picks
            ]
            await self._book.on_disk(self._book.store.add_batch, batch, epoch=epoch, rows=[row for _, row in moves])
            self._book.batches[batch_id] = OnItsWay(batch)
            for pick in picks:
                pick.entry.after, pick.entry.items = pick.staged.after, pick.staged.items
                pick.lane.proven(pick.entry)
            self._book.accept(moves)
        self._crash("agglayer.after_batch")
        await self.submit(batch)

    async def submit(self, batch: Batch) -> None:
        """Hand a batch to settlement and make its certificates candidates; again after a restart, to no harm."""
        await self._settlement.submit(batch)
        self._crash("agglayer.after_submit")
        async with self._book.turn:
            entries = [self._book.lanes[item.network_id].at(item.certificate_height) for item in batch.items]
            await self._book.move(
                [
                    (entry, moved(entry.row, CertificateStatus.CANDIDATE))
                    for entry in entries
                    if entry is not None
                    and entry.row.batch_id == batch.batch_id
                    and entry.status is CertificateStatus.PROVEN
                ]
            )
        self._crash("agglayer.after_candidate")

    async def _fail(self, failures: Sequence[tuple[Entry, str]]) -> None:
        """Put certificates in error. The caller holds the turn."""
        for entry, reason in failures:
            header = entry.row.header
            _log.warning("certificate %d of network %d: %s", header.height, header.network_id, reason)
            self._waiting_since.pop(header.certificate_id, None)
        await self._book.move(
            [(entry, moved(entry.row, CertificateStatus.IN_ERROR, error=reason)) for entry, reason in failures]
        )

    def _shows(self, batch_id: int, certificates: int) -> Callable[[ProofProgress], None]:
        def show(progress: ProofProgress) -> None:
            self.status = replace(
                self._idle,
                batch_id=batch_id,
                certificates=certificates,
                done=progress.done,
                total=progress.total,
                step=progress.step,
            )

        return show
