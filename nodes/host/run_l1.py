"""The L1 inside a host."""

import asyncio

from nodes.ethereum.l1_node import L1Node
from nodes.host.parts import HostParts, begun
from nodes.host.ports import RPC
from nodes.model.config import L1NodeConfig


async def run_l1(host: HostParts, config: L1NodeConfig) -> None:
    """Run it until the host stops. Its JSON-RPC is the engine's own."""
    running = host.open(config.name, kind="l1", ports={RPC: config.rpc_port})
    node = L1Node(
        config,
        directory=running.directory,
        binary=host.binary,
        clock=host.clock,
        tracer=running.tracer,
        host=host.config.bind_host,
        rpc_port=running.ports.release(RPC),
        crash=host.crash,
    )
    running.inject = node.inject
    running.stage_cpu_ns, running.engine_pid = lambda: node.stage_cpu_ns, lambda: node.engine_pid
    async with asyncio.TaskGroup() as group:
        await begun(node.wait_ready, group.create_task(node.run()))
        host.usable(running, "", rpc_url=node.rpc_url)
        await host.until_stop("l1")
        node.stop()
