"""Recursive Length Prefix, strict: exactly one encoding is accepted for every value.

Source: Ethereum Yellow Paper, appendix B. Payload decoding uses `split`, which copies nothing but the item bounds.
"""

from collections.abc import Sequence
from typing import TypeAlias

Item: TypeAlias = "bytes | Sequence[Item]"


class RlpError(ValueError):
    """The bytes are not canonical RLP."""


def encode_length(length: int, *, offset: int) -> bytes:
    """Prefix of a string (offset 0x80) or a list (offset 0xC0) of `length` bytes."""
    if length < 56:
        return bytes((offset + length,))
    width = (length.bit_length() + 7) // 8
    return bytes((offset + 55 + width,)) + length.to_bytes(width, "big")


def encode_bytes(value: bytes) -> bytes:
    """Encoding of a byte string."""
    if len(value) == 1 and value[0] < 0x80:
        return value
    return encode_length(len(value), offset=0x80) + value


def encode_int(value: int) -> bytes:
    """Encoding of a non-negative integer, minimal big-endian."""
    if value < 0x80:
        return b"\x80" if value == 0 else bytes((value,))
    width = (value.bit_length() + 7) // 8
    return encode_length(width, offset=0x80) + value.to_bytes(width, "big")


def encode_list(encoded: Sequence[bytes]) -> bytes:
    """Encoding of a list whose items are already encoded."""
    body = b"".join(encoded)
    return encode_length(len(body), offset=0xC0) + body


def encode(item: Item) -> bytes:
    """Encoding of nested byte strings and sequences."""
    if isinstance(item, (bytes, bytearray)):
        return encode_bytes(bytes(item))
    return encode_list([encode(part) for part in item])


def header(data: bytes, at: int, end: int) -> tuple[int, int, bool]:
    """(start, stop, is_list) of the contents of the item at `at`, which must lie within `end`."""
    if at >= end:
        raise RlpError("item expected, input ended")
    first = data[at]
    if first < 0x80:
        return at, at + 1, False
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    if short < 56:
        start, stop = at + 1, at + 1 + short
        if short == 1 and not is_list and stop <= end and data[start] < 0x80:
            raise RlpError("single byte below 0x80 with a prefix")
    else:
        start = at + 1 + short - 55
        if start > end:
            raise RlpError("length runs past the input")
        length = int.from_bytes(data[at + 1 : start], "big")
        if data[at + 1] == 0 or length < 56:
            raise RlpError("length not minimal")
        stop = start + length
    if stop > end:
        raise RlpError("item runs past its container")
    return start, stop, is_list


def split(data: bytes, at: int) -> list[tuple[int, int, int, bool]]:
    """Items of the list that starts at `at` and must end the input: (item start, contents start, stop, is_list)."""
    start, stop, is_list = header(data, at, len(data))
    if not is_list:
        raise RlpError("list expected")
    if stop != len(data):
        raise RlpError("trailing bytes")
    items = []
    while start < stop:
        inner, after, inner_is_list = header(data, start, stop)
        items.append((start, inner, after, inner_is_list))
        start = after
    return items


def decode(data: bytes) -> Item:
    """Nested lists and byte strings of one canonical encoding without trailing bytes. Raises RlpError."""
    item, stop = _decode_at(data, 0, len(data))
    if stop != len(data):
        raise RlpError("trailing bytes")
    return item


def _decode_at(data: bytes, at: int, end: int) -> tuple[Item, int]:
    start, stop, is_list = header(data, at, end)
    if not is_list:
        return data[start:stop], stop
    parts: list[Item] = []
    while start < stop:
        part, start = _decode_at(data, start, stop)
        parts.append(part)
    return parts, stop
