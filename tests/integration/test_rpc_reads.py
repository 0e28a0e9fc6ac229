"""Reading a rollup through its JSON-RPC: tags, blocks, receipts, calls, proofs, traces, also after a restart."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from nodes.evm.contracts import encode_call, packaged
from nodes.model.faults import KillEngine, Rewind
from nodes.model.ids import Height, hex_of
from nodes.rollup.rpc.forms import header_fields
from nodes.rollup.rpc.headers import rebuilt_header
from nodes.rules.hashes import keccak256
from nodes.rules.payload import UnsignedTransaction, sign
from nodes.telemetry.events import NodeRecovered
from tests.support.crafting import ADDRESSES, KEYS, RECIPIENT, LegPlan, plain
from tests.support.rollup_testnet import LOGS, REVERTS
from tests.support.rpc_nodes import HERE, Served, rpc_testnet

ME, TO = hex_of(ADDRESSES[0]), hex_of(RECIPIENT)
STATE_READS: list[list[Any]] = [
    ["eth_getBalance", ME],
    ["eth_getTransactionCount", ME],
    ["eth_getCode", TO],
    ["eth_getStorageAt", TO, "0x0"],
    ["eth_getProof", ME, []],
    ["eth_call", {"to": TO}],
    ["eth_estimateGas", {"to": TO}],
]
ENDLESS_LOOP = "0x5b5f56"
"""jumpdest push0 jump."""


async def send(here: Served, nonce: int, **changes: Any) -> str:
    """Send one transaction and wait until it is in a block; its hash."""
    plan = LegPlan(chain=HERE, nonce=nonce, **{"gas_limit": 60_000, **changes})
    tx_hash: str = await here.rpc.call("eth_sendRawTransaction", hex_of(sign(plan.unsigned(), KEYS[0])))
    await here.settled(tx_hash)
    return tx_hash


async def deploy(here: Served, nonce: int, code: bytes) -> str:
    unsigned = UnsignedTransaction(chain_id=HERE, nonce=nonce, gas_limit=900_000, to=b"", calldata=code)
    tx_hash = await here.rpc.call("eth_sendRawTransaction", hex_of(sign(unsigned, KEYS[0])))
    await here.settled(tx_hash)
    address: str = (await here.rpc.call("eth_getTransactionReceipt", tx_hash))["contractAddress"]
    return address


async def test_blocks_transactions_and_receipts_fit_together(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc = nodes[HERE].rpc
        hashes = [await send(nodes[HERE], nonce, value=value) for nonce, value in enumerate((1, LOGS, REVERTS))]
        assert await rpc.call("eth_blockNumber") == "0x3"
        parent = await rpc.call("eth_getBlockByNumber", "0x0", False)
        for number, tx_hash in enumerate(hashes, 1):
            block = await rpc.call("eth_getBlockByNumber", hex(number), False)
            whole = await rpc.call("eth_getBlockByHash", block["hash"], True)
            assert block["transactions"] == [tx_hash]
            assert [each["hash"] for each in whole["transactions"]] == [tx_hash]
            assert {**whole, "transactions": None} == {**block, "transactions": None}
            assert block["parentHash"] == parent["hash"]
            assert block["gasLimit"] == hex(nodes[HERE].node.params.block_gas_limit)
            engines = await nodes[HERE].node.request("eth_getBlockByHash", [block["hash"], False])
            # The engine leaves out the byte of the empty list of withdrawals, which geth counts.
            assert int(block["size"], 16) == int(engines.pop("size"), 16) + 1
            assert {name: block[name] for name in engines} == engines
            by_hash = await rpc.call("eth_getTransactionByHash", tx_hash)
            assert by_hash == whole["transactions"][0]
            assert by_hash == await rpc.call("eth_getTransactionByBlockNumberAndIndex", hex(number), "0x0")
            assert by_hash == await rpc.call("eth_getTransactionByBlockHashAndIndex", block["hash"], "0x0")
            theirs = await nodes[HERE].node.request("eth_getTransactionByHash", [tx_hash])
            assert {name: by_hash[name] for name in theirs} == theirs
            receipt = await rpc.call("eth_getTransactionReceipt", tx_hash)
            assert await rpc.call("eth_getBlockReceipts", hex(number)) == [receipt]
            assert receipt["status"] == ("0x0" if number == 3 else "0x1")
            assert (receipt["blockHash"], receipt["from"], receipt["to"]) == (block["hash"], ME, TO)
            assert receipt["gasUsed"] == receipt["cumulativeGasUsed"] == block["gasUsed"]
            assert len(receipt["logs"]) == (1 if number == 2 else 0)
            assert await rpc.call("eth_getBlockTransactionCountByNumber", hex(number)) == "0x1"
            assert await rpc.call("eth_getBlockTransactionCountByHash", block["hash"]) == "0x1"
            parent = block
        (log,) = await rpc.call("eth_getLogs", {"fromBlock": "0x0", "address": TO})
        assert (log["transactionHash"], log["blockNumber"], log["removed"]) == (hashes[1], "0x2", False)
        history = await rpc.call("eth_feeHistory", 2, "latest", [10, 90])
        assert (history["oldestBlock"], history["baseFeePerGas"], history["reward"]) == (
            "0x2", ["0x0"] * 3, [["0x0", "0x0"]] * 2,
        )  # fmt: skip


async def test_headers_are_made_from_the_index_alone(tmp_path: Path) -> None:
    """Of blocks small and large, so that the trie of transactions has every kind of node."""
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        nonce = 0
        for size in (1, 2, 3, 16, 17, 40):
            plans = [LegPlan(chain=HERE, nonce=nonce + at, gas_limit=60_000) for at in range(size)]
            await here.testnet.submit(*map(plain, plans))
            last = sign(plans[-1].unsigned(), KEYS[0])
            await here.settled(hex_of(keccak256(last)))
            nonce += size
        sizes = set()
        for number in range(here.node.index.head.number + 1):
            block = here.node.index.block_by_number(number)
            assert block is not None
            sizes.add(len(block))
            header = rebuilt_header(block, here.node.params)
            engines = await here.node.request("eth_getBlockByNumber", [hex(number), False])
            assert header == header_fields(engines)
        assert max(sizes) > 16


async def test_tags_and_places_mean_announced_blocks(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc = nodes[HERE].rpc
        await send(nodes[HERE], 0)
        await send(nodes[HERE], 1)
        full, once, twice = (10**24 - spent for spent in (0, 1, 2))
        one = (await rpc.call("eth_getBlockByNumber", "0x1", False))["hash"]
        for block, balance in {
            "earliest": full,
            "0x1": once,
            "latest": twice,
            "safe": twice,
            "finalized": twice,
            "pending": twice,
        }.items():
            assert int(await rpc.call("eth_getBalance", ME, block), 16) == balance, block
        for named in ({"blockNumber": "0x1"}, {"blockHash": one}, {"blockHash": one, "requireCanonical": True}):
            assert int(await rpc.call("eth_getBalance", ME, named), 16) == once
        assert int(await rpc.call("eth_getBalance", ME), 16) == twice
        assert await rpc.call("eth_getTransactionCount", ME, "0x1") == "0x1"
        # Above the head, and hashes that nobody knows: null where geth gives null, an error where it gives one.
        nowhere = "0x" + "77" * 32
        unknown: list[list[Any]] = [
            ["eth_getBlockByNumber", "0x3", False],
            ["eth_getBlockByHash", nowhere, False],
            ["eth_getBlockReceipts", "0x3"],
            ["eth_getBlockTransactionCountByNumber", "0x3"],
            ["eth_getBlockTransactionCountByHash", nowhere],
            ["eth_getTransactionByHash", nowhere],
            ["eth_getTransactionReceipt", nowhere],
            ["eth_getTransactionByBlockNumberAndIndex", "0x1", "0x1"],
            ["eth_getTransactionByBlockHashAndIndex", nowhere, "0x0"],
        ]
        for method, *params in unknown:
            assert await rpc.call(method, *params) is None, method
        for place in ("0x3", {"blockHash": nowhere}):
            for method, *params in STATE_READS:
                refused = await rpc.refusal(method, *params, place)
                assert (refused.code, refused.message) == (-32000, "header not found")


async def test_calls_estimates_proofs_and_traces(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc, cap = nodes[HERE].rpc, nodes[HERE].node.params.leg_gas_cap
        counter = await deploy(nodes[HERE], 0, packaged("Counter").creation_code)
        call = {"from": ME, "to": counter, "data": hex_of(encode_call("increment(uint256)", 5))}
        assert int(await rpc.call("eth_call", call), 16) == 1
        estimate = int(await rpc.call("eth_estimateGas", call), 16)
        assert 21_000 < estimate < 100_000
        refused = await rpc.refusal(
            "eth_call", call | {"data": hex_of(encode_call("incrementIf(uint256,uint256)", 5, 9))}
        )
        assert (refused.code, refused.message) == (3, "execution reverted")
        assert refused.data == hex_of(encode_call("Unexpected(uint256,uint256)", 0, 9))
        assert (await rpc.refusal("eth_estimateGas", call | {"data": "0x12345678"})).code == 3
        # What was never mined can be tried with another state.
        slot = hex_of(keccak256((5).to_bytes(32, "big") + bytes(32)))
        forty = {counter: {"stateDiff": {slot: "0x" + "00" * 31 + "28"}}}
        assert int(await rpc.call("eth_call", call, "latest", forty), 16) == 41
        loop = {ME: {"code": ENDLESS_LOOP}}
        assert (await rpc.refusal("eth_call", {"to": ME}, "latest", loop)).message == "out of gas"
        assert (await rpc.refusal("eth_call", {"to": ME, "gas": hex(2**60)}, "latest", loop)).message == "out of gas"
        refused = await rpc.refusal("eth_estimateGas", {"to": ME}, "latest", loop)
        assert f"gas required exceeds allowance: {cap}" in refused.message
        for method in ("eth_call", "eth_estimateGas"):
            refused = await rpc.refusal(method, {"from": ME, "to": TO, "value": hex(10**25)})
            assert refused.message.startswith("insufficient funds")
        assert (await rpc.call("eth_createAccessList", call))["accessList"][0]["address"] == counter
        tx_hash = await send(nodes[HERE], 1, value=LOGS)
        block = await rpc.call("eth_getBlockByNumber", "latest", False)
        proof = await rpc.call("eth_getProof", counter, [slot], "latest")
        assert hex_of(keccak256(bytes.fromhex(proof["accountProof"][0][2:]))) == block["stateRoot"]
        assert await rpc.call("eth_getStorageAt", counter, slot, "latest") == "0x" + "00" * 32
        assert await rpc.call("eth_getCode", counter) == hex_of(packaged("Counter").runtime_code)
        trace = await rpc.call("debug_traceTransaction", tx_hash, {"tracer": "callTracer"})
        assert (trace["from"], trace["to"], trace["value"]) == (ME, TO, hex(LOGS))
        for options in (
            {},
            {"tracer": "{result: function() { for (;;); }}"},
            {"tracer": "callTracer", "tracerCode": "x"},
        ):
            assert (await rpc.refusal("debug_traceTransaction", tx_hash, options)).code == -32602
        refused = await rpc.refusal("debug_traceTransaction", "0x" + "77" * 32, {"tracer": "callTracer"})
        assert "is in no block" in refused.message


async def test_forgotten_states_are_pruned_and_never_empty(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path, rewind_window=2) as nodes:
        rpc = nodes[HERE].rpc
        for nonce in range(8):
            last = await send(nodes[HERE], nonce)
        assert int(await rpc.call("eth_getBalance", ME, "latest"), 16) == 10**24 - 8
        for method, *params in STATE_READS:
            for block in ("0x1", "earliest"):
                refused = await rpc.refusal(method, *params, block)
                assert refused.code == -32001, method
                assert "pruned" in refused.message
        # Contents are kept for longer than states.
        assert len((await rpc.call("eth_getBlockByNumber", "0x1", True))["transactions"]) == 1
        await nodes[HERE].node.inject(KillEngine())
        await nodes[HERE].bench.traced(NodeRecovered)
        assert int(await rpc.call("eth_getBalance", ME, "latest"), 16) == 10**24 - 8
        assert (await rpc.call("eth_getTransactionReceipt", last))["blockNumber"] == "0x8"
        assert len((await rpc.call("eth_getBlockByNumber", "0x1", True))["transactions"]) == 1


async def test_readers_never_see_a_block_that_is_being_built(tmp_path: Path) -> None:
    """The engine shows an empty block before each real one; a reader at `latest` must see announced blocks only."""
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        rpc, sent, answered = here.rpc, asyncio.Event(), asyncio.Event()
        seen: list[tuple[int, int, int]] = []

        async def read() -> None:
            while not sent.is_set():
                batch = [
                    {"id": 1, "method": "eth_blockNumber"},
                    {"id": 2, "method": "eth_getBalance", "params": [ME, "latest"]},
                    {"id": 3, "method": "eth_getTransactionCount", "params": [ME, "latest"]},
                    {"id": 4, "method": "eth_blockNumber"},
                ]
                first, balance, nonce, last = [int(answer["result"], 16) for answer in await rpc.post(batch)]
                spent = 10**24 - balance
                # One transaction of 1 wei per block: all three say the same about how far the chain is.
                assert first <= spent <= last
                assert first <= nonce <= last
                seen.append((first, spent, nonce))
                answered.set()

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read()) for _ in range(3)]
            for nonce in range(25):
                await send(here, nonce)
                # However slow they are: they have met this block when the next one is being built.
                while not seen or seen[-1][0] <= nonce:
                    answered.clear()
                    await answered.wait()
            sent.set()
        assert len(readers) == 3
        assert {first for first, _, _ in seen} >= set(range(1, 26))


async def test_a_rewound_node_serves_the_same_chain_again(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        here = nodes[HERE]
        for nonce in range(4):
            last = await send(here, nonce, value=LOGS)
        before = [await here.rpc.call("eth_getBlockByNumber", hex(number), True) for number in range(5)]
        logs = await here.rpc.call("eth_getLogs", {"fromBlock": "0x0"})
        name = await here.rpc.call("eth_newFilter", {"fromBlock": "0x0"})
        two = here.node.index.block_by_number(2)
        assert two is not None
        await here.node.inject(Rewind(height=Height(two.height)))
        await here.settled(last)
        assert [await here.rpc.call("eth_getBlockByNumber", hex(number), True) for number in range(5)] == before
        assert await here.rpc.call("eth_getLogs", {"fromBlock": "0x0"}) == logs
        again = await here.rpc.call("eth_getFilterChanges", name)
        assert [log["blockNumber"] for log in again if not log["removed"]] == ["0x3", "0x4"]


@pytest.mark.parametrize("path", ["", "?key=1"])
async def test_any_page_may_call(tmp_path: Path, path: str) -> None:
    async with rpc_testnet(tmp_path) as nodes:
        rpc = nodes[HERE].rpc
        async with rpc.session.options(rpc.url + path) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "*"
        body = json.dumps({"id": 1, "method": "eth_chainId"})
        async with rpc.session.post(
            rpc.url + path, data=body, headers={"Origin": "https://wallet.example"}
        ) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "*"
            assert (await response.json())["result"] == hex(HERE)
        async with rpc.session.get(rpc.url) as response:
            assert "POST requests here" in await response.text()
