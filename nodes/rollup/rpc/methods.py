"""The allow-list: every method that users can call, and nothing else.

A method that is not in the table is refused by name, whatever the engine would do with it: evm_*, anvil_*, hardhat_*,
eth_sendTransaction, signing and impersonation are unreachable.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from nodes.ports import Sequencer
from nodes.rollup.rpc.accepted import AcceptedTransactions
from nodes.rollup.rpc.blocks import BlockMethods
from nodes.rollup.rpc.filters import Filters
from nodes.rollup.rpc.logs import LogSearch
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.state import StateMethods
from nodes.rollup.rpc.submit import SubmitMethods
from nodes.rollup.rpc.subscriptions import Publisher
from nodes.rollup.rpc.view import NodeView
from nodes.telemetry.clock import Clock

Handler = Callable[[Params], Awaitable[Any]]

SUBSCRIBE, UNSUBSCRIBE = "eth_subscribe", "eth_unsubscribe"
"""Over WebSocket only, since notifications need a connection."""


def build_methods(node: NodeView, sequencer: Sequencer, clock: Clock) -> tuple[Mapping[str, Handler], Publisher]:
    """The table for one node, and the publisher that feeds its subscribers and filters."""
    reader = ChainReader(node)
    accepted = AcceptedTransactions(node.pending)
    search = LogSearch(node, reader)
    filters = Filters(node, search, clock)
    publisher = Publisher(node, reader, filters)
    chain = BlockMethods(node, reader, accepted)
    state = StateMethods(node, reader)
    submit = SubmitMethods(node, reader, accepted, sequencer, publisher)
    methods: dict[str, Handler] = {
        "web3_clientVersion": chain.client_version,
        "net_version": chain.network,
        "net_listening": chain.listening,
        "eth_chainId": chain.chain_id,
        "eth_syncing": chain.syncing,
        "eth_accounts": chain.accounts,
        "eth_blockNumber": chain.block_number,
        "eth_gasPrice": chain.zero_price,
        "eth_maxPriorityFeePerGas": chain.zero_price,
        "eth_feeHistory": chain.fee_history,
        "eth_getBlockByNumber": chain.block_by_number,
        "eth_getBlockByHash": chain.block_by_hash,
        "eth_getBlockTransactionCountByNumber": chain.count_by_number,
        "eth_getBlockTransactionCountByHash": chain.count_by_hash,
        "eth_getTransactionByHash": chain.transaction,
        "eth_getTransactionByBlockNumberAndIndex": chain.transaction_by_number,
        "eth_getTransactionByBlockHashAndIndex": chain.transaction_by_block_hash,
        "eth_getTransactionReceipt": chain.receipt,
        "eth_getBlockReceipts": chain.block_receipts,
        "eth_getBalance": state.balance,
        "eth_getCode": state.code,
        "eth_getStorageAt": state.storage,
        "eth_getTransactionCount": state.nonce,
        "eth_getProof": state.proof,
        "eth_call": state.call,
        "eth_estimateGas": state.estimate_gas,
        "eth_createAccessList": state.access_list,
        "eth_simulateV1": state.simulate,
        "debug_traceTransaction": state.trace,
        "eth_getLogs": search.get_logs,
        "eth_newFilter": filters.new_log_filter,
        "eth_newBlockFilter": filters.new_block_filter,
        "eth_newPendingTransactionFilter": filters.new_pending_filter,
        "eth_getFilterChanges": filters.changes,
        "eth_getFilterLogs": filters.logs,
        "eth_uninstallFilter": filters.uninstall,
        "eth_sendRawTransaction": submit.send_raw_transaction,
        "lockstep_sendBundle": submit.send_bundle,
        "lockstep_getBundle": submit.bundle,
        "lockstep_getTransactionStatus": submit.transaction_status,
        "lockstep_status": submit.status,
    }
    return methods, publisher
