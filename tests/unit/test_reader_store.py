"""The reader's store on SQLite: one transaction a step, taken once, by one reader, of one chain."""

import sqlite3
from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Pruned, Unavailable
from nodes.solana.reader_store import ReaderStore, sqlite_url
from tests.support.solana_store import CHAIN_ID, height, slot, step


def open_store(directory: Path, **options: object) -> ReaderStore:
    return ReaderStore(sqlite_url(directory), CHAIN_ID, **options)  # type: ignore[arg-type]


def test_a_step_is_there_after_the_next_opening(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.place().step == 0
    assert store.place().snapshot == b""
    store.commit(step(1, slots=[slot(11), slot(13)], heights=[height(1), height(2)], final_slot=5))
    store.close()
    store = open_store(tmp_path)
    place = store.place()
    assert (place.step, place.final_slot, place.slots) == (1, 5, (slot(11), slot(13)))
    assert store.last_blocks(5) == [height(1), height(2)]
    assert store.last_blocks(1) == [height(2)]
    assert store.block(2) == height(2)
    assert store.block_bytes(1) == height(1).block
    assert store.hashes_of([1, 2, 3]) == {1: height(1).ref.hash, 2: height(2).ref.hash}
    assert store.submission_hashes(above=1, up_to=9) == [(2, height(2).submission_hashes)]
    with pytest.raises(Pruned, match="height 3"):
        store.block(3)
    store.close()


def test_a_snapshot_drops_what_stands_before_it_and_finality_is_marked(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit(step(1, slots=[slot(11), slot(12), slot(13)], final_slot=11))
    store.commit(step(2, final_slot=12, snapshot=(12, b"snapshot")))
    place = store.place()
    assert (place.snapshot, place.slots) == (b"snapshot", (slot(13),))
    store.close()
    with sqlite3.connect(tmp_path / "solana_reader.db") as connection:
        rows = list(connection.execute("SELECT slot, level, length(content) FROM slots ORDER BY slot"))
    connection.close()
    assert rows == [(11, 2, 0), (12, 2, 0), (13, 1, len(slot(13).content))]


def test_a_roll_back_forgets_what_stood_above(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit(step(1, slots=[slot(11), slot(12)], heights=[height(1), height(2)], final_slot=11))
    store.commit(step(2, roll_back_to=(11, 1), slots=[slot(14)], heights=[height(2, b"other")], final_slot=11))
    assert store.place().slots == (slot(11), slot(14))
    assert store.last_blocks(5) == [height(1), height(2, b"other")]
    store.close()


def test_a_step_that_is_handed_in_again_is_taken_once(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    first = step(1, slots=[slot(11)], heights=[height(1)])
    store.commit(first)
    store.commit(first)
    assert store.place().step == 1
    with pytest.raises(InvalidInput, match="another reader"):
        store.commit(step(1, slots=[slot(12)]))
    with pytest.raises(InvalidInput, match="another reader"):
        store.commit(step(3, slots=[slot(12)]))
    store.close()


def test_a_step_is_taken_entirely_or_not_at_all(tmp_path: Path) -> None:
    class Died(Exception):
        """Stands for a kill."""

    def crash(place: str) -> None:
        assert place == "solana.reader_in_commit"
        raise Died

    store = open_store(tmp_path, crash=crash)
    with pytest.raises(Died):
        store.commit(step(1, slots=[slot(11)], heights=[height(1)]))
    store.close()
    store = open_store(tmp_path)
    assert store.place().step == 0
    assert store.last_blocks(3) == []
    store.close()


def test_a_second_reader_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(Unavailable, match="in use by another process"):
        open_store(tmp_path)
    store.close()
    open_store(tmp_path).close()


def test_another_chain_and_another_format_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.check_identity({"solana_genesis": b"one"})
    store.check_identity({"solana_genesis": b"one"})
    with pytest.raises(InvalidInput, match="solana_genesis"):
        store.check_identity({"solana_genesis": b"two"})
    store.close()
    with pytest.raises(InvalidInput, match="chain_id"):
        ReaderStore(sqlite_url(tmp_path), bytes(32))
    with sqlite3.connect(tmp_path / "solana_reader.db") as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (b"99",))
    connection.close()
    with pytest.raises(InvalidInput, match="format"):
        open_store(tmp_path)


@pytest.mark.parametrize(
    "url", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:", "http://host", "postgres"]
)
def test_a_url_that_is_no_store_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="postgresql://"):
        ReaderStore(url, CHAIN_ID)


def test_a_database_that_is_not_there_is_unavailable_and_its_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="does not answer") as refused:
        ReaderStore(f"postgresql://user:secret@/db?host={tmp_path}", CHAIN_ID)
    assert "secret" not in str(refused.value)
