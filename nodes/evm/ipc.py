"""JSON-RPC over a Unix socket: one connection, any number of requests under way, answers matched by id.

Knows nothing of Ethereum. Order is the caller's matter: anvil runs requests that are under way together concurrently,
so whoever needs an order waits for each answer. Requests are built by joining bytes, since the hot path sends 100 kB of
transactions a block; answers are parsed by orjson.

An answer longer than its request allows is thrown away as it comes, and its request alone fails: how long some answers
are is up to users.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import orjson

from nodes.json_rpc.faults import peer_error
from nodes.model.errors import AnswerTooLong, EngineFailure, Overloaded
from nodes.model.limits import RPC_DEADLINE_S

MAX_UNDER_WAY = 1024
"""Requests of one connection that wait for an answer."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Unless the request says less. The longest answers are dumps of large states."""
_SURELY_TAKEN_BYTES = 1024 * 1024
"""No request allows less. Shorter answers are not looked at before they are complete."""
_ANSWER_START = re.compile(rb'\{"jsonrpc":"2\.0","id":([0-9]{1,19}),')


class _Asked(NamedTuple):
    method: str
    future: asyncio.Future[Any]
    max_bytes: int


class IpcConnection(asyncio.Protocol):
    """One connection. Get it from `connect`; every method must be called from the loop that made it."""

    def __init__(self, peer: Callable[[], str]) -> None:
        self._peer = peer
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._next_id = 1
        self._skipping = False
        self._waiting: dict[int, _Asked] = {}
        self._settled = asyncio.Event()
        self._end: EngineFailure | None = None

    @classmethod
    async def connect(cls, path: Path, *, peer: Callable[[], str]) -> "IpcConnection":
        """Connect to the socket at `path`. `peer` describes the other side in error messages.

        Raises OSError while nobody listens there.
        """
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_unix_connection(lambda: cls(peer), str(path))
        return connection

    async def request(
        self,
        method: str,
        params: Sequence[Any] = (),
        *,
        deadline_s: float = RPC_DEADLINE_S,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Any:
        """The result of one request. Raises RpcError (of which AnswerTooLong), EngineFailure, Overloaded."""
        return await self.request_raw(method, orjson.dumps(list(params)), deadline_s=deadline_s, max_bytes=max_bytes)

    async def request_raw(
        self, method: str, params: bytes, *, deadline_s: float = RPC_DEADLINE_S, max_bytes: int = MAX_ANSWER_BYTES
    ) -> Any:
        """As `request`, with the parameters as the bytes of a JSON array."""
        try:
            async with asyncio.timeout(deadline_s):
                return await self.send(method, params, max_bytes=max_bytes)
        except TimeoutError:
            raise EngineFailure(f"{self._peer()} did not answer {method} within {deadline_s:g} s") from None

    def send(self, method: str, params: bytes, *, max_bytes: int = MAX_ANSWER_BYTES) -> asyncio.Future[Any]:
        """Send a request now; the future ends with its result. The caller sets the deadline and awaits the future.

        `max_bytes`: of the answer as it is sent, 1 MiB or more.
        """
        if self._end is not None:
            raise EngineFailure(str(self._end))
        if len(self._waiting) >= MAX_UNDER_WAY:
            raise Overloaded(f"{self._peer()} has {MAX_UNDER_WAY} requests under way", retry_after_ms=100)
        assert self._transport is not None, "connect returns a connected one"
        number = self._next_id
        self._next_id += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Asked(method, future, max_bytes)
        self._transport.write(
            b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":%b}\n' % (number, method.encode(), params)
        )
        return future

    async def settle(self, *, deadline_s: float) -> None:
        """Wait until every request sent so far is answered, also those whose caller is gone.

        Who is cancelled takes nothing back: the other side goes on with the request. Raises EngineFailure.
        """
        try:
            async with asyncio.timeout(deadline_s):
                while self._waiting:
                    self._settled.clear()
                    await self._settled.wait()
        except TimeoutError:
            method = next((asked.method for asked in self._waiting.values()), "?")
            raise EngineFailure(f"{self._peer()} did not answer {method} within {deadline_s:g} s") from None

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
        if self._skipping:
            end = data.find(b"\n")
            if end < 0:
                return
            self._skipping = False
            data = data[end + 1 :]
        buffer = self._buffer
        buffer += data
        start = 0
        while (end := buffer.find(b"\n", max(start, self._scanned))) >= 0:
            self._answer(buffer[start:end])
            start = end + 1
        del buffer[:start]
        # A long answer comes in many pieces; what was searched once is not searched again.
        self._scanned = len(buffer)
        if len(buffer) > _SURELY_TAKEN_BYTES:
            self._check_length()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every waiter: the process ended, or closed its socket."""
        reason = f": {exc}" if exc is not None else ""
        self._fail(EngineFailure(f"{self._peer()} closed its socket{reason}"))

    def _check_length(self) -> None:
        """Of the answer that has begun. What its request does not take is not kept."""
        start = _ANSWER_START.match(self._buffer)
        asked = self._waiting.get(int(start[1])) if start is not None else None
        maximum_bytes = MAX_ANSWER_BYTES if asked is None else asked.max_bytes
        if len(self._buffer) <= maximum_bytes:
            return
        if start is None or asked is None:
            self._fail(EngineFailure(f"{self._peer()} sent an answer of more than {maximum_bytes:,} bytes to nothing"))
            assert self._transport is not None
            self._transport.abort()
            return
        self._taken(int(start[1]))
        if not asked.future.done():
            asked.future.set_exception(AnswerTooLong(method=asked.method, maximum_bytes=maximum_bytes))
        self._buffer = bytearray()
        self._scanned = 0
        self._skipping = True

    def _taken(self, number: int) -> _Asked | None:
        """The request that an answer is for, which waits no longer."""
        asked = self._waiting.pop(number, None)
        if not self._waiting:
            self._settled.set()
        return asked

    def _answer(self, line: bytearray) -> None:
        if not line:
            return
        try:
            message = orjson.loads(line)
            number = message["id"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            self._fail(EngineFailure(f"{self._peer()} answered what is not JSON-RPC: {bytes(line[:200])!r}"))
            return
        asked = self._taken(number)
        if asked is None:
            self._fail(EngineFailure(f"{self._peer()} answered a request that was not made: {bytes(line[:200])!r}"))
            return
        if asked.future.done():
            return  # its deadline passed
        if len(line) > asked.max_bytes:
            asked.future.set_exception(AnswerTooLong(method=asked.method, maximum_bytes=asked.max_bytes))
            return
        error = message.get("error")
        if error is None:
            asked.future.set_result(message.get("result"))
        else:
            asked.future.set_exception(peer_error(asked.method, error))

    def _fail(self, failure: EngineFailure) -> None:
        if self._end is None:
            self._end = failure
        waiting, self._waiting = self._waiting, {}
        self._settled.set()
        for asked in waiting.values():
            if not asked.future.done():
                asked.future.set_exception(self._end)
