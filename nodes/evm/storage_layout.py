"""Where a Solidity contract keeps its variables: from a name and keys to a slot and back to the word to write.

Knows the layout that solc prints and its rule for mappings; knows no contract by name.
Source: https://docs.soliditylang.org/en/latest/internals/layout_in_storage.html
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nodes.evm.contracts import WORD_BYTES, Artifact, address_of
from nodes.model.errors import InvalidInput, UnknownName
from nodes.rules.hashes import keccak256

Words = dict[int, int]
"""Storage of one account: slot to word, both below 2**256. A zero word is an absent one."""

WORD_LIMIT = 2**256


class StorageWriter:
    """Collects the words of one account. Variables that share a slot are packed as the compiler packs them."""

    def __init__(self, artifact: Artifact, words: Mapping[int, int] | None = None) -> None:
        """Raises InvalidInput where the artifact has no storage layout."""
        if artifact.storage_layout is None:
            raise InvalidInput(
                f"artifact {artifact.source} has no storageLayout, so a variable's name cannot be found; "
                'add extra_output = ["storageLayout"] to foundry.toml and build again, or give slot numbers'
            )
        self._source = artifact.source
        self._variables: dict[str, Mapping[str, Any]] = {v["label"]: v for v in artifact.storage_layout["storage"]}
        self._types: Mapping[str, Any] = artifact.storage_layout.get("types") or {}
        self._words: Words = dict(words or {})

    def write(self, label: str, *keys: object, value: object) -> None:
        """Set a value-type variable, or the element of a mapping (of mappings) at `keys`.

        `value` is an integer, a bool, 20 bytes or hex text of an address, or bytes of the type's size.
        Raises UnknownName for the label, InvalidInput for keys or a value that the type does not take.
        """
        if label not in self._variables:
            raise UnknownName(kind=f"storage variable of {self._source}", name=label, known=self._variables)
        variable = self._variables[label]
        slot, kind = int(variable["slot"]), str(variable["type"])
        where = f"{self._source}: {label}{''.join(f'[{key!r}]' for key in keys)}"
        for key in keys:
            type_ = self._types[kind]
            if type_["encoding"] != "mapping":
                raise InvalidInput(f"{where}: {type_['label']} is not a mapping; give fewer keys")
            slot = mapping_slot(slot, _key_word(self._types[type_["key"]], key, where))
            kind = str(type_["value"])
        type_ = self._types[kind]
        if type_["encoding"] != "inplace" or "members" in type_ or "base" in type_:
            raise InvalidInput(f"{where}: {type_['label']} is not a value type; give its slots by number")
        # Elements of a mapping start their own slot.
        self._pack(
            slot, 0 if keys else int(variable["offset"]), int(type_["numberOfBytes"]), _word(type_, value, where)
        )

    def _pack(self, slot: int, offset_bytes: int, size_bytes: int, word: int) -> None:
        mask = (1 << 8 * size_bytes) - 1
        shift = 8 * offset_bytes
        self._words[slot] = self._words.get(slot, 0) & ~(mask << shift) | (word & mask) << shift

    def words(self) -> Words:
        """What was written, without zero words, in slot order."""
        return {slot: word for slot, word in sorted(self._words.items()) if word}


def mapping_slot(slot: int, key: int) -> int:
    """Slot of the element of a mapping (standing at `slot`) for a value-type key, given as a word."""
    return int.from_bytes(keccak256(key.to_bytes(WORD_BYTES, "big") + slot.to_bytes(WORD_BYTES, "big")), "big")


def _key_word(type_: Mapping[str, Any], key: object, where: str) -> int:
    """A mapping key as the 256-bit word that is hashed: bytesN stand left, negative integers are sign-extended."""
    if type_["encoding"] != "inplace":
        raise InvalidInput(f"{where}: keys of type {type_['label']} are not supported; give the slot by number")
    word, bits = _word(type_, key, where), 8 * int(type_["numberOfBytes"])
    if re.fullmatch(r"bytes\d+", type_["label"]):
        return word << 256 - bits
    if str(type_["label"]).startswith("int") and word >> bits - 1:
        return word + WORD_LIMIT - (1 << bits)
    return word


def _word(type_: Mapping[str, Any], value: object, where: str) -> int:
    """The value as the low bytes of a word. Negative integers keep their two's complement."""
    name, size_bytes = str(type_["label"]), int(type_["numberOfBytes"])
    if name.startswith(("address", "contract ")):
        return int.from_bytes(address_of(value), "big")
    if re.fullmatch(r"bytes\d+", name):
        if isinstance(value, str):
            value = _hex_bytes(value, where)
        if not isinstance(value, bytes) or len(value) != size_bytes:
            raise InvalidInput(f"{where}: {value!r} is not {size_bytes} bytes for {name}")
        return int.from_bytes(value, "big")
    number = int(value, 0) if isinstance(value, str) and re.fullmatch(r"-?(0x[0-9a-fA-F]+|\d+)", value) else value
    if not isinstance(number, int):
        raise InvalidInput(f"{where}: {value!r} is not a value of {name}")
    signed = name.startswith("int")
    bits = 8 * size_bytes
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 2 if name == "bool" else 1 << bits)
    if not low <= number < high:
        raise InvalidInput(f"{where}: {number} is out of range for {name}")
    return int(number) & ((1 << bits) - 1)


def _hex_bytes(text: str, where: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError as error:
        raise InvalidInput(f"{where}: {text!r} is not hex") from error


def storage_overrides(artifact: Artifact, words: Mapping[int, int], overrides: Iterable[tuple[str, object]]) -> Words:
    """Words of an account after a scenario's `storage` table.

    A key is a slot number (decimal or 0x hex), a variable's name, or an element such as `balanceOf[0x...]`.
    Raises InvalidInput or UnknownName naming the artifact and the key.
    """
    result = dict(words)
    for key, value in overrides:
        where = f"{artifact.source}: storage key {key!r}"
        if re.fullmatch(r"0x[0-9a-fA-F]+|\d+", key):
            slot, word = int(key, 0), _slot_value(value, where)
            if slot >= WORD_LIMIT:
                raise InvalidInput(f"{where} is not below 2**256")
            result[slot] = word
            continue
        match = re.fullmatch(r"([A-Za-z_$][\w$]*)((?:\[[^\[\]]+\])*)", key)
        if match is None:
            raise InvalidInput(f"{where} is neither a slot, nor a name, nor a name with [keys]")
        writer = StorageWriter(artifact, result)
        writer.write(match[1], *re.findall(r"\[([^\[\]]+)\]", match[2]), value=value)
        result = writer.words()
    return {slot: word for slot, word in sorted(result.items()) if word}


def _slot_value(value: object, where: str) -> int:
    if isinstance(value, str):
        try:
            value = int(value, 0)
        except ValueError as error:
            raise InvalidInput(f"{where}: {value!r} is not a number") from error
    if not isinstance(value, int) or not 0 <= value < WORD_LIMIT:
        raise InvalidInput(f"{where}: {value!r} is not a word, 0 to 2**256 - 1")
    return int(value)
