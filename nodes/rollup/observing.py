"""Reads from the engine what a report and a certificate say of a height that was just executed.

What they make of it: `reports` and `safe_heights`.
"""

from collections.abc import Mapping

from nodes.model.agglayer import NetworkId
from nodes.model.bridge_activity import NO_ACTIVITY
from nodes.model.errors import EngineFailure, RpcError
from nodes.model.ids import Address, hex_of
from nodes.rollup.bridge_logs import read_activity
from nodes.rollup.chain import Tip
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.executor import Executed, Executor
from nodes.rollup.reports import Observed, burn_senders, nonce_mismatches
from nodes.rules.verdict import Plan


async def observe(
    executor: Executor, reads: EngineReads, plan: Plan, done: Executed, parent: Tip, *, network_id: NetworkId
) -> Observed:
    """The engine has executed a height by `plan`; `parent` is where it stood before. Raises EngineFailure."""
    activity = NO_ACTIVITY
    if done.block is not None:
        activity = await read_activity(executor.engine, reads, done.block, done.execution, network_id=network_id)
    nonces = await _nonces(executor, plan, parent.number)
    return Observed(
        parent_hash=parent.hash,
        block_hash=executor.tip.hash,
        plan=plan,
        execution=done.execution,
        activity=activity,
        mismatches=nonce_mismatches(plan, done.execution, nonces),
    )


async def _nonces(executor: Executor, plan: Plan, number: int) -> Mapping[Address, int]:
    """Nonces of the signers of burnt legs after block `number`."""
    nonces = {}
    for sender in burn_senders(plan):
        try:
            answer = await executor.engine.request("eth_getTransactionCount", [hex_of(sender), hex(number)])
        except RpcError as error:
            raise EngineFailure(f"the engine does not tell the nonce of {hex_of(sender)}: {error}") from error
        nonces[sender] = int(answer, 16)
    return nonces
