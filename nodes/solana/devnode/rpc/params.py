"""The parameters of one request, taken by position and checked: addresses, signatures, counts, configurations.

Clients send null for an option that they do not set, so null is the same as absent everywhere.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from solders.hash import Hash, ParseHashError
from solders.pubkey import Pubkey
from solders.signature import Signature

from nodes.json_rpc.faults import invalid_params
from nodes.solana.devnode.values import Level

_LEVELS: Mapping[str, Level] = {
    "processed": "processed",
    "confirmed": "confirmed",
    "finalized": "finalized",
    # Names of the first years, which old clients still send.
    "recent": "processed",
    "single": "confirmed",
    "singleGossip": "confirmed",
    "root": "finalized",
    "max": "finalized",
}
_U64_MAX = 2**64 - 1


class Params:
    """Positional parameters."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, index: int) -> Any:
        """The value at a position; None where there is none."""
        return self._values[index] if index < len(self._values) else None

    def _required(self, index: int) -> Any:
        value = self.get(index)
        if value is None:
            raise invalid_params(f"`params` should have at least {index + 1} argument(s)")
        return value

    def text(self, index: int) -> str:
        """A text that must be there."""
        value = self._required(index)
        if not isinstance(value, str):
            raise invalid_params(f"Invalid params: parameter {index} must be a string, got {_kind(value)}.")
        return value

    def number(self, index: int) -> int:
        """An integer from 0 that must be there."""
        return _count(self._required(index), f"parameter {index}")

    def optional_number(self, index: int) -> int | None:
        """An integer from 0; None where the parameter is absent, null or the configuration object."""
        value = self.get(index)
        return None if value is None or isinstance(value, Mapping) else _count(value, f"parameter {index}")

    def items(self, index: int, *, at_most: int) -> list[Any]:
        """A list that must be there."""
        value = self._required(index)
        if not isinstance(value, list):
            raise invalid_params(f"Invalid params: parameter {index} must be an array, got {_kind(value)}.")
        if len(value) > at_most:
            raise invalid_params(f"Too many inputs provided; max {at_most}")
        return value

    def pubkey(self, index: int) -> Pubkey:
        """An address that must be there."""
        return as_pubkey(self._required(index))

    def signature(self, index: int) -> str:
        """A signature that must be there, in its one base58 form."""
        return as_signature(self._required(index))

    def hash(self, index: int) -> Hash:
        """A blockhash that must be there."""
        value = self._required(index)
        try:
            return Hash.from_string(value)
        except (ParseHashError, TypeError):
            raise invalid_params(f"Invalid param: {_why_not(value)}") from None

    def config(self, index: int) -> "Config":
        """The configuration object; an empty one where it is absent."""
        value = self.get(index)
        if value is None:
            return Config({})
        if not isinstance(value, Mapping):
            raise invalid_params(f"Invalid params: parameter {index} must be an object, got {_kind(value)}.")
        return Config(value)

    def config_or_encoding(self, index: int) -> "Config":
        """The configuration object, or in its place the name of an encoding, as the first clients sent it."""
        value = self.get(index)
        return Config({"encoding": value}) if isinstance(value, str) else self.config(index)


class Config(dict[str, Any]):
    """A request's configuration object."""

    def level(self, name: str = "commitment", *, default: Level = "finalized") -> Level:
        """The commitment that is asked for."""
        value = self.get(name)
        if value is None:
            return default
        level = _LEVELS.get(value) if isinstance(value, str) else None
        if level is None:
            known = "`processed`, `confirmed`, `finalized`"
            raise invalid_params(f"Invalid params: unknown variant `{value}`, expected one of {known}.")
        return level

    def confirmed_level(self, *, default: Level = "finalized") -> Level:
        """The commitment that is asked for, of a method that reads the ledger and so needs at least confirmed."""
        level = self.level(default=default)
        if level == "processed":
            raise invalid_params("Method does not support commitment below `confirmed`")
        return level

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A true or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid_params(f"Invalid params: {name} must be true or false, got {_kind(value)}.")
        return value

    def count(self, name: str) -> int | None:
        """An integer from 0; None where it is absent."""
        value = self.get(name)
        return None if value is None else _count(value, name)

    def choice(self, name: str, known: Sequence[str], *, default: str) -> str:
        """One of `known`."""
        value = self.get(name)
        if value is None:
            return default
        if value not in known:
            names = ", ".join(f"`{each}`" for each in known)
            raise invalid_params(f"Invalid params: unknown variant `{value}`, expected one of {names}.")
        return str(value)

    def text(self, name: str) -> str | None:
        """A text; None where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid_params(f"Invalid params: {name} must be a string, got {_kind(value)}.")
        return value

    def inner(self, name: str) -> "Config | None":
        """An object within; None where it is absent."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise invalid_params(f"Invalid params: {name} must be an object, got {_kind(value)}.")
        return Config(value)


def as_pubkey(value: Any) -> Pubkey:
    """An address from its base58 text. Raises RpcFault."""
    try:
        return Pubkey.from_string(value)
    except (ValueError, TypeError):
        raise invalid_params(f"Invalid param: {_why_not(value)}") from None


def as_signature(value: Any) -> str:
    """A signature in its one base58 form. Raises RpcFault."""
    try:
        return str(Signature.from_string(value))
    except (ValueError, TypeError):
        raise invalid_params(f"Invalid param: {_why_not(value)}") from None


def _why_not(value: Any) -> str:
    """As Agave says it: the wrong letters, or the wrong length."""
    is_base58 = isinstance(value, str) and value.isascii() and value.isalnum() and not set(value) & set("0OIl")
    return "WrongSize" if is_base58 else "Invalid"


def _count(value: Any, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _U64_MAX:
        raise invalid_params(f"Invalid params: {what} must be an integer from 0 to 2^64 - 1, got {_kind(value)}.")
    return value


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
