"""JSON-RPC client of an L1 over HTTP and WebSocket: heads, logs, calls, receipts, and a stream of new blocks.

Knows no contract. Every request has a deadline; the stream of blocks is a subscription, so that nothing polls.
Specification: https://ethereum.github.io/execution-apis/
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson

from nodes.json_rpc.faults import peer_error
from nodes.model.errors import LimitExceeded, RpcError, Unavailable
from nodes.model.ids import Address, TxHash, hex_of
from nodes.model.limits import RPC_DEADLINE_S
from nodes.rules.hashes import keccak256

MAX_BATCH = 200
"""Requests of one HTTP body; longer batches are cut into several."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
MAX_LOG_BLOCKS = 5_000
"""Blocks of one request for logs; longer ranges are cut into several."""
RETRY_FIRST_S = 0.05
RETRY_MOST_S = 2.0
HEARTBEAT_S = 10.0
_KNOWN_ALREADY = ("already imported", "already known", "alreadyknown")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Block:
    """A block's header, as far as it is used here."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int
    base_fee_wei: int


@dataclass(frozen=True, slots=True, kw_only=True)
class L1Receipt:
    """What became of a transaction that is in a block."""

    tx_hash: TxHash
    block_number: int
    block_hash: bytes
    succeeded: bool
    gas_used: int
    gas_price_wei: int
    """What was paid for each unit of gas."""
    logs: tuple[Mapping[str, Any], ...]
    """In JSON-RPC form."""


class L1Client:
    """One endpoint. An asynchronous context manager; belongs to the loop that entered it."""

    def __init__(self, url: str, *, deadline_s: float = RPC_DEADLINE_S) -> None:
        self.url = url
        self._deadline_s = deadline_s
        self._session: aiohttp.ClientSession | None = None
        self._next_id = 0

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first request."""
        self._session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    # Requests

    async def request(self, method: str, *params: object) -> Any:
        """The result of one request. Raises RpcError with the peer's code and message, Unavailable."""
        result = (await self.batch([(method, params)]))[0]
        if isinstance(result, RpcError):
            raise result
        return result

    async def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        """The results in order; where the peer refused a single call, its RpcError stands instead of being raised."""
        results: list[Any] = []
        for at in range(0, len(calls), MAX_BATCH):
            results += await self._post(calls[at : at + MAX_BATCH])
        return results

    async def _post(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Any]:
        first = self._next_id
        self._next_id += len(calls)
        body = [
            {"jsonrpc": "2.0", "id": first + index, "method": method, "params": list(params)}
            for index, (method, params) in enumerate(calls)
        ]
        answers = await self._exchange(orjson.dumps(body), calls[0][0])
        by_id = {answer.get("id"): answer for answer in answers if isinstance(answer, dict)}
        missing = [method for index, (method, _) in enumerate(calls) if first + index not in by_id]
        if missing:
            raise Unavailable(f"{self.url} did not answer {missing[0]} in a batch of {len(calls)}")
        return [_result(method, by_id[first + index]) for index, (method, _) in enumerate(calls)]

    async def _exchange(self, body: bytes, what: str) -> list[Any]:
        assert self._session is not None, "a client is used inside `async with`"
        try:
            async with asyncio.timeout(self._deadline_s):
                async with self._session.post(
                    self.url, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    data = await _bounded(answer)
        except TimeoutError:
            raise Unavailable(f"{self.url} did not answer {what} within {self._deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self.url} cannot be reached for {what} ({error}); is the L1 running?") from error
        try:
            answers = orjson.loads(data)
        except orjson.JSONDecodeError:
            raise Unavailable(f"{self.url} answered {what} with what is not JSON: {data[:200]!r}") from None
        if isinstance(answers, dict) and "error" in answers:
            raise peer_error(what, answers["error"])
        if not isinstance(answers, list):
            raise Unavailable(f"{self.url} answered a batch with what is not one: {data[:200]!r}")
        return answers

    # Reads

    async def chain_id(self) -> int:
        """EIP-155 chain id."""
        return int(await self.request("eth_chainId"), 16)

    async def head(self, level: str = "latest") -> L1Block:
        """The head of a level: latest, safe or finalized."""
        block = await self.request("eth_getBlockByNumber", level, False)
        if block is None:
            raise Unavailable(f"{self.url} has no {level} block yet")
        return _block(block)

    async def block(self, number: int) -> L1Block | None:
        """A block by number; None above the head."""
        block = await self.request("eth_getBlockByNumber", hex(number), False)
        return None if block is None else _block(block)

    async def logs_of_block(self, block_hash: bytes, addresses: Iterable[Address]) -> list[Mapping[str, Any]]:
        """Logs of one block in order, in JSON-RPC form. By hash: of that block or, where it is gone, RpcError."""
        where = {"blockHash": hex_of(block_hash), "address": [hex_of(address) for address in addresses]}
        logs: list[Mapping[str, Any]] = await self.request("eth_getLogs", where)
        return logs

    async def logs(self, *, first: int, last: int, addresses: Iterable[Address]) -> list[Mapping[str, Any]]:
        """Logs of the blocks `first` to `last` in order, in JSON-RPC form."""
        wanted = [hex_of(address) for address in addresses]
        calls: list[tuple[str, Sequence[object]]] = []
        for start in range(first, last + 1, MAX_LOG_BLOCKS):
            stop = min(last, start + MAX_LOG_BLOCKS - 1)
            calls.append(("eth_getLogs", [{"fromBlock": hex(start), "toBlock": hex(stop), "address": wanted}]))
        found: list[Mapping[str, Any]] = []
        for result in await self.batch(calls):
            if isinstance(result, RpcError):
                raise result
            found += result
        return found

    async def call(
        self, to: bytes, calldata: bytes, *, sender: bytes | None = None, block: str = "latest", gas: int | None = None
    ) -> bytes:
        """What a call returns. Raises RpcError, whose data is what it reverted with."""
        request = {"to": hex_of(to), "data": hex_of(calldata)}
        if sender is not None:
            request["from"] = hex_of(sender)
        if gas is not None:
            request["gas"] = hex(gas)
        return bytes.fromhex((await self.request("eth_call", request, block))[2:])

    async def estimate_gas(self, to: bytes, calldata: bytes, *, sender: bytes, value_wei: int = 0) -> int:
        """Gas that a transaction needs on the latest state. Raises RpcError where it would revert."""
        request = {"to": hex_of(to), "data": hex_of(calldata), "from": hex_of(sender), "value": hex(value_wei)}
        return int(await self.request("eth_estimateGas", request, "latest"), 16)

    async def balance_wei(self, account: bytes, block: str = "latest") -> int:
        """Ether of an account."""
        return int(await self.request("eth_getBalance", hex_of(account), block), 16)

    async def nonce(self, account: bytes, block: str = "latest") -> int:
        """Nonce of the account's next transaction; `pending` counts those in the pool."""
        return int(await self.request("eth_getTransactionCount", hex_of(account), block), 16)

    async def receipt(self, tx_hash: bytes) -> L1Receipt | None:
        """The receipt; None while the transaction is in no block."""
        receipt = await self.request("eth_getTransactionReceipt", hex_of(tx_hash))
        return None if receipt is None else _receipt(receipt)

    async def receipts(self, tx_hashes: Sequence[bytes]) -> list[L1Receipt | None]:
        """Receipts of many transactions."""
        results = await self.batch([("eth_getTransactionReceipt", [hex_of(tx_hash)]) for tx_hash in tx_hashes])
        for result in results:
            if isinstance(result, RpcError):
                raise result
        return [None if result is None else _receipt(result) for result in results]

    # Transactions

    async def send_raw(self, raw: bytes) -> TxHash:
        """Hand in a signed transaction; one that the pool has already is no error. Raises RpcError, Unavailable."""
        return (await self.send_raws([raw]))[0]

    async def send_raws(self, raws: Sequence[bytes]) -> list[TxHash]:
        """Hand in many, in order. Raises the RpcError of the first that is refused, when all have been handed in."""
        results = await self.batch([("eth_sendRawTransaction", [hex_of(raw)]) for raw in raws])
        for result in results:
            if isinstance(result, RpcError) and not any(text in result.message.lower() for text in _KNOWN_ALREADY):
                raise result
        return [TxHash(keccak256(raw)) for raw in raws]

    async def wait_receipts(self, tx_hashes: Sequence[bytes], *, deadline_s: float) -> list[L1Receipt]:
        """Receipts of all, once all are in blocks; looked for at each new block. Raises Unavailable at the deadline."""
        found: dict[bytes, L1Receipt] = {}
        try:
            async with asyncio.timeout(deadline_s):
                async for _ in self.new_heads():
                    missing = [tx_hash for tx_hash in tx_hashes if tx_hash not in found]
                    for tx_hash, receipt in zip(missing, await self.receipts(missing)):
                        if receipt is not None:
                            found[tx_hash] = receipt
                    if len(found) == len(set(tx_hashes)):
                        break
        except TimeoutError:
            raise Unavailable(
                f"{len(set(tx_hashes)) - len(found)} of {len(tx_hashes)} transactions are in no block of {self.url} "
                f"after {deadline_s:g} s"
            ) from None
        return [found[tx_hash] for tx_hash in tx_hashes]

    # New blocks

    async def new_heads(self) -> AsyncGenerator[L1Block, None]:
        """The present head at once, then every new one, without end.

        After a broken connection it begins again with the head of then: blocks in between are not told. Of a reorg the
        new branch's blocks are told. Close it, or leave the task, to end it.
        """
        retry_s = RETRY_FIRST_S
        while True:
            try:
                async for block in self._subscribed():
                    retry_s = RETRY_FIRST_S
                    yield block
                reason = "the connection was closed"
            except (Unavailable, RpcError, aiohttp.ClientError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            _log.info("%s: no new blocks (%s); trying again in %.2g s", self.url, reason, retry_s)
            await asyncio.sleep(retry_s)
            retry_s = min(RETRY_MOST_S, retry_s * 2)

    async def _subscribed(self) -> AsyncGenerator[L1Block, None]:
        assert self._session is not None, "a client is used inside `async with`"
        socket = await asyncio.wait_for(
            self._session.ws_connect(self._socket_url, heartbeat=HEARTBEAT_S, max_msg_size=MAX_ANSWER_BYTES),
            self._deadline_s,
        )
        async with socket:
            # First the subscription, then the head: no block falls between the two.
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["newHeads"]})
            answer = await socket.receive_json(timeout=self._deadline_s)
            _raise_refusal("eth_subscribe", answer)
            last = await self.head()
            yield last
            async for message in socket:
                if message.type != aiohttp.WSMsgType.TEXT:
                    return
                content = json.loads(message.data)
                if content.get("method") != "eth_subscription":
                    continue
                block = _block(content["params"]["result"])
                if block.hash != last.hash:
                    last = block
                    yield block

    @property
    def _socket_url(self) -> str:
        return "ws" + self.url.removeprefix("http") if self.url.startswith("http") else self.url


