"""Known answers and refusals of the byte-level rules: RLP, Merkle trees, payloads, bundle rows, headers."""

from hashlib import sha256

import pytest
from eth_account import Account

from nodes.model.bundle import Row, RowLeg, Trailer
from nodes.model.errors import InvalidBlock
from nodes.model.execution import DropReason, Transaction
from nodes.model.ids import BundleHash, LegHash
from nodes.rules import merkle, rlp
from nodes.rules import sequenced_block as blocks
from nodes.rules.bundle import bundle_hash, decode_row, encode_row
from nodes.rules.hashes import keccak256
from nodes.rules.payload import SECP256K1_N, TRAILER_BYTES, UnsignedTransaction, decode, sign, trailer_of
from tests.support.crafting import ADDRESSES, CHAIN_ID, KEYS, RECIPIENT, ROLLUPS

LEAVES = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"@ABC", b"PQRSTUVW", b"`abcdefghijklmno"]
RFC6962_ROOT_8 = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_merkle_root_of_the_public_rfc6962_test_tree() -> None:
    assert merkle.root(LEAVES).hex() == RFC6962_ROOT_8


def test_merkle_root_of_nothing() -> None:
    assert merkle.root([]) == sha256(b"").digest()


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 13])
def test_every_audit_path_verifies_and_no_other_place_does(size: int) -> None:
    leaves = [bytes([n]) * (n + 1) for n in range(size)]
    tree = merkle.Tree(leaves)
    for index, leaf in enumerate(leaves):
        for claimed in range(size):
            path = tree.path(index)
            assert merkle.verify(leaf=leaf, index=claimed, size=size, path=path, root=tree.root) is (claimed == index)


@pytest.mark.parametrize(
    "data",
    ["8105", "b800", "b90037", "c2", "f800", "8200", "c18105", "b83700"],
    ids=["single", "empty long", "long zero", "short list", "empty long list", "short", "inner", "long but short"],
)
def test_rlp_refuses_what_is_not_canonical(data: str) -> None:
    with pytest.raises(rlp.RlpError):
        rlp.decode(bytes.fromhex(data))


def test_rlp_yellow_paper_examples() -> None:
    assert rlp.encode([b"cat", b"dog"]).hex() == "c88363617483646f67"
    assert rlp.encode_int(1024).hex() == "820400"
    assert rlp.decode(bytes.fromhex("c7c0c1c0c3c0c1c0")) == [[], [[]], [[], [[]]]]


