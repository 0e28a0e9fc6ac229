"""The durable log: what is committed is there after a restart, in order, and nobody else's."""

from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Pruned, Unavailable
from nodes.model.ids import HeaderHash, Height, SubmissionHash
from nodes.model.sequenced_block import BlockRef
from nodes.sequencer.block_log import (
    AppendBlock,
    BlockLog,
    JournalEntry,
    KeepSubmissions,
    LoggedBlock,
    TruncateBlocks,
)
from tests.support.crafting import CHAIN_ID


def entry(sequence: int) -> JournalEntry:
    return JournalEntry(sequence, SubmissionHash(bytes([sequence]) * 32), b"submission %d" % sequence)


def block(height: int, *sequences: int) -> LoggedBlock:
    ref = BlockRef(height=Height(height), hash=HeaderHash(bytes([100 + height]) * 32))
    return LoggedBlock(ref, b"block %d" % height, tuple(entry(sequence).hash for sequence in sequences))


def reopened(log: BlockLog, directory: Path) -> BlockLog:
    log.close()
    return BlockLog(directory, chain_id=CHAIN_ID)


def test_a_block_takes_its_submissions_out_of_the_journal(tmp_path: Path) -> None:
    log = BlockLog(tmp_path, chain_id=CHAIN_ID)
    log.commit([KeepSubmissions([entry(1), entry(2), entry(3)])])
    log.commit([AppendBlock(block(1, 1, 2), 2), KeepSubmissions([entry(4)]), AppendBlock(block(2), 0)])
    log = reopened(log, tmp_path)
    assert list(log.journal()) == [entry(3), entry(4)]
    assert log.last_blocks(5) == [block(1, 1, 2), block(2)]
    assert list(log.submission_hashes(above=0)) == [(1, (entry(1).hash, entry(2).hash)), (2, ())]
    assert log.hashes_of([1, 2, 3]) == {1: block(1).ref.hash, 2: block(2).ref.hash}
    log.close()


def test_a_truncated_block_is_gone_and_its_submissions_are_back_in_front(tmp_path: Path) -> None:
    log = BlockLog(tmp_path, chain_id=CHAIN_ID)
    log.commit([AppendBlock(block(1, 1), 1), AppendBlock(block(2, 2), 2), KeepSubmissions([entry(3)])])
    log.commit([TruncateBlocks(Height(1), [entry(2)])])
    log = reopened(log, tmp_path)
    assert list(log.journal()) == [entry(2), entry(3)]
    assert log.last_blocks(5) == [block(1, 1)]
    with pytest.raises(Pruned, match="height 2"):
        log.block_bytes(2)
    log.close()


def test_a_directory_belongs_to_one_process(tmp_path: Path) -> None:
    log = BlockLog(tmp_path, chain_id=CHAIN_ID)
    with pytest.raises(Unavailable, match="in use by another process"):
        BlockLog(tmp_path, chain_id=CHAIN_ID)
    reopened(log, tmp_path).close()


def test_a_log_of_another_chain_is_refused(tmp_path: Path) -> None:
    BlockLog(tmp_path, chain_id=CHAIN_ID).close()
    with pytest.raises(InvalidInput, match="written with chain_id"):
        BlockLog(tmp_path, chain_id=bytes(32))
    BlockLog(tmp_path, chain_id=CHAIN_ID).close()


def test_a_transaction_that_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def crash(place: str) -> None:
        raise Killed(place)

    log = BlockLog(tmp_path, chain_id=CHAIN_ID, crash=crash)
    with pytest.raises(Killed, match=r"sequencer\.in_commit"):
        log.commit([KeepSubmissions([entry(1)])])
    log = reopened(log, tmp_path)
    assert list(log.journal()) == []
    log.close()
