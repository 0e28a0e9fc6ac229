"""Waiting until accounts are final. What is deployed must outlast any fork before anything is posted to it."""

import asyncio
from base64 import b64decode
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from nodes.model.errors import Unavailable
from nodes.model.solana import Pubkey
from nodes.solana.keypairs import base58
from nodes.solana.ports import ACCOUNTS_PER_CALL, SolanaRpc

DEADLINE_S = 120.0
"""Solana takes 13 s; a chain that has stopped does not."""


async def until_final(
    rpc: SolanaRpc,
    accounts: Sequence[Pubkey],
    tables: Sequence[Pubkey] = (),
    *,
    tick: Callable[[], Awaitable[None]] | None = None,
) -> list[bytes]:
    """Wait until the accounts exist at finalized, and the lookup tables hold there what they hold at confirmed.

    Returns the data of the accounts as they are at finalized. `tick` moves a chain that has no clock of its own yet.
    Raises Unavailable, RpcError.
    """
    try:
        async with asyncio.timeout(DEADLINE_S), aclosing(rpc.slots()) as slots:  # type: ignore[type-var]  # a generator
            while (final := await _final_data(rpc, accounts, tables)) is None:
                if tick is not None:
                    await tick()
                else:
                    await anext(slots)
            return final
    except TimeoutError:
        raise Unavailable(
            f"the inbox is confirmed, but not final after {DEADLINE_S:g} s; does the Solana chain make blocks? "
            "Start again: what is deployed is kept"
        ) from None


async def _final_data(rpc: SolanaRpc, accounts: Sequence[Pubkey], tables: Sequence[Pubkey]) -> list[bytes] | None:
    # Their data move with every posting, so that only their being there can be compared.
    found = await _data(rpc, accounts, "finalized")
    final = [data for data in found if data is not None]
    if len(final) < len(found) or await _data(rpc, tables, "finalized") != await _data(rpc, tables, "confirmed"):
        return None
    return final


async def _data(rpc: SolanaRpc, keys: Sequence[Pubkey], level: str) -> list[bytes | None]:
    """Data of each account; None where there is none."""
    found: list[bytes | None] = []
    for at in range(0, len(keys), ACCOUNTS_PER_CALL):
        names = [base58(key) for key in keys[at : at + ACCOUNTS_PER_CALL]]
        answer = await rpc.call("getMultipleAccounts", [names, {"commitment": level, "encoding": "base64"}])
        found += [b64decode(account["data"][0]) if account else None for account in answer["value"]]
    return found
