"""Base58 of byte strings of any length. Addresses and signatures take the faster way through solders, in `keypairs`."""

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {ord(letter): value for value, letter in enumerate(ALPHABET)}
_STEP = 10
"""Digits taken at once: 58 ** 10 fits a machine word, so the long division runs once per ten digits."""
_STEP_VALUE = 58**_STEP
_PAIRS = [first + second for first in ALPHABET for second in ALPHABET]


def encode(data: bytes) -> str:
    """Text of `data`; every leading zero byte is a leading `1`."""
    number = int.from_bytes(data, "big")
    parts: list[str] = []
    while number:
        number, low = divmod(number, _STEP_VALUE)
        pairs = []
        for _ in range(_STEP // 2):
            low, pair = divmod(low, 58 * 58)
            pairs.append(_PAIRS[pair])
        pairs.reverse()
        parts.append("".join(pairs))
    parts.reverse()
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(parts).lstrip("1")


def decode(text: str) -> bytes:
    """The bytes of `text`. Raises ValueError where it is no base58."""
    digits = text.encode("utf-8").translate(_TO_DIGITS)
    if 255 in digits:
        raise ValueError("not base58")
    number = 0
    for at in range(0, len(digits), _STEP):
        part = 0
        for digit in digits[at : at + _STEP]:
            part = part * 58 + digit
        number = number * 58 ** min(_STEP, len(digits) - at) + part
    zeros = len(text) - len(text.lstrip("1"))
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")


_TO_DIGITS = bytes(_VALUES.get(code, 255) for code in range(256))
