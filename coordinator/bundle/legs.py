"""What a user says about a leg, before anything is filled in."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from nodes.evm.contracts import address_of
from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.ids import Address

_WEI = {"wei": 1, "gwei": 10**9, "ether": 10**18}


@dataclass(frozen=True, slots=True, kw_only=True)
class LegSpec:
    """One leg as asked for. What is None is filled in by `Client.build`."""

    rollup: int | str
    """Chain id, or the rollup's name where a client can look it up."""
    sender: Address
    to: bytes
    """20 bytes, or empty for a creation."""
    value: int = 0
    """Wei."""
    data: bytes = b""
    """Calldata without trailer."""
    gas: int | None = None
    nonce: int | None = None
    tx_type: int = 2
    max_fee_per_gas: int = 0
    max_priority_fee_per_gas: int = 0

    @classmethod
    def of(cls, leg: "LegSpec | Mapping[str, Any]", *, where: str = "leg") -> "LegSpec":
        """From a mapping with these keys; addresses and data may be hex text, value a text such as "0.5 ether".

        Raises InvalidInput, UnknownName naming the key.
        """
        if isinstance(leg, LegSpec):
            return leg
        known = [field.name for field in fields(cls)]
        for key in leg:
            if key not in known:
                raise UnknownName(kind=f"key of {where}", name=key, known=known)
        for key in ("rollup", "sender"):
            if key not in leg:
                raise InvalidInput(f"{where} has no {key}")
        if isinstance(leg["rollup"], bool) or not isinstance(leg["rollup"], int | str):
            raise InvalidInput(f"{where}: rollup {leg['rollup']!r} is neither a name nor a chain id")
        for key in ("gas", "nonce", "tx_type", "max_fee_per_gas", "max_priority_fee_per_gas"):
            number = leg.get(key)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 0):
                raise InvalidInput(f"{where}: {key} = {number!r} must be a whole number of at least 0")
        try:
            to = leg.get("to") or b""
            return cls(
                **{
                    **leg,
                    "sender": address_of(leg["sender"]),
                    "to": address_of(to) if to else b"",
                    "value": wei_of(leg.get("value", 0)),
                    "data": bytes_of(leg.get("data", b"")),
                }
            )
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from error


def wei_of(value: int | str) -> int:
    """An amount: wei as a number, or text with a unit. Raises InvalidInput."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str):
        number, _, unit = value.strip().partition(" ")
        whole, _, fraction = number.replace("_", "").partition(".")
        scale = _WEI.get(unit.strip().lower() or "wei")
        if scale is not None and (whole + fraction).isdecimal() and len(fraction) < len(str(scale)):
            return int(whole or "0") * scale + int(fraction.ljust(len(str(scale)) - 1, "0") or "0")
    raise InvalidInput(f"{value!r} is not an amount; give wei as a number, or text such as '0.5 ether'")


def bytes_of(value: bytes | str) -> bytes:
    """Bytes, or 0x-prefixed hex. Raises InvalidInput."""
    if isinstance(value, bytes):
        return value
    try:
        return bytes.fromhex(value.removeprefix("0x"))
    except (AttributeError, ValueError) as error:
        raise InvalidInput(f"{value!r} is not bytes; give 0x and hex digits") from error
