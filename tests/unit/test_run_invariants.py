"""Every invariant of a run can fail: each is shown a run that keeps it and one that breaks it."""

from dataclasses import replace

import numpy as np
import pytest

from coordinator.collect.join import OUTCOMES, BundleFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from coordinator.stages import invariants
from coordinator.stages.engine_bound import EngineBound, recoveries_per_bundle
from nodes.model.bundle import Row, RowLeg
from nodes.model.ids import HeaderHash, Height, LegHash, RollupId, rollup_id_of
from nodes.model.sequenced_block import Commitment, Header, RollupContent, SequencedBlock
from nodes.rules.bundle import encode_row
from nodes.telemetry.events import BlockExecuted, BlockReorged, BlockSequenced, CommitmentRaised, Event, Stamped
from nodes.wire.trace_records import stamped_to_bytes

A, B = rollup_id_of(7001), rollup_id_of(7002)


def trace(node: str, *records: tuple[int, Event]) -> NodeTrace:
    made = NodeTrace(node)
    for at_ns, event in records:
        made.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    return made


def executed(height: int, block: bytes = b"\1") -> BlockExecuted:
    return BlockExecuted(
        height=height, number=height, hash=block * 32, state_root=b"\7" * 32, timestamp_s=0, gas_used=0, outcomes=(),
        dropped=(), received_ns=0, derived_ns=0, built_ns=0, replayed=False,
    )  # fmt: skip


def cut(height: int, block: bytes = b"\2") -> BlockSequenced:
    return BlockSequenced(height=height, hash=block * 32, time_ns=0, submission_hashes=(), payload_bytes=0, payloads=0)


def firm(height: int) -> CommitmentRaised:
    return CommitmentRaised(height=height, level=Commitment.FIRM)


def block(height: int, contents: dict[RollupId, RollupContent], block_hash: bytes = b"\2") -> SequencedBlock:
    header = Header(version=1, chain_id=bytes(32), height=Height(height), time_ns=0, parent_hash=HeaderHash(bytes(32)),
                    rollup_count=len(contents), rollups_root=bytes(32), rollup_ids_root=bytes(32))  # fmt: skip
    return SequencedBlock(header=header, header_hash=HeaderHash(block_hash * 32), contents=contents, finality_proof=b"")


def rows(*ordinals_and_positions: tuple[int, int]) -> RollupContent:
    encoded = tuple(
        encode_row(Row(ordinal, 1, 0, (RowLeg(A, position, LegHash(bytes(32)), index),)))
        for index, (ordinal, position) in enumerate(ordinals_and_positions)
    )
    return RollupContent(payloads=tuple(b"x" for _ in encoded), rows=encoded)


def fates(outcome: str, *, unbundled: bool = False) -> BundleFates:
    nothing = np.array([-1], dtype=np.int64)
    return BundleFates(
        outcome=np.array([OUTCOMES.index(outcome)], dtype=np.int8), reason=np.zeros(1, np.int8), height=nothing,
        sequenced_ns=nothing, firm_ns=nothing, executed_ns=nothing, unbundled=np.array([unbundled]),
    )  # fmt: skip


def sent(*, accepted_ns: int) -> SentBundles:
    one = np.zeros(1, dtype=np.int64)
    return SentBundles(
        legs=2, lanes=np.zeros(1, np.int32), rollups=np.zeros((1, 2), np.int16), submission_hashes=bytes(32),
        bundle_hashes=bytes(32), tx_hashes=bytes(64), due_ns=one, sent_ns=one,
        accepted_ns=np.array([accepted_ns], dtype=np.int64), refused=np.zeros(1, np.bool_),
        attempts=np.ones(1, np.int16),
    )  # fmt: skip


