"""The HTTP client of a Solana node: the dev node's own server, and servers that behave as public nodes may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
import pytest
from aiohttp import web

from nodes.model.errors import InvalidInput, RpcError, Unavailable
from nodes.solana import rpc as rpc_module
from nodes.solana.rpc import HttpSolanaRpc
from tests.support.patience import PATIENCE_S
from tests.support.solana_chain import new_chain
from tests.support.solana_clients.served import served_chain

Handler = Callable[[Any], Any]


async def silent(request: web.Request) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


@asynccontextmanager
async def serving(handle: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{key:.*}", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        yield f"http://127.0.0.1:{port}/secret-key"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(answer: Handler, *, status: int = 200) -> AsyncIterator[tuple[HttpSolanaRpc, list[Any]]]:
    """A server whose answers are made from the parsed body, a client of it, and the bodies."""
    bodies: list[Any] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        bodies.append(orjson.loads(await request.read()))
        made = answer(bodies[-1])
        if isinstance(made, web.StreamResponse):
            return made
        return web.Response(body=made if isinstance(made, bytes) else orjson.dumps(made), status=status)

    async with serving(handle) as url, HttpSolanaRpc(url) as rpc:
        yield rpc, bodies


def result(request: Any) -> Any:
    return {"jsonrpc": "2.0", "id": request["id"], "result": request["params"]}


REQUESTS = [("one", [1]), ("two", [2]), ("three", [3])]


async def test_answers_are_told_apart_by_their_ids() -> None:
    async with answering(lambda body: [result(request) for request in reversed(body)]) as (rpc, bodies):
        assert await rpc.batch(REQUESTS) == [[1], [2], [3]]
        assert len(bodies) == 1
        assert [request["method"] for request in bodies[0]] == ["one", "two", "three"]


async def test_an_answer_with_an_odd_id_is_unavailable() -> None:
    async with answering(lambda bodies: [{"id": [1], "result": 1} for _ in bodies]) as (rpc, _):
        with pytest.raises(Unavailable, match="did not answer"):
            await rpc.batch([("getSlot", []), ("getSlot", [])])


async def test_an_error_stands_in_its_place() -> None:
    def answer(body: Any) -> Any:
        if isinstance(body, dict):
            return {"id": body["id"], "error": {"code": -32004, "message": "no such block", "data": {"slot": 7}}}
        error = {"id": body[1]["id"], "error": {"code": -32007, "message": "skipped"}}
        return [result(body[0]), error, result(body[2])]

    async with answering(answer) as (rpc, _):
        first, second, third = await rpc.batch(REQUESTS)
        assert (first, third) == ([1], [3])
        assert isinstance(second, RpcError)
        assert (second.method, second.code, second.message) == ("two", -32007, "skipped")
        with pytest.raises(RpcError, match="no such block") as refused:
            await rpc.call("getBlock", [7])
        assert (refused.value.code, refused.value.data) == (-32004, {"slot": 7})


async def test_errors_under_other_statuses_are_errors_all_the_same() -> None:
    error = {"id": 1, "error": {"code": -32005, "message": "node is behind"}}
    async with answering(lambda body: error, status=503) as (rpc, _):
        with pytest.raises(RpcError, match="node is behind"):
            await rpc.call("getSlot")


@pytest.mark.parametrize("status", [200, 403])
async def test_a_node_that_refuses_batches_gets_single_requests(status: int) -> None:
    def answer(body: Any) -> Any:
        if isinstance(body, list):
            error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "Only method calls"}}
            return web.Response(body=orjson.dumps(error), status=status)
        return result(body)

    async with answering(answer) as (rpc, bodies):
        assert await rpc.batch(REQUESTS) == [[1], [2], [3]]
        assert await rpc.batch(REQUESTS) == [[1], [2], [3]]
        assert sum(isinstance(body, list) for body in bodies) == 1, "it is asked once"


async def test_bodies_stay_within_what_nodes_take() -> None:
    requests = [("sendTransaction", ["x" * 1_600]) for _ in range(250)]
    sizes: list[int] = []

    def answer(body: Any) -> Any:
        sizes.append(len(orjson.dumps(body)))
        return [result(request) for request in body]

    async with answering(answer) as (rpc, bodies):
        assert len(await rpc.batch(requests)) == 250
        assert max(sizes) <= rpc_module.AGAVE_BODY_BYTES
        assert len(bodies) == 9
    small: list[tuple[str, list[int]]] = [("getSlot", [])] * 250
    async with answering(answer) as (rpc, bodies):
        await rpc.batch(small)
        assert [len(body) for body in bodies] == [100, 100, 50]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"<html>too many requests</html>", 429),
        (b"", 200),
        ([], 200),
        ({"id": 1}, 200),
        ([{"id": 99, "result": 1}], 200),
        ({"id": 1, "error": {"code": -32000, "message": "of the whole batch"}}, 200),
    ],
)
async def test_nonsense_is_unavailable_and_names_no_secret(answer: Any, status: int) -> None:
    async with answering(lambda body: answer, status=status) as (rpc, _):
        with pytest.raises(Unavailable) as failure:
            await rpc.batch(REQUESTS)
        assert "127.0.0.1" in str(failure.value)
        assert "secret-key" not in str(failure.value)


async def test_a_node_that_is_away_or_silent_is_unavailable() -> None:
    async with serving(silent) as url:
        async with HttpSolanaRpc(url, deadline_s=0.05) as rpc:
            with pytest.raises(Unavailable, match=r"did not answer getSlot within 0.05 s"):
                await rpc.call("getSlot")
    async with HttpSolanaRpc(url) as rpc:
        with pytest.raises(Unavailable, match="cannot be reached") as failure:
            await rpc.call("getSlot")
        assert "secret-key" not in str(failure.value)
        rpc._takes_batches = False
        with pytest.raises(Unavailable, match="cannot be reached"):
            await rpc.batch(REQUESTS)


async def test_what_is_not_json_rpc_is_shown_as_text() -> None:
    async with answering(lambda body: b"<html>not here</html>", status=404) as (rpc, _):
        with pytest.raises(Unavailable, match=r"HTTP 404 and what is not JSON-RPC: '<html>not here</html>'$"):
            await rpc.call("getSlot")
    async with answering(lambda body: b"", status=502) as (rpc, _):
        with pytest.raises(Unavailable, match=r"HTTP 502 and what is not JSON-RPC: nothing$"):
            await rpc.call("getSlot")


async def test_an_answer_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "MAX_ANSWER_BYTES", 1_000)
    async with answering(lambda body: b"x" * 5_000) as (rpc, _):
        with pytest.raises(Unavailable, match="more than 1,000 bytes"):
            await rpc.call("getBlock", [1])


def test_what_is_no_address_is_refused() -> None:
    for url in ("", "devnode", "ws://127.0.0.1:8899", "http://"):
        with pytest.raises(InvalidInput, match="http:// or https://"):
            HttpSolanaRpc(url)


def test_where_the_websocket_may_be() -> None:
    assert rpc_module._ws_urls_of("http://127.0.0.1:8899") == ["ws://127.0.0.1:8899", "ws://127.0.0.1:8900"]
    assert rpc_module._ws_urls_of("https://node.example/?key=1") == ["wss://node.example/?key=1"]


async def test_slots_of_the_dev_node_by_subscription_and_by_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "POLL_S", 0.01)
    async with served_chain() as served, asyncio.timeout(PATIENCE_S):
        for ws_url in (None, "ws://127.0.0.1:1/"):
            async with HttpSolanaRpc(served.server.rpc_url, ws_url) as rpc:
                slots = rpc.slots()
                first = await anext(slots)
                assert first == served.chain.slot("processed")
                served.chain.tick(3)
                while (slot := await anext(slots)) < first + 3:
                    pass
                assert slot == first + 3
                await slots.aclose()


async def test_slots_go_on_after_the_connection_broke(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc_module, "POLL_S", 0.01)
    monkeypatch.setattr(rpc_module, "RETRY_FIRST_S", 0.01)
    connections = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        if request.headers.get("Upgrade") is None:
            body = orjson.loads(await request.read())
            return web.Response(body=orjson.dumps({"id": body["id"], "result": 1_000 * connections}))
        connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        await socket.send_json({"id": 1, "result": 5})
        params = {"subscription": 5, "result": {"slot": 1_000 * connections + 7, "parent": 0, "root": 0}}
        await socket.send_json({"method": "slotNotification", "params": params})
        return socket  # and closes it

    async with serving(handle) as url, HttpSolanaRpc(url) as rpc, asyncio.timeout(PATIENCE_S):
        seen = set()
        async for slot in rpc.slots():
            seen.add(slot)
            if {1_007, 2_007, 3_007} <= seen:
                break
        assert {1_000, 2_000} & seen, "after each reconnection the slot is asked for"


@pytest.mark.parametrize(
    "said",
    [
        b"no JSON",
        b"[1]",
        b"7",
        b'{"method": "slotNotification"}',
        b'{"method": "slotNotification", "params": {"result": {"slot": "soon"}}}',
        b'{"method": "slotNotification", "params": {"result": null}}',
        b'{"id": 1, "error": {"code": "what", "message": 3}}',
    ],
)
async def test_odd_messages_are_a_reason_to_connect_again(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    monkeypatch.setattr(rpc_module, "POLL_S", 0.01)
    monkeypatch.setattr(rpc_module, "RETRY_FIRST_S", 0.01)
    connections = 0

    async def handle(request: web.Request) -> web.StreamResponse:
        nonlocal connections
        if request.headers.get("Upgrade") is None:
            body = orjson.loads(await request.read())
            return web.Response(body=orjson.dumps({"id": body["id"], "result": "no slot"}))
        connections += 1
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        if connections < 3:
            await socket.send_str(said.decode())
        else:
            await socket.send_json({"method": "slotNotification", "params": {"result": {"slot": 77}}})
        await socket.receive()
        return socket

    async with serving(handle) as url, HttpSolanaRpc(url) as rpc, asyncio.timeout(PATIENCE_S):
        slots = rpc.slots()
        assert await anext(slots) == 77
        await slots.aclose()
    assert connections >= 3


async def fail_inside(url: str) -> None:
    async with HttpSolanaRpc(url) as rpc:
        slots = rpc.slots()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(slots), 0.01)
        raise KeyError


async def test_what_fails_inside_comes_out_as_it_is() -> None:
    async with serving(silent) as url:
        with pytest.raises(KeyError):
            await fail_inside(url)


async def test_a_chain_in_this_process_answers_as_one_behind_sockets() -> None:
    async with served_chain() as served, HttpSolanaRpc(served.server.rpc_url) as rpc:
        assert await rpc.call("getGenesisHash") == str(served.chain.genesis_hash)
        answers = await rpc.batch([("getSlot", [{"commitment": "processed"}]), ("getNothing", [])])
        assert answers[0] == served.chain.slot("processed")
        assert isinstance(answers[1], RpcError)
        assert answers[1].code == -32601
    assert new_chain().slot("processed") == 1_001
