"""The service as its clients see it: satisfies `nodes.wire.certificates.CertificateView`."""

from collections.abc import AsyncGenerator, Sequence

from nodes.agglayer.book import CertificateBook
from nodes.agglayer.claims import ClaimProver
from nodes.agglayer.orchestrator import Orchestrator
from nodes.agglayer.proving import EpochProver
from nodes.model.agglayer import (
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    GlobalIndex,
    NetworkId,
)
from nodes.model.certificates import EpochConfiguration, NetworkInfo, ProvingStatus
from nodes.ports import ClaimProofs, NetworkProgress


class ServiceView:
    """Puts what several parts know behind one face."""

    def __init__(
        self,
        *,
        book: CertificateBook,
        orchestrator: Orchestrator,
        proving: EpochProver,
        claims: ClaimProver,
        epoch_blocks: int,
    ) -> None:
        self._book = book
        self._orchestrator = orchestrator
        self._proving = proving
        self._claims = claims
        self._epoch_blocks = epoch_blocks

    async def submit_certificate(self, certificate: Certificate, *, body: bytes | None = None) -> CertificateId:
        """As `CertificateView`; the next four as `nodes.ports.CertificateService`."""
        return await self._orchestrator.submit(certificate, body=body)

    async def certificate_header(self, certificate_id: CertificateId) -> CertificateHeader | None:
        """What became of a certificate."""
        return await self._book.header(certificate_id)

    async def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        """A certificate, whole."""
        return await self._book.certificate(network_id, height)

    async def claim_proofs(self, wanted: Sequence[GlobalIndex]) -> ClaimProofs:
        """Proofs against the newest L1 info root."""
        return self._claims.claim_proofs(wanted)

    def follow_network(self, network_id: NetworkId) -> AsyncGenerator[NetworkProgress, None]:
        """Progress as it changes."""
        return self._book.follow(network_id)

    async def latest_header(self, network_id: NetworkId, *, settled: bool) -> CertificateHeader | None:
        """As `CertificateView`, like the rest."""
        return self._book.latest_header(network_id, settled=settled)

    async def network_info(self, network_id: NetworkId) -> NetworkInfo:
        """One network."""
        return await self._book.network_info(network_id)

    async def epoch_configuration(self) -> EpochConfiguration:
        """How epochs are counted."""
        return EpochConfiguration(genesis_block=0, epoch_duration_blocks=self._epoch_blocks)

    async def proving_status(self) -> ProvingStatus:
        """What the prover does."""
        return self._proving.status
