"""Serves the dev node's JSON-RPC over HTTP and WebSocket on one port, and WebSocket on the next one where it is free.

Transport only: sizes, connections, cross-origin headers, disconnecting those who do not read. The second port is for
clients that derive the WebSocket's port from the RPC's instead of asking (web3.js).
"""

import asyncio
import logging
import socket
from contextlib import suppress

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nodes.model.errors import Unavailable
from nodes.solana.devnode.rpc.dispatch import Dispatcher, refusal
from nodes.solana.devnode.rpc.errors import INVALID_REQUEST, NODE_UNHEALTHY
from nodes.solana.devnode.rpc.mailbox import Mailbox

MAX_BODY_BYTES = 8 * 1024 * 1024
"""A batch of a thousand transactions has two."""
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
_PORT_ATTEMPTS = 20
"""Free ports tried until the one behind is free as well."""
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "86400",
}

_log = logging.getLogger(__name__)


class RpcServer:
    """The JSON-RPC of one chain. `run` owns it until `stop`."""

    def __init__(self, dispatcher: Dispatcher, host: str, port: int) -> None:
        """`port` 0 = from the OS; see `rpc_url` once `wait_ready` returned."""
        self._dispatcher = dispatcher
        self._host = host
        self._port = port
        self._under_way = 0
        self._sockets: dict[Mailbox, asyncio.Transport | None] = {}
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failed = False
        self._down_until_s = 0.0

    @property
    def rpc_url(self) -> str:
        """Of HTTP; known once `wait_ready` returned."""
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
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_route("*", "/", self._handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        try:
            await runner.setup()
            for listener in self._bound():
                # The site takes the socket over and closes it.
                await web.SockSite(runner, listener).start()
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._dispatcher.publisher.run(), name="dev node blocks")
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
            raise Unavailable("the dev node's JSON-RPC has ended")

    def down(self, for_ms: int) -> None:
        """Answer nobody for so long: HTTP gets 503, WebSockets are cut and refused. The chain goes on."""
        loop = asyncio.get_running_loop()
        # Whoever asked for it still gets an answer: the cut comes with the next turn.
        loop.call_soon(self._cut_sockets)
        self._down_until_s = loop.time() + for_ms / 1_000

    @property
    def _is_down(self) -> bool:
        return self._down_until_s > 0 and asyncio.get_running_loop().time() < self._down_until_s

    def _cut_sockets(self) -> None:
        for transport in self._sockets.values():
            if transport is not None:
                transport.abort()

    def _bound(self) -> list[socket.socket]:
        """The listening sockets: that of `port`, and of the next one where that is free."""
        for _ in range(_PORT_ATTEMPTS if self._port == 0 else 1):
            first = self._bind(self._port)
            port = first.getsockname()[1]
            with suppress(Unavailable):
                second = self._bind(port + 1)
                self._port = port
                return [first, second]
            if self._port:
                break
            first.close()
        else:
            first = self._bind(0)
        self._port = first.getsockname()[1]
        _log.warning("port %d is taken: clients that look for the WebSocket there must be told its address", port + 1)
        return [first]

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
                f"the dev node's port {port} of {self._host} cannot be used ({error}); "
                "end what listens there, or configure another port (0 = any free one)"
            ) from error
        return listener

    # HTTP.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._is_down:
            return web.Response(status=503, text="the node is down\n", headers=_CORS)
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=_CORS)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._handle_socket(request)
        if request.method != "POST":
            text = "Solana JSON-RPC of a dev node: POST requests here, or connect by WebSocket\n"
            return web.Response(status=200 if request.method == "GET" else 405, text=text, headers=_CORS)
        return await self._handle_post(request)

    async def _handle_post(self, request: web.Request) -> web.Response:
        if self._under_way >= MAX_REQUESTS_UNDER_WAY:
            text = f"{MAX_REQUESTS_UNDER_WAY} requests are under way (MAX_REQUESTS_UNDER_WAY); try again soon"
            return _json(refusal(NODE_UNHEALTHY, text), status=503)
        self._under_way += 1
        try:
            answer = await self._dispatcher.answer(await request.read(), None)
        except web.HTTPRequestEntityTooLarge:
            text = f"a body has at most {MAX_BODY_BYTES:,} bytes (MAX_BODY_BYTES)"
            return _json(refusal(INVALID_REQUEST, text), status=413)
        finally:
            self._under_way -= 1
        return _json(answer)

    # WebSocket.

    async def _handle_socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._sockets) >= MAX_SOCKETS:
            text = f"{MAX_SOCKETS} WebSocket connections are open (MAX_SOCKETS); close some"
            return _json(refusal(NODE_UNHEALTHY, text), status=503)
        connection = web.WebSocketResponse(
            max_msg_size=MAX_BODY_BYTES, heartbeat=HEARTBEAT_S, compress=False, timeout=CLOSE_DEADLINE_S
        )
        mailbox = Mailbox()
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
    return web.Response(body=body, status=status, content_type="application/json", headers=_CORS)
