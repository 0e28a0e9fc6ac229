"""Every invariant of a run with verdicts can fail: each is shown a run that keeps it and one that breaks it."""

import numpy as np

from coordinator.collect.join import OUTCOMES, BundleFates, SentBundles
from coordinator.collect.node_trace import NodeTrace
from coordinator.collect.settling import CertificateLife
from coordinator.stages import atomic_invariants as checks
from coordinator.stages.invariants import Verdict, replicas_agree
from coordinator.stages.verdict_log import VerdictLog
from nodes.model.agglayer import NetworkId
from nodes.model.execution import AbortReason, Outcome, Status
from nodes.model.ids import BundleHash, Height, TxHash
from nodes.model.verdict import Abort, AbortSet
from nodes.model.verdict import Verdict as HeightVerdict
from nodes.rules.evaluation import EvaluatedVerdict
from nodes.telemetry.events import BlockExecuted, BlockReorged, Event, HeightResolved, Stamped
from nodes.wire.trace_records import stamped_to_bytes

STRUCK = BundleHash(b"\4" * 32)


def trace(node: str, *events: Event) -> NodeTrace:
    made = NodeTrace(node)
    for at_ns, event in enumerate(events):
        made.feed(stamped_to_bytes(Stamped(monotonic_ns=at_ns, wall_ns=at_ns, event=event)))
    return made


def executed(height: int, block: bytes = b"\1") -> BlockExecuted:
    return BlockExecuted(
        height=height, number=height, hash=block * 32, state_root=b"\7" * 32, timestamp_s=0, gas_used=0,
        outcomes=(Outcome(TxHash(bytes(32)), Status.SUCCEEDED, None),), dropped=(), received_ns=0, derived_ns=0,
        built_ns=0, replayed=False,
    )  # fmt: skip


def resolved(height: int, block: bytes = b"\1", *struck: BundleHash, epoch: int = 0) -> HeightResolved:
    aborted = tuple((bundle, AbortReason.REVERTED, False) for bundle in struck)
    return HeightResolved(epoch=epoch, height=height, rounds=1, block_hash=block * 32, aborted=aborted)


def log(*heights: int, struck: tuple[BundleHash, ...] = ()) -> VerdictLog:
    aborts = AbortSet(aborts=tuple(Abort(0, bundle, AbortReason.REVERTED, 0, False) for bundle in struck))
    made = VerdictLog()
    for height in heights:
        verdict = HeightVerdict(
            epoch=0, height=Height(height), aborts=aborts, rounds=1, reports_hash=bytes(32), notices=(),
            previous=bytes(32),
        )  # fmt: skip
        made.by_height[height] = EvaluatedVerdict(verdict=verdict, hash=bytes(32), reports=())
    return made


def fates(*outcomes: str) -> BundleFates:
    nothing = np.full(len(outcomes), -1, dtype=np.int64)
    return BundleFates(
        outcome=np.array([OUTCOMES.index(name) for name in outcomes], dtype=np.int8),
        reason=np.zeros(len(outcomes), np.int8), height=nothing, sequenced_ns=nothing, firm_ns=nothing,
        executed_ns=nothing, unbundled=np.zeros(len(outcomes), np.bool_),
    )  # fmt: skip


def sent(count: int) -> SentBundles:
    times = np.zeros(count, dtype=np.int64)
    return SentBundles(
        legs=2, lanes=np.zeros(count, np.int32), rollups=np.zeros((count, 2), np.int16),
        submission_hashes=bytes(32 * count), bundle_hashes=b"".join(bytes([at + 4]) * 32 for at in range(count)),
        tx_hashes=b"".join(bytes([at + 100]) * 32 for at in range(2 * count)), due_ns=times, sent_ns=times,
        accepted_ns=times, refused=np.zeros(count, np.bool_), attempts=np.ones(count, np.int16),
    )  # fmt: skip


def life(*imported: BundleHash, status: str = "settled") -> CertificateLife:
    return CertificateLife(
        network_id=1, certificate_height=0, certificate_id=bytes(32), first_height=1, last_height=4, status=status,
        imported_bundles=imported,
    )  # fmt: skip


def test_no_bundle_is_partly_succeeded_once_its_height_is_resolved() -> None:
    both = fates("succeeded", "aborted", "partly")
    assert checks.no_partly(both, np.array([True, True, False])).ok, "the verdict may still strike it"
    found = checks.no_partly(both, np.array([True, True, True]))
    assert found == Verdict(ok=False, detail="1 succeeded whole, 1 aborted; bundle 2")


def test_nodes_take_the_verdict_of_the_log() -> None:
    groups = {"r": [trace("a", resolved(1, b"\1", STRUCK)), trace("b", resolved(1, b"\1", STRUCK))]}
    assert checks.verdicts_agree(groups, log(1, struck=(STRUCK,))).ok
    assert not checks.verdicts_agree(groups, log(1)).ok, "nobody struck that bundle"
    other = {"r": [trace("a", resolved(1)), trace("b", resolved(1, b"\2"))]}
    assert "b resolved height 1 otherwise than a" in checks.verdicts_agree(other, log(1)).detail
    broken = log(1)
    broken.problem = "height 2: it is not signed by the resolver"
    assert not checks.verdicts_agree({"r": [trace("a", resolved(1))]}, broken).ok


def test_a_node_that_resolves_a_height_twice_in_one_epoch_contradicts_itself() -> None:
    assert trace("a", resolved(1), resolved(1, b"\2")).conflicts
    assert not trace("a", resolved(1), resolved(1), resolved(1, b"\2", epoch=1)).conflicts


def test_replicas_are_compared_where_both_have_a_verdict() -> None:
    first = trace("a", executed(1), resolved(1), executed(2))
    second = trace("b", executed(1), resolved(1), executed(2, b"\5"))
    assert not replicas_agree({"r": [first, second]}).ok
    assert replicas_agree({"r": [first, second]}, only_resolved=True).ok


def test_an_import_of_an_aborted_bundle_is_found() -> None:
    both = fates("aborted", "succeeded")
    assert checks.no_import_of_aborted(sent(2), both, [life(BundleHash(b"\5" * 32))]).ok
    assert "imports bundle 0404" in checks.no_import_of_aborted(sent(2), both, [life(STRUCK)]).detail
    assert checks.aborted_legs(sent(2), both) == [b"\x64" * 32, b"\x65" * 32]


def test_a_settled_block_that_the_node_does_not_stand_on_is_found() -> None:
    node = trace("a", executed(1), executed(3), BlockReorged(from_height=3, to_height=1), executed(3, b"\2"))
    key = (NetworkId(1), Height(4))
    assert checks.settled_blocks_stand([life()], {key: b"\2" * 32}, [node]).ok
    assert not checks.settled_blocks_stand([life()], {key: b"\1" * 32}, [node]).ok
    assert checks.both(Verdict(ok=True, detail="a"), Verdict(ok=False, detail="b")) == Verdict(ok=False, detail="a; b")
