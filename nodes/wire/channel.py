"""Servers and channels with the limits and timeouts that every service shares.

Nothing here is global: a process may hold many servers and clients in one loop, each with its own connections. A server
answers every error by the status table, whatever its servicers raise.
"""

import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

import grpc

from nodes.model.errors import TestbedError, Unavailable
from nodes.model.limits import MAX_MESSAGE_BYTES, STREAM_KEEPALIVE_S
from nodes.wire.meter import ByteMeter, well_formed
from nodes.wire.status import Status, status_of, status_of_bug

_LOG = logging.getLogger(__name__)

STOP_GRACE_S = 0.25
"""How long calls that are being answered may take to end. Followers never end by themselves."""
MAX_CONCURRENT_CALLS = 4_096
"""Calls and streams of one server; above, gRPC answers RESOURCE_EXHAUSTED."""
KEEPALIVE_TIMEOUT_S = 5.0
RECONNECT_MIN_MS = 100
RECONNECT_MAX_MS = 1_000
CONNECT_TIMEOUT_MS = 5_000
"""How long one attempt may take. A connection around the world needs two round trips of 300 ms, more where a segment is
lost; one that is refused is known at once and tried again after the pauses above."""

_SIZES = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
)
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", int(STREAM_KEEPALIVE_S * 1000)),
    ("grpc.keepalive_timeout_ms", int(KEEPALIVE_TIMEOUT_S * 1000)),
    # A follower may wait for a block for longer than a few pings.
    ("grpc.http2.max_pings_without_data", 0),
)
SERVER_OPTIONS = (
    *_SIZES,
    *_KEEPALIVE,
    # Two processes that share a port would each get half of the calls, in silence.
    ("grpc.so_reuseport", 0),
    # Pings of a process that was stopped or starved for a while come in a bunch; they are no attack.
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", int(STREAM_KEEPALIVE_S * 1000) // 2),
)
CHANNEL_OPTIONS = (
    *_SIZES,
    *_KEEPALIVE,
    # Nodes talk to the addresses they were given; a proxy of the user's shell is not for them.
    ("grpc.enable_http_proxy", 0),
    # Callers retry, and know what may be sent again; a hidden retry would also keep a copy of every message.
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
    # Despite its name this is the time that an attempt has.
    ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
)


class Servicer(Protocol):
    """One service that a server can offer."""

    def add_to(self, server: grpc.aio.Server) -> None:
        """Register the service's methods."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundServer:
    """A server that answers."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """host:port, as clients take it."""
        return join_address(self.host, self.port)


@asynccontextmanager
async def server(
    servicers: Iterable[Servicer], *, name: str, host: str, port: int, meter: ByteMeter | None = None
) -> AsyncIterator[BoundServer]:
    """Serve until the block is left; calls that still run get `STOP_GRACE_S`, then they are cancelled.

    `name` is the node that errors speak of; port 0 = one from the OS, to be read from what is yielded. Raises
    Unavailable when the address cannot be bound.
    """
    grpc_server = grpc.aio.server(
        interceptors=[_ErrorTable(name, ByteMeter() if meter is None else meter)],
        options=SERVER_OPTIONS,
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
    )
    for servicer in servicers:
        servicer.add_to(grpc_server)
    bound = _bind(grpc_server, name, host, port)
    await grpc_server.start()
    try:
        yield BoundServer(host=host, port=bound)
    finally:
        await grpc_server.stop(STOP_GRACE_S)


def channel(address: str) -> grpc.aio.Channel:
    """A channel to host:port that connects on first use. Must be opened inside the loop that uses it."""
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


def join_address(host: str, port: int) -> str:
    """host:port, with the brackets that an IPv6 address needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(grpc_server: grpc.aio.Server, name: str, host: str, port: int) -> int:
    address = join_address(host, port)
    # gRPC binds an address it cannot have without saying why; asking the OS first names the cause.
    try:
        with socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, reuse_port=False
        ):
            pass
        bound = grpc_server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        cause = getattr(error, "strerror", None) or str(error)
        raise Unavailable(
            f"{name} cannot listen on {address}: {cause}; end the process that holds the port "
            f"(ss -ltnp 'sport = :{port}' shows it), or give the node another port (0 = any free one)"
        ) from error
    if bound == 0:
        raise Unavailable(f"{name} cannot listen on {address}; give the node another address or port")
    return bound


Handler = Any
"""grpc.RpcMethodHandler, which is generic in the annotations of grpc and not in its code."""
Behaviour = Callable[[Any, "grpc.aio.ServicerContext[Any, Any]"], Awaitable[Any]]


class _ErrorTable(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the annotations only
    """Wraps every method once: counts its bytes, and answers its errors by the table.

    Every behaviour is a coroutine, streaming ones too (they write to the context), so one wrapper fits all four kinds.
    """

    def __init__(self, node: str, meter: ByteMeter) -> None:
        self._node = node
        self._meter = meter
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The method's wrapped handler, made at its first call; None for a method that nobody serves."""
        method = str(handler_call_details.method)
        wrapped: Any = self._wrapped.get(method)
        if wrapped is None:
            handler: Any = await continuation(handler_call_details)
            # gRPC itself answers UNIMPLEMENTED to None, and unknown names must not fill the table.
            wrapped = handler if handler is None else self._wrapped.setdefault(method, self._wrap(handler, method))
        return wrapped

    def _wrap(self, handler: Any, method: str) -> Handler:
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None:
                make: Any = getattr(grpc, f"{kind}_rpc_method_handler")
                made: Handler = make(
                    self._answering(behaviour, method),
                    request_deserializer=self._meter.receiving(handler.request_deserializer),
                    response_serializer=self._meter.sending(handler.response_serializer),
                )
                return made
        raise AssertionError(f"{method} has no behaviour")

    def _answering(self, behaviour: Behaviour, method: str) -> Behaviour:
        async def answer(request: Any, context: "grpc.aio.ServicerContext[Any, Any]") -> Any:
            try:
                return await behaviour(well_formed(request, source=context.peer()), context)
            except grpc.aio.BaseError:
                raise
            # An RPC is the boundary at which one call's failure becomes its answer; other calls go on.
            except Exception as error:  # noqa: BLE001
                await self._abort(context, error, method)

        return answer

    async def _abort(self, context: "grpc.aio.ServicerContext[Any, Any]", error: Exception, method: str) -> NoReturn:
        expected = _expected(error)
        if expected is None:
            _LOG.error("%s: %s failed", self._node, method, exc_info=error)
            status: Status = status_of_bug(node=self._node, method=method)
        else:
            status = status_of(expected)
        await context.abort(status.code, status.message, status.metadata)


def _expected(error: BaseException) -> TestbedError | None:
    """The expected error that ended a call, also out of a task group; None where any cause is a bug."""
    if isinstance(error, TestbedError):
        return error
    if isinstance(error, BaseExceptionGroup):
        causes = [_expected(cause) for cause in error.exceptions]
        return None if None in causes else causes[0]
    return None
