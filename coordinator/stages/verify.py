"""`lockstep verify`: execute a run again from its sequenced log, on fresh engines; compare with what nodes recorded.

Every reader's work is done anew: chain, finality proofs, Merkle proofs, derivation, execution. What is compared is the
rollup block after every height (number, hash, state root), and the drops. Nothing is taken from the nodes but their
records. Where the run had verdicts, its verdict log is evaluated again, every height is executed without what its
verdict struck, and the reports that led to it must name the blocks that come out.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.collect.node_trace import NodeTrace
from coordinator.record import RunDirectory
from coordinator.spec import ResolvedRollup, ResolvedTestnet, load_testnet
from coordinator.stages.invariants import MAX_EXAMPLES, Verdict, bundle_order_equal
from coordinator.stages.sequenced_log import read_log
from coordinator.stages.verdict_log import VerdictLog, read_verdicts
from nodes.evm.anvil import find_anvil
from nodes.evm.engine import AnvilEngine
from nodes.model.errors import InvalidBlock, InvalidInput
from nodes.model.execution import Derived, Transaction
from nodes.model.ids import HASH_BYTES, NOTICE_ROLLUP_ID, ZERO_HASH, RollupId
from nodes.model.sequenced_block import Commitment, SequencedBlock
from nodes.rollup.decode_cache import SenderCache
from nodes.rules.derivation import Derivation
from nodes.rules.finality import VerifyFinality
from nodes.rules.sequenced_block import BlockTrees, filter_block, genesis_ref, verify
from nodes.rules.verdict import plan
from nodes.sequencer.backends import BACKENDS
from nodes.telemetry.resources import usable_cores
from nodes.wire.trace_columns import ExecutedColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """A sequenced block with its trees, built once for all rollups."""

    block: SequencedBlock
    trees: BlockTrees


@dataclass(slots=True, kw_only=True)
class _Redone:
    """What one rollup's second execution found."""

    heights: int = 0
    blocks: int = 0
    legs: int = 0
    problems: list[str]


async def run_verify(directory: Path, *, say: Callable[[str], None] = lambda text: None) -> dict[str, dict[str, Any]]:
    """Verify a run; the verdicts are written into its run.json too. Raises InvalidInput where it is no whole run."""
    run = RunDirectory.open(directory)
    testnet = load_testnet(directory)
    blocks = [_Block(block=block, trees=BlockTrees(block.contents)) for block in await asyncio.to_thread(_read, run)]
    say(f"{len(blocks):,} sequenced blocks, {len(testnet.rollups)} rollups")
    document = run.read_run()
    verdicts_log = await asyncio.to_thread(_verdicts, run, testnet, blocks)
    is_whole = document.get("drained_ns") is not None
    redone = await _redo_all(run, testnet, blocks, say, is_whole=is_whole, verdicts=verdicts_log)
    problems = [problem for found in redone.values() for problem in found.problems]
    total = sum(found.blocks for found in redone.values())
    legs = sum(found.legs for found in redone.values())
    detail = f"{total:,} rollup blocks with {legs:,} legs executed again"
    if problems:
        detail += "; " + "; ".join(problems[:MAX_EXAMPLES])
    verdicts = {
        "rederivation_matches": Verdict(ok=not problems, detail=detail).to_json(),
        "bundle_order_equal": bundle_order_equal(item.block for item in blocks).to_json(),
    }
    if verdicts_log is not None:
        text = f"{len(verdicts_log.by_height):,} verdicts evaluated again from {verdicts_log.reports:,} signed reports"
        text += f"; {verdicts_log.problem}" if verdicts_log.problem else ""
        verdicts["verdicts_follow"] = Verdict(ok=not verdicts_log.problem, detail=text).to_json()
    document["invariants"] = {**document.get("invariants", {}), **verdicts}
    run.write_run(document)
    return verdicts


def _read(run: RunDirectory) -> list[SequencedBlock]:
    return list(read_log(run.sequenced_log))


