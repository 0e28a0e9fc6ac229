"""The transports: WebSocket subscriptions, limits of bodies, connections that do not read, ports that are taken."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from nodes.json_rpc import server as server_module
from nodes.model.errors import Unavailable
from nodes.model.faults import Fork
from nodes.model.ids import Height, hex_of
from nodes.rollup.rpc import subscriptions
from nodes.rollup.rpc.server import RpcServer
from nodes.rules.payload import sign
from tests.support.crafting import ADDRESSES, KEYS, RECIPIENT, LegPlan
from tests.support.rollup_testnet import LOGS
from tests.support.rpc_fakes import FakeNode, FakeSequencer
from tests.support.rpc_nodes import ANSWER_S, HERE, Refused, RpcClient, Served, rpc_testnet

ME = hex_of(ADDRESSES[0])


class Socket:
    """One WebSocket: answers by id, notifications by subscription."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self._id = 0
        self._seen: list[Any] = []

    async def _receive(self) -> Any:
        return json.loads(await self.connection.receive_str(timeout=ANSWER_S))

    async def call(self, method: str, *params: Any) -> Any:
        self._id += 1
        await self.connection.send_json({"id": self._id, "method": method, "params": list(params)})
        while True:
            message = await self._receive()
            if message.get("id") == self._id:
                if "error" in message:
                    raise Refused(message["error"])
                return message["result"]
            self._seen.append(message)

    async def next(self, subscription: str) -> Any:
        """The next notification of a subscription."""
        while True:
            for message in self._seen:
                if message["params"]["subscription"] == subscription:
                    self._seen.remove(message)
                    return message["params"]["result"]
            self._seen.append(await self._receive())


@asynccontextmanager
async def connected(rpc: RpcClient) -> AsyncIterator[Socket]:
    async with rpc.session.ws_connect(rpc.url.replace("http", "ws"), max_msg_size=0) as connection:
        yield Socket(connection)


async def send(here: Served, nonce: int, **changes: Any) -> str:
    plan = LegPlan(chain=HERE, nonce=nonce, **{"gas_limit": 60_000, **changes})
    tx_hash: str = await here.rpc.call("eth_sendRawTransaction", hex_of(sign(plan.unsigned(), KEYS[0])))
    return tx_hash


@asynccontextmanager
async def served(node: FakeNode) -> AsyncIterator[RpcClient]:
    """A server over a node without engine."""
    server = RpcServer(node, FakeSequencer(), "127.0.0.1", 0)
    with closing(node):
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await server.wait_ready()
            yield RpcClient(session, server.rpc_url)
            server.stop()


async def test_subscribers_see_heads_logs_and_accepted_transactions(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes, connected(nodes[HERE].rpc) as ws:
        here = nodes[HERE]
        heads = await ws.call("eth_subscribe", "newHeads")
        logs = await ws.call("eth_subscribe", "logs", {"address": hex_of(RECIPIENT)})
        others = await ws.call("eth_subscribe", "logs", {"address": ME})
        pending = await ws.call("eth_subscribe", "newPendingTransactions")
        whole = await ws.call("eth_subscribe", "newPendingTransactions", True)
        hashes = [await send(here, nonce, value=LOGS) for nonce in range(3)]
        assert [await ws.next(pending) for _ in hashes] == hashes
        assert [(await ws.next(whole))["hash"] for _ in hashes] == hashes
        assert [(await ws.next(logs))["transactionHash"] for _ in hashes] == hashes
        await here.settled(hashes[-1])
        newest = await ws.call("eth_getBlockByNumber", "latest", False)
        numbers = [int(newest["number"], 16)]
        head = await ws.next(heads)
        assert head["number"] == "0x1"
        parent = head["hash"]
        for number in range(2, numbers[0] + 1):
            head = await ws.next(heads)
            assert (head["number"], head["parentHash"]) == (hex(number), parent)
            parent = head["hash"]
        assert {name: newest[name] for name in head} == head
        assert await ws.call("eth_unsubscribe", heads)
        with pytest.raises(Refused, match="subscription not found"):
            await ws.call("eth_unsubscribe", heads)
        assert not [message for message in ws._seen if message["params"]["subscription"] == others]


async def test_a_fork_of_the_sequencer_shows_logs_as_removed_and_again(tmp_path: Path) -> None:
    async with rpc_testnet(tmp_path) as nodes, connected(nodes[HERE].rpc) as ws:
        here = nodes[HERE]
        logs = await ws.call("eth_subscribe", "logs", {})
        stays = await send(here, 0, value=LOGS)
        await here.settled(stays)
        moves = await send(here, 1, value=LOGS)
        status = await here.settled(moves)
        first = [await ws.next(logs) for _ in range(2)]
        assert [log["transactionHash"] for log in first] == [stays, moves]
        name = await here.rpc.call("eth_newFilter", {})
        await here.testnet.node.inject(Fork(height=Height(int(status["height"], 16) - 1)))
        removed, again = await ws.next(logs), await ws.next(logs)
        assert removed == first[1] | {"removed": True}
        assert (again["transactionHash"], again["removed"]) == (moves, False)
        await here.settled(moves)
        receipt = await here.rpc.call("eth_getTransactionReceipt", moves)
        assert receipt["blockHash"] == again["blockHash"]
        polled = await here.rpc.call("eth_getFilterChanges", name)
        assert [(log["transactionHash"], log["removed"]) for log in polled] == [(moves, True), (moves, False)]


async def test_a_socket_answers_like_http(tmp_path: Path) -> None:
    async with served(FakeNode(tmp_path)) as rpc, connected(rpc) as ws:
        assert await ws.call("eth_chainId") == await rpc.call("eth_chainId")
        with pytest.raises(Refused, match="method not allowed"):
            await ws.call("anvil_setBalance", ME, "0x1")
        await ws.connection.send_json([{"id": n, "method": "net_version"} for n in range(3)])
        answers = await ws._receive()
        assert [answer["id"] for answer in answers] == [0, 1, 2]
        await ws.connection.send_bytes(b'{"id": 9, "method": "net_version"}')
        assert (await ws._receive())["result"] == "7001"


async def test_a_body_over_the_limit_is_refused_with_its_name(tmp_path: Path) -> None:
    async with served(FakeNode(tmp_path)) as rpc:
        body = b'{"id": 1, "method": "net_version", "params": []' + b" " * (1024 * 1024) + b"}"
        async with rpc.session.post(rpc.url, data=io.BytesIO(body)) as response:
            assert response.status == 413
            assert "MAX_RPC_BODY_BYTES" in (await response.json())["error"]["message"]
        async with connected(rpc) as ws:
            await ws.connection.send_bytes(body)
            message = await ws.connection.receive(timeout=ANSWER_S)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.MESSAGE_TOO_BIG)
        assert await rpc.call("net_version") == "7001"


