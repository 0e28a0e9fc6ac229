"""The testbed's L1: an anvil on a TCP port that is open to everybody, with one block per slot, mined by this node.

Slots. Every `slot_time_ms` one block, empty or not; slots that were missed (a pause, a busy machine) are not made up
for. A block's timestamp is the wall clock's second, but always above its parent's: with slots below a second, chain
time runs ahead of the wall clock. `safe` and `finalized` are one and two times `finality_slots` behind the head.

Fees. The base fee is the same in every block, so that costs of two runs compare, and a priority fee is paid as on
mainnet; gas is counted as on mainnet.

Restarts. Each block's transactions go into a journal and are built again at the start, with equal hashes. A kill in the
half millisecond between the mining of a block and its entry loses that one block: users see a reorg of depth one, and
transactions that were only in the pool are lost with the process, as on any Ethereum node; so are those that come
while blocks are built again. What was changed by
`anvil_`, `hardhat_` or `evm_` methods other than mining is no transaction and cannot be rebuilt: such an L1 refuses to
start again and says at which block it differs.
"""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nodes.ethereum.l1_journal import JournalBlock, L1Journal
from nodes.evm.anvil_process import AnvilProcess
from nodes.evm.ipc import IpcConnection
from nodes.model.config import L1NodeConfig
from nodes.model.errors import EngineFailure, InvalidInput, RpcError, Unavailable
from nodes.model.faults import Fault, PauseL1, ReorgL1
from nodes.model.ids import hex_of
from nodes.rules.hashes import keccak256, sha256
from nodes.telemetry.clock import Clock
from nodes.telemetry.crash import CrashPoint, no_crash
from nodes.telemetry.stages import StageCpu
from nodes.telemetry.tracer import Tracer

HARDFORK = "prague"
BASE_FEE_WEI = 10**9
BLOCK_DEADLINE_S = 30.0
REBUILD_ATTEMPTS = 20
"""Of one block, when others send transactions while it is built again."""
_GENESIS_FILE = "genesis.json"


class _Head(NamedTuple):
    number: int
    hash: bytes
    parent_hash: bytes
    timestamp_s: int
    base_fee_wei: int
    transaction_hashes: tuple[str, ...]


