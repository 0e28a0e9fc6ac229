"""Certificate ids, signed commitments, committees and settlement statements, byte by byte; signatures both ways."""

from dataclasses import replace

import pytest

from nodes.model.agglayer import (
    MAINNET,
    Certificate,
    CertificateHeight,
    GlobalIndex,
    ImportedBridgeExit,
    L1InfoLeaf,
    MainnetClaim,
    MerkleProof,
    NetworkId,
    RollupClaim,
    SettledRange,
)
from nodes.model.ids import ZERO_HASH, Address, Height
from nodes.model.proof_errors import (
    MultisigError,
    MultisigInvalidSignature,
    MultisigInvalidSigner,
    TooManySigners,
    UnderThreshold,
)
from nodes.model.verdict import SignedVerdict
from nodes.rules.certificate import (
    RANGE_BYTES,
    STATEMENT_BYTES,
    aggchain_hash,
    certificate_commitment,
    certificate_commitment_v2,
    certificate_commitment_v3,
    certificate_id,
    check_multisig,
    decode_range,
    encode_range,
    multisig_hash,
    pack_chain_data,
    settlement_digest,
    statement_bytes,
    unpack_chain_data,
)
from nodes.rules.claims import claim_hash, claims_commitment_v2, claims_commitment_v3, imported_exit_hash, proof_hash
from nodes.rules.exit_tree import leaf_hash
from nodes.rules.hashes import keccak256
from nodes.rules.payload import SECP256K1_N
from nodes.rules.signing import address_of_key, recover_digest, sign_digest
from tests.support.agglayer_world import KEYS, SIGNERS, transfer, unhex, vectors

EMPTY_HASH = keccak256(b"")
DIGEST = keccak256(b"digest")


def _proof(seed: int) -> MerkleProof:
    return MerkleProof(bytes([seed]) * 32, tuple(bytes([seed, n]) * 16 for n in range(32)))


LEAF = L1InfoLeaf(
    l1_info_tree_index=3,
    rollup_exit_root=b"\x01" * 32,
    mainnet_exit_root=b"\x02" * 32,
    global_exit_root=b"\x03" * 32,
    block_hash=b"\x04" * 32,
    timestamp_s=5,
)
LEAF_HASH = keccak256(keccak256(b"\x02" * 32 + b"\x01" * 32) + b"\x04" * 32 + (5).to_bytes(8, "big"))
MAINNET_IMPORT = ImportedBridgeExit(
    bridge_exit=transfer(1, 10),
    claim=MainnetClaim(leaf_to_mer=_proof(1), ger_to_l1_root=_proof(2), l1_leaf=LEAF),
    global_index=GlobalIndex(True, 0, 7),
)
ROLLUP_IMPORT = ImportedBridgeExit(
    bridge_exit=transfer(1, 11),
    claim=RollupClaim(leaf_to_ler=_proof(1), ler_to_rer=_proof(3), ger_to_l1_root=_proof(2), l1_leaf=LEAF),
    global_index=GlobalIndex(False, 4, 8),
)
CERTIFICATE = Certificate(
    network_id=NetworkId(9),
    height=CertificateHeight(258),
    prev_local_exit_root=b"\x05" * 32,
    new_local_exit_root=b"\x06" * 32,
    bridge_exits=(transfer(2, 1), transfer(0, 2)),
    imported_bridge_exits=(MAINNET_IMPORT, ROLLUP_IMPORT),
    metadata=b"\x07" * 32,
)


@pytest.mark.parametrize("row", vectors("certificate-commitment-v5")["empty_imports"])
def test_commitment_v5_is_that_of_the_vectors(row: dict[str, object]) -> None:
    certificate = Certificate(
        network_id=NetworkId(int(str(row["network_id"]))),
        height=CertificateHeight(int(str(row["height"]))),
        prev_local_exit_root=unhex(str(row["prev_local_exit_root"])),
        new_local_exit_root=unhex(str(row["new_local_exit_root"])),
        bridge_exits=(),
        imported_bridge_exits=(),
        metadata=unhex(str(row["metadata"])),
    )
    assert row["aggchain_params"] is None
    assert certificate_commitment(certificate) == unhex(str(row["expected_v5"]))


def test_claim_hashes_are_packed_hashes() -> None:
    proofs = [keccak256(proof.root + b"".join(proof.siblings)) for proof in (_proof(1), _proof(3), _proof(2))]
    assert proof_hash(_proof(3)) == proofs[1]
    assert claim_hash(MAINNET_IMPORT.claim) == keccak256(proofs[0] + proofs[2] + LEAF_HASH)
    assert claim_hash(ROLLUP_IMPORT.claim) == keccak256(b"".join(proofs) + LEAF_HASH)
    index = ((4 << 32) + 8).to_bytes(32, "little")
    parts = leaf_hash(ROLLUP_IMPORT.bridge_exit) + claim_hash(ROLLUP_IMPORT.claim) + keccak256(index)
    assert imported_exit_hash(ROLLUP_IMPORT) == keccak256(parts)


