"""The genesis file and users' constructors on a real anvil."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from eth_abi.abi import encode

from nodes.evm.anvil import find_anvil
from nodes.evm.constructors import DEFAULT_DEPLOYER, with_contracts
from nodes.evm.contracts import (
    Artifact,
    RevertTable,
    address_of,
    packaged,
    parse_artifact,
    selector,
    transfer_call,
)
from nodes.evm.genesis import (
    NOBODY,
    POOL,
    TOKEN_A,
    TOKEN_B,
    Account,
    genesis_digest,
    genesis_document,
)
from nodes.evm.scratch_engine import ScratchEngine
from nodes.model.errors import EngineFailure, InvalidInput
from nodes.model.ids import Address, hex_of
from nodes.rules.hashes import keccak256
from tests.integration.anvil_chain import (
    ALICE,
    ALLOC,
    AT,
    BOB,
    CAROL,
    CHAIN,
    RESERVE,
    TOKENS,
    Chain,
    awkward_contracts,
    placed,
    started,
)


@pytest.fixture(scope="module")
def anvil() -> Path:
    return find_anvil()


@pytest.fixture(scope="module")
def awkward() -> dict[str, Artifact]:
    return awkward_contracts()


@pytest.fixture
def chain(anvil: Path) -> Iterator[Chain]:
    with started(anvil, ALLOC) as running:
        yield running


# The file


def test_equal_files_give_equal_chains_in_separate_processes(anvil: Path) -> None:
    heads = []
    for _ in range(2):
        with started(anvil, ALLOC) as running:
            running.send(ALICE, TOKEN_A, transfer_call(to=BOB, amount=1))
            blocks = [running.engine.call("eth_getBlockByNumber", hex(number), False) for number in (0, 1)]
            assert [int(block["timestamp"], 16) for block in blocks] == [CHAIN.timestamp_s] * 2
            assert [int(block["gasLimit"], 16) for block in blocks] == [CHAIN.gas_limit] * 2
            assert [address_of(block["miner"]) for block in blocks] == [CHAIN.coinbase] * 2
            heads.append([(block["hash"], block["stateRoot"]) for block in blocks])
    assert heads[0] == heads[1]


def test_block_0_does_not_commit_to_the_state_and_block_1_does(anvil: Path) -> None:
    other = ALLOC | {ALICE: Account(balance_wei=1)}
    roots = []
    for alloc in (ALLOC, other):
        with started(anvil, alloc) as running:
            running.engine.call("evm_mine")
            roots.append([running.engine.call("eth_getBlockByNumber", n, False)["stateRoot"] for n in ("0x0", "0x1")])
    assert roots[0][0] == roots[1][0]
    assert roots[0][1] != roots[1][1]
    assert genesis_digest(genesis_document(CHAIN, ALLOC)) != genesis_digest(genesis_document(CHAIN, other))


def test_genesis_holds_what_the_file_says_and_nothing_more(chain: Chain) -> None:
    accounts = chain.engine.accounts()
    engines_own = {address for address in accounts if address not in ALLOC}
    assert {hex_of(address) for address in engines_own} == {
        "0x0000f90827f1c53a10cb7a02335b175320002935",  # block history, EIP-2935
        "0x4e59b44847b379578588920ca78fbf26c0b4956c",  # the CREATE2 deployer
    }
    assert {address: accounts[address] for address in ALLOC} == ALLOC


def test_genesis_storage_is_what_the_contracts_read(chain: Chain) -> None:
    assert chain.balances(TOKEN_A, ALICE, BOB, CAROL, POOL) == [10_000 * TOKENS, 10_000 * TOKENS, 0, RESERVE]
    assert chain.read(TOKEN_A, "totalSupply()") == [20_000 * TOKENS + RESERVE]
    assert chain.read(TOKEN_B, "totalSupply()") == [20_000 * TOKENS + 2 * RESERVE]
    assert chain.read(TOKEN_A, "allowance(address,address)", ALICE, POOL) == [2**256 - 1]
    assert chain.read(POOL, "getReserves()") == [RESERVE, 2 * RESERVE]
    assert chain.read(POOL, "tokenA()") == [int.from_bytes(TOKEN_A, "big")]
    assert chain.read(POOL, "tokenB()") == [int.from_bytes(TOKEN_B, "big")]
    total = chain.read(POOL, "totalShares()")[0]
    assert chain.read(POOL, "sharesOf(address)", NOBODY) == [total]


def test_the_base_fee_stays_zero(chain: Chain) -> None:
    for _ in range(5):
        assert chain.send(ALICE, TOKEN_A, transfer_call(to=BOB, amount=1)).succeeded
        assert chain.engine.call("eth_getBlockByNumber", "latest", False)["baseFeePerGas"] == "0x0"


def test_a_broken_genesis_file_or_engine_is_named(anvil: Path, tmp_path: Path) -> None:
    document = genesis_document(CHAIN, ALLOC) | {"timestamp": "yesterday"}
    with pytest.raises(EngineFailure, match=r"ended with status .*failed to parse json"):
        with ScratchEngine.started(anvil, document):
            pass
    with pytest.raises(EngineFailure, match="missing cannot be started"):
        with ScratchEngine.started(tmp_path / "missing", genesis_document(CHAIN, ALLOC)):
            pass


def test_the_engine_ends_with_its_block_even_on_a_failure(anvil: Path) -> None:
    def children() -> list[str]:
        return [child.name() for child in psutil.Process().children()]

    def refused() -> None:
        with started(anvil, ALLOC) as running:
            assert "anvil" in children()
            running.engine.call("eth_nonsense")

    with pytest.raises(EngineFailure, match="refused eth_nonsense"):
        refused()
    assert "anvil" not in children()


# Constructors

ARGUMENTS = ["12", "a title", "0x" + "ab" * 32, [1, "2", 3], {"low": 4, "high": "0x5"}]


def test_a_constructor_runs_at_its_final_address(anvil: Path, awkward: dict[str, Artifact]) -> None:
    contract = placed(awkward["Built"], constructor_args=ARGUMENTS, storage={"balanceAtStart": 99})
    funded = ALLOC | {AT: Account(balance_wei=31)}
    accounts = with_contracts(anvil, chain=CHAIN, alloc=funded, contracts=[contract])
    assert {address: accounts[address] for address in ALLOC} == ALLOC
    assert accounts[AT].balance_wei == 31
    # EIP-161: a contract starts at nonce 1; it has created one child.
    assert accounts[AT].nonce == 2
    with started(anvil, accounts) as chain:
        assert chain.read(AT, "self()") == [int.from_bytes(AT, "big")]
        assert chain.read(AT, "chain()") == [CHAIN.chain_id]
        assert chain.read(AT, "time()") == [CHAIN.timestamp_s]
        assert chain.read(AT, "owner()") == [int.from_bytes(DEFAULT_DEPLOYER, "big")]
        assert chain.read(AT, "amount()") == [12]
        assert chain.read(AT, "tag()") == [int("ab" * 32, 16)]
        assert chain.read(AT, "list(uint256)", 1) == [2]
        assert chain.read(AT, "limits()") == [4, 5]
        assert chain.read(AT, "balanceAtStart()") == [99]
        title = chain.read(AT, "title()")
        assert title[:2] == [32, 7]
        assert title[2].to_bytes(32, "big").rstrip(b"\0") == b"a title"
        child = keccak256(b"\xd6\x94" + AT + b"\x01")[12:]
        assert chain.read(AT, "child()") == [int.from_bytes(child, "big")]
        assert chain.read(child, "parent()") == [int.from_bytes(AT, "big")]


def test_the_owner_is_the_stated_deployer_whose_nonce_stays(anvil: Path, awkward: dict[str, Artifact]) -> None:
    contract = placed(awkward["Built"], constructor_args=ARGUMENTS, deployer=BOB)
    accounts = with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=[contract])
    assert accounts[BOB] == ALLOC[BOB]
    with started(anvil, accounts) as chain:
        assert chain.read(AT, "owner()") == [int.from_bytes(BOB, "big")]


def test_what_a_constructor_changes_elsewhere_is_kept(anvil: Path, awkward: dict[str, Artifact]) -> None:
    arguments = [hex_of(TOKEN_A), hex_of(BOB)]
    accounts = with_contracts(
        anvil, chain=CHAIN, alloc=ALLOC, contracts=[placed(awkward["Approver"], constructor_args=arguments)]
    )
    with started(anvil, accounts) as chain:
        assert chain.read(TOKEN_A, "allowance(address,address)", AT, BOB) == [77]
        assert chain.read(TOKEN_A, "totalSupply()") == [20_000 * TOKENS + RESERVE]


def test_constructing_twice_gives_equal_genesis_files(anvil: Path, awkward: dict[str, Artifact]) -> None:
    contracts = [placed(awkward["Built"], constructor_args=ARGUMENTS)]
    accounts = [with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=contracts) for _ in range(2)]
    assert genesis_digest(genesis_document(CHAIN, accounts[0])) == genesis_digest(genesis_document(CHAIN, accounts[1]))


def test_without_contracts_no_engine_is_started(tmp_path: Path) -> None:
    assert with_contracts(tmp_path / "missing", chain=CHAIN, alloc=ALLOC, contracts=[]) == ALLOC


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("Built", ["12"], r"takes 5 arguments \(uint256, string, bytes32, .*\), constructor_args has 1"),
        ("Built", ["9", *ARGUMENTS[1:]], r"reverted: TooLow\(given=9, minimum=10\); check constructor_args"),
        ("Built", ["twelve", *ARGUMENTS[1:]], r"argument amount_: 'twelve' is not a value of type uint256"),
        ("Built", ["-1", *ARGUMENTS[1:]], r"constructor arguments .* do not fit"),
        ("Built", [*ARGUMENTS[:3], 7, ARGUMENTS[4]], r"argument list_: 7 is not a list"),
        ("Built", [*ARGUMENTS[:4], [1]], r"argument limits_: \[1\] is not a list of 2 values"),
        ("Approver", ["0x12", hex_of(BOB)], "argument token: '0x12' is not a value of type address"),
        ("NeedsLibrary", [], r"lacks the addresses of .*Awkward.sol:Doubling; .*--libraries"),
        ("Empty", [], "left 0 bytes of code"),
    ],
)
def test_a_wrong_contract_is_named_with_its_remedy(
    anvil: Path, awkward: dict[str, Artifact], name: str, arguments: list[object], message: str
) -> None:
    contract = placed(awkward[name], constructor_args=arguments)
    with pytest.raises(InvalidInput, match=f"artifact {name}.json.*{message}"):
        with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=[contract])


def test_an_interface_is_refused(anvil: Path) -> None:
    artifact = parse_artifact('{"abi": [], "bytecode": {"object": "0x"}}', source="IFoo.json")
    with pytest.raises(InvalidInput, match=r"IFoo\.json: bytecode is empty, so it is an interface"):
        with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=[placed(artifact)])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (POOL, "own Pool stands there"),
        (Address(bytes(19) + b"\x09"), "reserved"),
        (Address(bytes.fromhex("42000000000000000000000000000000000000a1")), "reserved"),
        (Address(bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")), "reserved"),
    ],
)
def test_a_taken_address_is_refused(anvil: Path, address: Address, message: str) -> None:
    contract = replace(placed(packaged("Counter")), address=address)
    with pytest.raises(InvalidInput, match=message):
        with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=[contract])


def test_two_contracts_cannot_share_an_address(anvil: Path) -> None:
    contracts = [placed(packaged("Counter")), placed(packaged("Counter"))]
    with pytest.raises(InvalidInput, match="another genesis contract stands there"):
        with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=contracts)


def test_reverts_of_a_users_contract_are_read_by_its_abi(awkward: dict[str, Artifact]) -> None:
    data = selector("TooLow(uint256,uint256)") + encode(["uint256", "uint256"], [1, 2])
    assert RevertTable.of([awkward["Built"].abi]).text(data) == "TooLow(given=1, minimum=2)"
