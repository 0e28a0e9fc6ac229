"""Certificates over real gRPC: AggLayer's own services as a foreign client sees them, and our client."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from nodes.agglayer.claims import ClaimProver
from nodes.agglayer.view import ServiceView
from nodes.model.agglayer import CertificateHeight, CertificateId, CertificateStatus, NetworkId, global_index_of
from nodes.model.errors import CertificateRefused, LimitExceeded, RefusalKind, UnknownName
from nodes.rules.certificate import certificate_id
from nodes.wire.certificate_messages import certificate_to_proto
from nodes.wire.certificates import MAX_CLAIMS_PER_CALL, CertificateClient, certificate_servicers
from nodes.wire.channel import server
from protos.agglayer.node.v1 import node_pb2, node_pb2_grpc
from tests.golden.samples_agglayer import PROOFS
from tests.support.agglayer_world import World, transfer
from tests.support.certificates import CertificateHarness, Chain, MemoryL1, heights, stating

HOST = "127.0.0.1"


class FixedClaims(ClaimProver):
    """Answers always the same: claims themselves are tested over a real L1."""

    def __init__(self) -> None:
        """Needs neither a view of L1 nor exits."""

    def claim_proofs(self, wanted: object, **_level: object) -> object:  # type: ignore[override]
        assert list(wanted) == list(PROOFS.claims)  # type: ignore[call-overload]
        return PROOFS


@dataclass(frozen=True, slots=True)
class Served:
    """A service, a client of ours and a foreign channel."""

    service: CertificateHarness
    client: CertificateClient
    channel: grpc.aio.Channel


@asynccontextmanager
async def served(directory: Path, world: World) -> AsyncIterator[Served]:
    service = CertificateHarness(directory, MemoryL1(world))
    view = ServiceView(
        book=service.book,
        orchestrator=service.orchestrator,
        proving=service.proving,
        claims=FixedClaims(),
        epoch_blocks=2,
    )
    async with (
        service.running(),
        server(certificate_servicers(view), name="agglayer-0", host=HOST, port=0) as bound,
        CertificateClient(bound.address) as client,
        grpc.aio.insecure_channel(bound.address) as channel,
    ):
        yield Served(service, client, channel)


async def test_our_client_sees_a_certificate_through(tmp_path: Path) -> None:
    world = World(2)
    certificate = stating(Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100])), heights(1, 4))
    async with served(tmp_path, world) as running:
        client = running.client
        assert await client.certificate_header(CertificateId(bytes(32))) is None
        assert await client.certificate(NetworkId(1), CertificateHeight(0)) is None
        assert await client.latest_header(NetworkId(1), settled=True) is None
        follower = client.follow_network(NetworkId(1))
        assert (await anext(follower)).latest is None
        taken = await client.submit_certificate(certificate)
        assert taken == certificate_id(certificate)
        assert await client.certificate(NetworkId(1), CertificateHeight(0)) == certificate
        await running.service.drive(lambda: running.service.book.progress(NetworkId(1)).final_height == 4)
        async for progress in follower:
            if progress.final_height == 4:
                break
        await follower.aclose()
        assert progress.settled is not None
        assert progress.settled.certificate_id == taken
        header = await client.certificate_header(taken)
        assert header == progress.settled
        assert header == await client.latest_header(NetworkId(1), settled=True)
        assert (await client.epoch_configuration()).epoch_duration_blocks == 2
        assert (await client.proving_status()).description == "native: for tests"
        assert await client.claim_proofs(list(PROOFS.claims)) == PROOFS
        with pytest.raises(LimitExceeded):
            await client.claim_proofs([global_index_of(NetworkId(1), 0)] * (MAX_CLAIMS_PER_CALL + 1))
        with pytest.raises(UnknownName):
            await client.certificate(NetworkId(9), CertificateHeight(0))
        with pytest.raises(UnknownName):
            await anext(client.follow_network(NetworkId(9)))


async def test_a_refusal_reaches_our_client_as_it_was_raised(tmp_path: Path) -> None:
    async with served(tmp_path, World(2)) as running:
        await running.client.submit_certificate(Chain(1).certificate([transfer(2, 5)]))
        with pytest.raises(CertificateRefused, match="it is not in error but pending") as refused:
            await running.client.submit_certificate(Chain(1).certificate([transfer(2, 6)]))
        assert refused.value.kind == RefusalKind.UNABLE_TO_REPLACE_PENDING_CERTIFICATE
        assert refused.value.stored_certificate_id.startswith("0x")


def _details(error: grpc.aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    entries: Any = error.trailing_metadata() or ()
    status = status_pb2.Status.FromString(dict(entries)["grpc-status-details-bin"])
    assert status.code == error.code().value[0]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


async def test_a_foreign_client_gets_agglayers_error_details(tmp_path: Path) -> None:
    async with served(tmp_path, World(2)) as running:
        submission = node_pb2_grpc.CertificateSubmissionServiceStub(running.channel)
        state = node_pb2_grpc.NodeStateServiceStub(running.channel)
        message = certificate_to_proto(Chain(1).certificate([transfer(2, 5)]))
        message.height = 4
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await submission.SubmitCertificate(node_pb2.SubmitCertificateRequest(certificate=message))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        info = _details(refused.value)
        assert info.reason == "SUBMIT_CERTIFICATE_ERROR_KIND_SIGNATURE_VERIFICATION"
        assert info.domain == "agglayer-node.grpc-api.v1.certificate-submission-service.submit_certificate"
        assert (info.metadata["network_id"], info.metadata["height"]) == ("1", "4")
        with pytest.raises(grpc.aio.AioRpcError) as missing:
            await submission.SubmitCertificate(node_pb2.SubmitCertificateRequest())
        assert _details(missing.value).reason == "SUBMIT_CERTIFICATE_ERROR_KIND_MISSING_FIELD"
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await state.GetCertificateHeader(node_pb2.GetCertificateHeaderRequest())
        assert _details(unknown.value).reason == "GET_CERTIFICATE_HEADER_ERROR_KIND_MISSING_FIELD"
        request = node_pb2.GetLatestCertificateHeaderRequest(network_id=1)
        with pytest.raises(grpc.aio.AioRpcError) as untyped:
            await state.GetLatestCertificateHeader(request)
        assert _details(untyped.value).reason == "GET_LATEST_CERTIFICATE_HEADER_ERROR_KIND_INVALID_DATA"
        request.type = node_pb2.LATEST_CERTIFICATE_REQUEST_TYPE_PENDING
        with pytest.raises(grpc.aio.AioRpcError) as none:
            await state.GetLatestCertificateHeader(request)
        assert none.value.code() is grpc.StatusCode.NOT_FOUND
        assert _details(none.value).domain.endswith("node-state-service.get_latest_certificate_header")
        with pytest.raises(grpc.aio.AioRpcError) as network:
            await state.GetNetworkInfo(node_pb2.GetNetworkInfoRequest(network_id=9))
        assert _details(network.value).reason == "GET_NETWORK_INFO_ERROR_KIND_INVALID_NETWORK_ID"


async def test_a_foreign_client_reads_network_info(tmp_path: Path) -> None:
    world = World(2)
    certificate = stating(Chain(1).certificate([transfer(2, 5)], world.deposit(1, [100])), heights(1, 4))
    async with served(tmp_path, world) as running:
        state = node_pb2_grpc.NodeStateServiceStub(running.channel)
        await running.client.submit_certificate(certificate)
        request = node_pb2.GetNetworkInfoRequest(network_id=1)
        info = (await state.GetNetworkInfo(request)).network_info
        assert (info.latest_pending_height, info.latest_pending_status) == (0, CertificateStatus.PENDING)
        assert not info.HasField("settled_height")
        await running.service.drive(lambda: running.service.status(1, 0) is CertificateStatus.SETTLED)
        info = (await state.GetNetworkInfo(request)).network_info
        assert (info.settled_height, info.settled_let_leaf_count) == (0, 1)
        assert info.settled_certificate_id.value.value == certificate_id(certificate)
        assert info.settled_ler.value == certificate.new_local_exit_root
        assert int.from_bytes(info.settled_claim.global_index.value, "big") == 1 << 64
        assert not info.HasField("latest_pending_height")
