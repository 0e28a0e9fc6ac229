"""The life of certificates: Pending, Proven, Candidate, Settled, or InError.

Every network's certificates are settled strictly in order of height. At the end of an epoch (so many L1 blocks) the
next certificate of each network is proved, all of them as one batch (`nodes.agglayer.proving`). The next certificate
of a network may be proved while the one before is on its way to L1; if L1 refuses that one, both wait again.

A certificate is Candidate once settlement has its batch durably, and Settled once the settlement is in an L1 block of
the configured level; by default the latest, since slots of a testbed are short. A reorg of L1 makes it Candidate again.

Everything that moves is written before anybody hears of it, so that a service that was killed goes on where it was: a
certificate that waited is proved again, a batch that was proved is handed to settlement again under the same number.
It does not know how proofs are made, nor how L1 is written to.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace

from nodes.agglayer.admission import check_height, check_replaceable, check_signature, checked_range, network_of
from nodes.agglayer.batch import (
    L1Facts,
    L1Level,
    Settlement,
    SettlementEvent,
    SettlementFinal,
    SettlementIncluded,
    SettlementReorged,
    SettlementReverted,
)
from nodes.agglayer.book import CertificateBook, OnItsWay
from nodes.agglayer.lane import Entry, Lane, moved
from nodes.agglayer.proving import EpochProver
from nodes.agglayer.standing import Standing, Verdicts, standing_of
from nodes.agglayer.store import OpenBatch, StoredCertificate
from nodes.model.agglayer import Certificate, CertificateHeader, CertificateId, CertificateStatus, SettledRange
from nodes.model.errors import CertificateRefused, Overloaded, RefusalKind, UnknownName
from nodes.rules.certificate import certificate_id
from nodes.telemetry.crash import CrashPoint
from nodes.wire.streams import closing

UNSETTLED = frozenset({CertificateStatus.PROVEN, CertificateStatus.CANDIDATE})
MAX_WAITING = 32
"""Certificates of one network that are not final."""
MAX_ATTEMPTS = 2
"""Settlements that L1 may refuse before a certificate is in error."""
RETRY_AFTER_MS = 1_000

_log = logging.getLogger(__name__)


class Orchestrator:
    """Takes certificates and moves them. `run` owns it until it is cancelled."""

    def __init__(
        self,
        book: CertificateBook,
        *,
        proving: EpochProver,
        settlement: Settlement,
        facts: L1Facts,
        chain_id: bytes,
        epoch_blocks: int,
        verdicts: Verdicts | None,
        crash: CrashPoint,
        settled_level: L1Level = L1Level.LATEST,
    ) -> None:
        """`chain_id` is the sequencer chain's: verdicts are signed for it."""
        self._book = book
        self._proving = proving
        self._settlement = settlement
        self._facts = facts
        self._chain_id = chain_id
        self._epoch_blocks = epoch_blocks
        self._verdicts = verdicts
        self._crash = crash
        self._settled_level = settled_level
        self._epoch: int | None = None
        self._epoch_ended = asyncio.Event()

    @property
    def epoch(self) -> int:
        """The present epoch."""
        return self._facts.block_number() // self._epoch_blocks

    async def run(self, open_batches: Sequence[OpenBatch]) -> None:
        """Take up where the store ends, then serve epochs and settlement until cancelled."""
        await self._resume()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_settlement(), name="settlement events")
            group.create_task(self._follow_l1(), name="L1 epochs")
            group.create_task(self._serve_epochs(open_batches), name="epochs")

    async def _resume(self) -> None:
        """A certificate that is proven without a batch is proved again."""
        async with self._book.turn:
            lost = [
                (entry, moved(entry.row, CertificateStatus.PENDING))
                for lane in self._book.lanes.values()
                for entry in lane.open
                if entry.status is CertificateStatus.PROVEN and entry.row.batch_id is None
            ]
            await self._book.move(lost)

    def standing(self, batch_id: int) -> Standing:
        """Whether a batch still speaks of heights as they stand; settlement asks before it signs anything."""
        known = self._book.batches.get(batch_id)
        found = (
            {standing_of(entry.row.settled_range, self._verdicts) for entry in self._entries(known)}
            if known is not None
            else ()
        )
        return next((worse for worse in (Standing.REPLACED, Standing.WAITS) if worse in found), Standing.STANDS)

    # Submission

    async def submit(self, certificate: Certificate, *, body: bytes | None = None) -> CertificateId:
        """As `CertificateService.submit_certificate`; `body` is the certificate as a message, where it came as one.

        Raises CertificateRefused, Overloaded.
        """
        submitted = CertificateId(await self._book.on_disk(certificate_id, certificate))
        try:
            network = network_of(self._book.params, certificate.network_id)
        except UnknownName as error:
            raise CertificateRefused(str(error), kind=RefusalKind.INVALID_DATA) from error
        await self._book.on_disk(check_signature, certificate, submitted, network=network, params=self._book.params)
        async with self._book.turn:
            lane = self._book.lane(certificate.network_id)
            standing = self._standing(lane, certificate)
            if standing is not None:
                if standing.header.certificate_id == submitted and self._is_repeated(standing.header):
                    return submitted
                self._check_replaceable(submitted, standing)
            elif len(lane.open) >= MAX_WAITING:
                raise Overloaded(
                    f"network {certificate.network_id} has {len(lane.open)} certificates that are not final",
                    retry_after_ms=RETRY_AFTER_MS,
                )
            tip = lane.tip(None if standing is None else certificate.height)
            check_height(certificate, tip)
            settled_range = await self._book.on_disk(
                checked_range,
                certificate,
                submitted,
                network=network,
                params=self._book.params,
                previous=tip.settled_range,
                chain_id=self._chain_id,
            )
            entry = _entry_of(certificate, submitted, settled_range)
            self._check_stands(entry.row)
            await self._book.put(entry, body)
            self._crash("agglayer.after_certificate")
        return submitted

    def _standing(self, lane: Lane, certificate: Certificate) -> StoredCertificate | None:
        entry = lane.at(certificate.height)
        if entry is not None:
            return entry.row
        final = lane.final
        return final if final is not None and final.header.height == certificate.height else None

    def _is_repeated(self, header: CertificateHeader) -> bool:
        """The same certificate again, as a client sends it that missed the answer. One in error is tried anew."""
        return header.status not in {CertificateStatus.IN_ERROR, CertificateStatus.SETTLED}

    def _check_replaceable(self, submitted: CertificateId, standing: StoredCertificate) -> None:
        on_its_way = standing.batch_id in self._book.batches
        check_replaceable(submitted, standing.header, settlement="in flight" if on_its_way else "")

    def _check_stands(self, row: StoredCertificate) -> None:
        """What was replaced is told at once; what is being resolved again is taken, and waits."""
        if standing_of(row.settled_range, self._verdicts) is not Standing.REPLACED:
            return
        header, last = row.header, row.settled_range.last_height
        raise CertificateRefused(
            f"certificate {header.height} of network {header.network_id}, up to height {last}, speaks of heights as "
            "they were before a new epoch began; build it from the heights as they stand now",
            kind=RefusalKind.INVALID_DATA,
        )

    # Epochs

    async def _follow_l1(self) -> None:
        async with closing(self._facts.changes()) as changes:
            async for change in changes:
                self._book.l1_info_tree_leaf_count = change.newest_leaf_count
                self._book.tell_all()
                epoch = change.block_number // self._epoch_blocks
                if self._epoch is not None and epoch > self._epoch:
                    self._epoch_ended.set()
                self._epoch = epoch
                await self._settle_included()

    async def _serve_epochs(self, open_batches: Sequence[OpenBatch]) -> None:
        # Known to settlement or not: it takes a batch once.
        for known in open_batches:
            await self._proving.submit(known.batch)
        while True:
            await self._epoch_ended.wait()
            self._epoch_ended.clear()
            await self._proving.end_epoch(self.epoch)

    # Settlement

    async def _follow_settlement(self) -> None:
        async with closing(self._settlement.events()) as events:
            async for event in events:
                async with self._book.turn:
                    await self._take(event)

    async def _take(self, event: SettlementEvent) -> None:
        known = self._book.batches.get(event.batch_id)
        if known is None:
            return  # it is over here; settlement tells its end again after a restart
        match event:
            case SettlementIncluded():
                known.included = event
                await self._settle(known)
            case SettlementReorged():
                known.included = None
                await self._give_back(known)
            case SettlementReverted():
                await self._refuse(known, event.reason)
            case SettlementFinal():
                known.included = SettlementIncluded(
                    batch_id=event.batch_id, tx_hash=event.tx_hash, l1_block=event.l1_block, gas_used=event.gas_used
                )
                await self._settle(known, is_final=True)
                await self._finish(known)
        self._crash("agglayer.after_event")

    async def _settle_included(self) -> None:
        """The head of the level has risen: it may hold settlements that were too young before."""
        if self._settled_level is L1Level.LATEST:
            return
        async with self._book.turn:
            for known in list(self._book.batches.values()):
                await self._settle(known)

    async def _settle(self, known: OnItsWay, *, is_final: bool = False) -> None:
        included = known.included
        if included is None or (not is_final and self._facts.block_number(self._settled_level) < included.l1_block):
            return
        entries = [entry for entry in self._entries(known) if entry.status in UNSETTLED]
        if not entries:
            return
        epoch = included.l1_block // self._epoch_blocks
        first = await self._book.on_disk(self._book.store.settled_in_epoch, epoch)
        await self._book.move(
            [
                (
                    entry,
                    moved(
                        entry.row,
                        CertificateStatus.SETTLED,
                        epoch_number=epoch,
                        certificate_index=index,
                        settlement_tx_hash=included.tx_hash,
                    ),
                )
                for index, entry in enumerate(entries, first)
            ]
        )

    async def _give_back(self, known: OnItsWay) -> None:
        """A reorg of L1 took the settlement back; it is on its way again."""
        await self._book.move(
            [
                (
                    entry,
                    moved(
                        entry.row,
                        CertificateStatus.CANDIDATE,
                        epoch_number=None,
                        certificate_index=None,
                        settlement_tx_hash=b"",
                    ),
                )
                for entry in self._entries(known)
                if entry.status is CertificateStatus.SETTLED
            ]
        )

    async def _refuse(self, known: OnItsWay, reason: str) -> None:
        """L1 refused the batch. Its certificates are tried once more, each alone, then they are in error.

        One that was given up because heights were resolved again is not counted: its certificates are not at fault.
        """
        moves, is_counted = [], self.standing(known.batch.batch_id) is not Standing.REPLACED
        for entry in self._entries(known):
            lane = self._book.lanes[entry.row.header.network_id]
            # Where the certificate before was refused too, this one had no chance and is not at fault.
            attempts = entry.row.attempts + (is_counted and lane.stands_on_settled(entry))
            row = moved(entry.row, CertificateStatus.PENDING)
            if attempts >= MAX_ATTEMPTS:
                row = moved(entry.row, CertificateStatus.IN_ERROR, error=f"SettlementError: {reason}")
            moves.append(
                (entry, replace(row, attempts=attempts, batch_id=None, leaf_count=None, pessimistic_root=None))
            )
        batch_id = known.batch.batch_id
        _log.warning("L1 refused batch %d: %s", batch_id, reason)
        await self._book.on_disk(self._book.store.refuse_batch, batch_id, [row for _, row in moves])
        for entry, _ in moves:
            self._book.lanes[entry.row.header.network_id].taken_back(entry)
        del self._book.batches[batch_id]
        self._book.accept(moves)

    async def _finish(self, known: OnItsWay) -> None:
        """The settlement is final: the trees move, and nothing takes them back."""
        entries = self._entries(known)
        rows = [replace(entry.row, is_final=True) for entry in entries]
        items = [entry.items for entry in entries if entry.items is not None]
        assert len(items) == len(entries), "what is on its way was applied"
        batch_id = known.batch.batch_id
        await self._book.on_disk(self._book.store.finish_batch, batch_id, rows, items)
        del self._book.batches[batch_id]
        for entry, row in zip(entries, rows):
            entry.row = row
            self._book.lanes[row.header.network_id].finish(entry)
            self._book.tell(row.header.network_id)

    def _entries(self, known: OnItsWay) -> list[Entry]:
        """The batch's certificates; in its order, ascending by network."""
        entries = [self._book.lanes[item.network_id].at(item.certificate_height) for item in known.batch.items]
        return [entry for entry in entries if entry is not None and entry.row.batch_id == known.batch.batch_id]


def _entry_of(certificate: Certificate, submitted: CertificateId, settled_range: SettledRange) -> Entry:
    header = CertificateHeader(
        network_id=certificate.network_id,
        height=certificate.height,
        certificate_id=submitted,
        prev_local_exit_root=certificate.prev_local_exit_root,
        new_local_exit_root=certificate.new_local_exit_root,
        metadata=certificate.metadata,
        status=CertificateStatus.PENDING,
    )
    row = StoredCertificate(
        header=header,
        settled_range=settled_range,
        exits=len(certificate.bridge_exits),
        imports=len(certificate.imported_bridge_exits),
    )
    return Entry(row, certificate)
