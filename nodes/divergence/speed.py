"""Makes EELS several times faster without touching what it computes: bookkeeping around instructions is replaced.

EELS is written to be read. Four things cost most of its time and decide nothing: an event object per instruction for a
tracer that discards it, the scan of a contract's whole code for jump destinations at every call, numbers that check
their range through two further calls, and a copy of an account through its reflection. The instructions, their gas,
the calls between contracts and every rule of a transaction stay EELS' own. A test runs random programs with and
without this module and compares.

`install` changes the library for the whole process; it is done once, in the process that only does this.
"""

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ethereum.forks.prague.fork_types import Account
from ethereum.forks.prague.state import begin_transaction, commit_transaction, move_ether, rollback_transaction
from ethereum.forks.prague.vm import Evm, Message, interpreter
from ethereum.forks.prague.vm import gas as eels_gas
from ethereum.forks.prague.vm.exceptions import (
    ExceptionalHalt,
    InvalidOpcode,
    OutOfGasError,
    Revert,
    StackDepthLimitError,
    StackOverflowError,
)
from ethereum.forks.prague.vm.gas import GAS_VERY_LOW
from ethereum.forks.prague.vm.instructions import Ops, op_implementation
from ethereum.forks.prague.vm.precompiled_contracts.mapping import PRE_COMPILED_CONTRACTS
from ethereum.forks.prague.vm.runtime import get_valid_jump_destinations
from ethereum.trace import evm_trace
from ethereum_types.frozen import modify
from ethereum_types.numeric import U256, Uint

_PRAGUE = "ethereum.forks.prague"
_CODES_REMEMBERED = 256
_STACK_LIMIT = 1024
_PUSH_1, _PUSH_32 = 0x60, 0x7F
_MAX_U256 = 2**256 - 1
_is_installed = False


def install() -> None:
    """Do it; idempotent."""
    global _is_installed  # noqa: PLW0603 - the library it changes is the process's too
    if _is_installed:
        return
    _is_installed = True
    _replace_everywhere("charge_gas", eels_gas.charge_gas, _charge_gas)
    _replace_everywhere("evm_trace", evm_trace, _no_trace)
    interpreter.process_message = _process_message
    _replace_everywhere("modify", modify, _modify)
    for kind, init in ((Uint, _init_uint), (U256, _init_u256)):
        kind.__init__ = init  # type: ignore[method-assign]
        kind.__add__ = kind.__iadd__ = _adder(kind)  # type: ignore[method-assign]
        kind.__lt__ = _less_than(kind)  # type: ignore[method-assign]
        kind.__eq__ = _equals(kind)  # type: ignore[method-assign]
    Uint.__isub__ = Uint.__sub__ = _sub_uint  # type: ignore[method-assign]


def _replace_everywhere(name: str, old: object, new: object) -> None:
    """EELS imports functions by name, so each module has its own."""
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith(_PRAGUE) and getattr(module, name, None) is old:
            setattr(module, name, new)


def _no_trace(evm: object, event: object) -> None:
    return None


def _charge_gas(evm: Evm, amount: Uint) -> None:
    left = evm.gas_left._number - amount._number
    if left < 0:
        raise OutOfGasError
    evm.gas_left = _uint(left)


def _modify(account: Account, change: Callable[[Any], None]) -> Account:
    copy = Account(account.nonce, account.balance, account.code, _frozen=False)  # type: ignore[call-arg]
    change(copy)
    copy._frozen = True  # type: ignore[attr-defined]
    return copy


# Numbers


def _uint(number: int) -> Uint:
    """Of a number that is known to be in range."""
    made = object.__new__(Uint)
    made._number = number  # type: ignore[misc]
    return made


def _init_uint(self: Any, value: Any) -> None:
    number = value if type(value) is int else int(value)
    if number < 0:
        raise OverflowError
    self._number = number


