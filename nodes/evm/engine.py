"""A rollup's execution engine on anvil: builds exactly the lists it is given, rewinds, dumps and reads.

A block takes `evm_mine` (an empty block) and then `anvil_reorg`, which replaces it by one with exactly the given list,
past the pool. Between the two the empty block is the head, so reads wait until the list's own block stands; name the
block's number all the same, since the head may not be announced yet. What the list lacks afterwards was skipped; the
reasons come from `nodes.evm.skip`. A list that is skipped whole still makes a block, an empty one: a rollup block
exists iff the derived list is not empty.

Statuses come from the calls that senders made themselves. Receipts say the same, at a cost that grows with the square
of the block. All calls of a block (`trace_block`) are never asked for: one of 100 gas can repeat a megabyte of input.

It does not know bundles, heights or derivation, and it never mends: after EngineFailure the caller rewinds to a block
it knows, or starts a new engine from a dump.
"""

import asyncio
import gzip
import zlib
from binascii import hexlify
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nodes.evm.anvil_process import AnvilProcess
from nodes.evm.dump import slim_dump
from nodes.evm.gate import Gate
from nodes.evm.ipc import IpcConnection
from nodes.evm.skip import SenderState, skip_reasons
from nodes.model.errors import AnswerTooLong, EngineFailure, InvalidInput, Overloaded, Pruned, RpcError
from nodes.model.execution import ExecutedBlock, Outcome, RollupParams, SkipReason, Status, Transaction
from nodes.model.ids import Address, chain_id_of, hex_of
from nodes.model.limits import RPC_DEADLINE_S

NETWORK = "optimism"
HARDFORK = "isthmus"
"""Prague's rules with OP deposits. Part of the consensus environment: every engine of a testnet runs the same."""
STATES_PER_BLOCK = 2
"""anvil keeps the state of the empty block and of the one that replaces it."""
THREADS = 2
"""One to build while another reads. anvil's default is one per core, of every engine."""
TRANSACTION_BLOCKS = 16
"""Newest blocks whose transactions, receipts and traces anvil keeps; older ones read as empty. Each transaction kept
costs about 6 kB of memory and 28 us of every dump."""

MAX_READ_BYTES = 64 * 1024 * 1024
"""The longest answer to a read, and to the question for a block's statuses. Logs of one transaction of 16.7 million gas
have up to 20 MB, what one returns up to 6 MB."""
BUILD_DEADLINE_S = 60.0
DUMP_DEADLINE_S = 120.0
_GENESIS_FILE = "genesis.json"
_STATE_FILE = "state.json"
_READS_AT_ONCE = 256
_RECEIPTS_AT_ONCE = 4
_TRACING = "debug_trace"
_UNAVAILABLE = "Required data unavailable"
_CHANGING = ("evm_", "anvil_", "hardhat_", "tenderly_", "miner_", "personal_", "wallet_", "eth_send", "eth_sign")
_FATAL = frozenset({"debug_getRawTransaction", "debug_getRawTransactions"})
"""On a deposit this ends the process (anvil 1.7.1); the node knows the raw bytes itself."""


class _Head(NamedTuple):
    number: int
    hash: str
    timestamp_s: int


