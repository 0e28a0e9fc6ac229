"""Accounts as JSON: the encodings of their data, slices of it, and the filters of getProgramAccounts."""

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

from solders.account import Account
from solders.pubkey import Pubkey

from nodes.json_rpc.faults import INVALID_REQUEST, RpcFault, invalid_params
from nodes.solana import base58
from nodes.solana.devnode.rpc.params import Config
from nodes.solana.devnode.rpc.parsed_accounts import parse_account

Json = dict[str, Any]
Lookup = Callable[[Pubkey], Account | None]
"""Another account at the same commitment; a token account needs its mint for the decimals."""

MAX_BASE58_BYTES = 128
MAX_FILTERS = 4
MAX_MEMCMP_BYTES = 128
RENT_EXEMPT_EPOCH = 2**64 - 1
BINARY = "binary"
"""The oldest form and the default of some methods: base58 text without the name of the encoding."""
ENCODINGS = (BINARY, "base58", "base64", "base64+zstd", "jsonParsed")


def account_encoding(config: Config, *, default: str = BINARY) -> str:
    """The encoding that a request asks for. Raises RpcFault for one that there is not."""
    return config.choice("encoding", ENCODINGS, default=default)


def data_slice(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """(offset, length) of `dataSlice`, None where the whole is asked for."""
    part = config.get("dataSlice")
    if part is None:
        return None
    if not isinstance(part, Mapping):
        raise invalid_params("Invalid params: dataSlice must be an object with offset and length.")
    offset, length = part.get("offset"), part.get("length")
    if not _is_count(offset) or not _is_count(length):
        raise invalid_params("Invalid params: dataSlice needs offset and length, integers from 0.")
    return offset, length


def account_json(
    key: Pubkey, account: Account, *, encoding: str, part: tuple[int, int] | None = None, lookup: Lookup
) -> Json:
    """One account. `part` is a slice of its data; jsonParsed ignores it where the data can be parsed."""
    data = bytes(account.data)
    return {
        "lamports": account.lamports,
        "data": _data_json(key, account, data, encoding, part, lookup),
        "owner": str(account.owner),
        "executable": account.executable,
        "rentEpoch": RENT_EXEMPT_EPOCH,
        "space": len(data),
    }


def _data_json(
    key: Pubkey, account: Account, data: bytes, encoding: str, part: tuple[int, int] | None, lookup: Lookup
) -> Any:
    if encoding == "jsonParsed":
        parsed = parse_account(key, str(account.owner), data, lookup)
        if parsed is not None:
            return parsed | {"space": len(data)}
        encoding = "base64"
    if part is not None:
        data = data[part[0] : part[0] + part[1]]
    if encoding == "base64":
        return [binascii.b2a_base64(data, newline=False).decode(), encoding]
    if encoding == "base64+zstd":
        return [base64.b64encode(_zstd(data)).decode(), encoding]
    if len(data) > MAX_BASE58_BYTES:
        text = (
            f"Encoded binary (base 58) data should be less than {MAX_BASE58_BYTES} bytes, please use Base64 encoding."
        )
        raise RpcFault(INVALID_REQUEST, text)
    text = base58.encode(data)
    return text if encoding == BINARY else [text, encoding]


def _zstd(data: bytes) -> bytes:
    import pyarrow as pa  # 0.2 s to import, and few ask for it

    return bytes(pa.Codec("zstd").compress(data, asbytes=True))


# Filters.


def account_filter(config: Mapping[str, Any]) -> Callable[[bytes], bool]:
    """Whether an account with these data is wanted. Raises RpcFault for filters that cannot be."""
    filters = config.get("filters")
    if filters is None:
        return lambda _data: True
    if not isinstance(filters, list):
        raise invalid_params("Invalid params: filters must be an array.")
    if len(filters) > MAX_FILTERS:
        raise invalid_params(f"Too many filters provided; max {MAX_FILTERS}")
    tests = [_filter(item) for item in filters]
    return lambda data: all(test(data) for test in tests)


def _filter(item: Any) -> Callable[[bytes], bool]:
    if isinstance(item, Mapping) and set(item) == {"dataSize"} and _is_count(item["dataSize"]):
        size = item["dataSize"]
        return lambda data: len(data) == size
    if isinstance(item, Mapping) and set(item) == {"memcmp"} and isinstance(item["memcmp"], Mapping):
        return _memcmp(item["memcmp"])
    if item == "tokenAccountState":
        return lambda data: len(data) == 165 or (len(data) > 165 and data[165] == 2)
    raise invalid_params(
        "Invalid params: a filter is {dataSize}, {memcmp: {offset, bytes, encoding}} or tokenAccountState."
    )


def _memcmp(form: Mapping[str, Any]) -> Callable[[bytes], bool]:
    offset, wanted = form.get("offset"), _memcmp_bytes(form.get("bytes"), form.get("encoding"))
    if not _is_count(offset):
        raise invalid_params("Invalid params: memcmp needs an offset, an integer from 0.")
    if len(wanted) > MAX_MEMCMP_BYTES:
        raise invalid_params(f"Invalid param: encoded binary too large; max {MAX_MEMCMP_BYTES} bytes")
    return lambda data: data[offset : offset + len(wanted)] == wanted


def _memcmp_bytes(value: Any, encoding: Any) -> bytes:
    try:
        if isinstance(value, list):
            return bytes(value)
        if isinstance(value, str) and encoding in (None, "base58", BINARY):
            return base58.decode(value)
        if isinstance(value, str) and encoding == "base64":
            return base64.b64decode(value, validate=True)
    except (ValueError, TypeError) as error:
        raise invalid_params(f"Invalid param: memcmp bytes cannot be decoded: {error}") from None
    raise invalid_params("Invalid params: memcmp needs bytes, as base58 or (encoding: base64) as base64 text.")


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
