"""Executes one transaction on the second EVM: EELS, the executable specification of Ethereum, fork Prague.

It shares no code with the engine (anvil, on revm): not the interpreter, not the decoding, not the recovery of senders.
The engine runs Isthmus, which is Prague and what the OP stack adds: deposits (type 0x7E, made here from EELS' own
message call), the precompile P256VERIFY, and upper bounds on the input of pairings. Fees to L1 and operator are zero
where no OP-stack contract states them, as on every rollup of Lockstep.

It does not know what the engine did.

Sources: https://github.com/ethereum/execution-specs, https://specs.optimism.io/protocol/deposits.html (deposits),
https://specs.optimism.io/protocol/precompiles.html and the Fjord, Granite and Isthmus specifications there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ethereum.exceptions import EthereumException
from ethereum.forks.osaka.vm.precompiled_contracts.p256verify import p256verify as _p256verify_of_osaka
from ethereum.forks.prague import vm
from ethereum.forks.prague.fork import process_transaction, process_unchecked_system_transaction
from ethereum.forks.prague.fork_types import Address as EelsAddress
from ethereum.forks.prague.state import (
    TransientStorage,
    destroy_account,
    get_account,
    increment_nonce,
    set_account_balance,
)
from ethereum.forks.prague.transactions import (
    LegacyTransaction,
    Transaction,
    calculate_intrinsic_cost,
    decode_transaction,
)
from ethereum.forks.prague.utils.hexadecimal import hex_to_address
from ethereum.forks.prague.utils.message import prepare_message
from ethereum.forks.prague.vm import interpreter
from ethereum.forks.prague.vm.exceptions import OutOfGasError
from ethereum.forks.prague.vm.gas import charge_gas
from ethereum.forks.prague.vm.precompiled_contracts import mapping
from ethereum_rlp import rlp
from ethereum_types.bytes import Bytes, Bytes0, Bytes32
from ethereum_types.numeric import U64, U256, Uint

from nodes.divergence.world import Backing, WorkingState
from nodes.model.ids import Address
from nodes.rules.footprint import Effects

DEPOSIT_TYPE = 0x7E
LEGACY_FROM = 0xC0
"""First byte of a legacy transaction: a list."""
_LONG_LIST = 0xF7
_P256_ADDRESS = hex_to_address("0x0000000000000000000000000000000000000100")
_P256_GAS = Uint(3_450)
_PLENTY = Uint(1_000_000)
_HISTORY_CONTRACT = hex_to_address("0x0000f90827f1c53a10cb7a02335b175320002935")
_BEACON_ROOTS_CONTRACT = hex_to_address("0x000f3df6d732807ef1319fb7b8bb8522d0beac02")
_INPUT_BOUNDS = {0x08: 112_687, 0x0C: 513_760, 0x0E: 488_448, 0x0F: 235_008}
"""Bytes that a precompile takes at most: pairing of bn254 (Granite), MSMs and pairing of BLS12-381 (Isthmus)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a block gives to its transactions. Agreed, except `prev_randao`, which the engine draws."""

    chain_id: int
    number: int
    timestamp_s: int
    gas_limit: int
    coinbase: Address
    prev_randao: bytes
    block_hashes: tuple[bytes, ...]
    """Of up to 256 blocks before this one, oldest first; the last is the parent's."""


class Executed(NamedTuple):
    """What became of one transaction."""

    refusal: str
    """Why it may not stand in a block; empty where it was executed."""
    succeeded: bool
    effects: Effects


