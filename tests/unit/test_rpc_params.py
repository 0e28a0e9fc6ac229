"""Parameters are read strictly."""

from typing import Any

import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.rollup.rpc.params import BlockReference, Params, block_reference, call_object, quantity, storage_slot

ADDRESS = "0x" + "Ab" * 20
HASH = "0x" + "cd" * 32


@pytest.mark.parametrize(
    ("value", "reference"),
    [
        *((tag, BlockReference(tag=tag)) for tag in ("latest", "safe", "finalized", "pending", "earliest")),
        ("0x0", BlockReference(number=0)),
        ("0x10", BlockReference(number=16)),
        (HASH, BlockReference(hash=b"\xcd" * 32)),
        ({"blockNumber": "0x5"}, BlockReference(number=5)),
        ({"blockNumber": "safe"}, BlockReference(tag="safe")),
        ({"blockHash": HASH}, BlockReference(hash=b"\xcd" * 32)),
        ({"blockHash": HASH, "requireCanonical": True}, BlockReference(hash=b"\xcd" * 32)),
    ],
)
def test_blocks_are_named_by_tag_number_or_object(value: Any, reference: BlockReference) -> None:
    assert block_reference(value, "block") == reference


@pytest.mark.parametrize(
    "value",
    [5, "5", "", "0x", "newest", None, [], {}, {"blockNumber": "0x1", "blockHash": HASH}, {"blockHash": "0x12"},
     {"number": "0x1"}, "0x" + "1" * 65, True],
)  # fmt: skip
def test_other_block_names_are_refused(value: Any) -> None:
    with pytest.raises(RpcFault) as refused:
        block_reference(value, "block")
    assert refused.value.code == -32602


@pytest.mark.parametrize("value", ["5", 5, "0x", "0x05", "0x1" + "0" * 64, None, "-0x1", "0xg", True])
def test_quantities_are_strict(value: Any) -> None:
    with pytest.raises(RpcFault, match="value"):
        quantity(value, "value")
    assert quantity("0x0", "value") == 0
    assert quantity("0x" + "f" * 64, "value") == 2**256 - 1


def test_parameters_are_counted() -> None:
    params = Params(["0x1", None])
    assert params.quantity("first") == 1
    assert params.block("block") == BlockReference(tag="latest")
    params.end()
    with pytest.raises(RpcFault, match=r"missing value for required argument 2 \(third\)"):
        params.take("third")
    too_many = Params([1, 2])
    too_many.take("first")
    with pytest.raises(RpcFault, match="too many arguments, want at most 1"):
        too_many.end()


def test_a_storage_slot_is_written_in_full() -> None:
    assert storage_slot("0x0", "slot") == "0x" + "00" * 32
    assert storage_slot(HASH, "slot") == HASH
    with pytest.raises(RpcFault):
        storage_slot("0x1" + "00" * 32, "slot")


@pytest.mark.parametrize(("gas", "sent"), [(None, 1000), ("0x10", 16), ("0x3e8", 1000), ("0xffffffffff", 1000)])
def test_the_gas_of_a_call_is_bounded(gas: str | None, sent: int) -> None:
    assert call_object({"to": ADDRESS, "gas": gas}, gas_cap=1000) == {"to": ADDRESS.lower(), "gas": hex(sent)}


def test_data_and_input_are_one() -> None:
    call = call_object({"data": "0x12", "input": "0x12"}, gas_cap=1)
    assert call == {"data": "0x12", "gas": "0x1"}
    with pytest.raises(RpcFault, match="both data and input"):
        call_object({"data": "0x12", "input": "0x13"}, gas_cap=1)


@pytest.mark.parametrize(
    "call",
    [
        5,
        {"to": "0x12"},
        {"value": 5},
        {"gas": "x"},
        {"tO": ADDRESS},
        {"blobVersionedHashes": []},
        {"gasPrice": "0x1", "maxFeePerGas": "0x1"},
    ],
)
def test_malformed_calls_are_refused(call: Any) -> None:
    with pytest.raises(RpcFault) as refused:
        call_object(call, gas_cap=1)
    assert refused.value.code == -32602
