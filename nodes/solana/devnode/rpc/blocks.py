"""Blocks as JSON. A large one takes a fifth of a second, so it is encoded in steps, and the result is kept."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from nodes.json_rpc.faults import invalid_params
from nodes.solana.devnode.rpc.accounts import Lookup
from nodes.solana.devnode.rpc.params import Config
from nodes.solana.devnode.rpc.transactions import accounts_json, transaction_encoding, transaction_json
from nodes.solana.devnode.rpc.view import Json, Steps
from nodes.solana.devnode.values import ExecutedTransaction, FrozenBlock

DETAILS = ("full", "accounts", "signatures", "none")
STEP_TRANSACTIONS = 32
"""Encoded before others get their turn: about a millisecond."""
CACHE_BYTES = 64 * 1024 * 1024
_MAX_VERSION = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockForm:
    """How a client wants blocks to be shown."""

    encoding: str
    details: str
    rewards: bool
    max_version: int | None


def block_form(config: Config) -> BlockForm:
    """What a request asks for. Raises RpcFault."""
    details = config.text("transactionDetails") or "full"
    if details not in DETAILS:
        known = ", ".join(f"`{name}`" for name in DETAILS)
        raise invalid_params(f"Invalid params: unknown variant `{details}`, expected one of {known}.")
    rewards = config.flag("rewards", default=config.flag("showRewards", default=True))
    encoding = transaction_encoding(config)
    return BlockForm(encoding=encoding, details=details, rewards=rewards, max_version=max_version(config))


def max_version(config: Config) -> int | None:
    """The highest transaction version that a client can read; None = legacy only. Raises RpcFault."""
    version = config.count("maxSupportedTransactionVersion")
    if version is not None and version > _MAX_VERSION:
        raise invalid_params(f"Invalid params: maxSupportedTransactionVersion is at most {_MAX_VERSION}.")
    return version


class BlockEncoder:
    """Encodes blocks and keeps what it encoded, up to CACHE_BYTES."""

    def __init__(self, lookup: Lookup) -> None:
        """`lookup` finds mints."""
        self._lookup = lookup
        self._kept: OrderedDict[tuple[bytes, BlockForm], bytes] = OrderedDict()
        self._kept_bytes = 0

    def encode(self, block: FrozenBlock, form: BlockForm) -> Steps:
        """The block as a JSON fragment. Raises RpcFault for a transaction that the client cannot read."""
        key = (bytes(block.blockhash), form)
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
            return orjson.Fragment(kept)
        shown = yield from self.show(block, form, block.transactions)
        encoded = orjson.dumps(shown)
        self._keep(key, encoded)
        return orjson.Fragment(encoded)

    def show(self, block: FrozenBlock, form: BlockForm, transactions: tuple[ExecutedTransaction, ...]) -> Steps:
        """The block with these of its transactions."""
        shown: Json = {
            "previousBlockhash": str(block.previous_blockhash),
            "blockhash": str(block.blockhash),
            "parentSlot": block.parent_slot,
            "blockTime": block.time_s,
            "blockHeight": block.height,
        }
        if form.rewards:
            shown["rewards"] = []  # nobody is paid on this chain
        if form.details == "signatures":
            shown["signatures"] = [transaction.signature for transaction in transactions]
        elif form.details != "none":
            shown["transactions"] = yield from self._transactions(transactions, form)
        return shown

    def _transactions(self, transactions: tuple[ExecutedTransaction, ...], form: BlockForm) -> Steps:
        encode = self._encoder(form)
        parts = []
        for at in range(0, len(transactions), STEP_TRANSACTIONS):
            if at:
                yield
            # Encoded to bytes at once: what waits for the rest is then one object instead of a hundred.
            step = transactions[at : at + STEP_TRANSACTIONS]
            parts += [orjson.Fragment(orjson.dumps(encode(transaction))) for transaction in step]
        return parts

    def _encoder(self, form: BlockForm) -> Callable[[ExecutedTransaction], Mapping[str, Any]]:
        if form.details == "accounts":
            return lambda transaction: accounts_json(
                transaction, max_version=form.max_version, lookup=self._lookup, rewards=form.rewards
            )
        return lambda transaction: transaction_json(
            transaction,
            encoding=form.encoding,
            max_version=form.max_version,
            lookup=self._lookup,
            rewards=form.rewards,
        )

    def _keep(self, key: tuple[bytes, BlockForm], encoded: bytes) -> None:
        if key in self._kept or len(encoded) > CACHE_BYTES:
            return
        self._kept[key] = encoded
        self._kept_bytes += len(encoded)
        while self._kept_bytes > CACHE_BYTES:
            _, dropped = self._kept.popitem(last=False)
            self._kept_bytes -= len(dropped)
