"""What the coordinator tells a node process and hears from it, as messages."""

from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.errors import InvalidInput, UnknownName
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
from nodes.model.ids import Height
from protos.lockstep.control.v1 import control_pb2 as pb


def host_ready_to_proto(ready: HostReady) -> pb.WaitReadyResponse:
    """What a host says once it is usable."""
    return pb.WaitReadyResponse(
        name=ready.name,
        host=ready.host,
        pid=ready.pid,
        control_address=ready.control_address,
        nodes=[
            pb.NodeEndpoint(
                name=node.name,
                kind=node.kind,
                grpc_address=node.grpc_address,
                rpc_url=node.rpc_url,
                engine_pid=node.engine_pid,
            )
            for node in ready.nodes
        ],
    )


def host_ready_from_proto(message: pb.WaitReadyResponse) -> HostReady:
    """What the host said."""
    return HostReady(
        name=message.name,
        host=message.host,
        pid=message.pid,
        control_address=message.control_address,
        nodes=tuple(
            [
                NodeEndpoint(
                    name=node.name,
                    kind=node.kind,
                    grpc_address=node.grpc_address,
                    rpc_url=node.rpc_url,
                    engine_pid=node.engine_pid,
                )
                for node in message.nodes
            ]
        ),
    )


def fault_to_proto(node: str, fault: Fault) -> pb.InjectFaultRequest:
    """The request to give one node a fault."""
    request = pb.InjectFaultRequest(node=node)
    match fault:
        case KillEngine():
            request.kill_engine.SetInParent()
        case Rewind(height=height):
            request.rewind.CopyFrom(pb.Rewind(height=height))
        case WithholdEvidence(kind=kind, blocks=blocks):
            request.withhold_evidence.CopyFrom(pb.WithholdEvidence(kind=kind.value, blocks=blocks))
        case Fork(height=height):
            request.fork.CopyFrom(pb.Fork(height=height))
        case SilenceReports(on=on):
            request.silence_reports.CopyFrom(pb.SilenceReports(on=on))
        case AttestWrong(on=on):
            request.attest_wrong.CopyFrom(pb.AttestWrong(on=on))
        case DelayAttestations(delay_ms=delay_ms):
            request.delay_attestations.CopyFrom(pb.DelayAttestations(delay_ms=delay_ms))
        case ReorgL1(depth=depth, keep_transactions=keep):
            request.reorg_l1.CopyFrom(pb.ReorgL1(depth=depth, keep_transactions=keep))
        case PauseL1(slots=slots):
            request.pause_l1.CopyFrom(pb.PauseL1(slots=slots))
        case SolanaTrouble(trouble=trouble, amount=amount, for_slots=for_slots):
            request.solana_trouble.CopyFrom(pb.SolanaTrouble(trouble=trouble.value, amount=amount, for_slots=for_slots))
        case Diverge(account=account, slot=slot, add=add):
            request.diverge.CopyFrom(pb.Diverge(account=account, slot=slot, add=add))
        case CrashAt(place=place, count=count):
            request.crash_at.CopyFrom(pb.CrashAt(place=place, count=count))
    return request


def fault_from_proto(message: pb.InjectFaultRequest) -> tuple[str, Fault]:
    """The node's name and its fault.

    Raises InvalidInput for an unknown fault or a count of 0, UnknownName for a kind of evidence or a trouble.
    """
    fault: Fault
    match message.WhichOneof("fault"):
        case "kill_engine":
            fault = KillEngine()
        case "rewind":
            fault = Rewind(height=Height(message.rewind.height))
        case "withhold_evidence":
            fault = _withhold_from_proto(message.withhold_evidence)
        case "fork":
            fault = Fork(height=Height(message.fork.height))
        case "silence_reports":
            fault = SilenceReports(on=message.silence_reports.on)
        case "attest_wrong":
            fault = AttestWrong(on=message.attest_wrong.on)
        case "delay_attestations":
            fault = DelayAttestations(delay_ms=message.delay_attestations.delay_ms)
        case "reorg_l1":
            depth = _at_least_1(message.reorg_l1.depth, "reorg_l1: depth")
            fault = ReorgL1(depth=depth, keep_transactions=message.reorg_l1.keep_transactions)
        case "pause_l1":
            fault = PauseL1(slots=_at_least_1(message.pause_l1.slots, "pause_l1: slots"))
        case "solana_trouble":
            fault = _trouble_from_proto(message.solana_trouble)
        case "diverge":
            fault = _diverge_from_proto(message.diverge)
        case "crash_at":
            fault = CrashAt(place=message.crash_at.place, count=_at_least_1(message.crash_at.count, "crash_at: count"))
        case _:
            raise InvalidInput("a fault that this build does not know; the coordinator is of another version")
    return message.node, fault


def _withhold_from_proto(message: pb.WithholdEvidence) -> WithholdEvidence:
    kinds = [kind.value for kind in EvidenceKind]
    if message.kind not in kinds:
        raise UnknownName(kind="evidence", name=message.kind, known=kinds)
    return WithholdEvidence(
        kind=EvidenceKind(message.kind), blocks=_at_least_1(message.blocks, "withhold_evidence: blocks")
    )


def _trouble_from_proto(message: pb.SolanaTrouble) -> SolanaTrouble:
    troubles = [trouble.value for trouble in Trouble]
    if message.trouble not in troubles:
        raise UnknownName(kind="trouble of Solana", name=message.trouble, known=troubles)
    return SolanaTrouble(
        trouble=Trouble(message.trouble),
        amount=_at_least_1(message.amount, "solana_trouble: amount"),
        for_slots=message.for_slots,
    )


def _diverge_from_proto(message: pb.Diverge) -> Diverge:
    if len(message.account) not in (0, 20) or len(message.slot) not in (0, 32):
        raise InvalidInput("diverge: an account has 20 bytes and a slot 32, or they are left out")
    return Diverge(account=message.account, slot=message.slot, add=_at_least_1(message.add, "diverge: add"))


def _at_least_1(number: int, what: str) -> int:
    if number < 1:
        raise InvalidInput(f"{what} is {number}; it must be at least 1")
    return number
