"""What happened at the bridge in one block, from its logs and, for what logs leave out, from the calls that made them.

A claim's and a mint's event say everything but the metadata, without which the leaf cannot be hashed. The metadata
stands in the call: that of a contingent mint is the transaction itself (the contract insists), that of a claim nearly
always. Where a claim came through another contract, or a claim's receiver made further ones, the engine's call trace is
read, and each event belongs to the call with its global index. What reports and certificates do with the result is not
known here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nodes.evm.agglayer_contracts import (
    BRIDGE,
    BridgeEvent,
    ClaimEvent,
    ContingentMint,
    ContingentSettled,
    decode_log,
)
from nodes.evm.contracts import selector
from nodes.model.agglayer import BridgeExit, GlobalIndex, LeafType, NetworkId
from nodes.model.bridge_activity import NO_ACTIVITY, BridgeActivity, MadeClaim, MadeExit, MadeMint
from nodes.model.errors import EngineFailure, RpcError
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.model.proof_errors import InvalidGlobalIndex
from nodes.ports import ExecutionEngine
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.records import Execution, IndexedBlock
from nodes.rollup.reports import included
from nodes.rules.exit_tree import global_index_from_int, leaf_hash
from nodes.rules.hashes import keccak256

CALL_TRACER: Mapping[str, Any] = {"tracer": "callTracer"}
_CLAIM_TYPES = "bytes32[32],bytes32[32],uint256,bytes32,bytes32,uint32,address,uint32,address,uint256,bytes"
_CLAIMS = {
    selector(f"claimAsset({_CLAIM_TYPES})"): LeafType.TRANSFER,
    selector(f"claimMessage({_CLAIM_TYPES})"): LeafType.MESSAGE,
}
_CLAIM_GLOBAL_INDEX = 32 + 32
"""Word of a claim's global index: after two proofs of 32 words."""
_CLAIM_METADATA = 32 + 32 + 8
"""Word of the offset of a claim's metadata: after two proofs of 32 words and eight plain arguments."""
_MINT_METADATA = 5
_SELECTOR_BYTES = 4
_WORD = 32
_ADDRESS_TEXT = hex_of(BRIDGE)
_BLOOM_BITS = tuple(int.from_bytes(keccak256(BRIDGE)[at : at + 2], "big") & 2047 for at in (0, 2, 4))


def may_concern_bridge(logs_bloom: bytes) -> bool:
    """False where a block with this bloom has no log of the bridge."""
    bits = int.from_bytes(logs_bloom, "big")
    return all(bits >> bit & 1 for bit in _BLOOM_BITS)


def claims_to_trace(logs: Iterable[Mapping[str, Any]], transactions: Sequence[Transaction]) -> list[int]:
    """Positions of transactions whose own call does not say all of their claims. `transactions`: the block's."""
    claims = Counter(at for at, event in _events(logs) if isinstance(event, ClaimEvent))
    return sorted(at for at, made in claims.items() if made > 1 or not _is_own_claim(transactions[at]))


def claim_calls(trace: Mapping[str, Any]) -> list[bytes]:
    """Calldata of every claim in a call trace that took effect, in the order in which they were made.

    Only of plain calls: whoever delegates to the bridge's code runs it on state and under an address of his own.
    """
    found: list[bytes] = []
    waiting = [trace]
    while waiting:
        call = waiting.pop()
        if call.get("error"):
            continue  # and so nothing below it took effect
        calldata = bytes.fromhex(str(call.get("input", "0x"))[2:])
        if call.get("type") == "CALL" and _is_claim(bytes.fromhex(str(call.get("to") or "0x")[2:]), calldata):
            found.append(calldata)
        waiting += reversed(call.get("calls") or ())
    return found


