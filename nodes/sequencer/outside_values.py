"""Values of `[backend]` that can hold a secret: what may stand in a scenario, and what must come from outside.

A scenario, its overrides and the resolved testnet are copied into every run directory and report. So a secret never
stands in them: `env:NAME` names a variable of the environment, which only the process that needs the value reads. No
message repeats a value that could be one.
"""

import os
import re
from urllib.parse import urlsplit

from nodes.model.errors import InvalidScenario

REFERENCE = "env:"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_STORES = ("sqlite", "postgresql", "postgres")


def is_reference(value: str) -> bool:
    """It names a variable instead of holding a value."""
    return value.startswith(REFERENCE)


def looked_up(value: str, *, key: str) -> str:
    """The value of a `[backend]` key: what it says, or what its variable holds. Raises InvalidScenario."""
    if not is_reference(value):
        return value
    found = os.environ.get(_name_of(value, key), "").strip()
    if not found:
        raise InvalidScenario(
            f"[backend] {key} is {value}, and that variable is not set; export it where lockstep starts (on a cluster "
            "also where its nodes start)"
        )
    return found


def check_keypair(value: str) -> None:
    """Refuse what is neither a file's path nor a reference: it would be a secret. Raises InvalidScenario."""
    if is_reference(value):
        _name_of(value, "keypair")
    # Neither hex nor base58 nor a list of numbers has one of these.
    elif value and "/" not in value and "." not in value:
        raise InvalidScenario(
            "[backend] keypair must be the path of a file, such as ./id.json, or env:NAME (then the variable holds the "
            "path, or the secret as hex or base58); a secret given directly would be copied into every run directory, "
            "so it is refused, and not shown"
        )


def check_rpc_url(value: str, *, key: str, schemes: tuple[str, ...]) -> None:
    """Refuse what is no URL, or one that may hold a key, and is no reference. Raises InvalidScenario."""
    if is_reference(value):
        _name_of(value, key)
        return
    check_url(value, key=key, schemes=schemes)
    parts = urlsplit(value)
    if "@" in value or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidScenario(
            f"[backend] {key}: the URL of {parts.hostname} has a path, a query or a user, which often are somebody's "
            f'key; export the URL as a variable and give {key} = "{REFERENCE}NAME", so that it is in no run directory'
        )


def check_url(value: str, *, key: str, schemes: tuple[str, ...]) -> None:
    """Of a URL from anywhere. Raises InvalidScenario, without the value, for what is none."""
    try:
        parts = urlsplit(value)
        is_url = parts.scheme in schemes and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        is_url = False
    if not is_url:
        raise InvalidScenario(f"[backend] {key} must be a URL such as {schemes[0]}://HOST:PORT; its value is not shown")


def check_store_url(value: str) -> None:
    """Refuse what is no store, or one with a password, and is no reference. Raises InvalidScenario."""
    if is_reference(value):
        _name_of(value, "store_url")
        return
    check_store(value)
    user = value.partition("://")[2].rpartition("@")[0]
    if ":" in user or "?" in value or "#" in value:
        raise InvalidScenario(
            "[backend] store_url has a password or further settings, which may hold one; export the URL as a variable "
            f'and give store_url = "{REFERENCE}NAME", so that it is in no run directory'
        )


def check_store(value: str) -> None:
    """Of a store's URL from anywhere. Raises InvalidScenario, without the value, for what is none."""
    kind, separator, rest = value.partition("://")
    name = kind.partition("+")[0]
    is_file = name == "sqlite" and rest.startswith("/") and rest.partition("?")[0].strip("/") not in ("", ":memory:")
    if not separator or name not in _STORES or not (is_file or (name != "sqlite" and rest)):
        raise InvalidScenario(
            "[backend] store_url must be a file (sqlite:///path) or a Postgres database (postgresql://user@host/name); "
            "its value is not shown"
        )


def _name_of(value: str, key: str) -> str:
    name = value.removeprefix(REFERENCE)
    if not _NAME.fullmatch(name):
        raise InvalidScenario(f"[backend] {key}: after {REFERENCE} stands the name of a variable, such as SOLANA_URL")
    return name
