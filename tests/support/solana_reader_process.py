"""A reader in a process of its own that a test kills: python -m tests.support.solana_reader_process DIRECTORY CRASH.

The chain is a function of its seed and of what is posted, so the test has the same one in its own process. In memo
mode, since the transactions of a deployment go out in another order in every process.
"""

import asyncio
import sys
from pathlib import Path

from nodes.rules.inbox import encode_entry, post
from nodes.solana.reader import Reader
from nodes.telemetry.crash import crash_at
from tests.support.solana_reading import ROLLUPS, Heard, World, bundle_of, read_all

SLOTS = 120


async def grow(world: World, reader: Reader | None) -> None:
    """Post three bundles in each slot, and read along."""
    slots = {rollup_id: at for at, rollup_id in enumerate(ROLLUPS)}
    for number in range(SLOTS):
        entries = [encode_entry(bundle_of(3 * number + at, payload_bytes=30), slots) for at in range(3)]
        world.post(post(entries), ROLLUPS)
        await world.tick()
        if reader is not None:
            await read_all(reader)


async def open_world(directory: Path) -> World:
    """The same chain in every process."""
    return await World.open(directory, is_memo=True)


async def _main(directory: Path, specification: str) -> None:
    world = await open_world(directory)
    crash = crash_at(specification)
    reader = world.reader(Heard(), store=world.store(crash=crash), crash=crash)
    await grow(world, reader)


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2]))