def _verdicts(run: RunDirectory, testnet: ResolvedTestnet, blocks: Sequence[_Block]) -> VerdictLog | None:
    """The verdicts of the run, evaluated again; None where its mode has none."""
    if testnet.agglayer is None or not testnet.has_verdicts:
        return None
    touched: dict[int, Sequence[RollupId]] = {
        item.block.header.height: [rollup for rollup in item.block.contents if rollup != NOTICE_ROLLUP_ID]
        for item in blocks
    }
    return VerdictLog.check(
        read_verdicts(run.verdict_log), touched, testnet.agglayer.params, chain_id=testnet.params.sequencer_chain_id
    )


def _legs_of_load(run: RunDirectory) -> list[bytes]:
    hashes: list[bytes] = run.read_table("legs")["tx_hash"].to_pylist()
    return hashes


async def _redo_all(
    run: RunDirectory,
    testnet: ResolvedTestnet,
    blocks: Sequence[_Block],
    say: Callable[[str], None],
    *,
    is_whole: bool,
    verdicts: VerdictLog | None,
) -> dict[str, _Redone]:
    """`is_whole`: everything was resolved before the log was copied, so that no leg may stand after its end."""
    backend = BACKENDS[testnet.backend]
    check_finality = backend.verifier(testnet.finality_options)
    binary = await asyncio.to_thread(find_anvil)
    decode = SenderCache()
    at_once = asyncio.Semaphore(usable_cores())
    load = frozenset(await asyncio.to_thread(_legs_of_load, run))
    results: dict[str, _Redone] = {}

    async def redo(rollup: ResolvedRollup, folder: Path) -> None:
        async with at_once:
            recorded = await asyncio.to_thread(_recorded, run, testnet.replica_names(rollup))
            engine = await AnvilEngine.start(
                binary, rollup.genesis, rollup.params, folder / rollup.name, testnet.rewind_window
            )
            try:
                redoing = _Redoing(testnet, rollup, engine, decode, check_finality, recorded, verdicts, load)
                results[rollup.name] = await redoing.run(blocks, is_whole=is_whole)
            finally:
                await engine.stop()
            found = results[rollup.name]
            state = "differs" if found.problems else "matches"
            say(f"{rollup.name}: {found.heights:,} heights, {found.blocks:,} blocks, {found.legs:,} legs: {state}")

    with tempfile.TemporaryDirectory(prefix="lockstep-verify-") as folder:
        async with asyncio.TaskGroup() as group:
            for rollup in testnet.rollups:
                group.create_task(redo(rollup, Path(folder)))
    return results


def _recorded(run: RunDirectory, nodes: Sequence[str]) -> dict[str, NodeTrace]:
    """What each node of a rollup recorded. Raises InvalidInput where a trace is missing."""
    traces = {}
    for node in nodes:
        path = run.traces / f"{node}.trace"
        if not path.is_file():
            raise InvalidInput(f"{path} is missing: the run was made without tracing, or cut short")
        trace = traces[node] = NodeTrace(node)
        trace.feed(path.read_bytes())
    return traces


