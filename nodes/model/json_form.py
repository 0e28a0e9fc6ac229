"""Any of our frozen dataclasses as JSON values and back, driven by their annotations alone.

Bytes are hex text with 0x, tuples are lists, enums their value. For files and process arguments that people may read;
what travels between nodes is protobuf, and a user's scenario has a reader of its own with better complaints.
"""

import types
from collections.abc import Hashable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from nodes.model.errors import InvalidInput

Value = TypeVar("Value")


def to_json(value: Any) -> Any:
    """`value` as dicts, lists, text and numbers. Raises TypeError for a kind that has no form here."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def from_json(kind: type[Value], document: Any, *, where: str = "document") -> Value:
    """The value of type `kind` that `to_json` wrote. Raises InvalidInput naming the place that does not fit."""
    return cast(Value, _read(kind, document, where))


@cache
def _hints(kind: Any) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, document: Any, where: str) -> Any:
    origin = get_origin(hint)
    if hint is Any:
        return document
    if origin in (Union, types.UnionType):
        if document is None and types.NoneType in get_args(hint):
            return None
        return _read(next(part for part in get_args(hint) if part is not types.NoneType), document, where)
    if origin is tuple:
        _expect(isinstance(document, list), where, "a list", document)
        part = get_args(hint)[0]
        return tuple(_read(part, item, f"{where}[{index}]") for index, item in enumerate(document))
    if origin is not None and issubclass(origin, Mapping):
        _expect(isinstance(document, dict), where, "an object", document)
        part = get_args(hint)[1]
        return {key: _read(part, item, f"{where}.{key}") for key, item in document.items()}
    hint = getattr(hint, "__supertype__", hint)
    if is_dataclass(hint):
        return _read_dataclass(cast(type[Any], hint), document, where)
    if hint is bytes:
        _expect(isinstance(document, str) and document.startswith("0x"), where, "hex text with 0x", document)
        try:
            return bytes.fromhex(document[2:])
        except ValueError as error:
            raise InvalidInput(f"{where}: {document!r} is not hex") from error
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(document)
    if hint is float and isinstance(document, int) and not isinstance(document, bool):
        return float(document)
    _expect(
        isinstance(document, hint) and (hint is bool or not isinstance(document, bool)), where, hint.__name__, document
    )
    return document


def _read_dataclass(kind: type[Any], document: Any, where: str) -> Any:
    _expect(isinstance(document, dict), where, "an object", document)
    hints, values = _hints(cast(Hashable, kind)), {}
    for item in fields(kind):
        if item.name in document:
            values[item.name] = _read(hints[item.name], document[item.name], f"{where}.{item.name}")
        elif item.default is MISSING and item.default_factory is MISSING:
            raise InvalidInput(f"{where}.{item.name} is missing; the file was written by another version or cut short")
    return kind(**values)


def _expect(fits: bool, where: str, wanted: str, found: Any) -> None:  # noqa: FBT001 - an assertion's condition
    if not fits:
        raise InvalidInput(f"{where} must be {wanted}, not {str(found)[:80]!r}")
