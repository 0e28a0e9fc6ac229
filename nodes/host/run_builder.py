"""The super builder inside a host."""

from nodes.agglayer.builder import BuilderNode
from nodes.host.parts import HostParts
from nodes.host.ports import GRPC
from nodes.model.config import BuilderNodeConfig


async def run_builder(host: HostParts, config: BuilderNodeConfig) -> None:
    """Run a builder until the host stops."""
    running = host.open(config.name, kind="builder", ports={GRPC: config.port})
    node = BuilderNode(config, directory=running.directory, clock=host.clock, tracer=running.tracer, crash=host.crash)
    await host.serve(running, node, node.servicers)