def activity_of(
    logs: Iterable[Mapping[str, Any]],
    transactions: Sequence[Transaction],
    *,
    network_id: NetworkId,
    traced: Mapping[int, Sequence[bytes]],
) -> BridgeActivity:
    """Everything at the bridge of `network_id` in one block. `traced`: `claim_calls` of the `claims_to_trace`.

    Raises EngineFailure where logs and calls do not belong together.
    """
    exits: list[MadeExit] = []
    mints: list[MadeMint] = []
    claims: list[MadeClaim] = []
    calls = {at: {_global_index(call): call for call in found} for at, found in traced.items()}
    for at, event in _events(logs):
        transaction = transactions[at]
        match event:
            case BridgeEvent():
                exits.append(MadeExit(event.leaf_index, event.bridge_exit(), at))
            case ContingentMint():
                mints.append(_mint(event, transaction, at, network_id))
            case ClaimEvent():
                call = calls[at].get(event.global_index) if at in calls else transaction.calldata
                if call is None or _global_index(call) != event.global_index:
                    raise EngineFailure(f"transaction {hex_of(transaction.tx_hash)} logs a claim that it did not call")
                claims.append(_claim(event, call, at, network_id))
            case ContingentSettled():
                # A global index is claimed once; nothing is called between the claim's event and this one.
                assert claims, "the contract logs the claim first"
                assert claims[-1].global_index == event.global_index, "the contract logs them together"
                claims[-1] = claims[-1]._replace(pays=False)
            case _:
                pass
    return BridgeActivity(exits=tuple(exits), mints=tuple(mints), claims=tuple(claims))


async def read_activity(
    engine: ExecutionEngine, reads: EngineReads, block: IndexedBlock, execution: Execution, *, network_id: NetworkId
) -> BridgeActivity:
    """Everything at the bridge in a block that the engine has just built. Raises EngineFailure."""
    if not may_concern_bridge(block.logs_bloom):
        return NO_ACTIVITY
    logs = await reads.fresh_logs(engine, block)
    transactions = included(execution)
    traced: dict[int, Sequence[bytes]] = {}
    for at in claims_to_trace(logs, transactions):
        tx_hash = hex_of(transactions[at].tx_hash)
        try:
            trace = await engine.request("debug_traceTransaction", [tx_hash, CALL_TRACER])
        except RpcError as error:
            raise EngineFailure(f"the engine does not trace {tx_hash} of block {block.number}: {error}") from error
        traced[at] = claim_calls(trace)
    return activity_of(logs, transactions, network_id=network_id, traced=traced)


def _events(logs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, object]]:
    for log in logs:
        if log["address"].lower() == _ADDRESS_TEXT:
            yield int(log["transactionIndex"], 16), decode_log(log)


def _is_own_claim(transaction: Transaction) -> bool:
    return _is_claim(transaction.to, transaction.calldata)


def _is_claim(to: bytes, calldata: bytes) -> bool:
    return to == BRIDGE and calldata[:4] in _CLAIMS


def _mint(event: ContingentMint, transaction: Transaction, position: int, network_id: NetworkId) -> MadeMint:
    made = BridgeExit(
        leaf_type=LeafType.TRANSFER,
        token=event.token,
        dest_network=network_id,
        dest_address=event.dest_address,
        amount=event.amount,
        metadata_hash=keccak256(_bytes_argument(transaction.calldata, _MINT_METADATA)),
    )
    if leaf_hash(made) != event.leaf:
        raise EngineFailure(
            f"the contingent mint of {hex_of(transaction.tx_hash)} logs another leaf than it was called with"
        )
    return MadeMint(event.bundle_hash, event.leg_index, event.source_network, made, position)


def _claim(event: ClaimEvent, calldata: bytes, position: int, network_id: NetworkId) -> MadeClaim:
    made = BridgeExit(
        leaf_type=_CLAIMS[calldata[:4]],
        token=event.token,
        dest_network=network_id,
        dest_address=event.dest_address,
        amount=event.amount,
        metadata_hash=keccak256(_bytes_argument(calldata, _CLAIM_METADATA)),
    )
    return MadeClaim(global_index=event.global_index, exit=made, pays=True, position=position)


def _global_index(claim: bytes) -> GlobalIndex | None:
    """Of a claim's calldata; None where it has no such form."""
    start = _SELECTOR_BYTES + _WORD * _CLAIM_GLOBAL_INDEX
    try:
        return global_index_from_int(int.from_bytes(claim[start : start + _WORD], "big"))
    except InvalidGlobalIndex:
        return None


def _bytes_argument(calldata: bytes, index: int) -> bytes:
    """The `bytes` argument whose offset is word `index` of a call."""
    data = calldata[_SELECTOR_BYTES:]
    start = int.from_bytes(data[_WORD * index : _WORD * (index + 1)], "big") + _WORD
    size = int.from_bytes(data[start - _WORD : start], "big")
    found = data[start : start + size]
    if len(found) != size:
        raise EngineFailure("a call that the bridge took ends within its own argument")
    return found
