"""Decodes the payloads of a block in a thread of their own, before derivation asks for them.

Recovering the signers of a 100-leg block takes some ten milliseconds of computation. On the event loop that holds up
every round trip to the engines and every stream of the process; libsecp256k1 releases the interpreter lock, so a
thread runs beside the loop. It only fills the cache: what derivation then computes is the same with or without it.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from nodes.model.ids import ChainId, chain_id_of
from nodes.model.sequenced_block import FilteredBlock
from nodes.rollup.decode_cache import SenderCache
from nodes.telemetry.clock import thread_cpu_ns

INLINE_PAYLOADS = 12
"""Up to so many payloads a block is left to derivation: changing threads would cost more than it frees."""


class DecodeAhead:
    """One decoding thread for all rollup nodes of a process."""

    def __init__(self, cache: SenderCache) -> None:
        self._cache = cache
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="decode")

    async def decode(self, block: FilteredBlock) -> int:
        """Fill the cache with the block's own payloads and its siblings'. CPU time used, in nanoseconds."""
        own = chain_id_of(block.rollup_id)
        wanted = [(payload, own) for payload in block.content.payloads]
        for sibling in block.siblings:
            chain_id = chain_id_of(sibling.rollup_id)
            wanted.extend([(payload, chain_id) for payload in sibling.payloads.values])
        if len(wanted) <= INLINE_PAYLOADS:
            return 0
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._fill, wanted)

    def close(self) -> None:
        """Let the thread end after what it is doing."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _fill(self, wanted: list[tuple[bytes, ChainId]]) -> int:
        started = thread_cpu_ns()
        for payload, chain_id in wanted:
            self._cache(payload, chain_id)
        return thread_cpu_ns() - started
