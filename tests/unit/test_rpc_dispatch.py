"""Requests, batches and notifications in; answers with the right codes out; bounded queues of one connection."""

import json
import logging
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.model.errors import EngineFailure, LimitExceeded, Overloaded, Pruned, RpcError, Unavailable
from nodes.rollup.rpc.dispatch import Dispatcher
from nodes.rollup.rpc.methods import build_methods
from nodes.rollup.rpc.params import Params
from nodes.telemetry.clock import ManualClock
from tests.support.rpc_fakes import FakeNode, FakeSequencer


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with closing(FakeNode(tmp_path)) as node:
        yield node


@pytest.fixture
def dispatcher(node: FakeNode) -> Dispatcher:
    return Dispatcher(*build_methods(node, FakeSequencer(), ManualClock()))


def raising(node: FakeNode, error: Exception) -> Dispatcher:
    _, publisher = build_methods(node, FakeSequencer(), ManualClock())

    async def fail(params: Params) -> Any:
        raise error

    return Dispatcher({"fail": fail}, publisher)


async def ask(dispatcher: Dispatcher, body: Any) -> Any:
    answer = await dispatcher.answer(body if isinstance(body, bytes) else json.dumps(body).encode(), None)
    return json.loads(answer) if answer else None


async def test_one_request(dispatcher: Dispatcher) -> None:
    assert await ask(dispatcher, {"jsonrpc": "2.0", "id": "a", "method": "eth_chainId"}) == {
        "jsonrpc": "2.0",
        "id": "a",
        "result": "0x1b59",
    }


async def test_a_batch_is_answered_in_order_without_its_notifications(dispatcher: Dispatcher) -> None:
    batch = [
        {"id": 1, "method": "net_version"},
        {"method": "net_version"},
        {"id": 2, "method": "evm_mine"},
        5,
        {"id": 3, "method": "eth_accounts", "params": []},
    ]
    answers = await ask(dispatcher, batch)
    assert [answer.get("result", answer.get("error", {}).get("code")) for answer in answers] == [
        "7001",
        -32601,
        -32600,
        [],
    ]
    assert [answer["id"] for answer in answers] == [1, 2, None, 3]
    assert await ask(dispatcher, {"method": "net_version"}) is None
    assert await ask(dispatcher, [{"method": "net_version"}]) is None


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", -32700),
        (b"{", -32700),
        (b"\xff", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b"5", -32600),
        (b"null", -32600),
        (b'{"id": 1}', -32600),
        (b'{"id": 1, "method": 5}', -32600),
        (b'{"id": {}, "method": "net_version"}', -32600),
        (b'{"id": 1, "method": "net_version", "params": {"a": 1}}', -32602),
        (b'{"id": 1, "method": "net_version", "params": [1]}', -32602),
        (b'{"id": 1, "method": "eth_getBalance"}', -32602),
    ],
)
async def test_what_is_no_request_is_refused(dispatcher: Dispatcher, body: bytes, code: int) -> None:
    assert (await ask(dispatcher, body))["error"]["code"] == code


async def test_a_batch_over_the_limit_names_the_limit(dispatcher: Dispatcher) -> None:
    answer = await ask(dispatcher, [{"id": n, "method": "net_version"} for n in range(101)])
    assert answer["error"]["code"] == -32600
    assert "MAX_RPC_BATCH" in answer["error"]["message"]
    assert len(await ask(dispatcher, [{"id": n, "method": "net_version"} for n in range(100)])) == 100


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RpcFault(-32000, "as it is"), -32000, "as it is"),
        (Pruned("block 5 is gone"), -32001, "pruned"),
        (Overloaded("full", retry_after_ms=70), -32005, "retry after 70 ms"),
        (LimitExceeded(limit="MAX_X", value=2, maximum=1), -32005, "MAX_X is 1"),
        (Unavailable("the engine is away"), -32000, "temporarily unavailable: the engine is away"),
        (EngineFailure("no answer"), -32000, "temporarily unavailable: no answer"),
        (RpcError(method="m", code=3, message="execution reverted", data="0x12"), 3, "execution reverted"),
        (RpcError(method="m", code=-32003, message="Insufficient funds for gas"), -32000, "insufficient funds for gas"),
        (RpcError(method="m", code=-32603, message="EVM error OutOfGas"), -32000, "out of gas"),
        (RpcError(method="m", code=-32603, message="EVM error Odd"), -32000, "execution failed: Odd"),
        (
            RpcError(method="m", code=-32003, message="Out of gas: gas required exceeds allowance: 5"),
            -32000,
            "gas required exceeds allowance: 5",
        ),
        (
            RpcError(method="m", code=-32602, message="BlockOutOfRangeError: block height is 90 but requested was 3"),
            -32001,
            "the state of block 3 is pruned",
        ),
        (
            RpcError(method="m", code=-32602, message="BlockOutOfRangeError: block height is 90 but requested was 91"),
            -32000,
            "temporarily unavailable",
        ),
    ],
)
async def test_expected_errors_have_the_codes_that_tools_know(
    node: FakeNode, error: Exception, code: int, text: str
) -> None:
    answer = (await ask(raising(node, error), {"id": 1, "method": "fail"}))["error"]
    assert answer["code"] == code
    assert text in answer["message"]
    if isinstance(error, Overloaded):
        assert answer["data"] == {"retryAfterMs": 70}
    if isinstance(error, RpcError) and error.data:
        assert answer["data"] == error.data


async def test_a_bug_is_logged_and_answered_as_internal(node: FakeNode, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await ask(raising(node, ZeroDivisionError("secret")), {"id": 1, "method": "fail"})
    assert answer["error"]["code"] == -32603
    assert "secret" not in answer["error"]["message"]
    assert "ZeroDivisionError" in caplog.text
