"""The errors that users' tools see: JSON-RPC codes and texts as geth gives them, and the way of our errors into them.

Tools decide by code and text (a wallet looks for "nonce too low", a library for code 3 with revert data), so both are
part of the interface.
"""

import re

from nodes.json_rpc.faults import INVALID_PARAMS, METHOD_NOT_FOUND, RpcFault
from nodes.model.errors import (
    EngineFailure,
    InvalidInput,
    LimitExceeded,
    Overloaded,
    Pruned,
    RpcError,
    TestbedError,
    Unavailable,
)

SERVER_ERROR = -32000
"""geth's code for everything that a transaction pool or the EVM refuses."""
PRUNED = -32001
"""EIP-1474: resource not found. The text says "pruned"; what is merely unknown is answered with null."""
LIMIT_EXCEEDED = -32005
"""EIP-1474: limit exceeded; also a full queue, and then `data.retryAfterMs` says when to try again."""
REVERTED = 3
"""geth's code of a call that reverted; `data` holds what it reverted with."""

_OUT_OF_RANGE = re.compile(r"BlockOutOfRangeError: block height is (\d+) but requested was (\d+)")
_EVM_FAILURE = re.compile(r"EVM error (\w+)")
_EVM_TEXTS = {
    "OutOfGas": "out of gas",
    "InvalidFEOpcode": "invalid opcode: INVALID",
    "OpcodeNotFound": "invalid opcode",
    "StackUnderflow": "stack underflow",
    "StackOverflow": "stack limit reached 1024 (1023)",
    "InvalidJump": "invalid jump destination",
    "CreateCollision": "contract address collision",
    "CreateContractSizeLimit": "max code size exceeded",
}
"""The engine's name of an exceptional halt, and geth's text for it."""


def method_not_allowed(method: str) -> RpcFault:
    """A method that is not on the allow-list, whatever an engine would do with it."""
    return RpcFault(METHOD_NOT_FOUND, f"the method {method[:100]} does not exist/is not available: method not allowed")


def fault_of(error: TestbedError) -> RpcFault:
    """The JSON-RPC error of an expected condition."""
    match error:
        case Pruned():
            message = str(error)
            return RpcFault(PRUNED, message if "pruned" in message else f"pruned: {message}")
        case Overloaded():
            return RpcFault(LIMIT_EXCEEDED, str(error), {"retryAfterMs": error.retry_after_ms})
        case LimitExceeded():
            return RpcFault(LIMIT_EXCEEDED, str(error))
        case InvalidInput():
            return RpcFault(INVALID_PARAMS, str(error))
        case Unavailable() | EngineFailure():
            return RpcFault(SERVER_ERROR, f"temporarily unavailable: {error}")
        case _:
            return RpcFault(SERVER_ERROR, str(error))


def fault_of_engine(error: RpcError) -> RpcFault:
    """An engine's refusal of a read, in geth's form; revert data passes through unchanged."""
    out_of_range = _OUT_OF_RANGE.search(error.message)
    if out_of_range is not None:
        height, asked = int(out_of_range[1]), int(out_of_range[2])
        if asked > height:
            # The engine is behind the chain that was announced: it was restarted and executes again.
            return RpcFault(
                SERVER_ERROR, f"temporarily unavailable: the engine is at block {height}, not yet at {asked}"
            )
        return RpcFault(PRUNED, f"the state of block {asked} is pruned; this node keeps the newest states only")
    halted = _EVM_FAILURE.fullmatch(error.message)
    if halted is not None:
        return RpcFault(SERVER_ERROR, _EVM_TEXTS.get(halted[1], f"execution failed: {halted[1]}"))
    message = error.message
    if message.startswith("execution reverted: custom error"):
        # The engine writes the arguments' raw bytes into the text; tools decode them from `data`.
        message = "execution reverted"
    if message.startswith("Out of gas: "):
        message = message.removeprefix("Out of gas: ")
    if message.startswith("Insufficient funds"):
        message = "insufficient funds for gas * price + value"
    code = SERVER_ERROR if error.code == -32003 else error.code
    return RpcFault(code, message, error.data)
