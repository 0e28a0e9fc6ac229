"""Bank and router of a rollup on a real anvil: loans across rollups, and trades that must pay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nodes.evm.agglayer_contracts import (
    BANK,
    BRIDGE,
    MARKET_1,
    MARKET_2,
    ROUTER,
    BridgeEvent,
    ContingentMint,
    arbitrage_by_transfer_call,
    arbitrage_call,
    bridge_asset_call,
    lend_across_call,
    mint_contingent_call,
    repay_by_transfer_call,
    repay_call,
    transfer_and_call_call,
)
from nodes.evm.anvil import find_anvil
from nodes.evm.contracts import approve_call, encode_call, selector
from nodes.evm.genesis import TOKEN_A, UNLIMITED
from nodes.model.agglayer import NetworkId
from nodes.model.ids import Address, hex_of
from nodes.rules.exit_tree import leaf_hash
from tests.integration.agglayer_chain import (
    AgglayerChain,
    running,
    token_of,
    trailer,
)
from tests.integration.agglayer_l2 import HERE, L1_LOCK, LOCK, OPERATOR, THERE, accounts_of
from tests.integration.anvil_chain import ALICE, BOB, CAROL, TOKENS


@pytest.fixture(scope="module")
def anvil() -> Path:
    return find_anvil()


@pytest.fixture
def chain(anvil: Path) -> Iterator[AgglayerChain]:
    with running(anvil, accounts_of(HERE), chain_id=7001) as started:
        yield started


LOAN = b"\x11" * 32


def lend(chain: AgglayerChain, *, sender: Address = OPERATOR, loan_id: bytes = LOAN, token: Address = LOCK) -> Any:
    call = lend_across_call(loan_id=loan_id, token=token, dest_network=THERE, borrower=BOB, amount=1_000, fee=9)
    return chain.transact(sender, BANK, call)


def owed(chain: AgglayerChain, token: Address = LOCK) -> int:
    return chain.read(BANK, "outstandingOf(address)", token)[0]


def test_the_bank_lends_across_and_is_repaid_without_an_allowance(chain: AgglayerChain) -> None:
    before = chain.balances(LOCK, BANK)[0]
    event = lend(chain).only(BridgeEvent)
    assert (event.token, event.amount, event.dest_address, event.dest_network) == (L1_LOCK, 1_000, BOB, THERE)
    assert (chain.balances(LOCK, BANK)[0], owed(chain)) == (before - 1_000, 1_000)
    short = repay_by_transfer_call(loan_id=LOAN, due=1_008)
    assert chain.transact(ALICE, LOCK, short).reason == f"WrongRepayment(loanId={hex_of(LOAN)}, paid=1008, due=1009)"
    due = repay_by_transfer_call(loan_id=LOAN, due=1_009)
    assert chain.transact(ALICE, LOCK, due).succeeded
    assert (chain.balances(LOCK, BANK)[0], owed(chain)) == (before + 9, 0)
    assert chain.transact(ALICE, LOCK, due).reason == f"LoanRepaid(loanId={hex_of(LOAN)})"
    unknown = repay_by_transfer_call(loan_id=bytes(32), due=1)
    assert chain.transact(ALICE, LOCK, unknown).reason.startswith("LoanUnknown(")


def test_the_bank_pulls_a_repayment(chain: AgglayerChain) -> None:
    before = chain.balances(LOCK, BANK)[0]
    assert lend(chain).succeeded
    assert chain.transact(ALICE, BANK, repay_call(LOAN)).reason.startswith("ERC20InsufficientAllowance(")
    assert owed(chain) == 1_000
    assert chain.transact(ALICE, LOCK, approve_call(spender=BANK, amount=UNLIMITED)).succeeded
    assert chain.transact(CAROL, BANK, repay_call(LOAN)).reason.startswith("ERC20InsufficientAllowance(")
    assert chain.transact(ALICE, BANK, repay_call(LOAN)).succeeded
    assert (chain.balances(LOCK, BANK)[0], owed(chain)) == (before + 9, 0)


def test_the_bank_refuses_what_it_must(chain: AgglayerChain) -> None:
    assert lend(chain, sender=ALICE).reason == f"OnlyOperator(sender={hex_of(ALICE)})"
    assert lend(chain).succeeded
    assert lend(chain).reason == f"LoanExists(loanId={hex_of(LOAN)})"
    # A token of another loan, or none at all, claims to have been paid.
    arguments = encode_call("f(address,address,uint256,uint256,uint256,bytes32)", ALICE, ALICE, 1_009, 128, 32, LOAN)
    named = selector("onTransferReceived(address,address,uint256,bytes)") + arguments[4:]
    assert chain.transact(ALICE, BANK, named).reason == (f"WrongToken(token={hex_of(ALICE)}, expected={hex_of(LOCK)})")
    assert owed(chain) == 1_000


def test_the_bank_lends_a_token_of_its_own_rollup(chain: AgglayerChain) -> None:
    assert chain.transact(ALICE, TOKEN_A, encode_call("transfer(address,uint256)", BANK, 1_000)).succeeded
    event = lend(chain, token=TOKEN_A).only(BridgeEvent)
    assert (event.token, event.amount) == (token_of(HERE, TOKEN_A), 1_000)
    assert chain.balances(TOKEN_A, BANK, BRIDGE) == [0, 1_000]


def test_arbitrage_pays_or_reverts(chain: AgglayerChain) -> None:
    """Market 1 pays twice as much of token B for a LOCK as market 2 takes for one."""
    amount, before = 1_000 * TOKENS, chain.balances(LOCK, ALICE)[0]
    profitable: dict[str, Any] = {"amount": amount, "first_pool": MARKET_1, "second_pool": MARKET_2}
    greedy = arbitrage_by_transfer_call(**profitable, min_profit=amount)
    assert chain.transact(ALICE, LOCK, greedy).reason.startswith("NotProfitable(amountIn=1000000000000000000000")
    backwards = arbitrage_by_transfer_call(amount=amount, first_pool=MARKET_2, second_pool=MARKET_1, min_profit=0)
    assert chain.transact(ALICE, LOCK, backwards).reason.startswith("NotProfitable(")
    assert chain.balances(LOCK, ALICE) == [before]
    paid = arbitrage_by_transfer_call(**profitable, min_profit=amount // 2)
    sent = chain.transact(ALICE, LOCK, paid)
    assert sent.succeeded, sent.reason
    after = chain.balances(LOCK, ALICE)[0]
    assert after > before + amount // 2
    assert chain.balances(LOCK, ROUTER) == [0]
    pulled = arbitrage_call(token=LOCK, **profitable, min_profit=1)
    assert chain.transact(ALICE, ROUTER, pulled).reason.startswith("ERC20InsufficientAllowance(")
    assert chain.transact(ALICE, LOCK, approve_call(spender=ROUTER, amount=UNLIMITED)).succeeded
    assert chain.transact(ALICE, ROUTER, pulled).succeeded
    assert chain.balances(LOCK, ALICE)[0] > after


def test_a_flash_loan_leg_by_leg(anvil: Path, chain: AgglayerChain) -> None:
    """Borrow here, trade there, repay here: the six legs of a bundle, each mint with the leaf of its burn."""
    amount, fee = 1_000 * TOKENS, TOKENS
    before = chain.balances(LOCK, BANK)[0]

    def mint(at: AgglayerChain, event: BridgeEvent, source: NetworkId, leg_index: int) -> None:
        call = mint_contingent_call(
            source_network=source,
            token=event.token,
            dest_address=event.dest_address,
            amount=event.amount,
            metadata=event.metadata,
        )
        minted = at.transact(BOB, BRIDGE, call + trailer(1, leg_index=leg_index)).only(ContingentMint)
        assert minted.leaf == leaf_hash(event.bridge_exit())

    with running(anvil, accounts_of(THERE), chain_id=7002) as other:
        borrow = lend_across_call(loan_id=LOAN, token=LOCK, dest_network=THERE, borrower=BOB, amount=amount, fee=fee)
        lent = chain.transact(OPERATOR, BANK, borrow + trailer(1, leg_index=0)).only(BridgeEvent)
        mint(other, lent, HERE, 1)
        trade = arbitrage_by_transfer_call(amount=amount, first_pool=MARKET_1, second_pool=MARKET_2, min_profit=fee)
        assert other.transact(BOB, LOCK, trade + trailer(1, leg_index=2)).succeeded
        home = bridge_asset_call(dest_network=HERE, dest_address=BOB, amount=amount + fee, token=LOCK)
        returned = other.transact(BOB, BRIDGE, home + trailer(1, leg_index=3)).only(BridgeEvent)
        mint(chain, returned, THERE, 4)
        repaid = chain.transact(
            BOB, LOCK, repay_by_transfer_call(loan_id=LOAN, due=amount + fee) + trailer(1, leg_index=5)
        )
        assert repaid.succeeded, repaid.reason
        assert other.balances(LOCK, BOB)[0] > 0
    assert (chain.balances(LOCK, BANK)[0], owed(chain)) == (before + fee, 0)


def test_a_receiver_must_say_that_it_is_one(chain: AgglayerChain) -> None:
    assert not chain.transact(ALICE, LOCK, transfer_and_call_call(to=TOKEN_A, amount=1, data=b"")).succeeded
    assert not chain.transact(ALICE, LOCK, transfer_and_call_call(to=CAROL, amount=1, data=b"")).succeeded
