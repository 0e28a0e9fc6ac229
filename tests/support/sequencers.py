"""Runs sequencer nodes behind real gRPC for tests, and readers that follow, verify and derive as rollup nodes do."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nodes.model.bundle import Bundle
from nodes.model.execution import Derived, TestnetParams
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    RolledBack,
    SequencerEvent,
)
from nodes.ports import Sequencer, Ticket
from nodes.rules import sequenced_block as blocks
from nodes.rules.derivation import Derivation
from nodes.rules.payload import decode
from nodes.sequencer.backend import Backend, SequencerNode
from nodes.sequencer.lazy import BACKEND as LAZY
from nodes.telemetry.clock import Clock, SystemClock
from nodes.telemetry.tracer import DiscardingTracer, Tracer
from nodes.wire.bundles import bundle_to_bytes
from nodes.wire.channel import server
from nodes.wire.sequencer import SequencerClient, SequencerServicer
from nodes.wire.streams import closing
from tests.support.crafting import CHAIN_ID, make_testnet
from tests.support.sequencer_configs import SIGNING_KEY

WAIT_S = 60.0
"""Patience of a test for what must happen; it never waits this long unless something is broken."""


def make_node(
    directory: Path,
    *,
    backend: Backend = LAZY,
    testnet: TestnetParams | None = None,
    clock: Clock | None = None,
    tracer: Tracer | None = None,
    **options: Any,
) -> SequencerNode:
    """A node of a backend that is not running yet."""
    return backend.build(
        backend.configure({"block_interval_ms": 20, "signing_key": SIGNING_KEY, **options}),
        testnet=testnet or make_testnet(),
        directory=directory,
        clock=clock or SystemClock(),
        tracer=tracer or DiscardingTracer(),
    )


@asynccontextmanager
async def running(node: SequencerNode) -> AsyncIterator[None]:
    """Run a node; it is stopped in order when the block is left."""
    failure: BaseException | None = None
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(), name="sequencer under test")
        try:
            await node.wait_ready()
            yield
        except BaseException as error:  # noqa: BLE001 - raised behind the group, which would wrap it
            failure = error
        node.stop()
    if failure is not None:
        raise failure


@asynccontextmanager
async def serving(node: SequencerNode) -> AsyncIterator[SequencerClient]:
    """Run a node behind gRPC and connect to it."""
    async with running(node):
        async with server([SequencerServicer(node)], name="sequencer", host="127.0.0.1", port=0) as bound:
            async with SequencerClient(bound.address) as client:
                yield client


async def submit(sequencer: Sequencer, *bundles: Bundle) -> list[Ticket]:
    """Submit bundles in one call."""
    return await sequencer.submit([bundle_to_bytes(bundle) for bundle in bundles])


async def events_until(
    sequencer: Sequencer, locator: list[BlockRef], rollup_id: RollupId, *, height: int
) -> list[SequencerEvent]:
    """Every event up to and including the block at `height`."""
    events = []
    async with asyncio.timeout(WAIT_S), closing(sequencer.follow(locator, rollup_id)) as stream:
        async for event in stream:
            events.append(event)
            if isinstance(event, BlockSequenced) and blocks.decode_header(event.block.header).height >= height:
                return events
    raise AssertionError("the stream ended")


async def blocks_until(sequencer: Sequencer, rollup_id: RollupId, *, height: int) -> list[FilteredBlock]:
    """The blocks from genesis up to `height`."""
    events = await events_until(sequencer, [], rollup_id, height=height)
    return [event.block for event in events if isinstance(event, BlockSequenced)]


@dataclass(slots=True)
class Reader:
    """One rollup's reader: follows, verifies, derives; keeps what it derived by height."""

    rollup_id: RollupId
    testnet: TestnetParams = field(default_factory=make_testnet)
    head: BlockRef = field(default_factory=lambda: blocks.genesis_ref(CHAIN_ID))
    time_ns: int = 0
    derived: dict[int, Derived] = field(default_factory=dict)
    blocks: dict[int, FilteredBlock] = field(default_factory=dict)
    places: list[tuple[BlockRef, int]] = field(default_factory=list)
    derivation: Derivation = field(init=False)

    def __post_init__(self) -> None:
        self.derivation = Derivation(testnet=self.testnet, rollup_id=self.rollup_id, decode=decode)
        self.places.append((self.head, self.time_ns))

    def locator(self) -> list[BlockRef]:
        """The newest places, newest first."""
        return [place for place, _ in self.places[:-33:-1]]

    def take(self, event: SequencerEvent) -> None:
        """Apply one event as a rollup node does. Raises InvalidBlock and EvidenceMissing."""
        if isinstance(event, RolledBack):
            while self.places[-1][0].height > event.to.height:
                gone = self.places.pop()[0].height
                self.derived.pop(gone)
                self.blocks.pop(gone)
            assert self.places[-1][0] == event.to, "a roll-back leads to a block of the reader's own chain"
            self.head, self.time_ns = self.places[-1]
            self.derivation.rewind(Height(self.head.height))
        elif isinstance(event, BlockSequenced):
            verified = blocks.verify(event.block, chain_id=CHAIN_ID, parent=self.head, parent_time_ns=self.time_ns)
            self.derived[verified.ref.height] = self.derivation.derive(verified)
            self.blocks[verified.ref.height] = event.block
            self.head, self.time_ns = verified.ref, verified.header.time_ns
            self.places.append((self.head, self.time_ns))

    async def read_until(self, sequencer: Sequencer, height: int) -> None:
        """Follow from where it stands until it has derived `height`."""
        if self.head.height >= height:
            return
        async with asyncio.timeout(WAIT_S):
            async with closing(sequencer.follow(self.locator(), self.rollup_id)) as stream:
                async for event in stream:
                    self.take(event)
                    if self.head.height >= height:
                        return


async def sequenced_height(sequencer: Sequencer, rollup_id: RollupId, payload: bytes, *, above: int = 0) -> int:
    """The height of the first block above another height that holds a payload; waits until one does."""
    async with asyncio.timeout(WAIT_S), closing(sequencer.follow([], rollup_id)) as stream:
        async for event in stream:
            if isinstance(event, BlockSequenced) and payload in event.block.content.payloads:
                height = blocks.decode_header(event.block.header).height
                if height > above:
                    return height
    raise AssertionError("the stream ended")


async def firm_height(sequencer: Sequencer, rollup_id: RollupId, height: int) -> int:
    """Follow until a follower knows that a height is firm; up to where it is."""
    async with asyncio.timeout(WAIT_S), closing(sequencer.follow([], rollup_id)) as stream:
        async for event in stream:
            if isinstance(event, CommitmentRaised) and event.level >= Commitment.FIRM and event.height >= height:
                return event.height
            if isinstance(event, BlockSequenced) and event.block.commitment >= Commitment.FIRM:
                at = blocks.decode_header(event.block.header).height
                if at >= height:
                    return at
    raise AssertionError("the stream ended")


Fates = Mapping[RollupId, list[str]]


def fates_of(readers: Mapping[RollupId, Reader]) -> Fates:
    """What derivation did with each payload, by rollup, in order of height and position."""
    fates: dict[RollupId, list[str]] = {}
    for rollup_id, reader in readers.items():
        fates[rollup_id] = []
        for height in sorted(reader.derived):
            derived = reader.derived[height]
            by_position = {leg.position: "admitted" for leg in derived.admitted}
            by_position |= {leg.position: leg.reason.name.lower() for leg in derived.dropped}
            fates[rollup_id] += [by_position[at] for at in sorted(by_position)]
    return fates
