"""Only reads reach the engine: whatever else it can do is refused by name."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.rollup.rpc.dispatch import Dispatcher
from nodes.rollup.rpc.methods import SUBSCRIBE, UNSUBSCRIBE, build_methods
from nodes.rollup.rpc.subscriptions import new_mailbox
from nodes.telemetry.clock import ManualClock
from tests.support.rpc_fakes import FakeNode, FakeSequencer

# Everything in anvil's interface that changes state, signs, impersonates, reveals a pool, or costs without bound.
REFUSED = re.findall(
    r"\w+",
    """
anvil_addBalance anvil_autoImpersonateAccount anvil_dealERC20 anvil_dropAllTransactions anvil_dropTransaction
anvil_dumpState anvil_enableTraces anvil_getAutomine anvil_getIntervalMining anvil_impersonateAccount
anvil_impersonateSignature anvil_increaseTime anvil_loadState anvil_metadata anvil_mine anvil_mine_detailed
anvil_nodeInfo anvil_removeBlockTimestampInterval anvil_removePoolTransactions anvil_reorg anvil_reset anvil_revert
anvil_rollback anvil_setAutomine anvil_setBalance anvil_setBlock anvil_setBlockGasLimit
anvil_setBlockTimestampInterval anvil_setChainId anvil_setCode anvil_setCoinbase anvil_setERC20Allowance
anvil_setImpersonatedAccount anvil_setIntervalMining anvil_setLoggingEnabled anvil_setMinGasPrice
anvil_setNextBlockBaseFeePerGas anvil_setNextBlockTimestamp anvil_setNonce anvil_setRpcUrl anvil_setStorageAt
anvil_setTime anvil_snapshot anvil_stopImpersonatingAccount anvil_addCompilationResult
evm_increaseTime evm_mine evm_mine_detailed evm_revert evm_setAccountNonce evm_setAutomine evm_setBlockGasLimit
evm_setIntervalMining evm_setNextBlockTimestamp evm_setTime evm_snapshot
hardhat_addCompilationResult hardhat_dropTransaction hardhat_getAutomine hardhat_impersonateAccount hardhat_metadata
hardhat_mine hardhat_reset hardhat_setBalance hardhat_setCode hardhat_setCoinbase hardhat_setLoggingEnabled
hardhat_setMinGasPrice hardhat_setNextBlockBaseFeePerGas hardhat_setNonce hardhat_setPrevRandao hardhat_setRpcUrl
hardhat_setStorageAt hardhat_stopImpersonatingAccount
tenderly_addBalance tenderly_setBalance tenderly_setErc20Balance
eth_sendTransaction eth_sendUnsignedTransaction eth_sendTransactionSync eth_sendRawTransactionSync
eth_sendRawTransactionConditional eth_sign eth_signTransaction eth_signTypedData eth_signTypedData_v3
eth_signTypedData_v4 eth_submitWork eth_submitHashrate eth_getWork eth_fillTransaction
personal_sign personal_sendTransaction personal_unlockAccount miner_start miner_stop miner_setEtherbase
admin_addPeer admin_nodeInfo txpool_content txpool_inspect txpool_status
debug_setHead debug_getRawTransaction debug_getRawTransactions debug_dbGet debug_traceCall debug_codeByHash
trace_block trace_filter trace_transaction trace_replayBlockTransactions ots_getBlockDetails
wallet_getCapabilities wallet_sendTransaction wallet_sendCalls engine_forkchoiceUpdatedV3 engine_newPayloadV4
""",
)
CHANGING_PREFIXES = ("anvil_", "evm_", "hardhat_", "tenderly_", "personal_", "miner_", "admin_", "wallet_", "engine_")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with closing(FakeNode(tmp_path)) as node:
        yield node


@pytest.fixture
def dispatcher(node: FakeNode) -> Dispatcher:
    return Dispatcher(*build_methods(node, FakeSequencer(), ManualClock()))


async def ask(dispatcher: Dispatcher, body: Any, *, socket: bool = False) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = await dispatcher.answer(data, new_mailbox() if socket else None)
    return json.loads(answer) if answer else None


async def test_methods_that_change_the_engine_are_unreachable(dispatcher: Dispatcher, node: FakeNode) -> None:
    for method in REFUSED:
        for socket in (False, True):
            answer = await ask(dispatcher, {"jsonrpc": "2.0", "id": 7, "method": method, "params": []}, socket=socket)
            assert answer["error"]["code"] == -32601, method
            assert method in answer["error"]["message"]
            assert "method not allowed" in answer["error"]["message"]
    assert node.requests == []
    assert len(REFUSED) > 100


async def test_the_table_names_reads_and_its_own_ways_to_submit(node: FakeNode) -> None:
    methods, _ = build_methods(node, FakeSequencer(), ManualClock())
    assert not [name for name in methods if name.startswith(CHANGING_PREFIXES)]
    assert [name for name in methods if "send" in name.lower() or "sign" in name.lower()] == [
        "eth_sendRawTransaction",
        "lockstep_sendBundle",
    ]
    assert set(methods).isdisjoint(REFUSED)


async def test_only_reads_reach_the_engine(node: FakeNode, dispatcher: Dispatcher) -> None:
    """Whatever parameters come: what is sent on is one of these methods, with a block pinned by hash."""
    node.add()
    methods, _ = build_methods(node, FakeSequencer(), ManualClock())
    address, word = "0x" + "11" * 20, "0x" + "22" * 32
    for method in methods:
        for params in (
            [],
            [address],
            [address, "latest"],
            [address, "0x0", "latest"],
            [{"to": address}],
            [word],
            ["0x1"],
        ):
            await ask(dispatcher, {"id": 1, "method": method, "params": params})
    assert {method for method, _ in node.requests} <= {
        "eth_call", "eth_estimateGas", "eth_createAccessList", "eth_getBalance", "eth_getCode", "eth_getStorageAt",
        "eth_getTransactionCount", "eth_getProof", "eth_getAccountInfo", "eth_getBlockByHash", "debug_traceTransaction",
    }  # fmt: skip
    for method, params in node.requests:
        if method not in ("eth_getBlockByHash", "debug_traceTransaction"):
            assert any(isinstance(param, dict) and set(param) == {"blockHash"} for param in params), (method, params)
        assert not any(
            param in ("latest", "pending", "safe", "finalized") for param in params if isinstance(param, str)
        )


async def test_subscriptions_need_a_socket(dispatcher: Dispatcher) -> None:
    for method in (SUBSCRIBE, UNSUBSCRIBE):
        answer = await ask(dispatcher, {"id": 1, "method": method, "params": ["newHeads"]})
        assert answer["error"]["code"] == -32601
        assert "WebSocket" in answer["error"]["message"]


async def test_unknown_methods_are_named_shortly(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, {"id": 1, "method": "x" * 10_000})
    assert len(answer["error"]["message"]) < 300
