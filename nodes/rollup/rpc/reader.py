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

from nodes.json_rpc.faults import RpcFault
from nodes.model.errors import AnswerTooLong, EngineFailure, Overloaded, Pruned, RpcError
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.deposits import decode_deposit
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.errors import SERVER_ERROR, fault_of_engine
from nodes.rollup.rpc.forms import Json
from nodes.rollup.rpc.headers import checked_header, rebuilt_header
from nodes.rollup.rpc.params import BlockReference
from nodes.rollup.rpc.view import NodeView
from nodes.rules.payload import decode
from nodes.rules.verdict import DEPOSIT_TYPE

READS_AT_ONCE = 8
"""Engine reads under way; the engine has one more core to itself at best, and building blocks comes first."""
MAX_WAITING_READS = 512
HEADERS_KEPT = 256
DECODED_ON_THE_LOOP = 32
"""Transactions decoded at once without leaving the event loop; each takes some 30 us, most of it the signer."""
HASHED_ON_THE_LOOP = 256
"""Transactions whose root is computed without leaving the event loop; some 8 us each."""
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
        if header is not None:
            return header
        params = self._node.params
        if len(block) <= HASHED_ON_THE_LOOP:
            header = rebuilt_header(block, params)
        else:
            header = await asyncio.to_thread(rebuilt_header, block, params)
        if header is None:
            header = checked_header(await self._request("eth_getBlockByHash", [hex_of(block.hash), False]), block)
        self._headers[block.hash] = header
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
        if payload[0] == DEPOSIT_TYPE:
            return decode_deposit(payload, self._node.chain_id)
        transaction = decode(payload, self._node.chain_id)
        assert isinstance(transaction, Transaction), "what was executed was accepted"
        return transaction

    def _decoded(self, payloads: Sequence[bytes]) -> list[tuple[bytes, Transaction]]:
        return [(payload, self.transaction(payload)) for payload in payloads]

    async def state(
        self, method: str, leading: Sequence[Any], reference: BlockReference, trailing: Sequence[Any] = ()
    ) -> Any:
        """A read of the state after a block; `leading` and `trailing` are the parameters around the block.

        Raises RpcFault with the engine's answer in geth's form, Pruned.
        """
        try:
            return await self._state_at(self.known_block(reference), method, leading, trailing)
        except _LeftTheChain as error:
            if not reference.tag:
                raise RpcFault(SERVER_ERROR, "header not found") from error
        # Rewound in between: the tag means another block now.
        return await self.state(method, leading, BlockReference(number=self.known_block(reference).number), trailing)

    async def account_and_pending(self, method: str, address: bytes) -> tuple[Any, frozenset[int]]:
        """A read of one account at the latest block, and the nonces that were pending when that was the latest one.

        Both of one moment: a block that is settled during the read takes its transactions out of the pool, and the
        account as it was before would then seem to lack them. Waiting for a read during which no block comes would
        take for ever on a busy node, since reads wait for the block being built.
        """
        for _ in range(2):
            pending = self._node.pending.nonces_of(address)
            try:
                return await self._state_at(self.known_block(LATEST), method, [hex_of(address)], ()), pending
            except _LeftTheChain:
                continue
        raise RpcFault(SERVER_ERROR, "header not found")

    async def _state_at(self, block: IndexedBlock, method: str, leading: Sequence[Any], trailing: Sequence[Any]) -> Any:
        try:
            return await self._request(method, [*leading, {"blockHash": hex_of(block.hash)}, *trailing])
        except RpcError as error:
            if error.code != _NOT_FOUND:
                raise fault_of_engine(error) from error
            if self._node.index.block_by_hash(block.hash) is None:
                raise _LeftTheChain from error
            raise Pruned(f"the state of block {block.number} is pruned; the newest states only are kept") from error

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
        """The engine's receipt of one transaction. Raises RpcFault where it is too long."""
        async with self._slot():
            try:
                return await self._node.receipt(tx_hash)
            except AnswerTooLong as error:
                raise fault_of_engine(error) from error
            except RpcError as error:
                raise EngineFailure(f"the engine gives no receipt of {hex_of(tx_hash)}: {error}") from error

    async def logs(self, block: IndexedBlock) -> list[Json]:
        """The engine's logs of one block. Raises RpcFault where they are too long."""
        async with self._slot():
            try:
                return await self._node.logs(block)
            except AnswerTooLong as error:
                raise fault_of_engine(error) from error
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


class _LeftTheChain(Exception):
    """The chain was rewound below the block while its state was read."""
