"""The JSON-RPC server of a rollup node: its methods and its limits, on the transport that all nodes share."""

from nodes.json_rpc.server import JsonRpcServer
from nodes.model.limits import MAX_RPC_BODY_BYTES
from nodes.ports import Sequencer
from nodes.rollup.rpc.dispatch import Dispatcher
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED
from nodes.rollup.rpc.methods import build_methods
from nodes.rollup.rpc.subscriptions import new_mailbox
from nodes.rollup.rpc.view import NodeView
from nodes.telemetry.clock import Clock, SystemClock


class RpcServer(JsonRpcServer):
    """The JSON-RPC of one rollup node."""

    def __init__(
        self, node: NodeView, sequencer: Sequencer, host: str, port: int, *, clock: Clock | None = None
    ) -> None:
        """`port` 0 = from the OS."""
        super().__init__(
            Dispatcher(*build_methods(node, sequencer, clock or SystemClock())),
            host,
            port,
            name=f"the JSON-RPC of {node.name}",
            greeting=f"JSON-RPC of {node.name}, chain id {node.chain_id}",
            body_bytes_max=MAX_RPC_BODY_BYTES,
            busy_code=LIMIT_EXCEEDED,
            new_mailbox=new_mailbox,
        )
