"""Reading parameters: quantities, bytes, addresses, hashes, block references, calls. Strict, with clear refusals.

Forms as in the Ethereum JSON-RPC specification (https://ethereum.github.io/execution-apis) and EIP-1898. Knows no
chain; what a block reference means is `tags`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nodes.json_rpc.faults import INVALID_PARAMS, RpcFault, invalid_params

_QUANTITY = re.compile(r"0x(?:0|[1-9a-fA-F][0-9a-fA-F]{0,63})")
_LOOSE_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_DATA = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
TAGS = ("latest", "safe", "finalized", "pending", "earliest")
_MISSING: Any = object()


class Params:
    """The positional parameters of one request. What was not taken by the end of the handler is refused."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = list(values)
        self._next = 0

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """The next parameter; null and absent are the default where there is one."""
        index = self._next
        self._next += 1
        value = self._values[index] if index < len(self._values) else None
        if value is None:
            if default is _MISSING:
                raise invalid_params(f"missing value for required argument {index} ({name})")
            return default
        return value

    def end(self) -> None:
        """No more parameters are known. Raises where some were given."""
        extra = [value for value in self._values[self._next :] if value is not None]
        if extra:
            raise invalid_params(f"too many arguments, want at most {self._next}")

    def quantity(self, name: str, default: Any = _MISSING) -> int:
        """An integer."""
        value = self.take(name, default)
        return value if isinstance(value, int) and value is default else quantity(value, name)

    def data(self, name: str) -> bytes:
        """Any bytes."""
        return data_of(self.take(name), name)

    def address(self, name: str) -> str:
        """20 bytes, as lower-case text."""
        return address_text(self.take(name), name)

    def hash(self, name: str) -> bytes:
        """32 bytes."""
        return hash_of(self.take(name), name)

    def boolean(self, name: str, default: Any = _MISSING) -> bool:
        """true or false."""
        value = self.take(name, default)
        if not isinstance(value, bool):
            raise _refusal(name, value, "true or false")
        return value

    def block(self, name: str, default: str | None = "latest") -> "BlockReference":
        """A tag, a number, or an EIP-1898 object."""
        return block_reference(self.take(name, _MISSING if default is None else default), name)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockReference:
    """What a user names a block by; exactly one of the three is set."""

    tag: str = ""
    number: int | None = None
    hash: bytes = b""


def block_reference(value: Any, name: str) -> BlockReference:
    """A tag, a number, or an EIP-1898 object of one of the two."""
    if isinstance(value, Mapping):
        known = set(value) - {"requireCanonical"}
        if known == {"blockNumber"}:
            return block_reference(value["blockNumber"], f"{name}.blockNumber")
        if known == {"blockHash"}:
            # Only blocks of the chain are kept, so requireCanonical changes nothing.
            return BlockReference(hash=hash_of(value["blockHash"], f"{name}.blockHash"))
        raise invalid_params(f"{name}: give either blockNumber or blockHash (EIP-1898)")
    if isinstance(value, str) and value in TAGS:
        return BlockReference(tag=value)
    if isinstance(value, str) and _HASH.fullmatch(value):
        return BlockReference(hash=bytes.fromhex(value[2:]))
    if isinstance(value, str) and _LOOSE_QUANTITY.fullmatch(value):
        return BlockReference(number=int(value, 16))
    raise _refusal(name, value, f"a block number as 0x-prefixed hex, or one of {', '.join(TAGS)}")


def quantity(value: Any, name: str) -> int:
    """An integer of at most 256 bits in 0x-prefixed hex without leading zeros."""
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        raise _refusal(name, value, "an integer as 0x-prefixed hex without leading zeros")
    return int(value, 16)


def data_of(value: Any, name: str) -> bytes:
    """Bytes in 0x-prefixed hex."""
    if not isinstance(value, str) or not _DATA.fullmatch(value):
        raise _refusal(name, value, "bytes as 0x-prefixed hex of even length")
    return bytes.fromhex(value[2:])


def address_text(value: Any, name: str) -> str:
    """An address, in lower case. Checksums are not verified: half of the tools send none."""
    if not isinstance(value, str) or not _ADDRESS.fullmatch(value):
        raise _refusal(name, value, "an address of 20 bytes as 0x-prefixed hex")
    return value.lower()


def hash_of(value: Any, name: str) -> bytes:
    """32 bytes."""
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise _refusal(name, value, "a hash of 32 bytes as 0x-prefixed hex")
    return bytes.fromhex(value[2:])


def storage_slot(value: Any, name: str) -> str:
    """A storage key of up to 32 bytes, written in full."""
    if not isinstance(value, str) or not _LOOSE_QUANTITY.fullmatch(value):
        raise _refusal(name, value, "a storage slot of at most 32 bytes as 0x-prefixed hex")
    return f"0x{int(value, 16):064x}"


_CALL_QUANTITIES = ("gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value", "nonce", "chainId", "type")


def call_object(value: Any, *, gas_cap: int) -> dict[str, Any]:
    """A call for the engine, with every field checked and gas bounded: an endless loop must end.

    Fields that no EVM call has are refused, so that a misspelt one does not silently change what is called.
    """
    if not isinstance(value, Mapping):
        raise _refusal("call", value, "an object with from, to, data, value, gas, ...")
    call: dict[str, Any] = {}
    for name, field in value.items():
        if field is None:
            continue
        if name in ("from", "to"):
            call[name] = address_text(field, name)
        elif name in ("data", "input"):
            data = "0x" + data_of(field, name).hex()
            if call.get("data", data) != data:
                raise invalid_params("both data and input are set and not equal; set input alone")
            call["data"] = data
        elif name in _CALL_QUANTITIES:
            call[name] = hex(quantity(field, name))
        elif name == "accessList":
            call[name] = field
        else:
            raise invalid_params(f"a call has no field {str(name)[:40]!r} on this chain")
    if "gasPrice" in call and ("maxFeePerGas" in call or "maxPriorityFeePerGas" in call):
        raise invalid_params("both gasPrice and (maxFeePerGas or maxPriorityFeePerGas) specified")
    # Fees change nothing (the base fee is 0) except what the sender must hold for the gas that is allowed at most.
    call["gas"] = hex(min(int(call.get("gas", hex(gas_cap)), 16), gas_cap))
    return call


def _refusal(name: str, value: Any, wanted: str) -> RpcFault:
    shown = repr(value)
    return RpcFault(INVALID_PARAMS, f"invalid argument {name}: {shown[:100]}; expected {wanted}")