class AnvilEngine:
    """One EVM chain in its own anvil process; satisfies `nodes.ports.ExecutionEngine`. Get it from `start`.

    Belongs to the event loop that started it, which must run in a thread that lives as long as the process.
    """

    def __init__(self, process: AnvilProcess, params: RollupParams, build: IpcConnection, read: IpcConnection) -> None:
        self._process = process
        self._params = params
        self._build = build
        self._read = read
        self._gate = Gate()
        self._tracing = asyncio.Lock()
        self._head: _Head | None = None
        self._interval_s: int | None = None

    @classmethod
    async def start(
        cls,
        binary: Path,
        genesis_json: str,
        params: RollupParams,
        directory: Path,
        rewind_window: int,
        state: bytes | None = None,
        *,
        transaction_blocks: int = TRANSACTION_BLOCKS,
    ) -> "AnvilEngine":
        """Start at genesis, or at the head of `state`, which `dump` gave. Ready when it returns.

        `directory` gets the engine's log, socket and input files. `rewind_window` is in blocks.
        Raises EngineFailure with the process's own words.
        """
        source = await asyncio.to_thread(_write_source, directory, genesis_json, state)
        arguments = _arguments(params, rewind_window=rewind_window, transaction_blocks=transaction_blocks)
        process = await AnvilProcess.spawn(binary, (*source, *arguments), directory)
        try:
            build, read = await process.connect(2)
            engine = cls(process, params, build, read)
            await engine._check_start(is_genesis=state is None)
        except BaseException:
            await process.stop()
            raise
        finally:
            (directory / _STATE_FILE).unlink(missing_ok=True)
        return engine

    @property
    def pid(self) -> int:
        """Process id of anvil."""
        return self._process.pid

    def kill(self) -> None:
        """End the process now, as a fault; every request under way fails with EngineFailure."""
        self._process.kill()

    async def stop(self) -> None:
        """End the process and wait for it."""
        self._build.close()
        self._read.close()
        await self._process.stop()

    async def wait_ended(self) -> str:
        """Wait until the process has ended; how it did, in words."""
        return await self._process.wait_ended()

    async def head(self) -> tuple[int, bytes]:
        """Number and hash of the head. Raises EngineFailure."""
        async with self._gate.changing():
            head = await self._known_head()
        return head.number, bytes.fromhex(head.hash[2:])

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        """One read. It waits while a block is built: anvil answers reads of its head, also by number or hash, with
        the state that is still being built (measured: one read in sixteen).

        One trace at a time: anvil writes it out in memory, however long it is.

        Raises RpcError with the engine's code and message, of which AnswerTooLong for more than MAX_READ_BYTES,
        EngineFailure, Overloaded, InvalidInput for a method that changes state or ends anvil.
        """
        if method.startswith(_CHANGING) or method in _FATAL:
            raise InvalidInput(f"{method} is not a read; an engine changes by derived blocks only")
        if not method.startswith(_TRACING):
            return await self._read_now(method, params)
        try:
            await asyncio.wait_for(self._tracing.acquire(), RPC_DEADLINE_S)
        except TimeoutError:
            raise Overloaded(f"{self._process.describe()} is busy with other traces", retry_after_ms=1_000) from None
        try:
            return await self._read_now(method, params)
        finally:
            self._tracing.release()

    async def _read_now(self, method: str, params: Sequence[Any]) -> Any:
        async with self._gate.reading():
            return await self._read.request(method, params, deadline_s=RPC_DEADLINE_S, max_bytes=MAX_READ_BYTES)

    async def build_block(
        self, transactions: Sequence[tuple[bytes, Transaction]], *, timestamp_s: int
    ) -> ExecutedBlock:
        """Build the next block from (payload, decoded) pairs in this order; its time is never below its parent's.

        Raises EngineFailure, also when what was built is not what was asked; then the head is unknown until `rewind`.
        """
        assert transactions, "a block is built for a list that is not empty"
        async with self._gate.changing():
            parent = self._head
            if parent is None:
                raise EngineFailure("the engine's head is not known after a failure; rewind to a known block first")
            self._head = None
            try:
                async with asyncio.timeout(BUILD_DEADLINE_S):
                    return await self._built(transactions, parent, max(timestamp_s, parent.timestamp_s))
            except RpcError as error:
                raise EngineFailure(
                    f"{self._process.describe()} refused a part of block {parent.number + 1}: {error}"
                ) from error
            except TimeoutError:
                raise EngineFailure(
                    f"{self._process.describe()} did not build block {parent.number + 1} of {len(transactions)} "
                    f"transactions within {BUILD_DEADLINE_S:g} s"
                ) from None

    async def rewind(self, number: int) -> None:
        """Make block `number` the head. Raises Pruned when its state is no longer held, EngineFailure."""
        async with self._gate.changing():
            self._head = None
            try:
                head = await self._known_head()
                if number > head.number:
                    raise EngineFailure(f"block {number} cannot be the head: the engine ends at {head.number}")
                if number == head.number:
                    return
                self._head = None
                await self._build.request("anvil_rollback", [head.number - number], deadline_s=BUILD_DEADLINE_S)
            except RpcError as error:
                if _UNAVAILABLE in error.message:
                    self._head = head  # nothing was changed
                    raise Pruned(
                        f"block {number} is beyond what the engine can rewind from {head.number}; load a checkpoint"
                    ) from error
                raise EngineFailure(f"{self._process.describe()} refused to rewind: {error}") from error
            if (await self._known_head()).number != number:
                self._head = None
                raise EngineFailure(f"{self._process.describe()} did not rewind to block {number}")

    async def alter(self, account: Address, *, slot: bytes, add: int) -> None:
        """A fault: give the head another state than its block has. `slot` empty = the balance. Raises EngineFailure."""
        name = hex_of(account)
        async with self._gate.changing():
            try:
                if slot:
                    word = int(await self._build.request("eth_getStorageAt", [name, hex_of(slot), "latest"]), 16)
                    changed = hex_of(((word + add) % 2**256).to_bytes(32, "big"))
                    await self._build.request("anvil_setStorageAt", [name, hex_of(slot), changed])
                else:
                    balance = int(await self._build.request("eth_getBalance", [name, "latest"]), 16)
                    await self._build.request("anvil_setBalance", [name, hex((balance + add) % 2**256)])
            except RpcError as error:
                raise EngineFailure(f"{self._process.describe()} refused another state: {error}") from error

    async def dump(self) -> bytes:
        """State and chain at the head, compressed; what `start` takes. Builds wait meanwhile.

        An engine started from it builds the same blocks, and cannot rewind below its head. anvil's own dump has the
        calls of the newest blocks too, so it is long after transactions that pass much data between calls.

        Raises AnswerTooLong (the engine works; a later dump may be shorter), EngineFailure.
        """
        async with self._gate.changing():
            try:
                dumped = await self._build.request("anvil_dumpState", deadline_s=DUMP_DEADLINE_S)
            except AnswerTooLong:
                raise
            except RpcError as error:
                raise EngineFailure(f"{self._process.describe()} refused to dump its state: {error}") from error
        return await asyncio.to_thread(slim_dump, dumped)

    # One block.

    async def _built(
        self, transactions: Sequence[tuple[bytes, Transaction]], parent: _Head, timestamp_s: int
    ) -> ExecutedBlock:
        # anvil adds the interval to the parent's time; a time set for the next block alone is lost by the reorg.
        if self._interval_s != timestamp_s - parent.timestamp_s:
            self._interval_s = None
            await self._build.send("anvil_setBlockTimestampInterval", b"[%d]" % (timestamp_s - parent.timestamp_s))
            self._interval_s = timestamp_s - parent.timestamp_s
        # Each waits for the one before: requests that are under way together run concurrently.
        await self._build.send("evm_mine", b"[]")
        await self._build.send("anvil_reorg", _reorg_params(payload for payload, _ in transactions))
        # Reads of a finished block: these two may run together.
        number = b'"0x%x"' % (parent.number + 1)
        answers: tuple[Any, Any] = await asyncio.gather(
            self._build.send("trace_filter", _own_calls(transactions, number), max_bytes=MAX_READ_BYTES),
            self._build.send("eth_getBlockByNumber", b"[" + number + b",false]"),
            return_exceptions=True,
        )
        traces, header = answers
        if isinstance(header, BaseException):
            raise header
        self._check_header(header, parent, timestamp_s)
        if isinstance(traces, AnswerTooLong):
            statuses = await self._receipt_statuses(header["transactions"])
        elif isinstance(traces, BaseException):
            raise traces
        else:
            statuses = _trace_statuses(traces)
        outcomes = await self._outcomes(transactions, header["transactions"], statuses, parent)
        head = _head_of(header)
        self._head = head
        return ExecutedBlock(
            number=head.number,
            hash=bytes.fromhex(head.hash[2:]),
            parent_hash=bytes.fromhex(header["parentHash"][2:]),
            state_root=bytes.fromhex(header["stateRoot"][2:]),
            timestamp_s=head.timestamp_s,
            gas_used=int(header["gasUsed"], 16),
            receipts_root=bytes.fromhex(header["receiptsRoot"][2:]),
            logs_bloom=bytes.fromhex(header["logsBloom"][2:]),
            outcomes=outcomes,
        )

    def _check_header(self, header: Any, parent: _Head, timestamp_s: int) -> None:
        """The block stands where it should, and its environment is the one that was agreed."""
        wanted = {
            "number": hex(parent.number + 1),
            "parentHash": parent.hash,
            "timestamp": hex(timestamp_s),
            "gasLimit": hex(self._params.block_gas_limit),
            "baseFeePerGas": "0x0",
            "miner": hex_of(self._params.coinbase),
        }
        if header is None or any(header[name] != value for name, value in wanted.items()):
            found = None if header is None else {name: header[name] for name in wanted}
            raise EngineFailure(f"{self._process.describe()} built {found}, but {wanted} was asked")

    async def _outcomes(
        self,
        transactions: Sequence[tuple[bytes, Transaction]],
        built: list[str],
        statuses: Mapping[str, Status],
        parent: _Head,
    ) -> tuple[Outcome, ...]:
        hashes = [hex_of(transaction.tx_hash) for _, transaction in transactions]
        included = [True] * len(hashes) if built == hashes else self._included(hashes, built)
        if statuses.keys() != set(built):
            raise EngineFailure(
                f"{self._process.describe()} gives statuses of other transactions than block {parent.number + 1} has"
            )
        reasons: list[SkipReason | None] = [None] * len(hashes)
        if len(built) < len(hashes):
            skipped = {pair[1].sender for pair, is_included in zip(transactions, included) if not is_included}
            reasons = skip_reasons(transactions, included, await self._senders(skipped, parent))
        return tuple(
            Outcome(transaction.tx_hash, Status.SKIPPED if reason else statuses[tx_hash], reason)
            for (_, transaction), tx_hash, reason in zip(transactions, hashes, reasons)
        )

    async def _receipt_statuses(self, built: Sequence[str]) -> dict[str, Status]:
        """Of the transactions of a finished block, one by one. A receipt's length is bounded by the gas of its logs."""
        statuses = {}
        for first in range(0, len(built), _RECEIPTS_AT_ONCE):
            receipts = await asyncio.gather(
                *(
                    self._build.send("eth_getTransactionReceipt", b'["%b"]' % tx_hash.encode())
                    for tx_hash in built[first : first + _RECEIPTS_AT_ONCE]
                )
            )
            for receipt in filter(None, receipts):
                statuses[receipt["transactionHash"]] = Status(int(receipt["status"], 16))
        return statuses

    def _included(self, hashes: Sequence[str], built: Sequence[str]) -> list[bool]:
        """Which of the list were included. The block holds a part of the list in its order.

        Of two copies of one transaction the earliest possible is taken, which is the one that ran: nothing happens
        between a copy that was skipped and the next item of the block, so the later copy would have been skipped too.
        """
        included = []
        at = 0
        for tx_hash in hashes:
            matches = at < len(built) and built[at] == tx_hash
            included.append(matches)
            at += matches
        if at != len(built):
            raise EngineFailure(
                f"{self._process.describe()} built a block with {built[at]}, which is not next in its list"
            )
        return included

    async def _senders(self, addresses: Iterable[Address], parent: _Head) -> dict[Address, SenderState]:
        """Accounts at the parent block."""
        ordered = sorted(addresses)
        states = {}
        for first in range(0, len(ordered), _READS_AT_ONCE):
            some = ordered[first : first + _READS_AT_ONCE]
            answers = await asyncio.gather(
                *(
                    self._build.send("eth_getAccountInfo", b'["0x%b","0x%x"]' % (hexlify(address), parent.number))
                    for address in some
                )
            )
            for address, answer in zip(some, answers):
                states[address] = SenderState(
                    int(answer["nonce"], 16), int(answer["balance"], 16), answer["code"] != "0x"
                )
        return states

    # The head.

    async def _known_head(self) -> _Head:
        if self._head is None:
            # A build that failed or was cancelled may have left a request under way, which would still move the head.
            await self._build.settle(deadline_s=BUILD_DEADLINE_S)
            try:
                self._head = _head_of(await self._build.request("eth_getBlockByNumber", ["latest", False]))
            except RpcError as error:
                raise EngineFailure(f"{self._process.describe()} refused to name its head: {error}") from error
        return self._head

    async def _check_start(self, *, is_genesis: bool) -> None:
        head = await self._known_head()
        chain_id = int(await self._build.request("eth_chainId"), 16)
        if chain_id != chain_id_of(self._params.rollup_id):
            raise EngineFailure(f"the engine's chain id is {chain_id}, not {chain_id_of(self._params.rollup_id)}")
        if is_genesis and (head.number, head.timestamp_s) != (0, self._params.genesis_time_s):
            raise EngineFailure(f"the engine starts at {head}, not at block 0 of time {self._params.genesis_time_s}")


