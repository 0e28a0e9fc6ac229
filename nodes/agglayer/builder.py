"""The super builder: between users and the sequencer. It orders the bundles that succeed on the newest state of all
rollups, refuses the others with the reason, and answers for what it ordered with its bond.

Users submit to it as they would to the sequencer. Bundles are gathered for a moment, simulated together behind those
that were ordered before and are not executed yet, and handed to the sequencer in one call, in their order. A bundle may
still fail: others may submit to the sequencer past the builder, and state may depend on the height. It promises for all
that it orders, within its bond (`nodes.agglayer.builder_bond`), where it promises at all; so it needs the sequencer to
itself, or users could make promised bundles fail and be paid for it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

from nodes.agglayer.builder_bond import Bond
from nodes.agglayer.builder_fates import ask_fates, placements_of
from nodes.agglayer.builder_judging import Judging
from nodes.agglayer.builder_offers import Offer, offer_of
from nodes.agglayer.builder_pending import PendingBundles
from nodes.agglayer.builder_queue import OfferQueue, Room, Taken, refusal, tickets_of
from nodes.agglayer.builder_simulation import RollupMirror
from nodes.ethereum.client import L1Client
from nodes.evm.contracts import packaged_reverts
from nodes.model.agglayer import NetworkId
from nodes.model.config import BuilderNodeConfig
from nodes.model.errors import (
    InvalidInput,
    InvalidSubmission,
    LimitExceeded,
    Overloaded,
    RpcError,
    TestbedError,
    Unavailable,
)
from nodes.model.faults import Fault
from nodes.model.ids import Address, BundleHash, RollupId, SubmissionHash
from nodes.model.limits import MAX_SUBMISSIONS_PER_CALL
from nodes.model.promises import BondStatus, PromiseState, SignedPromise
from nodes.model.sequenced_block import BlockRef, SequencerEvent
from nodes.ports import SequencerStatus, Ticket
from nodes.rules.hashes import sha256
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import BundleJudged
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer
from nodes.wire.channel import Servicer
from nodes.wire.promises import PromisesServicer
from nodes.wire.sequencer import SequencerClient, SequencerServicer

MAX_BATCH_BUNDLES = 1_024
MAX_FATES_ASKED = 200
FORWARD_DEADLINE_S = 3.5
"""Within the deadline of the caller's own submission."""
ATTEMPTS = 3
"""Simulations of a batch; the chain may move, and a node may be restarting."""
RETRY_S = 0.05
READ_DEADLINE_S = 2.0
"""Of one request to a rollup node."""
RETRY_AFTER_MS = 250
"""What senders are told of bundles that cannot be simulated now."""
DOWN_NS = 500_000_000
"""A rollup that could not be read is not asked again for so long; bundles for it are answered at once."""
_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000

_log = logging.getLogger(__name__)


