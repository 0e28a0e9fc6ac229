"""What the coordinator tells a node process and hears from it, as messages."""

from nodes.model.config import HostReady, NodeEndpoint
from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.faults import EvidenceKind, Fault, Fork, KillEngine, Rewind, WithholdEvidence
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
    match fault:
        case KillEngine():
            return pb.InjectFaultRequest(node=node, kill_engine=pb.KillEngine())
        case Rewind(height=height):
            return pb.InjectFaultRequest(node=node, rewind=pb.Rewind(height=height))
        case WithholdEvidence(kind=kind, blocks=blocks):
            withhold = pb.WithholdEvidence(kind=kind.value, blocks=blocks)
            return pb.InjectFaultRequest(node=node, withhold_evidence=withhold)
        case Fork(height=height):
            return pb.InjectFaultRequest(node=node, fork=pb.Fork(height=height))


def fault_from_proto(message: pb.InjectFaultRequest) -> tuple[str, Fault]:
    """The node's name and its fault. Raises InvalidInput for an unknown fault, UnknownName for a kind of evidence."""
    match message.WhichOneof("fault"):
        case "kill_engine":
            return message.node, KillEngine()
        case "rewind":
            return message.node, Rewind(height=Height(message.rewind.height))
        case "withhold_evidence":
            return message.node, _withhold_from_proto(message.withhold_evidence)
        case "fork":
            return message.node, Fork(height=Height(message.fork.height))
        case _:
            raise InvalidInput("a fault that this build does not know; the coordinator is of another version")


def _withhold_from_proto(message: pb.WithholdEvidence) -> WithholdEvidence:
    kinds = [kind.value for kind in EvidenceKind]
    if message.kind not in kinds:
        raise UnknownName(kind="evidence", name=message.kind, known=kinds)
    if message.blocks == 0:
        raise InvalidInput("withhold_evidence: blocks is 0; at least 1 block must be served without its evidence")
    return WithholdEvidence(kind=EvidenceKind(message.kind), blocks=message.blocks)
