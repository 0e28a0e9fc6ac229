"""Reads the sequencer for the resolver: which rollups each firm height touches, and the notices in it, with proofs.

A block that contradicts itself, or comes without the notices' proof, changes nothing: the reader says why and asks the
next source from the last good height. A height is handed on once it is firm; one that is only soft may roll back.
A source that takes back a firm height is believed no more than one that lies; where all of them do, `forked` says so.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from nodes.model.errors import InvalidBlock, TestbedError, Unavailable
from nodes.model.ids import NOTICE_ROLLUP_ID, Height, RollupId
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    FilteredBlock,
    RolledBack,
    SequencerEvent,
)
from nodes.ports import Sequencer
from nodes.rules.finality import VerifyFinality
from nodes.rules.sequenced_block import genesis_ref, verify
from nodes.telemetry.events import ReaderStalled
from nodes.telemetry.tracer import Tracer
from nodes.wire.streams import closing

MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
SILENCE_S = 30.0
"""A source that says nothing for so long is left for the next one: more than twice the longest block interval."""
MAX_SOFT_HEIGHTS = 4_096
"""Heights that may wait to become firm."""
LOCATOR_ENTRIES = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadHeight:
    """One height of the sequencer, verified."""

    ref: BlockRef
    time_ns: int
    touched: tuple[RollupId, ...]
    """Rollups with payloads; not the reserved id."""
    payloads: tuple[bytes, ...]
    """Under the reserved id: what may be notices."""


class _FirmRolledBack(InvalidBlock):
    """A source does not have a firm height that was taken."""


class SequencerReader:
    """One reader from one firm place on; `run` reads for ever."""

    def __init__(
        self,
        *,
        sources: Sequence[tuple[str, Sequencer]],
        chain_id: bytes,
        verify_finality: VerifyFinality,
        start: ReadHeight | None,
        take: Callable[[ReadHeight], Awaitable[None]],
        forked: Callable[[], None],
        tracer: Tracer,
    ) -> None:
        """`start`: the last firm height taken, None = genesis. `take` gets each firm height once, in order.

        `forked` is called when the property of that name comes to say something.
        """
        assert sources, "a resolver has at least one source"
        self._sources = sources
        self._chain_id = chain_id
        self._verify_finality = verify_finality
        genesis = ReadHeight(ref=genesis_ref(chain_id), time_ns=0, touched=(), payloads=())
        self._firm: deque[ReadHeight] = deque([genesis] if start is None else [genesis, start], LOCATOR_ENTRIES)
        self._genesis = genesis.ref
        self._soft: deque[ReadHeight] = deque()
        self._take = take
        self._tell_forked = forked
        self._tracer = tracer
        self._moved = False
        self._rolled_back: set[str] = set()
        """Names of sources that took a firm height back."""
        self.stalled = ""
        """Why the reader waits; empty while it does not."""
        self.forked = ""
        """Why no source can be followed for good, and what to do; empty while one can, or none was asked yet."""

    async def run(self) -> None:
        """Follow for ever, from source to source."""
        attempt, failures = 0, 0
        while True:
            name, sequencer = self._sources[attempt % len(self._sources)]
            self._moved, fork = False, None
            try:
                await self._read(sequencer)
                self._stall("the source ended its stream", name)
            except Unavailable as error:
                self._stall(f"unavailable: {error}", name)
            except TestbedError as error:
                # InvalidBlock, EvidenceMissing, and whatever else a source can make up: none may end the node.
                self._stall(str(error), name)
                self._tracer.record(ReaderStalled(height=self._last.ref.height + 1, reason=str(error), source=name))
                fork = error if isinstance(error, _FirmRolledBack) else None
            self._judge(name, fork)
            attempt += 1
            failures = 0 if self._moved else failures + 1
            await asyncio.sleep(min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(failures, 10)))

    @property
    def _last(self) -> ReadHeight:
        return self._soft[-1] if self._soft else self._firm[-1]

    def _judge(self, source: str, fork: TestbedError | None) -> None:
        """Whether every source took a firm height back, and none has served one since."""
        if self._moved:
            self._rolled_back.clear()
        if fork is None:
            return
        self._rolled_back.add(source)
        if len(self._rolled_back) == len(self._sources) and not self.forked:
            self.forked = str(fork)
            _log.error("the resolver takes no further height: %s", fork)
            self._tell_forked()

    def _stall(self, reason: str, source: str) -> None:
        self.stalled = f"height {self._last.ref.height + 1}, source {source}: {reason}"
        _log.warning("resolver's reader waits at %s", self.stalled)

    def _locator(self) -> list[BlockRef]:
        places = [height.ref for height in (*self._firm, *self._soft)][: -LOCATOR_ENTRIES - 1 : -1]
        return places if self._genesis in places else [*places, self._genesis]

    async def _read(self, sequencer: Sequencer) -> None:
        async with closing(sequencer.follow(self._locator(), NOTICE_ROLLUP_ID)) as events:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise Unavailable(f"it sent nothing for {SILENCE_S:g} s") from None
                await self._apply(event)

    async def _apply(self, event: SequencerEvent) -> None:
        match event:
            case BlockSequenced(block=block):
                read, commitment = self._verified(block)
                if len(self._soft) >= MAX_SOFT_HEIGHTS:
                    raise InvalidBlock(f"{MAX_SOFT_HEIGHTS:,} heights are soft, and none becomes firm")
                self._soft.append(read)
                await self._make_firm(read.ref.height, commitment)
            case CommitmentRaised(height=height, level=level):
                await self._make_firm(height, level)
            case RolledBack(to=to):
                self._roll_back(to)
        self._moved = True
        self.stalled = self.forked = ""

    def _verified(self, block: FilteredBlock) -> tuple[ReadHeight, Commitment]:
        parent = self._last
        if block.rollup_id != NOTICE_ROLLUP_ID:
            raise InvalidBlock(f"filtered for rollup {block.rollup_id.hex()}, asked for notices")
        verified = verify(block, chain_id=self._chain_id, parent=parent.ref, parent_time_ns=parent.time_ns)
        if not self._verify_finality(verified.ref.hash, block.finality_proof):
            raise InvalidBlock(f"sequenced block {verified.ref.height}: its finality proof does not hold")
        read = ReadHeight(
            ref=verified.ref,
            time_ns=verified.header.time_ns,
            touched=tuple([at for at in verified.rollup_ids if at != NOTICE_ROLLUP_ID]),
            payloads=verified.content.payloads,
        )
        return read, verified.commitment

    async def _make_firm(self, height: Height, level: Commitment) -> None:
        if level < Commitment.FIRM:
            return
        while self._soft and self._soft[0].ref.height <= height:
            read = self._soft.popleft()
            self._firm.append(read)
            await self._take(read)

    def _roll_back(self, to: BlockRef) -> None:
        firm = self._firm[-1].ref
        if to.height < firm.height:
            raise _FirmRolledBack(
                f"rolled back to height {to.height}; up to {firm.height} all was firm, and verdicts stand on it. A "
                f"source that still reads comes to height {firm.height} by itself; one that never has block "
                f"{firm.hash.hex()} there is of another chain: give the resolver a source of this one, or start the "
                "testnet anew"
            )
        while self._soft and self._soft[-1].ref.height > to.height:
            self._soft.pop()
        if self._last.ref != to:
            raise InvalidBlock(f"rolled back to height {to.height}, hash {to.hash.hex()}, which this reader never took")