def _write_source(directory: Path, genesis_json: str, state: bytes | None) -> tuple[str, str]:
    """Write what the engine starts from; the flag and the file's name."""
    directory.mkdir(parents=True, exist_ok=True)
    if state is None:
        (directory / _GENESIS_FILE).write_text(genesis_json, encoding="utf-8")
        return "--init", _GENESIS_FILE
    try:
        (directory / _STATE_FILE).write_bytes(gzip.decompress(state))
    except (OSError, EOFError, zlib.error) as error:
        raise EngineFailure(f"the engine's state cannot be unpacked into {directory}: {error}") from error
    return "--load-state", _STATE_FILE


def _head_of(header: Any) -> _Head:
    return _Head(int(header["number"], 16), header["hash"], int(header["timestamp"], 16))


def _own_calls(transactions: Iterable[tuple[bytes, Transaction]], number: bytes) -> bytes:
    """A filter for the calls that the senders of a list made in a block, which are its transactions.

    No account with a key has code, unless a genesis gave it some, so nothing else calls in their names.
    """
    senders = b'","0x'.join({hexlify(transaction.sender) for _, transaction in transactions})
    return b'[{"fromBlock":' + number + b',"toBlock":' + number + b',"fromAddress":["0x' + senders + b'"]}]'


def _trace_statuses(traces: Any) -> dict[str, Status]:
    return {
        trace["transactionHash"]: Status.REVERTED if "error" in trace else Status.SUCCEEDED
        for trace in traces
        if not trace["traceAddress"]
    }


