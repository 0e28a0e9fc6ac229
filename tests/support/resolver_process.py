"""One resolver in a process of its own, so that tests can kill it. Says its address on the first line of output.

python -m tests.support.resolver_process DIRECTORY SEQUENCER_ADDRESS CRASH_SPECIFICATION REPORT_TIMEOUT_MS
"""

import asyncio
import sys
from pathlib import Path

from nodes.telemetry.crash import crash_at
from nodes.wire.channel import server
from nodes.wire.mailbox import MailboxServicer
from nodes.wire.sequencer import SequencerClient
from tests.support.resolver_rollups import make_resolver


async def main(directory: Path, sequencer: str, specification: str, report_timeout_ms: int) -> None:
    """Run until killed."""
    async with SequencerClient(sequencer) as client:
        resolver = make_resolver(directory, client, report_timeout_ms=report_timeout_ms, crash=crash_at(specification))
        async with asyncio.TaskGroup() as group:
            group.create_task(resolver.run())
            await resolver.wait_ready()
            async with server([MailboxServicer(resolver)], name="resolver", host="127.0.0.1", port=0) as bound:
                print(bound.address, flush=True)
                await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])))
