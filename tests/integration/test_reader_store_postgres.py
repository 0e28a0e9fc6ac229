"""The reader's store on a real Postgres: the same steps, one reader, and a server that goes away and comes back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodes.model.errors import InvalidInput, Unavailable
from nodes.solana.reader import Reader
from nodes.solana.reader_store import ReaderStore
from nodes.wire.bundles import bundle_to_bytes
from tests.support.postgres import Postgres
from tests.support.solana_reading import Heard, World, bundle_of, hash_of, read_all
from tests.support.solana_store import CHAIN_ID, height, slot, step


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.close()


def test_steps_are_kept_as_in_a_file(server: Postgres) -> None:
    url = server.new_database("steps")
    store = ReaderStore(url, CHAIN_ID)
    store.commit(step(1, slots=[slot(11), slot(12)], heights=[height(1), height(2)], final_slot=11))
    store.commit(step(2, roll_back_to=(11, 1), slots=[slot(14)], heights=[height(2, b"other")], final_slot=11))
    store.commit(step(3, final_slot=14, snapshot=(11, b"snap\x00shot")))
    store.commit(step(3, final_slot=14, snapshot=(11, b"snap\x00shot")))
    store.close()
    store = ReaderStore(url.replace("postgresql://", "postgres://"), CHAIN_ID)
    place = store.place()
    # Step 3 was of no block: the place stays where the test says, the snapshot took the content of slot 11.
    assert (place.step, place.final_slot, place.snapshot, place.slots) == (3, 14, b"snap\x00shot", (slot(14),))
    assert store.last_blocks(5) == [height(1), height(2, b"other")]
    assert store.block_bytes(1) == height(1).block
    assert store.hashes_of([1, 2, 3]) == {1: height(1).ref.hash, 2: height(2, b"other").ref.hash}
    store.close()
    with pytest.raises(InvalidInput, match="chain_id"):
        ReaderStore(url, bytes(32))


def test_one_reader_writes(server: Postgres) -> None:
    url = server.new_database("single")
    first = ReaderStore(url, CHAIN_ID)
    with pytest.raises(Unavailable, match="in use by another reader"):
        ReaderStore(url, CHAIN_ID)
    # The first one's connection is lost, a second reader comes: the first must not write beside it.
    server.query("single", "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
    second = ReaderStore(url, CHAIN_ID)
    with pytest.raises(Unavailable):
        first.commit(step(1, slots=[slot(11)]))
    with pytest.raises(Unavailable, match="in use by another reader"):
        first.commit(step(1, slots=[slot(11)]))
    second.close()
    with pytest.raises(InvalidInput, match="another reader"):
        first.commit(step(1, slots=[slot(11)]))
    assert first.place().step == 0
    first.close()


async def test_a_server_that_goes_away_and_comes_back_loses_nothing(server: Postgres, tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    url = server.new_database("away")
    heard = Heard()
    store = world.store(url=url)
    reader = world.reader(heard, store=store)
    submitter = heard.submitter = world.submitter()
    bundles = [bundle_of(number) for number in range(40)]
    for bundle in bundles:
        submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle))])
        await submitter.step()
        await world.tick()
        if bundle is bundles[20]:
            server.stop()
            async with asyncio.TaskGroup() as group:
                reading = group.create_task(read_all(reader))
                await heard.has_stalled.wait()
                told = len(heard.heights)
                assert not reading.done()
                with pytest.raises(Unavailable, match="does not answer"):
                    await asyncio.to_thread(store.block, 1)
                await asyncio.to_thread(server.start)
            assert len(heard.heights) > told, "what waited was written and told"
        else:
            await read_all(reader)
    await _settle(world, heard, reader)
    assert "does not answer" in heard.stalls[0]
    assert "nothing is lost" in heard.stalls[0]
    assert heard.stalls[-1] == ""
    assert heard.order == [hash_of(bundle) for bundle in bundles]
    assert [stored.ref for stored in store.last_blocks(1_000)] == [sealed.new.ref for sealed in heard.heights]
    world.close()
    # And a file that another reader wrote holds the very same blocks.
    second = Heard()
    other = world.store("other")
    await read_all(world.reader(second, store=other))
    assert second.hashes == heard.hashes
    assert other.last_blocks(1_000) == [
        (sealed.new.ref, other.block_bytes(sealed.new.ref.height), *sealed.new[3:6]) for sealed in heard.heights
    ]
    world.close()


async def test_a_restart_goes_on_from_the_database(server: Postgres, tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    url = server.new_database("restart")
    heard = Heard()
    heard.submitter = world.submitter()
    bundles = [bundle_of(number) for number in range(120)]
    reader = world.reader(heard, store=world.store(url=url))
    for number, bundle in enumerate(bundles):
        heard.submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle))])
        await heard.submitter.step()
        await world.tick()
        await read_all(reader)
        if number % 30 == 29:
            world.close_stores()
            reader = world.reader(heard, store=world.store(url=url))
            assert (reader.head, reader.firm_height) == (heard.head, heard.final_height)
    await _settle(world, heard, reader)
    assert heard.order == [hash_of(bundle) for bundle in bundles]
    assert heard.stalls == []
    world.close()


async def _settle(world: World, heard: Heard, reader: Reader) -> None:
    for _ in range(40):
        await world.tick()
        await read_all(reader)
        assert heard.submitter is not None
        await heard.submitter.step()
