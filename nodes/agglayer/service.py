"""The aggregation layer's node: certificates, proofs, verdicts, settlement and claims in one process, on one port.

The only place that puts these parts together. Each is a part of its own with its own state on disk, so that a service
that was killed at any point goes on where it was.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

from coincurve import PrivateKey

from nodes.agglayer.batch import L1Level
from nodes.agglayer.book import CertificateBook
from nodes.agglayer.claims import ClaimProver
from nodes.agglayer.l1_view import L1View
from nodes.agglayer.oracle import GlobalExitRootOracle, rpc_nonces
from nodes.agglayer.orchestrator import Orchestrator
from nodes.agglayer.provers import PROVERS
from nodes.agglayer.provers.backend import ProverContext, ProverNode
from nodes.agglayer.proving import EpochProver
from nodes.agglayer.resolver import Resolver
from nodes.agglayer.settlement import Settler
from nodes.agglayer.standing import Standing
from nodes.agglayer.store import OpenBatch
from nodes.agglayer.view import ServiceView
from nodes.agglayer.voiding import VoidWatch
from nodes.ethereum.account import L1Account
from nodes.ethereum.client import L1Client
from nodes.model.agglayer import NetworkId
from nodes.model.config import AgglayerNodeConfig
from nodes.model.errors import InvalidInput, Unavailable, UnknownName
from nodes.model.execution import TestnetParams
from nodes.model.faults import Fault
from nodes.ports import Sequencer
from nodes.rules.finality import VerifyFinality
from nodes.rules.payload import address_of
from nodes.rules.resolution import Resolution
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import Tracer
from nodes.wire.certificates import certificate_servicers
from nodes.wire.channel import Servicer
from nodes.wire.mailbox import MailboxServicer
from nodes.wire.sequencer import SequencerClient
from nodes.wire.streams import closing


class _Tools(NamedTuple):
    """What every part is given."""

    chain_id: bytes
    """Of the sequencer."""
    verify_finality: VerifyFinality
    clock: Clock
    tracer: Tracer
    crash: CrashPoint


class _Certificates(NamedTuple):
    """The parts that certificates go through."""

    book: CertificateBook
    prover: ProverNode
    proving: EpochProver
    orchestrator: Orchestrator


class AgglayerNode:
    """One aggregation layer; its state is in `directory`."""

    def __init__(
        self,
        config: AgglayerNodeConfig,
        *,
        testnet: TestnetParams,
        directory: Path,
        verify_finality: VerifyFinality,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
    ) -> None:
        """`verify_finality` checks the sequencer's finality proofs.

        Nothing is opened before `run`. Raises UnknownName for a prover that does not exist, InvalidScenario for its
        keys, InvalidInput for keys that do not fit.
        """
        params, chain_id = config.params, testnet.sequencer_chain_id
        self._config = config
        self._directory = directory
        self._tools = _Tools(chain_id, verify_finality, clock, tracer, crash)
        self._sources: list[tuple[str, SequencerClient]] = [
            (endpoint, SequencerClient(endpoint)) for endpoint in config.sequencer_endpoints
        ]
        self._client = L1Client(config.l1_rpc_url)
        self._rollups = _rollup_clients(config)
        self._l1 = L1View(self._client, networks=[network.network_id for network in params.networks])
        self._settler = Settler(
            directory=directory / "settlement",
            client=self._client,
            view=self._l1,
            account=L1Account.of_hex(config.settlement_key, chain_id=params.l1_chain_id),
            tracer=tracer,
            standing=self._batch_standing,
            crash=crash,
        )
        self._resolver = self._make_resolver()
        self._oracle = GlobalExitRootOracle(
            directory=directory / "oracle",
            view=self._l1,
            sequencer=self._sequencer,
            networks=params.networks,
            key=_key(config.oracle_key),
            level=L1Level(config.oracle_level),
            clock=clock,
            nonce_of=rpc_nonces(self._rollups, address_of(_key(config.oracle_key))) if self._rollups else None,
        )
        self._certificates = self._make_certificates()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._has_ended = False

    def _make_certificates(self) -> "_Certificates":
        config, tools = self._config, self._tools
        if config.prover not in PROVERS:
            raise UnknownName(kind="prover", name=config.prover, known=PROVERS)
        backend = PROVERS[config.prover]
        book = CertificateBook(
            params=config.params,
            chain_id=tools.chain_id,
            directory=self._directory,
            tree_hashes=backend.tree_hashes,
            tracer=tools.tracer,
            crash=tools.crash,
        )
        context = ProverContext(
            params=config.params,
            attester_endpoints=config.attester_endpoints,
            clock=tools.clock,
            tracer=tools.tracer,
            trees=book.hashed_trees,
        )
        prover = backend.build(backend.configure(config.prover_options), context)
        proving = EpochProver(
            book,
            prover=prover,
            describe=backend.describe,
            settlement=self._settler,
            facts=self._l1,
            verdicts=self._verdicts,
            clock=tools.clock,
            tracer=tools.tracer,
            crash=tools.crash,
        )
        orchestrator = Orchestrator(
            book,
            proving=proving,
            settlement=self._settler,
            facts=self._l1,
            chain_id=tools.chain_id,
            epoch_blocks=config.epoch_blocks,
            verdicts=self._verdicts,
            crash=tools.crash,
            settled_level=L1Level(config.settled_level),
        )
        return _Certificates(book, prover, proving, orchestrator)

    def _make_resolver(self) -> Resolver | None:
        """None where blocks settle as they were executed."""
        config, tools = self._config, self._tools
        if not config.params.has_verdicts:
            return None
        return Resolver(
            params=config.params,
            key=_key(config.resolver_key),
            chain_id=tools.chain_id,
            sources=self._sources,
            verify_finality=tools.verify_finality,
            directory=self._directory / "resolver",
            report_timeout_ms=config.report_timeout_ms,
            clock=tools.clock,
            tracer=tools.tracer,
            crash=tools.crash,
        )

    @property
    def view(self) -> ServiceView:
        """Certificates and claims, as clients see them; satisfies `nodes.ports.CertificateService`."""
        made = self._certificates
        return ServiceView(
            book=made.book,
            orchestrator=made.orchestrator,
            proving=made.proving,
            claims=ClaimProver(self._l1, made.book),
            epoch_blocks=self._config.epoch_blocks,
        )

    @property
    def _sequencer(self) -> Sequencer:
        if not self._sources:
            raise InvalidInput(f"{self._config.name} has no sequencer; give it at least one endpoint")
        return self._sources[0][1]

    @property
    def servicers(self) -> Sequence[Servicer]:
        """What the host serves, on one port."""
        mailbox = () if self._resolver is None else (MailboxServicer(self._resolver),)
        return (*certificate_servicers(self.view), *mailbox)

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        resolver = {} if self._resolver is None else self._resolver.stage_cpu_ns
        made = self._certificates
        parts = {
            "prover": made.prover.stage_cpu_ns,
            "resolver": resolver,
            "certificates": made.book.stages.totals_ns,
        }
        named = {f"{part} {stage}": used for part, stages in parts.items() for stage, used in stages.items()}
        return {**named, **self._settler.stage_cpu_ns}

    # Life

    async def run(self) -> None:
        """Own every part until `stop`; raises what ended one of them otherwise."""
        made = self._certificates
        try:
            async with AsyncExitStack() as opened:
                for client in (self._client, *self._rollups.values()):
                    await opened.enter_async_context(client)
                for _, source in self._sources:
                    await opened.enter_async_context(source)
                opened.push_async_callback(made.prover.close)
                opened.callback(made.proving.close)
                opened.push_async_callback(made.book.close)
                for folder in ("settlement", "oracle", "resolver"):
                    await asyncio.to_thread((self._directory / folder).mkdir, parents=True, exist_ok=True)
                open_batches = await made.book.open()
                await self._run_parts(open_batches)
        finally:
            self._has_ended = True
            self._ready.set()

    async def _run_parts(self, open_batches: Sequence[OpenBatch]) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._l1.run(), name="L1 view")
            group.create_task(self._settler.run(), name="settler")
            group.create_task(self._oracle.run(), name="oracle")
            if self._resolver is not None:
                group.create_task(self._resolver.run(), name="resolver")
            workers = [group.create_task(self._certify(open_batches), name="certificates")]
            if self._resolver is not None:
                workers.append(group.create_task(self._watch(self._resolver), name="voiding"))
            await self._stopping.wait()
            for worker in workers:
                worker.cancel()
            self._oracle.stop()
            if self._resolver is not None:
                self._resolver.stop()
            self._settler.stop()
            self._l1.stop()

    async def _certify(self, open_batches: Sequence[OpenBatch]) -> None:
        await self._l1.wait_ready()
        if self._resolver is not None:
            await self._resolver.wait_ready()
        self._ready.set()
        await self._certificates.orchestrator.run(open_batches)

    async def _watch(self, resolver: Resolver) -> None:
        await self._l1.wait_ready()
        watch = VoidWatch(
            resolver,
            networks=[network.network_id for network in self._config.params.networks],
            void_after_blocks=self._config.void_after_blocks,
            settled=self._certificates.book,
            block_number=self._l1.block_number,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(watch.run(), name="mints")
            async with closing(self._l1.changes()) as changes:
                async for _ in changes:
                    await watch.check()

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when certificates and reports are taken. Raises Unavailable where the node ended before."""
        await self._ready.wait()
        if self._has_ended:
            raise Unavailable(f"{self._config.name} has ended")

    async def inject(self, fault: Fault) -> None:
        """Raises InvalidInput: this node has no faults but the crash points of its process."""
        raise InvalidInput(f"{self._config.name} cannot have the fault {type(fault).__name__}")

    # Facts for other parts

    @property
    def _verdicts(self) -> Resolution | None:
        return None if self._resolver is None else self._resolver.state

    def _batch_standing(self, batch_id: int) -> Standing:
        """Until the resolver has read its store nothing is known of any verdict."""
        return self._certificates.orchestrator.standing(batch_id) if self._ready.is_set() else Standing.WAITS


def _rollup_clients(config: AgglayerNodeConfig) -> dict[NetworkId, L1Client]:
    """Of every rollup, or none: a client of L1 speaks to any Ethereum node. Raises InvalidInput where a URL lacks."""
    urls = config.rollup_rpc_urls
    missing = [network.name for network in config.params.networks if network.name not in urls]
    if urls and missing:
        raise InvalidInput(f"{config.name}: rollup_rpc_urls has no URL of {', '.join(missing)}; name all, or none")
    return {network.network_id: L1Client(urls[network.name]) for network in config.params.networks if urls}


def _key(text: str) -> PrivateKey:
    return PrivateKey(bytes.fromhex(text.removeprefix("0x")))