def _reorg_params(payloads: Iterable[bytes]) -> bytes:
    """[1, [["0x...", 0], ...]]: replace one block; every item goes into the first new one."""
    return b'[1,[["0x' + b'",0],["0x'.join([hexlify(payload) for payload in payloads]) + b'",0]]]'


def _arguments(params: RollupParams, *, rewind_window: int, transaction_blocks: int) -> tuple[str, ...]:
    return (
        # The environment of every block: consensus.
        *("--network", NETWORK, "--hardfork", HARDFORK, "--chain-id", str(chain_id_of(params.rollup_id))),
        *("--timestamp", str(params.genesis_time_s), "--gas-limit", str(params.block_gas_limit)),
        # Base fee 0 throughout: rewinding does not rewind the base fee.
        *("--block-base-fee-per-gas", "0", "--gas-price", "0", "--disable-min-priority-fee"),
        *("--no-mining", "--order", "fifo", "--accounts", "0"),
        # What is kept.
        *("--prune-history", str(STATES_PER_BLOCK * rewind_window)),
        *("--transaction-block-keeper", str(transaction_blocks)),
        # anvil insists on a TCP listener: a port from the OS that nobody is told, and no browser may use.
        *("--host", "127.0.0.1", "--port", "0", "--no-cors", "--no-request-size-limit"),
        *("--threads", str(THREADS), "--disable-console-log", "--quiet"),
    )
