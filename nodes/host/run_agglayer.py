"""The aggregation layer's service inside a host."""

from dataclasses import replace

from nodes.agglayer.service import AgglayerNode
from nodes.host.parts import HostParts, backend_named
from nodes.host.ports import GRPC
from nodes.model.config import AgglayerNodeConfig


async def run_agglayer(host: HostParts, config: AgglayerNodeConfig) -> None:
    """Run it until the host stops. Raises UnknownName for a backend or a prover that does not exist."""
    running = host.open(config.name, kind="agglayer", ports={GRPC: config.port})
    await host.until_usable("l1")  # an L1 that is being rebuilt would take transactions too early
    link = host.link(config.name)
    config = replace(
        config,
        sequencer_endpoints=tuple(link(address) for address in config.sequencer_endpoints),
        l1_rpc_url=link(config.l1_rpc_url),
        attester_endpoints=tuple(link(address) for address in config.attester_endpoints),
        rollup_rpc_urls={name: link(url) for name, url in config.rollup_rpc_urls.items()},
    )
    node = AgglayerNode(
        config,
        testnet=host.config.testnet,
        directory=running.directory,
        verify_finality=backend_named(config.backend).verifier(config.finality_options),
        clock=host.clock,
        tracer=running.tracer,
        crash=host.crash,
    )
    await host.serve(running, node, node.servicers)
