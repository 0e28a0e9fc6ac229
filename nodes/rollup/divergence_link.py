"""What a rollup node has more because its engine is checked by a second EVM; the node's one contact with these parts.

Hands every block that was built to the divergence process, keeps the account of what was checked, and does what the
policy says when a difference is found: `alarm` says so, `halt` lets the node go no further, `exclude` hands in no
reports from then on, so that the aggregation layer evicts the rollup while others go on (without verdicts there is
nobody to evict it: it halts). Both have nothing settled from the height of the difference on, and a file in the node's
directory makes both survive a restart. It never waits for the process, and the node never waits for it.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Callable
from pathlib import Path

import orjson

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
"""While the process starts; the oldest are let go and counted."""
MAX_WAITING_BYTES = 64 * 1024 * 1024
ENTRY_BYTES = 128
"""What a transaction takes in memory beside its payload, roughly."""
FOUND_FILE = "divergence-found.json"
"""In the node's directory: what was found and is not cleared."""
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

    def open(
        self, index: ChainIndex, *, directory: Path, withhold_from: Callable[[Height], None], can_exclude: bool
    ) -> None:
        """The node has its index, and nothing is settled yet. `directory` is its own.

        `withhold_from` makes it silent and has nothing settled from a height on. `can_exclude`: somebody would notice.
        """

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
        self._path = Path(FOUND_FILE)
        self._withhold_from: Callable[[Height], None] = lambda height: None
        self._can_exclude = False
        self._is_live = False
        self._is_over = False
        """No process will come any more."""
        self._waiting: deque[Task] = deque()
        self._waiting_bytes = 0
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

    def open(
        self, index: ChainIndex, *, directory: Path, withhold_from: Callable[[Height], None], can_exclude: bool
    ) -> None:
        self._index, self._withhold_from, self._can_exclude = index, withhold_from, can_exclude
        self._path = directory / FOUND_FILE
        self._take_up()
        watch = Watch(
            opening=self._opening,
            began=self._begin,
            reported=self._reported,
            lost=self._lost,
            given_up=self._given_up,
        )
        self._client.watch(self._name, watch)

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
        if self._is_over:
            self._miss(task)
            self._record()  # nothing else tells that it was missed
        elif self._is_live:
            if not self._client.send(task):
                self._miss(task)
        else:
            self._waiting.append(task)
            self._waiting_bytes += _size_bytes(task)
            while len(self._waiting) > MAX_WAITING_BLOCKS or self._waiting_bytes > MAX_WAITING_BYTES:
                self._miss(self._next_waiting())

    def _next_waiting(self) -> Task:
        task = self._waiting.popleft()
        self._waiting_bytes -= _size_bytes(task)
        return task

    def _miss(self, task: Task) -> None:
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
            self._hand_in(self._next_waiting())

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

    def _given_up(self) -> None:
        """The process ended once too often: what waits for it is missed, and so is all that comes."""
        self._is_over = True
        while self._waiting:
            self._miss(self._next_waiting())
        self._reason = joined(self._reason, "it is not started again, and nothing more is checked")
        self._record()

    def _differs(self, found: Found) -> None:
        difference = found.difference
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
                    policy=self._config.policy,
                )
            )
        if self._found:
            return
        where = f"{hex_of(difference.address)} {difference.field}" if difference.address else difference.field
        what = (
            f"state divergence at height {found.height}, block {found.number}, transaction {found.position} "
            f"{hex_of(found.tx_hash)}: {where} is {difference.engine} by the engine and {difference.checker} by the "
            "second EVM"
        )
        if self._config.policy != "alarm":
            self._keep(found.height, what)
        self._act(Height(found.height), what)

    def _act(self, height: Height, what: str) -> None:
        """Do what the policy says of the first difference."""
        policy = self._config.policy
        self._found = f"{what}; policy {policy}"
        if policy != "alarm":
            self._found += f", also after a restart, until {self._path} is deleted while the node is stopped"
            self._withhold_from(height)
            self._halted = policy == "halt" or not self._can_exclude
        _log.error("%s: %s", self._name, self._found)
        if self._halted:
            self._tracer.record(ReaderStalled(height=height, reason=self._found, source=_SOURCE))

    def _keep(self, height: int, what: str) -> None:
        unfinished = self._path.with_suffix(".part")
        try:
            unfinished.write_bytes(orjson.dumps({"height": height, "found": what}))
            unfinished.replace(self._path)
        except OSError as error:
            _log.error("%s: what was found is forgotten at a restart, %s cannot be written: %s",
                       self._name, self._path, error)  # fmt: skip

    def _take_up(self) -> None:
        """What was found before this start, and not cleared, still counts."""
        try:
            kept = orjson.loads(self._path.read_bytes())
            height, what = Height(int(kept["height"])), str(kept["found"])
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            height, what = Height(0), "a state divergence that was found before; what is kept of it is damaged"
        self._act(height, what)

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


def _size_bytes(task: Task) -> int:
    return sum(len(entry.payload) + ENTRY_BYTES for entry in task.block.entries)


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
