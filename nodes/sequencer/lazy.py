"""The lazy backend: one trusted node that orders opaque bundles first in, first out, and cuts blocks by the clock.

Its promises: soft = cut, firm = durable in this node's log before anyone is told, final = the same, since there is
nobody else to agree. It never decodes a payload. This module has the configuration, the life of the node and what
callers see; `nodes.sequencer.lazy_chain` cuts and writes, `nodes.rules.lazy` decides.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nodes.model import limits
from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, InvalidScenario, Unavailable
from nodes.model.execution import TestnetParams
from nodes.model.faults import Fault, Fork, WithholdEvidence
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId, hex_of
from nodes.model.sequenced_block import BlockRef, SequencerEvent
from nodes.node_file import opened_in_thread, to_end
from nodes.ports import Link, SequencerStatus, Ticket, direct
from nodes.rules.finality import VerifyFinality, is_signed_by
from nodes.rules.lazy import MAX_NOTICES, OrderRules, flaw_of
from nodes.rules.payload import address_of
from nodes.sequencer.admission import check_count, examine
from nodes.sequencer.backend import Backend, Expected, TrustRow, check_range
from nodes.sequencer.block_log import BlockLog
from nodes.sequencer.lazy_chain import LazyChain
from nodes.sequencer.signing_key import key_of, signer_of
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.tracer import Tracer

_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Keys of `[backend]` for `backend = "lazy"`. Raises InvalidScenario naming key, value and range."""

    block_interval_ms: int = 100
    """Time between cuts by the clock, 10 to 12,000."""
    block_bytes_max: int = 1024 * 1024
    """A block is cut early when this much is pending: payloads, and rows under every rollup they touch. Up to 8 MiB."""
    mempool_bytes_max: int = 64 * 1024 * 1024
    """Counted like `block_bytes_max`, and at least that."""
    mempool_bundles_max: int = 200_000
    dedup_heights: int = 1_000
    """Heights during which resubmitted bytes are answered as duplicates."""
    signing_key: str = ""
    """Private key of the header signatures, 32 bytes hex; part of the resolved testnet."""

    def __post_init__(self) -> None:
        check_range(
            key="block_interval_ms",
            value=self.block_interval_ms,
            minimum=limits.MIN_BLOCK_INTERVAL_MS,
            maximum=limits.MAX_BLOCK_INTERVAL_MS,
        )
        check_range(key="block_bytes_max", value=self.block_bytes_max, minimum=1024, maximum=limits.MAX_BLOCK_BYTES)
        check_range(key="mempool_bytes_max", value=self.mempool_bytes_max, minimum=self.block_bytes_max, maximum=2**32)
        check_range(key="mempool_bundles_max", value=self.mempool_bundles_max, minimum=1, maximum=10_000_000)
        check_range(key="dedup_heights", value=self.dedup_heights, minimum=1, maximum=1_000_000)
        if self.signing_key:
            key_of(self.signing_key)

    def order_rules(self, testnet: TestnetParams) -> OrderRules:
        """The bounds, and those of the testnet's rollups, as the pure rule takes them."""
        return OrderRules(
            block_interval_ns=self.block_interval_ms * _NS_PER_MS,
            block_bytes_max=self.block_bytes_max,
            mempool_bytes_max=self.mempool_bytes_max,
            mempool_bundles_max=self.mempool_bundles_max,
            dedup_heights=self.dedup_heights,
            max_payloads={
                **{params.rollup_id: params.max_payloads for params in testnet.rollups},
                NOTICE_ROLLUP_ID: MAX_NOTICES,
            },
        )


