"""A sequencer inside a host."""

from nodes.host.parts import HostParts, backend_named
from nodes.host.ports import GRPC
from nodes.model.config import SequencerNodeConfig
from nodes.wire.sequencer import SequencerServicer


async def run_sequencer(host: HostParts, config: SequencerNodeConfig) -> None:
    """Run it until the host stops. Raises UnknownName for a backend that does not exist."""
    backend = backend_named(config.backend)
    running = host.open(config.name, kind="sequencer", ports={GRPC: config.port})
    node = backend.build(
        backend.configure(config.options),
        testnet=host.config.testnet,
        directory=running.directory,
        clock=host.clock,
        tracer=running.tracer,
        crash=host.crash,
        link=host.link(config.name),
    )
    running.engine_pid, running.rpc_url = lambda: node.engine_pid, lambda: node.rpc_url
    await host.serve(running, node, [SequencerServicer(node)])
