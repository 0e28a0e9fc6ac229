"""Follows a Solana chain at "confirmed", and raises to final what "finalized" bears out.

The newest slot is only a wake-up. What is read comes from the node's list of confirmed blocks, in the order of parent
links. A node that lags behind what was already read is waited for; a chain that left what was read is said so, and
read again from the last final block; an inbox account that contradicts the postings read ends it, with the evidence.
What is told was durable before. Knows no bytes of postings, and does not post.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from coincurve import PrivateKey

from nodes.model.errors import RpcError, Unavailable
from nodes.model.ids import Height, RollupId, SubmissionHash, hex_of
from nodes.model.sequenced_block import BlockRef
from nodes.model.solana import Slot, SolanaBlock
from nodes.rules.inbox import decode_state
from nodes.rules.inbox_reader import InboxRules, Link, Void
from nodes.solana.blocks import block_from_answer, block_options, blockhash_of, states_from_answer
from nodes.solana.keypairs import base58
from nodes.solana.ports import ACCOUNTS_PER_CALL, SolanaRpc
from nodes.solana.program import Inbox
from nodes.solana.reader_chain import AccountStates, Finality, ReadBlock, ReadChain, Reading, SealedHeight
from nodes.solana.reader_store import ReaderStore, Step
from nodes.telemetry.clock import Clock, thread_cpu_ns
from nodes.telemetry.crash import CrashPoint, no_crash

BLOCKS_PER_CALL = 8
"""Full blocks of one request: more than a slot brings, and less than an answer may hold."""
BLOCKS_LISTED = 128
OPEN_BLOCKS_MAX = 4_096
"""Blocks read and not final; beyond, reading waits for finality."""
POLL_MS = 200
QUIET_S = 10.0
"""Without a new confirmed block for so long the reader says that it waits."""
STORE_RETRY_FIRST_S = 0.1
STORE_RETRY_MOST_S = 5.0
_NS_PER_S = 1_000_000_000
_NOT_YET = frozenset({-32004, -32007, -32009, -32014, -32016})
"""Answers of a node that does not have, or no longer or not yet has, what another one listed; see `_answer_of`."""
_Answer = TypeVar("_Answer")

_log = logging.getLogger(__name__)


class ReaderListener(Protocol):
    """Who is told; in the reader's event loop, after the store has it."""

    def block(self, block: SolanaBlock, taken: frozenset[SubmissionHash]) -> None:
        """A confirmed block, before the heights that it completes, and the bundles that it brought with effect.

        A bundle that a posting in it should have brought and that is not `taken` is void: no height will hold it.
        """
        ...

    def heights(self, heights: Sequence[SealedHeight]) -> None:
        """New heights, ascending."""
        ...

    def finalized(self, height: Height, slot: Slot, block_height: int) -> None:
        """Every height up to `height` is final, and every block up to `slot`, whose block height is `block_height`."""
        ...

    def rolled_back(self, to: BlockRef, to_slot: Slot) -> None:
        """The heights above `to` and the blocks after `to_slot` are no longer on the chain."""
        ...

    def stalled(self, reason: str) -> None:
        """Why nothing is read; empty once it goes on. For people."""
        ...


