"""Finality proof of a chain with one trusted signer: a recoverable secp256k1 signature over the header hash.

proof = r 32 | s 32 | parity 1, over the 32 bytes of the header hash itself. It says who promises the block, not how
firmly; what a promise means is stated by each backend. Total over byte strings.
"""

from collections.abc import Callable

from coincurve import PrivateKey

from nodes.model.ids import Address
from nodes.rules.payload import recover

SIGNATURE_BYTES = 65
VerifyFinality = Callable[[bytes, bytes], bool]
"""(header hash, finality proof) to whether the proof holds."""


def sign_header(header_hash: bytes, key: PrivateKey) -> bytes:
    """The 65-byte proof. Deterministic (RFC 6979)."""
    return key.sign_recoverable(header_hash, hasher=None)


def is_signed_by(signer: Address, *, header_hash: bytes, proof: bytes) -> bool:
    """Whether `proof` is a signature of `signer` over `header_hash`."""
    # A parity above 1 needs r >= n, which no honest signature has; above 3 the library aborts the process.
    if len(header_hash) != 32 or len(proof) != SIGNATURE_BYTES or proof[64] > 1:
        return False
    return recover(digest=header_hash, signature=proof[:64], parity=proof[64]) == signer
