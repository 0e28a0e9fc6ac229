"""An attester inside a host. It imports little: every attester is a process of its own."""

from nodes.agglayer.attester import AttesterNode
from nodes.host.parts import HostParts
from nodes.host.ports import GRPC
from nodes.model.config import AttesterNodeConfig


async def run_attester(host: HostParts, config: AttesterNodeConfig) -> None:
    """Run it until the host stops."""
    running = host.open(config.name, kind="attester", ports={GRPC: config.port})
    node = AttesterNode(config, clock=host.clock, tracer=running.tracer)
    await host.serve(running, node, node.servicers)
