"""Serves a rollup's JSON-RPC over HTTP and WebSocket on one port.

Transport only: sizes, connections, cross-origin headers, disconnecting those who do not read. What a request means is
`dispatch` and what lies behind it. A browser page may call it (wallets are pages): it holds no keys and no secrets.
"""

import asyncio
import logging
import socket
from contextlib import suppress

from aiohttp import WSCloseCode, WSMessage, WSMsgType, web

from nodes.model.errors import Unavailable
from nodes.model.limits import MAX_RPC_BODY_BYTES
from nodes.ports import Sequencer
from nodes.rollup.rpc.dispatch import Dispatcher, refusal
from nodes.rollup.rpc.errors import INVALID_REQUEST, LIMIT_EXCEEDED
from nodes.rollup.rpc.methods import build_methods
from nodes.rollup.rpc.subscriptions import Mailbox
from nodes.rollup.rpc.view import NodeView
from nodes.telemetry.clock import Clock, SystemClock

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
_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Allow-Private-Network": "true",
    "Access-Control-Max-Age": "86400",
}

_log = logging.getLogger(__name__)


class RpcServer:
    """The JSON-RPC of one rollup node. `run` owns it until `stop`."""

    def __init__(
        self, node: NodeView, sequencer: Sequencer, host: str, port: int, *, clock: Clock | None = None
    ) -> None:
        """`port` 0 = from the OS; see `url` once `wait_ready` returned."""
        self._node = node
        self._host = host
        self._port = port
        methods, self._publisher = build_methods(node, sequencer, clock or SystemClock())
        self._dispatcher = Dispatcher(methods, self._publisher)
        self._under_way = 0
        self._mailboxes: set[Mailbox] = set()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failed = False

    @property
    def url(self) -> str:
        """Of HTTP; with ws:// for http:// also of WebSocket. The port is known once `wait_ready` returned."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def run(self) -> None:
        """Serve until `stop`. Raises Unavailable where the port is taken."""
        app = web.Application(client_max_size=MAX_RPC_BODY_BYTES)
        app.router.add_route("*", "/", self._handle)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        try:
            await runner.setup()
            # The site takes the socket over and closes it.
            await web.SockSite(runner, self._bound()).start()
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                publishing = group.create_task(self._publisher.run(), name=f"{self._node.name} subscriptions")
                await self._stopping.wait()
                publishing.cancel()
        finally:
            self._failed = True
            self._ready.set()
            for mailbox in self._mailboxes:
                mailbox.end("the node stops")
            await runner.cleanup()

    def stop(self) -> None:
        """Let `run` return soon. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when the port is open. Raises Unavailable where `run` ended before."""
        await self._ready.wait()
        if self._failed:
            raise Unavailable(f"the JSON-RPC of {self._node.name} has ended")

    def _bound(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A restarted node takes its old port, on which closed connections may linger.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self._host, self._port))
        except OSError as error:
            listener.close()
            raise Unavailable(
                f"{self._node.name}: JSON-RPC port {self._port} of {self._host} cannot be used ({error.strerror}); "
                "end what listens there, or configure another port (0 = any free one)"
            ) from error
        self._port = listener.getsockname()[1]
        return listener

    # HTTP.

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method == "OPTIONS":
            return web.Response(status=204, headers=_CORS)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._handle_socket(request)
        if request.method != "POST":
            whose = f"JSON-RPC of {self._node.name}, chain id {self._node.chain_id}"
            text = f"{whose}: POST requests here, or connect by WebSocket\n"
            return web.Response(status=200 if request.method == "GET" else 405, text=text, headers=_CORS)
        return await self._handle_post(request)

    async def _handle_post(self, request: web.Request) -> web.Response:
        if self._under_way >= MAX_REQUESTS_UNDER_WAY:
            text = f"{MAX_REQUESTS_UNDER_WAY} requests are under way (MAX_REQUESTS_UNDER_WAY); try again soon"
            return _json(refusal(LIMIT_EXCEEDED, text), status=503)
        self._under_way += 1
        try:
            answer = await self._dispatcher.answer(await request.read(), None)
        except web.HTTPRequestEntityTooLarge:
            text = f"a body has at most {MAX_RPC_BODY_BYTES:,} bytes (MAX_RPC_BODY_BYTES)"
            return _json(refusal(INVALID_REQUEST, text), status=413)
        finally:
            self._under_way -= 1
        return _json(answer)

    # WebSocket.

    async def _handle_socket(self, request: web.Request) -> web.StreamResponse:
        if len(self._mailboxes) >= MAX_SOCKETS:
            text = f"{MAX_SOCKETS} WebSocket connections are open (MAX_SOCKETS); close some"
            return _json(refusal(LIMIT_EXCEEDED, text), status=503)
        connection = web.WebSocketResponse(
            max_msg_size=MAX_RPC_BODY_BYTES, heartbeat=HEARTBEAT_S, compress=False, timeout=CLOSE_DEADLINE_S
        )
        mailbox = Mailbox()
        self._mailboxes.add(mailbox)
        try:
            await connection.prepare(request)
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(_send(connection, mailbox))
                closing = group.create_task(_close_when_ended(connection, mailbox, sending, request.transport))
                await self._read(connection, mailbox, group)
                sending.cancel()
                closing.cancel()
        finally:
            self._mailboxes.discard(mailbox)
            self._publisher.leave(mailbox)
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