def _raise_refusal(method: str, answer: Any) -> None:
    if isinstance(answer, dict) and "error" in answer:
        raise peer_error(method, answer["error"])


def _result(method: str, answer: Mapping[str, Any]) -> Any:
    return peer_error(method, answer["error"]) if "error" in answer else answer.get("result")


async def _bounded(answer: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in answer.content.iter_chunked(1 << 20):
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise LimitExceeded(limit="MAX_ANSWER_BYTES", value=size, maximum=MAX_ANSWER_BYTES)
        parts.append(part)
    return b"".join(parts)


def _block(block: Mapping[str, Any]) -> L1Block:
    return L1Block(
        number=int(block["number"], 16),
        hash=bytes.fromhex(block["hash"][2:]),
        parent_hash=bytes.fromhex(block["parentHash"][2:]),
        timestamp_s=int(block["timestamp"], 16),
        base_fee_wei=int(block.get("baseFeePerGas") or "0x0", 16),
    )


def _receipt(receipt: Mapping[str, Any]) -> L1Receipt:
    return L1Receipt(
        tx_hash=TxHash(bytes.fromhex(receipt["transactionHash"][2:])),
        block_number=int(receipt["blockNumber"], 16),
        block_hash=bytes.fromhex(receipt["blockHash"][2:]),
        succeeded=receipt["status"] == "0x1",
        gas_used=int(receipt["gasUsed"], 16),
        gas_price_wei=int(receipt.get("effectiveGasPrice") or "0x0", 16),
        logs=tuple(receipt["logs"]),
    )
