"""One value, or several, for every message of the protos, with the functions that bring it onto the wire and back.

Values are made up but of the right shape; every field of every message is set in at least one of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from google.protobuf.message import Message

from nodes.model.agglayer import CertificateStatus
from nodes.model.bundle import Bundle, Leg, Trailer
from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.execution import AbortReason, DroppedLeg, DropReason, LegOutcome, Outcome, SkipReason, Status
from nodes.model.faults import (
    AttestWrong,
    CrashAt,
    DelayAttestations,
    Diverge,
    EvidenceKind,
    Fault,
    Fork,
    KillEngine,
    PauseL1,
    ReorgL1,
    Rewind,
    SilenceReports,
    SolanaTrouble,
    Trouble,
    WithholdEvidence,
)
from nodes.model.ids import (
    BundleHash,
    ChainId,
    HeaderHash,
    Height,
    LegHash,
    SubmissionHash,
    TxHash,
    rollup_id_of,
)
from nodes.model.promises import OutcomeEvidence
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    ProvenItems,
    RolledBack,
    RollupContent,
    SequencedBlock,
    SequencerEvent,
    SiblingEvidence,
)
from nodes.model.status import BlockHead, Heads, LegFate, RollupStatus
from nodes.ports import SequencerStatus, Ticket
from nodes.rules.sequenced_block import BlockTrees, genesis_ref, place, seal
from nodes.telemetry import events
from nodes.wire import blocks, bundles, control_messages, rollup_messages, tickets, trace_records
from protos.lockstep.control.v1 import control_pb2
from protos.lockstep.rollup.v1 import rollup_pb2
from protos.lockstep.sequencer.v1 import sequencer_pb2
from protos.lockstep.trace.v1 import trace_pb2

FILES = (control_pb2.DESCRIPTOR, rollup_pb2.DESCRIPTOR, sequencer_pb2.DESCRIPTOR, trace_pb2.DESCRIPTOR)


class Sample(NamedTuple):
    """One golden file."""

    name: str
    """Full name of the message, and a variant where one value cannot set every field."""
    message: Message
    value: Any
    restore: Callable[[Any], Any]
    """From the parsed message to the value."""


def filled(byte: int, size: int = 32) -> bytes:
    """`size` equal bytes."""
    return bytes([byte]) * size


RED, BLUE = rollup_id_of(7001), rollup_id_of(7002)
REF = BlockRef(height=Height(41), hash=HeaderHash(filled(0x41)))
BUNDLE = Bundle(
    version=1,
    expiry=99,
    legs=(
        Leg(rollup_id=RED, payload=b"red payload", leg_hash=LegHash(filled(1))),
        Leg(rollup_id=BLUE, payload=b"blue payload", leg_hash=LegHash(filled(2))),
    ),
)
PLAIN = Bundle(version=0, expiry=0, legs=(Leg(rollup_id=RED, payload=b"plain", leg_hash=LegHash(b"")),))


def sequenced_block() -> SequencedBlock:
    """A whole block with a bundle over two rollups and a plain transaction."""
    contents = place([BUNDLE, PLAIN])
    chain_id = filled(0xCC)
    trees = BlockTrees(contents)
    header, header_hash = seal(
        trees, chain_id=chain_id, time_ns=1_700_000_000_000_000_001, parent=genesis_ref(chain_id)
    )
    return SequencedBlock(header=header, header_hash=header_hash, contents=contents, finality_proof=b"signed")


def filtered_block() -> FilteredBlock:
    """A filtered block with every field set; its proofs prove nothing."""
    return FilteredBlock(
        header=filled(0x48, 149),
        rollup_id=RED,
        rollup_ids=(RED, BLUE),
        content=RollupContent(payloads=(b"p0", b"", b"p2"), rows=(b"r0",)),
        leaf_path=filled(3, 64),
        siblings=(
            SiblingEvidence(
                rollup_id=BLUE,
                leaf_path=filled(4),
                payload_count=9,
                payloads_root=filled(5),
                row_count=2,
                rows_root=filled(6),
                payloads=ProvenItems(positions=(2, 8), values=(b"", b"sibling payload"), proof=filled(7, 96)),
                rows=ProvenItems(positions=(1,), values=(b"another row",), proof=filled(8)),
            ),
        ),
        finality_proof=b"signed",
        commitment=Commitment.FIRM,
    )


TICKETS = [
    Ticket(submission_hash=SubmissionHash(filled(1)), accepted=True, duplicate=False, reason=""),
    Ticket(submission_hash=SubmissionHash(filled(2)), accepted=True, duplicate=True, reason=""),
    Ticket(submission_hash=SubmissionHash(filled(3)), accepted=False, duplicate=False, reason="no legs"),
]
SEQUENCER_STATUS = SequencerStatus(
    backend="lazy",
    head=REF,
    firm_height=40,
    pending_bundles=3,
    pending_bytes=999,
    rollup_ids=(RED, BLUE),
    block_interval_ms=100,
    block_bytes_max=1 << 20,
    costs={"lamports": 5_000},
)
HEADS = Heads(
    height=Height(41),
    latest=BlockHead(number=17, hash=filled(17)),
    safe=BlockHead(number=16, hash=filled(16)),
    finalized=BlockHead(number=15, hash=filled(15)),
)
ROLLUP_STATUS = RollupStatus(
    name="red-0",
    chain_id=ChainId(7001),
    heads=HEADS,
    sequencer_height=Height(42),
    pending_transactions=5,
    transactions=1234,
    rpc_url="http://127.0.0.1:8545",
    stalled="no proof of payload 3 of a sibling",
)
FATES = [
    LegFate(
        leg_index=1, height=Height(9), tx_hash=TxHash(filled(4)), fate="skipped", reason="nonce_too_low", block_number=8
    )
]
OUTCOMES = [
    OutcomeEvidence(
        outcome=LegOutcome(BundleHash(filled(9)), 1, Height(9), Status.SUCCEEDED),
        position=3,
        siblings=(filled(1), filled(2)),
        first_height=Height(8),
        last_height=Height(12),
    )
]
HOST_READY = HostReady(
    name="host-0",
    host="10.0.0.7",
    pid=4321,
    control_address="10.0.0.7:9000",
    nodes=(
        NodeEndpoint(
            name="red-0",
            kind="rollup",
            grpc_address="10.0.0.7:9001",
            rpc_url="http://10.0.0.7:8545",
            engine_pid=4322,
        ),
    ),
)
EVENTS: tuple[events.Event, ...] = (
    events.NodeStarted(node="red-0", kind="rollup", pid=7, host="10.0.0.7", boot_id="b007"),
    events.BlockSequenced(
        height=5,
        hash=filled(5),
        time_ns=1_700_000_000_000_000_000,
        submission_hashes=(SubmissionHash(filled(1)), SubmissionHash(filled(2))),
        payload_bytes=300,
        payloads=4,
    ),
    events.CommitmentRaised(height=5, level=Commitment.FINAL),
    events.BlockExecuted(
        height=5,
        number=3,
        hash=filled(6),
        state_root=filled(7),
        timestamp_s=1_700_000_000,
        gas_used=42_000,
        outcomes=(
            Outcome(TxHash(filled(1)), Status.SUCCEEDED, None),
            Outcome(TxHash(filled(2)), Status.REVERTED, None),
            Outcome(TxHash(filled(3)), Status.SKIPPED, SkipReason.INSUFFICIENT_BALANCE),
            Outcome(TxHash(filled(9)), Status.ABORTED, AbortReason.UNMATCHED_MINT),
        ),
        dropped=(
            DroppedLeg(0, DropReason.MALFORMED, TxHash(filled(4)), None),
            DroppedLeg(300, DropReason.INCOMPLETE, TxHash(filled(5)), Trailer(BundleHash(filled(8)), 1, 2)),
        ),
        received_ns=10,
        derived_ns=20,
        built_ns=30,
        replayed=True,
    ),
    events.BlockReorged(from_height=9, to_height=5),
    events.ReaderStalled(height=6, reason="no leaf proof", source="127.0.0.1:9000"),
    events.NodeRecovered(checkpoint_height=2, recovered_height=9, duration_ns=123),
    events.CheckpointWritten(height=8, size_bytes=4096, duration_ns=456),
    events.ResourcesSampled(
        process_cpu_s=1.5,
        process_pss_bytes=1 << 26,
        engine_cpu_s=2.5,
        engine_pss_bytes=1 << 25,
        wire_bytes_in=11,
        wire_bytes_out=12,
        stage_cpu_ns={"derive": 5, "verify": 6, "build": 7},
    ),
    events.FaultInjected(fault="kill_engine", target="red-0"),
    events.FaultHealed(fault="kill_engine", target="red-0"),
    events.LinkSampled(
        peer="sequencer",
        region="us-east-1",
        peer_region="eu-west-1",
        is_back=True,
        one_way_ns=33_000_000,
        connections=2,
        chunks=640,
        bytes=123_456,
        lost=3,
        delay_mean_ns=33_700_000,
        delay_p50_ns=33_500_000,
        delay_p99_ns=36_000_000,
        delay_max_ns=101_000_000,
        late_mean_ns=400_000,
        late_p99_ns=1_200_000,
    ),
    events.DivergenceFound(
        height=7,
        number=6,
        position=2,
        tx_hash=filled(0xD1),
        account=b"\x11" * 20,
        field="balance",
        engine="0x2",
        checker="0x1",
        engine_footprint=filled(0xD2),
        checker_footprint=filled(0xD3),
        policy="halt",
    ),
    events.DivergenceChecked(
        mode="all",
        total=100,
        checked=90,
        differing=1,
        missed=2,
        replaced=3,
        waiting=4,
        history=5,
        busy_ns=123_456,
        samples_from=8,
        reason="it cannot keep up",
    ),
    events.HeightResolved(
        epoch=1,
        height=5,
        rounds=3,
        block_hash=filled(6),
        aborted=(
            (BundleHash(filled(8)), AbortReason.REVERTED, False),
            (BundleHash(filled(9)), AbortReason.VOIDED, True),
        ),
    ),
    events.VerdictIssued(epoch=1, height=5, rounds=3, aborted=2, struck_together=1, networks=4),
    events.NoticeLogged(kind="void", epoch=1, height=5, network_id=2, voided=3),
    events.EvidenceFound(accused="red", detail="two reports of height 5"),
    events.CertificateBuilt(
        network_id=1,
        certificate_height=2,
        certificate_id=filled(0xCE),
        first_height=3,
        last_height=9,
        exits=10,
        imports=2,
        imported_bundles=(BundleHash(filled(8)), BundleHash(filled(9))),
    ),
    events.CertificateMoved(
        network_id=1,
        certificate_height=2,
        certificate_id=filled(0xCE),
        status=CertificateStatus.IN_ERROR,
        error="balance underflow",
        first_height=3,
        last_height=9,
    ),
    events.ProofMade(prover="modelled", certificates=4, exits=40, imports=8, duration_ns=9_000, modelled_ns=8_000),
    events.SettlementMoved(
        step="included",
        tx_hash=filled(0xAA),
        l1_block=12,
        gas_used=345_678,
        certificate_ids=(filled(0xCE), filled(0xCF)),
    ),
    events.BundleJudged(ordered=7, refused=2, duration_ns=3_000, bonded_wei=30 * 10**18),
)


def stamped(event: events.Event) -> events.Stamped:
    """The event at a made-up moment."""
    return events.Stamped(monotonic_ns=123_456_789, wall_ns=1_700_000_000_000_000_123, event=event)


def _same(message: Any) -> Any:
    return message


def _raw(message: Message, variant: str = "") -> Sample:
    """A message whose fields are the value: nothing converts it."""
    return _sample(message, message, _same, variant)


def _sample(message: Message, value: Any, restore: Callable[[Any], Any], variant: str = "") -> Sample:
    full = message.DESCRIPTOR.full_name
    return Sample(f"{full}-{variant}" if variant else full, message, value, restore)


def _sequencer() -> list[Sample]:
    pb = sequencer_pb2
    block, stored = filtered_block(), sequenced_block()
    message = blocks.filtered_block_to_proto(block)
    stored_message = pb.StoredBlock.FromString(blocks.stored_block_to_bytes(stored))
    response = tickets.tickets_to_proto(TICKETS)
    bundle = pb.Bundle.FromString(bundles.bundle_to_bytes(BUNDLE))
    occurrences: dict[str, SequencerEvent] = {
        "block": BlockSequenced(block=block),
        "commitment_raised": CommitmentRaised(height=Height(41), level=Commitment.FINAL),
        "rolled_back": RolledBack(to=REF),
    }
    followed = {kind: blocks.event_to_proto(event) for kind, event in occurrences.items()}
    return [
        _sample(bundle, BUNDLE, lambda m: bundles.bundle_from_bytes(m.SerializeToString(deterministic=True))),
        _sample(
            pb.Bundle.FromString(bundles.bundle_to_bytes(PLAIN)),
            PLAIN,
            lambda m: bundles.bundle_from_bytes(m.SerializeToString(deterministic=True)),
            "plain",
        ),
        _raw(bundle.legs[0]),
        _raw(pb.SubmitRequest(bundles=[bundles.bundle_to_bytes(BUNDLE), bundles.bundle_to_bytes(PLAIN)])),
        _sample(response, TICKETS, lambda m: tickets.tickets_from_proto(m, count=3)),
        _raw(pb.SubmitResponse(retry_after_ms=250), "full"),
        _raw(response.tickets[2]),
        _sample(blocks.block_ref_to_proto(REF), REF, blocks.block_ref_from_proto),
        _raw(pb.FollowRequest(locator=[blocks.block_ref_to_proto(REF)], rollup_id=RED)),
        *[_sample(followed[kind], occurrences[kind], blocks.event_from_proto, kind) for kind in followed],
        _raw(followed["commitment_raised"].commitment_raised),
        _raw(followed["rolled_back"].rolled_back),
        _sample(message, block, blocks.filtered_block_from_proto),
        _raw(message.siblings[0]),
        _raw(message.siblings[0].payloads),
        _sample(stored_message, stored, lambda m: blocks.stored_block_from_bytes(m.SerializeToString())),
        _raw(stored_message.contents[0]),
        _raw(pb.GetStatusRequest()),
        _sample(
            tickets.sequencer_status_to_proto(SEQUENCER_STATUS), SEQUENCER_STATUS, tickets.sequencer_status_from_proto
        ),
    ]


def _rollup() -> list[Sample]:
    pb = rollup_pb2
    heads = rollup_messages.heads_to_proto(HEADS)
    fates = rollup_messages.bundle_fates_to_proto(FATES)
    outcomes = rollup_messages.outcome_proofs_to_proto(OUTCOMES)
    hashes = [filled(1), filled(2)]
    return [
        _raw(pb.GetStatusRequest()),
        _sample(
            rollup_messages.rollup_status_to_proto(ROLLUP_STATUS),
            ROLLUP_STATUS,
            rollup_messages.rollup_status_from_proto,
        ),
        _raw(pb.FollowHeadsRequest()),
        _sample(heads, HEADS, rollup_messages.heads_from_proto),
        _raw(heads.latest),
        _raw(pb.GetBlockHashesRequest(first_number=7, count=2)),
        _sample(
            rollup_messages.block_hashes_to_proto(hashes, first_number=7),
            hashes,
            rollup_messages.block_hashes_from_proto,
        ),
        _raw(pb.GetBundleRequest(bundle_hash=filled(9))),
        _sample(fates, FATES, rollup_messages.bundle_fates_from_proto),
        _raw(fates.legs[0]),
        _raw(pb.GetOutcomeProofRequest(bundle_hash=filled(9), leg_index=1)),
        _sample(
            outcomes,
            OUTCOMES,
            lambda m: rollup_messages.outcome_proofs_from_proto(m, bundle_hash=filled(9), leg_index=1),
        ),
        _raw(outcomes.proofs[0]),
    ]


def _control() -> list[Sample]:
    pb = control_pb2
    ready = control_messages.host_ready_to_proto(HOST_READY)
    faults: dict[str, Fault] = {
        "kill_engine": KillEngine(),
        "rewind": Rewind(height=Height(8)),
        "withhold_evidence": WithholdEvidence(kind=EvidenceKind.SIBLING, blocks=3),
        "fork": Fork(height=Height(9)),
        "silence_reports": SilenceReports(on=True),
        "attest_wrong": AttestWrong(on=True),
        "delay_attestations": DelayAttestations(delay_ms=1_500),
        "reorg_l1": ReorgL1(depth=2, keep_transactions=True),
        "pause_l1": PauseL1(slots=5),
        "solana_trouble": SolanaTrouble(trouble=Trouble.LAG_RPC, amount=4, for_slots=10),
        "diverge": Diverge(account=b"\x11" * 20, slot=b"\x22" * 32, add=3),
        "crash_at": CrashAt(place="settlement.after_journal", count=2),
    }
    requests = {kind: control_messages.fault_to_proto("node-0", fault) for kind, fault in faults.items()}
    return [
        _raw(pb.WaitReadyRequest()),
        _sample(ready, HOST_READY, control_messages.host_ready_from_proto),
        _raw(ready.nodes[0]),
        _raw(pb.ReadClockRequest()),
        _raw(pb.ReadClockResponse(monotonic_ns=1, wall_ns=2, boot_id="b007")),
        *[
            _sample(requests[kind], ("node-0", faults[kind]), control_messages.fault_from_proto, kind)
            for kind in requests
        ],
        *[_raw(getattr(requests[kind], kind)) for kind in requests],
        _raw(pb.InjectFaultResponse()),
        _raw(pb.StopRequest()),
        _raw(pb.StopResponse()),
    ]


def _trace() -> list[Sample]:
    pb = trace_pb2
    samples = [
        _raw(pb.CollectRequest(node="red-0", offset=77, follow=True)),
        _raw(pb.CollectResponse(offset=77, records=trace_records.stamped_to_bytes(stamped(EVENTS[0])))),
    ]
    for event in EVENTS:
        record = trace_records.trace_record_to_proto(stamped(event))
        kind = record.WhichOneof("event")
        assert kind is not None
        samples.append(_sample(record, stamped(event), trace_records.trace_record_from_proto, kind))
        samples.append(_raw(getattr(record, kind)))
    return samples


def samples() -> list[Sample]:
    """Every golden sample."""
    return _sequencer() + _rollup() + _control() + _trace()
