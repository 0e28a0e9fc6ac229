"""Serves JSON-RPC over HTTP and WebSocket on one port.

Transport only: sizes, connections, cross-origin headers, disconnecting those who do not read. What a request means is
the dispatcher's matter. A browser page may call it (wallets are pages): it holds no keys and no secrets.
"""

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nodes.json_rpc.faults import INVALID_REQUEST, refusal
from nodes.json_rpc.mailbox import Mailbox
from nodes.model.errors import Unavailable

MAX_REQUESTS_UNDER_WAY = 1_024
"""HTTP bodies being answered at once."""
MAX_SOCKETS = 256
"""WebSocket connections."""
MAX_SOCKET_REQUESTS = 16
"""Requests of one WebSocket answered at once; then it is read no further."""
HEARTBEAT_S = 30.0
CLOSE_DEADLINE_S = 5.0
"""For a peer to take the close frame with its reason; then the connection is cut."""
_MAX_REASON_BYTES = 123
"""RFC 6455: a control frame has 125 bytes, two of which are the close code."""
CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "86400",
}


class Publisher(Protocol):
    """Feeds the subscribers of one server."""

    async def run(self) -> None:
        """Until cancelled, or until nothing more comes."""

    def leave(self, mailbox: Mailbox) -> None:
        """The connection of this mailbox is gone."""


class Dispatcher(Protocol):
    """Answers what the transport brings."""

    @property
    def publisher(self) -> Publisher:
        """Of the subscriptions that its answers make."""

    async def answer(self, body: bytes, mailbox: Mailbox | None) -> bytes:
        """The answer to a body; empty where it holds notifications only. `mailbox` is set for a WebSocket."""


