"""From certificates and verdicts to stages: a bundle has a stage when all of it has."""

from dataclasses import replace

import numpy as np

from coordinator.collect.join import NEVER, OUTCOMES, BundleFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import bundle_stages, certificate_lives
from coordinator.collect.tables import certificates_table, reorgs_table, settlements_table, verdicts_table
from coordinator.record import CERTIFICATES
from nodes.model.agglayer import CertificateStatus
from nodes.model.execution import Outcome, Status
from nodes.model.ids import BundleHash, TxHash
from nodes.rules.hashes import sha256
from nodes.telemetry.events import (
    BlockExecuted,
    BlockReorged,
    CertificateBuilt,
    CertificateMoved,
    Event,
    EvidenceFound,
    HeightResolved,
    SettlementMoved,
    Stamped,
    VerdictIssued,
)
from nodes.wire.trace_records import stamped_to_bytes

PENDING, PROVEN, SETTLED = CertificateStatus.PENDING, CertificateStatus.PROVEN, CertificateStatus.SETTLED


def trace(node: str, *records: tuple[int, Event]) -> NodeTrace:
    made = NodeTrace(node)
    for at_ns, event in records:
        made.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    return made


def executed(height: int, block: bytes = b"\1") -> BlockExecuted:
    outcome = Outcome(TxHash(bytes(32)), Status.SUCCEEDED, None)
    return BlockExecuted(
        height=height, number=height, hash=block * 32, state_root=b"\7" * 32, timestamp_s=0, gas_used=0,
        outcomes=(outcome,), dropped=(), received_ns=0, derived_ns=0, built_ns=0, replayed=False,
    )  # fmt: skip


def resolved(height: int, block: bytes = b"\1", epoch: int = 0) -> HeightResolved:
    return HeightResolved(epoch=epoch, height=height, rounds=1, block_hash=block * 32, aborted=())


def bundle_hash(bundle: int) -> BundleHash:
    return BundleHash(sha256(bytes([bundle])))


def certificate_id(network: int, height: int) -> bytes:
    return sha256(b"certificate" + bytes([network, height]))


def built(network: int, number: int, first: int, last: int, *imported: int) -> CertificateBuilt:
    return CertificateBuilt(
        network_id=network, certificate_height=number, certificate_id=certificate_id(network, number),
        first_height=first, last_height=last, exits=1, imports=len(imported),
        imported_bundles=tuple(bundle_hash(bundle) for bundle in imported),
    )  # fmt: skip


def moved(network: int, number: int, status: CertificateStatus, first: int, last: int) -> CertificateMoved:
    return CertificateMoved(
        network_id=network, certificate_height=number, certificate_id=certificate_id(network, number), status=status,
        error="exit above balance" if status is CertificateStatus.IN_ERROR else "", first_height=first,
        last_height=last,
    )  # fmt: skip


def settlement(step: str, *ids: bytes) -> SettlementMoved:
    return SettlementMoved(step=step, tx_hash=b"\5" * 32, l1_block=7, gas_used=200_000, certificate_ids=ids)


def sent(heights: list[int]) -> tuple[SentBundles, BundleFates]:
    """Bundles of two legs, the second of which mints, on rollups 0 and 1."""
    count = len(heights)
    times = np.full(count, 5, dtype=np.int64)
    bundles = SentBundles(
        legs=2, lanes=np.zeros(count, np.int32), rollups=np.tile(np.array([0, 1], dtype=np.int16), (count, 1)),
        submission_hashes=bytes(32 * count), bundle_hashes=b"".join(bundle_hash(at) for at in range(count)),
        tx_hashes=bytes(64 * count), due_ns=times, sent_ns=times, accepted_ns=times,
        refused=np.zeros(count, np.bool_), attempts=np.ones(count, np.int16),
    )  # fmt: skip
    fates = BundleFates(
        outcome=np.full(count, OUTCOMES.index("succeeded"), np.int8), reason=np.zeros(count, np.int8),
        height=np.array(heights, dtype=np.int64), sequenced_ns=times, firm_ns=times, executed_ns=times,
        unbundled=np.zeros(count, np.bool_),
    )  # fmt: skip
    return bundles, fates


