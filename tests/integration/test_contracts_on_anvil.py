"""The contracts on a real anvil."""

import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from eth_abi.abi import decode

from contracts.build import compile_sources, differences
from nodes.evm.anvil import find_anvil
from nodes.evm.constructors import GenesisContract, with_contracts
from nodes.evm.contracts import (
    Artifact,
    address_of,
    encode_call,
    increment_call,
    packaged,
    pool_amount_out,
    swap_call,
    transfer_call,
)
from nodes.evm.genesis import (
    COUNTER,
    NOBODY,
    POOL,
    TOKEN_A,
    TOKEN_B,
    PoolGenesis,
    TokenGenesis,
    genesis_alloc,
)
from nodes.model.ids import Address, hex_of
from tests.integration.anvil_chain import (
    ALICE,
    ALLOC,
    AT,
    BOB,
    CAROL,
    CHAIN,
    RESERVE,
    ROOT,
    TOKENS,
    TRADERS,
    TRAILER,
    Chain,
    awkward_contracts,
    placed,
    started,
    topic,
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


def test_the_committed_artifacts_are_what_the_sources_compile_to() -> None:
    assert differences(compile_sources(ROOT / "node_modules")) == []


# Token


def test_tokens_move(chain: Chain) -> None:
    result = chain.send(ALICE, TOKEN_A, transfer_call(to=CAROL, amount=3))
    assert result.number == 1
    (log,) = result.logs
    assert log["topics"][0] == topic("Transfer(address,address,uint256)")
    assert [address_of("0x" + word[-40:]) for word in log["topics"][1:]] == [ALICE, CAROL]
    assert int(log["data"], 16) == 3
    assert chain.balances(TOKEN_A, ALICE, CAROL) == [10_000 * TOKENS - 3, 3]
    assert chain.send(ALICE, TOKEN_A, transfer_call(to=ALICE, amount=10)).succeeded
    assert chain.balances(TOKEN_A, ALICE) == [10_000 * TOKENS - 3]


def test_an_allowance_is_used_up_unless_unlimited(chain: Chain) -> None:
    take = partial(encode_call, "transferFrom(address,address,uint256)", ALICE, CAROL)
    assert "ERC20InsufficientAllowance(spender=0x" in chain.send(BOB, TOKEN_A, take(1)).reason
    approved = chain.send(ALICE, TOKEN_A, encode_call("approve(address,uint256)", BOB, 5))
    assert [log["topics"][0] for log in approved.logs] == [topic("Approval(address,address,uint256)")]
    assert chain.send(BOB, TOKEN_A, take(3)).succeeded
    assert chain.read(TOKEN_A, "allowance(address,address)", ALICE, BOB) == [2]
    assert chain.send(BOB, TOKEN_A, take(3)).reason.endswith("allowance=2, needed=3)")
    chain.send(ALICE, TOKEN_A, encode_call("approve(address,uint256)", BOB, 2**256 - 1))
    assert chain.send(BOB, TOKEN_A, take(3)).succeeded
    assert chain.read(TOKEN_A, "allowance(address,address)", ALICE, BOB) == [2**256 - 1]


def test_a_token_refuses_what_it_must(chain: Chain) -> None:
    assert chain.send(CAROL, TOKEN_A, transfer_call(to=BOB, amount=1)).reason == (
        f"ERC20InsufficientBalance(sender={hex_of(CAROL)}, balance=0, needed=1)"
    )
    assert "ERC20InvalidReceiver" in chain.send(ALICE, TOKEN_A, transfer_call(to=NOBODY, amount=1)).reason
    assert (
        "ERC20InvalidSpender" in chain.send(ALICE, TOKEN_A, encode_call("approve(address,uint256)", NOBODY, 1)).reason
    )


def test_the_faucet_mints_up_to_its_limit(chain: Chain) -> None:
    supply = chain.read(TOKEN_A, "totalSupply()")[0]
    limit = chain.read(TOKEN_A, "FAUCET_MAX()")[0]
    assert chain.send(CAROL, TOKEN_A, encode_call("faucet(uint256)", limit)).succeeded
    assert chain.balances(TOKEN_A, CAROL) == [limit]
    assert chain.read(TOKEN_A, "totalSupply()") == [supply + limit]
    assert chain.send(CAROL, TOKEN_A, encode_call("faucet(uint256)", limit + 1)).reason.startswith("FaucetLimit(")


def test_the_supply_cannot_overflow(anvil: Path) -> None:
    full = TokenGenesis(balances={ALICE: 2**256 - 1})
    with started(anvil, genesis_alloc(funded_wei={BOB: 1}, token_a=full)) as chain:
        assert chain.send(BOB, TOKEN_A, encode_call("faucet(uint256)", 1)).reason == "Panic(0x11: arithmetic overflow)"


# Trailer


def test_a_trailer_after_the_arguments_changes_nothing(chain: Chain) -> None:
    snapshot = chain.engine.call("evm_snapshot")
    for sender, to, data in [
        (ALICE, TOKEN_A, transfer_call(to=BOB, amount=5)),
        (ALICE, POOL, swap_call(token_in=TOKEN_A, amount_in=TOKENS, min_amount_out=1)),
        (ALICE, COUNTER, increment_call(key=1)),
        (ALICE, COUNTER, increment_call(key=1, expected=0)),
        (ALICE, COUNTER, increment_call(key=1, expected=9)),
    ]:
        plain = chain.send(sender, to, data)
        chain.engine.call("evm_revert", snapshot)
        snapshot = chain.engine.call("evm_snapshot")
        trailed = chain.send(sender, to, data + TRAILER)
        assert (trailed.succeeded, trailed.output) == (plain.succeeded, plain.output)
        assert [(log["topics"], log["data"]) for log in trailed.logs] == [
            (log["topics"], log["data"]) for log in plain.logs
        ]
        chain.engine.call("evm_revert", snapshot)
        snapshot = chain.engine.call("evm_snapshot")


# Pool


def test_of_two_swaps_at_one_price_the_second_reverts(chain: Chain) -> None:
    amount = 100 * TOKENS
    (expected,) = chain.read(POOL, "quote(address,uint256)", TOKEN_A, amount)
    assert expected == pool_amount_out(amount_in=amount, reserve_in=RESERVE, reserve_out=2 * RESERVE)
    call = swap_call(token_in=TOKEN_A, amount_in=amount, min_amount_out=expected)
    before = chain.balances(TOKEN_B, ALICE, BOB)
    first, second = chain.send_together((ALICE, POOL, call), (BOB, POOL, call))
    assert first.number == expected
    left = pool_amount_out(amount_in=amount, reserve_in=RESERVE + amount, reserve_out=2 * RESERVE - expected)
    assert second.reason == f"InsufficientOutput(amountOut={left}, minAmountOut={expected})"
    assert chain.balances(TOKEN_B, ALICE, BOB) == [before[0] + expected, before[1]]
    swapped = [log for log in first.logs if log["topics"][0] == topic("Swapped(address,address,uint256,uint256)")]
    assert [decode(["uint256", "uint256"], bytes.fromhex(log["data"][2:])) for log in swapped] == [(amount, expected)]


def test_the_pool_refuses_what_it_must(chain: Chain) -> None:
    swap = partial(chain.send, ALICE, POOL)
    assert swap(swap_call(token_in=TOKEN_A, amount_in=0, min_amount_out=0)).reason == "ZeroAmount()"
    assert (
        swap(swap_call(token_in=COUNTER, amount_in=1, min_amount_out=0)).reason
        == f"UnknownToken(token={hex_of(COUNTER)})"
    )
    huge = swap_call(token_in=TOKEN_A, amount_in=2**256 - 1, min_amount_out=0)
    assert swap(huge).reason == f"ReserveLimit(reserve={2**256 - 1}, maximum={2**112 - 1})"
    rich = swap_call(token_in=TOKEN_A, amount_in=2**112 - 1, min_amount_out=0)
    assert swap(rich).reason.startswith("ReserveLimit(")
    poor = swap_call(token_in=TOKEN_A, amount_in=TOKENS, min_amount_out=0)
    assert chain.send(CAROL, POOL, poor).reason.startswith("ERC20InsufficientAllowance(")
    assert swap(encode_call("initialize(address,address)", TOKEN_A, TOKEN_B)).reason == "AlreadyInitialized()"
    assert swap(encode_call("removeLiquidity(uint256,uint256,uint256)", 1, 0, 0)).reason == (
        "InsufficientShares(shares=0, needed=1)"
    )
    # So little in that, rounded down, nothing comes out: never taken for nothing.
    assert swap(swap_call(token_in=TOKEN_B, amount_in=1, min_amount_out=0)).reason == "ZeroAmount()"


def test_a_fresh_pool_is_initialized_once_and_filled(anvil: Path) -> None:
    accounts = with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=[placed(packaged("Pool"))])
    with started(anvil, accounts) as chain:
        send = partial(chain.send, ALICE, AT)
        add = partial(encode_call, "addLiquidity(uint256,uint256,uint256)")
        assert send(add(10**6, 10**6, 0)).reason == "NotInitialized()"
        assert send(swap_call(token_in=TOKEN_A, amount_in=1, min_amount_out=0)).reason == "NotInitialized()"
        assert send(encode_call("initialize(address,address)", TOKEN_A, TOKEN_A)).reason.startswith("InvalidTokens(")
        assert send(encode_call("initialize(address,address)", TOKEN_A, TOKEN_B)).succeeded
        assert send(encode_call("initialize(address,address)", TOKEN_B, TOKEN_A)).reason == "AlreadyInitialized()"
        assert send(swap_call(token_in=TOKEN_A, amount_in=1, min_amount_out=0)).reason == "NoLiquidity()"
        for token in (TOKEN_A, TOKEN_B):
            chain.send(ALICE, token, encode_call("approve(address,uint256)", AT, 2**256 - 1))
        assert send(add(1000, 1000, 0)).reason == "InsufficientShares(shares=1000, needed=1001)"
        assert send(add(4 * 10**6, 10**6, 2 * 10**6)).reason == "InsufficientShares(shares=1999000, needed=2000000)"
        assert send(add(4 * 10**6, 10**6, 1_999_000)).succeeded
        assert chain.read(AT, "totalShares()") == [2_000_000]
        assert chain.read(AT, "sharesOf(address)", ALICE) == [1_999_000]
        assert send(encode_call("removeLiquidity(uint256,uint256,uint256)", 1_999_000, 4 * 10**6, 0)).reason == (
            f"InsufficientAmount(token={hex_of(TOKEN_A)}, amount=3998000, minAmount=4000000)"
        )
        assert send(encode_call("removeLiquidity(uint256,uint256,uint256)", 1_999_000, 0, 0)).succeeded
        assert chain.read(AT, "getReserves()") == [2_000, 500]


