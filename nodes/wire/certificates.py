"""Certificate submission and node state in AggLayer's shape, the Claims service beside them, and one client for all.

Knows no rule: what a certificate must fulfil is `nodes.agglayer.orchestrator`. Refusals carry AggLayer's own error
details (google.rpc.ErrorInfo with its reasons and domains) beside ours, so that its clients read them.

Certificates and claims are converted in a thread: 200 imports take some 10 ms, during which verdicts and blocks that
share the loop would wait.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from nodes.model.agglayer import (
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    GlobalIndex,
    NetworkId,
)
from nodes.model.certificates import EpochConfiguration, NetworkInfo, ProvingStatus
from nodes.model.errors import CertificateRefused, InvalidInput, LimitExceeded, TestbedError, UnknownName
from nodes.model.ids import hex_of
from nodes.ports import CertificateService, ClaimProofs, NetworkProgress
from nodes.rules.certificate import certificate_id
from nodes.wire.certificate_messages import certificate_from_proto, certificate_to_proto
from nodes.wire.certificate_states import (
    certificate_id_from_proto,
    certificate_id_to_proto,
    claim_proofs_from_proto,
    claim_proofs_to_proto,
    epoch_configuration_from_proto,
    epoch_configuration_to_proto,
    global_indexes_from_column,
    global_indexes_to_column,
    header_from_proto,
    header_to_proto,
    network_info_to_proto,
    progress_from_proto,
    progress_to_proto,
    proving_status_from_proto,
    proving_status_to_proto,
)
from nodes.wire.client import Client
from nodes.wire.status import Metadata, status_of
from nodes.wire.streams import closing
from protos.agglayer.node.v1 import node_pb2, node_pb2_grpc
from protos.lockstep.agglayer.v1 import claims_pb2, claims_pb2_grpc

MAX_CLAIMS_PER_CALL = 4_096
SUBMIT_CERTIFICATE_DEADLINE_S = 30.0
"""A certificate of thousands of exits is checked and written before it is acknowledged."""
STATUS_DETAILS_KEY = "grpc-status-details-bin"

_SUBMISSION_DOMAIN = "agglayer-node.grpc-api.v1.certificate-submission-service.submit_certificate"
_STATE_DOMAIN = "agglayer-node.grpc-api.v1.node-state-service."
_KINDS_WITH_PREFIX = "SUBMIT_CERTIFICATE_ERROR_KIND_"


class CertificateView(CertificateService, Protocol):
    """What the certificate services are served from."""

    async def submit_certificate(self, certificate: Certificate, *, body: bytes | None = None) -> CertificateId:
        """As the port; `body` is the certificate's message as it came, for a store."""
        ...

    async def latest_header(self, network_id: NetworkId, *, settled: bool) -> CertificateHeader | None:
        """The newest settled certificate, or the newest that is not settled. Raises UnknownName for the network."""
        ...

    async def network_info(self, network_id: NetworkId) -> NetworkInfo:
        """One network. Raises UnknownName."""
        ...

    async def epoch_configuration(self) -> EpochConfiguration:
        """How epochs are counted."""
        ...

    async def proving_status(self) -> ProvingStatus:
        """What the prover does."""
        ...


