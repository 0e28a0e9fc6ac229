"""Checks of the shapes that a peer may get wrong: lengths of hashes, whole columns, known numbers.

Knows no message. Every failure is the error that the caller names, so that a malformed peer never ends in an assertion.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from nodes.model.errors import InvalidInput, TestbedError
from nodes.model.ids import HASH_BYTES

MessageT = TypeVar("MessageT", bound=Message)
Value = TypeVar("Value")
Refusal = Callable[[str], TestbedError]


def parse(message: type[MessageT], data: bytes, refusal: Refusal = InvalidInput) -> MessageT:
    """The message that the bytes are. Raises the refusal where they are none."""
    try:
        return message.FromString(data)
    except DecodeError as error:
        raise refusal(f"{len(data):,} bytes are not a {message.DESCRIPTOR.full_name} message: {error}") from None


def fixed(value: bytes, *, size: int, name: str, refusal: Refusal = InvalidInput) -> bytes:
    """The value. Raises the refusal unless it has exactly `size` bytes."""
    if len(value) != size:
        raise refusal(f"{name} has {len(value)} bytes; it must have {size}")
    return value


def hash_of(value: bytes, *, name: str, refusal: Refusal = InvalidInput) -> bytes:
    """A 32-byte value. Raises the refusal for any other length."""
    return fixed(value, size=HASH_BYTES, name=name, refusal=refusal)


def column(data: bytes, *, size: int, name: str, refusal: Refusal = InvalidInput) -> list[bytes]:
    """The entries of a column of values of `size` bytes. Raises the refusal where the last one is cut."""
    if len(data) % size:
        raise refusal(f"{name} has {len(data)} bytes; it must be whole entries of {size}")
    return [data[at : at + size] for at in range(0, len(data), size)]


def whole_steps(path: bytes, *, name: str, refusal: Refusal = InvalidInput) -> bytes:
    """An audit path. Raises the refusal unless it is whole 32-byte steps."""
    if len(path) % HASH_BYTES:
        raise refusal(f"{name} has {len(path)} bytes; it must be whole steps of {HASH_BYTES}")
    return path


def known(numbers: Iterable[int], table: Mapping[int, Value], *, name: str) -> list[Value]:
    """What each number of a column stands for. Raises InvalidInput for one that is not in the table."""
    try:
        return [table[number] for number in numbers]
    except KeyError as error:
        raise InvalidInput(f"{name} holds {error.args[0]}; this build knows {', '.join(map(str, table))}") from None


def same_length(name: str, **columns: int) -> None:
    """Raises InvalidInput unless all columns of a record have one length."""
    if len(set(columns.values())) > 1:
        raise InvalidInput(f"{name}: columns differ in length: {', '.join(f'{k} {v}' for k, v in columns.items())}")
