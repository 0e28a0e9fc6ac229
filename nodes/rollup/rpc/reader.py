"""Reads the announced chain for users: which block a reference means, its header, its transactions, state at it.

Everything is pinned. State is read by the hash of an announced block, so the empty block that an engine shows while it
builds the next one can never be seen, and a block that left the chain in the meantime is an error and not another
block's state. The engine's own tags are never used.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from nodes.model.errors import EngineFailure, Overloaded, Pruned, RpcError
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.errors import SERVER_ERROR, RpcFault, fault_of_engine
from nodes.rollup.rpc.forms import Json, checked_header
from nodes.rollup.rpc.params import BlockReference
from nodes.rollup.rpc.view import NodeView
from nodes.rules.payload import decode

READS_AT_ONCE = 8
"""Engine reads under way; the engine has one more core to itself at best, and building blocks comes first."""
MAX_WAITING_READS = 512
HEAD_TRIES = 10
HEADERS_KEPT = 256
DECODED_ON_THE_LOOP = 32
"""Transactions decoded at once without leaving the event loop; each takes some 30 us, most of it the signer."""
_NOT_FOUND = -32001

LATEST = BlockReference(tag="latest")


class ChainReader:
    """One node's chain. All methods raise what the node raises: Pruned, Unavailable, EngineFailure."""

    def __init__(self, node: NodeView) -> None:
        self._node = node
        self._slots = asyncio.Semaphore(READS_AT_ONCE)
        self._waiting = 0
        self._headers: OrderedDict[bytes, Json] = OrderedDict()

    def block(self, reference: BlockReference) -> IndexedBlock | None:
        """The block that a user means; None where there is none (yet)."""
        index = self._node.index
        if reference.hash:
            return index.block_by_hash(reference.hash)
        if reference.number is not None:
            return index.block_by_number(reference.number)
        if reference.tag == "earliest":
            return index.genesis
        heads = self._node.heads
        head = {"safe": heads.safe, "finalized": heads.finalized}.get(reference.tag, heads.latest)
        return index.block_by_number(head.number)

    def known_block(self, reference: BlockReference) -> IndexedBlock:
        """As `block`; a missing one is the error that geth gives."""
        block = self.block(reference)
        if block is None:
            raise RpcFault(SERVER_ERROR, "header not found")
        return block

    async def header(self, block: IndexedBlock) -> Json:
        """The header fields of a block, checked against its hash."""
        header = self._headers.get(block.hash)
        if header is None:
            found = await self._request("eth_getBlockByHash", [hex_of(block.hash), False])
            if found is None:
                raise Pruned(
                    f"the header of block {block.number} is pruned: the engine started from a later checkpoint"
                )
            header = self._headers[block.hash] = checked_header(found, block)
            if len(self._headers) > HEADERS_KEPT:
                self._headers.popitem(last=False)
        return header

    async def transactions(self, block: IndexedBlock) -> list[tuple[bytes, Transaction]]:
        """The payloads of a block with what they say, in order."""
        payloads = block.payload_list()
        if len(payloads) <= DECODED_ON_THE_LOOP:
            return self._decoded(payloads)
        return await asyncio.to_thread(self._decoded, payloads)

    def transaction(self, payload: bytes) -> Transaction:
        """What one executed or accepted payload says."""
        transaction = decode(payload, self._node.chain_id)
        assert isinstance(transaction, Transaction), "what was executed was accepted"
        return transaction

    def _decoded(self, payloads: Sequence[bytes]) -> list[tuple[bytes, Transaction]]:
        return [(payload, self.transaction(payload)) for payload in payloads]

    async def state(
        self, method: str, leading: Sequence[Any], reference: BlockReference, trailing: Sequence[Any] = ()
    ) -> Any:
        """A read of the state after a block; `leading` and `trailing` are the parameters around the block.

        Raises RpcFault with the engine's answer in geth's form.
        """
        for is_last_try in (False, True):
            block = self.known_block(reference)
            try:
                return await self._request(method, [*leading, {"blockHash": hex_of(block.hash)}, *trailing])
            except RpcError as error:
                if error.code != _NOT_FOUND:
                    raise fault_of_engine(error) from error
                if self._node.index.block_by_hash(block.hash) is not None:
                    raise Pruned(
                        f"the state of block {block.number} is pruned; the newest states only are kept"
                    ) from error
                # The chain was rewound in between. A tag means another block now.
                if is_last_try or not reference.tag:
                    raise RpcFault(SERVER_ERROR, "header not found") from error
        raise AssertionError("the last try returns or raises")

    async def state_at_head(self, method: str, leading: Sequence[Any]) -> Any:
        """As `state` at the latest block, which is still the latest one when this returns.

        For what is compared with the pending pool: a block that is settled meanwhile takes its transactions out of the
        pool, and the older state would then seem to lack them.
        """
        for _ in range(HEAD_TRIES):
            head = self._node.heads.latest
            answer = await self.state(method, leading, LATEST)
            if self._node.heads.latest == head:
                return answer
        raise Overloaded("blocks follow each other faster than the engine answers reads", retry_after_ms=50)

    async def trace(self, tx_hash: bytes, options: Json) -> Any:
        """The trace of a transaction that is in a block. Raises RpcFault."""
        try:
            return await self._request("debug_traceTransaction", [hex_of(tx_hash), options])
        except RpcError as error:
            if error.code == _NOT_FOUND:
                raise Pruned(
                    f"the trace of {hex_of(tx_hash)} is pruned: the engine keeps those of newest blocks"
                ) from error
            raise fault_of_engine(error) from error

    async def receipt(self, tx_hash: bytes) -> Json | None:
        """The engine's receipt of one transaction."""
        async with self._slot():
            try:
                return await self._node.receipt(tx_hash)
            except RpcError as error:
                raise EngineFailure(f"the engine gives no receipt of {hex_of(tx_hash)}: {error}") from error

    async def logs(self, block: IndexedBlock) -> list[Json]:
        """The engine's logs of one block."""
        async with self._slot():
            try:
                return await self._node.logs(block)
            except RpcError as error:
                raise EngineFailure(f"the engine gives no logs of block {block.number}: {error}") from error

    async def _request(self, method: str, params: Sequence[Any]) -> Any:
        async with self._slot():
            return await self._node.request(method, params)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._waiting >= MAX_WAITING_READS:
            raise Overloaded(f"{MAX_WAITING_READS} reads wait for the engine (MAX_WAITING_READS)", retry_after_ms=200)
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._slots.release()
