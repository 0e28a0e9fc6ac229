"""Taking a builder's bond back: ask, wait for the delay, take. What promises may still claim is left until then.

Only the builder's own account can do it. From the moment of asking, its node promises nothing more against that part.
"""

import asyncio
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from coordinator.bundle.bond import BondAccess
from coordinator.bundle.transactions import Call, Sender
from coordinator.spec.agglayer import AgglayerKeys
from coordinator.spec.testnet import load_testnet
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.agglayer_contracts import BOND_VAULT
from nodes.evm.agglayer_l1_calls import bond_request_withdrawal_call, bond_withdraw_call
from nodes.evm.contracts import encode_call
from nodes.model.errors import InvalidInput, Unavailable
from nodes.model.ids import hex_of

WEI = 10**18


@dataclass(frozen=True, slots=True, kw_only=True)
class BondHolding:
    """A builder's bond as L1 has it."""

    bond_wei: int
    reserved_wei: int
    """Held back for promises whose outcome is not settled yet."""
    requested_wei: int
    """Asked for and not yet taken; 0 = no withdrawal is under way."""
    from_block: int
    """First L1 block in which what was asked for can be taken."""
    head_block: int

    @property
    def blocks_left(self) -> int:
        """Until `from_block` is the head: gas is estimated as if in the head's block, and refused before."""
        return max(0, self.from_block - self.head_block)


class BondWithdrawal:
    """The bond of one account. Use it in `async with`."""

    def __init__(self, *, l1_rpc_url: str, l1_chain_id: int, key: str) -> None:
        """`key`: the builder's, in hex. Raises InvalidInput for what is no key."""
        self._l1 = L1Client(l1_rpc_url)
        self._sender = Sender(self._l1, key, chain_id=l1_chain_id, chain="L1", pays_tips=True)
        self._stack = AsyncExitStack()

    @classmethod
    def of_directory(cls, directory: Path, *, key: str = "") -> "BondWithdrawal":
        """Of the testnet that runs in a directory; without a key its own builder's, which follows from the seed.

        Raises InvalidInput where none runs, or none with a bond.
        """
        access = BondAccess.of_directory(directory)
        builder = AgglayerKeys(seed=load_testnet(directory).seed).builder
        return cls(l1_rpc_url=access.l1_rpc_url, l1_chain_id=access.l1_chain_id, key=key or hex_of(builder.key))

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._l1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def builder(self) -> bytes:
        """Address of the account."""
        return self._sender.address

    async def holding(self) -> BondHolding:
        """What L1 says now."""
        head = await self._l1.head()
        names = ("bondOf", "reservedOf", "requestedAmount", "withdrawableFrom")
        bond, reserved, requested, first = [
            int.from_bytes(await self._l1.call(BOND_VAULT, encode_call(f"{name}(address)", self.builder)), "big")
            for name in names
        ]
        return BondHolding(
            bond_wei=bond, reserved_wei=reserved, requested_wei=requested, from_block=first, head_block=head.number
        )

    async def request(self, amount_wei: int) -> tuple[L1Receipt, BondHolding]:
        """Ask for an amount; the delay begins, anew where a request stood. Raises InvalidInput above the bond."""
        holding = await self.holding()
        if amount_wei > holding.bond_wei:
            raise InvalidInput(
                f"{hex_of(self.builder)} has {holding.bond_wei / WEI:g} ether of bond, and {amount_wei / WEI:g} were "
                "asked for; give the builder's key with --key-file if this is not its account"
            )
        (receipt,) = await self._sender.send(
            [Call(to=BOND_VAULT, calldata=bond_request_withdrawal_call(amount=amount_wei))]
        )
        return receipt, await self.holding()

    async def take(self, *, wait_s: float) -> tuple[L1Receipt, int]:
        """Take what was asked for, and the amount in wei.

        Raises InvalidInput where nothing was asked for or too much is reserved, Unavailable where the delay is not over
        within `wait_s`.
        """
        holding = await self._until_due(wait_s)
        free_wei = holding.bond_wei - holding.reserved_wei
        if holding.requested_wei > free_wei:
            raise InvalidInput(
                f"{holding.requested_wei / WEI:g} ether were asked for and {free_wei / WEI:g} are free: the rest is "
                "reserved for promises, or was paid to their users; ask for less, or again when they have expired"
            )
        (receipt,) = await self._sender.send([Call(to=BOND_VAULT, calldata=bond_withdraw_call())])
        return receipt, holding.requested_wei

    async def _until_due(self, wait_s: float) -> BondHolding:
        holding = await self.holding()
        if not holding.requested_wei:
            raise InvalidInput("no withdrawal was asked for; `lockstep bond request-withdrawal` does")
        try:
            async with asyncio.timeout(wait_s), aclosing(self._l1.new_heads()) as heads:
                while holding.blocks_left:
                    await anext(heads)
                    holding = await self.holding()
        except TimeoutError:
            raise Unavailable(
                f"{holding.requested_wei / WEI:g} ether can be taken from L1 block {holding.from_block:,} on, and the "
                f"head is {holding.head_block:,}; try again then, or wait for it with --wait SECONDS"
            ) from None
        return holding
