"""From trace bytes to fates: what counts after replays and reorgs, and what every bundle and leg ended in."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from coordinator.collect.join import FATES, NEVER, OUTCOMES, REASONS, SentBundles, bundle_fates, leg_fates, match
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.tables import (
    blocks_table,
    bundles_table,
    certificates_table,
    legs_table,
    proofs_table,
    reorgs_table,
    resources_table,
    settlements_table,
    stalls_table,
    verdicts_table,
)
from coordinator.record import TABLES
from nodes.model.execution import AbortReason, DroppedLeg, DropReason, Outcome, SkipReason, Status
from nodes.model.ids import SubmissionHash, TxHash
from nodes.model.sequenced_block import Commitment
from nodes.rules.hashes import sha256
from nodes.telemetry.events import (
    BlockExecuted,
    BlockReorged,
    BlockSequenced,
    CommitmentRaised,
    Event,
    NodeRecovered,
    NodeStarted,
    ReaderStalled,
    ResourcesSampled,
    Stamped,
)
from nodes.wire.trace_records import stamped_to_bytes

OK, FAILED, SKIPPED, ABORTED = Status.SUCCEEDED, Status.REVERTED, Status.SKIPPED, Status.ABORTED
REASON_OF: dict[Status, SkipReason | AbortReason] = {
    SKIPPED: SkipReason.NONCE_TOO_HIGH,
    ABORTED: AbortReason.UNMATCHED_MINT,
}


def digest(*parts: object) -> bytes:
    return sha256(repr(parts).encode())


def tx(bundle: int, leg: int) -> TxHash:
    return TxHash(digest("tx", bundle, leg))


def submission(bundle: int) -> SubmissionHash:
    return SubmissionHash(digest("submission", bundle))


def record(at_ns: int, event: Event) -> bytes:
    return stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event))


def executed(
    height: int,
    outcomes: Sequence[tuple[TxHash, Status]] = (),
    dropped: Sequence[tuple[TxHash, DropReason]] = (),
    *,
    number: int = 1,
    block: str = "a",
    replayed: bool = False,
) -> BlockExecuted:
    return BlockExecuted(
        height=height,
        number=number,
        hash=digest("block", height, block),
        state_root=digest("root", height, block),
        timestamp_s=1,
        gas_used=21_000,
        outcomes=tuple(Outcome(tx_hash, status, REASON_OF.get(status)) for tx_hash, status in outcomes),
        dropped=tuple(DroppedLeg(at, reason, tx_hash, None) for at, (tx_hash, reason) in enumerate(dropped)),
        received_ns=10 * height,
        derived_ns=10 * height + 1,
        built_ns=10 * height + 2,
        replayed=replayed,
    )


def cut(height: int, bundles: Sequence[int]) -> BlockSequenced:
    return BlockSequenced(
        height=height,
        hash=digest("cut", height),
        time_ns=height,
        submission_hashes=tuple(submission(bundle) for bundle in bundles),
        payload_bytes=100,
        payloads=2 * len(bundles),
    )


def trace(node: str, *records: tuple[int, Event]) -> NodeTrace:
    made = NodeTrace(node)
    made.feed(b"".join(record(at_ns, event) for at_ns, event in records))
    return made


def sent(count: int, *, refused: Sequence[int] = (), unsent: Sequence[int] = ()) -> SentBundles:
    """Bundles of two legs, the first on rollup 0 and the second on rollup 1; due at 0, 1, 2, ..."""
    accepted = np.array([NEVER if at in (*refused, *unsent) else 5 for at in range(count)], dtype=np.int64)
    return SentBundles(
        legs=2,
        lanes=np.zeros(count, dtype=np.int32),
        rollups=np.tile(np.array([0, 1], dtype=np.int16), (count, 1)),
        submission_hashes=b"".join(submission(at) for at in range(count)),
        bundle_hashes=b"".join(digest("bundle", at) for at in range(count)),
        tx_hashes=b"".join(tx(at, leg) for at in range(count) for leg in (0, 1)),
        due_ns=np.arange(count, dtype=np.int64),
        sent_ns=np.where(accepted == NEVER, NEVER, 4),
        accepted_ns=accepted,
        refused=np.array([at in refused for at in range(count)]),
        attempts=np.ones(count, dtype=np.int16),
    )


def outcomes(bundles: SentBundles, first: NodeTrace, second: NodeTrace, sequencer: NodeTrace) -> list[str]:
    legs = leg_fates(bundles, [first, second], {})
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=0)
    return [OUTCOMES[code] for code in fates.outcome]


def test_outcomes_follow_from_the_fates_of_the_legs() -> None:
    per_bundle = [(OK, OK), (OK, FAILED), (FAILED, FAILED), (FAILED, SKIPPED), (SKIPPED, SKIPPED), (OK, SKIPPED)]
    first = trace("a", (20, executed(1, [(tx(at, 0), pair[0]) for at, pair in enumerate(per_bundle)])))
    second = trace("b", (30, executed(1, [(tx(at, 1), pair[1]) for at, pair in enumerate(per_bundle)])))
    sequencer = trace("s", (9, cut(1, range(6))))
    assert outcomes(sent(6), first, second, sequencer) == [
        "succeeded", "partly", "reverted", "reverted", "skipped", "partly",
    ]  # fmt: skip


def test_what_a_verdict_struck_is_aborted_with_its_reason_and_a_half_struck_bundle_is_partly() -> None:
    first = trace(
        "a",
        (20, executed(1, [(tx(0, 0), OK), (tx(1, 0), OK)])),
        (25, BlockReorged(from_height=1, to_height=0)),
        (30, executed(1, [(tx(0, 0), ABORTED), (tx(1, 0), OK)], block="b")),
    )
    second = trace("b", (20, executed(1, [(tx(0, 1), ABORTED), (tx(1, 1), ABORTED)])))
    bundles, sequencer = sent(2), trace("s", (9, cut(1, [0, 1])))
    legs = leg_fates(bundles, [first, second], {})
    assert [FATES[code] for code in legs.fate] == ["aborted", "aborted", "succeeded", "aborted"]
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=0)
    assert [OUTCOMES[code] for code in fates.outcome] == ["aborted", "partly"]
    assert [REASONS[code] for code in fates.reason] == ["unmatched_mint", ""]
    assert fates.executed_ns.tolist() == [30, 30], "the execution that stands is the last one"
    assert not fates.unbundled.any()
    assert not first.conflicts


def test_bundles_that_were_not_taken_are_refused_or_unsent_and_missing_legs_mean_lost() -> None:
    sequencer = trace("s", (9, cut(1, [2, 3])))
    first = trace("a", (20, executed(1, [(tx(2, 0), OK), (tx(3, 0), OK)])))
    second = trace("b", (20, executed(1, [(tx(3, 1), OK)])))
    bundles = sent(4, refused=[0], unsent=[1, 3])
    # Bundle 3 was never acknowledged, and yet it was sequenced: the connection broke at the wrong moment.
    assert outcomes(bundles, first, second, sequencer) == ["refused", "unsent", "lost", "succeeded"]


def test_a_dropped_bundle_tells_the_reason_of_the_leg_that_was_wrong() -> None:
    first = trace("a", (20, executed(1, dropped=[(tx(0, 0), DropReason.INCOMPLETE), (tx(1, 0), DropReason.EXPIRED)])))
    second = trace("b", (20, executed(1, dropped=[(tx(0, 1), DropReason.OVER_LIMIT), (tx(1, 1), DropReason.EXPIRED)])))
    bundles, sequencer = sent(2), trace("s", (9, cut(1, [0, 1])))
    fates = bundle_fates(bundles, leg_fates(bundles, [first, second], {}), sequencer, offset_ns=0)
    assert [OUTCOMES[code] for code in fates.outcome] == ["dropped", "dropped"]
    assert [REASONS[code] for code in fates.reason] == ["over_limit", "expired"]
    assert not fates.unbundled.any()


def test_a_split_bundle_is_found() -> None:
    first = trace("a", (20, executed(1, [(tx(0, 0), OK)])))
    second = trace("b", (20, executed(1, dropped=[(tx(0, 1), DropReason.INCOMPLETE)])))
    bundles = sent(1)
    fates = bundle_fates(bundles, leg_fates(bundles, [first, second], {}), trace("s", (9, cut(1, [0]))), offset_ns=0)
    assert fates.unbundled.tolist() == [True]
    assert REASONS[fates.reason[0]] == "unbundled"


def test_times_are_those_of_the_blocks_with_each_nodes_offset() -> None:
    first = trace("a", (20, executed(1)), (40, executed(2, [(tx(0, 0), OK)], number=7)))
    second = trace("b", (900, executed(2, [(tx(0, 1), OK)])))
    sequencer = trace("s", (8, cut(2, [0])), (9, CommitmentRaised(height=1, level=Commitment.FIRM)),
                      (10, CommitmentRaised(height=2, level=Commitment.SOFT)),
                      (11, CommitmentRaised(height=3, level=Commitment.FIRM)))  # fmt: skip
    bundles = sent(1)
    legs = leg_fates(bundles, [first, second], {"b": -850})
    assert legs.executed_ns.tolist() == [40, 50]
    assert legs.number.tolist() == [7, 1]
    assert (legs.received_ns[0], legs.derived_ns[0], legs.built_ns[0]) == (20, 21, 22)
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=100)
    assert (fates.height[0], fates.sequenced_ns[0], fates.firm_ns[0], fates.executed_ns[0]) == (2, 108, 111, 50)


def test_after_a_fork_only_the_promise_after_the_last_cut_counts() -> None:
    def firm(height: int) -> CommitmentRaised:
        return CommitmentRaised(height=height, level=Commitment.FIRM)

    again = [replace(cut(height, [height]), hash=digest("cut again", height)) for height in (2, 3)]
    sequencer = trace(
        "sequencer",
        *((10 * height, cut(height, [height])) for height in (1, 2, 3)),
        *((10 * height + 5, firm(height)) for height in (1, 2, 3)),
        *((50 + at, event) for at, event in enumerate(again)),
        (60, firm(2)),
        (70, firm(3)),
    )
    bundles = sent(4)
    legs = leg_fates(bundles, [trace("rollup-1"), trace("rollup-2")], {})
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=0)
    assert fates.sequenced_ns.tolist() == [NEVER, 10, 50, 51]
    assert fates.firm_ns.tolist() == [NEVER, 15, 60, 70]


def test_the_first_record_of_a_height_stands_and_replays_do_not() -> None:
    node = trace("a", (20, executed(1, [(tx(0, 0), OK)])), (90, executed(1, [(tx(0, 0), OK)], replayed=True)))
    assert node.executed[1].at_ns == 20
    assert len(node.executions) == 2
    assert node.legs_resolved == 1
    assert not node.conflicts


def test_a_reorg_takes_records_back() -> None:
    node = trace(
        "a",
        (20, executed(1, [(tx(0, 0), OK)])),
        (30, executed(2, [(tx(1, 0), OK)])),
        (40, BlockReorged(from_height=2, to_height=1)),
        (50, executed(2, [(tx(1, 0), FAILED)], block="b")),
    )
    assert node.executed[1].at_ns == 20
    assert node.executed[2].at_ns == 50
    assert node.legs_resolved == 2
    assert not node.conflicts


def test_another_result_for_a_height_without_a_reorg_is_a_conflict() -> None:
    node = trace("a", (20, executed(1)), (30, executed(1, block="b", replayed=True)))
    assert "executed height 1" in node.conflicts[0]


def test_a_copy_that_was_dropped_does_not_hide_the_leg_that_executed() -> None:
    first = trace("a", (20, executed(1, dropped=[(tx(0, 0), DropReason.STRAY_LEG)])),
                  (30, executed(2, [(tx(0, 0), OK)])))  # fmt: skip
    second = trace("b", (30, executed(2, [(tx(0, 1), OK)])))
    bundles = sent(1)
    legs = leg_fates(bundles, [first, second], {})
    assert [FATES[code] for code in legs.fate] == ["succeeded", "succeeded"]
    assert legs.executed_ns.tolist() == [30, 30]


def test_a_height_that_was_cut_again_after_a_crash_counts_as_cut_again() -> None:
    lost = replace(cut(1, [0]), hash=digest("never announced"))
    sequencer = trace("s", (5, lost), (50, cut(1, [0, 1])))
    assert sequencer.cuts[1].at_ns == 50


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_a_trace_may_arrive_in_pieces_of_any_size(chunk: int) -> None:
    data = b"".join(record(at, executed(at, [(tx(at, 0), OK)])) for at in range(1, 20))
    node = NodeTrace("a")
    for begin in range(0, len(data), chunk):
        node.feed(data[begin : begin + chunk])
    assert sorted(node.executed) == list(range(1, 20))


def test_matching_finds_the_first_place_of_every_hash() -> None:
    values = [digest(at) for at in range(50)]
    offered = [values[at] for at in (5, 3, 5, 9)]
    assert match(b"".join(values[:6]), b"".join(offered)).tolist() == [-1, -1, -1, 1, -1, 0]
    assert match(b"", b"".join(offered)).tolist() == []
    assert match(values[0], b"").tolist() == [-1]


def test_hashes_that_end_in_zero_bytes_are_matched_whole() -> None:
    short, other = bytes(31) + b"\1", b"\1" + bytes(31)
    assert match(short + other + bytes(32), other + short).tolist() == [1, 0, -1]


def test_the_tables_have_the_columns_that_reports_read() -> None:
    sample = ResourcesSampled(
        process_cpu_s=1.0,
        process_pss_bytes=2,
        engine_cpu_s=3.0,
        engine_pss_bytes=4,
        wire_bytes_in=5,
        wire_bytes_out=6,
        stage_cpu_ns={"derive": 7},
    )
    first = trace(
        "a",
        (1, NodeStarted(node="a", kind="rollup", pid=1, host="h", boot_id="x")),
        (2, sample),
        (3, ReaderStalled(height=1, reason="withheld", source="s")),
        (4, NodeRecovered(checkpoint_height=0, recovered_height=1, duration_ns=5)),
        (20, executed(1, [(tx(0, 0), OK)])),
    )
    second, sequencer = trace("b", (20, executed(1))), trace("s", (9, cut(1, [0])))
    bundles = sent(3, refused=[1], unsent=[2])
    legs = leg_fates(bundles, [first, second], {})
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=0)
    everyone = [sequencer, first, second]
    made = {
        "bundles": bundles_table(bundles, fates),
        "legs": legs_table(bundles, legs, ["a", "b"]),
        "blocks": blocks_table(everyone, {"a": 100}),
        "resources": resources_table(everyone, {"a": 100}),
        "stalls": stalls_table(everyone, {"a": 100}),
        "reorgs": reorgs_table(everyone, {}),
        "verdicts": verdicts_table(sequencer, 0),
        "certificates": certificates_table([], ["a", "b"]),
        "settlements": settlements_table(sequencer, 0),
        "proofs": proofs_table(sequencer, 0),
    }
    assert {name: table.schema for name, table in made.items()} == dict(TABLES)
    assert made["bundles"]["outcome"].to_pylist() == ["lost", "refused", "unsent"]
    assert made["bundles"]["accepted_ns"].to_pylist() == [5, None, None]
    assert made["bundles"]["atomic_safe_ns"].null_count == made["bundles"]["final_ns"].null_count == 3
    assert made["legs"]["rollup"].to_pylist() == ["a", "b"] * 3
    assert made["legs"]["fate"].to_pylist()[:2] == ["succeeded", "missing"]
    assert made["blocks"]["at_ns"].to_pylist() == [9, 120, 20]
    assert made["resources"]["at_ns"].to_pylist() == [102]
    assert made["stalls"].to_pylist()[0]["reason"] == "withheld"
    assert (first.kind, first.host, len(first.recoveries)) == ("rollup", "h", 1)


@pytest.mark.parametrize("count", [60_000])
def test_joining_a_long_run_takes_no_time_to_speak_of(count: int) -> None:
    """120,000 legs; the bound of two seconds for 180,000 leaves room for a busy machine."""
    import time

    bundles = sent(count)
    hashes = np.frombuffer(bundles.tx_hashes, dtype="V32").reshape(count, 2)
    traces = []
    for rollup in (0, 1):
        node = NodeTrace(f"r{rollup}")
        for height, begin in enumerate(range(0, count, 500), start=1):
            mine: NDArray[np.void] = hashes[begin : begin + 500, rollup]
            node.feed(record(height, executed(height, [(TxHash(bytes(item)), OK) for item in mine])))
        traces.append(node)
    sequencer = trace("s", *((1, cut(h, range(b, b + 500))) for h, b in enumerate(range(0, count, 500), start=1)))
    begin_s = time.process_time()
    legs = leg_fates(bundles, traces, {})
    fates = bundle_fates(bundles, legs, sequencer, offset_ns=0)
    legs_table(bundles, legs, ["a", "b"])
    bundles_table(bundles, fates)
    assert time.process_time() - begin_s < 2.0
    assert {OUTCOMES[code] for code in np.unique(fates.outcome)} == {"succeeded"}
