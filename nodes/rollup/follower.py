"""Reads the sequencer: receives, verifies and derives height after height, ahead of the executor by a bounded queue.

A block that contradicts itself, or comes without a proof that derivation needs, changes nothing: the reader says why
it stalls and asks the next source from the last good height. It never drops a block and never guesses. What the
derived lists do is the executor's matter.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nodes.model.errors import InvalidBlock, TestbedError, Unavailable, UnknownName
from nodes.model.execution import Derived
from nodes.model.ids import Height, RollupId
from nodes.model.limits import MAX_LOCATOR_ENTRIES
from nodes.model.sequenced_block import (
    BlockRef,
    BlockSequenced,
    Commitment,
    CommitmentRaised,
    RolledBack,
    SequencerEvent,
)
from nodes.ports import Sequencer
from nodes.rollup.decode_ahead import DecodeAhead
from nodes.rules.derivation import Derivation
from nodes.rules.finality import VerifyFinality
from nodes.rules.sequenced_block import verify
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.events import ReaderStalled
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer
from nodes.wire.streams import closing

QUEUE_HEIGHTS = 32
"""Derived heights that may wait for the engine; beyond, the sequencer's stream is not read."""
RECENT_PLACES = 512
DENSE_LOCATOR_ENTRIES = 16
"""Newest places named one by one; older ones at doubling distances."""
MIN_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
QUIET_ATTEMPTS = 8
"""Failures in a row before a node that has no block yet warns: about nine seconds."""
SILENCE_S = 30.0
"""A source that says nothing for so long is left for the next one: more than twice the longest block interval."""

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """A sequenced block that was taken, and its time."""

    ref: BlockRef
    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedHeight:
    """The next height for the executor."""

    place: Place
    commitment: Commitment
    derived: Derived
    received_ns: int
    derived_ns: int
    """Monotonic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewindTo:
    """Everything after this place is off the sequencer's chain."""

    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Wake:
    """Nothing to do; the executor looks around."""


Work = DerivedHeight | CommitmentRaised | RewindTo | Wake


class NewsQueue(asyncio.Queue[Work]):
    """The reader's queue, which also says that something came."""

    def __init__(self, maxsize: int, news: asyncio.Event) -> None:
        super().__init__(maxsize)
        self._news = news

    def _put(self, item: Work) -> None:
        super()._put(item)
        self._news.set()


