"""The finality proof of a height read from Solana."""

from coincurve import PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from nodes.model.ids import rollup_id_of
from nodes.model.solana import InboxState
from nodes.rules.hashes import sha256
from nodes.rules.inbox import EMPTY_STATE
from nodes.rules.payload import address_of
from nodes.rules.solana_proof import PROOF_BYTES, decode_proof, inbox_root, is_proven_by, sign_proof

KEY = PrivateKey(sha256(b"key"))
SIGNER = address_of(KEY)
HEADER, BLOCKHASH, ROOT = sha256(b"header"), sha256(b"blockhash"), sha256(b"root")
PROOF = sign_proof(HEADER, slot=435_888_000, blockhash=BLOCKHASH, root=ROOT, key=KEY)


def test_a_proof_says_which_block_and_holds_for_its_header_only() -> None:
    assert len(PROOF) == PROOF_BYTES == 138
    assert decode_proof(PROOF) == (435_888_000, BLOCKHASH, ROOT, PROOF[73:])
    assert is_proven_by(SIGNER, header_hash=HEADER, proof=PROOF)
    assert not is_proven_by(SIGNER, header_hash=sha256(b"other"), proof=PROOF)
    assert not is_proven_by(address_of(PrivateKey(sha256(b"other"))), header_hash=HEADER, proof=PROOF)
    assert sign_proof(HEADER, slot=435_888_000, blockhash=BLOCKHASH, root=ROOT, key=KEY) == PROOF, "deterministic"


def test_no_byte_of_a_proof_can_be_changed() -> None:
    for at in range(PROOF_BYTES):
        forged = PROOF[:at] + bytes((PROOF[at] ^ 1,)) + PROOF[at + 1 :]
        assert not is_proven_by(SIGNER, header_hash=HEADER, proof=forged), f"byte {at}"


@given(header_hash=st.binary(max_size=40), proof=st.binary(max_size=150))
def test_nonsense_is_no_proof(header_hash: bytes, proof: bytes) -> None:
    assert not is_proven_by(SIGNER, header_hash=header_hash, proof=proof)
    assert not is_proven_by(SIGNER, header_hash=header_hash, proof=b"\x01" + proof[:137].ljust(137, b"\xff"))


def test_the_inbox_root_is_over_all_rollups_in_order() -> None:
    low, high = rollup_id_of(1), rollup_id_of(2)
    state = InboxState(sequence=5, data_bytes=9, rolling_hash=sha256(b"rolling"))
    text = low + (0).to_bytes(8, "little") + bytes(32) + high + (5).to_bytes(8, "little") + state.rolling_hash
    assert inbox_root({high: state, low: EMPTY_STATE}) == inbox_root({low: EMPTY_STATE, high: state}) == sha256(text)