class CertificateSubmissionServicer(node_pb2_grpc.CertificateSubmissionServiceServicer):
    """`agglayer.node.v1.CertificateSubmissionService`."""

    def __init__(self, view: CertificateView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        node_pb2_grpc.add_CertificateSubmissionServiceServicer_to_server(self, server)

    async def SubmitCertificate(  # noqa: N802
        self, request: node_pb2.SubmitCertificateRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.SubmitCertificateResponse:
        """Take a certificate."""
        facts = {"network_id": str(request.certificate.network_id), "height": str(request.certificate.height)}
        try:
            if not request.HasField("certificate"):
                raise CertificateRefused("certificate is missing", kind="MISSING_FIELD")
            certificate = await asyncio.to_thread(certificate_from_proto, request.certificate)
            taken = await self._view.submit_certificate(certificate, body=request.certificate.SerializeToString())
        except CertificateRefused as error:
            if error.stored_certificate_id:
                facts["stored_certificate_id"] = error.stored_certificate_id
                facts["replacement_certificate_id"] = hex_of(
                    certificate_id(certificate_from_proto(request.certificate))
                )
            reason = _KINDS_WITH_PREFIX + error.kind
            await _abort(context, error, reason=reason, domain=_SUBMISSION_DOMAIN, facts=facts)
        return node_pb2.SubmitCertificateResponse(certificate_id=certificate_id_to_proto(taken))


class NodeStateServicer(node_pb2_grpc.NodeStateServiceServicer):
    """`agglayer.node.v1.NodeStateService`."""

    def __init__(self, view: CertificateView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        node_pb2_grpc.add_NodeStateServiceServicer_to_server(self, server)

    async def GetCertificateHeader(  # noqa: N802
        self, request: node_pb2.GetCertificateHeaderRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.GetCertificateHeaderResponse:
        """Answer the header of a certificate."""
        domain, prefix = _STATE_DOMAIN + "get_certificate_header", "GET_CERTIFICATE_HEADER_ERROR_KIND_"
        try:
            wanted = certificate_id_from_proto(request)
        except CertificateRefused as error:
            await _abort(context, error, reason=prefix + error.kind, domain=domain)
        header = await self._view.certificate_header(wanted)
        if header is None:
            unknown = UnknownName(kind="certificate", name="0x" + wanted.hex(), known=())
            await _abort(context, unknown, reason=prefix + "NOT_FOUND", domain=domain)
        return node_pb2.GetCertificateHeaderResponse(certificate_header=header_to_proto(header))

    async def GetLatestCertificateHeader(  # noqa: N802
        self, request: node_pb2.GetLatestCertificateHeaderRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.GetLatestCertificateHeaderResponse:
        """Answer the newest header of a network."""
        domain, prefix = _STATE_DOMAIN + "get_latest_certificate_header", "GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_"
        network_id = NetworkId(request.network_id)
        if request.type not in {
            node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_PENDING,
            node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_SETTLED,
        }:
            problem = InvalidInput(f"type is {request.type}; it must be 1 (pending) or 2 (settled)")
            await _abort(context, problem, reason=prefix + "INVALID_DATA", domain=domain)
        settled = request.type == node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_SETTLED
        try:
            header = await self._view.latest_header(network_id, settled=settled)
        except UnknownName as error:
            await _abort(context, error, reason=prefix + "NOT_FOUND", domain=domain)
        if header is None:
            kind = "settled certificate of network" if settled else "pending certificate of network"
            unknown = UnknownName(kind=kind, name=str(network_id), known=())
            await _abort(context, unknown, reason=prefix + "NOT_FOUND", domain=domain)
        return node_pb2.GetLatestCertificateHeaderResponse(certificate_header=header_to_proto(header))

    async def GetNetworkInfo(  # noqa: N802
        self, request: node_pb2.GetNetworkInfoRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.GetNetworkInfoResponse:
        """Answer what is known of a network."""
        try:
            info = await self._view.network_info(NetworkId(request.network_id))
        except UnknownName as error:
            domain, prefix = _STATE_DOMAIN + "get_network_info", "GET_NETWORK_INFO_ERROR_KIND_"
            await _abort(context, error, reason=prefix + "INVALID_NETWORK_ID", domain=domain)
        return node_pb2.GetNetworkInfoResponse(network_info=network_info_to_proto(info))


class ConfigurationServicer(node_pb2_grpc.ConfigurationServiceServicer):
    """`agglayer.node.v1.ConfigurationService`."""

    def __init__(self, view: CertificateView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        node_pb2_grpc.add_ConfigurationServiceServicer_to_server(self, server)

    async def GetEpochConfiguration(  # noqa: N802
        self, _request: node_pb2.GetEpochConfigurationRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> node_pb2.GetEpochConfigurationResponse:
        """Answer how epochs are counted."""
        configuration = await self._view.epoch_configuration()
        return node_pb2.GetEpochConfigurationResponse(epoch_configuration=epoch_configuration_to_proto(configuration))


class ClaimsServicer(claims_pb2_grpc.ClaimsServicer):
    """`lockstep.agglayer.v1.Claims`."""

    def __init__(self, view: CertificateView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        claims_pb2_grpc.add_ClaimsServicer_to_server(self, server)

    async def GetClaimProofs(  # noqa: N802
        self, request: claims_pb2.GetClaimProofsRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> claims_pb2.GetClaimProofsResponse:
        """Answer proofs of exits that are under a root on L1."""
        wanted = global_indexes_from_column(request.global_indexes)
        _check_claims(len(wanted))
        return await asyncio.to_thread(claim_proofs_to_proto, await self._view.claim_proofs(wanted))

    async def GetCertificate(  # noqa: N802
        self, request: claims_pb2.GetCertificateRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> claims_pb2.GetCertificateResponse:
        """Answer a whole certificate."""
        found = await self._view.certificate(NetworkId(request.network_id), CertificateHeight(request.height))
        if found is None:
            return claims_pb2.GetCertificateResponse()
        return claims_pb2.GetCertificateResponse(certificate=await asyncio.to_thread(certificate_to_proto, found))

    async def FollowNetwork(  # noqa: N802
        self, request: claims_pb2.FollowNetworkRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write a network's progress as it changes."""
        async with closing(self._view.follow_network(NetworkId(request.network_id))) as changes:
            async for progress in changes:
                await context.write(progress_to_proto(progress))

    async def GetProvingStatus(  # noqa: N802
        self, _request: claims_pb2.GetProvingStatusRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> claims_pb2.GetProvingStatusResponse:
        """Answer what the prover does."""
        return proving_status_to_proto(await self._view.proving_status())


class CertificateClient(Client):
    """The aggregation layer somewhere else; satisfies `nodes.ports.CertificateService`. Raises Unavailable."""

    def _make_stub(self, metered: Any) -> "_Stubs":
        return _Stubs(metered)

    async def submit_certificate(self, certificate: Certificate) -> CertificateId:
        """As the port. Raises CertificateRefused."""
        message = await asyncio.to_thread(certificate_to_proto, certificate)
        request = node_pb2.SubmitCertificateRequest(certificate=message)
        answer = await self._call("SubmitCertificate", request, timeout_s=SUBMIT_CERTIFICATE_DEADLINE_S)
        return certificate_id_from_proto(answer)

    async def certificate_header(self, certificate_id: CertificateId) -> CertificateHeader | None:
        """As the port."""
        request = node_pb2.GetCertificateHeaderRequest(certificate_id=certificate_id_to_proto(certificate_id))
        try:
            answer = await self._call("GetCertificateHeader", request)
        except UnknownName:
            return None
        return header_from_proto(answer.certificate_header)

    async def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        """As the port."""
        request = claims_pb2.GetCertificateRequest(network_id=network_id, height=height)
        answer = await self._call("GetCertificate", request)
        if not answer.HasField("certificate"):
            return None
        return await asyncio.to_thread(certificate_from_proto, answer.certificate)

    async def claim_proofs(self, wanted: Sequence[GlobalIndex]) -> ClaimProofs:
        """As the port. Raises LimitExceeded above MAX_CLAIMS_PER_CALL."""
        _check_claims(len(wanted))
        request = claims_pb2.GetClaimProofsRequest(global_indexes=global_indexes_to_column(wanted))
        return await asyncio.to_thread(claim_proofs_from_proto, await self._call("GetClaimProofs", request))

    async def follow_network(self, network_id: NetworkId) -> AsyncGenerator[NetworkProgress, None]:
        """As the port; ends when the service stops in order."""
        request = claims_pb2.FollowNetworkRequest(network_id=network_id)
        async with aclosing(self._stream("FollowNetwork", request)) as messages:
            async for message in messages:
                yield progress_from_proto(message)

    async def latest_header(self, network_id: NetworkId, *, settled: bool) -> CertificateHeader | None:
        """The newest settled certificate, or the newest that is not settled; None where there is none."""
        kind = (
            node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_SETTLED
            if settled
            else node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_PENDING
        )
        request = node_pb2.GetLatestCertificateHeaderRequest(type=kind, network_id=network_id)
        try:
            answer = await self._call("GetLatestCertificateHeader", request)
        except UnknownName:
            return None
        return header_from_proto(answer.certificate_header)

    async def epoch_configuration(self) -> EpochConfiguration:
        """How epochs are counted."""
        answer = await self._call("GetEpochConfiguration", node_pb2.GetEpochConfigurationRequest())
        return epoch_configuration_from_proto(answer.epoch_configuration)

    async def proving_status(self) -> ProvingStatus:
        """What the prover does."""
        return proving_status_from_proto(await self._call("GetProvingStatus", claims_pb2.GetProvingStatusRequest()))


class _Stubs:
    """The methods of four services over one channel; their names do not clash."""

    def __init__(self, metered: Any) -> None:
        stubs = (
            node_pb2_grpc.CertificateSubmissionServiceStub(metered),
            node_pb2_grpc.NodeStateServiceStub(metered),
            node_pb2_grpc.ConfigurationServiceStub(metered),
            claims_pb2_grpc.ClaimsStub(metered),
        )
        for stub in stubs:
            vars(self).update(vars(stub))


def certificate_servicers(
    view: CertificateView,
) -> tuple[CertificateSubmissionServicer, NodeStateServicer, ConfigurationServicer, ClaimsServicer]:
    """All services that are served from one view."""
    return (
        CertificateSubmissionServicer(view),
        NodeStateServicer(view),
        ConfigurationServicer(view),
        ClaimsServicer(view),
    )


async def _abort(
    context: "grpc.aio.ServicerContext[Any, Any]",
    error: TestbedError,
    *,
    reason: str,
    domain: str,
    facts: Mapping[str, str] | None = None,
) -> NoReturn:
    """End the call with our error and AggLayer's details of it."""
    status = status_of(error)
    info = error_details_pb2.ErrorInfo(
        reason=reason, domain=domain, metadata={"reason": status.message, **(facts or {})}
    )
    detail = AnyMessage()
    detail.Pack(info)
    details = status_pb2.Status(code=status.code.value[0], message=status.message, details=[detail])
    metadata: Metadata = (*status.metadata, (STATUS_DETAILS_KEY, details.SerializeToString()))
    await context.abort(status.code, status.message, metadata)


def _check_claims(count: int) -> None:
    if count > MAX_CLAIMS_PER_CALL:
        raise LimitExceeded(limit="MAX_CLAIMS_PER_CALL", value=count, maximum=MAX_CLAIMS_PER_CALL)