class LazySequencer:
    """A node of the backend; satisfies `nodes.sequencer.backend.SequencerNode`."""

    def __init__(
        self,
        config: Config,
        *,
        testnet: TestnetParams,
        directory: Path,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
        link: Link = direct,
    ) -> None:
        """`link` has no use here: this backend connects to nobody."""
        if not config.signing_key:
            raise InvalidScenario("[backend] signing_key is empty; the resolved testnet must hold the sequencer's key")
        self._config = config
        self._testnet = testnet
        self._rules = config.order_rules(testnet)
        self._directory = directory
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._opened = asyncio.Event()
        self._stopping = asyncio.Event()
        self._chain: LazyChain | None = None
        self._admit_cpu_ns = 0

    async def run(self) -> None:
        """Open the log, then cut and write until `stop`. Raises what the disk raises."""
        chain_id = self._testnet.sequencer_chain_id
        open_log = partial(BlockLog, self._directory, chain_id=chain_id, crash=self._crash)
        try:
            async with AsyncExitStack() as opened:
                log = await opened_in_thread(open_log, opened)
                opened.push_async_callback(self._end)
                self._chain = await to_end(lambda: self._continue_chain(log))
                self._opened.set()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._chain.write_log(), name="sequencer group commit")
                    group.create_task(self._chain.cut_blocks(), name="sequencer cut")
                    await self._stopping.wait()
                    self._chain.stop()
        finally:
            self._stopping.set()
            self._opened.set()

    async def _end(self) -> None:
        """Tell callers and followers, and wait for those that read the log."""
        self._stopping.set()
        self._opened.set()
        if self._chain is not None:
            self._chain.feed.end()
            await self._chain.feed.wait_read()

    def stop(self) -> None:
        """Take nothing more, write what was accepted, let `run` return."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """See `SequencerNode`."""
        await self._running()

    @property
    def engine_pid(self) -> int:
        """See `SequencerNode`."""
        return 0

    @property
    def rpc_url(self) -> str:
        """See `SequencerNode`."""
        return ""

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """See `SequencerNode`."""
        return {"admit": self._admit_cpu_ns, **(self._chain.stage_cpu_ns if self._chain else {})}

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """See `nodes.ports.Sequencer.submit`."""
        chain = await self._running()
        check_count(submissions)
        began_ns = thread_cpu_ns()
        tickets, offers = examine(submissions, knows=chain.order.knows, flaw=self._flaw)
        if offers:
            chain.accept(offers)
        self._admit_cpu_ns += thread_cpu_ns() - began_ns
        # Also for duplicates: the first copy may still be on its way to the disk.
        await chain.wait_durable()
        return tickets

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """See `nodes.ports.Sequencer.follow`."""
        chain = await self._running()
        async with aclosing(chain.feed.follow(locator, rollup_id)) as events:
            async for event in events:
                yield event

    async def status(self) -> SequencerStatus:
        """See `nodes.ports.Sequencer.status`."""
        chain = await self._running()
        return SequencerStatus(
            backend=BACKEND.name,
            head=chain.feed.head,
            firm_height=chain.feed.head.height,
            pending_bundles=chain.order.pending_bundles,
            pending_bytes=chain.order.pending_bytes,
            rollup_ids=tuple(params.rollup_id for params in self._testnet.rollups),
            block_interval_ms=self._config.block_interval_ms,
            block_bytes_max=self._config.block_bytes_max,
        )

    async def inject(self, fault: Fault) -> None:
        """Withhold evidence, or fork: which breaks this backend's firm promise, and is for experiments only."""
        chain = await self._running()
        match fault:
            case WithholdEvidence(kind=kind, blocks=blocks):
                chain.feed.withhold(kind, blocks)
            case Fork(height=height):
                await chain.fork(height)
            case _:
                raise InvalidInput(
                    f"a sequencer cannot have the fault {type(fault).__name__}; send it to a rollup node"
                )

    async def _running(self) -> LazyChain:
        await self._opened.wait()
        if self._stopping.is_set() or self._chain is None:
            raise Unavailable("the sequencer stops; connect again or ask another source")
        return self._chain

    def _continue_chain(self, log: BlockLog) -> LazyChain:
        return LazyChain(
            log,
            rules=self._rules,
            testnet=self._testnet,
            key=key_of(self._config.signing_key),
            clock=self._clock,
            tracer=self._tracer,
            crash=self._crash,
        )

    def _flaw(self, bundle: Bundle, data: bytes) -> str:
        return flaw_of(bundle, max_payloads=self._rules.max_payloads, block_bytes_max=self._rules.block_bytes_max)


def finality_options(config: Config) -> Mapping[str, Any]:
    """The signer's address."""
    return {"signer": hex_of(address_of(key_of(config.signing_key)))}


def verifier(options: Mapping[str, Any]) -> VerifyFinality:
    """Check of header signatures by `options["signer"]`. Raises InvalidScenario where that is no address."""
    signer = signer_of(options)
    return lambda header_hash, proof: is_signed_by(signer, header_hash=header_hash, proof=proof)


def expected(config: Config) -> Mapping[str, Expected]:
    """Bundles come at any moment of an interval and wait for its end."""
    interval_ms = float(config.block_interval_ms)

    def wait(formula: str, *, by_construction: bool) -> Expected:
        return Expected(
            formula=formula, p50_ms=interval_ms / 2, p99_ms=interval_ms * 0.99, by_construction=by_construction
        )

    return {
        "sequenced": wait("uniform wait for the cut: block_interval_ms / 2", by_construction=True),
        "firm": wait("block_interval_ms / 2, and one commit to the disk", by_construction=True),
        "executed": wait(
            "block_interval_ms / 2, one commit, and derivation and execution of the block", by_construction=False
        ),
    }


def describe_config(config: Config) -> str:
    """See `Backend.describe_config`."""
    return f"blocks cut every {config.block_interval_ms:,} ms"


TRUST = (
    TrustRow(
        part="the sequencer node",
        trusted_for="inclusion: it may ignore a bundle, delay it, or reorder what it has not announced yet",
        when_it_fails="down: nothing new is ordered until it is back, no acknowledged bundle is lost. Dishonest: it "
        "censors or orders to its own gain, and nobody can force a bundle in",
    ),
    TrustRow(
        part="its signing key",
        trusted_for="firm and final: one signature makes a height final, nobody else has to agree",
        when_it_fails="stolen: two signed orders can exist, and readers of different sources split until compared",
    ),
    TrustRow(
        part="its disk",
        trusted_for="durability: the log stands in one place",
        when_it_fails="lost: heights that no rollup node has followed are gone, although they were firm",
    ),
    TrustRow(
        part="a rollup node",
        trusted_for="nothing of the order: it checks proofs and signatures, and incompleteness is proven",
        when_it_fails="down or lying: its own users wait or are misled, the order and other rollups are untouched",
    ),
)
BACKEND = Backend(
    name="lazy",
    describe="one trusted node orders opaque bundles first in, first out, and cuts blocks by the clock",
    soft="cut by the node",
    firm="durable in the node's log, before anyone is told",
    final="the same as firm: the node is trusted, nobody else agrees",
    config_type=Config,
    build=LazySequencer,
    finality_options=finality_options,
    verifier=verifier,
    expected=expected,
    trust=TRUST,
    faults=lambda _config: frozenset({"withhold", "fork"}),
    describe_config=describe_config,
)
