"""What a node keeps of a block for its users, and what it does about answers that are too long to be taken."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nodes.model.errors import AnswerTooLong, EngineFailure, Unavailable
from nodes.model.ids import hex_of
from nodes.rollup.engine_reads import EngineReads
from nodes.rollup.index import ChainIndex
from nodes.rollup.journal import Journal
from nodes.rollup.records import IndexedBlock
from tests.support.rollup_fakes import MemoryEngine
from tests.support.rpc_fakes import block_with

HERE, THERE = "0x" + "0a" * 20, "0x" + "0b" * 20
BLOCK = block_with(1, [b"first", b"second", b"third"], bloom=b"\xff" * 256)


def log(address: str, at: int) -> dict[str, Any]:
    return {"address": address, "transactionIndex": hex(at)}


LOGS = [log(HERE, 0), log(THERE, 0), log(THERE, 2), log(HERE.upper().replace("0X", "0x"), 2)]


class LoggingEngine(MemoryEngine):
    """Has the logs of one block; some methods have too much to say."""

    def __init__(self, *too_long: str, shown: IndexedBlock = BLOCK) -> None:
        super().__init__(window=1, state=None)
        self.too_long = too_long
        self.shown = shown
        self.asked: list[str] = []

    async def request(self, method: str, params: Sequence[Any]) -> Any:
        self.asked.append(method)
        if method in self.too_long:
            raise AnswerTooLong(method=method, maximum_bytes=1)
        if method == "eth_getLogs":
            return LOGS
        hashes = [hex_of(self.shown.tx_hash(at)) for at in range(len(self.shown))]
        receipts = [
            {
                "transactionHash": tx_hash,
                "blockHash": hex_of(self.shown.hash),
                "logs": [entry for entry in LOGS if entry["transactionIndex"] == hex(at)],
            }
            for at, tx_hash in enumerate(hashes)
        ]
        return receipts if method == "eth_getBlockReceipts" else receipts[hashes.index(params[0])]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    made = Journal(tmp_path / "journal.sqlite", identity=bytes(32))
    for block in (block_with(0), BLOCK):
        made.insert_genesis(block)
    yield made
    made.close()


@pytest.fixture
def reads(journal: Journal) -> EngineReads:
    def engine() -> MemoryEngine:
        raise Unavailable("no engine is needed")

    return EngineReads(journal, ChainIndex(journal, history_blocks=10), engine)


async def test_logs_of_one_contract_are_read_and_all_are_kept(reads: EngineReads) -> None:
    engine = LoggingEngine()
    assert await reads.fresh_logs(engine, BLOCK, HERE) == [LOGS[0], LOGS[3]]
    assert await reads.fresh_logs(engine, BLOCK, THERE) == [LOGS[1], LOGS[2]]
    assert await reads.logs(BLOCK) == LOGS
    assert engine.asked == ["eth_getLogs"]


async def test_logs_too_long_for_one_answer_are_read_by_transaction(reads: EngineReads, journal: Journal) -> None:
    engine = LoggingEngine("eth_getLogs")
    assert await reads.fresh_logs(engine, BLOCK, HERE) == [LOGS[0], LOGS[3]]
    assert journal.logs(BLOCK.number) is None


@pytest.mark.parametrize(
    "engine",
    [
        LoggingEngine("eth_getLogs", "eth_getTransactionReceipt"),
        LoggingEngine("eth_getLogs", shown=block_with(1, [b"first", b"second", b"third"], salt=b"another")),
    ],
    ids=["too long too", "of another block"],
)
async def test_logs_that_cannot_be_read_are_never_taken_as_none(reads: EngineReads, engine: LoggingEngine) -> None:
    with pytest.raises(EngineFailure, match="does not show"):
        await reads.fresh_logs(engine, BLOCK, HERE)


@pytest.mark.parametrize("too_long", [("eth_getLogs",), ("eth_getBlockReceipts",)])
async def test_what_is_too_long_is_not_kept_and_the_rest_is(
    reads: EngineReads, journal: Journal, too_long: tuple[str]
) -> None:
    await reads.keep(LoggingEngine(*too_long), BLOCK, [])
    assert (journal.logs(1) is None) == ("eth_getLogs" in too_long)
    assert (journal.receipts(1) is None) == ("eth_getBlockReceipts" in too_long)


async def test_users_are_told_that_logs_are_too_long(journal: Journal) -> None:
    engine = LoggingEngine("eth_getLogs")
    reads = EngineReads(journal, ChainIndex(journal, history_blocks=10), lambda: engine)
    with pytest.raises(AnswerTooLong):
        await reads.logs(BLOCK)
