"""State and calls: balances, code, storage, nonces, proofs, calls and simulations, gas estimates, traces."""

from collections.abc import Mapping
from typing import Any

from nodes.json_rpc.faults import RpcFault, invalid_params
from nodes.model.ids import hex_of
from nodes.rollup.pending import next_nonce
from nodes.rollup.rpc.errors import LIMIT_EXCEEDED, SERVER_ERROR
from nodes.rollup.rpc.forms import Json
from nodes.rollup.rpc.params import BlockReference, Params, address_text, call_object, quantity, storage_slot
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.view import NodeView

MAX_PROOF_SLOTS = 128
TRACERS = ("callTracer", "prestateTracer", "4byteTracer", "noopTracer")
"""Built into the engine. A tracer in a script language could run for ever, so none is passed on."""
_TRACE_OPTIONS = ("tracer", "tracerConfig", "timeout")
_OVERRIDE_FIELDS = ("balance", "nonce", "code", "state", "stateDiff", "movePrecompileToAddress")
MAX_SIMULATED_BLOCKS = 16
MAX_SIMULATED_CALLS = 4_096
"""Of all blocks of one simulation."""
MAX_SIMULATED_LEGS = 256
"""Gas of a whole simulation, in transactions of the largest gas limit: what loops for ever ends within seconds."""
_SIMULATION_FIELDS = ("blockStateCalls", "validation", "traceTransfers", "returnFullTransactions")
_BLOCK_FIELDS = ("calls", "stateOverrides", "blockOverrides")
_BLOCK_OVERRIDES = ("number", "time", "gasLimit", "feeRecipient", "prevRandao", "baseFeePerGas", "blobBaseFee")


class StateMethods:
    """Handlers of methods that read state."""

    def __init__(self, node: NodeView, reader: ChainReader) -> None:
        self._node = node
        self._reader = reader

    async def balance(self, params: Params) -> Any:
        """eth_getBalance."""
        return await self._account_read("eth_getBalance", params)

    async def code(self, params: Params) -> Any:
        """eth_getCode."""
        return await self._account_read("eth_getCode", params)

    async def _account_read(self, method: str, params: Params) -> Any:
        address, block = params.address("address"), params.block("block")
        params.end()
        return await self._reader.state(method, [address], block)

    async def storage(self, params: Params) -> Any:
        """eth_getStorageAt."""
        address, slot = params.address("address"), storage_slot(params.take("slot"), "slot")
        block = params.block("block")
        params.end()
        return await self._reader.state("eth_getStorageAt", [address, slot], block)

    async def nonce(self, params: Params) -> Any:
        """eth_getTransactionCount; at `pending` with what this node's users handed in and what was not derived yet."""
        address, block = params.address("address"), params.block("block")
        params.end()
        if block.tag != "pending":
            return await self._reader.state("eth_getTransactionCount", [address], block)
        account = bytes.fromhex(address[2:])
        executed, pending = await self._reader.account_and_pending("eth_getTransactionCount", account)
        return hex(next_nonce(int(executed, 16), pending))

    async def proof(self, params: Params) -> Any:
        """eth_getProof."""
        address, slots = params.address("address"), params.take("slots")
        block = params.block("block")
        params.end()
        if not isinstance(slots, list) or len(slots) > MAX_PROOF_SLOTS:
            raise invalid_params(f"slots must be a list of at most {MAX_PROOF_SLOTS} storage slots (MAX_PROOF_SLOTS)")
        keys = [storage_slot(slot, "slot") for slot in slots]
        return await self._reader.state("eth_getProof", [address, keys], block)

    async def call(self, params: Params) -> Any:
        """eth_call, with state overrides where given."""
        call, block, overrides = self._call_params(params)
        return await self._reader.state("eth_call", [call], block, overrides)

    async def estimate_gas(self, params: Params) -> Any:
        """eth_estimateGas; never above the rollup's gas cap, since no transaction may use more."""
        call, block, overrides = self._call_params(params)
        if "from" in call and int(call.get("value", "0x0"), 16) and not overrides:
            await self._check_value(call, block)
        estimate = int(await self._reader.state("eth_estimateGas", [call], block, overrides), 16)
        if estimate > self._node.params.leg_gas_cap:
            raise RpcFault(SERVER_ERROR, f"gas required exceeds allowance ({self._node.params.leg_gas_cap})")
        return hex(estimate)

    async def access_list(self, params: Params) -> Any:
        """eth_createAccessList."""
        call, block, overrides = self._call_params(params)
        return await self._reader.state("eth_createAccessList", [call], block, overrides)

    async def simulate(self, params: Params) -> Any:
        """eth_simulateV1: calls one after the other on the state after a block. The engine checks no nonces in it.

        Source: https://github.com/ethereum/execution-apis (eth_simulateV1).
        """
        payload, block = params.take("simulation"), params.block("block")
        params.end()
        checked = simulation_object(payload, gas_cap=self._node.params.leg_gas_cap)
        return await self._reader.state("eth_simulateV1", [checked], block)

    def _call_params(self, params: Params) -> tuple[Json, BlockReference, list[Json]]:
        call = call_object(params.take("call"), gas_cap=self._node.params.leg_gas_cap)
        block = params.block("block")
        overrides = params.take("state overrides", {})
        params.end()
        if not isinstance(overrides, Mapping):
            raise invalid_params("state overrides must be an object of address to what is overridden")
        return call, block, [_overrides(overrides)] if overrides else []

    async def _check_value(self, call: Json, block: BlockReference) -> None:
        """anvil estimates a plain transfer without looking at the balance; a wallet wants to know now."""
        value = int(call["value"], 16)
        balance = int(await self._reader.state("eth_getBalance", [call["from"]], block), 16)
        if balance < value:
            text = f"insufficient funds for transfer: address {call['from']} have {balance} want {value}"
            raise RpcFault(SERVER_ERROR, text)

    async def trace(self, params: Params) -> Any:
        """debug_traceTransaction by a tracer of the engine's; it records no steps, so there are no struct logs."""
        tx_hash, options = params.hash("transaction hash"), params.take("options", {})
        params.end()
        if not isinstance(options, Mapping) or any(name not in _TRACE_OPTIONS for name in options):
            raise invalid_params(f"trace options must be an object with fields of {', '.join(_TRACE_OPTIONS)}")
        tracer = options.get("tracer", "")
        if tracer not in TRACERS:
            raise invalid_params(f"tracer {str(tracer)[:60]!r} is not available; name one of {', '.join(TRACERS)}")
        fate = self._node.index.transaction(tx_hash)
        if fate is None or not fate.executed:
            raise RpcFault(SERVER_ERROR, f"transaction {hex_of(tx_hash)} not found: it is in no block")
        return await self._reader.trace(tx_hash, dict(options))


