"""The Promises service of a builder, and its client.

Knows neither bonds nor contracts; what a promise is signed over is L1's business.
"""

import struct
from typing import Any, Protocol

import grpc

from nodes.model.agglayer import SIGNATURE_BYTES, NetworkId
from nodes.model.errors import InvalidInput
from nodes.model.ids import Address, BundleHash
from nodes.model.promises import BondStatus, PromiseState, SignedPromise
from nodes.wire.client import Client
from nodes.wire.shapes import fixed, hash_of
from protos.lockstep.agglayer.v1 import promises_pb2 as pb
from protos.lockstep.agglayer.v1 import promises_pb2_grpc as pb_grpc

_PLACEMENT = struct.Struct(">IB")
_ADDRESS_BYTES = 20
_WORD_BYTES = 32


class PromisesView(Protocol):
    """A builder as those see it to whom it promises. `PromisesClient` satisfies it too."""

    async def promise(self, bundle_hash: bytes) -> tuple[SignedPromise, PromiseState] | None:
        """What was promised for a bundle that the sequencer took, and what became of it; None where nothing was."""
        ...

    async def bond_status(self) -> BondStatus:
        """A snapshot."""
        ...


class PromisesServicer(pb_grpc.PromisesServicer):
    """Serves one builder."""

    def __init__(self, view: PromisesView) -> None:
        self._view = view

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register with a server."""
        pb_grpc.add_PromisesServicer_to_server(self, server)

    async def GetPromise(  # noqa: N802
        self, request: pb.GetPromiseRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetPromiseResponse:
        """Answer the promise of a bundle."""
        found = await self._view.promise(hash_of(request.bundle_hash, name="bundle_hash"))
        if found is None:
            return pb.GetPromiseResponse()
        promise, state = found
        return pb.GetPromiseResponse(promise=_promise_to_proto(promise), state=state.value)

    async def GetBond(  # noqa: N802
        self, _request: pb.GetBondRequest, _context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> pb.GetBondResponse:
        """Answer a snapshot."""
        return _bond_to_proto(await self._view.bond_status())


class PromisesClient(Client):
    """A builder somewhere else. Every method raises Unavailable where there is no answer."""

    def _make_stub(self, metered: Any) -> pb_grpc.PromisesStub:
        return pb_grpc.PromisesStub(metered)

    async def promise(self, bundle_hash: bytes) -> tuple[SignedPromise, PromiseState] | None:
        """As `PromisesView.promise`. The signature is not checked. Raises InvalidInput for what is no promise."""
        answer = await self._call("GetPromise", pb.GetPromiseRequest(bundle_hash=bundle_hash))
        if not answer.HasField("promise"):
            return None
        states = {state.value: state for state in PromiseState}
        if answer.state not in states:
            raise InvalidInput(f"{self.address} says a promise is {answer.state!r}; this build knows {sorted(states)}")
        promise = _promise_from_proto(answer.promise)
        if promise.bundle_hash != bundle_hash:
            raise InvalidInput(f"{self.address} answered the promise of another bundle than was asked for")
        return promise, states[answer.state]

    async def bond_status(self) -> BondStatus:
        """As `PromisesView.bond_status`."""
        return _bond_from_proto(await self._call("GetBond", pb.GetBondRequest()))


def _promise_to_proto(promise: SignedPromise) -> pb.Promise:
    return pb.Promise(
        builder=promise.builder,
        bundle_hash=promise.bundle_hash,
        user=promise.user,
        amount_wei=_amount_to_proto(promise.amount_wei),
        expiry_block=promise.expiry_block,
        placements=b"".join([_PLACEMENT.pack(*placement) for placement in promise.placements]),
        signature=promise.signature,
    )


def _promise_from_proto(message: pb.Promise) -> SignedPromise:
    if len(message.placements) % _PLACEMENT.size:
        raise InvalidInput(f"placements have {len(message.placements)} bytes; they must be whole entries of 5")
    return SignedPromise(
        builder=_address(message.builder, name="builder"),
        bundle_hash=BundleHash(hash_of(message.bundle_hash, name="bundle_hash")),
        user=_address(message.user, name="user"),
        amount_wei=_amount(message.amount_wei, name="amount_wei"),
        expiry_block=message.expiry_block,
        placements=tuple((NetworkId(network), leg) for network, leg in _PLACEMENT.iter_unpack(message.placements)),
        signature=fixed(message.signature, size=SIGNATURE_BYTES, name="signature"),
    )


_COUNTS = (
    "made", "open", "due", "kept", "paid", "expired", "lacked_bond", "not_whole", "kept_ns",
)  # fmt: skip


def _bond_to_proto(status: BondStatus) -> pb.GetBondResponse:
    return pb.GetBondResponse(
        builder=status.builder,
        bond_wei=_amount_to_proto(status.bond_wei),
        bound_wei=_amount_to_proto(status.bound_wei),
        promise_wei=_amount_to_proto(status.promise_wei),
        **{name: getattr(status, name) for name in _COUNTS},
    )


def _bond_from_proto(message: pb.GetBondResponse) -> BondStatus:
    return BondStatus(
        builder=_address(message.builder, name="builder"),
        bond_wei=_amount(message.bond_wei, name="bond_wei"),
        bound_wei=_amount(message.bound_wei, name="bound_wei"),
        promise_wei=_amount(message.promise_wei, name="promise_wei"),
        **{name: getattr(message, name) for name in _COUNTS},
    )


def _amount_to_proto(amount_wei: int) -> bytes:
    return amount_wei.to_bytes(_WORD_BYTES, "big")


def _address(value: bytes, *, name: str) -> Address:
    return Address(fixed(value, size=_ADDRESS_BYTES, name=name))


def _amount(value: bytes, *, name: str) -> int:
    return int.from_bytes(fixed(value, size=_WORD_BYTES, name=name), "big")
