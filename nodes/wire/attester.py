"""The Attester service and its client: program inputs go in, progress and one signature come out.

Knows neither the program nor the keys. What is signed says that a program was executed; it is no zero-knowledge proof.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from nodes.model.agglayer import SIGNATURE_BYTES
from nodes.model.errors import InvalidInput, LimitExceeded, Unavailable
from nodes.ports import ProofProgress, ProvingItem
from nodes.rules.certificate import STATEMENT_BYTES, decode_range, encode_range
from nodes.wire.client import Client
from nodes.wire.shapes import fixed
from protos.lockstep.agglayer.v1 import attester_pb2 as pb
from protos.lockstep.agglayer.v1 import attester_pb2_grpc as pb_grpc

MAX_ITEMS = 1_024
"""Certificates of one batch: one per network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """What an attester answers."""

    statements: tuple[bytes, ...]
    """308 bytes per item."""
    signature: bytes
    """65 bytes over `nodes.rules.certificate.settlement_digest` of the statements."""


class AttesterView(Protocol):
    """One attester. `AttesterClient` satisfies it too."""

    async def attest(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Attestation:
        """Run the program on every item and sign. Raises ProofFailed naming the item that it refuses."""
        ...


class AttesterServicer(pb_grpc.AttesterServicer):
    """Serves one attester."""

    def __init__(self, view: AttesterView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_AttesterServicer_to_server(self, server)

    async def Attest(  # noqa: N802
        self, request: pb.AttestRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> None:
        """Write progress, then the attestation. Ends with the call: a caller that leaves stops the work."""
        items = [_item_from_proto(item) for item in request.items]
        _check_items(len(items))
        newest = _Newest()
        attestation, failure = None, None
        async with asyncio.TaskGroup() as group:
            group.create_task(newest.write_to(context))
            try:
                attestation = await self._view.attest(items, newest.put)
            except Exception as error:  # noqa: BLE001 - raised behind the group, which would cancel the writer
                failure = error
            finally:
                # Not cancelled: a write that is cut short would leave the stream in a state that nobody defines.
                newest.end()
        if attestation is None:
            assert failure is not None, "there is one or the other"
            raise failure
        await context.write(
            pb.AttestResponse(
                attestation=pb.Attestation(statements=attestation.statements, signature=attestation.signature)
            )
        )


class AttesterClient(Client):
    """An attester somewhere else."""

    def _make_stub(self, metered: Any) -> pb_grpc.AttesterStub:
        return pb_grpc.AttesterStub(metered)

    async def attest(self, items: Sequence[ProvingItem], progress: Callable[[ProofProgress], None]) -> Attestation:
        """As `AttesterView.attest`. No deadline of its own: bound it with `asyncio.timeout`. Raises Unavailable."""
        _check_items(len(items))
        request = pb.AttestRequest(items=map(_item_to_proto, items))
        async with aclosing(self._stream("Attest", request)) as answers:
            async for answer in answers:
                if answer.WhichOneof("answer") == "attestation":
                    return _attestation_from_proto(answer.attestation, count=len(items))
                progress(
                    ProofProgress(done=answer.progress.done, total=answer.progress.total, step=answer.progress.step)
                )
        raise Unavailable(f"{self.address} ended without an attestation")


class _Newest:
    """The newest progress, written as fast as the caller reads; older ones are skipped."""

    def __init__(self) -> None:
        self._progress: ProofProgress | None = None
        self._changed = asyncio.Event()
        self._ended = False

    def end(self) -> None:
        """Let `write_to` return."""
        self._ended = True
        self._changed.set()

    def put(self, progress: ProofProgress) -> None:
        """Replace what was not written yet."""
        self._progress = progress
        self._changed.set()

    async def write_to(self, context: "grpc.aio.ServicerContext[Any, Any]") -> None:
        """Write until `end`."""
        while not self._ended:
            await self._changed.wait()
            self._changed.clear()
            made, self._progress = self._progress, None
            if made is None:
                continue
            await context.write(
                pb.AttestResponse(progress=pb.AttestProgress(done=made.done, total=made.total, step=made.step))
            )


def _item_to_proto(item: ProvingItem) -> pb.AttestItem:
    return pb.AttestItem(
        program_input=item.program_input,
        settled_range=encode_range(item.settled_range),
        range_signatures=[signature or b"" for signature in item.range_signatures],
        signed_verdict=item.signed_verdict,
    )


def _item_from_proto(message: pb.AttestItem) -> ProvingItem:
    try:
        settled_range = decode_range(message.settled_range)
    except ValueError as error:
        raise InvalidInput(f"settled_range: {error}") from None
    for signature in message.range_signatures:
        if len(signature) not in {0, SIGNATURE_BYTES}:
            raise InvalidInput(f"a range signature has {len(signature)} bytes; it must have 65, or none")
    return ProvingItem(
        program_input=message.program_input,
        settled_range=settled_range,
        range_signatures=tuple([signature or None for signature in message.range_signatures]),
        signed_verdict=message.signed_verdict,
    )


def _attestation_from_proto(message: pb.Attestation, *, count: int) -> Attestation:
    statements = tuple([fixed(value, size=STATEMENT_BYTES, name="statement") for value in message.statements])
    if len(statements) != count:
        raise InvalidInput(f"an attestation of {len(statements)} statements answers {count} items")
    return Attestation(
        statements=statements, signature=fixed(message.signature, size=SIGNATURE_BYTES, name="signature")
    )


def _check_items(count: int) -> None:
    if not 0 < count <= MAX_ITEMS:
        raise LimitExceeded(limit="MAX_ITEMS", value=count, maximum=MAX_ITEMS)