def test_claim_commitments_are_packed_hashes() -> None:
    first, second = ((1 << 64) + 7).to_bytes(32, "little"), ((4 << 32) + 8).to_bytes(32, "little")
    imports = CERTIFICATE.imported_bridge_exits
    assert claims_commitment_v2(imports) == keccak256(keccak256(first) + keccak256(second))
    leaves = [leaf_hash(imported.bridge_exit) for imported in imports]
    assert claims_commitment_v3(imports) == keccak256(first + leaves[0] + second + leaves[1])
    assert claims_commitment_v2(()) == claims_commitment_v3(()) == EMPTY_HASH


def test_id_and_commitments_are_packed_hashes() -> None:
    c = CERTIFICATE
    exits = keccak256(b"".join(leaf_hash(bridge_exit) for bridge_exit in c.bridge_exits))
    imports = keccak256(b"".join(imported_exit_hash(imported) for imported in c.imported_bridge_exits))
    head = (9).to_bytes(4, "big") + (258).to_bytes(8, "big") + c.prev_local_exit_root + c.new_local_exit_root
    assert certificate_id(c) == keccak256(head + exits + imports + c.metadata)
    height = (258).to_bytes(8, "little")
    v2, v3 = claims_commitment_v2(c.imported_bridge_exits), claims_commitment_v3(c.imported_bridge_exits)
    assert certificate_commitment_v2(c) == keccak256(c.new_local_exit_root + v2)
    assert certificate_commitment_v3(c) == keccak256(c.new_local_exit_root + v3 + height)
    for params in (ZERO_HASH, b"\x08" * 32):
        signed = keccak256(c.new_local_exit_root + v3 + height + params + certificate_id(c))
        assert certificate_commitment(c, params) == signed


def test_the_id_commits_to_everything_but_signatures_and_their_context() -> None:
    known = certificate_id(CERTIFICATE)
    same = replace(CERTIFICATE, custom_chain_data=b"data", l1_info_tree_leaf_count=17)
    assert certificate_id(same) == known
    others = (
        replace(CERTIFICATE, network_id=NetworkId(10)),
        replace(CERTIFICATE, height=CertificateHeight(259)),
        replace(CERTIFICATE, prev_local_exit_root=ZERO_HASH),
        replace(CERTIFICATE, new_local_exit_root=ZERO_HASH),
        replace(CERTIFICATE, bridge_exits=CERTIFICATE.bridge_exits[::-1]),
        replace(CERTIFICATE, imported_bridge_exits=(ROLLUP_IMPORT, MAINNET_IMPORT)),
        replace(CERTIFICATE, metadata=ZERO_HASH),
    )
    assert len({known, *map(certificate_id, others)}) == 1 + len(others)


def test_aggchain_hash_is_that_of_the_contract() -> None:
    assert multisig_hash((), 0).hex() == "290decd9548b62a8d60345a988386fc84ba6bc95484008f6362f93160ef3e563"
    padded = b"".join(bytes(12) + signer for signer in SIGNERS)
    assert multisig_hash(SIGNERS, 2) == keccak256((2).to_bytes(32, "big") + padded)
    expected = keccak256((1).to_bytes(4, "big") + bytes(64) + multisig_hash(SIGNERS, 2))
    assert aggchain_hash(SIGNERS, 2) == expected
    assert aggchain_hash(SIGNERS, 2, vkey=b"\x01" * 32) != expected != aggchain_hash(SIGNERS, 3)


def test_signatures_both_ways() -> None:
    signature = sign_digest(DIGEST, KEYS[0])
    assert len(signature) == 65
    assert signature[64] in (27, 28)
    assert recover_digest(DIGEST, signature) == SIGNERS[0] == address_of_key(KEYS[0])
    assert recover_digest(DIGEST, signature[:64] + bytes([signature[64] - 27])) == SIGNERS[0]
    assert recover_digest(keccak256(b"other"), signature) not in (None, SIGNERS[0])


def test_a_high_s_has_the_same_signer() -> None:
    signature = sign_digest(DIGEST, KEYS[0])
    mirrored = (SECP256K1_N - int.from_bytes(signature[32:64], "big")).to_bytes(32, "big")
    assert recover_digest(DIGEST, signature[:32] + mirrored + bytes([55 - signature[64]])) == SIGNERS[0]


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        bytes(65),
        b"\xff" * 64 + b"\x1b",
        sign_digest(DIGEST, KEYS[0])[:64],
        sign_digest(DIGEST, KEYS[0])[:64] + b"\x02",
        sign_digest(DIGEST, KEYS[0])[:64] + b"\x1d",
        sign_digest(DIGEST, KEYS[0])[:64] + b"\xff",
    ],
)
def test_what_is_no_signature_recovers_nobody(signature: bytes) -> None:
    assert recover_digest(DIGEST, signature) is None


