"""The small dump: which blocks stay, in which order, and that another format is refused."""

import gzip
import random
from typing import Any

import orjson
import pytest

from nodes.evm.dump import KEPT_BLOCKS, slim_dump
from nodes.model.errors import EngineFailure


def block(number: int) -> dict[str, Any]:
    header = {"parentHash": "0x00", "logsBloom": "0x", "number": hex(number), "extraData": "0x"}
    return {"header": header, "transactions": [{"transaction": {"nonce": "0x1"}}], "ommers": []}


def document(count: int, **changes: Any) -> dict[str, Any]:
    blocks = [block(number) for number in range(count)]
    random.Random(1).shuffle(blocks)
    return {
        "block": {"number": hex(count - 1)},
        "accounts": {"0xaa": {"nonce": 1, "balance": "0x1", "code": "0x", "storage": {"0x00": "0x01"}}},
        "best_block_number": count - 1,
        "blocks": blocks,
        "transactions": [{"info": {"transaction_index": at}, "block_number": at} for at in range(3)],
        "historical_states": None,
    } | changes


def dumped(value: dict[str, Any]) -> str:
    return "0x" + gzip.compress(orjson.dumps(value)).hex()


def slim(value: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = orjson.loads(gzip.decompress(slim_dump(dumped(value))))
    return result


@pytest.mark.parametrize("count", [1, 2, KEPT_BLOCKS, KEPT_BLOCKS + 40])
def test_the_newest_blocks_stay_without_transactions(count: int) -> None:
    whole = document(count)
    result = slim(whole)
    first = max(0, count - KEPT_BLOCKS)
    assert [int(entry["header"]["number"], 16) for entry in result["blocks"]] == list(range(first, count))
    assert all(entry["transactions"] == [] for entry in result["blocks"])
    assert result["blocks"][-1]["header"] == block(count - 1)["header"]
    assert result["transactions"] == []
    for name in ("block", "accounts", "best_block_number", "historical_states"):
        assert result[name] == whole[name]


def test_a_chain_without_transactions() -> None:
    assert slim(document(3, transactions=[]))["blocks"][-1]["header"]["number"] == "0x2"


def test_a_small_dump_made_small_again_is_the_same() -> None:
    once = slim(document(300))
    assert slim(once) == once


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in document(3).items() if key != name}


@pytest.mark.parametrize(
    "value",
    [
        without("blocks"),
        without("transactions"),
        without("best_block_number"),
        document(3, blocks=[]),
        document(3, blocks=[block(0), block(2)]),
        document(3, blocks=[block(0), block(1)]),
        document(3, best_block_number=7),
        document(3, blocks=[{"header": {"nothing": 1}}]),
    ],
)
def test_another_document_is_refused(value: dict[str, Any]) -> None:
    with pytest.raises(EngineFailure, match=r"is it an anvil 1\.7"):
        slim_dump(dumped(value))


@pytest.mark.parametrize("text", ["0x", "0xzz", "0x00", "0x1f8b0800", dumped(document(2))[:-40]])
def test_broken_bytes_are_refused(text: str) -> None:
    with pytest.raises(EngineFailure, match="cannot be read"):
        slim_dump(text)
