"""Everything that can be asked of a dev node's chain. `chain.Chain` adds what changes it.

A level is a slot: "processed" is the open slot, whose state shows at once; "confirmed" and "finalized" are high-water
marks. What an account was at a level follows from the accounts now and the pre-images of every slot since.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from random import Random

from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.system_program import ID as SYSTEM_PROGRAM

from nodes.model.solana import BLOCKHASH_AGE, SolanaTiming
from nodes.solana.devnode import bank as banking
from nodes.solana.devnode.bank import Bank, PreImages
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.costs import budget_for
from nodes.solana.devnode.faults import Faults
from nodes.solana.devnode.history import History
from nodes.solana.devnode.values import Decoded, ExecutedTransaction, FrozenBlock, Level, Status

LEADER_SLOTS = 4
"""Consecutive slots of one leader."""
SLOT_HASHES = 512
"""Blocks that the SlotHashes sysvar names."""
MAX_LAG_SLOTS = 64
"""The farthest a lagging view falls behind; pre-images are kept for so many slots below the finalized one."""


class OpenSlot:
    """The slot that takes transactions."""

    def __init__(self, slot: int, config: ChainConfig, *, slot_ms: int) -> None:
        self.slot = slot
        self.undo: PreImages = {}
        self.transactions: list[ExecutedTransaction] = []
        self.budget = budget_for(
            slot_ms=slot_ms,
            block_cost_max=config.block_cost_max,
            account_cost_percent=config.account_cost_percent,
            transactions_max=config.block_transactions_max,
        )
        self.has_sysvars = False


class ChainView:
    """The state of a chain, and what it answers."""

    def __init__(self, config: ChainConfig) -> None:
        self.config = config
        self._timing = config.timing
        self._anchors = [(0, config.genesis_time_s * 1_000, config.timing.slot_ms)]
        """Slot, its Unix time in ms, and how long slots last from there on; ascending."""
        self._faucet = Keypair.from_seed(seed_of(config, "faucet"))
        self.faucet = self._faucet.pubkey()
        """The account that airdrops come from."""
        self.validators = tuple(
            Keypair.from_seed(seed_of(config, f"validator {index}")).pubkey() for index in range(config.validators)
        )
        """Identities that lead in turn; the first one is this node's."""
        self.genesis_hash = Hash(seed_of(config, f"genesis at {config.genesis_time_s}"))
        self._bank = Bank(is_v1_enabled=config.is_v1_enabled)
        self._bank.set_account(self.faucet, Account(config.faucet_lamports, b"", SYSTEM_PROGRAM))
        genesis = FrozenBlock(
            slot=config.first_slot,
            parent_slot=max(0, config.first_slot - 1),
            height=0,
            blockhash=self.genesis_hash,
            previous_blockhash=Hash.default(),
            time_s=self.time_of(config.first_slot),
            leader=self.leader(config.first_slot),
            transactions=(),
        )
        self._history = History(genesis)
        self._slot_hashes = [(genesis.slot, genesis.blockhash)]
        """Blocks of the live branch, oldest first; the newest `SLOT_HASHES` of them count."""
        self._open = OpenSlot(genesis.slot + 1, config, slot_ms=self._timing.slot_ms)
        self._pending: dict[str, Decoded] = {}
        self._marks: dict[Level, int] = {"confirmed": genesis.slot, "finalized": genesis.slot}
        self._faults = Faults(Random(config.seed))
        self.transaction_count = 0
        """Transactions of the live branch since genesis, the open slot's included."""
        self.pending_dropped_count = 0
        """Transactions for which there was no room to wait."""

    @property
    def open_slot(self) -> int:
        """The slot that takes transactions, or that will have no block."""
        return self._open.slot

    @property
    def tip(self) -> FrozenBlock:
        """The newest block."""
        return self._history.tip.block

    @property
    def first_slot(self) -> int:
        """Slot of the oldest block in memory."""
        return self._history.oldest.block.slot

    @property
    def pending_count(self) -> int:
        """Transactions that wait for a slot with room."""
        return len(self._pending)

    @property
    def timing(self) -> SolanaTiming:
        """How long slots last, and how far levels are apart."""
        return self._timing

    @property
    def faults(self) -> Faults:
        """What goes wrong at the moment."""
        return self._faults

    def slot(self, level: Level) -> int:
        """The newest slot of a level, as this node shows it. While the view lags it is an older one."""
        lag = self._faults.lag_slots
        if level == "processed":
            if lag:
                return self._history.newest_until(self.tip.slot - lag).block.slot
            return self.tip.slot if self._faults.skips_left else self._open.slot
        if lag:
            # After a fork the newest block may be close to the finalized one; no view goes back beyond the pre-images.
            behind = max(self.tip.slot - lag - self._distance(level), self._marks["finalized"] - MAX_LAG_SLOTS)
            return min(self._marks[level], self._history.newest_until(behind).block.slot)
        return self._marks[level]

    def block_height(self, level: Level) -> int:
        """Height of the block of a level; that of the open slot for "processed"."""
        is_open = self._shows_open_slot(level)
        return self.tip.height + 1 if is_open else self._block_at(level).height

    def latest_blockhash(self, level: Level) -> tuple[Hash, int]:
        """The newest blockhash of a level, and the last block height at which it is valid."""
        block = self._block_at(level)
        return block.blockhash, block.height + BLOCKHASH_AGE

    def is_blockhash_valid(self, blockhash: Hash, level: Level) -> bool:
        """Whether a transaction with this blockhash could land in the block of this level."""
        height = self._history.height_of(blockhash)
        return height is not None and height <= self.block_height(level) <= height + BLOCKHASH_AGE

    def leader(self, slot: int) -> Pubkey:
        """Who produces a slot's block."""
        return self.validators[slot // LEADER_SLOTS % len(self.validators)]

    def time_of(self, slot: int) -> int:
        """Unix time of a slot in seconds."""
        return self.time_ms_of(slot) // 1_000

    def time_ms_of(self, slot: int) -> int:
        """Unix time of a slot in milliseconds: it follows from the slot, not from a clock."""
        anchor = next((anchor for anchor in reversed(self._anchors) if anchor[0] <= slot), self._anchors[0])
        return anchor[1] + (slot - anchor[0]) * anchor[2]

    def block(self, slot: int) -> FrozenBlock | None:
        """The live branch's block of a slot, whatever its level; None where it has none or it was pruned."""
        node = self._history.block(slot)
        return node.block if node else None

    def blocks_between(self, start: int, end: int, level: Level) -> Sequence[int]:
        """Slots from `start` to `end`, both included, that have a block of this level."""
        return self._history.slots_between(start, min(end, self.slot(level)))

    def fee_of(self, message: Message | MessageV0) -> int | None:
        """Base fee of a message in lamports; None where its blockhash is not valid."""
        if not self.is_blockhash_valid(message.recent_blockhash, "processed"):
            return None
        return banking.fee_of(message)

    def status_of(self, signature: str) -> Status | None:
        """Where a transaction stands; None where it has not landed on the live branch, or was pruned."""
        found = self._history.transaction(signature)
        if found is None or found.slot > self.slot("processed"):
            return None
        if found.slot <= self.slot("finalized"):
            return Status(found.slot, found.error, None, "finalized")
        level: Level = "confirmed" if found.slot <= self.slot("confirmed") else "processed"
        return Status(found.slot, found.error, max(0, self.tip.slot - found.slot), level)

    def transaction(self, signature: str, level: Level) -> ExecutedTransaction | None:
        """A transaction that has reached a level."""
        found = self._history.transaction(signature)
        return None if found is None or found.slot > self.slot(level) else found

    def signatures_for(
        self, address: Pubkey, level: Level, *, before: str | None = None, until: str | None = None, limit: int = 1_000
    ) -> list[ExecutedTransaction]:
        """Transactions of a level that name an address, newest first, between `until` and `before` (both excluded)."""
        newest = self.slot(level)
        found: list[ExecutedTransaction] = []
        is_skipping = before is not None
        for transaction in self._history.of_address(address):
            if len(found) == limit or transaction.signature == until:
                break
            if is_skipping:
                is_skipping = transaction.signature != before
            elif transaction.slot <= newest:
                found.append(transaction)
        return found

    def account(self, address: Pubkey, level: Level) -> Account | None:
        """An account as it was at a level. Sysvars are always those of the open slot."""
        if self._shows_open_slot(level):
            self._set_sysvars()
            return self._bank.account(address)
        is_changed, account = False, None
        for undo in self._undo_after(self._block_at(level).slot):
            if address in undo:
                is_changed, account = True, undo[address]
        return account if is_changed else self._bank.account(address)

    def accounts(self, addresses: Iterable[Pubkey], level: Level) -> list[Account | None]:
        """`account` of each address."""
        return [self.account(address, level) for address in addresses]

    def program_accounts(self, program: Pubkey, level: Level) -> list[tuple[Pubkey, Account]]:
        """The accounts that a program owned at a level, by address."""
        found: dict[Pubkey, Account | None] = dict(self._bank.program_accounts(program))
        if not self._shows_open_slot(level):
            for undo in self._undo_after(self._block_at(level).slot):
                found.update(undo)
        owned = ((key, account) for key, account in found.items() if account is not None and account.owner == program)
        return sorted(owned, key=lambda item: bytes(item[0]))

    def minimum_balance(self, data_bytes: int) -> int:
        """Lamports that exempt an account of this size from rent."""
        return self._bank.minimum_balance(data_bytes)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _distance(self, level: Level) -> int:
        timing = self._timing
        return timing.confirm_slots if level == "confirmed" else timing.finalize_slots

    def _shows_open_slot(self, level: Level) -> bool:
        return level == "processed" and not self._faults.lag_slots and not self._faults.skips_left

    def _block_at(self, level: Level) -> FrozenBlock:
        """The newest block of a level. A mark may name an abandoned block; the newest one below it stands for it."""
        return self._history.newest_until(self.slot(level)).block

    def _undo_after(self, slot: int) -> Iterable[PreImages]:
        """Pre-images since a block, newest first: of those that hold an account the last one counts."""
        yield self._open.undo
        for node in self._history.blocks_after(slot):
            assert node.undo is not None, "pre-images are pruned below every level only"
            yield node.undo

    def _set_sysvars(self) -> None:
        if not self._open.has_sysvars:
            newest = self._slot_hashes[: -SLOT_HASHES - 1 : -1]
            self._bank.begin_slot(slot=self._open.slot, time_s=self.time_of(self._open.slot), slot_hashes=newest)
            self._open.has_sysvars = True


def seed_of(config: ChainConfig, what: str) -> bytes:
    """32 bytes that this chain alone has for a purpose."""
    return sha256(f"lockstep dev node {config.seed} {what}".encode()).digest()
