"""Polled filters: blocks, logs and pending transactions since the last poll. Bounded in number, forgotten when unused.

A filter keeps a place on the chain and not a queue, so one that is polled rarely costs nothing in between. After a
rewind it goes back to the fork; logs that it may have shown come again, marked as removed.
"""

import secrets
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from nodes.json_rpc.faults import RpcFault
from nodes.model.ids import hex_of
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED, SERVER_ERROR
from nodes.rollup.rpc.forms import Json
from nodes.rollup.rpc.logs import LogQuery, LogSearch, log_query
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.view import NodeView
from nodes.telemetry.clock import Clock

MAX_FILTERS = 1_000
UNUSED_NS = 5 * 60 * 1_000_000_000
"""A filter that nobody polled for so long is removed; geth's time."""
MAX_HASHES_PER_POLL = 10_000
MAX_REMOVED_LOGS = 10_000
REMEMBERED_TRANSACTIONS = 10_000
"""Accepted transactions that filters of pending ones can still be shown."""


@dataclass(slots=True, kw_only=True)
class _Filter:
    next_number: int
    """Of the first block that was not shown."""
    query: LogQuery | None = None
    """Of a log filter."""
    next_accepted: int | None = None
    """Of a filter of pending transactions: counts accepted ones."""
    used_ns: int
    removed: list[Json] = field(default_factory=list)


class Filters:
    """The filters of one server."""

    def __init__(self, node: NodeView, search: LogSearch, clock: Clock) -> None:
        self._node = node
        self._search = search
        self._clock = clock
        self._filters: dict[str, _Filter] = {}
        self._accepted: deque[str] = deque(maxlen=REMEMBERED_TRANSACTIONS)
        self._accepted_total = 0

    # Handlers.

    async def new_log_filter(self, params: Params) -> str:
        """eth_newFilter."""
        query = log_query(params.take("filter"))
        params.end()
        return self._add(query=query)

    async def new_block_filter(self, params: Params) -> str:
        """eth_newBlockFilter."""
        params.end()
        return self._add()

    async def new_pending_filter(self, params: Params) -> str:
        """eth_newPendingTransactionFilter: transactions that this node's users handed in."""
        params.end()
        return self._add(next_accepted=self._accepted_total)

    async def uninstall(self, params: Params) -> bool:
        """eth_uninstallFilter."""
        name = params.take("filter id")
        params.end()
        return self._filters.pop(str(name), None) is not None

    async def changes(self, params: Params) -> list[Any]:
        """eth_getFilterChanges."""
        found = self._known(params)
        if found.next_accepted is not None:
            return self._new_transactions(found)
        if found.query is not None:
            return await self._new_logs(found, found.query)
        return self._new_hashes(found)

    async def logs(self, params: Params) -> list[Json]:
        """eth_getFilterLogs: everything that matches a log filter, whether it was shown or not."""
        found = self._known(params)
        if found.query is None:
            raise RpcFault(SERVER_ERROR, "filter not found: it is not a filter of logs")
        return await self._search.run(found.query)

    # From the node.

    @property
    def wants_logs(self) -> bool:
        """Whether there is a filter of logs."""
        return any(found.query is not None for found in self._filters.values())

    def transaction_accepted(self, tx_hash: bytes) -> None:
        """A user's transaction was accepted."""
        self._accepted.append(hex_of(tx_hash))
        self._accepted_total += 1

    def forget_all(self) -> None:
        """Changes were missed, so no filter can go on; whoever polls installs a new one."""
        self._filters.clear()

    def blocks_removed(self, logs: list[Json]) -> None:
        """A rewind; `logs` are those of the removed blocks, marked so, newest first."""
        fork = self._node.index.head.number + 1
        for found in self._filters.values():
            if found.query is not None:
                shown = [log for log in logs if int(log["blockNumber"], 16) < found.next_number]
                found.removed += [log for log in shown if found.query.criteria.matches(log)]
                del found.removed[MAX_REMOVED_LOGS:]
            found.next_number = min(found.next_number, fork)

    # Parts.

    def _add(self, *, query: LogQuery | None = None, next_accepted: int | None = None) -> str:
        now_ns = self._clock.monotonic_ns()
        self._forget_unused(now_ns)
        if len(self._filters) >= MAX_FILTERS:
            raise RpcFault(
                LIMIT_EXCEEDED, f"{MAX_FILTERS} filters are installed (MAX_FILTERS); uninstall some, or subscribe"
            )
        name = "0x" + secrets.token_hex(16)
        start = self._node.index.head.number + 1
        self._filters[name] = _Filter(next_number=start, query=query, next_accepted=next_accepted, used_ns=now_ns)
        return name

    def _forget_unused(self, now_ns: int) -> None:
        for name in [name for name, found in self._filters.items() if now_ns - found.used_ns > UNUSED_NS]:
            del self._filters[name]

    def _known(self, params: Params) -> _Filter:
        name = params.take("filter id")
        params.end()
        now_ns = self._clock.monotonic_ns()
        self._forget_unused(now_ns)
        found = self._filters.get(str(name))
        if found is None:
            raise RpcFault(SERVER_ERROR, "filter not found")
        found.used_ns = now_ns
        return found

    def _new_transactions(self, found: _Filter) -> list[str]:
        assert found.next_accepted is not None, "a filter of pending transactions"
        missed = self._accepted_total - found.next_accepted
        found.next_accepted = self._accepted_total
        if missed > len(self._accepted):
            text = f"{missed} transactions were accepted since the last poll, {len(self._accepted)} are remembered"
            raise RpcFault(LIMIT_EXCEEDED, f"{text}; the next poll goes on from here")
        return list(self._accepted)[len(self._accepted) - missed :]

    def _new_hashes(self, found: _Filter) -> list[str]:
        last = min(self._node.index.head.number, found.next_number + MAX_HASHES_PER_POLL - 1)
        if last < found.next_number:
            return []
        headers = self._node.index.headers(found.next_number, last)
        found.next_number = last + 1
        return [hex_of(header.hash) for header in headers]

    async def _new_logs(self, found: _Filter, query: LogQuery) -> list[Json]:
        removed, found.removed = found.removed, []
        first, last = found.next_number, self._node.index.head.number
        found.next_number = last + 1
        try:
            return removed + await self._search.between(query.criteria, *_within(query, first, last))
        except BaseException:
            # Nothing was shown: the next poll starts at the same place.
            found.next_number = min(found.next_number, first)
            found.removed = removed + found.removed
            raise


def _within(query: LogQuery, first: int, last: int) -> tuple[int, int]:
    """The part of a range of new blocks that a filter's own numbers leave. Tags do not bound it."""
    lowest = query.first.number if query.first.number is not None else first
    highest = query.last.number if query.last.number is not None else last
    return max(first, lowest), min(last, highest)
