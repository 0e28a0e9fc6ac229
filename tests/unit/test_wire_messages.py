"""Bundles, blocks and tickets from malformed peers: always a named error, never an assertion, never half a value."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.model.bundle import Bundle, Leg
from nodes.model.errors import InvalidBlock, InvalidInput, InvalidSubmission, UnknownName
from nodes.model.ids import LegHash, RollupId
from nodes.model.limits import MAX_LEGS_PER_BUNDLE, MAX_PAYLOAD_BYTES, MAX_ROLLUPS, MAX_SUBMISSION_BYTES
from nodes.model.sequenced_block import Commitment
from nodes.rules.sequenced_block import BlockTrees, filter_block
from nodes.wire.blocks import (
    event_from_proto,
    filtered_block_from_proto,
    filtered_block_to_proto,
    stored_block_from_bytes,
    stored_block_to_bytes,
)
from nodes.wire.bundles import bundle_from_bytes, bundle_to_bytes
from nodes.wire.control_messages import fault_from_proto
from nodes.wire.shapes import parse
from nodes.wire.tickets import sequencer_status_from_proto, tickets_from_proto, tickets_to_proto
from protos.lockstep.control.v1 import control_pb2
from protos.lockstep.sequencer.v1 import sequencer_pb2 as pb
from tests.golden.samples import BLUE, BUNDLE, PLAIN, RED, TICKETS, filled, filtered_block, sequenced_block

hashes = st.binary(min_size=32, max_size=32)
bundles = st.builds(
    Bundle,
    version=st.integers(0, 2**32 - 1),
    expiry=st.integers(0, 2**64 - 1),
    legs=st.lists(
        st.builds(Leg, rollup_id=hashes.map(RollupId), payload=st.binary(), leg_hash=hashes.map(LegHash)),
        min_size=1,
        max_size=4,
    ).map(tuple),
)


@given(bundles)
def test_a_bundle_comes_back(bundle: Bundle) -> None:
    data = bundle_to_bytes(bundle)
    assert bundle_from_bytes(data) == bundle
    assert bundle_to_bytes(bundle) == data


@given(st.binary(max_size=300))
def test_any_bytes_are_a_bundle_or_an_invalid_submission(data: bytes) -> None:
    with suppress(InvalidSubmission):
        bundle_from_bytes(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_stored_block_or_an_invalid_block(data: bytes) -> None:
    with pytest.raises(InvalidBlock):
        stored_block_from_bytes(data)


@given(st.data())
def test_a_mutated_block_is_a_block_or_a_named_error(data: st.DataObject) -> None:
    good = filtered_block_to_proto(filtered_block()).SerializeToString()
    at = data.draw(st.integers(0, len(good) - 1))
    bad = good[:at] + data.draw(st.binary(max_size=3)) + good[at + 1 :]
    with suppress(InvalidBlock):
        filtered_block_from_proto(parse(pb.FilteredBlock, bad, InvalidBlock))


def _with_legs(*legs: Leg, version: int = 1, expiry: int = 0) -> bytes:
    return bundle_to_bytes(Bundle(version=version, expiry=expiry, legs=legs))


def _leg(rollup_id: bytes = RED, payload: bytes = b"p", leg_hash: bytes = filled(1)) -> Leg:
    return Leg(rollup_id=RollupId(rollup_id), payload=payload, leg_hash=LegHash(leg_hash))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"\xff", "Bundle message"),
        (b"", "MAX_LEGS_PER_BUNDLE"),
        (_with_legs(*[_leg()] * (MAX_LEGS_PER_BUNDLE + 1)), "MAX_LEGS_PER_BUNDLE"),
        (_with_legs(_leg(), _leg(rollup_id=b"short")), "leg 1: rollup_id has 5 bytes"),
        (_with_legs(_leg(), _leg(leg_hash=b"")), "leg 1: leg_hash has 0 bytes"),
        (_with_legs(_leg(leg_hash=b"1234")), "leg 0: leg_hash has 4 bytes"),
        (_with_legs(_leg(payload=bytes(MAX_PAYLOAD_BYTES + 1))), "MAX_PAYLOAD_BYTES"),
        (bytes(MAX_SUBMISSION_BYTES + 1), "MAX_SUBMISSION_BYTES"),
        (_with_legs(_leg(leg_hash=b""), expiry=5), "expiry"),
    ],
)
def test_a_wrong_submission_is_refused_by_name(data: bytes, named: str) -> None:
    with pytest.raises(InvalidSubmission, match=named):
        bundle_from_bytes(data)


def test_a_plain_transaction_has_no_version() -> None:
    leg = Leg(rollup_id=RollupId(bytes(32)), payload=b"transaction", leg_hash=LegHash(b""))
    with pytest.raises(InvalidSubmission, match="no row and so no version; submit it with version 0"):
        bundle_from_bytes(bundle_to_bytes(Bundle(version=7, expiry=0, legs=(leg,))))


def test_a_plain_transaction_needs_no_leg_hash() -> None:
    assert bundle_from_bytes(bundle_to_bytes(PLAIN)).is_plain
    assert not bundle_from_bytes(bundle_to_bytes(BUNDLE)).is_plain


def _cut_leaf_path(message: pb.FilteredBlock) -> None:
    message.leaf_path = message.leaf_path[:-1]


def _cut_ids(message: pb.FilteredBlock) -> None:
    message.rollup_ids = message.rollup_ids[:-1]


def _too_many_ids(message: pb.FilteredBlock) -> None:
    message.rollup_ids = bytes(32 * (MAX_ROLLUPS + 1))


def _short_id(message: pb.FilteredBlock) -> None:
    message.rollup_id = b"red"


def _no_commitment(message: pb.FilteredBlock) -> None:
    message.ClearField("commitment")


def _unknown_commitment(message: pb.FilteredBlock) -> None:
    message.commitment = 7  # type: ignore[assignment]


def _short_root(message: pb.FilteredBlock) -> None:
    message.siblings[0].payloads_root = b""


def _cut_sibling_path(message: pb.FilteredBlock) -> None:
    message.siblings[0].leaf_path = b"x"


def _cut_proof(message: pb.FilteredBlock) -> None:
    message.siblings[0].rows.proof = b"x"


def _more_positions(message: pb.FilteredBlock) -> None:
    message.siblings[0].payloads.positions.append(9)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_cut_leaf_path, "leaf_path"),
        (_cut_ids, "rollup_ids"),
        (_too_many_ids, "MAX_ROLLUPS"),
        (_short_id, "rollup_id"),
        (_no_commitment, "commitment 0"),
        (_unknown_commitment, "commitment 7"),
        (_short_root, "payloads_root"),
        (_cut_sibling_path, "leaf_path"),
        (_cut_proof, "proof"),
        (_more_positions, "3 positions"),
    ],
)
def test_a_misshapen_block_is_refused_by_name(spoil: Callable[[pb.FilteredBlock], None], named: str) -> None:
    message = filtered_block_to_proto(filtered_block())
    spoil(message)
    with pytest.raises(InvalidBlock, match=named):
        filtered_block_from_proto(message)


def test_a_real_block_survives_filtering_and_the_wire() -> None:
    block = sequenced_block()
    for rollup_id in (RED, BLUE):
        sent = filter_block(block, BlockTrees(block.contents), rollup_id, Commitment.SOFT)
        data = filtered_block_to_proto(sent).SerializeToString()
        assert filtered_block_from_proto(pb.FilteredBlock.FromString(data)) == sent


def test_a_stored_block_with_ids_out_of_order_is_refused() -> None:
    message = pb.StoredBlock.FromString(stored_block_to_bytes(sequenced_block()))
    first, second = message.contents[0].rollup_id, message.contents[1].rollup_id
    message.contents[0].rollup_id, message.contents[1].rollup_id = second, first
    with pytest.raises(InvalidBlock, match="ascend"):
        stored_block_from_bytes(message.SerializeToString())
    message.contents[0].rollup_id = first
    with pytest.raises(InvalidBlock, match="ascend"):
        stored_block_from_bytes(message.SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        pb.FollowResponse(),
        pb.FollowResponse(commitment_raised=pb.CommitmentRaised(height=1)),
        pb.FollowResponse(rolled_back=pb.RolledBack(to=pb.BlockRef(height=1, hash=b"short"))),
    ],
)
def test_an_unknown_event_is_refused(message: pb.FollowResponse) -> None:
    with pytest.raises(InvalidInput):
        event_from_proto(message)


def _unknown_outcome(message: pb.SubmitResponse) -> None:
    message.tickets[0].outcome = pb.Ticket.OUTCOME_UNSPECIFIED


def _short_hash(message: pb.SubmitResponse) -> None:
    message.tickets[1].submission_hash = b"x"


def _one_ticket_less(message: pb.SubmitResponse) -> None:
    del message.tickets[2]


@pytest.mark.parametrize("spoil", [_unknown_outcome, _short_hash, _one_ticket_less])
def test_misshapen_tickets_are_refused(spoil: Callable[[pb.SubmitResponse], None]) -> None:
    message = tickets_to_proto(TICKETS)
    spoil(message)
    with pytest.raises(InvalidInput):
        tickets_from_proto(message, count=len(TICKETS))


def test_a_misshapen_status_is_refused() -> None:
    with pytest.raises(InvalidInput, match="rollup id"):
        sequencer_status_from_proto(pb.GetStatusResponse(head=pb.BlockRef(hash=filled(1)), rollup_ids=[b"red"]))


@pytest.mark.parametrize(
    ("fault", "error", "named"),
    [
        ({}, InvalidInput, "version"),
        ({"withhold_evidence": control_pb2.WithholdEvidence(kind="leaf")}, InvalidInput, "at least 1"),
        ({"withhold_evidence": control_pb2.WithholdEvidence(kind="laef", blocks=1)}, UnknownName, "'leaf'"),
    ],
)
def test_an_unknown_fault_is_refused(fault: dict[str, Any], error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        fault_from_proto(control_pb2.InjectFaultRequest(node="red-0", **fault))
