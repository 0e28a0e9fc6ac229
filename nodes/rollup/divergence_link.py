"""What a rollup node has more because its engine is checked by a second EVM; the node's one contact with these parts.

Hands every block that was built to the divergence process, keeps the account of what was checked, and does what the
policy says when a difference is found: `alarm` says so, `halt` lets the node go no further, `exclude` hands in no
reports from then on, so that the aggregation layer evicts the rollup while others go on (without verdicts there is
nobody to evict it: it halts). It never waits for the process, and the node never waits for it.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable

from nodes.divergence.client import DivergenceClient, Watch
from nodes.divergence.forms import ALL, SAMPLE, Counts, Opening, Report, Task
from nodes.divergence.sampling import Sampler, kind_of
from nodes.divergence.values import Block, Entry, Found
from nodes.model.config import DivergenceConfig
from nodes.model.errors import InvalidInput, Pruned
from nodes.model.execution import DropReason, ExecutedBlock, RollupParams, Status
from nodes.model.faults import Diverge
from nodes.model.ids import Address, ChainId, Height, chain_id_of, hex_of
from nodes.rollup.engine import EngineProcess
from nodes.rollup.index import ChainIndex
from nodes.rollup.records import Execution
from nodes.rollup.session import Halted
from nodes.rules.derivation import Decode
from nodes.telemetry.clock import Clock
from nodes.telemetry.events import DivergenceChecked, DivergenceFound, ReaderStalled
from nodes.telemetry.tracer import Tracer

HISTORY_TRANSACTIONS = 50_000
"""Executed again after a restart at most, to come to the present state: a minute or two. Beyond, samples."""
MAX_WAITING_BLOCKS = 4_096
"""While the process starts."""
REMEMBERED_BLOCKS = 4_096
MAX_FOUND = 64
"""Differences that are traced one by one; further ones are counted."""
BLOCK_HASHES = 256
DRAIN_EVERY = 16
_SOURCE = "divergence check"

_log = logging.getLogger(__name__)


class Unwatched:
    """A rollup node whose engine nobody checks."""

    witness: Callable[[Execution, Height], None] | None = None

    def open(self, index: ChainIndex, *, exclude: Callable[[], None] | None) -> None:
        """The node has its index. `exclude` makes it silent; None where nobody would notice."""

    def raise_if_halted(self) -> None:
        """Raises Halted from the moment on in which the node shall go no further."""

    @property
    def found(self) -> str:
        """The first difference, and what was done about it; empty while there is none."""
        return ""


class DivergenceLink(Unwatched):
    """One rollup node whose engine is checked."""

    def __init__(
        self,
        config: DivergenceConfig,
        client: DivergenceClient,
        *,
        name: str,
        params: RollupParams,
        genesis: str,
        engine_directory: str,
        clock: Clock,
        tracer: Tracer,
    ) -> None:
        self._config = config
        self._client = client
        self._name = name
        self._params = params
        self._genesis = genesis
        self._engine_directory = engine_directory
        self._clock = clock
        self._tracer = tracer
        self._sampler = Sampler(config.sample_per_s)
        self._index: ChainIndex | None = None
        self._exclude: Callable[[], None] | None = None
        self._is_live = False
        self._waiting: deque[Task] = deque()
        self._sent: OrderedDict[int, bytes] = OrderedDict()
        self._total = 0
        self._unsent = 0
        self._before = Counts()
        """Of processes that have ended."""
        self._now = Counts()
        self._samples_from = 0
        self._reason = ""
        self._found = ""
        self._halted = False
        self._traced = 0
        self.witness = self._built

    # For the node.

    def open(self, index: ChainIndex, *, exclude: Callable[[], None] | None) -> None:
        self._index, self._exclude = index, exclude
        self._client.watch(
            self._name, Watch(opening=self._opening, began=self._begin, reported=self._reported, lost=self._lost)
        )

    def raise_if_halted(self) -> None:
        if self._halted:
            raise Halted(self._found)

    @property
    def found(self) -> str:
        return self._found

    def _built(self, execution: Execution, height: Height) -> None:
        """The engine has built a block, or built one again."""
        built = execution.block
        if built is None or self._sent.get(built.number) == built.hash:
            return
        self._remember(built.number, built.hash)
        self._total += len(execution.transactions)
        if self._is_sampling:
            self._sample(execution, built, height)
            return
        self._hand_in(Task(rollup=self._name, block=_block(execution, built, height)))

    @property
    def _is_sampling(self) -> bool:
        return self._config.mode == SAMPLE or self._samples_from > 0

    def _sample(self, execution: Execution, built: ExecutedBlock, height: Height) -> None:
        now_ns = self._clock.monotonic_ns()
        if not self._sampler.allowed(now_ns):
            return
        pairs = list(zip(execution.transactions, built.outcomes, strict=True))
        kinds = [kind_of(payload, transaction, outcome.status) for (payload, transaction), outcome in pairs]
        chosen = self._sampler.choose(kinds, now_ns)
        if chosen:
            senders = {at: pairs[at][0][1].sender for at in chosen if pairs[at][1].status is Status.SKIPPED}
            block = _block(execution, built, height, hashes=self._hashes_before(built))
            self._hand_in(Task(rollup=self._name, block=block, chosen=chosen, senders=senders))

    def _hashes_before(self, built: ExecutedBlock) -> tuple[bytes, ...]:
        """Of up to 256 blocks; this one may be in the index already, or not yet."""
        assert self._index is not None, "the node opened it"
        try:
            headers = self._index.headers(max(0, built.number - BLOCK_HASHES), built.number - 1)
        except Pruned:
            return (built.parent_hash,)
        return tuple(header.hash for header in headers)

    def _hand_in(self, task: Task) -> None:
        if not self._is_live:
            if len(self._waiting) == MAX_WAITING_BLOCKS:
                self._unsent += len(self._waiting.popleft().block.entries)
            self._waiting.append(task)
        elif not self._client.send(task):
            self._unsent += len(task.chosen or task.block.entries)

    def _remember(self, number: int, block_hash: bytes) -> None:
        self._sent.pop(number, None)
        self._sent[number] = block_hash
        if len(self._sent) > REMEMBERED_BLOCKS:
            self._sent.popitem(last=False)

    # For the process.

    def _opening(self) -> Opening:
        index = self._opened()
        return Opening(
            rollup=self._name,
            mode=SAMPLE if self._is_sampling else ALL,
            chain_id=ChainId(chain_id_of(self._params.rollup_id)),
            coinbase=self._params.coinbase,
            gas_limit=self._params.block_gas_limit,
            genesis=self._genesis,
            genesis_hash=index.genesis.hash,
            engine_directory=self._engine_directory,
        )

    async def _begin(self) -> None:
        """The process knows nothing yet: tell it the past, then what was built meanwhile."""
        if not self._is_sampling:
            await self._tell_history()
        self._is_live = True
        while self._waiting:
            self._hand_in(self._waiting.popleft())

    async def _tell_history(self) -> None:
        index = self._opened()
        until = self._waiting[0].block.number - 1 if self._waiting else index.head.number
        if index.transactions > HISTORY_TRANSACTIONS:
            self._only_samples(1, f"{index.transactions:,} transactions are too many to be executed again")
            return
        for number in range(1, until + 1):
            try:
                block = index.block_by_number(number)
            except Pruned as error:
                self._only_samples(1, str(error))
                return
            if block is None:
                return  # the node went back meanwhile
            entries = tuple(Entry(block.payload(at), block.status(at)) for at in range(len(block)))
            told = Block(
                height=block.height,
                number=block.number,
                hash=block.hash,
                parent_hash=block.parent_hash,
                timestamp_s=block.timestamp_s,
                entries=entries,
            )
            self._remember(number, block.hash)
            self._client.send(Task(rollup=self._name, block=told, is_history=True))
            if number % DRAIN_EVERY == 0:
                await self._client.drain()

    def _reported(self, report: Report) -> None:
        if report.samples_from and not self._samples_from:
            self._only_samples(report.samples_from, report.reason)
        self._now = report.counts
        for found in report.found:
            self._differs(found)
        self._record()

    def _only_samples(self, height: int, reason: str) -> None:
        self._samples_from, self._reason = height, reason
        _log.warning("%s: from height %d on only samples are checked: %s", self._name, height, reason)

    def _lost(self, reason: str) -> None:
        """The process ended; another one may begin."""
        now = self._now
        self._before = Counts(
            checked=self._before.checked + now.checked,
            history=self._before.history + now.history,
            missed=self._before.missed + now.missed + now.waiting,
            replaced=self._before.replaced + now.replaced,
            busy_ns=self._before.busy_ns + now.busy_ns,
            differing=self._before.differing + now.differing,
        )
        self._now = Counts()
        self._is_live = False
        self._reason = f"the divergence process ended ({reason})"
        self._record()

    def _differs(self, found: Found) -> None:
        difference = found.difference
        policy = self._config.policy
        if self._traced < MAX_FOUND:
            self._traced += 1
            self._tracer.record(
                DivergenceFound(
                    height=found.height,
                    number=found.number,
                    position=found.position,
                    tx_hash=found.tx_hash,
                    account=difference.address,
                    field=difference.field,
                    engine=difference.engine,
                    checker=difference.checker,
                    engine_footprint=found.engine_footprint,
                    checker_footprint=found.checker_footprint,
                    policy=policy,
                )
            )
        if self._found:
            return
        where = f"{hex_of(difference.address)} {difference.field}" if difference.address else difference.field
        self._found = (
            f"state divergence at height {found.height}, block {found.number}, transaction {found.position} "
            f"{hex_of(found.tx_hash)}: {where} is {difference.engine} by the engine and {difference.checker} by the "
            f"second EVM; policy {policy}"
        )
        _log.error("%s: %s", self._name, self._found)
        if policy == "exclude" and self._exclude is not None:
            self._exclude()
        elif policy != "alarm":
            self._halted = True
            self._tracer.record(ReaderStalled(height=found.height, reason=self._found, source=_SOURCE))

    # Accounts.

    def _record(self) -> None:
        before, now = self._before, self._now
        self._tracer.record(
            DivergenceChecked(
                mode=self._config.mode,
                total=self._total,
                checked=before.checked + now.checked,
                differing=before.differing + now.differing,
                missed=before.missed + now.missed + self._unsent,
                replaced=before.replaced + now.replaced,
                waiting=now.waiting,
                history=before.history + now.history,
                busy_ns=before.busy_ns + now.busy_ns,
                samples_from=self._samples_from,
                reason=self._reason,
            )
        )

    def _opened(self) -> ChainIndex:
        assert self._index is not None, "the node opened it"
        return self._index


def joined(*reasons: str) -> str:
    """Several reasons for a standstill as one text; empty where there is none."""
    return "; ".join(filter(None, reasons))


def _block(execution: Execution, built: ExecutedBlock, height: Height, *, hashes: tuple[bytes, ...] = ()) -> Block:
    return Block(
        height=height,
        number=built.number,
        hash=built.hash,
        parent_hash=built.parent_hash,
        timestamp_s=built.timestamp_s,
        entries=tuple(
            [
                Entry(payload, outcome.status)
                for (payload, _), outcome in zip(execution.transactions, built.outcomes, strict=True)
            ]
        ),
        block_hashes=hashes,
    )


async def make_diverge(
    engine: EngineProcess, fault: Diverge, index: ChainIndex, decode: Decode, *, chain_id: ChainId
) -> None:
    """Carry out the fault. Raises InvalidInput where it names no account and none has sent anything, EngineFailure."""
    account = Address(fault.account)
    if not account:
        head = index.head
        for at in reversed(range(len(head))):
            decoded = decode(head.payload(at), chain_id)
            if not isinstance(decoded, DropReason):
                account = decoded.sender
                break
        else:
            raise InvalidInput("no transaction was executed yet: name the account whose state shall differ")
    await engine.alter(account, slot=fault.slot, add=fault.add)
