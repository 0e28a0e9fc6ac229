"""Brings proved batches to L1: one `settle` transaction each, in order, and tells what became of them.

One transaction of the account is under way at a time: the next batch is signed when the one before is in a block, since
its statements name the roots that the one before leaves. Signed bytes are in the journal before they are sent, so that
a settler that was killed sends the same bytes again, and a batch can never settle twice: L1 checks a proof against the
roots it holds, and a nonce counts once.

Nothing is signed for heights that are being resolved again, and a batch that was never signed is given up once they
stand otherwise. A batch that L1 reverted is told as over only when the revert is final: until then a reorg could bring
the same bytes back, and they might succeed.

What is already true on L1 is asked first, always: a batch whose roots stand there is settled, whoever sent it. After a
crash between sending and noting, and in open proving, nothing else tells.

After a reorg the same bytes are sent again, in order of their nonces.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from nodes.agglayer.batch import (
    Batch,
    L1Change,
    L1Facts,
    L1Level,
    SettlementEvent,
    SettlementFinal,
    SettlementIncluded,
    SettlementItem,
    SettlementReorged,
    SettlementReverted,
)
from nodes.agglayer.l1_view import SettledBy
from nodes.agglayer.settlement_journal import BatchRecord, BatchState, SentTransaction, SettlementJournal
from nodes.agglayer.standing import Standing
from nodes.ethereum.account import Fees, L1Account
from nodes.ethereum.client import L1Client, L1Receipt
from nodes.evm.agglayer_contracts import MANAGER
from nodes.evm.agglayer_l1_calls import Settlement as SettlementCall
from nodes.evm.agglayer_l1_calls import settle_call
from nodes.evm.contracts import packaged_reverts
from nodes.model.errors import InvalidInput, RpcError, Unavailable
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.events import SettlementMoved
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

RESEND_BLOCKS = 2
"""L1 blocks without the transaction after which the same bytes are sent again."""
REPLACE_BLOCKS = 4
"""After which it is replaced by one with higher fees."""
MAX_REPLACEMENTS = 20
"""Fees are then 1.1 ** 20, about seven times, those of the first."""
GAS_PERCENT = 130
"""Of the estimate: storage may differ by the time of inclusion."""
RETRY_S = 0.5
MAX_EVENTS = 10_000
_REVERTED = 3
"""JSON-RPC error code of a call that reverts (geth and anvil)."""
_TOO_EARLY = "OnlyTrustedAggregatorUntil"
_STALE_NONCE = "nonce too low"

_log = logging.getLogger(__name__)


class SettlementFacts(L1Facts, Protocol):
    """What a settler reads from L1 beside the facts of the service."""

    def settled_by(self, new_pessimistic_root: bytes) -> SettledBy | None:
        """Where a pessimistic root was settled, whoever did it."""
        ...

    def changes(self) -> AsyncGenerator[L1Change, None]:
        """As in `L1Facts`, to be closed by its reader."""
        ...


@dataclass(slots=True)
class _Sending:
    """What this process knows of a batch's transaction beyond the journal: when it was sent, in L1 blocks."""

    first_block: int
    last_block: int


