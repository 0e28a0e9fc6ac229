"""What the divergence check makes of an engine's refusals."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes.divergence import engine_reader
from nodes.divergence.engine_reader import REFUSALS, EngineReader, Unseen
from nodes.divergence.engine_side import REPLAY
from nodes.divergence.forms import Task
from nodes.divergence.values import Block, Entry
from nodes.evm.ipc import IpcConnection
from nodes.model.errors import AnswerTooLong, RpcError
from nodes.model.execution import Status
from nodes.model.ids import hex_of

TASK = Task(
    rollup="rollup-1",
    block=Block(
        height=1,
        number=1,
        hash=b"\x01" * 32,
        parent_hash=bytes(32),
        timestamp_s=1,
        entries=(Entry(payload=b"payload", status=Status.SUCCEEDED),),
    ),
)


class Refusing(IpcConnection):
    """Has the block, and never replays it."""

    def __init__(self, error: RpcError) -> None:
        super().__init__(lambda: "anvil")
        self.error = error
        self.replays = 0

    async def request(self, method: str, params: Sequence[Any] = (), **options: Any) -> Any:
        if method == REPLAY:
            self.replays += 1
            raise self.error
        return {"hash": hex_of(TASK.block.hash)}


@pytest.mark.parametrize(
    ("error", "replays"),
    [
        (AnswerTooLong(method=REPLAY, maximum_bytes=1), 1),
        (RpcError(method=REPLAY, code=-32001, message="pruned"), REFUSALS),
    ],
    ids=["too long", "pruned"],
)
async def test_a_block_that_cannot_be_read_is_missed_and_not_asked_for_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RpcError, replays: int
) -> None:
    monkeypatch.setattr(engine_reader, "RETRY_S", 0.0)
    connection = Refusing(error)

    async def connect(path: Path, *, peer: object) -> IpcConnection:
        return connection

    monkeypatch.setattr(IpcConnection, "connect", connect)
    async with asyncio.timeout(60):
        assert await EngineReader(str(tmp_path)).seen(TASK) is Unseen.MISSED
    assert connection.replays == replays
