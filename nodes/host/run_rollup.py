"""Rollup nodes inside a host, with their engines, their JSON-RPC and their part in an aggregation layer."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from nodes.divergence.client import DivergenceClient
from nodes.evm.engine import TRANSACTION_BLOCKS, AnvilEngine
from nodes.host.parts import HostParts, Running, backend_named, begun
from nodes.host.ports import GRPC, RPC
from nodes.model.agglayer import MAINNET, NetworkId
from nodes.model.config import RollupNodeConfig
from nodes.model.errors import InvalidInput, TestbedError
from nodes.model.execution import RollupParams
from nodes.model.ids import Height
from nodes.rollup.certifier import RollupCertifier
from nodes.rollup.decode_ahead import DecodeAhead
from nodes.rollup.decode_cache import SenderCache
from nodes.rollup.divergence_link import DivergenceLink
from nodes.rollup.lies import Lie
from nodes.rollup.node import RollupNode
from nodes.rollup.rpc.server import RpcServer
from nodes.wire.certificates import CertificateClient
from nodes.wire.mailbox import MailboxClient
from nodes.wire.rollup import RollupServicer
from nodes.wire.sequencer import SequencerClient

RECONNECT_S = 0.5


class RollupRunner:
    """Runs the rollup nodes of one process. One per process: a bundle's legs are recovered once, however many of its
    rollups live here.
    """

    def __init__(self, divergence: DivergenceClient) -> None:
        self._decode = SenderCache()
        self._decode_ahead = DecodeAhead(self._decode)
        self._divergence = divergence

    def close(self) -> None:
        """End the decoding thread."""
        self._decode_ahead.close()

    async def run(self, host: HostParts, config: RollupNodeConfig) -> None:
        """Run one node until the host stops. Raises InvalidInput for a rollup that is not of the testnet."""
        params = host.config.testnet.rollup(config.rollup_id)
        if params is None:
            raise InvalidInput(f"{config.name}: rollup id {config.rollup_id.hex()} is not of this testnet")
        running = host.open(config.name, kind="rollup", ports={GRPC: config.port, RPC: config.rpc_port})
        link = host.link(config.name)
        # Named by what listens there, whichever way leads to it.
        sources = [
            (address, SequencerClient(link(address), meter=running.meter)) for address in config.sequencer_endpoints
        ]
        async with contextlib.AsyncExitStack() as clients:
            for _, client in sources:
                await clients.enter_async_context(client)
            layer = await _Layer.open(host, running, config, clients)
            node = RollupNode(
                config,
                testnet=host.config.testnet,
                directory=running.directory,
                sources=sources,
                verify_finality=backend_named(config.backend).verifier(config.finality_options),
                start_engine=_engine_starter(config, params, host.binary, running.directory),
                decode=self._decode,
                decode_ahead=self._decode_ahead,
                clock=host.clock,
                tracer=running.tracer,
                crash=host.crash,
                mailbox=layer.mailbox,
                certifier=layer.certifier,
                watch=self._watch(host, running, config, params),
            )
            await _serve(host, running, node, sources[0][1], layer)

    def _watch(
        self, host: HostParts, running: Running, config: RollupNodeConfig, params: RollupParams
    ) -> DivergenceLink | None:
        if config.divergence is None:
            return None
        return DivergenceLink(
            config.divergence,
            self._divergence,
            name=config.name,
            params=params,
            genesis=config.genesis,
            engine_directory=str(_engine_directory(running.directory).resolve()),
            clock=host.clock,
            tracer=running.tracer,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """What the node has of an aggregation layer; nothing where the testnet has none."""

    network_id: NetworkId = MAINNET
    service: CertificateClient | None = None
    mailbox: MailboxClient | None = None
    certifier: RollupCertifier | None = None

    @classmethod
    async def open(
        cls, host: HostParts, running: Running, config: RollupNodeConfig, clients: contextlib.AsyncExitStack
    ) -> "_Layer":
        """Its clients, which nobody waits for: the rollup is usable without them. Raises InvalidInput."""
        layer = config.agglayer
        if layer is None:
            return cls()
        network = layer.params.network_of(config.rollup_id)
        if network is None:
            raise InvalidInput(
                f"{config.name}: rollup id {config.rollup_id.hex()} is of no network of its aggregation layer"
            )
        endpoint = host.link(config.name)(layer.endpoint)
        service = await clients.enter_async_context(CertificateClient(endpoint, meter=running.meter))
        mailbox = certifier = None
        if layer.params.has_verdicts:
            mailbox = await clients.enter_async_context(MailboxClient(endpoint, meter=running.meter))
        if layer.signer_key and layer.lies != Lie.WITHHOLDS:
            certifier = RollupCertifier(
                layer,
                network_id=network.network_id,
                directory=running.directory,
                service=service,
                clock=host.clock,
                tracer=running.tracer,
                crash=host.crash,
            )
        return cls(network_id=network.network_id, service=service, mailbox=mailbox, certifier=certifier)

    async def follow_final(self, node: RollupNode) -> None:
        """Tell the node what of it is final on L1, for as long as it runs."""
        if self.certifier is not None:
            self.certifier.on_final = node.settled_final  # it follows that anyway
            return
        while self.service is not None:
            with contextlib.suppress(TestbedError):  # the layer is away; asked again until it is back
                async with contextlib.aclosing(self.service.follow_network(self.network_id)) as changes:
                    async for progress in changes:
                        node.settled_final(Height(progress.final_height))
            await asyncio.sleep(RECONNECT_S)


async def _serve(
    host: HostParts, running: Running, node: RollupNode, sequencer: SequencerClient, layer: _Layer
) -> None:
    running.inject = node.inject
    running.stage_cpu_ns, running.engine_pid = lambda: node.stage_cpu_ns, lambda: node.engine_pid
    rpc = RpcServer(node, sequencer, host.config.bind_host, running.ports.reserve([RPC])[RPC])
    async with asyncio.TaskGroup() as group:
        await begun(node.wait_ready, group.create_task(node.run()))
        running.ports.release(RPC)
        await begun(rpc.wait_ready, group.create_task(rpc.run()))
        node.rpc_url = rpc.rpc_url
        following = group.create_task(layer.follow_final(node))
        async with host.serving(running, [RollupServicer(node)]) as grpc_address:
            host.usable(running, grpc_address, rpc_url=rpc.rpc_url)
            await host.until_stop("rollup")
        following.cancel()
        rpc.stop()
        node.stop()


def _engine_directory(directory: Path) -> Path:
    return directory / "engine"


def _engine_starter(
    config: RollupNodeConfig, params: RollupParams, binary: Path, directory: Path
) -> Callable[[bytes | None], Awaitable[AnvilEngine]]:
    async def start(state: bytes | None) -> AnvilEngine:
        return await AnvilEngine.start(
            binary,
            config.genesis,
            params,
            _engine_directory(directory),
            config.rewind_window,
            state,
            # A second EVM asks for blocks a little after they were built.
            transaction_blocks=TRANSACTION_BLOCKS if config.divergence is None else config.rewind_window,
        )

    return start