async def test_connections_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_SOCKETS", 1)
    async with served(FakeNode(tmp_path)) as rpc:
        async with connected(rpc):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                async with connected(rpc):
                    pass
            assert refused.value.status == 503
        monkeypatch.setattr(server_module, "MAX_REQUESTS_UNDER_WAY", 0)
        async with rpc.session.post(rpc.url, json={"id": 1, "method": "net_version"}) as response:
            assert response.status == 503
            assert "MAX_REQUESTS_UNDER_WAY" in (await response.json())["error"]["message"]


async def test_who_does_not_read_is_disconnected_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "CLOSE_DEADLINE_S", 0.5)
    node = FakeNode(tmp_path)
    log = {
        "address": ME, "topics": [], "data": "0x" + "00" * 100_000, "transactionHash": "0x" + "00" * 32,
        "transactionIndex": "0x0", "logIndex": "0x0",
    }  # fmt: skip
    async with served(node) as rpc, connected(rpc) as slow, connected(rpc) as quick:
        subscription = await quick.call("eth_subscribe", "logs", {})
        await slow.call("eth_subscribe", "logs", {})
        async with asyncio.timeout(60):
            # Each block carries 200 kB to either; the slow one reads none of it until it is too late.
            for number in range(1, 200):
                node.add(bloom=b"\x01" * 256, logs=[log])
                assert (await quick.next(subscription))["blockNumber"] == hex(number)
            message, seen = await slow.connection.receive(), 0
            while message.type is aiohttp.WSMsgType.TEXT:
                seen += 1
                assert json.loads(message.data)["params"]["result"]["blockNumber"] == hex(seen)  # no gap before the end
                message = await slow.connection.receive()
        assert 0 < seen < 199
        assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        if message.type is aiohttp.WSMsgType.CLOSE:
            assert "too slow" in str(message.extra)
        assert await quick.call("eth_blockNumber") == hex(199)


async def test_a_reader_that_was_slow_and_reads_again_sees_why_it_was_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "MAX_WAITING_MESSAGES", 3)
    node = FakeNode(tmp_path)
    async with served(node) as rpc, connected(rpc) as ws:
        await ws.call("eth_subscribe", "logs", {})
        log = {
            "address": ME,
            "topics": [],
            "data": "0x",
            "transactionHash": "0x",
            "transactionIndex": "0x0",
            "logIndex": "0x0",
        }
        node.add(bloom=b"\x01" * 256, logs=[log] * 10)  # ten messages at once
        message = await ws.connection.receive(timeout=ANSWER_S)
        while message.type is aiohttp.WSMsgType.TEXT:
            message = await ws.connection.receive(timeout=ANSWER_S)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, aiohttp.WSCloseCode.TRY_AGAIN_LATER)
        assert "too slow" in str(message.extra)
        assert "eth_getLogs" in str(message.extra)


async def test_when_the_node_stops_sockets_are_closed_with_the_reason(tmp_path: Path) -> None:
    node = FakeNode(tmp_path)
    server = RpcServer(node, FakeSequencer(), "127.0.0.1", 0)
    with closing(node):
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
            group.create_task(server.run())
            await server.wait_ready()
            async with connected(RpcClient(session, server.rpc_url)) as ws:
                await ws.call("eth_subscribe", "newHeads")
                server.stop()
                message = await ws.connection.receive(timeout=ANSWER_S)
                assert (message.type, message.extra) == (aiohttp.WSMsgType.CLOSE, "the node stops")
        with pytest.raises(Unavailable, match="has ended"):
            await server.wait_ready()


async def test_a_port_in_use_is_said_so(tmp_path: Path) -> None:
    with socket.socket() as taken, closing(FakeNode(tmp_path)) as node:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = RpcServer(node, FakeSequencer(), "127.0.0.1", port)
        with pytest.raises(Unavailable, match=f"port {port} of 127.0.0.1 cannot be used"):
            await server.run()