def simulation_object(value: Any, *, gas_cap: int) -> Json:
    """A simulation for the engine with every call checked, and with blocks, calls and gas bounded. Raises RpcFault."""
    if not isinstance(value, Mapping) or any(name not in _SIMULATION_FIELDS for name in value):
        raise invalid_params(f"a simulation is an object with fields of {', '.join(_SIMULATION_FIELDS)}")
    blocks = value.get("blockStateCalls")
    if not isinstance(blocks, list) or not 1 <= len(blocks) <= MAX_SIMULATED_BLOCKS:
        raise invalid_params(
            f"blockStateCalls must be a list of 1 to {MAX_SIMULATED_BLOCKS} blocks (MAX_SIMULATED_BLOCKS)"
        )
    checked = [_simulated_block(block, gas_cap=gas_cap) for block in blocks]
    calls = [call for block in checked for call in block["calls"]]
    gas = sum(int(call["gas"], 16) for call in calls)
    if len(calls) > MAX_SIMULATED_CALLS:
        text = f"MAX_SIMULATED_CALLS is {MAX_SIMULATED_CALLS:,}, but {len(calls):,} were given"
        raise RpcFault(LIMIT_EXCEEDED, text)
    if gas > MAX_SIMULATED_LEGS * gas_cap:
        text = f"the calls may use {gas:,} gas, but all together {MAX_SIMULATED_LEGS * gas_cap:,}: state lower limits"
        raise RpcFault(LIMIT_EXCEEDED, text)
    flags = {name: field for name, field in value.items() if name != "blockStateCalls"}
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise invalid_params(f"{name} must be true or false")
    return {"blockStateCalls": checked, **flags}


def _simulated_block(block: Any, *, gas_cap: int) -> Json:
    if not isinstance(block, Mapping) or any(name not in _BLOCK_FIELDS for name in block):
        raise invalid_params(f"a simulated block is an object with fields of {', '.join(_BLOCK_FIELDS)}")
    calls, overrides, header = (block.get(name) for name in _BLOCK_FIELDS)
    if not isinstance(calls, list):
        raise invalid_params("calls of a simulated block must be a list")
    checked: Json = {"calls": [call_object(call, gas_cap=gas_cap) for call in calls]}
    if overrides is not None:
        if not isinstance(overrides, Mapping):
            raise invalid_params("stateOverrides must be an object of address to what is overridden")
        checked["stateOverrides"] = _overrides(overrides)
    if header is not None:
        if not isinstance(header, Mapping) or any(name not in _BLOCK_OVERRIDES for name in header):
            raise invalid_params(f"blockOverrides is an object with fields of {', '.join(_BLOCK_OVERRIDES)}")
        for name in ("number", "time", "gasLimit", "baseFeePerGas", "blobBaseFee"):
            if name in header:
                quantity(header[name], name)
        checked["blockOverrides"] = dict(header)
    return checked


def _overrides(overrides: Mapping[Any, Any]) -> Json:
    checked = {}
    for address, fields in overrides.items():
        if not isinstance(fields, Mapping) or any(name not in _OVERRIDE_FIELDS for name in fields):
            raise invalid_params(
                f"state override of {str(address)[:60]}: known fields are {', '.join(_OVERRIDE_FIELDS)}"
            )
        checked[address_text(address, "overridden address")] = dict(fields)
    return checked
