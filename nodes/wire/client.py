"""What every client shares: a channel opened at first use, deadlines, and errors restored by the status table."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NoReturn, Self

import grpc

from nodes.model.errors import Unavailable
from nodes.model.limits import RPC_DEADLINE_S
from nodes.wire.channel import channel
from nodes.wire.meter import ByteMeter, well_formed
from nodes.wire.status import error_of


class Client(ABC):
    """A connection to one server, for the loop in which it is first used. `close()` it, or use it in `async with`."""

    def __init__(self, address: str, *, meter: ByteMeter | None = None) -> None:
        self.address = address
        self._meter = ByteMeter() if meter is None else meter
        self._channel: grpc.aio.Channel | None = None
        self._methods: Any = None
        self._closed = False

    async def close(self) -> None:
        """End every call and the connection. Idempotent; later calls raise Unavailable."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @abstractmethod
    def _make_stub(self, metered: Any) -> Any:
        """The generated stub of the service over a channel."""

    def _stub(self) -> Any:
        if self._closed:
            raise Unavailable(f"the client of {self.address} was closed")
        if self._channel is None:
            self._channel = channel(self.address)
            self._methods = self._make_stub(_MeteredChannel(self._channel, self._meter))
        return self._methods

    async def _call(
        self, method: str, request: Any, *, timeout_s: float = RPC_DEADLINE_S, wait_for_ready: bool = False
    ) -> Any:
        """One unary call. Raises what the server raised; Unavailable where there is no answer in time."""
        async with translated(self.address):
            answer = await getattr(self._stub(), method)(request, timeout=timeout_s, wait_for_ready=wait_for_ready)
        return well_formed(answer, source=self.address)

    async def _stream(self, method: str, request: Any) -> AsyncGenerator[Any, None]:
        """Messages of a server's stream, as slowly as they are read; ends where the server ends it."""
        call = getattr(self._stub(), method)(request)
        try:
            async with translated(self.address):
                async for message in call:
                    yield well_formed(message, source=self.address)
        finally:
            call.cancel()


@asynccontextmanager
async def translated(address: str) -> AsyncIterator[None]:
    """Raise gRPC's errors as ours."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise_from(error, address)
    except (grpc.aio.UsageError, asyncio.InvalidStateError) as error:
        # gRPC says InvalidStateError to a write on a stream that has just ended.
        raise Unavailable(f"the connection to {address} was closed ({error})") from None
    except asyncio.CancelledError:
        # gRPC reports a call that was ended with its channel like a cancelled task; only the latter may pass.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unavailable(f"the connection to {address} was closed") from None


def raise_from(error: grpc.aio.AioRpcError, address: str) -> NoReturn:
    """Raise the error that an RPC ended with."""
    # The annotations of grpc call one entry what is a sequence of pairs.
    entries: Any = error.trailing_metadata() or ()
    metadata = [(str(key), value) for key, value in entries]
    raise error_of(code=error.code(), message=error.details() or "", metadata=metadata, address=address) from None


class _MeteredChannel:
    """A channel as generated stubs see it, with counted and total (de)serializers."""

    def __init__(self, inner: grpc.aio.Channel, meter: ByteMeter) -> None:
        self._inner = inner
        self._meter = meter

    def __getattr__(self, kind: str) -> Any:
        """unary_unary, unary_stream, stream_unary or stream_stream."""
        open_method = getattr(self._inner, kind)

        def metered(path: str, *, request_serializer: Any, response_deserializer: Any, **options: Any) -> Any:
            return open_method(
                path,
                request_serializer=self._meter.sending(request_serializer),
                response_deserializer=self._meter.receiving(response_deserializer),
                **options,
            )

        return metered
