"""Contract artifacts, calldata for the hot path, and the text of a revert.

Calls are encoded here by hand for static types: a workload encodes thousands per second, and importing web3 costs more
than this module. It does not know where a contract stands (see `nodes.evm.genesis`), nor does it talk to an engine.

Source: Solidity contract ABI specification, https://docs.soliditylang.org/en/latest/abi-spec.html
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nodes.model.errors import InvalidInput, UnknownName
from nodes.model.ids import Address
from nodes.rules.hashes import keccak256

AbiEntry = Mapping[str, Any]
"""One entry of a contract's ABI, as the compiler wrote it."""

PACKAGED_DIRECTORY = Path(__file__).resolve().parents[2] / "contracts" / "artifacts"
WORD_BYTES = 32
ADDRESS_BYTES = 20
SELECTOR_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A compiled contract, in Foundry's form or ours (the same field names)."""

    source: str
    """Where it was read from, for messages."""
    abi: tuple[AbiEntry, ...]
    creation_code: bytes
    """Constructor and runtime code, without arguments. Empty where the artifact is an interface or unlinked."""
    runtime_code: bytes
    """Code of the deployed contract, immutables still zero. Empty like `creation_code`."""
    unlinked: tuple[str, ...]
    """Libraries (`file:name`) whose addresses the code still lacks."""
    storage_layout: Mapping[str, Any] | None
    """`storage` and `types` as solc writes them; None where the compiler was not asked for it."""

    def constructor_types(self) -> tuple[str, ...]:
        """Canonical types of the constructor's arguments; empty where the ABI names no constructor."""
        for entry in self.abi:
            if entry.get("type") == "constructor":
                return tuple(canonical_type(argument) for argument in entry.get("inputs", ()))
        return ()


def parse_artifact(text: str, *, source: str) -> Artifact:
    """Read an artifact. Raises InvalidInput naming `source`, the missing field and the remedy."""
    remedy = "give the JSON file that `forge build` writes under out/"
    try:
        document = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"artifact {source} is not JSON ({error}); {remedy}") from error
    if not isinstance(document, dict):
        raise InvalidInput(f"artifact {source} is not a JSON object; {remedy}")
    for field in ("abi", "bytecode"):
        if field not in document:
            raise InvalidInput(f"artifact {source} has no field {field!r}; {remedy}")
    abi = document["abi"]
    if not isinstance(abi, list) or not all(isinstance(entry, dict) for entry in abi):
        raise InvalidInput(f"artifact {source}: field 'abi' is not a list of objects; {remedy}")
    layout = document.get("storageLayout")
    return Artifact(
        source=source,
        abi=tuple(abi),
        creation_code=_code(document["bytecode"], field="bytecode", source=source),
        runtime_code=_code(document.get("deployedBytecode", "0x"), field="deployedBytecode", source=source),
        unlinked=_unlinked(document["bytecode"]),
        storage_layout=layout if isinstance(layout, dict) and "storage" in layout else None,
    )


