"""Polled filters and subscriptions: each change once, in order, also through a rewind, or a clear end."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.json_rpc.mailbox import Mailbox
from nodes.model.errors import AnswerTooLong
from nodes.rollup.rpc import filters as filters_module
from nodes.rollup.rpc.filters import UNUSED_NS, Filters
from nodes.rollup.rpc.logs import LogSearch
from nodes.rollup.rpc.params import Params
from nodes.rollup.rpc.reader import ChainReader
from nodes.rollup.rpc.subscriptions import Publisher, new_mailbox
from nodes.telemetry.clock import ManualClock
from tests.support.patience import PATIENCE_S
from tests.support.rpc_fakes import FakeNode, bloom_of, log_of

TOKEN, OTHER = b"\x0a" * 20, b"\x0b" * 20
TOPIC = b"\x01" * 32


class Parts:
    def __init__(self, directory: Path) -> None:
        self.node = FakeNode(directory)
        self.clock = ManualClock()
        reader = ChainReader(self.node)
        self.filters = Filters(self.node, LogSearch(self.node, reader), self.clock)
        self.publisher = Publisher(self.node, reader, self.filters)

    def add_log(self, address: bytes = TOKEN, *, salt: bytes = b"") -> str:
        number = self.node.index.head.number + 1
        log = log_of(address, TOPIC, number=number)
        return "0x" + self.node.add(bloom=bloom_of(address, TOPIC), logs=[log], salt=salt).hash.hex()

    async def changes(self, name: str) -> list[Any]:
        return await self.filters.changes(Params([name]))

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.publisher.run())
            await asyncio.sleep(0)  # lets it subscribe
            yield
            self.node.announcer.close()


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    parts = Parts(tmp_path)
    with closing(parts.node):
        yield parts


async def test_a_block_filter_shows_each_new_block_once(parts: Parts) -> None:
    parts.node.add()
    name = await parts.filters.new_block_filter(Params([]))
    assert await parts.changes(name) == []
    hashes = ["0x" + parts.node.add().hash.hex() for _ in range(3)]
    assert await parts.changes(name) == hashes
    assert await parts.changes(name) == []


async def test_a_log_filter_shows_new_matches_and_can_start_over(parts: Parts) -> None:
    parts.add_log()
    query = {"fromBlock": "0x0", "address": "0x" + TOKEN.hex()}
    name = await parts.filters.new_log_filter(Params([query]))
    first, _, second = parts.add_log(), parts.add_log(OTHER), parts.add_log()
    assert [log["blockHash"] for log in await parts.changes(name)] == [first, second]
    assert await parts.changes(name) == []
    assert len(await parts.filters.logs(Params([name]))) == 3


async def test_a_failed_search_loses_nothing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    name = await parts.filters.new_log_filter(Params([{}]))
    parts.add_log()
    parts.add_log()
    with monkeypatch.context() as patch:
        patch.setattr("nodes.rollup.rpc.logs.MAX_LOG_RESULTS", 1)
        with pytest.raises(RpcFault, match="more than 1 results"):
            await parts.changes(name)
    assert len(await parts.changes(name)) == 2


async def test_filters_are_bounded_and_forgotten_when_unused(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters_module, "MAX_FILTERS", 2)
    kept = await parts.filters.new_block_filter(Params([]))
    unused = await parts.filters.new_block_filter(Params([]))
    with pytest.raises(RpcFault, match="MAX_FILTERS"):
        await parts.filters.new_block_filter(Params([]))
    parts.clock.advance(ns=UNUSED_NS)
    await parts.changes(kept)
    parts.clock.advance(ns=1)
    with pytest.raises(RpcFault, match="filter not found"):
        await parts.changes(unused)
    assert await parts.filters.new_block_filter(Params([]))
    assert await parts.filters.uninstall(Params([kept]))
    assert not await parts.filters.uninstall(Params([kept]))


async def test_accepted_transactions_are_shown_to_filters_of_them(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.filters.transaction_accepted(b"\x01" * 32)
    name = await parts.filters.new_pending_filter(Params([]))
    assert await parts.changes(name) == []
    parts.filters.transaction_accepted(b"\x02" * 32)
    parts.filters.transaction_accepted(b"\x03" * 32)
    assert await parts.changes(name) == ["0x" + "02" * 32, "0x" + "03" * 32]
    for at in range(filters_module.REMEMBERED_TRANSACTIONS + 1):
        parts.filters.transaction_accepted(at.to_bytes(32, "big"))
    with pytest.raises(RpcFault, match="were accepted since the last poll"):
        await parts.changes(name)
    assert await parts.changes(name) == []


async def test_a_rewind_shows_removed_logs_and_the_new_branch(parts: Parts) -> None:
    async with parts.publishing():
        logs = await parts.filters.new_log_filter(Params([{}]))
        blocks = await parts.filters.new_block_filter(Params([]))
        stay, old = parts.add_log(), parts.add_log()
        assert [log["blockHash"] for log in await parts.changes(logs)] == [stay, old]
        assert await parts.changes(blocks) == [stay, old]
        await _turns()
        parts.node.rewind(1)
        await _turns()
        new = parts.add_log(salt=b"another branch")
        await _turns()
        seen = [(log["blockHash"], log["removed"]) for log in await parts.changes(logs)]
        assert seen == [(old, True), (new, False)]
        assert await parts.changes(blocks) == [new]


async def test_subscribers_see_logs_and_their_removal_in_order(parts: Parts) -> None:
    box = new_mailbox()
    everything = parts.publisher.subscribe(box, Params(["logs", {}]))
    parts.publisher.subscribe(box, Params(["logs", {"address": "0x" + OTHER.hex()}]))
    async with parts.publishing():
        stay, old = parts.add_log(), parts.add_log()
        await _turns()
        parts.node.rewind(1)
        new = parts.add_log(salt=b"another branch")
        await _turns()
    messages = [orjson.loads(await box.take())["params"] for _ in range(4)]
    assert {message["subscription"] for message in messages} == {everything}
    seen = [(message["result"]["blockHash"], message["result"]["removed"]) for message in messages]
    assert seen == [(stay, False), (old, False), (old, True), (new, False)]


async def test_a_subscriber_that_does_not_read_is_ended_and_not_skipped(parts: Parts) -> None:
    slow, quick = Mailbox(max_messages=2, max_bytes=1_000_000), new_mailbox()
    for box in (slow, quick):
        parts.publisher.subscribe(box, Params(["logs", {}]))
    async with parts.publishing():
        for _ in range(5):
            parts.add_log()
        await _turns()
    assert "too slow: 2 messages wait" in slow.end_reason
    assert not quick.end_reason
    assert [orjson.loads(await quick.take())["params"]["result"]["blockNumber"] for _ in range(5)] == [
        hex(number) for number in range(1, 6)
    ]


async def test_when_the_publisher_falls_behind_everybody_is_told(parts: Parts) -> None:
    box = new_mailbox()
    parts.publisher.subscribe(box, Params(["logs", {}]))
    name = await parts.filters.new_block_filter(Params([]))
    async with parts.publishing():
        for _ in range(1_100):  # more than a subscription of heads holds
            parts.node.add()
        await _turns()
        assert "faster than they could be sent" in box.end_reason
        with pytest.raises(RpcFault, match="filter not found"):
            await parts.changes(name)
        fresh = new_mailbox()
        parts.publisher.subscribe(fresh, Params(["logs", {}]))
        parts.add_log()
        assert orjson.loads(await asyncio.wait_for(fresh.take(), PATIENCE_S))["params"]["result"]["removed"] is False


async def test_logs_too_long_to_be_read_end_their_subscribers_only(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = new_mailbox()
    parts.publisher.subscribe(box, Params(["logs", {}]))
    async with parts.publishing():
        with monkeypatch.context() as patch:

            async def too_long(*_: object) -> list[Any]:
                raise AnswerTooLong(method="eth_getLogs", maximum_bytes=64)

            patch.setattr(parts.node, "logs", too_long)
            parts.add_log()
            await _turns()
        assert "a block could not be read" in box.end_reason
        assert "more than 64 bytes" in box.end_reason
        fresh = new_mailbox()
        parts.publisher.subscribe(fresh, Params(["logs", {}]))
        parts.add_log()
        assert (
            orjson.loads(await asyncio.wait_for(fresh.take(), PATIENCE_S))["params"]["result"]["blockNumber"] == "0x2"
        )


async def test_subscriptions_are_checked_bounded_and_ended(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    box = new_mailbox()
    for params in (["nothing"], [], ["logs", {"topics": 5}], ["newPendingTransactions", 1], ["newHeads", {}, 1]):
        with pytest.raises(RpcFault) as refused:
            parts.publisher.subscribe(box, Params(params))
        assert refused.value.code == -32602
    monkeypatch.setattr("nodes.rollup.rpc.subscriptions.MAX_SUBSCRIPTIONS", 1)
    name = parts.publisher.subscribe(box, Params(["newHeads"]))
    with pytest.raises(RpcFault, match="MAX_SUBSCRIPTIONS"):
        parts.publisher.subscribe(box, Params(["newHeads"]))
    with pytest.raises(RpcFault, match="subscription not found"):
        parts.publisher.unsubscribe(new_mailbox(), Params([name]))  # another connection's
    assert parts.publisher.unsubscribe(box, Params([name]))


async def _turns() -> None:
    """Let the publisher read everything that was announced."""
    for _ in range(50):
        await asyncio.sleep(0)