class L1Node:
    """One L1. `run` owns it until `stop`."""

    def __init__(
        self,
        config: L1NodeConfig,
        *,
        directory: Path,
        binary: Path,
        clock: Clock,
        tracer: Tracer,
        host: str = "127.0.0.1",
        rpc_port: int = 0,
        crash: CrashPoint = no_crash,
    ) -> None:
        """`rpc_port` 0 = that of the config. anvil itself listens there, so it must be a port that is kept."""
        self._config = config
        self._directory = directory
        self._binary = binary
        self._clock = clock
        self._tracer = tracer
        self._crash = crash
        self._host = host
        self._port = rpc_port or config.rpc_port
        if not self._port:
            raise InvalidInput(f"{config.name}: an L1 needs a port for its JSON-RPC; 0 cannot be told to others")
        self._stages = StageCpu("mine")
        self._process: AnvilProcess | None = None
        self._rpc: IpcConnection | None = None
        self._journal: L1Journal | None = None
        self._changing = asyncio.Lock()
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._has_ended = False
        self._paused_slots = 0

    @property
    def name(self) -> str:
        """As configured."""
        return self._config.name

    @property
    def rpc_url(self) -> str:
        """JSON-RPC over HTTP; with ws:// for http:// over WebSocket."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def engine_pid(self) -> int:
        """Process id of anvil; 0 while there is none."""
        return self._process.pid if self._process is not None else 0

    @property
    def stage_cpu_ns(self) -> Mapping[str, int]:
        """Thread CPU time by stage since start."""
        return self._stages.totals_ns

    async def run(self) -> None:
        """Rebuild what the journal has, then mine until `stop`. Called once.

        Raises EngineFailure where anvil ends or builds other blocks than before, Unavailable, InvalidInput.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        try:
            self._journal = L1Journal(self._directory, genesis_digest=sha256(self._config.genesis.encode()))
            await self._start_engine()
            self._ready.set()
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(self._watch_engine(), name=f"{self.name} engine")
                await self._produce()
                watching.cancel()
        finally:
            self._has_ended = True
            self._ready.set()
            if self._rpc is not None:
                self._rpc.close()
            if self._process is not None:
                await self._process.stop()
            if self._journal is not None:
                self._journal.close()

    def stop(self) -> None:
        """Let `run` return after the block that is being mined. Idempotent."""
        self._stopping.set()

    async def wait_ready(self) -> None:
        """Return when the JSON-RPC answers at the head of the journal. Raises Unavailable where the node has ended."""
        await self._ready.wait()
        if self._has_ended:
            raise Unavailable(f"L1 {self.name} has ended")

    async def inject(self, fault: Fault) -> None:
        """Take a fault. Raises InvalidInput for one that an L1 cannot have."""
        if isinstance(fault, ReorgL1):
            await self._reorg(fault)
        elif isinstance(fault, PauseL1):
            if fault.slots < 1:
                raise InvalidInput(f"{self.name} cannot pause for {fault.slots} slots; give at least 1")
            self._paused_slots += fault.slots
        else:
            raise InvalidInput(f"{self.name} is an L1 and cannot have the fault {type(fault).__name__}")

    async def mine(self, count: int = 1) -> int:
        """Mine blocks now, beside the slots; returns the head's number. For tools and tests that cannot wait."""
        async with self._changing:
            for _ in range(count):
                await self._mine_next()
            return self._opened_journal.head()

    # Slots

    async def _produce(self) -> None:
        slot_ns = self._config.slot_time_ms * 1_000_000
        due_ns = self._clock.monotonic_ns() + slot_ns
        while not self._stopping.is_set():
            if not await self._stopped_before(due_ns):
                if self._paused_slots:
                    self._paused_slots -= 1
                else:
                    await self._stages.metered("mine", self.mine())
            late_ns = max(0, self._clock.monotonic_ns() - due_ns)
            due_ns += slot_ns * (1 + late_ns // slot_ns)

    async def _stopped_before(self, due_ns: int) -> bool:
        wait_s = max(0, due_ns - self._clock.monotonic_ns()) / 1e9
        try:
            async with asyncio.timeout(wait_s):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True

    async def _mine_next(self) -> None:
        parent = await self._head()
        await self._mine(timestamp_s=max(parent.timestamp_s + 1, self._clock.wall_ns() // 1_000_000_000))
        self._crash("l1.before_journal")
        await self._write_journal()

    async def _mine(self, *, timestamp_s: int, base_fee_wei: int = BASE_FEE_WEI) -> None:
        # Set for every block: a rollback does not take the next base fee back.
        await self._request("anvil_setNextBlockBaseFeePerGas", hex(base_fee_wei))
        await self._request("evm_mine", {"timestamp": timestamp_s})

    # The journal

    async def _write_journal(self) -> None:
        """Make the journal equal to the chain, whoever changed that: tools may mine and roll back, too."""
        journal = self._opened_journal
        new: list[JournalBlock] = []
        head = await self._head()
        while head.number and journal.hash_of(head.number) != head.hash:
            new.append(await self._journal_block(head))
            head = await self._head(head.number - 1)
        if new or journal.head() > head.number:
            journal.replace_above(head.number, new[::-1])

    async def _journal_block(self, head: _Head) -> JournalBlock:
        raws = [await self._request("eth_getRawTransactionByHash", tx) for tx in head.transaction_hashes]
        transactions = tuple(bytes.fromhex(raw[2:]) for raw in raws)
        return JournalBlock(head.number, head.hash, head.timestamp_s, head.base_fee_wei, transactions)

    async def _start_engine(self) -> None:
        genesis = self._directory / _GENESIS_FILE
        genesis.write_text(self._config.genesis, encoding="utf-8")
        self._process = await AnvilProcess.spawn(self._binary, self._arguments(), self._directory)
        (self._rpc,) = await self._process.connect(1)
        for block in self._opened_journal.blocks():
            await self._rebuild(block)

    def _arguments(self) -> tuple[str, ...]:
        config = self._config
        return (
            *("--init", _GENESIS_FILE, "--chain-id", str(config.chain_id), "--hardfork", HARDFORK),
            *("--gas-limit", str(config.gas_limit), "--block-base-fee-per-gas", str(BASE_FEE_WEI)),
            # In order of arrival, so that a block's transactions, sent again in its order, build the same block.
            *("--no-mining", "--order", "fifo", "--accounts", "0"),
            *("--slots-in-an-epoch", str(config.finality_slots)),
            *("--host", self._host, "--port", str(self._port), "--no-request-size-limit"),
            *("--disable-console-log", "--quiet"),
        )

    async def _rebuild(self, block: JournalBlock) -> None:
        what = f"{self.name}: block {block.number:,} of {self._opened_journal.path}"
        head = await self._build_again(block, what)
        for _ in range(REBUILD_ATTEMPTS):
            if set(head.transaction_hashes) == {hex_of(keccak256(raw)) for raw in block.transactions}:
                break
            # anvil listens already, and somebody's transaction came in between.
            await self._request("anvil_rollback", 1)
            head = await self._build_again(block, what)
        if (head.number, head.hash) != (block.number, block.hash):
            raise EngineFailure(
                f"{what} was built again as block {head.number:,} with hash {hex_of(head.hash)} instead of "
                f"{hex_of(block.hash)}{_REMEDY}"
            )

    async def _build_again(self, block: JournalBlock, what: str) -> _Head:
        """Mine the block's transactions and, as far as that can be helped, no others."""
        await self._request("anvil_dropAllTransactions")
        try:
            for raw in block.transactions:
                await self._request("eth_sendRawTransaction", hex_of(raw))
        except RpcError as error:
            raise EngineFailure(f"{what} cannot be built again: {error}{_REMEDY}") from error
        await self._mine(timestamp_s=block.timestamp_s, base_fee_wei=block.base_fee_wei)
        return await self._head()

    # Faults

    async def _reorg(self, fault: ReorgL1) -> None:
        async with self._changing:
            head = await self._head()
            # What was final once stays so.
            finalized = max(0, head.number - 2 * self._config.finality_slots)
            fork = head.number - fault.depth
            if fault.depth < 1 or fork < finalized:
                raise InvalidInput(
                    f"{self.name} cannot replace its newest {fault.depth} blocks: the head is {head.number:,} and "
                    f"{finalized:,} is finalized; give a depth from 1 to {head.number - finalized}"
                )
            replaced = list(self._opened_journal.blocks(fork + 1))
            await self._request("anvil_rollback", fault.depth)
            if fault.keep_transactions:
                await self._send_again([raw for block in replaced for raw in block.transactions])
            # Another time, so another hash, also where the transactions are the same.
            timestamp_s = replaced[0].timestamp_s + 1
            for offset in range(fault.depth + 1):
                await self._mine(timestamp_s=timestamp_s + offset)
            await self._write_journal()

    async def _send_again(self, transactions: Sequence[bytes]) -> None:
        for raw in transactions:
            try:
                await self._request("eth_sendRawTransaction", hex_of(raw))
            except RpcError as error:
                raise EngineFailure(f"{self.name}: a replaced block's transaction is refused: {error}") from error

    # The engine

    async def _watch_engine(self) -> None:
        assert self._process is not None
        raise EngineFailure(f"{self.name}: {await self._process.wait_ended()}")

    async def _head(self, number: int | None = None) -> _Head:
        block = await self._request("eth_getBlockByNumber", "latest" if number is None else hex(number), False)
        if block is None:
            raise EngineFailure(f"{self.name}: anvil has no block {number}")
        return _Head(
            number=int(block["number"], 16),
            hash=bytes.fromhex(block["hash"][2:]),
            parent_hash=bytes.fromhex(block["parentHash"][2:]),
            timestamp_s=int(block["timestamp"], 16),
            base_fee_wei=int(block["baseFeePerGas"], 16),
            transaction_hashes=tuple(block["transactions"]),
        )

    async def _request(self, method: str, *params: object) -> Any:
        assert self._rpc is not None, "requests follow the start of the engine"
        return await self._rpc.request(method, params, deadline_s=BLOCK_DEADLINE_S)

    @property
    def _opened_journal(self) -> L1Journal:
        assert self._journal is not None, "the journal is opened before the engine starts"
        return self._journal


_REMEDY = (
    "; something other than a transaction has changed this L1 (an anvil_ or hardhat_ method?). "
    "Delete the file to begin again at genesis"
)
