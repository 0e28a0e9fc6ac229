"""What L1 says, kept in memory: global exit roots, deposits, settled roots. Follows the chain block by block.

Built anew from L1's logs at each start: L1 is the durable copy, and ten thousand blocks are read in well under a
second. Up to the finalized head logs are read in bulk; above it every block is checked against its parent, and what a
reorg replaces is taken back. It does not know certificates, only the roots that L1 stores of them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from nodes.agglayer.batch import L1Change, L1Level, SettledOnL1
from nodes.ethereum.client import L1Block, L1Client
from nodes.evm.agglayer_contracts import (
    BRIDGE,
    GLOBAL_EXIT_ROOT,
    MANAGER,
    BridgeEvent,
    L1InfoRootUpdated,
    L1InfoTreeUpdated,
    PessimisticStateVerified,
    RangeSettled,
    decode_log,
)
from nodes.model.agglayer import L1InfoLeaf, NetworkId
from nodes.model.errors import InvalidBlock, RpcError, TestbedError, Unavailable, UnknownName
from nodes.model.ids import ZERO_HASH, hex_of
from nodes.rules.exit_tree import ExitTree, global_exit_root, l1_info_leaf_hash, leaf_hash, rollup_exit_root

RETRY_S = 0.2
"""Pause after L1 answered nonsense or moved while it was read."""
CONTRACTS = (BRIDGE, GLOBAL_EXIT_ROOT, MANAGER)

_log = logging.getLogger(__name__)


class InfoLeaf(NamedTuple):
    """One leaf of the L1 info tree, and what its two roots are the roots of."""

    leaf: L1InfoLeaf
    block_number: int
    mainnet_leaf_count: int
    """Deposits under its mainnet exit root."""
    local_exit_roots: tuple[bytes, ...]
    """Of every rollup, network 1 first, under its rollup exit root; zero where there is none."""


class SettledBy(NamedTuple):
    """The L1 transaction that settled a certificate."""

    tx_hash: bytes
    block_number: int


@dataclass(slots=True)
class _Applied:
    """A block above the finalized one, and what stood before it."""

    block: L1Block
    info_leaves: int
    deposits: int
    settled: dict[NetworkId, SettledOnL1] = field(default_factory=dict)
    """Before the block, of the networks that it changed."""
    pessimistic_roots: list[bytes] = field(default_factory=list)
    """That came up in the block."""


class _Reader:
    """One reader of changes: what it has not been told yet, as one change."""

    def __init__(self, change: L1Change | None) -> None:
        self.change = change
        self.told = asyncio.Event()
        if change is not None:
            self.told.set()

    def tell(self, change: L1Change) -> None:
        earlier = None if self.change is None else self.change.reorged_from
        if earlier is not None:
            later = change.reorged_from
            change = replace(change, reorged_from=earlier if later is None else min(earlier, later))
        self.change = change
        self.told.set()


class L1View:
    """Satisfies `nodes.agglayer.batch.L1Facts`. `run` follows L1 until `stop`; the client belongs to the caller."""

    def __init__(self, client: L1Client, *, networks: Iterable[NetworkId]) -> None:
        self._client = client
        self._networks = tuple(sorted(networks))
        self._info: list[InfoLeaf] = []
        self._info_tree = ExitTree()
        self._deposits = ExitTree()
        self._settled: dict[NetworkId, SettledOnL1] = {}
        self._settled_by: dict[bytes, SettledBy] = {}
        self._blocks: deque[_Applied] = deque()
        """Newest last; the first one is finalized (or genesis) and is never taken back."""
        self._levels: dict[L1Level, int] = dict.fromkeys(L1Level, 0)
        self._readers: set[_Reader] = set()
        self._reorged_from: int | None = None
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._has_ended = False
        self._reset()

    # Life

    async def run(self) -> None:
        """Follow L1 until `stop`. An L1 that cannot be reached is waited for. Raises InvalidBlock."""
        try:
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follow(), name="L1 view")
                await self._stopping.wait()
                following.cancel()
        finally:
            self._has_ended = True
            self._ready.set()

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when L1 was read up to its head once. Raises Unavailable where `run` has ended."""
        await self._ready.wait()
        if self._has_ended:
            raise Unavailable(f"the view of {self._client.url} has ended")

    # Facts

    def l1_info_root(self, leaf_count: int) -> bytes | None:
        """Root of the L1 info tree of that many leaves; None where L1 does not have so many."""
        return self._info_tree.root(leaf_count) if 0 <= leaf_count <= len(self._info) else None

    @property
    def newest_leaf_count(self) -> int:
        """Leaves of the newest L1 info tree."""
        return len(self._info)

    def leaf_count(self, level: L1Level) -> int:
        """Leaves of the L1 info tree at the head of a level."""
        head = self._levels[level]
        count = len(self._info)
        while count and self._info[count - 1].block_number > head:
            count -= 1
        return count

    def info_leaf(self, index: int) -> InfoLeaf:
        """A leaf of the L1 info tree. Raises IndexError."""
        if index < 0:
            raise IndexError(f"leaf {index}")
        return self._info[index]

    @property
    def info_tree(self) -> ExitTree:
        """Hashes of the leaves; not to be changed."""
        return self._info_tree

    @property
    def deposits(self) -> ExitTree:
        """The exit tree of the L1 bridge; not to be changed."""
        return self._deposits

    def block_number(self, level: L1Level = L1Level.LATEST) -> int:
        """Number of the head of a level."""
        return self._levels[level]

    def settled(self, network_id: NetworkId) -> SettledOnL1:
        """What is settled of a network at the latest head. Raises UnknownName for one that L1 does not know."""
        if network_id not in self._networks:
            raise UnknownName(kind="network", name=str(network_id), known=[str(known) for known in self._networks])
        return self._settled.get(network_id, _NOTHING)

    def settled_by(self, new_pessimistic_root: bytes) -> SettledBy | None:
        """Where a pessimistic root was settled, whoever did it; None where it was not, at the latest head."""
        return self._settled_by.get(new_pessimistic_root)

    async def changes(self) -> AsyncGenerator[L1Change, None]:
        """The present head at once, then each new one; a slow reader misses heads in between, never the newest."""
        await self.wait_ready()
        reader = _Reader(self._change(None))
        self._readers.add(reader)
        try:
            while True:
                await reader.told.wait()
                reader.told.clear()
                change, reader.change = reader.change, None
                assert change is not None, "told with a change"
                yield change
        finally:
            self._readers.discard(reader)

    # Following

    async def _follow(self) -> None:
        while True:
            try:
                async with aclosing(self._client.new_heads()) as heads:
                    async for head in heads:
                        await self._advance(head)
            except (Unavailable, RpcError) as problem:
                _log.info("%s: %s; reading again", self._client.url, problem)
                await asyncio.sleep(RETRY_S)

    async def _advance(self, head: L1Block) -> None:
        """Take the chain up to `head`, or beyond where it has grown meanwhile."""
        if head.hash == self._top.hash:
            await self._publish()
            return
        if head.parent_hash != self._top.hash:
            await self._rewind()
            await self._take_finalized()
        for number in range(self._top.number + 1, head.number):
            block = await self._client.block(number)
            if block is None:
                raise Unavailable(f"block {number} was replaced while it was read")
            await self._take(block)
        # The head of a stream may be replaced by now; what the blocks below say decides.
        if head.number > self._top.number:
            await self._take(head)
        await self._publish()

    async def _rewind(self) -> None:
        """Take back the blocks that are no longer on the chain."""
        while True:
            top = self._top
            if await self._is_canonical(top):
                return
            self._reorged_from = top.number
            if len(self._blocks) == 1:
                _log.warning("%s: block %d was replaced although it was finalized; reading L1 from genesis",
                             self._client.url, top.number)  # fmt: skip
                self._reset()
                return
            self._take_back(self._blocks.pop())

    async def _is_canonical(self, block: L1Block) -> bool:
        if block.hash == _NO_BLOCK.hash:
            return True  # before the first reading
        current = await self._client.block(block.number)
        return current is not None and current.hash == block.hash

    async def _take_finalized(self) -> None:
        """Everything up to the finalized head in one go: it does not change any more."""
        finalized = await self._client.head(L1Level.FINALIZED)
        first = self._top.number + 1
        if finalized.number < first:
            return
        logs = await self._client.logs(first=first, last=finalized.number, addresses=CONTRACTS)
        applied = _Applied(block=finalized, info_leaves=len(self._info), deposits=self._deposits.leaf_count)
        self._apply(applied, logs)
        self._blocks.clear()
        self._blocks.append(applied)

    async def _take(self, block: L1Block) -> None:
        if self._top.hash not in (block.parent_hash, _NO_BLOCK.hash):
            raise Unavailable(f"block {block.number} does not continue block {self._top.number}: L1 was reorganized")
        # By hash: RpcError where the block was replaced since.
        logs = await self._client.logs_of_block(block.hash, CONTRACTS) if block.number else []
        applied = _Applied(block=block, info_leaves=len(self._info), deposits=self._deposits.leaf_count)
        self._apply(applied, logs)
        self._blocks.append(applied)

    async def _publish(self) -> None:
        safe, finalized = await self._client.batch(
            [("eth_getBlockByNumber", [level, False]) for level in (L1Level.SAFE, L1Level.FINALIZED)]
        )
        self._levels = {
            L1Level.LATEST: self._top.number,
            L1Level.SAFE: min(self._top.number, _number(safe)),
            # While a reorg is under way the L1's own tag may go back for a moment; what was final stays final.
            L1Level.FINALIZED: max(self._levels[L1Level.FINALIZED], min(self._top.number, _number(finalized))),
        }
        while len(self._blocks) > 1 and self._blocks[1].block.number <= self._levels[L1Level.FINALIZED]:
            self._blocks.popleft()
        self._ready.set()
        change = self._change(self._reorged_from)
        self._reorged_from = None
        for reader in self._readers:
            reader.tell(change)

    def _change(self, reorged_from: int | None) -> L1Change:
        return L1Change(block_number=self._top.number, newest_leaf_count=len(self._info), reorged_from=reorged_from)

    # State

    @property
    def _top(self) -> L1Block:
        return self._blocks[-1].block

    def _reset(self) -> None:
        self._info.clear()
        self._info_tree.truncate(0)
        self._deposits.truncate(0)
        self._settled.clear()
        self._settled_by.clear()
        self._blocks.clear()
        self._blocks.append(_Applied(block=_NO_BLOCK, info_leaves=0, deposits=0))
        self._levels = dict.fromkeys(L1Level, 0)

    def _take_back(self, applied: _Applied) -> None:
        del self._info[applied.info_leaves :]
        self._info_tree.truncate(applied.info_leaves)
        self._deposits.truncate(applied.deposits)
        self._settled.update(applied.settled)
        for root in applied.pessimistic_roots:
            self._settled_by.pop(root, None)

    def _apply(self, applied: _Applied, logs: Sequence[Mapping[str, Any]]) -> None:
        try:
            self._apply_logs(applied, logs)
        except TestbedError as error:
            raise InvalidBlock(
                f"{self._client.url}: logs of the aggregation layer's contracts up to block {applied.block.number} "
                f"contradict each other: {error}"
            ) from error

    def _apply_logs(self, applied: _Applied, logs: Sequence[Mapping[str, Any]]) -> None:
        roots: L1InfoTreeUpdated | None = None
        for log in logs:
            number = int(log["blockNumber"], 16)
            match decode_log(log):
                case BridgeEvent() as deposit:
                    self._add_deposit(deposit)
                case L1InfoTreeUpdated() as roots:
                    pass
                case L1InfoRootUpdated() as update:
                    self._add_info_leaf(roots, update, number)
                case PessimisticStateVerified() as verified:
                    self._keep(applied, verified.network_id)
                    self._settled[verified.network_id] = replace(
                        self._settled.get(verified.network_id, _NOTHING),
                        local_exit_root=verified.new_local_exit_root,
                        pessimistic_root=verified.new_pessimistic_root,
                    )
                    tx_hash = bytes.fromhex(log["transactionHash"][2:])
                    self._settled_by[verified.new_pessimistic_root] = SettledBy(tx_hash, number)
                    applied.pessimistic_roots.append(verified.new_pessimistic_root)
                case RangeSettled() as stated:
                    self._keep(applied, stated.network_id)
                    self._settled[stated.network_id] = replace(
                        self._settled.get(stated.network_id, _NOTHING), last_height=stated.range.last_height
                    )
                case _:
                    pass

    def _keep(self, applied: _Applied, network_id: NetworkId) -> None:
        applied.settled.setdefault(network_id, self._settled.get(network_id, _NOTHING))

    def _add_deposit(self, deposit: BridgeEvent) -> None:
        if deposit.leaf_index != self._deposits.leaf_count:
            raise InvalidBlock(f"deposit {deposit.leaf_index} follows {self._deposits.leaf_count} deposits")
        self._deposits.append_many([leaf_hash(deposit.bridge_exit())])

    def _add_info_leaf(self, roots: L1InfoTreeUpdated | None, update: L1InfoRootUpdated, number: int) -> None:
        index = len(self._info)
        if roots is None or update.leaf_count != index + 1:
            raise InvalidBlock(f"L1 info root of {update.leaf_count} leaves follows one of {index}")
        newest = self._info[-1] if self._info else None
        if newest is not None and newest.leaf.mainnet_exit_root == roots.mainnet_exit_root:
            deposits = newest.mainnet_leaf_count
        else:
            deposits = self._deposits.leaf_count if any(roots.mainnet_exit_root) else 0
        # L1 takes the roots from its own storage, so these are what stands there after the events so far.
        local_roots = tuple(self._settled.get(network, _NOTHING).local_exit_root for network in self._networks)
        computed = rollup_exit_root(local_roots) if any(roots.rollup_exit_root) else ZERO_HASH
        root = global_exit_root(roots.mainnet_exit_root, roots.rollup_exit_root)
        leaf = L1InfoLeaf(
            l1_info_tree_index=index,
            rollup_exit_root=roots.rollup_exit_root,
            mainnet_exit_root=roots.mainnet_exit_root,
            global_exit_root=root,
            block_hash=update.block_hash,
            timestamp_s=update.timestamp_s,
        )
        self._info_tree.append_many([
            l1_info_leaf_hash(global_exit_root=root, block_hash=update.block_hash, timestamp_s=update.timestamp_s)
        ])  # fmt: skip
        if self._info_tree.root() != update.l1_info_root or computed != roots.rollup_exit_root:
            raise InvalidBlock(
                f"leaf {index} of the L1 info tree: L1 says rollup exit root {hex_of(roots.rollup_exit_root)} and info "
                f"root {hex_of(update.l1_info_root)}, its events give {hex_of(computed)} and "
                f"{hex_of(self._info_tree.root())}; are all networks of L1 configured?"
            )
        if deposits and self._deposits.root(deposits) != roots.mainnet_exit_root:
            raise InvalidBlock(
                f"mainnet exit root {hex_of(roots.mainnet_exit_root)} is not that of {deposits} deposits"
            )
        self._info.append(InfoLeaf(leaf, number, deposits, local_roots))


def _number(block: Mapping[str, Any] | RpcError | None) -> int:
    if isinstance(block, RpcError):
        raise block
    return 0 if block is None else int(block["number"], 16)


_NOTHING = SettledOnL1(local_exit_root=ZERO_HASH, pessimistic_root=ZERO_HASH, last_height=0)
_NO_BLOCK = L1Block(number=-1, hash=b"", parent_hash=b"", timestamp_s=0, base_fee_wei=0)
