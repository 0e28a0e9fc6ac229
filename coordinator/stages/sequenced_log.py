"""Copying the sequencer's whole log into a run directory, from what it serves to readers, and reading it back.

No reader is served whole blocks, so each rollup's part is fetched and the parts are put together; a block is written
only if its parts hash to the header's root. The copy proves itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import BinaryIO

from nodes.model.errors import InvalidBlock, InvalidInput
from nodes.model.ids import Height, RollupId
from nodes.model.sequenced_block import BlockSequenced, FilteredBlock, RolledBack, RollupContent, SequencedBlock
from nodes.rules.sequenced_block import BlockTrees, decode_header, header_hash
from nodes.wire.blocks import stored_block_from_bytes, stored_block_to_bytes
from nodes.wire.sequencer import SequencerClient
from nodes.wire.trace_records import encode_length, record_span

BLOCK_TIMEOUT_S = 30.0


async def copy_log(address: str, rollup_ids: Sequence[RollupId], path: Path) -> int:
    """Write every block up to the present head and return its height. Raises InvalidBlock, Unavailable.

    `rollup_ids`: all that may have content, the reserved one of notices included where there are any.
    """
    async with SequencerClient(address) as client, AsyncExitStack() as stack:
        head = (await client.status()).head.height
        streams = {
            rollup_id: await stack.enter_async_context(aclosing(_blocks(client, rollup_id, head)))
            for rollup_id in rollup_ids
        }
        with path.open("wb") as file:
            for height in range(1, head + 1):
                async with asyncio.timeout(BLOCK_TIMEOUT_S):
                    parts = {rollup_id: await anext(stream) for rollup_id, stream in streams.items()}
                _write(file, _whole(parts, height))
    return int(head)


async def _blocks(client: SequencerClient, rollup_id: RollupId, head: Height) -> AsyncGenerator[FilteredBlock, None]:
    """The first `head` blocks. The chain may not move below them meanwhile: the load is over."""
    async with aclosing(client.follow([], rollup_id)) as events:
        async for event in events:
            if isinstance(event, RolledBack) and event.to.height < head:
                raise InvalidBlock(f"the sequencer went back to height {event.to.height} while its log was copied")
            if isinstance(event, BlockSequenced):
                yield event.block


def _whole(parts: Mapping[RollupId, FilteredBlock], height: int) -> SequencedBlock:
    first = next(iter(parts.values()))
    if any(part.header != first.header for part in parts.values()):
        raise InvalidBlock(f"the sequencer served different headers at height {height} to readers of different rollups")
    header = decode_header(first.header)
    contents: dict[RollupId, RollupContent] = {}
    for rollup_id in first.rollup_ids:
        if rollup_id not in parts:
            raise InvalidBlock(f"height {height} has rollup {rollup_id.hex()}, which is not of the testnet")
        contents[rollup_id] = parts[rollup_id].content
    trees = BlockTrees(contents)
    if (trees.top.root, trees.ids_root, len(contents)) != (
        header.rollups_root,
        header.rollup_ids_root,
        header.rollup_count,
    ):
        raise InvalidBlock(f"what the sequencer served at height {height} does not hash to its header's roots")
    return SequencedBlock(
        header=header, header_hash=header_hash(first.header), contents=contents, finality_proof=first.finality_proof
    )


def _write(file: BinaryIO, block: SequencedBlock) -> None:
    data = stored_block_to_bytes(block)
    file.write(encode_length(len(data)) + data)


def read_log(path: Path) -> Iterator[SequencedBlock]:
    """Every block of a stored log, in order. Raises InvalidInput where the file is missing or cut short."""
    return map(stored_block_from_bytes, read_records(path, what="block"))


def read_records(path: Path, *, what: str) -> Iterator[bytes]:
    """The length-delimited records of a run's file, in order. Raises InvalidInput where it is missing or cut short."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error}; the run may have been cut short") from error
    at = 0
    while at < len(data):
        span = record_span(data, at)
        if span is None or span[1] > len(data):
            raise InvalidInput(f"{path} ends within the {what} at byte {at:,}")
        yield data[span[0] : span[1]]
        at = span[1]
