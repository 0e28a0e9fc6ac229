"""AggLayer's conversion rules: what is missing, what has the wrong length, what cannot be said."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from nodes.model.errors import CertificateRefused, InvalidInput, RefusalKind
from nodes.wire.certificate_messages import (
    certificate_from_bytes,
    certificate_from_proto,
    certificate_to_proto,
    global_index_from_bytes,
)
from nodes.wire.certificate_states import global_indexes_from_column
from protos.agglayer.interop.types.v1 import interop_pb2 as interop
from protos.agglayer.node.types.v1 import node_types_pb2 as node_types
from tests.golden.samples_agglayer import CERTIFICATE, SINGLE, filled

Message = node_types.Certificate
MISSING, INVALID = RefusalKind.MISSING_FIELD, RefusalKind.INVALID_DATA


def _with_proof(message: Message) -> None:
    message.aggchain_data.generic.sp1_stark.version = "v6"


def _second_entry(message: Message) -> None:
    message.aggchain_data.multisig.ecdsa.entries.add(index=0, signature=interop.FixedBytes65(value=filled(1, 65)))


def _far_entry(message: Message) -> None:
    message.aggchain_data.multisig.ecdsa.entries.add(index=1_024, signature=interop.FixedBytes65(value=filled(1, 65)))


def _global_index(value: int) -> Callable[[Message], None]:
    def set_it(message: Message) -> None:
        message.imported_bridge_exits[0].global_index.value = value.to_bytes(32, "big")

    return set_it


def _short_root(message: Message) -> None:
    message.prev_local_exit_root.value = filled(1, 31)


def _leaf_type(message: Message) -> None:
    message.bridge_exits[0].leaf_type = interop.LEAF_TYPE_UNSPECIFIED


def _metadata(message: Message) -> None:
    message.metadata.value = bytes(32)


CASES: dict[str, tuple[Callable[[Message], object], RefusalKind, str]] = {
    "no root": (lambda m: m.ClearField("new_local_exit_root"), MISSING, "certificate.new_local_exit_root is missing"),
    "short root": (_short_root, INVALID, "certificate.prev_local_exit_root has 31 bytes; it must have 32"),
    "no signature": (lambda m: m.ClearField("aggchain_data"), MISSING, "certificate.aggchain_data is missing"),
    "empty signature": (lambda m: m.aggchain_data.Clear(), MISSING, "aggchain_data.data is missing"),
    "empty committee": (
        lambda m: m.aggchain_data.multisig.ecdsa.ClearField("entries"),
        INVALID,
        "aggchain_data.multisig.ecdsa has no signature",
    ),
    "committee of no kind": (
        lambda m: m.aggchain_data.multisig.Clear(),
        MISSING,
        "aggchain_data.multisig.ecdsa is missing",
    ),
    "two of one signer": (_second_entry, INVALID, "has two signatures of signer 0"),
    "too many signers": (_far_entry, INVALID, "has a signature of signer 1024; 1023 is the highest"),
    "aggchain proof": (_with_proof, RefusalKind.UNSUPPORTED_PROOF_VERSION, "holds an aggchain proof (generic)"),
    "metadata of a committee": (_metadata, INVALID, "metadata is set beside a committee's signatures"),
    "leaf type": (_leaf_type, INVALID, "bridge_exits[0].leaf_type is 0; it must be 1 (transfer) or 2 (message)"),
    "no token": (
        lambda m: m.bridge_exits[1].ClearField("token_info"),
        MISSING,
        "bridge_exits[1].token_info is missing",
    ),
    "no claim": (
        lambda m: m.imported_bridge_exits[1].ClearField("rollup"),
        MISSING,
        "imported_bridge_exits[1].claim is missing",
    ),
    "31 siblings": (
        lambda m: m.imported_bridge_exits[0].mainnet.proof_leaf_mer.siblings.pop(),
        INVALID,
        "imported_bridge_exits[0].proof_leaf_mer must have 32 siblings of 32 bytes",
    ),
    "no L1 leaf": (
        lambda m: m.imported_bridge_exits[0].mainnet.ClearField("l1_leaf"),
        MISSING,
        "imported_bridge_exits[0].l1_leaf is missing",
    ),
    "bits above the flag": (_global_index(1 << 65), INVALID, "is no global index"),
    "rollup index beside the flag": (_global_index((1 << 64) + (1 << 32)), INVALID, "is no global index"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named(case: str) -> None:
    spoil, kind, text = CASES[case]
    message = certificate_to_proto(CERTIFICATE)
    spoil(message)
    with pytest.raises(CertificateRefused) as refused:
        certificate_from_proto(message)
    assert refused.value.kind == kind
    assert text in str(refused.value)


def test_numbers_on_the_wire_are_agglayers() -> None:
    message = certificate_to_proto(CERTIFICATE)
    assert [entry.leaf_type for entry in message.bridge_exits] == [1, 2]
    assert not message.HasField("metadata")
    assert not message.bridge_exits[0].HasField("metadata")
    assert [entry.index for entry in message.aggchain_data.multisig.ecdsa.entries] == [0, 2]
    assert message.imported_bridge_exits[0].global_index.value == ((1 << 64) + 9).to_bytes(32, "big")
    single = certificate_to_proto(SINGLE)
    assert single.metadata.value == filled(0x63)
    assert not single.HasField("l1_info_tree_leaf_count")


def test_a_single_signature_without_metadata_has_zero() -> None:
    message = certificate_to_proto(SINGLE)
    message.ClearField("metadata")
    assert certificate_from_proto(message) == replace(SINGLE, metadata=bytes(32))


def test_a_committee_cannot_send_metadata() -> None:
    with pytest.raises(CertificateRefused, match="only a single signature allows it"):
        certificate_to_proto(replace(CERTIFICATE, metadata=filled(1)))


def test_bytes_that_are_no_certificate() -> None:
    with pytest.raises(InvalidInput, match=r"are not a agglayer\.node\.types\.v1\.Certificate message"):
        certificate_from_bytes(b"\xff\xff")


@pytest.mark.parametrize("data", [b"", bytes(31), b"\x01" + bytes(31)])
def test_a_global_index_has_one_form(data: bytes) -> None:
    with pytest.raises(CertificateRefused):
        global_index_from_bytes(data)
    if len(data) != 0:
        with pytest.raises(InvalidInput):
            global_indexes_from_column(data)
