"""Certificates: their id, what is signed, who may sign, and what is stated beside the public values for settlement.

Everything signed is a raw digest of 32 bytes, without EIP-191 prefix. It does not know trees or balances; these are
`nodes.rules.pessimistic`. Sources: agglayer/interop `agglayer-interop-types`; agglayer/agglayer
`pessimistic-proof-core` (commitments V2, V3, V5); AggchainBase (aggchain hash).
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from nodes.model.agglayer import SIGNATURE_BYTES, Certificate, CertificateId, SettledRange
from nodes.model.ids import ZERO_HASH, Address, Height
from nodes.model.proof_errors import (
    MultisigInvalidSignature,
    MultisigInvalidSigner,
    TooManySigners,
    UnderThreshold,
)
from nodes.model.verdict import SignedVerdict
from nodes.rules.claims import claims_commitment_v2, claims_commitment_v3, imported_exit_hash
from nodes.rules.exit_tree import leaf_hash
from nodes.rules.hashes import keccak256
from nodes.rules.signing import recover_digest

RANGE_BYTES = 112
PUBLIC_VALUES_BYTES = 196
STATEMENT_BYTES = PUBLIC_VALUES_BYTES + RANGE_BYTES
AGGCHAIN_CONSENSUS_TYPE = 1

_RANGE = Struct(">QQ32s32s32s")
_ABSENT = bytes(SIGNATURE_BYTES)


def certificate_id(certificate: Certificate) -> CertificateId:
    """32 bytes: everything but the signatures, the custom chain data and the L1 info leaf count."""
    parts = (
        certificate.network_id.to_bytes(4, "big"),
        certificate.height.to_bytes(8, "big"),
        certificate.prev_local_exit_root,
        certificate.new_local_exit_root,
        keccak256(b"".join(map(leaf_hash, certificate.bridge_exits))),
        keccak256(b"".join(map(imported_exit_hash, certificate.imported_bridge_exits))),
        certificate.metadata,
    )
    return CertificateId(keccak256(b"".join(parts)))


def commitment_v2(*, new_local_exit_root: bytes, claims_v2: bytes) -> bytes:
    """What the oldest certificates sign; without the height, so that it does not bind to one."""
    return keccak256(new_local_exit_root + claims_v2)


def commitment_v3(*, new_local_exit_root: bytes, claims_v3: bytes, height: int) -> bytes:
    """What certificates signed before they had an id in what they sign."""
    return keccak256(new_local_exit_root + claims_v3 + height.to_bytes(8, "little"))


def commitment_v5(
    *,
    new_local_exit_root: bytes,
    claims_v3: bytes,
    height: int,
    certificate_id: bytes,
    aggchain_params: bytes = ZERO_HASH,
) -> bytes:
    """What certificates sign now. The root is the true one, not that of `zero_if_empty`."""
    parts = (new_local_exit_root, claims_v3, height.to_bytes(8, "little"), aggchain_params, certificate_id)
    return keccak256(b"".join(parts))


def certificate_commitment_v2(certificate: Certificate) -> bytes:
    """Commitment V2 of a certificate."""
    claims = claims_commitment_v2(certificate.imported_bridge_exits)
    return commitment_v2(new_local_exit_root=certificate.new_local_exit_root, claims_v2=claims)


def certificate_commitment_v3(certificate: Certificate) -> bytes:
    """Commitment V3 of a certificate."""
    claims = claims_commitment_v3(certificate.imported_bridge_exits)
    return commitment_v3(
        new_local_exit_root=certificate.new_local_exit_root, claims_v3=claims, height=certificate.height
    )


def certificate_commitment(
    certificate: Certificate, aggchain_params: bytes = ZERO_HASH, *, named: CertificateId | None = None
) -> bytes:
    """Commitment V5 of a certificate: the digest that its signers sign. `named`: its id, where it is known already."""
    return commitment_v5(
        new_local_exit_root=certificate.new_local_exit_root,
        claims_v3=claims_commitment_v3(certificate.imported_bridge_exits),
        height=certificate.height,
        certificate_id=certificate_id(certificate) if named is None else named,
        aggchain_params=aggchain_params,
    )


def check_multisig(
    *, signatures: Sequence[bytes | None], signers: Sequence[Address], threshold: int, commitment: bytes
) -> None:
    """Signature `i` must be signer `i`'s or absent, and at least `threshold` present; one wrong one fails all.

    Places beyond the signers fail even if they are empty. Raises the MultisigError.
    """
    if len(signatures) > len(signers):
        raise TooManySigners(count=len(signatures), maximum=len(signers))
    present = [(index, signature) for index, signature in enumerate(signatures) if signature is not None]
    if len(present) < threshold:
        raise UnderThreshold(got=len(present), expected=threshold)
    for index, signature in present:
        recovered = recover_digest(commitment, signature)
        if recovered is None:
            raise MultisigInvalidSignature(index=index)
        if recovered != signers[index]:
            raise MultisigInvalidSigner(
                index=index, expected=signers[index], recovered=recovered, commitment=commitment
            )


def multisig_hash(signers: Sequence[Address], threshold: int) -> bytes:
    """Commits to a committee as L1 does: the threshold and each address in 32 bytes."""
    return keccak256(threshold.to_bytes(32, "big") + b"".join(bytes(12) + signer for signer in signers))


def aggchain_hash(
    signers: Sequence[Address], threshold: int, *, vkey: bytes = ZERO_HASH, aggchain_params: bytes = ZERO_HASH
) -> bytes:
    """Commits to how a network's certificates are authorized. A single legacy signer is a committee of one."""
    consensus_type = AGGCHAIN_CONSENSUS_TYPE.to_bytes(4, "big")
    return keccak256(consensus_type + vkey + aggchain_params + multisig_hash(signers, threshold))


