"""Pushes changes of the chain to WebSocket subscribers: new heads, logs, accepted transactions.

Every subscriber has a bounded queue. One that does not read is disconnected and told so; nothing is left out silently.
"""

import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import orjson

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.json_rpc.mailbox import Mailbox
from nodes.model.errors import Overloaded, TestbedError
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.rollup.heads import HeadChange
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED, SERVER_ERROR
from nodes.rollup.rpc.filters import Filters
from nodes.rollup.rpc.forms import Json, head_json, log_json, transaction_json
from nodes.rollup.rpc.logs import LogCriteria, log_query
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.view import NodeView

MAX_WAITING_MESSAGES = 1_024
MAX_WAITING_BYTES = 8 * 1024 * 1024
"""Per connection; whoever lets more wait is disconnected."""
MAX_SUBSCRIPTIONS = 100
"""Per connection."""
REMEMBERED_BLOCKS = 128
"""Newest blocks whose logs are kept in memory while somebody subscribes, to be announced as removed after a rewind."""

NEW_HEADS = "newHeads"
LOGS = "logs"
PENDING = "newPendingTransactions"
_KINDS = (NEW_HEADS, LOGS, PENDING)

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One subscription of one connection."""

    id: str
    kind: str
    criteria: LogCriteria | None = None
    """Of `logs`."""
    whole: bool = False
    """Of `newPendingTransactions`: whole transactions and not hashes."""


def new_mailbox() -> Mailbox:
    """For one connection."""
    return Mailbox(
        max_messages=MAX_WAITING_MESSAGES,
        max_bytes=MAX_WAITING_BYTES,
        advice="reconnect and read what was missed with eth_getLogs",
    )


class Publisher:
    """All subscriptions of one server, and the reader of the node's heads that feeds them."""

    def __init__(self, node: NodeView, reader: ChainReader, filters: Filters) -> None:
        self._node = node
        self._reader = reader
        self._filters = filters
        self._subscribers: dict[Mailbox, dict[str, Subscription]] = {}
        self._remembered: OrderedDict[bytes, list[Json]] = OrderedDict()

    # Subscribing.

    def subscribe(self, mailbox: Mailbox, params: Params) -> str:
        """eth_subscribe; the id of the new subscription."""
        kind = params.take("subscription name")
        if kind not in _KINDS:
            raise invalid_params(f"no {str(kind)[:40]!r} subscription; known: {', '.join(_KINDS)}")
        criteria, whole = None, False
        if kind == LOGS:
            criteria = log_query(params.take("filter", {})).criteria
        elif kind == PENDING:
            whole = params.boolean("full transactions", False)
        params.end()
        mine = self._subscribers.setdefault(mailbox, {})
        if len(mine) >= MAX_SUBSCRIPTIONS:
            text = f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions (MAX_SUBSCRIPTIONS)"
            raise RpcFault(LIMIT_EXCEEDED, text)
        subscription = Subscription(id="0x" + secrets.token_hex(16), kind=kind, criteria=criteria, whole=whole)
        mine[subscription.id] = subscription
        return subscription.id

    def unsubscribe(self, mailbox: Mailbox, params: Params) -> bool:
        """eth_unsubscribe."""
        subscription = params.take("subscription id")
        params.end()
        if self._subscribers.get(mailbox, {}).pop(str(subscription), None) is None:
            raise RpcFault(SERVER_ERROR, "subscription not found")
        return True

    def leave(self, mailbox: Mailbox) -> None:
        """The connection is gone."""
        self._subscribers.pop(mailbox, None)

    # Publishing.

    async def run(self) -> None:
        """Feed the subscribers until the node stops."""
        while True:
            try:
                with self._node.subscribe_heads() as changes:
                    async for change in changes:
                        await self._publish(change)
                return
            except Overloaded as error:
                # This reader fell behind the node. What it missed cannot be sent in order any more.
                _log.warning("subscriptions of %s: %s", self._node.name, error)
                self._filters.forget_all()
                self._end_all("the node's heads came faster than they could be sent; subscribe again")

    def transaction_accepted(self, payload: bytes, transaction: Transaction) -> None:
        """The sequencer accepted a transaction from this node."""
        self._filters.transaction_accepted(transaction.tx_hash)
        for mailbox, subscription in self._of_kind(PENDING):
            if subscription.whole:
                self._notify(mailbox, subscription, transaction_json(payload, transaction, None, 0))
            else:
                self._notify(mailbox, subscription, hex_of(transaction.tx_hash))

    async def _publish(self, change: HeadChange) -> None:
        try:
            if change.removed:
                self._publish_removed(change.removed)
            if change.block is not None:
                await self._publish_block(change.block)
        except (TestbedError, RpcFault) as error:
            # The engine was lost between announcement and reading, for example; or the logs are too many to be read.
            _log.warning("subscriptions of %s: %s", self._node.name, error)
            self._end_all(f"a block could not be read ({error}); reconnect and read what was missed")

    async def _publish_block(self, block: IndexedBlock) -> None:
        heads = self._of_kind(NEW_HEADS)
        if heads:
            form = head_json(await self._reader.header(block), block)
            for mailbox, subscription in heads:
                self._notify(mailbox, subscription, form)
        if not any(block.logs_bloom) or not (self._filters.wants_logs or self._of_kind(LOGS)):
            return
        found = [log_json(log, block) for log in await self._reader.logs(block)]
        self._remembered[block.hash] = found
        if len(self._remembered) > REMEMBERED_BLOCKS:
            self._remembered.popitem(last=False)
        self._publish_logs(found)

    def _publish_removed(self, blocks: tuple[IndexedBlock, ...]) -> None:
        removed = [
            log | {"removed": True} for block in blocks for log in reversed(self._remembered.pop(block.hash, []))
        ]
        self._filters.blocks_removed(removed)
        self._publish_logs(removed)

    def _publish_logs(self, logs: list[Json]) -> None:
        for mailbox, subscription in self._of_kind(LOGS):
            criteria = subscription.criteria
            assert criteria is not None, "set for every subscription of logs"
            for log in logs:
                if criteria.matches(log):
                    self._notify(mailbox, subscription, log)

    def _of_kind(self, kind: str) -> list[tuple[Mailbox, Subscription]]:
        return [
            (mailbox, subscription)
            for mailbox, mine in self._subscribers.items()
            for subscription in mine.values()
            if subscription.kind == kind
        ]

    def _notify(self, mailbox: Mailbox, subscription: Subscription, result: Any) -> None:
        params = {"subscription": subscription.id, "result": result}
        mailbox.put(orjson.dumps({"jsonrpc": "2.0", "method": "eth_subscription", "params": params}))

    def _end_all(self, reason: str) -> None:
        for mailbox in list(self._subscribers):
            mailbox.end(reason)
