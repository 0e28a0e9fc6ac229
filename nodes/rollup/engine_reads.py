"""What users ask that only the engine knows: logs and receipts, kept by the node before the engine forgets them.

anvil serves blocks it no longer holds with empty lists, so every answer is compared with the node's index, and what is
missing is Pruned. What is longer than the engine's client takes (`AnswerTooLong`) is not kept; users are told so.
"""

import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from nodes.model.errors import AnswerTooLong, EngineFailure, Pruned, RpcError
from nodes.model.ids import Height, hex_of
from nodes.ports import ExecutionEngine
from nodes.rollup.engine import EngineProcess
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import Journal
from nodes.rollup.records import IndexedBlock

EMPTY_BLOOM = bytes(256)
SMALL_BLOCK_TRANSACTIONS = 8
"""All receipts of a block up to this size are kept: the traffic of people. Of larger ones, those of own users."""
MAX_KEPT_RECEIPTS = 256
"""Per block."""

_log = logging.getLogger(__name__)


class EngineReads:
    """Logs and receipts of one chain."""

    def __init__(self, journal: Journal, index: ChainIndex, engine: Callable[[], EngineProcess]) -> None:
        """`engine` gives the engine that stands at the head, or raises Unavailable."""
        self._journal = journal
        self._index = index
        self._engine = engine

    # For users.

    async def logs(self, block: IndexedBlock) -> list[dict[str, Any]]:
        """Logs of a block of the index. Raises Pruned, Unavailable, AnswerTooLong."""
        if block.logs_bloom == EMPTY_BLOOM or block.number == 0:
            return []
        packed = self._journal.logs(block.number)
        if packed is None:
            packed = await self.keep_logs(self._engine(), block)
        return _unpacked(packed)

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a transaction in a block; None otherwise. Raises Pruned, Unavailable."""
        fate = self._index.transaction(tx_hash)
        if fate is None or fate.block is None:
            return None
        packed = self._journal.receipts(fate.block.number)
        wanted = hex_of(tx_hash)
        for receipt in _unpacked(packed) if packed is not None else ():
            if receipt["transactionHash"] == wanted:
                return receipt
        receipt = await self._engine().request("eth_getTransactionReceipt", [wanted])
        if receipt is None or receipt["blockHash"] != hex_of(fate.block.hash):
            place = f"position {fate.position} of block {fate.block.number}"
            raise Pruned(f"the receipt of {wanted} is pruned; the transaction {fate.fate} at {place}")
        assert isinstance(receipt, dict)
        return receipt

    # For the executor, right after a block was announced.

    async def keep(self, engine: ExecutionEngine, block: IndexedBlock, own: Sequence[bytes]) -> None:
        """Read what will be forgotten: logs, and the receipts of small blocks and of users' own transactions.

        Raises EngineFailure.
        """
        try:
            if block.logs_bloom != EMPTY_BLOOM and self._journal.logs(block.number) is None:
                await self._keep_unless_long(block, self.keep_logs(engine, block))
            wanted: list[bytes] = [tx_hash for tx_hash in own if block.position_of(tx_hash) is not None]
            if len(block) <= SMALL_BLOCK_TRANSACTIONS:
                wanted = [block.tx_hash(at) for at in range(len(block))]
            if wanted and self._journal.receipts(block.number) is None:
                await self._keep_unless_long(block, self._keep_receipts(engine, block, wanted[:MAX_KEPT_RECEIPTS]))
        except RpcError as error:
            raise EngineFailure(f"the engine does not show block {block.number}, just built: {error}") from error

    async def keep_logs(self, engine: ExecutionEngine, block: IndexedBlock) -> bytes:
        """Read the logs of a block whose bloom is not empty, and keep them. Raises Pruned, AnswerTooLong."""
        return (await self._read_logs(engine, block))[1]

    async def fresh_logs(self, engine: ExecutionEngine, block: IndexedBlock, address: str) -> list[dict[str, Any]]:
        """The logs of one contract, 0x-prefixed in lower case, in a block that was just built and has logs.

        All are kept; `keep` does not read them again. Raises EngineFailure.
        """
        packed = self._journal.logs(block.number)
        try:
            logs = _unpacked(packed) if packed is not None else (await self._read_logs(engine, block))[0]
            return _of(logs, address)
        except AnswerTooLong:
            return await self._logs_one_by_one(engine, block, address)
        except (RpcError, Pruned) as error:
            raise EngineFailure(f"the engine does not show block {block.number}, just built: {error}") from error

    async def _keep_unless_long(self, block: IndexedBlock, keeping: Awaitable[object]) -> None:
        try:
            await keeping
        except AnswerTooLong as error:
            _log.warning("not kept for users of block %d: %s", block.number, error)

    async def _logs_one_by_one(
        self, engine: ExecutionEngine, block: IndexedBlock, address: str
    ) -> list[dict[str, Any]]:
        """By transaction: what one logs is bounded by its gas, what a block logs hardly. Raises EngineFailure."""
        logs: list[dict[str, Any]] = []
        try:
            for at in range(len(block)):
                receipt = await engine.request("eth_getTransactionReceipt", [hex_of(block.tx_hash(at))])
                if receipt is None or receipt["blockHash"] != hex_of(block.hash):
                    raise EngineFailure(f"the engine does not show transaction {at} of block {block.number}")
                logs += _of(receipt["logs"], address)
        except RpcError as error:
            raise EngineFailure(f"the engine does not show block {block.number}, just built: {error}") from error
        return logs

    async def _read_logs(self, engine: ExecutionEngine, block: IndexedBlock) -> tuple[list[dict[str, Any]], bytes]:
        logs = await engine.request("eth_getLogs", [{"blockHash": hex_of(block.hash)}])
        if not logs:
            raise Pruned(f"the logs of block {block.number} are pruned")
        packed = _packed(logs)
        self._journal.put_logs(block.number, block.hash, packed)
        return logs, packed

    async def _keep_receipts(self, engine: ExecutionEngine, block: IndexedBlock, hashes: Sequence[bytes]) -> None:
        if len(hashes) == len(block):
            receipts = await engine.request("eth_getBlockReceipts", [hex(block.number)])
        else:
            receipts = [await engine.request("eth_getTransactionReceipt", [hex_of(tx_hash)]) for tx_hash in hashes]
        own = hex_of(block.hash)
        found = [receipt for receipt in receipts or () if receipt is not None and receipt["blockHash"] == own]
        if len(found) < len(hashes):
            raise EngineFailure(f"the engine shows {len(found)} of {len(hashes)} receipts of block {block.number}")
        self._journal.put_receipts(block.number, block.hash, _packed(found))


def _of(logs: Sequence[dict[str, Any]], address: str) -> list[dict[str, Any]]:
    return [log for log in logs if log["address"].lower() == address]


def _packed(documents: list[Any]) -> bytes:
    return zlib.compress(orjson.dumps(documents), 1)


def _unpacked(packed: bytes) -> list[dict[str, Any]]:
    documents: list[dict[str, Any]] = orjson.loads(zlib.decompress(packed))
    return documents


async def genesis_block(engine: ExecutionEngine) -> IndexedBlock:
    """Block 0 of an engine that has just started at genesis. Raises EngineFailure."""
    header = await engine.request("eth_getBlockByNumber", ["0x0", False])
    number, block_hash = await engine.head()
    if number != 0 or header is None or header["hash"] != hex_of(block_hash):
        raise EngineFailure(f"an engine started at genesis stands at block {number} {hex_of(block_hash)}")
    return IndexedBlock(
        number=0,
        height=Height(0),
        hash=block_hash,
        parent_hash=bytes.fromhex(header["parentHash"][2:]),
        state_root=bytes.fromhex(header["stateRoot"][2:]),
        timestamp_s=int(header["timestamp"], 16),
        gas_used=0,
        receipts_root=bytes.fromhex(header["receiptsRoot"][2:]),
        logs_bloom=EMPTY_BLOOM,
        tx_hashes=b"",
        statuses=b"",
        payloads=b"",
        payload_ends=b"",
    )
