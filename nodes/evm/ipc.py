"""JSON-RPC over a Unix socket: one connection, any number of requests under way, answers matched by id.

Knows nothing of Ethereum. Order is the caller's matter: anvil runs requests that are under way together concurrently,
so whoever needs an order waits for each answer. Requests are built by joining bytes, since the hot path sends 100 kB of
transactions a block; answers are parsed by orjson.
"""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import orjson

from nodes.model.errors import EngineFailure, Overloaded, RpcError
from nodes.model.limits import RPC_DEADLINE_S

MAX_UNDER_WAY = 1024
"""Requests of one connection that wait for an answer."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""The longest answers are dumps of large states and traces of transactions that pass much data between calls."""


class IpcConnection(asyncio.Protocol):
    """One connection. Get it from `connect`; every method must be called from the loop that made it."""

    def __init__(self, peer: Callable[[], str]) -> None:
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._next_id = 1
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._methods: dict[int, str] = {}
        self._end: EngineFailure | None = None

    @classmethod
    async def connect(cls, path: Path, *, peer: Callable[[], str]) -> "IpcConnection":
        """Connect to the socket at `path`. `peer` describes the other side in error messages.

        Raises OSError while nobody listens there.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: cls(peer), str(path))
        return connection

    async def request(self, method: str, params: Sequence[Any] = (), *, deadline_s: float = RPC_DEADLINE_S) -> Any:
        """The result of one request. Raises RpcError, EngineFailure, Overloaded."""
        return await self.request_raw(method, orjson.dumps(list(params)), deadline_s=deadline_s)

    async def request_raw(self, method: str, params: bytes, *, deadline_s: float = RPC_DEADLINE_S) -> Any:
        """As `request`, with the parameters as the bytes of a JSON array."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self.send(method, params)
        except TimeoutError:
            raise EngineFailure(f"{self._peer()} did not answer {method} within {deadline_s:g} s") from None

    def send(self, method: str, params: bytes) -> asyncio.Future[Any]:
        """Send a request now; the future ends with its result. The caller sets the deadline and awaits the future."""
        if self._end is not None:
            raise EngineFailure(str(self._end))
        if len(self._waiting) >= MAX_UNDER_WAY:
            raise Overloaded(f"{self._peer()} has {MAX_UNDER_WAY} requests under way", retry_after_ms=100)
        assert self._transport is not None, "connect returns a connected one"
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._methods[number] = method
        self._transport.write(
            b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":%b}\n' % (number, method.encode(), params)
        )
        return future

    def close(self) -> None:
        """Close; requests under way fail."""
        self._fail(EngineFailure(f"the connection to {self._peer()} was closed"))
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        # uvloop's transports are not derived from asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer the waiters of every whole line."""
        buffer = self._buffer
        buffer += data
        start = 0
        while (end := buffer.find(b"\n", max(start, self._scanned))) >= 0:
            self._answer(buffer[start:end])
            start = end + 1
        del buffer[:start]
        # A long answer comes in many pieces; what was searched once is not searched again.
        self._scanned = len(buffer)
        if len(buffer) > MAX_ANSWER_BYTES:
            self._fail(EngineFailure(f"{self._peer()} sent an answer of more than {MAX_ANSWER_BYTES:,} bytes"))
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every waiter: the process ended, or closed its socket."""
        reason = f": {exc}" if exc is not None else ""
        self._fail(EngineFailure(f"{self._peer()} closed its socket{reason}"))

    def _answer(self, line: bytearray) -> None:
        if not line:
            return
        try:
            message = orjson.loads(line)
            number = message["id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._fail(EngineFailure(f"{self._peer()} answered what is not JSON-RPC: {bytes(line[:200])!r}"))
            return
        future = self._waiting.pop(number, None)
        method = self._methods.pop(number, "?")
        if future is None:
            self._fail(EngineFailure(f"{self._peer()} answered a request that was not made: {bytes(line[:200])!r}"))
            return
        if future.done():
            return  # its deadline passed
        error = message.get("error")
        if error is None:
            future.set_result(message.get("result"))
        else:
            future.set_exception(
                RpcError(
                    method=method,
                    code=int(error.get("code", 0)),
                    message=str(error.get("message", "")),
                    data=error.get("data"),
                )
            )

    def _fail(self, failure: EngineFailure) -> None:
        if self._end is None:
            self._end = failure
        waiting, self._waiting = self._waiting, {}
        self._methods.clear()
        for future in waiting.values():
            if not future.done():
                future.set_exception(self._end)
