"""`flashloan`: borrow on one rollup, arbitrage on another, repay on the first, in one bundle and without collateral.

On the first rollup the bank's operator lends (which burns the principal towards the second), the trader mints there
what comes back, and repays. On the second the trader mints the principal, takes it through two markets whose prices
differ, and burns principal and fee towards the first. A trader demands the profit that it saw some time ago, less a
tolerance: where other bundles took it meanwhile, the arbitrage reverts. What that costs whom is what the modes of
atomicity differ in.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np

from coordinator.workload.base import (
    OPERATOR,
    BundleShape,
    Calls,
    Funding,
    LegCall,
    LegPlace,
    Market,
    Routes,
    Surroundings,
)
from coordinator.workload.money import bridged_token, network_of, require_bridge
from nodes.evm.agglayer_contracts import (
    BANK,
    MARKET_1,
    MARKET_2,
    arbitrage_by_transfer_call,
    lend_across_call,
    repay_by_transfer_call,
)
from nodes.evm.contracts import pool_amount_out
from nodes.model.errors import InvalidScenario
from nodes.rules.hashes import keccak256

LEND_GAS = 450_000
ARBITRAGE_GAS = 400_000
REPAY_GAS = 200_000
_BPS = 10_000
_NS_PER_MS = 1_000_000
_ROUTE_STOPS = 2
Reserves = tuple[int, int]
"""Of one market: bridged token, other token."""
Pair = tuple[Reserves, Reserves]
"""The market where the other token is cheap, and the one where it is dear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashLoanOptions:
    """Options of `flashloan`. Amounts in units of 1e-18 token."""

    principal: int = 10**18
    """Borrowed by every bundle."""
    fee_bps: int = 10
    """What the bank takes of it, in 1/10,000."""
    gap_bps: int = 400
    """By how much the prices of the two markets differ at the start. Both markets charge 0.3 %."""
    reserve: int = 50_000 * 10**18
    """Bridged token in each market. One arbitrage closes the gap by 4 x principal / reserve."""
    tolerance_bps: int = 5
    """How much less than the profit it saw a trader accepts, in 1/10,000 of that profit."""
    quote_age_ms: float = 50.0
    """How old the prices are that traders decide by."""
    bank_loans: int = 1_000
    """Loans of this principal that a bank can have open at once."""


class FlashLoan:
    """Runs the markets' own formula over the planned order, to quote; what the chain then does is measured."""

    def __init__(self, options: FlashLoanOptions, surroundings: Surroundings) -> None:
        require_bridge(surroundings, kind="flashloan")
        if surroundings.stops != _ROUTE_STOPS:
            raise InvalidScenario(
                f"[workload] legs is {surroundings.stops}: a flash loan spans 2 rollups, whatever its own 6 legs; set 2"
            )
        least = min(options.fee_bps, options.gap_bps, options.bank_loans)
        if not 0 < options.principal <= options.reserve or least < 0:
            raise InvalidScenario(
                "[workload] principal must be positive and at most reserve; fee_bps, gap_bps and bank_loans at least 0"
            )
        self._options = options
        self._surroundings = surroundings
        self._asset = bridged_token()
        self._fee = options.principal * options.fee_bps // _BPS
        self.shape = BundleShape(
            legs=(LegPlace(0, OPERATOR), LegPlace(0), LegPlace(0), LegPlace(1), LegPlace(1), LegPlace(1)),
            mints=frozenset({1, 3}),
        )
        cheap = options.reserve * (_BPS + options.gap_bps) // _BPS
        start: Pair = ((options.reserve, cheap), (options.reserve, options.reserve))
        self.funding = Funding(
            bank_tokens=options.principal * options.bank_loans,
            markets={MARKET_1: Market(*start[1]), MARKET_2: Market(*start[0])},
        )
        self._markets: list[Pair] = [start] * surroundings.rollups

    def plan(self, routes: Routes, rng: np.random.Generator) -> Calls:
        """Six calls of its own for every bundle: each names its loan."""
        age_ns = round(self._options.quote_age_ms * _NS_PER_MS)
        salt = rng.bytes(16)
        past: deque[tuple[int, int, Pair]] = deque()
        quoted = list(self._markets)
        table: list[LegCall] = []
        rows = zip(routes.due_ns.tolist(), routes.rollups.tolist(), routes.lanes.tolist(), strict=True)
        for number, (due_ns, (lender, venue), lane) in enumerate(rows):
            while past and past[0][0] <= due_ns - age_ns:
                _, rollup, markets = past.popleft()
                quoted[rollup] = markets
            seen, _ = self._arbitrage(quoted[venue])
            wanted = max(self._fee, seen * (_BPS - self._options.tolerance_bps) // _BPS)
            profit, after = self._arbitrage(self._markets[venue])
            if profit >= wanted:
                self._markets[venue] = after
            past.append((due_ns, venue, self._markets[venue]))
            table += self._legs(lender, venue, lane, keccak256(salt + number.to_bytes(8, "big")), wanted)
        index = np.arange(len(table), dtype=np.int32).reshape(len(routes), len(self.shape.legs))
        return Calls(table=tuple(table), index=index)

    def _legs(self, lender: int, venue: int, lane: int, loan_id: bytes, wanted: int) -> list[LegCall]:
        options, asset = self._options, self._asset
        trader = self._surroundings.accounts[venue][lane]
        home = self._surroundings.accounts[lender][lane]
        due = options.principal + self._fee
        lend = lend_across_call(
            loan_id=loan_id, token=asset.local, dest_network=network_of(venue), borrower=trader,
            amount=options.principal, fee=self._fee,
        )  # fmt: skip
        trade = arbitrage_by_transfer_call(
            amount=options.principal, first_pool=MARKET_2, second_pool=MARKET_1, min_profit=wanted
        )
        return [
            LegCall(BANK, 0, LEND_GAS, lend),
            asset.mint(source_network=network_of(venue), dest_address=home, amount=due),
            LegCall(asset.local, 0, REPAY_GAS, repay_by_transfer_call(loan_id=loan_id, due=due)),
            asset.mint(source_network=network_of(lender), dest_address=trader, amount=options.principal),
            LegCall(asset.local, 0, ARBITRAGE_GAS, trade),
            asset.burn(dest_network=network_of(lender), dest_address=home, amount=due),
        ]

    def _arbitrage(self, markets: Pair) -> tuple[int, Pair]:
        """What it earns at these reserves (negative where it does not pay), and the reserves after it."""
        (cheap_in, cheap_out), (dear_out, dear_in) = markets
        principal = self._options.principal
        bought = pool_amount_out(amount_in=principal, reserve_in=cheap_in, reserve_out=cheap_out)
        back = pool_amount_out(amount_in=bought, reserve_in=dear_in, reserve_out=dear_out)
        return back - principal, ((cheap_in + principal, cheap_out - bought), (dear_out - back, dear_in + bought))
