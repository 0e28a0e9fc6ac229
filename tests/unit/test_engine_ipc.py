"""The IPC connection against a transport that the test holds: framing, matching, errors, ends."""

import asyncio

import orjson
import pytest

from nodes.evm import ipc
from nodes.evm.ipc import IpcConnection
from nodes.model.errors import AnswerTooLong, EngineFailure, Overloaded, RpcError


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def abort(self) -> None:
        self.aborted = True

    def requests(self) -> list[dict[str, object]]:
        return [orjson.loads(line) for line in self.written.splitlines()]


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def connection(transport: FakeTransport) -> IpcConnection:
    made = IpcConnection(lambda: "anvil (process 7)")
    made.connection_made(transport)
    return made


def answer(number: int, result: object) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": number, "result": result}) + b"\n"


async def test_answers_meet_their_requests_in_any_order_and_in_any_pieces(
    connection: IpcConnection, transport: FakeTransport
) -> None:
    first = connection.send("eth_a", b'["0x1"]')
    second = connection.send("eth_b", b"[]")
    assert transport.requests() == [
        {"jsonrpc": "2.0", "id": 1, "method": "eth_a", "params": ["0x1"]},
        {"jsonrpc": "2.0", "id": 2, "method": "eth_b", "params": []},
    ]
    stream = answer(2, "two") + answer(1, "one" * 50)
    for at in range(len(stream)):
        connection.data_received(stream[at : at + 1])
    assert await first == "one" * 50
    assert await second == "two"


async def test_several_answers_in_one_piece(connection: IpcConnection) -> None:
    futures = [connection.send("eth_a", b"[]") for _ in range(3)]
    third = answer(3, 3)
    connection.data_received(answer(1, 1) + answer(2, None) + third[:5])
    connection.data_received(third[5:])
    assert await asyncio.gather(*futures) == [1, None, 3]


async def test_an_error_answer_carries_code_message_and_data(connection: IpcConnection) -> None:
    future = connection.send("eth_call", b"[]")
    connection.data_received(b'{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"reverted","data":"0x08"}}\n')
    with pytest.raises(RpcError, match="eth_call: reverted") as caught:
        await future
    assert (caught.value.code, caught.value.message, caught.value.data) == (3, "reverted", "0x08")


async def test_the_end_fails_everyone_who_waits_and_everyone_who_comes(connection: IpcConnection) -> None:
    waiting = [connection.send("eth_a", b"[]") for _ in range(2)]
    connection.connection_lost(None)
    for future in waiting:
        with pytest.raises(EngineFailure, match=r"anvil \(process 7\) closed its socket"):
            await future
    with pytest.raises(EngineFailure, match="closed its socket"):
        connection.send("eth_a", b"[]")


@pytest.mark.parametrize("line", [b"not json\n", b"[]\n", b'{"id":9,"result":1}\n', b'{"id":null,"error":{}}\n'])
async def test_what_is_not_an_answer_fails_the_connection(connection: IpcConnection, line: bytes) -> None:
    future = connection.send("eth_a", b"[]")
    connection.data_received(line)
    with pytest.raises(EngineFailure):
        await future


async def test_a_deadline_names_the_request_and_a_late_answer_is_dropped(connection: IpcConnection) -> None:
    with pytest.raises(EngineFailure, match="did not answer eth_slow within"):
        await connection.request("eth_slow", deadline_s=0.001)
    connection.data_received(answer(1, "late"))
    future = connection.send("eth_a", b"[]")
    connection.data_received(answer(2, "next"))
    assert await future == "next"


async def test_requests_under_way_are_bounded(connection: IpcConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ipc, "MAX_UNDER_WAY", 2)
    futures = [connection.send("eth_a", b"[]") for _ in range(2)]
    with pytest.raises(Overloaded):
        connection.send("eth_a", b"[]")
    connection.data_received(answer(1, 1) + answer(2, 2))
    await asyncio.gather(*futures)


async def test_an_answer_without_end_is_cut_off(
    connection: IpcConnection, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ipc, "MAX_ANSWER_BYTES", 100)
    monkeypatch.setattr(ipc, "_SURELY_TAKEN_BYTES", 50)
    future = connection.send("eth_a", b"[]")
    connection.data_received(b'{"' + b"a" * 200)
    with pytest.raises(EngineFailure, match="more than 100 bytes"):
        await future
    assert transport.aborted


@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
async def test_an_answer_too_long_fails_its_request_alone(
    connection: IpcConnection, transport: FakeTransport, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(ipc, "_SURELY_TAKEN_BYTES", 50)
    futures = [connection.send("eth_a", b"[]", max_bytes=limit) for limit in (1_000, 100, 100, 100)]
    forsaken = connection.send("eth_b", b"[]", max_bytes=100)
    forsaken.cancel()
    long = {number: answer(number, "x" * 500) for number in (1, 2, 5)}
    stream = long[2] + long[1] + answer(3, "short") + long[5] + answer(4, "last")
    for at in range(0, len(stream), piece):
        connection.data_received(stream[at : at + piece])
        held = max(len(connection._buffer) - piece, 0)
        assert held <= 1_000
    assert await futures[0] == "x" * 500
    with pytest.raises(AnswerTooLong, match="eth_a: the answer has more than 100 bytes") as caught:
        await futures[1]
    assert caught.value.code == -32005
    assert [await future for future in futures[2:]] == ["short", "last"]
    await connection.settle(deadline_s=60)
    assert not transport.aborted


async def test_settling_waits_for_answers_that_nobody_waits_for(
    connection: IpcConnection, transport: FakeTransport
) -> None:
    await connection.settle(deadline_s=60)  # nothing is under way
    caller = asyncio.ensure_future(connection.request("evm_mine"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    settling = asyncio.ensure_future(connection.settle(deadline_s=60))
    await asyncio.sleep(0)
    assert not settling.done()
    connection.data_received(answer(1, "0x0"))
    await settling

    connection.send("evm_mine", b"[]").cancel()
    with pytest.raises(EngineFailure, match="did not answer evm_mine within 0 s"):
        await connection.settle(deadline_s=0)
    settling = asyncio.ensure_future(connection.settle(deadline_s=60))
    connection.connection_lost(None)
    await settling
    with pytest.raises(EngineFailure):
        connection.send("eth_blockNumber", b"[]")
