"""Calldata of a contract call, by web3's encoder: any type, from a signature or from an artifact's ABI."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from nodes.evm.contracts import canonical_type, selector
from nodes.model.errors import InvalidInput, UnknownName


def contract_call(function: str, *arguments: Any, abi: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Calldata without trailer. `function` is a signature such as `transfer(address,uint256)`, or a name in `abi`.

    Raises UnknownName where the ABI has no such function, InvalidInput where it has several or arguments do not fit.
    """
    types = _types_of_signature(function) if "(" in function else _types_in_abi(function, abi)
    name = function.partition("(")[0]
    if len(types) != len(arguments):
        raise InvalidInput(f"{name}({','.join(types)}) takes {len(types)} arguments, {len(arguments)} were given")
    # What web3's encoder raises for arguments of the wrong kind is not one tree of errors.
    try:
        encoded: bytes = _encoder()(types, arguments)
    except Exception as error:
        raise InvalidInput(f"arguments of {name}({','.join(types)}): {error}") from error
    return selector(f"{name}({','.join(types)})") + encoded


@cache
def _encoder() -> Any:
    # Importing web3 takes half a second; only calls need it.
    from web3 import Web3

    return Web3().codec.encode


def _types_of_signature(signature: str) -> list[str]:
    _, _, listed = signature.partition("(")
    if not listed.endswith(")"):
        raise InvalidInput(f"{signature!r} is not a signature such as transfer(address,uint256)")
    types: list[str] = []
    depth, begin, inner = 0, 0, listed[:-1]
    for at, character in enumerate(inner + ","):
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            if inner[begin:at].strip():
                types.append(inner[begin:at].strip())
            begin = at + 1
    return types


def _types_in_abi(name: str, abi: Sequence[Mapping[str, Any]]) -> list[str]:
    functions = [entry for entry in abi if entry.get("type") == "function"]
    found = [entry for entry in functions if entry.get("name") == name]
    if not found:
        raise UnknownName(kind="function", name=name, known=[str(entry.get("name")) for entry in functions])
    if len(found) > 1:
        raise InvalidInput(f"the ABI has {len(found)} functions {name}; write the signature with its types")
    return [canonical_type(argument) for argument in found[0].get("inputs", ())]