class Settler:
    """Satisfies `nodes.agglayer.batch.Settlement`. `run` owns it until `stop`; client and view belong to the caller."""

    def __init__(
        self,
        *,
        directory: Path,
        client: L1Client,
        view: SettlementFacts,
        account: L1Account,
        tracer: Tracer,
        standing: Callable[[int], Standing] | None = None,
        crash: CrashPoint = no_crash,
    ) -> None:
        """`standing` judges a batch by its id before anything is signed for it; without it every batch stands.

        Nothing is opened before `run`.
        """
        self._directory = directory
        self._client = client
        self._view = view
        self._account = account
        self._tracer = tracer
        self._standing = standing
        self._crash = crash
        self._stages = StageCpu("settle")
        self._opened: SettlementJournal | None = None
        self._submitted: set[int] = set()
        """Batches whose events the caller of this process wants."""
        self._sending: dict[int, _Sending] = {}
        self._events: deque[SettlementEvent] = deque()
        self._has_events = asyncio.Event()
        self._wanted = asyncio.Event()
        self._stopping = asyncio.Event()

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._stages.totals_ns

    async def run(self) -> None:
        """Settle what is in the journal and what is submitted, until `stop`.

        An L1 that cannot be reached is waited for. Raises Unavailable where the journal is held by another process.
        """
        journal = self._journal
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._listen(), name="settlement: L1 heads"),
                    group.create_task(self._work(), name="settlement"),
                ]
                await self._stopping.wait()
                for task in tasks:
                    task.cancel()
        finally:
            journal.close()

    def stop(self) -> None:
        """Let `run` return. Idempotent."""
        self._stopping.set()

    # The Settlement port

    async def submit(self, batch: Batch) -> None:
        """Take a batch; durable when it returns. Known batches are told about again. Raises InvalidInput."""
        known = self._journal.batch(batch.batch_id)
        record = known or _record_of(batch)
        if known is not None and known.calldata != settle_calldata(batch):
            raise InvalidInput(f"batch {batch.batch_id} was submitted before with another content")
        if known is None:
            self._crash("settlement.before_journal")
            self._journal.write(record)
            self._crash("settlement.after_journal")
        self._submitted.add(batch.batch_id)
        self._tell(record)
        self._wanted.set()

    async def events(self) -> AsyncGenerator[SettlementEvent, None]:
        """What becomes of batches that were submitted to this object, in order, without end. One reader."""
        while True:
            while self._events:
                yield self._events.popleft()
            self._has_events.clear()
            await self._has_events.wait()

    # The loop

    @property
    def _journal(self) -> SettlementJournal:
        if self._opened is None:
            self._opened = SettlementJournal(self._directory, account=self._account.address)
        return self._opened

    async def _listen(self) -> None:
        async with aclosing(self._view.changes()) as changes:
            async for _ in changes:
                self._wanted.set()

    async def _work(self) -> None:
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._stages.metered("settle", self.step())
            except (Unavailable, RpcError) as problem:
                _log.info("settlement: %s; trying again", problem)
                await asyncio.sleep(RETRY_S)
                self._wanted.set()

    async def step(self) -> None:
        """Bring every open batch as far as L1 lets it now. For `run`, and for tests. Raises Unavailable, RpcError."""
        may_send = True
        for record in self._journal.open_batches():
            if record.state is not BatchState.QUEUED:
                await self._follow_up(record)
            if record.state is BatchState.QUEUED and may_send:
                await self._begin(record)
            # A batch builds on the roots of the one before: that must be in a block first.
            may_send = may_send and record.state not in (BatchState.QUEUED, BatchState.SENT)

    # A batch that is on its way

    async def _follow_up(self, record: BatchRecord) -> None:
        sent = self._journal.transactions(record.batch_id)
        receipt = await self._receipt(record, sent)
        if (receipt is None or not receipt.succeeded) and await self._adopt(record):
            return  # somebody else was faster with the same proof: the certificates are settled all the same
        if receipt is not None:
            self._note_receipt(record, receipt, await self._reason(record, receipt))
            return
        if record.state is BatchState.INCLUDED:
            self._crash("settlement.before_reorged")
            self._move(record, BatchState.SENT if sent else BatchState.QUEUED, step="reorged")
            self._emit(record, SettlementReorged(batch_id=record.batch_id, tx_hash=record.tx_hash))
            self._place(record, None)
            self._sending.pop(record.batch_id, None)
        if sent:
            await self._keep_alive(record, sent)

    async def _receipt(self, record: BatchRecord, sent: list[SentTransaction]) -> L1Receipt | None:
        hashes = [transaction.signed.hash for transaction in sent]
        if record.tx_hash and record.tx_hash not in hashes:
            hashes.append(record.tx_hash)  # type: ignore[arg-type]
        found = [receipt for receipt in await self._client.receipts(hashes) if receipt is not None]
        # Of several transactions one nonce each may be used; only one can have succeeded.
        return min(found, key=lambda receipt: not receipt.succeeded, default=None)

    async def _reason(self, record: BatchRecord, receipt: L1Receipt) -> str:
        """Why L1 reverted it, found by calling it again on the block before; empty where it succeeded."""
        if receipt.succeeded or record.state is BatchState.REVERTED:
            return record.reason
        before = hex(max(0, receipt.block_number - 1))
        return (
            await self._simulate(record, block=before) or "reverted, though the same call on the block before does not"
        )

    def _note_receipt(self, record: BatchRecord, receipt: L1Receipt, reason: str) -> None:
        is_new = record.l1_block_hash != receipt.block_hash
        state = BatchState.INCLUDED if receipt.succeeded else BatchState.REVERTED
        if is_new:
            if record.state is BatchState.INCLUDED:
                self._emit(record, SettlementReorged(batch_id=record.batch_id, tx_hash=record.tx_hash))
                self._trace(record, step="reorged")
            self._crash("settlement.before_included")
            record.reason = reason
            self._place(record, receipt)
            self._move(record, state, step=state.value)
            self._crash("settlement.after_included")
            self._tell(record)
            self._sending.pop(record.batch_id, None)
        if receipt.block_number <= self._view.block_number(L1Level.FINALIZED):
            self._finish(record)

    def _finish(self, record: BatchRecord) -> None:
        record.is_done = True
        if record.state is BatchState.REVERTED:
            self._journal.write(record)
            self._tell(record)
            return
        self._crash("settlement.before_final")
        self._move(record, BatchState.FINAL, step="final")
        self._tell(record)

    async def _keep_alive(self, record: BatchRecord, sent: list[SentTransaction]) -> None:
        """Send again, and replace by one with higher fees in time. Heads count, not seconds: L1 may stand still."""
        head = self._view.block_number()
        newest = sent[-1]
        nonce = await self._client.nonce(self._account.address)
        if nonce > newest.signed.nonce:
            await self._give_up_nonce(record, sent)
            return
        sending = self._sending.get(record.batch_id)
        if sending is None:
            sending = self._sending[record.batch_id] = _Sending(first_block=head, last_block=head)
            await self._send(newest)
        elif head - sending.first_block >= REPLACE_BLOCKS and len(sent) <= MAX_REPLACEMENTS:
            sending.first_block = sending.last_block = head
            await self._replace(record, newest)
        elif head - sending.last_block >= RESEND_BLOCKS:
            sending.last_block = head
            await self._send(newest)

    async def _give_up_nonce(self, record: BatchRecord, sent: list[SentTransaction]) -> None:
        """The nonce is used. Unless a receipt came meanwhile, it went into another transaction of this account."""
        if await self._receipt(record, sent) is not None:
            self._wanted.set()
        elif record.state is BatchState.SENT:
            _log.warning("settlement: nonce %d was used by another transaction; signing anew", sent[-1].signed.nonce)
            self._move(record, BatchState.QUEUED, step="replaced")
        elif await self._client.nonce(self._account.address, L1Level.FINALIZED) > sent[-1].signed.nonce:
            self._finish(record)  # reverted, taken back by a reorg, and it cannot come again

    async def _replace(self, record: BatchRecord, newest: SentTransaction) -> None:
        now = Fees.above((await self._client.head()).base_fee_wei)
        fees = newest.fees.raised().at_least(now)
        signed = self._account.sign_call(
            to=MANAGER, calldata=record.calldata, nonce=newest.signed.nonce, gas_limit=newest.gas_limit, fees=fees
        )
        replacement = SentTransaction(signed=signed, fees=fees, gas_limit=newest.gas_limit)
        self._journal.write_sent(record, replacement)
        self._crash("settlement.after_replacement")
        self._trace(record, step="replaced", tx_hash=signed.hash)
        await self._send(replacement)

    async def _send(self, transaction: SentTransaction) -> None:
        try:
            await self._client.send_raw(transaction.signed.raw)
        except RpcError as error:
            # It is in a block that the view has not seen yet; the next head tells.
            if _STALE_NONCE not in error.message.lower():
                raise

    # A batch that has not been signed

    async def _begin(self, record: BatchRecord) -> None:
        if await self._adopt(record):
            return
        if not self._view.block_number():
            return  # at genesis L1 has no block before it, which the contract asks for
        standing = Standing.STANDS if self._standing is None else self._standing(record.batch_id)
        # What was signed once may be on L1's way still; only what never was can be given up.
        if standing is not Standing.STANDS and not self._journal.transactions(record.batch_id):
            if standing is Standing.REPLACED:
                await self._refuse(record, "VerdictReplaced: heights of it were resolved again in a new epoch")
            return
        refusal = await self._simulate(record)
        if refusal.startswith(_TOO_EARLY):
            return  # another account's window; the next head tells
        if refusal:
            if not self._settled_elsewhere(record) and not await self._is_newer_on_l1():
                await self._refuse(record, refusal)
            return  # where L1 is ahead of the view, the next head tells
        estimate = await self._client.estimate_gas(MANAGER, record.calldata, sender=self._account.address)
        nonce = await self._client.nonce(self._account.address)
        fees = Fees.above((await self._client.head()).base_fee_wei)
        stale = self._journal.highest_fees(nonce)
        if stale is not None:  # of a batch that somebody else has settled: the pool may still hold it
            fees = fees.at_least(stale.raised())
        gas_limit = estimate * GAS_PERCENT // 100
        signed = self._account.sign_call(
            to=MANAGER, calldata=record.calldata, nonce=nonce, gas_limit=gas_limit, fees=fees
        )
        record.state = BatchState.SENT
        transaction = SentTransaction(signed=signed, fees=fees, gas_limit=gas_limit)
        self._crash("settlement.before_signed")
        self._journal.write_sent(record, transaction)
        self._crash("settlement.after_signed")
        head = self._view.block_number()
        self._sending[record.batch_id] = _Sending(first_block=head, last_block=head)
        await self._send(transaction)
        self._crash("settlement.after_send")
        self._trace(record, step="sent", tx_hash=signed.hash)

    async def _refuse(self, record: BatchRecord, reason: str) -> None:
        """It is over without a transaction, unless one that was signed for it before can still come."""
        sent = self._journal.transactions(record.batch_id)
        if sent and await self._client.nonce(self._account.address, L1Level.FINALIZED) <= sent[-1].signed.nonce:
            return
        record.reason, record.is_done = reason, True
        self._place(record, None)
        self._move(record, BatchState.REVERTED, step="reverted")
        self._tell(record)

    async def _simulate(self, record: BatchRecord, *, block: str = "latest") -> str:
        """Why the call would revert on a block's state; empty where it would not."""
        try:
            await self._client.call(MANAGER, record.calldata, sender=self._account.address, block=block)
        except RpcError as error:
            if error.code != _REVERTED and "revert" not in error.message.lower():
                raise
            data = error.data
            return packaged_reverts().text(bytes.fromhex(data[2:])) if isinstance(data, str) else error.message
        return ""

    async def _is_newer_on_l1(self) -> bool:
        return (await self._client.head()).number > self._view.block_number()

    # A batch that is settled by somebody else, or by a transaction that this journal lost

    def _settled_elsewhere(self, record: BatchRecord) -> bool:
        return all(self._view.settled_by(root) is not None for _, root in record.new_roots)

    async def _adopt(self, record: BatchRecord) -> bool:
        """Take whatever transaction settled the batch for ours. False where none did, or L1 has just taken it back."""
        if not self._settled_elsewhere(record):
            return False
        settled = self._view.settled_by(record.new_roots[0][1])
        receipt = None if settled is None else await self._client.receipt(settled.tx_hash)
        if receipt is None:
            return False
        self._note_receipt(record, receipt, "")
        return True

    # Telling

    def _place(self, record: BatchRecord, receipt: L1Receipt | None) -> None:
        record.tx_hash = b"" if receipt is None else receipt.tx_hash
        record.l1_block = 0 if receipt is None else receipt.block_number
        record.l1_block_hash = b"" if receipt is None else receipt.block_hash
        record.gas_used = 0 if receipt is None else receipt.gas_used
        self._journal.write(record)

    def _move(self, record: BatchRecord, state: BatchState, *, step: str) -> None:
        record.state = state
        self._journal.write(record)
        self._trace(record, step=step)

    def _trace(self, record: BatchRecord, *, step: str, tx_hash: bytes = b"") -> None:
        self._tracer.record(
            SettlementMoved(
                step=step,
                tx_hash=tx_hash or record.tx_hash,
                l1_block=record.l1_block,
                gas_used=record.gas_used,
                certificate_ids=record.certificate_ids,
            )
        )

    def _tell(self, record: BatchRecord) -> None:
        """Say where a batch stands, as far as its caller may act on it: a revert only once nothing undoes it."""
        batch_id, tx_hash = record.batch_id, record.tx_hash
        if record.state is BatchState.REVERTED and record.is_done:
            self._emit(record, SettlementReverted(batch_id=batch_id, tx_hash=tx_hash, reason=record.reason))
        elif record.state in (BatchState.INCLUDED, BatchState.FINAL):
            kind = SettlementIncluded if record.state is BatchState.INCLUDED else SettlementFinal
            event = kind(batch_id=batch_id, tx_hash=tx_hash, l1_block=record.l1_block, gas_used=record.gas_used)
            self._emit(record, event)

    def _emit(self, record: BatchRecord, event: SettlementEvent) -> None:
        if record.batch_id not in self._submitted:
            return
        assert len(self._events) < MAX_EVENTS, "nobody reads the events of settlements"
        self._events.append(event)
        self._has_events.set()