def test_only_digests_are_signed() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        sign_digest(b"abc", KEYS[0])
    assert recover_digest(b"abc", sign_digest(DIGEST, KEYS[0])) is None


SIGNED = tuple(sign_digest(DIGEST, key) for key in KEYS)


@pytest.mark.parametrize(
    ("signatures", "threshold"),
    [(SIGNED, 3), (SIGNED[:2], 2), ((None, SIGNED[1], None), 1), ((None, None, SIGNED[2]), 1), ((), 0)],
)
def test_committees_that_sign(signatures: tuple[bytes | None, ...], threshold: int) -> None:
    check_multisig(signatures=signatures, signers=SIGNERS, threshold=threshold, commitment=DIGEST)


@pytest.mark.parametrize(
    ("signatures", "threshold", "expected", "text"),
    [
        ((*SIGNED, None), 1, TooManySigners, "4 places for signatures, but there are 3 signers"),
        (SIGNED[:1], 2, UnderThreshold, "1 signatures, but 2 are needed"),
        ((SIGNED[0], None, None), 2, UnderThreshold, "1 signatures"),
        # One wrong signature fails all, even above the threshold.
        ((SIGNED[0], bytes(65)), 1, MultisigInvalidSignature, "signature 1 is nobody's"),
        ((SIGNED[0], SIGNED[2]), 1, MultisigInvalidSigner, "signature 1 over 0x"),
        ((SIGNED[0], SIGNED[0]), 2, MultisigInvalidSigner, SIGNERS[0].hex()),
    ],
)
def test_committees_that_do_not(
    signatures: tuple[bytes | None, ...], threshold: int, expected: type[MultisigError], text: str
) -> None:
    with pytest.raises(expected) as caught:
        check_multisig(signatures=signatures, signers=SIGNERS, threshold=threshold, commitment=DIGEST)
    assert text in str(caught.value)


RANGE = SettledRange(
    first_height=Height(17),
    last_height=Height(2**40),
    last_block_hash=b"\x0a" * 32,
    outcome_root=b"\x0b" * 32,
    verdict_root=b"\x0c" * 32,
)


def test_a_range_has_its_112_bytes() -> None:
    data = encode_range(RANGE)
    assert data == bytes(7) + b"\x11" + (2**40).to_bytes(8, "big") + b"\x0a" * 32 + b"\x0b" * 32 + b"\x0c" * 32
    assert len(data) == RANGE_BYTES
    assert decode_range(data) == RANGE
    with pytest.raises(ValueError, match="112 bytes, not 111"):
        decode_range(data[:-1])


def test_attesters_sign_all_statements() -> None:
    statements = [statement_bytes(bytes([n]) * 196, RANGE) for n in range(3)]
    assert statements[1] == b"\x01" * 196 + encode_range(RANGE)
    assert {len(statement) for statement in statements} == {STATEMENT_BYTES}
    manager = Address(b"\x21" * 20)
    digest = settlement_digest(statements, l1_chain_id=900, manager=manager)
    deployment = (900).to_bytes(32, "big") + manager
    assert digest == keccak256(b"lockstep.settlement" + deployment + keccak256(b"".join(statements)))
    assert digest != settlement_digest(statements, l1_chain_id=901, manager=manager)
    assert digest != settlement_digest(statements, l1_chain_id=900, manager=Address(b"\x22" * 20))
    with pytest.raises(ValueError, match="196 bytes, not 195"):
        statement_bytes(bytes(195), RANGE)


@pytest.mark.parametrize("verdict", [None, SignedVerdict(b"verdict", bytes(range(65)))])
@pytest.mark.parametrize("signatures", [(), (bytes(range(1, 66)),), (None, bytes(range(1, 66)), None)])
def test_chain_data_both_ways(verdict: SignedVerdict | None, signatures: tuple[bytes | None, ...]) -> None:
    data = pack_chain_data(RANGE, signatures, verdict)
    assert unpack_chain_data(data) == (RANGE, signatures, verdict)
    places = RANGE_BYTES + 1 + 65 * len(signatures)
    for end in (1, RANGE_BYTES, *range(RANGE_BYTES + 1, places), *((places + 65,) if verdict else ())):
        with pytest.raises(ValueError, match=f"{end} bytes is cut short"):
            unpack_chain_data(data[:end])
    assert unpack_chain_data(b"") is None


def test_the_mainnet_flag_is_in_the_global_index() -> None:
    assert MAINNET_IMPORT.global_index.network_id == MAINNET
    assert ROLLUP_IMPORT.global_index.network_id == 5
