"""Finality proof of a height that was read from Solana: which block, what the inbox held there, and who says so.

proof = u8 1 | u64 slot LE | blockhash 32 | inbox_root 32 | signature 65                         138 bytes
signed = SHA-256("lockstep.solana.v1" | header_hash | u64 slot LE | blockhash | inbox_root)
inbox_root = SHA-256 over (rollup_id 32 | u64 sequence LE | rolling_hash 32) of every rollup, ascending by id

The signature is the reader's (secp256k1, as in `nodes.rules.finality`): it says who read the chain. That the reading
is right needs no trust in the signer: whoever walks the same Solana blocks gets the same header hash, and the rolling
hashes under `inbox_root` stand in the program's accounts. Total over byte strings.
"""

import struct
from collections.abc import Mapping
from typing import NamedTuple

from coincurve import PrivateKey

from nodes.model.ids import HASH_BYTES, Address, RollupId
from nodes.model.solana import InboxState, Slot
from nodes.rules.finality import SIGNATURE_BYTES, is_signed_by, sign_header
from nodes.rules.hashes import sha256

PROOF_VERSION = 1
_DOMAIN = b"lockstep.solana.v1"
_HEAD = struct.Struct("<BQ32s32s")
PROOF_BYTES = _HEAD.size + SIGNATURE_BYTES


class SolanaProof(NamedTuple):
    """The parts of a proof."""

    slot: Slot
    """Of the newest Solana block that the height was read from."""
    blockhash: bytes
    inbox_root: bytes
    """What every rollup's inbox account says once that block is executed."""
    signature: bytes


def inbox_root(states: Mapping[RollupId, InboxState]) -> bytes:
    """One hash over the inbox accounts of all rollups."""
    return sha256(
        b"".join(
            [
                rollup_id + states[rollup_id].sequence.to_bytes(8, "little") + states[rollup_id].rolling_hash
                for rollup_id in sorted(states)
            ]
        )
    )


def sign_proof(header_hash: bytes, *, slot: int, blockhash: bytes, root: bytes, key: PrivateKey) -> bytes:
    """The proof of one height. Deterministic."""
    signature = sign_header(_digest(header_hash, slot, blockhash, root), key)
    return _HEAD.pack(PROOF_VERSION, slot, blockhash, root) + signature


def decode_proof(proof: bytes) -> SolanaProof | None:
    """The parts; None where the bytes are no proof of the known version."""
    if len(proof) != PROOF_BYTES or proof[0] != PROOF_VERSION:
        return None
    _, slot, blockhash, root = _HEAD.unpack_from(proof)
    return SolanaProof(Slot(slot), blockhash, root, proof[_HEAD.size :])


def is_proven_by(signer: Address, *, header_hash: bytes, proof: bytes) -> bool:
    """Whether `proof` is one of `signer` for this header."""
    parts = decode_proof(proof)
    if parts is None or len(header_hash) != HASH_BYTES:
        return False
    digest = _digest(header_hash, parts.slot, parts.blockhash, parts.inbox_root)
    return is_signed_by(signer, header_hash=digest, proof=parts.signature)


def _digest(header_hash: bytes, slot: int, blockhash: bytes, root: bytes) -> bytes:
    return sha256(_DOMAIN + header_hash + slot.to_bytes(8, "little") + blockhash + root)