class _Redoing:
    """One rollup."""

    def __init__(
        self,
        testnet: ResolvedTestnet,
        rollup: ResolvedRollup,
        engine: AnvilEngine,
        decode: SenderCache,
        check_finality: VerifyFinality,
        recorded: Mapping[str, NodeTrace],
        verdicts: VerdictLog | None,
        load: frozenset[bytes],
    ) -> None:
        self._testnet = testnet
        self._rollup = rollup
        self._engine = engine
        self._check_finality = check_finality
        self._recorded = recorded
        self._verdicts = verdicts
        self._load = load
        self._network_id = testnet.rollups.index(rollup) + 1
        self._derivation = Derivation(testnet=testnet.params, rollup_id=rollup.params.rollup_id, decode=decode)
        self._found = _Redone(problems=[])
        self._head: tuple[int, bytes, bytes] | None = None
        """(number, hash, state root) once a block was built."""

    async def run(self, blocks: Sequence[_Block], *, is_whole: bool) -> _Redone:
        """Go through the log; stops at the first height that differs, since all later ones follow from it."""
        chain_id = self._testnet.params.sequencer_chain_id
        parent, parent_time_ns = genesis_ref(chain_id), 0
        for item in blocks:
            header = item.block.header
            filtered = filter_block(item.block, item.trees, self._rollup.params.rollup_id, Commitment.FIRM)
            try:
                verified = verify(filtered, chain_id=chain_id, parent=parent, parent_time_ns=parent_time_ns)
            except InvalidBlock as error:
                self._found.problems.append(f"{self._rollup.name}: {error}")
                break
            if not self._check_finality(verified.ref.hash, filtered.finality_proof):
                self._found.problems.append(f"height {header.height}: the finality proof does not hold")
                break
            derived = self._derivation.derive(verified)
            if self._verdicts is not None and header.height not in self._verdicts.by_height:
                # Nothing from here on can be executed.
                if is_whole:
                    self._found.problems.append(
                        f"{self._rollup.name}: no verdict that holds for height {header.height}"
                    )
                break
            await self._execute(derived)
            self._found.heights += 1
            if not self._agrees(derived) or not self._agrees_with_reports(derived):
                break
            parent, parent_time_ns = verified.ref, header.time_ns
        # A comparison with nothing would always succeed.
        silent = [node for node, trace in self._recorded.items() if not trace.executed]
        self._found.problems += [f"{node} recorded no height" for node in silent]
        if is_whole and not self._found.problems:
            self._found.problems += self._beyond(blocks[-1].block.header.height if blocks else 0)
        return self._found

    def _beyond(self, end: int) -> list[str]:
        """Nodes that executed legs of the load at heights that the log does not have: it was cut short.

        Others send transactions too, and go on after the log was copied: whoever brings exit roots to the rollups.
        """
        problems = []
        for node, trace in self._recorded.items():
            later = [at for at, block in trace.executed.items() if at > end and self._has_own(block)]
            if later:
                problems.append(f"{node} executed legs at height {min(later)}, the log ends at height {end}")
        return problems

    def _has_own(self, block: ExecutedColumns) -> bool:
        hashes = block.tx_hashes + block.dropped_hashes
        return any(hashes[at : at + HASH_BYTES] in self._load for at in range(0, len(hashes), HASH_BYTES))

    async def _execute(self, derived: Derived) -> None:
        transactions: Sequence[tuple[bytes, Transaction]]
        transactions = [(leg.payload, leg.transaction) for leg in derived.admitted]
        if self._verdicts is not None:
            assert self._testnet.agglayer is not None
            aborts = self._verdicts.by_height[derived.height].verdict.aborts
            transactions = plan(derived, aborts, params=self._testnet.agglayer.params).transactions
        if not transactions:
            return
        block = await self._engine.build_block(transactions, timestamp_s=derived.timestamp_s)
        self._head = (block.number, block.hash, block.state_root)
        self._found.blocks += 1
        self._found.legs += len(derived.admitted)

    def _agrees_with_reports(self, derived: Derived) -> bool:
        """The signed report of the last round names the block that comes out here."""
        if self._verdicts is None or self._head is None:
            return True
        for report in self._verdicts.by_height[derived.height].reports:
            if report.network_id == self._network_id and report.block_hash != self._head[1]:
                self._found.problems.append(
                    f"the report of {self._rollup.name} for height {derived.height} names block "
                    f"{report.block_hash.hex()}, the log gives {self._head[1].hex()}"
                )
                return False
        return True

    def _agrees(self, derived: Derived) -> bool:
        drops = bytes(leg.reason for leg in derived.dropped)
        for node, trace in self._recorded.items():
            theirs = trace.executed.get(derived.height)
            if theirs is None:
                continue  # the log goes on after the node's last record, or the node was down when the run ended
            if theirs.drop_reasons != drops:
                self._found.problems.append(f"{node} dropped other legs at height {derived.height}")
                return False
            if self._head is None:
                same = theirs.number == 0
            else:
                same = (theirs.number, theirs.hash) == self._head[:2] and theirs.state_root in (self._head[2], b"")
            if not same:
                mine = self._head or (0, ZERO_HASH, ZERO_HASH)
                self._found.problems.append(
                    f"{node} at height {derived.height} has block {theirs.number} {theirs.hash.hex()}, "
                    f"the log gives block {mine[0]} {mine[1].hex()}"
                )
                return False
        return True
