"""Every message between a builder and those to whom it promises."""

from collections.abc import Callable
from typing import Any

from google.protobuf.message import Message

from nodes.model.agglayer import NetworkId
from nodes.model.ids import Address, BundleHash
from nodes.model.promises import BondStatus, PromiseState, SignedPromise
from nodes.wire import promises
from protos.lockstep.agglayer.v1 import promises_pb2 as pb
from tests.golden.samples import Sample, filled

FILES = (pb.DESCRIPTOR,)

PROMISE = SignedPromise(
    builder=Address(filled(1, 20)),
    bundle_hash=BundleHash(filled(2)),
    user=Address(filled(3, 20)),
    amount_wei=10**17,
    expiry_block=52,
    placements=((NetworkId(1), 0), (NetworkId(300), 1)),
    signature=filled(4, 65),
)
BOND = BondStatus(
    builder=Address(filled(1, 20)),
    bond_wei=10**20,
    bound_wei=3 * 10**17,
    promise_wei=10**17,
    made=12,
    open=3,
    due=1,
    kept=7,
    paid=1,
    expired=1,
    lacked_bond=5,
    not_whole=2,
    kept_ns=9_000_000_000,
)


def samples() -> list[Sample]:
    """All of them."""
    promise = promises._promise_to_proto(PROMISE)
    return [
        _sample(promise, PROMISE, promises._promise_from_proto),
        _sample(promises._bond_to_proto(BOND), BOND, promises._bond_from_proto),
        *[
            _sample(message, message, lambda message: message)
            for message in (
                pb.GetPromiseRequest(bundle_hash=filled(2)),
                pb.GetPromiseResponse(promise=promise, state=PromiseState.DUE.value),
                pb.GetBondRequest(),
            )
        ],
    ]


def _sample(message: Message, value: Any, restore: Callable[[Any], Any]) -> Sample:
    return Sample(message.DESCRIPTOR.full_name, message, value, restore)