def load_artifact(path: Path) -> Artifact:
    """Read an artifact file. Raises InvalidInput."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"artifact {path} cannot be read ({error}); check the path, or run `forge build`") from error
    return parse_artifact(text, source=str(path))


@cache
def packaged(name: str) -> Artifact:
    """An artifact that comes with Lockstep, such as Token or AgglayerBridge. Raises UnknownName."""
    path = PACKAGED_DIRECTORY / f"{name}.json"
    if not path.is_file():
        raise UnknownName(kind="contract", name=name, known=[entry.stem for entry in PACKAGED_DIRECTORY.glob("*.json")])
    return load_artifact(path)


def _code(field_value: object, *, field: str, source: str) -> bytes:
    """The bytes of a code field; empty while libraries are missing, because the hex then holds placeholders."""
    text = field_value.get("object") if isinstance(field_value, dict) else field_value
    if not isinstance(text, str):
        raise InvalidInput(f"artifact {source}: field {field!r} has no hex text; build it again with `forge build`")
    if _PLACEHOLDER.search(text):
        return b""
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise InvalidInput(f"artifact {source}: field {field!r} is not hex ({error}); build it again") from error


_PLACEHOLDER = re.compile(r"__\$[0-9a-f]{34}\$__")


def _unlinked(bytecode: object) -> tuple[str, ...]:
    references = bytecode.get("linkReferences", {}) if isinstance(bytecode, dict) else {}
    named = tuple(f"{file}:{name}" for file, names in references.items() for name in names)
    if named:
        return named
    text = bytecode.get("object") if isinstance(bytecode, dict) else bytecode
    # Some tools drop linkReferences; the placeholder is the hash of the library's name.
    return tuple(dict.fromkeys(_PLACEHOLDER.findall(text))) if isinstance(text, str) else ()


def canonical_type(argument: Mapping[str, Any]) -> str:
    """The type of an ABI argument as it stands in a signature, tuples written out."""
    name = str(argument["type"])
    if not name.startswith("tuple"):
        return name
    inner = ",".join(canonical_type(part) for part in argument.get("components", ()))
    return f"({inner}){name.removeprefix('tuple')}"


# Encoding


def selector(signature: str) -> bytes:
    """The first 4 bytes of the hash of a canonical signature such as `transfer(address,uint256)`."""
    return keccak256(signature.encode())[:SELECTOR_BYTES]


def encode_call(signature: str, *arguments: object) -> bytes:
    """Calldata for a function of static types: address (20 bytes or hex text), bool, uintN, intN, bytesN.

    Raises InvalidInput where a type is dynamic, or an argument is missing, of the wrong kind, or out of range.
    """
    head, encoders = _encoders(signature)
    if len(arguments) != len(encoders):
        raise InvalidInput(f"{signature} takes {len(encoders)} arguments, {len(arguments)} were given")
    return head + b"".join([encode(argument) for encode, argument in zip(encoders, arguments, strict=True)])


@cache
def _encoders(signature: str) -> tuple[bytes, tuple[Callable[[Any], bytes], ...]]:
    match = re.fullmatch(r"[A-Za-z_$][\w$]*\(([\w,]*)\)", signature)
    if match is None:
        raise InvalidInput(
            f"{signature!r} is not a canonical signature of static types, such as transfer(address,uint256)"
        )
    types = match[1].split(",") if match[1] else []
    return selector(signature), tuple(_encoder(name, signature) for name in types)


def _encoder(type_name: str, signature: str) -> Callable[[Any], bytes]:
    if type_name == "address":
        return _encode_address
    if type_name == "bool":
        return _encode_bool
    match = re.fullmatch(r"(uint|int|bytes)(\d+)", type_name)
    size = int(match[2]) if match else 0
    if match and match[1] == "bytes" and 1 <= size <= WORD_BYTES:
        return lambda value: _encode_fixed_bytes(value, size)
    if match and match[1] != "bytes" and 8 <= size <= 256 and size % 8 == 0:
        low, high = (0, 2**size) if match[1] == "uint" else (-(2 ** (size - 1)), 2 ** (size - 1))
        return lambda value: _encode_integer(value, low, high, type_name)
    raise InvalidInput(f"{signature}: type {type_name!r} is not static; encode this call with web3")


def _encode_address(value: object) -> bytes:
    return bytes(WORD_BYTES - ADDRESS_BYTES) + address_of(value)


def address_of(value: object) -> Address:
    """An address given as 20 bytes or as 0x-prefixed hex. The checksum of mixed-case hex is not verified."""
    if isinstance(value, bytes) and len(value) == ADDRESS_BYTES:
        return Address(value)
    if isinstance(value, str) and re.fullmatch(r"0x[0-9a-fA-F]{40}", value):
        return Address(bytes.fromhex(value[2:]))
    raise InvalidInput(f"{value!r} is not an address; give 20 bytes or 0x and 40 hex digits")


def _encode_bool(value: object) -> bytes:
    if not isinstance(value, bool):
        raise InvalidInput(f"{value!r} is not a bool")
    return int(value).to_bytes(WORD_BYTES, "big")


def _encode_integer(value: object, low: int, high: int, type_name: str) -> bytes:
    # bool is an int in Python; taking True for 1 would hide a swapped argument.
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"{value!r} is not an integer for {type_name}")
    if not low <= value < high:
        raise InvalidInput(f"{value} is out of range for {type_name}")
    return value.to_bytes(WORD_BYTES, "big", signed=low < 0)


def _encode_fixed_bytes(value: object, size: int) -> bytes:
    if not isinstance(value, bytes) or len(value) != size:
        raise InvalidInput(f"{value!r} is not {size} bytes")
    return value.ljust(WORD_BYTES, b"\0")


def transfer_call(*, to: bytes, amount: int) -> bytes:
    """Calldata of `Token.transfer`."""
    return encode_call("transfer(address,uint256)", to, amount)


def approve_call(*, spender: bytes, amount: int) -> bytes:
    """Calldata of `Token.approve`; 2**256 - 1 is an allowance that is not used up."""
    return encode_call("approve(address,uint256)", spender, amount)


def swap_call(*, token_in: bytes, amount_in: int, min_amount_out: int) -> bytes:
    """Calldata of `Pool.swap`. The caller must have approved the pool for `amount_in`."""
    return encode_call("swap(address,uint256,uint256)", token_in, amount_in, min_amount_out)


def increment_call(*, key: int, expected: int | None = None) -> bytes:
    """Calldata of `Counter.increment`, or of `Counter.incrementIf` where `expected` is given."""
    if expected is None:
        return encode_call("increment(uint256)", key)
    return encode_call("incrementIf(uint256,uint256)", key, expected)


def pool_amount_out(*, amount_in: int, reserve_in: int, reserve_out: int) -> int:
    """What `Pool.swap` pays: constant product after a fee of 3 / 1000 of the input, rounded down."""
    charged = amount_in * 997
    return charged * reserve_out // (reserve_in * 1000 + charged)


# Reverts

_PANICS = {
    0x01: "assertion failed",
    0x11: "arithmetic overflow",
    0x12: "division by zero",
    0x21: "value outside an enum",
    0x22: "corrupt storage byte array",
    0x31: "pop from an empty array",
    0x32: "index out of bounds",
    0x41: "out of memory",
    0x51: "call of an unset function",
}
_BUILT_IN: tuple[AbiEntry, ...] = (
    {"type": "error", "name": "Error", "inputs": [{"name": "message", "type": "string"}]},
    {"type": "error", "name": "Panic", "inputs": [{"name": "code", "type": "uint256"}]},
)
MAX_REVERT_TEXT = 300
"""Characters of a decoded revert; a contract can return megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertTable:
    """Known errors by selector."""

    errors: Mapping[bytes, AbiEntry]

    @classmethod
    def of(cls, abis: Iterable[Sequence[AbiEntry]]) -> "RevertTable":
        """The errors of these ABIs and Solidity's own; the first that claims a selector keeps it."""
        errors: dict[bytes, AbiEntry] = {}
        for abi in (_BUILT_IN, *abis):
            for entry in abi:
                if entry.get("type") == "error":
                    types = ",".join(canonical_type(argument) for argument in entry.get("inputs", ()))
                    errors.setdefault(selector(f"{entry['name']}({types})"), entry)
        return cls(errors=errors)

    def text(self, data: bytes) -> str:
        """One line for what a call reverted with. Total: any bytes have one."""
        text = self._text(data)
        return text if len(text) <= MAX_REVERT_TEXT else text[: MAX_REVERT_TEXT - 1] + "…"

    def _text(self, data: bytes) -> str:
        if not data:
            return "reverted without data"
        entry = self.errors.get(data[:SELECTOR_BYTES])
        if entry is None:
            return f"unknown error 0x{data[:SELECTOR_BYTES].hex()} ({len(data)} bytes)"
        inputs = entry.get("inputs", ())
        values = _decode([str(argument["type"]) for argument in inputs], data[SELECTOR_BYTES:])
        if values is None:
            return f"{entry['name']} with arguments 0x{data[SELECTOR_BYTES:].hex()}"
        if entry["name"] == "Panic":
            return f"Panic(0x{values[0]:02x}: {_PANICS.get(values[0], 'unknown code')})"
        named = [f"{argument.get('name') or index}={_show(value)}"
                 for index, (argument, value) in enumerate(zip(inputs, values, strict=True))]  # fmt: skip
        return f"{entry['name']}({', '.join(named)})"


