"""One Ray cluster at a time, however many test processes run: two of them would fight over two cores and time out.

xdist's groups would do the same, but only under `--dist=loadgroup`.
"""

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def one_ray_at_a_time() -> Iterator[None]:
    """Wait for the turn."""
    with (Path(tempfile.gettempdir()) / "lockstep-tests-ray.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
