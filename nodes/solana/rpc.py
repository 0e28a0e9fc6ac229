"""JSON-RPC of a Solana node over HTTP, and its slots over a WebSocket; satisfies `nodes.solana.ports.SolanaRpc`.

Knows no method but `getSlot` and `slotSubscribe`. Addresses of public nodes hold keys, so messages name the host only.
Specification: https://solana.com/docs/rpc
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson

from nodes.json_rpc.faults import peer_error
from nodes.model.errors import InvalidInput, RpcError, Unavailable
from nodes.model.limits import RPC_DEADLINE_S

AGAVE_BODY_BYTES = 48 * 1024
"""Agave takes bodies of 50 KiB unless configured otherwise."""
MAX_BATCH = 100
"""Requests of one body; longer batches are cut into several, sent one after the other."""
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""A full block of large transactions in base64."""
SINGLES_AT_ONCE = 16
"""Requests under way at a node that takes no batches."""
POLL_S = 0.2
"""Between `getSlot` calls while there is no subscription."""
RETRY_FIRST_S = 0.25
RETRY_MOST_S = 5.0
HEARTBEAT_S = 10.0
_MAX_SLOT_MESSAGE_BYTES = 64 * 1024
_INVALID_REQUEST = -32600
_METHOD_NOT_FOUND = -32601
_REFUSES_BATCH_STATUS: Final = frozenset({400, 403, 405, 413, 415, 422, 501})

_log = logging.getLogger(__name__)


class _BatchRefused(Exception):
    """The node answered a batch with one error for all of it."""