def test_no_sequence_of_calls_profits_from_rounding(anvil: Path) -> None:
    """Against the value of a share: the product of the reserves over the square of the shares never falls."""
    chance = random.Random(20_261)
    small = genesis_alloc(
        funded_wei={ALICE: 1, BOB: 1},
        token_a=TRADERS,
        token_b=TRADERS,
        # Small reserves, so that every division leaves a remainder that matters.
        pool=PoolGenesis(reserve_a=70_001, reserve_b=31_337, provider=ALICE),
    )
    with started(anvil, small) as chain:
        succeeded = 0
        a, b, shares = (*chain.read(POOL, "getReserves()"), *chain.read(POOL, "totalShares()"))
        for _ in range(150):
            trader = chance.choice((ALICE, BOB))
            token, amounts = chance.choice((TOKEN_A, TOKEN_B)), [chance.randrange(1, 9_000) for _ in range(2)]
            data = chance.choice((
                swap_call(token_in=token, amount_in=amounts[0], min_amount_out=0),
                encode_call("addLiquidity(uint256,uint256,uint256)", *amounts, 0),
                encode_call("removeLiquidity(uint256,uint256,uint256)", amounts[0] * 2 // 3 + 1, 0, 0),
            ))  # fmt: skip
            result = chain.send(trader, POOL, data)
            succeeded += result.succeeded
            assert result.succeeded or result.reason.startswith(("ZeroAmount", "InsufficientShares")), result.reason
            new_a, new_b, new_shares = (*chain.read(POOL, "getReserves()"), *chain.read(POOL, "totalShares()"))
            assert new_a * new_b * shares**2 >= a * b * new_shares**2
            a, b, shares = new_a, new_b, new_shares
            assert [a, b] == [*chain.balances(TOKEN_A, POOL), *chain.balances(TOKEN_B, POOL)]
        assert succeeded > 100
        held = [chain.read(POOL, "sharesOf(address)", owner)[0] for owner in (ALICE, BOB, NOBODY)]
        assert sum(held) == shares


def test_quotes_agree_with_the_python_mirror(chain: Chain) -> None:
    chance = random.Random(7)
    for _ in range(40):
        amount = chance.randrange(1, 2 ** chance.randrange(1, 112))
        for token, reserve_in, reserve_out in ((TOKEN_A, RESERVE, 2 * RESERVE), (TOKEN_B, 2 * RESERVE, RESERVE)):
            expected = pool_amount_out(amount_in=amount, reserve_in=reserve_in, reserve_out=reserve_out)
            assert chain.read(POOL, "quote(address,uint256)", token, amount) == [expected]


def test_tokens_sent_without_a_call_move_no_price(chain: Chain) -> None:
    chain.send(ALICE, TOKEN_A, transfer_call(to=POOL, amount=500 * TOKENS))
    assert chain.read(POOL, "getReserves()") == [RESERVE, 2 * RESERVE]


def test_tokens_that_misbehave_are_refused(anvil: Path, awkward: dict[str, Artifact]) -> None:
    odd = {name: Address(bytes([0x30 + index]) * 20)
           for index, name in enumerate(("FeeToken", "ReenteringToken", "RefusingToken"))}  # fmt: skip
    pools = {name: Address(bytes([0x40 + index]) * 20) for index, name in enumerate(odd)}
    contracts = [GenesisContract(artifact=awkward[name], address=address) for name, address in odd.items()]
    for name, address in pools.items():
        pair = {"tokenA": hex_of(odd[name]), "tokenB": hex_of(TOKEN_B), "reserveA": 10**6, "reserveB": 10**6}
        contracts.append(GenesisContract(artifact=packaged("Pool"), address=address, storage=pair))
    with started(anvil, with_contracts(anvil, chain=CHAIN, alloc=ALLOC, contracts=contracts)) as chain:
        for name, pool in pools.items():
            chain.send(ALICE, TOKEN_B, transfer_call(to=pool, amount=10**6))
            if name != "RefusingToken":
                chain.send(ALICE, odd[name], encode_call("mint(address,uint256)", ALICE, 10**6))
                chain.send(ALICE, odd[name], encode_call("mint(address,uint256)", pool, 10**6))
        chain.send(ALICE, odd["ReenteringToken"], encode_call("arm(address)", pools["ReenteringToken"]))
        for name, reason in [
            ("FeeToken", f"TokenFailed(token={hex_of(odd['FeeToken'])})"),
            ("ReenteringToken", "Reentered()"),
            ("RefusingToken", f"TokenFailed(token={hex_of(odd['RefusingToken'])})"),
        ]:
            call = swap_call(token_in=odd[name], amount_in=10_000, min_amount_out=1)
            assert chain.send(ALICE, pools[name], call).reason == reason


# Counter


def test_of_two_that_expect_one_value_the_second_reverts(chain: Chain) -> None:
    call = increment_call(key=7, expected=0)
    first, second = chain.send_together((ALICE, COUNTER, call), (BOB, COUNTER, call))
    assert first.number == 1
    assert second.reason == "Unexpected(actual=1, expected=0)"
    assert chain.send(BOB, COUNTER, increment_call(key=7, expected=1)).number == 2
    assert chain.send(BOB, COUNTER, increment_call(key=7)).number == 3
    assert chain.read(COUNTER, "valueOf(uint256)", 7) == [3]
    assert chain.read(COUNTER, "valueOf(uint256)", 8) == [0]
    (log,) = first.logs
    assert log["topics"] == [topic("Incremented(uint256,address,uint256)"), hex_of((7).to_bytes(32, "big")),
                             hex_of(ALICE.rjust(32, b"\0"))]  # fmt: skip


def test_gas_of_the_workloads_calls_fits_small_limits(chain: Chain) -> None:
    """The figures of contracts/README.md, as bounds: first touch of a slot included, with a trailer."""
    calls = {
        "transfer": (TOKEN_A, transfer_call(to=CAROL, amount=1), 53_000),
        "swap": (POOL, swap_call(token_in=TOKEN_A, amount_in=TOKENS, min_amount_out=1), 86_000),
        "increment": (COUNTER, increment_call(key=1), 47_000),
        "incrementIf": (COUNTER, increment_call(key=2, expected=0), 47_000),
    }
    for name, (to, data, limit) in calls.items():
        for attempt in ("first", "again"):
            if name == "incrementIf" and attempt == "again":
                data = increment_call(key=2, expected=1)
            result = chain.send(ALICE, to, data + TRAILER)
            print(f"{name} {attempt}: {result.gas_used} gas")
            assert result.succeeded
            assert result.gas_used <= limit
