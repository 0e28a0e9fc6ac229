"""A node of the Solana backend: two roles over one chain.

The submitter posts accepted bundles to the inbox (Rome calls the role Rhea); the reader turns confirmed blocks into
sequenced heights (Hercules). This module puts them together and is what callers see; `nodes.solana` has the parts,
`nodes.rules.inbox_reader` decides what was posted. It never decodes a payload. What the backend is called and promises
stands in `nodes.sequencer.solana`.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from functools import partial
from pathlib import Path
from typing import Any

from nodes.model.bundle import Bundle
from nodes.model.errors import InvalidInput, InvalidScenario, Unavailable
from nodes.model.execution import TestnetParams
from nodes.model.faults import Fault, Fork, KillEngine, SolanaTrouble, WithholdEvidence
from nodes.model.ids import NOTICE_ROLLUP_ID, RollupId, SubmissionHash
from nodes.model.sequenced_block import BlockRef, Commitment, SequencedBlock, SequencerEvent
from nodes.model.solana import BLOCKHASH_AGE, SURFPOOL, SolanaBlock
from nodes.node_file import opened_in_thread, to_end
from nodes.ports import Link, SequencerStatus, Ticket, direct
from nodes.rules.inbox_reader import InboxRules
from nodes.rules.lazy import MAX_NOTICES, flaw_of
from nodes.rules.posting import flaw_of_size
from nodes.rules.sequenced_block import genesis_ref
from nodes.sequencer.admission import check_count, examine
from nodes.sequencer.feed import BlockFeed, ServedBlock
from nodes.sequencer.signing_key import key_of
from nodes.sequencer.solana_options import MEMO, NAME, Config
from nodes.solana.reader import Reader
from nodes.solana.reader_chain import SealedHeight
from nodes.solana.reader_store import ReaderStore, sqlite_url
from nodes.solana.session import SessionConfig, SolanaSession, payer_seed
from nodes.solana.submit_journal import SubmitJournal
from nodes.solana.submitter import Submitter, SubmitterRules
from nodes.solana.surfpool_links import SurfpoolRpc
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import BlockReorged, BlockSequenced, CommitmentRaised, ReaderStalled
from nodes.telemetry.tracer import Tracer
from nodes.wire.blocks import stored_block_from_bytes
from nodes.wire.bundles import bundle_to_bytes

_MIN_POLL_MS = 5
_HEIGHTS_TRACED_AGAIN = 256
"""At least those of one step of the reader."""
_DEPLOYMENT = "deployment_lamports"
"""In the costs of a status."""
_log = logging.getLogger(__name__)


class SolanaSequencer:
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
        if not config.signing_key:
            raise InvalidScenario("[backend] signing_key is empty; the resolved testnet must hold the reader's key")
        self._config = config
        self._testnet = testnet
        self._directory = directory
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._link = link
        self._rollup_ids = tuple(sorted([*[params.rollup_id for params in testnet.rollups], NOTICE_ROLLUP_ID]))
        self._max_payloads = {
            **{params.rollup_id: params.max_payloads for params in testnet.rollups},
            NOTICE_ROLLUP_ID: MAX_NOTICES,
        }
        self._opened = asyncio.Event()
        self._stopping = asyncio.Event()
        self._session: SolanaSession | None = None
        self._chain: _Chain | None = None
        self._admit_cpu_ns = 0

    async def run(self) -> None:
        """Start or find the chain and the inbox, then post and read until `stop`. Raises what ended either."""
        try:
            async with AsyncExitStack() as opened:
                opened.callback(self._end)
                journal, store = await self._open_files(opened)
                await self._until_stopped(self._work(journal, store))
        finally:
            self._end()

    async def _open_files(self, opened: AsyncExitStack) -> tuple[SubmitJournal, ReaderStore]:
        chain_id = self._testnet.sequencer_chain_id
        open_journal = partial(SubmitJournal, self._directory, chain_id=chain_id, crash=self._crash)
        journal = await opened_in_thread(open_journal, opened)
        url = self._config.outside().store_url or sqlite_url(self._directory)
        store = await opened_in_thread(partial(ReaderStore, url, chain_id, crash=self._crash), opened)
        return journal, store

    async def _until_stopped(self, work: Any) -> None:
        """Run `work`; where `stop` comes before it is ready there is nothing that would have to end in order."""
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work, name="solana sequencer")
            stopped = group.create_task(self._stopping.wait(), name="stop of the solana sequencer")
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not self._opened.is_set():
                working.cancel()

    async def _work(self, journal: SubmitJournal, store: ReaderStore) -> None:
        async with AsyncExitStack() as opened:
            session = self._session = self._new_session()
            await session.open(opened)
            chain = await to_end(lambda: self._continue_chain(session, journal, store))
            opened.push_async_callback(chain.feed.wait_read)
            opened.callback(chain.feed.end)
            self._chain = chain
            self._opened.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(chain.submitter.run(), name="solana submitter")
                group.create_task(chain.reader.run(), name="solana reader")
                alive = group.create_task(session.keep_alive(), name="solana node")
                await self._stopping.wait()
                chain.submitter.stop()
                chain.reader.stop()
                alive.cancel()

    def stop(self) -> None:
        """Take nothing more, let `run` return. What was accepted is in the journal."""
        self._stopping.set()

    def _end(self) -> None:
        self._stopping.set()
        self._opened.set()

    async def wait_ready(self) -> None:
        """See `SequencerNode`."""
        await self._running()

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """See `SequencerNode`."""
        chain = self._chain
        return {"admit": self._admit_cpu_ns, **(chain.stage_cpu_ns if chain else {})}

    @property
    def engine_pid(self) -> int:
        """See `SequencerNode`."""
        return self._session.pid if self._session else 0

    @property
    def rpc_url(self) -> str:
        """See `SequencerNode`. That of somebody else's node is not told on: it may hold a key."""
        return self._session.endpoint.rpc_url if self._session and self._config.starts_node else ""

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """See `nodes.ports.Sequencer.submit`."""
        chain = await self._running()
        check_count(submissions)
        began_ns = thread_cpu_ns()
        tickets, offers = examine(submissions, knows=chain.knows, flaw=self._flaw)
        if offers:
            chain.submitter.accept([(offer.hash, offer.bundle, data) for offer, data in offers])
        self._admit_cpu_ns += thread_cpu_ns() - began_ns
        # Also for duplicates: the first copy may still be on its way to the disk.
        await chain.submitter.wait_durable()
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
        assert self._session is not None
        deployed = self._session.deployment_lamports
        return SequencerStatus(
            backend=NAME,
            head=chain.feed.head,
            firm_height=chain.feed.firm_height,
            pending_bundles=chain.submitter.pending_bundles,
            pending_bytes=chain.submitter.pending_bytes,
            rollup_ids=tuple(params.rollup_id for params in self._testnet.rollups),
            block_interval_ms=self._config.block_interval_ms,
            block_bytes_max=self._config.block_bytes_max,
            costs={**chain.submitter.costs, **({_DEPLOYMENT: deployed} if deployed else {})},
        )

    async def inject(self, fault: Fault) -> None:
        """Withhold evidence, kill the dev node, or have one of its troubles. Raises InvalidInput for anything else."""
        chain = await self._running()
        assert self._session is not None
        match fault:
            case WithholdEvidence(kind=kind, blocks=blocks):
                chain.feed.withhold(kind, blocks)
            case SolanaTrouble():
                await self._session.trouble(fault)
            case KillEngine():
                self._session.kill()
            case Fork():
                raise InvalidInput("heights follow the blocks of Solana; use the fault solana_fork, which counts slots")
            case _:
                raise InvalidInput(
                    f"a sequencer cannot have the fault {type(fault).__name__}; send it to a rollup node"
                )

    async def _running(self) -> "_Chain":
        await self._opened.wait()
        if self._stopping.is_set() or self._chain is None:
            raise Unavailable("the sequencer stops; connect again or ask another source")
        return self._chain

    def _flaw(self, bundle: Bundle, data: bytes) -> str:
        found = flaw_of(bundle, max_payloads=self._max_payloads, block_bytes_max=self._config.block_bytes_max)
        if not found and bundle_to_bytes(bundle) != data:
            # Readers see the bundle, not the bytes, and tell repetitions by the canonical ones.
            found = "the bytes are not the canonical encoding of the bundle: fields in order, and no unknown ones"
        assert self._chain is not None
        return found or flaw_of_size(bundle, self._chain.submitter.layout)

    def _dedup_blocks(self) -> int:
        """Until the reader knows a bundle, the submitter must: a bucket is read once it is over."""
        config = self._config
        blocks_of_bucket = -(-config.bucket_ms // config.block_interval_ms)
        return max(BLOCKHASH_AGE, blocks_of_bucket + config.finalize_slots)

    def _say_stall(self, reason: str) -> None:
        if reason:
            _log.warning("the submitter waits: %s", reason)
            height = self._chain.feed.head.height + 1 if self._chain else 1
            self._tracer.record(ReaderStalled(height=height, reason=reason, source="the submitter to Solana"))

    def _new_session(self) -> SolanaSession:
        config, outside = self._config, self._config.outside()
        return SolanaSession(
            SessionConfig(
                solana=outside.solana,
                ws_url=outside.ws_url,
                timing=config.timing,
                keypair=outside.keypair,
                payer_seed=payer_seed(config.signing_key),
                payers=config.payers,
                rollup_ids=self._rollup_ids,
                chain_id=self._testnet.sequencer_chain_id,
                has_lookup_table=config.lookup_table,
                is_memo=config.inbox == MEMO,
            ),
            self._directory,
            link=self._link,
        )

    def _continue_chain(self, session: SolanaSession, journal: SubmitJournal, store: ReaderStore) -> "_Chain":
        config, inbox = self._config, session.inbox
        rules = InboxRules(
            chain_id=self._testnet.sequencer_chain_id,
            origin_slot=inbox.origin_slot,
            rollup_ids=inbox.rollup_ids,
            accounts=inbox.rollups(),
            is_memo=inbox.is_memo,
            max_payloads=self._max_payloads,
            block_bytes_max=config.block_bytes_max,
            dedup_heights=config.dedup_heights,
            bucket_ms=config.bucket_ms,
        )
        submitter = Submitter(
            session.rpc,
            inbox,
            session.payers,
            journal,
            SubmitterRules(
                flush_ms=config.flush_ms,
                mempool_bytes_max=config.mempool_bytes_max,
                mempool_bundles_max=config.mempool_bundles_max,
                cu_price_micro_lamports=config.priority_micro_lamports,
                slot_ms=config.block_interval_ms,
                dedup_blocks=self._dedup_blocks(),
            ),
            clock=self._clock,
            crash=self._crash,
            can_airdrop=session.endpoint.can_airdrop,
            on_stall=self._say_stall,
        )
        return _Chain(
            session,
            rules,
            submitter,
            store,
            signing_key=config.signing_key,
            poll_ms=max(_MIN_POLL_MS, config.block_interval_ms // 2),
            clock=self._clock,
            tracer=self._tracer,
            crash=self._crash,
        )


class _Chain:
    """The two roles at work, and the feed between reader and followers; the reader's listener."""

    def __init__(
        self,
        session: SolanaSession,
        rules: InboxRules,
        submitter: Submitter,
        store: ReaderStore,
        *,
        signing_key: str,
        poll_ms: int,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint,
    ) -> None:
        self._source = f"Solana at {session.endpoint.kind}"
        self._tracer = tracer
        self._crash = crash
        self._stall = ""
        self.submitter = submitter
        self.reader = Reader(
            # Surfpool's blocks do not name their parents rightly; everything else has links to walk.
            SurfpoolRpc(session.rpc) if session.endpoint.kind == SURFPOOL else session.rpc,
            session.inbox,
            store,
            rules,
            listener=self,
            key=key_of(signing_key),
            clock=clock,
            poll_ms=poll_ms,
            crash=crash,
        )
        submitter.ask_reader(self.reader.holds_finally)
        self.feed = BlockFeed(
            log=store,
            genesis=genesis_ref(rules.chain_id),
            head=self.reader.head,
            rollup_ids=rules.rollup_ids,
            firm_height=self.reader.firm_height,
        )
        self._trace_again(store)

    def _trace_again(self, store: ReaderStore) -> None:
        """A kill between store and trace lost the records of the last heights: repeat them."""
        for stored in store.last_blocks(_HEIGHTS_TRACED_AGAIN):
            self._trace(stored_block_from_bytes(stored.block), stored.submission_hashes)
        if self.reader.firm_height:
            self._tracer.record(CommitmentRaised(height=self.reader.firm_height, level=Commitment.FIRM))

    def _trace(self, block: SequencedBlock, hashes: tuple[SubmissionHash, ...]) -> None:
        sizes = [len(payload) for content in block.contents.values() for payload in content.payloads]
        self._tracer.record(
            BlockSequenced(
                height=block.header.height,
                hash=block.header_hash,
                time_ns=block.header.time_ns,
                submission_hashes=hashes,
                payload_bytes=sum(sizes),
                payloads=len(sizes),
            )
        )

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return {**self.submitter.stage_cpu_ns, **self.reader.stage_cpu_ns, "filter": self.feed.cpu_ns}

    def knows(self, submission_hash: SubmissionHash) -> bool:
        """Kept by the submitter, or sequenced not long ago in a firm height.

        Not where only somebody else's posting brought it to a soft height: a fork would take it away, and nobody here
        had kept it. It is accepted then and posted too; the repetition is void.
        """
        return self.submitter.knows(submission_hash) or self.reader.is_firm(submission_hash)

    def block(self, block: SolanaBlock, taken: frozenset[SubmissionHash]) -> None:
        """A block is confirmed."""
        self.submitter.on_block(block, taken)

    def heights(self, heights: Sequence[SealedHeight]) -> None:
        """Heights are durable: let everyone see them."""
        for new, block in heights:
            self._trace(block, new.submission_hashes)
            self.feed.announce(ServedBlock.of(block, new.trees))
        self._crash("sequencer.after_announcement")

    def finalized(self, height: int, slot: int, block_height: int) -> None:
        """Everything up to here is firm."""
        self.submitter.on_finalized(slot, block_height)
        if height > self.feed.firm_height:
            self._tracer.record(CommitmentRaised(height=height, level=Commitment.FIRM))
            self.feed.raise_firm(height)

    def rolled_back(self, to: BlockRef, to_slot: int) -> None:
        """Solana abandoned blocks that it had confirmed."""
        _log.warning("%s went back below what it had confirmed: heights above %d are gone", self._source, to.height)
        self._tracer.record(BlockReorged(from_height=self.feed.head.height, to_height=to.height))
        self.submitter.on_rolled_back(to_slot)
        self.feed.roll_back(to)

    def stalled(self, reason: str) -> None:
        """The reader cannot go on for now; an empty reason: it goes on."""
        self._stall = reason
        if reason:
            _log.warning("the reader waits: %s", reason)
            self._tracer.record(ReaderStalled(height=self.feed.head.height + 1, reason=reason, source=self._source))