class BlockExecution:
    """The transactions of one block, one after the other, each on the state that the caller hands in."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._output = vm.BlockOutput()
        self._count = 0

    def begin(self, backing: Backing) -> Effects:
        """The system calls before the first transaction: the parent's hash goes to where EIP-2935 keeps it."""
        state = WorkingState(backing)
        env = self._env(state)
        process_unchecked_system_transaction(env, _BEACON_ROOTS_CONTRACT, Bytes(env.parent_beacon_block_root))
        process_unchecked_system_transaction(env, _HISTORY_CONTRACT, Bytes(env.block_hashes[-1]))
        return state.effects()

    def execute(self, backing: Backing, payload: bytes) -> Executed:
        """One transaction, as its signed bytes (or a deposit's). `backing` is not changed.

        Raises UntouchedState where that has not all that is read.
        """
        state = WorkingState(backing)
        env = self._env(state)
        try:
            if payload[0] == DEPOSIT_TYPE:
                succeeded = _run_deposit(env, payload, Uint(self._count))
            else:
                succeeded = self._run(env, _decoded(payload))
        except EthereumException as error:
            # Raised by its checks before anything is written: the transaction cannot stand here.
            return Executed(str(error) or type(error).__name__, False, {})
        self._count += 1
        return Executed("", succeeded, state.effects())

    def _run(self, env: vm.BlockEnvironment, transaction: Transaction) -> bool:
        process_transaction(env, self._output, transaction, Uint(self._count))
        # The receipts of a block are kept for its root, which nobody asks for; only the last one is looked at.
        receipt = self._output.receipts_trie._data.popitem()[1]
        self._output.transactions_trie._data.clear()
        self._output.block_logs = ()
        self._output.receipt_keys = ()
        if isinstance(receipt, bytes):
            # type | list header | status ...; the header is long, because a receipt has a bloom of 256 bytes.
            return receipt[2 + receipt[1] - _LONG_LIST] == 1
        assert receipt is not None, "it was just put there"
        return bool(receipt.succeeded)

    def _env(self, state: WorkingState) -> vm.BlockEnvironment:
        of = self._environment
        return vm.BlockEnvironment(
            chain_id=U64(of.chain_id),
            state=state,
            block_gas_limit=Uint(of.gas_limit),
            block_hashes=[Bytes32(one) for one in of.block_hashes],
            coinbase=EelsAddress(of.coinbase),
            number=Uint(of.number),
            base_fee_per_gas=Uint(0),
            time=U256(of.timestamp_s),
            prev_randao=Bytes32(of.prev_randao),
            excess_blob_gas=U64(0),
            parent_beacon_block_root=Bytes32(bytes(32)),
        )


def _decoded(payload: bytes) -> Transaction:
    if payload[0] >= LEGACY_FROM:
        return rlp.decode_to(LegacyTransaction, Bytes(payload))
    return decode_transaction(Bytes(payload))


# Deposits


class _Deposit(NamedTuple):
    """In the shape of a transaction, as far as EELS' message wants it."""

    sender: EelsAddress
    to: EelsAddress | Bytes0
    mint: U256
    value: U256
    gas: Uint
    data: Bytes


def _deposit(payload: bytes) -> _Deposit:
    fields = rlp.decode(Bytes(payload[1:]))
    items: Sequence[Any] = fields if not isinstance(fields, bytes) else ()
    _, sender, to, mint, value, gas, _, data = items
    return _Deposit(
        EelsAddress(sender),
        EelsAddress(to) if to else Bytes0(b""),
        U256.from_be_bytes(mint),
        U256.from_be_bytes(value),
        Uint.from_be_bytes(gas),
        Bytes(data),
    )


class _Priced(NamedTuple):
    """What the intrinsic cost of a deposit depends on."""

    to: EelsAddress | Bytes0
    data: Bytes


def _run_deposit(env: vm.BlockEnvironment, payload: bytes, index: Uint) -> bool:
    """Mint, then call; whatever fails, the mint and the nonce stand. No fee. Whether it succeeded."""
    deposit = _deposit(payload)
    state = env.state
    sender = deposit.sender
    if deposit.mint:
        set_account_balance(state, sender, get_account(state, sender).balance + deposit.mint)
    increment_nonce(state, sender)
    intrinsic, _ = calculate_intrinsic_cost(_Priced(deposit.to, deposit.data))  # type: ignore[arg-type]
    if deposit.gas < intrinsic or get_account(state, sender).balance < deposit.value:
        return False
    tx_env = vm.TransactionEnvironment(
        origin=sender,
        gas_price=Uint(0),
        gas=deposit.gas - intrinsic,
        access_list_addresses={env.coinbase},
        access_list_storage_keys=set(),
        transient_storage=TransientStorage(),
        blob_versioned_hashes=(),
        authorizations=(),
        index_in_block=index,
        tx_hash=None,
    )
    message = prepare_message(env, tx_env, deposit)  # type: ignore[arg-type]
    output = interpreter.process_message_call(message)
    for address in output.accounts_to_delete:
        destroy_account(state, address)
    return output.error is None


# What the OP stack adds to Prague's precompiles.


def _bounded(run: Callable[[vm.Evm], None], most_bytes: int) -> Callable[[vm.Evm], None]:
    def bounded(evm: vm.Evm) -> None:
        if len(evm.message.data) > most_bytes:
            raise OutOfGasError
        run(evm)

    return bounded


def _p256verify(evm: vm.Evm) -> None:
    """Osaka's, at Fjord's price."""
    charge_gas(evm, _P256_GAS)
    left, evm.gas_left = evm.gas_left, _PLENTY
    try:
        _p256verify_of_osaka(evm)  # type: ignore[arg-type]
    finally:
        evm.gas_left = left


def _add_precompiles() -> None:
    table = mapping.PRE_COMPILED_CONTRACTS
    for number, most_bytes in _INPUT_BOUNDS.items():
        address = hex_to_address(f"0x{number:040x}")
        table[address] = _bounded(table[address], most_bytes)
    table[_P256_ADDRESS] = _p256verify


_add_precompiles()