class HttpSolanaRpc:
    """One endpoint. An asynchronous context manager; belongs to the task that entered it."""

    def __init__(
        self,
        url: str,
        ws_url: str | None = None,
        *,
        batch_bytes_max: int = AGAVE_BODY_BYTES,
        deadline_s: float = RPC_DEADLINE_S,
    ) -> None:
        """`ws_url` is found from `url` where it is not given: the same port, or the next one as validators have it.

        Raises InvalidInput for what is no HTTP address.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise InvalidInput("the Solana address must start with http:// or https:// and name a host")
        self.name = f"Solana node {parts.hostname}" + (f":{parts.port}" if parts.port else "")
        """For messages."""
        self._url = url
        self._ws_urls = [ws_url] if ws_url else _ws_urls_of(url)
        self._batch_bytes_max = batch_bytes_max
        self._deadline_s = deadline_s
        self._next_id = 0
        self._takes_batches = True
        self._singles = asyncio.Semaphore(SINGLES_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None
        self._group = asyncio.TaskGroup()
        self._watch: asyncio.Task[None] | None = None
        self._slot = 0
        self._slot_version = 0
        self._slot_changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Nothing is connected before the first request."""
        self._session = aiohttp.ClientSession()
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection."""
        if self._watch is not None:
            self._watch.cancel()
        try:
            # Not told of `error`, which it would wrap into a group; what the watch raised, it raises.
            await self._group.__aexit__(None, None, None)
        finally:
            assert self._session is not None, "entered before"
            await self._session.close()

    async def call(self, method: str, params: Sequence[Any] = ()) -> Any:
        """See `SolanaRpc.call`."""
        answer = await self._single(method, params)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        """See `SolanaRpc.batch`. Where it raises, a first part of the requests may have been answered."""
        if len(requests) == 1 or not self._takes_batches:
            return await self._all_singles(requests)
        answers: list[Any | RpcError] = []
        bodies = self._bodies(requests)
        at = 0
        for first_id, items in bodies:
            part = requests[at : at + len(items)]
            try:
                answers += await self._post_batch(first_id, items, part)
            except _BatchRefused as refusal:
                _log.info("%s takes no batches (%s); requests go one by one", self.name, refusal)
                self._takes_batches = False
                return answers + await self._all_singles(requests[at:])
            at += len(items)
        return answers

    async def slots(self) -> AsyncGenerator[int, None]:
        """See `SolanaRpc.slots`."""
        if self._watch is None:
            self._watch = self._group.create_task(self._watch_slots(), name="solana slots")
        seen = 0
        while True:
            while self._slot_version == seen:
                await self._slot_changed.wait()
            seen = self._slot_version
            yield self._slot

    # Requests

    def _bodies(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[tuple[int, list[bytes]]]:
        """The requests in order, in as few bodies as the node takes: the id of the first, and all serialized."""
        bodies: list[tuple[int, list[bytes]]] = []
        size_bytes = self._batch_bytes_max
        for method, params in requests:
            item = self._serialize(method, params)
            if size_bytes + len(item) >= self._batch_bytes_max or len(bodies[-1][1]) >= MAX_BATCH:
                bodies.append((self._next_id, []))
                size_bytes = 2
            bodies[-1][1].append(item)
            size_bytes += len(item) + 1
        return bodies

    def _serialize(self, method: str, params: Sequence[Any]) -> bytes:
        self._next_id += 1
        return b'{"jsonrpc":"2.0","id":%d,"method":"%b","params":%b}' % (
            self._next_id,
            method.encode(),
            orjson.dumps(params if isinstance(params, list) else list(params)),
        )

    async def _all_singles(self, requests: Sequence[tuple[str, Sequence[Any]]]) -> list[Any | RpcError]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._bounded_single(method, params)) for method, params in requests]
        answers = [task.result() for task in tasks]
        for answer in answers:
            if isinstance(answer, Unavailable):
                raise answer
        return answers

    async def _bounded_single(self, method: str, params: Sequence[Any]) -> Any | RpcError | Unavailable:
        async with self._singles:
            try:
                return await self._single(method, params)
            except Unavailable as failure:
                return failure

    async def _single(self, method: str, params: Sequence[Any]) -> Any | RpcError:
        status, data = await self._exchange(self._serialize(method, params), method)
        answer = self._parse(status, data, method)
        if not isinstance(answer, dict):
            raise Unavailable(f"{self.name} answered {method} with what is not JSON-RPC: {_shown(data)}")
        return _result(method, answer)

    async def _post_batch(
        self, first_id: int, items: list[bytes], requests: Sequence[tuple[str, Sequence[Any]]]
    ) -> list[Any | RpcError]:
        what = f"a batch of {len(items)} from {requests[0][0]}"
        status, data = await self._exchange(b"[" + b",".join(items) + b"]", what)
        if status in _REFUSES_BATCH_STATUS:
            raise _BatchRefused(f"HTTP {status}")
        answers = self._parse(status, data, what)
        if isinstance(answers, dict) and isinstance(answers.get("error"), dict):
            error = peer_error(what, answers["error"])
            if error.code in {_INVALID_REQUEST, _METHOD_NOT_FOUND}:
                raise _BatchRefused(str(error))
            raise Unavailable(f"{self.name} refused {what}: {error}")
        if not isinstance(answers, list):
            raise Unavailable(f"{self.name} answered {what} with what is not a batch: {_shown(data)}")
        by_id = {answer["id"]: answer for answer in answers if isinstance(answer, dict) and _has_number(answer)}
        found = []
        for number, (method, _) in enumerate(requests, start=first_id):
            if number not in by_id:
                raise Unavailable(f"{self.name} did not answer {method} in {what}")
            found.append(_result(method, by_id[number]))
        return found

    async def _exchange(self, body: bytes, what: str) -> tuple[int, bytes]:
        """HTTP status and body of the answer."""
        assert self._session is not None, "used inside `async with`"
        try:
            async with asyncio.timeout(self._deadline_s):
                async with self._session.post(
                    self._url, data=body, headers={"Content-Type": "application/json"}
                ) as answer:
                    return answer.status, await self._read(answer, what)
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer {what} within {self._deadline_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            # The error's text may hold the whole address, and with it somebody's key.
            raise Unavailable(f"{self.name} cannot be reached for {what} ({type(error).__name__})") from None

    async def _read(self, answer: aiohttp.ClientResponse, what: str) -> bytes:
        data = bytearray()
        async for piece in answer.content.iter_any():
            data += piece
            if len(data) > MAX_ANSWER_BYTES:
                answer.close()
                raise Unavailable(f"{self.name} answered {what} with more than {MAX_ANSWER_BYTES:,} bytes")
        return bytes(data)

    def _parse(self, status: int, data: bytes, what: str) -> Any:
        """The JSON of the answer; nodes send errors under other statuses than 200 as well."""
        try:
            answer = orjson.loads(data)
        except orjson.JSONDecodeError:
            answer = None
        if isinstance(answer, list) or (isinstance(answer, dict) and ("result" in answer or "error" in answer)):
            return answer
        raise Unavailable(f"{self.name} answered {what} with HTTP {status} and what is not JSON-RPC: {_shown(data)}")

    # Slots

    async def _watch_slots(self) -> None:
        """Follow the node's slots for ever: by subscription, and by polling while there is none."""
        pause_s = RETRY_FIRST_S
        at = 0
        while True:
            version = self._slot_version
            try:
                await self._subscribe(self._ws_urls[at])
            except (aiohttp.ClientError, OSError, TimeoutError, Unavailable, RpcError) as error:
                _log.debug("%s: no slot subscription (%s)", self.name, type(error).__name__)
            at = (at + 1) % len(self._ws_urls)
            if self._slot_version != version:
                pause_s, at = RETRY_FIRST_S, (at - 1) % len(self._ws_urls)
            await self._poll(pause_s)
            pause_s = min(RETRY_MOST_S, pause_s * 2)

    async def _subscribe(self, ws_url: str) -> None:
        """Publish every slot that the node tells, until the connection ends. Raises what the connection raises."""
        assert self._session is not None, "used inside `async with`"
        async with asyncio.timeout(self._deadline_s) as opening:
            async with self._session.ws_connect(
                ws_url, heartbeat=HEARTBEAT_S, max_msg_size=_MAX_SLOT_MESSAGE_BYTES
            ) as socket:
                await socket.send_bytes(b'{"jsonrpc":"2.0","id":1,"method":"slotSubscribe","params":[]}')
                async for message in socket:
                    if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                        return
                    told = self._message(message.data)
                    if told.get("id") == 1:
                        _result("slotSubscribe", told, raising=True)
                        opening.reschedule(None)
                        # What happened before the subscription is told by nobody else.
                        self._publish(await self._ask_slot())
                    elif told.get("method") == "slotNotification":
                        self._publish(self._slot_of(told))

    async def _poll(self, for_s: float) -> None:
        """Ask for the slot for a while; a node that is away is asked again next time."""
        for _ in range(max(1, round(for_s / POLL_S))):
            try:
                slot = await self._ask_slot()
            except (Unavailable, RpcError):
                slot = self._slot
            if slot != self._slot:
                self._publish(slot)
            await asyncio.sleep(POLL_S)

    async def _ask_slot(self) -> int:
        slot = await self.call("getSlot", [{"commitment": "processed"}])
        if not isinstance(slot, int):
            raise Unavailable(f"{self.name} answered getSlot with what is no slot: {str(slot)[:200]}")
        return slot

    def _message(self, data: str | bytes) -> dict[str, Any]:
        """What the WebSocket said. Raises Unavailable for what is not JSON-RPC: connected again it may make sense."""
        try:
            told = orjson.loads(data)
        except orjson.JSONDecodeError:
            told = None
        if not isinstance(told, dict):
            raise Unavailable(f"{self.name} said on its WebSocket what is not JSON-RPC: {_shown(data)}")
        return told

    def _slot_of(self, told: dict[str, Any]) -> int:
        try:
            return int(told["params"]["result"]["slot"])
        except (KeyError, TypeError, ValueError, OverflowError):
            raise Unavailable(f"{self.name} told of a slot without naming it: {str(told)[:200]}") from None

    def _publish(self, slot: int) -> None:
        self._slot = slot
        self._slot_version += 1
        self._slot_changed.set()
        self._slot_changed.clear()


def _ws_urls_of(url: str) -> list[str]:
    """Where the WebSocket may be: at the same port as many providers have it, or at the next as validators do."""
    parts = urlsplit(url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    urls = [urlunsplit((scheme, parts.netloc, parts.path, parts.query, ""))]
    if parts.port is not None:
        at = parts.netloc.rindex(":")
        urls.append(urlunsplit((scheme, f"{parts.netloc[:at]}:{parts.port + 1}", parts.path, parts.query, "")))
    return urls


def _shown(data: str | bytes) -> str:
    """The beginning of what somebody said, for a message."""
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    return repr(text[:200]) if text else "nothing"


def _has_number(answer: dict[str, Any]) -> bool:
    return isinstance(answer.get("id"), int)


def _result(method: str, answer: dict[str, Any], *, raising: bool = False) -> Any | RpcError:
    error = answer.get("error")
    if error is None:
        return answer.get("result")
    found = peer_error(method, error)
    if raising:
        raise found
    return found