def stages(
    heights: list[int], first: NodeTrace, second: NodeTrace, agglayer: NodeTrace, *, mints: bool = True
) -> dict[str, list[int]]:
    bundles, fates = sent(heights)
    lives = certificate_lives([first, second], [agglayer], {})
    found = bundle_stages(
        bundles, fates, [first, second], lives, mints=[1] if mints else [], has_verdicts=True, settles=True,
        offsets_ns={"b": 100},
    )  # fmt: skip
    return {stage: times.tolist() for stage, times in found._asdict().items()}


def test_atomic_safe_is_when_the_last_rollup_took_the_verdict_of_the_block_that_stands() -> None:
    first = trace("a", (10, executed(1)), (12, resolved(1)), (20, executed(2)), (21, resolved(2)))
    second = trace("b", (10, executed(1)), (15, resolved(1)), (20, executed(2, b"\2")), (21, resolved(2, b"\3")))
    found = stages([1, 2, 3], first, second, trace("g"))
    assert found["atomic_safe"] == [115, NEVER, NEVER]


def test_a_new_epoch_replaces_the_verdict_and_a_restart_does_not() -> None:
    records: list[tuple[int, Event]] = [(10, executed(1)), (12, resolved(1)), (50, resolved(1))]
    assert (trace("a", *records).resolved[1].at_ns, trace("a", *records).unresolved) == (12, None)
    records += [(60, BlockReorged(from_height=1, to_height=0)), (61, executed(1, b"\2"))]
    assert trace("a", *records).unresolved == 1
    records.append((62, resolved(1, b"\2", epoch=1)))
    assert (trace("a", *records).resolved[1].at_ns, trace("a", *records).unresolved) == (62, None)


def test_verdicts_of_heights_without_legs_of_the_load_are_not_waited_for() -> None:
    made = NodeTrace("a", counts=lambda item: int(item.height == 1))
    for at_ns, event in ((10, executed(1)), (20, executed(2)), (30, executed(3))):
        made.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    assert made.unresolved == 1
    made.feed(stamped_to_bytes(Stamped(monotonic_ns=40, wall_ns=40, event=resolved(1))))
    assert made.unresolved is None, "heights 2 and 3 are of others"


def test_a_bundle_settles_with_the_last_range_and_the_last_import() -> None:
    first = trace("a", (30, built(1, 0, 1, 3)), (31, built(1, 1, 4, 4)))
    second = trace("b", (30, built(2, 0, 1, 4)), (60, built(2, 1, 5, 4, 0, 1)))
    agglayer = trace(
        "g",
        (35, moved(1, 0, PROVEN, 1, 3)), (36, moved(2, 0, PROVEN, 1, 4)),
        (40, moved(1, 0, SETTLED, 1, 3)), (41, moved(2, 0, SETTLED, 1, 4)),
        (70, moved(2, 1, PROVEN, 5, 4)), (80, moved(2, 1, SETTLED, 5, 4)),
        (90, settlement("final", certificate_id(1, 0), certificate_id(2, 0))),
    )  # fmt: skip
    found = stages([2, 3, 4, 3], first, second, agglayer)
    # 0 and 1 wait for the certificate that imports their mints; 2 lies in a range that never settled on network 1;
    # nobody imported what 3 minted.
    assert found["proved"] == [70, 70, NEVER, NEVER]
    assert found["settled"] == [80, 80, NEVER, NEVER]
    assert found["final"] == [NEVER] * 4, "the import's own settlement is not final"
    without = stages([2, 3, 4, 3], first, second, agglayer, mints=False)
    assert without["settled"] == [41, 41, NEVER, 41]
    assert without["final"] == [90, 90, NEVER, 90]


