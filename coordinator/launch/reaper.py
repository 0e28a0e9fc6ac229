"""Ends what a Ray session leaves behind when its coordinator is killed hard. A script; it imports nothing of Lockstep.

Most of Ray's processes die with the coordinator, because the kernel kills them. Ray's agents do not: their parent is
the raylet, they notice its end by asking a dead server, and go after a minute (measured with Ray 2.60). The coordinator
starts this script with a pipe as its standard input and writes `done` to it at an orderly end. An end of file without
that word means that the coordinator died: every process that writes into the session's folder is killed, and the folder
is removed. (A mark in the environment does not serve: the agents' process titles overwrite it.)

usage: reaper.py FOLDER
"""

import os
import shutil
import sys
import time

import psutil

PATIENCE_S = 20.0
_POLL_S = 0.2


def main(folder: str) -> None:
    """Wait for the coordinator, then clean up."""
    os.setsid()  # Ctrl-C in the terminal ends the coordinator, which then says `done`
    if sys.stdin.readline().strip() != "done":
        deadline_s = time.monotonic() + PATIENCE_S
        # One process may start another while it is being looked for, so look again until there is none.
        while _kill_writers(folder) and time.monotonic() < deadline_s:
            time.sleep(_POLL_S)
    shutil.rmtree(folder, ignore_errors=True)


def _kill_writers(folder: str) -> int:
    """How many processes had to be killed."""
    killed = 0
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and any(_is_written_in(folder, file) for file in process.open_files()):
                process.kill()
                killed += 1
        except (psutil.Error, OSError):
            continue  # another user's, or it has just ended
    return killed


def _is_written_in(folder: str, file: object) -> bool:
    # Somebody may be reading a log of the session; only Ray writes there. Some systems do not tell the mode.
    return str(getattr(file, "path", "")).startswith(folder + "/") and getattr(file, "mode", "w") != "r"


if __name__ == "__main__":
    main(sys.argv[1])
