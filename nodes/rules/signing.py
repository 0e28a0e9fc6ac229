"""Signatures over a digest of 32 bytes: 65 bytes r | s | v with v = 27 + parity, as certificates carry them.

It does not know what the digest commits to. No prefix is added (no EIP-191), and a high s is accepted, as AggLayer
does: a digest has one signer, not one signature.
"""

from coincurve import PrivateKey

from nodes.model.agglayer import SIGNATURE_BYTES
from nodes.model.ids import Address
from nodes.rules.payload import address_of, recover

_ETHEREUM_V = 27
_DIGEST_BYTES = 32


def sign_digest(digest: bytes, key: PrivateKey) -> bytes:
    """The signature of `key`, 65 bytes. Deterministic (RFC 6979). Raises ValueError unless `digest` has 32 bytes."""
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(f"a digest has {_DIGEST_BYTES} bytes, not {len(digest)}")
    compact = key.sign_recoverable(digest, hasher=None)
    return compact[:64] + bytes((_ETHEREUM_V + compact[64],))


def recover_digest(digest: bytes, signature: bytes) -> Address | None:
    """Who signed `digest`; None where nobody can have. Takes v as 27 and 28, and as 0 and 1."""
    if len(signature) != SIGNATURE_BYTES or len(digest) != _DIGEST_BYTES:
        return None
    v = signature[64]
    parity = v - _ETHEREUM_V if v >= _ETHEREUM_V else v
    return recover(digest=digest, signature=signature[:64], parity=parity) if parity in (0, 1) else None


def address_of_key(key: PrivateKey) -> Address:
    """The address that `recover_digest` gives for signatures of `key`."""
    return address_of(key)