def encode_range(settled: SettledRange) -> bytes:
    """112 bytes: first and last height as u64, last block hash, outcome root, verdict root."""
    return _RANGE.pack(
        settled.first_height, settled.last_height, settled.last_block_hash, settled.outcome_root, settled.verdict_root
    )


def decode_range(data: bytes) -> SettledRange:
    """The inverse of `encode_range`. Raises ValueError unless there are 112 bytes."""
    if len(data) != RANGE_BYTES:
        raise ValueError(f"a settled range has {RANGE_BYTES} bytes, not {len(data)}")
    first, last, block_hash, outcome_root, verdict_root = _RANGE.unpack(data)
    return SettledRange(
        first_height=Height(first),
        last_height=Height(last),
        last_block_hash=block_hash,
        outcome_root=outcome_root,
        verdict_root=verdict_root,
    )


def statement_bytes(public_values: bytes, settled: SettledRange) -> bytes:
    """What L1 is told of one network: its public values (196 bytes) and its range. Raises ValueError."""
    if len(public_values) != PUBLIC_VALUES_BYTES:
        raise ValueError(f"public values have {PUBLIC_VALUES_BYTES} bytes, not {len(public_values)}")
    return public_values + encode_range(settled)


def settlement_digest(statements: Sequence[bytes], *, l1_chain_id: int, manager: Address) -> bytes:
    """What attesters sign, raw: all statements of one settlement in their order, for one manager on one L1."""
    deployment = l1_chain_id.to_bytes(32, "big") + manager
    return keccak256(b"lockstep.settlement" + deployment + keccak256(b"".join(statements)))


def range_digest(certificate_id: bytes, settled: SettledRange) -> bytes:
    """What a network's signers sign, raw, beside their certificate: as many of them as the certificate needs."""
    return keccak256(b"lockstep.range" + certificate_id + encode_range(settled))


class ChainData(NamedTuple):
    """What Lockstep carries in the custom chain data of a certificate."""

    settled: SettledRange
    range_signatures: tuple[bytes | None, ...]
    """By place of the signer: 65 bytes over `range_digest`, or None."""
    verdict: SignedVerdict | None
    """Of the range's last height; None without verdicts and for an empty range."""


def pack_chain_data(
    settled: SettledRange, range_signatures: Sequence[bytes | None], verdict: SignedVerdict | None
) -> bytes:
    """range 112 | u8 places | 65 each, zeros for an absent signature | verdict signature 65 | verdict.

    The last two only where there is a verdict. Raises ValueError for more than 255 places.
    """
    places = bytes([len(range_signatures)]) + b"".join([signature or _ABSENT for signature in range_signatures])
    tail = b"" if verdict is None else verdict.signature + verdict.verdict
    return encode_range(settled) + places + tail


def unpack_chain_data(data: bytes) -> ChainData | None:
    """The inverse; None for no bytes at all, as certificates of other software have. Raises ValueError."""
    if not data:
        return None
    begin = RANGE_BYTES + 1
    end = begin + SIGNATURE_BYTES * data[RANGE_BYTES] if len(data) >= begin else begin
    if len(data) < end or 0 < len(data) - end <= SIGNATURE_BYTES:
        raise ValueError(f"custom chain data of {len(data)} bytes is cut short")
    signatures = [data[at : at + SIGNATURE_BYTES] for at in range(begin, end, SIGNATURE_BYTES)]
    tail = data[end:]
    return ChainData(
        decode_range(data[:RANGE_BYTES]),
        tuple([None if signature == _ABSENT else signature for signature in signatures]),
        SignedVerdict(tail[SIGNATURE_BYTES:], tail[:SIGNATURE_BYTES]) if tail else None,
    )