def _unsigned(tx_type: int, **changes: object) -> UnsignedTransaction:
    fields: dict[str, object] = {
        "tx_type": tx_type,
        "chain_id": 7001,
        "nonce": 3,
        "gas_limit": 50_000,
        "max_fee_per_gas": 7,
        "max_priority_fee_per_gas": 2 if tx_type == 2 else 7,
        "to": RECIPIENT,
        "value": 10**18,
        "calldata": b"\x01\x02",
        "access_list": ((RECIPIENT, (b"\x05" * 32,)),) if tx_type else (),
    }
    return UnsignedTransaction(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("tx_type", [0, 1, 2])
def test_signing_agrees_with_an_independent_signer(tx_type: int) -> None:
    transaction = _unsigned(tx_type)
    fields = {
        "chainId": transaction.chain_id,
        "nonce": transaction.nonce,
        "gas": transaction.gas_limit,
        "to": transaction.to,
        "value": transaction.value,
        "data": transaction.calldata,
    }
    if tx_type == 2:
        fields |= {"maxFeePerGas": 7, "maxPriorityFeePerGas": 2}
    else:
        fields["gasPrice"] = 7
    if tx_type:
        fields |= {
            "type": tx_type,
            "accessList": [{"address": "0x" + RECIPIENT.hex(), "storageKeys": ["0x" + "05" * 32]}],
        }
    signed = Account.from_key(KEYS[0].secret).sign_transaction(fields)
    payload = sign(transaction, KEYS[0])
    assert payload == bytes(signed.raw_transaction)
    decoded = decode(payload, 7001)
    assert isinstance(decoded, Transaction)
    assert decoded.sender == ADDRESSES[0]
    assert decoded.tx_hash == bytes(signed.hash)
    assert (decoded.tx_type, decoded.nonce, decoded.value, decoded.calldata) == (tx_type, 3, 10**18, b"\x01\x02")


@pytest.mark.parametrize("tx_type", [0, 1, 2])
def test_leg_hash_of_the_signer_is_the_reader_s(tx_type: int) -> None:
    transaction = _unsigned(tx_type)
    payload = sign(transaction, KEYS[1], Trailer(BundleHash(b"\x09" * 32), 1, 3))
    decoded = decode(payload, 7001)
    assert isinstance(decoded, Transaction)
    assert decoded.trailer == (b"\x09" * 32, 1, 3)
    assert decoded.leg_hash == transaction.leg_hash(ADDRESSES[1])


def test_leg_hash_is_the_documented_list() -> None:
    transaction = _unsigned(2)
    empty_trailer_free = keccak256(transaction.calldata)
    access = keccak256(rlp.encode([[RECIPIENT, [b"\x05" * 32]]]))
    expected = keccak256(
        rlp.encode(
            [
                b"\x02",
                (7001).to_bytes(2, "big"),
                ADDRESSES[0],
                b"\x03",
                RECIPIENT,
                (10**18).to_bytes(8, "big"),
                (50_000).to_bytes(2, "big"),
                b"\x07",
                b"\x02",
                access,
                empty_trailer_free,
            ]
        )
    )
    assert transaction.leg_hash(ADDRESSES[0]) == expected


def _with_signature(*, parity: int = 0, r: int = 1, s: int = 1) -> bytes:
    body: list[rlp.Item] = [b"\x1b\x59", b"", b"", b"", b"\x61\xa8", RECIPIENT, b"", b"", []]
    tail = [value.to_bytes((value.bit_length() + 7) // 8, "big") for value in (parity, r, s)]
    return b"\x02" + rlp.encode([*body, *tail])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", DropReason.MALFORMED),
        (b"\x02", DropReason.MALFORMED),
        (b"\x03" + rlp.encode([b""] * 14), DropReason.UNSUPPORTED_TYPE),
        (b"\x04" + rlp.encode([b""] * 13), DropReason.UNSUPPORTED_TYPE),
        (b"\x7e" + rlp.encode([b""] * 8), DropReason.UNSUPPORTED_TYPE),
        (b"\x80", DropReason.MALFORMED),
        (sign(_unsigned(2), KEYS[0]) + b"\x00", DropReason.MALFORMED),
        (sign(_unsigned(2, chain_id=7002), KEYS[0]), DropReason.WRONG_CHAIN),
        (sign(_unsigned(0, chain_id=7002), KEYS[0]), DropReason.WRONG_CHAIN),
        (_with_signature(s=SECP256K1_N // 2 + 1), DropReason.BAD_SIGNATURE),
        (_with_signature(r=0), DropReason.BAD_SIGNATURE),
        (_with_signature(r=SECP256K1_N), DropReason.BAD_SIGNATURE),
        (_with_signature(s=0), DropReason.BAD_SIGNATURE),
        (_with_signature(parity=2), DropReason.BAD_SIGNATURE),
        (sign(_unsigned(2, nonce=2**64 - 1), KEYS[0]), DropReason.MALFORMED),
        (sign(_unsigned(2, gas_limit=2**64), KEYS[0]), DropReason.MALFORMED),
        (sign(_unsigned(2, max_fee_per_gas=2**128), KEYS[0]), DropReason.MALFORMED),
        (sign(_unsigned(2, to=b"\x11" * 19), KEYS[0]), DropReason.MALFORMED),
        (sign(_unsigned(2, access_list=((b"\x11" * 19, ()),)), KEYS[0]), DropReason.MALFORMED),
        (sign(_unsigned(2, access_list=((RECIPIENT, (b"\x01",)),)), KEYS[0]), DropReason.MALFORMED),
    ],
)
def test_refused_payloads_have_their_own_reason(payload: bytes, reason: DropReason) -> None:
    assert decode(payload, 7001) is reason


def test_a_legacy_transaction_without_chain_id_is_refused() -> None:
    fields = {"nonce": 0, "gas": 21_000, "gasPrice": 1, "to": RECIPIENT, "value": 0, "data": b""}
    raw = bytes(Account.from_key(KEYS[0].secret).sign_transaction(fields).raw_transaction)
    assert decode(raw, 7001) is DropReason.UNSUPPORTED_TYPE


def test_trailer_needs_all_of_its_bytes() -> None:
    calldata = b"\xaa" * 32 + b"\x00\x02LkS1"
    assert trailer_of(calldata) == (b"\xaa" * 32, 0, 2)
    assert trailer_of(calldata[1:]) is None
    assert len(calldata) == TRAILER_BYTES


def test_bundle_hash_is_the_documented_list() -> None:
    legs = [b"\x01" * 32, b"\x02" * 32]
    assert bundle_hash(version=1, expiry=300, leg_hashes=legs) == keccak256(rlp.encode([b"\x01", b"\x01\x2c", legs]))


def test_row_round_trip_and_total_decoding() -> None:
    row = Row(
        7, 1, 2**40, (RowLeg(ROLLUPS[0], 3, LegHash(b"\x01" * 32), 2), RowLeg(ROLLUPS[1], 0, LegHash(b"\x02" * 32), 1))
    )
    data = encode_row(row)
    assert decode_row(data) == row
    assert decode_row(data[:-1]) is None
    assert decode_row(data + b"\x00") is None
    assert decode_row(b"") is None


def test_header_encoding_is_149_bytes_and_versioned() -> None:
    trees = blocks.BlockTrees({})
    header, header_hash = blocks.seal(trees, chain_id=CHAIN_ID, time_ns=5, parent=blocks.genesis_ref(CHAIN_ID))
    encoded = blocks.encode_header(header)
    assert len(encoded) == 149
    assert blocks.decode_header(encoded) == header
    assert sha256(encoded).digest() == header_hash
    with pytest.raises(InvalidBlock, match="version 2"):
        blocks.decode_header(b"\x02" + encoded[1:])
