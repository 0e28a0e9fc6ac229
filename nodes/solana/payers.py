"""The accounts that sign postings: whose turn it is, and who can pay.

Several take turns, since a fee payer is a writable account and each has its share of a block. One that runs out of
lamports is passed over until it has some again. It asks for no balance and pays nothing itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from solders.keypair import Keypair

from nodes.model.solana import Pubkey
from nodes.solana.keypairs import base58, key_of

RENT_EXEMPT_LAMPORTS = 890_880
"""What an account without data must keep: a transaction that leaves its payer with less is refused."""
AHEAD = 100
"""Fees that must be there besides those under way, since a balance is always some slots old."""


@dataclass(slots=True)
class Payer:
    """One account."""

    keypair: Keypair
    address: Pubkey = field(init=False)
    name: str = field(init=False)
    """As explorers show it."""
    balance_lamports: int | None = None
    """At the last confirmed look; None before the first."""

    def __post_init__(self) -> None:
        self.address = key_of(self.keypair)
        self.name = base58(self.address)


class Payers:
    """All of them, in turn."""

    def __init__(self, keypairs: Sequence[Keypair]) -> None:
        assert keypairs, "somebody must pay"
        self.all = [Payer(keypair) for keypair in keypairs]
        self._next = 0

    def saw(self, balances: Sequence[int]) -> None:
        """Balances in the order of `all`."""
        for payer, balance in zip(self.all, balances, strict=True):
            payer.balance_lamports = balance

    def budget(self, in_flight: Mapping[bytes, int], *, fee_lamports: int) -> dict[Pubkey, int]:
        """By payer, what it may still sign for; absent where it is out of funds, or its balance is not known."""
        left = {}
        for payer in self.all:
            free = self._free(payer, in_flight)
            if free >= AHEAD * fee_lamports:
                left[payer.address] = free
        return left

    def next(self, budget: dict[Pubkey, int], *, fee_lamports: int, only: bytes | None = None) -> Payer | None:
        """Whose turn it is, with the fee taken off its budget; None where nobody can pay. `only`: this one."""
        for _ in self.all:
            payer = self.all[self._next]
            self._next = (self._next + 1) % len(self.all)
            if only is not None and payer.address != only:
                continue
            if budget.get(payer.address, -1) >= fee_lamports:
                budget[payer.address] -= fee_lamports
                return payer
        return None

    def able(self, *, fee_lamports: int) -> set[Pubkey]:
        """Those who have enough, what is under way not counted."""
        return {payer.address for payer in self.all if self._free(payer, {}) >= AHEAD * fee_lamports}

    def poor(self, in_flight: Mapping[bytes, int], *, fee_lamports: int) -> list[Payer]:
        """Those whose balance is known and too low."""
        return [
            payer
            for payer in self.all
            if payer.balance_lamports is not None and self._free(payer, in_flight) < AHEAD * fee_lamports
        ]

    def stall(self, in_flight: Mapping[bytes, int], *, fee_lamports: int) -> str:
        """Who cannot pay, what it has and what it needs; empty where all can."""
        needed = RENT_EXEMPT_LAMPORTS + AHEAD * fee_lamports
        said = [
            f"payer {payer.name} has {payer.balance_lamports:,} lamports and needs "
            f"{needed + in_flight.get(payer.address, 0):,}"
            for payer in self.poor(in_flight, fee_lamports=fee_lamports)
        ]
        if not said:
            return ""
        others = "the others go on" if len(said) < len(self.all) else "nothing is posted until one is funded"
        return f"{'; '.join(said)}; {others}"

    def _free(self, payer: Payer, in_flight: Mapping[bytes, int]) -> int:
        if payer.balance_lamports is None:
            return -1
        return payer.balance_lamports - RENT_EXEMPT_LAMPORTS - in_flight.get(payer.address, 0)
