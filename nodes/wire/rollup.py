"""The Rollup service: a server over anything that satisfies `RollupView`, and its client.

Knows nothing of engines or indexes. Users do not come here: they use the node's JSON-RPC.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import grpc

from nodes.model.errors import InvalidInput, LimitExceeded
from nodes.model.limits import MAX_BLOCK_HASHES, MAX_LEGS_PER_BUNDLE
from nodes.model.promises import OutcomeEvidence
from nodes.model.status import Heads, LegFate, RollupStatus
from nodes.wire.client import Client
from nodes.wire.rollup_messages import (
    block_hashes_from_proto,
    block_hashes_to_proto,
    bundle_fates_from_proto,
    bundle_fates_to_proto,
    heads_from_proto,
    heads_to_proto,
    outcome_proofs_from_proto,
    outcome_proofs_to_proto,
    rollup_status_from_proto,
    rollup_status_to_proto,
)
from nodes.wire.shapes import hash_of
from nodes.wire.streams import closing
from protos.lockstep.rollup.v1 import rollup_pb2 as pb
from protos.lockstep.rollup.v1 import rollup_pb2_grpc as pb_grpc


class RollupView(Protocol):
    """What a rollup node shows to other nodes and to the coordinator. `RollupClient` satisfies it too."""

    async def status(self) -> RollupStatus:
        """A snapshot."""
        ...

    def follow_heads(self) -> AsyncIterator[Heads]:
        """The heads at once, then after changes. A slow reader may miss states in between, never the newest."""
        ...

    async def block_hashes(self, *, first_number: int, count: int) -> Sequence[bytes]:
        """Hashes of up to `count` blocks from `first_number` on; shorter where the chain ends. Raises Pruned."""
        ...

    async def bundle_fates(self, bundle_hash: bytes) -> Sequence[LegFate]:
        """Every leg of the bundle that this rollup has met; empty where it has met none. Raises Pruned."""
        ...

    async def outcome_proofs(self, bundle_hash: bytes, leg_index: int) -> Sequence[OutcomeEvidence]:
        """Fates of one leg with proofs, one for each inclusion that a certificate of this node covers.

        Raises Unavailable where the node builds no certificates, Pruned.
        """
        ...


class RollupServicer(pb_grpc.RollupServicer):
    """Serves one rollup node."""

    def __init__(self, view: RollupView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_RollupServicer_to_server(self, server)

    async def GetStatus(  # noqa: N802
        self, _request: pb.GetStatusRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetStatusResponse:
        """Answer a snapshot."""
        return rollup_status_to_proto(await self._view.status())

    async def FollowHeads(  # noqa: N802
        self, _request: pb.FollowHeadsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write the heads as they change."""
        async with closing(self._view.follow_heads()) as changes:
            async for heads in changes:
                await context.write(heads_to_proto(heads))

    async def GetBlockHashes(  # noqa: N802
        self, request: pb.GetBlockHashesRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetBlockHashesResponse:
        """Answer hashes of consecutive blocks."""
        _check_count(request.count)
        hashes = await self._view.block_hashes(first_number=request.first_number, count=request.count)
        return block_hashes_to_proto(hashes, first_number=request.first_number)

    async def GetBundle(  # noqa: N802
        self, request: pb.GetBundleRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetBundleResponse:
        """Answer the fates of a bundle's legs on this rollup."""
        bundle_hash = hash_of(request.bundle_hash, name="bundle_hash")
        return bundle_fates_to_proto(await self._view.bundle_fates(bundle_hash))

    async def GetOutcomeProof(  # noqa: N802
        self, request: pb.GetOutcomeProofRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetOutcomeProofResponse:
        """Answer the proved fates of one leg."""
        bundle_hash = hash_of(request.bundle_hash, name="bundle_hash")
        if request.leg_index >= MAX_LEGS_PER_BUNDLE:
            raise LimitExceeded(limit="MAX_LEGS_PER_BUNDLE", value=request.leg_index + 1, maximum=MAX_LEGS_PER_BUNDLE)
        return outcome_proofs_to_proto(await self._view.outcome_proofs(bundle_hash, request.leg_index))


class RollupClient(Client):
    """A rollup node somewhere else. Every method raises Unavailable where there is no answer."""

    def _make_stub(self, metered: Any) -> pb_grpc.RollupStub:
        return pb_grpc.RollupStub(metered)

    async def status(self) -> RollupStatus:
        """A snapshot."""
        return rollup_status_from_proto(await self._call("GetStatus", pb.GetStatusRequest()))

    async def follow_heads(self) -> AsyncGenerator[Heads, None]:
        """As `RollupView.follow_heads`; ends when the node stops in order."""
        async with aclosing(self._stream("FollowHeads", pb.FollowHeadsRequest())) as messages:
            async for message in messages:
                yield heads_from_proto(message)

    async def block_hashes(self, *, first_number: int, count: int) -> list[bytes]:
        """As `RollupView.block_hashes`. Raises LimitExceeded above MAX_BLOCK_HASHES."""
        _check_count(count)
        request = pb.GetBlockHashesRequest(first_number=first_number, count=count)
        hashes = block_hashes_from_proto(await self._call("GetBlockHashes", request))
        if len(hashes) > count:
            raise InvalidInput(f"{self.address} answered {len(hashes):,} hashes to a request for {count:,}")
        return hashes

    async def bundle_fates(self, bundle_hash: bytes) -> list[LegFate]:
        """As `RollupView.bundle_fates`."""
        return bundle_fates_from_proto(await self._call("GetBundle", pb.GetBundleRequest(bundle_hash=bundle_hash)))

    async def outcome_proofs(self, bundle_hash: bytes, leg_index: int) -> list[OutcomeEvidence]:
        """As `RollupView.outcome_proofs`."""
        request = pb.GetOutcomeProofRequest(bundle_hash=bundle_hash, leg_index=leg_index)
        answer = await self._call("GetOutcomeProof", request)
        return outcome_proofs_from_proto(answer, bundle_hash=bundle_hash, leg_index=leg_index)


def _check_count(count: int) -> None:
    if count > MAX_BLOCK_HASHES:
        raise LimitExceeded(limit="MAX_BLOCK_HASHES", value=count, maximum=MAX_BLOCK_HASHES)
