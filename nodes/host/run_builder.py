"""The super builder inside a host."""

from dataclasses import replace

from nodes.agglayer.builder import BuilderNode
from nodes.host.parts import HostParts
from nodes.host.ports import GRPC
from nodes.model.config import BuilderNodeConfig


async def run_builder(host: HostParts, config: BuilderNodeConfig) -> None:
    """Run a builder until the host stops."""
    running = host.open(config.name, kind="builder", ports={GRPC: config.port})
    link = host.link(config.name)
    config = replace(
        config,
        sequencer_endpoints=tuple(link(address) for address in config.sequencer_endpoints),
        rollup_rpc_urls={name: link(url) for name, url in config.rollup_rpc_urls.items()},
        l1_rpc_url=link(config.l1_rpc_url),
    )
    node = BuilderNode(config, directory=running.directory, clock=host.clock, tracer=running.tracer, crash=host.crash)
    await host.serve(running, node, node.servicers)
