"""Child processes that die with their parent, however that ends. Knows nothing of what they do.

The kernel does it (PR_SET_PDEATHSIG), asked by a launcher of a few lines that then becomes the child; a `preexec_fn`
would do the same without the 10 ms, but it forces a plain fork, and a fork beside running gRPC threads can hang. The
signal comes when the *thread* that spawned ends: spawn from a loop that lives as long as the process. (macOS has no
such signal; there a child outlives a node that is killed hard.)
"""

import os
import sys
from collections.abc import Sequence

_LAUNCHER = """
import os, sys
if sys.platform == "linux":
    import ctypes
    if ctypes.CDLL(None, use_errno=True).prctl(1, 9, 0, 0, 0):
        sys.exit("prctl failed: " + os.strerror(ctypes.get_errno()))
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent ended before its child could be tied to it")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_command(program: str, arguments: Sequence[str]) -> list[str]:
    """The command that becomes `program` (an absolute path) with these arguments and ends with this process."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), program, *arguments]
