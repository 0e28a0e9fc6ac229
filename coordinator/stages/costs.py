"""What a run's order has cost outside of Lockstep: fees and bytes that the backend paid for elsewhere.

Knows no backend: a sequencer says in its status what its order has cost since its directory was new, by name. What
stood there when the load began was spent on setting up (deployments, accounts); what came since is the load's.
"""

from collections.abc import Mapping
from typing import Any

from nodes.ports import SequencerStatus
from nodes.wire.sequencer import SequencerClient


async def read_status(address: str) -> SequencerStatus:
    """The sequencer's own snapshot. Raises Unavailable where it does not answer."""
    async with SequencerClient(address) as client:
        return await client.status()


def cost_documents(before: Mapping[str, int], after: Mapping[str, int] | None) -> dict[str, Any]:
    """`costs` and `setup_costs` of run.json; both absent where nothing was paid, or the end could not be read.

    What was paid before the load and not again, such as a deployment, is no cost of the load.
    """
    if after is None or not (before or after):
        return {}
    return {
        "costs": {
            name: total - before.get(name, 0)
            for name, total in sorted(after.items())
            if not total or total != before.get(name, 0)
        },
        "setup_costs": dict(sorted(before.items())),
    }
