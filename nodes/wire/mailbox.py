"""The Mailbox service over anything that satisfies `ports.Mailbox`, and the client that satisfies it too.

Neither side of the wire decodes a report or checks a signature.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import grpc

from nodes.model.errors import LimitExceeded, Unavailable
from nodes.model.limits import MAX_MESSAGE_BYTES
from nodes.model.verdict import MailboxEvent, SignedReport, VerdictRef
from nodes.ports import Mailbox
from nodes.wire.client import Client
from nodes.wire.mailbox_messages import (
    ENTRY_BYTES,
    mailbox_event_from_proto,
    mailbox_event_to_proto,
    submit_reports_from_proto,
    submit_reports_to_proto,
    verdict_ref_from_proto,
    verdict_ref_to_proto,
)
from nodes.wire.streams import closing
from protos.lockstep.agglayer.v1 import mailbox_pb2 as pb
from protos.lockstep.agglayer.v1 import mailbox_pb2_grpc as pb_grpc

MAX_REPORTS_PER_CALL = 256
"""A node has few at a time: one for each speculative height."""


class MailboxServicer(pb_grpc.MailboxServicer):
    """Serves one resolver."""

    def __init__(self, port: Mailbox) -> None:
        self._port = port

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_MailboxServicer_to_server(self, server)

    async def SubmitReports(  # noqa: N802
        self, request: pb.SubmitReportsRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.SubmitReportsResponse:
        """Take reports."""
        reports = submit_reports_from_proto(request)
        _check_reports(reports)
        await self._port.submit_reports(reports)
        return pb.SubmitReportsResponse()

    async def Follow(  # noqa: N802
        self, request: pb.FollowVerdictsRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write events for one follower; gRPC's flow control holds the resolver's iterator back where it is slow."""
        async with closing(self._port.follow(verdict_ref_from_proto(request))) as events:
            async for event in events:
                await context.write(mailbox_event_to_proto(event))


class MailboxClient(Client):
    """A resolver somewhere else; satisfies `ports.Mailbox`. Raises Unavailable where there is no answer."""

    def _make_stub(self, metered: Any) -> pb_grpc.MailboxStub:
        return pb_grpc.MailboxStub(metered)

    async def submit_reports(self, reports: Sequence[SignedReport]) -> None:
        """As `ports.Mailbox.submit_reports`. Raises LimitExceeded for too many in one call."""
        _check_reports(reports)
        await self._call("SubmitReports", submit_reports_to_proto(reports))

    async def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        """As `ports.Mailbox.follow`."""
        async with aclosing(self._stream("Follow", verdict_ref_to_proto(after))) as messages:
            async for message in messages:
                yield mailbox_event_from_proto(message)
        raise Unavailable(f"{self.address} ended the stream of verdicts; it is stopping")


def _check_reports(reports: Sequence[SignedReport]) -> None:
    if len(reports) > MAX_REPORTS_PER_CALL:
        raise LimitExceeded(limit="MAX_REPORTS_PER_CALL", value=len(reports), maximum=MAX_REPORTS_PER_CALL)
    size = sum([len(report.report) + len(report.signature) + ENTRY_BYTES for report in reports])
    if size > MAX_MESSAGE_BYTES:
        raise LimitExceeded(limit="MAX_MESSAGE_BYTES", value=size, maximum=MAX_MESSAGE_BYTES)
