"""Submitter, chain and reader together under skipped slots, forks, lost transactions and a node that lags.

Every bundle that was accepted stands exactly once in the heights, what is told at confirmed never changes, and the
accounts of the inbox say what was read. All of it in manual ticks: seeds, not luck.
"""

from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from solders.transaction import VersionedTransaction

from nodes.model.bundle import Bundle
from nodes.model.ids import SubmissionHash
from nodes.rules.inbox import POST, decode_entries, decode_state, encode_entry, post
from nodes.rules.inbox_reader import Void
from nodes.solana.keypairs import base58
from nodes.solana.submitter import Submitter
from nodes.wire.bundles import bundle_to_bytes
from tests.support.solana_reading import ROLLUPS, Heard, World, bundle_of, hash_of, read_all

SEEDS = 30
SLOTS = 300
SKIP_SHARE = 0.05
FORK_SHARE = 0.10
LAG_SHARE = 0.02
DROP_SHARE = 0.05
INTRUDER_SHARE = 0.1
BUNDLES_PER_SLOT = 3


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory where there is such a place: the journal syncs at every slot, and nobody cuts the power here."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="lockstep-", dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_bundle_stands_once_and_what_was_confirmed_stays(seed: int, folder: Path) -> None:
    random = Random(seed)
    world = await World.open(folder, seed=seed)
    heard = Heard()
    submitter = heard.submitter = world.submitter()
    reader = world.reader(heard)
    bundles: list[Bundle] = []
    world.chain.drop(DROP_SHARE, SLOTS)
    confirmed_order: list[SubmissionHash] = []
    for _ in range(SLOTS):
        bundles += await _accept(submitter, len(bundles), random)
        await submitter.step()
        _disturb(world, random)
        _intrude(world, bundles, random)
        await world.tick()
        await read_all(reader)
        assert heard.order[: len(confirmed_order)] == confirmed_order, "what was confirmed stands as it stood"
        confirmed_order = heard.order
    for _ in range(400):
        await submitter.step()
        await world.tick()
        await read_all(reader)
        if not submitter.pending_bundles and heard.final_height and _final_count(heard) == len(bundles):
            break
    accepted = [hash_of(bundle) for bundle in bundles]
    assert heard.stalls == []
    assert heard.roll_backs == []
    assert sorted(heard.order) == sorted(accepted), "none missing, none twice"
    assert reader.voids[Void.DUPLICATE] > 0, "the intruder's copies came, and had no effect"
    assert heard.order[: _final_count(heard)] == _order_on_chain(world, up_to=heard.final_slot)
    for rollup_id, account in world.inbox.accounts.items():
        value = world.rpc.ask("getAccountInfo", base58(account), {"encoding": "base64", "commitment": "finalized"})
        found = decode_state(_data_of(value))
        assert found == (rollup_id, reader.final.snapshot.states[rollup_id])
    second = Heard()
    await read_all(world.reader(second, store=world.store("second")))
    assert second.hashes == heard.hashes
    world.close()


async def _accept(submitter: Submitter, count: int, random: Random) -> list[Bundle]:
    accepted: list[Bundle] = []
    for _ in range(random.randrange(2 * BUNDLES_PER_SLOT)):
        rollups = tuple(random.sample(ROLLUPS, random.randint(1, 3)))
        size = random.choice((8, 100, 100, 300, 2_500 if random.random() < 0.1 else 50))
        bundle = bundle_of(count + len(accepted), rollups=rollups, payload_bytes=size)
        submitter.accept([(hash_of(bundle), bundle, bundle_to_bytes(bundle))])
        accepted.append(bundle)
    await submitter.wait_durable()
    return accepted


def _disturb(world: World, random: Random) -> None:
    chain = world.chain
    if random.random() < SKIP_SHARE:
        chain.skip(random.randint(1, 4))
    if random.random() < FORK_SHARE:
        # Of any depth above what is confirmed: that is what a real network does every day.
        newest = world.chain.blocks_between(chain.slot("confirmed") + 1, chain.slot("processed"), "processed")
        depth = random.randint(0, max(0, len(newest) - 1))
        chain.fork(depth, random.choice(("same", "shuffled", "none")))
    if random.random() < LAG_SHARE:
        chain.lag(random.randint(1, 20), random.randint(1, 10))


def _intrude(world: World, bundles: list[Bundle], random: Random) -> None:
    """Anybody can post: bundles that stand already, or are on their way, and nonsense."""
    if random.random() < INTRUDER_SHARE:
        slots = {rollup_id: at for at, rollup_id in enumerate(ROLLUPS)}
        again = [encode_entry(bundle, slots) for bundle in random.sample(bundles, min(2, len(bundles)))]
        entries = [entry for entry in again if len(entry) < 400] or [random.randbytes(20)]
        world.post(post(entries), ROLLUPS, payer=random.randrange(2))


def _final_count(heard: Heard) -> int:
    return sum(
        len(height.new.submission_hashes) for height in heard.heights if height.new.ref.height <= heard.final_height
    )


def _order_on_chain(world: World, *, up_to: int) -> list[SubmissionHash]:
    """The bundles of the finalized chain, found in another way: by solders, and without the reader's rule."""
    order: dict[SubmissionHash, None] = {}
    rollups = {bytes(account): rollup_id for rollup_id, account in world.inbox.accounts.items()}
    chunked = {}
    for slot in world.chain.blocks_between(world.inbox.origin_slot + 1, up_to, "finalized"):
        block = world.chain.block(slot)
        assert block is not None
        for executed in block.transactions:
            message = VersionedTransaction.from_bytes(executed.raw).message
            keys = [bytes(key) for key in message.account_keys]
            for instruction in message.instructions:
                data = bytes(instruction.data)
                if executed.error is not None or keys[instruction.program_id_index] != world.inbox.program_id:
                    continue
                named = [rollups.get(keys[index]) for index in instruction.accounts[1:]]
                if data[0] == POST:
                    entries = data[2:]
                elif data[0] == 2:
                    chunked[data[2:34], int.from_bytes(data[34:36], "little")] = data[36:]
                    continue
                else:
                    count = int.from_bytes(data[34:36], "little")
                    entries = b"".join(chunked[data[2:34], at] for at in range(count))
                bundles = decode_entries(entries, named) or []
                order.update(dict.fromkeys(hash_of(bundle) for bundle in bundles))
    return list(order)


def _data_of(answer: dict[str, dict[str, list[str]]]) -> bytes:
    return b64decode(answer["value"]["data"][0])
