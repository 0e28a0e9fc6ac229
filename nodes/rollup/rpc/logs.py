"""Which logs a user asks for, and the search for them: blooms from the index first, contents of hits only."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.model.ids import hex_of
from nodes.model.limits import MAX_LOG_RESULTS
from nodes.rollup.records import IndexedBlock
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED, SERVER_ERROR
from nodes.rollup.rpc.forms import Json, log_json
from nodes.rollup.rpc.params import BlockReference, Params, address_text, block_reference, hash_of
from nodes.rollup.rpc.reader import LATEST, ChainReader
from nodes.rollup.rpc.view import NodeView
from nodes.rules.hashes import keccak256

HEADERS_PER_STEP = 1_000
"""Headers read at once, some milliseconds; then other requests get a turn."""
MAX_TOPICS = 4
MAX_ALTERNATIVES = 1_000
"""Addresses, or alternatives of one topic, in one query."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogCriteria:
    """Which logs match, wherever they are."""

    addresses: frozenset[str]
    """Lower case; empty = any."""
    topics: tuple[frozenset[str], ...]
    """Per position the accepted ones; empty = any."""

    def may_match(self, bloom: bytes) -> bool:
        """False where a block with this bloom cannot hold a matching log."""
        bits = int.from_bytes(bloom, "big")
        if not bits:
            return False
        return all(
            not accepted or any(_in_bloom(bits, bytes.fromhex(value[2:])) for value in accepted)
            for accepted in (self.addresses, *self.topics)
        )

    def matches(self, log: Mapping[str, Any]) -> bool:
        """Whether one log matches."""
        if self.addresses and str(log["address"]).lower() not in self.addresses:
            return False
        topics = log["topics"]
        if len(self.topics) > len(topics):
            return False
        return all(not accepted or topic in accepted for accepted, topic in zip(self.topics, topics))


def _in_bloom(bits: int, value: bytes) -> bool:
    digest = keccak256(value)
    return all(bits >> (int.from_bytes(digest[at : at + 2], "big") & 2047) & 1 for at in (0, 2, 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which logs, and of which blocks."""

    criteria: LogCriteria
    first: BlockReference
    last: BlockReference
    block_hash: bytes = b""
    """Where set, of this block alone."""


def log_query(value: Any) -> LogQuery:
    """Read a filter object. Raises RpcFault."""
    if not isinstance(value, Mapping):
        raise invalid_params("a log filter is an object with fromBlock, toBlock or blockHash, address, topics")
    unknown = set(value) - {"fromBlock", "toBlock", "blockHash", "address", "topics"}
    if unknown:
        raise invalid_params(f"a log filter has no field {str(sorted(unknown)[0])[:40]!r}")
    block_hash = value.get("blockHash")
    first, last = value.get("fromBlock"), value.get("toBlock")
    if block_hash is not None and (first is not None or last is not None):
        raise invalid_params("cannot specify both BlockHash and FromBlock/ToBlock, choose one or the other")
    return LogQuery(
        criteria=_criteria(value.get("address"), value.get("topics")),
        first=LATEST if first is None else block_reference(first, "fromBlock"),
        last=LATEST if last is None else block_reference(last, "toBlock"),
        block_hash=b"" if block_hash is None else hash_of(block_hash, "blockHash"),
    )


def _criteria(address: Any, topics: Any) -> LogCriteria:
    addresses = [] if address is None else address if isinstance(address, list) else [address]
    positions = [] if topics is None else topics
    if not isinstance(positions, list) or len(positions) > MAX_TOPICS:
        raise invalid_params(f"topics must be a list of at most {MAX_TOPICS}")
    accepted = []
    for at, position in enumerate(positions):
        alternatives = [] if position is None else position if isinstance(position, list) else [position]
        # null among alternatives means any, as in geth.
        wild = any(alternative is None for alternative in alternatives)
        accepted.append([] if wild else [hex_of(hash_of(topic, f"topics[{at}]")) for topic in alternatives])
    if max(map(len, [addresses, *accepted])) > MAX_ALTERNATIVES:
        raise invalid_params(f"at most {MAX_ALTERNATIVES} addresses or alternative topics (MAX_ALTERNATIVES)")
    return LogCriteria(
        addresses=frozenset(address_text(item, "address") for item in addresses),
        topics=tuple(frozenset(alternatives) for alternatives in accepted),
    )


class LogSearch:
    """Searches the announced chain."""

    def __init__(self, node: NodeView, reader: ChainReader) -> None:
        self._node = node
        self._reader = reader

    async def get_logs(self, params: Params) -> list[Json]:
        """eth_getLogs."""
        query = log_query(params.take("filter"))
        params.end()
        return await self.run(query)

    async def run(self, query: LogQuery) -> list[Json]:
        """All logs of a query, in order. Raises RpcFault where there are too many, Pruned."""
        if query.block_hash:
            block = self._node.index.block_by_hash(query.block_hash)
            if block is None:
                raise RpcFault(SERVER_ERROR, "unknown block")
            return await self.of_block(block, query.criteria)
        first, last = self.number_of(query.first), self.number_of(query.last)
        if first > last:
            raise invalid_params(f"invalid block range params: fromBlock {first} is after toBlock {last}")
        return await self.between(query.criteria, first, last)

    def number_of(self, reference: BlockReference) -> int:
        """The number that a range's end means; one above the head stays as it is."""
        if reference.number is not None:
            return reference.number
        return self._reader.known_block(reference).number

    async def between(self, criteria: LogCriteria, first: int, last: int) -> list[Json]:
        """Matching logs of blocks `first` to `last`, both inclusive, as far as the chain goes."""
        first = max(first, 1)  # genesis has none
        last = min(last, self._node.index.head.number)
        found: list[Json] = []
        for start in range(first, last + 1, HEADERS_PER_STEP):
            for header in self._node.index.headers(start, min(start + HEADERS_PER_STEP - 1, last)):
                if not criteria.may_match(header.logs_bloom):
                    continue
                block = self._node.index.block_by_number(header.number)
                if block is None or block.hash != header.hash:
                    raise RpcFault(SERVER_ERROR, f"block {header.number} left the chain during the search; ask again")
                found += await self.of_block(block, criteria)
                if len(found) > MAX_LOG_RESULTS:
                    raise _too_many(first, header.number)
            await asyncio.sleep(0)
        return found

    async def of_block(self, block: IndexedBlock, criteria: LogCriteria) -> list[Json]:
        """Matching logs of one block."""
        if not criteria.may_match(block.logs_bloom):
            return []
        return [log_json(log, block) for log in await self._reader.logs(block) if criteria.matches(log)]


def _too_many(first: int, number: int) -> RpcFault:
    fits = f"; try [{first:#x}, {number - 1:#x}]" if number > first else "; name addresses or topics"
    return RpcFault(LIMIT_EXCEEDED, f"query returned more than {MAX_LOG_RESULTS} results (MAX_LOG_RESULTS){fits}")
