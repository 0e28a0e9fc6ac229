"""Methods that read the ledger: slots, blocks, transactions, signatures."""

from typing import Any

from nodes.json_rpc.faults import invalid_params
from nodes.solana.devnode.rpc.blocks import BlockEncoder, block_form, max_version
from nodes.solana.devnode.rpc.errors import block_cleaned_up, block_not_available, long_term_slot_skipped, slot_skipped
from nodes.solana.devnode.rpc.params import Params, as_signature
from nodes.solana.devnode.rpc.transactions import (
    memo_text,
    status_json,
    transaction_encoding,
    transaction_json,
)
from nodes.solana.devnode.rpc.view import Handlers, Json, RpcView, Steps
from nodes.solana.devnode.values import ExecutedTransaction, FrozenBlock, Level

MAX_SLOT_RANGE = 500_000
MAX_SIGNATURES = 1_000
MAX_STATUSES = 256
STATUS_CACHE_SLOTS = 300
"""Finalized statuses older than this are found only with `searchTransactionHistory`, as on a real node."""


class LedgerMethods:
    """Reads of one chain's ledger."""

    def __init__(self, view: RpcView, blocks: BlockEncoder) -> None:
        self._view = view
        self._chain = view.chain
        self._blocks = blocks

    def table(self) -> Handlers:
        """Every method of this group by name."""
        return {
            "getSlot": self.slot,
            "getBlockHeight": self.block_height,
            "getBlock": self.block,
            "getBlocks": self.blocks,
            "getBlocksWithLimit": self.blocks_with_limit,
            "getBlockTime": self.block_time,
            "getFirstAvailableBlock": self.first_available_block,
            "minimumLedgerSlot": self.first_available_block,
            "getTransaction": self.transaction,
            "getTransactionCount": self.transaction_count,
            "getSignatureStatuses": self.signature_statuses,
            "getSignaturesForAddress": self.signatures_for_address,
        }

    def slot(self, params: Params) -> int:
        """Newest slot of a commitment."""
        return self._chain.slot(self._view.level_of(params.config(0)))

    def block_height(self, params: Params) -> int:
        """Newest block height of a commitment."""
        return self._chain.block_height(self._view.level_of(params.config(0)))

    def transaction_count(self, params: Params) -> int:
        """Transactions since genesis, votes never among them."""
        self._view.level_of(params.config(0))
        return self._chain.transaction_count

    def first_available_block(self, _params: Params) -> int:
        """Slot of the oldest block that is kept."""
        return self._chain.first_slot

    def block(self, params: Params) -> Steps:
        """One block, encoded as asked for."""
        slot, config = params.number(0), params.config_or_encoding(1)
        level, form = config.confirmed_level(), block_form(config)
        return self._blocks.encode(self._block_at(slot, level), form)

    def _block_at(self, slot: int, level: Level) -> FrozenBlock:
        """The block of a slot. Raises RpcFault in the words for a slot that has none."""
        if slot > self._chain.slot(level):
            raise block_not_available(slot)
        block = self._chain.block(slot)
        if block is not None:
            return block
        if slot < self._chain.config.first_slot:
            raise long_term_slot_skipped(slot)
        first = self._chain.first_slot
        raise slot_skipped(slot) if slot > first else block_cleaned_up(slot, first)

    def blocks(self, params: Params) -> list[int]:
        """Slots with a block in a range, both ends included."""
        start, end = params.number(0), params.optional_number(1)
        config = params.config(2 if len(params) > 2 or end is not None or params.get(1) is None else 1)
        level = config.confirmed_level()
        self._view.check_min_context(config, level)
        newest = self._chain.slot(level)
        if end is not None and end < start:
            return []
        if (newest if end is None else end) - start > MAX_SLOT_RANGE:
            raise invalid_params(f"Slot range too large; max {MAX_SLOT_RANGE}")
        return list(self._chain.blocks_between(start, newest if end is None else min(end, newest), level))

    def blocks_with_limit(self, params: Params) -> list[int]:
        """The next so many slots with a block."""
        start, limit, config = params.number(0), params.number(1), params.config(2)
        level = config.confirmed_level()
        self._view.check_min_context(config, level)
        if limit > MAX_SLOT_RANGE:
            raise invalid_params(f"Limit too large; max {MAX_SLOT_RANGE}")
        return list(self._chain.blocks_between(start, self._chain.slot(level), level))[:limit]

    def block_time(self, params: Params) -> int:
        """Unix time of a block."""
        return self._block_at(params.number(0), "confirmed").time_s

    def transaction(self, params: Params) -> Json | None:
        """One transaction; null where there is none at this commitment."""
        signature, config = params.signature(0), params.config_or_encoding(1)
        level, encoding, version = config.confirmed_level(), transaction_encoding(config), None
        version = max_version(config)
        found = self._chain.transaction(signature, level)
        if found is None:
            return None
        shown = transaction_json(found, encoding=encoding, max_version=version, lookup=self._view.lookup("processed"))
        return {"slot": found.slot, "blockTime": self._chain.time_of(found.slot)} | shown

    def signature_statuses(self, params: Params) -> Json:
        """Where transactions stand; null for each that is not known."""
        signatures = [as_signature(item) for item in params.items(0, at_most=MAX_STATUSES)]
        is_deep = params.config(1).flag("searchTransactionHistory")
        return self._view.with_context("processed", [self._status(item, is_deep) for item in signatures])

    def _status(self, signature: str, is_deep: bool) -> Json | None:  # noqa: FBT001 - one caller, one line
        status = self._chain.status_of(signature)
        if status is None:
            return None
        if not is_deep and status.slot + STATUS_CACHE_SLOTS < self._chain.slot("finalized"):
            return None
        return {
            "slot": status.slot,
            "confirmations": status.confirmations,
            "err": status.error,
            "status": status_json(status.error),
            "confirmationStatus": status.level,
        }

    def signatures_for_address(self, params: Params) -> list[Json]:
        """Transactions that name an address, newest first."""
        address, config = params.pubkey(0), params.config(1)
        level = config.confirmed_level()
        self._view.check_min_context(config, level)
        limit = config.count("limit")
        if limit is not None and not 1 <= limit <= MAX_SIGNATURES:
            raise invalid_params(f"Invalid limit; max {MAX_SIGNATURES}")
        before, until = config.get("before"), config.get("until")
        found = self._chain.signatures_for(
            address,
            level,
            before=None if before is None else as_signature(before),
            until=None if until is None else as_signature(until),
            limit=limit or MAX_SIGNATURES,
        )
        return [self._signature_json(transaction) for transaction in found]

    def _signature_json(self, transaction: ExecutedTransaction) -> dict[str, Any]:
        is_final = transaction.slot <= self._chain.slot("finalized")
        return {
            "signature": transaction.signature,
            "slot": transaction.slot,
            "err": transaction.error,
            "memo": memo_text(transaction),
            "blockTime": self._chain.time_of(transaction.slot),
            "confirmationStatus": "finalized" if is_final else "confirmed",
        }
