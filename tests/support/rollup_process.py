"""One rollup node in a process of its own, so that tests can kill it. Says "ready" on its first line of output.

python -m tests.support.rollup_process DIRECTORY SEQUENCER_ADDRESS CRASH_SPECIFICATION
"""

import asyncio
import sys
from pathlib import Path

from nodes.rollup.node import RollupNode
from nodes.rules.payload import decode
from nodes.sequencer.lazy import BACKEND as LAZY
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import crash_at
from nodes.wire.file_tracer import FileTracer
from nodes.wire.sequencer import SequencerClient
from tests.support.rollup_testnet import FINALITY, TESTNET, engine_starter, rollup_config

TRACE = "trace.bin"


async def main(directory: Path, address: str, specification: str) -> None:
    """Run until killed."""
    params = TESTNET.rollups[0]
    clock = SystemClock()
    async with SequencerClient(address) as client:
        node = RollupNode(
            rollup_config(params, directory.name, checkpoint_interval_heights=3),
            testnet=TESTNET,
            directory=directory,
            sources=[(address, client)],
            verify_finality=LAZY.verifier(FINALITY),
            start_engine=engine_starter(params, directory / "engine", rewind_window=8),
            decode=decode,
            clock=clock,
            tracer=FileTracer(directory / TRACE, clock),
            crash=crash_at(specification),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run())
            await node.wait_ready()
            print("ready", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
