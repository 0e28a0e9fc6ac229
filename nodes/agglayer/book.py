"""The certificates of all networks: what stands in the store and in memory, kept the same, and shown to readers.

Whoever moves certificates holds `turn`, writes first and changes memory afterwards, so that nothing is shown that a
killed process would not find again. It does not decide what moves where.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar

import orjson

from nodes.agglayer.admission import network_of
from nodes.agglayer.batch import Batch, SettlementIncluded
from nodes.agglayer.lane import KEPT_ROOTS, ON_ITS_WAY, Entry, Lane, items_of
from nodes.agglayer.store import CertificateStore, OpenBatch, StoredCertificate
from nodes.agglayer.tree_hashes import HashedTrees
from nodes.model.agglayer import (
    AgglayerParams,
    Certificate,
    CertificateHeader,
    CertificateHeight,
    CertificateId,
    CertificateStatus,
    NetworkId,
)
from nodes.model.certificates import NetworkInfo, SettledImport
from nodes.model.errors import Unavailable
from nodes.model.ids import Height
from nodes.model.json_form import to_json
from nodes.ports import NetworkProgress
from nodes.rules.exit_tree import ExitTree, leaf_hash
from nodes.rules.hashes import keccak256
from nodes.telemetry.clock import thread_cpu_ns
from nodes.telemetry.crash import CrashPoint
from nodes.telemetry.events import CertificateMoved
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

MAX_FOLLOWERS_OF_NETWORK = 64
WAITING = frozenset({CertificateStatus.PENDING, CertificateStatus.PROVEN, CertificateStatus.CANDIDATE})
PROVED = ON_ITS_WAY | {CertificateStatus.PROVEN}
P = ParamSpec("P")
T = TypeVar("T")


class SettledExitCounts(NamedTuple):
    """How far a network's settlement is."""

    certificates: int
    """That are settled."""
    settled: int
    """Exits of theirs."""
    final: int
    """Those of them that no reorg of L1 takes back."""
    is_waiting: bool
    """A certificate waits for its proof or its settlement; one in error waits for its network."""


@dataclass(slots=True)
class OnItsWay:
    """A batch that is neither final nor refused."""

    batch: Batch
    included: SettlementIncluded | None = None