def _init_u256(self: Any, value: Any) -> None:
    number = value if type(value) is int else int(value)
    if not 0 <= number <= _MAX_U256:
        raise OverflowError
    self._number = number


def _adder(kind: type[Any]) -> Callable[[Any, Any], Any]:
    most = _MAX_U256 if kind is U256 else None

    def add(self: Any, right: Any) -> Any:
        if type(right) is not kind:
            return NotImplemented
        number = self._number + right._number
        if most is not None and number > most:
            raise OverflowError
        made = object.__new__(kind)
        made._number = number
        return made

    return add


def _less_than(kind: type[Any]) -> Callable[[Any, Any], Any]:
    def less_than(self: Any, other: Any) -> Any:
        return self._number < other._number if type(other) is kind else NotImplemented

    return less_than


def _equals(kind: type[Any]) -> Callable[[Any, Any], Any]:
    general: Any = kind.__eq__

    def equals(self: Any, other: Any) -> Any:
        if type(other) is kind:
            return self._number == other._number
        return self._number == other if type(other) is int else general(self, other)

    return equals


def _sub_uint(self: Any, right: Any) -> Any:
    if type(right) is not Uint:
        return NotImplemented
    if right._number > self._number:
        raise OverflowError
    return _uint(self._number - right._number)


# The loop over instructions

_jump_destinations = lru_cache(_CODES_REMEMBERED)(get_valid_jump_destinations)


def _pusher(size: int) -> Callable[[Evm], None]:
    def push(evm: Evm) -> None:
        _charge_gas(evm, GAS_VERY_LOW)
        at = evm.pc._number + 1
        data = evm.code[at : at + size]
        if len(evm.stack) == _STACK_LIMIT:
            raise StackOverflowError
        evm.stack.append(U256(int.from_bytes(data, "big") << (8 * (size - len(data)))))
        evm.pc = _uint(at + size)

    return push


_INSTRUCTIONS: dict[int, Callable[[Evm], None]] = {op.value: op_implementation[op] for op in Ops} | {
    code: _pusher(code - _PUSH_1 + 1) for code in range(_PUSH_1, _PUSH_32 + 1)
}


def _run(evm: Evm) -> None:
    """As EELS does it: instruction after instruction, until one of them says stop or the code ends."""
    code, end = evm.code, len(evm.code)
    while evm.running:
        at = evm.pc._number
        if at >= end:
            return
        run = _INSTRUCTIONS.get(code[at])
        if run is None:
            raise InvalidOpcode(code[at])
        run(evm)


def _process_message(message: Message) -> Evm:
    """`ethereum.forks.prague.vm.interpreter.process_message` without its trace."""
    state, transient_storage = message.block_env.state, message.tx_env.transient_storage
    if message.depth > interpreter.STACK_DEPTH_LIMIT:
        raise StackDepthLimitError("Stack depth limit reached")
    evm = Evm(
        pc=Uint(0),
        stack=[],
        memory=bytearray(),
        code=message.code,
        gas_left=message.gas,
        valid_jump_destinations=_jump_destinations(message.code),
        logs=(),
        refund_counter=0,
        running=True,
        message=message,
        output=b"",
        accounts_to_delete=set(),
        return_data=b"",
        error=None,
        accessed_addresses=message.accessed_addresses,
        accessed_storage_keys=message.accessed_storage_keys,
    )
    begin_transaction(state, transient_storage)
    if message.should_transfer_value and message.value != 0:
        move_ether(state, message.caller, message.current_target, message.value)
    try:
        if message.code_address in PRE_COMPILED_CONTRACTS:
            if not message.disable_precompiles:
                PRE_COMPILED_CONTRACTS[message.code_address](evm)
        else:
            _run(evm)
    except ExceptionalHalt as error:
        evm.gas_left = Uint(0)
        evm.output = b""
        evm.error = error
    except Revert as error:
        evm.error = error
    if evm.error:
        rollback_transaction(state, transient_storage)
    else:
        commit_transaction(state, transient_storage)
    return evm
