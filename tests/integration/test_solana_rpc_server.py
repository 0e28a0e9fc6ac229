"""The dev node's sockets: both ports, slow readers, faults that break connections, and a loop that nobody holds up."""

import asyncio
import io
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson
import pytest
from solders.hash import Hash
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import Message
from solders.transaction import VersionedTransaction

from nodes.json_rpc import server as server_module
from nodes.model.errors import Unavailable
from nodes.solana.devnode.rpc.dispatch import Dispatcher
from nodes.solana.devnode.rpc.server import MAX_RPC_BODY_BYTES, RpcServer
from tests.support.solana_chain import new_chain
from tests.support.solana_clients.served import ANSWER_S, Served, served_chain
from tests.support.solana_clients.world import MEMO, SOL, build_world, encoded, key, memo, send, signed

PROCESSED = {"commitment": "processed"}
CONFIRMED = {"commitment": "confirmed"}


class Socket:
    """One WebSocket: answers by id, notifications in order."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection
        self._id = 0
        self._seen: list[Any] = []

    async def _receive(self) -> Any:
        return json.loads(await self.connection.receive_str(timeout=ANSWER_S))

    async def answer(self, method: str, *params: Any) -> Any:
        self._id += 1
        await self.connection.send_json({"id": self._id, "method": method, "params": list(params)})
        while True:
            message = await self._receive()
            if message.get("id") == self._id:
                return message
            self._seen.append(message)

    async def call(self, method: str, *params: Any) -> Any:
        return (await self.answer(method, *params))["result"]

    async def next(self, kind: str) -> Any:
        """The next notification of a kind."""
        while True:
            for message in self._seen:
                if message["method"] == f"{kind}Notification":
                    self._seen.remove(message)
                    return message["params"]["result"]
            self._seen.append(await self._receive())


@asynccontextmanager
async def connected(served: Served, url: str = "") -> AsyncIterator[Socket]:
    async with served.http.session.ws_connect(url or served.server.ws_url, max_msg_size=0) as connection:
        yield Socket(connection)


def memos(served: Served, payer: Keypair, count: int) -> list[str]:
    """So many signed memos."""
    latest = served.chain.latest_blockhash("processed")[0]
    texts = (Instruction(MEMO, f"memo {index:06}".encode(), []) for index in range(count))
    return [
        encoded(VersionedTransaction(Message.new_with_blockhash([item], payer.pubkey(), Hash(bytes(latest))), [payer]))
        for item in texts
    ]


async def test_both_ports_serve_the_same_chain() -> None:
    async with served_chain() as served:
        port = int(served.server.rpc_url.rpartition(":")[2])
        for url in (served.server.ws_url, f"ws://127.0.0.1:{port + 1}"):
            async with connected(served, url) as here:
                assert await here.call("getSlot", PROCESSED) == served.chain.open_slot
        async with served.http.session.get(served.server.rpc_url) as answer:
            assert "Solana" in await answer.text()
        async with served.http.session.options(served.server.rpc_url) as answer:
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
        async with served.http.session.post(
            served.server.rpc_url, data=io.BytesIO(bytes(MAX_RPC_BODY_BYTES + 1))
        ) as answer:
            assert answer.status == 413


async def test_a_taken_port_is_an_error_and_a_taken_next_one_is_not() -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        taken = first.getsockname()[1]
        with pytest.raises(Unavailable, match=str(taken)):
            await RpcServer(Dispatcher(new_chain()), "127.0.0.1", taken).run()
        server = RpcServer(Dispatcher(new_chain()), "127.0.0.1", taken - 1)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run())
            try:
                await server.wait_ready()
                assert server.rpc_url.endswith(f":{taken - 1}")
            finally:
                server.stop()


async def test_slots_roots_and_updates_are_told() -> None:
    async with served_chain() as served, connected(served) as here:
        for kind in ("slot", "root", "slotsUpdates"):
            await here.call(f"{kind}Subscribe")
        served.chain.tick(7)
        told = [await here.next("slot") for _ in range(7)]
        assert [item["slot"] - item["parent"] for item in told] == [1] * 7
        assert [await here.next("root") for _ in range(2)] == [told[0]["slot"] - 1, told[0]["slot"]]
        kinds = [(await here.next("slotsUpdates"))["type"] for _ in range(12)]
        assert {"createdBank", "frozen", "optimisticConfirmation"} <= set(kinds)
        served.chain.fork(1, "none")
        while (await here.next("slotsUpdates"))["type"] != "dead":
            pass


async def test_a_signature_is_told_once_at_its_level_also_when_it_has_landed() -> None:
    async with served_chain() as served, connected(served) as here:
        world = await build_world(served.http, served.settle)
        landed = await here.call("signatureSubscribe", world.signatures["failed"], CONFIRMED)
        assert (await here.next("signature"))["value"]["err"] == {"InstructionError": [0, {"Custom": 1}]}
        assert "error" in await here.answer("signatureUnsubscribe", landed)
        transaction = await signed(served.http, [memo("x")], [world.alice])
        signature = str(transaction.signatures[0])
        await here.call(
            "signatureSubscribe", signature, {"commitment": "finalized", "enableReceivedNotification": True}
        )
        waiting = await here.call("signatureSubscribe", signature, PROCESSED)
        await served.http.call("sendTransaction", [encoded(transaction), {"encoding": "base64", "skipPreflight": True}])
        processed = await here.next("signature")
        assert processed["value"] == {"err": None}
        assert "error" in await here.answer("signatureUnsubscribe", waiting)
        slot = served.chain.open_slot
        served.chain.tick(5)
        assert (await here.answer("getHealth"))["result"] == "ok"
        served.chain.tick(2)
        finalized = await here.next("signature")
        assert finalized["context"]["slot"] == slot


async def test_accounts_and_programs_are_told_at_their_level() -> None:
    async with served_chain() as served, connected(served) as here:
        world = await build_world(served.http, served.settle)
        bob = str(world.bob)
        served.chain.tick(6)
        await here.call("accountSubscribe", bob, CONFIRMED | {"encoding": "base64"})
        filters = {"filters": [{"dataSize": 165}], "encoding": "jsonParsed"}
        token = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
        await here.call("programSubscribe", token, CONFIRMED | filters)
        await served.http.call("requestAirdrop", [bob, SOL])
        served.chain.tick(1)
        await served.http.call("requestAirdrop", [bob, SOL])
        served.chain.tick(4)
        balances = [(await here.next("account"))["value"]["lamports"] for _ in range(2)]
        assert balances == [3 * SOL, 4 * SOL]
        other = await build_world(served.http, served.settle, name="other")
        told = {(await here.next("program"))["value"]["pubkey"] for _ in range(2)}
        assert told == {str(other.alice_tokens), str(other.bob_tokens)}


async def test_blocks_are_told_whole_or_by_address() -> None:
    async with served_chain() as served, connected(served) as here:
        world = await build_world(served.http, served.settle)
        options = CONFIRMED | {"maxSupportedTransactionVersion": 0, "encoding": "base64", "showRewards": False}
        mentions = {"mentionsAccountOrProgram": str(MEMO)}
        await here.call("blockSubscribe", mentions, options | {"transactionDetails": "signatures"})
        served.chain.tick(2)
        sent = await send(served.http, [memo("block")], [world.alice])
        served.chain.tick(4)
        value = (await here.next("block"))["value"]
        assert value["err"] is None
        assert value["block"]["signatures"] == [sent]
        assert "rewards" not in value["block"]
        await here.call("blockSubscribe", "all", options)
        served.chain.tick()
        assert (await here.next("block"))["value"]["block"]["transactions"] == []
        # A reader of old transactions only is told why it gets no block.
        await here.call("blockSubscribe", {"mentionsAccountOrProgram": str(MEMO)}, CONFIRMED)
        await send(served.http, [memo("again")], [world.alice])
        served.chain.tick(4)
        while (value := (await here.next("block"))["value"])["err"] is None:
            pass
        assert value["block"] is None


async def test_wrong_subscriptions_are_refused() -> None:
    async with served_chain() as served, connected(served) as here:
        for method, params, code in (
            ("voteSubscribe", [], -32601),
            ("logsSubscribe", ["some"], -32602),
            ("logsSubscribe", [{"mentions": [str(MEMO), str(MEMO)]}], -32602),
            ("blockSubscribe", [], -32602),
            ("blockSubscribe", ["all", PROCESSED], -32602),
            ("accountSubscribe", ["x"], -32602),
            ("slotUnsubscribe", [99], -32602),
        ):
            assert (await here.answer(method, *params))["error"]["code"] == code, method
        assert (await served.http.answer("slotSubscribe"))["error"]["code"] == -32601


async def test_who_does_not_read_is_disconnected() -> None:
    async with served_chain() as served, connected(served) as here:
        await here.call("slotSubscribe")
        async with connected(served) as reading:
            await reading.call("slotSubscribe")
            # Nothing is sent between these slots, so they wait in the queue as if the peer did not read.
            served.chain.tick(5_000)
            while (await here.connection.receive(timeout=ANSWER_S)).type is aiohttp.WSMsgType.TEXT:
                pass
            assert here.connection.close_code == 1013
        async with connected(served) as again:
            assert await again.call("getHealth") == "ok"


async def test_a_node_that_is_down_answers_nobody_for_a_while() -> None:
    async with served_chain() as served, connected(served) as here:
        await here.call("slotSubscribe")
        served.server.down(60_000)
        message = await here.connection.receive(timeout=ANSWER_S)
        assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR)
        async with served.http.session.post(served.server.rpc_url, json={"id": 1, "method": "getHealth"}) as answer:
            assert answer.status == 503
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await served.http.session.ws_connect(served.server.ws_url)
        served.server.down(0)
        assert await served.http.call("getHealth") == "ok"


async def test_a_large_block_and_large_batches_do_not_hold_up_the_loop() -> None:
    """The slot clock runs on this loop: nobody may hold it for long."""
    async with served_chain(block_cost_max=10**12) as served:
        payer = key("payer")
        await served.http.call("requestAirdrop", [str(payer.pubkey()), 1_000 * SOL])
        served.chain.tick()
        sent = memos(served, payer, 2_000)
        options = {"encoding": "base64", "skipPreflight": True}
        bodies = [
            orjson.dumps(
                [
                    {"jsonrpc": "2.0", "id": index, "method": "sendTransaction", "params": [text, options]}
                    for index, text in enumerate(sent[at : at + 500])
                ]
            )
            for at in range(0, len(sent), 500)
        ]
        turns = 0

        async def watch() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        async def post(body: bytes) -> Any:
            async with served.http.session.post(served.server.rpc_url, data=body) as answer:
                return await answer.read()

        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            for answer in await asyncio.gather(*(post(body) for body in bodies)):
                assert b"error" not in answer
            # Turns are counted: how long one takes is the machine's. Sockets alone give others ten or twenty.
            assert turns >= 500 // 16
            slot = served.chain.open_slot
            served.chain.tick(4)
            turns = 0
            asked = {"id": 1, "method": "getBlock", "params": [slot, CONFIRMED | {"encoding": "base64"}]}
            first, second = await asyncio.gather(post(orjson.dumps(asked)), post(orjson.dumps(asked)))
            watching.cancel()
        assert first == second
        assert len(orjson.loads(first)["result"]["transactions"]) == 2_000
        assert turns >= len(sent) // 32


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_SOCKETS", 1)
    async with served_chain() as served, connected(served):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await served.http.session.ws_connect(served.server.ws_url)
        monkeypatch.setattr(server_module, "MAX_REQUESTS_UNDER_WAY", 0)
        async with served.http.session.post(served.server.rpc_url, json={"id": 1, "method": "getHealth"}) as answer:
            assert answer.status == 503
