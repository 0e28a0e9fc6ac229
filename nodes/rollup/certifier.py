"""Sends a rollup's certificates of its safe heights and follows what becomes of them.

One certificate at a time: the next is built once the one before is settled, so its imports can be proven against the
newest roots and a refused one blocks nothing but itself. What goes in is the matter of `certifier_build`. A certificate
is given up only after it was refused or fell into error. Where it is not known whether it arrived, the same bytes are
sent again: one that was given up and arrives later would stand in the way of every other. The aggregation layer is
known as `nodes.ports.CertificateService` only.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from coincurve import PrivateKey

from nodes.model.agglayer import Certificate, CertificateHeader, CertificateHeight, CertificateStatus, NetworkId
from nodes.model.bridge_activity import SafeHeight
from nodes.model.config import RollupAgglayerConfig
from nodes.model.errors import CertificateRefused, InvalidInput, RefusalKind, TestbedError
from nodes.model.ids import Height
from nodes.model.promises import OutcomeEvidence
from nodes.ports import CertificateService, NetworkProgress
from nodes.rollup.certifier_build import Built, CertificateBuilder
from nodes.rollup.certifier_store import CertificateRow, CertifierStore
from nodes.rules.outcomes import outcome_proof
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import CertificateBuilt, ReaderStalled
from nodes.telemetry.tracer import Tracer
from nodes.wire.certificate_messages import certificate_from_bytes
from nodes.wire.streams import closing

RECONNECT_S = 0.2
REFUSED_PAUSE_S = 2.0
"""Before a certificate that was refused is built anew."""
STALL_SOURCE = "certificates"
"""How the trace names what is waited for."""

RunBeside = Callable[[Callable[[], Built | None]], Awaitable[Built | None]]
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


async def in_thread(work: Callable[[], Result]) -> Result:
    """Run work of some hundred milliseconds beside the loop, which goes on executing. It ends before this does."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])  # a thread cannot be cancelled, and the store is closed next
        raise


