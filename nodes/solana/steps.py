"""What the steps of a set-up on Solana have in common: look at accounts, send what is missing, wait, say where it is.

Knows nothing of what is set up.
"""

import base64
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from nodes.model.errors import EngineFailure, Unavailable
from nodes.model.solana import Pubkey
from nodes.solana.confirming import WAKEUPS_MAX, Commitment, Confirmer, Job
from nodes.solana.keypairs import base58, key_from_base58
from nodes.solana.ports import ACCOUNTS_PER_CALL, SolanaRpc

FAILURES_MAX = 3


class Account(NamedTuple):
    """An account as the chain has it."""

    owner: Pubkey
    lamports: int
    data: bytes


class Steps:
    """One set-up by one payer."""

    def __init__(
        self, rpc: SolanaRpc, confirmer: Confirmer, commitment: Commitment, progress: Callable[[str], None]
    ) -> None:
        """`progress` is told every step in words."""
        self.at = ""
        """The step that is being made."""
        self._rpc = rpc
        self._confirmer = confirmer
        self._commitment = commitment
        self._progress = progress
        self._failures_in_a_row = 0

    def say(self, step: str) -> None:
        """A step begins."""
        self.at = step
        self._progress(step)

    async def attempt(self, jobs: Sequence[Job]) -> bool:
        """Send what is missing. Returns False where a part failed; what is there now is for the caller to look at.

        Raises EngineFailure for the third failure without a success: the first may mean that a transaction of an
        attempt that was interrupted has landed meanwhile, and that there is nothing to do any more.
        """
        try:
            await self._confirmer.confirm(jobs)
        except EngineFailure:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= FAILURES_MAX:
                raise
            return False
        self._failures_in_a_row = 0
        return True

    async def accounts(self, keys: Sequence[Pubkey]) -> list[Account | None]:
        """What the chain has under these keys; None where it has nothing."""
        options = {"encoding": "base64", "commitment": self._commitment}
        found: list[Account | None] = []
        for at in range(0, len(keys), ACCOUNTS_PER_CALL):
            names = [base58(key) for key in keys[at : at + ACCOUNTS_PER_CALL]]
            answer = await self._rpc.call("getMultipleAccounts", [names, options])
            found += [_account_of(value) for value in answer["value"]]
        return found

    async def account(self, key: Pubkey) -> Account | None:
        """One of them."""
        return (await self.accounts([key]))[0]

    async def rents(self, sizes: Sequence[int]) -> list[int]:
        """Lamports that an account of each of these sizes, in bytes, must hold."""
        return [await self._rpc.call("getMinimumBalanceForRentExemption", [size]) for size in sizes]

    async def recent_slot(self) -> int:
        """A slot that has a block: that of an answer has."""
        answer = await self._rpc.call("getLatestBlockhash", [{"commitment": self._commitment}])
        slot: int = answer["context"]["slot"]
        return slot

    async def wait_beyond(self, slot: int) -> None:
        """Return when the chain is past `slot`. Raises Unavailable."""
        for _ in range(WAKEUPS_MAX):
            if await self._rpc.call("getSlot", [{"commitment": self._commitment}]) > slot:
                return
            await self._confirmer.wait()
        raise Unavailable(f"the chain does not go beyond slot {slot}")


def _account_of(value: Any) -> Account | None:
    if value is None:
        return None
    return Account(key_from_base58(value["owner"]), value["lamports"], base64.b64decode(value["data"][0]))
