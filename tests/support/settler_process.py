"""One settler in a process of its own, so that tests can kill it. Settles two batches, waits for finality, and ends.

python -m tests.support.settler_process L1_RPC_URL DIRECTORY CRASH_SPECIFICATION
"""

import asyncio
import sys
from pathlib import Path

from nodes.agglayer.batch import SettlementFinal, SettlementReverted
from nodes.agglayer.l1_view import L1View
from nodes.agglayer.settlement import Settler
from nodes.ethereum.client import L1Client
from nodes.telemetry.clock import SystemClock
from nodes.telemetry.crash import crash_at
from nodes.telemetry.tracer import MemoryTracer
from tests.support.settling import AGGREGATOR, Rollups, exit_to


async def main(url: str, directory: Path, specification: str) -> None:
    """Submit the same batches in every run, as a service does that has not heard of their end."""
    rollups = Rollups()
    async with L1Client(url) as client, asyncio.TaskGroup() as group:
        view = L1View(client, networks=rollups.all)
        settler = Settler(
            directory=directory,
            client=client,
            view=view,
            account=AGGREGATOR,
            tracer=MemoryTracer(SystemClock()),
            crash=crash_at(specification),
        )
        group.create_task(view.run())
        group.create_task(settler.run())
        for _ in range(2):
            await settler.submit(rollups.batch([exit_to(2)], [exit_to(1)]))
        finals: set[int] = set()
        async for event in settler.events():
            assert not isinstance(event, SettlementReverted), event
            finals |= {event.batch_id} if isinstance(event, SettlementFinal) else set()
            if len(finals) == 2:
                break
        settler.stop()
        view.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3]))