class JsonRpcServer:
    """Everything a node needs to serve its JSON-RPC. `run` owns it until `stop`."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        host: str,
        port: int,
        *,
        name: str,
        greeting: str,
        body_bytes_max: int,
        busy_code: int,
        new_mailbox: Callable[[], Mailbox],
    ) -> None:
        """`port` 0 = from the OS; see `rpc_url` once `wait_ready` returned.

        `name` says whose JSON-RPC it is in errors, `greeting` what it is to those who only look. `busy_code` is the
        error code where too much is asked for at once; `body_bytes_max` is called MAX_RPC_BODY_BYTES.
        """
        self._dispatcher = dispatcher
        self._host = host
        self._port = port
        self._name = name
        self._greeting = greeting
        self._body_bytes_max = body_bytes_max
        self._busy_code = busy_code
        self._new_mailbox = new_mailbox
        self._under_way = 0
        self._sockets: dict[Mailbox, asyncio.Transport | None] = {}
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failed = False

    @property
    def rpc_url(self) -> str:
        """Of HTTP; the port is known once `wait_ready` returned."""
        return f"http://{self._authority}"

    @property
    def ws_url(self) -> str:
        """Of WebSocket; the same port."""
        return f"ws://{self._authority}"

    @property
    def _authority(self) -> str:
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self._port}"

    async def run(self) -> None:
        """Serve until `stop`. Raises Unavailable where the port is taken."""
        app = web.Application(client_max_size=self._body_bytes_max)
        app.router.add_route("*", "/", self._handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        try:
            await runner.setup()
            for listener in self._bound():
                # The site takes the socket over and closes it.
                await web.SockSite(runner, listener).start()
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._dispatcher.publisher.run(), name=f"{self._name}: subscriptions")
                await self._stopping.wait()
                publishing.cancel()
        finally:
            self._failed = True
            self._ready.set()
            for mailbox in list(self._sockets):
                mailbox.end("the node stops")
            await runner.cleanup()

    def stop(self) -> None:
        """Let `run` return soon. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when the port is open. Raises Unavailable where `run` ended before."""
        await self._ready.wait()
        if self._failed:
            raise Unavailable(f"{self._name} has ended")

    def _bound(self) -> list[socket.socket]:
        """The sockets to listen on; from here on the port is known."""
        listener = self._bind(self._port)
        self._port = listener.getsockname()[1]
        return [listener]

    def _bind(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A restarted node takes its old port, on which closed connections may linger.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, port))
        except (OSError, OverflowError) as error:
            listener.close()
            raise Unavailable(
                f"{self._name}: port {port} of {self._host} cannot be used ({error}); "
                "end what listens there, or configure another port (0 = any free one)"
            ) from error
        return listener

    # HTTP.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=CORS)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._handle_socket(request)
        if request.method != "POST":
            text = f"{self._greeting}: POST requests here, or connect by WebSocket\n"
            return web.Response(status=200 if request.method == "GET" else 405, text=text, headers=CORS)
        return await self._handle_post(request)

    async def _handle_post(self, request: web.Request) -> web.Response:
        if self._under_way >= MAX_REQUESTS_UNDER_WAY:
            text = f"{MAX_REQUESTS_UNDER_WAY} requests are under way (MAX_REQUESTS_UNDER_WAY); try again soon"
            return _json(refusal(self._busy_code, text), status=503)
        self._under_way += 1
        try:
            answer = await self._dispatcher.answer(await request.read(), None)
        except web.HTTPRequestEntityTooLarge:
            text = f"a body has at most {self._body_bytes_max:,} bytes (MAX_RPC_BODY_BYTES)"
            return _json(refusal(INVALID_REQUEST, text), status=413)
        finally:
            self._under_way -= 1
        return _json(answer)

    # WebSocket.

    async def _handle_socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= MAX_SOCKETS:
            text = f"{MAX_SOCKETS} WebSocket connections are open (MAX_SOCKETS); close some"
            return _json(refusal(self._busy_code, text), status=503)
        connection = web.WebSocketResponse(
            max_msg_size=self._body_bytes_max, heartbeat=HEARTBEAT_S, compress=False, timeout=CLOSE_DEADLINE_S
        )
        mailbox = self._new_mailbox()
        self._sockets[mailbox] = request.transport
        try:
            await connection.prepare(request)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_send(connection, mailbox))
                closing = group.create_task(_close_when_ended(connection, mailbox, sending, request.transport))
                await self._read(connection, mailbox, group)
                sending.cancel()
                closing.cancel()
        finally:
            self._sockets.pop(mailbox, None)
            self._dispatcher.publisher.leave(mailbox)
        return connection

    async def _read(self, connection: web.WebSocketResponse, mailbox: Mailbox, group: asyncio.TaskGroup) -> None:
        slots = asyncio.Semaphore(MAX_SOCKET_REQUESTS)
        async for message in connection:
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                await slots.acquire()
                group.create_task(self._answer(message, mailbox, slots))

    async def _answer(self, message: WSMessage, mailbox: Mailbox, slots: asyncio.Semaphore) -> None:
        try:
            body = message.data.encode() if isinstance(message.data, str) else message.data
            answer = await self._dispatcher.answer(body, mailbox)
            if answer:
                mailbox.put(answer)
        finally:
            slots.release()


async def _send(connection: web.WebSocketResponse, mailbox: Mailbox) -> None:
    with suppress(ConnectionError):  # the peer is gone; the reading side ends the connection
        while True:
            await connection.send_str((await mailbox.take()).decode())


async def _close_when_ended(
    connection: web.WebSocketResponse,
    mailbox: Mailbox,
    sending: asyncio.Task[None],
    transport: asyncio.Transport | None,
) -> None:
    await mailbox.wait_ended()
    sending.cancel()
    reason = mailbox.end_reason.encode()[:_MAX_REASON_BYTES]
    try:
        async with asyncio.timeout(CLOSE_DEADLINE_S):
            await connection.close(code=WSCloseCode.TRY_AGAIN_LATER, message=reason)
    except (TimeoutError, ConnectionError):
        pass  # it reads nothing at all
    finally:
        if transport is not None:
            transport.abort()


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json", headers=CORS)
