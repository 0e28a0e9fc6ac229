"""State is read at announced blocks by hash, and what is gone is said to be gone."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.model.errors import EngineFailure, Overloaded, Pruned, RpcError
from nodes.model.ids import TxHash
from nodes.rollup.rpc import reader as reader_module
from nodes.rollup.rpc.params import BlockReference
from nodes.rollup.rpc.reader import LATEST, ChainReader
from tests.support.rpc_fakes import FakeNode

NOT_FOUND = RpcError(method="m", code=-32001, message="Resource not found")


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with closing(FakeNode(tmp_path)) as node:
        for _ in range(3):
            node.add()
        yield node


def asked(node: FakeNode) -> list[str]:
    """Hashes of the blocks at which state was read."""
    return [param["blockHash"] for _, params in node.requests for param in params if isinstance(param, dict)]


async def test_state_is_read_at_the_hash_of_an_announced_block(node: FakeNode) -> None:
    node.answers["eth_getBalance"] = "0x5"
    reader = ChainReader(node)
    head = "0x" + node.index.head.hash.hex()
    for reference in (LATEST, BlockReference(tag="pending"), BlockReference(tag="safe"), BlockReference(number=3)):
        assert await reader.state("eth_getBalance", ["0x"], reference) == "0x5"
    assert asked(node) == [head] * 4


async def test_a_number_above_the_head_is_never_asked_of_the_engine(node: FakeNode) -> None:
    with pytest.raises(RpcFault, match="header not found"):
        await ChainReader(node).state("eth_getBalance", ["0x"], BlockReference(number=4))
    assert node.requests == []


async def test_a_state_that_the_engine_has_forgotten_is_pruned(node: FakeNode) -> None:
    node.answers["eth_getBalance"] = NOT_FOUND
    with pytest.raises(Pruned, match="the state of block 1 is pruned"):
        await ChainReader(node).state("eth_getBalance", ["0x"], BlockReference(number=1))


async def test_a_tag_follows_the_chain_through_a_rewind(node: FakeNode) -> None:
    def rewinding(*_: Any) -> Any:
        if node.index.head.number == 3:
            node.rewind(2)
            raise NOT_FOUND
        return "0x7"

    node.answers["eth_getBalance"] = rewinding
    assert await ChainReader(node).state("eth_getBalance", ["0x"], LATEST) == "0x7"
    assert len(set(asked(node))) == 2


async def test_a_block_that_was_named_and_left_the_chain_is_not_found(node: FakeNode) -> None:
    def rewinding(*_: Any) -> Any:
        node.rewind(1)
        raise NOT_FOUND

    node.answers["eth_getBalance"] = rewinding
    with pytest.raises(RpcFault, match="header not found"):
        await ChainReader(node).state("eth_getBalance", ["0x"], BlockReference(number=3))


async def test_an_account_and_what_is_pending_are_of_one_moment(node: FakeNode) -> None:
    """A block comes during the read and takes the transaction out of the pool."""
    sender, tx_hash = b"\x01" * 20, TxHash(b"\x02" * 32)
    node.pending.add(sender, 5, tx_hash)

    def settling(*_: Any) -> str:
        node.add()
        node.pending.resolve(node.index.head.height, [tx_hash])
        return "0x5"

    node.answers["eth_getTransactionCount"] = settling
    assert await ChainReader(node).account_and_pending("eth_getTransactionCount", sender) == ("0x5", frozenset({5}))
    assert len(node.requests) == 1


async def test_a_header_must_hash_to_the_block(node: FakeNode) -> None:
    node.answers["eth_getBlockByHash"] = {"parentHash": "0x" + "00" * 32}
    with pytest.raises(EngineFailure, match="no header of block 3"):
        await ChainReader(node).header(node.index.head)
    node.answers["eth_getBlockByHash"] = lambda *_: None
    with pytest.raises(EngineFailure, match="no header of block 3"):
        await ChainReader(node).header(node.index.head)


async def test_reads_under_way_and_waiting_are_bounded(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_WAITING_READS", 4)
    release, under_way, most = asyncio.Event(), 0, 0

    class SlowNode(FakeNode):
        async def request(self, method: str, params: Any) -> Any:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await release.wait()
            under_way -= 1
            return "0x1"

    node.__class__ = SlowNode
    reader = ChainReader(node)
    count = reader_module.READS_AT_ONCE + 4 + 3
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_outcome(reader)) for _ in range(count)]
        for _ in range(5):
            await asyncio.sleep(0)
        release.set()
    assert [task.result() for task in tasks].count("refused") == 3
    assert most == reader_module.READS_AT_ONCE


async def _outcome(reader: ChainReader) -> str:
    try:
        return str(await reader.state("eth_getBalance", ["0x"], LATEST))
    except Overloaded:
        return "refused"