def test_unbundled_and_lost_bundles_are_named() -> None:
    assert invariants.no_unbundled(fates("succeeded")).ok
    assert not invariants.no_unbundled(fates("dropped", unbundled=True)).ok
    assert invariants.every_accepted_resolved(fates("partly")).ok
    assert invariants.every_accepted_resolved(fates("lost")).detail == "1 bundles lost; 0"


def test_a_bundle_that_was_acknowledged_cannot_count_as_unsent() -> None:
    assert invariants.accounts_add_up(sent(accepted_ns=-1), fates("unsent")).ok
    assert invariants.accounts_add_up(sent(accepted_ns=5), fates("succeeded")).ok
    assert not invariants.accounts_add_up(sent(accepted_ns=5), fates("unsent")).ok


def test_replicas_are_compared_height_by_height() -> None:
    same = {"r": [trace("a", (1, executed(1)), (2, executed(2))), trace("b", (1, executed(1)))]}
    assert invariants.replicas_agree(same) == invariants.Verdict(ok=True, detail="1 block hashes compared")
    other = {"r": [trace("a", (1, executed(1))), trace("b", (1, executed(1, b"\3")))]}
    assert "b differs from a at height 1" in invariants.replicas_agree(other).detail
    alone = {"r": [trace("a", (1, executed(1)), (2, executed(1, b"\3")))]}
    assert not invariants.replicas_agree(alone).ok


def test_a_firm_height_that_changes_is_found() -> None:
    sequencer = trace("s", (1, cut(1)), (2, firm(1)), (3, cut(2)))
    kept = [block(1, {}), block(2, {}, b"\5")]
    assert invariants.firm_never_changed(sequencer, [], kept).ok, "height 2 was never firm"
    assert not invariants.firm_never_changed(sequencer, [], [block(1, {}, b"\5")]).ok


def test_a_node_that_leaves_a_firm_height_for_another_block_is_found() -> None:
    sequencer = trace("s", (1, cut(1)), (1, cut(2)), (2, firm(2)))
    log = [block(1, {}), block(2, {})]
    back = BlockReorged(from_height=2, to_height=1)
    again = trace("a", (3, executed(1)), (4, executed(2)), (5, back), (6, executed(2)))
    assert invariants.firm_never_changed(sequencer, [again], log).ok, "it was told to rewind and came back to the same"
    away = trace("a", (3, executed(1)), (4, executed(2)), (5, back), (6, executed(2, b"\3")))
    assert not invariants.firm_never_changed(sequencer, [away], log).ok


@pytest.mark.parametrize(
    ("content", "ok"),
    [(rows((0, 0), (1, 1), (4, 2)), True), (rows((1, 0), (0, 1)), False), (rows((0, 1), (1, 0)), False)],
)
def test_bundle_order_is_that_of_the_ordinals_everywhere(content: RollupContent, ok: bool) -> None:
    assert invariants.bundle_order_equal([block(1, {A: content, B: rows()})]).ok is ok


def test_recoveries_count_each_process_that_hosts_a_rollup_of_the_bundle() -> None:
    routes = np.array([[0, 1], [0, 2]], dtype=np.int16)
    assert recoveries_per_bundle(routes, [[0, 1, 2]]) == 2
    assert recoveries_per_bundle(routes, [[0], [1], [2]]) == 4
    assert recoveries_per_bundle(routes, [[0, 1], [2]]) == 3
    assert recoveries_per_bundle(routes[:0], [[0]]) == 0


def test_the_two_bounds_follow_from_what_was_measured() -> None:
    measured = EngineBound(us_per_leg=150, legs_per_s=12_000, recover_us=30, cores=2, engines=2)
    bound = measured.as_deployed(legs=2, replicas=1, recoveries_per_bundle=4)
    assert bound["bundles_per_s_bare"] == 6_000
    assert bound["bundles_per_s_with_recovery"] == pytest.approx(2e6 / 420)
    twice = replace(measured).as_deployed(legs=2, replicas=2, recoveries_per_bundle=8)
    assert twice["bundles_per_s_bare"] == 3_000