class Reader:
    """One reader: `run` until `stop`; or `step` by hand."""

    def __init__(
        self,
        rpc: SolanaRpc,
        inbox: Inbox,
        store: ReaderStore,
        rules: InboxRules,
        *,
        listener: ReaderListener,
        key: PrivateKey,
        clock: Clock,
        poll_ms: int = POLL_MS,
        crash: CrashPoint = no_crash,
    ) -> None:
        """Takes up where the store ends; blocks on it, so build it in a thread. Raises as `ReadChain.open`.

        `key` signs the finality proofs. `poll_ms`: without a wake-up for so long it looks all the same, as blocks are
        confirmed between slots too and not every node offers subscriptions.
        """
        self._rpc = rpc
        self._store = store
        self._chain = ReadChain(store, rules, key=key)
        self._chain.open()
        self._program_id = inbox.program_id
        self._accounts = dict(inbox.accounts)
        self._listener = listener
        self._clock = clock
        self._poll_s = poll_ms / 1000
        self._crash = crash
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="solana-read")
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._is_known_chain = False
        self._moved_ns = clock.monotonic_ns()
        self._hitch = ""
        self._stall = ""
        self._halted = ""
        self._cpu_ns = 0
        self.roll_backs = 0
        """Times that the chain left what had been read at confirmed."""

    @property
    def head(self) -> BlockRef:
        """The newest height read; told once it is durable."""
        return self._chain.last.head

    @property
    def firm_height(self) -> Height:
        """The newest height that is final."""
        return self._chain.final.head.height

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time of decoding, reading and writing since the start."""
        return {"read": self._cpu_ns}

    def knows(self, submission: SubmissionHash) -> bool:
        """Whether this bundle, posted again, would be void. A fork may take away the soft height that holds it."""
        return self._chain.knows(submission)

    def is_firm(self, submission: SubmissionHash) -> bool:
        """Whether this bundle was sequenced not long ago, in a height that is final."""
        return self._chain.is_firm(submission)

    def holds_finally(self, submission: SubmissionHash) -> bool:
        """Whether a final block brought this bundle, not long ago; its bucket may be open."""
        return self._chain.holds_finally(submission)

    @property
    def final(self) -> ReadBlock:
        """The newest final block, with the height it gave."""
        return self._chain.final

    @property
    def last(self) -> ReadBlock:
        """The newest block read."""
        return self._chain.last

    @property
    def voids(self) -> Mapping[Void, int]:
        """How much of what was posted is void, by reason."""
        return self._chain.voids

    @property
    def stall(self) -> str:
        """Why nothing is read; empty where all is well."""
        return self._stall

    async def run(self) -> None:
        """Read until stopped. Raises InvalidInput for another chain than the store's, or a store that is lost."""
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(self._watch())
            try:
                while not self._stopping.is_set():
                    self._wake.clear()
                    if await self.step():
                        await asyncio.sleep(0)
                    else:
                        await self._wait(self._wake, self._poll_s)
            finally:
                watch.cancel()
                self._executor.shutdown(wait=True)

    def stop(self) -> None:
        """Let `run` return after the step it is taking."""
        self._stopping.set()
        self._wake.set()

    async def step(self) -> bool:
        """Look once, take what is there; whether there is more to take at once."""
        if self._halted or self._stopping.is_set():
            return False
        try:
            return await self._turn()
        except (Unavailable, RpcError) as error:
            self._say_stalled(str(error))
            return False

    async def _watch(self) -> None:
        async for _ in self._rpc.slots():
            self._wake.set()

    async def _turn(self) -> bool:
        await self._check_chain()
        last, final = self._chain.last, self._chain.final
        options = {"commitment": "confirmed", "minContextSlot": last.slot}
        answers = await self._rpc.batch(
            [
                ("getSlot", [options]),
                ("getSlot", [{"commitment": "finalized"}]),
                ("getBlocksWithLimit", [last.slot + 1, BLOCKS_LISTED, {"commitment": "confirmed"}]),
            ]
        )
        confirmed, finalized, listed = map(_answer_of, answers)
        _check_slots(confirmed, finalized, listed)
        if confirmed is None or finalized is None or listed is None or confirmed < last.slot:
            # Never go back with it: what it knows was read before.
            return self._say_quiet(f"the node lags: it is before slot {last.slot}, which was read already")
        room = max(0, OPEN_BLOCKS_MAX - self._chain.open_blocks)
        wanted = [slot for slot in listed if slot > last.slot][: min(room, BLOCKS_PER_CALL)]
        candidate = max([slot for slot in (*self._chain.open_slots, *wanted) if slot <= finalized], default=final.slot)
        if not wanted and candidate <= final.slot:
            finality_stands = f"no block after slot {final.slot} became final, and {OPEN_BLOCKS_MAX:,} wait for it"
            return self._say_quiet(finality_stands if not room else f"the node's confirmed slot is {confirmed}")
        blocks, finality = await self._fetch(wanted, candidate if candidate > final.slot else None)
        reading = await self._in_thread(lambda: self._chain.read(blocks(), finality))
        await self._tell(reading)
        if reading.evidence:
            self._halt(reading.evidence)
            return False
        if reading.is_off_chain:
            await self._roll_back(f"the finalized chain has another block in slot {candidate} than the one read")
            return True
        if reading.broken is not None:
            return await self._mend(*reading.broken)
        if not reading.blocks and reading.final is None:
            return self._say_quiet(self._hitch)
        return len(listed) > len(reading.blocks)

    async def _fetch(
        self, slots: Sequence[int], candidate: int | None
    ) -> tuple[Callable[[], list[SolanaBlock]], Finality | None]:
        """The blocks (a function that decodes them, for the thread), and what the node says of the candidate."""
        requests: list[tuple[str, Sequence[Any]]] = [
            ("getBlock", [slot, block_options(commitment="confirmed")]) for slot in slots
        ]
        ids = list(self._accounts)
        parts = [ids[at : at + ACCOUNTS_PER_CALL] for at in range(0, len(ids), ACCOUNTS_PER_CALL)]
        if candidate is not None:
            requests.append(("getBlock", [candidate, block_options(commitment="finalized", details="none")]))
            for part in parts:
                keys = [base58(self._accounts[rollup_id]) for rollup_id in part]
                options = {"encoding": "base64", "commitment": "finalized", "minContextSlot": candidate}
                requests.append(("getMultipleAccounts", [keys, options]))
        answers = await self._rpc.batch(requests)
        found: list[tuple[int, Any]] = []
        for slot, answer in zip(slots, answers):
            value = _answer_of(answer)
            if value is None:
                self._hitch = f"the node lists a block in slot {slot}, but does not give it ({answer})"
                break
            found.append((slot, value))

        def decode() -> list[SolanaBlock]:
            return [block_from_answer(slot, answer, program_id=self._program_id) for slot, answer in found]

        if candidate is None:
            return decode, None
        values = [_answer_of(answer) for answer in answers[len(slots) :]]
        if any(value is None for value in values):
            return decode, None  # it lags in this; the next look asks again
        accounts = [self._states(part, value) for part, value in zip(parts, values[1:])]
        return decode, Finality(candidate, blockhash_of(candidate, values[0]), accounts)

    def _states(self, rollup_ids: Sequence[RollupId], answer: Any) -> AccountStates:
        slot, data = states_from_answer([self._accounts[rollup_id] for rollup_id in rollup_ids], answer)
        decoded = [None if account is None else decode_state(account) for account in data]
        states = {
            rollup_id: found[1] if found is not None and found[0] == rollup_id else None
            for rollup_id, found in zip(rollup_ids, decoded)
        }
        return AccountStates(slot, states)

    async def _tell(self, reading: Reading) -> None:
        if reading.step is None:
            return
        await self._commit(reading.step)
        if reading.blocks:
            self._moved_ns = self._clock.monotonic_ns()
            self._say_goes_on()
        for block, taken in zip(reading.blocks, reading.taken, strict=True):
            self._listener.block(block, taken)
        if reading.heights:
            self._listener.heights(reading.heights)
        final = reading.final
        if final is not None:
            self._listener.finalized(final.head.height, final.slot, final.block_height)

    async def _commit(self, step: Step) -> None:
        """Write, however long the store is away: nothing is read on top of what is not durable."""
        delay_s = STORE_RETRY_FIRST_S
        self._crash("solana.reader_before_commit")
        while True:
            try:
                await self._in_thread(lambda: self._store.commit(step))
            except Unavailable as error:
                if self._stopping.is_set():
                    raise
                self._say_stalled(f"{error}; the step is tried again, and nothing is lost")
                await self._wait(self._stopping, delay_s)
                delay_s = min(2 * delay_s, STORE_RETRY_MOST_S)
                continue
            break
        if delay_s > STORE_RETRY_FIRST_S:
            self._say_goes_on()
        self._crash("solana.reader_after_commit")

    async def _mend(self, link: Link, block: SolanaBlock) -> bool:
        """A block does not build on the last one. One node's word is asked for once more before anything is undone."""
        last, final = self._chain.last, self._chain.final
        what = f"the block of slot {block.slot} builds on slot {block.parent_slot}, the last one read is {last.slot}"
        if link is Link.GAP:
            (first,) = await self._rpc.batch([("getFirstAvailableBlock", [])])
            if isinstance(first, int) and first > last.slot + 1:
                # At once, and it looks again: another node behind the same address may have them.
                self._say_stalled(
                    f"{what}; the node has no blocks before slot {first} any more (its first available block), and "
                    f"what was posted in between is not read: give an RPC that keeps blocks since slot {last.slot}, "
                    "or, for a chain of one's own that went on without its reader, begin anew in a new directory"
                )
                return False
            return self._say_quiet(f"{what}: the node left out a block")
        is_final = last.slot == final.slot
        options = block_options(commitment="finalized" if is_final else "confirmed", details="none")
        (answer,) = await self._rpc.batch([("getBlock", [last.slot, options])])
        value = _answer_of(answer)
        there = None if value is None else blockhash_of(last.slot, value)
        if there == last.blockhash or (is_final and there is None):
            return self._say_quiet(f"{what}; the node contradicts itself, or lags")
        if is_final and there is not None:
            self._halt(
                f"the Solana chain contradicts a block that was final: slot {last.slot} had blockhash "
                f"{hex_of(last.blockhash)}, the node now finalizes {hex_of(there)}; ask another node, or begin anew"
            )
            return False
        await self._roll_back(what)
        return True

    async def _roll_back(self, what: str) -> None:
        """A confirmed block left the chain: what no honest majority does, and every reader must survive."""
        last, final = self._chain.last, self._chain.final
        self.roll_backs += 1
        self._say_stalled(
            f"the Solana chain forked below confirmed: {what}; going back from height {last.head.height} (slot "
            f"{last.slot}) to the last final height {final.head.height} (slot {final.slot})"
        )
        step = await self._in_thread(self._chain.roll_back)
        await self._commit(step)
        self._listener.rolled_back(final.head, final.slot)

    async def _check_chain(self) -> None:
        """Once: the node's chain is the one that the store was written from. Raises InvalidInput."""
        if not self._is_known_chain:
            genesis = await self._rpc.call("getGenesisHash")
            facts = {"solana_genesis": str(genesis).encode(), "inbox_program": self._program_id}
            await self._in_thread(lambda: self._store.check_identity(facts))
            self._is_known_chain = True

    def _halt(self, evidence: str) -> None:
        self._halted = evidence
        _log.error("%s", evidence)
        self._say_stalled(evidence)

    def _say_stalled(self, reason: str) -> None:
        if reason != self._stall:
            self._stall = reason
            self._listener.stalled(reason)

    def _say_goes_on(self) -> None:
        self._hitch = ""
        if self._stall:
            self._stall = ""
            self._listener.stalled("")

    def _say_quiet(self, detail: str) -> bool:
        """Nothing could be read; worth a word when it lasts."""
        quiet_s = (self._clock.monotonic_ns() - self._moved_ns) / _NS_PER_S
        if quiet_s >= QUIET_S:
            after = f"no confirmed Solana block was read after slot {self._chain.last.slot}"
            self._say_stalled(f"{after} for {QUIET_S:g} s: {detail}")
        return False

    async def _in_thread(self, work: Callable[[], _Answer]) -> _Answer:
        def counted() -> _Answer:
            began_ns = thread_cpu_ns()
            try:
                return work()
            finally:
                self._cpu_ns += thread_cpu_ns() - began_ns

        return await asyncio.get_running_loop().run_in_executor(self._executor, counted)

    @staticmethod
    async def _wait(condition: asyncio.Event, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await condition.wait()
        except TimeoutError:
            pass  # looks all the same


def _check_slots(confirmed: Any, finalized: Any, listed: Any) -> None:
    """Raises Unavailable for answers that are no slots."""
    numbers = [confirmed, finalized, *(listed if isinstance(listed, list) else [listed])]
    if not all(number is None or isinstance(number, int) for number in numbers):
        raise Unavailable(f"the Solana node's slots make no sense: {str(numbers)[:200]}")


def _answer_of(answer: Any) -> Any | None:
    """The answer; None where the node does not have it (yet). Raises RpcError for every other refusal."""
    if isinstance(answer, RpcError):
        if answer.code in _NOT_YET:
            return None
        raise answer
    return answer