async def settle_directly(client: L1Client, account: L1Account, batch: Batch, *, deadline_s: float) -> L1Receipt:
    """Settle one proved batch with any account, as open proving allows after the trusted aggregator's window.

    Raises InvalidInput with L1's reason where it would revert, Unavailable where it is in no block in time.
    """
    calldata = settle_calldata(batch)
    try:
        estimate = await client.estimate_gas(MANAGER, calldata, sender=account.address)
    except RpcError as error:
        reason = packaged_reverts().text(bytes.fromhex(error.data[2:])) if isinstance(error.data, str) else error
        raise InvalidInput(f"batch {batch.batch_id} cannot be settled now: {reason}") from error
    signed = account.sign_call(
        to=MANAGER,
        calldata=calldata,
        nonce=await client.nonce(account.address, "pending"),
        gas_limit=estimate * GAS_PERCENT // 100,
        fees=Fees.above((await client.head()).base_fee_wei),
    )
    await client.send_raw(signed.raw)
    return (await client.wait_receipts([signed.hash], deadline_s=deadline_s))[0]


def _record_of(batch: Batch) -> BatchRecord:
    if not batch.items:
        raise InvalidInput(f"batch {batch.batch_id} has no certificates")
    return BatchRecord(
        batch_id=batch.batch_id,
        calldata=settle_calldata(batch),
        certificate_ids=tuple(item.certificate_id for item in batch.items),
        new_roots=tuple((item.network_id, item.new_pessimistic_root) for item in batch.items),
    )


def settle_calldata(batch: Batch) -> bytes:
    """The call of `AgglayerManager` that settles a batch."""
    return settle_call([_call_item(item) for item in batch.items], batch.proof)


def _call_item(item: SettlementItem) -> SettlementCall:
    return SettlementCall(
        network_id=item.network_id,
        l1_info_tree_leaf_count=item.l1_info_tree_leaf_count,
        new_local_exit_root=item.new_local_exit_root,
        new_pessimistic_root=item.new_pessimistic_root,
        range=item.settled_range,
    )
