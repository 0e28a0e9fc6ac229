"""Pushes what happens on the chain to WebSocket subscribers.

Every subscriber has a bounded queue; one that does not read is disconnected, and nothing is left out silently. Short
notifications are queued within the change itself. Whole blocks are encoded by `Publisher.run`, in turns with others.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson
from solders.pubkey import Pubkey

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.json_rpc.mailbox import Mailbox
from nodes.solana.devnode.rpc.accounts import Lookup, account_encoding, account_filter, account_json, data_slice
from nodes.solana.devnode.rpc.blocks import BlockEncoder, BlockForm, block_form
from nodes.solana.devnode.rpc.params import Config, Params, as_pubkey
from nodes.solana.devnode.rpc.view import Json, RpcView
from nodes.solana.devnode.values import (
    LEVELS,
    BlockFrozen,
    Event,
    ExecutedTransaction,
    Forked,
    FrozenBlock,
    Level,
    LevelRaised,
    SlotOpened,
    SlotSkipped,
    TransactionExecuted,
)

MAX_SUBSCRIPTIONS = 1_000
"""Per connection."""
MAX_WAITING_BLOCKS = 256
"""Blocks that wait to be encoded for subscribers; beyond, the subscribers of blocks are disconnected."""

SLOT, ROOT, UPDATES = "slot", "root", "slotsUpdates"
SIGNATURE, LOGS, ACCOUNT, PROGRAM, BLOCK = "signature", "logs", "account", "program", "block"
KINDS = (SLOT, ROOT, UPDATES, SIGNATURE, LOGS, ACCOUNT, PROGRAM, BLOCK)
_ALL_LOGS = ("all", "allWithVotes")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subscription:
    """One subscription of one connection."""

    id: int
    kind: str
    mailbox: Mailbox
    level: Level = "finalized"
    key: Any = None
    """Signature, address, or None for all: what it is looked up by."""
    show: Callable[[Pubkey, Any, Lookup], Json] | None = None
    """Of accounts."""
    is_wanted: Callable[[bytes], bool] | None = None
    """Of programs' accounts: the filters."""
    form: BlockForm | None = None
    """Of blocks."""


@dataclass(slots=True)
class _Index:
    """Subscriptions of one kind and level, by what they look for."""

    by_key: dict[Any, dict[int, Subscription]] = field(default_factory=dict)

    def add(self, subscription: Subscription) -> None:
        self.by_key.setdefault(subscription.key, {})[subscription.id] = subscription

    def remove(self, subscription: Subscription) -> None:
        found = self.by_key.get(subscription.key, {})
        found.pop(subscription.id, None)
        if not found:
            self.by_key.pop(subscription.key, None)

    def of(self, key: Any) -> list[Subscription]:
        return list(self.by_key.get(key, {}).values())


