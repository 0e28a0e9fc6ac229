"""The dev node's chain: slots, leaders, blocks that name their parent, three levels, and what goes wrong on request.

One thread, no I/O, no clock: whoever owns it submits and ticks. A transaction is executed when it arrives, in the open
slot, and that state is what "processed" shows. A tick ends the slot with a block and opens the next one. "Confirmed"
and "finalized" follow the newest block at a distance in slots, as high-water marks that never fall: a fork below the
confirmed mark is a broken promise, and the mark stays until the new branch has passed it. Nothing forks below the
finalized mark.

What the open slot cannot take (see `costs`) waits for the next one. A transaction that is refused before execution
leaves no trace: its sender sees silence, as on a real network; `simulate` tells why.
"""

from hashlib import sha256
from typing import Any

from solders.compute_budget import set_compute_unit_limit
from solders.hash import Hash
from solders.message import Message
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from nodes.model.errors import InvalidInput
from nodes.model.solana import BLOCKHASH_AGE, SolanaTiming
from nodes.solana.devnode.bank import PreImages, Refused
from nodes.solana.devnode.config import ChainConfig
from nodes.solana.devnode.costs import budget_for, cost_of
from nodes.solana.devnode.history import ChainBlock
from nodes.solana.devnode.values import (
    SIGNATURE_FAILURE,
    BlockFrozen,
    ClockEntry,
    Decoded,
    Event,
    ExecutedTransaction,
    ExpireEntry,
    Forked,
    ForkEntry,
    FrozenBlock,
    LedgerEntry,
    LevelRaised,
    Listener,
    Record,
    Reinclude,
    Rejected,
    Simulation,
    SlotEntry,
    SlotOpened,
    SlotSkipped,
    TimingEntry,
    TransactionExecuted,
    refused_simulation,
)
from nodes.solana.devnode.view import MAX_LAG_SLOTS, SLOT_HASHES, ChainView, OpenSlot

_AIRDROP_UNITS = 1_000
_AIRDROP_VARIANTS = 100_000
_MISSES_MAX = 256
"""A new slot stops looking into what waits once so many in a row found no room: a long queue must not cost a slot."""
_ANCHORS_KEPT = 1_000
"""Changes of timing that block times of old slots still follow."""


def discard(entry: LedgerEntry) -> None:
    """A chain that lives in memory only."""


