"""Serving verdicts: every follower gets every verdict after its place, then the rounds of the height being resolved.

A follower is a place, not a queue: a slow one is held back by its own stream and reads what it missed from memory or
from the store, without gaps. It sees what is durable only, and a round only when it has the verdict before. Where no
further height can be read from the sequencer, whoever has everything is told why instead of waiting in silence.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor

from nodes.agglayer.resolver_store import ResolverStore
from nodes.model.errors import InvalidVerdict, Unavailable
from nodes.model.ids import Height
from nodes.model.verdict import MailboxEvent, NoticePosted, VerdictRef, VerdictSigned
from nodes.rules.resolution import Resolution
from nodes.rules.verdict import NO_VERDICT

RECENT_VERDICTS = 256
RECENT_BYTES_MAX = 64 * 1024 * 1024


class VerdictFeed:
    """The durable verdicts of one resolver as its followers see them."""

    def __init__(
        self, resolution: Resolution, store: ResolverStore, *, blocked: Callable[[], str] = lambda: ""
    ) -> None:
        """`blocked` says why no further height can come, or nothing."""
        self._resolution = resolution
        self._store = store
        self._blocked = blocked
        self._durable = Height(resolution.lowest - 1)
        self._recent: OrderedDict[Height, tuple[VerdictSigned, int]] = OrderedDict()
        self._recent_bytes = 0
        self._held_generation = 0
        self._held_rounds = 0
        self._news = asyncio.Event()
        self._has_ended = False
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="resolver-read")
        self.followers = 0
        """Streams that are open."""

    def announce(self, height: Height, digest: bytes, verdict: VerdictSigned) -> bool:
        """A verdict is durable. False where a new epoch has voided it meanwhile: then nobody gets it."""
        if self._resolution.verdict_hash_of(height) != digest:
            return False
        size = len(verdict.signed.verdict) + sum([len(report) for signed in verdict.rounds for report, _ in signed])
        self._recent[height] = (verdict, size)
        self._recent_bytes += size
        while len(self._recent) > RECENT_VERDICTS or (self._recent_bytes > RECENT_BYTES_MAX and len(self._recent) > 1):
            self._recent_bytes -= self._recent.popitem(last=False)[1][1]
        self._durable = height
        self.wake()
        return True

    def hold_round(self) -> Callable[[], None]:
        """A round was closed: it is told when the answer is called, since then it is durable."""
        generation = self._resolution.generation
        if self._held_generation != generation:
            self._held_generation, self._held_rounds = generation, 0
        self._held_rounds += 1

        def release() -> None:
            # Rounds of a height that was resolved, or that began anew, are no longer of interest.
            if self._held_generation == generation:
                self._held_rounds -= 1
                self.wake()

        return release

    def void(self, height: Height) -> None:
        """The verdicts from a height on are void."""
        self._durable = min(self._durable, Height(height - 1))
        for voided in [at for at in self._recent if at >= height]:
            self._recent_bytes -= self._recent.pop(voided)[1]
        self.wake()

    def wake(self) -> None:
        """Something changed. A pulse: those who wait are woken, those who come later look before they wait."""
        self._news.set()
        self._news.clear()

    def end(self) -> None:
        """Followers get Unavailable; reads that are running finish first."""
        self._has_ended = True
        self.wake()
        self._reader.shutdown(wait=True)

    async def follow(self, after: VerdictRef) -> AsyncGenerator[MailboxEvent, None]:
        """See `nodes.ports.Mailbox.follow`."""
        await self._check(after)
        epoch, height = after.epoch, after.height
        generation, told = -1, 0
        self.followers += 1
        try:
            while True:
                self._check_running()
                resolution = self._resolution
                void = resolution.next_void(epoch, height)
                if void is not None:
                    epoch, height = void.epoch, min(height, Height(void.height - 1))
                    yield NoticePosted(signed=void.signed)
                elif height < self._durable:
                    verdict = await self._verdict(Height(height + 1))
                    if verdict is not None:
                        height = Height(height + 1)
                        yield verdict
                elif height + 1 == resolution.lowest:
                    if generation != resolution.generation:
                        generation, told = resolution.generation, 0
                    held = self._held_rounds if self._held_generation == generation else 0
                    if told < len(resolution.pending_events) - held:
                        told += 1
                        yield resolution.pending_events[told - 1]
                    else:
                        await self._wait()
                else:
                    await self._wait()
        finally:
            self.followers -= 1

    async def _wait(self) -> None:
        blocked = self._blocked()
        if blocked:
            raise Unavailable(f"the resolver takes no further height of the sequencer: {blocked}")
        await self._news.wait()

    async def _verdict(self, height: Height) -> VerdictSigned | None:
        """A durable verdict; None where a new epoch came in between."""
        if height in self._recent:
            return self._recent[height][0]
        voids = tuple(self._resolution.voids)
        verdict = await asyncio.get_running_loop().run_in_executor(self._reader, self._store.verdict, height)
        return verdict if voids == tuple(self._resolution.voids) else None

    async def _check(self, after: VerdictRef) -> None:
        self._check_running()
        if after.height == 0:
            if after.hash != NO_VERDICT or after.epoch > self._resolution.epoch:
                raise InvalidVerdict("before the first verdict the hash is zero, and no epoch is ahead of the resolver")
            return
        await asyncio.get_running_loop().run_in_executor(self._reader, self._store.check_signed, after)

    def _check_running(self) -> None:
        if self._has_ended:
            raise Unavailable("the resolver stops; connect again")