class RollupCertifier:
    """Satisfies `nodes.rollup.safe_heights.Certifier`."""

    def __init__(
        self,
        config: RollupAgglayerConfig,
        *,
        network_id: NetworkId,
        directory: Path,
        service: CertificateService,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
        run_beside: RunBeside = in_thread,
    ) -> None:
        """`directory` is the node's own, and exists. Raises InvalidInput where a file in it has another format.

        `run_beside` runs the building of a certificate, which may take half a second.
        """
        self._config = config
        self._network_id = network_id
        self._service = service
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._run_beside = run_beside
        self._store = CertifierStore(directory / "certifier.sqlite")
        self._builder = CertificateBuilder(
            self._store,
            network_id=network_id,
            signers=[
                PrivateKey(bytes.fromhex(key.removeprefix("0x")))
                for key in (config.signer_key, *config.co_signer_keys)[: config.params.signer_threshold]
            ],
            max_exits=config.max_exits,
        )
        self._incoming: list[SafeHeight] = []
        self._progress: NetworkProgress | None = None
        self._changed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._refusal = self._said = ""
        self.final_height = Height(0)
        """Sequenced height up to which this rollup's settlement is final on L1."""
        self.on_final: Callable[[Height], None] = _ignore
        """Called with `final_height` whenever it rises."""
        self.stalled = ""
        """Why something is not settled although it should be; empty while that is not so."""
        self._look()

    # What the node calls.

    @property
    def have_height(self) -> Height:
        """The newest height that is durable here."""
        return self._store.height

    def safe(self, height: SafeHeight) -> None:
        """Take the next safe height; it is written in the next turn of `run`."""
        self._incoming.append(height)
        self._changed.set()

    def epoch_began(self, epoch: int, height: Height) -> None:
        """Heights from `height` on are void, durably when this returns. Idempotent."""
        self._keep_incoming()
        self._store.begin_epoch(epoch, height)
        self._look()
        self._changed.set()

    def outcome_proof(self, bundle_hash: bytes, leg_index: int, height: Height) -> OutcomeEvidence | None:
        """The fate of a leg at a height, proved in the range of its certificate; None where no certificate has it."""
        row = self._store.certificate_of(height)
        if row is None:
            return None
        outcomes = self._store.outcomes(row.first_height, row.last_height)
        for position, outcome in enumerate(outcomes):
            if (outcome.bundle_hash, outcome.leg_index, outcome.height) == (bundle_hash, leg_index, height):
                return OutcomeEvidence(
                    outcome=outcome,
                    position=position,
                    siblings=outcome_proof(outcomes, position),
                    first_height=row.first_height,
                    last_height=row.last_height,
                )
        return None

    def stop(self) -> None:
        """Let `run` return soon. Idempotent."""
        self._stopping.set()
        self._changed.set()

    async def run(self) -> None:
        """Certify until `stop`."""
        try:
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follow())
                await self._work()
                following.cancel()
        finally:
            self._keep_incoming()
            self._store.close()

    # Following.

    async def _follow(self) -> None:
        while True:
            try:
                async with closing(self._service.follow_network(self._network_id)) as changes:
                    async for progress in changes:
                        self._progress = progress
                        self._changed.set()
                        if progress.final_height > self.final_height:
                            self.final_height = Height(progress.final_height)
                            self.on_final(self.final_height)
            except TestbedError as error:
                _log.info("network %d waits for the aggregation layer: %s", self._network_id, error)
            await asyncio.sleep(RECONNECT_S)

    async def _work(self) -> None:
        while not self._stopping.is_set():
            await self._changed.wait()
            self._changed.clear()
            self._keep_incoming()
            if self._stopping.is_set() or self._progress is None:
                continue
            interval_s = self._config.certificate_interval_s
            try:
                sent = await self._certify(self._progress)
                # Heights come many times a second, and each would ask for proofs again.
                self._refusal, pause_s = "", interval_s if sent else min(interval_s, RECONNECT_S)
            except InvalidInput as error:
                _log.warning("network %d: certificate refused: %s", self._network_id, error)
                self._refusal, pause_s = str(error), REFUSED_PAUSE_S
                self._changed.set()
            except TestbedError as error:
                _log.info("network %d: %s", self._network_id, error)
                pause_s = RECONNECT_S
                self._changed.set()
            self._look()
            if pause_s:
                await self._pause(pause_s)

    async def _pause(self, seconds: float) -> None:
        """Wait, but take in what is delivered meanwhile and end at once with `stop`."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            self._keep_incoming()

    def _keep_incoming(self) -> None:
        if self._incoming:
            heights, self._incoming = self._incoming, []
            self._store.add(heights)

    def _look(self) -> None:
        """Say what is wrong, once where it stays the same."""
        contested, flaw = self._store.contested, self._store.flaw
        reasons = [
            f"{contested}; nothing more is settled unless that certificate falls into error" if contested else "",
            self._builder.shortage,
            f"{flaw}; it is left out, and no range reaches its height" if flaw else "",
        ]
        said, self._said = self._said, "; ".join(filter(None, reasons))
        refused = f"the last certificate did not stand: {self._refusal}" if self._refusal else ""
        self.stalled = "; ".join(filter(None, [self._said, refused]))
        if self._said and self._said != said:  # the trace has what became of certificates anyway
            _log.warning("network %d: %s", self._network_id, self._said)
            self._tracer.record(ReaderStalled(height=self._store.height, reason=self._said, source=STALL_SOURCE))

    # One certificate.

    async def _certify(self, progress: NetworkProgress) -> bool:
        """Build and send the next certificate if it is time and there is something to settle; whether one was sent."""
        last = self._store.last_certificate()
        if last is not None and not await self._is_over(last, progress):
            return False
        if self._store.contested:
            return False
        epoch, wanted = self._store.epoch, self._builder.wanted()
        proofs = await self._service.claim_proofs([entry.global_index for entry in wanted]) if wanted else None
        self._keep_incoming()
        if self._store.epoch != epoch or self._store.contested:
            self._changed.set()  # what was asked for is not what stands now
            return False
        built = await self._run_beside(partial(self._builder.build, wanted, proofs))
        self._builder.note_flaws()
        if self._store.epoch != epoch or self._store.contested:
            self._changed.set()  # what was built on is not what stands now
            return False
        if built is None:
            return False
        built.keep(self._store)
        self._crash("certifier.after_journal")
        self._trace(built)
        await self._send(built.row, built.certificate)
        return True

    def _trace(self, built: Built) -> None:
        row = built.row
        self._tracer.record(
            CertificateBuilt(
                network_id=self._network_id,
                certificate_height=row.height,
                certificate_id=row.id,
                first_height=row.first_height,
                last_height=row.last_height,
                exits=len(built.certificate.bridge_exits),
                imports=len(built.imports),
                imported_bundles=tuple([entry.bundle_hash for entry in built.imports if entry.bundle_hash is not None]),
            )
        )

    async def _send(self, row: CertificateRow, certificate: Certificate) -> None:
        """Hand in a certificate that is kept. Raises InvalidInput once it is refused and given up."""
        try:
            await self._service.submit_certificate(certificate)
        except CertificateRefused as error:
            self._store.drop_certificates(row.height)
            if error.kind != RefusalKind.UNABLE_TO_REPLACE_PENDING_CERTIFICATE or not await self._take_back(row.height):
                raise
        except InvalidInput:
            self._store.drop_certificates(row.height)
            raise
        # Every other error leaves open whether it arrived: it stays, and is sent again unless the service has it.
        self._crash("certifier.after_submit")

    async def _take_back(self, height: CertificateHeight) -> bool:
        """Whether the certificate that stands at a height is one of this rollup's own, and is the newest here now.

        It may be the very one that was refused: what arrived late, and was sent again meanwhile.
        """
        standing = await self._service.certificate(self._network_id, height)
        built = None if standing is None else self._builder.standing(standing)
        if built is None:
            return False
        built.keep(self._store)
        self._changed.set()
        return True

    async def _is_over(self, last: CertificateRow, progress: NetworkProgress) -> bool:
        """Whether the newest certificate is settled. One that is not known yet is sent again, as it was.

        Raises InvalidInput where it, or one below it, is in error: that and all above are given up.
        """
        header = await self._header(last, progress)
        if header is None:
            await self._send_again(last)
            return False
        if header.status is CertificateStatus.SETTLED:
            return True
        lowest = await self._lowest_in_error(progress)
        if lowest is None:
            return False
        self._store.drop_certificates(lowest.height)
        raise InvalidInput(f"certificate {lowest.height} is in error: {lowest.error}")

    async def _send_again(self, row: CertificateRow) -> None:
        body = self._store.body(row.height)
        if not body:
            # It stood at the service once, which has lost it since.
            self._store.drop_certificates(row.height)
            raise InvalidInput(f"certificate {row.height} is not known any more")
        await self._send(row, certificate_from_bytes(body))

    async def _lowest_in_error(self, progress: NetworkProgress) -> CertificateHeader | None:
        """Of those that are not settled: a reorg of L1 can put one into error that others were built on."""
        settled = -1 if progress.settled is None else progress.settled.height
        last, lowest = self._store.last_certificate(), None
        for height in range(-1 if last is None else last.height, settled, -1):
            row = self._store.certificate(CertificateHeight(height))
            header = None if row is None else await self._header(row, progress)
            if header is None or header.status is CertificateStatus.SETTLED:
                break
            if header.status is CertificateStatus.IN_ERROR:
                lowest = header
        return lowest

    async def _header(self, row: CertificateRow, progress: NetworkProgress) -> CertificateHeader | None:
        latest = progress.latest
        # Ids leave out ranges, so one that was built anew may have the id of the one that was in error before.
        is_error = latest is not None and latest.status is CertificateStatus.IN_ERROR
        if latest is not None and latest.certificate_id == row.id and not is_error:
            return latest
        return await self._service.certificate_header(row.id)


def _ignore(_height: Height) -> None:
    """Nobody asked."""