class TooFarBack(Exception):
    """The sequencer rolled back beyond what derivation remembers: the node starts from a checkpoint."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"rolled back to height {place.ref.height}")
        self.place = place


class Follower:
    """One reader from one place on. `run` reads for ever; the node builds a new one after a restart."""

    def __init__(
        self,
        *,
        sources: Sequence[tuple[str, Sequencer]],
        rollup_id: RollupId,
        chain_id: bytes,
        verify_finality: VerifyFinality,
        check_proofs: bool,
        derivation: Derivation,
        decode_ahead: DecodeAhead | None,
        start: Place,
        oldest_derivable: Height,
        place_at: Callable[[Height], Place | None],
        queue: asyncio.Queue[Work],
        clock: Clock,
        tracer: Tracer,
        cpu: StageCpu,
    ) -> None:
        """`oldest_derivable`: derivation was restored here. `place_at`: executed places, genesis at 0."""
        assert sources, "a rollup node has at least one source"
        self._sources = sources
        self._rollup_id = rollup_id
        self._chain_id = chain_id
        self._verify_finality = verify_finality
        self._check_proofs = check_proofs
        self._derivation = derivation
        self._decode_ahead = decode_ahead
        self._oldest_derivable = oldest_derivable
        self._executed_place_at = place_at
        self._queue = queue
        self._clock = clock
        self._tracer = tracer
        self._cpu = cpu
        self._start_height = start.ref.height
        self._recent: deque[Place] = deque([start], RECENT_PLACES)
        self._moved = False
        self.stalled = ""
        """Why the reader waits; empty while it does not."""

    @property
    def height(self) -> Height:
        """Height of the last block taken."""
        return self._recent[-1].ref.height

    async def run(self) -> None:
        """Follow for ever, from source to source. Raises UnknownName where no source knows the rollup, TooFarBack."""
        attempt, failures, strangers = 0, 0, 0
        while True:
            name, sequencer = self._sources[attempt % len(self._sources)]
            self._moved = False
            try:
                await self._read(sequencer)
                self._stall("the source ended its stream", name)
            except Unavailable as error:
                # A source that is still starting is nothing to warn of.
                is_starting = self.height == 0 and failures < QUIET_ATTEMPTS
                self._stall(f"unavailable: {error}", name, level=logging.INFO if is_starting else logging.WARNING)
            except UnknownName as error:
                strangers += 1
                if strangers >= len(self._sources):
                    raise
                self._refuse(error, name)
            except TestbedError as error:
                # InvalidBlock and EvidenceMissing; whatever else a source can make up must not end the node either.
                strangers = 0
                self._refuse(error, name)
            attempt += 1
            failures = 0 if self._moved else failures + 1
            strangers = 0 if self._moved else strangers
            await asyncio.sleep(min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2 ** min(failures, 10)))

    def _refuse(self, error: TestbedError, source: str) -> None:
        self._stall(str(error), source)
        self._tracer.record(ReaderStalled(height=self.height + 1, reason=str(error), source=source))

    def _stall(self, reason: str, source: str, *, level: int = logging.WARNING) -> None:
        self.stalled = f"height {self.height + 1}, source {source}: {reason}"
        _log.log(level, "rollup reader waits at %s", self.stalled)

    async def _read(self, sequencer: Sequencer) -> None:
        async with closing(sequencer.follow(self.locator(), self._rollup_id)) as events:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        event = await anext(events)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise Unavailable(f"it sent nothing for {SILENCE_S:g} s") from None
                received_ns = self._clock.monotonic_ns()
                if self._decode_ahead is not None and isinstance(event, BlockSequenced):
                    self._cpu.add_ns("derive", await self._decode_ahead.decode(event.block))
                await self._queue.put(self._take(event, received_ns))

    def _take(self, event: SequencerEvent, received_ns: int) -> Work:
        work: Work
        match event:
            case BlockSequenced():
                work = self._derive(event, received_ns)
            case CommitmentRaised():
                return event
            case RolledBack():
                work = RewindTo(place=self._roll_back(event.to))
        self._moved = True
        self.stalled = ""
        return work

    def _derive(self, event: BlockSequenced, received_ns: int) -> DerivedHeight:
        started = thread_cpu_ns()
        block = event.block
        parent = self._recent[-1]
        if block.rollup_id != self._rollup_id:
            raise InvalidBlock(f"filtered for rollup {block.rollup_id.hex()}, asked for {self._rollup_id.hex()}")
        verified = verify(
            block,
            chain_id=self._chain_id,
            parent=parent.ref,
            parent_time_ns=parent.time_ns,
            check_proofs=self._check_proofs,
        )
        if not self._verify_finality(verified.ref.hash, block.finality_proof):
            raise InvalidBlock(f"sequenced block {verified.ref.height}: its finality proof does not hold")
        started = self._cpu.add("verify", started)
        derived = self._derivation.derive(verified)
        self._cpu.add("derive", started)
        place = Place(verified.ref, verified.header.time_ns)
        self._recent.append(place)
        return DerivedHeight(
            place=place,
            commitment=verified.commitment,
            derived=derived,
            received_ns=received_ns,
            derived_ns=self._clock.monotonic_ns(),
        )

    def _roll_back(self, to: BlockRef) -> Place:
        """Go back to a place of the own chain. Raises InvalidBlock where it is none, TooFarBack."""
        place = self._place_at(to.height)
        if place is None or place.ref != to:
            raise InvalidBlock(f"rolled back to height {to.height}, hash {to.hash.hex()}, which this reader never took")
        if to.height < max(self._oldest_derivable, self._derivation.rewindable_from):
            raise TooFarBack(place)
        self._derivation.rewind(to.height)
        while self._recent and self._recent[-1].ref.height > to.height:
            self._recent.pop()
        if not self._recent:
            self._recent.append(place)
        return place

    def _place_at(self, height: Height) -> Place | None:
        back = self.height - height
        if 0 <= back < len(self._recent):
            return self._recent[-1 - back]
        if back < 0:
            return None
        return self._executed_place_at(height)

    def locator(self) -> list[BlockRef]:
        """Where this reader stands, newest first: the last places, then at doubling distances, genesis last."""
        refs: list[BlockRef] = []
        height, step = self.height, 1
        while height > 0 and len(refs) < MAX_LOCATOR_ENTRIES - 1:
            place = self._place_at(height)
            if place is not None:
                refs.append(place.ref)
            if len(refs) >= DENSE_LOCATOR_ENTRIES:
                step *= 2
            height = Height(height - step)
        genesis = self._executed_place_at(Height(0))
        assert genesis is not None, "every chain has a genesis"
        return [*refs, genesis.ref]
