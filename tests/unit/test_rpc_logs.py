"""Which logs match, in which blocks they are searched for, and when there are too many."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nodes.json_rpc.faults import RpcFault
from nodes.model.errors import Pruned
from nodes.rollup import index as index_module
from nodes.rollup.rpc.logs import LogSearch, log_query
from nodes.rollup.rpc.reader import ChainReader
from tests.support.rpc_fakes import FakeNode, bloom_of, log_of

TOKEN, POOL = b"\x0a" * 20, b"\x0b" * 20
TRANSFER, SWAP, ALICE, BOB = (bytes([n]) * 32 for n in (1, 2, 3, 4))


def hexes(*values: bytes) -> list[str]:
    return ["0x" + value.hex() for value in values]


def search(node: FakeNode) -> LogSearch:
    return LogSearch(node, ChainReader(node))


def add(node: FakeNode, *logs: dict[str, Any]) -> None:
    values = [bytes.fromhex(text[2:]) for log in logs for text in (log["address"], *log["topics"])]
    node.add(bloom=bloom_of(*values), logs=logs)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    with closing(FakeNode(tmp_path)) as node:
        add(node, log_of(TOKEN, TRANSFER, ALICE, index=0), log_of(POOL, SWAP, index=1))
        node.add()
        add(node, log_of(TOKEN, TRANSFER, BOB, ALICE))
        yield node


@pytest.mark.parametrize(
    ("criteria", "found"),
    [
        ({}, [(1, 0), (1, 1), (3, 0)]),
        ({"address": hexes(TOKEN)[0]}, [(1, 0), (3, 0)]),
        ({"address": hexes(TOKEN, POOL)}, [(1, 0), (1, 1), (3, 0)]),
        ({"address": []}, [(1, 0), (1, 1), (3, 0)]),
        ({"topics": hexes(SWAP)}, [(1, 1)]),
        ({"topics": [hexes(SWAP, TRANSFER)]}, [(1, 0), (1, 1), (3, 0)]),
        ({"topics": [None, *hexes(ALICE)]}, [(1, 0)]),
        ({"topics": [[None], hexes(ALICE, BOB)]}, [(1, 0), (3, 0)]),
        ({"topics": [None, None, *hexes(ALICE)]}, [(3, 0)]),
        ({"topics": [None, None]}, [(1, 0), (3, 0)]),
        ({"topics": hexes(b"\x09" * 32)}, []),
        ({"address": hexes(POOL)[0], "topics": hexes(TRANSFER)}, []),
    ],
)
async def test_logs_match_by_address_and_position(
    node: FakeNode, criteria: dict[str, Any], found: list[tuple[int, int]]
) -> None:
    logs = await search(node).run(log_query({"fromBlock": "earliest", **criteria}))
    assert [(int(log["blockNumber"], 16), int(log["logIndex"], 16)) for log in logs] == found
    assert not any(log["removed"] for log in logs)


@pytest.mark.parametrize(
    ("places", "numbers"),
    [
        ({}, [3]),
        ({"fromBlock": "0x0", "toBlock": "0x1"}, [1, 1]),
        ({"fromBlock": "0x2", "toBlock": "0x2"}, []),
        ({"fromBlock": "0x2"}, [3]),
        ({"fromBlock": "0x2", "toBlock": "0x99"}, [3]),
        ({"fromBlock": "0x50", "toBlock": "0x99"}, []),
        ({"fromBlock": "0x0", "toBlock": "finalized"}, [1, 1, 3]),
    ],
)
async def test_ranges_end_at_the_head(node: FakeNode, places: dict[str, Any], numbers: list[int]) -> None:
    logs = await search(node).run(log_query(places))
    assert [int(log["blockNumber"], 16) for log in logs] == numbers


async def test_one_block_by_hash(node: FakeNode) -> None:
    block = node.index.block_by_number(1)
    assert block is not None
    assert len(await search(node).run(log_query({"blockHash": hexes(block.hash)[0]}))) == 2
    with pytest.raises(RpcFault, match="unknown block"):
        await search(node).run(log_query({"blockHash": hexes(bytes(32))[0]}))


@pytest.mark.parametrize(
    "query",
    [
        [],
        {"fromBlock": "0x2", "blockHash": "0x" + "00" * 32},
        {"adress": "0x" + "00" * 20},
        {"address": "0x12"},
        {"topics": "0x" + "00" * 32},
        {"topics": ["0x12"]},
        {"topics": [None] * 5},
        {"address": ["0x" + "00" * 20] * 1001},
    ],
)
def test_malformed_filters_are_refused(query: Any) -> None:
    with pytest.raises(RpcFault) as refused:
        log_query(query)
    assert refused.value.code == -32602


async def test_a_range_backwards_is_refused(node: FakeNode) -> None:
    with pytest.raises(RpcFault, match="invalid block range"):
        await search(node).run(log_query({"fromBlock": "0x3", "toBlock": "0x1"}))


async def test_too_many_results_name_the_limit_and_a_range_that_fits(
    node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodes.rollup.rpc.logs.MAX_LOG_RESULTS", 2)
    with pytest.raises(RpcFault, match=r"more than 2 results \(MAX_LOG_RESULTS\); try \[0x1, 0x2\]") as refused:
        await search(node).run(log_query({"fromBlock": "0x0"}))
    assert refused.value.code == -32005
    assert len(await search(node).run(log_query({"fromBlock": "0x1", "toBlock": "0x2"}))) == 2


async def test_pruned_ranges_are_an_error_and_never_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "PRUNE_EVERY_BLOCKS", 4)
    with closing(FakeNode(tmp_path, history_blocks=4)) as node:
        for _ in range(12):
            add(node, log_of(TOKEN, TRANSFER))
        assert node.index.oldest_number > 1
        for first in ("0x0", "earliest", "0x1"):
            with pytest.raises(Pruned):
                await search(node).run(log_query({"fromBlock": first}))
        kept = await search(node).run(log_query({"fromBlock": hex(node.index.oldest_number)}))
        assert len(kept) == 13 - node.index.oldest_number
