"""Keys of a testnet, all from its seed. They protect nothing: whoever reads the scenario has them.

Equal seeds give equal keys on every machine, so that a run can be repeated to the byte.
"""

from dataclasses import dataclass

from coincurve import PrivateKey

from nodes.model.ids import Address
from nodes.rules.hashes import keccak256
from nodes.rules.payload import SECP256K1_N, address_of

_DOMAIN = b"lockstep test key, worth nothing\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class DevAccount:
    """A funded account whose key everybody knows."""

    address: Address
    key: bytes
    """32 bytes, secp256k1."""


def dev_key(seed: int, role: str, index: int) -> bytes:
    """The private key of one role (`user`, `lane`, `faucet`, `sequencer`) and index: 32 bytes, never zero."""
    material = _DOMAIN + seed.to_bytes(8, "big") + index.to_bytes(4, "big") + role.encode()
    return (int.from_bytes(keccak256(material), "big") % (SECP256K1_N - 1) + 1).to_bytes(32, "big")


def dev_account(seed: int, role: str, index: int) -> DevAccount:
    """The account of one role and index."""
    key = dev_key(seed, role, index)
    return DevAccount(address=address_of_key(key), key=key)


def address_of_key(key: bytes) -> Address:
    """The EVM address of a private key."""
    return address_of(PrivateKey(key))
