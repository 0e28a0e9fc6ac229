"""Posts accepted bundles to Solana and sees to it that they land: once, in order of arrival where nothing is lost.

A shell around `nodes.rules.posting_book`, which decides what is posted, repeated, given up and forgotten. Here bundles
and transactions are journaled, signed and sent, and the chain is asked about what no block has shown. What stands in
blocks, and what of it counts, is told by the reader (`on_block`, `on_finalized`, `on_rolled_back`): the submitter reads
no blocks. What a node says of a signature counts once it is final, and never as evidence that readers have a bundle.

Names of crash points: solana.in_commit and solana.after_commit (the journal), solana.after_journal (transactions are
durable, none is sent), solana.after_send, solana.after_tick_off (a confirmed block was taken in), solana.after_forget.
"""

import asyncio
import base64
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from solders.hash import Hash
from solders.keypair import Keypair
from solders.signature import Signature as SoldersSignature

from nodes.model.bundle import Bundle
from nodes.model.errors import RpcError, Unavailable
from nodes.model.ids import SubmissionHash
from nodes.model.solana import Signature, SolanaBlock
from nodes.rules.posting import Layout
from nodes.rules.posting_book import PostingBook
from nodes.rules.posting_values import Accepted, Landing, Outgoing, PostingRules, Todo
from nodes.solana.payers import Payers
from nodes.solana.ports import STATUSES_PER_CALL, SolanaRpc
from nodes.solana.posting_signer import PostingSigner
from nodes.solana.program import Inbox
from nodes.solana.signature_statuses import failure_text, is_known, statuses_of
from nodes.solana.submit_journal import (
    Forget,
    JournaledSubmission,
    KeepSubmissions,
    KeepTransactions,
    SubmitJournal,
)
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.wire.bundles import bundle_from_bytes

AIRDROP_LAMPORTS = 100_000_000_000
AIRDROP_PAUSE_NS = 5_000_000_000
RETRY_FIRST_S = 0.1
RETRY_MOST_S = 2.0
_ACTIVE_SLOTS = 5
_IDLE_SLOTS = 25
_NS_PER_MS = 1_000_000
_CONFIRMED = {"commitment": "confirmed"}
# Nothing is simulated first and the node does not repeat: what is lost is sent again from here, paced.
_SEND = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}

