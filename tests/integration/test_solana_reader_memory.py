"""What a reader remembers of bundles, and how sure of it one may be."""

from pathlib import Path

from nodes.rules import inbox as codec
from tests.support.solana_reading import ROLLUPS, Heard, World, bundle_of, hash_of, read_all


async def test_what_is_soft_is_known_but_not_firm_until_it_is_final(tmp_path: Path) -> None:
    world = await World.open(tmp_path)
    heard = Heard()
    reader = world.reader(heard)
    one = bundle_of(1)
    slots = {rollup_id: at for at, rollup_id in enumerate(ROLLUPS)}
    world.post(codec.post([codec.encode_entry(one, slots)]), ROLLUPS)
    await world.tick(4)
    await read_all(reader)
    assert reader.knows(hash_of(one))
    assert not reader.is_firm(hash_of(one))
    assert not reader.holds_finally(hash_of(one))
    world.chain.fork(4, "none")
    await world.tick(8)
    await read_all(reader)
    assert not reader.knows(hash_of(one)), "nobody who relied on it would have it now"
    world.post(codec.post([codec.encode_entry(one, slots)]), ROLLUPS)
    await world.tick(50)
    await read_all(reader)
    assert reader.is_firm(hash_of(one))
    assert reader.holds_finally(hash_of(one))
    world.close()
