"""Watches contingent mints whose exits do not settle, and has their bundles voided after so many L1 blocks.

A mint is good only if its exit reaches L1; a source rollup that never settles would leave the value of its burns on
other rollups without cover. Facts come from the reports behind each verdict (which mint stands for which exit) and from
the settled certificates. Exits of a source settle in their order, so those after one that is late are behind it: all
that the source still owes is voided together, for each void takes `safe` of every rollup back. A source that settles
another exit at the reported place has lied about it: the mint's own exit can never be claimed there, and its bundle is
voided at once.

Waiting is counted in L1 blocks that this process has seen: after a restart the count begins again, so a void can come
later than configured, never earlier. The count stands still while certificates wait and none settles: a prover that is
down, or slow, says nothing about a source.
"""

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

from nodes.agglayer.book import SettledExitCounts
from nodes.model.agglayer import NetworkId
from nodes.model.errors import TestbedError
from nodes.model.ids import ZERO_HASH, Height
from nodes.model.verdict import MailboxEvent, NoticeKind, NoticePosted, VerdictRef, VerdictSigned, VoidedBundle
from nodes.rules.verdict import decode_notice, decode_report, decode_verdict, matched_mints
from nodes.wire.streams import closing

MAX_WATCHED = 1_000_000
"""Mints without a settled exit; further ones are not watched until some have settled."""
STALL_BLOCKS = 8
"""L1 blocks without a settlement, while certificates wait for one, after which the layer is held to stand still."""

_log = logging.getLogger(__name__)


class Voiding(Protocol):
    """What of the resolver is used."""

    def follow(self, after: VerdictRef) -> AsyncIterator[MailboxEvent]:
        """As `nodes.ports.Mailbox`."""
        ...

    async def void(self, bundles: Iterable[VoidedBundle]) -> None:
        """Begin an epoch without these bundles; to be repeated until it has begun."""
        ...


class Settled(Protocol):
    """What is known of settled certificates; `nodes.agglayer.book.CertificateBook` has it."""

    def settled_exits(self, network_id: NetworkId) -> SettledExitCounts:
        """How far a network is."""
        ...

    def settled_leaf(self, network_id: NetworkId, leaf_index: int) -> bytes:
        """A settled exit."""
        ...


@dataclass(frozen=True, slots=True)
class _Watched:
    """A mint that waits for its exit."""

    bundle: VoidedBundle
    source: NetworkId
    leaf_index: int
    leaf: bytes
    since: int
    """Blocks that were counted before."""


class VoidWatch:
    """`run` follows verdicts; `check` is called at each L1 head."""

    def __init__(
        self,
        resolver: Voiding,
        *,
        networks: Iterable[NetworkId],
        void_after_blocks: int,
        settled: Settled,
        block_number: Callable[[], int],
    ) -> None:
        self._resolver = resolver
        self._networks = tuple(networks)
        self._void_after_blocks = void_after_blocks
        self._settled = settled
        self._block_number = block_number
        self._watched: list[_Watched] = []
        self._counted = 0
        """Blocks, without those during which the layer stood still."""
        self._seen_block: int | None = None
        self._active_block = 0
        self._certificates = 0

    async def run(self) -> None:
        """Learn of mints until cancelled."""
        after = VerdictRef(0, Height(0), ZERO_HASH)
        async with closing(self._resolver.follow(after)) as events:
            async for event in events:
                self.take(event)

    def take(self, event: MailboxEvent) -> None:
        """Note the mints of a verdict; forget those of heights that are resolved again."""
        if isinstance(event, VerdictSigned) and event.rounds:
            height = decode_verdict(event.signed.verdict).height
            matched = matched_mints([decode_report(signed.report) for signed in event.rounds[-1]])
            for _importer, mint, leaf_index in matched[: MAX_WATCHED - len(self._watched)]:
                bundle = VoidedBundle(height, mint.ordinal, mint.bundle_hash)
                self._watched.append(_Watched(bundle, mint.source_network, leaf_index, mint.leaf, self._counted))
        elif isinstance(event, NoticePosted):
            notice = decode_notice(event.signed.notice)
            if notice.kind is NoticeKind.VOID:
                self._watched = [entry for entry in self._watched if entry.bundle.height < notice.height]

    async def check(self) -> None:
        """Forget what is settled for good, void what has waited too long or is another exit than was reported."""
        counts = {network: self._settled.settled_exits(network) for network in self._networks}
        self._count_blocks(counts.values())
        false, owed, kept = [], [], []
        for entry in self._watched:
            count = counts.get(entry.source, _NO_EXITS)
            if entry.leaf_index >= count.settled:
                owed.append(entry)
            elif self._settled.settled_leaf(entry.source, entry.leaf_index) != entry.leaf:
                false.append(entry)
            elif entry.leaf_index < count.final:
                continue
            kept.append(entry)
        self._watched = kept
        overdue = {entry.source for entry in owed if 0 < self._void_after_blocks <= self._counted - entry.since}
        late = [entry for entry in owed if entry.source in overdue]
        if false:
            _log.error("networks %s settled other exits than they reported", _sources(false))
        if late:
            blocks = self._void_after_blocks
            _log.warning("exits of networks %s have not settled in %d L1 blocks", _sources(late), blocks)
        bundles = sorted({entry.bundle for entry in false + late})
        if not bundles:
            return
        _log.warning("voiding %d bundles from height %d on", len(bundles), bundles[0].height)
        try:
            await self._resolver.void(bundles)
        except TestbedError as error:
            _log.info("voiding waits: %s", error)

    @property
    def watched(self) -> int:
        """Mints whose exits are not settled for good."""
        return len(self._watched)

    def _count_blocks(self, counts: Collection[SettledExitCounts]) -> None:
        now = self._block_number()
        certificates = sum(count.certificates for count in counts)
        if certificates != self._certificates or not any(count.is_waiting for count in counts):
            self._certificates, self._active_block = certificates, now
        if self._seen_block is not None and now - self._active_block <= STALL_BLOCKS:
            self._counted += max(0, now - self._seen_block)  # a reorg takes nothing back
        self._seen_block = now


def _sources(entries: Iterable[_Watched]) -> list[NetworkId]:
    return sorted({entry.source for entry in entries})


_NO_EXITS = SettledExitCounts(certificates=0, settled=0, final=0, is_waiting=False)