_VOID = (
    "there are bundles in blocks of Solana without effect, as somebody fills the blocks or the memory of chunks; they "
    "are posted again, later each time"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitterRules:
    """How one submitter works."""

    flush_ms: int = 20
    """Bundles wait so long for others to share a transaction with; less where a batch is full before."""
    mempool_bytes_max: int = 64 * 1024 * 1024
    """In no confirmed block, counted as `nodes.rules.lazy.placed_bytes`."""
    mempool_bundles_max: int = 200_000
    cu_price_micro_lamports: int = 0
    dedup_blocks: int = 150
    """Blocks after its own during which a bundle's bytes are known here; beyond, and before, ask the reader too."""
    slot_ms: int = 400
    batch_transactions: int = 200
    """Signed, journaled and sent together."""
    in_flight_max: int = 4_096
    """Transactions sent and in no confirmed block."""
    rebroadcast_slots: int = 5
    """Between two sendings of the same bytes."""

    def posting_rules(self) -> PostingRules:
        """The part of them that the book takes."""
        slot_ns = self.slot_ms * _NS_PER_MS
        return PostingRules(
            mempool_bytes_max=self.mempool_bytes_max,
            mempool_bundles_max=self.mempool_bundles_max,
            in_flight_max=self.in_flight_max,
            dedup_blocks=self.dedup_blocks,
            rebroadcast_ns=self.rebroadcast_slots * slot_ns,
            slot_ns=slot_ns,
        )


@dataclass(frozen=True, slots=True)
class _Blockhash:
    value: bytes
    last_valid_height: int


class Submitter:
    """The role of one sequencer that posts. `run` does it by itself, `step` one turn at a time."""

    def __init__(
        self,
        rpc: SolanaRpc,
        inbox: Inbox,
        payers: Sequence[Keypair],
        journal: SubmitJournal,
        rules: SubmitterRules,
        *,
        clock: Clock,
        crash: CrashPoint = no_crash,
        can_airdrop: bool = False,
        on_stall: Callable[[str], None] | None = None,
    ) -> None:
        """Go on from the journal, which blocks on the disk. `on_stall` is told when the reason changes; "" = none."""
        self._rpc = rpc
        self._journal = journal
        self._rules = rules
        self._clock = clock
        self._crash = crash
        self._can_airdrop = can_airdrop
        self._on_stall = on_stall
        self._payers = Payers(payers)
        self._signer = PostingSigner(inbox, cu_price_micro_lamports=rules.cu_price_micro_lamports)
        self._book = PostingBook(rules=rules.posting_rules(), layout=self._signer.layout)
        kept = journal.load()
        self._book.restore(
            items=[Accepted(number, name, bundle_from_bytes(data)) for number, name, data in kept.submissions],
            transactions=kept.transactions,
            recent=kept.recent,
        )
        self._book.tally.restore(kept.totals)
        self._holds: Callable[[SubmissionHash], bool] = lambda submission: False
        """Whether readers have this bundle from a final block; see `ask_reader`."""
        self._unsure = [transaction.signature for transaction in kept.transactions]
        """Sent before a restart; whether they stand in blocks that nobody will show again must be asked."""
        self._blockhash: _Blockhash | None = None
        self._unreachable = ""
        """Why nothing is posted: the node does not answer."""
        self._doubt = ""
        """Why it is not known what became of transactions that expired."""
        self._refusal = ""
        """What the node said of a transaction that it did not take."""
        self._failure: tuple[Signature, str] | None = None
        """What failed on chain last, and why."""
        self._told_stall = ""
        self._last_upkeep_ns: int | None = None
        self._last_airdrop_ns: int | None = None
        self._unposted_bytes = 0
        self._wake = asyncio.Event()
        self._is_full = asyncio.Event()
        self._is_lost = asyncio.Event()
        self._stopping = asyncio.Event()
        self._cpu_ns = 0

    # For those who submit

    @property
    def layout(self) -> Layout:
        """What one transaction has room for; `nodes.rules.posting.flaw_of_size` needs it."""
        return self._signer.layout

    @property
    def pending_bundles(self) -> int:
        """Accepted and in no confirmed block."""
        return self._book.pending_bundles

    @property
    def pending_bytes(self) -> int:
        """What they take of the queue."""
        return self._book.pending_bytes

    @property
    def costs(self) -> Mapping[str, int]:
        """Totals since the journal was new, by the names in `nodes.rules.posting_tally.COSTS`."""
        return self._book.tally.totals()

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return {"post": self._cpu_ns}

    @property
    def stall(self) -> str:
        """Why bundles do not get on, and what helps; empty where they do."""
        book, fee = self._book, self._signer.fee_max_lamports
        said = [self._unreachable, self._doubt, self._payers.stall(book.in_flight_lamports(), fee_lamports=fee)]
        if book.is_any_void:
            said.append(_VOID)
        if self._refusal and book.unlanded:
            said.append(f"the Solana node does not take a transaction: {self._refusal}")
        if book.last_failure is not None:
            why = (
                self._failure[1] if self._failure and self._failure[0] == book.last_failure else "reason not yet known"
            )
            name = SoldersSignature.from_bytes(book.last_failure)
            failed = self.costs["failed_transactions"]
            said.append(f"transaction {name} failed on chain ({why}), {failed} so far; its bundles are posted again")
        return "; ".join([reason for reason in said if reason])

    def knows(self, submission_hash: SubmissionHash) -> bool:
        """Whether these bytes are on their way, or landed within `dedup_blocks`."""
        return self._book.knows(submission_hash)

    def accept(self, offers: Sequence[tuple[SubmissionHash, Bundle, bytes]]) -> None:
        """Take all offers or none: distinct, not known, without flaw (also of size). Durable after `wait_durable`.

        Raises Overloaded, LimitExceeded, Unavailable.
        """
        accepted = self._book.admit([offer[:2] for offer in offers])
        entries = [JournaledSubmission(item.sequence, item.hash, data) for item, (_, _, data) in zip(accepted, offers)]
        self._journal.put(KeepSubmissions(entries))
        self._unposted_bytes += sum([len(entry.submission) for entry in entries])
        self._wake.set()
        if self._unposted_bytes >= self._rules.batch_transactions * self.layout.chunk_bytes:
            self._is_full.set()

    async def wait_durable(self) -> None:
        """Return when everything accepted so far is durable. Raises Unavailable where it cannot be."""
        await self._journal.wait_durable()

    # For the reader

    def ask_reader(self, holds: Callable[[SubmissionHash], bool]) -> None:
        """`holds` says whether a final block brought this bundle with effect: evidence for what was read before a
        restart, which `on_block` does not show again.
        """
        self._holds = holds

    def on_block(self, block: SolanaBlock, taken: Collection[SubmissionHash]) -> None:
        """The next confirmed block, in order, and the bundles that it brought with effect."""
        if self._book.on_block(block, taken, now_ns=self._clock.monotonic_ns()):
            self._crash("solana.after_tick_off")
            self._wake.set()

    def on_finalized(self, slot: int, block_height: int) -> None:
        """Blocks up to this one are final."""
        items, hashes, forget_height, is_news = self._book.on_finalized(slot, block_height)
        gone = self._book.take_gone()
        if is_news or gone:
            self._journal.put(Forget(items, hashes, forget_height, gone, self._book.tally.settled))
            self._crash("solana.after_forget")

    def on_rolled_back(self, to_slot: int) -> None:
        """Confirmed blocks above `to_slot` are gone."""
        self._book.on_rolled_back(to_slot)
        self._wake.set()

    # At work

    async def run(self) -> None:
        """Post until `stop`. Raises what the disk raises."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._keep_posting(), name="solana posting")
            group.create_task(self._keep_up(), name="solana upkeep")
        await self._journal.wait_durable()

    def stop(self) -> None:
        """Post nothing more, let `run` return. What was accepted is in the journal."""
        for event in (self._stopping, self._wake, self._is_full, self._is_lost):
            event.set()

    async def step(self) -> None:
        """One turn without timers: look after what is under way, send again what is due, post what waits."""
        self._last_upkeep_ns = None
        await self.look_after()
        await self._send_again()
        while await self._post():
            pass

    async def _keep_posting(self) -> None:
        rules = self._rules
        while not self._stopping.is_set():
            waits_s = rules.slot_ms / 1_000 if self._book.unlanded or self._book.waiting else None
            await _within(self._wake, waits_s)
            self._wake.clear()
            await _within(self._is_full, rules.flush_ms / 1_000)
            self._is_full.clear()
            is_more = True
            while is_more:
                # In turns: what was lost does not wait for the end of a queue that never ends.
                await self._send_again()
                is_more = await self._post()

    async def _keep_up(self) -> None:
        pause_s = RETRY_FIRST_S
        while not self._stopping.is_set():
            await self.look_after()
            if self._unreachable:
                await _within(self._stopping, pause_s)
                pause_s = min(RETRY_MOST_S, pause_s * 2)
            else:
                self._is_lost.clear()
                await _within(self._is_lost, _ACTIVE_SLOTS * self._rules.slot_ms / 1_000)
                pause_s = RETRY_FIRST_S

    # Posting

    async def _post(self) -> bool:
        """Sign and send a batch of what waits; whether the batch was full, so that there may be more."""
        self._unposted_bytes = 0
        if self._blockhash is None or self._unreachable or self._stopping.is_set():
            return False
        began_ns = thread_cpu_ns()
        budget = self._payers.budget(self._book.in_flight_lamports(), fee_lamports=self._signer.fee_max_lamports)
        if not budget:
            return False
        now_ns = self._clock.monotonic_ns()
        self._book.leave_payers(self._payers.able(fee_lamports=self._signer.fee_max_lamports))
        todos = self._book.take(now_ns=now_ns, transactions_max=self._rules.batch_transactions)
        signed = self._sign(todos, self._blockhash, budget)
        self._cpu_ns += thread_cpu_ns() - began_ns
        if not signed:
            return False
        # Before they are sent: who forgot what was sent would send its bundles again under another signature.
        self._journal.put(KeepTransactions(signed, self._book.take_gone(), self._book.tally.settled))
        await self._journal.wait_durable()
        self._crash("solana.after_journal")
        await self._send(signed)
        self._crash("solana.after_send")
        return len(signed) == self._rules.batch_transactions

    def _sign(self, todos: Sequence[Todo], blockhash: _Blockhash, budget: dict[Any, int]) -> list[Outgoing]:
        signed = []
        for todo in todos:
            only, fee = self._book.payer_of(todo), self._signer.fee_max_lamports
            payer = self._payers.next(budget, fee_lamports=fee, only=only)
            if payer is None:
                self._book.put_back(todo)
                continue
            transaction = self._signer.sign(
                todo, payer, blockhash=blockhash.value, last_valid_height=blockhash.last_valid_height
            )
            assert not self._book.has(transaction.signature), "no two transactions are the same"
            self._book.sent(transaction)
            signed.append(transaction)
        return signed

    async def _send_again(self) -> None:
        """What is due, while the node answers."""
        now_ns = self._clock.monotonic_ns()
        while not self._unreachable and not self._stopping.is_set():
            due = self._book.due(now_ns=now_ns, transactions_max=self._rules.batch_transactions)
            if not due:
                return
            await self._send(due)

    async def _send(self, transactions: Sequence[Outgoing]) -> None:
        """One batch, in order. A node that is away changes nothing: the same bytes are sent again later."""
        began_ns = thread_cpu_ns()
        now_ns = self._clock.monotonic_ns()
        requests: list[tuple[str, Sequence[Any]]] = []
        for transaction in transactions:
            self._book.mark_sent(transaction.signature, now_ns=now_ns)
            requests.append(("sendTransaction", [base64.b64encode(transaction.raw).decode("ascii"), _SEND]))
        self._cpu_ns += thread_cpu_ns() - began_ns
        try:
            answers = await self._rpc.batch(requests)
        except Unavailable as error:
            self._lost(error)
            return
        refusals = [answer for answer in answers if isinstance(answer, RpcError) and not is_known(answer)]
        self._refusal = str(refusals[0]) if refusals else ""

    # Looking after what is under way

    async def look_after(self) -> None:
        """Refresh blockhash and balances, ask about transactions that no block has shown; cheap where all is quiet."""
        now_ns = self._clock.monotonic_ns()
        slots = _ACTIVE_SLOTS if self._book.pending_bundles or self._unreachable else _IDLE_SLOTS
        due_ns = slots * self._rules.slot_ms * _NS_PER_MS
        # A little early is early enough: the timer that brings us here is not exact.
        is_early = self._last_upkeep_ns is not None and now_ns - self._last_upkeep_ns < due_ns * 9 // 10
        if is_early and not self._unsure and not self._unreachable:
            return
        self._last_upkeep_ns = now_ns
        try:
            await self._refresh()
            await self._ask_about_expired()
            await self._ask_for_lamports(now_ns)
            self._unreachable = ""
        except Unavailable as error:
            self._lost(error)
        self._tell_stall()
        self._wake.set()

    async def _refresh(self) -> None:
        requests: list[tuple[str, Sequence[Any]]] = [("getLatestBlockhash", [_CONFIRMED])]
        requests += [("getBalance", [payer.name, _CONFIRMED]) for payer in self._payers.all]
        values = []
        for answer in await self._rpc.batch(requests):
            if isinstance(answer, RpcError):
                raise Unavailable(str(answer))
            values.append(answer)
        try:
            latest = values[0]["value"]
            value = bytes(Hash.from_string(latest["blockhash"]))
            self._blockhash = _Blockhash(value, int(latest["lastValidBlockHeight"]))
            self._payers.saw([int(answer["value"]) for answer in values[1:]])
        except (KeyError, TypeError, ValueError) as error:
            raise Unavailable(f"the Solana node's blockhash or balances make no sense ({error!r})") from error

    async def _ask_about_expired(self) -> None:
        """What can land no more is posted anew, but only where the chain, seen late enough, does not know it."""
        expired = [transaction.signature for transaction in self._book.expired()]
        await self._ask_for_failure()
        for at in range(0, len(expired), STATUSES_PER_CALL):
            for signature, status in await self._statuses(expired[at : at + STATUSES_PER_CALL]):
                if status is None:
                    self._book.give_up(signature)
                else:
                    self._take_status(signature, status)
        await self._ask_about_unsure()

    async def _ask_about_unsure(self) -> None:
        """Where transactions of before a restart stand. "Unknown" counts once the node is not behind the reader: then
        they stand in no block that was shown before, and are sent again.
        """
        unsure: list[Signature] = []
        for at in range(0, len(self._unsure), STATUSES_PER_CALL):
            asked = self._unsure[at : at + STATUSES_PER_CALL]
            answers = await self._statuses(asked)
            for signature, status in answers:
                if status is not None:
                    self._take_status(signature, status)
                is_known = status is not None or not self._book.confirmed[0]
                if is_known and self._book.is_unlanded(signature):
                    unsure.append(signature)
            if not answers:
                unsure += asked
        self._unsure = unsure

    async def _statuses(self, signatures: Sequence[Signature]) -> list[tuple[Signature, Any]]:
        """Status of each, None where the chain knows none; nothing where the node is behind what the reader saw."""
        try:
            statuses = await statuses_of(self._rpc, signatures, needed_slot=self._book.confirmed[0])
        except (RpcError, KeyError, TypeError, ValueError) as error:
            # Others go on: only these must wait, since nobody may sign anew what perhaps landed.
            self._doubt = f"whether transactions that expired have landed cannot be asked: {error}; ask another node"
            return []
        self._doubt = ""
        return statuses

    def _take_status(self, signature: Signature, status: Mapping[str, Any]) -> None:
        """Only what is final counts: a fork may take away the rest, and no reader would say so who had not read it."""
        if status.get("confirmationStatus") != "finalized":
            return
        now_ns, slot = self._clock.monotonic_ns(), int(status["slot"])
        if status.get("err") is not None:
            self._book.fail(signature, now_ns=now_ns)
            self._failure = (signature, failure_text(status["err"]))
        elif self._book.is_judged(signature, slot):
            self._book.land(signature, Landing(slot, self._book.confirmed[1]), holds=self._holds, now_ns=now_ns)

    async def _ask_for_failure(self) -> None:
        """Why the last transaction failed: a block says only that it did."""
        signature = self._book.last_failure
        if signature is None or (self._failure is not None and self._failure[0] == signature):
            return
        for _, status in await self._statuses([signature]):
            if status is not None and status.get("err") is not None:
                self._failure = (signature, failure_text(status["err"]))

    async def _ask_for_lamports(self, now_ns: int) -> None:
        """On a chain where they are free."""
        poor = self._payers.poor(self._book.in_flight_lamports(), fee_lamports=self._signer.fee_max_lamports)
        is_early = self._last_airdrop_ns is not None and now_ns - self._last_airdrop_ns < AIRDROP_PAUSE_NS
        if not self._can_airdrop or not poor or is_early:
            return
        self._last_airdrop_ns = now_ns
        for answer in await self._rpc.batch([("requestAirdrop", [payer.name, AIRDROP_LAMPORTS]) for payer in poor]):
            if isinstance(answer, RpcError):
                _log.warning("no lamports to be had: %s", answer)

    def _lost(self, error: Unavailable) -> None:
        self._unreachable = f"{error}; bundles wait and go on when it answers"
        self._is_lost.set()
        self._tell_stall()

    def _tell_stall(self) -> None:
        stall = self.stall
        if stall != self._told_stall:
            self._told_stall = stall
            if stall:
                _log.warning("solana submitter: %s", stall)
            if self._on_stall is not None:
                self._on_stall(stall)


async def _within(event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait for the event, not longer than that."""
    try:
        async with asyncio.timeout(timeout_s):
            await event.wait()
    except TimeoutError:
        return