class Chain(ChainView):
    """A chain from its genesis on. `record` makes entries durable before anybody hears of what they say."""

    def __init__(self, config: ChainConfig, *, record: Record = discard) -> None:
        """Raises nothing; the same configuration always gives the same genesis."""
        super().__init__(config)
        self.listeners: list[Listener] = []
        self._record = record
        self._announced = dict(self._marks)
        self._verified: Decoded | None = None
        self._airdrops_count = 0

    # -- transactions -------------------------------------------------------------------------------------------------

    def decode(self, raw: bytes) -> Decoded:
        """Read a transaction. Raises Rejected (-32602) where it is too large, malformed or of a foreign version."""
        return self._bank.decode(raw)

    def submit(self, transaction: bytes | Decoded) -> str:
        """Take a transaction in; its signature.

        Raises Rejected where it cannot be read (-32602) or where a signature is wrong (-32003). Any other flaw, and a
        duplicate, is met with silence: the transaction just never lands.
        """
        decoded = transaction if isinstance(transaction, Decoded) else self.decode(transaction)
        if decoded is not self._verified and not all(decoded.transaction.verify_with_results()):
            raise Rejected(SIGNATURE_FAILURE, "Transaction signature verification failure")
        self._verified = None
        if not self._faults.loses_transaction():
            self._offer(decoded)
        return decoded.signature

    def simulate(
        self, transaction: bytes | Decoded, *, sig_verify: bool = False, replace_blockhash: bool = False
    ) -> Simulation:
        """What the transaction would do now, in the open slot. Raises Rejected where it cannot be read.

        With `sig_verify` a wrong signature is the simulation's error. With `replace_blockhash` neither its blockhash
        nor whether it has landed before matters.
        """
        decoded = transaction if isinstance(transaction, Decoded) else self.decode(transaction)
        accounts = self._bank.resolve(decoded)
        replacement = self.latest_blockhash("processed") if replace_blockhash else None
        error: Any = None
        if sig_verify:
            if all(decoded.transaction.verify_with_results()):
                self._verified = decoded
            else:
                error = "SignatureFailure"
        if error is None and not replace_blockhash:
            error = self._flaw_of(decoded, seen_by_view=True)
        if error is None:
            error = accounts.error if isinstance(accounts, Refused) else None
        if error is not None or isinstance(accounts, Refused):
            return refused_simulation(error, None if isinstance(accounts, Refused) else accounts, replacement)
        self._set_sysvars()
        trial = self._bank.simulate(decoded, accounts)
        if isinstance(trial, Refused):
            return refused_simulation(trial.error, accounts, replacement)
        return Simulation(
            error=trial.error,
            logs=trial.metadata.logs(),
            compute_units=trial.metadata.compute_units_consumed(),
            fee_lamports=trial.metadata.fee(),
            return_data=trial.metadata.return_data(),
            inner_instructions=trial.metadata.inner_instructions(),
            accounts=accounts,
            post_accounts=trial.post_accounts,
            pre_balances=self._bank.balances(accounts.keys),
            loaded_accounts_bytes=self._bank.loaded_bytes(accounts.keys),
            replacement_blockhash=replacement,
        )

    def airdrop(self, address: Pubkey, lamports: int) -> str:
        """Send lamports from the faucet; the signature.

        Raises InvalidInput where the faucet has not so many, or where they are too few for an account to exist.
        """
        _check_positive("lamports", lamports)
        self._airdrops_count += 1
        instructions = [
            # Two equal airdrops must not have one signature.
            set_compute_unit_limit(_AIRDROP_UNITS + self._airdrops_count % _AIRDROP_VARIANTS),
            transfer(TransferParams(from_pubkey=self.faucet, to_pubkey=address, lamports=lamports)),
        ]
        message = Message.new_with_blockhash(instructions, self.faucet, self.tip.blockhash)
        decoded = self.decode(bytes(VersionedTransaction(message, [self._faucet])))
        simulation = self.simulate(decoded, replace_blockhash=True)
        if simulation.error is not None:
            raise InvalidInput(f"an airdrop of {lamports:,} lamports is not possible: {simulation.error}")
        self._offer(decoded)
        return decoded.signature

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, slots: int = 1) -> None:
        """End the open slot and open the next, so many times."""
        for _ in range(slots):
            self._end_slot(self._open.slot + 1)

    def tick_to(self, slot: int) -> None:
        """End the open slot and open a later one; those between have no block, since their leaders came too late."""
        assert slot > self._open.slot, "slots only grow"
        self._end_slot(slot)

    def jump_to(self, slot: int) -> None:
        """Leave the open slot without a block, for a later one; its transactions go along."""
        assert slot >= self._open.slot, "slots only grow"
        if slot > self._open.slot:
            self._hold_open_transactions()
            self._open_next(slot)

    def set_timing(self, timing: SolanaTiming, *, time_ms: int = 0) -> None:
        """Slots last so long from now on, and levels are so far apart; the next slot is not before `time_ms` (Unix).

        Block times never fall.
        """
        slot = self._open.slot + bool(self._open.transactions)
        entry = TimingEntry(slot=slot, time_ms=max(time_ms, self.time_ms_of(slot)), timing=timing)
        self._record(entry)
        self._apply_timing(entry)

    def skip(self, slots: int) -> None:
        """No block for so many slots, from the open one on: their leaders are off line. Raises InvalidInput.

        Transactions of the open slot, and those that arrive meanwhile, wait for the next leader.
        """
        _check_positive("slots", slots)
        self._hold_open_transactions()
        self._faults.skips_left += slots

    def drop(self, share: float, for_slots: int) -> None:
        """Lose so large a share of the submitted transactions for so many slots. Raises InvalidInput."""
        _check_positive("slots", for_slots)
        if not 0 <= share <= 1:
            raise InvalidInput(f"the share of dropped transactions is {share}, but must be between 0 and 1")
        self._faults.drop(share, for_slots)

    def lag(self, slots: int, for_slots: int) -> None:
        """Show everything as it was so many slots ago, for so many slots; transactions still arrive.

        Raises InvalidInput.
        """
        _check_positive("slots", for_slots)
        if not 0 <= slots <= MAX_LAG_SLOTS:
            raise InvalidInput(f"the view is to lag {slots} slots, but at most {MAX_LAG_SLOTS} are possible")
        self._faults.lag(slots, for_slots)

    def expire_blockhashes(self) -> None:
        """No transaction with a blockhash of a block so far can land any more.

        Block heights stay as they are, so who goes by the last valid height waits longer than it would have to.
        """
        self._record(ExpireEntry())
        self._history.expire_blockhashes()

    def fork(self, depth: int, reinclude: Reinclude = "same") -> Forked:
        """Abandon the open slot and the newest `depth` blocks; the next slot follows the block before them.

        Raises InvalidInput where that would abandon a finalized block.
        """
        stays = self._history.tip
        for _ in range(max(0, depth)):
            if stays.parent is None:
                break
            stays = stays.parent
        else:
            if depth >= 0 and stays.block.slot >= self._marks["finalized"]:
                return self._fork_to(stays, self._open.slot + 1, reinclude)
        possible = len(self._history.slots_between(self._marks["finalized"] + 1, self.tip.slot))
        raise InvalidInput(f"a fork of depth {depth} is not possible; {possible} blocks are not finalized")

    def replay(self, entry: LedgerEntry) -> None:
        """Do again what a ledger says was done. Raises InvalidInput where the outcome is another one.

        Nothing is recorded.
        """
        record, self._record = self._record, discard
        try:
            match entry:
                case SlotEntry():
                    self._replay_slot(entry)
                case ForkEntry():
                    stays = self._history.block(entry.parent_slot)
                    if stays is None or entry.parent_slot < self._marks["finalized"]:
                        raise InvalidInput(f"the ledger forks from slot {entry.parent_slot}, where it has no block")
                    self._fork_to(stays, entry.next_slot, "none")
                case ExpireEntry():
                    self._history.expire_blockhashes()
                case TimingEntry():
                    self._apply_timing(entry)
                case ClockEntry():
                    pass  # the process's matter
        finally:
            self._record = record

    # -- inside -------------------------------------------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)

    def _flaw_of(self, decoded: Decoded, *, seen_by_view: bool = False) -> str | None:
        """Why the transaction cannot land in the open slot, so far as the VM does not know it."""
        if self._history.transaction(decoded.signature) is not None:
            return "AlreadyProcessed"
        height = self._history.height_of(decoded.recent_blockhash)
        if height is None or self.tip.height + 1 > height + BLOCKHASH_AGE:
            return "BlockhashNotFound"
        if seen_by_view and self._faults.lag_slots and height > self._block_at("processed").height:
            return "BlockhashNotFound"
        return None

    def _offer(self, decoded: Decoded) -> None:
        """Execute a transaction in the open slot, let it wait, or forget it."""
        if self._flaw_of(decoded) is not None or decoded.signature in self._pending:
            return
        if self._faults.skips_left or not self._execute(decoded):
            if len(self._pending) < self.config.pending_transactions_max:
                self._pending[decoded.signature] = decoded
            else:
                self.pending_dropped_count += 1

    def _execute(self, decoded: Decoded) -> bool:
        """Execute a transaction if the open slot has room for it; False where it has not."""
        accounts = self._bank.resolve(decoded)
        if isinstance(accounts, Refused):
            return True
        opened = self._open
        cost = cost_of(decoded, accounts)
        writable = [key for key, is_writable in zip(accounts.keys, accounts.writable, strict=True) if is_writable]
        if not opened.budget.fits(cost.fixed + cost.compute_units_asked, writable):
            return False
        if not opened.has_sysvars:
            self._set_sysvars()
        landed = self._bank.execute(decoded, accounts, opened.undo)
        if isinstance(landed, Refused):
            return True
        used = cost.fixed + landed.metadata.compute_units_consumed()
        opened.budget.add(used, writable)
        transaction = ExecutedTransaction(
            decoded=decoded,
            slot=opened.slot,
            position=len(opened.transactions),
            accounts=accounts,
            error=landed.error,
            pre_balances=landed.pre_balances,
            post_balances=landed.post_balances,
            cost_units=used,
            metadata=landed.metadata,
            token_accounts_before=landed.token_accounts_before,
            token_accounts_after=landed.token_accounts_after,
        )
        opened.transactions.append(transaction)
        self._history.add_transaction(transaction)
        self.transaction_count += 1
        if self.listeners:
            self._emit(TransactionExecuted(transaction=transaction))
        return True

    def _drain_pending(self) -> None:
        """Offer what waits to the slot that has just opened, in the order of arrival."""
        if self._faults.skips_left:
            return
        waiting, self._pending = self._pending, {}
        misses_left = _MISSES_MAX
        for signature, decoded in waiting.items():
            if misses_left == 0:
                self._pending[signature] = decoded
            else:
                self._offer(decoded)
                misses_left = misses_left - 1 if signature in self._pending else _MISSES_MAX

    def _end_slot(self, next_slot: int) -> None:
        """The open slot is over, with a block or without."""
        if self._faults.skips_left:
            self._emit(SlotSkipped(slot=self._open.slot, parent_slot=self.tip.slot))
        else:
            self._freeze()
        self._faults.pass_slots(next_slot - self._open.slot)
        self._open_next(next_slot)
        self._announce_levels()

    def _apply_timing(self, entry: TimingEntry) -> None:
        self._timing = entry.timing
        self._anchors.append((entry.slot, entry.time_ms, entry.timing.slot_ms))
        del self._anchors[:-_ANCHORS_KEPT]
        self._open.has_sysvars = False

    def _freeze(self) -> None:
        opened, parent = self._open, self.tip
        digest = sha256(bytes(parent.blockhash) + opened.slot.to_bytes(8, "little"))
        for transaction in opened.transactions:
            digest.update(bytes(transaction.decoded.transaction.signatures[0]))
        block = FrozenBlock(
            slot=opened.slot,
            parent_slot=parent.slot,
            height=parent.height + 1,
            blockhash=Hash(digest.digest()),
            previous_blockhash=parent.blockhash,
            time_s=self.time_of(opened.slot),
            leader=self.leader(opened.slot),
            transactions=tuple(opened.transactions),
        )
        if self._record is not discard:
            raw = tuple(transaction.raw for transaction in block.transactions)
            digest_bytes = bytes(block.blockhash)
            entry = SlotEntry(slot=block.slot, parent_slot=parent.slot, blockhash=digest_bytes, transactions=raw)
            self._record(entry)
        self._history.add_block(block, opened.undo)
        self._slot_hashes.append((block.slot, block.blockhash))
        if len(self._slot_hashes) > 4 * SLOT_HASHES:  # a fork is never deeper than 512 slots
            del self._slot_hashes[: 2 * SLOT_HASHES]
        for level in self._marks:
            reached = self._history.newest_until(block.slot - self._distance(level)).block.slot
            self._marks[level] = max(self._marks[level], reached)
        self._prune()
        self._emit(BlockFrozen(block=block))

    def _open_next(self, slot: int) -> None:
        self._open = OpenSlot(slot, self.config, slot_ms=self._timing.slot_ms)
        if self.listeners:
            self._emit(SlotOpened(slot=slot, parent_slot=self.tip.slot, root=self.slot("finalized")))
        if self._pending:
            self._drain_pending()

    def _announce_levels(self) -> None:
        for level, announced in self._announced.items():
            slot = self.slot(level)
            if slot > announced:
                self._announced[level] = slot
                self._emit(LevelRaised(level=level, slot=slot, previous_slot=announced))

    def _prune(self) -> None:
        history, config = self._history, self.config
        finalized = self._marks["finalized"]
        history.prune_undo(below_slot=finalized - MAX_LAG_SLOTS)
        # Within the age of a blockhash a transaction must be known, or it could land twice, also after a deep fork.
        first_height = history.newest_until(finalized).block.height - BLOCKHASH_AGE
        while (
            history.blocks_count > config.history_blocks or history.transactions_count > config.history_transactions
        ) and history.oldest.block.height < first_height:
            history.prune_oldest()

    def _take_back_open(self) -> list[ExecutedTransaction]:
        """Undo the open slot; its transactions, oldest first."""
        opened = self._open
        self._bank.restore(opened.undo)
        self._history.remove_newest(reversed(opened.transactions))
        self.transaction_count -= len(opened.transactions)
        taken, opened.transactions, opened.undo = opened.transactions, [], {}
        return taken

    def _hold_open_transactions(self) -> None:
        """The open slot will have no block after all: its transactions wait, before all others."""
        taken = self._take_back_open()
        if taken:
            self._pending = {item.signature: item.decoded for item in taken} | self._pending
            gone = tuple(item.signature for item in taken)
            self._emit(Forked(parent_slot=self.tip.slot, abandoned_slots=(), abandoned_signatures=gone))

    def _fork_to(self, stays: ChainBlock, next_slot: int, reinclude: Reinclude) -> Forked:
        self._record(ForkEntry(parent_slot=stays.block.slot, next_slot=next_slot))
        groups = [self._take_back_open()]
        abandoned: list[ChainBlock] = []
        before: PreImages = {}
        while self._history.tip is not stays:
            node = self._history.remove_tip()
            assert node.undo is not None, "pre-images are pruned below the finalized mark only"
            before.update(node.undo)  # the oldest pre-image of an account is the one that counts
            groups.append(list(node.block.transactions))
            abandoned.append(node)
        self._bank.restore(before)
        del self._slot_hashes[len(self._slot_hashes) - len(abandoned) :]
        self.transaction_count -= sum(len(node.block.transactions) for node in abandoned)
        lost = [item.decoded for group in reversed(groups) for item in group]
        event = Forked(
            parent_slot=stays.block.slot,
            abandoned_slots=tuple(node.block.slot for node in reversed(abandoned)),
            abandoned_signatures=tuple(item.signature for item in lost),
        )
        if reinclude == "shuffled":
            self._faults.random.shuffle(lost)
        if reinclude != "none":
            self._pending = {item.signature: item for item in lost} | self._pending
        self._emit(event)
        self._open_next(next_slot)
        return event

    def _replay_slot(self, entry: SlotEntry) -> None:
        if entry.slot < self._open.slot or entry.parent_slot != self.tip.slot:
            raise InvalidInput(
                f"the ledger has slot {entry.slot} upon slot {entry.parent_slot}, "
                f"but slot {self._open.slot} upon slot {self.tip.slot} is next"
            )
        self.jump_to(entry.slot)
        self._open.budget = budget_for(
            slot_ms=1_000, block_cost_max=10**15, account_cost_percent=100, transactions_max=len(entry.transactions)
        )
        for raw in entry.transactions:
            self._execute(self.decode(raw))
        self._end_slot(entry.slot + 1)
        if bytes(self.tip.blockhash) != entry.blockhash:
            raise InvalidInput(
                f"executing slot {entry.slot} of the ledger again gives blockhash {self.tip.blockhash}, not "
                f"{Hash(entry.blockhash)}; was it written by another version?"
            )


def _check_positive(name: str, value: int) -> None:
    if value < 1:
        raise InvalidInput(f"{name} is {value}, but must be at least 1")
