"""Artifacts, calldata and revert texts, without an engine."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from hypothesis import given
from hypothesis import strategies as st

from nodes.evm.contracts import (
    MAX_REVERT_TEXT,
    PACKAGED_DIRECTORY,
    RevertTable,
    address_of,
    approve_call,
    encode_call,
    increment_call,
    load_artifact,
    packaged,
    packaged_reverts,
    parse_artifact,
    pool_amount_out,
    selector,
    swap_call,
    transfer_call,
)
from nodes.model.errors import InvalidInput, UnknownName
from tests.support.patience import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]
ALICE = bytes.fromhex("00000000000000000000000000000000000000a1")
NAMES = (
    *("AgglayerBridge", "AgglayerManager", "ArbitrageRouter", "AttestedVerifier", "Bank", "BondVault", "BridgedToken"),
    *("Counter", "Forwarder", "GlobalExitRootL1", "GlobalExitRootL2", "Pool", "Token"),
)
PARTS = ("ExitTree", "Signatures")
"""Sources of what contracts have in common, without a contract of their own."""


def test_there_is_an_artifact_for_every_source_and_no_other() -> None:
    sources = sorted(path.stem for path in (ROOT / "contracts" / "src").glob("*.sol"))
    assert sources == sorted((*NAMES, *PARTS))
    assert sorted(path.stem for path in PACKAGED_DIRECTORY.glob("*.json")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_artifact_was_compiled_from_the_committed_source(name: str) -> None:
    document = json.loads((PACKAGED_DIRECTORY / f"{name}.json").read_text())
    source = (ROOT / document["sourceName"]).read_bytes()
    assert document["sourceSha256"] == hashlib.sha256(source).hexdigest(), "run `python contracts/build.py`"


@pytest.mark.parametrize("name", NAMES)
def test_selectors_are_those_of_the_compiler(name: str) -> None:
    document = json.loads((PACKAGED_DIRECTORY / f"{name}.json").read_text())
    assert document["methodIdentifiers"]
    for signature, expected in document["methodIdentifiers"].items():
        assert selector(signature).hex() == expected


@pytest.mark.parametrize("name", NAMES)
def test_packaged_contracts_need_no_constructor_and_no_library(name: str) -> None:
    artifact = packaged(name)
    assert artifact.constructor_types() == ()
    assert artifact.unlinked == ()
    assert artifact.creation_code.endswith(artifact.runtime_code)
    assert artifact.storage_layout is not None


def test_an_unknown_packaged_contract_is_named_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'Token'"):
        packaged("Tokn")


def test_calls_of_the_workloads_are_what_the_reference_encoder_gives() -> None:
    assert transfer_call(to=ALICE, amount=7) == bytes.fromhex("a9059cbb") + encode(["address", "uint256"], [ALICE, 7])
    assert approve_call(spender=ALICE, amount=7) == bytes.fromhex("095ea7b3") + encode(
        ["address", "uint256"], [ALICE, 7]
    )
    assert swap_call(token_in=ALICE, amount_in=5, min_amount_out=4) == bytes.fromhex("9f1d0f59") + encode(
        ["address", "uint256", "uint256"], [ALICE, 5, 4]
    )
    assert increment_call(key=9) == bytes.fromhex("7cf5dab0") + encode(["uint256"], [9])
    assert increment_call(key=9, expected=0) == bytes.fromhex("24fbd1c3") + encode(["uint256", "uint256"], [9, 0])


@given(
    account=st.binary(min_size=20, max_size=20),
    flag=st.booleans(),
    wide=st.integers(0, 2**256 - 1),
    narrow=st.integers(-(2**15), 2**15 - 1),
    word=st.binary(min_size=4, max_size=4),
)
def test_static_encoding_agrees_with_the_reference(
    account: bytes, flag: bool, wide: int, narrow: int, word: bytes
) -> None:
    types = ["address", "bool", "uint256", "int16", "bytes4"]
    data = encode_call(f"f({','.join(types)})", account, flag, wide, narrow, word)
    assert data[4:] == encode(types, [account, flag, wide, narrow, word])
    decoded = decode(types, data[4:])
    assert (address_of(decoded[0]), *decoded[1:]) == (account, flag, wide, narrow, word)


@pytest.mark.parametrize(
    ("signature", "arguments", "message"),
    [
        ("f(uint256)", (), "takes 1 arguments, 0 were given"),
        ("f(uint256)", (2**256,), "out of range for uint256"),
        ("f(uint256)", (-1,), "out of range for uint256"),
        ("f(uint8)", (256,), "out of range for uint8"),
        ("f(int8)", (128,), "out of range for int8"),
        ("f(uint256)", (True,), "not an integer for uint256"),
        ("f(bool)", (1,), "not a bool"),
        ("f(address)", (bytes(19),), "not an address"),
        ("f(address)", ("0x12",), "not an address"),
        ("f(bytes32)", (bytes(31),), "not 32 bytes"),
        ("f(string)", ("x",), "'string' is not static"),
        ("f(uint7)", (1,), "'uint7' is not static"),
        ("f(uint)", (1,), "'uint' is not static"),
        ("f(bytes33)", (bytes(33),), "'bytes33' is not static"),
        ("f(uint256[])", ([],), "not a canonical signature"),
        ("f", (), "not a canonical signature"),
    ],
)
def test_a_wrong_call_is_refused(signature: str, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("[", r"\[").replace("(", r"\(")):
        encode_call(signature, *arguments)


def test_addresses_are_taken_as_bytes_and_as_hex() -> None:
    assert address_of("0x00000000000000000000000000000000000000A1") == address_of(ALICE) == ALICE


@given(
    reserve_in=st.integers(1, 2**112 - 1), reserve_out=st.integers(1, 2**112 - 1), amount_in=st.integers(1, 2**112 - 1)
)
def test_a_swap_never_lowers_the_product_nor_empties_the_pool(
    reserve_in: int, reserve_out: int, amount_in: int
) -> None:
    amount_out = pool_amount_out(amount_in=amount_in, reserve_in=reserve_in, reserve_out=reserve_out)
    assert 0 <= amount_out < reserve_out
    assert (reserve_in + amount_in) * (reserve_out - amount_out) >= reserve_in * reserve_out


def test_reverts_of_our_contracts_read_as_text() -> None:
    table = packaged_reverts()
    insufficient = selector("InsufficientOutput(uint256,uint256)") + encode(["uint256", "uint256"], [41, 42])
    assert table.text(insufficient) == "InsufficientOutput(amountOut=41, minAmountOut=42)"
    unexpected = selector("Unexpected(uint256,uint256)") + encode(["uint256", "uint256"], [3, 2])
    assert table.text(unexpected) == "Unexpected(actual=3, expected=2)"
    balance = selector("ERC20InsufficientBalance(address,uint256,uint256)") + encode(
        ["address", "uint256", "uint256"], [ALICE, 1, 2]
    )
    assert table.text(balance) == f"ERC20InsufficientBalance(sender=0x{ALICE.hex()}, balance=1, needed=2)"
    assert table.text(selector("AlreadyInitialized()")) == "AlreadyInitialized()"


def test_reverts_of_solidity_itself_read_as_text() -> None:
    table = RevertTable.of([])
    assert table.text(b"") == "reverted without data"
    assert table.text(selector("Error(string)") + encode(["string"], ["no"])) == 'Error(message="no")'
    assert table.text(selector("Panic(uint256)") + encode(["uint256"], [0x11])) == "Panic(0x11: arithmetic overflow)"
    assert table.text(selector("Panic(uint256)") + encode(["uint256"], [0x99])) == "Panic(0x99: unknown code)"
    assert table.text(b"\x01\x02\x03\x04\x05") == "unknown error 0x01020304 (5 bytes)"
    assert table.text(b"\x01") == "unknown error 0x01 (1 bytes)"


def test_reverts_of_users_contracts_read_as_text() -> None:
    error = {"type": "error", "name": "Bad", "inputs": [
        {"name": "who", "type": "tuple", "components": [{"name": "a", "type": "uint8"}]},
    ]}  # fmt: skip
    plain = {
        "type": "error",
        "name": "Plain",
        "inputs": [{"name": "", "type": "bool"}, {"name": "b", "type": "bytes2"}],
    }
    table = RevertTable.of([[error, plain]])
    assert table.text(selector("Bad((uint8))") + bytes(32)) == f"Bad with arguments 0x{'00' * 32}"
    assert table.text(selector("Plain(bool,bytes2)") + encode(["bool", "bytes2"], [True, b"ab"])) == (
        "Plain(0=true, b=0x6162)"
    )


@given(
    head=st.sampled_from([b"", *packaged_reverts().errors]),
    tail=st.binary(max_size=200)
    | st.builds(lambda n: bytes(31) + b"\x20" + n.to_bytes(32), st.integers(0, 2**256 - 1)),
)
def test_any_revert_data_has_one_bounded_line(head: bytes, tail: bytes) -> None:
    text = packaged_reverts().text(head + tail)
    assert 0 < len(text) <= MAX_REVERT_TEXT
    assert "\n" not in text


def test_a_huge_revert_is_cut() -> None:
    data = selector("Error(string)") + encode(["string"], ["x" * 100_000])
    assert len(RevertTable.of([]).text(data)) == MAX_REVERT_TEXT


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "out/Foo.json is not JSON"),
        ("[]", "is not a JSON object"),
        ('{"bytecode": "0x"}', "no field 'abi'.*forge build"),
        ('{"abi": []}', "no field 'bytecode'.*forge build"),
        ('{"abi": 3, "bytecode": "0x"}', "'abi' is not a list"),
        ('{"abi": [], "bytecode": {"x": 1}}', "'bytecode' has no hex text"),
        ('{"abi": [], "bytecode": "0xzz"}', "'bytecode' is not hex"),
    ],
)
def test_a_broken_artifact_names_file_field_and_remedy(document: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_artifact(document, source="out/Foo.json")


def test_a_missing_artifact_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"nowhere/Foo\.json cannot be read.*forge build"):
        load_artifact(Path("nowhere/Foo.json"))


def test_foundry_and_hardhat_forms_are_read() -> None:
    inputs = [{"name": "p", "type": "tuple[2]", "components": [{"name": "x", "type": "uint256"},
                                                               {"name": "y", "type": "address"}]}]  # fmt: skip
    abi = [{"type": "constructor", "inputs": inputs}]
    foundry = {
        "abi": abi,
        "bytecode": {"object": "0x6001", "linkReferences": {}},
        "deployedBytecode": {"object": "0x02"},
    }
    artifact = parse_artifact(json.dumps(foundry), source="x")
    assert (artifact.creation_code, artifact.runtime_code) == (b"\x60\x01", b"\x02")
    assert artifact.constructor_types() == ("(uint256,address)[2]",)
    hardhat = {"abi": [], "bytecode": "0x6001", "deployedBytecode": "0x02"}
    assert parse_artifact(json.dumps(hardhat), source="x").creation_code == b"\x60\x01"


@pytest.mark.parametrize("references", [{"src/Lib.sol": {"Lib": [{"start": 1, "length": 20}]}}, {}])
def test_missing_libraries_are_found_by_reference_or_by_placeholder(references: object) -> None:
    code = "0x73__$" + "ab" * 17 + "$__63"
    text = json.dumps({"abi": [], "bytecode": {"object": code, "linkReferences": references}})
    artifact = parse_artifact(text, source="x")
    assert artifact.creation_code == b""
    assert artifact.unlinked == (("src/Lib.sol:Lib",) if references else ("__$" + "ab" * 17 + "$__",))


def test_the_hot_path_loads_no_heavy_library() -> None:
    program = (
        "import sys; import nodes.evm.genesis, nodes.evm.constructors, nodes.evm.contracts as c; c.packaged_reverts();"
        "c.increment_call(key=1); print(sorted({'web3', 'eth_abi', 'eth_utils', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )
    assert done.stdout.strip() == "[]"
