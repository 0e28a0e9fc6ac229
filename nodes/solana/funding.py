"""Lamports for the accounts that sign: asked for where they are free, paid from the first account elsewhere."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Sequence

from solders.hash import Hash
from solders.keypair import Keypair

from nodes.model.errors import InvalidInput, RpcError, Unavailable
from nodes.model.solana import LAMPORTS_PER_SOL
from nodes.solana.keypairs import base58, key_of
from nodes.solana.ports import SolanaRpc
from nodes.solana.system_calls import transfer_call
from nodes.solana.transactions import build

AIRDROP_LAMPORTS = 1_000 * LAMPORTS_PER_SOL
"""Asked for where less than a tenth of it is there; some 200 million postings."""
SHARE_LAMPORTS = LAMPORTS_PER_SOL // 20
"""Handed on to each further payer where it has less than a tenth of it: 10,000 postings."""
LANDING_S = 60.0
_POLL_S = 0.05

Tick = Callable[[], Awaitable[None]]
"""Moves a chain that stands still until it is told to go; see `fund`."""


async def fund(rpc: SolanaRpc, payers: Sequence[Keypair], *, can_airdrop: bool, tick: Tick | None = None) -> None:
    """See that every payer can sign postings. Raises InvalidInput naming account, balance and need; Unavailable.

    `tick` is called while something waits to be in a block, where the chain has no clock of its own yet.
    """
    balances = await balances_of(rpc, payers)
    enough = AIRDROP_LAMPORTS if can_airdrop else SHARE_LAMPORTS
    poor = [payer for payer, balance in zip(payers, balances, strict=True) if balance < enough // 10]
    if not poor:
        return
    if can_airdrop:
        answers = await rpc.batch([("requestAirdrop", [base58(key_of(payer)), AIRDROP_LAMPORTS]) for payer in poor])
        for payer, answer in zip(poor, answers, strict=True):
            if isinstance(answer, RpcError):
                raise Unavailable(f"no lamports for {base58(key_of(payer))}: {answer}")
    else:
        await _share(rpc, payers[0], poor, balance=balances[0])
    await _arrived(rpc, poor, lamports=enough // 10, tick=tick)


async def _share(rpc: SolanaRpc, first: Keypair, poor: Sequence[Keypair], *, balance: int) -> None:
    others = [payer for payer in poor if payer is not first]
    need = SHARE_LAMPORTS * (len(others) + 1)
    if balance < need:
        raise InvalidInput(
            f"account {base58(key_of(first))} has {balance:,} lamports and needs {need:,}: {SHARE_LAMPORTS:,} for each "
            f"of {len(others) + 1} payers; send it more, or set payers lower"
        )
    latest = await rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}])
    blockhash = bytes(Hash.from_string(latest["value"]["blockhash"]))
    calls = [transfer_call(key_of(first), key_of(payer), lamports=SHARE_LAMPORTS) for payer in others]
    for at in range(0, len(calls), 16):
        signed = build(first, calls[at : at + 16], blockhash=blockhash)
        await send_raw(rpc, signed.raw)


async def send_raw(rpc: SolanaRpc, raw: bytes) -> str:
    """Send one transaction with preflight; its signature in base58. Raises RpcError where it would fail."""
    text = base64.b64encode(raw).decode()
    options = {"encoding": "base64", "preflightCommitment": "confirmed"}
    return str(await rpc.call("sendTransaction", [text, options]))


async def _arrived(rpc: SolanaRpc, payers: Sequence[Keypair], *, lamports: int, tick: Tick | None) -> None:
    try:
        async with asyncio.timeout(LANDING_S):
            while min(await balances_of(rpc, payers)) < lamports:
                if tick is not None:
                    await tick()
                else:
                    await asyncio.sleep(_POLL_S)
    except TimeoutError:
        names = ", ".join([base58(key_of(payer)) for payer in payers])
        raise Unavailable(f"lamports sent to {names} did not arrive within {LANDING_S:g} s; start again") from None


async def balances_of(rpc: SolanaRpc, payers: Sequence[Keypair]) -> list[int]:
    """At confirmed: what a payer has for sure."""
    keys = [base58(key_of(payer)) for payer in payers]
    answers = await rpc.batch([("getBalance", [key, {"commitment": "confirmed"}]) for key in keys])
    for answer in answers:
        if isinstance(answer, RpcError):
            raise answer
    return [int(answer["value"]) for answer in answers if not isinstance(answer, RpcError)]
