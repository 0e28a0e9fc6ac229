"""What Lockstep reads from a Solana chain and writes to it: blocks, inbox instructions, timing. Addresses are 32 bytes.

Encodings are rules (`nodes.rules.inbox`); connections and signatures are `nodes.solana`.
"""

from dataclasses import dataclass
from typing import NamedTuple, NewType

Slot = NewType("Slot", int)
"""Solana slot; a slot may have no block."""
Pubkey = NewType("Pubkey", bytes)
"""32 bytes: a Solana account."""
Signature = NewType("Signature", bytes)
"""64 bytes: the first signature of a Solana transaction, its id."""

DEVNODE, SURFPOOL = "devnode", "surfpool"
"""Kinds of a Solana node that is started beside its sequencer."""
LAMPORTS_PER_SOL = 1_000_000_000
SIGNATURE_FEE_LAMPORTS = 5_000
PACKET_BYTES = 1_232
"""Largest serialized transaction."""
BLOCKHASH_AGE = 150
"""A transaction lands at block heights up to that of its blockhash plus this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaTiming:
    """When a Solana chain promises what. Parameters of a run, since mainnet changes them."""

    slot_ms: int = 400
    confirm_slots: int = 2
    """A block is confirmed once so many slots are on top of it."""
    finalize_slots: int = 31
    """The same for finalized; equal to `confirm_slots` where finality is one step (Alpenglow)."""


class InboxInstruction(NamedTuple):
    """One instruction of a transaction that succeeded, addressed to the inbox (or, in memo mode, to SPL Memo)."""

    transaction_index: int
    """Of the transaction in its block."""
    instruction_index: int
    """Top-level index in the transaction."""
    signature: Signature
    accounts: tuple[Pubkey, ...]
    """In the order of the instruction, lookup tables resolved; the payer is the first."""
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SolanaBlock:
    """One block as a reader needs it."""

    slot: Slot
    blockhash: bytes
    parent_slot: Slot
    previous_blockhash: bytes
    block_height: int
    block_time_s: int | None
    """Estimated production time; may repeat, and may be absent."""
    signatures: tuple[Signature, ...]
    """Of every transaction of the block, also failed ones and those of others."""
    failed: frozenset[Signature]
    """Those of them that failed on chain: paid for, without effect."""
    instructions: tuple[InboxInstruction, ...]
    """Of transactions that succeeded, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxState:
    """What a rollup's account on Solana says."""

    sequence: int
    """Postings that named the rollup."""
    data_bytes: int
    """Instruction data of those postings."""
    rolling_hash: bytes
    """See `nodes.rules.inbox.roll`; 32 zero bytes at first."""
