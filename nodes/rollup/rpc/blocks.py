"""The chain and its contents: identity, heads, blocks, transactions, receipts, fees. From the node's own index.

Fees: the base fee of a rollup is 0 and nobody outbids anybody (the sequencer orders first come, first served), so the
suggested price and tip are 0.
"""

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.accepted import AcceptedTransactions
from nodes.rollup.rpc.errors import SERVER_ERROR
from nodes.rollup.rpc.forms import Json, block_json, effective_gas_price, receipt_json, transaction_json
from nodes.rollup.rpc.params import Params, quantity
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.view import NodeView

MAX_FEE_HISTORY_BLOCKS = 1_024
MAX_REWARD_BLOCKS = 32
"""Of which a fee history with percentiles is made; older blocks are left out of the answer, as geth may do too."""
MAX_PERCENTILES = 100
LAG_HEIGHTS = 32
"""Sequenced heights a node may be behind before it says that it is syncing."""


class BlockMethods:
    """Handlers of methods that read the chain."""

    def __init__(self, node: NodeView, reader: ChainReader, accepted: AcceptedTransactions) -> None:
        self._node = node
        self._reader = reader
        self._accepted = accepted
        self._client = f"Lockstep/{_version()}"

    # Identity and heads.

    async def client_version(self, params: Params) -> str:
        """web3_clientVersion."""
        params.end()
        return self._client

    async def network(self, params: Params) -> str:
        """net_version."""
        params.end()
        return str(self._node.chain_id)

    async def listening(self, params: Params) -> bool:
        """net_listening."""
        params.end()
        return True

    async def chain_id(self, params: Params) -> str:
        """eth_chainId."""
        params.end()
        return hex(self._node.chain_id)

    async def accounts(self, params: Params) -> list[str]:
        """eth_accounts: a node holds no keys."""
        params.end()
        return []

    async def syncing(self, params: Params) -> bool | Json:
        """eth_syncing. `highestBlock` is an upper bound: not every sequenced height makes a rollup block."""
        params.end()
        status = await self._node.status()
        lag = status.sequencer_height - status.heads.height
        if lag <= LAG_HEIGHTS:
            return False
        number = status.heads.latest.number
        return {"startingBlock": hex(0), "currentBlock": hex(number), "highestBlock": hex(number + lag)}

    async def block_number(self, params: Params) -> str:
        """eth_blockNumber."""
        params.end()
        return hex(self._node.heads.latest.number)

    # Blocks.

    async def block_by_number(self, params: Params) -> Json | None:
        """eth_getBlockByNumber."""
        block = self._reader.block(params.block("block", None))
        return await self._block(block, params)

    async def block_by_hash(self, params: Params) -> Json | None:
        """eth_getBlockByHash."""
        block = self._node.index.block_by_hash(params.hash("block hash"))
        return await self._block(block, params)

    async def _block(self, block: IndexedBlock | None, params: Params) -> Json | None:
        whole = params.boolean("full transactions", False)
        params.end()
        if block is None:
            return None
        header = await self._reader.header(block)
        if not whole:
            hashes = [hex_of(block.tx_hash(position)) for position in range(len(block))]
            return block_json(header, block, hashes)
        transactions = await self._reader.transactions(block)
        forms = [transaction_json(payload, tx, block, at) for at, (payload, tx) in enumerate(transactions)]
        return block_json(header, block, forms)

    async def count_by_number(self, params: Params) -> str | None:
        """eth_getBlockTransactionCountByNumber."""
        block = self._reader.block(params.block("block", None))
        params.end()
        return None if block is None else hex(len(block))

    async def count_by_hash(self, params: Params) -> str | None:
        """eth_getBlockTransactionCountByHash."""
        block = self._node.index.block_by_hash(params.hash("block hash"))
        params.end()
        return None if block is None else hex(len(block))

    # Transactions and receipts.

    async def transaction(self, params: Params) -> Json | None:
        """eth_getTransactionByHash; one that this node handed in and that is in no block yet has null places."""
        tx_hash = params.hash("transaction hash")
        params.end()
        fate = self._node.index.transaction(tx_hash)
        if fate is not None and fate.block is not None:
            return self._transaction_at(fate.block, fate.position)
        payload = self._accepted.payload(tx_hash)
        return None if payload is None else transaction_json(payload, self._reader.transaction(payload), None, 0)

    async def transaction_by_number(self, params: Params) -> Json | None:
        """eth_getTransactionByBlockNumberAndIndex."""
        block, position = self._reader.block(params.block("block", None)), params.quantity("index")
        params.end()
        return self._transaction_at(block, position)

    async def transaction_by_block_hash(self, params: Params) -> Json | None:
        """eth_getTransactionByBlockHashAndIndex."""
        block, position = self._node.index.block_by_hash(params.hash("block hash")), params.quantity("index")
        params.end()
        return self._transaction_at(block, position)

    def _transaction_at(self, block: IndexedBlock | None, position: int) -> Json | None:
        if block is None or position >= len(block):
            return None
        payload = block.payload(position)
        return transaction_json(payload, self._reader.transaction(payload), block, position)

    async def receipt(self, params: Params) -> Json | None:
        """eth_getTransactionReceipt; null for a transaction in no block (see lockstep_getTransactionStatus)."""
        tx_hash = params.hash("transaction hash")
        params.end()
        fate = self._node.index.transaction(tx_hash)
        if fate is None or fate.block is None:
            return None
        transaction = self._reader.transaction(fate.block.payload(fate.position))
        return await self._receipt_at(fate.block, fate.position, transaction)

    async def block_receipts(self, params: Params) -> list[Json] | None:
        """eth_getBlockReceipts."""
        block = self._reader.block(params.block("block", None))
        params.end()
        if block is None:
            return None
        # One by one: the engine's own method for a whole block takes time with the square of its size.
        transactions = await self._reader.transactions(block)
        return [await self._receipt_at(block, at, tx) for at, (_, tx) in enumerate(transactions)]

    async def _receipt_at(self, block: IndexedBlock, position: int, transaction: Transaction) -> Json:
        receipt = await self._reader.receipt(transaction.tx_hash)
        if receipt is None or receipt.get("blockHash") != hex_of(block.hash):
            raise RpcFault(SERVER_ERROR, f"block {block.number} left the chain while it was read; ask again")
        return receipt_json(receipt, transaction, block, position)

    # Fees.

    async def zero_price(self, params: Params) -> str:
        """eth_gasPrice and eth_maxPriorityFeePerGas."""
        params.end()
        return "0x0"

    async def fee_history(self, params: Params) -> Json:
        """eth_feeHistory."""
        count = _block_count(params.take("block count"))
        newest = self._reader.known_block(params.block("newest block", None))
        percentiles = _percentiles(params.take("reward percentiles", []))
        params.end()
        limit = MAX_REWARD_BLOCKS if percentiles else MAX_FEE_HISTORY_BLOCKS
        oldest = max(newest.number - min(count, limit) + 1, self._node.index.oldest_number, 0)
        if not count:
            return {"oldestBlock": "0x0", "baseFeePerGas": None, "gasUsedRatio": None}
        blocks = [self._known(number) for number in range(oldest, newest.number + 1)]
        gas_limit = self._node.params.block_gas_limit
        history: Json = {
            "oldestBlock": hex(oldest),
            "baseFeePerGas": ["0x0"] * (len(blocks) + 1),
            "gasUsedRatio": [block.gas_used / gas_limit for block in blocks],
            "baseFeePerBlobGas": ["0x1"] * (len(blocks) + 1),
            "blobGasUsedRatio": [0.0] * len(blocks),
        }
        if percentiles:
            history["reward"] = [await self._rewards(block, percentiles) for block in blocks]
        return history

    def _known(self, number: int) -> IndexedBlock:
        block = self._node.index.block_by_number(number)
        if block is None:
            raise RpcFault(SERVER_ERROR, f"block {number} left the chain while it was read; ask again")
        return block

    async def _rewards(self, block: IndexedBlock, percentiles: list[float]) -> list[str]:
        """Tips by percentile of gas, as geth counts them. Gas is looked up only where tips differ."""
        transactions = [transaction for _, transaction in await self._reader.transactions(block)]
        tips = {effective_gas_price(transaction) for transaction in transactions}
        if len(tips) <= 1:
            return [hex(next(iter(tips), 0))] * len(percentiles)
        spent = []
        for at, transaction in enumerate(transactions):
            receipt = await self._receipt_at(block, at, transaction)
            spent.append((effective_gas_price(transaction), int(receipt["gasUsed"], 16)))
        spent.sort()
        return [hex(_tip_at(spent, block.gas_used * percentile / 100)) for percentile in percentiles]


def _version() -> str:
    try:
        return f"v{version('lockstep')}"
    except PackageNotFoundError:
        return "source"  # code shipped to another machine without being installed there


def _tip_at(spent: list[tuple[int, int]], threshold: float) -> int:
    total = 0
    for tip, gas in spent:
        total += gas
        if total >= threshold:
            return tip
    return spent[-1][0]


def _block_count(value: Any) -> int:
    # geth takes a plain number as well, and web3.py sends one.
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return quantity(value, "block count")


def _percentiles(value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) > MAX_PERCENTILES:
        raise invalid_params(f"reward percentiles must be a list of at most {MAX_PERCENTILES} numbers")
    for before, after in zip([0.0, *value], value):
        if isinstance(after, (bool, str, list, Mapping)) or after is None or not before <= after <= 100:
            raise invalid_params("reward percentiles must be ascending numbers from 0 to 100")
    return [float(percentile) for percentile in value]