class BuilderNode:
    """Satisfies `nodes.ports.Sequencer` and `nodes.wire.promises.PromisesView`."""

    def __init__(
        self,
        config: BuilderNodeConfig,
        *,
        directory: Path,
        clock: Clock,
        tracer: Tracer,
        crash: CrashPoint = no_crash,
    ) -> None:
        """`directory` is the node's own, and exists. Raises InvalidInput where a rollup has no URL."""
        self._config = config
        self._directory = directory
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._stages = StageCpu("decode", "judge", "forward")
        self._names = {network.network_id: network.name for network in config.params.networks}
        for name in self._names.values():
            if name not in config.rollup_rpc_urls:
                raise InvalidInput(f"{config.name}: rollup_rpc_urls has no URL of {name}")
        self._caps = {
            network.network_id: rollup.leg_gas_cap
            for network in config.params.networks
            if (rollup := config.testnet.rollup(network.rollup_id)) is not None
        }
        self._sequencers = deque(SequencerClient(address) for address in config.sequencer_endpoints)
        self._rollups: dict[NetworkId, L1Client] = {
            network: L1Client(config.rollup_rpc_urls[name], deadline_s=READ_DEADLINE_S)
            for network, name in self._names.items()
        }
        reverts = packaged_reverts()
        self._mirrors = {
            network: RollupMirror(self._names[network], client, reverts=reverts)
            for network, client in self._rollups.items()
        }
        self._l1 = L1Client(config.l1_rpc_url)
        self._bond: Bond | None = None
        self._queue = OfferQueue()
        self._pending = PendingBundles()
        self._down: dict[NetworkId, tuple[int, str]] = {}
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()

    # For the host.

    @property
    def servicers(self) -> Sequence[Servicer]:
        """What the host serves."""
        return (SequencerServicer(self), PromisesServicer(self))

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._stages.totals_ns

    async def run(self) -> None:
        """Build until `stop`. Called once. Raises Unavailable where the bond cannot be deposited."""
        try:
            async with AsyncExitStack() as clients:
                for client in (self._l1, *self._rollups.values(), *self._sequencers):
                    await clients.enter_async_context(client)  # type: ignore[arg-type]  # each enters as itself
                async with asyncio.TaskGroup() as group:
                    following = None
                    if self._config.promise_wei:
                        self._bond = self._open_bond()
                        clients.callback(self._bond.close)
                        following = group.create_task(self._bond.run(), name=f"{self._config.name} bond")
                        ready = group.create_task(self._bond.wait_ready())
                        stop = group.create_task(self._stopping.wait())
                        await asyncio.wait((ready, stop), return_when=asyncio.FIRST_COMPLETED)
                        ready.cancel()
                        stop.cancel()
                    working = group.create_task(self._work(), name=f"{self._config.name} batches")
                    self._ready.set()
                    await self._stopping.wait()
                    working.cancel()
                    if following is not None:
                        following.cancel()
        finally:
            self._stopping.set()
            self._ready.set()
            self._queue.fail_all(f"{self._config.name} has ended")

    def _open_bond(self) -> Bond:
        return Bond(
            self._config,
            directory=self._directory,
            l1=self._l1,
            rollups=self._rollups,
            clock=self._clock,
            crash=self._crash,
        )

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when bundles can be submitted: the bond stands on L1. Raises Unavailable where it has ended."""
        await self._ready.wait()
        self._check_running()

    async def inject(self, fault: Fault) -> None:
        """Raises InvalidInput: a builder's fault is one of its config."""
        raise InvalidInput(f"a builder cannot have the fault {type(fault).__name__}")

    def _check_running(self) -> None:
        if self._stopping.is_set():
            raise Unavailable(f"{self._config.name} has ended")

    # For users.

    async def submit(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """Take bundles; each ticket comes when the sequencer has taken the bundle, or it was refused.

        Raises Overloaded (nothing was taken: too much waits, or a rollup cannot be asked), LimitExceeded, Unavailable:
        then sending the same bytes again is safe.
        """
        self._check_running()
        if len(submissions) > MAX_SUBMISSIONS_PER_CALL:
            raise LimitExceeded(
                limit="MAX_SUBMISSIONS_PER_CALL", value=len(submissions), maximum=MAX_SUBMISSIONS_PER_CALL
            )
        self._queue.check_room(submissions, retry_after_ms=2 * self._config.batch_ms)
        with self._stages.measure("decode"):
            taken = [self._take(data) for data in submissions]
        return await tickets_of(taken, retry_after_ms=RETRY_AFTER_MS)

    def _take(self, data: bytes) -> Taken | Ticket:
        try:
            offer = offer_of(data, testnet=self._config.testnet, params=self._config.params)
        except InvalidSubmission as error:
            return refusal(SubmissionHash(sha256(data)), str(error))
        if not Room(self._caps).add(offer):
            return refusal(offer.submission_hash, "it has more gas or bytes on one rollup than can be simulated")
        return self._queue.take(offer, now_ns=self._clock.monotonic_ns())

    async def follow(self, locator: Sequence[BlockRef], rollup_id: RollupId) -> AsyncGenerator[SequencerEvent, None]:
        """The sequencer's blocks, passed through."""
        async with aclosing(self._sequencers[0].follow(locator, rollup_id)) as events:
            async for event in events:
                yield event

    async def status(self) -> SequencerStatus:
        """The sequencer's, with what waits here added."""
        status = await self._sequencers[0].status()
        return replace(
            status,
            pending_bundles=status.pending_bundles + len(self._queue),
            pending_bytes=status.pending_bytes + self._queue.queued_bytes,
        )

    async def promise(self, bundle_hash: bytes) -> tuple[SignedPromise, PromiseState] | None:
        """As `PromisesView.promise`."""
        return None if self._bond is None else await self._bond.find(bundle_hash)

    async def bond_status(self) -> BondStatus:
        """As `PromisesView.bond_status`. Raises Unavailable where this builder promises nothing."""
        if self._bond is None:
            raise Unavailable(f'{self._config.name} promises nothing: it has no bond; atomicity = "bond" gives it one')
        return self._bond.status()

    # Batches.

    async def _work(self) -> None:
        while True:
            await self._queue.arrived.wait()
            waited_ns = self._clock.monotonic_ns() - self._queue.oldest_ns
            await asyncio.sleep(max(0.0, self._config.batch_ms * _NS_PER_MS - waited_ns) / _NS_PER_S)
            await self._batch()

    async def _batch(self) -> None:
        began_ns = self._clock.monotonic_ns()
        batch: list[Offer] = []
        try:
            async with asyncio.timeout(FORWARD_DEADLINE_S):
                offered = list(self._queue.first(MAX_BATCH_BUNDLES))
                await self._sync(offered)
                batch = self._next_batch(len(offered))
                if not batch:
                    # The pending bundles fill a simulation: wait until rollups have executed some.
                    await asyncio.sleep(RETRY_S)
                    return
                ordered, refused = await self._judged(batch)
        except (TimeoutError, TestbedError) as error:
            # Nothing of this batch was handed on, and its senders hear why.
            reason = str(error) or f"rollups did not answer within {FORWARD_DEADLINE_S:g} s"
            self._queue.fail(batch, f"bundles cannot be simulated: {reason}")
            return
        refused |= await self._promised(ordered)
        ordered = [offer for offer in ordered if offer.bundle_hash not in refused]
        for offer in batch:
            if offer.bundle_hash in refused:
                self._queue.answer(offer, refusal(offer.submission_hash, refused[offer.bundle_hash]))
        await self._forward(ordered)
        self._tracer.record(
            BundleJudged(
                ordered=len(ordered),
                refused=len(refused),
                duration_ns=self._clock.monotonic_ns() - began_ns,
                bonded_wei=0 if self._bond is None else self._bond.bound_wei,
            )
        )

    def _next_batch(self, count: int) -> list[Offer]:
        """Of the first `count` that wait, as many as one simulation of each rollup holds behind the pending bundles."""
        room = Room(self._caps)
        for ordered in self._pending.ordered():
            room.add(ordered.offer, done=ordered.done)
        batch: list[Offer] = []
        for offer in list(self._queue.first(count)):
            down = next((leg.network_id for leg in offer.legs if leg.network_id in self._down), None)
            if down is None and not room.add(offer):
                break
            self._queue.pop()
            if down is None:
                batch.append(offer)
            else:
                self._queue.fail([offer], f"{self._names[down]} cannot be simulated: {self._down[down][1]}")
        return batch

    async def _sync(self, offers: Sequence[Offer]) -> None:
        """Bring the mirrors to the newest blocks, and let go of what is executed. What cannot be read is `_down`."""
        now_ns = self._clock.monotonic_ns()
        self._down = {network: down for network, down in self._down.items() if down[0] > now_ns}
        senders: dict[NetworkId, set[Address]] = {
            network: self._pending.senders(network) for network in self._pending.networks()
        }
        for offer in offers:
            for leg in offer.legs:
                senders.setdefault(leg.network_id, set()).add(leg.transaction.sender)
        read = {network: wanted for network, wanted in senders.items() if network not in self._down}
        await _together([self._sync_one(network, wanted) for network, wanted in read.items()])
        self._pending.advance(self._nonce, now_ns=now_ns)
        late = self._pending.to_ask(now_ns=now_ns, limit=MAX_FATES_ASKED)
        if late:
            clients = {network: client for network, client in self._rollups.items() if network not in self._down}
            found = await ask_fates(clients, {offer.bundle_hash: placements_of(offer) for offer in late})
            for bundle, fates in found.items():
                self._pending.met(bundle, fates)

    async def _sync_one(self, network: NetworkId, senders: Iterable[Address]) -> None:
        try:
            await self._mirrors[network].sync(senders)
        except TestbedError as error:
            self._down[network] = (self._clock.monotonic_ns() + DOWN_NS, str(error))

    def _nonce(self, network: NetworkId, sender: Address) -> int:
        return 0 if network in self._down else self._mirrors[network].nonce(sender)

    async def _judged(self, offers: Sequence[Offer]) -> tuple[list[Offer], dict[BundleHash, str]]:
        """Those that succeed, in order, and why the others do not. What is put off goes back to the queue."""
        if self._config.careless:
            return list(offers), {}
        # The sequencer may have them already; only it can say.
        again = [offer for offer in offers if self._queue.may_be_taken(offer)]
        offers = [offer for offer in offers if not self._queue.may_be_taken(offer)]
        for attempt in range(ATTEMPTS):
            judging = Judging(self._pending.ordered(), offers, params=self._config.params, names=self._names)
            try:
                await self._simulate(judging)
            except RpcError:
                if attempt == ATTEMPTS - 1:
                    raise
                await self._sync(offers)  # the block has left the chain, or the engine was replaced
                down = {leg.network_id for offer in offers for leg in offer.legs} & self._down.keys()
                if down:
                    raise Unavailable(self._down[min(down)][1]) from None
                continue
            break
        self._queue.put_back([offer for offer in offers if offer.bundle_hash in judging.put_off])
        return again + judging.ordered, judging.refused

    async def _simulate(self, judging: Judging) -> None:
        while True:
            await _together([self._simulate_on(judging, network) for network in list(judging.stale)])
            with self._stages.measure("judge"):
                if judging.is_done():
                    return

    async def _simulate_on(self, judging: Judging, network: NetworkId) -> None:
        with self._stages.measure("judge"):
            planned = judging.plan(network)
        judging.take(network, planned, await self._mirrors[network].simulate(planned))

    async def _promised(self, ordered: Sequence[Offer]) -> dict[BundleHash, str]:
        """Promise for what will be ordered; why it cannot be, for each bundle that the bond does not cover.

        All promises have one amount, so those are the last ones: no bundle before them was simulated behind them.
        """
        if self._bond is None:
            return {}
        lacking = await self._bond.promise([offer for offer in ordered if len(offer.legs) > 1])
        status = self._bond.status()
        reason = (
            f"no free bond: {status.open} open promises bind {status.bound_wei} of {status.bond_wei} wei, and one more "
            f"needs {status.promise_wei}; try again when some have settled"
        )
        return dict.fromkeys(lacking, reason)

    async def _forward(self, ordered: Sequence[Offer]) -> None:
        """Hand them to the sequencer in one call, and answer."""
        if not ordered:
            return
        try:
            tickets = await self._sequenced([offer.data for offer in ordered])
        except TestbedError as error:
            # They may have been taken: their promises stand until that is known or they expire.
            reason = f"the sequencer did not answer {self._config.name}: {error}"
            self._queue.fail(ordered, reason, may_be_taken=True)
            return
        self._crash("builder.after_forward")
        now_ns = self._clock.monotonic_ns()
        for offer, ticket in zip(ordered, tickets, strict=True):
            if ticket.accepted:
                self._pending.add(offer, now_ns=now_ns)
        if self._bond is not None:
            await self._bond.sequenced(
                [offer.bundle_hash for offer, ticket in zip(ordered, tickets) if ticket.accepted],
                [offer.bundle_hash for offer, ticket in zip(ordered, tickets) if not ticket.accepted],
            )
        for offer, ticket in zip(ordered, tickets, strict=True):
            self._queue.answer(offer, ticket)

    async def _sequenced(self, submissions: Sequence[bytes]) -> list[Ticket]:
        """The sequencer's tickets. A full or absent one is asked again, which is safe with the same bytes."""
        try:
            async with asyncio.timeout(FORWARD_DEADLINE_S):
                while True:
                    try:
                        return await self._stages.metered("forward", self._sequencers[0].submit(submissions))
                    except Overloaded as full:
                        await asyncio.sleep(full.retry_after_ms / 1000)
                    except Unavailable as error:
                        _log.info("%s: %s; asking the next source", self._config.name, error)
                        self._sequencers.rotate(-1)
                        await asyncio.sleep(RETRY_S)
        except TimeoutError:
            raise Unavailable(f"the sequencer took nothing for {FORWARD_DEADLINE_S:g} s") from None


async def _together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them beside each other. Raises the first expected error as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except* TestbedError as errors:
        first = errors.exceptions[0]
        raise first from None
