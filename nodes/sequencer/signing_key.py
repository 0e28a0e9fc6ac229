"""The key that a backend signs its proofs with, from the text of a scenario; and the address that readers check."""

from collections.abc import Mapping
from typing import Any

from coincurve import PrivateKey

from nodes.model.errors import InvalidScenario
from nodes.model.ids import Address

_KEY_BYTES = 32
_ADDRESS_BYTES = 20


def key_of(signing_key: str) -> PrivateKey:
    """The private key. Raises InvalidScenario, without the value, where it is none."""
    try:
        data = bytes.fromhex(signing_key.removeprefix("0x"))
        if len(data) == _KEY_BYTES:
            return PrivateKey(data)
    except ValueError:
        pass  # not hex, or not a key of the curve: the same answer as for a wrong length
    raise InvalidScenario(
        "[backend] signing_key must be a secp256k1 private key of 32 bytes as hex; its value is not shown"
    )


def signer_of(options: Mapping[str, Any]) -> Address:
    """The address in `options["signer"]`. Raises InvalidScenario where that is none."""
    text = options.get("signer", "")
    try:
        signer = Address(bytes.fromhex(str(text).removeprefix("0x")))
    except ValueError:
        signer = Address(b"")
    if len(signer) != _ADDRESS_BYTES:
        raise InvalidScenario(f"finality option signer is {text!r}; it must be an address of 20 bytes as hex")
    return signer
