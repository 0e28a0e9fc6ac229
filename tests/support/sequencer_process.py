"""One sequencer in a process of its own, so that tests can kill it. Says its address on the first line of output.

python -m tests.support.sequencer_process DIRECTORY CRASH_SPECIFICATION BLOCK_INTERVAL_MS [BACKEND]
"""

import asyncio
import sys
from pathlib import Path

from nodes.sequencer.backends import BACKENDS
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import crash_at
from nodes.wire.channel import server
from nodes.wire.file_tracer import FileTracer
from nodes.wire.sequencer import SequencerServicer
from tests.support.crafting import make_testnet
from tests.support.sequencer_configs import SIGNING_KEY


async def main(directory: Path, specification: str, block_interval_ms: int, backend_name: str = "lazy") -> None:
    """Run until killed."""
    backend = BACKENDS[backend_name]
    clock = SystemClock()
    node = backend.build(
        backend.configure({"block_interval_ms": block_interval_ms, "signing_key": SIGNING_KEY}),
        testnet=make_testnet(),
        directory=directory,
        clock=clock,
        tracer=FileTracer(directory / "sequencer.trace", clock),
        crash=crash_at(specification),
    )
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run())
        await node.wait_ready()
        async with server([SequencerServicer(node)], name="sequencer", host="127.0.0.1", port=0) as bound:
            print(bound.address, flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    home = Path(sys.argv[1])
    home.mkdir(exist_ok=True)
    asyncio.run(main(home, sys.argv[2], int(sys.argv[3]), *sys.argv[4:]))