@cache
def packaged_reverts() -> RevertTable:
    """The errors of the contracts that come with Lockstep."""
    names = sorted(path.stem for path in PACKAGED_DIRECTORY.glob("*.json"))
    return RevertTable.of(packaged(name).abi for name in names)


def _decode(types: Sequence[str], data: bytes) -> list[Any] | None:
    """Values of static types, string and bytes; None where a type is another or the data does not fit."""
    values = []
    for index, type_name in enumerate(types):
        word = data[index * WORD_BYTES : (index + 1) * WORD_BYTES]
        if len(word) < WORD_BYTES:
            return None
        value = (
            _decode_tail(type_name, data, word) if type_name in ("string", "bytes") else _decode_word(type_name, word)
        )
        if value is None:
            return None
        values.append(value)
    return values


def _decode_word(type_name: str, word: bytes) -> object:
    number = int.from_bytes(word, "big")
    if type_name == "address":
        return word[-ADDRESS_BYTES:] if number < 2**160 else None
    if type_name == "bool":
        return bool(number) if number < 2 else None
    match = re.fullmatch(r"(uint|int|bytes)(\d+)", type_name)
    if match is None:
        return None
    if match[1] == "bytes":
        return word[: int(match[2])]
    if match[1] == "int":
        number = int.from_bytes(word, "big", signed=True)
    return number


def _decode_tail(type_name: str, data: bytes, word: bytes) -> str | bytes | None:
    start = int.from_bytes(word, "big")
    if start + WORD_BYTES > len(data):
        return None
    length = int.from_bytes(data[start : start + WORD_BYTES], "big")
    if start + WORD_BYTES + length > len(data):
        return None
    contents = data[start + WORD_BYTES : start + WORD_BYTES + length]
    return contents.decode("utf-8", "replace") if type_name == "string" else contents


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return "0x" + value.hex()
    return json.dumps(value) if isinstance(value, (str, bool)) else str(value)
