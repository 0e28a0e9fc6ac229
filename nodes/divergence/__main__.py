"""`python -m nodes.divergence`: the divergence process; a host starts it and speaks with it over stdin and stdout."""

import asyncio
import gc
import os
import sys

from nodes.divergence.service import serve

NICENESS = 5
"""The testnet comes first: a check that is late is late, a node that is late changes what is measured."""


def main() -> None:
    """Run until the host hangs up."""
    os.nice(NICENESS)
    # Whatever a library prints must not get among the reports.
    out = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.setswitchinterval(0.0005)
    gc.freeze()
    with os.fdopen(sys.stdin.fileno(), "rb", buffering=0) as source, os.fdopen(out, "wb", buffering=0) as sink:
        asyncio.run(serve(source, sink))
    sys.stderr.flush()
    os._exit(0)  # the thread may be in the middle of a block that nobody waits for


if __name__ == "__main__":
    main()
