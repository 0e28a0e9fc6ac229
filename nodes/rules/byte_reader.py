"""Takes a byte string apart, field by field. Total: what does not fit raises InvalidVerdict.

Knows sizes only; `nodes.rules.verdict` has the encodings.
"""

import struct
from enum import IntEnum
from typing import Any, TypeVar

from nodes.model.errors import InvalidVerdict

Kind = TypeVar("Kind", bound=IntEnum)

MAX_ENTRIES = 1 << 16
"""Entries of one list in a report, a verdict or a notice."""


class ByteReader:
    """One byte string; each method takes from where the last one ended."""

    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._at = 0
        self._what = what

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > len(self._data) - self._at:
            raise InvalidVerdict(f"a {self._what} of {len(self._data)} bytes is cut short")
        self._at += size
        return self._data[self._at - size : self._at]

    def one(self, form: struct.Struct) -> tuple[Any, ...]:
        """The next fields."""
        return form.unpack(self.take(form.size))

    def many(self, form: struct.Struct, count: int) -> list[tuple[Any, ...]]:
        """So many times these fields."""
        return list(form.iter_unpack(self.take(self.checked(count) * form.size)))

    def checked(self, count: int) -> int:
        """A length that was read; at most MAX_ENTRIES."""
        if count > MAX_ENTRIES:
            raise InvalidVerdict(f"a {self._what} lists {count:,} entries; at most {MAX_ENTRIES:,} are allowed")
        return count

    def known(self, kind: type[Kind], number: int) -> Kind:
        """A number that was read, as what it stands for."""
        try:
            return kind(number)
        except ValueError:
            raise InvalidVerdict(f"a {self._what} holds {kind.__name__} {number}, which is unknown") from None

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise InvalidVerdict(f"a {self._what} has {len(self._data) - self._at} bytes too many")
