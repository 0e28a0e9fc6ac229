"""Bytes on the wire, and messages that cannot be parsed.

gRPC turns an exception inside a deserializer into a log line and a None; here it becomes a value that the caller
refuses by name.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from nodes.model.errors import InvalidInput

Parsed = TypeVar("Parsed")


@dataclass(slots=True)
class ByteMeter:
    """Message bytes through the servers and clients that share it, without HTTP/2 framing. Belongs to one loop."""

    received_bytes: int = 0
    sent_bytes: int = 0

    def sending(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """The serializer, counted."""

        def counted(message: Any) -> bytes:
            data = serialize(message)
            self.sent_bytes += len(data)
            return data

        return counted

    def receiving(self, deserialize: Callable[[bytes], Parsed]) -> "Callable[[bytes], Parsed | Malformed]":
        """The deserializer, counted and total."""

        def counted(data: bytes) -> Parsed | Malformed:
            self.received_bytes += len(data)
            try:
                return deserialize(data)
            except DecodeError as error:
                return Malformed(size_bytes=len(data), cause=str(error))

        return counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Malformed:
    """Bytes that are no message of the expected kind."""

    size_bytes: int
    cause: str


def well_formed(message: Parsed | Malformed, *, source: str) -> Parsed:
    """The message. Raises InvalidInput naming who sent bytes that are none."""
    if isinstance(message, Malformed):
        raise InvalidInput(
            f"{source} sent {message.size_bytes:,} bytes that are not the expected message ({message.cause}); "
            "it is of another version"
        )
    return message
