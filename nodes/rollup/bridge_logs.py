"""What happened at the bridge in one block, from its logs, whose length gas bounds, and from the block's transactions.

A contingent mint's event leaves out the metadata, without which the leaf cannot be hashed. It stands in the call, which
is the transaction itself (the contract insists). A claim may be made by any contract within any transaction, so the
contract logs what the leaf needs. Traces of calls are never read: gas does not bound their length. What reports and
certificates do with the result is not known here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nodes.evm.agglayer_contracts import (
    BRIDGE,
    BridgeEvent,
    ClaimDetails,
    ClaimEvent,
    ContingentMint,
    ContingentSettled,
    decode_log,
)
from nodes.model.agglayer import BridgeExit, LeafType, NetworkId
from nodes.model.bridge_activity import NO_ACTIVITY, BridgeActivity, MadeClaim, MadeExit, MadeMint
from nodes.model.errors import EngineFailure
from nodes.model.execution import Transaction
from nodes.model.ids import hex_of
from nodes.ports import ExecutionEngine
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.records import Execution, IndexedBlock
from nodes.rollup.reports import included
from nodes.rules.exit_tree import leaf_hash
from nodes.rules.hashes import keccak256

_MINT_METADATA = 5
_SELECTOR_BYTES = 4
_WORD = 32
_ADDRESS_TEXT = hex_of(BRIDGE)
_BLOOM_BITS = tuple(int.from_bytes(keccak256(BRIDGE)[at : at + 2], "big") & 2047 for at in (0, 2, 4))


def may_concern_bridge(logs_bloom: bytes) -> bool:
    """False where a block with this bloom has no log of the bridge."""
    bits = int.from_bytes(logs_bloom, "big")
    return all(bits >> bit & 1 for bit in _BLOOM_BITS)


def activity_of(
    logs: Iterable[Mapping[str, Any]], transactions: Sequence[Transaction], *, network_id: NetworkId
) -> BridgeActivity:
    """Everything at the bridge of `network_id` in one block, of which `transactions` are those that were included.

    Raises EngineFailure where logs, or logs and transactions, do not belong together.
    """
    exits: list[MadeExit] = []
    mints: list[MadeMint] = []
    claims: list[MadeClaim] = []
    claimed: ClaimEvent | None = None
    for at, event in _events(logs):
        if claimed is not None and not isinstance(event, ClaimDetails):
            raise EngineFailure(f"a claim of {hex_of(transactions[at].tx_hash)} lacks its details")
        match event:
            case BridgeEvent():
                exits.append(MadeExit(event.leaf_index, event.bridge_exit(), at))
            case ContingentMint():
                mints.append(_mint(event, transactions[at], at, network_id))
            case ClaimEvent():
                claimed = event
            case ClaimDetails():
                if claimed is None or claimed.global_index != event.global_index:
                    raise EngineFailure(f"{hex_of(transactions[at].tx_hash)} logs details of a claim that it did not")
                claims.append(_claim(claimed, event, at, network_id))
                claimed = None
            case ContingentSettled():
                # A global index is claimed once; nothing is called between the claim's event and this one.
                assert claims, "the contract logs the claim first"
                assert claims[-1].global_index == event.global_index, "the contract logs them together"
                claims[-1] = claims[-1]._replace(pays=False)
            case _:
                pass
    if claimed is not None:
        raise EngineFailure("the last claim of a block lacks its details")
    return BridgeActivity(exits=tuple(exits), mints=tuple(mints), claims=tuple(claims))


async def read_activity(
    engine: ExecutionEngine, reads: EngineReads, block: IndexedBlock, execution: Execution, *, network_id: NetworkId
) -> BridgeActivity:
    """Everything at the bridge in a block that the engine has just built. Raises EngineFailure."""
    if not may_concern_bridge(block.logs_bloom):
        return NO_ACTIVITY
    logs = await reads.fresh_logs(engine, block, _ADDRESS_TEXT)
    return activity_of(logs, included(execution), network_id=network_id)


def _events(logs: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, object]]:
    for log in logs:
        if log["address"].lower() == _ADDRESS_TEXT:
            yield int(log["transactionIndex"], 16), decode_log(log)


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


def _claim(event: ClaimEvent, details: ClaimDetails, position: int, network_id: NetworkId) -> MadeClaim:
    made = BridgeExit(
        leaf_type=details.leaf_type,
        token=event.token,
        dest_network=network_id,
        dest_address=event.dest_address,
        amount=event.amount,
        metadata_hash=details.metadata_hash,
    )
    return MadeClaim(global_index=event.global_index, exit=made, pays=True, position=position)


def _bytes_argument(calldata: bytes, index: int) -> bytes:
    """The `bytes` argument whose offset is word `index` of a call."""
    data = calldata[_SELECTOR_BYTES:]
    start = int.from_bytes(data[_WORD * index : _WORD * (index + 1)], "big") + _WORD
    size = int.from_bytes(data[start - _WORD : start], "big")
    found = data[start : start + size]
    if len(found) != size:
        raise EngineFailure("a call that the bridge took ends within its own argument")
    return found