def test_a_refused_certificate_counts_for_nothing_and_keeps_its_reason() -> None:
    first = trace("a", (30, built(1, 0, 1, 3)))
    agglayer = trace("g", (35, moved(1, 0, PENDING, 1, 3)), (36, moved(1, 0, CertificateStatus.IN_ERROR, 1, 3)))
    (life,) = certificate_lives([first], [agglayer], {"a": 1_000})
    assert (life.status, life.error, life.stands) == ("in_error", "exit above balance", False)
    assert life.times_ns == {"built": 1_030, "pending": 35}
    table = certificates_table([life], ["rollup-1"])
    assert table.schema.equals(CERTIFICATES)
    row = table.to_pylist()[0]
    assert (row["rollup"], row["built_ns"], row["settled_ns"], row["exits"]) == ("rollup-1", 1_030, None, 1)


def test_a_certificate_that_was_refused_at_the_door_does_not_hold_up_what_the_next_one_imports() -> None:
    """Another stands in its place, so its rollup gives it up and builds anew; the layer never says a word of it."""
    refused = replace(built(2, 1, 1, 9, 0), certificate_id=sha256(b"given up"))
    rollups = [trace("rollup-1", (1, built(1, 0, 1, 9))), trace("rollup-2", (1, refused), (3, built(2, 1, 1, 9, 0)))]
    layer = trace("agglayer", (5, moved(1, 0, SETTLED, 1, 9)), (7, moved(2, 1, SETTLED, 1, 9)))
    lives = certificate_lives(rollups, [layer], {})
    assert [(life.status, life.stands) for life in lives] == [("settled", True), ("given_up", False), ("settled", True)]
    bundles, fates = sent([4])
    stages = bundle_stages(
        bundles, fates, rollups, lives, mints=[1], has_verdicts=True, settles=True, offsets_ns={}
    )  # fmt: skip
    assert stages.settled is not None
    assert stages.settled.tolist() == [7]
    alone = certificate_lives([trace("rollup-2", (1, refused))], [], {})
    assert [life.status for life in alone] == ["built"], "it may be on its way"


def test_a_settlement_that_l1_reorged_is_final_only_when_it_is_again() -> None:
    ours = certificate_id(1, 0)
    agglayer = trace(
        "g", (35, moved(1, 0, SETTLED, 1, 3)), (40, settlement("included", ours)), (45, settlement("final", ours)),
        (50, settlement("reorged", ours)),
    )  # fmt: skip
    (life,) = certificate_lives([], [agglayer], {})
    assert "final" not in life.times_ns
    again = replace(settlement("final", ours), tx_hash=b"\6" * 32)
    agglayer.feed(stamped_to_bytes(Stamped(monotonic_ns=60, wall_ns=60, event=again)))
    (life,) = certificate_lives([], [agglayer], {})
    assert (life.times_ns["final"], life.settlement_tx) == (60, b"\6" * 32)
    assert settlements_table(agglayer, 1).to_pylist()[-1]["at_ns"] == 61


def test_what_the_settler_calls_final_before_the_service_calls_it_settled_is_both_at_once() -> None:
    ours = certificate_id(1, 0)
    service = trace(
        "g", (40, settlement("included", ours)), (45, settlement("final", ours)), (47, moved(1, 0, SETTLED, 1, 3))
    )
    (life,) = certificate_lives([], [service], {})
    assert (life.times_ns["settled"], life.times_ns["final"]) == (45, 45)


def test_tables_of_reorgs_and_verdicts_have_what_was_traced() -> None:
    node = trace("a", (5, BlockReorged(from_height=9, to_height=6)))
    assert reorgs_table([node], {"a": 1}).to_pylist() == [
        {"node": "a", "at_ns": 6, "from_height": 9, "to_height": 6, "depth": 3}
    ]
    issued = VerdictIssued(epoch=0, height=4, rounds=3, aborted=2, struck_together=1, networks=2)
    agglayer = trace("g", (7, issued), (8, EvidenceFound(accused="rollup-1", detail="two reports")))
    assert verdicts_table(agglayer, 0).to_pylist()[0]["struck_together"] == 1
    assert agglayer.of(EvidenceFound)[0][1].accused == "rollup-1"
