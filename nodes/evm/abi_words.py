"""Words and tails of Solidity's ABI: the encoding of calls that have arguments of dynamic type.

Knows types by their words only; calls of static types are encoded from their signature by `nodes.evm.contracts`.

Source: https://docs.soliditylang.org/en/latest/abi-spec.html
"""

from typing import NamedTuple

from nodes.evm.contracts import ADDRESS_BYTES, WORD_BYTES
from nodes.model.errors import InvalidInput


class Tail(NamedTuple):
    """An argument of dynamic type, encoded; its place in the head holds an offset."""

    encoded: bytes


def arguments(*parts: bytes | Tail) -> bytes:
    """Arguments of a call or members of a tuple: words of static ones, offsets of dynamic ones, then their tails."""
    end = sum([WORD_BYTES if isinstance(part, Tail) else len(part) for part in parts])
    heads, tails = [], []
    for part in parts:
        if isinstance(part, Tail):
            heads.append(end.to_bytes(WORD_BYTES, "big"))
            tails.append(part.encoded)
            end += len(part.encoded)
        else:
            heads.append(part)
    return b"".join(heads + tails)


def tail_bytes(data: bytes) -> Tail:
    """A `bytes` or, in UTF-8, a `string`."""
    return Tail(len(data).to_bytes(WORD_BYTES, "big") + data + bytes(-len(data) % WORD_BYTES))


def uint_word(value: int, bits: int) -> bytes:
    """A uintN of `bits`. Raises InvalidInput out of range."""
    if not 0 <= value < 1 << bits:
        raise InvalidInput(f"{value} is out of range for {bits} bits")
    return int(value).to_bytes(WORD_BYTES, "big")


def address_word(value: bytes) -> bytes:
    """Raises InvalidInput unless it has 20 bytes."""
    if len(value) != ADDRESS_BYTES:
        raise InvalidInput(f"0x{value.hex()} is not an address of 20 bytes")
    return bytes(12) + value


def word(value: bytes) -> bytes:
    """A bytes32. Raises InvalidInput for another size."""
    if len(value) != WORD_BYTES:
        raise InvalidInput(f"0x{value.hex()} is not {WORD_BYTES} bytes")
    return value
