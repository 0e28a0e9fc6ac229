"""An engine with the divergence check beside it, for tests: build a block, compare it."""

from collections.abc import Sequence
from pathlib import Path

from nodes.divergence import engine_side, speed
from nodes.divergence.checker import Checker, genesis_state
from nodes.divergence.engine_reader import EngineReader, Seen
from nodes.divergence.forms import Task
from nodes.divergence.values import Block, Entry, Found, Sample
from nodes.divergence.world import UntouchedState, WholeState
from nodes.evm.engine import AnvilEngine
from nodes.model.execution import ExecutedBlock, RollupParams, Status, Transaction
from nodes.model.ids import Address, ChainId, chain_id_of, hex_of
from nodes.rules.footprint import Effects

speed.install()
List = Sequence[tuple[bytes, Transaction]]


def checker_for(params: RollupParams, genesis: str, genesis_hash: bytes, *, has_world: bool = True) -> Checker:
    return Checker(
        chain_id=ChainId(chain_id_of(params.rollup_id)),
        coinbase=params.coinbase,
        gas_limit=params.block_gas_limit,
        world=WholeState(genesis_state(genesis)) if has_world else None,
        genesis_hash=genesis_hash,
    )


def block_for(built: ExecutedBlock, transactions: List, *, hashes: tuple[bytes, ...] = ()) -> Block:
    return Block(
        height=built.number,
        number=built.number,
        hash=built.hash,
        parent_hash=built.parent_hash,
        timestamp_s=built.timestamp_s,
        entries=tuple(
            Entry(payload, outcome.status) for (payload, _), outcome in zip(transactions, built.outcomes, strict=True)
        ),
        block_hashes=hashes,
    )


async def engine_effects(engine: AnvilEngine, built: ExecutedBlock) -> list[Effects]:
    hashes = [hex_of(outcome.tx_hash) for outcome in built.outcomes if outcome.status is not Status.SKIPPED]
    answer = await engine.request(engine_side.REPLAY, [hex(built.number), ["stateDiff"]])
    diffs = engine_side.replayed(answer, hashes)
    now = {
        address: engine_side.account_of(
            await engine.request(engine_side.ACCOUNT, [hex_of(address), hex(built.number - 1)])
        )
        for address in engine_side.touched(diffs)
    }
    return [engine_side.effects_of(diff, now) for diff in diffs]


class Checked:
    """Builds blocks and compares every transaction, in full and as a sample."""

    def __init__(
        self, engine: AnvilEngine, directory: Path, checker: Checker, sampler: Checker, genesis_hash: bytes
    ) -> None:
        self.engine = engine
        self.directory = directory
        self.checker = checker
        self.sampler = sampler
        self.hashes = [genesis_hash]

    @classmethod
    async def on(cls, engine: AnvilEngine, directory: Path, params: RollupParams, genesis: str) -> "Checked":
        _, genesis_hash = await engine.head()
        full = checker_for(params, genesis, genesis_hash)
        samples = checker_for(params, genesis, genesis_hash, has_world=False)
        return cls(engine, directory, full, samples, genesis_hash)

    async def build(self, transactions: List, *, timestamp_s: int) -> tuple[ExecutedBlock, list[Found]]:
        built = await self.engine.build_block(transactions, timestamp_s=timestamp_s)
        block = block_for(built, transactions)
        found = self.checker.check(block, await engine_effects(self.engine, built))
        self.hashes = [*self.hashes[: built.number], built.hash]
        return built, found

    def nonce(self, address: Address) -> int:
        account = self.checker.world.account(address)
        return 0 if account is None else int(account.nonce)

    def codes(self) -> list[tuple[Address, bytes]]:
        """Every account that has code, ascending."""
        return [(address, one.code) for address, one in sorted(self.checker.world.accounts().items()) if one.code]

    async def samples(self, built: ExecutedBlock, transactions: List) -> list[Found]:
        """Compare every transaction of a block as a sample, the way the divergence process does."""
        block = block_for(built, transactions, hashes=tuple(self.hashes[: built.number]))
        task = Task(
            rollup="rollup-1",
            block=block,
            chosen=tuple(range(len(transactions))),
            senders={at: transaction.sender for at, (_, transaction) in enumerate(transactions)},
        )
        reader = EngineReader(str(self.directory))
        try:
            seen = await reader.seen(task)
            assert isinstance(seen, Seen), seen
            assert len(seen.samples) == len(transactions)
            return [one for one in [await self._sample(reader, task, sample) for sample in seen.samples] if one]
        finally:
            reader.close()

    async def _sample(self, reader: EngineReader, task: Task, sample: Sample) -> Found | None:
        while True:
            try:
                return self.sampler.check_sample(task.block, sample)
            except UntouchedState as error:
                sample = await reader.more(task, sample, error.address, error.slot)