class CertificateBook:
    """Satisfies `nodes.agglayer.batch.SettledExits`. Usable between `open` and `close`."""

    def __init__(
        self,
        *,
        params: AgglayerParams,
        chain_id: bytes,
        directory: Path,
        tree_hashes: Sequence[str],
        tracer: Tracer,
        crash: CrashPoint,
    ) -> None:
        self.params = params
        self.turn = asyncio.Lock()
        self.lanes: dict[NetworkId, Lane] = {}
        self.batches: dict[int, OnItsWay] = {}
        self.stages = StageCpu("certificates", "store")
        self._chain_id = chain_id
        self._directory = directory
        self._tree_hashes = tuple(tree_hashes)
        self._tracer = tracer
        self._crash = crash
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="certificates")
        self._opened: CertificateStore | None = None
        self._changed: dict[NetworkId, set[asyncio.Event]] = {network.network_id: set() for network in params.networks}
        self._has_ended = False
        self.l1_info_tree_leaf_count = 0
        """Of the newest L1 info tree, as followers are told."""

    async def open(self) -> list[OpenBatch]:
        """Read everything. Returns the batches that are not over. Raises Unavailable, InvalidInput."""
        return await self.on_disk(self._open)

    def _open(self) -> list[OpenBatch]:
        params = orjson.dumps(to_json(self.params), option=orjson.OPT_SORT_KEYS)
        identity = keccak256(self._chain_id + params)
        self._opened = store = CertificateStore(self._directory, identity=identity, crash=self._crash)
        for network in self.params.networks:
            self.lanes[network.network_id] = self._lane(store, network.network_id)
        open_batches = store.open_batches()
        self.batches = {known.batch.batch_id: OnItsWay(known.batch) for known in open_batches}
        return open_batches

    def _lane(self, store: CertificateStore, network_id: NetworkId) -> Lane:
        balances, nullifiers = store.balance_items(network_id), store.nullifier_items(network_id)
        lane = Lane(
            network_of(self.params, network_id),
            final=store.newest_final(network_id),
            kept=store.state(network_id),
            hashed={name: HashedTrees.of(name, balances=balances, nullifiers=nullifiers) for name in self._tree_hashes},
            final_roots=store.final_roots(network_id, KEPT_ROOTS),
        )
        for row in store.open_certificates(network_id):
            entry = Entry(row)
            lane.add(entry)
            if row.batch_id is not None and row.header.status in PROVED and lane.is_applied_before(entry):
                # Trees are kept as of final certificates; what is on its way is applied again.
                entry.certificate = store.certificate(network_id, entry.height)
                assert entry.certificate is not None, "its row stands"
                before = lane.trees_before(entry)
                entry.after = before.applied(entry.certificate)
                entry.items = items_of(entry.certificate, before, entry.after)
                lane.proven(entry)
        return lane

    async def close(self) -> None:
        """Let go of the file and end every follower. Idempotent."""
        self._has_ended = True
        for network_id in self._changed:
            self.tell(network_id)
        if self._opened is not None:
            await self.on_disk(self._opened.close)
            self._opened = None
        self._disk.shutdown(wait=False)

    @property
    def store(self) -> CertificateStore:
        """To be called on the disk thread. Raises Unavailable before `open` and after `close`."""
        if self._opened is None or self._has_ended:
            raise Unavailable("the certificate service is not open")
        return self._opened

    async def on_disk(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the one thread that touches the disk, in turn."""

        def metered() -> tuple[T, int]:
            began_ns = thread_cpu_ns()
            return call(*args, **kwargs), thread_cpu_ns() - began_ns

        result, used_ns = await asyncio.get_running_loop().run_in_executor(self._disk, metered)
        self.stages.add_ns("store", used_ns)
        return result

    # Moving

    async def put(self, entry: Entry, body: bytes | None) -> None:
        """Take a new certificate, with its bytes where they are known. The caller holds `turn`.

        A client that hangs up meanwhile must not leave a certificate on the disk that memory does not know: this goes
        on to its end and raises CancelledError then.
        """
        certificate, row = entry.certificate, entry.row
        assert certificate is not None, "it was just submitted"
        was_cancelled = await self._written(
            functools.partial(self.store.put, certificate, row.header, row.settled_range, body)
        )
        self.lanes[row.header.network_id].add(entry)
        self.show([entry])
        if was_cancelled:
            raise asyncio.CancelledError

    async def _written(self, write: Callable[[], None]) -> bool:
        """Write to the end; returns whether the caller was cancelled meanwhile."""
        writing = asyncio.get_running_loop().run_in_executor(self._disk, write)
        was_cancelled = False
        while not writing.done():
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                if writing.cancelled():
                    raise
                was_cancelled = True
        return was_cancelled

    async def move(self, moves: Sequence[tuple[Entry, StoredCertificate]]) -> None:
        """Give certificates other rows. The caller holds `turn`."""
        if moves:
            await self.on_disk(self.store.write, [row for _, row in moves])
            self.accept(moves)

    def accept(self, moves: Sequence[tuple[Entry, StoredCertificate]]) -> None:
        """Change memory to rows that are written."""
        for entry, row in moves:
            entry.row = row
        self.show([entry for entry, _ in moves])

    def show(self, entries: Sequence[Entry]) -> None:
        """Trace what moved and wake its followers."""
        for entry in entries:
            header, settled = entry.row.header, entry.row.settled_range
            self._tracer.record(
                CertificateMoved(
                    network_id=header.network_id,
                    certificate_height=header.height,
                    certificate_id=header.certificate_id,
                    status=header.status,
                    error=header.error,
                    first_height=settled.first_height,
                    last_height=settled.last_height,
                )
            )
        for network_id in {entry.row.header.network_id for entry in entries}:
            self.tell(network_id)

    def tell(self, network_id: NetworkId) -> None:
        """Wake those who follow a network."""
        for changed in self._changed[network_id]:
            changed.set()

    def tell_all(self) -> None:
        """Wake everybody: L1 has moved."""
        for network_id in self._changed:
            self.tell(network_id)

    async def load(self, entry: Entry) -> Certificate:
        """The certificate with all its exits."""
        if entry.certificate is None:
            header = entry.row.header
            entry.certificate = await self.on_disk(self.store.certificate, header.network_id, header.height)
        assert entry.certificate is not None, "its row stands"
        return entry.certificate

    # Showing

    def lane(self, network_id: NetworkId) -> Lane:
        """Of a registered network. Raises UnknownName, Unavailable before `open`."""
        network = network_of(self.params, network_id)
        if network.network_id not in self.lanes:
            raise Unavailable("the certificate service is not open yet")
        return self.lanes[network.network_id]

    async def certificate(self, network_id: NetworkId, height: CertificateHeight) -> Certificate | None:
        """The certificate that stands at a height. Raises UnknownName."""
        lane = self.lane(network_id)
        newest = lane.latest()
        if newest is None or not 0 <= height <= newest.header.height:
            return None
        return await self.on_disk(self.store.certificate, network_id, height)

    async def header(self, certificate_id: CertificateId) -> CertificateHeader | None:
        """Of any certificate that was ever taken."""
        row = await self.on_disk(self.store.by_id, certificate_id)
        return None if row is None else row.header

    def latest_header(self, network_id: NetworkId, *, settled: bool) -> CertificateHeader | None:
        """The newest settled certificate, or the newest that is not settled. Raises UnknownName."""
        lane = self.lane(network_id)
        row = lane.settled() if settled else lane.pending()
        return None if row is None else row.header

    async def network_info(self, network_id: NetworkId) -> NetworkInfo:
        """What AggLayer tells of a network. Raises UnknownName."""
        lane = self.lane(network_id)
        settled, pending = lane.settled(), lane.pending()
        if settled is None:
            return NetworkInfo(network_id=network_id, latest_pending=None if pending is None else pending.header)
        header = settled.header
        last = await self._last_import(network_id, header.height) if settled.imports else None
        return NetworkInfo(
            network_id=network_id,
            settled_height=header.height,
            settled_certificate_id=header.certificate_id,
            settled_pessimistic_root=settled.pessimistic_root,
            settled_local_exit_root=header.new_local_exit_root,
            settled_leaf_count=settled.leaf_count,
            settled_import=last,
            latest_pending=None if pending is None else pending.header,
            latest_epoch_with_settlement=header.epoch_number,
        )

    async def _last_import(self, network_id: NetworkId, height: CertificateHeight) -> SettledImport | None:
        certificate = await self.on_disk(self.store.certificate, network_id, height)
        assert certificate is not None, "it is settled"
        last = certificate.imported_bridge_exits[-1]
        return SettledImport(global_index=last.global_index, exit_hash=leaf_hash(last.bridge_exit))

    def progress(self, network_id: NetworkId) -> NetworkProgress:
        """How far a network has come. Raises UnknownName."""
        lane = self.lane(network_id)
        latest, settled = lane.latest(), lane.settled()
        return NetworkProgress(
            latest=None if latest is None else latest.header,
            settled=None if settled is None else settled.header,
            settled_leaf_count=0 if settled is None else settled.leaf_count or 0,
            settled_range=None if settled is None else settled.settled_range,
            final_height=Height(0 if lane.final is None else lane.final.settled_range.last_height),
            l1_info_tree_leaf_count=self.l1_info_tree_leaf_count,
        )

    async def follow(self, network_id: NetworkId) -> AsyncGenerator[NetworkProgress, None]:
        """As `CertificateService.follow_network`. Raises UnknownName, Unavailable above the limit of followers."""
        self.lane(network_id)
        followers = self._changed[network_id]
        if len(followers) >= MAX_FOLLOWERS_OF_NETWORK:
            raise Unavailable(f"network {network_id} has {MAX_FOLLOWERS_OF_NETWORK} followers already")
        changed = asyncio.Event()
        followers.add(changed)
        shown: NetworkProgress | None = None
        try:
            while not self._has_ended:
                changed.clear()
                progress = self.progress(network_id)
                if progress != shown:
                    shown = progress
                    yield progress
                await changed.wait()
        finally:
            followers.discard(changed)

    # Settled exits

    def settled_exits(self, network_id: NetworkId) -> SettledExitCounts:
        """How many exits of a network are settled, and final. Raises UnknownName."""
        lane = self.lane(network_id)
        settled = lane.settled()
        return SettledExitCounts(
            certificates=0 if settled is None else settled.header.height + 1,
            settled=0 if settled is None else settled.leaf_count or 0,
            final=0 if lane.final is None else lane.final.leaf_count or 0,
            is_waiting=any(entry.status in WAITING for entry in lane.open),
        )

    def settled_leaf(self, network_id: NetworkId, leaf_index: int) -> bytes:
        """A settled exit's leaf. Raises UnknownName, IndexError for one that is not settled."""
        return self.lane(network_id).exit_tree.leaves[leaf_index]

    def exit_tree(self, network_id: NetworkId) -> ExitTree | None:
        """As the protocol."""
        lane = self.lanes.get(network_id)
        return None if lane is None or not lane.exit_tree.leaf_count else lane.exit_tree

    def leaf_count_of(self, network_id: NetworkId, local_exit_root: bytes) -> int | None:
        """As the protocol."""
        lane = self.lanes.get(network_id)
        return None if lane is None else lane.leaf_count_of(local_exit_root)

    def hashed_trees(self, network_id: NetworkId) -> Mapping[str, HashedTrees]:
        """Trees over other hashes, for provers. Raises UnknownName."""
        return self.lane(network_id).hashed
