"""Whether what a testnet needs outside of Lockstep is there, asked before anything is started.

Knows no backend: each says for itself whom to ask.
"""

from coordinator.spec import ResolvedTestnet
from nodes.sequencer.backends import BACKENDS


async def check_outside(testnet: ResolvedTestnet, *, ray_address: str) -> None:
    """Ask what the backend's keys name. Raises Unavailable with what to do.

    On a Ray cluster the sequencer alone must reach it, and nobody is asked from here.
    """
    if ray_address:
        return
    backend = BACKENDS[testnet.backend]
    await backend.reach(backend.configure(testnet.backend_options))
