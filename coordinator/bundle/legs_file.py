"""`legs.toml`: legs written by hand, with contract calls by signature."""

import tomllib
from pathlib import Path
from typing import Any

from coordinator.bundle.contract_call import contract_call
from coordinator.bundle.legs import LegSpec
from nodes.model.errors import InvalidInput, UnknownName

_TOP = ("legs", "expiry")


def read_legs(path: Path) -> tuple[list[LegSpec], int | None]:
    """The legs and the expiry (None = to be chosen); `call`, `args` become data. Raises InvalidInput, UnknownName."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read: {error}") from error
    for key in document:
        if key not in _TOP:
            raise UnknownName(kind=f"key of {path}", name=key, known=_TOP)
    tables = document.get("legs")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise InvalidInput(f"{path} has no legs; write each as a table: [[legs]]")
    expiry = document.get("expiry")
    if expiry is not None and (not isinstance(expiry, int) or isinstance(expiry, bool)):
        raise InvalidInput(f"{path}: expiry = {expiry!r} must be a sequenced height, 0 = none")
    return [_leg(table, where=f"{path}: leg {number}") for number, table in enumerate(tables, start=1)], expiry


def _leg(table: dict[str, Any], *, where: str) -> LegSpec:
    call, arguments = table.pop("call", None), table.pop("args", None)
    if call is None and arguments is not None:
        raise InvalidInput(f'{where} has args but no call; give the signature: call = "transfer(address,uint256)"')
    if call is not None:
        if not isinstance(call, str) or not isinstance(arguments or [], list):
            raise InvalidInput(f"{where}: call must be a signature in quotes, and args a list")
        if "data" in table:
            raise InvalidInput(f"{where} has both call and data; give one")
        table["data"] = contract_call(call, *(arguments or []))
    return LegSpec.of(table, where=where)
