"""Every node in this process and this event loop: the same code, the same gRPC and the same directories, no Ray.

The quickest to start, for tests and for small machines; one core carries all Python.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from coordinator.launch.client_links import client_links
from coordinator.launch.plan import addresses_of, host_config, plan_one_host, reservations
from coordinator.launch.running import LaunchOptions, RunningTestnet, opened_directory, supervised
from coordinator.spec import ResolvedTestnet
from nodes.host import Host, reserve_address
from nodes.model.config import HostReady
from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.faults import CrashAt, Fault

LOOPBACK = "127.0.0.1"


class InProcessLauncher:
    """Starts testnets in the caller's own process."""

    describe = "all nodes in one process, attesters included; starts in about a second"

    @asynccontextmanager
    async def start(
        self, testnet: ResolvedTestnet, directory: Path, options: LaunchOptions | None = None
    ) -> AsyncIterator[RunningTestnet]:
        """See `coordinator.launch.running.Launcher`."""
        options = options or LaunchOptions()
        began_s = time.monotonic()
        with opened_directory(testnet, directory) as nodes, client_links(testnet) as links:
            plan = plan_one_host(testnet)
            reserved = {
                wanted: reserve_address(nodes, wanted.node, host=LOOPBACK, use=wanted.use)
                for wanted in reservations(testnet, plan)
            }
            host = Host(
                host_config(
                    testnet,
                    plan,
                    directory=str(nodes),
                    addresses=addresses_of(testnet, reserved),
                    host=LOOPBACK,
                    trace=options.trace,
                    engine_path=options.engine_path,
                )
            )
            options.progress(f"starting {len(testnet.node_names)} nodes in this process")
            async with supervised(host.run(), stop=host.stop):
                try:
                    async with asyncio.timeout(options.ready_timeout_s):
                        ready = await host.wait_ready()
                except TimeoutError:
                    raise Unavailable(f"the nodes were not usable within {options.ready_timeout_s:g} s") from None
                ready_s = time.monotonic() - began_s
                running = _InProcessTestnet(
                    testnet, directory, [ready], launcher="inprocess", ready_s=ready_s, links=links
                )
                running.broken_part = lambda: host.broken_node
                running.save_endpoints()
                try:
                    yield running
                finally:
                    running.remove_endpoints()


class _InProcessTestnet(RunningTestnet):
    async def inject(self, node: str, fault: Fault) -> None:
        """See `RunningTestnet`. Raises InvalidInput for a crash, too."""
        if isinstance(fault, CrashAt):
            await self._kill_process(self.host_of(node))
        await super().inject(node, fault)

    async def _kill_process(self, host: HostReady) -> None:
        raise InvalidInput(
            f"{host.name} runs inside the coordinator: killing it would kill the experiment; use launcher = "
            '"ray", or kill the engine only'
        )
