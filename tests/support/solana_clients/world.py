"""A small economy on any Solana chain, built through its RPC alone: transfers, memos, tokens, a lookup table.

The same calls build it on the dev node and on Surfpool, so that their answers can be compared.
"""

import base64
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.compute_budget import set_compute_unit_limit, set_compute_unit_price
from solders.hash import Hash
from solders.instruction import AccountMeta, Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import (
    CreateAccountParams,
    CreateLookupTableParams,
    ExtendLookupTableParams,
    TransferParams,
    create_account,
    create_lookup_table,
    extend_lookup_table,
    transfer,
)
from solders.transaction import VersionedTransaction
from spl.token import instructions as token
from spl.token import models
from spl.token.constants import MINT_LEN, TOKEN_PROGRAM_ID

from nodes.solana.ports import SolanaRpc

SOL = 1_000_000_000
MEMO = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
DECIMALS = 6
CONFIRMED = {"commitment": "confirmed"}
Settle = Callable[[Sequence[str]], Awaitable[None]]
"""Returns once these signatures are confirmed."""


def key(name: str) -> Keypair:
    """A key pair that is the same in every run."""
    return Keypair.from_seed(name.encode().ljust(32, b".")[:32])


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What stands on the chain afterwards. Signatures are of confirmed transactions."""

    alice: Keypair
    bob: Pubkey
    mint: Pubkey
    alice_tokens: Pubkey
    bob_tokens: Pubkey
    lookup_table: Pubkey
    signatures: dict[str, str]
    """Of each step by its name."""


def memo(text: str, *signers: Pubkey) -> Instruction:
    """A memo, signed by whom it names."""
    return Instruction(
        MEMO, text.encode(), [AccountMeta(signer, is_signer=True, is_writable=False) for signer in signers]
    )


def encoded(transaction: VersionedTransaction) -> str:
    """As it is sent."""
    return base64.b64encode(bytes(transaction)).decode()


async def blockhash(rpc: SolanaRpc) -> Hash:
    """A confirmed one."""
    answer = await rpc.call("getLatestBlockhash", [CONFIRMED])
    return Hash.from_string(answer["value"]["blockhash"])


async def signed(
    rpc: SolanaRpc,
    instructions: Sequence[Instruction],
    signers: Sequence[Keypair],
    *,
    tables: Sequence[AddressLookupTableAccount] = (),
) -> VersionedTransaction:
    """A version 0 transaction; the first signer pays."""
    message = MessageV0.try_compile(signers[0].pubkey(), list(instructions), list(tables), await blockhash(rpc))
    return VersionedTransaction(message, list(signers))


async def send(
    rpc: SolanaRpc,
    instructions: Sequence[Instruction],
    signers: Sequence[Keypair],
    *,
    tables: Sequence[AddressLookupTableAccount] = (),
    skip_preflight: bool = False,
) -> str:
    """Send it; its signature."""
    transaction = await signed(rpc, instructions, signers, tables=tables)
    options: dict[str, Any] = {"encoding": "base64", "preflightCommitment": "confirmed"}
    if skip_preflight:
        options["skipPreflight"] = True
    signature: str = await rpc.call("sendTransaction", [encoded(transaction), options])
    return signature


async def build_world(rpc: SolanaRpc, settle: Settle, *, name: str = "world") -> World:
    """Build it. `name` makes its keys."""
    alice, bob, mint = key(f"{name} alice"), key(f"{name} bob").pubkey(), key(f"{name} mint")
    signatures: dict[str, str] = {}

    async def step(step_name: str, *instructions: Instruction, also: Sequence[Keypair] = (), **options: Any) -> None:
        signatures[step_name] = await send(rpc, instructions, [alice, *also], **options)
        await settle([signatures[step_name]])

    signatures["airdrop"] = await rpc.call("requestAirdrop", [str(alice.pubkey()), 1_000 * SOL])
    await settle([signatures["airdrop"]])
    await step(
        "transfer",
        set_compute_unit_limit(30_000),
        set_compute_unit_price(1_000),
        transfer(TransferParams(from_pubkey=alice.pubkey(), to_pubkey=bob, lamports=SOL)),
        memo("hello, slot", alice.pubkey()),
    )
    too_much = transfer(TransferParams(from_pubkey=alice.pubkey(), to_pubkey=bob, lamports=10**6 * SOL))
    await step("failed", too_much, skip_preflight=True)

    rent = await rpc.call("getMinimumBalanceForRentExemption", [MINT_LEN])
    new_account = CreateAccountParams(
        from_pubkey=alice.pubkey(), to_pubkey=mint.pubkey(), lamports=rent, space=MINT_LEN, owner=TOKEN_PROGRAM_ID
    )
    new_mint = models.InitializeMintParams(
        decimals=DECIMALS, program_id=TOKEN_PROGRAM_ID, mint=mint.pubkey(), mint_authority=alice.pubkey()
    )
    await step("mint", create_account(new_account), token.initialize_mint(new_mint), also=[mint])
    alice_tokens, bob_tokens = (
        token.get_associated_token_address(owner, mint.pubkey()) for owner in (alice.pubkey(), bob)
    )
    await step(
        "token accounts",
        *(
            token.create_associated_token_account(payer=alice.pubkey(), owner=owner, mint=mint.pubkey())
            for owner in (alice.pubkey(), bob)
        ),
    )
    await step("tokens", *_token_moves(alice.pubkey(), bob, mint.pubkey(), alice_tokens, bob_tokens))
    table = await _lookup_table(rpc, alice, [bob, bob_tokens], step)
    through_table = AddressLookupTableAccount(table, [bob, bob_tokens])
    await step(
        "through table",
        transfer(TransferParams(from_pubkey=alice.pubkey(), to_pubkey=bob, lamports=SOL)),
        tables=[through_table],
    )
    return World(
        alice=alice,
        bob=bob,
        mint=mint.pubkey(),
        alice_tokens=alice_tokens,
        bob_tokens=bob_tokens,
        lookup_table=table,
        signatures=signatures,
    )


def _token_moves(
    alice: Pubkey, bob: Pubkey, mint: Pubkey, alice_tokens: Pubkey, bob_tokens: Pubkey
) -> tuple[Instruction, ...]:
    minted = models.MintToParams(
        program_id=TOKEN_PROGRAM_ID,
        mint=mint,
        dest=alice_tokens,
        mint_authority=alice,
        amount=5_000_000,
        signers=[],
    )
    moved = models.TransferCheckedParams(
        program_id=TOKEN_PROGRAM_ID,
        source=alice_tokens,
        mint=mint,
        dest=bob_tokens,
        owner=alice,
        amount=1_250_000,
        decimals=DECIMALS,
        signers=[],
    )
    approved = models.ApproveParams(
        program_id=TOKEN_PROGRAM_ID,
        source=alice_tokens,
        delegate=bob,
        owner=alice,
        amount=7,
        signers=[],
    )
    return token.mint_to(minted), token.transfer_checked(moved), token.approve(approved)


async def _lookup_table(
    rpc: SolanaRpc, owner: Keypair, addresses: Sequence[Pubkey], step: Callable[..., Awaitable[None]]
) -> Pubkey:
    slot = await rpc.call("getSlot", [CONFIRMED])
    created = CreateLookupTableParams(authority_address=owner.pubkey(), payer_address=owner.pubkey(), recent_slot=slot)
    creation, table = create_lookup_table(created)
    await step("table", creation)
    extended = ExtendLookupTableParams(
        lookup_table_address=table,
        authority_address=owner.pubkey(),
        payer_address=owner.pubkey(),
        new_addresses=list(addresses),
    )
    await step("table addresses", extend_lookup_table(extended))
    # Addresses can be used from the slot after the one that added them.
    await step("pause", memo("pause", owner.pubkey()))
    return table