class Publisher:
    """All subscriptions to one chain."""

    def __init__(self, view: RpcView, blocks: BlockEncoder) -> None:
        self._view = view
        self._chain = view.chain
        self._blocks = blocks
        self._all: dict[Mailbox, dict[int, Subscription]] = {}
        self._indexes = {(kind, level): _Index() for kind in KINDS for level in LEVELS}
        self._last_id = 0
        self._waiting: deque[tuple[FrozenBlock, list[Subscription]]] = deque()
        self._changed = asyncio.Event()

    # Subscribing.

    def offers(self, method: str) -> bool:
        """Whether this is a subscription method."""
        return method.removesuffix("Unsubscribe").removesuffix("Subscribe") in KINDS and method.endswith("ubscribe")

    def why_not(self, method: str) -> str:
        """The words for a method that is not there."""
        if method in ("voteSubscribe", "voteUnsubscribe"):
            return "Method not found: nobody votes on this chain, its blocks are confirmed by their depth"
        return "Method not found"

    def call(self, method: str, params: Params, mailbox: Mailbox) -> Any:
        """Answer a subscription method."""
        if method.endswith("Unsubscribe"):
            return self._unsubscribe(params, mailbox)
        mine = self._all.setdefault(mailbox, {})
        if len(mine) >= MAX_SUBSCRIPTIONS:
            raise invalid_params(f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions (MAX_SUBSCRIPTIONS)")
        subscription = self._subscription(method.removesuffix("Subscribe"), params, mailbox)
        mine[subscription.id] = subscription
        self._indexes[subscription.kind, subscription.level].add(subscription)
        return subscription.id

    def _subscription(self, kind: str, params: Params, mailbox: Mailbox) -> Subscription:
        self._last_id += 1
        number = self._last_id
        if kind in (SLOT, ROOT, UPDATES):
            return Subscription(id=number, kind=kind, mailbox=mailbox)
        config = params.config(1)
        level = config.level()
        if kind == SIGNATURE:
            return self._of_signature(number, params.signature(0), config, mailbox)
        if kind == LOGS:
            key = _mentioned(params.get(0))
            return Subscription(id=number, kind=kind, mailbox=mailbox, level=level, key=key)
        if kind == BLOCK:
            level = config.confirmed_level()
            key, form = _block_filter(params.get(0)), block_form(config)
            return Subscription(id=number, kind=kind, mailbox=mailbox, level=level, key=key, form=form)
        encoding, part = account_encoding(config), data_slice(config)

        def show(key: Pubkey, account: Any, lookup: Lookup) -> Json:
            return account_json(key, account, encoding=encoding, part=part, lookup=lookup)

        return Subscription(
            id=number,
            kind=kind,
            mailbox=mailbox,
            level=level,
            key=params.pubkey(0),
            show=show,
            is_wanted=account_filter(config) if kind == PROGRAM else None,
        )

    def _of_signature(self, number: int, signature: str, config: Config, mailbox: Mailbox) -> Subscription:
        level = config.level()
        wants_receipt = config.flag("enableReceivedNotification")
        subscription = Subscription(id=number, kind=SIGNATURE, mailbox=mailbox, level=level, key=signature)
        # A transaction that has landed already is told at once, but behind the answer with the subscription's number.
        status = self._chain.status_of(signature)
        landed = status is not None and LEVELS.index(status.level) >= LEVELS.index(level)
        if landed or (status is not None and wants_receipt):
            asyncio.get_running_loop().call_soon(self._tell_landed, subscription, wants_receipt and not landed)
        return subscription

    def _tell_landed(self, subscription: Subscription, receipt: bool) -> None:  # noqa: FBT001 - a callback
        status = self._chain.status_of(subscription.key)
        if status is None or subscription.id not in self._all.get(subscription.mailbox, {}):
            return
        value = "receivedSignature" if receipt else {"err": status.error}
        self._notify(subscription, self._at(status.slot, value))
        if not receipt:
            self._remove(subscription)

    def _unsubscribe(self, params: Params, mailbox: Mailbox) -> bool:
        subscription = self._all.get(mailbox, {}).get(params.number(0))
        if subscription is None:
            raise invalid_params("Invalid subscription id.")
        self._remove(subscription)
        return True

    def _remove(self, subscription: Subscription) -> None:
        self._all.get(subscription.mailbox, {}).pop(subscription.id, None)
        self._indexes[subscription.kind, subscription.level].remove(subscription)

    def leave(self, mailbox: Mailbox) -> None:
        """The connection is gone."""
        for subscription in list(self._all.get(mailbox, {}).values()):
            self._remove(subscription)
        self._all.pop(mailbox, None)

    # What happens on the chain.

    def on_event(self, event: Event) -> None:
        """Tell those who want to know. Called within the change."""
        if not self._all:
            return
        match event:
            case TransactionExecuted(transaction=transaction):
                self._transactions((transaction,), "processed", transaction.slot)
            case SlotOpened(slot=slot, parent_slot=parent, root=root):
                self._tell(SLOT, {"slot": slot, "parent": parent, "root": root})
                self._update(slot, {"type": "createdBank", "parent": parent})
            case BlockFrozen(block=block):
                self._update(block.slot, {"type": "frozen", "stats": _stats(block)})
            case LevelRaised():
                self._raised(event)
            case Forked(abandoned_slots=slots):
                for slot in slots:
                    self._update(slot, {"type": "dead", "err": "fork abandoned"})
            case SlotSkipped():
                pass  # a slot without a block is not announced by a real node either

    def _raised(self, event: LevelRaised) -> None:
        level = event.level
        for slot in self._chain.blocks_between(event.previous_slot + 1, event.slot, level):
            block = self._chain.block(slot)
            assert block is not None, "it was listed"
            if level == "finalized":
                self._tell(ROOT, slot)
                self._update(slot, {"type": "root"})
            elif level == "confirmed":
                self._update(slot, {"type": "optimisticConfirmation"})
            if level != "processed":
                self._transactions(block.transactions, level, slot)
                self._block(block, level)

    def _transactions(self, transactions: Iterable[ExecutedTransaction], level: Level, slot: int) -> None:
        signatures, logs = self._indexes[SIGNATURE, level], self._indexes[LOGS, level]
        wants_accounts = self._indexes[ACCOUNT, level].by_key or self._indexes[PROGRAM, level].by_key
        written: dict[Pubkey, None] = {}
        for transaction in transactions:
            if signatures.by_key:
                for subscription in signatures.of(transaction.signature):
                    self._notify(subscription, self._at(slot, {"err": transaction.error}))
                    self._remove(subscription)
            if logs.by_key:
                self._logs(logs, transaction, slot)
            if wants_accounts:
                pairs = zip(transaction.accounts.keys, transaction.accounts.writable)
                written.update(dict.fromkeys(key for key, is_writable in pairs if is_writable))
        if written:
            self._accounts(written, level, slot)

    def _logs(self, index: _Index, transaction: ExecutedTransaction, slot: int) -> None:
        wanted = {subscription.id: subscription for subscription in index.of(None)}
        for key in transaction.accounts.keys:
            if key in index.by_key:
                wanted.update(index.by_key[key])
        if wanted:
            value = {"signature": transaction.signature, "err": transaction.error, "logs": transaction.logs}
            for subscription in wanted.values():
                self._notify(subscription, self._at(slot, value))

    def _accounts(self, written: Iterable[Pubkey], level: Level, slot: int) -> None:
        accounts, programs = self._indexes[ACCOUNT, level], self._indexes[PROGRAM, level]
        lookup = self._view.lookup(level)
        for key in written:
            if key not in accounts.by_key and not programs.by_key:
                continue
            account = lookup(key)
            for subscription in accounts.of(key):
                self._show(subscription, key, account or _GONE, slot, lookup, whole=False)
            if account is None:
                continue
            for subscription in programs.of(account.owner):
                if subscription.is_wanted is None or subscription.is_wanted(bytes(account.data)):
                    self._show(subscription, key, account, slot, lookup, whole=True)

    def _show(
        self, subscription: Subscription, key: Pubkey, account: Any, slot: int, lookup: Lookup, *, whole: bool
    ) -> None:
        assert subscription.show is not None, "set for every subscription to accounts"
        try:
            shown = subscription.show(key, account, lookup)
        except RpcFault as fault:
            subscription.mailbox.end(fault.message)  # the account has grown beyond what its encoding can show
            return
        self._notify(subscription, self._at(slot, {"pubkey": str(key), "account": shown} if whole else shown))

    def _block(self, block: FrozenBlock, level: Level) -> None:
        index = self._indexes[BLOCK, level]
        wanted = [subscription for found in index.by_key.values() for subscription in found.values()]
        if not wanted:
            return
        if len(self._waiting) >= MAX_WAITING_BLOCKS:
            for subscription in wanted:
                subscription.mailbox.end("blocks came faster than they could be sent; read what was missed by getBlock")
            return
        self._waiting.append((block, wanted))
        self._changed.set()

    # Blocks, in turns with others.

    async def run(self) -> None:
        """Encode and send blocks until cancelled."""
        while True:
            while not self._waiting:
                self._changed.clear()
                await self._changed.wait()
            block, wanted = self._waiting.popleft()
            for subscription in wanted:
                if subscription.id in self._all.get(subscription.mailbox, {}):
                    await self._send_block(subscription, block)

    async def _send_block(self, subscription: Subscription, block: FrozenBlock) -> None:
        form, key = subscription.form, subscription.key
        assert form is not None, "set for every subscription to blocks"
        chosen = tuple(item for item in block.transactions if key is None or key in item.accounts.keys)
        if key is not None and not chosen:
            return
        value: Json = {"slot": block.slot, "err": None, "block": None}
        steps = self._blocks.encode(block, form) if key is None else self._blocks.show(block, form, chosen)
        try:
            while True:
                try:
                    next(steps)
                except StopIteration as done:
                    value["block"] = done.value
                    break
                await asyncio.sleep(0)
        except RpcFault as fault:
            value["err"] = {"UnsupportedTransactionVersion": 0} if fault.data is None else fault.data
        self._notify(subscription, self._at(block.slot, value))

    # Notifications.

    def _at(self, slot: int, value: Any) -> Json:
        return {"context": {"slot": slot}, "value": value}

    def _tell(self, kind: str, result: Any) -> None:
        for subscription in self._indexes[kind, "finalized"].of(None):
            self._notify(subscription, result)

    def _update(self, slot: int, update: Json) -> None:
        index = self._indexes[UPDATES, "finalized"]
        if index.by_key:
            self._tell(UPDATES, update | {"slot": slot, "timestamp": self._chain.time_of(slot) * 1_000})

    def _notify(self, subscription: Subscription, result: Any) -> None:
        params = {"result": result, "subscription": subscription.id}
        method = f"{subscription.kind}Notification"
        subscription.mailbox.put(orjson.dumps({"jsonrpc": "2.0", "method": method, "params": params}))


@dataclass(frozen=True, slots=True)
class _Gone:
    """An account that is there no more, as subscribers see it."""

    lamports: int = 0
    data: bytes = b""
    owner: str = "11111111111111111111111111111111"
    executable: bool = False


_GONE = _Gone()


def _mentioned(value: Any) -> Pubkey | None:
    """The address that logs are wanted of; None for all."""
    if isinstance(value, str) and value in _ALL_LOGS:
        return None
    if isinstance(value, dict) and isinstance(value.get("mentions"), list):
        if len(value["mentions"]) != 1:
            raise invalid_params("Invalid Request: Only 1 address supported")
        return as_pubkey(value["mentions"][0])
    raise invalid_params("Invalid params: the filter of logs is `all`, `allWithVotes` or {mentions: [address]}.")


def _block_filter(value: Any) -> Pubkey | None:
    """The address whose transactions are wanted; None for all."""
    if value == "all":
        return None
    if isinstance(value, dict) and value.get("mentionsAccountOrProgram") is not None:
        return as_pubkey(value["mentionsAccountOrProgram"])
    raise invalid_params("Invalid params: the filter of blocks is `all` or {mentionsAccountOrProgram: address}.")


def _stats(block: FrozenBlock) -> Json:
    failed = sum(transaction.error is not None for transaction in block.transactions)
    return {
        "numTransactionEntries": len(block.transactions),
        "numSuccessfulTransactions": len(block.transactions) - failed,
        "numFailedTransactions": failed,
        "maxTransactionsPerEntry": 1 if block.transactions else 0,
    }
