"""The JSON-RPC server of the dev node, on the transport that all nodes share; on the next port too where it is free.

The second port serves the same. It is for clients that derive the WebSocket's port from the RPC's instead of asking
(web3.js). The server can also play dead for a while.
"""

import asyncio
import logging
import socket
from contextlib import suppress

from aiohttp import web

from nodes.json_rpc.mailbox import Mailbox
from nodes.json_rpc.server import CORS, JsonRpcServer
from nodes.model.errors import Unavailable
from nodes.solana.devnode.rpc.dispatch import Dispatcher
from nodes.solana.devnode.rpc.errors import NODE_UNHEALTHY

MAX_RPC_BODY_BYTES = 8 * 1024 * 1024
"""A batch of a thousand transactions has two."""
MAX_WAITING_MESSAGES = 4_096
"""Per connection. A block of transactions may raise a notification each, all at one moment."""
MAX_WAITING_BYTES = 32 * 1024 * 1024
_PORT_ATTEMPTS = 20
"""Free ports tried until the one behind is free as well."""

_log = logging.getLogger(__name__)


class RpcServer(JsonRpcServer):
    """The JSON-RPC of one chain."""

    def __init__(self, dispatcher: Dispatcher, host: str, port: int) -> None:
        """`port` 0 = from the OS."""
        super().__init__(
            dispatcher,
            host,
            port,
            name="the dev node's JSON-RPC",
            greeting="Solana JSON-RPC of a dev node",
            body_bytes_max=MAX_RPC_BODY_BYTES,
            busy_code=NODE_UNHEALTHY,
            new_mailbox=_new_mailbox,
        )
        self._down_until_s = 0.0

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

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if self._is_down:
            return web.Response(status=503, text="the node is down\n", headers=CORS)
        return await super()._handle(request)

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


def _new_mailbox() -> Mailbox:
    return Mailbox(max_messages=MAX_WAITING_MESSAGES, max_bytes=MAX_WAITING_BYTES)
